"""How soon is the preset lite as good as a plain loop over the paper's networks? `python benchmarks/time_to_quality.py`.

The preset is trained by train.py for some minutes; the plain loop (`plain_loop.py`: 256 px squares, batch 1, float32) for ten
times as many, on the same people. Both then translate the pictures of the people held out, and are scored on them at the
pictures' own size. Of the plain loop the best of several looks counts: that it may train too long is not held against it.
Started again, the same command goes on where it stopped.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import timing
from benchmarks.runs import Interrupted, RunError, begin_or_resume, interruptible, stored_results, train
from pix2pix import arguments
from pix2pix.directions import DIRECTIONS, source_and_target

if TYPE_CHECKING:
    from datasets import Dataset

    from pix2pix.perception import PerceptualNetwork

COMPARED = ("fsim", "perceptual")
IMAGE_SIZE = (256, 256)
JITTER_SIZE = (286, 286)


def parser() -> argparse.ArgumentParser:
    """The command line of this program."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/time_to_quality.py",
        description="Train a preset for a few minutes and a plain loop over the paper's networks for ten times as long, and "
        "score both on the people held out. Writes results.json, table.md and time_to_quality.png into DIR.",
        epilog="What follows -- goes to train.py for the preset, such as: -- --batch-size 8",
    )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="folder of results, new or of the same settings"
    )
    parser.add_argument("--dataset", metavar="DATA", help="folder or Hub id (default: drawn faces)")
    parser.add_argument("--preset", choices=arguments.PRESETS, default="lite", help="default: %(default)s")
    parser.add_argument(
        "--minutes", type=timing.positive, default=4.0, metavar="MIN", help="for the preset, for each direction (default: 4)"
    )
    parser.add_argument(
        "--plain-minutes", type=timing.positive, default=40.0, metavar="MIN",
        help="for the plain loop, for each direction, looks left out (default: 40)",
    )  # fmt: skip
    parser.add_argument("--looks", type=timing.count, default=8, metavar="N", help="at the plain loop on its way (default: 8)")
    parser.add_argument("--direction", choices=("both", *DIRECTIONS), default="both", help="default: both")
    parser.add_argument(
        "--validation-fraction", type=float, default=0.1, metavar="F", help="share of people held out (default: 0.1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of both, at least 0 (default: %(default)s)")
    parser.add_argument(
        "--plain-channels", type=timing.count, default=64, metavar="N",
        help="filters of the first level of both its networks, for a trial with smaller ones (default: 64, the paper's)",
    )  # fmt: skip
    return parser


class People:
    """The pairs that both are trained on, and the pictures of the people held out."""

    def __init__(self, dataset: str | None, *, validation_fraction: float) -> None:
        from pix2pix.data import hold_out, load_pairs

        self.train, self.held_out = hold_out(load_pairs(dataset), fraction=validation_fraction)

    def scores(self, model: Path, direction: str, network: "PerceptualNetwork | None") -> dict[str, float]:
        """What a model makes of the people held out, at the size of their pictures: means by name."""
        from pix2pix.images import to_tensor, upright
        from pix2pix.inference import Translator
        from pix2pix.metrics import validation_scores

        translator = Translator.from_pretrained(model, direction)
        source, target = source_and_target(direction)
        totals: dict[str, float] = {}
        for pair in self.held_out:  # one by one: their sizes may differ
            fake = to_tensor(translator(upright(pair[source])))[None]
            truth = to_tensor(upright(pair[target]))[None]
            for name, value in validation_scores(fake, truth, network).items():
                totals[name] = totals.get(name, 0.0) + value / len(self.held_out)
        return totals


def train_preset(args: argparse.Namespace, extra: Sequence[str], directions: Sequence[str]) -> Path:
    """Train the preset within its minutes, as a user would; an interrupted run goes on. Returns its run folder.

    Raises:
        RunError: If train.py fails.
    """
    run = args.output / args.preset / "run"
    if all((run / "last" / direction).is_dir() for direction in directions):
        return run
    flags = ["--preset", args.preset, "--direction", args.direction, "--seed", str(args.seed)]
    flags += ["--validation-fraction", str(args.validation_fraction), "--max-minutes", str(args.minutes * len(directions))]
    flags += ["--dataset", args.dataset] if args.dataset else []
    if not train(run, begin_or_resume(run, [*flags, *extra]), log=run.parent / "log.txt"):
        raise RunError("train.py was stopped; the same command goes on")
    return run


