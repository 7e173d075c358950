"""Short versions of the programs under `tests/long`: faults of every kind, in processes of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

LONG = Path(__file__).parent / "long"
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
    assert len(re.findall(r"^.* 1 attempts, of which +[01] did not fit$", said, flags=re.MULTILINE)) == 11
