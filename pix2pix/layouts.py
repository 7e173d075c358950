"""How data sets are laid out, and how each layout is read into pairs: matched by name, never by order.

Folders of photos and sketches, folders with a `metadata.csv`, side-by-side pictures, saved data sets, the Hub. Nothing is
decoded before a layout is recognised. What is wrong with a data set is an error; with pictures of a split, faults of it.
"""

import contextlib
import csv
import functools
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import datasets
import huggingface_hub
from PIL import Image

from pix2pix.downloads import CARD_BYTES, DownloadError, MissingFileError, explained, fetch
from pix2pix.images import MAX_PIXELS, SUFFIXES, ImageError, open_image, upright

Layout = Literal["auto", "folders", "imagefolder", "side-by-side", "saved"]

LAYOUTS: tuple[Layout, ...] = ("auto", "folders", "imagefolder", "side-by-side", "saved")

FEATURES = datasets.Features(
    {
        "photo": datasets.Image(),
        "sketch": datasets.Image(),
        "person_id": datasets.Value("string"),
        "name": datasets.Value("string"),
    }
)

SPLIT_NAMES = {"training": "train", "testing": "test", "val": "validation", "valid": "validation"}
"""Other names of splits, in lower case, and what they are called here."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_DOWNLOADS_AT_ONCE = 8

_CUHK_NAME = re.compile(r"([fm])([0-9]?)-([0-9]{3})-([0-9]{2})(?:-sz[0-9]+)?", re.IGNORECASE)
# Control characters, and what Python puts for bytes of a file name that are not UTF-8.
_BROKEN_NAME = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")

# A picture as the datasets library stores it: {"path": str | None, "bytes": bytes | None}.
StoredPicture = dict[str, Any]


class DataError(ValueError):
    """A data set that cannot be used: the message names the thing, the rule and the remedy in one line."""


class Split(NamedTuple):
    """The pairs of one split; why other pictures of it are in no pair, a line each; and these, with their labels."""

    pairs: datasets.Dataset
    faults: list[str]
    unpaired: Sequence[tuple[str, StoredPicture]] = ()


def find_splits(
    root: Path, *, columns: Sequence[str], layout: Layout = "auto", max_pixels: int = MAX_PIXELS
) -> dict[str, Callable[[], Split]]:
    """Find the splits of a local folder.

    Returns:
        For each split a function that reads it; nothing is decoded before it is called.

    Raises:
        DataError: If the folder is missing or empty, or no layout is recognised in it.
    """
    if layout not in LAYOUTS:
        raise DataError(f"layout must be one of {', '.join(LAYOUTS)}, got '{layout}'")
    if len(columns) != 2 or columns[0] == columns[1]:
        raise DataError(f"columns must be two different names, got {' '.join(columns) or 'none'}")
    if not root.is_dir():
        advice = "give a folder"
        if root.suffix.lower() == ".zip":
            advice = "unpack it, or give its folder to python -m pix2pix.prepare"
        raise DataError(f"dataset '{root}' is {'a file' if root.exists() else 'missing'}; {advice}")
    content = [entry for entry in sorted(root.iterdir()) if not entry.name.startswith(".")]
    if not content:
        raise DataError(f"dataset '{root}' is an empty folder; put train/photos/ and train/sketches/ into it")
    # Folders come last: only there do the column names decide whether the layout fits, so its error lists the folders.
    finders = {
        "saved": functools.partial(_saved_splits, root, columns),
        "imagefolder": functools.partial(_imagefolder_splits, root, columns),
        "folders": functools.partial(_folder_splits, root, columns),
        "side-by-side": functools.partial(_side_by_side_splits, root, columns, max_pixels),
    }
    if layout != "auto":
        splits = finders[layout]()
    else:
        splits = finders["saved"]() or finders["imagefolder"]() or finders["folders"]()
    if splits:
        return splits
    there = []
    for entry in content:
        inside = [f"{entry.name}/{folder.name}/" for folder in _folders_in(entry)] if entry.is_dir() else [entry.name]
        there += inside or [f"{entry.name}/"]
    found = ", ".join(there[:6]) + ", ..." * (len(there) > 6)
    expected = {
        "saved": "what save_to_disk wrote, or parquet files",
        "imagefolder": f"metadata.csv with {columns[0]}_file_name and {columns[1]}_file_name",
        "folders": f"{_plural(columns[0])}/ and {_plural(columns[1])}/, or these in train/ and test/",
        "side-by-side": "pictures with the photo on the left and the sketch on the right",
    }
    if layout != "auto":
        raise DataError(f"no {layout} data set in '{root}': expected {expected[layout]}; it holds {found}")
    advice = "name other folders with columns"
    if any(_pictures_in(folder) for folder in (root, *_folders_in(root))):
        advice += ", or choose the layout side-by-side if each picture holds a photo and its sketch"
    if any(entry.suffix.lower() == ".zip" for entry in content):
        advice = "build a data set from the archives with python -m pix2pix.prepare"
    raise DataError(f"no pairs in '{root}': expected {expected['folders']}, but it holds {found}; {advice}")


def person_of(name: str) -> str | None:
    """The person in an official CUHK file name, the same for a photo and its sketch; None for other names.

    `f-005-01.jpg`, `f-005-01-sz1.jpg` and `F2-005-01-sz1.jpg` are the same person; `f1-005-01.jpg` is another.
    """
    match = _cuhk_name(name)
    return match and "-".join(match[:2])


def pair_key(name: str) -> str:
    """What a photo and its sketch have in common: the file name without its ending, or the person and shot of CUHK."""
    match = _cuhk_name(name)
    return "-".join(match) if match else PurePosixPath(name).stem


def is_picture_name(name: str) -> bool:
    """Whether a file of this name counts as a picture; names with a leading dot belong to the system."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES and not name.startswith(".")


