"""The page that translates on the visitor's own device, served beside the other one under /device/.

A published Space holds that page ready in `static/`. Elsewhere it is built at the first visit, from the model that the
server itself uses; that takes npm, or a runtime that it has fetched before (see `pix2pix.static_page`).
"""

import html
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from pix2pix.static_page import StaticPageError, build, is_page

PATH = "/device"
SHIPPED = Path(__file__).resolve().parent / "static"

# With these, a browser lets the page share memory between threads: one translation then takes all of its cores.
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-cache",
}


def routes(find_model: Callable[[], tuple[str, str | None]]) -> list[BaseRoute]:
    """What to hand to the server: `page.launch(..., app_kwargs={"routes": routes(find_model)})`.

    Args:
        find_model: Gives the name (a folder or a Hub id) and the revision of the model to offer.
    """
    return [Route(PATH, _to_the_page), Mount(PATH, _DevicePage(find_model))]


async def _to_the_page(request: Request) -> RedirectResponse:
    return RedirectResponse(PATH.strip("/") + "/")  # relative: a proxy may have put something before it


class _DevicePage:
    """Serves the page's files, once there are some."""

    def __init__(self, find_model: Callable[[], tuple[str, str | None]]) -> None:
        self._find_model = find_model
        self._lock = threading.Lock()
        self._built: tuple[tuple, tempfile.TemporaryDirectory] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_isolated(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            answer = StaticFiles(directory=await run_in_threadpool(self._folder), html=True)
        except ImportError as error:
            answer = _sentence(f"it needs a package that is not here ({error}); pip install onnx")
        except (StaticPageError, OSError) as error:
            answer = _sentence(str(error))
        await answer(scope, receive, send_isolated)

    def _folder(self) -> Path:
        """The complete page; built anew when another model is offered, or a run has gone on."""
        if is_page(SHIPPED):
            return SHIPPED
        from pix2pix.generator import WEIGHTS_NAME, ModelError  # it brings torch, which the page's start does not wait for

        name, revision = self._find_model()
        version = (name, revision, *(path.stat().st_mtime_ns for path in sorted(Path(name).glob(f"*/{WEIGHTS_NAME}"))))
        with self._lock:
            if self._built is None or self._built[0] != version:
                temporary = tempfile.TemporaryDirectory(prefix="pix2pix-device-")
                try:
                    build(name, Path(temporary.name) / "page", revision=revision)
                except ModelError as error:
                    raise StaticPageError(str(error)) from error
                self._built = (version, temporary)
            return Path(self._built[1].name) / "page"


def _sentence(reason: str) -> HTMLResponse:
    text = html.escape(reason.rstrip("."))
    return HTMLResponse(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>On your device</title>'
        f"<p>The page that translates on your own device is not ready: {text}.</p>",
        status_code=503,
    )
