"""The page as a person uses it (a real server, a real Chromium) and as a program calls it.

The screenshots go to `screenshots/` in the checkout: look at them after a change to the page.
"""

import asyncio
import base64
import io
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pages
import pytest
import torch
from browser import ARGUMENTS, chromium_path
from figures import address as address_of
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from gradio_client.utils import Status
from limits import cores
from PIL import Image, ImageOps
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from ports import hold_port
from skimage import data

from pix2pix import faces
from pix2pix.directions import DIRECTIONS
from pix2pix.drawn_faces import draw_pair
from pix2pix.generator import UNetGenerator
from pix2pix.images import open_image, upright
from pix2pix.inference import Translator

ROOT = Path(__file__).parent.parent
SPACE = ROOT / "space"
SCREENSHOTS = ROOT / "screenshots"
PATIENCE = 240_000  # milliseconds; a limit for the hopeless, not a time anything is held to
SIDE_BY_SIDE = (200, 250)


@contextmanager
def serving(folder: Path, *, app: Path = SPACE / "app.py", **environment: str) -> Iterator[str]:
    """Run `space/app.py` in a folder until the block ends; yield its address. What it prints goes to `output.txt` there."""
    port, held = hold_port()
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # the page finds its package
    server = subprocess.Popen(
        [sys.executable, str(app)],
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
        held.close()

        def write_down() -> None:  # somebody must read, or the server would block on a full pipe
            with (folder / "output.txt").open("w", encoding="utf-8") as file:
                for line in server.stdout:
                    file.write(line)
                    file.flush()

        threading.Thread(target=write_down, daemon=True).start()
        yield address
    finally:
        deadline.cancel()
        server.send_signal(signal.SIGINT)
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def make_model(folder: Path, seed: int) -> Path:
    """A run folder with two small generators whose weights are random: colour to grey, and grey to colour."""
    torch.manual_seed(seed)
    for direction, channels in zip(DIRECTIONS, ((3, 1), (1, 3)), strict=True):
        generator = UNetGenerator(*channels, base_channels=8, num_downsamples=4, image_size=(125, 100), dropout=0.5)
        generator.save_pretrained(folder / direction)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("run"), 1)


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_model(tmp_path_factory.mktemp("other"), 2)
    card = "---\nlicense: other\n---\n# A model\n\nIt draws.\n\n## How to use\n\nType this.\n\n## Scores\n\nMAE 12 ![](g.png)\n"
    titles = "\n| | MAE (0 to 255) | PSNR (dB) | SSIM | FSIM | perceptual distance |\n|---|---|---|---|---|---|\n"
    scores = f"{titles}| floor: the mean training picture | 27.5 | 15.9 | .452 | .644 | .639 |\n"
    (folder / "README.md").write_text(card + scores, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the page is served from."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def address(model: Path, other_model: Path, served: Path) -> Iterator[str]:
    with serving(served, PIX2PIX_MODEL=f"{model}, {other_model}") as address:
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> Client:
    return Client(address, verbose=False, analytics_enabled=False)


@pytest.fixture(scope="module")
def chromium() -> str:
    """The path of the browser's program."""
    path = chromium_path()
    assert path, "there is no Chromium; run: python tests/browser.py"
    return path


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with opened(browser, width=1100, height=950) as page:
        yield page


@contextmanager
def opened(browser: Browser, *, width: int, height: int, **options: str) -> Iterator[Page]:
    """A fresh window; what goes wrong in its scripts fails the test."""
    page = browser.new_page(viewport={"width": width, "height": height}, **options)
    page.set_default_timeout(PATIENCE)
    errors = []
    page.on("pageerror", lambda error: errors.append(error))
    yield page
    page.close()
    assert errors == []


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


def go_to(page: Page, *tabs: str) -> None:
    for tab in tabs:
        page.get_by_role("tab", name=tab, exact=True).first.click()


def choose(page: Page, field: str, file: Path) -> None:
    page.locator(f"#{field}-picture input[type=file]").set_input_files(file)


def downloaded(page: Page, button: Locator) -> Image.Image:
    with page.expect_download() as download:
        button.click()
    assert download.value.suggested_filename.endswith(".png")
    with Image.open(download.value.path()) as image:
        assert image.format == "PNG"
        image.load()
    return image


def picture_of(image: Locator) -> Image.Image:
    """The picture that an `img` of the page shows."""
    return Image.open(io.BytesIO(base64.b64decode(image.get_attribute("src").partition(",")[2])))


def assert_same(result: Image.Image, expected: Image.Image) -> None:
    """The same pixels, but for a level where two processes round a sum differently."""
    assert result.size == expected.size
    pixels = [np.asarray(image.convert("RGB"), dtype=int) for image in (result, expected)]
    assert np.abs(pixels[0] - pixels[1]).max() <= 1
    assert pixels[1].std() > 5


def assert_alike(result: Image.Image, expected: Image.Image) -> None:
    """The same picture, but for the small losses of JPEG."""
    assert result.size == expected.size
    pixels = [np.asarray(image.convert("RGB"), dtype=int) for image in (result, expected)]
    assert np.abs(pixels[0] - pixels[1]).mean() < 6


# --- photo to sketch


def test_a_phone_photo_becomes_a_sketch_to_slide_over_and_to_download(page, address, model, photo):
    page.goto(address)
    choose(page, "photo2sketch", photo)
    view = page.locator("#photo2sketch-compare .compare")
    view.wait_for()
    expect(page.locator("#photo2sketch-note")).to_have_text("The face was found, aligned and translated.")
    translator = Translator.from_pretrained(model, "photo2sketch", "cpu")
    image = upright(open_image(photo))
    alignment = faces.align_largest(image)
    expected = translator(alignment.portrait)

    assert_same(picture_of(view.get_by_alt_text("Your photo", exact=True)), alignment.portrait)
    assert_same(picture_of(view.get_by_alt_text("The sketch made from your photo")), expected)
    box = view.locator(".compare-pictures").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 100)
    page.mouse.up()
    assert 20 <= int(view.get_by_role("slider").input_value()) <= 30
    divider = view.locator(".compare-divider").bounding_box()
    assert abs(divider["x"] + 1 - box["x"] - box["width"] / 4) < 0.06 * box["width"]
    assert_same(downloaded(page, page.locator("#photo2sketch-download")), expected)
    screenshot(page, "photo-to-sketch")

    page.locator("#photo2sketch-whole input").check()
    whole = downloaded(page, page.locator("#photo2sketch-download-whole"))
    assert_same(whole, faces.put_back(image, expected, alignment))
    assert whole.size == (512, 512)
    screenshot(page, "photo-to-sketch-whole")


