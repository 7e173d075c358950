"""Paired examples: from the Hub, a folder or drawn; checked before work starts, held out by person, jittered jointly.

Whatever the source, `load_pairs` gives a `datasets.Dataset` with the columns `photo`, `sketch` (pictures), `person_id`
and `name` (strings). A `person_id` says which pairs must not be separated; a `name` is unique within its split.
"""

import collections
import csv
import functools
import hashlib
import io
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import datasets
import huggingface_hub
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from pix2pix.images import MAX_PIXELS, SUFFIXES, ImageError, fit, is_grey, open_image, upright
from pix2pix.jitter import moved, redrawn, resettled, retoned
from pix2pix.wedges import filled, wedged

Layout = Literal["auto", "folders", "imagefolder", "side-by-side", "saved"]

LAYOUTS: tuple[Layout, ...] = ("auto", "folders", "imagefolder", "side-by-side", "saved")

MIN_SIDE = 16
"""Pictures with a side below this many pixels are refused."""

DRAWN_TRAIN = 200
"""Drawn people in the train split of the default data."""

DRAWN_TEST = 40
"""Drawn people in its test split; their seeds begin where no train split reaches."""

STREAM_BUFFER = 1000
"""Pairs, as stored, among which a stream is shuffled: the most that is held of it."""

FEATURES = datasets.Features(
    {
        "photo": datasets.Image(),
        "sketch": datasets.Image(),
        "person_id": datasets.Value("string"),
        "name": datasets.Value("string"),
    }
)

_DRAWN_SEEDS = {"train": (0, DRAWN_TRAIN), "test": (1_000_000, DRAWN_TEST)}
_SPLIT_NAMES = {"training": "train", "testing": "test", "val": "validation", "valid": "validation"}
_CUHK_NAME = re.compile(r"([fm])([0-9]?)-([0-9]{3})-([0-9]{2})(?:-sz[0-9]+)?", re.IGNORECASE)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# Control characters, and what Python puts for bytes of a file name that are not UTF-8.
_BROKEN_NAME = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_CACHE_BYTES = 1_000_000_000
_ROWS_AT_ONCE = 256
_READ_AHEAD = 32
_STREAM_SHARDS = 64

# A picture as the datasets library stores it: {"path": str | None, "bytes": bytes | None}.
StoredPicture = dict[str, Any]


class DataError(ValueError):
    """A data set that cannot be used: the message names the thing, the rule and the remedy in one line."""


class Split(NamedTuple):
    """The pairs of one split; why other pictures of it are in no pair, a line each; and these, with their labels."""

    pairs: datasets.Dataset
    faults: list[str]
    unpaired: Sequence[tuple[str, StoredPicture]] = ()


class Examined(NamedTuple):
    """What decoding one picture showed."""

    label: str
    size: tuple[int, int] | None
    mode: str | None
    digest: str | None
    fault: str | None


def load_pairs(
    dataset: str | os.PathLike | None = None,
    *,
    split: str = "train",
    columns: Sequence[str] = ("photo", "sketch"),
    layout: Layout = "auto",
    revision: str | None = None,
    token: str | None = None,
    max_pixels: int = MAX_PIXELS,
    max_pairs: int | None = None,
) -> datasets.Dataset:
    """Load one split of paired pictures, having decoded every picture once so that no fault shows up later.

    Args:
        dataset: A local folder, a Hub id such as "user/name", or None for the drawn faces.
        split: Which split; folders called "val" are the split "validation".
        columns: What the data set calls its photos and its sketches. For folders their names (plurals are found as
            well); for side-by-side pictures "left" and "right", in which the default means photos on the left.
        layout: How a local folder is laid out; "saved" covers `save_to_disk` and parquet files.
        revision: Branch, tag or commit of a Hub data set.
        token: Hub token; by default the one that is logged in.
        max_pixels: Larger pictures (width x height) are refused before they are decoded.
        max_pairs: Load, and check, only this many from the start, for a quick trial; None for all.

    Returns:
        A data set with the columns `photo`, `sketch`, `person_id` and `name`.

    Raises:
        DataError: If the data set, the split or a column does not exist, or a pair of it cannot be trained on.
    """
    split = _SPLIT_NAMES.get(split.lower(), split)
    if dataset is None:
        first, count = _DRAWN_SEEDS[_chosen(split, _DRAWN_SEEDS, "the data set of drawn faces")]
        return _drawn_pairs(first, count if max_pairs is None else min(count, max_pairs))
    root = Path(dataset).expanduser()
    try:
        is_local = root.exists()
        if is_local:
            splits = find_splits(root, columns=columns, layout=layout, max_pixels=max_pixels)
        elif layout != "auto":
            raise DataError(f"layout '{layout}' describes local folders, but there is no folder '{dataset}'")
        else:
            splits = _hub_splits(str(dataset), columns=columns, revision=revision, token=token)
        pairs, faults, _ = splits[_chosen(split, splits, f"'{dataset}'")]()
    except OSError as error:
        raise DataError(f"dataset '{dataset}' cannot be read ({error.strerror or error}); check the path") from error
    if max_pairs is not None and max_pairs < len(pairs):
        pairs = pairs.select(range(max_pairs))
    if not faults:
        _, faults = examine(pairs, split=split, root=root if is_local else None, max_pixels=max_pixels)
    if faults:
        more = f"; {len(faults) - 1} more such lines follow it" if len(faults) > 1 else ""
        remedy = " (python -m pix2pix.prepare lists them all)" if more and is_local else ""
        raise DataError(faults[0] + more + remedy)
    if not len(pairs):
        raise DataError(f"split '{split}' of '{dataset}' is empty; a data set needs at least one pair")
    return pairs


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
        _make_dataset(
            [sides["photo"][key][1] for key in keys],
            [sides["sketch"][key][1] for key in keys],
            [person_of(name) or f"{split}/{name}" for name in names],
            names,
        ),
        faults,
        unpaired,
    )