def match_pairs(
    photos: Iterable[tuple[str, StoredPicture]],
    sketches: Iterable[tuple[str, StoredPicture]],
    *,
    split: str,
) -> Split:
    """Match photos and sketches by name, never by order.

    Args:
        photos: For each its label (a path that errors call it by; the last part is its name) and the picture.
        sketches: The same.
        split: Where the pairs belong; part of the identity of a pair whose name says nothing of the person.
    """
    faults, unpaired = [], []
    sides: dict[str, dict[str, tuple[str, StoredPicture]]] = {"photo": {}, "sketch": {}}
    for side, pictures in (("photo", photos), ("sketch", sketches)):
        for label, picture in pictures:
            key = pair_key(PurePosixPath(label).name)
            if key in sides[side]:
                first = sides[side][key][0]
                faults.append(f"{side}s '{first}' and '{label}' have the same name; rename or remove one of them")
                unpaired.append((label, picture))
            else:
                sides[side][key] = (label, picture)
    keys = sorted(sides["photo"].keys() & sides["sketch"].keys())
    lonely = {"photo": sorted(sides["photo"].keys() - keys), "sketch": sorted(sides["sketch"].keys() - keys)}
    count = f"{sum(map(len, lonely.values()))} of {len(sides['photo'].keys() | sides['sketch'].keys())} unmatched"
    for side, other in (("photo", "sketch"), ("sketch", "photo")):
        places = sorted({str(PurePosixPath(label).parent) for label, _ in sides[other].values()})
        place = f" in '{places[0]}/'" if places and places[0] != "." else ""
        for key in lonely[side]:
            faults.append(f"{side} '{sides[side][key][0]}' has no {other} of the same name{place} ({count})")
            unpaired.append(sides[side][key])
    names = [PurePosixPath(sides["photo"][key][0]).stem for key in keys]
    return Split(
        make_dataset(
            [sides["photo"][key][1] for key in keys],
            [sides["sketch"][key][1] for key in keys],
            [person_of(name) or f"{split}/{name}" for name in names],
            names,
        ),
        faults,
        unpaired,
    )


def one_line(error: Exception, *, token: str | None = None) -> str:
    """The first line of another library's error; the Hub token, should it be quoted there, is masked."""
    text = str(error).strip()
    for secret in filter(None, (token, huggingface_hub.get_token())):
        for spelling in (secret, repr(secret)[1:-1]):  # errors about headers quote them as Python writes them
            text = text.replace(spelling, "***")
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__


