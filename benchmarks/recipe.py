"""What each part of the recipe is worth: `python benchmarks/recipe.py --dataset DATA --output DIR`.

Every row is the preset with one change, trained for the same number of epochs on the same people and scored on the others,
which are held out of the training split: the test split is never looked at. The rows that change only the seed say how much
of a difference is chance. Started again, the same command goes on where it stopped.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import timing
from benchmarks.runs import Interrupted, RunError, begin_or_resume, interruptible, progress_of, stored_results, train
from pix2pix import arguments
from pix2pix.directions import DIRECTIONS, source_and_target

ROWS: dict[str, list[str]] = {
    "as it is": [],
    "seed 1": ["--seed", "1"],
    "seed 2": ["--seed", "2"],
    "no feature discriminator": ["--projected-weight", "0"],
    "no patch discriminator": ["--adversarial-weight", "0"],
    "both discriminators at half": ["--projected-weight", "0.25", "--adversarial-weight", "0.12"],
    "both discriminators twice": ["--projected-weight", "1", "--adversarial-weight", "0.5"],
    "strokes varied": ["--max-stroke", "0.6"],
    "no outlines": ["--outline-share", "0"],
    "cycle weight 5": ["--cycle-weight", "5"],
    "no bending": ["--max-warp", "0"],
    "no tones": ["--max-tone", "0"],
    "no other backgrounds": ["--background-share", "0"],
    "wedges not filled": ["--no-fill-wedges"],
    "no wedges around sources": ["--wedge-share", "0"],
    "the paper's jitter": ["--max-warp", "0", "--max-rotation", "0", "--jitter", "1.117"],
    "L1 weight 10": ["--l1-weight", "10"],
    "L1 weight 40": ["--l1-weight", "40"],
    "no perceptual loss": ["--perceptual-weight", "0"],
    "perceptual weight 5": ["--perceptual-weight", "5"],
    "nothing of the source wanted": ["--perceptual-source", "0", "0"],
    "as much of the source wanted": ["--perceptual-source", "1", "1"],
    "no close-ups": ["--no-close-ups"],
    "no feature matching": ["--feature-weight", "0"],
    "learning rate 2e-4": ["--learning-rate", "2e-4"],
    "cross-entropy": ["--adversarial", "cross-entropy"],
    "hinge": ["--adversarial", "hinge"],
    "patches of 70 px": ["--receptive-field", "70"],
    "no spectral norm": ["--no-spectral"],
    "no noise": ["--discriminator-noise", "0"],
    "no averaging": ["--ema-decay", "0"],
    "no dropout": ["--dropout", "0"],
    "batch size 1": ["--batch-size", "1"],
    "batch size 2": ["--batch-size", "2"],
    "no head": ["--head-channels", "0"],
    "no noise for strokes": ["--noise-channels", "0", "0"],
    "noise for photos too": ["--noise-channels", "2", "2"],
    "photos not smoothed": ["--smooth", "none"],
    "sketches smoothed too": ["--smooth", "both"],
    "transposed convolution": ["--upsampling", "transposed"],
    "resize-convolution": ["--upsampling", "resize"],
    "sub-pixel convolution": ["--upsampling", "subpixel"],
    "7 levels": ["--num-downsamples", "7"],
    "5 levels": ["--num-downsamples", "5"],
    "half as wide": ["--base-channels", "16", "--max-channels", "64"],
    "256 px squares": ["--image-size", "256"],
    "sketches in colour": ["--channels", "3", "3"],
}
"""What each row changes, as flags of train.py."""

SCORES = {
    "mae": "MAE", "ssim": "SSIM", "fsim": "FSIM", "perceptual": "perceptual", "kid1000": "KID x 1000",
    "rank1": "rank-1", "own_distance": "own distance", "spread": "spread", "bordered_fsim": "FSIM, black borders",
    "outlined_fsim": "FSIM, outlines", "outlined_mae": "MAE, outlines",
}  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command line of this program."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/recipe.py",
        description="Train the preset with one change at a time and score it on people held out of the training split. "
        "Writes results.json and table.md into DIR. A finished row is not repeated, an interrupted one goes on.",
        epilog="What follows -- goes to train.py for every row, such as: -- --direction photo2sketch",
    )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="folder of results, new or of the same settings"
    )
    parser.add_argument("--dataset", metavar="DATA", help="folder or Hub id with a split train (default: drawn faces)")
    parser.add_argument(
        "--preset", choices=arguments.PRESETS, default="lite", help="what the rows change (default: %(default)s)"
    )
    parser.add_argument(
        "--epochs",
        type=timing.count,
        default=20,
        metavar="N",
        help="passes over the pairs, for every row (default: %(default)s)",
    )
    parser.add_argument(
        "--fraction", type=float, default=0.25, metavar="F", help="share of the people held out, to 0.5 (default: %(default)s)"
    )
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--identity", action="store_true", help="score rank-1 and the distance to the own face too; needs dlib")
    return parser


def score(run: Path, pairs: Any, held: Any, *, identity: bool, known: dict[bytes, list[float]]) -> dict[str, dict[str, float]]:
    """Scores of the last weights of a run on the pairs held out, by direction.

    Rank-1 looks for the right person among all pairs; "own_distance" is the mean distance of the descriptors of translation
    and truth, which says the same with less chance in it; "spread" is the mean distance between the translations of different
    people, as a share of that between the truths: below 1, everybody looks more like everybody else than they should.
    "bordered_fsim" is the FSIM that is left when the sources have black borders, as most scans of the test split have and few
    of the training split; "outlined_fsim" and "outlined_mae" are what is left when a sketch has its outlines only.
    """
    import numpy as np
    import torch

    from pix2pix.images import fit, to_image, to_tensor, upright
    from pix2pix.inference import Translator
    from pix2pix.jitter import outlined
    from pix2pix.metrics import as_levels, face_descriptors, kernel_distance, luma, validation_scores
    from pix2pix.perception import PerceptualNetwork
    from pix2pix.wedges import wedged

    network, scores = PerceptualNetwork(), {}
    for direction in (d for d in DIRECTIONS if (run / "last" / d).is_dir()):
        source, target = source_and_target(direction)
        translator = Translator.from_pretrained(run / "last", direction)
        size = fit(upright(held[0][source]), translator.generator.image_size)[0].size
        truth = torch.stack([to_tensor(upright(picture).resize(size), channels=3) for picture in held[target]])
        sources = [upright(picture).resize(size) for picture in held[source]]
        changes = {"bordered": wedged} | ({"outlined": outlined} if source == "sketch" else {})
        changed = {
            name: [
                to_image(change(to_tensor(picture, channels=3), np.random.default_rng(index), 1.0))
                for index, picture in enumerate(sources)
            ]
            for name, change in changes.items()
        }
        fakes = {
            name: torch.stack([to_tensor(picture, channels=3) for picture in translator(pictures)])
            for name, pictures in {"": sources, **changed}.items()
        }
        if target == "sketch":
            fakes = {name: as_levels(luma(x)) / 127.5 - 1 for name, x in fakes.items()}
            truth = as_levels(luma(truth)) / 127.5 - 1
        fake = fakes.pop("")
        with torch.inference_mode():
            features = [torch.cat([network(x)[1] for x in pictures.split(8)]) for pictures in (fake, truth)]
        found = {**validation_scores(fake, truth, network), "kid1000": 1000 * kernel_distance(*features)}
        for name, beside in fakes.items():
            left = validation_scores(beside, truth, None)
            found |= {key: left[measure] for measure in left if (key := f"{name}_{measure}") in SCORES}
        if identity:
            people = [*held["person_id"], *(p for p in pairs["person_id"] if p not in set(held["person_id"]))]
            order = [pairs["person_id"].index(person) for person in people]
            gallery = torch.stack([to_tensor(upright(pairs[index][target]).resize(size), channels=3) for index in order])
            if target == "sketch":
                gallery = as_levels(luma(gallery)) / 127.5 - 1
            mine, real = face_descriptors(fake), face_descriptors(gallery, known=known)
            nearest = torch.cdist(mine, real).argmin(1)
            found["rank1"] = sum(people[n] == person for n, person in zip(nearest, held["person_id"], strict=True)) / len(held)
            real = real[: len(held)]
            found["own_distance"] = (mine - real).norm(dim=1).mean().item()
            found["spread"] = (torch.pdist(mine).mean() / torch.pdist(real).mean()).item()
        scores[direction] = found
    return scores


def table(results: dict[str, Any]) -> str:
    """The scores as markdown, a section a direction."""
    settings, rows = results["settings"], results["rows"]
    parts = [
        f"Preset `{settings['preset']}`, {settings['epochs']} epochs, {results['held_out']} people held out, "
        f"data: {settings['dataset'] or 'drawn faces'}."
    ]
    for direction in (d for d in DIRECTIONS if any(d in row["scores"] for row in rows.values())):
        names = [name for name in SCORES if any(name in row["scores"][direction] for row in rows.values())]
        lines = [
            [name, f"{row['seconds_a_step']:.2f}", *(_shown(key, row["scores"][direction].get(key)) for key in names)]
            for name, row in rows.items()
        ]
        parts += [f"## {direction}", timing.table(["row", "s a step", *(SCORES[name] for name in names)], lines)]
    return "\n\n".join(parts) + "\n"


def _shown(name: str, value: float | None) -> str | None:
    return None if value is None else f"{value:.{1 if name in ('mae', 'kid1000', 'outlined_mae') else 3}f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status: 0, or 1 if a row failed."""
    command = parser()
    own, extra = timing.split_flags(argv)
    args = command.parse_args(own)
    base = ["--preset", args.preset, "--num-epochs", str(args.epochs), "--validation-fraction", str(args.fraction)]
    base += [*(["--dataset", args.dataset] if args.dataset else []), *extra]
    settings = {name: getattr(args, name) for name in ("preset", "epochs", "dataset", "fraction", "identity")}
    path = args.output / "results.json"
    try:
        for name in args.rows:
            arguments.complete(arguments.explicit([*base, *ROWS[name]]))
        results = stored_results(path, {**settings, "flags": extra})
        from pix2pix.data import hold_out, load_pairs

        pairs = load_pairs(args.dataset)
        _, held = hold_out(pairs, fraction=args.fraction)
        results = results or {"settings": {**settings, "flags": extra}, "held_out": len(set(held["person_id"])), "rows": {}}
        args.output.mkdir(parents=True, exist_ok=True)
        timing.write_json(path, results)
    except (ValueError, OSError) as error:
        command.error(str(error))

    failures, known = 0, {}
    for name in args.rows:
        if name in results["rows"]:
            print(f"{name}: done before", flush=True)
            continue
        folder = args.output / "rows" / name.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{name}, from {time.strftime('%H:%M')}", flush=True)
        seldom = ["--validate-every", "1000000", "--checkpoint-every", "5", "--keep-checkpoints", "1"]
        try:
            with interruptible():
                run = folder / "run"
                train(run, begin_or_resume(run, [*base, *ROWS[name], *seldom]), log=folder / "log.txt")
                made = progress_of(run)
                scores = score(run, pairs, held, identity=args.identity, known=known)
        except Interrupted as stop:
            print(f"stopped by {stop.name}; the same command goes on", file=sys.stderr)
            return 128 + stop.number
        except RunError as error:
            failures += 1
            print(f"{name} failed: {error}", file=sys.stderr, flush=True)
            continue
        results["rows"][name] = {"flags": ROWS[name], "seconds_a_step": made["seconds"] / made["step"], "scores": scores}
        timing.write_json(path, results)
        (args.output / "table.md").write_text(table(results), encoding="utf-8")
        shutil.rmtree(run / "state", ignore_errors=True)
    if results["rows"]:
        print(f"\n{table(results)}\nresults: {path}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
