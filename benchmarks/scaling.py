"""How training grows: images per second and peak memory against batch size, picture size, width, pairs and processes.

`python benchmarks/scaling.py --output DIR`. Every point is a process of its own that makes a few of train.py's steps
(`trainer.py`), on random pictures.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import timing
from pix2pix import arguments

SIZES_OF_STREAMED = (100, 80)
"""Height and width of the streamed pictures: small, so that 100,000 pairs are written in a minute and fit any disk."""

AXES = {
    "batch size": "pairs a step",
    "picture size": "pixels a side",
    "width": "filters of the first level",
    "pairs": "pairs, streamed",
    "processes": "processes on the same cores",
}


class Point(NamedTuple):
    """One measurement: on which axis, where on it, train.py's flags, and how many processes."""

    axis: str
    value: int
    flags: list[str]
    processes: int = 1


def parser() -> argparse.ArgumentParser:
    """The command line of this program."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/scaling.py",
        description="Measure images per second and peak memory of train.py's step along each axis. Writes results.json, "
        "table.md and scaling.png into DIR.",
        epilog="What follows -- goes to train.py for every point, such as: -- --perceptual-weight 0",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder of results; made when missing")
    parser.add_argument("--preset", choices=arguments.PRESETS, default="lite", help="default: %(default)s")
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES), metavar="AXIS", help=f"of {', '.join(AXES)}")
    for name, values, what in (
        ("--batch-sizes", [1, 2, 4, 8, 16], "pairs a step"),
        ("--picture-sizes", [128, 192, 256, 384, 512], "pixels a side"),
        ("--widths", [16, 32, 48, 64], "filters of the generator's first level"),
        ("--pairs", [88, 1_000, 10_000, 100_000], "pairs of a streamed data set"),
        ("--processes", [1, 2], "processes, which share the cores and the batch"),
    ):
        shown = " ".join(map(str, values))
        parser.add_argument(name, type=timing.count, nargs="+", default=values, metavar="N", help=f"{what} (default: {shown})")
    parser.add_argument("--steps", type=timing.count, default=6, metavar="N", help="timed at each point (default: 6)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="another place for results.json")
    return parser


def points(args: argparse.Namespace, extra: Sequence[str], streamed: Path) -> list[Point]:
    """All measurements, axis by axis; the data sets that they stream lie in `streamed`."""
    from pix2pix.devices import cores

    base = ["--preset", args.preset, *extra]
    batch_size = arguments.complete(arguments.explicit(base))["batch_size"]
    own_cores = cores()
    found = {
        "batch size": [Point("batch size", n, [*base, "--batch-size", str(n)]) for n in args.batch_sizes],
        "picture size": [Point("picture size", n, [*base, "--image-size", str(n)]) for n in args.picture_sizes],
        "width": [
            Point("width", n, [*base, "--base-channels", str(n), "--max-channels", str(4 * n)]) for n in args.widths
        ],
        "pairs": [Point("pairs", n, [*base, "--streaming", "--dataset", str(streamed / str(n))]) for n in args.pairs],
        # The same pairs a step and the same cores, divided among the processes.
        "processes": [
            Point(
                "processes", n,
                [*base, "--batch-size", str(max(1, batch_size // n)), "--num-threads", str(max(1, own_cores // n))], n,
            )
            for n in args.processes
        ],
    }  # fmt: skip
    return [point for axis in AXES if axis in args.axes for point in found[axis]]


def write_streamed(folder: Path, pairs: int) -> None:
    """A data set of parquet files with `pairs` pairs, the pictures the same few over and over: their number is what counts."""
    import numpy as np
    import pyarrow
    from PIL import Image
    from pyarrow import parquet

    from pix2pix.layouts import FEATURES

    numbers = np.random.default_rng(0)
    pictures = []
    for _ in range(16):
        coarse = Image.fromarray(numbers.integers(0, 256, (10, 8, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize(SIZES_OF_STREAMED[::-1], Image.Resampling.BICUBIC).save(buffer, format="JPEG")
        pictures.append({"bytes": buffer.getvalue(), "path": None})
    folder.mkdir(parents=True)
    rows = 1000
    # Neither dictionary nor compression: the few pictures would shrink to nothing, and the file says how much is read.
    options = {"use_dictionary": False, "compression": "none"}
    with parquet.ParquetWriter(folder / "train-00000-of-00001.parquet", FEATURES.arrow_schema, **options) as writer:
        for start in range(0, pairs, rows):
            chosen = range(start, min(start + rows, pairs))
            columns = {
                "photo": [pictures[index % 16] for index in chosen],
                "sketch": [pictures[(index + 1) % 16] for index in chosen],
                "person_id": [f"person_{index:06d}" for index in chosen],
                "name": [f"pair_{index:06d}" for index in chosen],
            }
            writer.write_table(pyarrow.Table.from_pydict(columns, schema=FEATURES.arrow_schema), row_group_size=rows)


def measure(point: Point, *, steps: int, folder: Path) -> dict[str, Any]:
    """The report of `trainer.py` on one point, or what kept it from one."""
    file = folder / "report.json"
    file.unlink(missing_ok=True)
    script = [str(timing.ROOT / "benchmarks" / "trainer.py"), "--steps", str(steps), "--json", str(file), "--", *point.flags]
    launcher = [sys.executable]
    if point.processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(point.processes)]
    done = subprocess.run([*launcher, *script], capture_output=True, text=True, errors="replace")
    where = {"axis": point.axis, "value": point.value, "processes": point.processes}
    if done.returncode or not file.exists():
        said = [line for line in done.stderr.splitlines() if line.strip()]
        return where | {"failed": said[-1] if said else f"ended with status {done.returncode}"}
    return where | json.loads(file.read_text(encoding="utf-8"))


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Images per second above, peak memory below, a column of panels an axis."""
    from matplotlib.figure import Figure

    from pix2pix.files import whole_file

    axes_shown = [axis for axis in AXES if any(row["axis"] == axis and "failed" not in row for row in rows)]
    figure = Figure(figsize=(2.9 * max(1, len(axes_shown)), 5), layout="constrained")
    for column, axis in enumerate(axes_shown):
        there = [row for row in rows if row["axis"] == axis and "failed" not in row]
        values = [row["value"] for row in there]
        for line, (title, numbers) in enumerate(
            {
                "images a second": [row["images_per_second"] for row in there],
                "peak memory, MB": [row["peak_bytes"] / 1e6 for row in there],
            }.items()
        ):
            panel = figure.add_subplot(2, len(axes_shown), line * len(axes_shown) + column + 1)
            panel.plot(values, numbers, "o-", markersize=3)
            panel.set_ylim(bottom=0)
            if axis == "pairs":
                panel.set_xscale("log")
            panel.set_xlabel(AXES[axis], fontsize=8)
            panel.set_title(title, fontsize=8)
            panel.tick_params(labelsize=7)
            panel.grid(alpha=0.3)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status: 0, or 1 if a point could not be measured."""
    command = parser()
    own, extra = timing.split_flags(argv)
    args = command.parse_args(own)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            chosen = points(args, extra, folder)
            for point in chosen:
                arguments.complete(arguments.explicit(point.flags))
            args.output.mkdir(parents=True, exist_ok=True)
        except (ValueError, OSError) as error:
            command.error(str(error))
        for point in chosen:
            if point.axis == "pairs":
                write_streamed(folder / str(point.value), point.value)
            row = measure(point, steps=args.steps, folder=folder)
            rows.append(row)
            shown = row.get("failed") or f"{row['images_per_second']:.3g} images/s, {row['peak_bytes'] / 1e6:.0f} MB"
            print(f"{point.axis} {point.value}: {shown}", flush=True)
    lines = [
        [row["axis"], row["value"], row.get("images_per_second"), row["peak_bytes"] / 1e6 if "peak_bytes" in row else None,
         100 * row["waited"] if "waited" in row else None]
        for row in rows
    ]  # fmt: skip
    text = timing.table(["axis", "value", "images/s", "peak memory, MB", "waited for data, %"], lines)
    report = {"preset": args.preset, "flags": extra, "steps": args.steps, "rows": rows, "machine": timing.machine()}
    for path in filter(None, (args.output / "results.json", args.json)):
        timing.write_json(path, report)
    (args.output / "table.md").write_text(f"Preset `{args.preset}`.\n\n{text}\n", encoding="utf-8")
    draw(rows, args.output / "scaling.png")
    print(f"\n{text}\nresults: {args.output / 'results.json'}, plot: {args.output / 'scaling.png'}")
    return 1 if any("failed" in row for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
