import hashlib
import os

import pytest
from huggingface_hub import HfApi, get_session
from huggingface_hub.utils import httpx

from pix2pix import downloads
from pix2pix.downloads import MAX_WAIT, DownloadError, MissingFileError, bound_the_client, fetch, is_as_announced


@pytest.fixture
def repository(hub):
    """A file in LFS and one beside it, and what they hold."""
    content = {"deep/weights.bin": os.urandom(5000), "README.md": b"# A card\n"}
    HfApi().create_repo("artist/thing", repo_type="dataset")
    for path, data in content.items():
        HfApi().upload_file(path_or_fileobj=data, path_in_repo=path, repo_id="artist/thing", repo_type="dataset")
    hub.requests.clear()
    return content


def test_a_file_comes_whole_and_with_the_commit_that_it_is_of(hub, repository):
    head = HfApi().dataset_info("artist/thing").sha
    for path, data in repository.items():
        for revision in (None, "main", head):
            file, commit = fetch("artist/thing", path, "thing", most=5000, repo_type="dataset", revision=revision)
            assert file.read_bytes() == data
            assert commit == head
    file, commit = fetch("artist/thing", "weights.bin", "thing", subfolder="deep", repo_type="dataset")
    assert (file.read_bytes(), commit) == (repository["deep/weights.bin"], head)


@pytest.mark.parametrize("path", ["deep/weights.bin", "README.md"])
def test_a_file_that_is_a_byte_too_long_is_not_fetched(hub, repository, path):
    size = len(repository[path])
    assert fetch("artist/thing", path, "thing", most=size, repo_type="dataset")[0].stat().st_size == size
    HfApi().upload_file(path_or_fileobj=repository[path] + b"x", path_in_repo=path, repo_id="artist/thing", repo_type="dataset")
    hub.requests.clear()
    with pytest.raises(DownloadError, match=f"thing: {path} has {size + 1:,} bytes, more than the {size:,} that it may have"):
        fetch("artist/thing", path, "thing", most=size, repo_type="dataset")
    assert {line.method for line in hub.requests} == {"HEAD"}


def test_a_missing_file_is_told_from_a_missing_repository(hub, repository):
    head = HfApi().dataset_info("artist/thing").sha
    with pytest.raises(MissingFileError, match=r"thing has no other\.bin; ") as caught:
        fetch("artist/thing", "other.bin", "thing", repo_type="dataset")
    assert caught.value.commit == head
    with pytest.raises(DownloadError, match="thing is neither a local folder nor a repository on the Hub") as caught:
        fetch("artist/absent", "other.bin", "thing", repo_type="dataset")
    assert not isinstance(caught.value, MissingFileError)
    with pytest.raises(DownloadError, match="thing has no revision 'gone'; give a branch, tag or commit"):
        fetch("artist/thing", "README.md", "thing", repo_type="dataset", revision="gone")


def test_a_gated_repository_is_told_from_a_refused_token(hub, repository):
    gated = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to dataset artist/thing is restricted."}
    hub.fail_next(9, 403, path_contains="README.md", headers=gated)
    with pytest.raises(DownloadError, match="thing is gated; ask for access on its page, then `hf auth login`"):
        fetch("artist/thing", "README.md", "thing", repo_type="dataset")
    with pytest.raises(DownloadError, match=r"could not be fetched \(the Hub answered 401\); log in with `hf auth login`"):
        fetch("artist/thing", "deep/weights.bin", "thing", repo_type="dataset", token="hf_wrongwrong")


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_a_hub_that_repeats_the_token_does_not_get_it_told(hub, repository, monkeypatch, status):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    headers = {"X-Error-Message": f"what is {hub.token}?", "Retry-After": "0"}
    hub.fail_next(99, status, path_contains="README.md", method="HEAD", headers=headers)
    with pytest.raises(DownloadError, match=f"the Hub answered {status}") as caught:
        fetch("artist/thing", "README.md", "thing", repo_type="dataset")
    assert hub.token not in f"{caught.getrepr(chain=True, style='native')}"


def test_the_client_does_not_wait_as_long_as_a_hub_may_ask(hub, repository, monkeypatch):
    waits = []
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", waits.append)
    for headers in (
        {"Retry-After": "86400"},
        {"Retry-After": "7"},
        {"RateLimit": '"api";r=0;t=86400'},
        {"RateLimit": '"api";r=0;t=9', "Retry-After": "86400"},
    ):
        hub.fail_next(1, 429, path_contains="weights.bin", method="GET", headers=headers)
    fetch("artist/thing", "deep/weights.bin", "thing", repo_type="dataset")
    assert waits == [seconds + 1 for seconds in (MAX_WAIT, 7, MAX_WAIT, 9)]  # the client adds one


def test_requests_without_a_limit_of_their_own_get_one(hub, repository, monkeypatch):
    monkeypatch.setattr(downloads, "STALL", 0.5)
    for how in ("stall", "silence"):
        bound_the_client()
        hub.fail_next(1, None, path_contains="/api/datasets", how=how)
        with pytest.raises(httpx.TimeoutException):
            HfApi().dataset_info("artist/thing")  # which asks to wait for ever
    assert [len(hooks) for hooks in get_session().event_hooks.values()] == [2, 1]  # one of them is the client's own


def test_a_digest_is_that_of_the_place(hub, repository):
    for path, data in repository.items():
        file, _ = fetch("artist/thing", path, "thing", repo_type="dataset")
        assert is_as_announced(file)
        name = hashlib.sha256(data) if path.endswith(".bin") else hashlib.sha1(b"blob %d\0" % len(data) + data)
        assert file.resolve().name == name.hexdigest()
        file.resolve().write_bytes(bytes([data[0] ^ 1]) + data[1:])
        assert not is_as_announced(file)
        assert fetch("artist/thing", path, "thing", repo_type="dataset")[0].read_bytes() == data
