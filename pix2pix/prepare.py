"""Build a data set of pairs for the Hub, or for a local folder, after finding everything that is wrong with it.

    python -m pix2pix.prepare ROOT --output DIR
    python -m pix2pix.prepare ROOT --push-to-hub USER/NAME --private

ROOT is a folder in any layout that training reads, or one that holds the four archives of the CUHK student set as
downloaded (zipped or unpacked). The result is the same in both cases: parquet files with the pictures inside and a
data set card, which `datasets.load_dataset` and `train.py --dataset` read.

`pix2pix.data` takes seconds to import, so the functions that need it import it: help and slips answer at once.
"""

import argparse
import contextlib
import itertools
import math
import re
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from pix2pix.files import require_writable, whole_folder

if TYPE_CHECKING:
    import pyarrow

    from pix2pix.data import Examined
    from pix2pix.layouts import Split

SHARD_BYTES = 500_000_000
"""Parquet files are divided when a split holds more bytes of pictures than this."""

MAX_ARCHIVE_BYTES = 1_000_000_000
"""Archives are refused when all their pictures together take more than this, unpacked."""

LAYOUTS = ("auto", "folders", "imagefolder", "side-by-side", "saved", "cuhk")

CUHK_SOURCE = (
    "CUHK student set (part of CUFS): X. Wang and X. Tang, Face Photo-Sketch Synthesis and Recognition, IEEE TPAMI "
    "31(11), 2009. The database is offered for research; its terms decide who may receive this copy."
)

_ROWS_AT_ONCE = 64
_MODES = {
    "1": "black and white",
    "P": "palette",
    "PA": "palette with alpha",
    "LA": "grey with alpha",
    "RGBA": "colour with alpha",
    "CMYK": "print colours",
    "YCbCr": "video colours",
    "I": "32-bit grey",
    "I;16": "16-bit grey",
    "I;16B": "16-bit grey",
    "F": "floating-point grey",
}


CARD = """\
---
{metadata}
---

# {title}

Pairs of a photo and a sketch of the same face or thing, of the same size and in the same place.

| split | pairs | people |
|---|---|---|
{rows}

Pictures are {width} pixels wide and {height} high, and stored as they came: lossless where the source was.

| column | what it is |
|---|---|
| `photo` | the photo |
| `sketch` | the sketch of it |
| `person_id` | who it is: pairs with the same value must stay on one side of any division |
| `name` | name of the pair, unique within its split |

## How to load it

```python
from datasets import load_dataset

pairs = load_dataset("{dataset}", split="{split}")
pairs[0]["photo"], pairs[0]["sketch"]
```

Train a translator in both directions on it:

```bash
accelerate launch train.py --dataset {dataset}
```

## Source and terms

{source}

{license}

Pictures of people are personal: do not use them to identify anyone.

## How it was made

`python -m pix2pix.prepare` matched photos and sketches by name and found no missing partner, no unreadable picture, no
pair of two sizes, no picture twice, and no person in two splits.
"""