def _folder_splits(root: Path, columns: Sequence[str]) -> dict[str, Callable[[], Split]]:
    def sides_of(folder: Path) -> list[Path | None]:
        names = {entry.name.lower(): entry for entry in _folders_in(folder)}
        spellings = [(column.lower(), _plural(column.lower()), column.lower() + "s") for column in columns]
        return [next((names[name] for name in spelling if name in names), None) for spelling in spellings]

    def read(folder: Path, split: str) -> Split:
        sides = []
        for side, column, other in zip(sides_of(folder), columns, reversed(sides_of(folder)), strict=True):
            if side is None:
                there = ", ".join(entry.name for entry in _folders_in(folder))
                raise DataError(f"'{folder}' has no folder '{_plural(column)}' beside '{other.name}'; folders there: {there}")
            sides.append([(label_of(_at(file), root=root), _at(file)) for file in _pictures_in(side)])
            if not sides[-1]:
                raise DataError(f"'{side}' holds no pictures; their names must end in {', '.join(SUFFIXES)}")
        return match_pairs(*sides, split=split)

    folders = {_split_name(folder): folder for folder in _folders_in(root) if any(sides_of(folder))}
    if not folders and any(sides_of(root)):
        folders = {"train": root}
    return {split: functools.partial(read, folder, split) for split, folder in folders.items()}


def _imagefolder_splits(root: Path, columns: Sequence[str]) -> dict[str, Callable[[], Split]]:
    def read(file: Path, split: str) -> Split:
        try:
            with file.open(encoding="utf-8-sig", newline="") as lines:
                reader = csv.DictReader(lines)
                header, rows = list(reader.fieldnames or ()), list(reader)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"'{file}' cannot be read ({error}); it must be a CSV file in UTF-8") from error
        there = [name.removesuffix("_file_name") for name in header if name.endswith("_file_name")]
        for column in columns:
            if column not in there:
                known = ", ".join(there or header) or "none"
                raise DataError(f"'{file}' has no column '{column}_file_name'; columns there: {known}")
        faults, complete, unpaired = [], [], []
        for number, row in enumerate(rows, 2):
            where = f"line {number} of '{label_of(_at(file), root=root)}'"
            pictures = []
            for side, column in zip(("photo", "sketch"), columns, strict=True):
                name = (row[f"{column}_file_name"] or "").strip()
                path = file.parent / name
                if not name:
                    faults.append(f"{where} names no {side}; fill in {column}_file_name")
                elif PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                    faults.append(f"{where} names '{name}'; a {side} must lie in the folder of its metadata.csv")
                elif not path.is_file():
                    faults.append(f"{where} names the {side} '{name}', which does not exist; add it or remove the line")
                else:
                    pictures.append(_at(path))
            if len(pictures) == 2:
                complete.append((*pictures, (row.get("person_id") or "").strip() or None))
            else:
                unpaired += [(label_of(picture, root=root), picture) for picture in pictures]
        photos, sketches, people = zip(*complete, strict=True) if complete else ((), (), ())
        people, names, more = _identities([photo["path"] for photo in photos], people, None, split=split)
        return Split(make_dataset(photos, sketches, people, names), faults + more, unpaired)

    files = {_split_name(folder): folder / "metadata.csv" for folder in _folders_in(root)}
    files = {split: file for split, file in files.items() if file.is_file()}
    if not files and (root / "metadata.csv").is_file():
        files = {"train": root / "metadata.csv"}
    return {split: functools.partial(read, file, split) for split, file in files.items()}


def _side_by_side_splits(root: Path, columns: Sequence[str], max_pixels: int) -> dict[str, Callable[[], Split]]:
    halves = ["right", "left"] if list(columns) == ["right", "left"] else ["left", "right"]

    def fault_of(file: Path) -> str | None:
        label = label_of(_at(file), root=root)
        try:
            width = upright(open_stored(_at(file), label, max_pixels=max_pixels)).width
        except DataError as error:
            return str(error)
        if width % 2:
            return f"'{label}' is {width} pixels wide; side-by-side pictures must have an even width"
        return None

    def read(folder: Path, split: str) -> Split:
        files = _pictures_in(folder)
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            verdicts = list(pool.map(fault_of, files))
        faults = [fault for fault in verdicts if fault is not None]
        good = [file for file, fault in zip(files, verdicts, strict=True) if fault is None]
        people, names, more = _identities([str(file) for file in good], [None] * len(good), None, split=split)
        # Size and time of each file are arguments, so that the library's cache forgets a file that changed. Tuples,
        # because it takes lists for shards.
        stamps = [(file.stat().st_size, file.stat().st_mtime_ns) for file in good]
        rows = tuple(zip(good, stamps, people, names, strict=True))
        arguments = {"rows": rows, "halves": tuple(halves)}
        try:
            pairs = datasets.Dataset.from_generator(_cut_pairs, features=FEATURES, gen_kwargs=arguments) if good else None
        except (OSError, datasets.exceptions.DatasetGenerationError) as error:
            raise DataError(
                f"the halves of the pictures in '{folder}' cannot be stored ({one_line(error.__cause__ or error)}); "
                "set HF_DATASETS_CACHE to a folder that can be written to"
            ) from error
        return Split(pairs or make_dataset([], [], [], []), faults + more)

    folders = {_split_name(folder): folder for folder in _folders_in(root) if _pictures_in(folder)}
    if not folders and _pictures_in(root):
        folders = {"train": root}
    return {split: functools.partial(read, folder, split) for split, folder in folders.items()}


