"""The way to the Hub, against the Hub on loopback."""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from model_folders import generator, model_folder, run_folder
from PIL import Image

from pix2pix import downloads
from pix2pix import generator as pix2pix_generator
from pix2pix import hub as pix2pix_hub
from pix2pix.cards import HubError
from pix2pix.generator import ModelError, UNetGenerator
from pix2pix.hub import Pusher, push
from pix2pix.inference import Translator


@pytest.fixture
def impatient(monkeypatch):
    """Retries come at once: no test waits for a fault to pass."""
    monkeypatch.setattr(pix2pix_hub, "FIRST_WAIT", 0.0)


# --- the way to the Hub


def test_a_push_takes_the_model_and_leaves_the_rest(hub, tmp_path):
    folder = run_folder(tmp_path)
    commit = push(folder, "artist/model", private=True, message="First")
    files = hub.files("artist/model")
    assert set(files) == {
        ".gitattributes",
        "README.md",
        "curves.png",
        "grid.png",
        "photo2sketch/config.json",
        "photo2sketch/model.safetensors",
        "sketch2photo/config.json",
        "sketch2photo/model.safetensors",
    }
    for name in files.keys() - {".gitattributes", "README.md"}:
        assert files[name] == (folder / name).read_bytes()
    assert not (folder / "README.md").exists()
    info = HfApi().model_info("artist/model")
    assert info.sha == commit.oid
    assert info.private
    assert (info.pipeline_tag, vars(info)["library_name"]) == ("image-to-image", "pix2pix")
    assert HfApi().list_repo_commits("artist/model")[0].title == "First"


def test_what_was_pushed_is_pulled_by_revision(hub, tmp_path):
    first = push(model_folder(tmp_path / "a", seed=1), "artist/model")
    push(model_folder(tmp_path / "b", seed=2), "artist/model")
    push(model_folder(tmp_path / "c", seed=3), "artist/model", revision="wip")
    source = torch.rand(1, 3, 25, 20) * 2 - 1
    for revision, seed in ((first.oid, 1), (None, 2), ("main", 2), ("wip", 3)):
        pulled = UNetGenerator.from_pretrained("artist/model", subfolder="sketch2photo", revision=revision)
        assert torch.equal(pulled(source), generator(seed).eval()(source))
    picture = Image.effect_noise((40, 50), 60)
    theirs = Translator.from_pretrained("artist/model", "sketch2photo", "cpu", revision=first.oid)(picture)
    ours = Translator.from_pretrained(tmp_path / "a", "sketch2photo", "cpu")(picture)
    assert theirs.tobytes() == ours.tobytes()
    with pytest.raises(ModelError, match="has no revision 'gone'"):
        UNetGenerator.from_pretrained("artist/model", subfolder="sketch2photo", revision="gone")


def test_pushing_the_same_again_makes_no_commit(hub, tmp_path):
    folder = run_folder(tmp_path)
    assert push(folder, "artist/model").oid == push(folder, "artist/model").oid


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/repos/create", 503),
        ("/auth-check/write", 429),
        ("/commit/", 500),
        ("/commit/", 409),
        ("/commit/", 412),
        ("/api/whoami-v2", None),
    ],
)
def test_a_passing_fault_is_retried(hub, tmp_path, impatient, path, status):
    folder = model_folder(tmp_path)
    hub.fail_next(2, status, path_contains=path)
    push(folder, "artist/model")
    assert [line.status for line in hub.requests if path in line.path] == [status or 0] * 2 + [200]
    assert "photo2sketch/model.safetensors" in hub.files("artist/model")


def test_a_commit_whose_answer_was_lost_is_not_made_twice(hub, tmp_path, impatient):
    folder = model_folder(tmp_path)
    hub.fail_next(1, None, path_contains="/commit/")
    commit = push(folder, "artist/model")
    assert [line.status for line in hub.requests if "/commit/" in line.path] == [0]
    assert commit.oid == HfApi().list_repo_commits("artist/model")[0].commit_id
    assert len(HfApi().list_repo_commits("artist/model")) == 2


