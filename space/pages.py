"""The page: its layout, what its controls do, and the endpoints for programs."""

import functools
import html
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import device
import gradio as gr
import models
from figures import COMPARE_JS, THUMBNAILS_JS, Figure, Thumbnail, address, compare, empty, row, thumbnails
from gradio.processing_utils import save_pil_to_cache
from limits import cores
from PIL import Image

HERE = Path(__file__).resolve().parent
CSS = (HERE / "style.css").read_text(encoding="utf-8")

SECONDS_KEPT = 1800  # uploads and results older than this are deleted ...
SECONDS_BETWEEN_SWEEPS = 300  # ... this often

# What all events that run a model have in common: one queue, and one of them at a time for each core.
MODEL_EVENTS = {"concurrency_id": "model", "concurrency_limit": cores()}
PAGE_EVENTS = {**MODEL_EVENTS, "api_visibility": "private"}  # programs do not see the page's own

LARGEST = 1
WORDS = {"photo2sketch": "Photo to sketch", "sketch2photo": "Sketch to photo"}
STARTS = {"photo": "photo2sketch", "sketch": "sketch2photo"}
EXAMPLES = {
    "photo": {
        "astronaut.jpg": "Portrait of the astronaut Eileen Collins",
        "drawn-8-photo.png": "Drawn person with white curls",
        "drawn-21-photo.png": "Drawn person with dark hair",
        "drawn-35-photo.png": "Drawn person with glasses",
    },
    "sketch": {
        "drawn-8-sketch.png": "Sketch of a drawn person with curls",
        "drawn-21-sketch.png": "Sketch of a drawn person with dark hair",
        "drawn-35-sketch.png": "Sketch of a drawn person with glasses",
        "drawn-46-sketch.png": "Sketch of another drawn person",
    },
}

# Hands the sketch that is shown over to the pad.
DRAW_ON_JS = """() => {
  window.sketchForPad = document.querySelector("#photo2sketch-compare .compare")?.dataset.drawing;
  document.dispatchEvent(new Event("sketch-for-pad"));
}"""

INTRODUCTION = """# Faces and sketches
A portrait photo becomes a pencil sketch, and a sketch becomes a photo, even while you draw it."""

CREDITS = (
    "The first photo is [Eileen Collins, by NASA](https://flic.kr/p/r9qvLn), public domain. The other faces are drawn by a \
program; they are nobody's."
)

ABOUT = f"""### Not for identification
A translation is the model's guess, not evidence. It looks like the faces the model was trained on, and invents what it
cannot see. Do not use it to identify anybody.

### Your pictures
They are used for the translation that you ask for and for nothing else: there is no history, no statistics and no
record of them. What you upload is deleted from this server after at most
{(SECONDS_KEPT + SECONDS_BETWEEN_SWEEPS) // 60} minutes. Drawings of the pad are not stored at all.

### For programs
`/photo_to_sketch`, `/sketch_to_photo` and `/round_trip` take a picture; see "Use via API" at the foot of the page."""


@functools.cache
def translations() -> ModuleType:
    """The module that translates. It brings torch, so that the page can be shown before that is there."""
    import translations

    return translations