def _cut_pairs(rows: tuple[tuple[Path, tuple[int, int], str, str], ...], halves: tuple[str, str]) -> Iterator[dict[str, Any]]:
    for file, _, person, name in rows:
        image = upright(open_stored(_at(file), str(file)))
        middle = image.width // 2
        boxes = {"left": (0, 0, middle, image.height), "right": (middle, 0, image.width, image.height)}
        photo, sketch = (as_png(image.crop(boxes[half]), name) for half in halves)
        yield {"photo": photo, "sketch": sketch, "person_id": person, "name": name}


def _saved_splits(root: Path, columns: Sequence[str]) -> dict[str, Callable[[], Split]]:
    try:
        if (root / "dataset_dict.json").is_file():
            found = dict(datasets.load_from_disk(str(root)))
        elif (root / "state.json").is_file() and (root / "dataset_info.json").is_file():
            saved = datasets.load_from_disk(str(root))
            found = {str(saved.split or "train"): saved}
        elif any(file.name != "metadata.parquet" for file in (*root.glob("*.parquet"), *root.glob("*/*.parquet"))):
            found = dict(datasets.load_dataset(str(root)))
        else:
            return {}
    except Exception as error:  # the readers' own errors come through: pyarrow's, JSON's, the system's
        raise DataError(f"'{root}' cannot be read as a saved data set ({one_line(error)}); save it again") from error
    return {
        SPLIT_NAMES.get(split, split): functools.partial(_standard, pairs, columns, split, f"'{root}'")
        for split, pairs in found.items()
    }


def hub_splits(
    dataset: str, *, columns: Sequence[str], revision: str | None, token: str | None
) -> dict[str, Callable[[], Split]]:
    """Find the splits of a data set on the Hub, as `find_splits` finds those of a folder.

    Raises:
        DataError: If there is no such data set, or it cannot be loaded.
    """
    subject = hub_subject(dataset, revision)
    with reading(subject, revision=revision, token=token):
        builder = hub_builder(dataset, revision=revision, token=token)
        if not Path(builder.cache_dir, "dataset_info.json").is_file():
            _fetch_data_files(builder, dataset, subject, token)
        builder.download_and_prepare()
        found = builder.as_dataset()
    return {
        SPLIT_NAMES.get(split, split): functools.partial(_standard, pairs, columns, split, f"'{dataset}'")
        for split, pairs in found.items()
    }


def hub_builder(dataset: str, *, revision: str | None, token: str | None) -> datasets.DatasetBuilder:
    """What reads a data set on the Hub, at the very commit that the revision names now; its `hash` is that commit.

    Raises:
        DataError: If there is no such data set, or the Hub does not answer.
    """
    subject = hub_subject(dataset, revision)
    with reading(subject, revision=revision, token=token):
        options = {"repo_type": "dataset", "token": token, "most": CARD_BYTES}
        try:
            _, commit = fetch(dataset, "README.md", subject, revision=revision, **options)
        except MissingFileError as error:
            commit = error.commit or revision or "main"
        # The library takes one of these that it cannot fetch for one that is not there, and then reads other files.
        for file in (".huggingface.yaml", "dataset_infos.json"):
            known = huggingface_hub.try_to_load_from_cache(dataset, file, repo_type="dataset", revision=commit)
            if known is None or isinstance(known, str):  # else it is known to be missing, and a Hub that is away not asked
                with contextlib.suppress(MissingFileError):
                    fetch(dataset, file, subject, revision=commit, **options)
        try:
            builder = datasets.load_dataset_builder(dataset, revision=commit, token=token)
        except FileNotFoundError:
            # The library takes a repository that it may not look into for an empty one; its file system knows better.
            files = huggingface_hub.HfFileSystem(endpoint=datasets.config.HF_ENDPOINT, token=token)
            files.resolve_path(f"datasets/{dataset}@{commit}")
            raise
        # Of a Hub that does not answer, the library takes whatever commit it happens to have stored last.
        if builder.hash != commit:
            raise DataError(
                f"{subject} could not be fetched (the Hub did not tell all, and commit {commit[:8]} is not in the cache); "
                "try again later"
            )
    return builder


