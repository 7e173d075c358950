"""The curves of a run: losses and validation scores over the steps, drawn from its metrics.jsonl."""

import json
from pathlib import Path

from pix2pix.files import whole_file

LOSSES = ("loss_d", "loss_f", "adversarial", "projected", "reconstruction", "cycle", "perceptual")
SCORES = ("mae", "psnr", "ssim", "fsim", "perceptual")


def draw_curves(metrics: Path, output: Path) -> None:
    """Draw `metrics` (metrics.jsonl) into `output` (PNG): a row of losses and a row of scores, a line a direction.

    The floors are dotted: the better of the mean picture and another person's.
    """
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    directions = sorted({line["direction"] for line in lines})
    panels = [("train", name) for name in LOSSES] + [("validation", name) for name in SCORES]
    panels = [(kind, name) for kind, name in panels if any(line["kind"] == kind and name in line for line in lines)]
    columns = max(1, (len(panels) + 1) // 2)
    figure = Figure(figsize=(3.4 * columns, 5.6), layout="constrained")
    for position, (kind, name) in enumerate(panels, 1):
        axes = figure.add_subplot(2, columns, position)
        for direction in directions:
            points = [line for line in lines if line["kind"] == kind and line["direction"] == direction and name in line]
            (drawn,) = axes.plot([line["step"] for line in points], [line[name] for line in points], label=direction)
            for line in lines:
                if kind == "validation" and line["kind"] == "floors" and line["direction"] == direction:
                    floors = [line[floor][name] for floor in ("mean_picture", "another_person") if name in line.get(floor, {})]
                    if floors:
                        best = max(floors) if name in ("psnr", "ssim", "fsim") else min(floors)
                        axes.axhline(best, linestyle=":", color=drawn.get_color(), linewidth=1)
        axes.set_title(f"{name} ({'training' if kind == 'train' else 'held out, floor dotted'})", fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        if position == 1:
            axes.legend(fontsize=7)
    with whole_file(output) as temporary:
        figure.savefig(temporary, dpi=110)
