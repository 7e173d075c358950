import json
import re
from pathlib import Path

import pytest

from pix2pix import arguments
from pix2pix.arguments import CHANGEABLE, DEFAULTS, PRESETS, complete, explicit, parser, read_arguments
from pix2pix.discriminator import PatchDiscriminator
from pix2pix.generator import UNetGenerator

ROOT = Path(__file__).parent.parent


def test_the_rows_of_the_table_say_the_same_things():
    assert PRESETS["paper"].keys() == PRESETS["lite"].keys()
    assert not PRESETS["paper"].keys() & DEFAULTS.keys()


def test_every_flag_has_a_default_and_every_default_a_flag():
    flags = {action.dest for action in parser()._actions} - {"help"}
    assert flags == DEFAULTS.keys() | PRESETS["paper"].keys()


@pytest.mark.parametrize("name", sorted(DEFAULTS.keys() | PRESETS["paper"].keys()))
def test_every_flag_is_read(name):
    # A flag that nothing reads is a bug: train.py must ask for it by name, or complete() must.
    completion = (ROOT / "pix2pix" / "arguments.py").read_text().split("def complete")[1].split("def check")[0]
    assert re.search(rf"\bargs\.{name}\b|[\"']{name}[\"']", (ROOT / "train.py").read_text() + completion)


def test_the_paper_preset_is_the_published_network():
    row = {**DEFAULTS, **PRESETS["paper"]}
    generator = UNetGenerator(
        *row["channels"],
        base_channels=row["base_channels"],
        max_channels=row["max_channels"],
        num_downsamples=row["num_downsamples"],
        upsampling=row["upsampling"],
        dropout=row["dropout"],
        skips=row["skips"],
    )
    discriminator = PatchDiscriminator(
        receptive_field=row["receptive_field"], base_channels=row["discriminator_channels"], spectral=row["spectral"]
    )
    assert sum(p.numel() for p in generator.parameters()) == 54_409_603
    assert sum(p.numel() for p in discriminator.parameters()) == 2_767_809
    assert row["image_size"][0] * row["jitter"] == pytest.approx(286)
    assert (row["batch_size"], row["l1_weight"], row["adversarial"]) == (1, 100, "cross-entropy")
    assert (row["learning_rate"], row["adam_beta1"], row["adam_beta2"]) == (2e-4, 0.5, 0.999)


def test_what_is_given_beats_the_preset_and_the_preset_fills_the_rest():
    args = complete(explicit(["--preset", "paper", "--l1-weight", "10", "--no-skips"]))
    assert args["l1_weight"] == 10
    assert args["skips"] is False
    assert args["batch_size"] == PRESETS["paper"]["batch_size"]
    assert args["seed"] == 0
    assert complete({})["preset"] == "lite"


def test_a_resumed_run_keeps_its_arguments_and_may_go_on_longer():
    stored = complete(explicit(["--preset", "paper", "--l1-weight", "10", "--num-epochs", "3"])) | {"planned_epochs": 3}
    resumed = complete(explicit(["--resume", "--num-epochs", "5", "--log-every", "1"]), stored)
    assert (resumed["l1_weight"], resumed["num_epochs"], resumed["planned_epochs"], resumed["log_every"]) == (10, 5, 5, 1)
    assert complete({"resume": "latest"}, stored)["planned_epochs"] == 3
    assert complete({"resume": "latest"}, stored | {"max_steps": 7})["max_steps"] is None


@pytest.mark.parametrize(
    "given", [["--seed", "1"], ["--preset", "lite"], ["--l1-weight", "11"], ["--no-skips"], ["--max-minutes", "3"]]
)
def test_a_resumed_run_may_not_compute_something_else(given):
    stored = complete(explicit(["--preset", "paper"]))
    with pytest.raises(ValueError, match=r"cannot change on resume: the run has .*, got .*; leave it out, or start a new run"):
        complete(explicit(["--resume", *given]), stored)


def test_what_may_change_on_resume_are_flags():
    assert not CHANGEABLE - DEFAULTS.keys() - PRESETS["lite"].keys()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--batch-size", "0"], "--batch-size must be from 1 to 4096, got 0"),
        (["--validation-fraction", "0.9"], "--validation-fraction must be from 0 to 0.5, got 0.9"),
        (["--jitter", "0.5"], "--jitter must be from 1 to 2, got 0.5"),
        (["--l1-weight", "-1"], "--l1-weight must be from 0 to 1e+06, got -1"),
        (["--learning-rate", "nan"], "--learning-rate must be from 1e-08 to 1, got nan"),
        (["--perceptual-source", "0", "5"], "--perceptual-source must be from 0 to 4, got 0 5"),
        (["--image-size", "8"], "--image-size must be one number or height and width, at least 16 each, got 8"),
        (["--image-size", "64", "64", "64"], "--image-size must be one number or height and width"),
        (["--push-to-hub", "model"], "--push-to-hub must be USER/NAME, got 'model'"),
        (
            ["--adversarial", "none", "--reconstruction", "none", "--perceptual-weight", "0"],
            "leaves nothing to learn",
        ),
        (["--adversarial", "none", "--l1-weight", "0", "--perceptual-weight", "0"], "leaves nothing to learn"),
        (["--cycle-weight", "1", "--direction", "photo2sketch"], "--cycle-weight needs the averaged generators of both"),
        (["--cycle-weight", "1", "--ema-decay", "0"], "--cycle-weight needs the averaged generators of both"),
    ],
)
def test_values_out_of_range_are_named(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        complete(explicit(given))


def test_an_unknown_preset_is_refused_with_the_choices(capsys):
    with pytest.raises(SystemExit) as stopped:
        explicit(["--preset", "huge"])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "argument --preset: invalid choice: 'huge'" in said
    assert "paper" in said
    assert "lite" in said


def test_stored_arguments_are_read_or_missed(tmp_path):
    (tmp_path / arguments.ARGUMENTS_NAME).write_text(json.dumps({"seed": 3}))
    assert read_arguments(tmp_path) == {"seed": 3}
    with pytest.raises(ValueError, match=r"holds no run \(arguments\.json is missing\)"):
        read_arguments(tmp_path / "elsewhere")
    (tmp_path / arguments.ARGUMENTS_NAME).write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        read_arguments(tmp_path)