def examine_picture(
    picture: StoredPicture | None, label: str, *, max_pixels: int = MAX_PIXELS, with_digest: bool = False
) -> Examined:
    """Decode a stored picture; that it is unreadable, too small or too large becomes its fault."""
    try:
        image = _open(picture, label, max_pixels=max_pixels)
    except DataError as error:
        return Examined(label, None, None, None, str(error))
    seen, mode, fault, digest = upright(image), image.mode, None, None
    if min(seen.size) < MIN_SIDE:
        rule = f"pictures must be at least {MIN_SIDE} pixels a side"
        fault = f"'{label}' has {seen.width} x {seen.height} pixels; {rule}"
    if with_digest:
        digest = hashlib.sha256(repr(seen.size).encode() + seen.convert("RGB").tobytes()).hexdigest()
    if "transparency" in image.info:
        mode += " with transparency"
    return Examined(label, seen.size, mode, digest, fault)


def examine(
    pairs: datasets.Dataset,
    *,
    split: str,
    root: Path | None = None,
    max_pixels: int = MAX_PIXELS,
    with_digests: bool = False,
) -> tuple[list[tuple[Examined, Examined]], list[str]]:
    """Decode every picture once.

    Args:
        pairs: What `load_pairs` returns.
        split: Name of the split; errors call pictures without a path by it.
        root: Errors call files by their path within this folder.
        max_pixels: Larger pictures (width x height) are faults.
        with_digests: Whether to compute digests of the pixels, by which equal pictures are found.

    Returns:
        What was seen, photo and sketch of each pair; and the faults, each a line that names the picture: unreadable,
        too small or too large, the two of a pair of different sizes.
    """
    look = functools.partial(examine_picture, max_pixels=max_pixels, with_digest=with_digests)
    seen, faults = [], []
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool, tqdm(total=len(pairs), desc="checking", unit="pair", delay=3) as progress:
        for rows in _stored(pairs).iter(_ROWS_AT_ONCE):
            for side in ("photo", "sketch"):
                rows[f"{side}_label"] = [
                    _label(picture, f"{side} {name} of split {split}", root)
                    for picture, name in zip(rows[side], rows["name"], strict=True)
                ]
            photos = pool.map(look, rows["photo"], rows["photo_label"])
            sketches = pool.map(look, rows["sketch"], rows["sketch_label"])
            seen += zip(photos, sketches, strict=True)
            progress.update(len(rows["name"]))
    for pair in seen:
        faults += [picture.fault for picture in pair if picture.fault]
        if all(picture.size for picture in pair):
            faults += _pair_faults([picture.label for picture in pair], [picture.size for picture in pair])
    return seen, faults


def _size_faults(labels: Sequence[str], sizes: Sequence[tuple[int, int]]) -> list[str]:
    """What the sizes (width, height) of a pair's pictures are wrong in, a line each."""
    rule = f"pictures must be at least {MIN_SIDE} pixels a side"
    small = [
        f"'{label}' has {size[0]} x {size[1]} pixels; {rule}"
        for label, size in zip(labels, sizes, strict=True)
        if min(size) < MIN_SIDE
    ]
    return small + _pair_faults(labels, sizes)


