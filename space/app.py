"""The page: photo to sketch and sketch to photo, in a browser and as an API.

    PIX2PIX_MODEL=runs/my-run python space/app.py

`PIX2PIX_MODEL` is a run folder, a Hub id (`user/name`) or a Hub id with a revision (`user/name@v1`); without it the
newest run under `runs/` is used. `GRADIO_SERVER_NAME` and `GRADIO_SERVER_PORT` say where the page is served.
"""

import functools
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
# In a Space the package lies beside this file, in the source tree one folder up; device.py always beside it.
sys.path[:0] = [str(HERE)] if (HERE / "pix2pix").is_dir() else [str(HERE), str(HERE.parent)]
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # Gradio reads it when it is imported

import device  # noqa: E402
import gradio as gr  # noqa: E402
from PIL import Image  # noqa: E402

from pix2pix.directions import DIRECTIONS, Direction, source_and_target  # noqa: E402
from pix2pix.drawn_faces import draw_pair  # noqa: E402
from pix2pix.faces import MissingDetectorError, align_largest  # noqa: E402
from pix2pix.generator import CONFIG_NAME, WEIGHTS_NAME, ModelError  # noqa: E402
from pix2pix.images import ImageError, open_image, upright  # noqa: E402
from pix2pix.inference import MINIMUM_SIDE, Translator  # noqa: E402

MAX_FILE_SIZE = "20mb"
SECONDS_KEPT = 3600  # uploads and results older than this are deleted ...
SECONDS_BETWEEN_SWEEPS = 600  # ... this often
EXAMPLE_SEEDS = (8, 21, 35, 46)

NO_MODEL = (
    "There is no model yet. Train one with `accelerate launch train.py`, or start this page with "
    "`PIX2PIX_MODEL` set to a run folder or to a model on the Hub (`user/name`)."
)

CSS = """
.gradio-container { max-width: 60rem !important; margin: 0 auto !important; }
.quiet { font-size: 0.875rem; opacity: 0.8; }
"""


class ModelSource(NamedTuple):
    """Where the weights come from.

    Attributes:
        name: A run folder or a Hub id.
        revision: Branch, tag or commit on the Hub; None for the newest, and for folders.
    """

    name: str
    revision: str | None

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name


def find_model() -> ModelSource | None:
    """The model that `PIX2PIX_MODEL` names, else the newest run under `runs/`, else None."""
    if named := os.environ.get("PIX2PIX_MODEL", "").strip():
        if Path(named).is_dir():
            return ModelSource(named, None)
        name, _, revision = named.partition("@")
        return ModelSource(name, revision or None)
    weights = [path for direction in DIRECTIONS for path in Path("runs").glob(f"*/{direction}/{WEIGHTS_NAME}")]
    if not weights:
        return None
    return ModelSource(str(max(weights, key=lambda path: path.stat().st_mtime).parent.parent), None)


_loading = threading.Lock()


def load_translator(source: ModelSource, direction: Direction) -> Translator:
    """Load one direction of a model, or return it from the cache; a run that has trained on is loaded anew.

    Raises:
        ModelError: If the model cannot be loaded; the message says why and what to do.
    """
    version = None
    if Path(source.name).is_dir():
        folder = Path(source.name) / direction
        if not (folder / CONFIG_NAME).is_file():
            raise ModelError(f"the model '{source}' does not translate {words(direction)}; train or choose one that does")
        if (folder / WEIGHTS_NAME).is_file():
            version = (folder / WEIGHTS_NAME).stat().st_mtime_ns
    with _loading:  # two first requests must not load it twice
        return _load(source, direction, version)


@functools.lru_cache(maxsize=len(DIRECTIONS))
def _load(source: ModelSource, direction: Direction, version: int | None) -> Translator:
    return Translator.from_pretrained(source.name, direction, revision=source.revision)


def words(direction: Direction) -> str:
    """The direction in words: "photo to sketch"."""
    return " to ".join(source_and_target(direction))


def model_line() -> str:
    """What the page says about its model."""
    source = find_model()
    return f"Model: `{source}`" if source else NO_MODEL


def translate(direction: Direction, path: str | None, align: bool) -> tuple[Image.Image, str]:
    """Translate an uploaded picture.

    Returns:
        The translation, and a sentence that says what was translated.

    Raises:
        gr.Error: With one plain sentence, for whatever a person or their picture can cause.
    """
    if not path:
        raise gr.Error("Choose a picture first.", print_exception=False)
    try:
        image = upright(open_image(path))
        if min(image.size) < MINIMUM_SIDE:
            raise ImageError(
                f"a picture must have at least {MINIMUM_SIDE} pixels a side, got {image.width} x {image.height}; "
                "choose a larger one"
            )
        source = find_model()
        if source is None:
            raise ModelError(NO_MODEL.replace("`", ""))
        translator = load_translator(source, direction)
        note = "The whole picture was translated."
        if align:
            alignment = align_largest(image)
            image = alignment.portrait
            note = "The largest face was found, aligned and translated."
            if alignment.face is None:
                note = "No face was found, so the middle of the picture was translated."
                gr.Warning(note, title="No face")
        return translator(image), note
    except (ImageError, ModelError, MissingDetectorError) as error:
        message = str(error).rstrip(".")
        raise gr.Error(f"{message[:1].upper()}{message[1:]}.", print_exception=False) from None


