"""Folders as a training leaves them, with untrained networks in them."""

import json
from pathlib import Path

import torch
from PIL import Image

from pix2pix.generator import UNetGenerator

ARGUMENTS = {
    "preset": "lite",
    "dataset": None,
    "columns": ["photo", "sketch"],
    "train_pairs": 45,
    "validation_pairs": 5,
    "seed": 7,
    "batch_size": 4,
    "learning_rate": 2e-4,
    "l1_weight": 20.0,
    "adversarial": "least-squares",
    "conditional": True,
    "max_minutes": None,
    "planned_epochs": 12,
    "output_dir": "/home/somebody/secret-place",
    "report_to": "tensorboard",
}
FLOORS = {"mean_picture": {"mae": 30.0, "fsim": 0.6}, "input": {"mae": 60.0, "fsim": 0.5}}


def generator(seed: int = 0) -> UNetGenerator:
    torch.manual_seed(seed)
    return UNetGenerator(3, 1, base_channels=4, max_channels=8, num_downsamples=3, image_size=(25, 20))


def validation(epoch: int, direction: str, *, mae: float, best: bool) -> dict:
    scores = {"mae": mae, "psnr": 15.0, "ssim": 0.5, "fsim": 0.7}
    return {"kind": "validation", "epoch": epoch, "step": epoch, "direction": direction, **scores, "best": best}


def model_folder(folder: Path, *directions: str, seed: int = 0) -> Path:
    for direction in directions or ("photo2sketch", "sketch2photo"):
        generator(seed).save_pretrained(folder / direction)
    return folder


def run_folder(folder: Path, **arguments: object) -> Path:
    """What a training leaves behind, with all that must stay at home."""
    model_folder(folder)
    model_folder(folder / "last", seed=1)
    (folder / "arguments.json").write_text(json.dumps({**ARGUMENTS, **arguments}))
    lines = [{"kind": "train", "epoch": 9, "step": 99, "direction": "photo2sketch", "loss_d": 0.5}]
    for direction in ("photo2sketch", "sketch2photo"):
        lines.append({"kind": "floors", "direction": direction, **FLOORS})
        for epoch, mae, best in ((3, 25.04, True), (6, 21.04, True), (9, 23.04, False)):
            lines.append(validation(epoch, direction, mae=mae, best=best))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "val')
    Image.new("RGB", (8, 8)).save(folder / "grid.png")
    Image.new("RGB", (8, 8)).save(folder / "curves.png")
    (folder / "state" / "epoch_0009").mkdir(parents=True)
    (folder / "state" / "epoch_0009" / "model.safetensors").write_bytes(b"state")
    (folder / "logs").mkdir()
    (folder / "logs" / "events").write_bytes(b"log")
    return folder
