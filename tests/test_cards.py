import json
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard
from model_folders import ARGUMENTS, FLOORS, generator, model_folder, run_folder
from PIL import Image

from pix2pix.cards import HubError, directions_in, model_card, write_card
from pix2pix.hub import push


def test_the_card_says_what_a_user_must_know(tmp_path):
    text = str(model_card(run_folder(tmp_path), "artist/model"))
    for words in (
        'Translator.from_pretrained("artist/model", "photo2sketch")',
        "python -m pix2pix.translate --model artist/model",
        "PIX2PIX_MODEL=artist/model python space/app.py",
        "45 pairs to train on and 5 of other people to validate on",
        "Trained for 9 epochs of 12 planned.",
        "| `--seed` | 7 |",
        "| `--conditional` | yes |",
        "trained at 20 x 25 pixels (width x height), colour to grey",
        f"{sum(w.numel() for w in generator().parameters()):,} parameters",
        "![Pictures of people held out of training, with the translations](grid.png)",
        "(curves.png)",
        "Not for identification of people",
    ):
        assert words in text
    for word in ("secret-place", "tensorboard", "max-minutes"):
        assert word not in text


def test_the_code_in_the_card_runs_as_it_stands(hub, tmp_path):
    push(model_folder(tmp_path / "run"), "artist/model")
    text = ModelCard.load("artist/model").text
    code = text.split("```python\n")[1].split("```")[0]
    Image.new("RGB", (30, 40), "tan").save(tmp_path / "photo.jpg")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert Image.open(tmp_path / "translated.png").size == (30, 40)


def test_the_card_shows_the_best_epoch_beside_the_floors(tmp_path):
    text = str(model_card(run_folder(tmp_path)))
    table = text.split("`sketch2photo`, validation")[1].split("\n\n")[1].splitlines()
    assert "epoch 6" in text
    assert table == [
        "| | MAE (0 to 255) ↓ | PSNR (dB) ↑ | SSIM ↑ | FSIM ↑ |",
        "|---|---|---|---|---|",
        "| this model | 21.0 | 15.0 | 0.500 | 0.700 |",
        "| floor: the mean training picture | 30.0 | – | – | 0.600 |",
        "| floor: the input itself | 60.0 | – | – | 0.500 |",
    ]


def test_scores_become_a_model_index_that_the_client_reads_back(tmp_path):
    record = {"direction": "photo2sketch", "split": "test", "n": 100, "mean": {"fsim": 0.73456, "new": 2.0}}
    record |= {"floors": {**FLOORS, "another_person": None}, "interval": {"fsim": [0.71, 0.75], "new": None}}
    record |= {"dataset": "/home/somebody/cuhk"}
    file = tmp_path / "scores.json"
    file.write_text(json.dumps(record))
    card = model_card(run_folder(tmp_path / "run"), "artist/model", scores=[file])
    assert "| this model | 0.735 [0.710, 0.750] | 2.0000 |" in str(card)
    assert "`photo2sketch`, test (100 pictures of cuhk)" in str(card)
    again = ModelCard(str(card))
    assert {(r.dataset_split, r.dataset_name) for r in again.data.eval_results} == {
        ("validation", "drawn faces"),
        ("test", "cuhk"),
    }
    assert "/home" not in str(card)
    results = {(r.dataset_config, r.dataset_split, r.metric_type): r.metric_value for r in again.data.eval_results}
    assert results["photo2sketch", "test", "fsim"] == 0.7346
    assert results["sketch2photo", "validation", "mae"] == 21.04
    assert again.data.model_name == "model"
    assert len(results) == 10


def test_scores_in_the_folder_are_taken_and_missing_keys_forgiven(tmp_path):
    folder = model_folder(tmp_path, "photo2sketch")
    (folder / "scores").mkdir()
    (folder / "scores" / "photo2sketch.json").write_text(json.dumps({"mean": {"mae": 20, "psnr": None, "kid": float("nan")}}))
    text = str(model_card(folder))
    assert "| | MAE (0 to 255) ↓ |\n|---|---|\n| this model | 20.0 |" in text
    assert "number of pictures not stated" in text


