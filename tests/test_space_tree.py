"""What a Space gets is complete: it is started with its own files and its own packages, and nothing else in sight."""

import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path

import gradio
import numpy as np
import pytest
import torch
import yaml
from gradio_client import Client, handle_file
from huggingface_hub import HfApi
from packaging.requirements import Requirement
from PIL import Image
from ports import hold_port

from pix2pix import hub as hub_module
from pix2pix.directions import DIRECTIONS
from pix2pix.downloads import CARD_BYTES
from pix2pix.drawn_faces import draw_pair
from pix2pix.generator import UNetGenerator
from pix2pix.inference import Translator
from pix2pix.publish import main
from pix2pix.space_tree import MARK, SpaceError, needed_modules, pinned
from pix2pix.static_page import PAGE_FILES, RUNTIME_FILES

ROOT = Path(__file__).parent.parent
PATIENCE = 120  # seconds; a limit for the hopeless


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "faces"
    torch.manual_seed(1)
    for direction, channels in zip(DIRECTIONS, ((3, 1), (1, 3)), strict=True):
        generator = UNetGenerator(*channels, base_channels=8, num_downsamples=4, image_size=(125, 100))
        generator.save_pretrained(folder / direction, dtype=torch.float16)
    return folder


def front_matter(card: bytes) -> dict:
    return yaml.safe_load(card.decode().split("---\n")[1])


