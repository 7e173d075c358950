"""Pictures as HTML: side by side, or one over the other with a divider. They travel inside the page, not through files."""

import base64
import html
import io
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageOps

COMPARE_JS = """
// The divider's place is kept on the component, which stays when its content changes.
element.addEventListener("input", (event) => {
  if (event.target.matches(".compare-slider")) element.style.setProperty("--at", event.target.value + "%");
});
"""

THUMBNAILS_JS = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-name]");
  if (button) trigger("select", { name: button.dataset.name });
});
"""


class Thumbnail(NamedTuple):
    """A small picture to pick.

    Attributes:
        image: The picture.
        alt: What it shows.
        name: What it is called when it is picked.
    """

    image: Image.Image
    alt: str
    name: str


class Figure(NamedTuple):
    """A picture with its words.

    Attributes:
        image: The picture.
        caption: What stands under it.
        alt: What it shows, for those who do not see it.
        file_name: What it is called when downloaded; without a name there is no link to download it.
    """

    image: Image.Image
    caption: str
    alt: str
    file_name: str = ""


def address(image: Image.Image, kind: str = "PNG") -> str:
    """The picture as a `data:` address, lossless as "PNG" or small as "JPEG"."""
    buffer = io.BytesIO()
    options = {"quality": 90} if kind == "JPEG" else {}
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def empty(words: str) -> str:
    """What stands where a picture will be."""
    return f'<div class="empty"><p>{html.escape(words)}</p></div>'


def compare(before: Figure, after: Figure, *, portrait: Image.Image) -> str:
    """One picture over another of the same size, with a divider that is moved by mouse, finger or arrow keys.

    Args:
        before: The picture on the left.
        after: The picture on the right.
        portrait: What the pad starts from when it is told to draw on this.
    """
    width, height = after.image.size
    label = f"How much of the {before.caption.lower()} is shown, in percent"
    return (
        f'<figure class="compare" data-drawing="{address(portrait)}">'
        f'<div class="compare-pictures" style="aspect-ratio: {width} / {height}">'
        f'<img class="compare-before" src="{address(before.image)}" alt="{html.escape(before.alt)}">'
        f'<img class="compare-after" src="{address(after.image)}" alt="{html.escape(after.alt)}">'
        '<div class="compare-divider" aria-hidden="true"></div>'
        f'<input class="compare-slider" type="range" min="0" max="100" value="50" aria-label="{html.escape(label)}">'
        "</div><figcaption><span>"
        f"{html.escape(before.caption)}</span><span>{html.escape(after.caption)}</span></figcaption></figure>"
    )


def row(figures: Sequence[Figure]) -> str:
    """Pictures side by side, as many as there is room for, each with its caption and a link to download it."""
    parts = []
    for figure in figures:
        source = address(figure.image)
        link = f'<a href="{source}" download="{html.escape(figure.file_name)}">Download</a>' if figure.file_name else ""
        parts.append(
            f'<figure><img src="{source}" alt="{html.escape(figure.alt)}">'
            f"<figcaption><span>{html.escape(figure.caption)}</span>{link}</figcaption></figure>"
        )
    return f'<div class="figures">{"".join(parts)}</div>'


def thumbnails(title: str, pictures: Sequence[Thumbnail]) -> str:
    """Small pictures to pick, under a title."""
    buttons = []
    for picture in pictures:
        small = ImageOps.fit(picture.image.convert("RGB"), (160, 200), Image.Resampling.LANCZOS)
        buttons.append(
            f'<button type="button" data-name="{html.escape(picture.name)}">'
            f'<img src="{address(small, "JPEG")}" alt="{html.escape(picture.alt)}"></button>'
        )
    return f'<p class="quiet">{html.escape(title)}</p><div class="thumbnails">{"".join(buttons)}</div>'