class Survey(NamedTuple):
    """The splits of a data set, what every picture showed, and the faults and notes that follow, a line each."""

    splits: "dict[str, Split]"
    seen: "dict[str, list[tuple[Examined, Examined]]]"
    faults: list[str]
    notes: list[str]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pix2pix.prepare",
        description="Examine pairs of photos and sketches, report all faults at once, and build a data set from them.",
    )
    parser.add_argument("root", metavar="ROOT", type=Path, help="folder of the pairs, or of the CUHK archives")
    destination = parser.add_mutually_exclusive_group(required=True)
    destination.add_argument("--output", metavar="DIR", type=Path, help="new or empty folder to write the data set to")
    destination.add_argument("--push-to-hub", metavar="USER/NAME", help="data set repository on the Hub to write it to")
    parser.add_argument("--layout", choices=LAYOUTS, default="auto", help="how ROOT is laid out (default: %(default)s)")
    parser.add_argument(
        "--columns",
        nargs=2,
        metavar=("A", "B"),
        default=("photo", "sketch"),
        help="names of the photos and of the sketches in ROOT; side by side: left right (default: photo sketch)",
    )
    parser.add_argument("--private", action="store_true", help="make a new Hub repository private")
    parser.add_argument("--license", metavar="ID", help="licence of the pictures as the Hub names it, cc-by-4.0 say")
    parser.add_argument("--source", metavar="TEXT", help="where the pictures come from, for the card")
    parser.add_argument(
        "--max-pixels",
        metavar="N",
        type=int,
        default=64_000_000,
        help="largest width x height of a picture, in pixels, from 256 on (default: %(default)s)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 if a data set was built, 1 if the pairs have faults. Wrong usage exits with 2."""
    command = parser()
    args = command.parse_args(argv)
    if args.max_pixels < 256:
        command.error(f"--max-pixels must be at least 256, got {args.max_pixels}")
    if args.output is not None:
        if args.private:
            command.error("--private describes a Hub repository; give --push-to-hub, or leave it out")
        if args.output.exists() and not (args.output.is_dir() and not any(args.output.iterdir())):
            command.error(f"--output '{args.output}' exists and is not an empty folder; choose another")

    from pix2pix.cards import HubError
    from pix2pix.hub import check_login, push_dataset

    try:
        if args.push_to_hub is not None:
            check_login(args.push_to_hub)
        with _writable(args.output):
            survey = examine_all(args.root, layout=args.layout, columns=args.columns, max_pixels=args.max_pixels)
    except OSError as error:
        command.error(f"ROOT '{args.root}' cannot be read ({error.strerror or error}); check the path")
    except (ValueError, HubError) as error:
        command.error(str(error))
    for line in (*(f"note: {note}" for note in survey.notes), *survey.faults):
        print(line, file=sys.stderr)
    if survey.faults:
        count = "1 fault" if len(survey.faults) == 1 else f"{len(survey.faults)} faults"
        print(f"{count}; nothing was written", file=sys.stderr)
        return 1

    is_cuhk = args.layout == "cuhk" or (args.layout == "auto" and holds_archives(args.root))
    terms = {
        "source": args.source or (CUHK_SOURCE if is_cuhk else None),
        "license": args.license or ("other" if is_cuhk else None),
    }
    try:
        if args.push_to_hub is not None:
            with tempfile.TemporaryDirectory() as folder:
                write_dataset(survey, Path(folder), dataset=args.push_to_hub, **terms)
                pushed = push_dataset(folder, args.push_to_hub, private=args.private, message="Upload pairs with their card")
            where = pushed.repo_url
        else:
            with whole_folder(args.output) as folder:
                write_dataset(survey, folder, dataset=str(args.output), **terms)
            where = str(args.output)
    except OSError as error:
        command.error(f"the data set cannot be written ({error.strerror or error}); make room, or choose another folder")
    except (ValueError, HubError) as error:
        command.error(str(error))
    counts = ", ".join(f"{name}: {len(split.pairs)}" for name, split in survey.splits.items())
    print(f"wrote the pairs ({counts}) to {where}")
    print(f"train on them: accelerate launch train.py --dataset {args.push_to_hub or args.output}")
    return 0


def examine_all(
    root: Path,
    *,
    layout: str = "auto",
    columns: Sequence[str] = ("photo", "sketch"),
    max_pixels: int = 64_000_000,
) -> Survey:
    """Read all splits, decode every picture, and find what is wrong with them and between them.

    Args:
        root: Folder of the pairs or of the CUHK archives.
        layout: One of `LAYOUTS`.
        columns: What `root` calls its photos and its sketches.
        max_pixels: Larger pictures (width x height) are faults.

    Raises:
        DataError: If there is no data set in `root` at all.
    """
    from pix2pix import data, layouts

    splits, seen, faults = {}, {}, []
    if layout == "cuhk" or (layout == "auto" and holds_archives(root)):
        splits, faults = read_archives(root)
    else:
        readers = layouts.find_splits(root, columns=columns, layout=layout, max_pixels=max_pixels)
        for name, read in readers.items():
            try:
                splits[name] = read()
            except layouts.DataError as error:
                faults.append(str(error))
    splits = dict(sorted(splits.items(), key=lambda item: (item[0] != "train", item[0])))
    pictures: list[Examined] = []
    for name, split in splits.items():
        faults += split.faults
        seen[name], more = data.examine(split.pairs, split=name, root=root, max_pixels=max_pixels, with_digests=True)
        faults += more
        pictures += itertools.chain.from_iterable(seen[name])
        for label, picture in split.unpaired:
            lonely = data.examine_picture(picture, label, max_pixels=max_pixels, with_digest=True)
            pictures.append(lonely)
            faults += [lonely.fault] if lonely.fault else []
        if not re.fullmatch(r"\w+(\.\w+)*", name):
            faults.append(f"split '{name}' cannot be called so on the Hub; use letters, digits and underscores")
        if not len(split.pairs) and not split.faults:
            faults.append(f"split '{name}' is empty; add pairs or remove it")
    return Survey(splits, seen, faults + _repeated(pictures) + _divided(splits, seen), _converted(pictures))


def holds_archives(root: Path) -> bool:
    """Whether a folder holds the CUHK archives, zipped or unpacked: names that say both split and side."""
    return root.is_dir() and any(
        _role(entry.name) and (entry.is_dir() or entry.suffix.lower() == ".zip")
        for entry in (*root.glob("*"), *root.glob("*/*"))
    )


def read_archives(root: Path) -> "tuple[dict[str, Split], list[str]]":
    """Read the CUHK archives: every picture below `root` whose path says train or test, and photo or sketch.

    Zip files are read in memory and never unpacked, so a name inside cannot lead anywhere; one that lies unpacked
    beside itself is passed over.

    Returns:
        The splits, and what is wrong with the archives themselves.
    """
    from pix2pix import layouts

    found: dict[str, dict[str, list]] = defaultdict(lambda: {"photo": [], "sketch": []})
    faults, room = [], MAX_ARCHIVE_BYTES
    for file in sorted(root.rglob("*")):
        place = file.relative_to(root)
        if any(part.startswith((".", "__MACOSX")) for part in place.parts) or not file.is_file():
            continue
        if layouts.is_picture_name(file.name) and (role := _role(place.parent.as_posix())):
            found[role[0]][role[1]].append((place.as_posix(), {"path": str(file), "bytes": None}))
        if file.suffix.lower() != ".zip" or file.with_suffix("").is_dir():
            continue
        try:
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    label = PurePosixPath(place.as_posix(), member.filename.lstrip("/"))
                    role = _role(label.parent.as_posix())
                    if not role or "__MACOSX" in label.parts or not layouts.is_picture_name(label.name):
                        continue
                    room -= member.file_size
                    if room < 0:
                        limit = f"{MAX_ARCHIVE_BYTES:,} bytes of pictures"
                        faults.append(f"the archives hold more than {limit}, reached in '{place}'; unpack them first")
                        return {}, faults
                    try:
                        content = archive.read(member)
                    except Exception as error:  # a damaged or locked member: zlib's, zipfile's and Python's own errors
                        faults.append(f"'{label}' is damaged in the archive ({layouts.one_line(error)}); download it again")
                    else:
                        found[role[0]][role[1]].append((str(label), {"path": str(label), "bytes": content}))
        except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
            # The last is what zipfile raises for a compression, or a version of the format, that it does not know.
            faults.append(f"'{place}' is truncated or no zip file ({layouts.one_line(error)}); download it again")
    if not found and not faults:
        raise layouts.DataError(f"no CUHK archives in '{root}'; their names say training or testing, photos or sketches")
    splits = {}
    for split, sides in found.items():
        missing = [side for side, pictures in sides.items() if not pictures]
        if missing:
            faults.append(f"no archive or folder says {split} and {missing[0]} in its name; add it to '{root}'")
        else:
            splits[split] = layouts.match_pairs(sides["photo"], sides["sketch"], split=split)
    return splits, faults


def write_dataset(survey: Survey, folder: Path, *, dataset: str, license: str | None, source: str | None) -> None:
    """Write parquet files with the pictures inside, and the card.

    Args:
        survey: Pairs without faults.
        folder: Where to write; `data/` and `README.md` are made in it.
        dataset: What `load_dataset` will be given, a Hub id or a folder; for the card.
        license: The Hub's name of the licence.
        source: Where the pictures come from.
    """
    import pyarrow.parquet
    from datasets.table import embed_table_storage

    from pix2pix.layouts import FEATURES

    (folder / "data").mkdir()
    sizes = {}
    for name, split in survey.splits.items():
        sizes[name] = 0
        stored = sum(map(_stored_bytes, split.pairs.with_format("arrow").iter(_ROWS_AT_ONCE)))
        count = min(len(split.pairs), math.ceil(stored / SHARD_BYTES)) or 1
        for index in range(count):
            shard = split.pairs.shard(num_shards=count, index=index, contiguous=True).with_format("arrow")
            file = folder / "data" / f"{name}-{index:05d}-of-{count:05d}.parquet"
            with pyarrow.parquet.ParquetWriter(file, FEATURES.arrow_schema, write_page_checksum=True) as writer:
                for rows in shard.iter(_ROWS_AT_ONCE):
                    rows = embed_table_storage(rows)
                    sizes[name] += rows.nbytes
                    writer.write_table(rows)
    card = dataset_card(survey, folder, dataset=dataset, sizes=sizes, license=license, source=source)
    (folder / "README.md").write_text(card, encoding="utf-8")


def dataset_card(
    survey: Survey, folder: Path, *, dataset: str, sizes: dict[str, int], license: str | None, source: str | None
) -> str:
    """The card of a data set: what the Hub and `load_dataset` read of it, then what people read.

    Args:
        survey: The pairs.
        folder: Where the parquet files lie.
        dataset: A Hub id or a folder.
        sizes: Bytes of each split in memory.
        license: The Hub's name of the licence.
        source: Where the pictures come from.
    """
    from huggingface_hub import DatasetCardData

    pairs = {name: len(split.pairs) for name, split in survey.splits.items()}
    people = {name: len(set(split.pairs["person_id"])) for name, split in survey.splits.items()}
    seen = [picture for split in survey.seen.values() for pair in split for picture in pair]
    widths, heights = ([picture.size[axis] for picture in seen] for axis in (0, 1))
    metadata = DatasetCardData(
        license=license,
        pretty_name=PurePosixPath(dataset).name,
        task_categories=["image-to-image"],
        tags=["pix2pix", "paired-images", "photo", "sketch"],
        size_categories=[_size_category(sum(pairs.values()))],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": name, "path": f"data/{name}-*"} for name in pairs],
            }
        ],
        dataset_info={
            "features": [
                {"name": "photo", "dtype": "image"},
                {"name": "sketch", "dtype": "image"},
                {"name": "person_id", "dtype": "string"},
                {"name": "name", "dtype": "string"},
            ],
            "splits": [{"name": name, "num_bytes": sizes[name], "num_examples": pairs[name]} for name in pairs],
            "download_size": sum(file.stat().st_size for file in folder.glob("data/*")),
            "dataset_size": sum(sizes.values()),
        },
    )
    rows = "\n".join(f"| {name} | {pairs[name]} | {people[name]} |" for name in pairs)
    return CARD.format(
        metadata=metadata.to_yaml(),
        title=PurePosixPath(dataset).name,
        dataset=dataset,
        split=next(iter(pairs)),
        rows=rows,
        width=_span(widths),
        height=_span(heights),
        source=source or "Not stated.",
        license=f"Licence: {license}." if license else "No licence was stated: ask the source before you share it.",
    )