def _pair_faults(labels: Sequence[str], sizes: Sequence[tuple[int, int]]) -> list[str]:
    if sizes[0] == sizes[1]:
        return []
    shown = [f"'{label}' has {size[0]} x {size[1]}" for label, size in zip(labels, sizes, strict=True)]
    return [f"{' pixels but '.join(shown)}; the two of a pair must have the same size"]


def one_line(error: Exception, *, token: str | None = None) -> str:
    """The first line of another library's error; the Hub token, should it be quoted there, is masked."""
    text = str(error).strip()
    for secret in filter(None, (token, huggingface_hub.get_token())):
        for spelling in (secret, repr(secret)[1:-1]):  # errors about headers quote them as Python writes them
            text = text.replace(spelling, "***")
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__


def hold_out(pairs: datasets.Dataset, *, fraction: float = 0.1) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Divide pairs into those to train on and those to validate on, never dividing a person.

    The people with the lowest hashes are held out: the same ones in every run and process, whatever the order.

    Args:
        pairs: What `load_pairs` returns.
        fraction: Share of the people to hold out, 0 to 0.5: rounded, and at least one person unless it is 0.

    Raises:
        DataError: If `fraction` is out of range, or there is only one person to divide.
    """
    if not 0 <= fraction <= 0.5:
        raise DataError(f"validation fraction must be between 0 and 0.5, got {fraction}")
    people = list(pairs["person_id"])
    ranked = sorted(set(people), key=lambda person: hashlib.sha256(person.encode()).digest())
    if fraction > 0 and len(ranked) < 2:
        raise DataError(
            f"validation fraction {fraction} needs at least two people, got {len(ranked)}; add pairs, or give 0 to train on all"
        )
    count = max(1, round(fraction * len(ranked))) if fraction > 0 else 0
    held = set(ranked[:count])
    train = [index for index, person in enumerate(people) if person not in held]
    validation = [index for index, person in enumerate(people) if person in held]
    return pairs.select(train), pairs.select(validation)


def channels_of(pairs: datasets.Dataset, columns: Sequence[str] = ("photo", "sketch")) -> tuple[int, int]:
    """How many channels the two sides need, 1 (grey) or 3 (colour), judged by the first 64 pairs."""
    first = pairs.select(range(min(64, len(pairs))))
    photo, sketch = (
        1 if all(is_grey(_open(picture, column)) for picture in _stored(first, columns)[column]) else 3 for column in columns
    )
    return photo, sketch


class PairedImages(torch.utils.data.Dataset):
    """Pairs as tensors in [-1, 1], the same jitter on both sides.

    A key is an index, or (epoch, index): the jitter is a pure function of (seed, epoch, index), so it is the same with
    any number of workers and after a resume. A plain index means epoch 0. Items are dicts: "photo" and "sketch", each
    (channels, height, width) in [-1, 1].

    Args:
        pairs: What `load_pairs` returns.
        image_size: Height and width of the items, in pixels. Pictures are brought to it as `Translator` does it:
            aspect kept, the rest mirrored.
        jitter_size: Height and width to enlarge to before cropping `image_size` at a random place (section 6.2 of the
            paper: 286, crop 256); None for no such jitter. Unlike the paper, pictures are scaled once, from their own
            size, because scaling twice blurs.
        mirror: Whether a random half of the pairs is mirrored, left to right.
        channels: Channels of photo and sketch, 1 or 3 each.
        seed: Of the jitter; 0 or more.
        max_rotation: Largest random rotation either way, in degrees. With it or `max_warp`, pictures are zoomed either way
            by up to the ratio of the two sizes instead of enlarged and cropped, as `pix2pix.jitter.moved` says.
        max_warp: Standard deviation of random bending, in pixels.
        max_tone: How much the tone of each picture is varied where it is the source, 0 to 1, as `pix2pix.jitter.retoned`
            says. With it or one of the next two, the items also have "photo_source" and "sketch_source".
        max_stroke: How much the hand that drew a sketch is varied where it is the source, 0 to 1, as `redrawn` says.
        background_share: Of the photos whose even background is replaced where they are the source, 0 to 1.
        wedge_share: Of the pictures that get the black borders of a turned scan where they are the source, 0 to 1.
        fill_wedges: Whether the black borders that turned scans have are filled, in source and target.

    Raises:
        ValueError: If `jitter_size` is smaller than `image_size`.
        DataError: If a picture cannot be read.
    """

    def __init__(
        self,
        pairs: datasets.Dataset,
        *,
        image_size: tuple[int, int],
        jitter_size: tuple[int, int] | None = None,
        mirror: bool = True,
        channels: tuple[int, int] = (3, 3),
        seed: int = 0,
        max_rotation: float = 0.0,
        max_warp: float = 0.0,
        max_tone: float = 0.0,
        max_stroke: float = 0.0,
        background_share: float = 0.0,
        wedge_share: float = 0.0,
        fill_wedges: bool = False,
    ) -> None:
        if jitter_size is not None and (jitter_size[0] < image_size[0] or jitter_size[1] < image_size[1]):
            raise ValueError(f"jitter_size must not be smaller than image_size {image_size}, got {jitter_size}")
        self.image_size = image_size
        self.mirror = mirror
        self.channels = channels
        self.seed = seed
        self.max_rotation = max_rotation
        self.max_warp = max_warp
        self.max_tone = max_tone
        self.max_stroke = max_stroke
        self.background_share = background_share
        self.wedge_share = wedge_share
        self.fill_wedges = fill_wedges
        self._is_resampled = max_rotation > 0 or max_warp > 0
        self._zoom = jitter_size[0] / image_size[0] if jitter_size else 1.0
        self._stored_size = image_size if self._is_resampled else jitter_size or image_size
        self._pairs = _stored(pairs)
        self._cache = self._fill_cache()

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        index = range(len(self))[index]
        both = self.read(self._pairs[index]) if self._cache is None else self._cache[index]
        return self.jittered(both, epoch, index)

    def jittered(self, both: Tensor, epoch: int, index: int) -> dict[str, Tensor]:
        """The item that `read` and a key make.

        Args:
            both: (channels of both, height, width), uint8, as `read` gives it.
            epoch: Of the key.
            index: Of the key.
        """
        # A stream of numbers for each kind, so that one kind of jitter does not change another.
        crop, move, background, stroke, light, paper, photo_scan, sketch_scan = (
            np.random.default_rng([self.seed, epoch, index, kind]) for kind in range(8)
        )
        down, right, mirror = crop.random(3)

        # Photo and sketch are channels of one tensor until all that moves pixels is done: they cannot disagree.
        height, width = self.image_size
        if self._is_resampled:
            both = moved(both, move, zoom=self._zoom, max_rotation=self.max_rotation, max_warp=self.max_warp)
        else:
            top, left = int(down * (both.shape[1] - height + 1)), int(right * (both.shape[2] - width + 1))
            both = both[:, top : top + height, left : left + width].float()
        if self.mirror and mirror < 0.5:
            both = both.flip(-1)
        photo, sketch = both.div(127.5).sub(1).split(self.channels)
        if self.max_tone == self.max_stroke == self.background_share == self.wedge_share == 0:
            return {"photo": photo, "sketch": sketch}
        photo_source = resettled(photo, background, self.background_share) if len(photo) == 3 else photo
        sketch_source = redrawn(sketch, stroke, self.max_stroke) if self.max_stroke else sketch
        sources = {
            "photo_source": wedged(retoned(photo_source, light, self.max_tone), photo_scan, self.wedge_share),
            "sketch_source": wedged(retoned(sketch_source, paper, self.max_tone), sketch_scan, self.wedge_share),
        }
        return {"photo": photo, "sketch": sketch, **sources}

    def _fill_cache(self) -> Tensor | None:
        """All pictures as one uint8 tensor (pairs, channels of both, height, width); None if it would be too large."""
        shape = (len(self._pairs), sum(self.channels), *self._stored_size)
        if np.prod(shape, dtype=np.int64) > _CACHE_BYTES:
            return None
        cache = torch.empty(shape, dtype=torch.uint8)
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            start = 0
            for rows in self._pairs.iter(_ROWS_AT_ONCE):
                singles = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
                for index, both in enumerate(pool.map(self.read, singles), start):
                    cache[index] = both
                start += len(singles)
        return cache

    def read(self, pair: dict[str, Any], *, max_pixels: int | None = None) -> Tensor:
        """Decode a pair as it is stored and bring it to its size before jitter: (channels of both, height, width), uint8.

        Args:
            pair: A row of the data set.
            max_pixels: For a pair that nobody has checked yet: the largest picture. None for one that was checked.

        Raises:
            DataError: If a picture cannot be read, or a pair that was not checked is unfit for training.
        """
        labels = [_label(pair[side], f"{side} {pair['name']}") for side in ("photo", "sketch")]
        images = [
            upright(_open(pair[side], label, max_pixels=max_pixels))
            for side, label in zip(("photo", "sketch"), labels, strict=True)
        ]
        if max_pixels is not None and (faults := _size_faults(labels, [image.size for image in images])):
            raise DataError(faults[0])
        sides = []
        for image, channels in zip(images, self.channels, strict=True):
            image = fit(image, self._stored_size)[0].convert("L" if channels == 1 else "RGB")
            side = torch.from_numpy(np.array(image)).view(*self._stored_size, channels).permute(2, 0, 1)
            sides.append(filled(side) if self.fill_wedges else side)
        return torch.cat(sides)


class EpochSampler(torch.utils.data.Sampler):
    """Yields the keys (epoch, index) of `PairedImages` in an order that is a pure function of (seed, epoch).

    Args:
        length: Number of pairs.
        seed: Of the order; 0 or more.
        shuffle: Whether the order is random; without it, it is 0, 1, 2, ...
    """

    def __init__(self, length: int, *, seed: int, shuffle: bool = True) -> None:
        self.length = length
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.length)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        # The epoch is read once: loaders that fetch ahead must not mix two epochs in one pass.
        epoch = self.epoch
        for index in order:
            yield epoch, int(index)


class PairStream:
    """One split of pairs that is read while it is trained on and never held as a whole: memory does not grow with it.

    A person is held out if the hash of who it is lies in the lowest `fraction` of all hashes. `hold_out` takes the people
    with the lowest hashes too, but exactly that share of them, which needs a look at all.

    Hub data sets and parquet files are read in pieces and never stored. Of other local folders the file names are held.

    Args:
        dataset: As for `load_pairs`.
        split: Which split.
        columns: What the data set calls its photos and its sketches.
        layout: How a local folder is laid out.
        revision: Branch, tag or commit of a Hub data set.
        token: Hub token; by default the one that is logged in.
        max_pixels: Larger pictures (width x height) are refused when they are come to, before they are decoded.
        max_pairs: Take only this many from the start; None for all.
        fraction: Share of the people to hold out, 0 to 0.5.

    Raises:
        DataError: If the data set, the split or a column does not exist, nobody is left to train on, or nobody is held
            out though `fraction` is above 0.
    """

    def __init__(
        self,
        dataset: str | os.PathLike | None = None,
        *,
        split: str = "train",
        columns: Sequence[str] = ("photo", "sketch"),
        layout: Layout = "auto",
        revision: str | None = None,
        token: str | None = None,
        max_pixels: int = MAX_PIXELS,
        max_pairs: int | None = None,
        fraction: float = 0.1,
    ) -> None:
        if not 0 <= fraction <= 0.5:
            raise DataError(f"validation fraction must be between 0 and 0.5, got {fraction}")
        self.split = _SPLIT_NAMES.get(split.lower(), split)
        self.max_pixels = max_pixels
        self.max_pairs = max_pairs
        self.fraction = fraction
        self._where = f"split '{self.split}' of '{dataset or 'drawn faces'}'"
        self._source, self._columns = _stream_source(dataset, self.split, columns, layout, revision, token, max_pixels)
        there = self._source(None).column_names or []
        for column in self._columns:
            if column not in there:
                raise DataError(f"{self._where} has no column '{column}'; columns there: {', '.join(there)}")
        if fraction and "person_id" not in there:
            raise DataError(
                f"{self._where} has no column 'person_id', by which a stream holds people out; build the data set with "
                "python -m pix2pix.prepare, or give the validation fraction 0"
            )
        self._identities = [name for name in ("person_id", "name") if name in there]
        self.train_count = self.held_count = 0
        digest = hashlib.sha256()
        for row in self._read(self._identities or list(self._columns)):
            digest.update(repr([row.get("person_id"), row.get("name")]).encode())
            if self._is_held_out(row):
                self.held_count += 1
            else:
                self.train_count += 1
        self.digest = digest.hexdigest()
        """Of the people and names in their order: whether it is the same data set as before."""
        if not self.train_count:
            raise DataError(f"{self._where} holds nobody to train on; a data set needs at least one pair")
        if fraction and not self.held_count:
            raise DataError(
                f"validation fraction {fraction} holds out nobody of the {self.train_count} pairs of {self._where}; "
                "give a larger one, or 0 to train on all"
            )

    def head(self, count: int, *, held_out: bool = False) -> datasets.Dataset:
        """The first pairs to train on, or the first that are held out, loaded and checked as by `load_pairs`.

        Raises:
            DataError: If one of them cannot be used.
        """
        available = self.held_count if held_out else self.train_count
        rows = (row for row in self._read(None) if self._is_held_out(row) == held_out)
        found = [self._standard(row) for row in itertools.islice(rows, min(count, available))]
        pairs = _make_dataset(*([row[name] for row in found] for name in FEATURES))
        _, faults = examine(pairs, split=self.split, max_pixels=self.max_pixels)
        if faults:
            raise DataError(faults[0])
        return pairs

    def rows(self, *, seed: int, epoch: int, buffer_size: int) -> Iterator[dict[str, Any]]:
        """The pairs to train on, as stored, in an order that is a pure function of (seed, epoch)."""
        numbers = np.random.default_rng([seed, epoch])
        # The parts of the data set change places, and then each pair with one of those that are held at the moment. The
        # library's own buffer would hold ten parts at once, and whole blocks of rows for the sake of one row each.
        waiting = []
        for row in self._read(None, parts=int(numbers.integers(2**31))):
            if self._is_held_out(row):
                continue
            waiting.append(self._standard(row))
            if len(waiting) > buffer_size:
                place = int(numbers.integers(len(waiting)))
                waiting[place], waiting[-1] = waiting[-1], waiting[place]
                yield waiting.pop()
        for place in numbers.permutation(len(waiting)):
            yield waiting[place]

    def _read(self, only: list[str] | None, *, parts: int | None = None) -> Iterator[dict[str, Any]]:
        """All rows, or some columns of them; `parts` is the seed of the order of the data set's parts, None for its own."""
        try:
            stream = self._source(only)
            if self.max_pairs is not None:
                stream = stream.take(self.max_pairs)
            if parts is not None:
                stream = stream.shuffle(seed=parts, buffer_size=1, max_buffer_input_shards=1)
            yield from stream
        except DataError:
            raise
        except Exception as error:  # the readers' own errors come through, and everything that a network can do
            raise DataError(f"{self._where} cannot be read ({one_line(error)}); check it, and the connection") from error

    def _is_held_out(self, row: dict[str, Any]) -> bool:
        if not self.fraction:
            return False
        lowest = int.from_bytes(hashlib.sha256(str(row["person_id"]).encode()).digest()[:8], "big")
        return lowest < self.fraction * 2**64

    def _standard(self, row: dict[str, Any]) -> dict[str, Any]:
        photo, sketch = (row[column] for column in self._columns)
        name = str(row.get("name") or PurePosixPath((photo or {}).get("path") or "").stem)
        return {"photo": photo, "sketch": sketch, "person_id": str(row.get("person_id")), "name": name}