def hub_subject(dataset: str, revision: str | None) -> str:
    """What errors call a data set on the Hub."""
    return f"dataset '{dataset}'" + (f" at revision '{revision}'" if revision else "")


@contextlib.contextmanager
def reading(subject: str, *, revision: str | None = None, token: str | None = None) -> Iterator[None]:
    """Turn what the Hub, the network and the readers of files raise into one sentence of `DataError`.

    Args:
        subject: What the errors call the data set.
        revision: Branch, tag or commit of it on the Hub.
        token: That no error may quote.
    """
    try:
        yield
    except DataError:
        raise
    except DownloadError as error:
        raise DataError(str(error)) from None
    except Exception as error:  # the readers' own errors come through, and everything that a network can do
        huggingface_hub.HfFileSystem.clear_instance_cache()  # it would remember for ever that something is missing
        told = explained(error, subject, revision=revision)
        # Not chained: the client's own errors may quote headers, and so the token.
        raise DataError(
            told or f"{subject} cannot be read ({one_line(error, token=token)}); check what it holds, or try again later"
        ) from None


def _fetch_data_files(builder: datasets.DatasetBuilder, dataset: str, subject: str, token: str | None) -> None:
    """Put the verified data files of a builder where the library looks for them; it compares sizes only."""
    inside = f"hf://datasets/{dataset}@{builder.hash}/"
    files = [str(file) for files in (builder.config.data_files or {}).values() for file in files]
    # What a card takes from other repositories is not verified.
    names = dict.fromkeys(file.removeprefix(inside) for file in files if file.startswith(inside))
    options = {"repo_type": "dataset", "revision": builder.hash, "token": token}
    with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
        list(pool.map(lambda name: fetch(dataset, name, subject, **options), names))


def _standard(pairs: datasets.Dataset, columns: Sequence[str], split: str, where: str) -> Split:
    """Bring a data set of any columns to `photo`, `sketch`, `person_id`, `name`."""
    pictures = [name for name, feature in pairs.features.items() if isinstance(feature, datasets.Image)]
    for column in columns:
        if column not in pairs.column_names:
            raise DataError(f"{where} has no column '{column}'; columns there: {', '.join(pairs.column_names)}")
        if column not in pictures:
            raise DataError(f"column '{column}' of {where} holds no pictures; picture columns: {', '.join(pictures)}")
    split = SPLIT_NAMES.get(split, split)
    stored = as_stored(pairs.with_format(None), columns)
    paths, faults = [], []
    for number, row in enumerate(stored.select_columns(list(columns))):
        paths.append((row[columns[0]] or {}).get("path"))
        for side, column in zip(("photo", "sketch"), columns, strict=True):
            if row[column] is None:
                faults.append(f"row {number} of split '{split}' of {where} has no {side}; remove the row")
    people = list(pairs["person_id"]) if "person_id" in pairs.column_names else [None] * len(paths)
    names = list(pairs["name"]) if "name" in pairs.column_names else None
    people, names, more = _identities(paths, people, names, split=split)
    standard = stored.select_columns(list(columns)).rename_columns(dict(zip(columns, ("photo", "sketch"), strict=True)))
    standard = standard.add_column("person_id", people).add_column("name", names)
    for side in ("photo", "sketch"):
        standard = standard.cast_column(side, datasets.Image())
    return Split(standard, faults + more)


def _identities(
    paths: Sequence[str | None], people: Sequence[str | None], names: Sequence[str | None] | None, *, split: str
) -> tuple[list[str], list[str], list[str]]:
    """People and names of pairs from what a data set says of them and, failing that, from the file names of the photos.

    Returns:
        People, names and faults.
    """
    stems = [PurePosixPath(path).stem if path else None for path in paths]
    if names is None or any(name in (None, "") for name in names):
        unique = None not in stems and len(set(stems)) == len(stems)
        names = stems if unique else [f"{index:06d}" for index in range(len(paths))]
    # Names become file names of translations, so a foreign data set must not lead them out of their folder.
    names = [re.sub(r"[/\\\0]", "_", str(name)).lstrip(".") or f"{index:06d}" for index, name in enumerate(names)]
    people = [
        str(person) if person not in (None, "") else person_of(stem or name) or f"{split}/{name}"
        for person, stem, name in zip(people, stems, names, strict=True)
    ]
    seen: set[str] = set()
    faults = []
    for name in names:
        if name in seen:
            faults.append(f"name '{name}' occurs more than once in split '{split}'; rename all but one")
        seen.add(name)
    return people, names, faults


