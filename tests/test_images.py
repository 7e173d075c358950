import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from pix2pix.images import (
    FORMATS,
    Box,
    ImageError,
    fit,
    grid,
    is_grey,
    open_image,
    pad_to_multiple,
    parse_image_size,
    reflected,
    save_png,
    to_image,
    to_tensor,
    unfit,
    upright,
)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    buffer.seek(0)
    return buffer


def header_only_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("channels", [1, 3])
def test_all_256_levels_survive_the_way_to_a_tensor_and_back(channels):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(levels)
    tensor = to_tensor(image, channels=channels)
    assert tensor.shape == (channels, 16, 16)
    assert (tensor.min(), tensor.max()) == (-1, 1)
    back = np.asarray(to_image(tensor))
    assert np.array_equal(back if channels == 1 else back[..., 1], levels)


def test_a_picture_of_values_out_of_range_is_clipped_not_wrapped():
    pixels = np.asarray(to_image(torch.tensor([[[-3.0, -1.001, 1.001, 3.0]]])))
    assert pixels.tolist() == [[0, 0, 255, 255]]


def test_colour_becomes_luma_and_grey_is_repeated():
    red = Image.new("RGB", (16, 16), (255, 0, 0))
    assert np.asarray(to_image(to_tensor(red, channels=1)))[0, 0] == 76
    tensor = to_tensor(Image.new("L", (16, 16), 200))
    assert torch.equal(tensor[0], tensor[1])
    assert torch.equal(tensor[0], tensor[2])


GREY_MODES = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B")
COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


@pytest.mark.parametrize("mode", GREY_MODES + COLOUR_MODES)
def test_every_mode_becomes_grey_or_colour(mode):
    image = Image.new(mode, (20, 18))
    assert upright(image).mode == ("L" if mode in GREY_MODES else "RGB")
    assert to_tensor(image).shape == (3, 18, 20)
    assert to_tensor(image, channels=1).shape == (1, 18, 20)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_on_the_list_is_read(kind):
    image = open_image(encoded(Image.new("RGB", (24, 16), (0, 128, 255)), kind))
    assert image.size == (24, 16)
    assert np.abs(np.asarray(upright(image).convert("RGB")).astype(int) - (0, 128, 255)).max() <= 6


def test_the_first_picture_read_by_a_process_may_be_of_any_format(tmp_path):
    file = tmp_path / "a.webp"
    noise(16, 16).save(file, lossless=True)
    program = "import sys; from pix2pix.images import open_image; print(open_image(sys.argv[1]).size)"
    done = subprocess.run([sys.executable, "-c", program, file], capture_output=True, text=True, env=os.environ)
    assert done.stdout.strip() == "(16, 16)", done.stderr


def test_transparency_lies_on_white():
    image = Image.new("RGBA", (16, 16), (10, 20, 30, 0))
    image.putpixel((0, 0), (10, 20, 30, 255))
    image.putpixel((1, 0), (0, 0, 0, 128))
    seen = upright(image)
    assert [seen.getpixel((x, 0)) for x in range(3)] == [(10, 20, 30), (127, 127, 127), (255, 255, 255)]


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_lies_on_white(mode):
    colour = (7, 7, 7) if mode == "RGB" else 7
    image = Image.new(mode, (16, 16), colour)
    if mode == "P":
        image.putpalette(bytes(range(30)))
    image = open_image(encoded(image, "PNG", transparency=colour))
    assert upright(image).convert("RGB").getpixel((3, 3)) == (255, 255, 255)


def test_sixteen_bits_are_scaled_to_eight():
    values = np.array([[0, 256, 257, 32896, 65535]], dtype=np.uint16)
    image = open_image(encoded(Image.fromarray(values), "PNG"))
    assert np.asarray(upright(image)).tolist() == [[0, 1, 1, 128, 255]]


