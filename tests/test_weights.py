"""The pair of generators that comes with the project."""

from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image
from safetensors import safe_open

from pix2pix import Translator
from pix2pix.directions import DIRECTIONS
from pix2pix.drawn_faces import draw_pair

ROOT = Path(__file__).parent.parent
WEIGHTS = ROOT / "space" / "weights"


def test_both_are_small_half_precise_and_safe():
    files = sorted(path.relative_to(WEIGHTS).as_posix() for path in WEIGHTS.rglob("*") if path.is_file())
    assert files == ["README.md", *(f"{d}/{name}" for d in DIRECTIONS for name in ("config.json", "model.safetensors"))]
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*.safetensors")) <= 12 * 10**6
    for direction in DIRECTIONS:
        with safe_open(WEIGHTS / direction / "model.safetensors", framework="np") as file:
            assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118


def test_the_card_says_how_they_were_made_on_whose_terms_and_what_they_are_not_for():
    card = ModelCard.load(WEIGHTS / "README.md")
    for words in ("train.py --dataset cuhk", "commit", "seed", "research", "Not for identification"):
        assert words in card.text
    scored = {(result.dataset_config, result.metric_type) for result in card.data.eval_results}
    assert scored >= {(d, name) for d in DIRECTIONS for name in ("fsim", "perceptual", "kid1000", "rank1")}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_face_they_were_not_made_for_becomes_its_other_side(direction):
    """Drawn people are no students: their tone must still be nearer to the other side than the source is."""
    translator = Translator.from_pretrained(WEIGHTS, direction, "cpu")
    distances = []
    for seed in range(4):
        photo, sketch = draw_pair(seed)
        source, target = (photo, sketch) if direction == "photo2sketch" else (sketch, photo)
        made = translator(source)
        assert made.size == source.size
        arrays = [np.asarray(picture.convert("RGB").resize((20, 25), Image.Resampling.BOX), float) for picture in
                  (made, source, target)]  # fmt: skip
        distances.append((np.abs(arrays[0] - arrays[2]).mean(), np.abs(arrays[1] - arrays[2]).mean()))
    ours, untranslated = np.mean(distances, axis=0)
    assert ours < untranslated


def test_a_photo_of_an_astronaut_becomes_a_sketch_with_lines_on_paper():
    with Image.open(ROOT / "space" / "examples" / "astronaut.jpg") as photo:
        sketch = Translator.from_pretrained(WEIGHTS, "photo2sketch", "cpu")(photo, align=True)
    levels = np.asarray(sketch, float)
    assert sketch.mode == "L"
    assert levels.mean() > 120
    assert np.percentile(levels, 2) < 90  # dark strokes