class StreamedImages(torch.utils.data.IterableDataset):
    """The pairs of a `PairStream` as the items of `PairedImages`, an epoch after the other.

    Order and jitter are pure functions of (seed, epoch, position in the epoch). A thread reads and decodes ahead.

    Args:
        stream: The pairs.
        seed: Of order and jitter; 0 or more.
        buffer_size: Pairs, as stored, among which the order is random; the parts of a data set change places as well.
        jitter: All else that `PairedImages` takes.

    Raises:
        DataError: While it is iterated over, if a picture cannot be read or is unfit for training.
    """

    def __init__(self, stream: PairStream, *, seed: int = 0, buffer_size: int = STREAM_BUFFER, **jitter: Any) -> None:
        self.stream = stream
        self.seed = seed
        self.buffer_size = buffer_size
        self.epoch = 0
        self._images = PairedImages(_make_dataset([], [], [], []), seed=seed, **jitter)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.stream.train_count

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        # The epoch is read once: what fetches ahead must not mix two epochs in one pass.
        epoch = self.epoch
        rows = enumerate(self.stream.rows(seed=self.seed, epoch=epoch, buffer_size=self.buffer_size))

        def read() -> dict[str, Tensor] | None:
            position, row = next(rows, (None, None))
            if row is None:
                return None
            return self._images.jittered(self._images.read(row, max_pixels=self.stream.max_pixels), epoch, position)

        reader = ThreadPoolExecutor(1)  # one thread: the rows are read in their order
        try:
            ahead = collections.deque(reader.submit(read) for _ in range(_READ_AHEAD))
            while (item := ahead.popleft().result()) is not None:
                ahead.append(reader.submit(read))
                yield item
        finally:
            reader.shutdown(cancel_futures=True)


