"""Model cards: what a run folder is, how to use it, how it came about and what it scores, written from its records."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from safetensors import SafetensorError, safe_open

from pix2pix.directions import DIRECTIONS
from pix2pix.files import write_text

CARD_NAME = "README.md"
MODEL_FILES = ("config.json", "model.safetensors")

# Its words stay as they are: cards that lie in run folders and on the Hub are known by them.
_MARK = "<!-- Written by pix2pix.hub from the records of the run. Delete this line, and your own changes will be kept. -->"


class HubError(RuntimeError):
    """Something on the way to the Hub that the user can mend: one sentence with a remedy, never with the token."""


class Metric(NamedTuple):
    """How a score is shown."""

    name: str
    arrow: str
    digits: int


METRICS = {
    "mae": Metric("MAE (0 to 255)", "↓", 1),
    "psnr": Metric("PSNR (dB)", "↑", 1),
    "ssim": Metric("SSIM", "↑", 3),
    "fsim": Metric("FSIM", "↑", 3),
    "perceptual": Metric("perceptual distance", "↓", 3),
    "lpips": Metric("LPIPS (VGG16)", "↓", 3),
    "kid1000": Metric("KID x 1000", "↓", 0),
    "fid": Metric("FID", "↓", 0),
    "rank1": Metric("identity rank-1", "↑", 2),
}
FLOORS = {
    "mean_picture": "floor: the mean training picture",
    "another_person": "floor: another person's picture",
    "input": "floor: the input itself",
}

# The arguments that decide what is learnt. Those that name folders or describe a machine are nobody's business.
RECIPE = (
    "preset",
    "image_size",
    "channels",
    "jitter",
    "mirror",
    "max_rotation",
    "max_warp",
    "max_tone",
    "max_stroke",
    "outline_share",
    "background_share",
    "wedge_share",
    "fill_wedges",
    "validation_fraction",
    "max_pairs",
    "base_channels",
    "max_channels",
    "num_downsamples",
    "skips",
    "upsampling",
    "head_channels",
    "noise_channels",
    "smooth",
    "dropout",
    "receptive_field",
    "conditional",
    "discriminator_channels",
    "spectral",
    "discriminator_noise",
    "adversarial",
    "adversarial_weight",
    "projected_weight",
    "reconstruction",
    "l1_weight",
    "cycle_weight",
    "feature_weight",
    "perceptual_weight",
    "perceptual_source",
    "close_ups",
    "batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "discriminator_rate",
    "adam_beta1",
    "adam_beta2",
    "decay_start",
    "ema_decay",
    "max_steps",
    "max_minutes",
    "mixed_precision",
    "seed",
)

_DOES = {
    "photo2sketch": "draws a pencil sketch of a photo of a face",
    "sketch2photo": "paints a photo of a face from a pencil sketch",
}


class _Scores(NamedTuple):
    """Measured scores of one direction on one split, with the floors to read them against."""

    direction: str
    dataset: Any
    split: str
    mean: dict[str, float]
    floors: dict[str, dict[str, float]]
    interval: dict[str, Sequence[float]]
    note: str


class _Named(NamedTuple):
    """What the card calls a data set; `identifier` is for the model index."""

    name: str
    identifier: str
    hub_id: str | None


def model_card(run_folder: str | Path, repo_id: str | None = None, *, scores: Iterable[str | Path] = ()) -> ModelCard:
    """Describe a run folder, or a model folder made by hand: what it is, how to use it, how it came about, its scores.

    Validation scores are those of the best epoch in `metrics.jsonl`; test scores are read from `scores/*.json` in the
    folder and from `scores`. Whatever the folder does not tell is left out, or said to be unknown.

    Args:
        run_folder: The folder with `photo2sketch/`, `sketch2photo/` or both.
        repo_id: "user/name", for the lines of code.
        scores: Files written by `python -m pix2pix.evaluate`.

    Raises:
        HubError: If the folder holds no model, or a file of records is damaged.
    """
    folder = Path(run_folder)
    networks = {direction: _network_line(folder / direction) for direction in directions_in(folder)}
    arguments = _read_json(folder / "arguments.json") if (folder / "arguments.json").is_file() else {}
    lines = _read_lines(folder / "metrics.jsonl")
    files = [*sorted((folder / "scores").glob("*.json")), *map(Path, scores)]
    measured = [
        *_validation(lines, networks, arguments.get("dataset") if arguments else "unknown"),
        *(_test(file) for file in files),
    ]

    name = repo_id or "user/name"
    title = name.split("/")[-1] if repo_id else "A pix2pix model"
    first = next(iter(networks))
    source = first.split("2")[0]
    sections = [
        _MARK,
        f"# {title}",
        f"{'Two image translators' if len(networks) == 2 else 'An image translator'} for faces, trained on pairs of "
        "pictures with the conditional GAN of [pix2pix](https://arxiv.org/abs/1611.07004):",
        "\n".join(f"- `{direction}` {_DOES[direction]}. {line}." for direction, line in networks.items()),
        _picture(folder / "grid.png", "Pictures of people held out of training, with the translations"),
        "## How to use",
        "Install the package (`pip install .` in a copy of the project, or `pip install git+` and its address), then:",
        "```python\n"
        "from PIL import Image\n"
        "from pix2pix import Translator\n\n"
        f'translator = Translator.from_pretrained("{name}", "{first}")\n'
        f'picture = translator(Image.open("{source}.jpg"))\n'
        'picture.save("translated.png")\n'
        "```",
        "On the command line, and as a page in the browser:",
        "```bash\n"
        f"python -m pix2pix.translate --model {name} --direction {first} {source}.jpg --output translated\n"
        f"PIX2PIX_MODEL={name} python space/app.py\n"
        "```",
        "Pictures of any size and mode go in; the same size comes out. `align=True` (`--align`) finds the face and "
        "brings it to the geometry of the training pictures first, which most photos need.",
        "## Data",
        _data_text(arguments),
        "## Recipe",
        _recipe(arguments, lines),
        _picture(folder / "curves.png", "Losses and scores over the epochs"),
        "## Scores",
        _score_tables(measured),
        "## Limits",
        "Not for identification of people: a translation is a guess that looks like the training faces, no evidence of "
        "what anybody looks like. Trained on few people, it takes after them in age, skin, hair, light and pose, does "
        "worse the further a picture is from that, and invents what the source does not show.",
    ]
    metadata = _metadata(title, arguments, measured).to_yaml()
    return ModelCard("\n\n".join([f"---\n{metadata}\n---", *filter(None, sections)]) + "\n")


def write_card(run_folder: str | Path, repo_id: str | None = None, *, scores: Iterable[str | Path] = ()) -> Path:
    """Write `README.md` into the folder, whole or not at all, and return its path. A card edited by hand is kept.

    Raises:
        HubError: As `model_card`; or if scores are given but the card has been edited by hand.
    """
    path = Path(run_folder) / CARD_NAME
    write_text(path, card_text(Path(run_folder), repo_id, list(scores)))
    return path


def directions_in(folder: str | Path) -> list[str]:
    """The directions that a folder holds weights for.

    Raises:
        HubError: If there is none, or one is incomplete.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise HubError(f"model '{folder}' is not a folder; give a run folder written by train.py")
    found = []
    for direction in DIRECTIONS:
        present = [name for name in MODEL_FILES if (folder / direction / name).is_file()]
        if len(present) == 1:
            missing = next(name for name in MODEL_FILES if name not in present)
            raise HubError(f"model '{folder}' has {direction}/{present[0]} but no {direction}/{missing}; both are needed")
        if present:
            found.append(direction)
    if not found:
        raise HubError(f"model '{folder}' holds neither {' nor '.join(f'{d}/' for d in DIRECTIONS)}; give a run folder")
    return found


