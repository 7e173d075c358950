"""The loopback Hub against the real client libraries."""

import os
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from huggingface_hub import HfApi, ModelCard, ModelCardData, hf_hub_download, snapshot_download, upload_folder
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from PIL import Image

SERVER = Path(__file__).with_name("hub_server.py")


@pytest.fixture
def api(hub):
    return HfApi()


def write(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def pictures(count: int, seed: int) -> list[Image.Image]:
    generator = np.random.default_rng(seed)
    return [Image.fromarray(generator.integers(0, 256, (20, 16, 3), dtype=np.uint8)) for _ in range(count)]


def test_a_pushed_folder_comes_back_byte_for_byte(hub, api, tmp_path):
    weights = bytes(range(256)) * 400
    folder = write(tmp_path / "run", a__model_dot_safetensors=weights, a__config_dot_json=b"{}", empty_dot_txt=b"")
    api.create_repo("artist/model")
    upload_folder(repo_id="artist/model", folder_path=folder)
    assert hub.files("artist/model")["a/model.safetensors"] == weights
    assert Path(hf_hub_download("artist/model", "model.safetensors", subfolder="a")).read_bytes() == weights
    pulled = Path(snapshot_download("artist/model"))
    found = {path.relative_to(pulled).as_posix() for path in pulled.rglob("*") if path.is_file()}
    assert found == {".gitattributes", "a/model.safetensors", "a/config.json", "empty.txt"}


def test_weights_go_to_lfs_and_text_into_the_commit(hub, api, tmp_path):
    folder = write(tmp_path, model_dot_safetensors=b"abc", README_dot_md=b"---\nlicense: mit\n---\n")
    api.create_repo("artist/model")
    api.upload_folder(repo_id="artist/model", folder_path=folder)
    by_path = {file.path: file for file in api.list_repo_tree("artist/model", recursive=True)}
    assert by_path["model.safetensors"].lfs.size == 3
    assert by_path["README.md"].lfs is None
    assert sum(line.method == "PUT" and line.path.startswith("/storage/") for line in hub.requests) == 1


def test_every_revision_keeps_its_content(hub, api):
    api.create_repo("artist/model")
    shas = []
    for text in (b"one", b"two"):
        commit = api.upload_file(path_or_fileobj=text, path_in_repo="file.txt", repo_id="artist/model")
        shas.append(commit.oid)
    api.create_tag("artist/model", tag="v1", revision=shas[0])
    api.create_branch("artist/model", branch="wip/next", revision=shas[0])
    api.upload_file(path_or_fileobj=b"three", path_in_repo="file.txt", repo_id="artist/model", revision="wip/next")

    def text(revision: str | None) -> bytes:
        return Path(hf_hub_download("artist/model", "file.txt", revision=revision)).read_bytes()

    assert [text(revision) for revision in (shas[0], shas[1], "v1", "main", None, "wip/next")] == [
        b"one",
        b"two",
        b"one",
        b"two",
        b"two",
        b"three",
    ]
    refs = api.list_repo_refs("artist/model")
    assert {branch.name for branch in refs.branches} == {"main", "wip/next"}
    assert [tag.target_commit for tag in refs.tags] == [shas[0]]
    assert [commit.commit_id for commit in api.list_repo_commits("artist/model")][:2] == shas[::-1]


def test_two_files_may_share_their_content(hub, api, tmp_path):
    folder = write(tmp_path, a__model_dot_safetensors=b"abc", b__model_dot_safetensors=b"abc")
    api.create_repo("artist/model")
    api.upload_folder(repo_id="artist/model", folder_path=folder)
    assert [hub.files("artist/model")[f"{name}/model.safetensors"] for name in "ab"] == [b"abc", b"abc"]


def test_an_unchanged_file_makes_no_commit(hub, api, tmp_path):
    folder = write(tmp_path, model_dot_bin=b"\0" * 100, note_dot_txt=b"hello")
    api.create_repo("artist/model")
    first = api.upload_folder(repo_id="artist/model", folder_path=folder)
    second = api.upload_folder(repo_id="artist/model", folder_path=folder)
    assert second.oid == first.oid
    assert len(api.list_repo_commits("artist/model")) == 2


def test_files_and_folders_can_be_deleted(hub, api, tmp_path):
    api.create_repo("artist/model")
    api.upload_folder(repo_id="artist/model", folder_path=write(tmp_path, a__x=b"1", a__y=b"2", b__x=b"3", c=b"4"))
    api.delete_file("b/x", "artist/model")
    api.delete_folder("a", "artist/model")
    assert set(hub.files("artist/model")) == {".gitattributes", "c"}


def test_a_commit_on_an_old_parent_is_refused(hub, api):
    api.create_repo("artist/model")
    old = api.model_info("artist/model").sha
    api.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id="artist/model")
    with pytest.raises(HfHubHTTPError, match="412"):
        api.upload_file(path_or_fileobj=b"2", path_in_repo="a", repo_id="artist/model", parent_commit=old)