def plainly(function: Callable) -> Callable:
    """Let whatever a person, their picture or the model can cause appear as one plain sentence."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except translations().EXPECTED as error:
            raise gr.Error(translations().sentence(error), print_exception=False, title="That did not work") from None

    return wrapper


# --- for programs


@plainly
def photo_to_sketch(
    picture: str,
    align: bool = True,
    face: int = LARGEST,
    put_back: bool = False,
    seed: int | None = None,
    strength: float = 1.0,
    model: str = "",
) -> tuple:
    """Draw a pencil sketch of a portrait photo.

    Args:
        picture: The photo: at most 20 MB and 64 megapixels, at least 16 pixels a side.
        align: Whether to find a face and bring it to the training geometry first.
        face: Which face: 1 for the largest, 2 for the next, and so on.
        put_back: Whether to return the whole picture with the sketch in the face's place.
        seed: None for the plain sketch; a number from 0 for the variation of that number.
        strength: How far a variation may go, from 0 to 2.
        model: One of the models that the page offers; empty for the first.

    Returns:
        The sketch, and a sentence that says what was translated.
    """
    return _translated("photo2sketch", picture, align, face, put_back, seed, strength, model)


@plainly
def sketch_to_photo(
    picture: str,
    align: bool = False,
    face: int = LARGEST,
    put_back: bool = False,
    seed: int | None = None,
    strength: float = 1.0,
    model: str = "",
) -> tuple:
    """Make a portrait photo from a pencil sketch.

    Args:
        picture: The sketch: at most 20 MB and 64 megapixels, at least 16 pixels a side.
        align: Whether to find a face and bring it to the training geometry first.
        face: Which face: 1 for the largest, 2 for the next, and so on.
        put_back: Whether to return the whole picture with the photo in the face's place.
        seed: None for the plain photo; a number from 0 for the variation of that number.
        strength: How far a variation may go, from 0 to 2.
        model: One of the models that the page offers; empty for the first.

    Returns:
        The photo, and a sentence that says what was translated.
    """
    return _translated("sketch2photo", picture, align, face, put_back, seed, strength, model)


@plainly
def round_trip(picture: str, start: str = "photo", align: bool = True, model: str = "") -> tuple:
    """Translate a picture, and the translation back.

    Args:
        picture: A photo or a sketch: at most 20 MB and 64 megapixels, at least 16 pixels a side.
        start: What it is: "photo" or "sketch".
        align: Whether to find the largest face and bring it to the training geometry first.
        model: One of the models that the page offers; empty for the first.

    Returns:
        The translation, the way back, where that differs from the start (white: nowhere), by how many of 255 levels, a note.
    """
    trip = translations().round_trip(start, picture, models.chosen(model), aligned=align)
    return trip.there, trip.back, trip.difference, round(trip.mean, 2), trip.note


def _translated(direction, picture, align, face, put_back, seed, strength, model):
    result = translations().translate(
        direction,
        picture,
        models.chosen(model),
        aligned=align,
        face=int(face),
        into_whole=put_back,
        seed=seed,
        strength=strength,
    )
    return result.whole_after or result.after, result.note


def endpoints() -> None:
    """Declare what programs may call, on components that no page shows, so that the page may change without them."""
    with gr.Row(visible=False):
        picture = upload("picture", elem_id=None)
        align_photo, align_sketch = gr.Checkbox(True, label="align"), gr.Checkbox(False, label="align")
        face = gr.Number(LARGEST, precision=0, label="face")
        put_back = gr.Checkbox(False, label="put back")
        seed = gr.Number(None, precision=0, label="seed")
        strength = gr.Number(1.0, label="strength")
        model = gr.Textbox("", label="model")
        start = gr.Textbox("photo", label="start")
        pictures = [gr.Image(type="pil", format="png", label=label) for label in ("translation", "back", "difference")]
        mean, note = gr.Number(label="mean difference"), gr.Textbox(label="note")
        button = gr.Button()
    choices = [face, put_back, seed, strength, model]
    button.click(
        photo_to_sketch, [picture, align_photo, *choices], [pictures[0], note], api_name="photo_to_sketch", **MODEL_EVENTS
    )
    button.click(
        sketch_to_photo, [picture, align_sketch, *choices], [pictures[0], note], api_name="sketch_to_photo", **MODEL_EVENTS
    )
    trip = [picture, start, align_photo, model]
    button.click(round_trip, trip, [*pictures, mean, note], api_name="round_trip", **MODEL_EVENTS)


# --- for people


def build() -> gr.Blocks:
    """Lay out the page."""
    with gr.Blocks(
        title="Faces and sketches", analytics_enabled=False, delete_cache=(SECONDS_BETWEEN_SWEEPS, SECONDS_KEPT)
    ) as page:
        gr.Markdown(INTRODUCTION, elem_id="title")
        notice = gr.HTML("", elem_id="notice", padding=False)
        sources = models.offered()
        model = gr.Dropdown(
            [(source.title, str(source)) for source in sources],
            value=str(sources[0]),
            label="Model",
            visible=len(sources) > 1,
            elem_id="model",
        )
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            with gr.Tab(WORDS["photo2sketch"], id="photo2sketch"):
                draw_on = translation_tab("photo2sketch", model)
            with gr.Tab(WORDS["sketch2photo"], id="sketch2photo", render_children=True), gr.Tabs(overflow_behavior="wrap"):
                with gr.Tab("Draw", id="draw", render_children=True):
                    pad(model)
                with gr.Tab("Upload", id="upload"):
                    translation_tab("sketch2photo", model)
            with gr.Tab("Round trip", id="round-trip"):
                round_trip_tab(model)
            with gr.Tab("Variations", id="variations"):
                variations_tab(model)
            with gr.Tab("About", id="about") as about:
                gr.Markdown(ABOUT)
                card = gr.Markdown("", elem_id="card")
        gr.Markdown(
            f"[Translate on your own device]({device.PATH.strip('/')}/): no picture leaves it, and nobody waits for anybody.",
            elem_id="on-device",
        )
        gr.Markdown(
            "A translation is a guess: **not for identification** of anybody. Your pictures are deleted after at most "
            f"{(SECONDS_KEPT + SECONDS_BETWEEN_SWEEPS) // 60} minutes and used for nothing else. {CREDITS}",
            elem_classes="quiet",
            elem_id="foot",
        )
        endpoints()

        draw_on.click(
            lambda: gr.Tabs(selected="sketch2photo"), None, tabs, js=DRAW_ON_JS, queue=False, api_visibility="private"
        )
        aside = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
        about.select(model_card, model, card, **aside)
        model.change(model_card, model, card, **aside)
        gr.on([page.load, model.change], notice_of, model, notice, **aside)
    return page


def notice_of(model: str) -> str:
    """What is wrong with the model and how to mend it; empty if nothing is."""
    try:
        why = translations().fault(models.chosen(model))
    except LookupError as error:
        why = translations().sentence(error)
    return f'<p class="notice" role="alert">{html.escape(why)}</p>' if why else ""


def model_card(model: str) -> str:
    """What the page says about the model."""
    source = models.chosen(model)
    return f"---\n## About {source.title}\n\n{models.card(source)}"


def upload(label: str, *, elem_id: str | None) -> gr.Image:
    """Make the field for a picture from a file, a camera or the clipboard; its value is the file's path."""
    picture = gr.Image(
        label=label,
        type="filepath",
        image_mode=None,
        format="png",
        sources=["upload", "webcam", "clipboard"],
        webcam_options=gr.WebcamOptions(mirror=False),
        buttons=["fullscreen"],
        height=340,
        alt_text="The picture that you chose",
        elem_id=elem_id,
    )
    open_and_pass = picture.preprocess

    # Gradio would open the file before `translations` can, and a damaged one would end in an error without a sentence. (A
    # subclass would be the plainer way, but Gradio writes a stub file beside the source of each subclass it meets.)
    def pass_unopened(payload):
        return payload.path if payload and payload.path else open_and_pass(payload)

    picture.preprocess = pass_unopened
    return picture


