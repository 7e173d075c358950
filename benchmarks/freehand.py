"""What becomes of a drawing by mouse: `python benchmarks/freehand.py --model DIR`.

Faces are drawn as somebody draws them on the page's pencil pad: outlines of one width, nothing filled, a hand that is not
steady. No photo tells what is right, but a network that was trained on people with dark hair should paint what was drawn as
hair darker than skin and wall. So the mean level of the three is reported, beside the pictures.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image, ImageDraw

from benchmarks import timing

Points = list[tuple[float, float]]

SIZE = (200, 250)
_OVERSAMPLED = 4

# Outer and inner border of the hair, x and y in pixels from the left ear over the crown to the right ear; and other strokes.
HAIR: dict[str, tuple[Points, Points, list[Points]]] = {
    "short": (
        [(55, 120), (48, 85), (62, 52), (100, 38), (138, 50), (152, 85), (145, 120)],
        [(57, 108), (66, 84), (90, 76), (120, 80), (138, 88), (143, 108)],
        [],
    ),
    "long": (
        [(40, 220), (38, 150), (44, 80), (70, 48), (100, 40), (132, 48), (156, 82), (162, 150), (160, 220)],
        [(58, 200), (57, 140), (63, 95), (100, 70), (137, 95), (143, 140), (142, 200)],
        [],
    ),
    "a fringe": (
        [(46, 165), (42, 110), (52, 62), (100, 38), (148, 62), (158, 110), (154, 165)],
        [(55, 160), (57, 104), (80, 98), (100, 100), (120, 98), (143, 104), (145, 160)],
        [[(x, 58), (x - 2, 78), (x, 95)] for x in range(62, 145, 14)],
    ),
    "receding": (
        [(54, 125), (49, 95), (60, 60), (100, 42), (140, 60), (151, 95), (146, 125)],
        [(58, 112), (64, 80), (85, 66), (115, 66), (136, 80), (142, 112)],
        [],
    ),
    "scribbled": (
        [(54, 115), (46, 85), (62, 50), (100, 38), (138, 50), (154, 85), (146, 115)],
        [(57, 108), (66, 84), (100, 78), (134, 84), (143, 108)],
        [[(56 + 2 * n + 6 * (n % 2), 104 - 42 * np.sin(n / 45 * np.pi) - 20 * (n % 2)) for n in range(46)]],
    ),
}
"""The hair of each drawing, by name."""

PLACES = ("hair", "skin", "wall")
"""Where the level of a translation is read."""


class Drawing(NamedTuple):
    """A drawn face, mode L, and the place of each of `PLACES` in it, white on black."""

    picture: Image.Image
    places: dict[str, Image.Image]


def draw(name: str, *, seed: int) -> Drawing:
    """Draw one face of 200 x 250 pixels.

    Args:
        name: Of its hair, in `HAIR`.
        seed: Of the width of the strokes, 1.5 to 3 pixels, and of the slips of the hand.
    """
    rng = np.random.default_rng(seed)
    picture = Image.new("L", tuple(side * _OVERSAMPLED for side in SIZE), 255)
    pen, width = ImageDraw.Draw(picture), rng.uniform(1.5, 3)
    outer, inner, strokes = HAIR[name]
    for points in (*_FACE, outer, inner, *strokes):
        slips = rng.normal(0, 0.8, 2) + rng.normal(0, 0.5, (len(points), 2))
        pen.line([tuple(_OVERSAMPLED * p) for p in smooth(np.array(points) + slips)], 30, round(_OVERSAMPLED * width), "curve")
    for x in (76, 124):
        pen.ellipse([_OVERSAMPLED * side for side in (x - 4, 122, x + 4, 130)], fill=30)
    areas: dict[str, list[Points]] = {
        "hair": [[tuple(p) for p in (*smooth(np.array(outer)), *smooth(np.array(inner))[::-1])]],
        "skin": [[(68, 142), (82, 142), (80, 165), (74, 162)], [(118, 142), (132, 142), (126, 162), (120, 165)]],
        "wall": [[(4, 4), (30, 4), (30, 150), (4, 150)], [(170, 4), (196, 4), (196, 150), (170, 150)]],
    }
    places = {}
    for place, polygons in areas.items():
        places[place] = Image.new("L", SIZE)
        for polygon in polygons:
            ImageDraw.Draw(places[place]).polygon(polygon, fill=255)
    return Drawing(picture.resize(SIZE, Image.Resampling.LANCZOS), places)


def smooth(points: np.ndarray) -> np.ndarray:
    """A Catmull-Rom curve through points.

    Args:
        points: (N, 2), x and y in pixels.

    Returns:
        (12 (N - 1), 2): from each point to the next one, both with them.
    """
    before, after = np.vstack([points[:1], points[:-1]]), np.vstack([points[1:], points[-1:]])
    slopes = (after - before) / 2
    t = np.linspace(0, 1, 12)[None, :, None]
    start, end, slope_start, slope_end = (p[:, None] for p in (points[:-1], points[1:], slopes[:-1], slopes[1:]))
    curve = (1 + 2 * t) * (1 - t) ** 2 * start + t**2 * (3 - 2 * t) * end
    return (curve + t * (1 - t) ** 2 * slope_start - t**2 * (1 - t) * slope_end).reshape(-1, 2)


def _arc(x: float, y: float, width: float, height: float, start: float, end: float) -> Points:
    """Points on an ellipse around x and y, clockwise from one angle to the other, in degrees."""
    angles = np.radians(np.linspace(start, end, 12))
    return list(zip(x + width * np.cos(angles), y + height * np.sin(angles), strict=True))


_FACE: list[Points] = [
    _arc(100, 135, 44, 62, 15, 165),
    [(57, 150), (55, 125), (57, 105)],
    [(143, 150), (145, 125), (143, 105)],
    *(_arc(x, 126, 11, 5, start, start + 180) for x in (76, 124) for start in (0, 180)),
    *([(x - 14, 112), (x, 107), (x + 13, 111)] for x in (76, 124)),
    [(97, 128), (94, 155), (90, 161), (100, 166), (110, 161)],
    [(82, 182), (94, 178), (100, 180), (106, 178), (118, 182)],
    [(82, 182), (100, 190), (118, 182)],
    [(78, 192), (76, 215), (40, 232), (10, 249)],
    [(122, 192), (124, 215), (160, 232), (190, 249)],
    [(76, 215), (100, 235), (124, 215)],
]


def levels(translation: Image.Image, drawing: Drawing) -> dict[str, float]:
    """The mean luma, 0 to 255, of each of `PLACES` in a translation of 200 x 250 pixels."""
    luma = np.asarray(translation.convert("L"), dtype=float)
    return {place: luma[np.asarray(mask) > 0].mean() for place, mask in drawing.places.items()}


def parser() -> argparse.ArgumentParser:
    """The command line of this program."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/freehand.py", description="Draw faces as with a mouse, and see which photos become of them."
    )
    parser.add_argument(
        "--model", nargs="+", default=["space/weights"], metavar="ID_OR_DIR", help="one or more (default: space/weights)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON, too")
    parser.add_argument("--grid", type=Path, metavar="FILE", help="write the drawings, and their photos by each model")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    command = parser()
    args = command.parse_args(argv)

    import torch

    from pix2pix.files import require_writable
    from pix2pix.images import grid, save_png
    from pix2pix.inference import Translator

    if args.grid and args.grid.suffix.lower() not in (".png", ".jpg"):
        command.error(f"--grid must end in .png or .jpg, got '{args.grid}'")
    try:
        for name, file in (("--grid", args.grid), ("--json", args.json)):
            if file:
                require_writable(file.absolute().parent, name=name)
    except ValueError as error:
        command.error(str(error))

    drawings = [draw(name, seed=number) for number, name in enumerate(HAIR)]
    pictures = [drawing.picture for drawing in drawings]
    shown, report, cells = [pictures], {}, []
    for model in dict.fromkeys(args.model):
        try:
            # In float32, whatever the processor: levels are compared across machines.
            photos = Translator.from_pretrained(model, "sketch2photo", dtype=torch.float32)(pictures)
        except ValueError as error:
            command.error(str(error))
        shown.append(photos)
        found = [levels(photo, drawing) for photo, drawing in zip(photos, drawings, strict=True)]
        rows = dict(zip(HAIR, found, strict=True)) | {
            "mean": {place: float(np.mean([each[place] for each in found])) for place in PLACES}
        }
        report[str(model)] = rows
        cells += [[model, name, *(round(row[place]) for place in PLACES)] for name, row in rows.items()]
    print(timing.table(["model", "hair drawn", *(f"level of {place}" for place in PLACES)], cells))
    if args.json:
        timing.write_json(args.json, report)
    if args.grid:
        picture = grid(shown)
        if args.grid.suffix.lower() == ".png":
            save_png(picture, args.grid)
        else:
            picture.save(args.grid, quality=92)
    return 0


if __name__ == "__main__":
    sys.exit(main())
