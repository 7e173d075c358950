"""Writing that is whole or absent: everything the project leaves on disk goes through here.

A file or folder is written under a temporary name beside its destination (the name starts with a dot), flushed to the
disk, and renamed in one step. A process that is killed, a disk that fills up, or a machine that loses its power leaves
the old version or nothing, never a half. What can be made again is not waited for (`is_flushed`).
"""

import contextlib
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# The last are those that safetensors itself writes to.
_TEMPORARY = re.compile(r"\..+-[0-9a-f]{8}(-old)?(\.\w+)?|\.probe-[0-9a-f]{32}|\.tmp\w{6}")


def require_writable(folder: str | Path, *, name: str) -> Path:
    """Make `folder` and prove that a file can be written into it, before any work starts.

    Args:
        folder: The folder to write to; it and its parents are made when missing.
        name: What the user calls it, for the error: `--output-dir`, say.

    Raises:
        ValueError: If the folder cannot be made or written to.
    """
    folder = Path(folder)
    probe = folder / f".probe-{uuid.uuid4().hex}"
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        make_folder(folder)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise ValueError(
            f"{name} '{folder}' cannot be written to ({error.strerror or error}); choose a folder that you may write to"
        ) from error
    return folder


@contextlib.contextmanager
def whole_file(path: str | Path, *, is_flushed: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write to; it becomes `path` only if the block ends without an error.

    The temporary name keeps the suffix of `path`, because PIL and others choose the format by it.

    Args:
        path: The file.
        is_flushed: Whether to wait until the disk has it. Without that, a process that is killed still leaves a whole file or
            none, but a machine that loses its power within the next half minute may leave an empty one.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        if is_flushed:
            flush(temporary)
        os.replace(temporary, path)
        if is_flushed:
            flush(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; it becomes `path`, replacing what was there, if the block ends without an error.

    An existing `path` is moved aside first and deleted last, so one whole version exists under some name at any moment.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    old = temporary.with_name(temporary.name + "-old")
    try:
        temporary.mkdir()
        yield temporary
        for file in sorted(temporary.rglob("*"), reverse=True):
            flush(file)
        flush(temporary)
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
        flush(path.parent)
    except BaseException:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 `text` to `path`, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_tensors(path: Path, tensors: Mapping[str, "Tensor"], *, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file into a whole file or folder, with the permissions that any other new file gets.

    safetensors writes to a temporary file of its own, which is its owner's alone whatever the umask says, and renames that.
    """
    from safetensors.torch import save_file

    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)  # what the umask leaves; asking for the umask would mean to set it
    save_file(dict(tensors), path, metadata=metadata)
    if stat.S_IMODE(path.stat().st_mode) != mode:
        path.chmod(mode)


def make_folder(path: str | Path) -> None:
    """Make a folder and its parents where they are missing, so that the loss of power does not unmake them."""
    path = Path(path)
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in made:
        flush(folder.parent)


def remove_leftovers(folder: str | Path) -> None:
    """Delete what killed processes left half-written in a folder (not below it). Nobody may be writing there."""
    folder = Path(folder)
    for entry in list(folder.iterdir()) if folder.is_dir() else ():
        if _TEMPORARY.fullmatch(entry.name):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    entry.unlink()


def flush(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
