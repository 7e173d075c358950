"""How translations hold up on pictures unlike the training data's: `python benchmarks/robustness.py --model DIR`.

Other light, other walls, other cameras, glasses, beards and darker skin, and sketches by other hands, are simulated on the
pictures of a test split, because their truth is known: every translation is scored against the same real picture as the
translation of the untouched source.
"""

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from benchmarks import timing
from pix2pix.directions import DIRECTIONS, Direction, source_and_target

Change = Callable[[Image.Image, np.random.Generator], Image.Image]

# Where the eyes are in the training geometry, as shares of width and height: (75, 125) and (125, 125) of 200 x 250.
_EYES = ((0.375, 0.5), (0.625, 0.5))


def curve(function: Callable[[np.ndarray], np.ndarray]) -> Change:
    """A change that maps pixel values, given as (H, W, C) in 0 to 1."""

    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        del rng
        levels = np.atleast_3d(np.asarray(image, dtype=np.float64) / 255)
        changed = np.broadcast_to(function(levels), levels.shape).clip(0, 1) * 255
        return Image.fromarray(changed.round().astype(np.uint8).squeeze(), image.mode)

    return change


def noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Sensor noise of 12 levels."""
    levels = np.asarray(image, dtype=np.float64)
    return Image.fromarray((levels + rng.normal(0, 12, levels.shape)).round().clip(0, 255).astype(np.uint8), image.mode)


def compressed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A JPEG of quality 15."""
    del rng
    file = io.BytesIO()
    image.save(file, "JPEG", quality=15)
    return Image.open(file).convert(image.mode)


