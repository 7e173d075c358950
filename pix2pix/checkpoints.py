"""Training state on disk: networks, optimizers and progress, whole or absent, without a pickle.

A state is a folder: `state/epoch_0007` after seven epochs, `state/epoch_0007_step_00000012` twelve batches into the
eighth. It holds `networks.safetensors`, `optimizers.safetensors`, `progress.json`, and the best weights so far.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pix2pix.files import flush, whole_folder, write_tensors

_NAME = re.compile(r"epoch_(\d{4,})(?:_step_(\d{8,}))?")


class State(NamedTuple):
    """Where a state stands: whole epochs done, batches done of the next one, and its folder."""

    epoch: int
    batch: int
    folder: Path


def state_name(epoch: int, batch: int = 0) -> str:
    """The folder name of a state: `epoch_0007`, or `epoch_0007_step_00000012` in the middle of the eighth epoch."""
    return f"epoch_{epoch:04d}" + (f"_step_{batch:08d}" if batch else "")


def list_states(folder: Path) -> list[State]:
    """The states in a folder, oldest first; temporary ones (their names start with a dot) do not count."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match and path.is_dir():
            found.append(State(int(match[1]), int(match[2] or 0), path))
    return sorted(found)


def find_state(run_folder: Path, wanted: str) -> State:
    """The newest state of a run ("latest"), or the one in the folder `wanted`.

    Raises:
        ValueError: If there is none: a missing checkpoint is never a fresh start.
    """
    if wanted == "latest":
        states = list_states(run_folder / "state")
        if not states:
            raise ValueError(f"--resume found no state in '{run_folder / 'state'}'; check --output-dir, or start without it")
        return states[-1]
    path = Path(wanted)
    match = _NAME.fullmatch(path.name)
    if not match or not path.is_dir():
        raise ValueError(f"--resume '{wanted}' is not a state folder such as RUN/state/epoch_0007; give one, or latest")
    return State(int(match[1]), int(match[2] or 0), path)


def save_state(
    folder: Path,
    *,
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    progress: dict[str, Any],
    best: Mapping[str, Path],
) -> None:
    """Write a state; it appears under its name only when it is complete and flushed.

    Args:
        folder: Where, with a name from `state_name`.
        networks: Every module whose weights and buffers go on.
        optimizers: Their optimizers.
        progress: Plain numbers and texts: steps, scores, scaler.
        best: Folders with the best weights so far, by direction; linked where the disk can, since they never change.
    """
    weights, moments = tensors_of(networks, optimizers)
    groups = {
        key: [{k: v for k, v in group.items() if k != "params"} for group in optimizer.state_dict()["param_groups"]]
        for key, optimizer in optimizers.items()
    }
    with whole_folder(folder) as temporary:
        for name, tensors in (("networks", weights), ("optimizers", moments)):
            write_tensors(temporary / f"{name}.safetensors", {key: _plain(value) for key, value in tensors.items()})
        (temporary / "progress.json").write_text(json.dumps({**progress, "groups": groups}), encoding="utf-8")
        for direction, source in best.items():
            (temporary / "best" / direction).mkdir(parents=True)
            for file in source.iterdir():
                _link(file, temporary / "best" / direction / file.name)


def tensors_of(
    networks: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What a state holds, by name: the weights and buffers of networks, and the moments of their optimizers."""
    weights = {f"{key}/{name}": value for key, module in networks.items() for name, value in module.state_dict().items()}
    moments = {
        f"{key}/{index}/{name}": value
        for key, optimizer in optimizers.items()
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    return weights, moments


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or infinity; None if there is none."""
    verdicts = [value.isfinite().all() for value in tensors.values()]
    if not verdicts:
        return None
    # Fetched from the device at once: each fetch waits for it.
    are_finite = torch.stack([verdict.to(verdicts[0].device) for verdict in verdicts]).tolist()
    return next((name for name, is_finite in zip(tensors, are_finite, strict=True) if not is_finite), None)


def load_state(
    folder: Path, *, networks: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]
) -> dict[str, Any]:
    """Put a state back into networks and optimizers, strictly, and return its progress.

    Raises:
        ValueError: If the state is damaged, holds NaN or infinity, or belongs to other networks.
    """
    try:
        tensors = load_file(folder / "networks.safetensors")
        moments = load_file(folder / "optimizers.safetensors")
        progress = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"state '{folder}' is damaged ({error}); resume from an older one") from error
    if name := first_not_finite(tensors) or first_not_finite(moments):
        raise ValueError(f"state '{folder}' is damaged ({name} holds NaN or infinity); resume from an older one")
    try:
        for key, module in networks.items():
            prefix = f"{key}/"
            own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            module.load_state_dict(own, strict=True)
        for key, optimizer in optimizers.items():
            state = optimizer.state_dict()
            for group, stored in zip(state["param_groups"], progress["groups"][key], strict=True):
                group.update(stored)
            for name, value in moments.items():
                owner, index, moment = name.split("/")
                if owner == key:
                    state["state"].setdefault(int(index), {})[moment] = value
            optimizer.load_state_dict(state)
            for parameter, values in optimizer.state.items():
                for moment, value in values.items():
                    if value.shape == parameter.shape:
                        # The fused kernels walk parameter and moments in step: both need the same memory layout.
                        values[moment] = torch.empty_like(parameter).copy_(value)
    except (RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"state '{folder}' belongs to other networks ({reason}); resume with the run's own arguments"
        ) from error
    return progress


def prune_states(folder: Path, *, keep: int) -> None:
    """Delete all but the newest `keep` states; each leaves its name before its files go, so none is seen half-deleted."""
    for state in list_states(folder)[:-keep]:
        doomed = state.folder.with_name(f".{state.folder.name}-pruned")
        os.replace(state.folder, doomed)
        flush(folder)  # or, if the power fails, its files might be gone and its name not
        shutil.rmtree(doomed, ignore_errors=True)


def set_aside(folder: Path, *, after: State) -> None:
    """Make way for a run that goes on from `after`: later states get another name, what a kill left half-written goes.

    The later states belong to a course that is not gone on with; they are not deleted, and never resumed by "latest".
    """
    for leftover in folder.glob(".*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for state in list_states(folder):
        if (state.epoch, state.batch) > (after.epoch, after.batch):
            aside = state.folder.with_name(f"abandoned_{state.folder.name}")
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(state.folder, aside)


def restore_best(state: State, run_folder: Path) -> None:
    """Put the best weights back to what they were when the state was written."""
    for direction in state.folder.glob("best/*"):
        with whole_folder(run_folder / direction.name) as temporary:
            for file in direction.iterdir():
                _link(file, temporary / file.name)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()


def _link(source: Path, destination: Path) -> None:
    try:
        os.link(source, destination)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, destination)
