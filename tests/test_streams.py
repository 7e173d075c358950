import hashlib
import threading
from pathlib import Path

import datasets
import pytest
import torch
from hub_server import impatience
from huggingface_hub import HfFileSystem
from noise_pairs import SIZE, photo_of, picture, save, write_folders, write_imagefolder, write_side_by_side
from PIL import Image

from pix2pix import prepare
from pix2pix.data import PairedImages, load_pairs
from pix2pix.layouts import FEATURES, DataError, as_png, make_dataset
from pix2pix.streams import PairStream, StreamedImages


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


def stream_of(count: int, *, people: int | None = None) -> datasets.Dataset:
    """Pairs whose names and people are numbers."""
    stored = [{"path": None, "bytes": as_png(picture(n), "x")["bytes"]} for n in range(count)]
    names = [f"n{number:04d}" for number in range(count)]
    persons = [f"person {number % (people or count)}" for number in range(count)]
    return make_dataset(stored, stored, persons, names)


def names_of(stream: PairStream, **order) -> list[str]:
    return [row["name"] for row in stream.rows(**{"seed": 0, "epoch": 0, "buffer_size": 8, **order})]


@pytest.fixture
def parquet(tmp_path):
    root = tmp_path / "pairs"
    root.mkdir()
    stream_of(40, people=20).to_parquet(root / "train-00000-of-00001.parquet")
    return root


def test_an_epoch_of_a_stream_holds_every_pair_once_in_an_order_of_seed_and_epoch(parquet):
    stream = PairStream(parquet, fraction=0.3)
    first = names_of(stream)
    assert len(set(first)) == len(first) == stream.train_count
    assert names_of(stream) == names_of(PairStream(parquet, fraction=0.3)) == first
    for other in (names_of(stream, epoch=1), names_of(stream, seed=1)):
        assert sorted(other) == sorted(first)
        assert other != first
    assert first != sorted(first)


def test_a_stream_holds_out_the_people_with_the_lowest_hashes(parquet):
    stream = PairStream(parquet, fraction=0.3)
    pairs = load_pairs(parquet)
    held = {person for person in pairs["person_id"] if int(hashlib.sha256(person.encode()).hexdigest(), 16) < 0.3 * 2**256}
    assert held
    assert set(stream.head(100, held_out=True)["person_id"]) == held
    assert not set(stream.head(100)["person_id"]) & held
    assert stream.held_count + stream.train_count == 40
    assert stream.held_count == sum(person in held for person in pairs["person_id"])
    everyone = PairStream(parquet, fraction=0)
    assert (everyone.train_count, everyone.held_count) == (40, 0)


@pytest.mark.parametrize("layout", ["folders", "imagefolder", "side-by-side", "saved", "parquet", "drawn"])
def test_every_source_streams_the_pairs_that_it_loads(tmp_path, layout):
    root = tmp_path / "pairs"
    if layout in ("folders", "imagefolder", "side-by-side"):
        {"folders": write_folders, "imagefolder": write_imagefolder, "side-by-side": write_side_by_side}[layout](root)
    elif layout == "saved":
        datasets.DatasetDict({"train": stream_of(6)}).save_to_disk(str(root))
    elif layout == "parquet":
        root.mkdir()
        stream_of(6).to_parquet(root / "train-00000-of-00001.parquet")
    options = {"layout": "side-by-side"} if layout == "side-by-side" else {}
    options |= {"max_pairs": 3} if layout == "drawn" else {}
    source = None if layout == "drawn" else root
    loaded = load_pairs(source, **options)
    stream = PairStream(source, fraction=0, **options)
    streamed = stream.head(100)
    for column in ("person_id", "name"):
        assert list(streamed[column]) == list(loaded[column])
    for one, other in zip(streamed, loaded, strict=True):
        assert one["photo"].tobytes() == other["photo"].tobytes()
        assert one["sketch"].tobytes() == other["sketch"].tobytes()
    assert sorted(names_of(stream)) == sorted(loaded["name"])


def test_a_hub_id_streams_by_revision(hub):
    info = stream_of(8).push_to_hub(f"{hub.user}/streamed", split="train")
    stream_of(3).push_to_hub(f"{hub.user}/streamed", split="train")
    assert PairStream(f"{hub.user}/streamed", fraction=0).train_count == 3
    stream = PairStream(f"{hub.user}/streamed", revision=info.oid, fraction=0)
    assert sorted(names_of(stream)) == [f"n{number:04d}" for number in range(8)]


