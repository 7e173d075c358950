"""Short versions of the programs under `tests/long`: faults of every kind, in processes of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

LONG = Path(__file__).parent / "long"


def long(program: str, *arguments: object) -> str:
    """Run one of the long programs; what it says."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    command = [sys.executable, LONG / f"{program}.py", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_training_that_is_ended_anyhow_goes_on_to_the_same_weights():
    said = long("killed", "--moments", 6)
    assert said.endswith("6 of 6 ended with the weights of the undisturbed run\n")
    assert len(re.findall(r"^\w+ +[1-9]\d* faults", said, flags=re.MULTILINE)) == 6  # each way was tried


def test_bad_pictures_data_sets_and_models_are_refused_in_one_line():
    said = long("fuzz", "--pictures", 60, "--layouts", 60, "--models", 60)
    tallies = re.findall(r"^\w+: \{'\w+': (\d+), '\w+': (\d+)\}", said, flags=re.MULTILINE)
    assert [sum(map(int, tally)) for tally in tallies] == [60, 60, 60]


def test_a_full_disk_is_told_in_one_line_and_leaves_no_half_file():
    said = long("full_disk", "--rounds", 1)
    assert len(re.findall(r"^.* 1 attempts, of which +[01] did not fit$", said, flags=re.MULTILINE)) == 8