@functools.cache
def thumbnails_of(domain: str) -> str:
    """The pictures of "photo" or "sketch" that come with the page, as buttons that say what they show."""
    pictures = []
    for name, words in EXAMPLES[domain].items():
        with Image.open(HERE / "examples" / name) as image:
            pictures.append(Thumbnail(image.copy(), words, name))
    return thumbnails("Or try one of these", pictures)


def examples(domain: str, picture: gr.Image, *, elem_id: str) -> gr.HTML:
    """Offer the pictures of "photo" or "sketch" that come with the page."""
    strip = gr.HTML(thumbnails_of(domain), js_on_load=THUMBNAILS_JS, elem_id=elem_id, padding=False)

    def pick(event: gr.EventData) -> str:
        if not any(event.name in names for names in EXAMPLES.values()):
            raise gr.Error("There is no such example.", print_exception=False)
        return str(HERE / "examples" / event.name)

    strip.select(pick, None, picture, queue=False, api_visibility="private", show_progress="hidden")
    return strip


def start_column(name: str) -> tuple[gr.Radio, gr.Image, gr.Checkbox]:
    """Lay out what a round trip or a variation starts from: a photo or a sketch, with examples of whichever it is."""
    with gr.Column(scale=2):
        start = gr.Radio(
            [("A photo", "photo"), ("A sketch", "sketch")], value="photo", label="Start from", elem_id=f"{name}-start"
        )
        picture = upload("Your picture", elem_id=f"{name}-picture")
        align = gr.Checkbox(True, label="Find and align the face", elem_id=f"{name}-align")
        strip = examples("photo", picture, elem_id=f"{name}-examples")
    start.input(thumbnails_of, start, strip, queue=False, api_visibility="private", show_progress="hidden")
    return start, picture, align


