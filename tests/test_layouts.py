import contextlib
import os
from pathlib import Path

import datasets
import pytest
from hub_server import impatience
from huggingface_hub import HfApi, HfFileSystem
from noise_pairs import (
    SIZE,
    as_dataset,
    expected,
    fault,
    photo_of,
    picture,
    pixels,
    save,
    sketch_of,
    write_folders,
    write_imagefolder,
    write_side_by_side,
)

from pix2pix import downloads
from pix2pix.data import load_pairs
from pix2pix.layouts import FEATURES, DataError, person_of


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


# -- the same pairs from every layout ----------------------------------------------------------------------------------


def test_folders_of_photos_and_sketches(tmp_path):
    root = write_folders(tmp_path)
    pairs = load_pairs(root)
    assert pairs.features == FEATURES
    assert pixels(pairs) == expected(range(4))
    assert pixels(load_pairs(str(root), split="test")) == expected(range(10, 12))
    assert list(pairs["person_id"]) == [f"train/p{number:02d}" for number in range(4)]


def test_a_folder_without_splits_is_the_train_split(tmp_path):
    write_folders(tmp_path)
    assert pixels(load_pairs(tmp_path / "train")) == expected(range(4))
    assert fault(tmp_path / "train", split="test").endswith("has no split 'test'; splits there: train")


def test_columns_name_the_folders(tmp_path):
    root = write_folders(tmp_path, photos="A", sketches="Drawings")
    assert pixels(load_pairs(root, columns=("A", "drawing"))) == expected(range(4))
    assert "but it holds test/A/, test/Drawings/, train/A/, train/Drawings/" in fault(root)
    lonely = fault(root, columns=("A", "B"))
    assert lonely.endswith("has no folder 'Bs' beside 'A'; folders there: A, Drawings")


def test_an_imagefolder_reads_as_the_datasets_library_reads_it(tmp_path):
    root = write_imagefolder(tmp_path / "faces")
    theirs = datasets.load_dataset("imagefolder", data_dir=str(root))
    for split, numbers in (("train", range(4)), ("test", range(10, 12))):
        ours = load_pairs(root, split=split)
        assert pixels(ours) == expected(numbers)
        assert list(ours["person_id"]) == list(theirs[split]["person_id"])
        for mine, other in zip(ours, theirs[split], strict=True):
            assert mine["photo"].tobytes() == other["photo"].tobytes()
            assert mine["sketch"].tobytes() == other["sketch"].tobytes()
    assert pixels(load_pairs(root / "train")) == expected(range(4))
    assert "has no column 'B_file_name'; columns there: photo, sketch" in fault(root, columns=("photo", "B"))


def test_side_by_side_pictures(tmp_path):
    root = write_side_by_side(tmp_path)
    assert pixels(load_pairs(root, layout="side-by-side")) == expected(range(4))
    assert pixels(load_pairs(root, layout="side-by-side", split="val")) == expected(range(10, 12))
    assert pixels(load_pairs(root, layout="side-by-side", split="validation")) == expected(range(10, 12))
    assert pixels(load_pairs(root / "train", layout="side-by-side")) == expected(range(4))
    turned = load_pairs(root, layout="side-by-side", columns=("right", "left"))
    assert turned[0]["sketch"].tobytes() == photo_of(0).tobytes()
    assert "choose the layout side-by-side" in fault(root)


def test_a_side_by_side_picture_that_changed_is_read_again(tmp_path):
    root = write_side_by_side(tmp_path)
    before = pixels(load_pairs(root, layout="side-by-side"))
    save(picture(77, size=(2 * SIZE[0], SIZE[1])), root / "train" / "p00.png")
    after = pixels(load_pairs(root, layout="side-by-side"))
    assert [name for name in before if before[name] != after[name]] == ["p00"]


def test_what_save_to_disk_wrote(tmp_path):
    splits = datasets.DatasetDict(train=as_dataset(range(4)), test=as_dataset(range(10, 12)))
    splits.save_to_disk(tmp_path / "both")
    splits["train"].save_to_disk(tmp_path / "one")
    for root in (tmp_path / "both", tmp_path / "one"):
        pairs = load_pairs(root)
        assert pixels(pairs) == expected(range(4))
        assert list(pairs["person_id"]) == ["anna0", "anna0", "anna1", "anna1"]
    assert pixels(load_pairs(tmp_path / "both", split="test")) == expected(range(10, 12))
    assert fault(tmp_path / "one", split="test").endswith("splits there: train")


