"""Translate picture files: `python -m pix2pix.translate --model ID_OR_DIR --direction photo2sketch INPUT... --output DIR`."""

import argparse
import collections
import glob
import itertools
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pix2pix.directions import DIRECTIONS

THREADS = 2
"""That decode, and as many that encode, beside the network."""


def parser() -> argparse.ArgumentParser:
    """The command line of this program."""
    parser = argparse.ArgumentParser(
        prog="python -m pix2pix.translate",
        description="Translate pictures. One bad file is reported and the rest go on; the exit status is then 1.",
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="picture files, folders of pictures, or globs")
    parser.add_argument("--model", required=True, metavar="ID_OR_DIR", help="Hub id (user/name) or run folder")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument("--direction", choices=DIRECTIONS, default="photo2sketch", help="default: %(default)s")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for the results, NAME.png each")
    parser.add_argument("--align", action="store_true", help="find the face and translate the aligned portrait")
    parser.add_argument("--seed", type=int, help="a variation (dropout on) of this number; default: deterministic")
    parser.add_argument("--batch-size", type=int, default=8, help="pictures at once, at least 1 (default: %(default)s)")
    parser.add_argument("--device", help="cpu, cuda, mps (default: the fastest at hand)")
    parser.add_argument("--max-pixels", type=int, default=64_000_000, help="largest picture, in pixels (default: %(default)s)")
    return parser


def find_pictures(inputs: Sequence[str]) -> list[Path]:
    """The picture files that files, folders and globs stand for, each once, in the order given.

    Raises:
        ValueError: If an input does not exist, or a folder or glob holds no picture.
    """
    from pix2pix.images import SUFFIXES

    found: dict[Path, None] = {}
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
            if not files:
                raise ValueError(f"input '{given}' holds no picture; give a folder with {', '.join(SUFFIXES)} files")
        elif path.is_file():
            files = [path]
        else:
            files = sorted(Path(match) for match in glob.glob(given, recursive=True) if Path(match).is_file())
            if not files:
                raise ValueError(f"input '{given}' does not exist; give a picture, a folder of pictures, or a glob")
        found.update(dict.fromkeys(files))
    return list(found)


def output_names(paths: Sequence[Path]) -> list[str]:
    """`NAME.png` for each input; where two inputs share a name, the input's suffix or folder tells them apart.

    Raises:
        ValueError: If two names still collide.
    """
    stems = [path.stem for path in paths]
    if len(set(stems)) < len(stems):
        stems = [path.name if stems.count(path.stem) > 1 else path.stem for path in paths]
    if len(set(stems)) < len(stems):
        stems = [
            f"{path.parent.name}-{stem}" if stems.count(stem) > 1 else stem for path, stem in zip(paths, stems, strict=True)
        ]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise ValueError(f"inputs must have different names, got several called '{twice[0]}'; translate them in two runs")
    return [f"{stem}.png" for stem in stems]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status: 0, or 1 if a file was left out."""
    command = parser()
    args = command.parse_args(argv)
    if args.batch_size < 1:
        command.error(f"--batch-size must be at least 1, got {args.batch_size}")

    from PIL import Image
    from tqdm import tqdm

    from pix2pix.faces import find_faces
    from pix2pix.files import require_writable
    from pix2pix.images import ImageError, open_image, save_png
    from pix2pix.inference import MINIMUM_SIDE, Translator

    try:
        paths = find_pictures(args.inputs)
        names = output_names(paths)
        targets = {(args.output / name).resolve() for name in names}
        for path in paths:
            if path.resolve() in targets:
                raise ValueError(f"--output '{args.output}' would overwrite the input '{path}'; choose another folder")
        translator = Translator.from_pretrained(args.model, args.direction, args.device, revision=args.revision)
        require_writable(args.output, name="--output")
        if args.align:
            find_faces(Image.new("RGB", (64, 64)))  # a missing detector is known before the first picture
    except (ValueError, ImportError, OSError, RuntimeError, AssertionError) as error:
        # The last two are what torch raises for a device that is not there, or that it was built without.
        command.error(str(error).splitlines()[0])

    failures = 0

    def leave_out(reason: str) -> None:
        nonlocal failures
        failures += 1
        progress.write(f"left out: {reason}", file=sys.stderr)
        progress.update()

    def read(path: Path) -> Image.Image:
        image = open_image(path, max_pixels=args.max_pixels)
        if min(image.size) < MINIMUM_SIDE:
            size = f"{image.width} x {image.height}"
            raise ImageError(f"'{path.name}' must have at least {MINIMUM_SIDE} pixels a side, got {size}")
        return image

    def readable() -> Iterator[tuple[str, Image.Image]]:
        waiting = zip(paths, names, strict=True)
        reading = collections.deque()
        while True:
            # A batch ahead and no further: decoded pictures may be large.
            for path, name in itertools.islice(waiting, args.batch_size - len(reading)):
                reading.append((name, readers.submit(read, path)))
            if not reading:
                return
            name, image = reading.popleft()
            try:
                yield name, image.result()
            except ImageError as error:
                leave_out(str(error))

    def wait_for_writing(most: int) -> None:
        while len(writing) > most:
            name, written = writing.popleft()
            try:
                written.result()
            except OSError as error:  # the disk is full, or no longer there: the next picture may be smaller
                leave_out(f"'{name}' could not be written to '{args.output}' ({error.strerror or error})")
            else:
                progress.update()

    writing = collections.deque()
    # While the network works on one batch, the next is decoded and the last is encoded: PIL lets other threads run.
    with (
        tqdm(total=len(paths), unit="picture", disable=None) as progress,
        ThreadPoolExecutor(THREADS) as readers,
        ThreadPoolExecutor(THREADS) as writers,
    ):
        pictures = readable()
        while batch := list(itertools.islice(pictures, args.batch_size)):
            results = translator([image for _, image in batch], align=args.align, seed=args.seed)
            for (name, _), result in zip(batch, results, strict=True):
                writing.append((name, writers.submit(save_png, result, args.output / name)))
            wait_for_writing(most=args.batch_size)
        wait_for_writing(most=0)
    done = len(paths) - failures
    print(f"{done} of {len(paths)} pictures translated into {args.output}" + (f", {failures} left out" if failures else ""))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