def test_a_fault_that_stays_ends_after_a_bounded_number_of_tries(hub, tmp_path, impatient):
    hub.fail_next(99, 503, path_contains="/commit/")
    with pytest.raises(HubError, match=r"the Hub is in trouble \(503\), also after 5 tries"):
        push(model_folder(tmp_path), "artist/model")
    assert len([line for line in hub.requests if "/commit/" in line.path]) == 5


def test_a_refusal_is_not_retried(hub, tmp_path):
    hub.fail_next(9, 400, path_contains="/commit/")
    with pytest.raises(HubError, match=r"refused artist/model \(400: as asked\)"):
        push(model_folder(tmp_path), "artist/model")
    assert len([line for line in hub.requests if "/commit/" in line.path]) == 1


@pytest.mark.parametrize(
    ("headers", "attempt", "wait"),
    [
        ({}, 0, 1),
        ({}, 3, 8),
        ({}, 30, 120),
        ({"Retry-After": "7"}, 0, 7),
        ({"Retry-After": "86400"}, 0, 120),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 3, 0),
        ({"Retry-After": "soon"}, 0, 1),
    ],
)
def test_the_wait_grows_or_is_the_one_asked_for_within_bounds(hub, headers, attempt, wait):
    hub.fail_next(1, 429, headers=headers)
    with pytest.raises(HfHubHTTPError) as caught:
        HfApi().model_info("artist/model")
    assert pix2pix_hub._wait_before_retry(caught.value, attempt) == wait


