"""Model cards, and the way of a run folder to the Hub: staged, retried, in the background; the token is never told.

A model repository holds what a run folder holds of a finished model: the two directions, the card and its pictures.
Training state, logs, the last epoch's weights and `arguments.json` (it names folders of your machine) stay behind; the
card says what matters of them.
"""

import json
import logging
import math
import re
import shlex
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from huggingface_hub import CommitInfo, EvalResult, HfApi, ModelCard, ModelCardData, get_session
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars, get_token, httpx, validate_repo_id
from safetensors import SafetensorError, safe_open

from pix2pix.directions import DIRECTIONS
from pix2pix.files import whole_folder, write_text
from pix2pix.generator import UNetGenerator

logger = logging.getLogger(__name__)

CARD_NAME = "README.md"
PICTURES = ("grid.png", "curves.png")
MODEL_FILES = ("config.json", "model.safetensors")

TRIES = 5
FIRST_WAIT = 1.0  # seconds; doubled after each try
MAX_WAIT = 120.0  # seconds, also when the Hub asks for more
STALL = 300.0  # seconds without a byte, after which a try counts as failed; the client itself would wait for ever
FINISH_TIMEOUT = 900.0  # seconds that the end of a training waits for its last push

_MARK = "<!-- Written by pix2pix.hub from the records of the run. Delete this line, and your own changes will be kept. -->"

_PASSING = (408, 409, 412, 425, 429, 500, 502, 503, 504)  # 409, 412: somebody else's commit came in between
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN, with a token that may write"

_T = TypeVar("_T")


class HubError(RuntimeError):
    """Something on the way to the Hub that the user can mend: one sentence with a remedy, never with the token."""


# --- the card


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
    "kid1000": Metric("KID x 1000", "↓", 0),
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
    write_text(path, _card_text(Path(run_folder), repo_id, list(scores)))
    return path


def hand_over(model: str | Path, folder: str | Path, *, half: bool = False, scores: Iterable[str | Path] = ()) -> None:
    """Write a model folder that holds the directions of a run and its card, and nothing else: no picture, no record.

    Args:
        model: The run folder.
        folder: Where to; written whole or not at all, replacing what was there.
        half: Whether the weights are stored in half precision. They are used in single precision all the same.
        scores: As for `model_card`.

    Raises:
        HubError: As `model_card`.
        ModelError: If the weights cannot be loaded.
    """
    model = Path(model)
    with whole_folder(folder) as temporary:
        for direction in directions_in(model):
            generator = UNetGenerator.from_pretrained(model, subfolder=direction)
            generator.save_pretrained(temporary / direction, dtype=torch.float16 if half else None)
        records = [model / name for name in ("arguments.json", "metrics.jsonl") if (model / name).is_file()]
        for record in records:  # the card is made of them, and tells what it tells of them
            shutil.copyfile(record, temporary / record.name)
        write_card(temporary, scores=scores)
        for record in records:
            (temporary / record.name).unlink()


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


def _card_text(folder: Path, repo_id: str | None, scores: list[str | Path]) -> str:
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


# --- the way to the Hub


def push(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    revision: str | None = None,
    message: str = "Upload model",
    scores: Iterable[str | Path] = (),
) -> CommitInfo:
    """Upload a model: both directions, the card and its pictures. The repository and the branch are made when missing.

    What is uploaded is copied first, so the folder may change meanwhile. Passing faults are retried, with growing waits
    or the ones that the Hub asks for.

    Args:
        folder: A run folder or a folder of the same shape.
        repo_id: "user/name".
        private: Whether only you may see it. A repository that exists and is public is refused then.
        token: Hub token; by default `HF_TOKEN`, or the one stored by `hf auth login`.
        revision: Branch to commit to; by default "main".
        message: The commit's title.
        scores: Files written by `python -m pix2pix.evaluate`, for the card.

    Returns:
        The commit: `.oid` is its sha, `.repo_url` the page of the repository.

    Raises:
        HubError: If the folder holds no model, or the Hub refuses it or cannot be reached.
    """
    with _staged(Path(folder), repo_id, list(scores)) as staged:
        api = _api(token)
        _make_repository(api, repo_id, private=private, revision=revision)
        return _upload(api, Path(staged), repo_id, revision, message)


