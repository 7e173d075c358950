"""What each measure for speed is worth: train.py's step with one of them undone, `python benchmarks/measures.py`.

Every timing is a process of its own, because how memory is kept and threads are made is decided once in a process. The
processes take turns, and medians are reported.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import timing
from pix2pix import arguments

MEASURES = {
    "as it is": "as it is",
    "float32": "float32 in place of bfloat16",
    "channels-last": "channels last in place of the plain layout",
    "malloc": "memory given back to the system as the C library does by default",
    "foreach": "Adam by foreach in place of one fused kernel",
    "instance-norm": "PyTorch's instance norm in place of group norm",
    "waiting": "each batch made when the step before is over, in place of beside it",
    "compile": "torch.compile in place of eager",
}
"""What is undone, or done that is not by default."""


def parser() -> argparse.ArgumentParser:
    """The command line of this program."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/measures.py",
        description="Time train.py's step with one measure for speed undone at a time, a process each, taking turns.",
        epilog="What follows -- goes to train.py for every timing, such as: -- --image-size 128",
    )
    parser.add_argument("--preset", choices=arguments.PRESETS, default="paper", help="default: %(default)s")
    parser.add_argument(
        "--batch-sizes", type=timing.count, nargs="+", default=[1, 8], metavar="N", help="pairs a step (default: 1 8)"
    )
    parser.add_argument(
        "--measures", nargs="+", choices=MEASURES, default=list(MEASURES), metavar="NAME", help=f"of {', '.join(MEASURES)}"
    )
    parser.add_argument("--rounds", type=timing.count, default=3, metavar="N", help="processes of each kind (default: 3)")
    parser.add_argument("--steps", type=timing.count, default=5, metavar="N", help="timed in each process (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the report goes (default: printed alone)")
    parser.add_argument("--only", choices=MEASURES, help=argparse.SUPPRESS)  # what a process of its own is told
    return parser


def undo(measure: str) -> list[str]:
    """Undo a measure in this process, before anything of it is used; returns the flags of train.py that do the rest."""
    import torch

    import train
    from pix2pix import devices
    from pix2pix.layers import InstanceNorm

    if measure == "channels-last":
        devices.training_layout = lambda device: torch.channels_last
    elif measure == "malloc":
        devices.keep_memory = lambda: None
    elif measure == "foreach":
        fused = torch.optim.Adam
        torch.optim.Adam = lambda *given, **options: fused(*given, **{**options, "fused": False, "foreach": True})
    elif measure == "instance-norm":
        InstanceNorm.forward = torch.nn.InstanceNorm2d.forward
    elif measure == "waiting":
        train.Run.batches = lambda run, loader: loader
    return {"float32": ["--mixed-precision", "no"], "compile": ["--compile"]}.get(measure, [])


def time_steps(measure: str, flags: Sequence[str], *, batch_size: int, steps: int) -> float:
    """Images per second of this process with a measure undone: the median of its steps, the first two left out."""
    flags = [*flags, *undo(measure), "--batch-size", str(batch_size)]
    from benchmarks.trainer import Trainer

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(flags, Path(folder))
        batches = trainer.batches()
        trainer.pace(batches, steps=2)
        return trainer.images_a_step / statistics.median(trainer.pace(batches, steps=1).seconds for _ in range(steps))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status: 0, or 1 if a process failed."""
    command = parser()
    own, extra = timing.split_flags(argv)
    args = command.parse_args(own)
    flags = ["--preset", args.preset, *extra]
    try:
        arguments.complete(arguments.explicit(flags))
    except ValueError as error:
        command.error(str(error))
    if args.only:
        print(time_steps(args.only, flags, batch_size=args.batch_sizes[0], steps=args.steps))
        return 0

    failed: set[str] = set()

    def measured(name: str, size: int) -> float | None:
        words = ["--only", name, "--preset", args.preset, "--batch-sizes", str(size), "--steps", str(args.steps)]
        done = subprocess.run([sys.executable, __file__, *words, "--", *extra], capture_output=True, text=True)
        if done.returncode:
            failed.add(f"{name}: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
            return None
        return float(done.stdout.split()[-1])

    speeds: dict[tuple[str, int], list[float]] = {(name, size): [] for name in args.measures for size in args.batch_sizes}
    for _ in range(args.rounds):
        for (name, size), found in speeds.items():
            speed = measured(name, size)
            found += [] if speed is None else [speed]
    medians = {key: statistics.median(found) if found else None for key, found in speeds.items()}
    rows = [
        [MEASURES[name], *(medians[name, size] for size in args.batch_sizes)] for name in args.measures
    ]  # fmt: skip
    print(timing.table(["train.py's step", *(f"batch {size}, images/s" for size in args.batch_sizes)], rows))
    for reason in sorted(failed):
        print(f"failed: {reason}", file=sys.stderr)
    if args.json:
        report = [
            {"measure": name, "batch_size": size, "images_per_second": medians[name, size], "rounds": found}
            for (name, size), found in speeds.items()
        ]
        timing.write_json(args.json, {"preset": args.preset, "flags": extra, "rows": report, "machine": timing.machine()})
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