def card_text(folder: Path, repo_id: str | None, scores: list[str | Path]) -> str:
    """The card that a folder should have: a new one, or the one that is there and must be kept.

    Raises:
        HubError: As `write_card`.
    """
    path = folder / CARD_NAME
    if path.is_file():
        text = path.read_text(encoding="utf-8", errors="replace")
        if _MARK not in text:
            if scores:
                raise HubError(
                    f"'{path}' is not the card that pix2pix.hub wrote, so no scores are put into it; delete it first"
                )
            return text
        if not scores and not any((folder / name).exists() for name in ("arguments.json", "metrics.jsonl", "scores")):
            return text  # a pulled model: the records that its card was made of are elsewhere
    return str(model_card(folder, repo_id, scores=scores))


def _picture(file: Path, words: str) -> str:
    return f"![{words}]({file.name})" if file.is_file() else ""


def _network_line(folder: Path) -> str:
    """The shape of a network in words, from its config and the header of its weights."""
    config = _read_json(folder / "config.json")
    try:
        with safe_open(folder / "model.safetensors", framework="np") as file:
            count = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise HubError(f"'{folder / 'model.safetensors'}' is damaged ({error}); train or download it again") from error
    words = [f"{count:,} parameters"]
    size = config.get("image_size")
    if isinstance(size, list) and len(size) == 2:
        words.append(f"trained at {size[1]} x {size[0]} pixels (width x height)")
    kinds = {1: "grey", 3: "colour"}
    ends = [kinds.get(config.get(key)) for key in ("in_channels", "out_channels")]
    if all(ends):
        words.append(f"{ends[0]} to {ends[1]}")
    return ", ".join(words)