def test_the_example_can_be_picked_and_translated_without_aligning(page, address, model):
    page.goto(address)
    page.locator("#photo2sketch-align input").uncheck()
    page.locator("#photo2sketch-examples button").first.click()
    expect(page.locator("#photo2sketch-note")).to_have_text("The whole picture was translated.")
    example = open_image(SPACE / "examples" / "astronaut.jpg")
    assert example.size == (300, 375)
    result = downloaded(page, page.locator("#photo2sketch-download"))
    assert_same(result, Translator.from_pretrained(model, "photo2sketch", "cpu")(example))


def test_a_photo_without_a_face_is_translated_and_the_page_says_so(page, address, model, tmp_path):
    pixels = np.linspace(60, 200, 400 * 300).reshape(300, 400).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "slope.png")
    page.goto(address)
    choose(page, "photo2sketch", tmp_path / "slope.png")
    note = page.locator("#photo2sketch-note")
    expect(note).to_have_text("No face was found, so the middle of the picture was translated.")
    crop = faces.align(Image.fromarray(pixels), None).portrait
    result = downloaded(page, page.locator("#photo2sketch-download"))
    assert_same(result, Translator.from_pretrained(model, "photo2sketch", "cpu")(crop))


def test_of_several_faces_the_largest_is_taken_or_the_chosen_one(page, address, model, tmp_path):
    portrait = Image.fromarray(data.astronaut()).crop((60, 0, 360, 375))
    scene = Image.new("RGB", (640, 400), (120, 130, 140))
    scene.paste(portrait.resize((200, 250)), (20, 120))
    scene.paste(ImageOps.mirror(portrait), (320, 10))
    scene.save(tmp_path / "two.png")
    translator = Translator.from_pretrained(model, "photo2sketch", "cpu")
    found = faces.find_faces(scene)
    assert len(found) == 2

    page.goto(address)
    choose(page, "photo2sketch", tmp_path / "two.png")
    note = page.locator("#photo2sketch-note")
    expect(note).to_have_text("2 faces were found; this is the second from the left (the largest).")
    assert_same(downloaded(page, page.locator("#photo2sketch-download")), translator(faces.align(scene, found[0]).portrait))
    page.get_by_role("radio", name="The first from the left").check()
    expect(note).to_have_text("2 faces were found; this is the first from the left.")
    assert_same(downloaded(page, page.locator("#photo2sketch-download")), translator(faces.align(scene, found[1]).portrait))
    screenshot(page, "two-faces")


def test_a_picture_of_the_camera_becomes_a_sketch(browser, chromium, address, model, tmp_path):
    """Chromium's own camera shows a file: the portrait before a wall."""
    scene = Image.new("RGB", (640, 480), (120, 130, 140))
    scene.paste(Image.fromarray(data.astronaut()).crop((60, 0, 360, 375)), (100, 60))
    scene.save(tmp_path / "frame.jpg", quality=95)
    (tmp_path / "camera.mjpeg").write_bytes(2 * (tmp_path / "frame.jpg").read_bytes())
    camera = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    film = f"--use-file-for-fake-video-capture={tmp_path / 'camera.mjpeg'}"
    filming = browser.browser_type.launch(executable_path=chromium, args=[*ARGUMENTS, *camera, film])
    with filming, opened(filming, width=1100, height=950) as page:
        page.goto(address)
        field = page.locator("#photo2sketch-picture")
        field.get_by_label("Capture from camera").click()
        field.get_by_text("Click to Access Webcam").click()
        page.wait_for_function("document.querySelector('#photo2sketch-picture video')?.videoWidth > 0")
        field.get_by_label("capture photo").click()
        view = page.locator("#photo2sketch-compare .compare")
        view.wait_for()
        taken = picture_of(view.get_by_alt_text("Your photo", exact=True))
        screenshot(page, "camera")
        sketched = downloaded(page, page.locator("#photo2sketch-download"))
    assert_same(sketched, Translator.from_pretrained(model, "photo2sketch", "cpu")(taken))
    portrait = np.asarray(faces.align_largest(scene).portrait, dtype=int)
    found = np.asarray(taken, dtype=int)
    assert np.abs(found - portrait).mean() < 15 < np.abs(found[:, ::-1] - portrait).mean(), "it is that face, not mirrored"


