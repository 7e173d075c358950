"""train.py's own step without the run around it, on random pairs: what `train_speed.py` and `scaling.py` time.

As a program it times the step in a process of its own, so that the peak memory is that of nothing else:
`python benchmarks/trainer.py --steps 5 --json FILE -- --preset paper --batch-size 4`; what follows `--` are train.py's flags.
Without `--dataset` among them, the pairs are random pictures. `torchrun` starts it on several processes.
"""

import argparse
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import timing

RANDOM_PAIRS = 88
"""Pairs of random pictures: as many as the CUHK students that learn; first batches are as rare as theirs."""


class Pace(NamedTuple):
    """What a few steps took: seconds altogether, and how many of them the step waited for its batch."""

    seconds: float
    waited: float


def write_random_pairs(folder: Path, *, size: tuple[int, int], pairs: int = RANDOM_PAIRS) -> Path:
    """Pictures of noise as a data set of folders: nothing to download, and nothing that a cache could know."""
    import numpy as np
    from PIL import Image

    height, width = size
    numbers = np.random.default_rng(0)
    for column in ("photos", "sketches"):
        (folder / "train" / column).mkdir(parents=True)
        for index in range(pairs):
            pixels = numbers.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "train" / column / f"{index:04d}.png", compress_level=0)
    return folder


class Trainer:
    """A run of train.py brought to where its loop begins.

    Args:
        flags: Of train.py.
        folder: A folder that it may write into.
    """

    def __init__(self, flags: Sequence[str], folder: Path) -> None:
        import train
        from pix2pix import arguments
        from pix2pix.images import parse_image_size

        given = arguments.explicit(flags)
        args = arguments.complete({"validation_fraction": 0.0, "direction": "photo2sketch", **given})
        if args["dataset"] is None:
            size = parse_image_size(args["image_size"] or [250, 200])
            pairs = max(RANDOM_PAIRS, 2 * args["batch_size"])
            args["dataset"] = str(write_random_pairs(folder / "pairs", size=size, pairs=pairs))
        args |= {"output_dir": str(folder / "run"), "planned_epochs": 1000}
        self.run = train.Run(Namespace(**args))
        self.run.load_data()
        self.run.build()
        self.run.wrap()
        self.run.step = self.run.summed = self.steps = 0
        self.run.sums = {direction: {} for direction in self.run.directions}

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pictures, in pixels."""
        from pix2pix.images import parse_image_size

        return parse_image_size(self.run.args.image_size)

    @property
    def images_a_step(self) -> int:
        """Pictures that all processes together translate and learn from in a step, over all directions."""
        run = self.run
        return run.args.batch_size * len(run.directions) * run.accelerator.num_processes

    def use_batch_size(self, batch_size: int) -> Iterator[dict[str, Any]]:
        """The run's own batches, in batches of another size, without end."""
        self.run.args.batch_size = batch_size
        self.run.load_data()
        return self.batches(self.run.loader)

    def batches(self, loader: Any = None) -> Iterator[dict[str, Any]]:
        """The run's own batches, epoch after epoch."""
        loader = loader or self.run.loader
        epoch = 0
        while True:
            loader.set_epoch(epoch)
            yield from self.run.batches(loader)
            epoch += 1

    def pace(self, batches: Iterator[dict[str, Any]], *, steps: int) -> Pace:
        """Make some steps of all directions on the next batches, and time them."""
        began, waited = time.perf_counter(), 0.0
        for _ in range(steps):
            start = time.perf_counter()
            pair = next(batches)
            waited += time.perf_counter() - start
            self.run.step_both(pair, 0, self.steps, 0.0)
            self.steps += 1
        self._finish_steps()
        return Pace(time.perf_counter() - began, waited)

    def plain_networks(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The arguments of the generator and the discriminator that the plain loop should have: the first direction's."""
        args, generator = self.run.args, self.run.generators[self.run.directions[0]]
        discriminator = {
            "source_channels": generator.in_channels, "image_channels": generator.out_channels,
            "receptive_field": args.receptive_field, "conditional": args.conditional,
            "base_channels": args.discriminator_channels, "spectral": args.spectral,
        }  # fmt: skip
        return generator.config, discriminator

    def peak_memory(self) -> int:
        """The most bytes of memory that the processes of the run have held so far, summed."""
        import torch

        accelerator = self.run.accelerator
        held = torch.tensor([timing.peak_memory()], dtype=torch.int64, device=accelerator.device)
        return int(accelerator.gather(held).sum().item())

    def _finish_steps(self) -> None:
        from pix2pix.devices import wait_for_device

        wait_for_device()


def parser() -> argparse.ArgumentParser:
    """The command line of this program."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/trainer.py",
        description="Time train.py's step in a process of its own.",
        epilog="What follows -- are flags of train.py.",
    )
    parser.add_argument("--steps", type=timing.count, default=5, metavar="N", help="steps to time, at least 1 (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the report goes (default: printed alone)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status, 0."""
    command = parser()
    own, flags = timing.split_flags(argv)
    args = command.parse_args(own)
    from pix2pix import arguments

    try:
        arguments.complete(arguments.explicit(flags))
    except ValueError as error:
        command.error(str(error))

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(flags, Path(folder))
        images, is_main = trainer.images_a_step, trainer.run.is_main
        batches = trainer.batches()
        trainer.pace(batches, steps=1)  # warms up
        paces = [trainer.pace(batches, steps=1) for _ in range(args.steps)]
        seconds, waited = (sum(column) for column in zip(*paces, strict=True))
        report = {
            "flags": flags,
            "images_per_second": images / statistics.median(pace.seconds for pace in paces),
            "waited": waited / seconds,
            "peak_bytes": trainer.peak_memory(),
        }
    if is_main:
        if args.json:
            timing.write_json(args.json, report)
        print(timing.table(list(report)[1:], [list(report.values())[1:]]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