def translation_tab(direction: str, model: gr.Dropdown) -> gr.Button:
    """Lay out one direction: a picture in, its translation beside it as soon as it is chosen.

    Returns:
        The button that hands the translation to the pad.
    """
    source, target = direction.split("2")
    waiting = empty(f"Choose a {source}, or an example: its {target} appears here.")
    with gr.Row(equal_height=False):
        with gr.Column():
            picture = upload(f"Your {source}", elem_id=f"{direction}-picture")
            examples(source, picture, elem_id=f"{direction}-examples")
            align = gr.Checkbox(
                source == "photo",
                label="Find and align the face",
                info="Off: the whole picture is translated as it is.",
                elem_id=f"{direction}-align",
            )
            whole = gr.Checkbox(
                False,
                label=f"Put the {target} back into the whole picture",
                elem_id=f"{direction}-whole",
            )
        with gr.Column():
            result = gr.HTML(waiting, js_on_load=COMPARE_JS, elem_id=f"{direction}-compare", padding=False)
            note = gr.Markdown("", elem_classes="quiet", elem_id=f"{direction}-note")
            face = gr.Radio([], label="Which face?", visible=False, elem_id=f"{direction}-face")
            with gr.Row(elem_classes="actions"):
                download = gr.DownloadButton(
                    f"Download the {target}", visible=False, size="md", elem_id=f"{direction}-download"
                )
                download_whole = gr.DownloadButton(
                    "Download the whole picture", visible=False, size="md", elem_id=f"{direction}-download-whole"
                )
                draw_on = gr.Button("Draw on this sketch", visible=False, size="md", elem_id=f"{direction}-draw-on")

    @plainly
    def again(path, aligned, number, into_whole, name):
        if not path:
            return waiting, "", *(gr.update(visible=False) for _ in (face, download, download_whole, draw_on))
        done = translations().translate(
            direction,
            path,
            models.chosen(name),
            aligned=aligned,
            face=number or LARGEST,
            into_whole=into_whole,
        )
        before, after = (done.whole_before, done.whole_after) if into_whole else (done.before, done.after)
        shown = translations().shown
        view = compare(
            Figure(shown(before), source.capitalize(), f"Your {source}"),
            Figure(shown(after), target.capitalize(), f"The {target} made from your {source}"),
            portrait=shown(done.after),
        )
        choices = [(f"{label[:1].upper()}{label[1:]}", index + 1) for index, label in enumerate(done.faces)]
        return (
            view,
            done.note,
            gr.update(choices=choices, value=(number or LARGEST) if choices else None, visible=len(choices) > 1),
            gr.update(value=file(download, done.after, target), visible=True),
            gr.update(value=file(download_whole, after, "whole") if into_whole else None, visible=into_whole),
            gr.update(visible=target == "sketch"),
        )

    def first(path, aligned, into_whole, name):
        return again(path, aligned, LARGEST, into_whole, name)

    outputs = [result, note, face, download, download_whole, draw_on]
    common = {"outputs": outputs, "trigger_mode": "always_last", "show_progress_on": result, **PAGE_EVENTS}
    picture.change(first, [picture, align, whole, model], **common)
    triggers = [align.input, whole.input, face.input, model.input]
    gr.on(triggers, again, [picture, align, face, whole, model], **common)
    return draw_on


def file(button: gr.DownloadButton, image, name: str) -> str:
    """Write a picture where downloads come from and where the timer deletes it; returns its path."""
    return save_pil_to_cache(image, cache_dir=button.GRADIO_CACHE, name=name, format="png")