def photo_to_sketch(picture: str, align: bool = True) -> tuple[Image.Image, str]:
    """Draw a pencil sketch of a portrait photo.

    Args:
        picture: The photo, at most 20 MB and 64 megapixels.
        align: Whether to find the largest face and bring it to the training geometry first.

    Returns:
        The sketch, and a sentence that says what was translated.
    """
    return translate("photo2sketch", picture, align)


def sketch_to_photo(picture: str, align: bool = False) -> tuple[Image.Image, str]:
    """Make a portrait photo from a pencil sketch.

    Args:
        picture: The sketch, at most 20 MB and 64 megapixels.
        align: Whether to find the largest face and bring it to the training geometry first.

    Returns:
        The photo, and a sentence that says what was translated.
    """
    return translate("sketch2photo", picture, align)


def build() -> gr.Blocks:
    """Lay out the page."""
    with (
        tempfile.TemporaryDirectory() as folder,
        gr.Blocks(
            title="pix2pix for faces", analytics_enabled=False, delete_cache=(SECONDS_BETWEEN_SWEEPS, SECONDS_KEPT)
        ) as page,
    ):
        gr.Markdown("# Faces and sketches\nTurn a portrait photo into a pencil sketch, or a sketch into a photo.")
        model = gr.Markdown(model_line(), elem_classes="quiet", elem_id="model")
        for direction, function, align in zip(DIRECTIONS, (photo_to_sketch, sketch_to_photo), (True, False), strict=True):
            source, target = source_and_target(direction)
            with gr.Tab(words(direction).capitalize(), id=direction):
                with gr.Row():
                    with gr.Column():
                        picture = upload(source, elem_id=f"{direction}-picture")
                        box = gr.Checkbox(
                            align,
                            label="Find and align the face",
                            info="Off: the whole picture is translated as it is.",
                            elem_id=f"{direction}-align",
                        )
                        button = gr.Button("Translate", variant="primary", elem_id=f"{direction}-translate")
                    with gr.Column():
                        result = gr.Image(
                            label=target.capitalize(),
                            type="pil",
                            format="png",
                            buttons=["download", "fullscreen"],
                            interactive=False,
                            height=380,
                            alt_text=f"The {target} made from your {source}",
                            elem_id=f"{direction}-result",
                        )
                        note = gr.Markdown(label="Note", elem_classes="quiet", elem_id=f"{direction}-note")
                button.click(
                    function,
                    [picture, box],
                    [result, note],
                    api_name=function.__name__,
                    concurrency_id="model",
                    concurrency_limit=1,
                    show_progress_on=result,
                )
                gr.Examples(
                    example_files(source, Path(folder)),
                    picture,
                    label="Drawn faces to try",
                    elem_id=f"{direction}-examples",
                    cache_examples=False,
                    api_visibility="private",
                )
        gr.Markdown(f"[Translate on your own device]({device.PATH.strip('/')}/): the picture never leaves it.")
        gr.Markdown(
            "A translation is the model's guess, not evidence: **not for identification** of anybody. "
            "Pictures are deleted from this server after at most "
            f"{(SECONDS_KEPT + SECONDS_BETWEEN_SWEEPS) // 60} minutes and are used "
            "for nothing else. The example faces are drawn by a program; they are nobody's.",
            elem_classes="quiet",
        )
        page.load(model_line, None, model, queue=False, api_visibility="private", show_progress="hidden")
    return page


def upload(domain: str, *, elem_id: str) -> gr.Image:
    """Make the field for a "photo" or "sketch" from a file, a camera or the clipboard; its value is the file's path."""
    picture = gr.Image(
        label=f"Your {domain}",
        type="filepath",
        image_mode=None,
        format="png",
        sources=["upload", "webcam", "clipboard"],
        webcam_options=gr.WebcamOptions(mirror=False),
        buttons=["fullscreen"],
        height=380,
        alt_text=f"The {domain} to be translated",
        elem_id=elem_id,
    )
    open_and_pass = picture.preprocess

    # Gradio would open the file before `translate` can, and a damaged one would end in an error without a sentence. (A
    # subclass would be the plainer way, but Gradio writes a stub file beside the source of each subclass it meets.)
    def pass_unopened(payload):
        return payload.path if payload and payload.path else open_and_pass(payload)

    picture.preprocess = pass_unopened
    return picture


def example_files(domain: str, folder: Path) -> list[str]:
    """Draw the examples of "photo" or "sketch" into a folder; Gradio copies them into its cache."""
    paths = []
    for seed in EXAMPLE_SEEDS:
        paths.append(str(folder / f"{domain}-{seed}.png"))
        getattr(draw_pair(seed), domain).save(paths[-1])
    return paths


def main() -> None:
    """Serve the page until it is stopped."""
    build().queue(max_size=20).launch(
        theme=gr.themes.Default(primary_hue="slate", neutral_hue="slate"),
        css=CSS,
        max_file_size=MAX_FILE_SIZE,
        app_kwargs={"routes": device.routes(find_model)},
        footer_links=["api"],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
    )


if __name__ == "__main__":
    main()
