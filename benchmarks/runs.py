"""Runs of train.py as processes that can be ended, resumed and interrupted, for the benchmarks that train."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import timing


class RunError(RuntimeError):
    """A run that could not be trained or scored."""


class Interrupted(BaseException):
    """A signal that asks this program to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number, self.name = number, signal.Signals(number).name


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Make Ctrl-C and a plain kill raise `Interrupted`, so that no training is left behind that nobody waits for."""

    def interrupt(number: int, _frame: Any) -> None:
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def progress_of(run: Path) -> dict[str, Any] | None:
    """What the newest state of a run says of how far it is; None without one."""
    from pix2pix.checkpoints import list_states

    states = list_states(run / "state")
    return json.loads((states[-1].folder / "progress.json").read_text(encoding="utf-8")) if states else None


def begin_or_resume(run: Path, flags: Sequence[str]) -> list[str]:
    """The flags of train.py that start a run, or that go on with it if it has a state."""
    if progress_of(run):
        return ["--resume"]
    shutil.rmtree(run, ignore_errors=True)  # a start that did not come as far as a state
    return list(flags)


def train(run: Path, flags: Sequence[str], *, log: Path, seconds: float | None = None) -> bool:
    """Run train.py; whether it came to its end by itself, and not by the signal sent after `seconds`.

    Args:
        run: The run folder.
        flags: The other flags.
        log: Takes what train.py says, at its end.
        seconds: When to ask it to stop; None for never.

    Raises:
        RunError: If it fails.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(timing.ROOT / "train.py"), "--output-dir", str(run), *flags]
    with log.open("a", encoding="utf-8") as output:
        # A session of its own: Ctrl-C reaches this program alone, which then lets train.py write its state.
        child = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            status = child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.terminate()
            status = child.wait()
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()
    if status not in (0, 128 + signal.SIGTERM, -signal.SIGTERM):
        said = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        raise RunError(f"train.py ended with status {status} ({said[-1] if said else 'no word'}); see {log}")
    return status == 0


def stored_results(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """What earlier starts left in `path`; None if there is nothing.

    Raises:
        ValueError: If it was made under other settings.
    """
    if not path.exists():
        return None
    results = json.loads(path.read_text(encoding="utf-8"))
    for name, value in settings.items():
        found = results["settings"].get(name)
        if found != value:
            raise ValueError(f"--output holds results with {name} {found}, got {value}; choose another folder")
    return results