def test_parquet_files_of_any_columns(tmp_path):
    pairs = as_dataset(range(4)).rename_columns({"photo": "B", "sketch": "photo", "person_id": "who"})
    (tmp_path / "data").mkdir()
    pairs.to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    loaded = load_pairs(tmp_path, columns=("B", "photo"))
    assert pixels(loaded) == expected(range(4))
    assert list(loaded["person_id"]) == [f"train/p{number:02d}" for number in range(4)]
    assert "has no column 'sketch'; columns there: B, photo, who, name" in fault(tmp_path)
    assert "column 'who' of " in fault(tmp_path, columns=("B", "who"))


def test_a_hub_id_by_revision(hub):
    first = as_dataset(range(4)).push_to_hub("artist/faces")
    datasets.DatasetDict(train=as_dataset(range(2, 6)), test=as_dataset(range(10, 12))).push_to_hub("artist/faces")
    assert pixels(load_pairs("artist/faces")) == expected(range(2, 6))
    assert pixels(load_pairs("artist/faces", split="test")) == expected(range(10, 12))
    assert pixels(load_pairs("artist/faces", revision=first.oid)) == expected(range(4))
    assert fault("artist/faces", split="valid").endswith("has no split 'validation'; splits there: test, train")
    assert fault("artist/faces", revision="gone").endswith("has no revision 'gone'; give a branch, tag or commit")


def test_a_missing_data_set_and_a_refused_token_are_one_line(hub):
    assert fault("artist/nothing").startswith("dataset 'artist/nothing' is neither a local folder nor a repository on the Hub")
    as_dataset(range(2)).push_to_hub("artist/secret", private=True)
    token = "hf_refusedrefusedrefused"
    message = fault("artist/secret", token=token)
    assert message.startswith("dataset 'artist/secret' could not be fetched (the Hub answered 401); log in with")
    assert token not in message
    broken = "hf_with a line\nbreak"
    assert "with a line" not in fault("artist/secret", token=broken)
    assert "does not exist" in fault("no/such/folder")
    assert "describes local folders" in fault("artist/secret", layout="folders")


# -- a Hub in trouble --------------------------------------------------------------------------------------------------

REQUESTS = {
    "is there a card": ("HEAD", "README.md"),
    "the card": ("GET", "README.md"),
    "are there settings": ("HEAD", ".huggingface.yaml"),
    "are there old settings": ("HEAD", "dataset_infos.json"),
    "is it there": ("GET", "/api/datasets/artist/faces/revision"),
    "what is in it": ("GET", "/tree/"),
    "are there pairs": ("HEAD", ".parquet"),
    "the pairs": ("GET", ".parquet"),
}
"""What is asked of the Hub for a data set: method, and a part of the path."""

REMEDIES = {401: "log in with `hf auth login`", 403: "log in with `hf auth login`", 429: "try again in some minutes"}