def test_streamed_items_are_jittered_by_their_place_in_the_epoch(parquet):
    options = {"image_size": (16, 16), "jitter_size": (20, 20), "channels": (3, 1), "seed": 3}
    stream = PairStream(parquet, fraction=0.3)
    images = StreamedImages(stream, buffer_size=8, **options)
    assert len(images) == stream.train_count
    loaded = load_pairs(parquet)
    number_of = {name: index for index, name in enumerate(loaded["name"])}
    plain = PairedImages(loaded, **options)
    for epoch in (0, 1):
        images.set_epoch(epoch)
        names = names_of(stream, seed=3, epoch=epoch)
        for position, (name, item) in enumerate(zip(names, images, strict=True)):
            expected = plain.jittered(plain.read(plain._pairs[number_of[name]]), epoch, position)
            assert torch.equal(item["photo"], expected["photo"])
            assert torch.equal(item["sketch"], expected["sketch"])


def test_a_pass_that_is_left_early_leaves_no_thread(parquet):
    images = StreamedImages(PairStream(parquet, fraction=0), image_size=(16, 16))
    before = threading.active_count()
    items = iter(images)
    next(items)
    assert threading.active_count() == before + 1
    items.close()
    assert threading.active_count() == before


def test_a_stream_without_people_can_hold_nobody_out(tmp_path):
    root = tmp_path / "pairs"
    root.mkdir()
    stream_of(4).remove_columns("person_id").to_parquet(root / "train-00000-of-00001.parquet")
    with pytest.raises(DataError, match="has no column 'person_id', by which a stream holds people out; build the data set"):
        PairStream(root)
    assert PairStream(root, fraction=0).train_count == 4


def test_streams_that_make_no_sense_are_refused(parquet, tmp_path):
    with pytest.raises(DataError, match="holds out nobody of the 40 pairs"):
        PairStream(parquet, fraction=1e-9)
    with pytest.raises(DataError, match=r"between 0 and 0\.5, got 0\.6"):
        PairStream(parquet, fraction=0.6)
    with pytest.raises(DataError, match="has no split 'test'; splits there: train"):
        PairStream(parquet, split="test")
    with pytest.raises(DataError, match="has no column 'left'; columns there: photo, sketch, person_id, name"):
        PairStream(parquet, columns=("left", "sketch"))
    with pytest.raises(DataError, match="does not exist; give a folder, or a Hub id"):
        PairStream(tmp_path / "nowhere")


def test_a_bad_picture_in_a_stream_is_named_when_it_is_come_to(tmp_path):
    root = tmp_path / "pairs"
    root.mkdir()
    pairs = stream_of(4).to_dict()
    pairs["photo"][2] = {"path": None, "bytes": b"not a picture"}
    datasets.Dataset.from_dict(pairs, features=FEATURES).to_parquet(root / "train.parquet")
    stream = PairStream(root, fraction=0)
    assert len(stream.head(2)) == 2
    with pytest.raises(DataError, match=r"'photo n0002.*' is not a picture"):
        stream.head(4)
    with pytest.raises(DataError, match="'photo n0002' is not a picture"):
        list(StreamedImages(stream, image_size=(16, 16)))
    pairs["photo"][2] = as_png(picture(1, size=(30, 30)), "x")
    datasets.Dataset.from_dict(pairs, features=FEATURES).to_parquet(root / "train.parquet")
    with pytest.raises(DataError, match="the two of a pair must have the same size"):
        list(StreamedImages(PairStream(root, fraction=0), image_size=(16, 16)))
    with pytest.raises(DataError, match="has 30 x 30 pixels, more than the limit of 800"):
        list(StreamedImages(PairStream(root, fraction=0, max_pixels=800), image_size=(16, 16)))


# -- a Hub in trouble --------------------------------------------------------------------------------------------------

REQUESTS = {"the card": ("HEAD", "README.md"), "what is in it": ("GET", "/tree/"), "the pairs": ("GET", ".parquet")}
"""Some of what is asked of the Hub when a stream begins (`test_layouts` has them all), and, last, what each epoch asks."""

REMEDIES = {401: "log in with `hf auth login`", 403: "log in with `hf auth login`", 429: "try again in some minutes"}


