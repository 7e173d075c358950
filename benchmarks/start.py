"""How long the page takes from `python space/app.py` to its first answers, each time in a fresh process.

    python benchmarks/start.py --json start.json

Three moments, in seconds since the command: the page answers its first request; a browser that was waiting for that has
painted it, with everything a person needs to begin; a program that was waiting for it has its first sketch. The last two
are starts of their own. What the interpreter takes for the two large imports, gradio and torch, stands beside them. The model
is `PIX2PIX_MODEL`, else that in `space/weights/`, else a new network of the preset lite, which takes as long.
"""

import argparse
import asyncio
import contextlib
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import timing
from benchmarks.inference_speed import SHIPPED, new_model
from benchmarks.load import Record, Visitor, serve
from pix2pix.directions import DIRECTIONS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ANSWER, PAINT, SKETCH = "first request answered", "page painted in a browser", "first sketch answered"
PATIENCE = 240_000  # milliseconds; a limit for the hopeless


def parser() -> argparse.ArgumentParser:
    """The command line of this program."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/start.py",
        description="Time the page from its start to its first answer, its first paint and its first sketch.",
    )
    parser.add_argument("--starts", type=timing.count, default=5, metavar="N", help="starts of each kind (default: 5)")
    parser.add_argument("--no-browser", action="store_true", help="leave out the paint, for which Chromium is needed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the report goes (default: printed alone)")
    return parser


@contextlib.contextmanager
def started(moments: dict[str, list[float]]) -> Iterator[tuple[str, Callable[[], float]]]:
    """Start the page; yield its address and the clock that began with it, and write down when it first answered."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        server, address = serve(Path(folder))
        moments[ANSWER].append(time.perf_counter() - begin)
        try:
            yield address, lambda: time.perf_counter() - begin
        finally:
            server.terminate()
            server.wait()


def paint(moments: dict[str, list[float]]) -> None:
    """Start the page and open it in a browser that runs already."""
    with chromium() as browser:
        window = browser.new_page()
        with started(moments) as (address, clock):
            window.goto(address, timeout=PATIENCE)
            window.locator("#photo2sketch-examples button").first.wait_for(timeout=PATIENCE)
            moments[PAINT].append(clock())


def sketch(moments: dict[str, list[float]]) -> None:
    """Start the page and have it translate a photo."""
    with started(moments) as (address, clock):
        asyncio.run(first_sketch(address))
        moments[SKETCH].append(clock())


async def first_sketch(address: str) -> None:
    """Upload a photo, and wait for its sketch."""
    visitor = Visitor(address, 0, 0, Record())
    if not await visitor.translate("photo_to_sketch"):
        raise RuntimeError("a page that has just started is busy")
    await visitor.client.aclose()


def measure(starts: int, *, browser: bool) -> dict[str, list[float]]:
    """The seconds of each moment, one for each start; the starts take turns, after one that warms the disk's cache."""
    moments: dict[str, list[float]] = {ANSWER: [], PAINT: [], SKETCH: []}
    sketch(moments)
    for seconds in moments.values():
        seconds.clear()
    cases = {SKETCH: functools.partial(sketch, moments)}
    if browser:
        cases[PAINT] = functools.partial(paint, moments)
    timing.interleave(cases, rounds=starts)
    return {moment: seconds for moment, seconds in moments.items() if seconds}


@contextlib.contextmanager
def chromium() -> Iterator["Browser"]:
    """The browser of the tests."""
    if (folder := str(timing.ROOT / "tests")) not in sys.path:
        sys.path.insert(0, folder)
    from browser import ARGUMENTS, chromium_path
    from playwright.sync_api import sync_playwright

    path = chromium_path()
    if path is None:
        raise FileNotFoundError("there is no Chromium; run python tests/browser.py, or give --no-browser")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))


def measure_imports(starts: int) -> dict[str, list[float]]:
    """The seconds of fresh interpreters that import one thing and end."""

    def run(module: str) -> None:
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)

    cases = {f"import {module}": functools.partial(run, module) for module in ("gradio", "torch")}
    timing.interleave(cases, rounds=1)
    return timing.interleave(cases, rounds=starts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status, 0."""
    command = parser()
    args = command.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        if not os.environ.get("PIX2PIX_MODEL") and not SHIPPED.is_dir():
            for direction in DIRECTIONS:
                os.environ["PIX2PIX_MODEL"] = new_model(Path(temporary), direction)
        try:
            seconds = measure(args.starts, browser=not args.no_browser) | measure_imports(args.starts)
        except FileNotFoundError as error:
            command.error(str(error))
    report = {"starts": args.starts, "seconds": seconds, "machine": timing.machine()}
    rows = [[name, statistics.median(times), min(times), max(times)] for name, times in seconds.items()]
    print(timing.table(["since `python space/app.py`", "median, s", "least", "most"], rows))
    if args.json:
        timing.write_json(args.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
