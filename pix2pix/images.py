"""The one gate between pictures (PIL, uint8 pixels) and tensors (float32 in [-1, 1], "model range").

Training, `Translator`, the command line and the Space all come through here, so a picture is treated the same way
wherever it enters: its header is judged before it is decoded, EXIF rotation is applied, transparency lies on white,
and a shape that differs from the training shape is brought to it with the aspect kept and the rest mirrored.
"""

import math
import os
import stat
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError, features
from torch import Tensor

from pix2pix.files import whole_file

MAX_PIXELS = 64_000_000
"""Pictures with more pixels than this are refused before they are decoded; 64 megapixels take 192 MB as RGB."""

MAX_SIDE = 1_000_000
"""The longest side of a PNG that libpng, and with it most programs, reads."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif")
"""File name endings (lower case) that count as pictures when a folder is read."""

# Decoders that only decode. PIL also knows formats that start other programs (EPS) or have odd histories.
# Multi-picture JPEGs come in as JPEG; Pillow may be built without AVIF, and a name it lacks would spoil all others.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", *(("AVIF",) if features.check("avif") else ()))

# The pixel count is ours to judge, in `open_image`; PIL's warning would only add a line of noise below its own limit.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class ImageError(ValueError):
    """A picture that cannot be used: the message names it, the rule and the remedy."""


class Box(NamedTuple):
    """A rectangle of pixels: left and top inside, right and bottom outside."""

    left: int
    top: int
    right: int
    bottom: int


def open_image(source: str | os.PathLike | BinaryIO, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> Image.Image:
    """Read a picture completely, judging its header before decoding it.

    Args:
        source: A path, or a binary file positioned at the start of the picture.
        max_pixels: The largest width x height that is decoded.
        name: What to call the picture in errors; by default the file's name.

    Returns:
        The decoded picture (the first frame of an animation) as it is stored: mode, size and EXIF untouched.

    Raises:
        ImageError: If it is missing, no picture, of an unknown format, too large, truncated or damaged.
    """
    if name is None:
        name = Path(source).name if isinstance(source, str | os.PathLike) else "the picture"
    try:
        if isinstance(source, str | os.PathLike) and stat.S_IFMT(os.stat(source).st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
            raise ImageError(f"'{name}' is a pipe or a device, not a picture; give a picture file")  # one waits for ever
        image = Image.open(source, formats=FORMATS)
        width, height = image.size
        if width * height > max_pixels:
            raise ImageError(f"'{name}' has {width} x {height} pixels, more than the limit of {max_pixels:,}; make it smaller")
        image.load()
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"'{name}' does not exist; check the path") from error
    except IsADirectoryError as error:
        raise ImageError(f"'{name}' is a folder, not a picture; give a picture file") from error
    except PermissionError as error:
        raise ImageError(f"'{name}' may not be read; change its permissions") from error
    except UnidentifiedImageError as error:
        known = "PNG, JPEG, WebP, BMP, GIF or TIFF"
        raise ImageError(f"'{name}' is not a picture in a known format; use {known}") from error
    except Image.DecompressionBombError as error:
        limit = min(max_pixels, 2 * Image.MAX_IMAGE_PIXELS)  # Pillow's own limit stands above ours
        raise ImageError(f"'{name}' has more pixels than the limit of {limit:,}; make it smaller") from error
    except Exception as error:  # damaged files make decoders raise almost anything: OSError, SyntaxError, struct.error
        raise ImageError(f"'{name}' is truncated or damaged ({error}); save or download it again") from error
    return image


def upright(image: Image.Image) -> Image.Image:
    """Return the picture as a person sees it: EXIF rotation applied, transparency on white, mode "L" or "RGB".

    Grey stays grey ("1", "L", "LA", "I", "F" and 16-bit modes become "L"), all else becomes "RGB". Sixteen-bit values
    are scaled by 1/257, floating-point pictures within [0, 1] by 255; other numbers are clipped to 0..255.
    """
    try:
        image = ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block says nothing of use about the rotation: keep the picture as stored
        image = image.copy()
    mode = image.mode
    if mode in ("RGB", "L") and "transparency" not in image.info:
        return image
    if mode.startswith("I;16") or mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        if mode.startswith("I;16") or (mode == "I" and values.max(initial=0) > 255):
            values = values / 257
        elif mode == "F" and values.min(initial=0) >= 0 and values.max(initial=0) <= 1:
            values = values * 255
        return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        is_grey = mode in ("1", "L", "LA", "La")
        rgba = image.convert("LA" if mode == "La" else "RGBA" if mode == "RGBa" else mode).convert("RGBA")
        on_white = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        return on_white.convert("L" if is_grey else "RGB")
    return image.convert("L" if mode == "1" else "RGB")


def to_tensor(image: Image.Image, *, channels: Literal[1, 3] = 3) -> Tensor:
    """Turn a picture of any mode into a float32 tensor (channels, H, W) in [-1, 1].

    Colour becomes luma (ITU-R 601) for one channel; grey is repeated for three.
    """
    image = upright(image).convert("L" if channels == 1 else "RGB")
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return pixels.view(image.height, image.width, channels).permute(2, 0, 1).float().div_(127.5).sub_(1)


def to_image(tensor: Tensor) -> Image.Image:
    """Turn a tensor (1 or 3, H, W) in [-1, 1] into a picture of mode "L" or "RGB".

    Values are rounded, not truncated (truncation would change 63 of the 256 levels), and clipped.
    """
    pixels = tensor.detach().float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu()
    array = pixels.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def is_grey(image: Image.Image) -> bool:
    """Whether the picture, as seen, holds no colour (its three channels are equal everywhere)."""
    image = upright(image)
    if image.mode == "L":
        return True
    array = np.asarray(image)
    return bool((array[..., :1] == array).all())


def fit(image: Image.Image, image_size: tuple[int, int]) -> tuple[Image.Image, Box]:
    """Bring an upright picture to `image_size` (height, width): aspect kept, centred, the rest filled by mirroring.

    Returns:
        The picture of exactly that size, and the box in which the whole original lies; `unfit` undoes it.
    """
    height, width = image_size
    if image.size == (width, height):
        return image, Box(0, 0, width, height)
    scale = min(width / image.width, height / image.height)
    inner = (
        min(width, max(1, round(image.width * scale))),
        min(height, max(1, round(image.height * scale))),
    )
    image = image.resize(inner, Image.Resampling.BICUBIC)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    margins = [(top, height - inner[1] - top), (left, width - inner[0] - left)]
    array = np.asarray(image)
    padded = np.pad(array, margins + [(0, 0)] * (array.ndim - 2), mode="reflect")
    return Image.fromarray(padded), Box(left, top, left + inner[0], top + inner[1])


def unfit(image: Image.Image, box: Box, size: tuple[int, int]) -> Image.Image:
    """Undo `fit`: cut `box` out and bring it to `size` (width, height)."""
    image = image.crop(box)
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def save_png(image: Image.Image, path: str | os.PathLike, *, is_flushed: bool = True) -> None:
    """Write a picture, grey or colour, as lossless PNG, whole or not at all.

    Args:
        image: The picture.
        path: The file.
        is_flushed: Whether to wait until the disk has it; see `pix2pix.files.whole_file`.

    Raises:
        ImageError: If it has more than a million pixels a side, which programs that read PNG refuse.
        OSError: If it cannot be written.
    """
    pixels = np.asarray(image if image.mode == "L" else image.convert("RGB"))
    if max(image.size) > MAX_SIDE:
        raise ImageError(f"'{Path(path).name}' of {image.width} x {image.height} pixels cannot be encoded as PNG")
    with whole_file(path, is_flushed=is_flushed) as temporary:
        temporary.write_bytes(_png(pixels))


def _png(pixels: np.ndarray) -> bytes:
    """The PNG file of uint8 pixels, (height, width) or (height, width, 3).

    PIL tries five filters on every line and lets zlib look for repetitions that photos do not have, which takes as long as a
    translation. Here every line is written as its difference from the one above, and igzip packs it, in a
    fraction of the time and for no more bytes than zlib's lower levels leave.
    """
    from isal import isal_zlib

    height, width = pixels.shape[:2]
    lines = pixels.reshape(height, -1)
    filtered = np.empty((height, 1 + lines.shape[1]), np.uint8)
    filtered[:, 0] = 2  # the filter "up"
    filtered[0, 1:] = lines[0]
    np.subtract(lines[1:], lines[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    chunks = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in ((b"IHDR", header), (b"IDAT", isal_zlib.compress(filtered, 1)), (b"IEND", b"")):
        chunks += [struct.pack(">I", len(data)), kind, data, struct.pack(">I", isal_zlib.crc32(data, isal_zlib.crc32(kind)))]
    return b"".join(chunks)


def grid(rows: Sequence[Sequence[Image.Image]], *, titles: Sequence[str] = (), gap: int = 6) -> Image.Image:
    """Lay pictures out in rows and columns on white, under one title a column.

    Every cell has the size of the first picture; the others are fitted to it. A row may be shorter than the others.
    """
    if not rows or not rows[0]:
        raise ValueError("a grid needs at least one picture, got none")
    width, height = rows[0][0].size
    top = 22 if titles else 0
    columns = max(len(row) for row in rows)
    canvas = Image.new("RGB", (columns * (width + gap) + gap, top + len(rows) * (height + gap) + gap), (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(titles):
        draw.text((gap + column * (width + gap) + width // 2, top // 2 + 2), title, fill=(40, 40, 40), anchor="mm")
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            cell, _ = fit(upright(picture), (height, width))
            canvas.paste(cell, (gap + column * (width + gap), top + gap + row * (height + gap)))
    return canvas


def parse_image_size(values: Sequence[int] | int) -> tuple[int, int]:
    """Turn one number (a square) or two (height and width, in pixels) into `(height, width)`.

    Raises:
        ValueError: If there are not one or two numbers, or one of them is below 16 pixels.
    """
    numbers = [values] if isinstance(values, int) else list(values)
    if len(numbers) not in (1, 2):
        raise ValueError(f"image_size takes one number, or height and width, got {len(numbers)} numbers")
    if min(numbers) < 16:
        raise ValueError(f"image_size must be at least 16, got {min(numbers)}")
    return numbers[0], numbers[-1]


def reflected(length: int, start: int, count: int) -> Tensor:
    """Indices (count,) that read positions `start`, `start` + 1, ... of an axis mirrored at both its ends.

    Unlike `torch.nn.functional.pad`, the mirroring repeats, so that 16 pixels can be padded to 256.
    """
    period = max(1, 2 * (length - 1))
    positions = (torch.arange(start, start + count) % period).abs()
    return torch.minimum(positions, period - positions)


def pad_to_multiple(x: Tensor, multiple: int, *, minimum: int = 0) -> tuple[Tensor, tuple[int, int]]:
    """Pad (N, C, H, W) by mirroring, centred, until H and W are multiples of `multiple` and at least `minimum`.

    Returns:
        The padded tensor, and how many pixels were added at the top and on the left.
    """
    height, width = x.shape[-2:]
    target = [max(minimum, math.ceil(side / multiple) * multiple) for side in (height, width)]
    top, left = (target[0] - height) // 2, (target[1] - width) // 2
    if target == [height, width]:
        return x, (0, 0)
    bottom, right = target[0] - height - top, target[1] - width - left
    if max(top, bottom) < height and max(left, right) < width:
        return torch.nn.functional.pad(x, (left, right, top, bottom), mode="reflect"), (top, left)
    rows = reflected(height, -top, target[0]).to(x.device)
    columns = reflected(width, -left, target[1]).to(x.device)
    return x.index_select(-2, rows).index_select(-1, columns), (top, left)