def blurred(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Out of focus: a Gaussian of 1.5 pixels."""
    del rng
    return image.filter(ImageFilter.GaussianBlur(1.5))


def grey(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Without colour."""
    del rng
    return ImageOps.grayscale(image).convert(image.mode)


def lit_from_the_side(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """One half of the face at 40 % of the light of the other."""
    ramp = np.linspace(0.4, 1.1, image.width)[None, :, None]
    return curve(lambda x: x * (ramp if rng.random() < 0.5 else ramp[:, ::-1]))(image, rng)


def other_wall(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Another background, where the own one is even."""
    from pix2pix.images import to_image, to_tensor
    from pix2pix.jitter import resettled

    return to_image(resettled(to_tensor(image, channels=3), rng, 1.0))


def with_glasses(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Dark round frames around the eyes."""
    del rng
    image, unit = image.copy(), image.width / 200
    draw, radius = ImageDraw.Draw(image), 20 * unit
    for x, y in ((x * image.width, y * image.height) for x, y in _EYES):
        draw.ellipse((x - radius, y - 0.8 * radius, x + radius, y + 0.8 * radius), outline=(30, 25, 25), width=round(3 * unit))
    left, right = (x * image.width for x, _ in _EYES)
    draw.line((left + radius, image.height / 2, right - radius, image.height / 2), fill=(30, 25, 25), width=round(3 * unit))
    return image


def with_beard(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Chin and cheeks darkened by short strokes, the mouth left out."""
    image, unit = image.copy(), image.width / 200
    draw = ImageDraw.Draw(image, "RGBA")
    for x, y in rng.uniform((-1, 0), (1, 1), (1500, 2)):
        is_mouth = abs(x) < 0.45 and 0.15 < y < 0.45
        if x * x + (y - 0.1) ** 2 < 1 and not is_mouth:
            left, top = (100 + 52 * x) * unit, (163 + 47 * y) * unit
            draw.line((left, top, left + 2 * x * unit, top + 4 * unit), fill=(35, 28, 25, 120), width=max(1, round(unit)))
    return image


def with_darker_skin(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """What has the colour of the cheeks at half of their light."""
    del rng
    levels = np.asarray(image, dtype=np.float64)
    height, width = levels.shape[:2]
    cheeks = levels[round(0.56 * height) : round(0.62 * height), round(0.32 * width) : round(0.68 * width)]
    distance = np.linalg.norm(levels - np.median(cheeks.reshape(-1, 3), axis=0), axis=2)
    mask = Image.fromarray((np.clip(1.6 - distance / 60, 0, 1) * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.5))
    return Image.composite(ImageEnhance.Brightness(image).enhance(0.5), image, mask)


def thickened(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A blunt pencil: every dark stroke one pixel wider each way."""
    del rng
    return image.filter(ImageFilter.MinFilter(3))


def outlined(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Lines alone, no shading: what somebody draws who does not hatch."""
    del rng
    return _lines(image.convert("L"), least=0).convert(image.mode)


def emptied(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Outlines alone, the hair left empty: what somebody draws with a mouse."""
    del rng
    filled = image.convert("L").filter(ImageFilter.MinFilter(7)).filter(ImageFilter.MaxFilter(7))
    return _lines(filled, least=12).convert(image.mode)


def _lines(image: Image.Image, *, least: float) -> Image.Image:
    """What is darker than what is around it, by more than so many levels."""
    levels = np.asarray(image, dtype=np.float64)
    around = np.asarray(image.filter(ImageFilter.GaussianBlur(3)), dtype=np.float64)
    return Image.fromarray((255 - np.clip((around - levels - least) * 5, 0, 220)).round().astype(np.uint8))


def on_grey_paper(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Photographed in shade: white paper at 65 %, falling off to one side."""
    ramp = np.linspace(0.55, 0.75, image.width)[None, :, None]
    return curve(lambda x: x * ramp)(image, rng)


CHANGES: dict[Direction, dict[str, Change]] = {
    "photo2sketch": {
        "dark (gamma 2)": curve(lambda x: x**2),
        "bright (gamma 0.6)": curve(lambda x: x**0.6),
        "low contrast": curve(lambda x: 0.5 * x + 0.3),
        "warm light": curve(lambda x: x * np.array([1.1, 0.95, 0.7])),
        "cold light": curve(lambda x: x * np.array([0.75, 0.95, 1.1])),
        "light from one side": lit_from_the_side,
        "out of focus": blurred,
        "noise": noisy,
        "JPEG, quality 15": compressed,
        "no colour": grey,
        "another background": other_wall,
        "glasses": with_glasses,
        "beard": with_beard,
        "darker skin": with_darker_skin,
    },
    "sketch2photo": {
        "faint pencil": curve(lambda x: 0.5 * x + 0.5),
        "heavy pencil (gamma 2)": curve(lambda x: x**2),
        "blunt pencil": thickened,
        "lines without shading": outlined,
        "outlines, hair left empty": emptied,
        "grey paper, uneven light": on_grey_paper,
        "out of focus": blurred,
        "noise": noisy,
        "JPEG, quality 15": compressed,
        "glasses": with_glasses,
        "beard": with_beard,
    },
}
"""What is done to the source, by direction and name."""


def parser() -> argparse.ArgumentParser:
    """The command line of this program."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/robustness.py",
        description="Translate changed pictures and score them against the truth of the unchanged ones.",
    )
    parser.add_argument("--model", default="space/weights", metavar="ID_OR_DIR", help="default: %(default)s")
    parser.add_argument("--dataset", metavar="DATA", help="folder or Hub id with a test split (default: drawn faces)")
    parser.add_argument("--split", default="test", metavar="SPLIT", help="which pairs (default: %(default)s)")
    parser.add_argument("--max-pictures", type=timing.count, default=100, metavar="N", help="at most (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON, too")
    parser.add_argument("--grid", type=Path, metavar="FILE.png", help="write the first pair, changed and translated")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    command = parser()
    args = command.parse_args(argv)

    import torch

    from pix2pix.data import load_pairs
    from pix2pix.images import fit, grid, save_png, to_tensor, upright
    from pix2pix.inference import Translator
    from pix2pix.metrics import validation_scores
    from pix2pix.perception import PerceptualNetwork

    try:
        pairs = load_pairs(args.dataset, split=args.split)
        translators = {direction: Translator.from_pretrained(args.model, direction) for direction in DIRECTIONS}
    except ValueError as error:
        command.error(str(error))
    pairs = pairs.select(range(min(len(pairs), args.max_pictures)))
    network = PerceptualNetwork()
    report, shown = {}, []
    for direction, translator in translators.items():
        sides = source_and_target(direction)
        size = translator.generator.image_size
        sources, targets = ([fit(upright(pair[side]), size)[0].convert("RGB") for pair in pairs] for side in sides)
        channels = translator.generator.out_channels
        truth = torch.stack([to_tensor(target, channels=channels) for target in targets])
        rows = {}
        for name, change in {"unchanged": lambda image, _: image, **CHANGES[direction]}.items():
            changed = [change(image, np.random.default_rng(index)) for index, image in enumerate(sources)]
            translations = translator(changed)
            fake = torch.stack([to_tensor(translation, channels=channels) for translation in translations])
            rows[name] = validation_scores(fake, truth, network)
            shown.append((direction, name, changed[0], translations[0]))
        report[direction] = rows
        print(f"\n{direction}, {len(pairs)} pairs\n")
        cells = [[name, *(scores[key] for key in ("mae", "ssim", "fsim", "perceptual"))] for name, scores in rows.items()]
        print(timing.table(["source", "MAE", "SSIM", "FSIM", "perceptual"], cells))
    if args.json:
        timing.write_json(args.json, {"model": str(args.model), "dataset": args.dataset or "drawn faces", **report})
    if args.grid:
        per_row = 5
        cells = [[picture.convert("RGB") for _, _, *both in shown[start : start + per_row] for picture in both]
                 for start in range(0, len(shown), per_row)]  # fmt: skip
        save_png(grid(cells), args.grid)
    return 0


if __name__ == "__main__":
    sys.exit(main())