def test_the_wait_that_the_hub_asks_for_is_the_one_that_is_made(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(pix2pix_hub, "FIRST_WAIT", -1.0)  # to wait so long by itself would be an error
    hub.fail_next(2, 429, path_contains="/auth-check/write", headers={"Retry-After": "0"})
    push(model_folder(tmp_path), "artist/model")
    assert [line.status for line in hub.requests if "/auth-check/write" in line.path] == [429, 429, 200]


def refused(hub, folder: Path, **options: object) -> str:
    with pytest.raises(HubError) as caught:
        push(folder, **{"repo_id": "artist/model", **options})
    assert not [line for line in hub.writes() if "/commit/" in line.path or "/storage/" in line.path]
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    return str(caught.value)


def test_each_refusal_is_one_sentence_with_a_remedy(hub, tmp_path, monkeypatch):
    folder = model_folder(tmp_path)
    assert "the Hub refused the token (401); log in with `hf auth login`" in refused(hub, folder, token="hf_wrongwrong")
    stranger, reader = hub.add_user("stranger"), hub.add_user("artist", read_only=True)
    for token in (stranger, reader):
        assert "the token may not write to artist/model (403)" in refused(hub, folder, token=token)
    HfApi().create_repo("artist/model")
    for token in (stranger, reader):
        assert "the token may not write to artist/model (403)" in refused(hub, folder, token=token)
    assert "exists and is public; make it private" in refused(hub, folder, private=True)
    HfApi().create_repo("artist/secret", private=True)
    assert "(403)" in refused(hub, folder, repo_id="artist/secret", token=stranger)
    for repo_id in ("model", "a/b/c", "artist/mo del", ""):
        assert "must be USER/NAME" in refused(hub, folder, repo_id=repo_id)
    monkeypatch.delenv("HF_TOKEN")
    assert "there is no Hub token; log in" in refused(hub, folder)


@pytest.mark.parametrize("token", ["hf_broken\nline1234567", "hf_späße1234567", " ", "hf_with blank1234"])
def test_a_token_is_never_told(hub, tmp_path, token, caplog, capfd):
    with pytest.raises(HubError, match="holds characters that no token has") as caught:
        push(model_folder(tmp_path), "artist/model", token=token)
    told = f"{caught.getrepr(chain=True, style='native')}"
    assert "1234" not in str(caught.value) + caplog.text + "".join(capfd.readouterr())
    assert "During handling" not in told


def test_a_server_that_repeats_the_token_does_not_get_it_into_the_message(hub):
    api = HfApi(token=hub.token)
    shown = pix2pix_hub._without_token(f"bad header {hub.token} and hf_abcdefghijk", api)
    assert shown == "bad header (token) and (token)"


def test_a_hub_that_repeats_the_token_does_not_get_it_told(hub, tmp_path):
    hub.fail_next(1, 400, path_contains="/commit/", headers={"X-Error-Message": f"what is {hub.token}?"})
    with pytest.raises(HubError, match=r"refused artist/model \(400: what is \(token\)\?\)") as caught:
        push(model_folder(tmp_path), "artist/model")
    assert hub.token not in f"{caught.getrepr(chain=True, style='native')}"


def test_a_token_with_a_line_end_from_a_file_works(hub, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert push(model_folder(tmp_path), "artist/model", token=hub.token + "\n").oid


@pytest.mark.parametrize(
    ("environment", "words"),
    [({"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot be reached"), ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set")],
)
def test_without_a_way_to_the_hub_the_error_says_so(hub, tmp_path, environment, words):
    model_folder(tmp_path / "run")
    code = (
        "from pix2pix import cards, hub; hub.FIRST_WAIT = 0\n"
        "try: hub.push('run', 'me/model')\nexcept cards.HubError as e: print(e)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert words in answer.stdout
    assert len(answer.stdout.splitlines()) == 1


# --- pushing while training


def test_the_pusher_checks_before_training(hub, tmp_path):
    folder = tmp_path / "run"  # not there yet: training has not begun
    assert Pusher(folder, "artist/model", private=True).check() == f"{hub.endpoint}/artist/model"
    assert hub.repo("artist/model").private
    with pytest.raises(HubError, match="401"):
        Pusher(folder, "artist/other", token="hf_wrongwrong").check()
    with pytest.raises(HubError, match="403"):
        Pusher(folder, "somebody/model").check()


def test_the_pusher_uploads_what_the_folder_held_when_it_was_asked(hub, tmp_path, monkeypatch):
    folder, weights = model_folder(tmp_path, seed=1), Path("photo2sketch", "model.safetensors")
    first = (folder / weights).read_bytes()
    pusher = Pusher(folder, "artist/model")
    pusher.check()
    may_go, is_there = threading.Event(), threading.Event()
    upload = pix2pix_hub._upload

    def held(*arguments):
        is_there.set()
        assert may_go.wait(60)
        return upload(*arguments)

    monkeypatch.setattr(pix2pix_hub, "_upload", held)
    pusher.start("epoch 1")
    assert is_there.wait(60)
    for epoch in (2, 3):  # asked for while the first is under way: only the newest follows
        model_folder(folder, seed=epoch)
        pusher.start(f"epoch {epoch}")
    model_folder(folder, seed=4)
    may_go.set()
    assert pusher.finish("end") is None
    commits = HfApi().list_repo_commits("artist/model")
    titles = [commit.title for commit in commits]
    assert titles[0] == "end"
    assert titles[-2:] == ["epoch 1", "initial commit"]
    assert "epoch 2" not in titles
    assert hub.files("artist/model", revision=commits[-2].commit_id)[weights.as_posix()] == first
    assert hub.files("artist/model")[weights.as_posix()] == (folder / weights).read_bytes() != first


def test_a_failed_push_is_a_warning_with_the_command_to_repeat(hub, tmp_path, impatient, caplog):
    folder = model_folder(tmp_path / "my run")
    pusher = Pusher(folder, "artist/model", private=True)
    pusher.check()
    hub.fail_next(10, 503, path_contains="/commit/")
    with caplog.at_level(logging.WARNING, logger="pix2pix"):
        pusher.start("epoch 1")
        warning = pusher.finish("end")
    assert "the Hub is in trouble (503)" in warning
    assert f"python -m pix2pix.publish --model '{folder}' --repo artist/model --private" in warning
    assert "\n" not in warning
    assert "push to artist/model failed" in caplog.text
    assert hub.token not in warning + caplog.text
    hub.faults.clear()
    assert pusher.finish("end") is None
    assert "sketch2photo/config.json" in hub.files("artist/model")


def test_a_folder_that_cannot_be_pushed_does_not_raise_either(hub, tmp_path, caplog):
    pusher = Pusher(tmp_path, "artist/model")
    pusher.start("epoch 1")
    assert "holds neither photo2sketch/ nor sketch2photo/" in caplog.text
    assert "holds neither photo2sketch/ nor sketch2photo/" in pusher.finish("end")


def test_nothing_is_left_in_the_temporary_folder(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    folder = run_folder(tmp_path / "run")
    pusher = Pusher(folder, "artist/model")
    pusher.check()
    for epoch in range(3):
        pusher.start(f"epoch {epoch}")
    assert pusher.finish("end") is None
    (folder / "arguments.json").write_text("{")
    assert "is not JSON" in pusher.finish("end")
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize(
    ("path", "how"),
    [
        ("/api/whoami-v2", "silence"),
        ("/api/repos/create", "stall"),
        ("/auth-check/write", "stall"),
        ("/api/models/artist/model", "silence"),
        ("/preupload/", "silence"),
        ("/info/lfs/objects/batch", "silence"),
        ("/storage/", "silence"),
        ("/storage-verify", "silence"),
        ("/commit/", "stall"),
        ("/commit/", "silence"),
    ],
)
def test_a_hub_that_stalls_is_given_up_and_asked_again(hub, tmp_path, impatient, monkeypatch, path, how):
    monkeypatch.setattr(downloads, "STALL", 0.5)
    hub.fail_next(2, None, path_contains=path, how=how)
    push(model_folder(tmp_path), "artist/model")
    assert "photo2sketch/model.safetensors" in hub.files("artist/model")
    asked = [line.status for line in hub.requests if path in line.path]
    assert asked[0] == 0  # how many follow depends on what was done though its answer was lost, and on how busy the machine is


# --- downloads


@pytest.fixture
def pushed(hub, tmp_path, monkeypatch):
    """A model on the Hub, and a client that does not wait before it tries again."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    push(model_folder(tmp_path), "artist/model")
    hub.requests.clear()
    return hub


def pull():
    return UNetGenerator.from_pretrained("artist/model", subfolder="photo2sketch")


def is_the_model(pulled: UNetGenerator) -> bool:
    return all(torch.equal(a, b) for a, b in zip(pulled.parameters(), generator().parameters(), strict=True))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "could not be fetched (the Hub answered 401); log in with `hf auth login`"),
        (403, "could not be fetched (the Hub answered 403); ask for access on its page"),
        (404, "could not be fetched (the Hub answered 404); check its name, or try again later"),
        (409, "could not be fetched (the Hub answered 409); try again later"),
        (429, "could not be fetched (the Hub answered 429); it is asked too often, so try again"),
        (500, "could not be fetched (the Hub answered 500); try again later"),
        (503, "could not be fetched (the Hub answered 503); try again later"),
    ],
)
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_download_that_fails_is_one_sentence_and_the_next_succeeds(pushed, status, words, method):
    pushed.fail_next(1000, status, path_contains="model.safetensors", method=method, headers={"Retry-After": "0"})
    with pytest.raises(ModelError) as caught:
        pull()
    said = str(caught.value)
    assert "'artist/model' (photo2sketch)" in said
    assert words in said
    assert "\n" not in said
    assert pushed.token not in said
    pushed.faults.clear()
    assert is_the_model(pull())


@pytest.mark.parametrize("how", ["cut", "corrupt", "stall"])
def test_a_download_that_is_spoilt_once_is_mended(pushed, monkeypatch, how):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    pushed.fail_next(1, None, path_contains="model.safetensors", method="GET", how=how)
    assert is_the_model(pull())
    asked = [line.status for line in pushed.requests if line.method == "GET" and "model.safetensors" in line.path]
    assert asked[0] == 0
    assert len(asked) > 1  # not just 2: a busy machine may make a whole answer come too late


@pytest.mark.parametrize("how", ["cut", "stall"])
def test_a_connection_that_never_lasts_is_one_sentence(pushed, monkeypatch, how):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    pushed.fail_next(1000, None, path_contains="model.safetensors", method="GET", how=how)
    with pytest.raises(ModelError, match=r"could not be fetched \(\w+\); try again later") as caught:
        pull()
    assert "\n" not in str(caught.value)
    pushed.faults.clear()
    assert is_the_model(pull())


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_file_that_is_larger_than_it_may_be_is_not_fetched(pushed, file):
    path = f"photo2sketch/{file}"
    size = 8 * sum(p.numel() for p in generator().parameters()) + 1_000_001 if file == "model.safetensors" else 100_001
    HfApi().upload_file(path_or_fileobj=b" " * size, path_in_repo=path, repo_id="artist/model")
    pushed.requests.clear()
    with pytest.raises(ModelError, match=f"{file} has {size:,} bytes, more than the {size - 1:,} that it may have"):
        pull()
    assert not [line for line in pushed.requests if line.method == "GET" and file in line.path]


def test_the_weights_are_fetched_of_the_commit_of_the_config(pushed, monkeypatch, tmp_path):
    """Somebody pushes another network while a model is being fetched."""
    read = pix2pix_generator._read_config

    def read_and_push(*arguments):
        monkeypatch.setattr(pix2pix_generator, "_read_config", read)
        UNetGenerator(base_channels=8, num_downsamples=2, image_size=(50, 40)).save_pretrained(
            tmp_path / "other" / "photo2sketch"
        )
        push(tmp_path / "other", "artist/model")
        return read(*arguments)

    monkeypatch.setattr(pix2pix_generator, "_read_config", read_and_push)
    assert is_the_model(pull())
    assert pull().config["num_downsamples"] == 2
    assert UNetGenerator.from_pretrained("artist/model", subfolder="photo2sketch", local_files_only=True).num_downsamples == 2


@pytest.mark.parametrize("token", ["hf_broken\nline1234567", "hf_späße1234567", " ", "hf_with blank1234"])
@pytest.mark.parametrize("is_argument", [True, False])
def test_a_token_is_never_told_by_a_download_either(pushed, monkeypatch, token, is_argument):
    monkeypatch.setenv("HF_TOKEN", pushed.token if is_argument else token)
    with pytest.raises(ModelError) as caught:
        UNetGenerator.from_pretrained("artist/absent", subfolder="photo2sketch", token=token if is_argument else None)
    told = f"{caught.getrepr(chain=True, style='native')}"
    assert "1234" not in told
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_download_that_is_always_spoilt_is_never_used(pushed, file):
    pushed.fail_next(1000, None, path_contains=file, method="GET", how="corrupt")
    with pytest.raises(ModelError, match=f"{file} differs from what the Hub announces, also when downloaded anew"):
        pull()
    pushed.faults.clear()
    assert is_the_model(pull())


def test_of_a_repository_only_config_and_weights_are_asked_for(pushed, tmp_path):
    extra = {"pytorch_model.bin": b"\x80\x04cos\n_exit\n(I77\ntR.", "modeling.py": b"raise SystemExit(77)"}
    for name, content in extra.items():
        HfApi().upload_file(path_or_fileobj=content, path_in_repo=f"photo2sketch/{name}", repo_id="artist/model")
    pushed.requests.clear()
    assert is_the_model(pull())
    assert {line.path.rsplit("/", 1)[-1] for line in pushed.requests} == {"config.json", "model.safetensors"}
