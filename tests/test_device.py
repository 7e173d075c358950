"""The page for the visitor's own device, as the server of the other page hands it out."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import device
import pytest
import torch
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pix2pix.directions import DIRECTIONS
from pix2pix.generator import UNetGenerator
from pix2pix.static_page import PAGE_FILES, RUNTIME_FILES


@pytest.fixture
def run(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    for direction in DIRECTIONS:
        UNetGenerator(base_channels=4, num_downsamples=3, image_size=32).save_pretrained(tmp_path / "run" / direction)
    return tmp_path / "run"


def client_of(model: Path) -> TestClient:
    return TestClient(Starlette(routes=device.routes(lambda: (str(model), None))))


def test_every_part_of_the_page_is_handed_out_and_isolated(run):
    client = client_of(run)
    files = [name for name in PAGE_FILES if name != "index.html"]
    files += [f"ort/{name}" for name in RUNTIME_FILES] + [f"models/{direction}.onnx" for direction in DIRECTIONS]
    for name in ["", *files]:
        answer = client.get(f"/device/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        # A browser runs neither modules nor WebAssembly that come as something else.
        kinds = {".js": "javascript", ".mjs": "javascript", ".wasm": "application/wasm", ".css": "text/css", "": "text/html"}
        assert kinds.get(Path(name).suffix, "") in answer.headers["Content-Type"], name
    assert client.get("/device").url.path == "/device/"
    for outside in ("../device.py", "%2e%2e/device.py", "models/../../run/photo2sketch/config.json"):
        assert client.get(f"/device/{outside}").status_code == 404


def test_it_is_built_once_and_again_when_the_run_has_gone_on(run):
    client = client_of(run)
    first = client.get("/device/models/photo2sketch.onnx").content
    shutil.copyfile(run / "sketch2photo" / "model.safetensors", run / "spare")
    assert client.get("/device/models/photo2sketch.onnx").content == first
    torch.manual_seed(1)
    UNetGenerator(base_channels=4, num_downsamples=3, image_size=32).save_pretrained(run / "photo2sketch")
    assert client.get("/device/models/photo2sketch.onnx").content != first


def test_without_a_model_it_says_so_and_recovers(run, tmp_path):
    client = client_of(tmp_path / "later")
    answer = client.get("/device/")
    assert answer.status_code == 503
    assert "is not ready: " in answer.text
    assert "later" in answer.text
    shutil.copytree(run, tmp_path / "later")
    assert json.loads(client.get("/device/models/models.json").text)["model"] == "later"


def test_what_an_error_says_is_not_read_as_html(tmp_path):
    answer = client_of(tmp_path / "<script>").get("/device/")
    assert "<script>" not in answer.text
    assert "&lt;script&gt;" in answer.text


def test_a_missing_package_gets_a_sentence(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    answer = client_of(run).get("/device/")
    assert answer.status_code == 503
    assert "pip install onnx" in answer.text


def test_the_servers_start_does_not_wait_for_torch():
    folder = str(Path(device.__file__).parent)
    code = f"import sys; sys.path.insert(0, {folder!r}); import device; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
