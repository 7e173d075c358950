"""What the page does with a picture: read it, find the face, translate, go both ways. Pictures and sentences, no widgets.

Importing this brings torch, so the page does it after it has been shown.
"""

import base64
import functools
import io
import threading
from pathlib import Path
from typing import NamedTuple

from limits import BusyError, Gate, cores
from models import NO_MODEL, ModelSource
from PIL import Image, ImageChops, ImageOps, ImageStat

from pix2pix.directions import DIRECTIONS, Direction, source_and_target
from pix2pix.faces import TEMPLATE_SIZE, Face, MissingDetectorError, align, find_faces, put_back
from pix2pix.generator import CONFIG_NAME, WEIGHTS_NAME, ModelError
from pix2pix.images import ImageError, open_image, upright
from pix2pix.inference import MAX_STRENGTH, MINIMUM_SIDE, Translator

MAX_ASPECT = 8
"""How many times longer than wide, or wider than long, a picture may be."""

SHOWN_SIDE = 1024
"""Longest side, in pixels, of the pictures that are shown, and of those that a round trip or a variation works on."""

MAX_DRAWING = 2_000_000
"""Longest drawing that the pad may send, in characters; its page of 400 x 500 pixels takes a fraction of that."""

DIFFERENCE_GAIN = 3
"""How much darker than it is the difference of a round trip is drawn."""

MAX_VARIANTS = 8


class RequestError(ValueError):
    """Something asked for that cannot be done: the message names it, the rule and the remedy."""


EXPECTED = (ImageError, ModelError, MissingDetectorError, RequestError, BusyError, LookupError)
"""What a person, their picture or the model can cause; all else is a bug."""


gate = Gate(cores())
_loading = threading.Lock()


def load_translator(source: ModelSource, direction: Direction) -> Translator:
    """Load one direction of a model, or return it from the cache; a run that has trained on is loaded anew.

    A failure is not remembered: the next request tries again.

    Raises:
        ModelError: If the model cannot be loaded; the message says why and what to do.
    """
    version = None
    folder = Path(source.name) / direction
    if source.is_shipped and not any((Path(source.name) / other / CONFIG_NAME).is_file() for other in DIRECTIONS):
        raise ModelError(NO_MODEL.replace("`", ""))
    if Path(source.name).is_dir():
        if not (folder / CONFIG_NAME).is_file():
            words = " to ".join(source_and_target(direction))
            name = source.title if source.is_shipped else f"the model '{source}'"
            raise ModelError(f"{name} does not translate {words}; train or choose one that does")
        if (folder / WEIGHTS_NAME).is_file():
            version = (folder / WEIGHTS_NAME).stat().st_mtime_ns
    with _loading:  # two first requests must not load it twice
        return _load(source, direction, version)


@functools.lru_cache(maxsize=4 * len(DIRECTIONS))
def _load(source: ModelSource, direction: Direction, version: int | None) -> Translator:
    return Translator.from_pretrained(source.name, direction, revision=source.revision)


def fault(source: ModelSource) -> str:
    """Why the model translates in neither direction, in one sentence; empty if it does."""
    reasons = []
    for direction in DIRECTIONS:
        try:
            load_translator(source, direction)
        except ModelError as error:
            reasons.append(str(error))
    return sentence(reasons[0]) if len(reasons) == len(DIRECTIONS) else ""


def sentence(text: object) -> str:
    """An error's text as a sentence: a capital first, a full stop last."""
    text = str(text).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


class Found(NamedTuple):
    """A picture, and the part of it that is to be translated.

    Attributes:
        whole: The picture, upright.
        portrait: The aligned face, the centre crop, or the whole picture.
        alignment: How the portrait lies in the picture; None if it is the whole.
        faces: One name for each face in the picture, the largest face first.
        note: A sentence that says what is translated.
    """

    whole: Image.Image
    portrait: Image.Image
    alignment: object
    faces: list[str]
    note: str


class Translation(NamedTuple):
    """A translation beside what it was made from.

    Attributes:
        before: The portrait, or the whole picture.
        after: Its translation, of the same size.
        whole_before: The whole picture, upright.
        whole_after: The same with the translation put back into it; None unless that was asked for.
        faces: One name for each face in the picture, the largest first.
        note: A sentence that says what was translated.
    """

    before: Image.Image
    after: Image.Image
    whole_before: Image.Image
    whole_after: Image.Image | None
    faces: list[str]
    note: str


