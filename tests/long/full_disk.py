"""Run every program on a disk that is full, or read-only, and look at what it says and leaves.

    python tests/long/full_disk.py --rounds 20 --seed 1

Each program is run with a random limit to the size of the files it may write (RLIMIT_FSIZE, for any user) and, with --tmpfs
(root, Linux), on file systems of a few hundred kilobytes and on a read-only one. It must end with one line about what to
do, and leave whole files or none. What a full disk does to a training is tried by killed.py, too. The exit status is 1 if
one misbehaves.
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "0"}

import children

sys.path[:0] = [str(children.ROOT), str(children.ROOT / "tests")]

from hub_server import HubServer  # noqa: E402
from killed import FLAGS, draw_pairs, import_everything  # noqa: E402

PROGRAMS = (
    "train",
    "train, with a tracker and pushes",
    "prepare",
    "prepare to the Hub",
    "translate",
    "translate from the Hub",
    "evaluate",
    "export",
    "publish",
    "publish a Space",
    "publish to a folder",
    "build a page",
    "fetch a page's runtime",
)
LARGEST = dict.fromkeys(("build a page", "fetch a page's runtime"), 32_000_000)
"""Bytes of the largest limit, where it is not 800 kB: with a page comes a runtime of 14 MB."""


def command_of(program: str, given: Path, output: Path) -> tuple[str, list[str]]:
    """Module and arguments of a program that reads `given` and writes `output`."""
    model, pairs = str(given / "model"), str(given / "pairs")
    out = ["--output", str(output)]
    return {
        "train": ("train", ["--dataset", pairs, *FLAGS, "--num-epochs", "1", "--output-dir", str(output)]),
        "train, with a tracker and pushes": ("train", [
            "--dataset", pairs, *FLAGS, "--num-epochs", "1", "--output-dir", str(output),
            "--report-to", "tensorboard", "--push-to-hub", "artist/trained",
        ]),
        "prepare": ("pix2pix.prepare", [pairs, *out]),
        "prepare to the Hub": ("pix2pix.prepare", [pairs, "--push-to-hub", "artist/pairs"]),
        "translate": ("pix2pix.translate", ["--model", model, f"{pairs}/train/photos", *out]),
        "translate from the Hub": ("pix2pix.translate", ["--model", "artist/model", f"{pairs}/train/photos", *out]),
        "evaluate": ("pix2pix.evaluate", [
            "--model", model, "--dataset", pairs, "--split", "train", "--direction", "photo2sketch", "--no-identity", *out,
        ]),
        "export": ("pix2pix.export", ["--model", model, *out]),
        "publish": ("pix2pix.publish", ["--model", model, "--repo", "artist/model"]),
        "publish a Space": ("pix2pix.publish", ["--model", model, "--space", "artist/page"]),
        "publish to a folder": ("pix2pix.publish", ["--model", model, "--folder", str(output), "--half"]),
        "build a page": ("pix2pix.static_page", ["--model", model, *out]),
        "fetch a page's runtime": ("pix2pix.static_page", ["--fetch"]),
    }[program]  # fmt: skip


def main_of(module: str, arguments: list[str]) -> Callable[[], int]:
    """A function that runs a program in this process."""

    def action() -> int:
        import importlib

        return importlib.import_module(module).main(arguments)

    return action


def faults(program: str, ended: children.Ended, output: Path, scratch: Path, cache: Path) -> list[str]:
    """What is wrong with how a program ended, and with what it left."""
    from PIL import Image

    from pix2pix import static_page
    from pix2pix.downloads import is_as_announced
    from pix2pix.generator import UNetGenerator
    from pix2pix.onnx_generator import OnnxGenerator

    found = []
    lines = ended.said.strip().splitlines() or [""]
    if ended.status not in (0, 1, 2) or (ended.status == 1 and not program.startswith("translate")):
        found.append(f"it ended with {ended.status}")
    if ended.status == 2 and "error: " not in lines[-1]:
        found.append(f"its last line is {lines[-1]!r}")
    if "Traceback" in ended.said:
        found.append(f"a traceback: {ended.said[-400:]}")
    try:
        for path in output.rglob("*"):
            if path.name.startswith("."):
                found.append(f"it left '{path.relative_to(output)}'")
            elif path.suffix == ".png":
                Image.open(path).load()
            elif path.suffix == ".onnx":
                OnnxGenerator(path)
            elif path.name == "model.safetensors" and (path.parent / "config.json").is_file() and "state" not in path.parts:
                UNetGenerator.from_pretrained(path.parent)
            elif path.name in static_page.PAGE_FILES:
                assert path.read_bytes() == (static_page.page_source() / path.name).read_bytes(), "it is another file"
            elif path.name in static_page.RUNTIME_FILES:
                assert hashlib.sha256(path.read_bytes()).hexdigest() == static_page.RUNTIME_FILES[path.name], "another digest"
            elif path.name == "models.json":
                for entry in json.loads(path.read_text(encoding="utf-8"))["directions"].values():
                    assert (path.parent / entry["file"]).stat().st_size == entry["bytes"], f"{entry['file']} is not as it says"
    except Exception as error:
        found.append(f"'{path.relative_to(output)}' is half a file: {error}")
    found += [
        f"it cached half of {path.name}"
        for path in cache.rglob("blobs/*")
        if path.suffix != ".incomplete" and not is_as_announced(path)
    ]
    all_or_nothing = ("prepare", "evaluate", "publish to a folder", "build a page")
    if program in all_or_nothing and ended.status and output.exists() and any(output.iterdir()):
        found.append("it failed, but left results")
    if left := [path.name for path in scratch.iterdir()] if scratch.exists() else []:
        found.append(f"it left {left} in the temporary folder")
    return [f"{fault} (it said: {lines[-1][:200]})" for fault in found]


@contextlib.contextmanager
def mounted(folder: Path, kilobytes: int) -> Iterator[None]:
    """A file system of that size at a folder."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def attempt(program: str, given: Path, place: Path, log: Path, *, room: int | None) -> tuple[children.Ended, list[str]]:
    """Run a program whose output and temporary files go to `place`, with so many bytes for each file; None: any."""
    output, scratch, cache = place / "output", place / "scratch", place / "cache"
    with contextlib.suppress(OSError):
        scratch.mkdir()
    module, arguments = command_of(program, given, output)
    run = main_of(module, arguments)

    def action() -> int:
        import huggingface_hub.constants

        os.environ["HF_DATASETS_CACHE"] = str(scratch)
        if program == "fetch a page's runtime":
            os.environ["XDG_CACHE_HOME"] = str(output)
            sys.executable = str(given / "bin" / "python")  # beside which npm is looked for first
        huggingface_hub.constants.HF_HUB_CACHE = str(cache)
        if scratch.is_dir():
            tempfile.tempdir = str(scratch)
        if room is not None:
            children.fill_the_disk(room)
        return run()

    # The log is a file as well, so it must lie elsewhere and stay below the limit: what a program says is short.
    ended = children.run(action, log)
    return ended, faults(program, ended, output, scratch, cache)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("--rounds", type=int, default=20, help="attempts a program, from 1 (default: %(default)s)")
    command.add_argument("--seed", type=int, default=1, help="of the limits (default: %(default)s)")
    command.add_argument("--tmpfs", action="store_true", help="also try small and read-only file systems; needs root")
    args = command.parse_args(argv)
    import_everything()
    from pix2pix import evaluate, export, inference, prepare, publish, static_page, translate  # noqa: F401

    failures = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        given, log = root / "given", root / "log.txt"
        ended = children.run(lambda: make_given(given), log)
        if ended.status:
            print(ended.said)
            return 1
        for program in PROGRAMS:
            dice, stopped, tried = random.Random(f"{args.seed} {program}"), 0, 0
            for number in range(args.rounds):
                kinds = ["limit", "small", "read-only"] if args.tmpfs else ["limit"]
                for kind in kinds:
                    place = root / f"{program.replace(' ', '-')}-{number}-{kind}"
                    with contextlib.ExitStack() as stack:
                        room = None
                        if kind == "limit":
                            place.mkdir()
                            # From 8 kB: a program may say what is wrong.
                            most = math.log10(LARGEST.get(program, 800_000) / 8_000)
                            room = round(8_000 * (1 if dice.random() < 0.3 else 10 ** dice.uniform(0, most)))
                        else:
                            stack.enter_context(mounted(place, dice.randint(8, LARGEST.get(program, 300_000) // 1_000)))
                            if kind == "read-only":
                                subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
                        ended, found = attempt(program, given, place, log, room=room)
                    tried += 1
                    stopped += ended.status != 0
                    failures += [f"{program}, {kind} {number}: {fault}" for fault in found]
                    shutil.rmtree(place, ignore_errors=True)
            print(f"{program:34} {tried:4} attempts, of which {stopped:4} did not fit", flush=True)
    for failure in failures:
        print(f"FAILED {failure}")
    return 1 if failures else 0


def make_given(folder: Path) -> None:
    """Pairs, a model with random weights, also on the Hub, and an npm that has the page's runtime and needs no network."""
    from pix2pix.generator import UNetGenerator
    from pix2pix.hub import push
    from pix2pix.static_page import RUNTIME_FILES, fetch_runtime

    draw_pairs(folder / "pairs")
    for direction in ("photo2sketch", "sketch2photo"):
        UNetGenerator(base_channels=4, max_channels=16, num_downsamples=4, image_size=(50, 40)).save_pretrained(
            folder / "model" / direction
        )
    push(folder / "model", "artist/model")

    npm, archive = folder / "bin" / "npm", folder / "runtime.tgz"
    with tarfile.open(archive, "w") as package:
        for name in RUNTIME_FILES:
            package.add(fetch_runtime() / name, f"package/dist/{name}")
    npm.parent.mkdir()
    npm.write_text(f"#!{sys.executable}\nimport shutil, sys\nshutil.copy({str(archive)!r}, sys.argv[4])\n")
    npm.chmod(0o755)


if __name__ == "__main__":
    server = HubServer()
    os.environ |= server.environment()
    child = os.fork()  # the Hub has threads, and forked processes must have none
    if not child:
        with server:
            import signal

            signal.pause()
    server._socket.close()
    try:
        status = main()
    finally:
        os.kill(child, 15)
        os.waitpid(child, 0)
        server._home.cleanup()
    sys.exit(status)
