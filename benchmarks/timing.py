"""What the benchmarks share: interleaved timings and their medians, peak memory, tables, and the report on disk."""

import argparse
import contextlib
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pix2pix.files import write_text

ROOT = Path(__file__).resolve().parent.parent
"""The source tree: `train.py` lies in it."""


def interleave(
    cases: Mapping[str, Callable[[], float | None]], *, rounds: int, deadline: float | None = None
) -> dict[str, list[float]]:
    """Time each case once a round, so that what slows the machine for a while slows all cases alike.

    Args:
        cases: By name what to run; what it returns counts as its seconds, None stands for the time that it took.
        rounds: How often, at most; one round is always made.
        deadline: On the clock of `time.monotonic`: no round starts that would pass it at the pace of the last one.

    Returns:
        For each case its seconds, one number a round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        began = time.monotonic()
        for name, run in cases.items():
            start = time.perf_counter()
            own = run()
            seconds[name].append(time.perf_counter() - start if own is None else own)
        now = time.monotonic()
        if deadline is not None and now + (now - began) > deadline:
            break
    return seconds


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median of the ratios round by round: each compares two timings that were made beside each other."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def peak_memory() -> int:
    """The most bytes of memory that this process has held so far."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="utf-8") as lines:
        # Not getrusage: a new program inherits that peak from the process that started it.
        for line in lines:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def machine() -> dict[str, Any]:
    """What the timings depend on besides the program."""
    import torch

    from pix2pix.devices import cores

    return {
        "processor": _processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def table(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A markdown table; numbers stand on the right, None becomes a dash."""
    cells = [[_shown(cell) for cell in row] for row in rows]
    widths = [max(3, *(len(row[column]) for row in [list(titles), *cells])) for column in range(len(titles))]

    def line(row: Sequence[str]) -> str:
        padded = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(titles), line(rule), *map(line, cells)])


def _shown(cell: Any) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.3g}" if abs(cell) < 1000 else f"{cell:.0f}"
    return str(cell)


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report, whole or not at all."""
    write_text(path, json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def split_flags(argv: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """A command line before and after its first `--`: what follows goes to train.py as it is."""
    given = list(sys.argv[1:] if argv is None else argv)
    at = given.index("--") if "--" in given else len(given)
    return given[:at], given[at + 1 :]


def positive(text: str) -> float:
    """A number above 0, for argparse."""
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return number


def count(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number