class RoundTrip(NamedTuple):
    """There and back again.

    Attributes:
        start: What it began with.
        there: Its translation.
        back: The translation of that, which would be `start` if nothing were lost.
        difference: Where `back` differs from `start`: white for nothing, the darker the more.
        mean: The mean difference, in levels of 0 to 255.
        note: A sentence that says what was translated.
    """

    start: Image.Image
    there: Image.Image
    back: Image.Image
    difference: Image.Image
    mean: float
    note: str


def read(path: str | None) -> Image.Image:
    """Open an uploaded picture and turn it upright.

    Raises:
        RequestError: If there is none.
        ImageError: If it is no picture, damaged, too large, too small, or too long and thin.
    """
    if not path:
        raise RequestError("choose a picture first")
    image = upright(open_image(path))
    if min(image.size) < MINIMUM_SIDE:
        raise ImageError(
            f"a picture must have at least {MINIMUM_SIDE} pixels a side, got {image.width} x {image.height}; "
            "choose a larger one"
        )
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise ImageError(
            f"a picture may be at most {MAX_ASPECT} times longer than wide, got {image.width} x {image.height}; "
            "cut out the part you mean"
        )
    return image


def find(image: Image.Image, *, aligned: bool, face: int = 1) -> Found:
    """Choose what is to be translated.

    Args:
        image: An upright picture.
        aligned: Whether to look for faces and to bring one to the training geometry.
        face: Which one: 1 for the largest, 2 for the next, and so on.

    Raises:
        RequestError: If there are fewer faces than that.
    """
    if not aligned:
        return Found(image, image, None, [], "The whole picture was translated.")
    faces = find_faces(image)
    if not 1 <= face <= max(1, len(faces)):
        raise RequestError(f"face must be between 1 and {max(1, len(faces))} for this picture, got {face}")
    alignment = align(image, faces[face - 1] if faces else None)
    names = _names(faces)
    if not faces:
        note = "No face was found, so the middle of the picture was translated."
    elif len(faces) == 1:
        note = "The face was found, aligned and translated."
    else:
        note = f"{len(faces)} faces were found; this is {names[face - 1]}."
    return Found(image, alignment.portrait, alignment, names, note)


def _names(faces: list[Face]) -> list[str]:
    """Name faces by where they stand: "the first from the left (largest)"."""
    ordinals = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
    from_left = sorted(faces, key=lambda face: face.box.left + face.box.right)
    names = []
    for size, face in enumerate(faces):
        place = from_left.index(face)
        name = ordinals[place] if place < len(ordinals) else f"number {place + 1}"
        names.append(f"the {name} from the left" + (" (the largest)" if size == 0 else ""))
    return names


def translate(
    direction: Direction,
    path: str | None,
    source: ModelSource,
    *,
    aligned: bool,
    face: int = 1,
    into_whole: bool = False,
    seed: int | None = None,
    strength: float = 1.0,
) -> Translation:
    """Translate one picture.

    Args:
        direction: "photo2sketch" or "sketch2photo".
        path: The picture's file.
        source: The model.
        aligned: As for `find`.
        face: As for `find`.
        into_whole: Whether to put the translation back into the whole picture as well.
        seed: None for the plain translation, a number for the variation of that number.
        strength: How far a variation may go, from 0 to 2.

    Raises:
        ImageError, ModelError, MissingDetectorError, RequestError: With one sentence about what to do.
    """
    _require_variation(seed, strength)
    translator = load_translator(source, direction)
    with gate.patient():
        found = find(read(path), aligned=aligned, face=face)
        after = translator(found.portrait, seed=seed, strength=strength)
        whole = None
        if into_whole:
            whole = after if found.alignment is None else put_back(found.whole, after, found.alignment)
    return Translation(found.portrait, after, found.whole, whole, found.faces, found.note)