def test_floating_point_pictures_are_read_by_their_range():
    unit = Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
    wide = Image.fromarray(np.array([[-5.0, 100.4, np.nan, 900.0]], dtype=np.float32))
    assert np.asarray(upright(unit)).tolist() == [[0, 128, 255]]
    assert np.asarray(upright(wide)).tolist() == [[0, 100, 0, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upper_left = {1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 1), 8: (0, 1)}[orientation]
    image = Image.new("RGB", (32, 16))
    image.paste((255, 255, 255), (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = upright(open_image(encoded(image, "PNG", exif=exif)))
    assert seen.size == ((32, 16) if orientation < 5 else (16, 32))
    corner = tuple(last * (side - 1) for last, side in zip(upper_left, seen.size, strict=True))
    assert seen.getpixel(corner) == (255, 255, 255)
    assert np.asarray(seen).sum() == np.asarray(image).sum()


def test_damaged_exif_does_not_hide_the_picture():
    image = noise(16, 16)
    stored = open_image(encoded(image, "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"))
    assert np.array_equal(upright(stored), image)


def test_a_picture_over_the_limit_is_refused_by_its_header_alone(tmp_path):
    file = tmp_path / "huge.png"
    file.write_bytes(header_only_png(10_000, 10_000))
    with pytest.raises(ImageError, match=r"'huge.png' has 10000 x 10000 pixels, more than the limit of 64,000,000"):
        open_image(file)
    file.write_bytes(header_only_png(65_000, 65_000))
    with pytest.raises(ImageError, match=r"'huge.png' has more pixels than the limit of 64,000,000"):
        open_image(file)
    with pytest.raises(ImageError, match="more than the limit of 255"):
        open_image(encoded(noise(16, 16), "PNG"), max_pixels=255)
    assert open_image(encoded(noise(16, 16), "PNG"), max_pixels=256).size == (16, 16)


def test_a_huge_claim_without_pixels_is_damaged_not_a_crash(tmp_path):
    file = tmp_path / "hollow.png"
    file.write_bytes(header_only_png(2_000, 2_000))
    with pytest.raises(ImageError, match=r"'hollow.png' is truncated or damaged"):
        open_image(file)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_a_truncated_file_is_named(kind, tmp_path):
    file = tmp_path / f"cut.{kind.lower()}"
    content = encoded(noise(64, 64), kind).getvalue()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match=r"'cut\.\w+' is (truncated or damaged|not a picture)"):
        open_image(file)


def test_what_is_no_picture_is_named(tmp_path):
    text = tmp_path / "notes.png"
    text.write_text("this is text\n")
    with pytest.raises(ImageError, match=r"'notes.png' is not a picture in a known format; use PNG"):
        open_image(text)
    empty = tmp_path / "empty.png"
    empty.touch()
    with pytest.raises(ImageError, match=r"'empty.png' is not a picture"):
        open_image(empty)
    with pytest.raises(ImageError, match=r"'gone.png' does not exist"):
        open_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="is a folder, not a picture"):
        open_image(tmp_path)
    postscript = tmp_path / "program.png"
    postscript.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n")
    with pytest.raises(ImageError, match=r"'program.png' is not a picture"):
        open_image(postscript)
    with pytest.raises(ImageError, match="'the upload' is not a picture"):
        open_image(io.BytesIO(b"junk"), name="the upload")


def test_a_pipe_or_a_device_is_refused_unread(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "endless.png"):
        with pytest.raises(ImageError, match=f"'{name}' is a pipe or a device, not a picture"):
            open_image(tmp_path / name)


def test_grey_is_judged_by_the_pixels_not_by_the_mode():
    assert is_grey(Image.new("RGB", (16, 16), (9, 9, 9)))
    assert is_grey(Image.new("RGBA", (16, 16), (9, 200, 9, 0)))
    coloured = Image.new("RGB", (16, 16), (9, 9, 9))
    coloured.putpixel((15, 15), (9, 9, 10))
    assert not is_grey(coloured)
    assert is_grey(coloured.convert("L"))


@pytest.mark.parametrize("size", [(200, 250), (16, 16), (400, 500), (31, 500), (640, 17), (1, 90)])
def test_fit_keeps_the_aspect_and_says_where_the_picture_lies(size):
    image = Image.new("RGB", size, (40, 80, 120))
    fitted, box = fit(image, (250, 200))
    assert fitted.size == (200, 250)
    assert 0 <= box.left < box.right <= 200
    assert 0 <= box.top < box.bottom <= 250
    assert box.right - box.left == 200 or box.bottom - box.top == 250
    scale = min(200 / size[0], 250 / size[1])
    assert abs(box.right - box.left - size[0] * scale) <= 1
    assert abs(box.bottom - box.top - size[1] * scale) <= 1
    assert np.array_equal(np.unique(np.asarray(fitted).reshape(-1, 3), axis=0), [[40, 80, 120]])
    assert unfit(fitted, box, size).size == size


def test_a_picture_that_fits_is_not_touched():
    image = noise(200, 250)
    fitted, box = fit(image, (250, 200))
    assert fitted is image
    assert box == Box(0, 0, 200, 250)
    assert unfit(fitted, box, image.size).tobytes() == image.tobytes()


def test_fit_fills_by_mirroring_and_unfit_returns_the_pixels():
    image = noise(20, 10)
    fitted, box = fit(image, (20, 20))
    assert box == Box(0, 5, 20, 15)
    pixels = np.asarray(fitted)
    assert np.array_equal(pixels[5:15], image)
    assert np.array_equal(pixels[4], pixels[6])
    assert np.array_equal(pixels[0], pixels[10])
    assert np.array_equal(unfit(fitted, box, (20, 10)), image)


def test_reflected_repeats_the_mirroring():
    assert reflected(4, -5, 14).tolist() == [1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert reflected(1, -2, 4).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("height", "width"), [(250, 200), (16, 16), (64, 128), (17, 300)])
def test_padding_reaches_a_multiple_and_keeps_the_picture_inside(height, width):
    x = torch.rand(2, 3, height, width)
    padded, (top, left) = pad_to_multiple(x, 64, minimum=128)
    assert all(side % 64 == 0 and side >= 128 for side in padded.shape[-2:])
    assert torch.equal(padded[..., top : top + height, left : left + width], x)
    rows = reflected(height, -top, padded.shape[-2])
    columns = reflected(width, -left, padded.shape[-1])
    assert torch.equal(padded, x[..., rows, :][..., columns])


def test_image_size_is_one_number_or_two():
    assert parse_image_size(64) == (64, 64)
    assert parse_image_size([250, 200]) == (250, 200)
    with pytest.raises(ValueError, match="image_size must be at least 16, got 8"):
        parse_image_size([250, 8])
    with pytest.raises(ValueError, match="got 3 numbers"):
        parse_image_size([1, 2, 3])


def test_a_grid_shows_every_picture_in_its_cell():
    colours = [[(250, 0, 0), (0, 250, 0)], [(0, 0, 250)]]
    cells = [[Image.new("RGB", (20, 30), colour) for colour in row] for row in colours]
    picture = grid(cells, gap=6)
    assert picture.size == (2 * 26 + 6, 2 * 36 + 6)
    assert [picture.getpixel(place) for place in ((6, 6), (32, 6), (6, 42), (32, 42))] == [
        (250, 0, 0),
        (0, 250, 0),
        (0, 0, 250),
        (255, 255, 255),
    ]
    with pytest.raises(ValueError, match="at least one picture"):
        grid([])


@pytest.mark.parametrize("image", [noise(30, 20), noise(1, 1), noise(30, 20).convert("L"), noise(1, 9).convert("L")])
def test_png_is_lossless(image, tmp_path):
    save_png(image, tmp_path / "deep" / "a.png")
    with Image.open(tmp_path / "deep" / "a.png") as read:
        assert (read.format, read.mode, read.size, read.tobytes()) == ("PNG", image.mode, image.size, image.tobytes())


def test_a_picture_too_long_for_png_is_named_and_leaves_nothing(tmp_path):
    with pytest.raises(ImageError, match=r"'long.png' of 1000001 x 1 pixels cannot be encoded as PNG"):
        save_png(Image.new("L", (1_000_001, 1)), tmp_path / "long.png")
    assert not list(tmp_path.iterdir())