def push_space(
    folder: str | Path,
    repo_id: str,
    *,
    sdk: str,
    mark: str,
    private: bool = False,
    token: str | None = None,
    message: str = "Publish the page",
) -> CommitInfo:
    """Make a Space, or bring one that was published before to exactly the content of a folder.

    Args:
        folder: What the Space's repository is to hold, with its card.
        repo_id: "user/name".
        sdk: "gradio" or "static".
        mark: A line of the cards of Spaces that may be overwritten.
        private: Whether only you may see it. A Space that exists and is public is refused then.
        token: As for `push`.
        message: The commit's title.

    Returns:
        The commit: `.oid` is its sha, `.repo_url` the page of the repository.

    Raises:
        HubError: If the Space holds something else, or the Hub refuses it or cannot be reached.
    """
    api = _api(token)
    _make_repository(api, repo_id, private=private, revision=None, kind="space", sdk=sdk)

    def holds_something_else() -> bool:
        files = set(api.list_repo_files(repo_id, repo_type="space"))
        if CARD_NAME in files:
            card = api.hf_hub_download(repo_id, CARD_NAME, repo_type="space")
            if mark in Path(card).read_text(encoding="utf-8", errors="replace"):
                return False
        return bool(files - {CARD_NAME, ".gitattributes"})

    if _persistently(holds_something_else, api, repo_id):
        raise HubError(f"Space {repo_id} holds something that was not published from here; take a new name, or empty it")

    def upload() -> CommitInfo:
        return api.upload_folder(
            repo_id=repo_id, repo_type="space", folder_path=folder, commit_message=message, delete_patterns="*"
        )

    return _persistently(upload, api, repo_id)


def check_login(repo_id: str) -> None:
    """Make sure, before work that ends in a push, that the Hub is there and knows the token. Nothing is made yet.

    Raises:
        HubError: If it does not, or the name of the repository cannot be one.
    """
    _require_repo_id(repo_id)
    api = _api(None)
    _persistently(api.whoami, api, repo_id)


def push_dataset(folder: str | Path, repo_id: str, *, private: bool = False, message: str = "Upload pairs") -> CommitInfo:
    """Upload a data set in one commit, and remove what an older version left in `data/`; passing faults are retried.

    Args:
        folder: What `pix2pix.prepare` wrote: `data/` and the card.
        repo_id: "user/name".
        private: Whether only you may see it. A repository that exists and is public is refused then.
        message: The commit's title.

    Returns:
        The commit: `.repo_url` is the page of the data set.

    Raises:
        HubError: If the Hub refuses it or cannot be reached.
    """
    api = _api(None)
    _make_repository(api, repo_id, private=private, revision=None, kind="dataset")

    def upload() -> CommitInfo:
        return api.upload_folder(
            repo_id=repo_id, repo_type="dataset", folder_path=folder, commit_message=message, delete_patterns=["data/*"]
        )

    return _persistently(upload, api, repo_id)


