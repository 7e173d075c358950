"""The paper's ablations at one equal wall-clock budget each: `python benchmarks/ablation.py --dataset DATA --output DIR`.

Table 1 of the paper compares objectives, table 2 the encoder-decoder with the U-Net, table 3 the discriminator's receptive
fields. Here every row is the preset with only that row's change, and the weights that are scored are those at the end of the
budget: nobody is held out to choose an epoch by. Started again, the same command goes on where it stopped.
"""

import argparse
import contextlib
import json
import math
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
from pix2pix.directions import DIRECTIONS

ROWS: dict[str, list[str]] = {
    "l1": ["--adversarial", "none", "--reconstruction", "l1"],
    "l2": ["--adversarial", "none", "--reconstruction", "l2"],
    "gan": ["--no-conditional", "--reconstruction", "none"],
    "cgan": ["--conditional", "--reconstruction", "none"],
    "l1+gan": ["--no-conditional", "--reconstruction", "l1"],
    "l1+cgan": ["--conditional", "--reconstruction", "l1"],
    "encoder-decoder-l1": ["--no-skips", "--adversarial", "none", "--reconstruction", "l1"],
    "encoder-decoder-l1+cgan": ["--no-skips", "--conditional", "--reconstruction", "l1"],
    "field-1": ["--receptive-field", "1", "--conditional", "--reconstruction", "l1"],
    "field-16": ["--receptive-field", "16", "--conditional", "--reconstruction", "l1"],
    "field-286": ["--receptive-field", "286", "--conditional", "--reconstruction", "l1"],
}
"""What each row changes, as flags of train.py."""

TABLES: dict[str, dict[str, str]] = {
    "Objective": {"L1": "l1", "L2": "l2", "GAN": "gan", "cGAN": "cgan", "L1+GAN": "l1+gan", "L1+cGAN": "l1+cgan"},
    "Generator": {
        "encoder-decoder, L1": "encoder-decoder-l1",
        "U-Net, L1": "l1",
        "encoder-decoder, L1+cGAN": "encoder-decoder-l1+cgan",
        "U-Net, L1+cGAN": "l1+cgan",
    },
    "Receptive field": {"1 x 1": "field-1", "16 x 16": "field-16", "70 x 70": "l1+cgan", "286 x 286": "field-286"},
}
"""The paper's three tables: rows that they share are trained once."""

SCORES = {"mae": "MAE", "ssim": "SSIM", "fsim": "FSIM", "perceptual": "perceptual", "kid1000": "KID x 1000", "rank1": "rank-1"}
PLOTTED = {"fsim": "FSIM, higher is better", "perceptual": "perceptual distance", "kid1000": "KID x 1000"}
FLOORS = {"mean_picture": "mean picture", "another_person": "another person", "input": "the input itself"}


def parser() -> argparse.ArgumentParser:
    """The command line of this program."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/ablation.py",
        description="Train and score the rows of the paper's ablations at one equal wall-clock budget each. Writes "
        "results.json, table.md and ablation.png into DIR. A finished row is not repeated, an interrupted one goes on.",
        epilog="What follows -- goes to train.py for every row, such as: -- --batch-size 4",
    )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="folder of results, new or of the same settings"
    )
    parser.add_argument(
        "--dataset", metavar="DATA", help="folder or Hub id with the splits train and test (default: drawn faces)"
    )
    parser.add_argument(
        "--preset", choices=arguments.PRESETS, default="paper", help="what the rows change (default: %(default)s)"
    )
    parser.add_argument(
        "--minutes", type=timing.positive, default=5.0, metavar="MIN",
        help="wall-clock budget for a row and direction, start-up included; above 0 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--direction", choices=("both", *DIRECTIONS), default="both", help="both train in one run (default: both)"
    )
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument(
        "--max-steps", type=timing.count, metavar="N", help="end a row after N steps, for a trial (default: no)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of every row, at least 0 (default: %(default)s)")
    parser.add_argument("--identity", action="store_true", help="score rank-1 too, which takes minutes a row and needs dlib")
    return parser


def base_flags(args: argparse.Namespace, extra: Sequence[str]) -> list[str]:
    """Flags of train.py that all rows share: the preset without the terms that the paper's objective does not have."""
    added = ("projected_weight", "cycle_weight", "feature_weight", "perceptual_weight")
    flags = ["--preset", args.preset, "--direction", args.direction, "--seed", str(args.seed), "--validation-fraction", "0"]
    for name in added:
        flags += ["--" + name.replace("_", "-"), "0"]
    flags += ["--receptive-field", "70"]  # where the row does not say otherwise: not every preset has the paper's
    return [*flags, *(["--dataset", args.dataset] if args.dataset else []), *extra]


