"""`python -m pix2pix.publish` against the Hub on loopback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard

from pix2pix.generator import UNetGenerator
from pix2pix.publish import main


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    for direction in ("photo2sketch", "sketch2photo"):
        generator = UNetGenerator(3, 3, base_channels=4, max_channels=8, num_downsamples=3, image_size=32)
        generator.save_pretrained(tmp_path / "run" / direction)
    return tmp_path / "run"


def error_of(capsys, *argv: object) -> str:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in argv])
    assert caught.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("python -m pix2pix.publish: error: ")
    return lines[-1]


def test_one_command_publishes_a_model(hub, folder):
    command = [sys.executable, "-m", "pix2pix.publish", "--model", str(folder), "--repo", "artist/model", "--private"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    sha = HfApi().model_info("artist/model").sha
    assert answer.stdout == f"pushed to {hub.endpoint}/artist/model (commit {sha})\n"
    assert hub.repo("artist/model").private
    assert hub.token not in answer.stdout + answer.stderr
    assert ModelCard.load("artist/model").data.to_dict()["library_name"] == "pix2pix"
    pulled = UNetGenerator.from_pretrained("artist/model", subfolder="photo2sketch", revision=sha)
    kept = UNetGenerator.from_pretrained(folder, subfolder="photo2sketch")
    for name, weight in kept.state_dict().items():
        assert torch.equal(pulled.state_dict()[name], weight)


def test_scores_go_into_the_card_here_and_there(hub, folder, tmp_path):
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps({"direction": "photo2sketch", "split": "test", "n": 100, "mean": {"fsim": 0.75}}))
    assert main(["--model", str(folder), "--repo", "artist/model", "--scores", str(scores), "--message", "Scored"]) == 0
    assert "| this model | 0.750 |" in (folder / "README.md").read_text()
    assert hub.files("artist/model")["README.md"] == (folder / "README.md").read_bytes()
    assert HfApi().model_info("artist/model").card_data.eval_results[0].metric_value == 0.75
    assert HfApi().list_repo_commits("artist/model")[0].title == "Scored"


def test_a_branch_is_made_when_missing(hub, folder):
    assert main(["--model", str(folder), "--repo", "artist/model", "--revision", "wip"]) == 0
    assert set(hub.files("artist/model")) == {".gitattributes"}
    assert "photo2sketch/config.json" in hub.files("artist/model", revision="wip")


def spoil_weights(folder: Path) -> None:
    UNetGenerator(base_channels=8, num_downsamples=3).save_pretrained(folder / "spare")
    (folder / "spare" / "model.safetensors").rename(folder / "photo2sketch" / "model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_weights, "does not fit its config.json"),
        (
            lambda folder: (folder / "sketch2photo" / "model.safetensors").unlink(),
            "has sketch2photo/config.json but no",
        ),
        (
            lambda folder: (folder / "sketch2photo" / "config.json").write_text("{}"),
            "holds a network of another project",
        ),
        (lambda folder: (folder / "photo2sketch" / "model.safetensors").write_bytes(b"x" * 50), "damaged"),
        (lambda folder: (folder / "arguments.json").write_text("nonsense"), "is not JSON"),
    ],
)
def test_a_faulty_model_is_named_before_anything_is_sent(hub, folder, capsys, spoil, message):
    spoil(folder)
    assert message in error_of(capsys, "--model", folder, "--repo", "artist/model")
    assert not hub.requests
    assert not (folder / "README.md").exists()


def test_wrong_arguments_are_named_before_anything_is_sent(hub, folder, tmp_path, capsys):
    assert "is not a folder" in error_of(capsys, "--model", tmp_path / "nothing", "--repo", "artist/model")
    assert "holds neither" in error_of(capsys, "--model", tmp_path, "--repo", "artist/model")
    assert "repository must be USER/NAME" in error_of(capsys, "--model", folder, "--repo", "model")
    missing = tmp_path / "none.json"
    assert f"'{missing}' cannot be read" in error_of(capsys, "--model", folder, "--repo", "artist/model", "--scores", missing)
    assert not hub.requests


def test_a_refused_token_is_one_line_and_not_told(hub, folder, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_refusedrefused")
    line = error_of(capsys, "--model", folder, "--repo", "artist/model")
    assert "the Hub refused the token (401); log in with `hf auth login`" in line
    assert "refusedrefused" not in line
    assert not hub.repos


def test_help_does_not_load_torch():
    code = "import sys; from pix2pix.publish import parser; parser(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_model_is_handed_over_as_a_folder_without_pictures(folder, tmp_path):
    (folder / "grid.png").write_bytes(b"people")
    (folder / "arguments.json").write_text(json.dumps({"dataset": "/home/me/pairs", "seed": 3, "train_pairs": 79}))
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps({"direction": "photo2sketch", "split": "test", "n": 100, "mean": {"fsim": 0.75}}))
    gift = tmp_path / "gift"
    assert main(["--model", str(folder), "--folder", str(gift), "--half", "--scores", str(scores)]) == 0
    files = {path.relative_to(gift).as_posix() for path in gift.rglob("*") if path.is_file()}
    weights = {f"{d}/{name}" for d in ("photo2sketch", "sketch2photo") for name in ("config.json", "model.safetensors")}
    assert files == weights | {"README.md"}
    card = (gift / "README.md").read_text()
    assert "| this model | 0.750 |" in card
    assert "| `--seed` | 3 |" in card
    assert "/home/me" not in card
    assert "grid.png" not in card
    kept, given = (UNetGenerator.from_pretrained(where, subfolder="sketch2photo") for where in (folder, gift))
    for name, weight in kept.state_dict().items():
        assert torch.equal(given.state_dict()[name], weight.half().float())
    size = (gift / "sketch2photo" / "model.safetensors").stat().st_size
    assert size < 0.6 * (folder / "sketch2photo" / "model.safetensors").stat().st_size


def test_a_folder_that_is_taken_and_flags_that_do_not_go_together_are_refused(folder, tmp_path, capsys):
    assert "is not empty; choose a new one" in error_of(capsys, "--model", folder, "--folder", folder)
    assert "--half goes with --folder alone" in error_of(capsys, "--model", folder, "--repo", "artist/model", "--half")
    taken = error_of(capsys, "--model", folder, "--folder", tmp_path / "new", "--revision", "v1")
    assert "--revision goes with --repo alone" in taken
    assert not (tmp_path / "new").exists()
