"""Short versions of the programs under `tests/long`: faults of every kind, in processes of their own."""

import csv
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from pix2pix.directions import DIRECTIONS
from pix2pix.generator import UNetGenerator

LONG = Path(__file__).parent / "long"
ROOT = LONG.parent.parent
SHORT = {
    "killed": ["--moments", "6"],
    "fuzz": ["--pictures", "60", "--layouts", "60", "--models", "60"],
    "full_disk": ["--rounds", "1"],
}


@pytest.fixture(scope="module")
def programs():
    """All of them, running at once; each says on its standard output what it found."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": environment}
    running = {
        name: subprocess.Popen([sys.executable, LONG / f"{name}.py", *arguments], **options)
        for name, arguments in SHORT.items()
    }
    yield running
    for program in running.values():
        program.kill()
        program.wait()


def said_by(program: subprocess.Popen) -> str:
    said, _ = program.communicate()
    assert program.returncode == 0, said
    return said


def test_a_training_that_is_ended_anyhow_goes_on_to_the_same_weights(programs):
    said = said_by(programs["killed"])
    assert said.endswith("6 of 6 ended with the weights of the undisturbed run\n")
    assert len(re.findall(r"^\w+ +[1-9]\d* faults", said, flags=re.MULTILINE)) == 6  # each way was tried


def test_bad_pictures_data_sets_and_models_are_refused_in_one_line(programs):
    tallies = re.findall(r"^\w+: \{'\w+': (\d+), '\w+': (\d+)\}", said_by(programs["fuzz"]), flags=re.MULTILINE)
    assert [sum(map(int, tally)) for tally in tallies] == [60, 60, 60]


def test_a_full_disk_is_told_in_one_line_and_leaves_no_half_file(programs):
    said = said_by(programs["full_disk"])
    assert len(re.findall(r"^.* 1 attempts, of which +[01] did not fit$", said, flags=re.MULTILINE)) == 13


# -- the long run ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_run():
    """The program as a module."""
    spec = importlib.util.spec_from_file_location("long_run", LONG / "long_run.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        spec.loader.exec_module(module)
    return module


def test_a_training_and_a_page_are_sampled_side_by_side_and_plotted(tmp_path):
    torch.manual_seed(0)
    for direction in DIRECTIONS:
        UNetGenerator(base_channels=4, num_downsamples=4, image_size=(250, 200)).save_pretrained(tmp_path / "model" / direction)
    tiny = "--base-channels 4 --max-channels 8 --num-downsamples 3 --discriminator-channels 4 --receptive-field 16"
    tiny += " --image-size 32 --perceptual-weight 0 --projected-weight 0 --max-pairs 10 --num-threads 1 --max-steps 12"
    words = ["--minutes", "0.1", "--requests", "6", "--users", "2", "--every", "0.5", "--output", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, LONG / "long_run.py", *words, "--", *tiny.split()],
        env=os.environ | {"PIX2PIX_MODEL": str(tmp_path / "model")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    # In so short a time everything grows: the verdict, and with it the exit status, is that of no long run.
    assert "requests: 6 answered, " in done.stdout, done.stdout + done.stderr
    assert " 0 failed\ntraining: exit status 0\n" in done.stdout, done.stdout + done.stderr
    with (tmp_path / "out" / "samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["process"] for row in rows} == {"training", "page"}
    for row in rows:
        assert float(row["memory_mb"]) > 1
        assert float(row["handles"]) > 2
        assert float(row["threads"]) >= 1
    assert Image.open(tmp_path / "out" / "samples.png").width > 500


def test_what_grows_steadily_is_told_from_what_warms_up_and_from_noise(long_run):
    hours = range(100)
    noise = [(index * 37) % 11 for index in hours]
    steady = [500 + noise[index] for index in hours]
    warm = [500 - 400 * (index < 5) + noise[index] for index in hours]
    leak = [500 + 3 * index + noise[index] for index in hours]
    grows = {name: long_run.growth(values, 30)[2] for name, values in {"s": steady, "w": warm, "l": leak}.items()}
    assert grows == {"s": False, "w": False, "l": True}
    assert not long_run.growth([4, 4, 4, 6], 10)[2]  # half as much again, but of next to nothing
    assert not long_run.growth([7], 10)[2]


def test_a_sample_counts_what_this_process_holds(long_run, tmp_path):
    process = long_run.psutil.Process()
    before = long_run.sample(process, tmp_path)
    with (tmp_path / "one").open("w"), (tmp_path / "two").open("w"):
        now = long_run.sample(process, tmp_path)
    assert now["handles"] - before["handles"] == 2
    assert (before["temporary_files"], now["temporary_files"]) == (0, 2)
    assert now["threads"] >= 1
    assert now["memory_mb"] > 10
