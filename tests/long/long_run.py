"""Train for hours while the page answers thousands of requests, and see whether anything grows.

    python tests/long/long_run.py --minutes 120 --requests 10000 --output results/long

The training validates and writes a state every epoch, with TensorBoard on; visitors send the page photos, sketches and
frames of the pad. Every few seconds memory, file handles, threads and temporary files of both are written down in
`samples.csv`, and drawn in `samples.png`. A quantity grows if the median of the last quarter of the time lies more than a
tenth (and more than a small number) above that of the second quarter. The exit status is 1 if one grows, if a request
failed, or if the training did.
"""

import argparse
import asyncio
import contextlib
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import load  # noqa: E402
import psutil  # noqa: E402

QUANTITIES = {"memory_mb": 30, "handles": 10, "threads": 5, "temporary_files": 50}
"""What is sampled, and how much more of it is no growth yet."""


UPLOAD_EVERY = 20
"""Requests of a visitor for which a picture is uploaded once: the page deletes uploads after half an hour."""


def sample(process: psutil.Process, folder: Path) -> dict[str, float]:
    """What a process and its children hold now, and how many files lie in the folder for their temporary files."""
    family = [process, *process.children(recursive=True)]
    totals = dict.fromkeys(("memory_mb", "handles", "threads"), 0.0)
    for member in family:
        try:
            with member.oneshot():
                totals["memory_mb"] += member.memory_info().rss / 1e6
                totals["handles"] += member.num_fds()
                totals["threads"] += member.num_threads()
        except psutil.Error:  # it has ended, and of one that nobody has waited for yet some things cannot be read
            continue
    return {**totals, "temporary_files": sum(1 for path in folder.rglob("*") if not path.is_dir())}


class Sampler(threading.Thread):
    """Takes samples of named processes until it is stopped."""

    def __init__(self, watched: dict[str, tuple[int, Path]], seconds: float) -> None:
        super().__init__(daemon=True)
        self.watched = {name: (psutil.Process(number), folder) for name, (number, folder) in watched.items()}
        self.seconds, self.over, self.rows = seconds, threading.Event(), []

    def run(self) -> None:
        began = time.monotonic()
        while not self.over.wait(self.seconds):
            for name, (process, folder) in self.watched.items():
                try:
                    now = sample(process, folder)
                except psutil.Error:
                    continue
                if now["memory_mb"]:
                    self.rows.append({"seconds": round(time.monotonic() - began, 1), "process": name, **now})