def _stream_source(
    dataset: str | os.PathLike | None,
    split: str,
    columns: Sequence[str],
    layout: Layout,
    revision: str | None,
    token: str | None,
    max_pixels: int,
) -> tuple[Callable[[list[str] | None], datasets.IterableDataset], Sequence[str]]:
    """What opens a data set as a stream of stored pictures, all columns of it or only some; and its picture columns."""
    root = None if dataset is None else Path(dataset).expanduser()
    is_saved = root is not None and any((root / name).is_file() for name in ("dataset_dict.json", "state.json"))
    is_parquet = root is not None and any((*root.glob("*.parquet"), *root.glob("*/*.parquet")))
    if root is not None and not root.exists() and layout != "auto":
        raise DataError(f"layout '{layout}' describes local folders, but there is no folder '{dataset}'")
    if root is not None and (not root.exists() or (is_parquet and not is_saved and layout in ("auto", "saved"))):
        if not root.exists() and not _HUB_ID.fullmatch(str(dataset)):
            raise DataError(f"dataset '{dataset}' does not exist; give a folder, or a Hub id such as 'user/name'")

        def from_builder(only: list[str] | None) -> datasets.IterableDataset:
            try:
                builder = datasets.load_dataset_builder(str(root if root.exists() else dataset), revision=revision, token=token)
                if only is not None and hasattr(builder.config, "columns"):
                    builder.config.columns = only  # of parquet files the other columns are not even fetched
                found = {_SPLIT_NAMES.get(name, name): stream for name, stream in builder.as_streaming_dataset().items()}
            except Exception as error:  # as in `_hub_splits`
                raise DataError(
                    f"dataset '{dataset}' cannot be streamed ({one_line(error, token=token)}); check the spelling, "
                    "and the token if it is private"
                ) from error
            # A reader of parquet fetches far ahead within what it was told to read: that must be a block, not a file. And
            # more parts make a better order.
            stream = found[_chosen(split, found, f"'{dataset}'")].reshard()
            stream = stream.select_columns(only) if only is not None else stream
            return _undecoded(stream, columns)

        return from_builder, columns

    if root is None:
        first, count = _DRAWN_SEEDS[_chosen(split, _DRAWN_SEEDS, "the data set of drawn faces")]
        pairs = _drawn_pairs(first, count)
    elif is_saved and layout in ("auto", "saved"):
        saved = datasets.load_from_disk(str(root))
        splits = saved if isinstance(saved, datasets.DatasetDict) else {str(saved.split or "train"): saved}
        splits = {_SPLIT_NAMES.get(name, name): pairs for name, pairs in splits.items()}
        pairs = splits[_chosen(split, splits, f"'{dataset}'")]
    else:
        splits = find_splits(root, columns=columns, layout=layout, max_pixels=max_pixels)
        pairs, faults, _ = splits[_chosen(split, splits, f"'{dataset}'")]()
        if faults:
            raise DataError(faults[0])
        columns = ("photo", "sketch")
    shards = max(1, min(_STREAM_SHARDS, len(pairs)))

    def from_table(only: list[str] | None) -> datasets.IterableDataset:
        chosen = pairs if only is None else pairs.select_columns(only)
        return _undecoded(chosen.with_format(None).to_iterable_dataset(num_shards=shards), columns)

    return from_table, columns


