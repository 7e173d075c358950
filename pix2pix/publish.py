"""Push a model to the Hub, hand it over as a folder, or publish the page: `python -m pix2pix.publish --model DIR ...`."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo


def parser() -> argparse.ArgumentParser:
    """The command line of this program."""
    parser = argparse.ArgumentParser(
        prog="python -m pix2pix.publish",
        description="Push a model to the Hugging Face Hub: its directions, a card with scores, and a grid of pictures. Or "
        "publish the page as a Space, with the model in it. The token is the one stored by `hf auth login`, or HF_TOKEN.",
    )
    parser.add_argument(
        "--model",
        required=True,
        metavar="ID_OR_DIR",
        help="run folder, or a folder of that shape; for a Space also a Hub id (user/name or user/name@revision)",
    )
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--repo", metavar="USER/NAME", help="push the model to this repository; made when missing")
    target.add_argument(
        "--space",
        metavar="USER/NAME",
        help="publish the page as this Space, made when missing: the program, the modules it needs, the model and the exact "
        "versions of the packages that are installed here; what was published there before is replaced",
    )
    target.add_argument(
        "--static-space",
        metavar="USER/NAME",
        help="publish as this Space the page that translates on the visitor's own device, and nothing else",
    )
    target.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="write the model here, to hand it over without the Hub: weights and card alone, no picture of anybody",
    )
    parser.add_argument("--half", action="store_true", help="store the weights in half precision; with --folder")
    parser.add_argument("--private", action="store_true", help="make the repository visible to you alone")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to commit to; made when missing (default: main)")
    parser.add_argument("--message", help="title of the commit (default: Upload model, or Publish the page)")
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
    if args.scores and not (args.repo or args.folder):
        command.error("--scores goes with --repo or --folder, not with a Space")
    if args.revision and not args.repo:
        command.error("--revision goes with --repo alone")
    if args.half and not args.folder:
        command.error("--half goes with --folder alone")
    if args.folder and args.folder.exists() and (not args.folder.is_dir() or any(args.folder.iterdir())):
        command.error(f"--folder '{args.folder}' is not empty; choose a new one")

    from safetensors import SafetensorError

    from pix2pix.cards import HubError
    from pix2pix.generator import ModelError
    from pix2pix.hub import hand_over
    from pix2pix.space_tree import SpaceError
    from pix2pix.static_page import StaticPageError

    try:
        if args.folder:
            hand_over(args.model, args.folder, half=args.half, scores=args.scores)
            print(f"wrote {args.folder}")
            return 0
        commit = _publish_model(args) if args.repo else _publish_space(args)
    except ImportError as error:
        command.error(f"publishing a Space needs a package that is not here ({error}); pip install -r requirements.txt")
    except (OSError, SafetensorError) as error:  # the latter hides the former when weights are written
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        if args.folder:
            command.error(f"--folder '{args.folder}' could not be written ({reason}); make room, or choose another")
        if args.repo is None:
            command.error(f"the Space could not be put together ({error}); make room, then try again")
        command.error(f"--model '{args.model}' cannot take the card ({reason}); copy it to a folder of yours")
    except (HubError, ModelError, SpaceError, StaticPageError) as error:
        command.error(str(error))
    print(f"pushed to {commit.repo_url} (commit {commit.oid})")
    return 0


def _publish_model(args: argparse.Namespace) -> "CommitInfo":
    from pix2pix.cards import directions_in, write_card
    from pix2pix.generator import UNetGenerator
    from pix2pix.hub import push

    for direction in directions_in(args.model):
        UNetGenerator.from_pretrained(args.model, subfolder=direction)
    write_card(args.model, args.repo, scores=args.scores)
    return push(
        args.model,
        args.repo,
        private=args.private,
        revision=args.revision,
        message=args.message or "Upload model",
        scores=args.scores,
    )


def _publish_space(args: argparse.Namespace) -> "CommitInfo":
    from pix2pix.hub import push_space
    from pix2pix.space_tree import MARK, write_space, write_static_space

    # A Hub id may carry a revision, as in PIX2PIX_MODEL.
    model, _, revision = (args.model, "", "") if Path(args.model).is_dir() else args.model.partition("@")
    repo_id = args.space or args.static_space
    with tempfile.TemporaryDirectory(prefix="pix2pix-space-") as temporary:
        folder = Path(temporary) / "space"
        folder.mkdir()
        write = write_space if args.space else write_static_space
        write(model, folder, revision=revision or None, repo_id=repo_id)
        return push_space(
            folder,
            repo_id,
            sdk="gradio" if args.space else "static",
            mark=MARK,
            private=args.private,
            message=args.message or "Publish the page",
        )


if __name__ == "__main__":
    raise SystemExit(main())