def train_row(run: Path, flags: Sequence[str], *, seconds: float, max_steps: int | None, log: Path) -> dict[str, float]:
    """Train one row until its budget is used up, from where it stands; leaves the last weights in the run folder.

    Args:
        run: The run folder.
        flags: Of train.py, for a new run.
        seconds: The budget, with what earlier starts took of it.
        max_steps: End there if the budget is not used up before.
        log: Takes what train.py says.

    Returns:
        Steps, epochs and minutes that were made.

    Raises:
        RunError: If train.py fails, or the budget ends before the first step.
    """
    limit = ["--max-steps", str(max_steps)] if max_steps else []
    progress, start = progress_of(run), begin_or_resume(run, flags)
    left = seconds - (progress["seconds"] if progress else 0)
    is_exported = False
    if left > 0 and not (progress and max_steps and progress["step"] >= max_steps):
        is_exported = train(run, [*start, *limit], seconds=left, log=log)
        progress = progress_of(run)
    if not progress or not progress["step"]:
        raise RunError(f"its {seconds / 60:g} minutes ended before the first step; give more --minutes")
    if not is_exported:
        # A signal ended the training; one more step, and train.py writes the last weights as at any other end.
        train(run, ["--resume", "--max-steps", str(progress["step"])], log=log)
    made, stored = progress_of(run), arguments.read_arguments(run)
    steps = math.ceil(stored["train_pairs"] / stored["batch_size"])
    return {
        "steps": made["step"],
        "epochs": made["epoch"] + made["batch"] / steps,
        "minutes": progress["seconds"] / 60,
    }


def score_row(run: Path, args: argparse.Namespace, folder: Path, log: Path) -> dict[str, Any]:
    """The report of `pix2pix.evaluate` on the test split, for each direction; what it says goes to the log.

    Raises:
        RunError: If it fails.
    """
    from pix2pix import evaluate

    reports = {}
    for direction in DIRECTIONS if args.direction == "both" else (args.direction,):
        words = ["--model", str(run), "--direction", direction, "--split", "test"]
        words += ["--output", str(folder / direction), "--overwrite"]
        words += ["--dataset", args.dataset] if args.dataset else []
        words += [] if args.identity else ["--no-identity"]
        with log.open("a", encoding="utf-8") as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                evaluate.main(words)
            except SystemExit as stop:
                raise RunError(f"pix2pix.evaluate ended with status {stop.code}; see {log}") from stop
        report = json.loads((folder / direction / "scores.json").read_text(encoding="utf-8"))
        reports[direction] = {name: report[name] for name in ("n", "compared_on", "mean", "interval", "floors")}
    return reports


def tables(results: dict[str, Any]) -> str:
    """The paper's tables as markdown, a section a direction; rows that are not there yet are left out."""
    settings, rows = results["settings"], results["rows"]
    directions = DIRECTIONS if settings["direction"] == "both" else (settings["direction"],)
    minutes = settings["minutes"] * len(directions)
    parts = [
        f"Preset `{settings['preset']}`, {minutes:g} minutes a row" + (" for both directions" if len(directions) > 1 else "")
        + f", seed {settings['seed']}, data: {settings['dataset'] or 'drawn faces'}."
    ]  # fmt: skip
    for direction in directions:
        scored = [row["scores"][direction] for row in rows.values()]
        if not scored:
            continue
        names = [name for name in SCORES if any(name in report["mean"] for report in scored)]
        parts.append(f"## {direction}, {scored[0]['n']} pairs, compared on {scored[0]['compared_on']}")
        for title, labels in TABLES.items():
            lines = []
            for label, row in labels.items():
                if row in rows:
                    mean = rows[row]["scores"][direction]["mean"]
                    made = [f"{rows[row]['epochs']:.1f}", f"{rows[row]['minutes']:.1f}"]
                    lines.append([label, *made, *(_score(name, mean.get(name)) for name in names)])
            if lines:
                parts.append(timing.table([title.lower(), "epochs", "minutes", *(SCORES[name] for name in names)], lines))
        floors = {label: scored[0]["floors"].get(floor) for floor, label in FLOORS.items()}
        lines = [[label, *(_score(name, mean.get(name)) for name in names)] for label, mean in floors.items() if mean]
        parts.append(timing.table(["floor", *(SCORES[name] for name in names)], lines))
    return "\n\n".join(parts) + "\n"


