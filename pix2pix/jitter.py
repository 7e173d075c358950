"""Random changes of a training pair: where everything lies (both pictures alike), and the tone of the source alone.

All randomness comes from the generator that is handed in, so that an example is a pure function of its seed.
"""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

RESAMPLED = 0.7
"""Share of the pairs that are zoomed, turned and bent. The rest is shifted by whole pixels, and stays as sharp as it was."""

_KNOTS = 4  # of the random fields, each way: they bend a face, not a nose


def moved(both: Tensor, rng: np.random.Generator, *, zoom: float, max_rotation: float, max_warp: float) -> Tensor:
    """Zoom, turn, bend and shift a pair as one picture, mirrored at the borders.

    Bending gives new proportions, and with them people that the data set does not have.

    Args:
        both: (C, H, W), any range: the channels of both pictures.
        rng: Where the random numbers come from; the same number of them is drawn in every case.
        zoom: Largest zoom either way, at least 1; pairs are also shifted by up to half of what it leaves over.
        max_rotation: Largest rotation either way, in degrees.
        max_warp: Standard deviation of the bending, in pixels.

    Returns:
        (C, H, W), within the range of `both`.
    """
    height, width = both.shape[1:]
    resampled, scale, angle, right, down = rng.uniform(-1, 1, 5)
    bend = rng.standard_normal((1, 2, _KNOTS, _KNOTS))
    right, down = right * (zoom - 1) / 2 * width, down * (zoom - 1) / 2 * height
    if (resampled + 1) / 2 >= RESAMPLED:
        right, down = round(right), round(down)
        margin_x, margin_y = math.ceil((zoom - 1) / 2 * width), math.ceil((zoom - 1) / 2 * height)
        padded = F.pad(both[None].float(), (margin_x, margin_x, margin_y, margin_y), mode="reflect")[0]
        top, left = margin_y + down, margin_x + right
        return padded[:, top : top + height, left : left + width]
    scale, angle = zoom**scale, math.radians(angle * max_rotation)
    y = torch.arange(height, dtype=torch.float32)[:, None] - (height - 1) / 2
    x = torch.arange(width, dtype=torch.float32)[None, :] - (width - 1) / 2
    field = max_warp * _smooth(bend, height, width)[0]
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    columns = x * cosine - y * sine + right + field[0]
    rows = x * sine + y * cosine + down + field[1]
    # grid_sample counts from -1 (the centre of the first pixel) to 1 (the centre of the last).
    grid = torch.stack([columns * (2 / (width - 1)), rows * (2 / (height - 1))], dim=-1)
    low, high = both.aminmax()
    sampled = F.grid_sample(both[None].float(), grid[None], mode="bicubic", padding_mode="reflection", align_corners=True)
    return sampled[0].clamp(float(low), float(high))  # bicubic overshoots at edges


def retoned(source: Tensor, rng: np.random.Generator, amount: float) -> Tensor:
    """Another light, paper, hand or camera: random tone, colour, shading, sharpness and grain of a source.

    Only what is translated is changed, never what it should become: the network then learns to see the same face in it.

    Args:
        source: (1 or 3, H, W), in [-1, 1].
        rng: Where the random numbers come from; the same number of them is drawn in every case.
        amount: How much, 0 (nothing) to 1 (gamma 0.6 to 1.65, contrast 0.74 to 1.35, and so on).

    Returns:
        (1 or 3, H, W), in [-1, 1].
    """
    channels, height, width = source.shape
    gamma, contrast, brightness, saturation, sharpness, grain = rng.uniform(-1, 1, 6)
    tint = torch.from_numpy(rng.uniform(-1, 1, (3, 1, 1)).astype(np.float32))[:channels]
    shading = rng.standard_normal((1, 1, 3, 3))
    is_kept, is_shaded = rng.random(2)
    noise = rng.standard_normal((height, width), dtype=np.float32)
    if is_kept < 0.3:
        return source
    x = source.add(1).div(2).clamp(1e-3, 1).pow(math.exp(0.5 * amount * gamma))
    x = (x - 0.5) * math.exp(0.3 * amount * contrast) + 0.5 + 0.12 * amount * brightness
    if channels == 3:
        x = x * torch.exp(0.12 * amount * tint)
        grey = x.mean(0, keepdim=True)
        x = grey + (x - grey) * (1 + amount * (0.5 * saturation - 0.1))
    if is_shaded < 0.5:
        x = x + 0.05 * amount * _smooth(shading, height, width)[0]
    softened = _averaged(_averaged(x, -1), -2)
    x = softened + (x - softened) * (1 + 0.8 * amount * sharpness)
    x = x + 0.02 * amount * (1 + grain) * torch.from_numpy(noise)
    return x.clamp(0, 1).mul(2).sub(1)