def train_plain(
    args: argparse.Namespace, direction: str, people: People, network: "PerceptualNetwork | None"
) -> list[dict[str, Any]]:
    """Train the plain loop within its minutes, look at it on its way, and return what was seen.

    Each look leaves a state that a later start goes on from.
    """
    import torch

    from benchmarks.plain_loop import PlainLoop
    from pix2pix.checkpoints import list_states, load_state, prune_states, save_state, state_name
    from pix2pix.discriminator import PatchDiscriminator
    from pix2pix.generator import UNetGenerator

    folder = args.output / "plain" / direction
    torch.manual_seed(args.seed)
    width = args.plain_channels
    loop = PlainLoop(UNetGenerator(base_channels=width, max_channels=8 * width), PatchDiscriminator(base_channels=width))
    parts = {
        "networks": {"generator": loop.generator, "discriminator": loop.discriminator},
        "optimizers": {"generator": loop.optimizer_g, "discriminator": loop.optimizer_d},
    }
    budget, step, seconds = 60 * args.plain_minutes, 0, 0.0
    looks: list[dict[str, Any]] = []
    states = list_states(folder / "state")
    if states:
        progress = load_state(states[-1].folder, **parts)
        step, seconds, looks = progress["step"], progress["seconds"], progress["looks"]
    batches = plain_batches(people.train, direction, seed=args.seed, first_step=step)
    model = folder / "model"
    while len(looks) < args.looks:
        pause = budget * (len(looks) + 1) / args.looks
        while seconds < pause:
            source, target = next(batches)
            began = time.perf_counter()
            torch.manual_seed(args.seed + step)  # a resumed loop draws the same dropout
            loop.step(source, target)
            seconds += time.perf_counter() - began
            step += 1
        loop.generator.eval().save_pretrained(model / direction)
        epochs = step / len(people.train)
        looks.append({"minutes": seconds / 60, "steps": step, "epochs": epochs, **people.scores(model, direction, network)})
        print(f"plain, {direction}: {_shown(looks[-1])} after {seconds / 60:.1f} minutes, {epochs:.1f} epochs", flush=True)
        state = folder / "state" / state_name(step)
        save_state(state, progress={"step": step, "seconds": seconds, "looks": looks}, best={}, **parts)
        prune_states(state.parent, keep=1)
    return looks


def plain_batches(pairs: "Dataset", direction: str, *, seed: int, first_step: int):
    """Batches of one pair in 256 px squares, jittered as in the paper, from some step on: (1, 3, 256, 256) in [-1, 1]."""
    from pix2pix.data import EpochSampler, PairedImages

    images = PairedImages(pairs, image_size=IMAGE_SIZE, jitter_size=JITTER_SIZE, mirror=True, channels=(3, 3), seed=seed)
    sampler = EpochSampler(len(images), seed=seed)
    source, target = source_and_target(direction)
    epoch, start = divmod(first_step, len(images))
    while True:
        sampler.set_epoch(epoch)
        for key in list(sampler)[start:]:
            pair = images[key]
            yield pair[source][None], pair[target][None]
        epoch, start = epoch + 1, 0


def _shown(scores: dict[str, Any]) -> str:
    return ", ".join(f"{name} {scores[name]:.3f}" for name in COMPARED if name in scores)


def best_of(looks: Sequence[dict[str, Any]], name: str) -> float:
    """The best value of a score over all looks."""
    return (max if name == "fsim" else min)(look[name] for look in looks)


def verdicts(results: dict[str, Any]) -> dict[str, dict[str, bool]]:
    """For each direction and score, whether the preset reached what the plain loop reached at its best."""
    found: dict[str, dict[str, bool]] = {}
    for direction, looks in results["plain"].items():
        own = results["preset"][direction]
        for name in COMPARED:
            if name in own:
                best = best_of(looks, name)
                found.setdefault(direction, {})[name] = own[name] >= best if name == "fsim" else own[name] <= best
    return found