def _size_category(count: int) -> str:
    for limit, words in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if count < limit:
            return words
    return "n>1M"


def _span(values: Sequence[int]) -> str:
    return str(min(values)) if min(values) == max(values) else f"{min(values)} to {max(values)}"


def _role(place: str) -> tuple[str, str] | None:
    """Split and side that a path speaks of, `("train", "photo")` say; where it says several, the last counts."""
    place = place.lower()
    split = max(("train", "test"), key=place.rfind)
    side = max(("photo", "sketch"), key=place.rfind)
    return (split, side) if split in place and side in place else None


def _repeated(pictures: "Sequence[Examined]") -> list[str]:
    """Pictures whose pixels were seen before, in the same or another split."""
    first: dict[str, str] = {}
    faults = []
    for picture in pictures:
        if picture.digest is None:
            continue
        if picture.digest not in first:
            first[picture.digest] = picture.label
        elif first[picture.digest] == picture.label:
            faults.append(f"'{picture.label}' is in several pairs; keep one of them")
        else:
            faults.append(f"'{first[picture.digest]}' and '{picture.label}' are the same picture; remove one")
    return faults


def _divided(splits: "dict[str, Split]", seen: "dict[str, list[tuple[Examined, Examined]]]") -> list[str]:
    """People who are in more than one split."""
    photos: dict[str, dict[str, str]] = defaultdict(dict)
    for name, split in splits.items():
        for person, (photo, _) in zip(split.pairs["person_id"], seen[name], strict=True):
            photos[person].setdefault(name, photo.label)
    return [
        f"person '{person}' is in several splits: {', '.join(f'{name} ({label!r})' for name, label in where.items())}; "
        "keep each person in one"
        for person, where in photos.items()
        if len(where) > 1
    ]


