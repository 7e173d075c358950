"""Processes that are forked, so that the libraries are imported once, and the faults that befall them.

A fault strikes at the n-th operation on the file system below a folder (opening to write, renaming, linking, making,
removing), which Python's audit events tell of before it happens.
"""

import contextlib
import os
import resource
import shutil
import signal
import stat
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
CRASHED = 70  # exit status after an exception that nobody caught


class Ended(NamedTuple):
    """How a process ended: its exit status, or minus the number of the signal that killed it; and what it said."""

    status: int
    said: str


def run(action: Callable[[], int | None], log: Path, *, seconds: int = 300) -> Ended:
    """Run a function in a forked process until it ends; one that takes longer than `seconds` is killed (SIGALRM).

    What it prints goes to `log`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        status = CRASHED
        try:
            target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(target, 1)
            os.dup2(target, 2)
            signal.alarm(seconds)
            status = action() or 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else CRASHED
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return Ended(os.waitstatus_to_exitcode(status), log.read_text(encoding="utf-8", errors="replace"))


def at_operation(number: int, root: Path, strike: Callable[[str], None]) -> Callable[[], int]:
    """Call `strike` with a description just before the n-th file operation (from 1) below `root`; 0 never strikes.

    Returns:
        A function that tells how many there have been.
    """
    count, is_busy = 0, False
    names = {"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}

    def audit(event: str, details: tuple) -> None:
        nonlocal count, is_busy
        if is_busy or (event not in names and event != "open"):
            return
        if event == "open" and not (isinstance(details[2], int) and details[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        path = details[0]
        is_below = isinstance(path, str | os.PathLike) and str(path).startswith(str(root))
        # rmtree names what it removes by the folder that it has open.
        in_rmtree = event in ("os.remove", "os.rmdir") and isinstance(details[-1], int) and details[-1] >= 0
        if not (is_below or in_rmtree):
            return
        count += 1
        if count == number:
            is_busy = True
            try:
                strike(f"{event} {Path(path).name}")
            finally:
                is_busy = False

    sys.addaudithook(audit)
    return lambda: count


def fill_the_disk(bytes_left: int, *, is_deadly: bool = False) -> None:
    """From here on no file may grow beyond so many bytes: an error (EFBIG), or death in the middle of a write."""
    if is_deadly:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if is_deadly else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


class Disk:
    """What would be left if the power failed now: of files what was flushed, of folders the names that were flushed.

    That is the least that a file system may keep. Everything is learnt from the calls of `os.fsync`, but what lies in the
    folder to begin with counts as flushed: it was written by a process that ended before. The inodes are held open, so that
    none of their numbers is given to another file.

    Args:
        folder: Where everything happens.
    """

    def __init__(self, folder: Path) -> None:
        self.files: dict[int, bytes] = {}
        self.folders: dict[int, dict[str, int]] = {}
        self._held: list[int] = []
        self._fsync = os.fsync
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        for path in (folder, *folder.rglob("*")):
            descriptor = os.open(path, os.O_RDONLY)
            self.note(descriptor)
            os.close(descriptor)
        os.fsync = self.fsync

    def fsync(self, descriptor: int) -> None:
        """Flush, and note what was."""
        self._fsync(descriptor)
        self.note(descriptor)

    def note(self, descriptor: int) -> None:
        """Note what a file or a folder holds now, as flushed."""
        about = os.fstat(descriptor)
        self._held.append(os.dup(descriptor))
        if stat.S_ISDIR(about.st_mode):
            self.folders[about.st_ino] = {name: os.lstat(name, dir_fd=descriptor).st_ino for name in os.listdir(descriptor)}
        else:
            self.files[about.st_ino] = os.pread(descriptor, about.st_size, 0)

    def leave(self, folder: Path, image: Path, *, with_names: bool) -> None:
        """Write what would be left of a folder, whose own name was flushed long ago, into `image`.

        Args:
            folder: What to look at.
            image: A new folder.
            with_names: Whether all names reached the disk, as in a journal, and only unflushed content did not.
        """
        inodes = {path.lstat().st_ino: path for path in folder.rglob("*")}
        self._leave(folder.stat().st_ino, folder, image, inodes, with_names)

    def _leave(self, inode: int, folder: Path | None, image: Path, inodes: dict[int, Path], with_names: bool) -> None:
        image.mkdir()
        names = self.folders.get(inode, {})
        if with_names and folder is not None:
            names = {path.name: path.lstat().st_ino for path in folder.iterdir()}
        for name, number in names.items():
            now = inodes.get(number)
            if number in self.folders or (now is not None and now.is_dir()):
                self._leave(number, now, image / name, inodes, with_names)
            else:
                (image / name).write_bytes(self.files.get(number, b""))


def replace(folder: Path, image: Path) -> None:
    """Put the image of a folder in its place."""
    shutil.rmtree(folder)
    image.rename(folder)
