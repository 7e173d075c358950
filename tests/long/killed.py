"""Kill trainings at random moments, go on with them, and compare what they end with.

    python tests/long/killed.py --moments 50 --seed 1

A tiny training is ended in six ways: at any time (SIGALRM, which it does not catch), before a file operation (SIGKILL), in
the middle of writing a file (SIGXFSZ), by a loss of power that drops whatever was not flushed, by a full disk, and politely
(SIGTERM, Ctrl-C). A third of them are ended once more while they go on. Each must go on from a whole state, repeat no more than
one checkpoint interval, and end with the very weights of a run that nobody disturbed. The exit status is 1 if one does not.
"""

import argparse
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}

import children

sys.path.insert(0, str(children.ROOT))

WAYS = ("time", "operation", "write", "power", "full", "signal")
EPOCHS, STEPS = 3, 4
FLAGS = [
    "--image-size", "32", "--base-channels", "4", "--max-channels", "8", "--num-downsamples", "3",
    "--discriminator-channels", "4", "--receptive-field", "16", "--perceptual-weight", "0", "--projected-weight", "0",
    "--batch-size", "2", "--validation-fraction", "0.2", "--num-threads", "1", "--mixed-precision", "no",
    "--num-epochs", str(EPOCHS), "--checkpoint-every", "1", "--validate-every", "1", "--log-every", "1",
]  # fmt: skip