def _converted(pictures: "Sequence[Examined]") -> list[str]:
    """What training will convert: nothing is lost that a photo or a sketch needs, so these are no faults."""
    modes: dict[str, list[str]] = defaultdict(list)
    for picture in pictures:
        if picture.mode not in (None, "RGB", "L"):
            modes[picture.mode].append(picture.label)
    return [
        f"{len(labels)} of {len(pictures)} pictures have mode {mode}{f' ({_MODES[mode]})' if mode in _MODES else ''} "
        f"and are converted when they are read: '{labels[0]}'" + (" and others" if len(labels) > 1 else "")
        for mode, labels in modes.items()
    ]


def _stored_bytes(rows: "pyarrow.Table") -> int:
    pictures = itertools.chain(rows["photo"].to_pylist(), rows["sketch"].to_pylist())
    return sum(Path(p["path"]).stat().st_size if p["bytes"] is None else len(p["bytes"]) for p in pictures)


@contextlib.contextmanager
def _writable(output: Path | None) -> Iterator[None]:
    """Prove that `output` can be written to before the work, and leave no empty folder behind."""
    if output is None:
        yield
        return
    made = [folder for folder in (output, *output.parents) if not folder.exists()]
    require_writable(output, name="--output")
    try:
        yield
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


if __name__ == "__main__":
    sys.exit(main())
