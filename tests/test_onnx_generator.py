import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from pix2pix.export import to_onnx, write_onnx
from pix2pix.generator import ModelError, UNetGenerator
from pix2pix.inference import Translator
from pix2pix.onnx_generator import OnnxGenerator


@pytest.fixture
def generator():
    torch.manual_seed(0)
    return UNetGenerator(3, 1, base_channels=4, num_downsamples=4, image_size=(50, 40))


@pytest.fixture
def exported(generator, tmp_path):
    write_onnx(generator, "photo2sketch", tmp_path / "exported" / "photo2sketch" / "model.onnx")
    return tmp_path / "exported"


def picture(size, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1] // 5 + 1, size[0] // 5 + 1, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def pixels(image):
    return np.asarray(image).astype(int)


def test_an_exported_folder_translates_as_the_run_folder_does(generator, exported, tmp_path):
    generator.save_pretrained(tmp_path / "run" / "photo2sketch")
    by_torch = Translator.from_pretrained(tmp_path / "run", "photo2sketch", "cpu", dtype=torch.float32)
    by_onnx = Translator.from_pretrained(exported, "photo2sketch")
    assert isinstance(by_onnx.generator, OnnxGenerator)
    assert by_onnx.device == torch.device("cpu")
    images = [picture(size) for size in ((40, 50), (60, 75), (300, 20), (16, 16))]
    for one, other in zip(by_torch(images), by_onnx(images, batch_size=3), strict=True):
        assert one.mode == other.mode == "L"
        assert np.abs(pixels(one) - pixels(other)).max() <= 1
        assert pixels(one).std() > 1


def test_the_runtime_is_chosen_by_name_or_by_what_the_folder_holds(generator, exported):
    generator.save_pretrained(exported / "photo2sketch")
    chosen = {
        runtime: type(Translator.from_pretrained(exported, "photo2sketch", "cpu", runtime=runtime).generator)
        for runtime in (None, "torch", "onnx")
    }
    assert chosen == {None: UNetGenerator, "torch": UNetGenerator, "onnx": OnnxGenerator}
    with pytest.raises(ValueError, match="runtime must be torch or onnx, got 'tensorflow'"):
        Translator.from_pretrained(exported, "photo2sketch", runtime="tensorflow")
    with pytest.raises(ModelError, match=r"\(sketch2photo\) has no model.onnx; write one: python -m pix2pix.export"):
        Translator.from_pretrained(exported, "sketch2photo", runtime="onnx")
    with pytest.raises(ModelError, match=r"'user/model' \(photo2sketch\) has no model.onnx"):
        Translator.from_pretrained("user/model", "photo2sketch", runtime="onnx")


def test_a_variation_is_refused_because_the_file_holds_no_dropout(exported):
    with pytest.raises(ValueError, match="seed needs the torch runtime, got seed 3 with onnx"):
        Translator.from_pretrained(exported, "photo2sketch")(picture((40, 50)), seed=3)


def test_a_file_of_the_other_direction_is_refused(exported):
    (exported / "photo2sketch").rename(exported / "sketch2photo")
    with pytest.raises(ModelError, match="translates photo2sketch, not sketch2photo"):
        Translator.from_pretrained(exported, "sketch2photo")


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ({"image_size": None}, "was not written by pix2pix.export: it does not note its image_size"),
        ({"image_size": "[1, 1]"}, "image_size must be at least 16, got 1"),
        ({"image_size": "[99999, 16]"}, "image_size must be whole numbers up to 4096"),
        ({"in_channels": "true"}, "in_channels must be a whole number from 1 to 64, got True"),
        ({"direction": '"upwards"'}, "direction must be one of photo2sketch, sketch2photo, got 'upwards'"),
        ({"out_channels": "three"}, "has unusable notes"),
    ],
)
def test_notes_are_judged_before_they_are_used(generator, tmp_path, notes, message):
    proto = to_onnx(generator, "photo2sketch")
    values = {entry.key: entry.value for entry in proto.metadata_props} | notes
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, {name: value for name, value in values.items() if value is not None})
    onnx.save(proto, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=message):
        OnnxGenerator(tmp_path / "model.onnx")


def test_a_file_that_is_no_model_is_named(exported, tmp_path):
    whole = (exported / "photo2sketch" / "model.onnx").read_bytes()
    for content in (b"", b"Dear Sir or Madam", whole[: len(whole) // 2]):
        (tmp_path / "model.onnx").write_bytes(content)
        with pytest.raises(ModelError, match="is damaged, or no ONNX file; export it again"):
            OnnxGenerator(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="cannot be read"):
        OnnxGenerator(tmp_path / "nothing.onnx")


def test_a_file_of_a_terabyte_is_not_read(exported):
    os.truncate(exported / "photo2sketch" / "model.onnx", 2**40)  # a hole: it takes no room on the disk
    with pytest.raises(ModelError, match="has 1,099,511,627,776 bytes, and no ONNX file has more than 2,147,483,648"):
        OnnxGenerator.from_pretrained(exported, subfolder="photo2sketch")


def test_a_file_may_not_send_the_runtime_to_another_file(generator, tmp_path):
    proto = to_onnx(generator, "photo2sketch")
    onnx.save(proto, tmp_path / "model.onnx", save_as_external_data=True, location="elsewhere.bin", size_threshold=0)
    assert (tmp_path / "elsewhere.bin").exists()
    with pytest.raises(ModelError, match="is damaged, or no ONNX file"):
        OnnxGenerator(tmp_path / "model.onnx")


def test_without_the_runtime_the_sentence_holds_the_command_that_installs_it(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match="pip install onnxruntime"):
        Translator.from_pretrained(exported, "photo2sketch")


def test_the_runtime_is_imported_when_it_is_needed():
    code = "import sys, pix2pix.inference; print(json.dumps(sorted({'onnx', 'onnxruntime'} & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", f"import json; {code}"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
