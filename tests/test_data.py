import io
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import datasets
import numpy as np
import pytest
import torch
from noise_pairs import expected, fault, photo_of, picture, pixels, save, sketch_of, write_folders
from PIL import Image
from torch.utils.data import DataLoader

from pix2pix import data
from pix2pix.data import DRAWN_TEST, DRAWN_TRAIN, EpochSampler, PairedImages, channels_of, hold_out, load_pairs
from pix2pix.images import fit, to_tensor, upright
from pix2pix.layouts import FEATURES, DataError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


# -- loaded and checked ------------------------------------------------------------------------------------------------


def test_drawn_faces_need_no_files():
    train, test = load_pairs(max_pairs=3), load_pairs(split="test")
    assert (len(train), len(test)) == (3, DRAWN_TEST)
    assert train.features == FEATURES
    assert train[0]["photo"].size == train[0]["sketch"].size == (200, 250)
    assert channels_of(train) == (3, 1)
    assert load_pairs(split="test") is test
    assert list(train["name"]) == ["drawn_0000000", "drawn_0000001", "drawn_0000002"]
    assert min(test["name"]) > f"drawn_{DRAWN_TRAIN:07d}"
    message = fault(split="val")
    assert message == "the data set of drawn faces has no split 'validation'; splits there: test, train"


def test_a_quick_trial_loads_and_checks_the_first_pairs_only(tmp_path):
    root = write_folders(tmp_path)
    (root / "train" / "photos" / "p03.png").write_bytes(b"")
    assert pixels(load_pairs(root, max_pairs=3)) == expected(range(3))
    assert fault(root, max_pairs=4).startswith("'train/photos/p03.png' is not a picture")


def test_pictures_that_cannot_be_used_are_named(tmp_path):
    root = write_folders(tmp_path)
    file = root / "train" / "photos" / "p01.png"
    whole = file.read_bytes()
    file.write_bytes(whole[:400])
    assert fault(root).startswith("'train/photos/p01.png' is truncated or damaged")
    file.write_text("not a picture")
    assert fault(root).startswith("'train/photos/p01.png' is not a picture in a known format")
    save(picture(1, size=(1, 1)), file)
    assert fault(root).startswith("'train/photos/p01.png' has 1 x 1 pixels; pictures must be at least 16 pixels a side")
    save(picture(1, size=(32, 24)), file)
    message = fault(root)
    assert message.startswith("'train/photos/p01.png' has 32 x 24 pixels but 'train/sketches/p01.png' has 24 x 32")
    file.write_bytes(whole)
    message = fault(root, max_pixels=700)
    assert message.startswith("'train/photos/p00.png' has 24 x 32 pixels, more than the limit of 700")
    assert len(load_pairs(root)) == 4


def test_a_pair_turned_by_exif_has_one_size(tmp_path):
    root = write_folders(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(5, size=(32, 24)).save(root / "train" / "photos" / "p01.png", exif=exif)
    assert load_pairs(root)[1]["photo"].size == (24, 32)
    assert PairedImages(load_pairs(root), image_size=(32, 24))[1]["photo"].shape == (3, 32, 24)


def test_pictures_inside_a_saved_data_set_are_named_too(tmp_path):
    stored = io.BytesIO()
    photo_of(0).save(stored, "PNG")
    whole = {"path": "x.png", "bytes": stored.getvalue()}
    cut = {"path": "x.png", "bytes": stored.getvalue()[:300]}
    columns = {"photo": [whole, whole, None], "sketch": [whole, cut, whole], "name": ["a", "b", "c"]}
    features = datasets.Features(photo=datasets.Image(), sketch=datasets.Image(), name=datasets.Value("string"))
    pairs = datasets.Dataset.from_dict(columns, features=features)
    pairs.select([0, 1]).save_to_disk(tmp_path / "cut")
    assert fault(tmp_path / "cut").startswith("'sketch b of split train' is truncated or damaged")
    pairs.save_to_disk(tmp_path / "missing")
    assert fault(tmp_path / "missing") == f"row 2 of split 'train' of '{tmp_path / 'missing'}' has no photo; remove the row"
    (tmp_path / "cut" / "state.json").write_text("{")
    assert "cannot be read as a saved data set" in fault(tmp_path / "cut")


# -- people held out ---------------------------------------------------------------------------------------------------


def people_dataset(people: list[str]) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"person_id": people, "number": list(range(len(people)))})


def test_no_person_is_in_both_parts():
    people = [f"person {number % 30}" for number in range(100)]
    train, validation = hold_out(people_dataset(people))
    assert len(set(validation["person_id"])) == 3
    assert not set(train["person_id"]) & set(validation["person_id"])
    assert sorted([*train["number"], *validation["number"]]) == list(range(100))