@pytest.fixture
def streamed(hub, tmp_path, monkeypatch):
    """Pairs on the Hub that `prepare` wrote, and clients that do not wait before they try again, nor often."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    monkeypatch.setattr(datasets.config, "STREAMING_READ_MAX_RETRIES", 1)
    publish(tmp_path / "pairs", range(24))
    HfFileSystem.clear_instance_cache()
    hub.requests.clear()
    return hub


def publish(root: Path, numbers: range) -> None:
    for number in numbers:
        save(photo_of(number), root / "photos" / f"p{number}.png")
        save(Image.new("L", SIZE, number), root / "sketches" / f"p{number}.png")  # small: half of the file is photos
    assert prepare.main([str(root), "--push-to-hub", "artist/faces"]) == 0


def begun() -> PairStream:
    return PairStream("artist/faces", fraction=0)


def rows_of(stream: PairStream, *, epoch: int = 0) -> list[dict]:
    return list(stream.rows(seed=0, epoch=epoch, buffer_size=4))


def refused(hub, action, *arguments) -> str:
    with pytest.raises(DataError) as caught:
        action(*arguments)
    said = str(caught.value)
    assert "'artist/faces'" in said
    assert "\n" not in said
    assert hub.token not in f"{caught.getrepr(chain=True, style='native')}"
    return said


@pytest.mark.parametrize("place", REQUESTS)
def test_a_stream_that_the_hub_refuses_is_one_sentence_and_the_next_try_succeeds(streamed, place):
    method, part = REQUESTS[place]
    for status in (401, 403, 404, 429, 500, 503):
        headers = {"Retry-After": "0", "X-Error-Message": f"what is {streamed.token}?"}
        streamed.fail_next(1000, status, path_contains=part, method=method, headers=headers)
        said = refused(streamed, begun)
        assert f"(the Hub answered {status}); " in said
        assert said.endswith(REMEDIES.get(status, "try again later"))
        streamed.faults.clear()
    assert len(rows_of(begun())) == 24


@pytest.mark.parametrize("how", ["silence", "stall", "cut"])
def test_a_stream_over_a_connection_that_never_lasts_is_one_sentence_and_the_next_try_succeeds(streamed, how):
    for method, part in REQUESTS.values():
        if method == "GET" or how == "silence":  # a HEAD has no middle
            streamed.fail_next(1000, None, path_contains=part, method=method, how=how)
            with impatience():
                said = refused(streamed, begun)
            assert said.endswith(("; try again later", "; check the connection, or give a local folder"))
            streamed.faults.clear()
    assert len(rows_of(begun())) == 24


def test_an_epoch_that_fails_is_one_sentence_and_can_be_repeated(streamed):
    stream = begun()
    undisturbed = rows_of(stream)
    for status in (401, 403, 404, 429, 500, 503):
        streamed.fail_next(1000, status, path_contains=".parquet", headers={"Retry-After": "0"})
        assert f"split 'train' of 'artist/faces' could not be fetched (the Hub answered {status}); " in refused(
            streamed, rows_of, stream
        )
        streamed.faults.clear()
    for how in ("silence", "stall", "cut"):
        streamed.fail_next(1000, None, path_contains=".parquet", how=how)
        with impatience():
            assert refused(streamed, rows_of, stream).endswith("; try again later")
        streamed.faults.clear()
    assert rows_of(stream) == undisturbed


def test_an_epoch_with_passing_faults_is_the_same_epoch(streamed, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    stream = begun()
    undisturbed = rows_of(stream)
    for status, how in ((429, "cut"), (500, "cut"), (503, "cut"), (None, "silence"), (None, "stall"), (None, "cut")):
        streamed.requests.clear()
        streamed.fail_next(1, status, path_contains=".parquet", headers={"Retry-After": "0"}, how=how)
        assert rows_of(stream) == undisturbed
        assert streamed.requests[0].status == (status or 0)


def test_what_arrives_damaged_of_prepared_pairs_is_never_trained_on(streamed):
    stream = begun()
    undisturbed = rows_of(stream)
    streamed.requests.clear()
    streamed.fail_next(2, None, path_contains=".parquet", how="corrupt")  # its end; then all, and its middle is a photo
    assert "split 'train' of 'artist/faces' cannot be read" in refused(streamed, rows_of, stream)
    assert [line.status for line in streamed.requests] == [0, 0]
    assert rows_of(stream) == undisturbed


def test_an_epoch_asks_for_nothing_but_the_pairs_as_they_were_at_the_beginning(streamed, tmp_path):
    stream = begun()
    undisturbed = rows_of(stream, epoch=1)
    publish(tmp_path / "others", range(30, 40))
    streamed.requests.clear()
    assert rows_of(stream, epoch=1) == undisturbed
    assert {(line.method, line.path.rsplit("/", 1)[1]) for line in streamed.requests} == {
        ("GET", "train-00000-of-00001.parquet")
    }
    assert sorted(row["name"] for row in rows_of(begun())) == [f"p{number}" for number in range(30, 40)]


def test_training_on_a_stream_that_breaks_off_ends_in_that_sentence(streamed):
    images = StreamedImages(begun(), image_size=(16, 16))
    streamed.fail_next(1000, 503, path_contains=".parquet")
    assert "(the Hub answered 503); try again later" in refused(streamed, list, images)


@pytest.mark.parametrize("token", ["hf_broken\nline1234567", "hf_späße1234567", " ", "hf_with blank1234"])
@pytest.mark.parametrize("is_argument", [True, False])
def test_a_token_is_never_told_by_a_stream(streamed, monkeypatch, token, is_argument):
    monkeypatch.setenv("HF_TOKEN", streamed.token if is_argument else token)
    with pytest.raises(DataError) as caught:
        PairStream("artist/absent", token=token if is_argument else None)
    assert "1234" not in f"{caught.getrepr(chain=True, style='native')}"
    assert "\n" not in str(caught.value)
