"""Pairs that are read while they are trained on: memory does not grow with their number, and every epoch can be repeated."""

import collections
import copy
import functools
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any

import datasets
import numpy as np
import torch
from pyarrow.dataset import ParquetFragmentScanOptions
from torch import Tensor

from pix2pix.data import PairedImages, examine, load_pairs
from pix2pix.images import MAX_PIXELS
from pix2pix.layouts import (
    FEATURES,
    SPLIT_NAMES,
    DataError,
    Layout,
    find_splits,
    hub_builder,
    hub_subject,
    known_split,
    local_folder,
    make_dataset,
    reading,
)

STREAM_BUFFER = 1000
"""Pairs, as stored, among which a stream is shuffled: the most that is held of it."""

_READ_AHEAD = 32
_SHARDS = 64


class PairStream:
    """One split of pairs that is read while it is trained on and never held as a whole: memory does not grow with it.

    A person is held out if the hash of who it is lies in the lowest `fraction` of all hashes. `hold_out` takes the people
    with the lowest hashes too, but exactly that share of them, which needs a look at all.

    Hub data sets and parquet files are read in pieces and never stored. Of other local folders the file names are held.
    What a Hub data set holds at the beginning is what is read of it until the end: at the commit of that moment.

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
        self.split = SPLIT_NAMES.get(split.lower(), split)
        self.max_pixels = max_pixels
        self.max_pairs = max_pairs
        self.fraction = fraction
        self._where = f"split '{self.split}' of '{dataset or 'drawn faces'}'"
        self._token = token
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
        for row in self._read(tuple(self._identities or self._columns)):
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
        pairs = make_dataset(*([row[name] for row in found] for name in FEATURES))
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

    def _read(self, only: tuple[str, ...] | None, *, parts: int | None = None) -> Iterator[dict[str, Any]]:
        """All rows, or some columns of them; `parts` is the seed of the order of the data set's parts, None for its own."""
        with reading(self._where, token=self._token):
            stream = self._source(only)
            if self.max_pairs is not None:
                stream = stream.take(self.max_pairs)
            if parts is not None:
                stream = stream.shuffle(seed=parts, buffer_size=1, max_buffer_input_shards=1)
            yield from stream

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
        self._images = PairedImages(make_dataset([], [], [], []), seed=seed, **jitter)

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
) -> tuple[Callable[[tuple[str, ...] | None], datasets.IterableDataset], Sequence[str]]:
    """What opens a data set as a stream of stored pictures, all columns of it or only some; and its picture columns."""
    root = None if dataset is None else local_folder(dataset, layout=layout)
    is_saved = root is not None and any((root / name).is_file() for name in ("dataset_dict.json", "state.json"))
    is_parquet = root is not None and any((*root.glob("*.parquet"), *root.glob("*/*.parquet")))
    if dataset is not None and (root is None or (is_parquet and not is_saved and layout in ("auto", "saved"))):
        subject = hub_subject(dataset, revision) if root is None else f"dataset '{dataset}'"
        with reading(subject, token=token):
            if root is None:
                builder = hub_builder(str(dataset), revision=revision, token=token)
            else:
                builder = datasets.load_dataset_builder(str(root))

        @functools.cache  # opened once: at the beginning of an epoch the Hub is asked for nothing but the pairs
        def from_builder(only: tuple[str, ...] | None) -> datasets.IterableDataset:
            with reading(subject, token=token):
                reader = copy.deepcopy(builder)
                if hasattr(reader.config, "fragment_scan_options"):  # pages that carry a checksum are held against it
                    reader.config.fragment_scan_options = ParquetFragmentScanOptions(page_checksum_verification=True)
                if only is not None and hasattr(reader.config, "columns"):
                    reader.config.columns = list(only)  # of parquet files the other columns are not even fetched
                found = {SPLIT_NAMES.get(name, name): stream for name, stream in reader.as_streaming_dataset().items()}
                # A reader of parquet fetches far ahead within what it was told to read: that must be a block, not a file.
                # And more parts make a better order.
                stream = found[known_split(split, found, f"'{dataset}'")].reshard()
            stream = stream.select_columns(list(only)) if only is not None else stream
            return _undecoded(stream, columns)

        return from_builder, columns

    if root is None:
        pairs = load_pairs(split=split)
    elif is_saved and layout in ("auto", "saved"):
        with reading(f"dataset '{dataset}'"):
            saved = datasets.load_from_disk(str(root))
        splits = saved if isinstance(saved, datasets.DatasetDict) else {str(saved.split or "train"): saved}
        splits = {SPLIT_NAMES.get(name, name): pairs for name, pairs in splits.items()}
        pairs = splits[known_split(split, splits, f"'{dataset}'")]
    else:
        splits = find_splits(root, columns=columns, layout=layout, max_pixels=max_pixels)
        pairs, faults, _ = splits[known_split(split, splits, f"'{dataset}'")]()
        if faults:
            raise DataError(faults[0])
        columns = ("photo", "sketch")
    shards = max(1, min(_SHARDS, len(pairs)))

    def from_table(only: tuple[str, ...] | None) -> datasets.IterableDataset:
        chosen = pairs if only is None else pairs.select_columns(list(only))
        return _undecoded(chosen.with_format(None).to_iterable_dataset(num_shards=shards), columns)

    return from_table, columns


def _undecoded(stream: datasets.IterableDataset, columns: Sequence[str]) -> datasets.IterableDataset:
    """The same stream with pictures as they are stored."""
    for column in columns:
        if column in (stream.column_names or ()):
            stream = stream.cast_column(column, datasets.Image(decode=False))
    return stream
