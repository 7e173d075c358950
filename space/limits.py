"""How much is done at once: one translation for each core, a bounded number that wait, and a polite word for the rest."""

import contextlib
import os
import threading
from collections.abc import Iterator


class BusyError(RuntimeError):
    """Too many are being served; try again."""


def cores() -> int:
    """How many translations may run at once: `CPU_CORES`, which Spaces set, or else the cores of this machine."""
    if (told := os.environ.get("CPU_CORES", "")).isdigit() and int(told) > 0:
        return int(told)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Gate:
    """Lets as many through at a time as there are slots.

    Args:
        slots: How many may be inside.
        waiting: How many of the impatient may wait outside; the next one is sent away at once.
        seconds: How long one of them waits.
    """

    def __init__(self, slots: int, *, waiting: int = 8, seconds: float = 2.0) -> None:
        self._slots = threading.BoundedSemaphore(slots)
        self._places = threading.BoundedSemaphore(waiting)
        self._seconds = seconds

    @contextlib.contextmanager
    def patient(self) -> Iterator[None]:
        """Wait for a slot, however long: for those whom the page's queue has already counted."""
        with self._slots:
            yield

    @contextlib.contextmanager
    def impatient(self) -> Iterator[None]:
        """Wait for a slot for a moment.

        Raises:
            BusyError: If there is none in that time, or too many wait.
        """
        if not self._places.acquire(blocking=False):
            raise BusyError("the server is busy; try again in a moment")
        try:
            if not self._slots.acquire(timeout=self._seconds):
                raise BusyError("the server is busy; try again in a moment")
        finally:
            self._places.release()
        try:
            yield
        finally:
            self._slots.release()