def round_trip(start: str, path: str | None, source: ModelSource, *, aligned: bool) -> RoundTrip:
    """Translate a picture, and its translation back.

    Args:
        start: What the picture is: "photo" or "sketch".
        path: The picture's file.
        source: The model.
        aligned: As for `find`.

    Raises:
        ImageError, ModelError, MissingDetectorError, RequestError: With one sentence about what to do.
    """
    if start not in ("photo", "sketch"):
        raise RequestError(f"start must be 'photo' or 'sketch', got '{start}'")
    ways = DIRECTIONS if start == "photo" else DIRECTIONS[::-1]
    first, second = (load_translator(source, way) for way in ways)
    with gate.patient():
        found = find(read(path), aligned=aligned)
        begin = shown(found.portrait)
        there = first(begin)
        back = second(there)
    return RoundTrip(begin, there, back, *difference(begin, back), found.note)


def difference(first: Image.Image, second: Image.Image) -> tuple[Image.Image, float]:
    """Where two pictures of one size differ: a picture (white for nothing, `DIFFERENCE_GAIN` times enlarged) and the mean.

    If either is grey, both are compared as grey.
    """
    mode = "L" if "L" in (first.mode, second.mode) else "RGB"
    gap = ImageChops.difference(first.convert(mode), second.convert(mode))
    mean = sum(ImageStat.Stat(gap).mean) / len(gap.getbands())
    enlarged = gap.convert("L").point(lambda level: min(255, DIFFERENCE_GAIN * level))
    return ImageOps.invert(enlarged), mean


def variations(
    direction: Direction,
    path: str | None,
    source: ModelSource,
    *,
    aligned: bool,
    seed: int,
    strength: float,
    count: int,
) -> tuple[Image.Image, list[tuple[int, Image.Image]], str]:
    """Translate one picture several times, each with a seed of its own.

    Returns:
        What was translated; seed and picture of each variant, from `seed` upwards; and a sentence about them.

    Raises:
        ImageError, ModelError, MissingDetectorError, RequestError: With one sentence about what to do.
    """
    if not 1 <= count <= MAX_VARIANTS:
        raise RequestError(f"the number of variants must be between 1 and {MAX_VARIANTS}, got {count}")
    _require_variation(seed, strength)
    translator = load_translator(source, direction)
    with gate.patient():
        found = find(read(path), aligned=aligned)
        begin = shown(found.portrait)
        made = [(number, translator(begin, seed=number, strength=strength)) for number in range(seed, seed + count)]
    note = found.note
    if not translator.generator.config.get("dropout"):
        note += " This model was trained without dropout, so its variants are all alike."
    return begin, made, note


def _require_variation(seed: int | None, strength: float) -> None:
    if seed is not None and not 0 <= seed < 2**31:
        raise RequestError(f"seed must be between 0 and 2147483647, got {seed}")
    if not 0 <= strength <= MAX_STRENGTH:
        raise RequestError(f"strength must be between 0 and {MAX_STRENGTH:g}, got {strength}")


def paint(drawing: str, source: ModelSource) -> Image.Image | None:
    """Make the photo of a drawing from the pad; None while the page is blank.

    Args:
        drawing: A PNG as a `data:` address.
        source: The model.

    Raises:
        BusyError: If the server has no time for it now; the pad asks again.
        ImageError, ModelError, RequestError: With one sentence about what to do.
    """
    start = "data:image/png;base64,"
    if not isinstance(drawing, str) or not drawing.startswith(start) or len(drawing) > MAX_DRAWING:
        raise RequestError("drawing must be a PNG of the pad; load the page again")
    try:
        data = base64.b64decode(drawing[len(start) :], validate=True)
    except ValueError as error:
        raise RequestError("drawing must be a PNG of the pad; load the page again") from error
    translator = load_translator(source, "sketch2photo")
    with gate.impatient():
        page = upright(open_image(io.BytesIO(data), max_pixels=1_000_000, name="the drawing")).convert("L")
        if min(page.size) < MINIMUM_SIDE:
            raise ImageError(f"the drawing must have at least {MINIMUM_SIDE} pixels a side, got {page.width} x {page.height}")
        if page.getextrema()[0] > 250:
            return None
        return translator(page.resize(TEMPLATE_SIZE, Image.Resampling.LANCZOS))


def shown(image: Image.Image) -> Image.Image:
    """The picture itself, or a smaller one if a side of it is longer than `SHOWN_SIDE`."""
    if max(image.size) <= SHOWN_SIDE:
        return image
    return ImageOps.contain(image, (SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.LANCZOS)