def _undecoded(stream: datasets.IterableDataset, columns: Sequence[str]) -> datasets.IterableDataset:
    """The same stream with pictures as they are stored."""
    for column in columns:
        if column in (stream.column_names or ()):
            stream = stream.cast_column(column, datasets.Image(decode=False))
    return stream


@functools.cache
def _drawn_pairs(first: int, count: int) -> datasets.Dataset:
    from pix2pix.drawn_faces import draw_pairs  # only whoever asks for drawn faces loads the drawing

    names = [f"drawn_{seed:07d}" for seed in range(first, first + count)]
    drawn = list(tqdm(draw_pairs(count, first_seed=first), total=count, desc="drawing faces", unit="pair", delay=3))
    photos, sketches = (
        [_as_png(image, name) for image, name in zip(side, names, strict=True)] for side in zip(*drawn, strict=True)
    )
    return _make_dataset(photos, sketches, names, names)


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
            sides.append([(_label(_at(file), root=root), _at(file)) for file in _pictures_in(side)])
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
            where = f"line {number} of '{_label(_at(file), root=root)}'"
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
                unpaired += [(_label(picture, root=root), picture) for picture in pictures]
        photos, sketches, people = zip(*complete, strict=True) if complete else ((), (), ())
        people, names, more = _identities([photo["path"] for photo in photos], people, None, split=split)
        return Split(_make_dataset(photos, sketches, people, names), faults + more, unpaired)

    files = {_split_name(folder): folder / "metadata.csv" for folder in _folders_in(root)}
    files = {split: file for split, file in files.items() if file.is_file()}
    if not files and (root / "metadata.csv").is_file():
        files = {"train": root / "metadata.csv"}
    return {split: functools.partial(read, file, split) for split, file in files.items()}


