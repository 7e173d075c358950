import base64
import io
import re

import numpy as np
from figures import Figure, Thumbnail, address, compare, empty, row, thumbnails
from PIL import Image

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 16, 3), dtype=np.uint8))


def pictures(text: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r'src="data:image/png;base64,([^"]+)', text)]


def test_a_picture_travels_inside_the_page_without_loss():
    (seen,) = pictures(f'src="{address(NOISE)}"')
    assert seen.tobytes() == NOISE.tobytes()
    assert address(NOISE, "JPEG").startswith("data:image/jpeg;base64,/9j/")


def test_the_comparison_holds_both_pictures_and_what_the_pad_starts_from():
    other = NOISE.transpose(Image.Transpose.ROTATE_180)
    text = compare(Figure(NOISE, "Photo", "Your photo"), Figure(other, "Sketch", "The sketch"), portrait=NOISE)
    assert [picture.tobytes() for picture in pictures(text)] == [NOISE.tobytes(), other.tobytes()]
    assert f'data-drawing="{address(NOISE)}"' in text
    assert "aspect-ratio: 16 / 20" in text
    assert 'aria-label="How much of the photo is shown, in percent"' in text


def test_words_cannot_become_markup():
    words = '<script>"&'
    safe = "&lt;script&gt;&quot;&amp;"
    figure = Figure(NOISE, words, words, words)
    for text in (
        row([figure]),
        compare(figure, figure, portrait=NOISE),
        empty(words),
        thumbnails(words, [Thumbnail(NOISE, words, words)]),
    ):
        assert words not in text
        assert safe in text or "&lt;script&gt;" in text


def test_only_a_named_picture_can_be_downloaded():
    text = row([Figure(NOISE, "One", "One"), Figure(NOISE, "Two", "Two", "two.png")])
    assert re.findall(r'download="([^"]*)"', text) == ["two.png"]
    assert len(pictures(text)) == 2


def test_a_thumbnail_is_a_button_with_a_name_and_words():
    text = thumbnails("Pick", [Thumbnail(NOISE, "Noise", "noise.png")])
    assert 'data-name="noise.png"' in text
    assert 'alt="Noise"' in text