def test_the_same_people_are_held_out_in_another_order_and_another_process():
    people = [f"person {number}" for number in range(40)]
    held = set(hold_out(people_dataset(people))[1]["person_id"])
    assert set(hold_out(people_dataset(people[::-1]))[1]["person_id"]) == held
    program = (
        "import datasets\nfrom pix2pix.data import hold_out\n"
        "people = [f'person {number}' for number in range(40)]\n"
        "print(*sorted(hold_out(datasets.Dataset.from_dict({'person_id': people}))[1]['person_id']), sep='|')\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout.strip().split("|") == sorted(held), done.stderr


def test_a_person_more_moves_nobody_else_into_training_at_random():
    people = [f"person {number}" for number in range(100)]
    held = set(hold_out(people_dataset(people))[1]["person_id"])
    more = set(hold_out(people_dataset([*people, "newcomer"]))[1]["person_id"])
    assert len(held - more) <= 1


@pytest.mark.parametrize(
    ("count", "fraction", "held"),
    [(10, 0.1, 1), (3, 0.1, 1), (2, 0.1, 1), (2, 0.5, 1), (3, 0.5, 2), (88, 0.1, 9), (10, 0, 0)],
)
def test_how_many_people_are_held_out(count, fraction, held):
    train, validation = hold_out(people_dataset([str(number) for number in range(count)]), fraction=fraction)
    assert (len(train), len(validation)) == (count - held, held)


def test_fractions_that_make_no_sense_are_refused():
    for fraction in (-0.1, 0.51, 1, float("nan")):
        with pytest.raises(DataError, match=r"validation fraction must be between 0 and 0.5, got"):
            hold_out(people_dataset(["a", "b"]), fraction=fraction)
    with pytest.raises(DataError, match="needs at least two people, got 1"):
        hold_out(people_dataset(["a", "a"]))
    assert len(hold_out(people_dataset(["a", "a"]), fraction=0)[0]) == 2


# -- tensors -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def twins(tmp_path) -> datasets.Dataset:
    """Pairs whose sketch is the photo itself, so that any difference of treatment shows."""
    for number in range(4):
        for side in ("photos", "sketches"):
            save(photo_of(number), tmp_path / side / f"{number}.png")
    return load_pairs(tmp_path)


@pytest.fixture
def pairs(tmp_path) -> datasets.Dataset:
    return load_pairs(write_folders(tmp_path))


@pytest.mark.parametrize(("rotation", "warp"), [(0, 0), (15, 0), (0, 2), (15, 2)])
def test_jitter_agrees_on_both_sides_over_50_draws(twins, rotation, warp):
    images = PairedImages(twins, image_size=(32, 24), jitter_size=(40, 30), max_rotation=rotation, max_warp=warp)
    seen = set()
    for epoch in range(50):
        item = images[epoch, epoch % 4]
        assert torch.equal(item["photo"], item["sketch"])
        assert item["photo"].shape == (3, 32, 24)
        seen.add(item["photo"].numpy().tobytes())
    assert len(seen) > 45


def test_without_jitter_items_are_what_the_translator_sees(tmp_path):
    root = tmp_path / "p"
    modes = ["RGB", "L", "P", "RGBA", "1"]
    for number, mode in enumerate(modes):
        save(picture(number, mode, (50, 40)), root / "photos" / f"{number}.png")
        save(picture(number + 50, "L", (50, 40)), root / "sketches" / f"{number}.png")
    pairs = load_pairs(root)
    for channels in (1, 3):
        images = PairedImages(pairs, image_size=(32, 24), mirror=False, channels=(channels, 1))
        for number in range(len(modes)):
            original = Image.open(root / "photos" / f"{number}.png")
            seen = to_tensor(fit(upright(original), (32, 24))[0], channels=channels)
            assert torch.equal(images[number]["photo"], seen)
            assert images[number]["sketch"].shape == (1, 32, 24)


def test_crops_reach_every_place_and_half_are_mirrored():
    ramp = np.add.outer(np.arange(20) * 10, np.arange(20)).astype(np.uint8)
    stored = io.BytesIO()
    Image.fromarray(ramp).save(stored, "PNG")
    one = {"path": None, "bytes": stored.getvalue()}
    columns = {"photo": [one], "sketch": [one], "person_id": ["a"], "name": ["a"]}
    pairs = datasets.Dataset.from_dict(columns, features=FEATURES)
    images = PairedImages(pairs, image_size=(18, 18), jitter_size=(20, 20), channels=(1, 1))
    corners = []
    for epoch in range(300):
        crop = images[epoch, 0]["photo"][0].add(1).mul(127.5).round().long()
        is_mirrored = bool(crop[0, 0] > crop[0, -1])
        corner = int(crop[0, -1] if is_mirrored else crop[0, 0])
        assert torch.equal(crop.flip(-1) if is_mirrored else crop, torch.from_numpy(ramp).long()[
            corner // 10 : corner // 10 + 18, corner % 10 : corner % 10 + 18])  # fmt: skip
        corners.append((corner, is_mirrored))
    assert {corner for corner, _ in corners} == {0, 1, 2, 10, 11, 12, 20, 21, 22}
    assert 110 < sum(is_mirrored for _, is_mirrored in corners) < 190
    never = PairedImages(pairs, image_size=(18, 18), jitter_size=(20, 20), channels=(1, 1), mirror=False)
    assert all(bool((never[epoch, 0]["photo"].diff(dim=-1) > 0).all()) for epoch in range(20))


def test_tone_jitter_changes_the_sources_only(pairs):
    plain = PairedImages(pairs, image_size=(32, 24), mirror=False, channels=(3, 1))
    jittered = PairedImages(pairs, image_size=(32, 24), mirror=False, channels=(3, 1), max_tone=0.5)
    changed = 0
    for epoch in range(20):
        item = jittered[epoch, 0]
        for side in ("photo", "sketch"):
            assert torch.equal(item[side], plain[epoch, 0][side])
            assert item[f"{side}_source"].shape == item[side].shape
            changed += not torch.equal(item[f"{side}_source"], item[side])
    assert 15 < changed < 40  # some stay as they are: that is what the network is given afterwards
    assert set(plain[0]) == {"photo", "sketch"}


def test_a_kind_of_jitter_leaves_the_others_as_they_were(pairs):
    options = {"image_size": (32, 24), "jitter_size": (40, 30), "channels": (3, 1)}
    plain, toned = PairedImages(pairs, **options), PairedImages(pairs, max_tone=0.3, **options)
    redrawn = PairedImages(pairs, max_tone=0.3, max_stroke=0.5, background_share=0.5, **options)
    for epoch in range(10):
        assert torch.equal(plain[epoch, 1]["sketch"], toned[epoch, 1]["sketch"])
    alone = PairedImages(pairs, max_tone=0.3, max_stroke=0.5, **options)
    for epoch in range(10):
        assert torch.equal(alone[epoch, 1]["photo_source"], toned[epoch, 1]["photo_source"])
        assert torch.equal(alone[epoch, 1]["sketch_source"], redrawn[epoch, 1]["sketch_source"])
        assert not torch.equal(alone[epoch, 1]["sketch_source"], toned[epoch, 1]["sketch_source"])
    outlined = PairedImages(pairs, max_tone=0.3, max_stroke=0.5, outline_share=0.5, **options)
    changed = 0
    for epoch in range(20):
        for side in ("photo", "sketch", "photo_source"):
            assert torch.equal(outlined[epoch, 1][side], alone[epoch, 1][side])
        changed += not torch.equal(outlined[epoch, 1]["sketch_source"], alone[epoch, 1]["sketch_source"])
    assert 4 < changed < 16


def test_wedges_are_filled_on_both_sides_and_put_around_sources_only(tmp_path):
    rng = np.random.default_rng(0)
    for side in ("photos", "sketches"):
        (tmp_path / "train" / side).mkdir(parents=True)
        for name in ("a", "b"):
            picture = rng.integers(120, 256, (60, 48, 3), dtype=np.uint8)
            picture[:9] = 0
            Image.fromarray(picture).save(tmp_path / "train" / side / f"{name}.png")
    pairs, options = load_pairs(tmp_path), {"image_size": (60, 48), "mirror": False, "channels": (3, 1)}
    plain, whole = PairedImages(pairs, **options), PairedImages(pairs, fill_wedges=True, **options)
    scanned = PairedImages(pairs, fill_wedges=True, wedge_share=1.0, **options)
    for side in ("photo", "sketch"):
        assert plain[0][side].min() == -1
        assert whole[0][side].min() > -0.1
        assert torch.equal(scanned[0][side], whole[0][side])
        assert sum(float(scanned[epoch, 0][f"{side}_source"].min()) == -1 for epoch in range(20)) > 10


def test_jitter_is_a_pure_function_of_seed_epoch_and_index(pairs):
    options = {"image_size": (32, 24), "jitter_size": (40, 30), "max_rotation": 5, "max_warp": 2, "max_tone": 0.2}
    first, second = PairedImages(pairs, seed=3, **options), PairedImages(pairs, seed=3, **options)
    other = PairedImages(pairs, seed=4, **options)
    keys = [(epoch, index) for epoch in range(3) for index in range(4)]
    torch.rand(100)
    there = {key: first[key] for key in keys}
    for key in reversed(keys):
        assert all(torch.equal(second[key][side], there[key][side]) for side in there[key])
    assert sum(torch.equal(other[key]["photo"], there[key]["photo"]) for key in keys) == 0
    assert torch.equal(first[2]["photo"], first[0, 2]["photo"])


def test_a_set_too_large_to_keep_in_memory_gives_the_same_items(pairs, monkeypatch):
    options = {"image_size": (32, 24), "jitter_size": (40, 30), "channels": (3, 1)}
    kept = PairedImages(pairs, **options)
    monkeypatch.setattr(data, "_CACHE_BYTES", 10)
    read = PairedImages(pairs, **options)
    assert kept._cache is not None
    assert read._cache is None
    for key in ((0, 0), (5, 3)):
        assert all(torch.equal(kept[key][side], read[key][side]) for side in ("photo", "sketch"))


def test_the_number_of_workers_changes_nothing(pairs):
    images = PairedImages(pairs, image_size=(32, 24), jitter_size=(40, 30), seed=1)
    epochs = []
    for workers in (0, 2):
        sampler = EpochSampler(len(images), seed=1)
        loader = DataLoader(images, batch_size=2, sampler=sampler, num_workers=workers)
        batches = []
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            batches += [batch["photo"] for batch in loader]
        epochs.append(torch.cat(batches))
    assert torch.equal(*epochs)
    assert not torch.equal(epochs[0][:4], epochs[0][4:])


def test_an_empty_set_is_empty_and_an_index_out_of_range_is_refused(pairs):
    assert len(PairedImages(pairs.select([]), image_size=(32, 24))) == 0
    images = PairedImages(pairs, image_size=(32, 24))
    with pytest.raises(IndexError):
        images[4]
    assert len(list(images)) == 4
    with pytest.raises(ValueError, match=r"jitter_size must not be smaller than image_size \(32, 24\), got \(40, 20\)"):
        PairedImages(pairs, image_size=(32, 24), jitter_size=(40, 20))


def test_a_picture_that_went_bad_after_loading_is_named(tmp_path):
    pairs = load_pairs(write_folders(tmp_path))
    (tmp_path / "train" / "photos" / "p03.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"train/photos/p03.png' is not a picture"):
        PairedImages(pairs, image_size=(32, 24))


def test_the_order_of_an_epoch_is_a_pure_function_of_seed_and_epoch():
    sampler = EpochSampler(50, seed=5)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert {key[0] for key in keys} == {epoch}
        orders.append([index for _, index in keys])
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(50))
    assert [index for _, index in EpochSampler(50, seed=6)] != orders[0]
    assert list(EpochSampler(3, seed=6, shuffle=False)) == [(0, 0), (0, 1), (0, 2)]
    assert len(sampler) == 50


def test_grey_sides_need_one_channel(tmp_path):
    root = write_folders(tmp_path)
    assert channels_of(load_pairs(root)) == (3, 1)
    grey_in_colour = sketch_of(0).convert("RGB").quantize(256)
    grey_in_colour.save(root / "train" / "sketches" / "p00.png")
    assert channels_of(load_pairs(root)) == (3, 1)
    save(picture(3), root / "train" / "sketches" / "p03.png")
    assert channels_of(load_pairs(root)) == (3, 3)


def test_the_next_batch_is_made_while_the_last_is_used():
    is_asked_again = threading.Event()

    def batches():
        yield 1
        is_asked_again.set()
        yield 2

    read = data.ahead(batches())
    assert next(read) == 1
    assert is_asked_again.wait(60)  # before the second is taken
    assert list(read) == [2]


def test_reading_ahead_hides_neither_batches_nor_faults():
    def batches(count, fault=None):
        yield from range(count)
        if fault:
            raise fault

    assert list(data.ahead(range(5))) == [0, 1, 2, 3, 4]
    assert list(data.ahead([])) == []
    read = data.ahead(batches(2, DataError("no such picture")))
    assert [next(read), next(read)] == [0, 1]
    with pytest.raises(DataError, match="no such picture"):
        next(read)


def test_reading_ahead_ends_with_its_user():
    asked = []
    read = data.ahead(asked.append(index) or index for index in range(100))
    assert next(read) == 0
    read.close()
    assert asked == [0, 1]
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_reading_ahead_computes_with_one_thread_and_leaves_the_caller_its_own():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        counts = (torch.get_num_threads() for _ in range(3))
        assert [(there, torch.get_num_threads()) for there in data.ahead(counts)] == [(1, 3)] * 3
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(before)