def table(results: dict[str, Any]) -> str:
    """Both, side by side, as markdown."""
    settings, lines = results["settings"], []
    for direction, own in results["preset"].items():
        looks = results["plain"][direction]
        rows = {
            settings["preset"]: (settings["minutes"], [own[name] for name in COMPARED]),
            "plain loop, best look": (looks[-1]["minutes"], [best_of(looks, name) for name in COMPARED]),
            "plain loop, last look": (looks[-1]["minutes"], [looks[-1][name] for name in COMPARED]),
        }
        for label, (minutes, values) in rows.items():
            lines.append([f"{direction}, {label}", f"{minutes:.3g}", *(f"{value:.3f}" for value in values)])
    head = f"{results['held_out']} pairs held out of {settings['dataset'] or 'the drawn faces'}, seed {settings['seed']}."
    return f"{head}\n\n{timing.table(['direction, who', 'minutes', 'FSIM', 'perceptual distance'], lines)}\n"


def draw(results: dict[str, Any], path: Path) -> None:
    """The plain loop's scores over its minutes, and the preset's as a point, a panel for each direction and score."""
    from matplotlib.figure import Figure

    from pix2pix.files import whole_file

    directions, settings = list(results["preset"]), results["settings"]
    figure = Figure(figsize=(4.2 * len(COMPARED), 2.9 * len(directions)), layout="constrained")
    for line, direction in zip(figure.subplots(len(directions), len(COMPARED), squeeze=False), directions, strict=True):
        for axes, name in zip(line, COMPARED, strict=True):
            looks = results["plain"][direction]
            axes.plot(
                [look["minutes"] for look in looks], [look[name] for look in looks], "o-", markersize=3, label="plain loop"
            )
            own = results["preset"][direction][name]
            axes.axhline(own, linestyle=":", color="C1", linewidth=1)
            axes.plot([settings["minutes"]], [own], "s", color="C1", label=settings["preset"])
            axes.set_title(f"{direction}: {'FSIM' if name == 'fsim' else 'perceptual distance'}", fontsize=9)
            axes.set_xlabel("minutes", fontsize=8)
            axes.tick_params(labelsize=7)
            axes.grid(alpha=0.3)
            axes.legend(fontsize=7)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status: 0, or 1 if the preset could not be trained."""
    command = parser()
    own, extra = timing.split_flags(argv)
    args = command.parse_args(own)
    settings = {name: value for name, value in vars(args).items() if name != "output"} | {"flags": extra}
    path = args.output / "results.json"
    try:
        if not 0 < args.validation_fraction <= 0.5:
            raise ValueError(f"--validation-fraction must be above 0 and at most 0.5, got {args.validation_fraction:g}")
        arguments.complete(arguments.explicit(["--preset", args.preset, *extra]))
        results = stored_results(path, settings) or {"settings": settings, "preset": {}, "plain": {}}
        args.output.mkdir(parents=True, exist_ok=True)
        timing.write_json(path, results)
    except (ValueError, OSError) as error:
        command.error(str(error))

    import torch

    from pix2pix.devices import cores
    from pix2pix.layouts import DataError
    from pix2pix.perception import PerceptualNetwork

    directions = DIRECTIONS if args.direction == "both" else (args.direction,)
    try:
        with interruptible():
            run = train_preset(args, extra, directions)
            torch.set_num_threads(cores())
            people = People(args.dataset, validation_fraction=args.validation_fraction)
            network = PerceptualNetwork()
            results["held_out"] = len(people.held_out)
            for direction in directions:
                if direction not in results["preset"]:
                    results["preset"][direction] = people.scores(run, direction, network)
                    timing.write_json(path, results)
                print(f"{args.preset}, {direction}: {_shown(results['preset'][direction])}", flush=True)
            for direction in directions:
                if direction not in results["plain"]:
                    results["plain"][direction] = train_plain(args, direction, people, network)
                    timing.write_json(path, results)
                    shutil.rmtree(args.output / "plain" / direction / "state", ignore_errors=True)
    except Interrupted as stop:
        print(f"stopped by {stop.name}; the same command goes on", file=sys.stderr)
        return 128 + stop.number
    except (RunError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    results["reached"] = verdicts(results)
    timing.write_json(path, results)
    text = table(results)
    (args.output / "table.md").write_text(text, encoding="utf-8")
    draw(results, args.output / "time_to_quality.png")
    print(f"\n{text}")
    for direction, reached in results["reached"].items():
        shown = ", ".join(f"{name} {'reached' if is_reached else 'not reached'}" for name, is_reached in reached.items())
        print(f"{direction}: {shown}")
    print(f"results: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