def _score(name: str, value: float | None) -> str | None:
    return None if value is None else f"{value:.{1 if name in ('mae', 'kid1000') else 3}f}"


def draw(results: dict[str, Any], path: Path) -> None:
    """FSIM, perceptual distance and KID of every row with their 95 % intervals, a column of panels a direction."""
    from matplotlib.figure import Figure

    from pix2pix.files import whole_file

    rows = {name: results["rows"][name] for name in ROWS if name in results["rows"]}
    directions = list(next(iter(rows.values()))["scores"])
    figure = Figure(figsize=(4.6 * len(directions), (0.9 + 0.24 * len(rows)) * len(PLOTTED)), layout="constrained")
    panels = figure.subplots(len(PLOTTED), len(directions), squeeze=False, sharey=True)
    for line, (metric, title) in zip(panels, PLOTTED.items(), strict=True):
        for axes, direction in zip(line, directions, strict=True):
            for place, row in enumerate(rows.values()):
                scores = row["scores"][direction]
                value, interval = scores["mean"].get(metric), scores["interval"].get(metric)
                if value is not None:
                    (point,) = axes.plot([value], [place], "o", markersize=4)
                    if interval:
                        axes.plot(interval, [place, place], color=point.get_color(), linewidth=1.5)
            axes.set_yticks(range(len(rows)), list(rows), fontsize=7)
            axes.set_title(f"{direction}: {title}", fontsize=8)
            axes.tick_params(axis="x", labelsize=7)
            axes.grid(alpha=0.3)
        line[0].set_ylim(len(rows) - 0.5, -0.5)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status: 0, or 1 if a row failed."""
    command = parser()
    own, extra = timing.split_flags(argv)
    args = command.parse_args(own)
    base = base_flags(args, extra)
    path = args.output / "results.json"
    settings = {name: getattr(args, name) for name in ("preset", "minutes", "direction", "dataset", "seed", "identity")}
    settings["flags"] = list(extra)
    try:
        for name in args.rows:
            arguments.complete(arguments.explicit([*base, *ROWS[name]]))
        results = stored_results(path, settings) or {"settings": settings, "rows": {}}
        args.output.mkdir(parents=True, exist_ok=True)
        timing.write_json(path, results)
    except (ValueError, OSError) as error:
        command.error(str(error))

    try:
        with interruptible():
            failures = run_rows(args, base, results, path)
    except Interrupted as stop:
        print(f"stopped by {stop.name}; the same command goes on", file=sys.stderr)
        return 128 + stop.number

    text = tables(results)
    (args.output / "table.md").write_text(text, encoding="utf-8")
    if results["rows"]:
        draw(results, args.output / "ablation.png")
    print(f"\n{text}\nresults: {path}, plot: {args.output / 'ablation.png'}")
    return 1 if failures else 0


def run_rows(args: argparse.Namespace, base: Sequence[str], results: dict[str, Any], path: Path) -> int:
    """Train and score what the results do not hold yet, storing them after every row; returns how many rows failed."""
    failures = 0
    seconds = args.minutes * 60 * (2 if args.direction == "both" else 1)
    for number, name in enumerate(args.rows, 1):
        if name in results["rows"]:
            print(f"{name}: done before", flush=True)
            continue
        folder = args.output / "rows" / name
        folder.mkdir(parents=True, exist_ok=True)
        run, log = folder / "run", folder / "log.txt"
        print(f"{name} ({number} of {len(args.rows)}), {seconds / 60:g} minutes from {time.strftime('%H:%M')}", flush=True)
        flags = [*base, *ROWS[name], "--keep-checkpoints", "1", "--validate-every", "1000000"]
        try:
            made = train_row(run, flags, seconds=seconds, max_steps=args.max_steps, log=log)
            scores = score_row(run, args, folder / "scores", log)
        except RunError as error:
            failures += 1
            print(f"{name} failed: {error}", file=sys.stderr, flush=True)
            continue
        results["rows"][name] = {"flags": ROWS[name], **made, "scores": scores}
        timing.write_json(path, results)
        shutil.rmtree(run / "state", ignore_errors=True)  # a gigabyte a row that nothing needs any more
    return failures


if __name__ == "__main__":
    sys.exit(main())