def test_paths_are_described(hub, api, tmp_path):
    api.create_repo("artist/model")
    api.upload_folder(repo_id="artist/model", folder_path=write(tmp_path, a__b__x=b"1", a__y=b"22"))
    assert {entry.path for entry in api.list_repo_tree("artist/model", "a")} == {"a/b", "a/y"}
    assert {entry.path for entry in api.list_repo_tree("artist/model", "a", recursive=True)} == {"a/b", "a/b/x", "a/y"}
    found = api.get_paths_info("artist/model", ["a/y", "a/b", "nothing"], expand=True)
    assert [entry.path for entry in found] == ["a/y", "a/b"]
    assert found[0].size == 2
    assert found[0].last_commit.oid == found[1].last_commit.oid == api.model_info("artist/model").sha
    assert api.model_info("artist/model", files_metadata=True).siblings[1].size == 1
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree("artist/model", "nothing"))


def test_a_range_of_a_file_can_be_read(hub, api):
    from huggingface_hub import HfFileSystem

    api.create_repo("artist/model")
    api.upload_file(path_or_fileobj=b"0123456789", path_in_repo="digits.bin", repo_id="artist/model")
    assert HfFileSystem().cat_file("artist/model/digits.bin", start=2, end=5) == b"234"


def test_a_card_is_checked_and_read_back(hub, api):
    api.create_repo("artist/model")
    card = ModelCard(f"---\n{ModelCardData(license='mit', tags=['pix2pix']).to_yaml()}\n---\n\n# A model\n")
    card.push_to_hub("artist/model")
    assert ModelCard.load("artist/model").data.tags == ["pix2pix"]
    assert api.model_info("artist/model").card_data.license == "mit"
    with pytest.raises(ValueError, match="Invalid metadata"):
        api.upload_file(path_or_fileobj=b"---\na: [\n---\n", path_in_repo="README.md", repo_id="artist/model")


def test_a_bad_token_is_refused_everywhere_and_a_missing_one_on_writes(hub, api):
    api.create_repo("artist/model")
    assert api.whoami()["name"] == "artist"
    for call in (api.whoami, lambda token: api.model_info("artist/model", token=token)):
        with pytest.raises(HfHubHTTPError) as caught:
            call(token="hf_wrong")
        assert caught.value.response.status_code == 401
    assert api.model_info("artist/model", token=False).id == "artist/model"
    with pytest.raises(HfHubHTTPError) as caught:
        api.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id="artist/model", token=False)
    assert caught.value.response.status_code == 401


def test_nobody_writes_into_the_namespace_of_another(hub, api):
    api.create_repo("artist/model")
    stranger, reader = hub.add_user("stranger"), hub.add_user("artist", read_only=True)
    for attempt in (
        lambda: api.create_repo("artist/other", token=stranger),
        lambda: api.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id="artist/model", token=stranger),
        lambda: api.auth_check("artist/model", write=True, token=stranger),
        lambda: api.create_repo("artist/other", token=reader),
    ):
        with pytest.raises(HfHubHTTPError) as caught:
            attempt()
        assert caught.value.response.status_code == 403


def test_a_private_repository_exists_for_its_owner_only(hub, api):
    api.create_repo("artist/secret", private=True)
    assert api.model_info("artist/secret").private
    for token in (False, hub.add_user("stranger")):
        with pytest.raises(RepositoryNotFoundError):
            api.model_info("artist/secret", token=token)


def test_what_is_missing_raises_the_exception_of_its_kind(hub, api):
    api.create_repo("artist/model")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo("artist/model")
    api.create_repo("artist/model", exist_ok=True)
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("artist/model", "nothing.txt")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download("artist/model", ".gitattributes", revision="nowhere")
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("artist/nothing", "file.txt")
    api.delete_repo("artist/model")
    assert not api.repo_exists("artist/model")


def test_the_three_kinds_do_not_mix(hub, api):
    for kind in ("model", "dataset", "space"):
        api.create_repo("artist/thing", repo_type=kind, space_sdk="gradio" if kind == "space" else None)
        content = kind.encode()
        api.upload_file(path_or_fileobj=content, path_in_repo="a", repo_id="artist/thing", repo_type=kind)
    for kind in ("model", "dataset", "space"):
        assert Path(hf_hub_download("artist/thing", "a", repo_type=kind)).read_bytes() == kind.encode()
    assert api.space_info("artist/thing").sdk == "gradio"