def test_a_picture_of_the_clipboard_becomes_a_sketch(browser, address, model):
    picture = draw_pair(5).photo
    with opened(browser, width=1100, height=950, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.goto(address)
        page.evaluate(
            """async source => {
              const blob = await (await fetch(source)).blob();
              await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
            }""",
            address_of(picture),
        )
        page.locator("#photo2sketch-align input").uncheck()
        page.locator("#photo2sketch-picture").get_by_label("Paste from clipboard").click()
        page.locator("#photo2sketch-compare .compare").wait_for()
        sketched = downloaded(page, page.locator("#photo2sketch-download"))
    assert_same(sketched, Translator.from_pretrained(model, "photo2sketch", "cpu")(picture))


# --- sketch to photo


def draw(page: Page, *points: tuple[float, float]) -> None:
    """Draw a line on the pad through points in pixels of the training geometry, 200 x 250."""
    box = page.locator("#pad canvas").bounding_box()
    on_screen = [(box["x"] + x * box["width"] / 200, box["y"] + y * box["height"] / 250) for x, y in points]
    page.mouse.move(*on_screen[0])
    page.mouse.down()
    for point in on_screen[1:]:
        page.mouse.move(*point, steps=5)
    page.mouse.up()


def drawing_of(page: Page) -> Image.Image:
    source = page.locator("#pad canvas").evaluate("canvas => canvas.toDataURL('image/png')")
    return Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("L")


def photo_of(drawing: Image.Image, model: Path) -> Image.Image:
    small = drawing.resize(SIDE_BY_SIDE, Image.Resampling.LANCZOS)
    return Translator.from_pretrained(model, "sketch2photo", "cpu")(small)


def settle(page: Page) -> None:
    """Wait until the photo is that of the last stroke."""
    page.wait_for_function("document.querySelector('#pad .pad').dataset.settled === 'true'")


def test_the_photo_follows_the_strokes_and_no_stale_frame_waits(page, address, model):
    under_way, most, answers = set(), [], []

    def begin(request):
        if "/component_server" in request.url:
            under_way.add(request)
            most.append(len(under_way))

    def end(request):
        if request in under_way:
            under_way.discard(request)
            answers.append(request)

    page.on("request", begin)
    page.on("requestfinished", end)
    page.goto(address)
    go_to(page, "Sketch to photo")
    hint = page.get_by_text("Draw a face on the page")
    expect(hint).to_be_visible()
    shown = page.get_by_alt_text("The photo made from your drawing")
    expect(shown).to_be_hidden()

    page.get_by_label("Face guide").check()
    draw(page, (50, 130), (60, 190), (100, 206), (140, 190), (150, 130))
    expect(shown).to_be_visible()
    settle(page)
    first = picture_of(shown)
    assert_alike(first, photo_of(drawing_of(page), model))
    expect(hint).to_be_hidden()

    for x in (75, 125):
        draw(page, (x - 8, 125), (x, 121), (x + 8, 125), (x, 128), (x - 8, 125))
    page.get_by_role("button", name="Soft pencil").click()
    draw(page, (60, 60), (140, 70), (60, 80), (140, 90))
    page.get_by_role("button", name="Eraser").click()
    draw(page, (95, 206), (105, 206))
    settle(page)
    drawing = drawing_of(page)
    assert_alike(picture_of(shown), photo_of(drawing, model))
    assert np.abs(np.asarray(first, dtype=int) - np.asarray(picture_of(shown), dtype=int)).mean() > 1
    grey = np.asarray(drawing)
    assert 90 < grey[120:180, 120:280].min() < 200, "the soft pencil is softer than the pencil"
    assert grey[400:424, 196:204].min() > 250, "the eraser leaves paper"
    assert grey[252, 170:180].min() > 250, "the guide is not part of the drawing"
    screenshot(page, "drawing")

    assert_same(downloaded(page, page.locator("#pad [data-action=save-photo]")), photo_of(drawing, model))
    assert_same(downloaded(page, page.locator("#pad [data-action=save-drawing]")), drawing)
    assert len(answers) > 5
    assert max(most) == 1

    page.get_by_role("button", name="Undo").click()
    settle(page)
    assert not np.array_equal(np.asarray(drawing_of(page)), grey)
    page.get_by_role("button", name="Blank page").click()
    expect(hint).to_be_visible()
    expect(page.locator("#pad").get_by_role("status")).to_have_text("The page is blank: draw a face on it.")
    expect(shown).to_be_hidden()


def test_the_sketch_just_made_can_be_drawn_on(page, address, model, photo):
    page.goto(address)
    choose(page, "photo2sketch", photo)
    page.get_by_role("button", name="Draw on this sketch").click()
    expect(page.get_by_alt_text("The photo made from your drawing")).to_be_visible()
    sketched = Translator.from_pretrained(model, "photo2sketch", "cpu")(open_image(photo), align=True)
    drawing = drawing_of(page).resize(sketched.size, Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(drawing, dtype=int) - np.asarray(sketched, dtype=int)).mean() < 3


def test_an_uploaded_sketch_becomes_the_photo_that_the_translator_makes(page, address, model, sketch):
    page.goto(address)
    go_to(page, "Sketch to photo", "Upload")
    choose(page, "sketch2photo", sketch)
    expect(page.locator("#sketch2photo-note")).to_have_text("The whole picture was translated.")
    result = downloaded(page, page.locator("#sketch2photo-download"))
    assert_same(result, Translator.from_pretrained(model, "sketch2photo", "cpu")(open_image(sketch)))
    screenshot(page, "sketch-to-photo")


# --- round trip, variations, models


def test_the_round_trip_shows_both_translations_and_what_was_lost(page, address, model, sketch):
    to_photo, to_sketch = (Translator.from_pretrained(model, way, "cpu") for way in reversed(DIRECTIONS))
    page.goto(address)
    go_to(page, "Round trip")
    page.locator("#trip-examples button").nth(1).click()
    figures = page.locator("#trip-result figure")
    expect(figures).to_have_count(4)
    expect(page.locator("#trip-result")).to_contain_text("Photo again")
    screenshot(page, "round-trip")

    page.get_by_role("radio", name="A sketch").check()
    expect(page.locator("#trip-result")).to_contain_text("Sketch again")
    expect(page.locator("#trip-examples img").first).to_have_attribute("alt", "Sketch of a drawn person with curls")
    page.locator("#trip-examples button").nth(2).click()
    expect(page.locator("#trip-picture img")).to_have_attribute("src", re.compile("drawn-35-sketch.png"))
    page.locator("#trip-align input").uncheck()
    choose(page, "trip", sketch)
    start = open_image(sketch)
    there = to_photo(start)
    back = to_sketch(there)
    gap = np.abs(np.asarray(start, dtype=int) - np.asarray(back, dtype=int))
    expect(page.locator("#trip-note")).to_contain_text(f"{gap.mean():.1f} of 255 levels off")
    shown = [picture_of(figures.nth(index).locator("img")) for index in range(4)]
    assert_same(shown[0], start)
    assert_same(shown[1], there)
    assert_same(shown[2], back)
    assert_same(downloaded(page, figures.nth(1).get_by_role("link", name="Download")), there)
    assert np.abs(np.asarray(shown[3], dtype=int) - (255 - (3 * gap).clip(0, 255))).max() <= 3


def test_variants_differ_by_their_seeds_and_the_same_seed_gives_the_same_picture(page, address, model, sketch):
    translator = Translator.from_pretrained(model, "sketch2photo", "cpu")
    image = open_image(sketch)
    page.goto(address)
    go_to(page, "Variations")
    page.get_by_role("radio", name="A sketch").check()
    page.locator("#vary-align input").uncheck()
    choose(page, "vary", sketch)
    figures = page.locator("#vary-result figure")
    expect(figures).to_have_count(4)
    shown = [picture_of(figures.nth(index).locator("img")) for index in range(4)]
    for seed, variant in enumerate(shown, start=1):
        assert_same(variant, translator(image, seed=seed))
    assert len({variant.tobytes() for variant in shown}) == 4
    screenshot(page, "variations")

    page.locator("#vary-seed input").fill("3")
    page.locator("#vary-strength input[type=number]").fill("0")
    page.get_by_role("button", name="Make variants").click()
    expect(page.get_by_alt_text("The photo of seed 6 made from your sketch")).to_be_visible()
    for index in range(4):
        assert_same(picture_of(figures.nth(index).locator("img")), translator(image))


def test_another_model_can_be_chosen_and_read_about(page, address, other_model, photo):
    page.goto(address)
    choice = page.locator("#model input")
    choice.click()
    page.get_by_role("option", name=str(other_model)).click()
    choose(page, "photo2sketch", photo)
    page.locator("#photo2sketch-compare .compare").wait_for()
    expected = Translator.from_pretrained(other_model, "photo2sketch", "cpu")(open_image(photo), align=True)
    assert_same(downloaded(page, page.locator("#photo2sketch-download")), expected)

    go_to(page, "Sketch to photo")
    draw(page, (60, 60), (140, 160), (60, 200))
    expect(page.get_by_alt_text("The photo made from your drawing")).to_be_visible()
    settle(page)
    assert_alike(picture_of(page.get_by_alt_text("The photo made from your drawing")), photo_of(drawing_of(page), other_model))

    go_to(page, "About")
    card = page.locator("#card")
    expect(card).to_contain_text("MAE 12")
    expect(card).to_contain_text("It draws.")
    expect(card).not_to_contain_text("Type this.")
    assert card.locator("img").count() == 0
    expect(page.get_by_text("Do not use it to identify anybody")).to_be_visible()
    screenshot(page, "about")
    page.set_viewport_size({"width": 360, "height": 740})
    heights = [cell.bounding_box()["height"] for cell in card.locator("td").all()]
    assert max(heights) < 60, "on a phone no number is broken into several lines"
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    screenshot(page, "phone-about")


# --- any window, any hand, any light


def test_every_tab_fits_a_phone_and_asks_no_other_server(browser, address):
    requested = []
    with opened(browser, width=360, height=740) as page:
        page.on("request", lambda request: requested.append(request.url))
        page.goto(address)
        page.locator("#photo2sketch-examples button").first.click()
        page.locator("#photo2sketch-compare .compare").wait_for()
        screenshot(page, "phone-photo-to-sketch")
        widths = [page.evaluate("document.documentElement.scrollWidth")]
        for tab in ("Sketch to photo", "Round trip", "Variations", "About"):
            go_to(page, tab)
            if tab == "Sketch to photo":
                page.get_by_role("button", name="Example").click()
                expect(page.get_by_alt_text("The photo made from your drawing")).to_be_visible()
                paper, shown = (page.locator(f"#pad {part}").bounding_box() for part in ("canvas", ".pad-photo"))
                assert shown["y"] + shown["height"] <= paper["y"]  # both are in sight while one draws
                assert paper["y"] + paper["height"] - shown["y"] <= 740
            if tab in ("Round trip", "Variations"):
                field = "trip" if tab == "Round trip" else "vary"
                page.locator(f"#{field}-examples button").first.click()
                page.locator(f"#{field}-result .figures").wait_for()
            screenshot(page, f"phone-{tab.lower().replace(' ', '-')}")
            widths.append(page.evaluate("document.documentElement.scrollWidth"))
        assert max(widths) <= 360
        assert [url for url in requested if not url.startswith((address, "data:", "blob:"))] == []
        assert page.evaluate("[...document.images].filter(image => !image.alt).map(image => image.outerHTML)") == []


def press_until(page: Page, key: str, target: Locator) -> None:
    """Press a key until the target has the focus."""
    for _ in range(60):
        page.keyboard.press(key)
        if target.evaluate("target => target === document.activeElement || target.contains(document.activeElement)"):
            return
    pytest.fail(f"{key} never reaches {target}")


def test_the_keyboard_alone_is_enough(page, address):
    page.goto(address)
    example = page.locator("#photo2sketch-examples button").first
    example.wait_for()
    press_until(page, "Tab", example)
    page.keyboard.press("Enter")
    slider = page.get_by_role("slider", name="How much of the photo is shown")
    slider.wait_for()
    press_until(page, "Tab", slider)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert slider.input_value() == "48"
    assert page.locator(".compare-after").evaluate("after => getComputedStyle(after).clipPath").endswith("48%)")
    button = page.locator("#photo2sketch-draw-on")
    press_until(page, "Tab", button)
    page.keyboard.press("Enter")
    canvas = page.locator("#pad canvas")
    canvas.wait_for()
    blank = page.get_by_role("button", name="Blank page")
    press_until(page, "Shift+Tab", blank)
    page.keyboard.press("Enter")
    expect(page.get_by_alt_text("The photo made from your drawing")).to_be_hidden()
    press_until(page, "Tab", canvas)
    page.keyboard.press("Space")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "Shift+ArrowUp"):
        page.keyboard.press(key)
    page.keyboard.press("Space")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_alt_text("The photo made from your drawing")).to_be_visible()
    ink = np.argwhere(np.asarray(drawing_of(page)) < 200)
    assert ink.min(axis=0) == pytest.approx([240, 200], abs=3)
    assert ink.max(axis=0) == pytest.approx([260, 205], abs=3)