def _hub_id(name: Any) -> str | None:
    is_id = isinstance(name, str) and re.fullmatch(r"[\w][\w.-]*/[\w][\w.-]*", name) and not Path(name).exists()
    return name if is_id else None


def _named(dataset: Any) -> _Named:
    if dataset in (None, "drawn faces"):
        return _Named("drawn faces", "drawn-faces", None)
    hub_id = _hub_id(dataset)
    # Of a folder only its own name is told, not where it lies.
    return _Named(hub_id, hub_id, hub_id) if hub_id else _Named(Path(str(dataset)).name, "local-pairs", None)


def _data_text(arguments: dict[str, Any]) -> str:
    if not arguments:
        return "The folder does not say what it was trained on; its size and its terms are unknown to this card."
    named = _named(arguments.get("dataset"))
    if named.identifier == "drawn-faces":
        words = ["The drawn faces that come with the package: made by a program, they show no person."]
    elif named.hub_id:
        revision = arguments.get("dataset_revision")
        where = f"[{named.name}](https://huggingface.co/datasets/{named.hub_id})"
        words = [f"The data set {where}{f', revision `{revision}`' if revision else ''}."]
    else:
        words = [f"A local folder of pairs, `{named.name}`."]
    counted = {"train_pairs": "pairs to train on", "validation_pairs": "of other people to validate on"}
    counts = [f"{arguments[key]} {what}" for key, what in counted.items() if isinstance(arguments.get(key), int)]
    if counts:
        words.append(" and ".join(counts) + ".")
    columns = arguments.get("columns") or ["photo", "sketch"]
    if list(columns) != ["photo", "sketch"]:
        words.append(f"Its `{columns[0]}` stands for photo, its `{columns[1]}` for sketch.")
    if named.identifier != "drawn-faces":
        words.append("Its terms are not known to this card: ask its makers before you use the model in earnest.")
    return " ".join(words)


def _recipe(arguments: dict[str, Any], lines: list[dict[str, Any]]) -> str:
    epochs = max((line["epoch"] for line in lines if isinstance(line.get("epoch"), int)), default=None)
    planned = arguments.get("planned_epochs") or arguments.get("num_epochs")
    words = []
    if epochs is not None:
        words.append(f"Trained for {epochs} epochs" + (f" of {planned} planned." if planned else "."))
    elif planned:
        words.append(f"Planned for {planned} epochs.")
    start = arguments.get("init_from")
    if start:
        words.append(f"Started from the weights of {f'`{start}`' if _hub_id(start) else 'a local model'}.")
    rows = [f"| `--{key.replace('_', '-')}` | {_shown(arguments[key])} |" for key in RECIPE if arguments.get(key) is not None]
    if rows:
        words.append("Both networks were optimised by Adam, with `accelerate launch train.py` and these arguments:")
    text = " ".join(words) or "The folder does not say how it was trained."
    return text + ("\n\n| argument | value |\n|---|---|\n" + "\n".join(rows) if rows else "")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value).replace("|", "\\|")


def _validation(lines: list[dict[str, Any]], networks: Iterable[str], dataset: Any) -> list[_Scores]:
    found = []
    for direction in networks:
        scored = [line for line in lines if line.get("kind") == "validation" and line.get("direction") == direction]
        if not scored:
            continue
        best = ([line for line in scored if line.get("best")] or scored)[-1]  # each line marked best beat the ones before
        floors = [line for line in lines if line.get("kind") == "floors" and line.get("direction") == direction]
        rows = {name: _numbers(row) for name, row in (floors[-1] if floors else {}).items() if isinstance(row, dict)}
        mean = {name: value for name, value in _numbers(best).items() if name in METRICS}
        note = f"people held out of the training pairs, epoch {best.get('epoch', 'unknown')}, the one that is kept"
        found.append(_Scores(direction, dataset, "validation", mean, rows, {}, note))
    return found