@pytest.fixture
def faces(hub, monkeypatch):
    """A data set on the Hub, and clients that do not wait before they try again."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    as_dataset(range(4)).push_to_hub("artist/faces")
    HfFileSystem.clear_instance_cache()
    hub.requests.clear()
    return hub


def refused(hub, **options) -> str:
    with pytest.raises(DataError) as caught:
        load_pairs("artist/faces", **options)
    said = str(caught.value)
    assert said.startswith("dataset 'artist/faces'")
    assert "\n" not in said
    assert hub.token not in f"{caught.getrepr(chain=True, style='native')}"
    return said


def test_no_request_for_a_data_set_is_missing_below(faces):
    load_pairs("artist/faces")
    for line in faces.requests:
        is_known = any(line.method == method and part in line.path for method, part in REQUESTS.values())
        assert is_known or line.path.endswith("faces.py")  # a script: it would be refused, so that none comes is no fault


@pytest.mark.parametrize("place", REQUESTS)
def test_a_refusal_of_the_hub_is_one_sentence_and_the_next_try_succeeds(faces, place):
    method, part = REQUESTS[place]
    for status in (401, 403, 404, 429, 500, 503):
        headers = {"Retry-After": "0", "X-Error-Message": f"what is {faces.token}?"}
        faces.fail_next(1000, status, path_contains=part, method=method, headers=headers)
        said = refused(faces)
        assert f"(the Hub answered {status}); " in said
        assert said.endswith(REMEDIES.get(status, "try again later"))
        faces.faults.clear()
    headers = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to dataset artist/faces is restricted."}
    faces.fail_next(1000, 403, path_contains=part, method=method, headers=headers)
    assert refused(faces).endswith("is gated; ask for access on its page, then `hf auth login`")
    faces.faults.clear()
    assert pixels(load_pairs("artist/faces")) == expected(range(4))


@pytest.mark.parametrize("place", REQUESTS)
def test_a_connection_that_never_lasts_is_one_sentence_and_the_next_try_succeeds(faces, place):
    method, part = REQUESTS[place]
    for how in ("silence",) if method == "HEAD" else ("silence", "stall", "cut"):  # a HEAD has no middle
        faces.fail_next(1000, None, path_contains=part, method=method, how=how)
        with impatience():
            said = refused(faces)
        assert said.endswith(("; try again later", "; check the connection, or give a local folder"))
        faces.faults.clear()
    assert pixels(load_pairs("artist/faces")) == expected(range(4))


@pytest.mark.parametrize("how", ["cut", "stall", "corrupt"])
@pytest.mark.parametrize("file", ["README.md", ".parquet"])
def test_a_file_that_is_spoilt_once_is_fetched_again(faces, monkeypatch, file, how):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    faces.fail_next(1, None, path_contains=file, method="GET", how=how)
    assert pixels(load_pairs("artist/faces")) == expected(range(4))
    asked = [line.status for line in faces.requests if line.method == "GET" and file in line.path]
    assert asked[0] == 0
    assert len(asked) > 1  # not just 2: a busy machine may make a whole answer come too late


@pytest.mark.parametrize("status", [429, 503])
def test_a_passing_refusal_is_not_noticed_where_the_client_asks_again(faces, status):
    asked_again = [(method, part) for method, part in REQUESTS.values() if method == "HEAD" or part == "/tree/"]
    for method, part in asked_again:
        faces.fail_next(1, status, path_contains=part, method=method, headers={"Retry-After": "0"})
    assert pixels(load_pairs("artist/faces")) == expected(range(4))
    assert [line.status for line in faces.requests].count(status) == len(asked_again)


@pytest.mark.parametrize("file", ["README.md", ".parquet"])
def test_a_file_that_is_always_spoilt_is_never_used(faces, file):
    faces.fail_next(1000, None, path_contains=file, method="GET", how="corrupt")
    assert f"{file} differs from what the Hub announces, also when downloaded anew; try again later" in refused(faces)
    assert f"{file} differs" in refused(faces)  # what is left of it in the cache is not used either
    faces.faults.clear()
    assert pixels(load_pairs("artist/faces")) == expected(range(4))


def test_pictures_that_lie_on_the_hub_one_by_one_are_verified_one_by_one(faces, tmp_path):
    HfApi().create_repo("artist/pictures", repo_type="dataset")
    HfApi().upload_folder(repo_id="artist/pictures", repo_type="dataset", folder_path=write_imagefolder(tmp_path))
    faces.fail_next(1000, None, path_contains="a/p02.png", method="GET", how="corrupt")
    assert "dataset 'artist/pictures': train/a/p02.png differs from what the Hub announces" in fault("artist/pictures")
    faces.faults.clear()
    assert pixels(load_pairs("artist/pictures")) == pixels(load_pairs(tmp_path))
    assert pixels(load_pairs("artist/pictures", split="test")) == expected(range(10, 12))


def test_a_list_of_files_that_is_spoilt_gives_no_other_pairs(faces):
    faces.fail_next(1, None, path_contains="/tree/", how="corrupt")
    with contextlib.suppress(DataError):  # the flipped bit may lie where nobody looks
        assert pixels(load_pairs("artist/faces")) == expected(range(4))
    assert pixels(load_pairs("artist/faces")) == expected(range(4))


def test_a_hub_in_trouble_is_no_reason_to_take_another_version(faces):
    """The datasets library would take what it has stored last, whatever was asked for."""
    assert len(load_pairs("artist/faces")) == 4
    as_dataset(range(2)).push_to_hub("artist/faces", revision="other")
    for method, part in REQUESTS.values():
        for status in (401, 500):
            HfFileSystem.clear_instance_cache()
            faces.fail_next(1000, status, path_contains=part, method=method)
            assert "at revision 'other' could not be fetched (the Hub " in refused(faces, revision="other")
            faces.faults.clear()
    assert pixels(load_pairs("artist/faces", revision="other")) == expected(range(2))


def test_without_a_hub_the_pairs_of_that_revision_are_taken_from_the_cache(faces, monkeypatch):
    as_dataset(range(2)).push_to_hub("artist/faces", revision="other")
    for revision, numbers in (("other", range(2)), ("main", range(4)), (None, range(4))):
        assert pixels(load_pairs("artist/faces", revision=revision)) == expected(numbers)
    HfFileSystem.clear_instance_cache()
    faces.fail_next(10_000, 503)
    assert pixels(load_pairs("artist/faces")) == expected(range(4))
    assert "try again later" in refused(faces, revision="other")  # it lies there, but not where the library looks
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert pixels(load_pairs("artist/faces")) == expected(range(4))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", "/nowhere")
    assert "HF_HUB_OFFLINE is set" in refused(faces)


def test_a_card_that_is_too_long_is_not_fetched(faces):
    card = faces.files("artist/faces", kind="dataset")["README.md"] + b" " * downloads.CARD_BYTES
    HfApi().upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id="artist/faces", repo_type="dataset")
    faces.requests.clear()
    assert f"README.md has {len(card):,} bytes, more than the 1,000,000 that it may have" in refused(faces)
    assert {line.method for line in faces.requests} == {"HEAD"}


def test_a_data_set_without_a_card_is_read_at_the_commit_of_that_moment(faces):
    HfApi().delete_file("README.md", repo_id="artist/faces", repo_type="dataset")
    faces.requests.clear()
    assert pixels(load_pairs("artist/faces")) == expected(range(4))
    head = faces.repo("artist/faces", kind="dataset").branches["main"]
    assert {head in line.path for line in faces.requests if "main" not in line.path} == {True}


@pytest.mark.parametrize("token", ["hf_broken\nline1234567", "hf_späße1234567", " ", "hf_with blank1234"])
@pytest.mark.parametrize("is_argument", [True, False])
def test_a_token_is_never_told(faces, monkeypatch, token, is_argument):
    monkeypatch.setenv("HF_TOKEN", faces.token if is_argument else token)
    with pytest.raises(DataError) as caught:
        load_pairs("artist/absent", token=token if is_argument else None)
    assert "1234" not in f"{caught.getrepr(chain=True, style='native')}"
    assert "\n" not in str(caught.value)


# -- matching, names and people ----------------------------------------------------------------------------------------


def test_pairs_are_matched_by_name_never_by_order(tmp_path):
    names = {0: ("zoe.jpg.png", "zoe.jpg.bmp"), 1: ("f-005-01.png", "F2-005-01-sz1.png"), 2: ("A.webp", "A.png")}
    names |= {3: ("m-010-01.png", "m-010-01-sz1.png"), 4: ("f1-005-01.png", "f1-005-01-sz1.png"), 5: ("a.png", "a.gif")}
    for number, (photo, sketch) in names.items():
        save(photo_of(number), tmp_path / "photos" / photo)
        save(sketch_of(number), tmp_path / "sketches" / sketch)
    pairs = load_pairs(tmp_path)
    people = dict(zip(pairs["name"], pairs["person_id"], strict=True))
    assert people == {
        "zoe.jpg": "train/zoe.jpg",
        "f-005-01": "f-005",
        "A": "train/A",
        "m-010-01": "m-010",
        "f1-005-01": "f1-005",
        "a": "train/a",
    }
    for row in pairs:
        number = next(number for number, (photo, _) in names.items() if Path(photo).stem == row["name"])
        assert row["sketch"].convert("L").tobytes() == sketch_of(number).tobytes()


@pytest.mark.parametrize(
    ("name", "person"),
    [
        ("f-005-01.jpg", "f-005"),
        ("f-005-01-sz1.jpg", "f-005"),
        ("F2-005-01-sz1.jpg", "f-005"),
        ("M2-012-01-sz1.jpg", "m-012"),
        ("m1-012-01.jpg", "m1-012"),
        ("m-012-01", "m-012"),
        ("05.png", None),
        ("f-5-1.jpg", None),
        ("beef-005-01.jpg", None),
        ("f-005-01-copy.jpg", None),
    ],
)
def test_the_person_in_an_official_name(name, person):
    assert person_of(name) == person


def test_system_files_are_no_pictures(tmp_path):
    root = write_folders(tmp_path)
    for name in ("._p00.png", ".DS_Store", "Thumbs.db", "notes.txt"):
        (root / "train" / "photos" / name).write_bytes(b"\0\1\2")
    assert pixels(load_pairs(root)) == expected(range(4))


def test_equal_names_in_two_splits_are_two_people(tmp_path):
    root = write_folders(tmp_path, test=range(4))
    train, test = load_pairs(root), load_pairs(root, split="test")
    assert list(train["name"]) == list(test["name"])
    assert not set(train["person_id"]) & set(test["person_id"])


def test_names_from_elsewhere_stay_plain_file_names(tmp_path):
    pairs = as_dataset(range(3)).remove_columns(["name", "person_id"])
    pairs.add_column("name", ["../../up", "a/b", ".."]).save_to_disk(tmp_path / "named")
    assert list(load_pairs(tmp_path / "named")["name"]) == ["_.._up", "a_b", "000002"]
    pairs.save_to_disk(tmp_path / "nameless")
    assert list(load_pairs(tmp_path / "nameless")["name"]) == ["000000", "000001", "000002"]
    pairs.add_column("name", ["a", "b", "a"]).save_to_disk(tmp_path / "twice")
    assert fault(tmp_path / "twice") == "name 'a' occurs more than once in split 'train'; rename all but one"


# -- faults before work starts -----------------------------------------------------------------------------------------


def test_no_folder_an_empty_folder_a_strange_folder(tmp_path):
    assert "is an empty folder" in fault(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    assert "but it holds notes.txt; name other folders with columns" in fault(tmp_path)
    assert "is a file; give a folder" in fault(tmp_path / "notes.txt")
    (tmp_path / "CUHK_training_cropped_photos.zip").write_bytes(b"PK")
    assert "python -m pix2pix.prepare" in fault(tmp_path)
    assert "layout must be one of auto, folders" in fault(tmp_path, layout="zip")
    assert "columns must be two different names" in fault(tmp_path, columns=("a", "a"))
    assert "cannot be read (File name too long)" in fault("x" * 300)
    assert "no saved data set in" in fault(tmp_path, layout="saved")


def test_a_split_that_does_not_exist(tmp_path):
    message = fault(write_folders(tmp_path), split="validation")
    assert message == f"'{tmp_path}' has no split 'validation'; splits there: test, train"


def test_a_lone_photo_is_named_and_counted(tmp_path):
    root = write_folders(tmp_path)
    (root / "train" / "sketches" / "p02.png").unlink()
    message = fault(root)
    assert message == "photo 'train/photos/p02.png' has no sketch of the same name in 'train/sketches/' (1 of 4 unmatched)"
    (root / "train" / "photos" / "p01.png").unlink()
    message = fault(root)
    assert message.startswith("photo 'train/photos/p02.png' has no sketch")
    assert "(2 of 4 unmatched); 1 more such lines follow it (python -m pix2pix.prepare lists them all)" in message
    assert len(load_pairs(root, split="test")) == 2


def test_two_pictures_of_one_name(tmp_path):
    root = write_folders(tmp_path)
    save(picture(99), root / "train" / "photos" / "p01.jpg")
    assert fault(root).startswith("photos 'train/photos/p01.jpg' and 'train/photos/p01.png' have the same name")


def test_an_empty_side(tmp_path):
    root = write_folders(tmp_path)
    for file in (root / "train" / "sketches").iterdir():
        file.unlink()
    assert "sketches' holds no pictures; their names must end in .png" in fault(root)
    (root / "train" / "sketches").rmdir()
    assert fault(root).endswith("has no folder 'sketches' beside 'photos'; folders there: photos")


def test_faults_of_metadata_name_the_line(tmp_path):
    root = write_imagefolder(tmp_path)
    file = root / "train" / "metadata.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, "a/p00.png,b/gone.png,x"]))
    assert fault(root).startswith("line 6 of 'train/metadata.csv' names the sketch 'b/gone.png', which does not exist")
    file.write_text("\n".join([*lines, "a/p00.png,,x"]))
    assert fault(root).startswith("line 6 of 'train/metadata.csv' names no sketch; fill in sketch_file_name")
    file.write_text("\n".join([*lines, "a/p00.png,../test/b/drawing-10.png,x"]))
    assert "must lie in the folder of its metadata.csv" in fault(root)
    file.write_text("\n".join([*lines, lines[-1]]))
    assert len(set(load_pairs(root)["name"])) == 5
    file.write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in fault(root)


def test_faults_of_side_by_side_pictures_name_the_file(tmp_path):
    save(picture(0, size=(49, 32)), tmp_path / "a.png")
    message = fault(tmp_path, layout="side-by-side")
    assert message == "'a.png' is 49 pixels wide; side-by-side pictures must have an even width"
    (tmp_path / "a.png").write_text("x")
    assert fault(tmp_path, layout="side-by-side").startswith("'a.png' is not a picture")


def test_file_names_that_are_not_utf_8_are_named(tmp_path):
    root = write_folders(tmp_path)
    (root / "train" / "photos" / "p00.png").rename(root / "train" / "photos" / os.fsdecode(b"p\xff.png"))
    assert r"file name 'p\udcff.png' holds control characters or is not UTF-8" in fault(root)