def only_these_packages(folder: Path, pins: list[str]) -> Path:
    """Make an environment that holds the pinned packages and what they need, and return its Python.

    The packages are links to the ones of this environment: the same files that pip would unpack, without the minutes.
    Nothing else can be imported.
    """
    venv.create(folder, with_pip=False)
    site = next(folder.glob("lib/python*/site-packages"))
    names: set[str] = set()
    waiting = [(Requirement(pin), "") for pin in pins]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        package = importlib.metadata.distribution(requirement.name)
        children = [Requirement(line) for line in package.requires or ()]
        wanted = {f"{requirement.name}[{extra}]": extra for extra in ("", *requirement.extras)}
        waiting += [(child, extra) for key, extra in wanted.items() if key not in names for child in children]
        names |= wanted.keys()
        for top in {file.parts[0] for file in package.files if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                (site / top).symlink_to(package.locate_file(top))
    return folder / "bin" / "python"


def start(python: Path, folder: Path) -> tuple[subprocess.Popen, str]:
    port, held = hold_port()
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "OMP_NUM_THREADS")}
    server = subprocess.Popen(
        [python, "app.py"],
        cwd=folder,
        env=kept
        | {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder.parent / "cache"), "HF_HUB_OFFLINE": "1"}
        | {"PYTHONUNBUFFERED": "1", "GRADIO_ANALYTICS_ENABLED": "False"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = threading.Timer(PATIENCE, server.kill)
    deadline.start()
    output = []
    for line in server.stdout:
        output.append(line)
        if f":{port}" in line:
            break
    else:
        pytest.fail(f"the Space did not start:\n{''.join(output)}")
    deadline.cancel()
    held.close()
    threading.Thread(target=server.stdout.read, daemon=True).start()
    return server, f"http://127.0.0.1:{port}"


@pytest.fixture
def published(hub, model, tmp_path) -> Iterator[dict[str, bytes]]:
    hub_module.push(model, f"{hub.user}/model")
    assert main(["--space", f"{hub.user}/my-faces", "--model", f"{hub.user}/model"]) == 0
    return hub.files(f"{hub.user}/my-faces", kind="space")


def test_the_published_space_starts_with_its_own_packages_and_translates(hub, published, model, tmp_path):
    files = published
    folder = tmp_path / "space"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    front = front_matter(files["README.md"])
    assert (front["sdk"], front["sdk_version"], front["app_file"]) == ("gradio", gradio.__version__, "app.py")
    assert front["python_version"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert front["models"] == [f"{hub.user}/model"]
    assert len(front["short_description"]) <= 60
    assert HfApi().space_info(f"{hub.user}/my-faces").sdk == "gradio"
    assert "pix2pix/data.py" not in files
    assert "pix2pix/inference.py" in files

    python = only_these_packages(tmp_path / "environment", files["requirements.txt"].decode().split())
    absent = "import importlib.util as u; print([n for n in ('accelerate', 'datasets', 'onnx', 'pytest') if u.find_spec(n)])"
    assert subprocess.run([python, "-c", absent], capture_output=True, text=True, check=True).stdout == "[]\n"

    server, address = start(python, folder)
    try:
        draw_pair(3).sketch.save(tmp_path / "sketch.png")
        client = Client(address, verbose=False, analytics_enabled=False)
        painted, *_ = client.predict(handle_file(tmp_path / "sketch.png"), api_name="/sketch_to_photo")
        with Image.open(tmp_path / "sketch.png") as image, Image.open(painted) as result:
            expected = np.asarray(Translator.from_pretrained(model, "sketch2photo", "cpu")(image), int)
            assert np.abs(np.asarray(result.convert("RGB"), int) - expected).max() <= 1

        with urllib.request.urlopen(f"{address}/device") as answer:  # and on to /device/
            assert answer.read() == files["static/index.html"]
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        with urllib.request.urlopen(f"{address}/device/models/photo2sketch.onnx") as answer:
            assert answer.read() == files["static/models/photo2sketch.onnx"]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{address}/device/../app.py")
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def test_a_second_publishing_replaces_the_first_and_nothing_of_somebody_elses(hub, model, capsys):
    api = HfApi()
    assert main(["--static-space", f"{hub.user}/still", "--model", str(model), "--message", "First"]) == 0
    api.upload_file(path_or_fileobj=b"left over", path_in_repo="old.txt", repo_id=f"{hub.user}/still", repo_type="space")
    assert main(["--static-space", f"{hub.user}/still", "--model", str(model)]) == 0
    files = hub.files(f"{hub.user}/still", kind="space")
    runtime = [f"ort/{name}" for name in RUNTIME_FILES]
    assert {*PAGE_FILES, *runtime, "README.md", "LICENSE", "models/models.json"} < files.keys()
    assert "old.txt" not in files
    assert "app.py" not in files
    assert MARK in files["README.md"].decode()
    front = front_matter(files["README.md"])
    assert (front["sdk"], front["app_file"], front["title"]) == ("static", "index.html", "Still")
    assert front["custom_headers"]["cross-origin-embedder-policy"] == "require-corp"
    assert "models" not in front
    assert str(model) not in "".join(content.decode(errors="ignore") for content in files.values())
    assert [commit.title for commit in api.list_repo_commits(f"{hub.user}/still", repo_type="space")][-2] == "First"

    api.create_repo(f"{hub.user}/garden", repo_type="space", space_sdk="static")
    api.upload_file(path_or_fileobj=b"roses", path_in_repo="index.html", repo_id=f"{hub.user}/garden", repo_type="space")
    with pytest.raises(SystemExit) as caught:
        main(["--static-space", f"{hub.user}/garden", "--model", str(model)])
    assert caught.value.code == 2
    assert "holds something that was not published from here" in capsys.readouterr().err.splitlines()[-1]
    assert hub.files(f"{hub.user}/garden", kind="space")["index.html"] == b"roses"


def test_a_model_that_is_not_there_is_named_before_anything_is_sent(hub, tmp_path, capsys):
    for arguments, sentence in (
        (["--model", "artist/nothing"], "neither a local folder nor a repository on the Hub"),
        (["--model", str(tmp_path)], "no config.json"),
        (["--model", str(tmp_path), "--revision", "v1"], "--revision goes with --repo"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["--space", "artist/page", *arguments])
        assert caught.value.code == 2
        assert sentence in capsys.readouterr().err.splitlines()[-1]
    assert not hub.writes()


def test_a_model_whose_card_is_too_long_is_refused_before_it_is_fetched(hub, model, capsys):
    hub_module.push(model, "artist/model")
    HfApi().upload_file(path_or_fileobj=b"#" * (CARD_BYTES + 1), path_in_repo="README.md", repo_id="artist/model")
    hub.requests.clear()
    with pytest.raises(SystemExit) as caught:
        main(["--space", "artist/page", "--model", "artist/model"])
    assert caught.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "model 'artist/model': README.md has 1,000,001 bytes, more than the 1,000,000 that it may have" in said
    assert {line.method for line in hub.requests if "README.md" in line.path} == {"HEAD"}
    assert not hub.writes()


def test_the_modules_are_those_that_are_imported_from_one_another(tmp_path):
    (tmp_path / "package").mkdir()
    sources = {
        "app": "from package import a",
        "a": "def f():\n    import package.b",
        "b": "import json",
        "c": "import package.a",
    }
    for name, text in sources.items():
        (tmp_path / ("app.py" if name == "app" else f"package/{name}.py")).write_text(text)
    assert needed_modules([tmp_path / "app.py"], tmp_path / "package") == ["__init__", "a", "b"]


def test_pins_are_what_is_installed_here(tmp_path):
    pins = pinned(ROOT / "space" / "requirements.txt")
    assert {f"gradio[mcp]=={gradio.__version__}", f"pillow=={importlib.metadata.version('pillow')}"} < set(pins)
    assert [pin for pin in pins if pin.startswith("torch==")] == [f"torch=={torch.__version__.partition('+')[0]}"]
    assert all(next(iter(Requirement(pin).specifier)).operator == "==" for pin in pins)

    for line, sentence in (
        ("torch>=99", r"torch \d.*is installed here, not one of torch>=99"),
        ("no-such-package", "no-such-package is not installed here"),
    ):
        (tmp_path / "requirements.txt").write_text(f"# a comment\n{line}\n")
        with pytest.raises(SpaceError, match=sentence):
            pinned(tmp_path / "requirements.txt")
    (tmp_path / "requirements.txt").write_text('no-such-package; python_version < "3"\n')
    assert pinned(tmp_path / "requirements.txt") == []


def test_the_copy_does_not_need_git_and_leaves_private_files_out(hub, model, tmp_path):
    """Only what the page is made of: no caches, no hidden files, no weights of an earlier try."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "runs", "screenshots", "__pycache__", "tests"))
    (copy / "space" / ".secret").write_text("token")
    (copy / "space" / "__pycache__").mkdir()
    (copy / "space" / "__pycache__" / "app.pyc").write_bytes(b"cache")
    (copy / "space" / "weights").mkdir(exist_ok=True)
    (copy / "space" / "weights" / "old.safetensors").write_bytes(b"old")
    command = [sys.executable, "-m", "pix2pix.publish", "--space", f"{hub.user}/copy", "--model", str(model)]
    subprocess.run(command, cwd=copy, env=os.environ | {"PYTHONPATH": str(copy)}, check=True, capture_output=True)
    files = hub.files(f"{hub.user}/copy", kind="space")
    assert {"app.py", "device.py", "LICENSE", "weights/photo2sketch/model.safetensors", "static/index.html"} <= files.keys()
    assert not [name for name in files if ".secret" in name or "pycache" in name or "old" in name]