def _test(file: Path) -> _Scores:
    record = _read_json(file)
    direction = record.get("direction", file.stem)
    if direction not in DIRECTIONS or not isinstance(record.get("mean"), dict):
        raise HubError(f"scores '{file}' name no direction or no mean; give a file written by `python -m pix2pix.evaluate`")
    floors = {name: _numbers(row) for name, row in (record.get("floors") or {}).items() if isinstance(row, dict)}
    interval = {
        name: pair for name, pair in (record.get("interval") or {}).items() if isinstance(pair, list) and len(pair) == 2
    }
    count = record.get("n")
    note = f"{count} pictures" if isinstance(count, int) else "number of pictures not stated"
    dataset = record.get("dataset", "unknown")
    note += "" if dataset == "unknown" else f" of {_named(dataset).name}"
    return _Scores(direction, dataset, str(record.get("split") or "test"), _numbers(record["mean"]), floors, interval, note)


def _numbers(record: dict[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in record.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _score_tables(measured: list[_Scores]) -> str:
    if not measured:
        return "None have been measured yet."
    parts = ["Scores say little without floors: what needs no model at all reaches those rows. ↑ higher is better, ↓ lower."]
    for scores in measured:
        names = sorted(scores.mean, key=lambda name: [*METRICS, name].index(name))
        rows = [("this model", scores.mean), *((FLOORS.get(n, f"floor: {n}"), row) for n, row in scores.floors.items())]
        heads = [f"{METRICS[name].name} {METRICS[name].arrow}" if name in METRICS else name for name in names]
        table = [f"| | {' | '.join(heads)} |", "|---" * (len(names) + 1) + "|"]
        for label, row in rows:
            cells = [_cell(name, row.get(name), scores.interval.get(name) if row is scores.mean else None) for name in names]
            table.append(f"| {label} | {' | '.join(cells)} |")
        parts.append(f"`{scores.direction}`, {scores.split} ({scores.note}):\n\n" + "\n".join(table))
    return "\n\n".join(parts)


def _cell(name: str, value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return "–"
    digits = METRICS[name].digits if name in METRICS else 4
    return f"{value:.{digits}f}" + (f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]" if interval else "")


def _metadata(title: str, arguments: dict[str, Any], measured: list[_Scores]) -> ModelCardData:
    trained_on = _named(arguments.get("dataset")) if arguments else _Named("unknown", "unknown", None)
    is_drawn = trained_on.identifier == "drawn-faces"
    results = [
        EvalResult(
            task_type="image-to-image",
            task_name=scores.direction,
            dataset_type=_named(scores.dataset).identifier,
            dataset_name=_named(scores.dataset).name,
            dataset_config=scores.direction,  # the Hub groups results by data set: this keeps the directions apart
            dataset_split=scores.split,
            metric_type=name,
            metric_name=METRICS[name].name if name in METRICS else name,
            metric_value=round(value, 4),
        )
        for scores in measured
        for name, value in scores.mean.items()
    ]
    more: dict[str, Any] = {} if is_drawn else {"license_name": "terms-of-the-training-data"}
    return ModelCardData(
        license="apache-2.0" if is_drawn else "other",
        library_name="pix2pix",
        pipeline_tag="image-to-image",
        tags=["pix2pix", "image-to-image", "conditional-gan", "face", "sketch"],
        datasets=[trained_on.hub_id] if trained_on.hub_id else None,
        base_model=_hub_id(arguments.get("init_from")),
        model_name=title if results else None,
        eval_results=results or None,
        **more,
    )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise HubError(f"'{file}' cannot be read ({error.strerror or error}); check the path") from error
    except ValueError as error:
        raise HubError(f"'{file}' is not JSON ({error}); restore it, or remove it") from error
    if not isinstance(record, dict):
        raise HubError(f"'{file}' must hold an object, got a {type(record).__name__}; restore it, or remove it")
    return record


def _read_lines(file: Path) -> list[dict[str, Any]]:
    """The lines of a JSON-lines file; a line that a killed process left half-written is passed over."""
    records = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records