class Course:
    """A training in a folder of its own, in as many processes as it takes."""

    def __init__(self, folder: Path, pairs: Path, random_: random.Random) -> None:
        self.folder, self.run, self.pairs, self.random = folder, folder / "home" / "run", pairs, random_
        self.run.parent.mkdir(parents=True)
        self.log, self.notes = folder / "log.txt", folder / "notes.json"

    def arguments(self) -> list[str]:
        """Of train.py: to start, or to go on if there is a state."""
        from pix2pix.checkpoints import list_states

        if list_states(self.run / "state"):
            return ["--output-dir", str(self.run), "--resume"]
        return ["--dataset", str(self.pairs), *FLAGS, "--output-dir", str(self.run)]

    def train(self, prepare: Callable[[], Callable[[], object] | None] = lambda: None) -> children.Ended:
        """Run train.py; `prepare` sets the fault up in its process, and may return what is to be noted at its end."""
        given = self.arguments()

        def action() -> int:
            import train

            at_end = prepare()
            status = train.main(given)
            if at_end is not None:
                self.notes.write_text(json.dumps(at_end()))
            return status

        return children.run(action, self.log)

    def disturbed(self, way: str, operations: int, seconds: float) -> tuple[children.Ended, str]:
        """Run train.py until the fault; returns how it ended, and when that was."""
        number, room = self.random.randint(1, operations), self.random.randint(0, 30_000)
        moment, number_of_signal = self.random.uniform(0, seconds), self.random.choice([signal.SIGTERM, signal.SIGINT])
        with_names = self.random.random() < 0.5
        self.notes.unlink(missing_ok=True)

        def strike(what: str) -> None:
            self.notes.write_text(json.dumps(what))
            if way == "operation":
                os.kill(os.getpid(), signal.SIGKILL)
            elif way == "write":
                children.fill_the_disk(room, is_deadly=True)
            elif way == "full":
                children.fill_the_disk(min(room, 3_000))
            elif way == "signal":
                os.kill(os.getpid(), number_of_signal)
            elif way == "power":
                disk.leave(self.run.parent, self.folder / "image", with_names=with_names)
                os.kill(os.getpid(), signal.SIGKILL)

        disk = None

        def prepare() -> None:
            nonlocal disk
            if way == "time":
                signal.setitimer(signal.ITIMER_REAL, max(0.001, moment))
                return
            disk = children.Disk(self.run.parent) if way == "power" else None
            children.at_operation(number, self.run, strike)

        ended = self.train(prepare)
        what = json.loads(self.notes.read_text()) if self.notes.is_file() else f"{moment:.2f} s"
        return ended, what

    def steps(self) -> tuple[int, int]:
        """The last step that metrics.jsonl tells of, and that of the newest state."""
        from pix2pix.checkpoints import list_states

        told = [json.loads(line) for line in self.lines() if line.endswith("}\n")]
        states = list_states(self.run / "state")
        kept = json.loads((states[-1].folder / "progress.json").read_text())["step"] if states else 0
        return max((line["step"] for line in told if line["kind"] == "train"), default=0), kept

    def lines(self) -> list[str]:
        """Of metrics.jsonl."""
        file = self.run / "metrics.jsonl"
        return file.read_text().splitlines(keepends=True) if file.is_file() else []

    def faults(self, way: str, ended: children.Ended) -> list[str]:
        """What is wrong with what a disturbed run left."""
        from safetensors import safe_open

        from pix2pix.checkpoints import list_states
        from pix2pix.directions import DIRECTIONS
        from pix2pix.generator import UNetGenerator

        found = []
        allowed = {
            "time": {-signal.SIGALRM, 0},
            "operation": {-signal.SIGKILL},
            "write": {-signal.SIGXFSZ, 0},
            "power": {-signal.SIGKILL},
            "full": {2, 0},
            # Before there is anything to keep, a signal ends the program as it ends any other.
            "signal": {128 + signal.SIGTERM, 128 + signal.SIGINT, 0, -signal.SIGTERM, children.CRASHED},
        }[way]
        if ended.status not in allowed:
            found.append(f"it ended with {ended.status}: {ended.said[-300:]}")
        if way == "full" and ended.status == 2:
            last = ended.said.strip().splitlines()[-1]
            if "Traceback" in ended.said or not re.match(r"train\.py: error: the run folder cannot be written to \(", last):
                found.append(f"its last line was {last!r}")
        if way == "signal" and ended.status == children.CRASHED and "KeyboardInterrupt" not in ended.said:
            found.append(f"it crashed: {ended.said[-300:]}")
        told, _ = self.steps()
        if way == "power":
            children.replace(self.run.parent, self.folder / "image")
        try:
            for state in list_states(self.run / "state"):
                for name in ("networks", "optimizers"):
                    with safe_open(state.folder / f"{name}.safetensors", framework="pt") as file:
                        for key in file.keys():  # noqa: SIM118
                            file.get_tensor(key)
                json.loads((state.folder / "progress.json").read_text())
        except Exception as error:
            found.append(f"{state.folder.name} is damaged: {error}")
            return found
        for direction in (self.run / name for name in DIRECTIONS):
            if (direction / "config.json").exists() and (direction / "model.safetensors").exists():
                UNetGenerator.from_pretrained(direction)
        if told - self.steps()[1] > (0 if ended.status > 128 else STEPS):
            found.append(f"step {told} had been made, but the newest state is of step {self.steps()[1]}")
        return found

    def digests(self) -> dict[str, str]:
        """Of the finished weights, best and last, by their place."""
        files = [path for path in self.run.rglob("model.safetensors") if "state" not in path.parts]
        return {str(path.relative_to(self.run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}

    def leftovers(self) -> list[str]:
        """Names of temporary files and folders."""
        return [str(path.relative_to(self.run)) for path in self.run.rglob(".*")]


def draw_pairs(root: Path) -> None:
    """Ten drawn people, small."""
    from pix2pix.drawn_faces import draw_pair

    for index in range(10):
        for column, picture in zip(("photos", "sketches"), draw_pair(index), strict=False):
            folder = root / "train" / column
            folder.mkdir(parents=True, exist_ok=True)
            picture.resize((40, 50)).save(folder / f"person{index}.png")


def import_everything() -> None:
    """So that the forked processes need not."""
    import accelerate  # noqa: F401
    import efficientnet_lite_pytorch  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import piq  # noqa: F401

    import train  # noqa: F401
    from pix2pix import curves, discriminator, generator, hub, losses, metrics, perception, streams  # noqa: F401


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("--moments", type=int, default=50, help="how many trainings to end, from 1 (default: %(default)s)")
    command.add_argument("--seed", type=int, default=1, help="of the moments (default: %(default)s)")
    command.add_argument("--case", type=int, metavar="N", help="only the moment of this number")
    args = command.parse_args(argv)
    if args.moments < 1:
        command.error(f"--moments must be at least 1, got {args.moments}")
    moments = range(args.moments) if args.case is None else [args.case]
    import_everything()
    struck, died, failures = Counter(), Counter(), []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        pairs = root / "pairs"
        children.run(lambda: draw_pairs(pairs), root / "log.txt")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        straight = Course(root / "straight", pairs, random.Random(args.seed))
        began = time.monotonic()
        ended = straight.train(lambda: children.at_operation(0, straight.run, lambda _: None))
        seconds = time.monotonic() - began
        if ended.status:
            print(ended.said)
            return 1
        operations, wanted = json.loads(straight.notes.read_text()), straight.digests()
        print(f"undisturbed: {operations} file operations, {len(wanted)} files of weights", flush=True)

        for number in moments:
            course = Course(root / str(number), pairs, random.Random(f"{args.seed} {number}"))
            ways = [WAYS[number % len(WAYS)]]
            if course.random.random() < 1 / 3:
                ways.append(course.random.choice(WAYS))
            found = []
            for way in ways:
                if found:
                    break
                ended, what = course.disturbed(way, operations, seconds)
                struck[way] += 1
                died[way] += ended.status != 0
                print(f"{number:3} {way:9} {what:45} -> {ended.status}", flush=True)
                found += course.faults(way, ended) if ended.status or way == "full" else []
            if not found:
                # A run that was ended after its last state has no epoch to go on with, but writes what was missing.
                ended = course.train() if ended.status else ended
                found += [f"it did not go on: {ended.said[-500:]}"] if ended.status else []
                found += ["it ended with other weights"] if course.digests() != wanted else []
                found += [f"it left {course.leftovers()[:3]}"] if course.leftovers() else []
            failures += [f"moment {number} ({' and '.join(ways)}): {fault}" for fault in found]
            shutil.rmtree(course.folder)
    for way in WAYS:
        print(f"{way:9} {struck[way]:4} faults, of which {died[way]:4} ended the run")
    for failure in failures:
        print(f"FAILED {failure}")
    good = len(moments) - len({failure.split()[1] for failure in failures})
    print(f"{good} of {len(moments)} ended with the weights of the undisturbed run")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
