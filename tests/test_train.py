"""The main job: real runs of tiny networks, some of them in processes that are really killed."""

import contextlib
import hashlib
import json
import os
import pty
import re
import signal
import stat
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import psutil
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from datasets import load_dataset
from PIL import Image
from safetensors.torch import load_file, save_file

import train
from pix2pix import arguments
from pix2pix.checkpoints import list_states
from pix2pix.drawn_faces import draw_pair
from pix2pix.generator import UNetGenerator
from pix2pix.inference import Translator

ROOT = Path(__file__).parent.parent
TINY = [
    "--image-size", "32", "--base-channels", "4", "--max-channels", "8", "--num-downsamples", "3",
    "--discriminator-channels", "4",
    "--receptive-field", "16", "--perceptual-weight", "0", "--projected-weight", "0",
    "--batch-size", "2", "--validation-fraction", "0.2", "--num-threads", "1",
]  # fmt: skip
DIRECTIONS = ("photo2sketch", "sketch2photo")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Ten drawn people in folders, shrunk so that reading them takes no time."""
    root = tmp_path_factory.mktemp("data") / "people"
    for index in range(10):
        for column, picture in zip(("photos", "sketches"), draw_pair(index), strict=False):
            folder = root / "train" / column
            folder.mkdir(parents=True, exist_ok=True)
            picture.resize((40, 50)).save(folder / f"person{index}.png")
    return root


def run_here(*argv):
    """Run train.py in this process, as a run of its own: accelerate keeps the settings of the last one."""
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    return train.main(list(argv))


@pytest.fixture
def start(pairs, tmp_path):
    """Run train.py in this process on the ten people, into `tmp_path / name`."""

    def run(name, *extra, dataset=pairs):
        data = ["--dataset", str(dataset)] if dataset else []
        return run_here(*data, *TINY, "--output-dir", str(tmp_path / name), *extra)

    return run


def resume(folder, *extra):
    return run_here("--output-dir", str(folder), "--resume", *extra)


def lines(folder, kind):
    with open(folder / "metrics.jsonl", encoding="utf-8") as file:
        return [line for line in map(json.loads, file) if line["kind"] == kind]


def weights(folder):
    """A digest of every finished weight file, best and last, by its place in the run folder."""
    files = sorted(path for path in folder.rglob("model.safetensors") if "state" not in path.parts)
    assert files
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def process(name, pairs, tmp_path, *extra, **options):
    command = [sys.executable, str(ROOT / "train.py"), "--dataset", str(pairs), *TINY, "--output-dir", str(tmp_path / name)]
    return subprocess.Popen([*command, *extra], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


# -- a run and what it leaves ------------------------------------------------------------------------------------------


def test_a_run_leaves_the_folder_that_everything_else_reads(start, tmp_path, capsys):
    assert start("run", "--num-epochs", "3", "--validate-every", "1", "--checkpoint-every", "1", "--log-every", "2") == 0
    run = tmp_path / "run"
    for direction in DIRECTIONS:
        for folder in (run / direction, run / "last" / direction):
            assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
            assert UNetGenerator.from_pretrained(folder).image_size == (32, 32)
        assert Translator.from_pretrained(run, direction)(Image.new("RGB", (60, 50))).size == (60, 50)
    assert sorted(path.name for path in (run / "state").iterdir()) == ["epoch_0002", "epoch_0003"]
    assert Image.open(run / "grid.png").width > 6 * 32
    assert sorted(path.name for path in (run / "grids").iterdir()) == [f"epoch_000{n}.png" for n in (1, 2, 3)]
    assert Image.open(run / "curves.png").size[0] > 100
    assert "not for identification" in (run / "README.md").read_text().lower()
    assert arguments.read_arguments(run)["planned_epochs"] == 3
    assert arguments.read_arguments(run)["train_pairs"] == 8
    said = capsys.readouterr().out
    assert f"PIX2PIX_MODEL={run} python space/app.py" in said
    assert str(run / "grid.png") in said


def test_metrics_hold_losses_scores_and_floors_of_both_directions(start, tmp_path):
    start("run", "--num-epochs", "2", "--validate-every", "1", "--log-every", "1")
    run = tmp_path / "run"
    for direction in DIRECTIONS:
        losses = [line for line in lines(run, "train") if line["direction"] == direction]
        assert [line["step"] for line in losses] == list(range(1, 9))
        assert all({"loss_d", "loss_g", "adversarial", "reconstruction", "learning_rate"} <= line.keys() for line in losses)
        scored = [line for line in lines(run, "validation") if line["direction"] == direction]
        assert [line["epoch"] for line in scored] == [0, 1, 2]
        assert all(line.keys() >= {"mae", "psnr", "ssim", "fsim", "perceptual"} for line in scored)
        (floors,) = (line for line in lines(run, "floors") if line["direction"] == direction)
        assert floors.keys() >= {"mean_picture", "another_person", "input"}


def test_the_best_weights_are_those_of_the_best_score(start, tmp_path):
    start("run", "--num-epochs", "4", "--validate-every", "1", "--learning-rate", "0.02", "--direction", "sketch2photo")
    scored = lines(tmp_path / "run", "validation")[1:]
    best = max(scored, key=lambda line: line["score"])
    assert [line["epoch"] for line in scored if line["best"]][-1] == best["epoch"]
    same = (
        weights(tmp_path / "run")["sketch2photo/model.safetensors"]
        == weights(tmp_path / "run")["last/sketch2photo/model.safetensors"]
    )
    assert same == (best["epoch"] == 4)


def test_training_lowers_the_reconstruction_loss(start, tmp_path):
    start("run", "--num-epochs", "12", "--direction", "photo2sketch", "--learning-rate", "2e-3", "--log-every", "4")
    losses = [line["reconstruction"] for line in lines(tmp_path / "run", "train")]
    assert losses[-1] < 0.7 * losses[0]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(start, tmp_path):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        start(name, "--num-epochs", "1", "--seed", seed)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert not set(weights(tmp_path / "a").values()) & set(weights(tmp_path / "c").values())


@pytest.mark.parametrize("preset", ["lite", "paper"])
def test_two_processes_of_the_same_seed_make_the_same_weights(pairs, tmp_path, preset):
    own = ["--preset", preset, "--max-steps", "2", "--mixed-precision", "no"]
    own += ["--perceptual-weight", "1", "--projected-weight", "1"] if preset == "lite" else []
    both = [process(name, pairs, tmp_path, *own) for name in ("a", "b")]
    for running in both:
        said, _ = running.communicate()
        assert running.returncode == 0, said
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_without_people_held_out_the_last_weights_are_the_product(start, tmp_path):
    assert start("run", "--num-epochs", "1", "--validation-fraction", "0") == 0
    found = weights(tmp_path / "run")
    for direction in DIRECTIONS:
        assert found[f"{direction}/model.safetensors"] == found[f"last/{direction}/model.safetensors"]
    assert arguments.read_arguments(tmp_path / "run")["train_pairs"] == 10


def test_what_a_run_leaves_can_be_read_by_whom_the_umask_lets(pairs, tmp_path):
    running = process("run", pairs, tmp_path, "--max-steps", "1", "--report-to", "tensorboard", umask=0o027)
    said, _ = running.communicate()
    assert running.returncode == 0, said
    left = list((tmp_path / "run").rglob("*"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in left if path.is_file()} == {0o640}
    assert {stat.S_IMODE(path.stat().st_mode) for path in left if path.is_dir()} == {0o750}
    assert {".safetensors", ".png", ".json", ".jsonl", ".md"} <= {path.suffix for path in left}


# -- the paper's ablations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "objective",
    [
        ["--adversarial", "none"],  # L1
        ["--adversarial", "none", "--reconstruction", "l2"],  # L2
        ["--reconstruction", "none", "--no-conditional"],  # GAN
        ["--reconstruction", "none"],  # cGAN
        ["--no-conditional"],  # L1+GAN
        ["--adversarial", "cross-entropy"],  # L1+cGAN
        ["--adversarial", "hinge"],
        ["--no-skips"],  # the encoder-decoder
        ["--receptive-field", "1"],
        ["--receptive-field", "286"],
        ["--upsampling", "subpixel", "--no-mirror", "--jitter", "1", "--no-spectral", "--ema-decay", "0"],
        ["--perceptual-weight", "1"],
        ["--projected-weight", "1"],
        ["--projected-weight", "1", "--adversarial-weight", "0", "--no-conditional"],
        ["--channels", "1", "3", "--image-size", "48", "40"],
        ["--image-size", "16", "--receptive-field", "70", "--num-downsamples", "7"],
    ],
)
def test_every_row_of_the_ablation_can_be_trained(start, tmp_path, objective):
    assert start("run", "--max-steps", "2", "--direction", "photo2sketch", "--log-every", "1", *objective) == 0
    losses = lines(tmp_path / "run", "train")
    assert len(losses) == 2
    assert ("loss_d" in losses[0]) is (objective[:2] != ["--adversarial", "none"] and "--adversarial-weight" not in objective)
    assert ("loss_f" in losses[0]) is ("--projected-weight" in objective)
    assert (losses[0]["reconstruction"] == 0) is (objective[:2] == ["--reconstruction", "none"])
    found = weights(tmp_path / "run")
    assert found["last/photo2sketch/model.safetensors"] == found["photo2sketch/model.safetensors"]


def test_the_way_back_is_judged_where_it_is_asked_for(start, tmp_path):
    assert start("run", "--max-steps", "2", "--log-every", "1", "--cycle-weight", "5", "--l1-weight", "0") == 0
    for line in lines(tmp_path / "run", "train"):
        assert line["cycle"] > 0
        assert line["loss_g"] > 5 * line["cycle"]
    assert start("other", "--max-steps", "2", "--log-every", "1", "--l1-weight", "0") == 0
    assert all("cycle" not in line for line in lines(tmp_path / "other", "train"))
    assert weights(tmp_path / "run") != weights(tmp_path / "other")


def test_the_source_is_wanted_in_the_features_of_the_domain_that_asks_for_it(start, tmp_path):
    found = []
    for name, wanted in (("none", "0"), ("some", "1")):
        own = ["--max-steps", "1", "--log-every", "1", "--perceptual-weight", "1", "--perceptual-source", "0", wanted]
        assert start(name, *own) == 0
        found.append({line["direction"]: line["perceptual"] for line in lines(tmp_path / name, "train")})
    assert found[0]["photo2sketch"] != found[1]["photo2sketch"]
    assert found[0]["sketch2photo"] == found[1]["sketch2photo"]


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_both_precisions_train(start, tmp_path, precision):
    assert start("run", "--max-steps", "3", "--mixed-precision", precision, "--log-every", "3") == 0
    for line in lines(tmp_path / "run", "train"):
        assert all(value == value and abs(value) < 1e4 for value in line.values() if isinstance(value, float))


def test_accumulated_batches_equal_one_large_batch(start, tmp_path):
    plain = ["--max-steps", "3", "--dropout", "0", "--discriminator-noise", "0", "--no-spectral", "--mixed-precision", "no"]
    plain += ["--ema-decay", "0", "--noise-channels", "0", "0", "--direction", "photo2sketch"]
    start("large", *plain, "--batch-size", "4")
    start("accumulated", *plain, "--batch-size", "2", "--gradient-accumulation-steps", "2")
    start("small", *plain, "--batch-size", "2")

    def vector(name):
        generator = UNetGenerator.from_pretrained(tmp_path / name / "last" / "photo2sketch")
        return torch.cat([p.detach().flatten() for p in generator.parameters() if p.ndim > 1])

    large, accumulated, small = map(vector, ("large", "accumulated", "small"))
    # The median: where a gradient is next to nothing, Adam turns rounding into a whole step.
    moved = (large - small).abs() > 1e-6
    assert moved.float().mean() > 0.3
    assert (large - accumulated).abs()[moved].median() < 0.1 * (large - small).abs()[moved].median()


def test_compiled_networks_train(start, tmp_path):
    """At a size whose halves are odd: what pads them must have a backward pass that the compiler knows."""
    flags = ["--max-steps", "2", "--direction", "photo2sketch", "--compile", "--log-every", "1", "--image-size", "36", "30"]
    assert start("run", *flags) == 0
    assert len(lines(tmp_path / "run", "train")) == 2


# -- stop and go on ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", ["--num-epochs 2", "--max-steps 6", "--max-steps 5"])
def test_a_resumed_run_equals_one_that_never_stopped(start, tmp_path, stop):
    """At the end of an epoch, and in the middle of one: four steps an epoch; the plan is four epochs throughout."""
    common = [
        "--validate-every",
        "1",
        "--checkpoint-every",
        "1",
        "--decay-start",
        "1",
        "--log-every",
        "1",
        "--mixed-precision",
        "bf16",
    ]
    if stop == "--max-steps 5":
        common += ["--projected-weight", "1"]  # once with all that a state can hold
    start("straight", *common, "--num-epochs", "4")
    start("stopped", *common, *(["--num-epochs", "4"] if "steps" in stop else []), *stop.split())
    stopped_at = lines(tmp_path / "stopped", "train")[-1]["step"]
    assert stopped_at < 16
    assert resume(tmp_path / "stopped", "--num-epochs", "4", *(["--max-steps", "100"] if "steps" in stop else [])) == 0
    assert weights(tmp_path / "straight") == weights(tmp_path / "stopped")

    def told(name):
        return [(line["step"], line["direction"], line["loss_g"]) for line in lines(tmp_path / name, "train")]

    assert told("straight") == told("stopped")


def test_a_resumed_stream_equals_one_that_never_stopped(start, tmp_path):
    common = ["--streaming", "--validation-fraction", "0.3", "--direction", "photo2sketch", "--log-every", "1"]
    common += ["--num-epochs", "3", "--validate-every", "1", "--checkpoint-every", "1"]
    assert start("straight", *common) == 0
    start("stopped", *common, "--max-steps", "5")
    assert resume(tmp_path / "stopped", "--num-epochs", "3", "--max-steps", "100") == 0
    assert weights(tmp_path / "straight") == weights(tmp_path / "stopped")
    told = [(line["step"], line["loss_g"]) for line in lines(tmp_path / "straight", "train")]
    assert told == [(line["step"], line["loss_g"]) for line in lines(tmp_path / "stopped", "train")]
    assert len(told) % 3 == 0
    assert len(told) > 6
    args = arguments.read_arguments(tmp_path / "straight")
    assert args["train_pairs"] + args["validation_pairs"] == 10


def test_a_killed_run_goes_on_and_ends_with_the_same_weights(pairs, tmp_path):
    common = ["--num-epochs", "4", "--checkpoint-every", "1", "--validate-every", "2", "--mixed-precision", "no"]
    straight = process("straight", pairs, tmp_path, *common)
    straight.communicate()
    assert straight.returncode == 0
    running = process("killed", pairs, tmp_path, *common, "--log-every", "1")
    for line in running.stdout:
        if line.startswith("epoch 2"):  # validated, and somewhere before or in the writing of the state
            running.send_signal(signal.SIGKILL)
            break
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "last").exists()
    resumed = process("killed", pairs, tmp_path, "--resume")
    resumed.communicate()
    assert resumed.returncode == 0
    assert weights(tmp_path / "killed") == weights(tmp_path / "straight")
    steps = [(line["step"], line["direction"]) for line in lines(tmp_path / "killed", "validation")]
    assert len(steps) == len(set(steps))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_answered_with_a_state(start, pairs, tmp_path, number):
    common = ["--num-epochs", "400", "--validate-every", "1", "--checkpoint-every", "400", "--mixed-precision", "no"]
    running = process("run", pairs, tmp_path, *common)
    said = ""
    for line in running.stdout:
        said += line
        if line.startswith("epoch 1 sketch2photo"):  # there is no state of it, but the one that answers the signal
            running.send_signal(number)
    running.wait()
    assert running.returncode == 128 + number
    assert f"stopped by {number.name}; the state is saved" in said
    assert "--resume" in said
    state = sorted((tmp_path / "run" / "state").iterdir())[-1].name
    assert re.fullmatch(r"epoch_\d{4}(_step_\d{8})?", state)
    assert state != "epoch_0000"
    assert resume(tmp_path / "run", "--max-steps", "2") == 0


def test_the_minutes_plan_the_epochs_once(start, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "STARTED", time.monotonic())  # this process began long before this run
    assert start("run", "--max-minutes", "0.35", "--log-every", "1", "--validate-every", "1000", "--checkpoint-every", "1000",
                 "--max-steps", "20", "--direction", "photo2sketch") == 0  # fmt: skip
    planned = arguments.read_arguments(tmp_path / "run")["planned_epochs"]
    assert planned >= 5
    assert resume(tmp_path / "run", "--max-steps", "24") == 0

    monkeypatch.setattr(train, "STARTED", time.monotonic())
    # Stopped before the plan was made: the resumed run makes it, and knows what was spent before.
    start("early", "--max-minutes", "0.2", "--max-steps", "10", "--direction", "photo2sketch")
    assert arguments.read_arguments(tmp_path / "early")["planned_epochs"] is None
    assert resume(tmp_path / "early") == 0
    assert arguments.read_arguments(tmp_path / "early")["planned_epochs"] >= 5
    assert arguments.read_arguments(tmp_path / "run")["planned_epochs"] == planned


def test_epochs_are_planned_although_a_validation_follows_every_few_steps(start, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "STARTED", time.monotonic())
    words = ["--max-pairs", "4", "--batch-size", "4", "--max-minutes", "0.01", "--num-epochs", "40", "--validate-every", "1"]
    assert start("run", *words, "--checkpoint-every", "1", "--direction", "photo2sketch") == 0
    # The first steps warm up, as many are timed: then the budget is found to be spent.
    assert arguments.read_arguments(tmp_path / "run")["planned_epochs"] < 2 * train.TIMED_STEPS + 2


def test_the_plan_is_arithmetic():
    seconds = {"step_time": 0.5, "steps": 20, "validation": 4.0, "validate_every": 2, "checkpoint": 1.0, "checkpoint_every": 1}
    # An epoch takes 20 x 0.5 + 4 / 2 + 1 = 13 s; of 300 s, 30 are spent and 4 + 1 + 5 belong to the end.
    assert train.plan_epochs(300.0, spent=30.0, epoch=1, **seconds) == 1 + 260 // 13
    assert train.plan_epochs(10.0, spent=30.0, epoch=1, **seconds) == 2


def test_the_learning_rate_is_constant_and_then_falls_to_zero():
    args = Namespace(learning_rate=2e-4, decay_start=0.5, planned_epochs=100)
    assert [train.learning_rate(args, epoch) for epoch in (0, 50, 75, 100)] == pytest.approx([2e-4, 2e-4, 1e-4, 0])
    args.decay_start = 1.0
    assert train.learning_rate(args, 100) == 2e-4


def test_the_average_forgets_the_start_and_then_decays_as_asked():
    start, target = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    update = train.averaging(0.9)
    for count in range(1, 6):
        update([start], [target], torch.tensor(count))
    assert start.item() > 0.99
    before = start.clone()
    update([start], [target], torch.tensor(1000))
    assert (1 - start).item() == pytest.approx(0.9 * (1 - before).item(), rel=1e-2)


def test_fine_tuning_starts_from_the_published_weights(start, tmp_path):
    start("first", "--num-epochs", "1")
    still = ["--max-steps", "1", "--learning-rate", "1e-8", "--ema-decay", "0"]
    start("second", *still, "--init-from", str(tmp_path / "first"), "--smooth", "sketch")
    for direction in DIRECTIONS:
        first = UNetGenerator.from_pretrained(tmp_path / "first" / direction)
        second = UNetGenerator.from_pretrained(tmp_path / "second" / "last" / direction)
        for a, b in zip(first.parameters(), second.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-6)
        target = direction.split("2")[1]
        assert (first.config["smooth"], second.config["smooth"]) == (target == "photo", target == "sketch")
    assert start("third", "--init-from", str(tmp_path / "first"), "--base-channels", "6") == 2


def test_eval_only_scores_and_changes_nothing(start, tmp_path, capsys):
    start("run", "--num-epochs", "1")
    before = weights(tmp_path / "run")
    capsys.readouterr()
    assert run_here("--output-dir", str(tmp_path / "run"), "--eval-only") == 0
    said = capsys.readouterr().out
    assert "photo2sketch, 2 pairs held out" in said
    assert re.search(r"translated +mae +\d+\.\d{3}", said)
    assert re.search(r"mean_picture +mae +\d+\.\d{3}", said)
    assert weights(tmp_path / "run") == before


# -- several processes -------------------------------------------------------------------------------------------------


def test_two_processes_end_with_the_same_weights(pairs, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--standalone"]
    command += [str(ROOT / "tests" / "two_ranks.py"), "--dataset", str(pairs), *TINY, "--output-dir", str(tmp_path / "run")]
    done = subprocess.run([*command, "--num-epochs", "2"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ranks = dict(re.findall(r"rank (\d) of 2: (\w+ \w+)", done.stdout))
    assert set(ranks) == {"0", "1"}
    assert ranks["0"] == ranks["1"]
    assert "2 process(es)" in done.stdout
    # Eight pairs, two a process and step: two steps an epoch.
    assert lines(tmp_path / "run", "validation")[-1]["step"] == 4
    assert set(weights(tmp_path / "run")) == {f"{place}{d}/model.safetensors" for d in DIRECTIONS for place in ("", "last/")}


@pytest.mark.parametrize(("killed", "left"), [("0", "1"), ("1", "0")])
def test_when_one_of_two_processes_is_killed_the_other_says_so_and_the_run_goes_on_from_its_state(
    pairs, tmp_path, killed, left
):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--standalone"]
    command += [str(ROOT / "train.py"), "--output-dir", str(tmp_path / "run")]
    first = ["--dataset", str(pairs), *TINY, "--num-epochs", "400", "--checkpoint-every", "1", "--validate-every", "1"]
    with subprocess.Popen([*command, *first], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        said = ""
        for line in running.stdout:
            said += line
            if "epoch 2 " in line:  # the state of epoch 1 has been written
                break
        else:
            pytest.fail(said)
        ranks = {rank: child for child in psutil.Process(running.pid).children() if (rank := child.environ().get("RANK"))}
        ranks[killed].kill()
        said += running.communicate(timeout=60)[0]
    assert running.returncode != 0
    assert f"train.py: error (rank {left}): another process of this run is gone; go on from epoch_0" in said
    assert not psutil.pid_exists(ranks[left].pid)
    done = list_states(tmp_path / "run" / "state")[-1].epoch
    resumed = subprocess.run([*command, "--resume", "--num-epochs", str(done + 1)], capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert f"resuming after {done} epochs" in resumed.stdout
    assert len(weights(tmp_path / "run")) == 4


# -- the Hub -----------------------------------------------------------------------------------------------------------


def test_the_whole_chain_through_the_hub(hub, pairs, tmp_path, start):
    from pix2pix import prepare

    assert prepare.main([str(pairs), "--push-to-hub", f"{hub.user}/people"]) == 0
    assert len(load_dataset(f"{hub.user}/people", split="train")) == 10
    assert start("run", "--num-epochs", "2", "--checkpoint-every", "1", "--push-to-hub", f"{hub.user}/faces",
                 dataset=f"{hub.user}/people") == 0  # fmt: skip
    pulled = UNetGenerator.from_pretrained(f"{hub.user}/faces", subfolder="sketch2photo")
    own = UNetGenerator.from_pretrained(tmp_path / "run", subfolder="sketch2photo")
    for a, b in zip(pulled.parameters(), own.parameters(), strict=True):
        assert torch.equal(a, b)
    picture = draw_pair(77).photo
    here = Translator.from_pretrained(tmp_path / "run", "photo2sketch")(picture)
    there = Translator.from_pretrained(f"{hub.user}/faces", "photo2sketch", revision="main")(picture)
    assert here.tobytes() == there.tobytes()
    files = hub.files(f"{hub.user}/faces")
    assert "README.md" in files
    assert "grid.png" in files
    assert not [name for name in files if name.startswith("state/")]


def test_a_refused_token_is_known_before_training(hub, start, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_wrongwrongwrong")
    assert start("run", "--num-epochs", "1", "--push-to-hub", f"{hub.user}/faces") == 2
    said = capsys.readouterr().err
    assert "token" in said
    assert "hf_wrongwrongwrong" not in said
    assert not list((tmp_path / "run").glob("**/*.safetensors"))


def test_a_push_that_fails_during_training_loses_nothing(hub, start, tmp_path, capsys):
    hub.fail_next(1000, 403, path_contains="/commit/")
    assert start("run", "--num-epochs", "2", "--checkpoint-every", "1", "--push-to-hub", f"{hub.user}/faces") == 0
    assert set(weights(tmp_path / "run")) == {f"{place}{d}/model.safetensors" for d in DIRECTIONS for place in ("", "last/")}
    said = capsys.readouterr()
    assert f"python -m pix2pix.publish --model {tmp_path / 'run'} --repo {hub.user}/faces" in said.out + said.err
    assert hub.token not in said.out + said.err
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file() and hub.token.encode() in path.read_bytes()]


# -- errors ------------------------------------------------------------------------------------------------------------


def refused(start, capsys, *extra, **options):
    """The last line that a run which never started left behind, and that it started none."""
    with contextlib.suppress(SystemExit):
        assert start("run", "--num-epochs", "1", *extra, **options) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_a_taken_output_folder_is_refused(start, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("mine")
    assert "is not empty; add --resume to go on with it, or choose another folder" in refused(start, capsys)
    assert os.listdir(tmp_path / "run") == ["precious"]


def test_nothing_to_resume_is_refused(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    with pytest.raises(SystemExit):
        train.main(["--output-dir", str(tmp_path / "run"), "--resume"])
    assert "--resume found no state in" in capsys.readouterr().err
    (tmp_path / "run" / "state" / "epoch_0001").mkdir(parents=True)
    with pytest.raises(SystemExit):
        train.main(["--output-dir", str(tmp_path / "run"), "--resume"])
    assert "holds no run (arguments.json is missing); check --output-dir" in capsys.readouterr().err
    assert os.listdir(tmp_path / "run") == ["state"]


def test_a_resumed_run_refuses_other_pairs(start, pairs, tmp_path, capsys):
    start("run", "--num-epochs", "1")
    other = tmp_path / "other"
    for column in ("photos", "sketches"):
        (other / "train" / column).mkdir(parents=True)
        for index in range(6):
            os.link(pairs / "train" / column / f"person{index}.png", other / "train" / column / f"person{index}.png")
    before = weights(tmp_path / "run")
    assert resume(tmp_path / "run", "--num-epochs", "2", "--dataset", str(other)) == 2
    assert "--resume found other pairs than the run was started with" in capsys.readouterr().err
    assert weights(tmp_path / "run") == before


def test_going_on_from_an_older_state_is_possible(start, tmp_path):
    start("run", "--num-epochs", "3", "--checkpoint-every", "1", "--keep-checkpoints", "5", "--direction", "photo2sketch")
    state = tmp_path / "run" / "state"
    before = weights(tmp_path / "run")
    assert resume(tmp_path / "run", "--resume", str(state / "epoch_0001")) == 0
    names = sorted(path.name for path in state.iterdir() if path.name.startswith("epoch_"))
    assert names == ["epoch_0000", "epoch_0001", "epoch_0002", "epoch_0003"]
    assert weights(tmp_path / "run") == before


def test_new_runs_never_share_a_folder(tmp_path):
    made = [train.new_folder(tmp_path / "runs" / "x") for _ in range(3)]
    assert [folder.name for folder in made] == ["x", "x-2", "x-3"]


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("missing", "missing"),
        ("empty", "is an empty folder"),
        ("lone", "has no"),
        ("text", "is not a picture in a known format"),
        ("dot", "16"),
    ],
)
def test_a_faulty_dataset_is_named_before_training(start, pairs, tmp_path, capsys, dataset, message):
    root = tmp_path / dataset
    if dataset == "empty":
        root.mkdir()
    elif dataset != "missing":
        for column in ("photos", "sketches"):
            (root / "train" / column).mkdir(parents=True)
            for index in range(3):
                os.link(pairs / "train" / column / f"person{index}.png", root / "train" / column / f"person{index}.png")
        extra = root / "train" / "photos" / "extra.png"
        if dataset == "text":
            extra.write_text("hello")
            (root / "train" / "sketches" / "extra.png").write_text("hello")
        elif dataset == "dot":
            Image.new("RGB", (1, 1)).save(extra)
            Image.new("RGB", (1, 1)).save(root / "train" / "sketches" / "extra.png")
        else:
            Image.new("RGB", (40, 50)).save(extra)
    said = refused(start, capsys, dataset=root)
    assert message in said
    assert dataset in said or "extra.png" in said
    assert not list((tmp_path / "run").glob("*/model.safetensors"))


def test_an_output_path_that_cannot_be_written_is_refused(start, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    with contextlib.suppress(SystemExit):
        assert train.main(["--output-dir", str(tmp_path / "file" / "run"), "--num-epochs", "1"]) == 2
    assert "--output-dir" in capsys.readouterr().err


def test_a_translation_that_is_no_number_stops_the_run_before_anything_is_published(start, tmp_path, capsys):
    start("first", "--num-epochs", "1")
    huge = UNetGenerator.from_pretrained(tmp_path / "first" / "photo2sketch")
    with torch.no_grad():
        for parameter in huge.parameters():
            parameter.fill_(1e30)
    huge.save_pretrained(tmp_path / "huge" / "photo2sketch")
    capsys.readouterr()
    extra = ["--init-from", str(tmp_path / "huge"), "--direction", "photo2sketch", "--mixed-precision", "no"]
    assert "the generator gives NaN or infinity at step 0" in refused(start, capsys, *extra)
    assert not (tmp_path / "run" / "photo2sketch").exists()


SPOILT = ["--mixed-precision", "no", "--checkpoint-every", "1", "--validate-every", "1", "--keep-checkpoints", "9"]


def spoil(file, names, value):
    """Fill the tensors of a state whose names are like that."""
    tensors = load_file(file)
    found = [name for name in tensors if re.fullmatch(names, name)]
    assert found
    save_file(tensors | {name: torch.full_like(tensors[name], value) for name in found}, file)


def assert_nothing_was_kept(folder, before):
    """The states of epochs 0 to 2 are left, and what was published is as it was, without NaN."""
    assert sorted(path.name for path in (folder / "state").iterdir()) == ["epoch_0000", "epoch_0001", "epoch_0002"]
    assert weights(folder) == before
    for file in (*folder.glob("**/model.safetensors"), *folder.glob("state/epoch_000[01]/*.safetensors")):
        assert all(tensor.isfinite().all() for tensor in load_file(file).values()), file


def in_a_terminal(command, status):
    """Run a program whose errors and progress bar go to a terminal; returns what that was sent."""
    primary, secondary = pty.openpty()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=secondary) as running:
        os.close(secondary)
        said = b""
        with contextlib.suppress(OSError):  # there is nobody at the other end any more
            while part := os.read(primary, 10_000):
                said += part
    os.close(primary)
    assert running.returncode == status, said
    return said.decode()


def test_a_loss_that_is_no_number_stops_the_run_names_the_steps_and_leaves_the_last_good_state(start, tmp_path):
    common = [*SPOILT, "--direction", "photo2sketch", "--decay-start", "1", "--log-every", "2"]
    start("straight", *common, "--num-epochs", "3")
    start("run", *common, "--num-epochs", "2")
    run, before = tmp_path / "run", weights(tmp_path / "run")
    spoil(run / "state" / "epoch_0002" / "networks.safetensors", r"photo2sketch\.generator/.*", 1e30)
    said = in_a_terminal([sys.executable, str(ROOT / "train.py"), "--output-dir", str(run), "--resume", "--num-epochs", "3"], 2)
    message = rf"loss_d of photo2sketch became nan between steps 8 and 10; start a new run with --init-from {run} and .*"
    assert re.fullmatch(rf"train\.py: error: {message}", said.strip().splitlines()[-1]), said
    assert "Traceback" not in said
    assert_nothing_was_kept(run, before)

    assert resume(run, "--resume", str(run / "state" / "epoch_0001"), "--num-epochs", "3") == 0
    assert weights(run) == weights(tmp_path / "straight")
    assert start("anew", "--init-from", str(run), "--direction", "photo2sketch", "--max-steps", "1") == 0


@pytest.mark.parametrize("fraction", ["0.2", "0"])
def test_weights_that_the_last_step_made_no_numbers_are_neither_kept_nor_published(start, tmp_path, capsys, fraction):
    """The losses of that step are still those of the weights before it, and without people held out nobody looks at any."""
    start("run", *SPOILT, "--num-epochs", "2", "--validation-fraction", fraction)
    run, before = tmp_path / "run", weights(tmp_path / "run")
    optimizers = run / "state" / "epoch_0002" / "optimizers.safetensors"
    for moment, value in (("exp_avg", 3e38), ("exp_avg_sq", 0.0)):  # a step that float32 cannot hold
        spoil(optimizers, rf"sketch2photo\.generator/\d+/{moment}", value)
    last = json.loads((run / "state" / "epoch_0002" / "progress.json").read_text())["step"] + 1
    capsys.readouterr()
    assert resume(run, "--num-epochs", "3", "--max-steps", str(last)) == 2
    message = rf"sketch2photo\.generator holds NaN or infinity after step {last} \(in .*\); start a new run with --init-from .*"
    assert re.fullmatch(rf"train\.py: error: {message}\n", capsys.readouterr().err)
    assert_nothing_was_kept(run, before)


def test_a_state_with_weights_that_are_no_numbers_is_never_gone_on_from(start, tmp_path, capsys):
    start("run", *SPOILT, "--num-epochs", "2", "--direction", "photo2sketch")
    run, before = tmp_path / "run", weights(tmp_path / "run")
    spoil(run / "state" / "epoch_0002" / "networks.safetensors", r"photo2sketch\.averaged/module\..*", float("nan"))
    capsys.readouterr()
    assert resume(run, "--num-epochs", "3") == 2
    message = rf"state '{run}/state/epoch_0002' is damaged \(.* holds NaN or infinity\); resume from an older one"
    assert re.fullmatch(rf"train\.py: error: {message}\n", capsys.readouterr().err)
    assert_nothing_was_kept(run, before)


@pytest.mark.parametrize(("kind", "won", "draw"), [("least-squares", 0.001, 0.25), ("cross-entropy", 0.01, 0.69)])
def test_a_discriminator_that_has_won_for_long_is_reported_once_each_time(capsys, kind, won, draw):
    args = Namespace(adversarial=kind, discriminator_rate=0.6, discriminator_noise=0.07)
    run = Namespace(args=args, lost={}, summed=train.LOST_STEPS // 4, say=print)

    def watched(*losses):
        for loss in losses:
            train.Run.watch(run, "photo2sketch", "loss_d", loss)
        return capsys.readouterr().out

    assert watched(draw, won, won, won, draw, won, won, won) == ""
    said = watched(won)
    assert f"the discriminator of photo2sketch has won: loss_d has been below {train.LOST_BELOW[kind]}" in said
    assert f"for {train.LOST_STEPS} steps" in said
    assert "start a new run with --discriminator-rate 0.3 or --discriminator-noise 0.14" in said
    assert watched(won, won) == ""
    assert "has won" in watched(draw, won, won, won, won)


def test_a_run_says_while_it_lasts_that_a_discriminator_has_won(start, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train, "LOST_STEPS", 16)
    unfair = ["--adversarial", "hinge", "--no-spectral", "--discriminator-rate", "100", "--learning-rate", "2e-5"]
    unfair += ["--discriminator-noise", "0", "--direction", "photo2sketch", "--log-every", "8", "--num-epochs", "20"]
    assert start("run", *unfair, "--validate-every", "100", "--checkpoint-every", "100") == 0
    said = capsys.readouterr().out
    assert said.count("the discriminator of photo2sketch has won") == 1
    assert said.index("has won") < said.index("done in")


def test_a_run_that_was_killed_before_its_first_state_can_be_started_again(start, tmp_path, capsys):
    start("run", "--num-epochs", "1", "--direction", "photo2sketch")
    before = weights(tmp_path / "run")
    young = tmp_path / "young"
    (young / "state" / ".epoch_0000-1a2b3c4d").mkdir(parents=True)
    (young / "arguments.json").write_text((tmp_path / "run" / "arguments.json").read_text())
    (young / "metrics.jsonl").write_text('{"kind": "floors", "direction": "photo2sketch"}\n{"ki')
    assert start("young", "--num-epochs", "1", "--direction", "photo2sketch") == 0
    assert weights(young) == before
    assert [path.name for path in (young / "state").iterdir() if path.name[0] == "."] == []
    assert len(lines(young, "floors")) == 1
    assert start_is_refused(start, capsys, "young")


def start_is_refused(start, capsys, name):
    with pytest.raises(SystemExit):
        start(name, "--num-epochs", "1")
    return "is not empty; add --resume to go on with it" in capsys.readouterr().err


def test_a_missing_tracker_is_a_warning(start, capsys):
    assert start("run", "--max-steps", "1", "--report-to", "trackio") == 0
    assert "--report-to trackio needs the package trackio, which is not installed; going on without" in capsys.readouterr().out


def test_tensorboard_gets_scalars_and_pictures(start, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert start("run", "--num-epochs", "1", "--report-to", "tensorboard", "--log-every", "1") == 0
    (events,) = (tmp_path / "run" / "logs").rglob("events.out.tfevents.*")
    read = EventAccumulator(str(events)).Reload().Tags()
    assert "photo2sketch/train/loss_g" in read["scalars"]
    assert "sketch2photo/validation/fsim" in read["scalars"]
    assert read["images"]


def test_help_is_complete_and_names_units_and_defaults(capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main(["--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    for flag in ("--max-minutes", "--receptive-field", "--no-conditional", "--resume", "--push-to-hub"):
        assert flag in said


def test_help_does_not_load_torch():
    code = "import sys, runpy; sys.argv = ['train.py', '--help']\ntry: runpy.run_path('train.py', run_name='__main__')\n"
    code += "except SystemExit: print('torch' in sys.modules, 'datasets' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip().splitlines()[-1] == "False False"