CONTRAST = """selectors => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = channels(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  return selectors.map(selector => {
    const node = document.querySelector(selector);
    const pair = [light(channels(getComputedStyle(node).color)), light(behind(node))].sort((a, b) => b - a);
    return (pair[0] + 0.05) / (pair[1] + 0.05);
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_in_light_and_in_the_dark(browser, address, scheme):
    with opened(browser, width=1100, height=950, color_scheme=scheme) as page:
        page.goto(address)
        page.locator("#photo2sketch-examples button").first.click()
        page.locator("#photo2sketch-compare .compare").wait_for()
        screenshot(page, f"{scheme}-photo-to-sketch")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        level = np.mean([float(number) for number in re.findall(r"\d+", background)[:3]])
        assert level < 60 if scheme == "dark" else level > 200
        words = [
            "#title h1",
            "#title p",
            "#foot p",
            "#photo2sketch-note p",
            ".compare figcaption span",
            "#photo2sketch-draw-on",
        ]
        assert min(page.evaluate(CONTRAST, words)) >= 4.5
        go_to(page, "Sketch to photo")
        page.get_by_role("button", name="Example").click()
        expect(page.get_by_alt_text("The photo made from your drawing")).to_be_visible()
        screenshot(page, f"{scheme}-drawing")
        words = [
            ".pad-tools [aria-pressed=true]",
            ".pad-tools [aria-pressed=false]",
            ".pad figcaption span",
            ".pad-tools label",
        ]
        assert min(page.evaluate(CONTRAST, words)) >= 4.5


# --- what goes wrong


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def blank_png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


BAD_FILES = {
    "letter.png": (b"Dear Sir or Madam", "'letter.png' is not a picture in a known format; use PNG"),
    "page.jpg": (b"<!doctype html><title>404</title>", "'page.jpg' is not a picture in a known format"),
    "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "'drawing.svg' is not a picture in a known format"),
    "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "'phone.heic' is not a picture in a known format"),
    "bomb.png": (png_that_claims(50_000, 50_000), "'bomb.png' has more pixels than the limit of 64,000,000"),
    "large.png": (png_that_claims(10_000, 10_000), "has 10000 x 10000 pixels, more than the limit of 64,000,000"),
    "hollow.png": (png_that_claims(500, 500), "'hollow.png' is truncated or damaged"),
    "dot.png": (blank_png(1, 1), "at least 16 pixels a side, got 1 x 1"),
    "ribbon.png": (blank_png(20_000, 20), "at most 8 times longer than wide, got 20000 x 20"),
}


def test_each_bad_file_gets_a_sentence_and_the_next_picture_is_served(page, address, served, photo, tmp_path):
    page.goto(address)
    bad = BAD_FILES | {"cut.jpg": (photo.read_bytes()[:5000], "'cut.jpg' is truncated or damaged")}
    for name, (content, sentence) in bad.items():
        (tmp_path / name).write_bytes(content)
        choose(page, "photo2sketch", tmp_path / name)
        toast = page.get_by_test_id("toast-text").filter(has_text=sentence)
        expect(toast.first).to_be_visible()
        assert toast.first.inner_text().count(".") <= 3  # file names hold some
        page.get_by_test_id("toast-close").first.click()
        page.locator("#photo2sketch-picture").get_by_label("Remove Image").click()
    choose(page, "photo2sketch", photo)
    page.locator("#photo2sketch-compare .compare").wait_for()
    assert "Traceback" not in (served / "output.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["frames.gif", "deep.tif", "float.tif", "glass.png", "grey.jpg", "ink.jpg"])
def test_unusual_pictures_are_read_sensibly(client, model, tmp_path, name):
    """Animated, 16-bit, floating-point, transparent, grey and CMYK pictures show what their plain form shows."""
    plain = draw_pair(5).photo
    expected, path = plain, tmp_path / name
    if name == "frames.gif":
        expected = plain.quantize(64)
        expected.save(path, save_all=True, append_images=[draw_pair(6).photo])
    elif name in ("deep.tif", "float.tif"):
        expected = plain.convert("L")
        levels = np.asarray(expected)
        values = levels.astype(np.uint16) * 257 if name == "deep.tif" else (levels / 255).astype(np.float32)
        Image.fromarray(values).save(path)
    elif name == "glass.png":
        clear = plain.copy()
        clear.putalpha(Image.linear_gradient("L").resize(plain.size))
        clear.save(path)
        expected = Image.composite(plain, Image.new("RGB", plain.size, "white"), clear.getchannel("A"))
    else:
        expected = plain.convert("L" if name == "grey.jpg" else "CMYK")
        expected.save(path, quality=100)
    result, _ = client.predict(handle_file(path), align=False, api_name="/photo_to_sketch")
    with Image.open(result) as sketched:
        wanted = Translator.from_pretrained(model, "photo2sketch", "cpu")(upright(expected))
        assert np.abs(np.asarray(sketched, dtype=int) - np.asarray(wanted, dtype=int)).mean() < 1.5


def test_a_file_above_the_limit_is_refused(client, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(20 * 1024 * 1024 + 1))
    with pytest.raises(Exception, match=r"413|[Tt]oo [Ll]arge|exceed"):
        client.predict(handle_file(tmp_path / "large.png"), api_name="/photo_to_sketch")


def test_without_a_model_the_page_says_how_to_get_one_and_takes_the_weights_that_appear(page, model, sketch, tmp_path):
    """Laid out as a published Space: the page's files and the package beside each other."""
    home = tmp_path / "space"
    shutil.copytree(SPACE, home, ignore=shutil.ignore_patterns("weights", "__pycache__", "static"))
    shutil.copytree(ROOT / "pix2pix", home / "pix2pix", ignore=shutil.ignore_patterns("__pycache__"))
    with serving(tmp_path, app=home / "app.py") as address:
        page.goto(address)
        notice = page.get_by_role("alert").filter(has_text="There is no model here yet")
        expect(notice).to_contain_text("PIX2PIX_MODEL=DIR python space/app.py")
        screenshot(page, "no-model")
        go_to(page, "Sketch to photo")
        draw(page, (60, 60), (140, 160))
        expect(page.locator("#pad").get_by_role("status")).to_contain_text("There is no model here yet.")
        go_to(page, "Upload")
        choose(page, "sketch2photo", sketch)
        expect(page.get_by_test_id("toast-text")).to_contain_text("There is no model here yet.")

        shutil.copytree(model / "sketch2photo", home / "weights" / "sketch2photo")
        page.reload()
        go_to(page, "Sketch to photo", "Upload")
        choose(page, "sketch2photo", sketch)
        result = downloaded(page, page.locator("#sketch2photo-download"))
        assert_same(result, Translator.from_pretrained(model, "sketch2photo", "cpu")(open_image(sketch)))
        expect(notice).to_be_hidden()
        go_to(page, "Photo to sketch")
        choose(page, "photo2sketch", sketch)
        expect(page.get_by_test_id("toast-text").last).to_contain_text("does not translate photo to sketch")