class Pusher:
    """Pushes a run folder while it is being trained on, without holding training up and without ever ending it.

        pusher = Pusher(folder, "user/name")
        pusher.check()
        ...
        pusher.start("Epoch 5")
        ...
        warning = pusher.finish("End of training")

    One push is under way at a time; of those asked for meanwhile, the newest follows.

    Args:
        folder: The run folder.
        repo_id: "user/name".
        private: As for `push`.
        token: As for `push`.
    """

    def __init__(self, folder: str | Path, repo_id: str, *, private: bool = False, token: str | None = None) -> None:
        self.folder, self.repo_id, self.private = Path(folder), repo_id, private
        self._api = _api(token)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._waiting: tuple[tempfile.TemporaryDirectory, str] | None = None
        self._failure: str | None = None

    def check(self) -> str:
        """Make sure, before training, that pushing will be allowed; returns the page of the repository.

        Raises:
            HubError: If the token is missing or refused, or the repository may not be made or written to.
        """
        disable_progress_bars()  # those of an upload would be drawn across training's own
        _make_repository(self._api, self.repo_id, private=self.private, revision=None)
        return f"{self._api.endpoint}/{self.repo_id}"

    def start(self, message: str) -> None:
        """Copy what the folder holds now and push it in the background. Call it from the thread that writes the folder.

        A failure is logged as a warning; nothing is raised.
        """
        failure = self._enqueue(message)
        if failure is not None:
            logger.warning("push to %s failed: %s", self.repo_id, failure)

    def finish(self, message: str, *, timeout: float = FINISH_TIMEOUT) -> str | None:
        """Push what the folder holds now and wait for the end of it.

        Args:
            message: The commit's title.
            timeout: How long to wait, in seconds.

        Returns:
            None if the push succeeded, else a warning that says why not, and how to repeat it by hand.
        """
        failure = self._enqueue(message)
        if failure is None:
            with self._lock:
                thread = self._thread
            if thread is not None:
                thread.join(timeout)
                failure = f"it was not through after {timeout:.0f} seconds" if thread.is_alive() else self._failure
            else:
                failure = self._failure
        if failure is None:
            return None
        command = ["python", "-m", "pix2pix.publish", "--model", str(self.folder), "--repo", self.repo_id]
        command += ["--private"] if self.private else []
        return (
            f"the push to {self.repo_id} failed: {failure}. Nothing is lost, the model is in '{self.folder}'; "
            f"to push it, run: {shlex.join(command)}"
        )

    def _enqueue(self, message: str) -> str | None:
        """Stage the folder and see to it that somebody pushes it; returns why that failed, if it did."""
        try:
            staged = _staged(self.folder, self.repo_id, [])
        except HubError as error:
            return str(error)
        with self._lock:
            if self._waiting is not None:
                self._waiting[0].cleanup()
            self._waiting = (staged, message)
            if self._thread is None:
                # A daemon: a process that is told to end does not wait for the Hub.
                self._thread = threading.Thread(target=self._work, name="push", daemon=True)
                self._thread.start()
        return None

    def _work(self) -> None:
        while True:
            with self._lock:
                if self._waiting is None:
                    self._thread = None
                    return
                (staged, message), self._waiting = self._waiting, None
            try:
                with staged as folder:
                    _upload(self._api, Path(folder), self.repo_id, None, message)
                self._failure = None
            except HubError as error:
                self._failure = str(error)
            except Exception as error:  # whatever it is, training goes on and the user hears of it
                self._failure = _without_token(f"{type(error).__name__}: {error}", self._api)
            if self._failure is not None:
                logger.warning("push to %s failed: %s", self.repo_id, self._failure)


def _api(token: str | None) -> HfApi:
    token = token.strip() if token is not None else None
    # Such a token cannot travel in a header, and the error about that would quote it.
    if token is not None and not re.fullmatch(r"[!-~]+", token):
        raise HubError(f"the token is empty or holds characters that no token has; {_LOG_IN}")
    return HfApi(token=token)


def _staged(folder: Path, repo_id: str, scores: list[str | Path]) -> tempfile.TemporaryDirectory:
    """Copy what a repository gets of a folder, and write the card beside it."""
    _require_repo_id(repo_id)
    directions = directions_in(folder)
    staged = tempfile.TemporaryDirectory(prefix="pix2pix-push-")
    try:
        target = Path(staged.name)
        for direction in directions:
            (target / direction).mkdir()
            for name in MODEL_FILES:
                shutil.copyfile(folder / direction / name, target / direction / name)
        for name in PICTURES:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, target / name)
        write_text(target / CARD_NAME, _card_text(folder, repo_id, scores))
    except OSError as error:
        staged.cleanup()
        raise HubError(
            f"model '{folder}' could not be copied ({error.strerror or error}); make room, then try again"
        ) from error
    except HubError:
        staged.cleanup()
        raise
    return staged


