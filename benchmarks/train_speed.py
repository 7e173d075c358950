"""Images per second of train.py's step against a plain loop over the same networks: `python benchmarks/train_speed.py`.

They take turns on random pictures; the ratio of each batch size is the median of its ratios round by round. The plain loop
(`plain_loop.py`) runs in a process of its own, as torch sets it up, and has its batch in memory; train.py's step runs in this
one, as train.py sets it up, and waits for its own loader.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import timing
from pix2pix import arguments

SECONDS_A_PROCESS = 20
"""What is put aside of the budget for each process that measures peak memory."""


def parser() -> argparse.ArgumentParser:
    """The command line of this program."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/train_speed.py",
        description="Time train.py's step at several batch sizes against a plain loop (batch 1, float32, eager, three "
        "discriminator passes) over the same networks, taking turns, on random pictures.",
        epilog="What follows -- goes to train.py, such as: -- --compile",
    )
    parser.add_argument("--preset", choices=arguments.PRESETS, default="paper", help="default: %(default)s")
    parser.add_argument(
        "--batch-sizes", type=timing.count, nargs="+", default=[1, 4, 8, 16], metavar="N",
        help="pairs a step (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--images", type=timing.count, default=4, metavar="N", help="at least so many in a timing (default: 4)")
    parser.add_argument(
        "--rounds", type=timing.count, default=30, metavar="N", help="at most; at least 1 is made (default: 30)"
    )
    parser.add_argument(
        "--minutes", type=timing.positive, default=4.0, metavar="MIN", help="for everything, start-up included (default: 4)"
    )
    parser.add_argument(
        "--no-memory", dest="memory", action="store_false", help="leave out train.py's peak memory, a process each"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the report goes (default: printed alone)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status, 0."""
    began = time.monotonic()
    command = parser()
    own, extra = timing.split_flags(argv)
    args = command.parse_args(own)
    flags = ["--preset", args.preset, *extra]
    try:
        arguments.complete(arguments.explicit(flags))
    except ValueError as error:
        command.error(str(error))

    from benchmarks.plain_loop import PlainProcess
    from benchmarks.trainer import Trainer

    sizes = sorted(set(args.batch_sizes))
    with contextlib.ExitStack() as open_things:
        folder = open_things.enter_context(tempfile.TemporaryDirectory())
        trainer = Trainer([*flags, "--batch-size", str(max(sizes))], Path(folder))
        run = trainer.run
        height, width = trainer.image_size
        machine = timing.machine()
        device = str(run.accelerator.device)
        plain = open_things.enter_context(
            PlainProcess(*trainer.plain_networks(), size=(height, width), device=device, threads=machine["threads"])
        )
        waited: dict[int, list[float]] = {size: [] for size in sizes}

        def own_steps(size: int) -> Callable[[], float]:
            batches = trainer.use_batch_size(size)

            def run_steps() -> float:
                pace = trainer.pace(batches, steps=-(-args.images // size))
                waited[size].append(pace.waited / pace.seconds)
                return pace.seconds

            return run_steps

        cases: dict[str, Callable[[], float | None]] = {"plain": lambda: plain.steps(args.images)}
        cases |= {f"train.py, batch {size}": own_steps(size) for size in sizes}
        warm_up = timing.interleave(cases, rounds=1)  # first steps allocate memory, and compile
        for shares in waited.values():
            shares.clear()
        processes = len(sizes) * SECONDS_A_PROCESS if args.memory else 0
        deadline = began + 60 * args.minutes - processes
        seconds = timing.interleave(cases, rounds=args.rounds, deadline=deadline)
        plain_peak = plain.peak_memory()

    images = {"plain": args.images} | {f"train.py, batch {size}": -(-args.images // size) * size for size in sizes}
    rows: list[dict[str, Any]] = []
    for name, size in zip(cases, [1, *sizes], strict=True):
        # Per picture, because a timing of batch 8 holds more of them than one of the plain loop.
        per_image = [taken / images[name] for taken in seconds[name]]
        plain_per_image = [taken / images["plain"] for taken in seconds["plain"]]
        rows.append(
            {
                "name": name,
                "batch_size": size,
                "images_per_second": 1 / statistics.median(per_image),
                "ratio": timing.median_ratio(plain_per_image, per_image),
                "waited": statistics.median(waited[size]) if name != "plain" else 0.0,
                "warm_up_seconds": warm_up[name][0],
                "peak_bytes": plain_peak if name == "plain" else peak_bytes(flags, size) if args.memory else None,
            }
        )
    best = max(rows[1:], key=lambda row: row["ratio"])
    report = {
        "preset": args.preset,
        "flags": extra,
        "image_size": [height, width],
        "precision": run.accelerator.mixed_precision,
        "rounds": len(seconds["plain"]),
        "ratio": best["ratio"],
        "best_batch_size": best["batch_size"],
        "ratio_batch_1": next((row["ratio"] for row in rows[1:] if row["batch_size"] == 1), None),
        "rows": rows,
        "machine": machine,
    }
    titles = ["step", "images/s", "times the plain loop", "waited for data, %", "first steps, s", "peak memory, MB"]
    lines = [
        [row["name"], row["images_per_second"], row["ratio"], 100 * row["waited"], row["warm_up_seconds"],
         row["peak_bytes"] and row["peak_bytes"] / 1e6]
        for row in rows
    ]  # fmt: skip
    print(timing.table(titles, lines))
    print(
        f"\npreset {args.preset}, {width} x {height} px, {report['precision']}, medians of {report['rounds']} rounds, "
        f"{machine['cores']} cores ({machine['processor']}), torch {machine['torch']}:\n"
        f"{best['ratio']:.2f} times the plain loop at batch {best['batch_size']}"
    )
    if args.json:
        timing.write_json(args.json, report)
    return 0


def peak_bytes(flags: Sequence[str], batch_size: int) -> int:
    """The peak memory of a process that does nothing but a few such steps."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        words = ["--steps", "1", "--json", str(file)]
        command = [sys.executable, str(timing.ROOT / "benchmarks" / "trainer.py"), *words]
        subprocess.run([*command, "--", *flags, "--batch-size", str(batch_size)], stdout=subprocess.DEVNULL, check=True)
        return json.loads(file.read_text(encoding="utf-8"))["peak_bytes"]


if __name__ == "__main__":
    sys.exit(main())