def _side_by_side_splits(root: Path, columns: Sequence[str], max_pixels: int) -> dict[str, Callable[[], Split]]:
    halves = ["right", "left"] if list(columns) == ["right", "left"] else ["left", "right"]

    def fault_of(file: Path) -> str | None:
        label = _label(_at(file), root=root)
        try:
            width = upright(_open(_at(file), label, max_pixels=max_pixels)).width
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
        return Split(pairs or _make_dataset([], [], [], []), faults + more)

    folders = {_split_name(folder): folder for folder in _folders_in(root) if _pictures_in(folder)}
    if not folders and _pictures_in(root):
        folders = {"train": root}
    return {split: functools.partial(read, folder, split) for split, folder in folders.items()}


def _cut_pairs(rows: tuple[tuple[Path, tuple[int, int], str, str], ...], halves: tuple[str, str]) -> Iterator[dict[str, Any]]:
    for file, _, person, name in rows:
        image = upright(_open(_at(file), str(file)))
        middle = image.width // 2
        boxes = {"left": (0, 0, middle, image.height), "right": (middle, 0, image.width, image.height)}
        photo, sketch = (_as_png(image.crop(boxes[half]), name) for half in halves)
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
        _SPLIT_NAMES.get(split, split): functools.partial(_standard, pairs, columns, split, f"'{root}'")
        for split, pairs in found.items()
    }