def _require_repo_id(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        is_valid = False
    else:
        is_valid = repo_id.count("/") == 1
    if not is_valid:
        raise HubError(f"repository must be USER/NAME of letters, digits, '-', '_' and '.', got {repo_id!r}")


def _make_repository(
    api: HfApi, repo_id: str, *, private: bool, revision: str | None, kind: str = "model", sdk: str | None = None
) -> None:
    """Make a repository of a kind ("model", "dataset", "space") unless it is there, and see that it may be written to."""
    _require_repo_id(repo_id)

    def make() -> bool:
        api.whoami()  # of all requests, this one tells a bad token from a missing repository
        api.create_repo(repo_id, repo_type=kind, space_sdk=sdk, private=private or None, exist_ok=True)
        api.auth_check(repo_id, repo_type=kind, write=True)  # a repository that exists may be somebody else's
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        return bool(api.repo_info(repo_id, repo_type=kind).private)

    if private and not _persistently(make, api, repo_id):
        raise HubError(f"repository {repo_id} exists and is public; make it private on its settings page, or take a new name")
    if not private:
        _persistently(make, api, repo_id)


def _upload(api: HfApi, staged: Path, repo_id: str, revision: str | None, message: str) -> CommitInfo:
    def upload() -> CommitInfo:
        return api.upload_folder(repo_id=repo_id, folder_path=staged, revision=revision, commit_message=message)

    return _persistently(upload, api, repo_id)


def _persistently(action: Callable[[], _T], api: HfApi, repo_id: str) -> _T:
    """Do it, again and again if the fault is one that passes, and turn the last fault into a `HubError`."""
    for attempt in range(TRIES):
        try:
            get_session().timeout = httpx.Timeout(STALL)  # each time: the client makes a new session after some faults
            return action()
        except (httpx.HTTPError, OSError, ValueError, RuntimeError) as error:
            fault = _root(error)
            wait = _wait_before_retry(fault, attempt)
            if wait is None or attempt == TRIES - 1:
                # Not chained: the client's own errors may quote headers, and so the token.
                raise HubError(_explained(fault, api, repo_id)) from None
        time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _root(error: BaseException) -> BaseException:
    """The fault inside the RuntimeError that the client wraps around failures of single files."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _is_connection_fault(error: BaseException) -> bool:
    return isinstance(error, httpx.TransportError | ConnectionError | TimeoutError)


def _wait_before_retry(error: BaseException, attempt: int) -> float | None:
    """Seconds to wait after try number `attempt` (from 0), or None if trying again is no use."""
    if isinstance(error, OfflineModeIsEnabled | LocalTokenNotFoundError):
        return None
    if _status(error) not in _PASSING and not _is_connection_fault(error):
        return None
    wait = FIRST_WAIT * 2**attempt
    if isinstance(error, HfHubHTTPError):
        asked = error.response.headers.get("Retry-After", "").strip()
        wait = float(asked) if asked.isdigit() else wait
    return min(wait, MAX_WAIT)


def _explained(error: BaseException, api: HfApi, repo_id: str) -> str:
    """One sentence for the user: what happened, and what to do."""
    status = _status(error)
    said = _without_token((getattr(error, "server_message", None) or "").strip().split("\n")[0][:200], api)
    if isinstance(error, LocalTokenNotFoundError):
        return f"there is no Hub token; {_LOG_IN}"
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so the Hub is not asked; unset it to push"
    if isinstance(error, RevisionNotFoundError):
        return f"repository {repo_id} has no such branch; give a branch, not a tag or commit"
    if status == 401:
        return f"the Hub refused the token (401); {_LOG_IN}"
    if status == 403:
        return f"the token may not write to {repo_id} (403); give a repository of yours, or a token with write access"
    if isinstance(error, RepositoryNotFoundError):
        return f"repository {repo_id} does not exist (404), or is private and not yours; check the name"
    if status == 429:
        return f"the Hub asks for fewer requests (429), also after {TRIES} tries; try again in some minutes"
    if status is not None and status >= 500:
        return f"the Hub is in trouble ({status}), also after {TRIES} tries; try again later"
    if status is not None:
        return f"the Hub refused {repo_id} ({status}: {said or 'no reason given'}); mend that, then try again"
    if _is_connection_fault(error):
        return f"the Hub at {api.endpoint} cannot be reached ({type(error).__name__}); check the connection"
    return _without_token(f"the upload to {repo_id} failed ({type(error).__name__}: {error})".replace("\n", " "), api)


def _without_token(text: str, api: HfApi) -> str:
    for token in (api.token, get_token()):
        if isinstance(token, str) and token:
            text = text.replace(token, "(token)")
    return re.sub(r"hf_\w{6,}", "(token)", text)