def make_dataset(
    photos: Sequence[StoredPicture], sketches: Sequence[StoredPicture], people: Sequence[str], names: Sequence[str]
) -> datasets.Dataset:
    """A data set of `FEATURES` from its columns."""
    columns = {"photo": list(photos), "sketch": list(sketches), "person_id": list(people), "name": list(names)}
    return datasets.Dataset.from_dict(columns, features=FEATURES)


def as_stored(pairs: datasets.Dataset, columns: Sequence[str] = ("photo", "sketch")) -> datasets.Dataset:
    """The same pairs with pictures as they are stored: our own gate decodes them, not the library's."""
    for column in columns:
        pairs = pairs.cast_column(column, datasets.Image(decode=False))
    return pairs


def open_stored(picture: StoredPicture | None, label: str, *, max_pixels: int | None = None) -> Image.Image:
    """Decode a stored picture; None for `max_pixels` means it was judged before."""
    if picture is None:
        raise DataError(f"'{label}' is missing; remove the pair")
    source = io.BytesIO(picture["bytes"]) if picture.get("bytes") is not None else picture.get("path") or ""
    try:
        return open_image(source, max_pixels=max_pixels or 10**12, name=label)
    except ImageError as error:
        raise DataError(str(error)) from error


def label_of(picture: StoredPicture | None, otherwise: str = "the picture", root: Path | None = None) -> str:
    """What errors call a picture: its path, within `root` if it lies there."""
    path = picture and picture.get("path")
    # The bare name that travels with a picture's bytes is often the same for a photo and its sketch.
    if not path or (picture.get("bytes") is not None and "/" not in path):
        return otherwise
    if root is not None and Path(path).is_relative_to(root):
        return Path(path).relative_to(root).as_posix()
    return path


def as_png(image: Image.Image, name: str) -> StoredPicture:
    """A picture that comes from no file, as it is stored."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return {"path": f"{name}.png", "bytes": buffer.getvalue()}


def _at(file: Path) -> StoredPicture:
    return {"path": str(file), "bytes": None}


def _pictures_in(folder: Path) -> list[Path]:
    files = sorted(entry for entry in folder.iterdir() if is_picture_name(entry.name) and entry.is_file())
    for file in files:
        if _BROKEN_NAME.search(file.name):
            raise DataError(f"file name {file.name!a} holds control characters or is not UTF-8; rename the file")
    return files


def _folders_in(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _split_name(folder: Path) -> str:
    return SPLIT_NAMES.get(folder.name.lower(), folder.name)


def _plural(column: str) -> str:
    if column.endswith("s"):
        return column
    return column + ("es" if column.endswith(("ch", "sh", "x")) else "s")


def _cuhk_name(name: str) -> tuple[str, str, str] | None:
    match = _CUHK_NAME.fullmatch(PurePosixPath(name).stem)
    if match is None:
        return None
    # Photos of the second session are called f-..., their sketches F2-...; f1-... is the first session, other people.
    letter, session, person, shot = match.groups()
    return letter.lower() + session.replace("2", ""), person, shot


def local_folder(dataset: str | os.PathLike, *, layout: Layout) -> Path | None:
    """Where a data set lies on this machine; None for one that the Hub is to be asked for.

    Raises:
        DataError: If it can be neither.
    """
    root = Path(dataset).expanduser()
    try:
        if root.exists():
            return root
    except OSError as error:
        raise DataError(f"dataset '{dataset}' cannot be read ({error.strerror or error}); check the path") from error
    if layout != "auto":
        raise DataError(f"layout '{layout}' describes local folders, but there is no folder '{dataset}'")
    if not _HUB_ID.fullmatch(str(dataset)):
        raise DataError(f"dataset '{dataset}' does not exist; give a folder, or a Hub id such as 'user/name'")
    return None


def known_split(split: str, splits: Iterable[str], where: str) -> str:
    """The split, if it is one of `splits`.

    Raises:
        DataError: If it is not; `where` is what the error calls the data set.
    """
    if split not in splits:
        raise DataError(f"{where} has no split '{split}'; splits there: {', '.join(sorted(splits))}")
    return split