def test_when_the_queue_is_full_the_next_is_told_politely_and_all_others_are_served(browser, model, photo, monkeypatch):
    monkeypatch.setenv("PIX2PIX_MODEL", str(model))
    demo = pages.build().queue(max_size=3)
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, enable_monitoring=False)
    gate = pages.translations().gate
    try:
        client = Client(address, verbose=False, analytics_enabled=False)
        jobs = []
        with ExitStack() as held:
            for _ in range(cores()):  # every slot is taken, so whoever comes must wait
                held.enter_context(gate.patient())
            for _ in range(cores()):
                jobs.append(client.submit(handle_file(photo), api_name="/photo_to_sketch"))
                wait_for(lambda: jobs[-1].status().code == Status.PROCESSING)
            for waiting in range(1, 4):
                jobs.append(client.submit(handle_file(photo), api_name="/photo_to_sketch"))
                wait_for(lambda waiting=waiting: len(demo._queue) == waiting)
            with opened(browser, width=1100, height=950) as page:
                page.goto(address)
                choose(page, "photo2sketch", photo)
                expect(page.get_by_test_id("toast-text")).to_contain_text("currently busy. Please try again")
                screenshot(page, "busy")
                go_to(page, "Sketch to photo")
                draw(page, (60, 60), (140, 160))
                expect(page.locator("#pad").get_by_role("status")).to_contain_text("The server is busy")
                held.close()
                expect(page.get_by_alt_text("The photo made from your drawing")).to_be_visible()
        for job in jobs:
            assert job.result(timeout=PATIENCE / 1000)[1] == "The face was found, aligned and translated."
    finally:
        demo.close()


