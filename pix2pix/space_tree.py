"""The folder that a Space's repository gets: the page, the modules it needs, the model, and the versions it was tried with.

Everything lies in it: a Space starts from these files and the packages that `requirements.txt` pins, and asks the Hub for
nothing. The weights are stored in float16, as they are in the page for the visitor's own device.
"""

import ast
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from pix2pix.directions import DIRECTIONS

CARD_NAME = "README.md"
MARK = "<!-- Written by pix2pix.publish: what is changed here by hand is lost at the next publishing. -->"
"""A line of the card of every Space that was published from here; other Spaces are not overwritten."""

# What lies in space/ of a source tree but is not copied: it is made anew.
_MADE = ("requirements.txt", "static", "weights", "__pycache__")


class SpaceError(RuntimeError):
    """A Space that cannot be put together: one sentence with a remedy."""


def write_space(model: str, folder: Path, *, revision: str | None = None, repo_id: str) -> None:
    """Fill an empty folder with all that a Space of the page needs.

    Args:
        model: A run folder or a Hub id.
        folder: An empty folder.
        revision: Branch, tag or commit of the model on the Hub.
        repo_id: "user/name" of the Space, for its title.

    Raises:
        SpaceError: If this is no source tree, a package that the page needs is not installed here, or the model's card
            cannot be fetched or is too long.
        StaticPageError: If the page for the visitor's own device cannot be built.
        ModelError: If the model cannot be loaded.
    """
    from pix2pix.static_page import build

    root = source_tree()
    pins = pinned(root / "space" / "requirements.txt")
    for path in sorted((root / "space").iterdir()):
        if path.name in _MADE or path.name.startswith("."):
            continue
        if path.is_dir():
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        else:
            shutil.copyfile(path, folder / path.name)
    (folder / "pix2pix").mkdir()
    for module in needed_modules(sorted((root / "space").glob("*.py")), root / "pix2pix"):
        shutil.copyfile(root / "pix2pix" / f"{module}.py", folder / "pix2pix" / f"{module}.py")
    shutil.copyfile(root / "LICENSE", folder / "LICENSE")
    _write_weights(model, revision, folder / "weights")
    build(folder / "weights", folder / "static", name=_model_name(model, revision))
    (folder / "requirements.txt").write_text("".join(f"{pin}\n" for pin in pins), encoding="utf-8")
    _write_card(folder, repo_id, model, {"sdk": "gradio", "sdk_version": _version("gradio"), "app_file": "app.py"})


def write_static_space(model: str, folder: Path, *, revision: str | None = None, repo_id: str) -> None:
    """Fill an empty folder with a Space that is nothing but the page for the visitor's own device; as `write_space`."""
    from pix2pix.static_page import build

    build(model, folder, revision=revision, name=_model_name(model, revision))
    shutil.copyfile(source_tree() / "LICENSE", folder / "LICENSE")
    headers = {"cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp"}
    _write_card(folder, repo_id, model, {"sdk": "static", "app_file": "index.html", "custom_headers": headers})


def source_tree() -> Path:
    """The folder that holds `space/` and `pix2pix/`.

    Raises:
        SpaceError: If the package lies elsewhere, installed on its own for instance.
    """
    root = Path(__file__).resolve().parent.parent
    if not (root / "space" / "app.py").is_file():
        raise SpaceError("the page does not lie beside the package; run this in a copy of the project")
    return root


def needed_modules(programs: Iterable[Path], package: Path) -> list[str]:
    """The modules of a package that programs import, directly or through one another, wherever in their code they do."""
    found: set[str] = {"__init__"}
    waiting = list(programs)
    while waiting:
        for module in _imported(waiting.pop(), package.name):
            if module not in found and (package / f"{module}.py").is_file():
                found.add(module)
                waiting.append(package / f"{module}.py")
    return sorted(found)


def _imported(file: Path, package: str) -> Iterable[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith(f"{package}."))


def pinned(requirements: Path) -> list[str]:
    """The packages that a file of requirements names, each at the version installed here.

    What these need in turn is left to the ranges that they state: a Space's builder adds packages of its own to the same
    installation, and those would contradict pins of the rest.

    Raises:
        SpaceError: If one is not installed, or in another version than the file asks for.
    """
    pins = []
    lines = (line.split("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines())
    for requirement in map(Requirement, filter(None, lines)):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            installed = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError as error:
            raise SpaceError(f"{requirement.name} is not installed here; pip install -r requirements.txt") from error
        if not requirement.specifier.contains(installed, prereleases=True):
            raise SpaceError(
                f"{requirement.name} {installed} is installed here, not one of {requirement}; pip install '{requirement}'"
            )
        # A build for some hardware ("2.14.1+cpu") goes by the name that a package index knows.
        extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        pins.append(f"{requirement.name}{extras}=={Version(installed).public}")
    return pins


def _write_weights(model: str, revision: str | None, folder: Path) -> None:
    """Both directions in float16, and the model's card, if it has one, for what the page says about it."""
    import torch

    from pix2pix.downloads import CARD_BYTES, DownloadError, MissingFileError, fetch
    from pix2pix.generator import UNetGenerator

    is_folder = Path(model).is_dir()
    for direction in [name for name in DIRECTIONS if Path(model, name).is_dir()] or DIRECTIONS:
        generator = UNetGenerator.from_pretrained(model, subfolder=direction, revision=revision)
        generator.save_pretrained(folder / direction, dtype=torch.float16)
    if not is_folder:
        try:
            card, _ = fetch(model, CARD_NAME, f"model '{model}'", most=CARD_BYTES, revision=revision)
            shutil.copyfile(card, folder / CARD_NAME)
        except MissingFileError:
            return
        except DownloadError as error:
            raise SpaceError(str(error)) from None
    elif (Path(model) / CARD_NAME).is_file():
        shutil.copyfile(Path(model) / CARD_NAME, folder / CARD_NAME)


def _write_card(folder: Path, repo_id: str, model: str, settings: dict) -> None:
    """The Space's README: how it is run, and what it is."""
    import yaml

    front = {
        "title": repo_id.split("/")[-1].replace("-", " ").capitalize(),
        "emoji": "✏️",
        "colorFrom": "gray",
        "colorTo": "gray",
        **settings,
        "license": "apache-2.0",
        "short_description": "Photos into pencil sketches, and sketches into photos",
        "tags": ["pix2pix", "image-to-image", "sketch"],
    }
    if front["sdk"] == "gradio":
        front["python_version"] = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not Path(model).is_dir():
        front["models"] = [model]
    text = (
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n{MARK}\n\n"
        f"# {front['title']}\n\n"
        "A portrait photo becomes a pencil sketch, and a sketch becomes a photo. The networks are in this repository; they "
        "also run in the visitor's own browser, and then no picture leaves the visitor's machine.\n\n"
        "A translation is a guess, not evidence: **not for identification of people.**\n"
    )
    (folder / CARD_NAME).write_text(text, encoding="utf-8")


def _model_name(model: str, revision: str | None) -> str:
    if Path(model).is_dir():
        return Path(model).resolve().name
    return f"{model}@{revision}" if revision else os.fspath(model)


def _version(package: str) -> str:
    return importlib.metadata.version(package)
