"""The models that the page offers: which ones, where they are, and what their cards say. Nothing here needs torch."""

import os
import re
from pathlib import Path
from typing import NamedTuple

VARIABLE = "PIX2PIX_MODEL"
SHIPPED = Path(__file__).resolve().parent / "weights"
CARD_NAME = "README.md"

NO_MODEL = (
    "There is no model here yet. Start the page with `PIX2PIX_MODEL=DIR python space/app.py`, where DIR is a run folder "
    "(`accelerate launch train.py` makes one) or a model on the Hub (`user/name`)."
)


class ModelSource(NamedTuple):
    """Where the weights come from.

    Attributes:
        name: A run folder or a Hub id.
        revision: Branch, tag or commit on the Hub; None for the newest, and for folders.
    """

    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name

    @property
    def is_shipped(self) -> bool:
        """Whether these are the weights that lie beside the page."""
        return self.name == str(SHIPPED)

    @property
    def title(self) -> str:
        """What a person is shown."""
        return "the model that comes with this page" if self.is_shipped else str(self)


def parse(text: str) -> list[ModelSource]:
    """Read a comma-separated list of folders, Hub ids and Hub ids with a revision (`user/name@v1`)."""
    sources = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, revision = (entry, "", "") if Path(entry).is_dir() else entry.partition("@")
        sources.append(ModelSource(name, revision or None))
    return sources


def offered() -> list[ModelSource]:
    """The models that `PIX2PIX_MODEL` names, else the one that comes with the page."""
    return parse(os.environ.get(VARIABLE, "")) or [ModelSource(str(SHIPPED))]


def chosen(name: str | None) -> ModelSource:
    """The offered model of that name; without a name the first.

    Raises:
        LookupError: If the page does not offer it. Whoever calls the page must not make it load something else.
    """
    sources = offered()
    if not name:
        return sources[0]
    for source in sources:
        if name in (str(source), source.title):
            return source
    raise LookupError(f"model must be one of {', '.join(source.title for source in sources)}, got '{name}'")


def card(source: ModelSource) -> str:
    """What the model's card says of it, its scores and its limits, as Markdown without pictures; a sentence if it has none."""
    try:
        text = _card_file(source).read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):  # the Hub's errors are among them
        return f"There is no card for {source.title}, or it cannot be reached now."
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = re.sub(r"^## (How to use|Recipe)\n.*?(?=^## |\Z)", "", text, flags=re.DOTALL | re.MULTILINE)  # not for a visitor
    # Whatever a stranger's card holds, this takes time in proportion to its length: an attempt ends where the next begins.
    text = re.sub(r"<!--.*?(?:-->|\Z)|!\[[^\[\]]*\]\([^()]*\)|<img[^<>]*>", "", text, flags=re.DOTALL)
    return re.sub(r"^#", "###", text.strip(), flags=re.MULTILINE)


def _card_file(source: ModelSource) -> Path:
    if Path(source.name).is_dir():
        return Path(source.name) / CARD_NAME
    from pix2pix.downloads import CARD_BYTES, fetch

    path, _ = fetch(source.name, CARD_NAME, f"model '{source}'", most=CARD_BYTES, revision=source.revision)
    return path
