import hashlib
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from pix2pix import data
from pix2pix.data import (
    DRAWN_TEST,
    DRAWN_TRAIN,
    DataError,
    EpochSampler,
    PairedImages,
    PairStream,
    StreamedImages,
    channels_of,
    hold_out,
    load_pairs,
    person_of,
)
from pix2pix.images import fit, to_tensor, upright

SIZE = (24, 32)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


def picture(seed: int, mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def photo_of(number: int) -> Image.Image:
    return picture(number)


def sketch_of(number: int) -> Image.Image:
    return picture(1000 + number, "L")


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_folders(root: Path, *, train=range(4), test=range(10, 12), photos="photos", sketches="sketches") -> Path:
    for split, numbers in (("train", train), ("test", test)):
        for number in numbers:
            save(photo_of(number), root / split / photos / f"p{number:02d}.png")
            save(sketch_of(number), root / split / sketches / f"p{number:02d}.png")
    return root


def write_imagefolder(root: Path) -> Path:
    for split, numbers in (("train", range(4)), ("test", range(10, 12))):
        lines = ["photo_file_name,sketch_file_name,person_id"]
        for number in numbers:
            save(photo_of(number), root / split / "a" / f"p{number:02d}.png")
            save(sketch_of(number), root / split / "b" / f"drawing-{number}.png")
            lines.append(f"a/p{number:02d}.png,b/drawing-{number}.png,anna{number // 2}")
        (root / split / "metadata.csv").write_text("\n".join(lines) + "\n")
    return root


def write_side_by_side(root: Path) -> Path:
    for split, numbers in (("train", range(4)), ("val", range(10, 12))):
        for number in numbers:
            both = Image.new("RGB", (2 * SIZE[0], SIZE[1]))
            both.paste(photo_of(number), (0, 0))
            both.paste(sketch_of(number), (SIZE[0], 0))
            save(both, root / split / f"p{number:02d}.png")
    return root


def as_dataset(numbers: range) -> datasets.Dataset:
    columns = {
        "photo": [photo_of(number) for number in numbers],
        "sketch": [sketch_of(number) for number in numbers],
        "person_id": [f"anna{number // 2}" for number in numbers],
        "name": [f"p{number:02d}" for number in numbers],
    }
    return datasets.Dataset.from_dict(columns, features=data.FEATURES)


def pixels(pairs: datasets.Dataset) -> dict[str, tuple[bytes, bytes]]:
    return {row["name"]: (row["photo"].convert("RGB").tobytes(), row["sketch"].convert("L").tobytes()) for row in pairs}


def expected(numbers: range) -> dict[str, tuple[bytes, bytes]]:
    return {f"p{number:02d}": (photo_of(number).tobytes(), sketch_of(number).tobytes()) for number in numbers}


def fault(*arguments: object, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        load_pairs(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- the same pairs from every source ------------------------------------------------------------------------------


def test_folders_of_photos_and_sketches(tmp_path):
    root = write_folders(tmp_path)
    pairs = load_pairs(root)
    assert pairs.features == data.FEATURES
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
    assert "at revision 'gone' is neither" in fault("artist/faces", revision="gone")


def test_a_missing_data_set_and_a_refused_token_are_one_line(hub):
    assert fault("artist/nothing").startswith("dataset 'artist/nothing' is neither a folder here nor a data set that")
    as_dataset(range(2)).push_to_hub("artist/secret", private=True)
    token = "hf_refusedrefusedrefused"
    message = fault("artist/secret", token=token)
    assert message.startswith("dataset 'artist/secret' is neither")
    assert token not in message
    broken = "hf_with a line\nbreak"
    assert "with a line" not in fault("artist/secret", token=broken)
    assert "does not exist" in fault("no/such/folder")
    assert "describes local folders" in fault("artist/secret", layout="folders")


def test_drawn_faces_need_no_files():
    train, test = load_pairs(max_pairs=3), load_pairs(split="test")
    assert (len(train), len(test)) == (3, DRAWN_TEST)
    assert train.features == data.FEATURES
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


# -- matching, names and people --------------------------------------------------------------------------------------


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


def test_file_names_that_are_not_utf_8_are_named(tmp_path):
    root = write_folders(tmp_path)
    (root / "train" / "photos" / "p00.png").rename(root / "train" / "photos" / os.fsdecode(b"p\xff.png"))
    assert r"file name 'p\udcff.png' holds control characters or is not UTF-8" in fault(root)


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
    pairs = datasets.Dataset.from_dict(columns, features=data.FEATURES)
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


# -- streams -----------------------------------------------------------------------------------------------------------


def stream_of(count: int, *, people: int | None = None) -> datasets.Dataset:
    """Pairs whose names and people are numbers."""
    stored = [{"path": None, "bytes": data._as_png(picture(n), "x")["bytes"]} for n in range(count)]
    names = [f"n{number:04d}" for number in range(count)]
    persons = [f"person {number % (people or count)}" for number in range(count)]
    return data._make_dataset(stored, stored, persons, names)


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
    datasets.Dataset.from_dict(pairs, features=data.FEATURES).to_parquet(root / "train.parquet")
    stream = PairStream(root, fraction=0)
    assert len(stream.head(2)) == 2
    with pytest.raises(DataError, match=r"'photo n0002.*' is not a picture"):
        stream.head(4)
    with pytest.raises(DataError, match="'photo n0002' is not a picture"):
        list(StreamedImages(stream, image_size=(16, 16)))
    pairs["photo"][2] = data._as_png(picture(1, size=(30, 30)), "x")
    datasets.Dataset.from_dict(pairs, features=data.FEATURES).to_parquet(root / "train.parquet")
    with pytest.raises(DataError, match="the two of a pair must have the same size"):
        list(StreamedImages(PairStream(root, fraction=0), image_size=(16, 16)))
    with pytest.raises(DataError, match="has 30 x 30 pixels, more than the limit of 800"):
        list(StreamedImages(PairStream(root, fraction=0, max_pixels=800), image_size=(16, 16)))
