"""Translate picture files: `python -m pix2pix.translate --model ID_OR_DIR --direction photo2sketch INPUT... --output DIR`."""

import argparse
import glob
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pix2pix.directions import DIRECTIONS

MOST_WORKERS = 5
"""Threads that translate a batch each: every one holds the pictures of its batch and their translations, which may be large."""


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
    parser.add_argument("--batch-size", type=int, default=4, help="pictures at once, at least 1 (default: %(default)s)")
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

    import torch
    from PIL import Image
    from tqdm import tqdm

    from pix2pix.devices import keep_memory, most_at_once, torch_threads
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

    def translate(part: Sequence[tuple[Path, str]]) -> list[str]:
        """Translate a batch from file to file; says of each picture that was left out why."""
        readable, images, reasons = [], [], []
        for path, name in part:
            try:
                image = open_image(path, max_pixels=args.max_pixels)
                if min(image.size) < MINIMUM_SIDE:
                    size = f"{image.width} x {image.height}"
                    raise ImageError(f"'{path.name}' must have at least {MINIMUM_SIDE} pixels a side, got {size}")
            except ImageError as error:
                reasons.append(str(error))
            else:
                readable.append(name)
                images.append(image)
        results = translator(images, align=args.align, seed=args.seed) if images else []
        del images  # they and the results may be large
        for name in readable:
            try:
                # Not flushed: the same command makes it again, and the waiting costs nearly as much processor time as encoding.
                save_png(results.pop(0), args.output / name, is_flushed=False)
            except ImageError as error:
                reasons.append(str(error))
            except OSError as error:  # the disk is full, or no longer there: the next picture may be smaller
                reason = error.strerror or error
                reasons.append(f"'{name}' could not be written to '{args.output}' ({reason})")
        return reasons

    keep_memory()
    failures = 0
    files = list(zip(paths, names, strict=True))
    parts = [files[start : start + args.batch_size] for start in range(0, len(files), args.batch_size)]
    # Each thread takes a batch from file to file: while one waits for the disk, decodes or encodes, the others translate,
    # and none waits for another within a layer. One more than there are processor threads, for the waiting.
    budget = torch.get_num_threads()
    workers = min(len(parts), budget + 1, most_at_once(translator.device, MOST_WORKERS))
    with (
        torch_threads(max(1, budget // workers)),
        tqdm(total=len(paths), unit="picture", disable=None) as progress,
        ThreadPoolExecutor(workers) as pool,
    ):
        for part, reasons in zip(parts, pool.map(translate, parts), strict=True):
            for reason in reasons:
                progress.write(f"left out: {reason}", file=sys.stderr)
            failures += len(reasons)
            progress.update(len(part))
    done = len(paths) - failures
    print(f"{done} of {len(paths)} pictures translated into {args.output}" + (f", {failures} left out" if failures else ""))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
