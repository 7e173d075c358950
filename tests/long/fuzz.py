"""Feed generated bad pictures, bad data sets and bad models to everything that reads them.

    python tests/long/fuzz.py --pictures 1000 --layouts 1000 --models 1000 --seed 1

Pictures go to `open_image`, the page's functions and the pencil pad's; folder layouts to `pix2pix.prepare`; model folders to
`UNetGenerator` and `OnnxGenerator`. Each must be read, or refused by an error of the expected class whose one line names the
thing; nothing may crash, hang (30 s) or take more than 1.5 GB. Every case is made from its number and the seed alone. The
exit status is 1 if one misbehaves.
"""

import argparse
import base64
import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "CPU_CORES": "1"}

import children

sys.path[:0] = [str(children.ROOT), str(children.ROOT / "space")]

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

SECONDS = 30
MOST_MEMORY = 1_500_000_000  # bytes more than the program has before the first case
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
MODES = {"PNG": ("RGB", "L", "RGBA", "LA", "P", "1", "I;16"), "GIF": ("P", "L"), "TIFF": ("RGB", "L", "CMYK", "F", "1", "LAB")}


class MisbehaviourError(Exception):
    """Something that must not happen."""


# -- pictures ----------------------------------------------------------------------------------------------------------


def drawn(dice: random.Random, size: tuple[int, int] | None = None, mode: str = "RGB") -> Image.Image:
    """A picture of coarse noise."""
    width, height = size or (dice.randint(16, 90), dice.randint(16, 90))
    pixels = np.random.default_rng(dice.getrandbits(32)).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((width, height))
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 256) if mode == "I;16" else image.convert(mode)


