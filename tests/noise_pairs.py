"""Small pairs of noise, written to disk in every layout, and what reading them must give."""

from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from pix2pix.data import load_pairs
from pix2pix.layouts import FEATURES, DataError

SIZE = (24, 32)


def picture(seed: int, mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def photo_of(number: int) -> Image.Image:
    return picture(number)


def sketch_of(number: int) -> Image.Image:
    return picture(1000 + number, "L")


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_folders(root: Path, *, train=range(4), test=range(10, 12), photos="photos", sketches="sketches") -> Path:
    for split, numbers in (("train", train), ("test", test)):
        for number in numbers:
            save(photo_of(number), root / split / photos / f"p{number:02d}.png")
            save(sketch_of(number), root / split / sketches / f"p{number:02d}.png")
    return root


def write_imagefolder(root: Path) -> Path:
    for split, numbers in (("train", range(4)), ("test", range(10, 12))):
        lines = ["photo_file_name,sketch_file_name,person_id"]
        for number in numbers:
            save(photo_of(number), root / split / "a" / f"p{number:02d}.png")
            save(sketch_of(number), root / split / "b" / f"drawing-{number}.png")
            lines.append(f"a/p{number:02d}.png,b/drawing-{number}.png,anna{number // 2}")
        (root / split / "metadata.csv").write_text("\n".join(lines) + "\n")
    return root


def write_side_by_side(root: Path) -> Path:
    for split, numbers in (("train", range(4)), ("val", range(10, 12))):
        for number in numbers:
            both = Image.new("RGB", (2 * SIZE[0], SIZE[1]))
            both.paste(photo_of(number), (0, 0))
            both.paste(sketch_of(number), (SIZE[0], 0))
            save(both, root / split / f"p{number:02d}.png")
    return root


def as_dataset(numbers: range) -> datasets.Dataset:
    columns = {
        "photo": [photo_of(number) for number in numbers],
        "sketch": [sketch_of(number) for number in numbers],
        "person_id": [f"anna{number // 2}" for number in numbers],
        "name": [f"p{number:02d}" for number in numbers],
    }
    return datasets.Dataset.from_dict(columns, features=FEATURES)


def pixels(pairs: datasets.Dataset) -> dict[str, tuple[bytes, bytes]]:
    return {row["name"]: (row["photo"].convert("RGB").tobytes(), row["sketch"].convert("L").tobytes()) for row in pairs}


def expected(numbers: range) -> dict[str, tuple[bytes, bytes]]:
    return {f"p{number:02d}": (photo_of(number).tobytes(), sketch_of(number).tobytes()) for number in numbers}


def fault(*arguments: object, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        load_pairs(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)