def test_a_folder_made_by_hand_gets_a_card_that_claims_nothing(tmp_path):
    text = str(model_card(model_folder(tmp_path, "sketch2photo")))
    assert "An image translator for faces" in text
    assert "`sketch2photo` paints" in text
    assert "photo2sketch" not in text
    assert "None have been measured yet." in text
    assert "its terms are unknown" in text
    assert "does not say how it was trained" in text
    assert "grid.png" not in text
    assert "model-index" not in text


@pytest.mark.parametrize(
    ("dataset", "license", "datasets", "words"),
    [
        (None, "apache-2.0", None, "show no person"),
        (
            "somebody/faces",
            "other",
            ["somebody/faces"],
            "(https://huggingface.co/datasets/somebody/faces), revision `v1`",
        ),
        ("/home/somebody/private/pairs", "other", None, "A local folder of pairs, `pairs`."),
    ],
)
def test_the_licence_follows_the_data(tmp_path, dataset, license, datasets, words):
    card = model_card(run_folder(tmp_path, dataset=dataset, dataset_revision="v1", columns=["colour", "drawing"]))
    assert (card.data.license, card.data.datasets) == (license, datasets)
    assert card.data.to_dict()["library_name"] == "pix2pix"
    assert {"pix2pix", "image-to-image"} <= set(card.data.tags)
    assert words in str(card)
    assert ("are not known to this card" in str(card)) == (dataset is not None)
    assert "/home" not in str(card)


def test_a_written_card_is_renewed_until_somebody_edits_it(tmp_path):
    folder = run_folder(tmp_path)
    path = write_card(folder, "artist/model")
    first = path.read_text()
    (folder / "arguments.json").write_text(json.dumps({**ARGUMENTS, "seed": 8}))
    assert "| `--seed` | 8 |" in write_card(folder, "artist/model").read_text() != first
    path.write_text("# My own words\n")
    assert write_card(folder, "artist/model").read_text() == "# My own words\n"
    with pytest.raises(HubError, match="is not the card that"):
        write_card(folder, "artist/model", scores=["scores.json"])


def test_the_card_of_a_pulled_model_keeps_its_scores(hub, tmp_path):
    push(run_folder(tmp_path / "run"), "artist/model")
    pulled = Path(HfApi().snapshot_download("artist/model", local_dir=tmp_path / "pulled"))
    before = (pulled / "README.md").read_text()
    assert "| this model | 21.0 |" in write_card(pulled, "artist/copy").read_text() == before


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda f: (f / "photo2sketch" / "config.json").unlink(),
            "has photo2sketch/model.safetensors but no photo2sketch/c",
        ),
        (lambda f: (f / "photo2sketch" / "model.safetensors").write_bytes(b"x" * 99), "is damaged"),
        (lambda f: (f / "arguments.json").write_text("{"), "arguments.json' is not JSON"),
        (lambda f: (f / "arguments.json").write_text("[]"), "must hold an object, got a list"),
    ],
)
def test_a_damaged_folder_is_named(tmp_path, spoil, message):
    spoil(run_folder(tmp_path))
    with pytest.raises(HubError, match=message):
        model_card(tmp_path)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(HubError, match="holds neither photo2sketch/ nor sketch2photo/"):
        directions_in(tmp_path)
    with pytest.raises(HubError, match="is not a folder"):
        directions_in(tmp_path / "nothing")


@pytest.mark.parametrize("content", ['{"mean": {"mae": 1}}', '{"direction": "photo2sketch"}', "nonsense"])
def test_a_file_that_holds_no_scores_is_named(tmp_path, content):
    file = tmp_path / "mine.json"
    file.write_text(content)
    with pytest.raises(HubError, match=r"mine\.json"):
        model_card(model_folder(tmp_path / "run"), scores=[file])
