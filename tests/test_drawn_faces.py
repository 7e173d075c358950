import hashlib
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest
from PIL import Image, ImageFilter

from pix2pix.drawn_faces import HAIR_STYLES, LEFT_EYE, RIGHT_EYE, SIZE, DrawnPair, draw_pair, draw_pairs, traits

PAIRS = 24


@pytest.fixture(scope="module")
def pairs():
    return list(draw_pairs(PAIRS))


def digest(pair: DrawnPair) -> str:
    return hashlib.sha256(pair.photo.tobytes() + pair.sketch.tobytes()).hexdigest()


def grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"), dtype=float)


def edges(image: Image.Image) -> np.ndarray:
    across, down = np.gradient(grey(image.convert("L").filter(ImageFilter.GaussianBlur(1.5))))
    return np.hypot(across, down).ravel()


def test_every_pair_has_the_stated_size_and_modes(pairs):
    assert SIZE == (200, 250)
    assert {(pair.photo.size, pair.photo.mode) for pair in pairs} == {(SIZE, "RGB")}
    assert {(pair.sketch.size, pair.sketch.mode) for pair in pairs} == {(SIZE, "L")}


def test_a_seed_draws_the_same_pixels_again_whatever_was_drawn_before(pairs):
    assert digest(draw_pair(7)) == digest(pairs[7])
    assert traits(7) == traits(7)


def test_another_process_draws_the_same_pixels(pairs):
    program = (
        "import hashlib\n"
        "from pix2pix.drawn_faces import draw_pair\n"
        "for seed in (5, 3):\n"
        "    pair = draw_pair(seed)\n"
        "    print(hashlib.sha256(pair.photo.tobytes() + pair.sketch.tobytes()).hexdigest())\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == [digest(pairs[5]), digest(pairs[3])]


def test_drawing_leaves_the_global_random_state_alone():
    np.random.seed(11)
    expected = np.random.random()
    np.random.seed(11)
    draw_pair(0)
    assert np.random.random() == expected


def test_different_seeds_draw_different_people(pairs):
    assert len({digest(pair) for pair in pairs}) == PAIRS
    for side in range(2):
        small = np.stack([grey(pair[side].resize((20, 25))).ravel() for pair in pairs])
        apart = np.abs(small[:, None] - small[None]).mean(axis=2)
        assert apart[~np.eye(PAIRS, dtype=bool)].min() > 3


def test_draw_pairs_counts_up_from_its_first_seed(pairs):
    assert [digest(pair) for pair in draw_pairs(2, first_seed=4)] == [digest(pairs[4]), digest(pairs[5])]
    assert list(draw_pairs(0)) == []
    assert len(list(islice(draw_pairs(10**9), 2))) == 2  # drawn one by one, when asked for


@pytest.mark.parametrize("side", ["photo", "sketch"])
@pytest.mark.parametrize("eye", [LEFT_EYE, RIGHT_EYE])
def test_pupils_lie_where_stated_between_whites(pairs, side, eye):
    x, y = eye
    for seed, pair in enumerate(pairs):
        picture = grey(getattr(pair, side))
        pupil = picture[y - 1 : y + 2, x - 1 : x + 2].mean()
        whites = [picture[y - 2 : y + 3, x + reach - 1 : x + reach + 2].max() for reach in (-8, 8)]
        assert pupil < 75, f"seed {seed}"
        assert min(whites) > pupil + 40, f"seed {seed}"


def test_paper_is_nearly_white_and_graphite_nearly_black(pairs):
    for pair in pairs:
        sketch = grey(pair.sketch)
        assert sketch[:8, :8].mean() > 235
        assert sketch.min() < 50
        assert 130 < sketch.mean() < 240


def test_edges_of_a_sketch_agree_with_its_own_photo_more_than_with_any_other(pairs):
    photos = np.stack([edges(pair.photo) for pair in pairs])
    sketches = np.stack([edges(pair.sketch) for pair in pairs])
    agreement = np.corrcoef(photos, sketches)[:PAIRS, PAIRS:]
    own = np.diag(agreement)
    others = agreement[~np.eye(PAIRS, dtype=bool)]
    assert own.min() > 0.5
    assert own.mean() > others.mean() + 0.25
    assert (agreement.argmax(axis=1) == np.arange(PAIRS)).mean() > 0.9


def test_skin_in_the_photo_follows_the_trait_and_spans_the_human_range():
    cheeks = np.array([grey(draw_pair(seed).photo)[142:150, 92:108].mean() for seed in range(100)])
    skin = np.array([traits(seed).skin for seed in range(100)])
    assert cheeks.min() < 80
    assert cheeks.max() > 190
    assert np.corrcoef(cheeks, skin)[0, 1] < -0.85


def test_the_sketch_tells_skin_and_hair_by_tone():
    people = [(traits(seed), draw_pair(seed)) for seed in range(60)]
    forehead = [grey(pair.sketch)[140:152, 60:140].mean() for _, pair in people]
    assert np.corrcoef(forehead, [person.skin for person, _ in people])[0, 1] < -0.7
    haired = [(person, pair) for person, pair in people if person.hair not in ("bald", "buzz") and not person.wears_hat]
    crown = [grey(pair.sketch)[58:72, 85:115].mean() for _, pair in haired]
    assert np.corrcoef(crown, [person.hair_tone for person, _ in haired])[0, 1] > 0.6


def test_people_vary_in_every_trait():
    people = [traits(seed) for seed in range(500)]

    def share(condition) -> float:
        return sum(map(condition, people)) / len(people)

    assert {person.hair for person in people} == set(HAIR_STYLES)
    assert {person.beard for person in people} == {"none", "stubble", "moustache", "goatee", "full"}
    assert {person.glasses for person in people} == {"none", "round", "square", "cat-eye"}
    assert 0.2 < share(lambda person: person.glasses != "none") < 0.45
    assert 0.15 < share(lambda person: person.beard != "none") < 0.4
    assert 0.15 < share(lambda person: person.shows_teeth) < 0.5
    assert 0.02 < share(lambda person: person.wears_hat) < 0.15
    assert 0.1 < share(lambda person: person.wears_earrings) < 0.4
    assert 0.04 < share(lambda person: person.has_freckles) < 0.25
    assert 0.1 < share(lambda person: person.hair_tone > 0.85) < 0.4
    for name, low, high in (("skin", 0.05, 0.95), ("age", 0.05, 0.9), ("softness", 0.05, 0.95), ("smile", -0.2, 0.95)):
        values = [getattr(person, name) for person in people]
        assert min(values) < low, name
        assert max(values) > high, name


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        draw_pair(-1)
    with pytest.raises(ValueError, match="seed must be at least 0, got -3"):
        list(draw_pairs(2, first_seed=-3))
