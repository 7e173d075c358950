"""Wedges: the even, dark triangles and strips that turning a scan upright leaves at the borders of a picture.

They say nothing of the person, and nothing on the other side of a pair foretells them. A network that is shown them as targets
draws ghosts of them; one that never met them as sources translates them as if they were hair.
"""

import math

import numpy as np
import torch
from torch import Tensor

DARK = 24
"""Pixels up to this level of 255, in all channels, may belong to a wedge: black, with what compression makes of it."""

MAX_SLOPE = 0.35
"""The steepest wedge that is looked for, depth against length: about 19 degrees, far more than heads are turned upright by."""

_MARGIN = 2  # pixels beside a wedge that interpolation and compression have darkened


def filled(picture: Tensor) -> Tensor:
    """Replace the wedges of a picture by its own border pixels. A picture without wedges is returned as it is.

    Only straight wedges count: black hair or clothes that touch a border stay.

    Args:
        picture: (C, H, W), uint8.

    Returns:
        (C, H, W), uint8.
    """
    # Every side takes its turn as the upper one, twice: where two wedges meet, one hides the line of the other.
    for is_transposed, is_flipped in 2 * [(False, False), (False, True), (True, False), (True, True)]:
        turned = picture.transpose(1, 2) if is_transposed else picture
        turned = turned.flip(1) if is_flipped else turned
        cut = _upper_wedge(turned)
        if cut is None:
            continue
        height, width = turned.shape[1:]
        rows = torch.maximum(torch.arange(height)[:, None], cut[None, :])
        turned = turned[:, rows, torch.arange(width)]
        turned = turned.flip(1) if is_flipped else turned
        picture = turned.transpose(1, 2) if is_transposed else turned
    return picture.contiguous()


def _upper_wedge(picture: Tensor) -> Tensor | None:
    """The first row, in each column, that lies below the wedge at the upper border; None if there is no wedge.

    Args:
        picture: (C, H, W), uint8.
    """
    height, width = picture.shape[1:]
    depth = (picture.amax(0) <= DARK).long().cumprod(0).sum(0).double()
    columns = torch.arange(width, dtype=torch.float64)
    # The wedge is max(0, a + b x). Its line goes through most of the columns that begin dark; those where something dark
    # begins right below the wedge are dropped, twice.
    kept = depth > 0
    for _ in range(3):
        if kept.sum() < max(8, width // 16):
            return None
        design = torch.stack([torch.ones_like(columns), columns], dim=1)
        offset, slope = torch.linalg.lstsq(design[kept], depth[kept][:, None]).solution[:, 0].tolist()
        line = offset + slope * columns
        residual = (depth - line).abs()
        kept = (depth > 0) & (residual <= max(1.5, float(residual[kept].median()) * 2))
    wanted = line.clamp(min=0)
    is_wedge = ((depth - wanted).abs() <= 1.5).double().mean() >= 0.85 and abs(slope) <= MAX_SLOPE
    if not is_wedge or not 2 <= wanted.max() <= height / 3:
        return None
    return torch.where(line > -_MARGIN, (wanted + _MARGIN).ceil(), 0.0).long()


def wedged(source: Tensor, rng: np.random.Generator, share: float) -> Tensor:
    """Put wedges around a source, as a turned scan has them: black mostly, else of any tone.

    Args:
        source: (C, H, W), in [-1, 1].
        rng: Where the random numbers come from; the same number of them is drawn in every case.
        share: Of the pictures that are changed, 0 to 1.

    Returns:
        (C, H, W), in [-1, 1].
    """
    is_changed, is_black, tone = rng.random(3)
    turn, *offsets = rng.uniform(-1, 1, 5)
    if is_changed >= share:
        return source
    height, width = source.shape[1:]
    angle = math.radians(5 * turn)
    x = torch.arange(width, dtype=torch.float32)[None, :] - (width - 1) / 2
    y = torch.arange(height, dtype=torch.float32)[:, None] - (height - 1) / 2
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    # The edges of the scan, each up to a fourteenth of the side further in or out.
    left, right = (width * (0.5 - offset / 14) for offset in offsets[:2])
    top, bottom = (height * (0.5 - offset / 14) for offset in offsets[2:])
    outside = (along < -left) | (along > right) | (across < -top) | (across > bottom)
    return source.masked_fill(outside, -1.0 if is_black < 0.8 else 2 * tone - 1)