def growth(values: Sequence[float], slack: float) -> tuple[float, float, bool]:
    """Median of the second quarter, median of the last, and whether that is more."""
    quarter = max(1, len(values) // 4)
    before, after = statistics.median(values[quarter : 2 * quarter] or values), statistics.median(values[-quarter:])
    return before, after, after > 1.1 * before and after > before + slack


def draw(rows: list[dict], path: Path) -> None:
    """A panel a quantity, a line a process."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    for place, name in enumerate(QUANTITIES, 1):
        axes = figure.add_subplot(2, 2, place)
        for process in dict.fromkeys(row["process"] for row in rows):
            mine = [row for row in rows if row["process"] == process]
            axes.plot([row["seconds"] / 60 for row in mine], [row[name] for row in mine], label=process)
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("minutes")
        axes.set_ylim(bottom=0)
        axes.legend()
    figure.savefig(path, dpi=110)


async def visit(address: str, requests: int, users: int, until: float) -> load.Record:
    """Send so many requests, evenly over the time that is left, from a few visitors."""
    record, left = load.Record(), requests
    pad = await asyncio.to_thread(load.pad_of, address)

    async def one(number: int) -> None:
        nonlocal left
        visitor = load.Visitor(address, number, pad, record)
        turn = number
        while left > 0:
            left -= 1
            began = time.perf_counter()
            kind = load.KINDS[turn % len(load.KINDS)]
            turn += 1
            if turn % UPLOAD_EVERY == 0:
                visitor.files.clear()
            try:
                while not await visitor.send(kind):
                    record.busy[kind] += 1
                    await asyncio.sleep(load.PAUSE_WHEN_BUSY)
                record.seconds[kind].append(time.perf_counter() - began)
            except Exception as error:
                record.errors[kind].append(f"{type(error).__name__}: {error}")
            share = users * max(0.0, until - time.perf_counter()) / max(1, left)
            await asyncio.sleep(max(0.0, share - (time.perf_counter() - began)))
        await visitor.client.aclose()

    await asyncio.gather(*(one(number) for number in range(users)))
    return record


def end(program: subprocess.Popen) -> None:
    """Tell a program to end, and wait until it has."""
    program.terminate()
    program.wait()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("--minutes", type=float, default=120, help="of training, above 0 (default: %(default)s)")
    command.add_argument("--requests", type=int, default=10_000, help="to the page, from 1 (default: %(default)s)")
    command.add_argument("--users", type=int, default=4, help="who send them, from 1 (default: %(default)s)")
    command.add_argument("--every", type=float, default=10, help="seconds between samples (default: %(default)s)")
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="new folder for samples and plot")
    command.add_argument("flags", nargs="*", help="more flags of train.py, after --")
    args = command.parse_args(argv)
    if args.minutes <= 0 or args.requests < 1 or args.users < 1 or args.every <= 0:
        command.error("--minutes and --every must be above 0, --requests and --users at least 1")
    if args.output.exists():
        command.error(f"--output '{args.output}' exists; choose a new folder")
    args.output.mkdir(parents=True)

    with tempfile.TemporaryDirectory() as temporary:
        scratch = {name: Path(temporary, name) for name in ("training", "page")}
        for folder in scratch.values():
            folder.mkdir()
        flags = ["--max-minutes", str(args.minutes), "--validate-every", "1", "--checkpoint-every", "1", "--log-every", "5"]
        flags += ["--report-to", "tensorboard", "--output-dir", str(args.output / "run"), *args.flags]
        with contextlib.ExitStack() as stack:
            server, address = load.serve(scratch["page"], TMPDIR=str(scratch["page"]))
            stack.callback(end, server)
            asyncio.run(visit(address, args.users * 3, args.users, 0))  # every road once, before the sampling
            until = time.perf_counter() + 60 * args.minutes
            training = subprocess.Popen(
                [sys.executable, str(ROOT / "train.py"), *flags], stderr=subprocess.STDOUT,
                stdout=stack.enter_context((args.output / "training.log").open("w")),
                env=os.environ | {"TMPDIR": str(scratch["training"])},
            )  # fmt: skip
            stack.callback(end, training)
            watched = {"training": (training.pid, scratch["training"]), "page": (server.pid, scratch["page"])}
            sampler = Sampler(watched, args.every)
            sampler.start()
            stack.callback(sampler.over.set)
            record = asyncio.run(visit(address, args.requests, args.users, until))
            status = training.wait()
        sampler.join()

    with (args.output / "samples.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=["seconds", "process", *QUANTITIES])
        writer.writeheader()
        writer.writerows(sampler.rows)
    draw(sampler.rows, args.output / "samples.png")
    grew = False
    for process in scratch:
        for name, slack in QUANTITIES.items():
            before, after, is_more = growth([row[name] for row in sampler.rows if row["process"] == process] or [0], slack)
            grew = grew or is_more
            print(f"{process:9} {name:16} {before:8.0f} -> {after:8.0f}" + ("  GROWS" if is_more else ""))
    answered, errors = (sum(map(len, each.values())) for each in (record.seconds, record.errors))
    print(f"requests: {answered} answered, {sum(record.busy.values())} put off, {errors} failed")
    for kind, told in record.errors.items():
        print(f"first failure of {kind}: {told[0]}")
    print(f"training: exit status {status}")
    return 1 if grew or errors or status else 0


if __name__ == "__main__":
    sys.exit(main())