def pad(model: gr.Dropdown) -> None:
    """Lay out the pencil pad and the photo that follows it."""

    # Not on the queue: the pad keeps one frame on the way and waits by itself when the server has no time.
    def paint(frame: dict) -> dict:
        work = translations()
        try:
            photo = work.paint(frame.get("drawing"), models.chosen(frame.get("model")))
        except work.BusyError:
            return {"busy": True, "note": "The server is busy; the photo follows in a moment."}
        except work.EXPECTED as error:
            return {"note": work.sentence(error)}
        if photo is None:
            return {"note": "The page is blank: draw a face on it."}
        return {"photo": address(photo, "PNG" if frame.get("exact") else "JPEG")}

    with Image.open(HERE / "examples" / "drawn-8-sketch.png") as example:
        source = address(example)
    board = gr.HTML(
        str(models.offered()[0]),
        html_template=(HERE / "pad.html").read_text(encoding="utf-8"),
        js_on_load=(HERE / "pad.js").read_text(encoding="utf-8"),
        server_functions=[paint],
        example=source,
        elem_id="pad",
        padding=False,
        apply_default_css=False,
    )
    model.change(lambda name: name, model, board, queue=False, api_visibility="private", show_progress="hidden")


def round_trip_tab(model: gr.Dropdown) -> None:
    """Lay out the way there and back."""
    waiting = empty("Choose a picture: you see its translation, the translation of that, and what was lost on the way.")
    with gr.Row(equal_height=False):
        start, picture, align = start_column("trip")
        with gr.Column(scale=3):
            result = gr.HTML(waiting, elem_id="trip-result", padding=False)
            note = gr.Markdown("", elem_classes="quiet", elem_id="trip-note")

    @plainly
    def go(path, kind, aligned, name):
        if not path:
            return waiting, ""
        trip = translations().round_trip(kind, path, models.chosen(name), aligned=aligned)
        other = "sketch" if kind == "photo" else "photo"
        gain = translations().DIFFERENCE_GAIN
        view = row(
            [
                Figure(trip.start, f"Your {kind}", f"Your {kind}"),
                Figure(trip.there, f"Its {other}", f"The {other} made from your {kind}", f"{other}.png"),
                Figure(trip.back, f"{kind.capitalize()} again", f"The {kind} made from that {other}", f"{kind}-again.png"),
                Figure(
                    trip.difference,
                    f"What changed ({gain}x)",
                    f"The difference between your {kind} and the last picture, darker where it is larger",
                    "difference.png",
                ),
            ]
        )
        lost = f"On average the last picture is {trip.mean:.1f} of 255 levels off the first; white means no difference."
        return view, f"{trip.note} {lost}"

    common = {"outputs": [result, note], "trigger_mode": "always_last", "show_progress_on": result, **PAGE_EVENTS}
    gr.on([picture.change, start.input, align.input, model.input], go, [picture, start, align, model], **common)


def variations_tab(model: gr.Dropdown) -> None:
    """Lay out several translations of one picture."""
    waiting = empty("Choose a picture: variants of its translation appear here.")
    with gr.Row(equal_height=False):
        start, picture, align = start_column("vary")
        with gr.Column(scale=3):
            with gr.Row():
                seed = gr.Number(
                    1,
                    precision=0,
                    minimum=0,
                    label="First seed",
                    info="The same seed gives the same picture.",
                    elem_id="vary-seed",
                )
                count = gr.Slider(1, 8, 4, step=1, label="How many", elem_id="vary-count")
            strength = gr.Slider(
                0,
                2,
                1,
                step=0.1,
                label="Strength",
                info="How much of the network is left to chance: 0 nothing, 1 as in training, 2 twice that.",
                elem_id="vary-strength",
            )
            button = gr.Button("Make variants", variant="primary", elem_id="vary-go")
            result = gr.HTML(waiting, elem_id="vary-result", padding=False)
            note = gr.Markdown("", elem_classes="quiet", elem_id="vary-note")

    @plainly
    def go(path, kind, aligned, number, amount, many, name):
        if not path:
            return waiting, ""
        _, made, words = translations().variations(
            STARTS[kind],
            path,
            models.chosen(name),
            aligned=aligned,
            seed=number or 0,
            strength=amount,
            count=int(many),
        )
        other = "sketch" if kind == "photo" else "photo"
        view = row(
            [
                Figure(image, f"Seed {n}", f"The {other} of seed {n} made from your {kind}", f"{other}-{n}.png")
                for n, image in made
            ]
        )
        return view, words

    inputs = [picture, start, align, seed, strength, count, model]
    common = {"outputs": [result, note], "trigger_mode": "always_last", "show_progress_on": result, **PAGE_EVENTS}
    gr.on([picture.change, button.click], go, inputs, **common)
