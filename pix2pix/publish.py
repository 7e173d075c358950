"""Push a model to the Hub: `python -m pix2pix.publish --model DIR --repo USER/NAME`."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The command line of this program."""
    parser = argparse.ArgumentParser(
        prog="python -m pix2pix.publish",
        description="Push a model to the Hugging Face Hub: its directions, a card with scores, and a grid of pictures. "
        "The token is the one stored by `hf auth login`, or HF_TOKEN.",
    )
    parser.add_argument("--model", required=True, type=Path, metavar="DIR", help="run folder, or a folder of that shape")
    parser.add_argument("--repo", required=True, metavar="USER/NAME", help="repository on the Hub; made when missing")
    parser.add_argument("--private", action="store_true", help="make the repository visible to you alone")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to commit to; made when missing (default: main)")
    parser.add_argument("--message", default="Upload model", help="title of the commit (default: %(default)s)")
    parser.add_argument(
        "--scores",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE",
        help="test scores for the card: scores.json of pix2pix.evaluate",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    command = parser()
    args = command.parse_args(argv)

    from pix2pix.generator import ModelError, UNetGenerator
    from pix2pix.hub import HubError, directions_in, push, write_card

    try:
        for direction in directions_in(args.model):
            UNetGenerator.from_pretrained(args.model, subfolder=direction)
        write_card(args.model, args.repo, scores=args.scores)
        commit = push(
            args.model,
            args.repo,
            private=args.private,
            revision=args.revision,
            message=args.message,
            scores=args.scores,
        )
    except OSError as error:
        command.error(f"--model '{args.model}' cannot take the card ({error.strerror or error}); copy it to a folder of yours")
    except (HubError, ModelError) as error:
        command.error(str(error))
    print(f"pushed to {commit.repo_url} (commit {commit.oid})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