def redrawn(sketch: Tensor, rng: np.random.Generator, amount: float) -> Tensor:
    """Another hand: strokes that are thicker or thinner, and shading that is stronger or weaker against the lines.

    Args:
        sketch: (1 or 3, H, W), in [-1, 1], dark on light.
        rng: Where the random numbers come from; the same number of them is drawn in every case.
        amount: How much, 0 (nothing) to 1 (strokes up to a pixel wider each way, shading from none to twice as strong).

    Returns:
        (1 or 3, H, W), in [-1, 1].
    """
    thickness, shading, scale = rng.uniform(-1, 1, 3)
    x = sketch[None]
    wider = -F.max_pool2d(-x, 3, 1, 1) if thickness > 0 else F.max_pool2d(x, 3, 1, 1)
    x = torch.lerp(x, wider, abs(thickness) * 0.7 * amount)
    # Shading is what is left when lines are blurred away: at 5 pixels the side of a nose, at 17 a cheek.
    side = 5 + 4 * round(1.5 * (scale + 1))
    around = F.avg_pool2d(F.pad(x, [side // 2] * 4, mode="replicate"), side, 1)
    return (x + shading * amount * (around - 1)).clamp(-1, 1)[0]


def outlined(sketch: Tensor, rng: np.random.Generator, share: float) -> Tensor:
    """Leave the outlines of a shaded sketch, as somebody draws with a mouse; other sketches stay as they are.

    Artists fill hair and hatch cheeks. A network that never sees an empty outline takes what it encloses for skin or wall.

    Args:
        sketch: (1 or 3, H, W), in [-1, 1], dark on light.
        rng: Where the random numbers come from; the same number of them is drawn in every case.
        share: Of the sketches that are changed, 0 to 1.

    Returns:
        (1 or 3, H, W), in [-1, 1].
    """
    is_changed, gap, width, reach, gain, darkness, threshold = rng.random(7)
    if is_changed >= share:
        return sketch
    grey = sketch.mean(0, keepdim=True)[None]
    # Strokes up to 8 pixels apart grow together to a plane, of which only the border is a line below.
    side = 2 * int(5 * gap) + 1
    grey = -F.max_pool2d(-grey, side, 1, side // 2)
    grey = F.max_pool2d(grey, side, 1, side // 2)
    fine = grey[0]
    for _ in range(1 + int(3 * width)):
        fine = _averaged(_averaged(fine, -1), -2)
    side = 5 + 2 * int(3 * reach)
    around = grey
    for _ in range(2):
        around = F.avg_pool2d(F.pad(around, [side // 2] * 4, mode="replicate"), side, 1)
    depth = (around[0] - fine - 0.02 - 0.06 * float(threshold)) * (4 + 8 * float(gain))
    return (1 - 2 * depth.clamp(0, 0.5 + 0.5 * float(darkness))).expand_as(sketch)


def resettled(photo: Tensor, rng: np.random.Generator, share: float) -> Tensor:
    """Put another background behind a portrait that was taken before an even one; other pictures stay as they are.

    Studio portraits all have one wall behind them. A network that never sees another takes everything else for a face.

    Args:
        photo: (3, H, W), in [-1, 1].
        rng: Where the random numbers come from; the same number of them is drawn in every case.
        share: Of the pictures that are changed, 0 to 1.

    Returns:
        (3, H, W), in [-1, 1].
    """
    is_changed, has_edges = rng.random(2)
    colour, amount = rng.random((1, 3, 1, 1)), rng.random(2)
    coarse, fine = rng.standard_normal((1, 3, 4, 4)), rng.standard_normal((1, 3, 7, 6))
    if is_changed >= share or (mask := _even_background(photo)) is None:
        return photo
    height, width = photo.shape[1:]
    wall = torch.from_numpy(colour.astype(np.float32)) + 0.25 * float(amount[0]) * _smooth(coarse, height, width)
    if has_edges < 0.5:  # a window frame, a shelf, a crowd
        blocks = F.interpolate(torch.from_numpy(fine.astype(np.float32)), (height, width), mode="nearest")
        wall = wall + 0.2 * float(amount[1]) * blocks
    return photo + mask * (wall[0].clamp(0, 1).mul(2).sub(1) - photo)


def _even_background(photo: Tensor, *, tolerance: float = 0.3) -> Tensor | None:
    """Where the even background of a portrait is: (1, H, W), 1 there and 0 on the person; None if it is not even.

    Args:
        photo: (3, H, W), in [-1, 1].
        tolerance: Largest difference from the background's own colour, in model range.
    """
    height, width = photo.shape[1:]
    rows, columns = max(1, height // 16), max(1, width // 16)
    frame = torch.zeros(1, height, width, dtype=torch.bool)
    frame[:, :rows] = True
    frame[:, : height // 2, :columns] = frame[:, : height // 2, -columns:] = True
    # Black corners are where an aligning rotation left the scan: no background, but no person either.
    frame &= photo.amax(0, keepdim=True) > -0.9
    edge = photo[:, frame[0]]
    if edge.shape[1] < 16:
        return None
    near = (photo - edge.median(1).values[:, None, None]).abs().amax(0, keepdim=True) < tolerance
    if near[frame].float().mean() < 0.7:
        return None
    # Only what hangs together with the frame: a shirt of the wall's colour stays. Followed at a quarter of the size.
    coarse = F.avg_pool2d(near[None].float(), 4, ceil_mode=True) > 0.5
    reached = coarse & (F.avg_pool2d(frame[None].float(), 4, ceil_mode=True) > 0)
    for _ in range(max(coarse.shape[-2:])):
        grown = (F.max_pool2d(reached.float(), 3, 1, 1) > 0) & coarse
        if torch.equal(grown, reached):
            break
        reached = grown
    around = F.interpolate(F.max_pool2d(reached.float(), 3, 1, 1), (height, width), mode="nearest")[0]
    mask = near.float() * around
    return F.avg_pool2d(mask[None], 3, 1, 1, count_include_pad=False)[0]


def _averaged(x: Tensor, side: int) -> Tensor:
    """The mean of every three neighbours along a side of (C, H, W), mirrored at the borders."""
    first, last, length = x.narrow(side, 1, 1), x.narrow(side, -2, 1), x.shape[side]
    padded = torch.cat([first, x, last], dim=side)
    total = padded.narrow(side, 0, length) + padded.narrow(side, 1, length)
    return total.add_(padded.narrow(side, 2, length)).div_(3)


def _smooth(knots: np.ndarray, height: int, width: int) -> Tensor:
    """A smooth field (N, C, height, width) through the knots (N, C, h, w)."""
    field = torch.from_numpy(knots.astype(np.float32))
    return _spread(field.shape[-2], height) @ field @ _spread(field.shape[-1], width).T


@functools.cache
def _spread(knots: int, length: int) -> Tensor:
    """The matrix (length, knots) of bicubic interpolation along one side: a field then takes two small products."""
    columns = torch.eye(knots)[None, None]
    return F.interpolate(columns, (length, knots), mode="bicubic", align_corners=True)[0, 0]
