"""`python -m pix2pix.export`: what ONNX Runtime draws from the files is what torch draws from the weights."""

import json
import subprocess
import sys

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from pix2pix.export import main, to_onnx, write_onnx
from pix2pix.generator import ModelError, UNetGenerator
from pix2pix.onnx_generator import OnnxGenerator

SIZES = [(1, 50, 40), (3, 51, 43), (2, 16, 16), (1, 17, 130), (1, 64, 64)]  # N, H, W
A_LEVEL = 2 / 255  # of 256, in model range


def small(**options) -> UNetGenerator:
    torch.manual_seed(0)
    defaults = {"in_channels": 3, "out_channels": 1, "base_channels": 4, "num_downsamples": 4, "image_size": (50, 40)}
    return UNetGenerator(**defaults | options).eval()


@pytest.fixture
def model(tmp_path):
    small().save_pretrained(tmp_path / "run" / "photo2sketch")
    small(in_channels=1, out_channels=3).save_pretrained(tmp_path / "run" / "sketch2photo")
    return tmp_path / "run"


def largest_difference(generator: nn.Module, other: nn.Module, shape: tuple[int, int, int]) -> float:
    batch, height, width = shape
    source = torch.rand(batch, generator.in_channels, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        expected, found = generator(source), other(source)
    assert found.shape == expected.shape
    return (found - expected).abs().max().item()


def error_of(capsys, *argv: object) -> str:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in argv])
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"upsampling": "resize"},
        {"upsampling": "subpixel"},
        {"upsampling": "blurred"},
        {"skips": False},
        {"head_channels": 6},
        {"smooth": True, "head_channels": 6, "out_channels": 1},
        {"noise_channels": 3},
        {"noise_channels": 1, "head_channels": 5, "upsampling": "blurred"},
        {"dropout": 0.0, "num_downsamples": 1},
        {"in_channels": 1, "out_channels": 3, "num_downsamples": 6},
    ],
    ids=str,
)
def test_it_draws_what_torch_draws_at_every_size_and_batch(tmp_path, options):
    generator = small(**options)
    write_onnx(generator, "photo2sketch", tmp_path / "model.onnx")
    exported = OnnxGenerator(tmp_path / "model.onnx")
    for shape in SIZES:
        assert largest_difference(generator, exported, shape) < A_LEVEL / 100


def test_the_papers_network_draws_what_torch_draws(tmp_path):
    torch.manual_seed(0)
    generator = UNetGenerator().eval()
    write_onnx(generator, "photo2sketch", tmp_path / "model.onnx")
    assert sum(p.numel() for p in generator.parameters()) * 4 < (tmp_path / "model.onnx").stat().st_size < 2**28
    exported = OnnxGenerator(tmp_path / "model.onnx")
    for shape in [(1, 256, 256), (2, 250, 200)]:
        assert largest_difference(generator, exported, shape) < A_LEVEL


def test_half_is_half_the_file_and_loses_nothing_of_weights_stored_in_half(tmp_path):
    small(base_channels=16).save_pretrained(tmp_path / "photo2sketch", dtype=torch.float16)
    generator = UNetGenerator.from_pretrained(tmp_path, subfolder="photo2sketch")
    for half in (False, True):
        write_onnx(generator, "photo2sketch", tmp_path / f"{half}.onnx", half=half)
    sizes = [(tmp_path / f"{half}.onnx").stat().st_size for half in (False, True)]
    assert sizes[1] < 0.6 * sizes[0]
    both = [OnnxGenerator(tmp_path / f"{half}.onnx") for half in (False, True)]
    assert largest_difference(both[0], both[1], (2, 50, 40)) == 0


def test_one_command_writes_both_directions_and_notes_what_they_need(model, tmp_path, capsys):
    assert main(["--model", str(model), "--output", str(tmp_path / "out")]) == 0
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert files == ["photo2sketch/model.onnx", "sketch2photo/model.onnx"]
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in printed] == [str(tmp_path / "out" / file) for file in files]

    session = onnxruntime.InferenceSession(tmp_path / "out" / "sketch2photo" / "model.onnx")
    assert [(value.name, value.shape) for value in session.get_inputs()] == [("source", ["N", 1, "H", "W"])]
    assert [(value.name, value.shape) for value in session.get_outputs()] == [("image", ["N", 3, "H", "W"])]
    notes = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    assert {name: notes[name] for name in ("model", "direction", "image_size", "value_range", "source", "layout")} == {
        "model": "run",  # its own name: where it lies is nobody's business
        "direction": "sketch2photo",
        "image_size": [50, 40],
        "value_range": [-1, 1],
        "source": "sketch",
        "layout": "N, C, H, W",
    }
    assert notes["channel_order"] == {"source": "grey (ITU-R 601 luma)", "image": "RGB"}
    for direction in ("photo2sketch", "sketch2photo"):
        generator = UNetGenerator.from_pretrained(model, subfolder=direction)
        exported = OnnxGenerator.from_pretrained(tmp_path / "out", subfolder=direction)
        assert largest_difference(generator, exported, (2, 50, 40)) < A_LEVEL / 100


def test_a_model_comes_from_the_hub(hub, model, tmp_path):
    from pix2pix.hub import push

    push(model, f"{hub.user}/faces")
    arguments = ["--model", f"{hub.user}/faces", "--revision", "main", "--direction", "photo2sketch", "--half"]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    notes = {entry.key: entry.value for entry in onnx.load(tmp_path / "out/photo2sketch/model.onnx").metadata_props}
    assert json.loads(notes["model"]) == f"{hub.user}/faces@main"
    assert json.loads(notes["weights"]) == "float16"
    assert not (tmp_path / "out" / "sketch2photo").exists()


def test_a_model_with_a_faulty_direction_writes_none(model, tmp_path, capsys):
    (model / "sketch2photo" / "model.safetensors").write_bytes(b"x" * 50)
    line = error_of(capsys, "--model", model, "--output", tmp_path / "out")
    assert "(sketch2photo) has a damaged model.safetensors" in line
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_read_or_written_is_named(model, tmp_path, capsys):
    assert "neither an existing folder nor a Hub id" in error_of(capsys, "--model", "a/b/c", "--output", tmp_path / "out")
    (tmp_path / "file").write_text("in the way")
    assert "--output" in error_of(capsys, "--model", model, "--output", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_layer_that_is_not_known_is_named():
    generator = small()
    generator.encoder[1].append(nn.GELU())
    with pytest.raises(ModelError, match=r"layer encoder.1.3 \(GELU"):
        to_onnx(generator, "photo2sketch")
    with pytest.raises(ValueError, match="direction must be one of"):
        to_onnx(small(), "AtoB")


def test_help_does_not_load_torch():
    code = (
        "import sys; from pix2pix.export import parser; parser(); sys.exit(bool({'torch', 'onnx', 'numpy'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
