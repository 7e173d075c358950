"""Paired examples: from the Hub, a folder or drawn; checked before work starts, held out by person, jittered jointly.

Whatever the source, `load_pairs` gives a `datasets.Dataset` with the columns `photo`, `sketch` (pictures), `person_id`
and `name` (strings). A `person_id` says which pairs must not be separated; a `name` is unique within its split.
"""

import functools
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import datasets
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pix2pix.images import MAX_PIXELS, fit, is_grey, upright
from pix2pix.jitter import moved, outlined, redrawn, resettled, retoned
from pix2pix.layouts import (
    SPLIT_NAMES,
    DataError,
    Layout,
    StoredPicture,
    as_png,
    as_stored,
    find_splits,
    hub_splits,
    known_split,
    label_of,
    local_folder,
    make_dataset,
    open_stored,
)
from pix2pix.wedges import filled, wedged

T = TypeVar("T")

MIN_SIDE = 16
"""Pictures with a side below this many pixels are refused."""

DRAWN_TRAIN = 200
"""Drawn people in the train split of the default data."""

DRAWN_TEST = 40
"""Drawn people in its test split; their seeds begin where no train split reaches."""

_DRAWN_SEEDS = {"train": (0, DRAWN_TRAIN), "test": (1_000_000, DRAWN_TEST)}
_CACHE_BYTES = 1_000_000_000
_ROWS_AT_ONCE = 256


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
    split = SPLIT_NAMES.get(split.lower(), split)
    if dataset is None:
        first, count = _DRAWN_SEEDS[known_split(split, _DRAWN_SEEDS, "the data set of drawn faces")]
        return _drawn_pairs(first, count if max_pairs is None else min(count, max_pairs))
    root = local_folder(dataset, layout=layout)
    try:
        if root is None:
            splits = hub_splits(str(dataset), columns=columns, revision=revision, token=token)
        else:
            splits = find_splits(root, columns=columns, layout=layout, max_pixels=max_pixels)
        pairs, faults, _ = splits[known_split(split, splits, f"'{dataset}'")]()
    except OSError as error:
        raise DataError(f"dataset '{dataset}' cannot be read ({error.strerror or error}); check the path") from error
    if max_pairs is not None and max_pairs < len(pairs):
        pairs = pairs.select(range(max_pairs))
    if not faults:
        _, faults = examine(pairs, split=split, root=root, max_pixels=max_pixels)
    if faults:
        more = f"; {len(faults) - 1} more such lines follow it" if len(faults) > 1 else ""
        remedy = " (python -m pix2pix.prepare lists them all)" if more and root else ""
        raise DataError(faults[0] + more + remedy)
    if not len(pairs):
        raise DataError(f"split '{split}' of '{dataset}' is empty; a data set needs at least one pair")
    return pairs


def examine_picture(
    picture: StoredPicture | None, label: str, *, max_pixels: int = MAX_PIXELS, with_digest: bool = False
) -> Examined:
    """Decode a stored picture; that it is unreadable, too small or too large becomes its fault."""
    try:
        image = open_stored(picture, label, max_pixels=max_pixels)
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
        for rows in as_stored(pairs).iter(_ROWS_AT_ONCE):
            for side in ("photo", "sketch"):
                rows[f"{side}_label"] = [
                    label_of(picture, f"{side} {name} of split {split}", root)
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
        1 if all(is_grey(open_stored(picture, column)) for picture in as_stored(first, columns)[column]) else 3
        for column in columns
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
        outline_share: Of the sketches of which only outlines are left where they are the source, 0 to 1.
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
        outline_share: float = 0.0,
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
        self.outline_share = outline_share
        self.background_share = background_share
        self.wedge_share = wedge_share
        self.fill_wedges = fill_wedges
        self._is_resampled = max_rotation > 0 or max_warp > 0
        self._zoom = jitter_size[0] / image_size[0] if jitter_size else 1.0
        self._stored_size = image_size if self._is_resampled else jitter_size or image_size
        self._pairs = as_stored(pairs)
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
        crop, move, background, stroke, light, paper, photo_scan, sketch_scan, outline = (
            np.random.default_rng([self.seed, epoch, index, kind]) for kind in range(9)
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
        if self.max_tone == self.max_stroke == self.outline_share == self.background_share == self.wedge_share == 0:
            return {"photo": photo, "sketch": sketch}
        photo_source = resettled(photo, background, self.background_share) if len(photo) == 3 else photo
        sketch_source = redrawn(sketch, stroke, self.max_stroke) if self.max_stroke else sketch
        sketch_source = outlined(sketch_source, outline, self.outline_share)
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
        labels = [label_of(pair[side], f"{side} {pair['name']}") for side in ("photo", "sketch")]
        images = [
            upright(open_stored(pair[side], label, max_pixels=max_pixels))
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


def ahead(batches: Iterable[T]) -> Iterator[T]:
    """Yield what `batches` yields; a thread asks it for the next one while the caller uses the last.

    Args:
        batches: Asked by one thread at a time, always the same, and for one more than is used so far.

    Raises:
        Exception: What `batches` raises, when its turn has come.
    """
    iterator, end = iter(batches), object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        # One processor thread there: helpers of its own would keep the cores busy with waiting while the caller computes.
        count = torch.get_num_threads()
        thread.submit(_compute_alone).result()
        torch.set_num_threads(count)  # what the other thread has set is also what part of PyTorch and later threads go by
        following = thread.submit(next, iterator, end)
        while (batch := following.result()) is not end:
            following = thread.submit(next, iterator, end)
            yield batch


def _compute_alone() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # a thread takes over the number when it first asks


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


@functools.cache
def _drawn_pairs(first: int, count: int) -> datasets.Dataset:
    from pix2pix.drawn_faces import draw_pairs  # only whoever asks for drawn faces loads the drawing

    names = [f"drawn_{seed:07d}" for seed in range(first, first + count)]
    drawn = list(tqdm(draw_pairs(count, first_seed=first), total=count, desc="drawing faces", unit="pair", delay=3))
    photos, sketches = (
        [as_png(image, name) for image, name in zip(side, names, strict=True)] for side in zip(*drawn, strict=True)
    )
    return make_dataset(photos, sketches, names, names)