def encoded(dice: random.Random) -> bytes:
    """A whole picture file of any format and mode, some with several frames or a rotation."""
    kind = dice.choice(FORMATS)
    image = drawn(dice, mode=dice.choice(MODES.get(kind, ("RGB", "L"))))
    options: dict[str, Any] = {}
    if kind in ("PNG", "GIF", "WEBP", "TIFF") and dice.random() < 0.3:
        options = {"save_all": True, "append_images": [drawn(dice, image.size, "RGB").convert(image.mode) for _ in range(2)]}
    if kind in ("JPEG", "PNG", "WEBP") and dice.random() < 0.3:
        exif = Image.Exif()
        exif[0x0112] = dice.randint(0, 9)
        options["exif"] = exif
    file = io.BytesIO()
    try:
        image.save(file, kind, **options)
    except (OSError, ValueError, KeyError, TypeError):
        file = io.BytesIO()
        image.convert("RGB").save(file, "PNG")
    return file.getvalue()


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, data: bytes = b"", more: Sequence[tuple] = ()) -> bytes:
    """A PNG with a header of one's own."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def bad_picture(dice: random.Random) -> bytes:
    """The content of a file that calls itself a picture."""
    whole = bytearray(encoded(dice))
    place = dice.randrange(len(whole))
    match dice.randrange(14):
        case 0:
            return bytes(whole[:place])
        case 1:
            for _ in range(dice.randint(1, 20)):
                whole[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        case 2:
            length = dice.randint(1, 200)
            whole[place : place + length] = dice.choice([b"\0", b"\xff", dice.randbytes(1)]) * length
        case 3:
            whole[place:place] = dice.randbytes(dice.randint(1, 100))
        case 4:
            other = encoded(dice)
            return bytes(whole[:place]) + other[dice.randrange(len(other)) :]
        case 5:
            return dice.choice([b"", b"\0" * 100, b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"%PDF-1.7", "日本".encode()])
        case 6:
            magic = dice.choice(
                [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"P6\n", b"RIFF"]
            )
            return magic + dice.randbytes(dice.randint(0, 500))
        case 7:  # a large claim, with pixels that shrink a thousandfold or without any
            side = dice.choice([2_000, 7_900, 30_000, 2**31 - 1])
            content = dice.choice([b"", zlib.compress(b"\0" * dice.choice([10, 20_000_000])), dice.randbytes(50)])
            return png(side, side, depth=dice.choice([1, 8, 16]), colour=dice.choice([0, 2, 3, 6]), data=content)
        case 8:  # texts and profiles that grow when they are unpacked
            bomb = zlib.compress(b"a" * 30_000_000)
            kinds = [(b"zTXt", b"k\0\0" + bomb), (b"iCCP", b"k\0\0" + bomb), (b"iTXt", b"k\0\1\0\0\0" + bomb)]
            return png(20, 20, data=zlib.compress(b"\0" * 20 * 61), more=[dice.choice(kinds)] * dice.randint(1, 5))
        case 9:  # a TIFF whose directories follow one another in a ring, or point outside
            offset = dice.choice([8, 0, 2**31, 14])
            entries = [
                struct.pack("<HHII", dice.randrange(65536), dice.randrange(14), dice.getrandbits(32), dice.getrandbits(32))
            ]
            return b"II*\0" + struct.pack("<IH", 8, 1) + entries[0] + struct.pack("<I", offset)
        case 10:
            sides = dice.choice(["0 0", "-5 7", "99999999 99999999", "16 16", "1e9 3", "# " + "x" * 5000])
            return f"P{dice.randint(1, 7)}\n{sides}\n{dice.choice([255, 0, -1, 65535, 70000])}\n".encode() + dice.randbytes(300)
        case 11:  # sizes at odd places
            at = dice.randrange(max(1, min(60, len(whole) - 4)))
            whole[at : at + 4] = struct.pack(dice.choice("<>") + "I", dice.choice([0, 1, 2**16, 2**31 - 1, 2**32 - 1]))
        case 12:  # too small, or long and thin
            file = io.BytesIO()
            drawn(dice, dice.choice([(1, 1), (15, 400), (16, 16), (4_000, 17), (17, 30_000)])).save(file, "PNG")
            return file.getvalue()
        case _:
            return bytes(whole)
    return bytes(whole)


def one_line(error: Exception, *names: str) -> None:
    """See to it that an error is one line that names the thing."""
    text = str(error)
    if not text or "\n" in text or not any(name in text for name in names):
        raise MisbehaviourError(f"{type(error).__name__} says {text!r}")


def read_picture(dice: random.Random, folder: Path) -> str:
    """Give one picture to everything that reads pictures."""
    import translations
    from models import ModelSource

    from pix2pix.images import ImageError, open_image, to_tensor

    content = bad_picture(dice)
    path = folder / f"case{dice.choice(['.png', '.jpg', '.tif', ''])}"
    path.write_bytes(content)
    try:
        to_tensor(open_image(path, max_pixels=dice.choice([64_000_000, 1_000_000])))
        verdict = "read"
    except ImageError as error:
        one_line(error, path.name)
        verdict = "refused"
    source = ModelSource(str(folder.parent / "model"))
    way, side = dice.choice(list(zip(translations.DIRECTIONS, ("photo", "sketch"), strict=True)))
    options = {"aligned": dice.random() < 0.1}
    number = dice.choice([None, 0, 5, -1, 2**40])
    strength = dice.choice([0, 1.0, 2.0, float("nan"), -1, 1e300])
    address = "data:image/png;base64," + base64.b64encode(content).decode()
    spoilt = address[: dice.randrange(len(address))] + dice.choice(["", "!", "é", "\0", "A"])
    calls: list[Callable[[], Any]] = [
        lambda: translations.translate(way, str(path), source, seed=number, strength=strength, into_whole=True, **options),
        lambda: translations.translate(way, str(path), source, face=dice.randint(-2, 4), **options),
        lambda: translations.round_trip(dice.choice([side, "nonsense"]), str(path), source, **options),
        lambda: translations.variations(
            way, str(path), source, seed=3, strength=1.0, count=dice.choice([1, 2, 0, 10**9]), **options
        ),
        lambda: translations.paint(dice.choice([address, spoilt]), source),
    ]
    try:
        dice.choice(calls)()
    except translations.EXPECTED as error:
        one_line(error, "")
    return verdict


# -- data sets ---------------------------------------------------------------------------------------------------------

WORDS = (
    "train",
    "test",
    "val",
    "photos",
    "sketches",
    "photo",
    "sketch",
    "A",
    "data",
    ".hidden",
    "a b",
    "ünï",
    "x" * 200,
    "-rf",
    "%s",
)


def bad_layout(dice: random.Random, root: Path) -> None:
    """Fill a folder with something that is nearly a data set."""
    splits = dice.sample(["train", "test", "validation", ""], dice.randint(1, 2))
    sides = dice.choice([("photos", "sketches"), ("photo", "sketch"), ("photos", "photos"), ("A", "B")])
    for split in splits:
        for number in range(dice.randint(0, 4)):
            for side in sides:
                folder = root / split / side
                folder.mkdir(parents=True, exist_ok=True)
                size = (20, 24) if dice.random() < 0.95 else (dice.randint(1, 40), 20)
                drawn(dice, size).save(folder / f"p{number}.png")
    root.mkdir(exist_ok=True)
    for _ in range(dice.randint(1, 4)):
        folders = [root, *(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())]
        files = [path for path in root.rglob("*") if path.is_file()]
        folder = dice.choice(folders)
        path = folder / (dice.choice(WORDS) + dice.choice([".png", ".PNG", ".jpg", "", ".csv"]))
        with contextlib.suppress(OSError):  # two kinds of damage may be in each other's way
            spoil(dice, path, folder, files)


def spoil(dice: random.Random, path: Path, folder: Path, files: list[Path]) -> None:
    """One kind of damage."""
    rows = ["photo_file_name,sketch_file_name,person_id", "photos/p0.png,sketches/p0.png,a", "photos/p1.png,sketches/p1.png,b"]
    match dice.randrange(18):
        case 0:
            path.write_bytes(bad_picture(dice))
        case 1 if files:
            dice.choice(files).write_bytes(bad_picture(dice))
        case 2 if files:
            dice.choice(files).unlink()
        case 3 if files:
            shutil.copy(dice.choice(files), path)
        case 4:
            path.mkdir()
        case 5:
            path.symlink_to(dice.choice([folder, Path("/dev/zero"), Path("nowhere"), path, Path("/proc/self/mem"), Path("/")]))
        case 6:
            os.mkfifo(path)
        case 7:
            deep = folder
            for _ in range(30):
                deep /= dice.choice(WORDS[:6])
            deep.mkdir(parents=True)
        case 8:
            rows[dice.randrange(3)] = dice.choice(
                ["", ",,,,", "../../etc/passwd,/dev/zero,a", "a\0b,c,d", '"' + "x" * 200_000, "é"]
            )
            (folder / "metadata.csv").write_text("\n".join(rows), encoding=dice.choice(["utf-8", "utf-16", "latin-1"]))
        case 9:
            (folder / "metadata.csv").write_bytes(dice.randbytes(dice.choice([0, 1, 3_000])))
        case 10:
            (folder / "metadata.csv").write_text("\n".join(rows[: dice.randint(0, 3)]))
        case 11:
            (folder / f"train-{dice.randint(0, 9)}.parquet").write_bytes(
                dice.choice([b"", b"PAR1", b"PAR1" + dice.randbytes(90) + b"PAR1"])
            )
        case 12:
            for name in dice.sample(["dataset_dict.json", "dataset_info.json", "state.json", "data-00000-of-00001.arrow"], 2):
                text = [
                    b"",
                    b"{}",
                    b"[]",
                    b'{"splits": ["../../x"]}',
                    b'{"_data_files": [{"filename": "/dev/zero"}]}',
                    dice.randbytes(99),
                ]
                (folder / name).write_bytes(dice.choice(text))
        case 13:
            name = folder / f"CUHK_{dice.choice(['training', 'testing'])}_cropped_{dice.choice(['photos', 'sketches'])}.zip"
            with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as archive:
                for inside in ("a.jpg", "../../evil.jpg", "/evil.jpg", "f-001-01.jpg"):
                    archive.writestr(inside, bad_picture(dice))
            content = bytearray(name.read_bytes())
            if dice.random() < 0.7:
                content[dice.randrange(len(content))] ^= 0xFF
            name.write_bytes(content[: dice.choice([len(content), len(content) // 2])])
        case 14:
            with open(os.fsencode(folder) + b"/\xff\xfe.png", "wb") as file:
                file.write(encoded(dice))
        case 15:
            folder.chmod(dice.choice([0o000, 0o400, 0o100]))
        case 16:
            (folder / f"script.{dice.choice(['py', 'sh'])}").write_text("raise SystemExit('executed')")
        case _ if files:
            dice.choice(files).rename(path)


def prepare_layout(dice: random.Random, folder: Path) -> str:
    """Give one layout to `pix2pix.prepare`."""
    from pix2pix import data, prepare

    root, output = folder / "pairs", folder / "built"
    bad_layout(dice, root)
    options = dice.choice(
        [[], [], [], ["--layout", dice.choice(prepare.LAYOUTS)], ["--columns", "A", "B"], ["--max-pixels", "300"]]
    )
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            status = prepare.main([str(root), "--output", str(output), *options])
    except SystemExit as stop:
        status = stop.code
    finally:
        for path in (root, *root.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
    if status == 0:
        for split in {path.name.split("-")[0] for path in (output / "data").iterdir()}:
            data.load_pairs(output, split=split)
        return "built"
    if status not in (1, 2) or not said.getvalue().strip():
        raise MisbehaviourError(f"exit status {status!r}, and it said {said.getvalue()!r}")
    if [path.name for path in folder.iterdir()] != ["pairs"]:
        raise MisbehaviourError(f"it was refused, but there is {[path.name for path in folder.iterdir()]}")
    return "refused"


# -- models ------------------------------------------------------------------------------------------------------------


PICKLE = b"cos\n_exit\n(I77\ntR."
"""Ends the program with status 77 if it is ever loaded."""


def bad_tensors(dice: random.Random, whole: bytes) -> bytes:
    """A safetensors file, damaged: in its header, which describes the tensors, or anywhere."""
    length = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + length])
    content = bytearray(whole)
    match dice.randrange(8):
        case 0:
            return whole[: dice.randrange(len(whole))]
        case 1:
            content[dice.randrange(8 + length)] ^= 1 << dice.randrange(8)
            return bytes(content)
        case 2:
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
            return bytes(content)
        case 3:
            return struct.pack("<Q", dice.choice([0, 2**63, 2**64 - 1, 10**8, len(whole)])) + whole[8:]
        case 4:
            return dice.choice([b"", PICKLE, b"PK\x03\x04" + dice.randbytes(99), dice.randbytes(500)])
        case 5:  # shapes and places of terabytes
            entry = header[dice.choice([name for name in header if name != "__metadata__"])]
            entry["shape"] = dice.choice([[2**40, 4], [-1], [2**62, 2**62], [], ["a"], [10**30]])
        case 6:
            entry = header[dice.choice([name for name in header if name != "__metadata__"])]
            entry["data_offsets"] = dice.choice([[0, 2**50], [5, 1], [-4, 4], [0, 4], [2**64, 2**65]])
        case _:
            entry = header[dice.choice([name for name in header if name != "__metadata__"])]
            entry["dtype"] = dice.choice(["F64", "I8", "PICKLE", "F16", None])
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + whole[8 + length :]


def bad_config(dice: random.Random, config: dict[str, Any]) -> bytes:
    """A config with a value that it must not have, or no config at all."""
    wild = [
        10**30,
        -1,
        0,
        1e308,
        "",
        "../../x",
        None,
        [],
        {},
        [10**9] * 2,
        True,
        "__import__('os')",
        float("nan"),
        2**31,
        "9" * 9,
    ]
    config[dice.choice([*config, "auto_map", "trust_remote_code", "__class__"])] = dice.choice(wild)
    text = json.dumps(config).encode()
    return dice.choice([text] * 6 + [text[: dice.randrange(len(text))], b"[" * 100_000, b'{"a":' * 50_000, dice.randbytes(300)])


def load_model(dice: random.Random, folder: Path) -> str:
    """Give one model to `UNetGenerator` or `OnnxGenerator`."""
    from pix2pix.generator import ModelError, UNetGenerator
    from pix2pix.onnx_generator import OnnxGenerator

    good = folder.parent / "model" / "photo2sketch"
    try:
        if dice.random() < 0.3:
            content = bytearray((folder.parent / "model.onnx").read_bytes())
            if dice.random() < 0.3:
                content = content[: dice.randrange(len(content))]
            for _ in range(dice.randint(0, 8)):
                content[dice.randrange(len(content))] = dice.randrange(256)
            (folder / "model.onnx").write_bytes(content)
            OnnxGenerator(folder / "model.onnx")
            return "read"
        shutil.copytree(good, folder / "model")
        kind = dice.choice(["weights", "weights", "config"])
        file = folder / "model" / {"weights": "model.safetensors", "config": "config.json"}[kind]
        if kind == "weights":
            file.write_bytes(bad_tensors(dice, file.read_bytes()))
        else:
            file.write_bytes(bad_config(dice, json.loads(file.read_text())))
        (folder / "model" / "pytorch_model.bin").write_bytes(PICKLE)
        for name in ("modeling.py", "__init__.py"):
            (folder / "model" / name).write_text("raise SystemExit(77)")
        UNetGenerator.from_pretrained(folder / "model")
    except ModelError as error:
        one_line(error, str(folder))
        return "refused"
    return "read"


# -- the program -------------------------------------------------------------------------------------------------------

KINDS = {"pictures": read_picture, "layouts": prepare_layout, "models": load_model}


def make_models(root: Path) -> None:
    """The good ones: small, random weights."""
    import torch

    from pix2pix.export import write_onnx
    from pix2pix.generator import UNetGenerator

    for direction, channels in (("photo2sketch", (3, 1)), ("sketch2photo", (1, 3))):
        generator = UNetGenerator(*channels, base_channels=4, max_channels=8, num_downsamples=3, image_size=(50, 40))
        generator.save_pretrained(root / "model" / direction)
    write_onnx(generator, direction, root / "model.onnx")
    torch.set_num_threads(1)


def work(kind: str, first: int, last: int, seed: int, root: Path, notes: Path) -> int:
    """Go through the cases of one kind, and note of each how it went before the next begins."""
    import datasets

    warnings.simplefilter("ignore")
    datasets.disable_progress_bars()
    datasets.config.HF_DATASETS_CACHE = root / "cache"
    tempfile.tempdir = str(root)

    def too_long(*_: object) -> None:
        raise MisbehaviourError(f"it took more than {SECONDS} s")

    signal.signal(signal.SIGALRM, too_long)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with notes.open("a", encoding="utf-8") as told:
        for number in range(first, last):
            folder = root / f"{kind}-{number}"
            folder.mkdir()
            print(number, "begun", file=told, flush=True)
            signal.alarm(SECONDS)
            try:
                verdict = KINDS[kind](random.Random(f"{seed} {kind} {number}"), folder)
                grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
                if grown > MOST_MEMORY:
                    raise MisbehaviourError(f"it took {grown / 1e6:.0f} MB")
            except MisbehaviourError as fault:
                verdict = f"FAILED {fault}"
            except Exception as error:
                verdict = f"FAILED {type(error).__name__}: {str(error)[:300]!r}"
            signal.alarm(0)
            print(number, verdict, file=told, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
        print("memory", round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 1e6), file=told)
    return 0


def verdicts(notes: Path) -> dict[int, str]:
    """The last that was noted of each case."""
    lines = notes.read_text(encoding="utf-8").splitlines() if notes.is_file() else []
    return {int(line.split(" ", 1)[0]): line.split(" ", 1)[1] for line in lines if line[:1].isdigit()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for kind in KINDS:
        command.add_argument(f"--{kind}", type=int, default=1000, metavar="N", help="how many, from 0 (default: %(default)s)")
    command.add_argument("--seed", type=int, default=1, help="of all cases (default: %(default)s)")
    command.add_argument("--case", type=int, help="this one alone, of the kinds whose number is not 0")
    args = command.parse_args(argv)
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        ended = children.run(lambda: make_models(root), root / "log.txt")
        if ended.status:
            print(ended.said)
            return 1
        import translations  # noqa: F401

        from pix2pix import data, onnx_generator, prepare  # noqa: F401

        for kind in KINDS:
            count, notes = getattr(args, kind), root / f"{kind}.txt"
            next_case, last = (args.case, args.case + 1) if args.case is not None and count else (0, count)
            crashes = {}
            while next_case < last:
                job = (kind, next_case, last, args.seed, root, notes)
                ended = children.run(lambda job=job: work(*job), root / "log.txt", seconds=24 * 3600)
                if ended.status == 0:
                    break
                crashed = max(verdicts(notes), default=next_case)
                crashes[crashed] = f"FAILED it ended the program with {ended.status}: {ended.said[-300:]}"
                next_case = crashed + 1
            found = verdicts(notes) | crashes
            tally = Counter("failed" if verdict.startswith("FAILED") else verdict for verdict in found.values())
            memory = [line.split()[1] for line in notes.read_text().splitlines() if line.startswith("memory")] if count else []
            print(f"{kind}: {dict(sorted(tally.items()))}, most memory taken: {', '.join(memory)} MB", flush=True)
            for number, verdict in found.items():
                if verdict.startswith("FAILED"):
                    print(f"  seed {args.seed}, case {number}: {verdict}")
            failed = failed or tally["failed"] > 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