def test_a_commit_cannot_name_content_that_was_never_uploaded_or_leave_the_repository(hub, api):
    import httpx

    api.create_repo("artist/model")
    headers = {"Authorization": f"Bearer {hub.token}"}
    for line in (
        '{"key":"lfsFile","value":{"path":"a.bin","oid":"' + "0" * 64 + '","size":3}}',
        '{"key":"file","value":{"path":"../a","content":"","encoding":"base64"}}',
    ):
        answer = httpx.post(f"{hub.endpoint}/api/models/artist/model/commit/main", content=line, headers=headers)
        assert answer.status_code == 400
    assert set(hub.files("artist/model")) == {".gitattributes"}


def test_asked_for_faults_come_as_often_as_asked(hub, api):
    api.create_repo("artist/model")
    hub.fail_next(2, 500, path_contains="/api/models/artist/model", method="GET")
    for _ in range(2):
        with pytest.raises(HfHubHTTPError, match="500"):
            api.model_info("artist/model")
    assert api.model_info("artist/model").id == "artist/model"
    hub.fail_next(1, 400, path_contains="/commit/")
    with pytest.raises(BadRequestError):
        api.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id="artist/model")
    assert [line.status for line in hub.requests if "/commit/" in line.path] == [400]


def test_a_cut_connection_is_an_error_of_the_connection(hub, api):
    from huggingface_hub.utils import httpx

    api.create_repo("artist/model")
    hub.fail_next(1, None, path_contains="/api/models")
    with pytest.raises(httpx.TransportError):
        api.model_info("artist/model")


@pytest.mark.parametrize("how", ["stall", "silence"])
def test_a_hub_that_does_not_answer_is_given_up_by_whoever_sets_a_limit(hub, api, how):
    from huggingface_hub.utils import httpx

    api.create_repo("artist/model")
    hub.fail_next(1, None, path_contains="/api/models", how=how)
    with pytest.raises(httpx.ReadTimeout):
        api.model_info("artist/model", timeout=0.5)
    assert api.model_info("artist/model").id == "artist/model"


def test_a_download_that_is_cut_in_the_middle_is_fetched_again(hub, api):
    content = os.urandom(200_000)
    api.create_repo("artist/model")
    api.upload_file(path_or_fileobj=content, path_in_repo="weights.bin", repo_id="artist/model")
    hub.fail_next(1, None, path_contains="weights.bin", method="GET")
    assert Path(hf_hub_download("artist/model", "weights.bin")).read_bytes() == content
    assert [line.status for line in hub.requests if line.method == "GET" and "weights.bin" in line.path] == [0, 200]


def test_a_data_set_with_pictures_goes_up_and_comes_down_by_revision(hub, tmp_path):
    features = datasets.Features({"photo": datasets.Image(), "sketch": datasets.Image(), "person_id": datasets.Value("string")})

    def split(count: int, seed: int) -> datasets.Dataset:
        columns = {
            "photo": pictures(count, seed),
            "sketch": pictures(count, seed + 1),
            "person_id": [str(index) for index in range(count)],
        }
        return datasets.Dataset.from_dict(columns, features=features)

    first = datasets.DatasetDict(train=split(5, 0), test=split(2, 10))
    old = first.push_to_hub("artist/pairs", private=True)
    datasets.DatasetDict(train=split(3, 20), test=split(2, 10)).push_to_hub("artist/pairs")

    pulled = datasets.load_dataset("artist/pairs", revision=old.oid, cache_dir=tmp_path)
    assert pulled["train"].features == features
    assert (len(pulled["train"]), len(pulled["test"])) == (5, 2)
    for column in ("photo", "sketch"):
        for theirs, ours in zip(pulled["train"][column], first["train"][column], strict=True):
            assert np.array_equal(np.asarray(theirs), np.asarray(ours))
    assert len(datasets.load_dataset("artist/pairs", split="train", cache_dir=tmp_path)) == 3
    with pytest.raises(FileNotFoundError):
        datasets.load_dataset("artist/nothing", cache_dir=tmp_path)


def test_by_hand_it_prints_an_environment_in_which_the_command_line_client_works(tmp_path):
    server = subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True)
    try:
        environment = dict(os.environ)
        for line in server.stdout:
            if line.startswith("#"):
                break
            name, value = line.removeprefix("export ").rstrip("\n").split("=", 1)
            environment[name] = value
        code = "from huggingface_hub import whoami, create_repo; print(whoami()['name'], create_repo('artist/new'))"
        answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert answer.stdout.split() == ["artist", f"{environment['HF_ENDPOINT']}/artist/new"]
    finally:
        server.terminate()
        server.stdout.close()
        assert server.wait() == 0
    assert not Path(environment["HF_HOME"]).exists()


def test_a_taken_port_is_a_one_line_error(hub):
    port = hub.endpoint.rsplit(":", 1)[1]
    answer = subprocess.run([sys.executable, str(SERVER), "--port", port], capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert f"--port {port} cannot be listened on" in answer.stderr.splitlines()[-1]