def wait_for(condition: Callable[[], bool]) -> None:
    """Look again and again until it holds."""
    between = threading.Event()
    for _ in range(PATIENCE // 50):
        if condition():
            return
        between.wait(0.05)
    pytest.fail("it never came to that")


# --- privacy


def test_nothing_of_a_picture_is_logged_and_a_drawing_leaves_no_file(page, client, address, served, photo):
    client.predict(handle_file(photo), api_name="/photo_to_sketch")
    before = set((served / "cache").rglob("*"))
    page.goto(address)
    go_to(page, "Sketch to photo")
    draw(page, (60, 60), (140, 160))
    expect(page.get_by_alt_text("The photo made from your drawing")).to_be_visible()
    settle(page)
    assert set((served / "cache").rglob("*")) == before
    assert "portrait" not in (served / "output.txt").read_text(encoding="utf-8")
    assert {path.name for path in served.iterdir()} == {"cache", "output.txt"}


IN_A_HURRY = f"""
import sys
sys.path.insert(0, {str(SPACE)!r})
import app, pages
pages.SECONDS_BETWEEN_SWEEPS, pages.SECONDS_KEPT = 1, 20
pages.translations()
app.main()
"""


def test_uploads_and_results_are_deleted_when_their_time_has_come(page, model, photo, sketch, tmp_path):
    """The page as it is, but in a hurry: all that a visitor and a program leave is gone after 20 seconds."""
    (tmp_path / "app.py").write_text(IN_A_HURRY, encoding="utf-8")
    with serving(tmp_path, app=tmp_path / "app.py", PIX2PIX_MODEL=str(model)) as address:
        client = Client(address, verbose=False, analytics_enabled=False, download_files=False)
        for endpoint, picture in (("photo_to_sketch", photo), ("sketch_to_photo", sketch), ("round_trip", photo)):
            client.predict(handle_file(picture), api_name=f"/{endpoint}")
        page.goto(address)
        page.locator("#photo2sketch-whole input").check()
        choose(page, "photo2sketch", photo)
        page.locator("#photo2sketch-download-whole").wait_for()

        def kept() -> set[str]:
            return {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}

        assert {"portrait.jpg", "sketch.png", "whole.png"} <= kept()
        wait_for(lambda: not kept())


def test_half_an_hour_is_what_the_page_says_and_nothing_is_recorded(client):
    page = pages.build()
    assert page.delete_cache == (pages.SECONDS_BETWEEN_SWEEPS, pages.SECONDS_KEPT)
    assert f"after at most\n{(pages.SECONDS_BETWEEN_SWEEPS + pages.SECONDS_KEPT) // 60} minutes" in pages.ABOUT
    assert client.config["analytics_enabled"] is False
    assert not client.config.get("run_history")


# --- programs


def test_programs_call_both_directions_by_name(client, model, other_model, photo, sketch):
    image = open_image(photo)
    drawn, note = client.predict(handle_file(photo), api_name="/photo_to_sketch")
    translator = Translator.from_pretrained(model, "photo2sketch", "cpu")
    with Image.open(drawn) as result:
        assert_same(result, translator(image, align=True))
    assert note == "The face was found, aligned and translated."

    varied, _ = client.predict(handle_file(photo), seed=7, strength=1.5, api_name="/photo_to_sketch")
    with Image.open(varied) as result:
        assert_same(result, translator(image, align=True, seed=7, strength=1.5))

    whole, _ = client.predict(handle_file(photo), put_back=True, model=str(other_model), api_name="/photo_to_sketch")
    alignment = faces.align_largest(image)
    expected = Translator.from_pretrained(other_model, "photo2sketch", "cpu")(alignment.portrait)
    with Image.open(whole) as result:
        assert_same(result, faces.put_back(image, expected, alignment))

    painted, note = client.predict(handle_file(sketch), api_name="/sketch_to_photo")
    with Image.open(painted) as result:
        assert_same(result, Translator.from_pretrained(model, "sketch2photo", "cpu")(open_image(sketch)))
    assert note == "The whole picture was translated."

    named = client.view_api(return_format="dict")["named_endpoints"]
    assert sorted(named) == ["/photo_to_sketch", "/round_trip", "/sketch_to_photo"]
    for endpoint in named.values():
        first, *others = endpoint["parameters"]
        assert first["parameter_name"] == "picture"
        assert all(parameter["parameter_has_default"] for parameter in others)


async def ask_as_an_agent(address: str, **arguments: object) -> tuple[dict, object]:
    """The tools that the page offers to language models, by name, and what the first direction answers."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def on_progress(*_: object) -> None:  # who follows a call gets pictures; others the address of one
        pass

    async with streamablehttp_client(f"{address}/gradio_api/mcp/") as (inbox, outbox, _), ClientSession(inbox, outbox) as agent:
        await agent.initialize()
        tools = {tool.name: tool for tool in (await agent.list_tools()).tools}
        return tools, await agent.call_tool("photo_to_sketch", arguments, progress_callback=on_progress)


def test_language_models_find_the_same_as_tools(address, model):
    example = open_image(SPACE / "examples" / "drawn-8-photo.png")

    def ask(**arguments: object) -> tuple[dict, object]:
        with ThreadPoolExecutor(1) as elsewhere:  # the browser's own event loop runs in this thread
            return elsewhere.submit(asyncio.run, ask_as_an_agent(address, **arguments)).result()

    tools, answer = ask(picture=address_of(example), align=False)
    assert sorted(tools) == ["photo_to_sketch", "round_trip", "sketch_to_photo"]
    for tool in tools.values():
        assert tool.inputSchema["required"] == ["picture"]
        assert all(field.get("description") for field in tool.inputSchema["properties"].values())
    assert tools["photo_to_sketch"].description.startswith("Draw a pencil sketch of a portrait photo.")
    picture, _, note = answer.content
    with Image.open(io.BytesIO(base64.b64decode(picture.data))) as sketched:
        assert_same(sketched, Translator.from_pretrained(model, "photo2sketch", "cpu")(example))
    assert note.text == "The whole picture was translated."

    _, answer = ask(picture=address_of(example), strength=3)
    assert answer.isError
    assert answer.content[0].text.endswith("Strength must be between 0 and 2, got 3.")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"face": 2}, "Face must be between 1 and 1 for this picture, got 2."),
        ({"seed": -1}, "Seed must be between 0 and 2147483647, got -1."),
        ({"strength": 3}, "Strength must be between 0 and 2, got 3"),
        ({"model": "/etc"}, "Model must be one of"),
    ],
)
def test_programs_are_told_in_a_sentence_what_they_may_ask_for(client, photo, arguments, sentence):
    with pytest.raises(AppError, match=sentence):
        client.predict(handle_file(photo), api_name="/photo_to_sketch", **arguments)


def test_the_readmes_program_runs(address, photo, sketch, tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (program,) = [block for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) if "gradio_client" in block]
    (written,) = set(re.findall(r"http://[\w.:]+", program))
    shutil.copy(photo, tmp_path / "me.jpg")
    shutil.copy(sketch, tmp_path / "drawing.png")
    done = subprocess.run(
        [sys.executable, "-c", program.replace(written, address) + "\nprint(sketch, photo, there, difference, mean)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *pictures, mean = done.stdout.split()[-5:]
    for picture in pictures:
        with Image.open(picture) as image:
            image.load()
    assert 0 < float(mean) < 255
