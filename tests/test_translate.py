import numpy as np
import pytest
import torch
from PIL import Image

from pix2pix.generator import UNetGenerator
from pix2pix.inference import Translator
from pix2pix.translate import main


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    UNetGenerator(base_channels=4, num_downsamples=3, image_size=32).save_pretrained(tmp_path / "model" / "photo2sketch")
    return tmp_path / "model"


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for index, name in enumerate(("anna.png", "bo.JPG", "cem.webp")):
        Image.new("RGB", (40 + index, 50), (80 * index, 90, 200)).save(folder / name)
    (folder / "notes.txt").write_text("not a picture, and not named like one")
    return folder


def run(model, *inputs, output):
    return main(["--model", str(model), *map(str, inputs), "--output", str(output)])


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_folder_is_translated_file_by_file(model, pictures, tmp_path, capsys):
    assert run(model, pictures, output=tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["anna.png", "bo.png", "cem.png"]
    translator = Translator.from_pretrained(model, "photo2sketch", "cpu")
    for source, result in (("anna.png", "anna.png"), ("bo.JPG", "bo.png")):
        expected = translator(Image.open(pictures / source))
        assert np.abs(np.asarray(Image.open(tmp_path / "out" / result), int) - np.asarray(expected, int)).max() <= 1
    assert "3 of 3 pictures translated" in capsys.readouterr().out


def test_files_folders_and_globs_mix_and_nothing_is_done_twice(model, pictures, tmp_path):
    assert run(model, pictures / "anna.png", pictures / "*.png", pictures / "bo.JPG", output=tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["anna.png", "bo.png"]


def test_one_bad_file_is_reported_and_the_rest_go_on(model, pictures, tmp_path, capsys):
    (pictures / "fake.png").write_text("hello")
    whole = (pictures / "anna.png").read_bytes()
    (pictures / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (1, 1)).save(pictures / "dot.png")
    assert run(model, pictures, output=tmp_path / "out") == 1
    assert names(tmp_path / "out") == ["anna.png", "bo.png", "cem.png"]
    said = capsys.readouterr()
    assert "'fake.png' is not a picture in a known format" in said.err
    assert "'cut.png' is truncated or damaged" in said.err
    assert "'dot.png' must have at least 16 pixels a side, got 1 x 1" in said.err
    assert "3 of 6 pictures translated" in said.out


def test_many_batches_give_what_one_picture_at_a_time_gives(model, tmp_path, capsys):
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(23):
        pixels = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    (folder / "05.png").write_text("hello")
    (folder / "22.png").write_text("hello")
    assert main(["--model", str(model), str(folder), "--output", str(tmp_path / "one"), "--batch-size", "1"]) == 1
    assert main(["--model", str(model), str(folder), "--output", str(tmp_path / "out"), "--batch-size", "3"]) == 1
    said = capsys.readouterr()
    assert names(tmp_path / "one") == names(tmp_path / "out") == [f"{n:02d}.png" for n in range(22) if n != 5]
    for name in names(tmp_path / "one"):
        one, other = (np.asarray(Image.open(tmp_path / folder / name), int) for folder in ("one", "out"))
        assert np.abs(one - other).max() <= 1
    assert [line.split("'")[1] for line in said.err.splitlines() if "left out" in line] == ["05.png", "22.png"] * 2
    assert said.out.count("21 of 23 pictures translated") == 2


def test_pictures_that_cannot_be_written_are_named_and_the_rest_go_on(model, pictures, tmp_path, capsys):
    (tmp_path / "out" / "bo.png").mkdir(parents=True)  # a folder where the file should go
    assert run(model, pictures, output=tmp_path / "out") == 1
    said = capsys.readouterr()
    assert "'bo.png' could not be written to" in said.err
    assert "2 of 3 pictures translated" in said.out
    assert names(tmp_path / "out") == ["anna.png", "bo.png", "cem.png"]


def test_names_that_collide_are_told_apart(model, pictures, tmp_path):
    Image.new("RGB", (40, 50)).save(pictures / "anna.jpg")
    assert run(model, pictures, output=tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["anna.jpg.png", "anna.png.png", "bo.png", "cem.png"]


def test_a_picture_over_the_limit_is_left_out_before_it_is_decoded(model, pictures, tmp_path, capsys):
    Image.new("1", (10_000, 10_000)).save(pictures / "huge.png")
    assert run(model, pictures, output=tmp_path / "out") == 1
    assert "'huge.png' has 10000 x 10000 pixels, more than the limit of 64,000,000" in capsys.readouterr().err
    assert "huge.png" not in names(tmp_path / "out")


def test_an_input_is_never_overwritten(model, pictures, capsys):
    before = (pictures / "anna.png").read_bytes()
    with pytest.raises(SystemExit):
        run(model, pictures, output=pictures)
    assert "would overwrite the input" in capsys.readouterr().err
    assert (pictures / "anna.png").read_bytes() == before


def test_aligned_portraits_come_out_in_the_training_geometry(model, tmp_path):
    from pix2pix.drawn_faces import draw_pair

    scene = Image.new("RGB", (500, 400), (120, 130, 140))
    scene.paste(draw_pair(3).photo, (200, 100))
    scene.save(tmp_path / "scene.png")
    assert main(["--model", str(model), str(tmp_path / "scene.png"), "--output", str(tmp_path / "out"), "--align"]) == 0
    assert Image.open(tmp_path / "out" / "scene.png").size == (200, 250)


def test_a_seed_gives_a_variation_that_it_repeats(model, pictures, tmp_path):
    for output, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        main(["--model", str(model), str(pictures / "anna.png"), "--output", str(tmp_path / output), "--seed", seed])
    first, again, other = ((tmp_path / output / "anna.png").read_bytes() for output in "abc")
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "input 'nowhere.png' does not exist; give a picture, a folder of pictures, or a glob"),
        (["{empty}"], "holds no picture"),
        (["{in}", "--model", "{empty}"], "has no config.json"),
        (["{in}", "--direction", "sketch2photo"], "(sketch2photo) has no config.json"),
        (["{in}", "--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["{in}", "--output", "{in}/anna.png"], "--output '{in}/anna.png' cannot be written to"),
        (["{in}", "--device", "abacus"], "abacus"),
    ],
)
def test_a_wrong_command_says_so_in_one_line_and_writes_nothing(model, pictures, tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    places = {"empty": tmp_path / "empty", "in": pictures}
    given = [argument.format(**places) for argument in arguments]
    with pytest.raises(SystemExit) as stopped:
        main(["--model", str(model), "--output", str(tmp_path / "out"), *given])
    assert stopped.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.format(**places) in said
    assert [name for name in names(tmp_path / "out") if name.endswith(".png")] == []
