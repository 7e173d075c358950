import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet
import pytest
from huggingface_hub import DatasetCard
from PIL import Image

from pix2pix import hub as pix2pix_hub
from pix2pix import layouts, prepare
from pix2pix.data import load_pairs
from pix2pix.prepare import main

SIZE = (24, 32)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


def picture(seed: int, mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_folders(root: Path, names: dict[str, list[str]] | None = None) -> Path:
    """Pairs of noise, called as given; the photos come from seeds 0, 1, ..., the sketches from seeds 500 higher."""
    seeds = iter(range(500))
    for split, stems in (names or {"train": ["a", "b", "c"], "test": ["a", "d"]}).items():
        for stem in stems:
            seed = next(seeds)
            save(picture(seed), root / split / "photos" / f"{stem}.png")
            save(picture(seed + 500, "L"), root / split / "sketches" / f"{stem}.png")
    return root


def write_archives(root: Path, *, zipped: bool) -> Path:
    """The four CUHK archives, as downloaded or unpacked, with drawn noise for people."""
    seeds = iter(range(500))
    for word, numbers in (("training", (5, 6, 7)), ("testing", (8, 9))):
        for number in numbers:
            seed = next(seeds)
            sketch = f"F2-{number:03d}-01-sz1.jpg" if number % 2 else f"f-{number:03d}-01-sz1.jpg"
            for side, name, image in (
                ("photos", f"f-{number:03d}-01.jpg", picture(seed)),
                ("sketches", sketch, picture(seed + 500, "L")),
            ):
                folder = f"CUHK_{word}_cropped_{side}"
                save(image, root / folder / folder / name)
                (root / folder / folder / "Thumbs.db").write_bytes(b"\0")
    if zipped:
        for folder in sorted(root.iterdir()):
            shutil.make_archive(str(folder), "zip", folder)
            shutil.rmtree(folder)
    return root


def run(capsys, *arguments: object) -> tuple[int, list[str]]:
    """Exit status, and the lines on stderr."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as exit:
        status = exit.code
    return status, capsys.readouterr().err.splitlines()


def usage_error(capsys, *arguments: object) -> str:
    status, lines = run(capsys, *arguments)
    assert status == 2
    errors = [line for line in lines if line.startswith("python -m pix2pix.prepare: error: ")]
    assert lines[-1:] == errors
    return errors[0]


def stored(pairs: datasets.Dataset) -> list[tuple]:
    return [
        (row["name"], row["person_id"], row["photo"].convert("RGB").tobytes(), row["sketch"].convert("L").tobytes())
        for row in pairs
    ]


# -- what is built -------------------------------------------------------------------------------------------------


def test_what_was_built_loads_with_datasets_and_with_load_pairs(tmp_path, capsys):
    root, output = write_folders(tmp_path / "pairs"), tmp_path / "new" / "built"
    assert run(capsys, root, "--output", output, "--license", "cc-by-4.0", "--source", "Drawn here.") == (0, [])
    loaded = datasets.load_dataset(str(output))
    assert {split: len(pairs) for split, pairs in loaded.items()} == {"train": 3, "test": 2}
    assert loaded["train"].features == layouts.FEATURES
    for split in ("train", "test"):
        assert stored(loaded[split]) == stored(load_pairs(root, split=split)) == stored(load_pairs(output, split=split))
    assert sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()) == [
        "README.md",
        "data/test-00000-of-00001.parquet",
        "data/train-00000-of-00001.parquet",
    ]


def test_the_pictures_are_inside_byte_for_byte(tmp_path, capsys):
    root, output = write_folders(tmp_path / "pairs"), tmp_path / "built"
    assert run(capsys, root, "--output", output)[0] == 0
    rows = pyarrow.parquet.read_table(output / "data" / "train-00000-of-00001.parquet").to_pylist()
    assert [row["photo"]["path"] for row in rows] == ["a.png", "b.png", "c.png"]
    for row in rows:
        assert row["photo"]["bytes"] == (root / "train" / "photos" / row["photo"]["path"]).read_bytes()
        assert row["sketch"]["bytes"] == (root / "train" / "sketches" / row["sketch"]["path"]).read_bytes()


def test_the_card_says_what_it_is(tmp_path, capsys):
    root, output = write_folders(tmp_path / "pairs"), tmp_path / "built"
    assert run(capsys, root, "--output", output, "--license", "cc-by-4.0", "--source", "Drawn here.")[0] == 0
    card = DatasetCard.load(output / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.task_categories == ["image-to-image"]
    assert card.data.size_categories == ["n<1K"]
    info = card.data.to_dict()["dataset_info"]
    assert {split["name"]: split["num_examples"] for split in info["splits"]} == {"train": 3, "test": 2}
    files = sorted((output / "data").iterdir())
    assert info["download_size"] == sum(file.stat().st_size for file in files)
    for words in ("Drawn here.", "| train | 3 | 3 |", "24 pixels wide and 32 high", f'load_dataset("{output}"'):
        assert words in card.text


def test_large_splits_are_divided_into_files(tmp_path, capsys, monkeypatch):
    root, output = write_folders(tmp_path / "pairs"), tmp_path / "built"
    monkeypatch.setattr(prepare, "SHARD_BYTES", 4_000)
    assert run(capsys, root, "--output", output)[0] == 0
    assert len(list((output / "data").glob("train-*-of-00003.parquet"))) == 3
    assert stored(load_pairs(output)) == stored(load_pairs(root))


def test_other_layouts_are_built_too(tmp_path, capsys):
    for number in range(3):
        save(picture(number, size=(48, 32)), tmp_path / "pairs" / f"{number}.png")
    output = tmp_path / "built"
    assert run(capsys, tmp_path / "pairs", "--output", output, "--layout", "side-by-side")[0] == 0
    assert stored(load_pairs(output)) == stored(load_pairs(tmp_path / "pairs", layout="side-by-side"))
    again = tmp_path / "again"
    assert run(capsys, output, "--output", again)[0] == 0
    assert stored(load_pairs(again)) == stored(load_pairs(output))


@pytest.mark.parametrize("zipped", [True, False])
def test_the_four_cuhk_archives(tmp_path, capsys, zipped):
    root, output = write_archives(tmp_path / "cuhk", zipped=zipped), tmp_path / "built"
    assert run(capsys, root, "--output", output)[0] == 0
    train, test = load_pairs(output), load_pairs(output, split="test")
    assert list(train["name"]) == ["f-005-01", "f-006-01", "f-007-01"]
    assert list(train["person_id"]) == ["f-005", "f-006", "f-007"]
    assert list(test["person_id"]) == ["f-008", "f-009"]
    for seed, row in enumerate(train):
        difference = np.asarray(row["sketch"], dtype=float) - np.asarray(picture(seed + 500, "L"), dtype=float)
        assert np.abs(difference).mean() < 12  # JPEG noise; another person's sketch differs by 50
    card = (output / "README.md").read_text()
    assert "CUHK student set" in card
    assert "license: other" in card


def test_archives_may_lie_deeper_and_beside_what_was_unpacked(tmp_path, capsys):
    write_archives(tmp_path / "cuhk" / "download", zipped=True)
    with zipfile.ZipFile(tmp_path / "cuhk" / "download" / "CUHK_training_cropped_photos.zip", "a") as archive:
        archive.writestr("__MACOSX/CUHK_training_cropped_photos/._f-005-01.jpg", b"\0")
        archive.writestr("CUHK_training_cropped_photos/._f-006-01.jpg", b"\0")
    write_archives(tmp_path / "cuhk" / "download", zipped=False)
    assert run(capsys, tmp_path / "cuhk", "--output", tmp_path / "built") == (0, [])
    assert len(load_pairs(tmp_path / "built")) == 3


# -- faults --------------------------------------------------------------------------------------------------------


def test_all_faults_are_reported_at_once_and_nothing_is_written(tmp_path, capsys):
    root = write_folders(tmp_path / "pairs", {"train": list("abcdefgh"), "test": list("ijkl")})
    train, test = root / "train", root / "test"
    (train / "sketches" / "a.png").unlink()
    save(picture(300), test / "sketches" / "z.png")
    content = (train / "photos" / "b.png").read_bytes()
    (train / "photos" / "b.png").write_bytes(content[: len(content) // 2])
    (test / "sketches" / "i.png").write_text("not a picture")
    save(picture(301, size=(32, 24)), train / "photos" / "c.png")
    shutil.copy(train / "photos" / "d.png", train / "photos" / "e.png")
    shutil.copy(train / "sketches" / "d.png", test / "sketches" / "j.png")
    for side in ("photos", "sketches"):
        save(picture(302 + len(side), size=(1, 1)), test / side / "k.png")
    save(picture(310), train / "photos" / "f.bmp")
    (train / "photos" / "a.png").write_text("lonely and broken")

    status, lines = run(capsys, root, "--output", tmp_path / "built" / "deep")
    assert status == 1
    assert lines[-1] == "11 faults; nothing was written"
    facts = [
        ("'train/photos/a.png'", "has no sketch of the same name in 'train/sketches/' (1 of 8 unmatched)"),
        ("'train/photos/a.png'", "is not a picture in a known format"),
        ("'test/sketches/z.png'", "has no photo of the same name in 'test/photos/' (1 of 5 unmatched)"),
        ("'train/photos/b.png'", "is truncated or damaged"),
        ("'test/sketches/i.png'", "is not a picture in a known format"),
        ("'train/photos/c.png' has 32 x 24 pixels", "but 'train/sketches/c.png' has 24 x 32"),
        ("'train/photos/d.png' and 'train/photos/e.png'", "are the same picture"),
        ("'train/sketches/d.png' and 'test/sketches/j.png'", "are the same picture"),
        ("'test/photos/k.png' has 1 x 1 pixels", "at least 16 pixels a side"),
        ("'test/sketches/k.png' has 1 x 1 pixels", "at least 16 pixels a side"),
        ("photos 'train/photos/f.bmp' and 'train/photos/f.png'", "have the same name"),
    ]
    for name, words in facts:
        assert [line for line in lines if name in line and words in line], (name, words, lines)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["pairs"]


def test_a_person_in_both_splits_is_a_fault(tmp_path, capsys):
    root = write_folders(tmp_path / "pairs", {"train": ["f-005-01", "f-006-01"], "test": ["f-005-02", "f1-006-01"]})
    status, lines = run(capsys, root, "--output", tmp_path / "built")
    assert status == 1
    assert lines == [
        "person 'f-005' is in several splits: train ('train/photos/f-005-01.png'), test ('test/photos/f-005-02.png'); "
        "keep each person in one",
        "1 fault; nothing was written",
    ]


def test_a_person_id_decides_over_names(tmp_path, capsys):
    root = write_folders(tmp_path / "pairs", {"train": ["a", "b"], "test": ["a", "b"]})
    for split, people in (("train", "xy"), ("test", "zx")):
        rows = [f"photos/{name}.png,sketches/{name}.png,{person}" for name, person in zip("ab", people, strict=True)]
        (root / split / "metadata.csv").write_text("\n".join(["photo_file_name,sketch_file_name,person_id", *rows]))
    status, lines = run(capsys, root, "--output", tmp_path / "built")
    assert status == 1
    assert lines[0].startswith("person 'x' is in several splits: train ('train/photos/a.png'), test ('test/photos/b.png')")
    assert len(lines) == 2


def test_a_picture_that_serves_two_pairs_is_a_fault(tmp_path, capsys):
    root = write_folders(tmp_path / "pairs")
    (root / "train" / "metadata.csv").write_text(
        "photo_file_name,sketch_file_name\nphotos/a.png,sketches/a.png\nphotos/b.png,sketches/a.png\nphotos/c.png,\n"
    )
    status, lines = run(capsys, root, "--output", tmp_path / "built")
    assert status == 1
    assert "'train/sketches/a.png' is in several pairs; keep one of them" in lines
    assert "line 4 of 'train/metadata.csv' names no sketch; fill in sketch_file_name" in lines


def test_a_picture_stored_differently_is_still_the_same_picture(tmp_path, capsys):
    root = write_folders(tmp_path / "pairs")
    Image.open(root / "train" / "photos" / "a.png").save(root / "test" / "photos" / "a.png", compress_level=0)
    status, lines = run(capsys, root, "--output", tmp_path / "built")
    assert status == 1
    assert lines[0] == "'train/photos/a.png' and 'test/photos/a.png' are the same picture; remove one"


def test_modes_that_convert_are_noted_not_refused(tmp_path, capsys):
    root = write_folders(tmp_path / "pairs", {"train": list("abcdef")})
    for name, mode in zip("abcd", ("RGBA", "LA", "P", "P"), strict=True):
        save(picture(600 + ord(name), mode), root / "train" / "sketches" / f"{name}.png")
    save(Image.fromarray(np.arange(768, dtype=np.uint16).reshape(32, 24) * 80), root / "train" / "sketches" / "e.png")
    status, lines = run(capsys, root, "--output", tmp_path / "built")
    assert status == 0
    assert all(line.startswith("note: ") for line in lines)
    assert [line.split("mode ")[1].split(" and are")[0] for line in lines] == [
        "RGBA (colour with alpha)",
        "LA (grey with alpha)",
        "P (palette)",
        "I;16 (16-bit grey)",
    ]
    assert lines[2].startswith("note: 2 of 12 pictures have mode P (palette) and are converted")
    assert len(load_pairs(tmp_path / "built")) == 6


def test_a_split_without_pairs_and_a_split_of_a_strange_name(tmp_path, capsys):
    root = write_folders(tmp_path / "pairs", {"train": ["a"], "my-fold": ["b"], "test": ["c"]})
    shutil.rmtree(root / "test" / "sketches")
    status, lines = run(capsys, root, "--output", tmp_path / "built")
    assert status == 1
    assert any("has no folder 'sketches' beside 'photos'" in line for line in lines)
    assert "split 'my-fold' cannot be called so on the Hub; use letters, digits and underscores" in lines


def test_damaged_archives_are_named(tmp_path, capsys):
    root = write_archives(tmp_path / "cuhk", zipped=True)
    photos = root / "CUHK_training_cropped_photos.zip"
    content = bytearray(photos.read_bytes())
    with zipfile.ZipFile(photos) as archive:
        member = archive.getinfo(next(name for name in archive.namelist() if name.endswith("f-005-01.jpg")))
    content[member.header_offset + 120] ^= 0xFF
    photos.write_bytes(content)
    sketches = root / "CUHK_testing_cropped_sketches.zip"
    sketches.write_bytes(sketches.read_bytes()[:100])
    status, lines = run(capsys, root, "--output", tmp_path / "built")
    assert status == 1
    assert any("f-005-01.jpg' is damaged in the archive" in line for line in lines)
    assert any("'CUHK_testing_cropped_sketches.zip' is truncated or no zip file" in line for line in lines)
    assert any("no archive or folder says test and sketch in its name" in line for line in lines)


def test_an_archive_that_unpacks_to_too_much_is_refused_unread(tmp_path, capsys, monkeypatch):
    root = write_archives(tmp_path / "cuhk", zipped=True)
    with zipfile.ZipFile(root / "CUHK_training_cropped_photos.zip", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.jpg", bytes(3_000_000))
    monkeypatch.setattr(prepare, "MAX_ARCHIVE_BYTES", 2_000_000)
    status, lines = run(capsys, root, "--output", tmp_path / "built")
    assert status == 1
    assert lines[0] == (
        "the archives hold more than 2,000,000 bytes of pictures, reached in 'CUHK_training_cropped_photos.zip'; "
        "unpack them first"
    )


def test_a_name_in_an_archive_leads_nowhere(tmp_path, capsys):
    root = write_archives(tmp_path / "cuhk", zipped=True)
    for word, image in (("photos", picture(900)), ("sketches", picture(901, "L"))):
        image.save(tmp_path / "x.png")
        with zipfile.ZipFile(root / f"CUHK_training_cropped_{word}.zip", "a") as archive:
            archive.write(tmp_path / "x.png", "../../../../escaped.png")
    (tmp_path / "x.png").unlink()
    assert run(capsys, root, "--output", tmp_path / "built")[0] == 0
    assert "escaped" in list(load_pairs(tmp_path / "built")["name"])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["built", "cuhk"]
    assert not list(tmp_path.parent.rglob("escaped*"))


# -- usage ---------------------------------------------------------------------------------------------------------


def test_usage_errors_are_one_line_and_leave_nothing(tmp_path, capsys):
    root = write_folders(tmp_path / "pairs")
    output = tmp_path / "built"
    assert "dataset '/nowhere' is missing; give a folder" in usage_error(capsys, "/nowhere", "--output", output)
    assert "cannot be read (File name too long)" in usage_error(capsys, "x" * 300, "--output", output)
    (tmp_path / "empty").mkdir()
    assert "is an empty folder" in usage_error(capsys, tmp_path / "empty", "--output", output)
    assert "no pairs in" in usage_error(capsys, root, "--output", output, "--columns", "A", "B")
    assert "no CUHK archives in" in usage_error(capsys, tmp_path / "empty", "--output", output, "--layout", "cuhk")
    assert "one of the arguments --output --push-to-hub is required" in usage_error(capsys, root)
    assert "not allowed with argument" in usage_error(capsys, root, "--output", output, "--push-to-hub", "a/b")
    assert "--private describes a Hub repository" in usage_error(capsys, root, "--output", output, "--private")
    assert "--max-pixels must be at least 256" in usage_error(capsys, root, "--output", output, "--max-pixels", 9)
    assert "is not an empty folder; choose another" in usage_error(capsys, root, "--output", root)
    (tmp_path / "file").touch()
    assert "is not an empty folder" in usage_error(capsys, root, "--output", tmp_path / "file")
    deep = tmp_path / "file" / "deep"
    assert f"--output '{deep}' cannot be written to (Not a directory)" in usage_error(capsys, root, "--output", deep)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["empty", "file", "pairs"]


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    root, output = write_folders(tmp_path / "pairs"), tmp_path / "built"
    program = (
        "import resource, signal, sys\nfrom pix2pix.prepare import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", program, root, "--output", output]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 2
    assert "error: the data set cannot be written (" in done.stderr.splitlines()[-1]
    assert "File too large" in done.stderr.splitlines()[-1]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["pairs"]


def test_help_loads_no_heavy_library():
    program = "import sys\nfrom pix2pix.prepare import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
    program += "sys.exit(bool({'torch', 'datasets', 'numpy'} & sys.modules.keys()))\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0
    assert "--push-to-hub USER/NAME" in done.stdout


# -- the Hub -------------------------------------------------------------------------------------------------------


def test_push_and_load_by_id_and_revision(hub, tmp_path, capsys):
    root = write_folders(tmp_path / "pairs")
    assert run(capsys, root, "--push-to-hub", "artist/faces", "--license", "mit", "--private")[0] == 0
    assert hub.repo("artist/faces", "dataset").private
    first = next(iter(hub.repo("artist/faces", "dataset").branches.values()))
    for split in ("train", "test"):
        assert stored(load_pairs("artist/faces", split=split)) == stored(load_pairs(root, split=split))
    loaded = datasets.load_dataset("artist/faces", split="train")
    assert loaded.features == layouts.FEATURES
    card = DatasetCard.load("artist/faces")
    assert card.data.license == "mit"
    assert card.data.to_dict()["configs"][0]["data_files"][0] == {"split": "train", "path": "data/train-*"}
    assert 'load_dataset("artist/faces", split="train")' in card.text

    more = write_folders(tmp_path / "more", {"train": ["x", "y", "z", "zz"]})
    assert run(capsys, more, "--push-to-hub", "artist/faces")[0] == 0
    assert stored(load_pairs("artist/faces")) == stored(load_pairs(more))
    assert sorted(hub.files("artist/faces", "dataset")) == [
        ".gitattributes",
        "README.md",
        "data/train-00000-of-00001.parquet",
    ]
    assert stored(load_pairs("artist/faces", revision=first)) == stored(load_pairs(root))


def test_faults_are_found_before_anything_reaches_the_hub(hub, tmp_path, capsys):
    root = write_folders(tmp_path / "pairs")
    (root / "train" / "photos" / "a.png").unlink()
    assert run(capsys, root, "--push-to-hub", "artist/faces")[0] == 1
    assert hub.writes() == []


def test_a_refused_token_is_one_line_without_the_token(hub, tmp_path, capsys, monkeypatch):
    root = write_folders(tmp_path / "pairs")
    monkeypatch.setenv("HF_TOKEN", "hf_refusedrefusedrefused")
    message = usage_error(capsys, root, "--push-to-hub", "artist/faces")
    assert "the Hub refused the token (401); log in" in message
    assert "hf_refused" not in message
    monkeypatch.setenv("HF_TOKEN", hub.add_user("reader", read_only=True))
    message = usage_error(capsys, root, "--push-to-hub", "artist/faces")
    assert "the token may not write to artist/faces (403)" in message
    assert os.environ["HF_TOKEN"] not in message
    monkeypatch.delenv("HF_TOKEN")
    assert "there is no Hub token; log in" in usage_error(capsys, root, "--push-to-hub", "artist/faces")
    assert hub.repos == {}


def test_a_push_that_fails_says_so(hub, tmp_path, capsys):
    root = write_folders(tmp_path / "pairs")
    hub.fail_next(1, 413, path_contains="/commit/")
    assert "the Hub refused artist/faces (413" in usage_error(capsys, root, "--push-to-hub", "artist/faces")
    for wrong in ("artist/a b", "faces"):
        message = usage_error(capsys, root, "--push-to-hub", wrong)
        assert f"repository must be USER/NAME of letters, digits, '-', '_' and '.', got {wrong!r}" in message


@pytest.mark.parametrize(
    ("path", "status"), [("/api/whoami-v2", 503), ("/api/repos/create", 429), ("/storage/", 500), ("/commit/", 503)]
)
def test_a_passing_fault_of_the_hub_is_retried(hub, tmp_path, capsys, monkeypatch, path, status):
    monkeypatch.setattr(pix2pix_hub, "FIRST_WAIT", 0.0)
    root = write_folders(tmp_path / "pairs")
    hub.fail_next(2, status, path_contains=path, headers={"Retry-After": "0"})
    assert run(capsys, root, "--push-to-hub", "artist/faces")[0] == 0
    assert [line.status for line in hub.requests if path in line.path][:2] == [status, status]
    assert "README.md" in hub.files("artist/faces", "dataset")