def _hub_splits(
    dataset: str, *, columns: Sequence[str], revision: str | None, token: str | None
) -> dict[str, Callable[[], Split]]:
    if not _HUB_ID.fullmatch(dataset):
        raise DataError(f"dataset '{dataset}' does not exist; give a folder, or a Hub id such as 'user/name'")
    try:
        found = datasets.load_dataset(dataset, revision=revision, token=token)
    except Exception as error:  # as above, and everything that a network can do
        where = f"'{dataset}'" + (f" at revision '{revision}'" if revision else "")
        raise DataError(
            f"dataset {where} is neither a folder here nor a data set that could be loaded from the Hub "
            f"({one_line(error, token=token)}); "
            "check the spelling, and the token if it is private"
        ) from error
    return {
        _SPLIT_NAMES.get(split, split): functools.partial(_standard, pairs, columns, split, f"'{dataset}'")
        for split, pairs in found.items()
    }


def _standard(pairs: datasets.Dataset, columns: Sequence[str], split: str, where: str) -> Split:
    """Bring a data set of any columns to `photo`, `sketch`, `person_id`, `name`."""
    pictures = [name for name, feature in pairs.features.items() if isinstance(feature, datasets.Image)]
    for column in columns:
        if column not in pairs.column_names:
            raise DataError(f"{where} has no column '{column}'; columns there: {', '.join(pairs.column_names)}")
        if column not in pictures:
            raise DataError(f"column '{column}' of {where} holds no pictures; picture columns: {', '.join(pictures)}")
    split = _SPLIT_NAMES.get(split, split)
    stored = _stored(pairs.with_format(None), columns)
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


def _make_dataset(
    photos: Sequence[StoredPicture], sketches: Sequence[StoredPicture], people: Sequence[str], names: Sequence[str]
) -> datasets.Dataset:
    columns = {"photo": list(photos), "sketch": list(sketches), "person_id": list(people), "name": list(names)}
    return datasets.Dataset.from_dict(columns, features=FEATURES)


def _stored(pairs: datasets.Dataset, columns: Sequence[str] = ("photo", "sketch")) -> datasets.Dataset:
    """The same pairs with pictures as they are stored: our own gate decodes them, not the library's."""
    for column in columns:
        pairs = pairs.cast_column(column, datasets.Image(decode=False))
    return pairs


def _open(picture: StoredPicture | None, label: str, *, max_pixels: int | None = None) -> Image.Image:
    """Decode a stored picture; None for `max_pixels` means it was judged before."""
    if picture is None:
        raise DataError(f"'{label}' is missing; remove the pair")
    source = io.BytesIO(picture["bytes"]) if picture.get("bytes") is not None else picture.get("path") or ""
    try:
        return open_image(source, max_pixels=max_pixels or 10**12, name=label)
    except ImageError as error:
        raise DataError(str(error)) from error


def _label(picture: StoredPicture | None, otherwise: str = "the picture", root: Path | None = None) -> str:
    """What errors call a picture: its path, within `root` if it lies there."""
    path = picture and picture.get("path")
    # The bare name that travels with a picture's bytes is often the same for a photo and its sketch.
    if not path or (picture.get("bytes") is not None and "/" not in path):
        return otherwise
    if root is not None and Path(path).is_relative_to(root):
        return Path(path).relative_to(root).as_posix()
    return path


def _as_png(image: Image.Image, name: str) -> StoredPicture:
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
    return _SPLIT_NAMES.get(folder.name.lower(), folder.name)


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


def _chosen(split: str, splits: Iterable[str], where: str) -> str:
    if split not in splits:
        raise DataError(f"{where} has no split '{split}'; splits there: {', '.join(sorted(splits))}")
    return split
