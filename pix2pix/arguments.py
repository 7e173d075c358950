"""The arguments of `train.py`: presets, defaults, the command line, and what a resumed run may change."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pix2pix.directions import DIRECTIONS

PRESETS: dict[str, dict[str, Any]] = {
    # Isola et al. 2017 as published, with their code's values where the text is silent. Deviations: the norm is instance
    # norm (equal to their batch norm at their batch size of 1); pictures keep their aspect inside the 256 px square
    # instead of being stretched; dropout is off at test time unless a variation is asked for; validation picks the epoch.
    "paper": {
        "image_size": [256],
        "jitter": 286 / 256,
        "channels": [3, 3],
        "base_channels": 64,
        "max_channels": 512,
        "num_downsamples": 8,
        "upsampling": "transposed",
        "head_channels": 0,
        "noise_channels": [0, 0],
        "smooth": "none",
        "dropout": 0.5,
        "receptive_field": 70,
        "discriminator_channels": 64,
        "spectral": False,
        "discriminator_noise": 0.0,
        "adversarial": "cross-entropy",
        "adversarial_weight": 1.0,
        "projected_weight": 0.0,
        "l1_weight": 100.0,
        "cycle_weight": 0.0,
        "feature_weight": 0.0,
        "perceptual_weight": 0.0,
        "perceptual_source": [0.0, 0.0],
        "close_ups": False,
        "learning_rate": 2e-4,
        "discriminator_rate": 1.0,
        "batch_size": 1,
        "num_epochs": 200,
        "decay_start": 1.0,
        "ema_decay": 0.0,
        "max_rotation": 0.0,
        "max_warp": 0.0,
        "max_tone": 0.0,
        "max_stroke": 0.0,
        "outline_share": 0.0,
        "background_share": 0.0,
        "wedge_share": 0.0,
        "fill_wedges": False,
    },
    # A few dozen pairs on a laptop: 2.6 M parameters at the pictures' own size, and the defences against a
    # discriminator that learns 88 pairs by heart (spectral norm, noise, least squares, averaged weights).
    "lite": {
        "image_size": None,
        "jitter": 1.08,
        "channels": None,
        "base_channels": 32,
        "max_channels": 128,
        "num_downsamples": 6,
        "upsampling": "blurred",
        "head_channels": 16,
        "noise_channels": [0, 2],
        "smooth": "photo",
        "dropout": 0.3,
        "receptive_field": 34,
        "discriminator_channels": 32,
        "spectral": True,
        "discriminator_noise": 0.07,
        "adversarial": "least-squares",
        "adversarial_weight": 0.25,
        "projected_weight": 0.5,
        "l1_weight": 20.0,
        "cycle_weight": 0.0,
        "feature_weight": 5.0,
        "perceptual_weight": 10.0,
        "perceptual_source": [0.5, 0.5],
        "close_ups": True,
        "learning_rate": 5e-4,
        "discriminator_rate": 0.6,
        "batch_size": 4,
        "num_epochs": 150,
        "decay_start": 0.5,
        "ema_decay": 0.995,
        "max_rotation": 4.0,
        "max_warp": 4.0,
        "max_tone": 0.7,
        "max_stroke": 0.0,
        "outline_share": 0.1,
        "background_share": 0.4,
        "wedge_share": 0.5,
        "fill_wedges": True,
    },
}

DEFAULTS: dict[str, Any] = {
    "preset": "lite",
    "direction": "both",
    "dataset": None,
    "dataset_revision": None,
    "layout": "auto",
    "columns": ["photo", "sketch"],
    "max_pairs": None,
    "max_pixels": 64_000_000,
    "validation_fraction": 0.1,
    "streaming": False,
    "mirror": True,
    "num_workers": 0,
    "skips": True,
    "conditional": True,
    "reconstruction": "l1",
    "adam_beta1": 0.5,
    "adam_beta2": 0.999,
    "max_steps": None,
    "max_minutes": None,
    "gradient_accumulation_steps": 1,
    "mixed_precision": "auto",
    "compile": False,
    "num_threads": None,
    "seed": 0,
    "output_dir": None,
    "init_from": None,
    "init_revision": None,
    "resume": None,
    "checkpoint_every": 5,
    "keep_checkpoints": 2,
    "validate_every": 5,
    "log_every": 10,
    "report_to": "none",
    "push_to_hub": None,
    "private": False,
    "eval_only": False,
}

# What may differ when a run goes on: where and how it runs, how long, what it reports; never what it computes.
CHANGEABLE = {
    "checkpoint_every",
    "compile",
    "dataset",
    "eval_only",
    "keep_checkpoints",
    "log_every",
    "max_pixels",
    "max_steps",
    "num_epochs",
    "num_threads",
    "num_workers",
    "output_dir",
    "private",
    "push_to_hub",
    "report_to",
    "resume",
    "validate_every",
}

ARGUMENTS_NAME = "arguments.json"


def parser() -> argparse.ArgumentParser:
    """The command line of `train.py`. What is not given is absent from the namespace; `complete` fills it in."""
    parser = argparse.ArgumentParser(
        prog="train.py",
        description="Fit conditional GANs to paired images, in both directions.",
        argument_default=argparse.SUPPRESS,
    )
    flag = argparse.BooleanOptionalAction

    run = parser.add_argument_group("what to train")
    run.add_argument("--preset", choices=PRESETS, help="a row of defaults: paper (Isola et al. 2017) or lite (a laptop)")
    run.add_argument("--direction", choices=("both", *DIRECTIONS), help="one direction, or both in one run")
    run.add_argument("--output-dir", type=Path, metavar="DIR", help="run folder, new or empty (default: runs/DATASET-PRESET)")
    run.add_argument("--seed", type=int, help="of weights, order, jitter and dropout, at least 0")

    data = parser.add_argument_group("data")
    data.add_argument("--dataset", metavar="ID_OR_DIR", help="Hub id (user/name) or local folder (default: drawn faces)")
    data.add_argument("--dataset-revision", metavar="REV", help="branch, tag or commit of a Hub dataset")
    data.add_argument(
        "--layout", choices=("auto", "folders", "imagefolder", "side-by-side", "saved"), help="how a local folder is laid out"
    )
    data.add_argument("--columns", nargs=2, metavar=("A", "B"), help="the columns that stand for photo and sketch")
    data.add_argument("--max-pairs", type=int, metavar="N", help="use the first N training pairs, at least 2 (default: all)")
    data.add_argument(
        "--streaming", action=flag,
        help="read the pairs as they are needed: memory does not grow with their number, and a Hub data set is not stored",
    )  # fmt: skip
    data.add_argument("--max-pixels", type=int, metavar="N", help="refuse pictures with more pixels")
    data.add_argument(
        "--validation-fraction", type=float, metavar="F", help="share of people held out, 0 to 0.5; 0 trains on all"
    )
    data.add_argument(
        "--image-size", type=int, nargs="+", metavar="PX",
        help="side of a square, or height and width, at least 16 (without: the first picture's size, at most 256 a side)",
    )  # fmt: skip
    data.add_argument(
        "--jitter", type=float, metavar="R",
        help="resize to R times the image size and crop back at random, 1 to 2; with --max-rotation or --max-warp: zoom by "
        "1/R to R, and shift",
    )  # fmt: skip
    data.add_argument("--mirror", action=flag, help="mirror half of the pairs")
    data.add_argument("--max-rotation", type=float, metavar="DEG", help="rotate pairs by up to this many degrees, 0 to 45")
    data.add_argument(
        "--max-warp", type=float, metavar="PX", help="bend pairs at random: standard deviation in pixels, 0 to 64"
    )
    data.add_argument(
        "--max-tone", type=float, metavar="F", help="vary tone, colour, sharpness and grain of the source, 0 (not) to 1"
    )
    data.add_argument("--max-stroke", type=float, metavar="F", help="vary strokes and shading of source sketches, 0 (not) to 1")
    data.add_argument(
        "--outline-share", type=float, metavar="F", help="share of source sketches, 0 to 1, of which only the outlines are left"
    )
    data.add_argument(
        "--background-share", type=float, metavar="F",
        help="share of source photos, 0 to 1, whose background is replaced if it is even",
    )  # fmt: skip
    data.add_argument(
        "--wedge-share", type=float, metavar="F", help="share of sources, 0 to 1, that get black borders as turned scans have"
    )
    data.add_argument(
        "--fill-wedges", action=flag, help="fill black borders that turned scans have in the training pairs, source and target"
    )
    data.add_argument(
        "--channels", type=int, nargs=2, choices=(1, 3), metavar=("A", "B"),
        help="channels of photo and sketch, 1 or 3 (without: 1 where all pictures are grey)",
    )  # fmt: skip
    data.add_argument("--num-workers", type=int, metavar="N", help="processes that load pictures; 0 loads in the trainer")

    nets = parser.add_argument_group("networks")
    nets.add_argument("--base-channels", type=int, metavar="N", help="filters of the generator's first level, 1 to 512")
    nets.add_argument("--max-channels", type=int, metavar="N", help="where their doubling stops, 1 to 2048")
    nets.add_argument("--num-downsamples", type=int, metavar="N", help="levels of the generator, 1 to 10")
    nets.add_argument("--skips", action=flag, help="U-Net; without, the encoder-decoder")
    nets.add_argument(
        "--upsampling", choices=("transposed", "blurred", "resize", "subpixel"), help="how the decoder doubles the size"
    )
    nets.add_argument(
        "--head-channels", type=int, metavar="N",
        help="filters of two last convolutions at full resolution, which see the source too, 0 (none) to 256",
    )  # fmt: skip
    nets.add_argument(
        "--noise-channels", type=int, nargs=2, metavar=("A", "B"),
        help="channels of noise, at full and half resolution, in the generators of photos and of sketches, 0 (none) to 16",
    )  # fmt: skip
    nets.add_argument(
        "--smooth", choices=("none", "photo", "sketch", "both"),
        help="which finished pictures are blurred by (1, 2, 1) / 4, outside of training",
    )  # fmt: skip
    nets.add_argument("--dropout", type=float, metavar="P", help="in the three innermost decoder levels, 0 to below 1")
    nets.add_argument(
        "--receptive-field", type=int, choices=(1, 16, 34, 70, 142, 286), help="side in pixels of the patch one logit sees"
    )
    nets.add_argument("--conditional", action=flag, help="cGAN: the discriminator sees the source; without, GAN")
    nets.add_argument("--discriminator-channels", type=int, metavar="N", help="filters of its first level, 1 to 512")
    nets.add_argument("--spectral", action=flag, help="spectral norm in the discriminator in place of instance norm")

    goal = parser.add_argument_group("objective")
    goal.add_argument("--adversarial", choices=("cross-entropy", "least-squares", "hinge", "none"), help="the GAN term")
    goal.add_argument(
        "--adversarial-weight",
        type=float,
        metavar="W",
        help="of the patch discriminator's verdict, at least 0; 0: none",
    )
    goal.add_argument(
        "--projected-weight", type=float, metavar="W",
        help="of a second discriminator's verdict, which sees EfficientNet features (Sauer et al. 2021), at least 0",
    )  # fmt: skip
    goal.add_argument("--reconstruction", choices=("l1", "l2", "none"), help="the term that keeps near the target")
    goal.add_argument("--l1-weight", type=float, metavar="W", help="the paper's lambda, for L1 and L2 alike, at least 0")
    goal.add_argument(
        "--cycle-weight", type=float, metavar="W",
        help="of what a translation and the way back by the other direction change (L1), at least 0; needs both directions",
    )  # fmt: skip
    goal.add_argument("--feature-weight", type=float, metavar="W", help="feature matching in the discriminator, at least 0")
    goal.add_argument("--perceptual-weight", type=float, metavar="W", help="distance of EfficientNet features, at least 0")
    goal.add_argument(
        "--perceptual-source", type=float, nargs=2, metavar=("A", "B"),
        help="how much of the source's features that distance wants to find beside the target's, in photos and in sketches, "
        "0 (none) to 4",
    )  # fmt: skip
    goal.add_argument(
        "--close-ups", action=flag, help="let EfficientNet look at an enlarged part of each picture too, for both terms above"
    )
    goal.add_argument(
        "--discriminator-noise", type=float, metavar="S", help="noise on what it judges: deviation in model range, 0 to 1"
    )

    fit = parser.add_argument_group("optimisation")
    fit.add_argument("--num-epochs", type=int, metavar="N", help="passes over the pairs, at least 1")
    fit.add_argument("--max-steps", type=int, metavar="N", help="stop after N optimizer steps; the plan stays (default: no)")
    fit.add_argument(
        "--max-minutes", type=float, metavar="MIN",
        help="wall-clock budget of the whole run: the first steps are timed and the epochs are planned to fit (default: no)",
    )  # fmt: skip
    fit.add_argument("--batch-size", type=int, metavar="N", help="pairs a step and process, at least 1")
    fit.add_argument("--gradient-accumulation-steps", type=int, metavar="N", help="batches an optimizer step, at least 1")
    fit.add_argument("--learning-rate", type=float, metavar="LR", help="of the generator's Adam")
    fit.add_argument(
        "--discriminator-rate", type=float, metavar="R", help="the discriminators', in multiples of it, .01 to 100"
    )
    fit.add_argument("--adam-beta1", type=float, metavar="B", help="0 to below 1")
    fit.add_argument("--adam-beta2", type=float, metavar="B", help="0 to below 1")
    fit.add_argument(
        "--decay-start", type=float, metavar="F", help="share of the run after which the rate falls linearly to 0; 1: never"
    )
    fit.add_argument("--ema-decay", type=float, metavar="D", help="of the averaged generator, 0 (none) to below 1")
    fit.add_argument(
        "--mixed-precision", choices=("auto", "no", "bf16", "fp16"), help="auto: bf16 where the processor has it natively"
    )
    fit.add_argument("--compile", action=flag, help="compile the networks with torch.compile")
    fit.add_argument("--num-threads", type=int, metavar="N", help="processor threads a process (default: cores / processes)")

    keep = parser.add_argument_group("checkpoints, validation, reports")
    keep.add_argument(
        "--resume", nargs="?", const="latest", metavar="latest|DIR", help="go on from the newest state, or from a state folder"
    )
    keep.add_argument("--init-from", metavar="ID_OR_DIR", help="start from published weights (fine-tuning)")
    keep.add_argument("--init-revision", metavar="REV", help="branch, tag or commit of --init-from")
    keep.add_argument("--checkpoint-every", type=int, metavar="N", help="epochs between states, at least 1")
    keep.add_argument("--keep-checkpoints", type=int, metavar="N", help="newest states to keep, at least 1")
    keep.add_argument("--validate-every", type=int, metavar="N", help="epochs between validations, at least 1")
    keep.add_argument("--log-every", type=int, metavar="N", help="steps between readings of the losses, at least 1")
    keep.add_argument("--report-to", choices=("tensorboard", "wandb", "trackio", "none"), help="tracker beside metrics.jsonl")
    keep.add_argument("--eval-only", action="store_true", help="score --init-from, or the run in --output-dir, and stop")
    keep.add_argument("--push-to-hub", metavar="USER/NAME", help="push the model during training and at the end")
    keep.add_argument("--private", action=flag, help="make the pushed repository private")

    for action in parser._actions:
        if action.dest in DEFAULTS and DEFAULTS[action.dest] is not None and action.dest != "columns":
            action.help += f" (default: {_shown(DEFAULTS[action.dest])})"
        elif action.dest in PRESETS["lite"]:
            rows = [f"{name} {_shown(row[action.dest])}" for name, row in PRESETS.items() if row[action.dest] is not None]
            action.help += f" (default: {', '.join(rows)})"
    return parser


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def complete(given: dict[str, Any], stored: dict[str, Any] | None = None) -> dict[str, Any]:
    """Fill in what was not given: from the stored run if there is one, else from the preset and the defaults.

    Args:
        given: What the command line says.
        stored: The arguments of the run that goes on.

    Raises:
        ValueError: If a value is out of its range, or a resumed run is asked to compute something else.
    """
    if stored is not None:
        for name, value in given.items():
            if name not in CHANGEABLE and value != stored.get(name):
                flag = "--" + name.replace("_", "-")
                raise ValueError(
                    f"{flag} cannot change on resume: the run has {stored.get(name)}, got {value}; "
                    "leave it out, or start a new run"
                )
        once = {"resume": None, "eval_only": False, "max_steps": None}  # what was asked of one start, not of the run
        complete = {**DEFAULTS, **PRESETS[stored["preset"]], **stored, **once, **given}
        if "num_epochs" in given:
            complete["planned_epochs"] = given["num_epochs"]
    else:
        preset = given.get("preset", DEFAULTS["preset"])
        complete = {**DEFAULTS, **PRESETS[preset], **given, "planned_epochs": None}
        complete["epochs_given"] = "num_epochs" in given
    check(complete)
    return complete


def check(args: dict[str, Any]) -> None:
    """Judge the ranges of all numbers.

    Raises:
        ValueError: With the flag, the rule and what came.
    """
    ranges: dict[str, tuple[float, float]] = {
        "seed": (0, 2**31),
        "max_pairs": (2, 10**9),
        "max_pixels": (256, 10**9),
        "validation_fraction": (0, 0.5),
        "jitter": (1, 2),
        "max_rotation": (0, 45),
        "max_warp": (0, 64),
        "max_tone": (0, 1),
        "max_stroke": (0, 1),
        "outline_share": (0, 1),
        "background_share": (0, 1),
        "wedge_share": (0, 1),
        "num_workers": (0, 64),
        "base_channels": (1, 512),
        "max_channels": (1, 2048),
        "num_downsamples": (1, 10),
        "head_channels": (0, 256),
        "dropout": (0, 0.99),
        "discriminator_channels": (1, 512),
        "adversarial_weight": (0, 1e6),
        "projected_weight": (0, 1e6),
        "discriminator_rate": (0.01, 100),
        "l1_weight": (0, 1e6),
        "cycle_weight": (0, 1e6),
        "feature_weight": (0, 1e6),
        "perceptual_weight": (0, 1e6),
        "discriminator_noise": (0, 1),
        "num_epochs": (1, 10**6),
        "max_steps": (1, 10**9),
        "max_minutes": (0.01, 10**6),
        "batch_size": (1, 4096),
        "gradient_accumulation_steps": (1, 4096),
        "learning_rate": (1e-8, 1),
        "adam_beta1": (0, 0.9999),
        "adam_beta2": (0, 0.999999),
        "decay_start": (0, 1),
        "ema_decay": (0, 0.99999),
        "num_threads": (1, 1024),
        "checkpoint_every": (1, 10**6),
        "keep_checkpoints": (1, 10**6),
        "validate_every": (1, 10**6),
        "log_every": (1, 10**6),
    }
    for name, (low, high) in ranges.items():
        value = args[name]
        if value is not None and not low <= value <= high:
            raise ValueError(f"--{name.replace('_', '-')} must be from {low:g} to {high:g}, got {value:g}")
    noise = args["noise_channels"]
    if not all(0 <= count <= 16 for count in noise):
        raise ValueError(f"--noise-channels must be from 0 to 16, got {' '.join(map(str, noise))}")
    pull = args["perceptual_source"]
    if not all(0 <= share <= 4 for share in pull):
        raise ValueError(f"--perceptual-source must be from 0 to 4, got {' '.join(f'{share:g}' for share in pull)}")
    size = args["image_size"]
    if size is not None and (len(size) > 2 or min(size) < 16):
        raise ValueError(
            f"--image-size must be one number or height and width, at least 16 each, got {' '.join(map(str, size))}"
        )
    if args["streaming"] and args["num_workers"]:
        raise ValueError(f"--streaming reads in a thread of its own; give --num-workers 0, got {args['num_workers']}")
    has_reconstruction = args["reconstruction"] != "none" and args["l1_weight"] > 0
    if args["adversarial"] == "none" and not has_reconstruction and not args["perceptual_weight"]:
        raise ValueError("--adversarial none without a reconstruction or perceptual term leaves nothing to learn; give one")
    if args["cycle_weight"] and (args["direction"] != "both" or not args["ema_decay"]):
        raise ValueError(
            "--cycle-weight needs the averaged generators of both directions; give --direction both and --ema-decay above 0"
        )
    if args["push_to_hub"] is not None and args["push_to_hub"].count("/") != 1:
        raise ValueError(f"--push-to-hub must be USER/NAME, got {args['push_to_hub']!r}")


def read_arguments(run_folder: Path) -> dict[str, Any]:
    """The stored arguments of a run.

    Raises:
        ValueError: If the folder holds no run.
    """
    path = run_folder / ARGUMENTS_NAME
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"'{run_folder}' holds no run ({ARGUMENTS_NAME} is missing); check --output-dir") from error
    except ValueError as error:
        raise ValueError(f"'{path}' is damaged ({error}); restore it, or start a new run") from error


def explicit(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """What a command line says, without defaults. Paths become strings, as they are stored."""
    given = vars(parser().parse_args(argv))
    return {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
