"""The page: photo to sketch and sketch to photo, in a browser and as an API.

    PIX2PIX_MODEL=runs/my-run python space/app.py

`PIX2PIX_MODEL` names the models to offer, separated by commas: run folders, Hub ids (`user/name`) and Hub ids with a
revision (`user/name@v1`). Without it the page takes the weights that lie beside it, in `weights/`.
`GRADIO_SERVER_NAME` and `GRADIO_SERVER_PORT` say where the page is served.
"""

import importlib.util
import os
import sys
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
# In a Space the package lies beside this file, in the source tree one folder up; the page's own modules always beside it.
folders = [HERE] if (HERE / "pix2pix").is_dir() else [HERE, HERE.parent]
sys.path[:0] = [str(folder) for folder in folders if str(folder) not in sys.path]
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # Gradio reads it when it is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch too: one translation runs on each core, so each takes one thread

import device  # noqa: E402
import gradio as gr  # noqa: E402
import models  # noqa: E402
from limits import BodyLimit  # noqa: E402
from pages import CSS, build, translations  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402

MAX_FILE_SIZE = "20mb"
MAX_BODY = 32 * 2**20
"""Longest request in bytes; above the largest file, so that Gradio can refuse that by itself."""

MAX_WAITING = 30
"""How many may stand in the queue; whoever comes next is told that the page is busy."""

SESSIONS = 500
"""Of how many visitors Gradio remembers what their page shows, some hundred kB each. Every call of a program counts as one, so
at Gradio's own 10,000 the memory would grow for hours. Who is forgotten, of those longest away, uploads a picture anew."""

THEME = gr.themes.Default(
    primary_hue="stone",
    secondary_hue="stone",
    neutral_hue="stone",
    font=("system-ui", "sans-serif"),
    font_mono=("ui-monospace", "monospace"),
).set(
    body_background_fill="*neutral_50",
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
    block_label_text_color="*neutral_700",
    block_title_text_color="*neutral_700",
    checkbox_border_color="*neutral_500",
    checkbox_border_color_dark="*neutral_400",
    link_text_color="#2f6f73",
    link_text_color_dark="#7fbdc1",
    link_text_color_visited="#2f6f73",
    link_text_color_visited_dark="#7fbdc1",
    color_accent="#2f6f73",
    color_accent_soft="#e3efef",
    color_accent_soft_dark="#1d3f41",
    button_primary_background_fill="#2f6f73",
    button_primary_background_fill_hover="#275e61",
    button_primary_background_fill_dark="#2f6f73",
    button_primary_background_fill_hover_dark="#37838a",
)


def main() -> None:
    """Serve the page until it is stopped."""
    page = build().queue(max_size=MAX_WAITING)
    page.launch(
        theme=THEME,
        css=CSS,
        allowed_paths=[str(HERE / "examples")],
        max_file_size=MAX_FILE_SIZE,
        app_kwargs={
            "middleware": [Middleware(BodyLimit, max_bytes=MAX_BODY)],
            "routes": device.routes(lambda: models.offered()[0]),
        },
        footer_links=["api"],
        run_history=False,
        state_session_capacity=SESSIONS,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=importlib.util.find_spec("mcp") is not None,
        prevent_thread_lock=True,
    )
    # Torch comes after the page: whoever opens it does not wait for that.
    threading.Thread(target=translations, name="warm-up", daemon=True).start()
    page.block_thread()


if __name__ == "__main__":
    main()
