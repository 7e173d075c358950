"""How much is done at once, and how much is read: one translation for each core, and no endless requests."""

import contextlib
import os
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any


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


class BodyLimit:
    """ASGI middleware that stops reading a request after a number of bytes.

    Gradio limits uploaded files alone, and keeps all else that it is sent in memory.

    Args:
        app: What the request is for.
        max_bytes: The longest body that is read.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], *, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Callable, send: Callable) -> None:
        """Pass a request on, unless its body grows too long: then the answer is 413."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        length = dict(scope["headers"]).get(b"content-length", b"")
        if length.isdigit() and int(length) > self._max_bytes:
            return await self._refuse(send)
        read = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            # For the app it is as if the sender had gone away.
            return message if read <= self._max_bytes else {"type": "http.disconnect"}

        return await self._app(scope, counted, send)

    async def _refuse(self, send: Callable) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"the request is too large"})
