"""Build a data set of pairs for the Hub, or for a local folder, after finding everything that is wrong with it.

    python -m pix2pix.prepare PAIRS --output DIR
    python -m pix2pix.prepare PAIRS --push-to-hub USER/NAME --private

PAIRS is a folder in any layout that training reads, or one that holds the four archives of the CUHK student set as
downloaded (zipped or unpacked). The result is the same in both cases: parquet files with the pictures inside and a
data set card, which `datasets.load_dataset` and `train.py --dataset` read.
"""

import argparse
import contextlib
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pix2pix.files import require_writable, whole_folder

if TYPE_CHECKING:
    from pix2pix.data import Examined, Split, StoredPicture

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
    "F": "floating-point grey",
}


class Survey(NamedTuple):
    """What the examination of a data set found: its splits, what every picture showed, faults and notes, a line each."""

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

    from pix2pix.data import DataError  # the libraries take seconds to load: --help and slips need not wait for them

    try:
        if args.push_to_hub is not None:
            _check_hub(args.push_to_hub)
            survey = examine_all(args.root, layout=args.layout, columns=args.columns, max_pixels=args.max_pixels)
        else:
            with _writable(args.output):
                survey = examine_all(args.root, layout=args.layout, columns=args.columns, max_pixels=args.max_pixels)
    except (DataError, ValueError) as error:
        command.error(str(error))
    for note in survey.notes:
        print(f"note: {note}", file=sys.stderr)
    if survey.faults:
        for fault in survey.faults:
            print(fault, file=sys.stderr)
        print(f"{_count(len(survey.faults), 'fault')}; nothing was written", file=sys.stderr)
        return 1

    is_cuhk = args.layout == "cuhk" or (args.layout == "auto" and _holds_archives(args.root))
    source = args.source or (CUHK_SOURCE if is_cuhk else None)
    license = args.license or ("other" if is_cuhk else None)
    try:
        if args.push_to_hub is not None:
            with tempfile.TemporaryDirectory() as folder:
                write_dataset(survey, Path(folder), name=args.push_to_hub, license=license, source=source)
                where = _push(Path(folder), args.push_to_hub, is_private=args.private)
        else:
            with whole_folder(args.output) as folder:
                write_dataset(survey, folder, name=str(args.output), license=license, source=source)
            where = str(args.output)
    except OSError as error:
        command.error(f"the data set cannot be written ({error.strerror or error}); free some space or choose a folder")
    except ValueError as error:
        command.error(str(error))
    pairs = " and ".join(f"{len(split.pairs)} {name}" for name, split in survey.splits.items())
    print(f"wrote {pairs} pairs to {where}")
    print(f"train on them: accelerate launch train.py --dataset {args.push_to_hub or args.output}")
    return 0
