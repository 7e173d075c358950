import functools
import os
import stat
import subprocess
import sys

import pytest
import torch
from model_folders import run_folder
from noise_pairs import write_folders
from safetensors.torch import load_file

from pix2pix import evaluate, export, prepare, publish, static_page, translate
from pix2pix.checkpoints import save_state
from pix2pix.files import remove_leftovers, require_writable, whole_file, whole_folder, write_tensors, write_text


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_file_appears_when_it_is_whole(tmp_path):
    target = tmp_path / "new" / "a.txt"
    with whole_file(target) as temporary:
        temporary.write_text("x")
        assert temporary.suffix == ".txt"
        assert temporary.name.startswith(".")
        assert not target.exists()
    assert content(tmp_path) == {"new/a.txt": "x"}


def interrupted(whole, target, error):
    with whole(target) as temporary:
        (temporary / "half.txt" if temporary.is_dir() else temporary).write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("is_flushed", [True, False])
def test_an_interrupted_file_leaves_the_old_version_and_nothing_else(tmp_path, error, is_flushed):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(error):
        interrupted(functools.partial(whole_file, is_flushed=is_flushed), tmp_path / "a.txt", error)
    assert content(tmp_path) == {"a.txt": "old"}


@pytest.mark.parametrize("is_flushed", [True, False])
def test_a_file_that_was_not_written_is_an_error(tmp_path, is_flushed):
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a.txt", is_flushed=is_flushed):
        pass
    assert content(tmp_path) == {}


def test_a_folder_replaces_the_old_one_completely(tmp_path):
    target = tmp_path / "run"
    for name in ("first", "second"):
        with whole_folder(target) as temporary:
            (temporary / "deep").mkdir()
            (temporary / "deep" / f"{name}.txt").write_text(name)
    assert content(tmp_path) == {"run/deep/second.txt": "second"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_interrupted_folder_leaves_the_old_version_and_nothing_else(tmp_path, error):
    target = tmp_path / "run"
    with pytest.raises(error):
        interrupted(whole_folder, target, error)
    assert list(tmp_path.iterdir()) == []
    with whole_folder(target) as temporary:
        (temporary / "a.txt").write_text("old")
    with pytest.raises(error):
        interrupted(whole_folder, target, error)
    assert content(tmp_path) == {"run/a.txt": "old"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("is_flushed", [True, False])
def test_a_killed_process_leaves_the_old_version(tmp_path, is_flushed):
    (tmp_path / "a.txt").write_text("old")
    program = (
        "import os, sys\nfrom pix2pix.files import whole_file\n"
        f"with whole_file(sys.argv[1], is_flushed={is_flushed}) as temporary:\n"
        "    temporary.write_text('half')\n    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "a.txt"], env=os.environ)
    assert done.returncode == -9
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".")] == ["a.txt"]


def test_text_is_utf_8(tmp_path):
    write_text(tmp_path / "a.txt", "naïve 顔\n")
    assert (tmp_path / "a.txt").read_bytes() == "naïve 顔\n".encode()


def test_a_writable_folder_is_made_and_left_empty(tmp_path):
    assert require_writable(tmp_path / "a" / "b", name="--output") == tmp_path / "a" / "b"
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_named_and_nothing_is_left(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"--output '.*file/sub' cannot be written to \(Not a directory\); choose"):
        require_writable(tmp_path / "file" / "sub", name="--output")
    with pytest.raises(ValueError, match="--output '/proc/nowhere/deep' cannot be written to"):
        require_writable("/proc/nowhere/deep", name="--output")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_what_killed_processes_left_goes_and_nothing_else(tmp_path):
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom pix2pix.files import whole_file, whole_folder\n"
        "with whole_folder(sys.argv[1] + '/b') as folder, whole_file(sys.argv[1] + '/a.txt') as file:\n"
        "    file.write_text('half')\n    (folder / 'c').write_text('half')\n    os.kill(os.getpid(), 9)\n"
    )
    kept = {".gitignore", ".hidden-folder", ".a-1234567", "a-12345678.txt"}
    for name in kept:
        (tmp_path / name).touch()
    subprocess.run([sys.executable, "-c", program, tmp_path], env=os.environ)
    assert len(list(tmp_path.iterdir())) == len(kept) + 2
    remove_leftovers(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == kept
    remove_leftovers(tmp_path / "nowhere")


@pytest.fixture(params=[0o022, 0o027, 0o077], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def permissions(folder):
    """Of all that lies in a folder, by kind."""
    found = {"files": set(), "folders": set()}
    for path in folder.rglob("*"):
        found["folders" if path.is_dir() else "files"].add(stat.S_IMODE(path.stat().st_mode))
    return found


def test_weights_can_be_read_by_whom_the_umask_lets(tmp_path, umask):
    with whole_file(tmp_path / "model" / "model.safetensors") as temporary:
        write_tensors(temporary, {"a": torch.ones(2)}, metadata={"format": "pt"})
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(network.parameters())
    save_state(tmp_path / "epoch_0000", networks={"n": network}, optimizers={"n": optimizer}, progress={}, best={})
    assert permissions(tmp_path) == {"files": {0o666 & ~umask}, "folders": {0o777 & ~umask}}
    assert load_file(tmp_path / "model" / "model.safetensors")["a"].tolist() == [1, 1]


@pytest.mark.parametrize("umask", [0o027], ids=oct, indirect=True)
@pytest.mark.parametrize("program", [evaluate, export, prepare, publish, static_page, translate], ids=lambda p: p.__name__)
def test_what_the_programs_write_can_be_read_by_whom_the_umask_lets(tmp_path, umask, program):
    pairs, model, output = write_folders(tmp_path / "pairs"), run_folder(tmp_path / "model"), tmp_path / "output"
    words = {
        evaluate: ["--model", model, "--dataset", pairs, "--direction", "photo2sketch", "--no-identity", "--output", output],
        export: ["--model", model, "--output", output],
        prepare: [pairs, "--output", output],
        publish: ["--model", model, "--folder", output, "--half"],
        static_page: ["--model", model, "--output", output],
        translate: ["--model", model, "--direction", "photo2sketch", pairs / "test" / "photos", "--output", output],
    }[program]
    assert program.main([str(word) for word in words]) == 0
    found = permissions(output)
    assert found["files"] == {0o666 & ~umask}
    assert found["folders"] <= {0o777 & ~umask}
    assert stat.S_IMODE(output.stat().st_mode) == 0o777 & ~umask
