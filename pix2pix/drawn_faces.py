"""The embedded default data: procedurally drawn people, each a colour "photo" and a pencil "sketch" of the same face.

Nobody in these pictures exists and nothing is downloaded: a seed decides who is drawn, and the same seed gives the same
pixels in every process. The geometry is that of the CUHK student set, so that what is learned here and what is learned
there can be compared: 200 x 250 pixels, a frontal face, the eyes at (75, 125) and (125, 125).

How a face comes about: a relief (a height for each pixel: skull, nose, lips, ...) is lit by one lamp; skin, eyes,
mouth and clothes are painted with that light; hair is thousands of points on strands between the hairline and the
tips. The sketch is drawn from the same outlines, the same strands and the same light, with a pencil's habits: pressure
that swells and tapers, hatching in the shadows, and paper whose grain stays white.

What a sketch cannot say in hue it says in tone: the colours of hair, cloth and background each lie on one path from
dark to light, so either side of a pair holds what is needed to draw the other.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter

SIZE = (200, 250)
"""Width and height of both pictures, in pixels."""

LEFT_EYE = (75, 125)
"""Where the pupil on the left of the picture lies: x and y in pixels."""

RIGHT_EYE = (125, 125)
"""Where the pupil on the right of the picture lies: x and y in pixels."""

HAIR_STYLES = (
    "bald", "buzz", "receding", "combed back", "tousled", "side part", "curls", "afro",
    "bob", "bob with fringe", "long", "long with fringe", "wavy", "long curls", "bun", "ponytail",
)  # fmt: skip
"""The hair styles that are drawn."""

Array = NDArray[np.float32]
Area = tuple[slice, slice]

_EVERYWHERE = (slice(0, SIZE[1]), slice(0, SIZE[0]))


class Traits(NamedTuple):
    """Who a seed draws, in words and numbers.

    Attributes:
        skin: Skin tone, 0 (fairest) to 1 (deepest).
        age: 0 (young adult) to 1 (old): lines, and grey hair from about 0.6.
        softness: 0 (angular jaw, heavy brows) to 1 (round jaw, full lips).
        hair: One of `HAIR_STYLES`.
        hair_tone: Hair colour, 0 (black) over brown, auburn and blond to 1 (white).
        beard: "none", "stubble", "moustache", "goatee" or "full".
        glasses: "none", "round", "square" or "cat-eye".
        smile: -0.3 (sulking) to 1 (beaming).
        shows_teeth: Whether the mouth is open.
        wears_hat: Whether a knitted hat covers the top of the head.
        wears_earrings: Whether earrings are drawn.
        has_freckles: Whether the skin is freckled.
    """

    skin: float
    age: float
    softness: float
    hair: str
    hair_tone: float
    beard: str
    glasses: str
    smile: float
    shows_teeth: bool
    wears_hat: bool
    wears_earrings: bool
    has_freckles: bool


class DrawnPair(NamedTuple):
    """Both sides of one drawn person: `photo` (mode "RGB") and `sketch` (mode "L"), each of `SIZE`."""

    photo: Image.Image
    sketch: Image.Image


def traits(seed: int) -> Traits:
    """Say who `draw_pair(seed)` draws.

    Raises:
        ValueError: If the seed is negative.
    """
    rng = _generator(seed, 0)
    skin, age, softness = rng.random(3)
    skin, age = float(skin**1.2), float(age**1.4)
    is_soft = softness > 0.5
    odds = dict.fromkeys(HAIR_STYLES, 1.0)
    for style in ("bald", "buzz", "receding", "combed back"):
        odds[style] = 0.12 if is_soft else 1.4
    for style in ("bob", "bob with fringe", "long", "long with fringe", "wavy", "long curls", "bun", "ponytail"):
        odds[style] = 1.5 if is_soft else 0.18
    odds["tousled"] = odds["side part"] = 0.7 if is_soft else 2.2
    odds["receding"] *= 0.3 + age
    weights = np.array(list(odds.values()))
    hair = HAIR_STYLES[int(rng.choice(len(HAIR_STYLES), p=weights / weights.sum()))]
    # Dark hair is the rule on this planet; fair hair grows on fair skin, and age turns any hair grey.
    tone = rng.beta(1.0, 2.2) * (1 - 0.85 * skin) if skin < 0.6 else rng.beta(1, 6) * 0.3
    if age > 0.6 and rng.random() < 0.8:
        tone = rng.uniform(0.88, 1.0)
    beards = ("none", "stubble", "moustache", "goatee", "full")
    beard = "none" if softness > 0.45 else beards[int(rng.choice(5, p=(0.34, 0.2, 0.12, 0.12, 0.22)))]
    glasses = ("none", "round", "square", "cat-eye")[int(rng.choice(4, p=(0.7, 0.11, 0.11, 0.08)))]
    smile = float(np.clip(rng.normal(0.48, 0.35), -0.3, 1))
    return Traits(
        skin=skin,
        age=age,
        softness=float(softness),
        hair=hair,
        hair_tone=float(min(tone, 1)),
        beard=beard,
        glasses=glasses,
        smile=smile,
        shows_teeth=bool(smile > 0.45 and rng.random() < 0.6),
        wears_hat=bool(hair not in ("bun", "afro", "ponytail") and rng.random() < 0.08),
        wears_earrings=bool(rng.random() < (0.45 if is_soft else 0.07)),
        has_freckles=bool(skin < 0.45 and rng.random() < 0.25),
    )


def draw_pair(seed: int) -> DrawnPair:
    """Draw the person whom the seed stands for; the same seed gives the same pixels.

    Raises:
        ValueError: If the seed is negative.
    """
    return _Portrait(seed).draw()


def draw_pairs(count: int, *, first_seed: int = 0) -> Iterator[DrawnPair]:
    """Draw `count` people one after the other, from the seeds `first_seed`, `first_seed` + 1, ...

    Raises:
        ValueError: If the first seed is negative, as soon as a pair is asked for.
    """
    return map(draw_pair, range(first_seed, first_seed + count))


# Colours, as sRGB in 0..255. Paths run from dark to light (skin: from fair to deep) and are read by `_on_path`.

_SKIN = ((244, 212, 192), (238, 202, 177), (230, 190, 160), (214, 167, 133), (192, 140, 105), (163, 112, 80),
         (134, 88, 62), (106, 68, 49), (80, 52, 40))  # fmt: skip
_HAIR = ((26, 22, 22), (38, 29, 26), (60, 40, 30), (92, 58, 38), (128, 74, 42), (160, 98, 54), (190, 140, 86),
         (214, 178, 124), (178, 174, 170), (206, 204, 202))  # fmt: skip
_CLOTH = ((30, 32, 44), (34, 50, 88), (110, 34, 48), (52, 92, 82), (60, 104, 150), (196, 98, 74), (122, 158, 130),
          (222, 176, 88), (226, 200, 190), (240, 238, 230))  # fmt: skip
_BACKGROUND = ((52, 74, 92), (78, 112, 134), (118, 152, 168), (160, 184, 190), (196, 202, 198), (226, 214, 196))
_IRIS = ((58, 36, 24), (82, 52, 30), (112, 78, 42), (108, 112, 72), (92, 124, 140), (120, 154, 176))


def _on_path(path: Sequence[tuple[int, int, int]], position: float) -> Array:
    """The colour (3,) at `position`, 0 to 1, of a path."""
    stops = np.linspace(0, 1, len(path))
    return np.array([np.interp(position, stops, channel) for channel in zip(*path, strict=True)], dtype=np.float32)


def _generator(seed: int, stream: int) -> Generator:
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    return np.random.default_rng((seed, stream))


# Curves and fields. Points are (..., 2) as x, y in pixels; fields are (250, 200).


class _Grid(NamedTuple):
    x: Array
    y: Array
    radius: Array
    angle: Array


_CENTRE = (100.0, 130.0)


@functools.cache
def _grid() -> _Grid:
    """Coordinates of the pixel centres, and the same in polar form around the middle of the head."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]].astype(np.float32)
    dx, dy = x - _CENTRE[0], y - _CENTRE[1]
    grid = _Grid(x, y, np.hypot(dx, dy), np.arctan2(dy, dx))
    for field in grid:
        field.setflags(write=False)
    return grid


def _spline(points: ArrayLike, count: int, *, closed: bool = False) -> NDArray:
    """`count` points on the Catmull-Rom spline through `points`."""
    points = np.asarray(points, dtype=float)
    if closed:
        knots = np.concatenate([points[-1:], points, points[:2]])
    else:
        knots = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    position = np.linspace(0, len(knots) - 3, count, endpoint=not closed)
    index = np.minimum(position.astype(int), len(knots) - 4)
    t = (position - index)[:, None]
    p0, p1, p2, p3 = (knots[index + k] for k in range(4))
    return p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))


def _mirrored(points: ArrayLike) -> NDArray:
    """A left half of a curve, joined with its mirror image in the face's axis."""
    points = np.asarray(points, dtype=float)
    other = points[::-1].copy()
    other[:, 0] = 2 * _CENTRE[0] - other[:, 0]
    return np.concatenate([points, other[1:] if points[-1, 0] == _CENTRE[0] else other])


def _unit(*vector: float) -> tuple[float, ...]:
    length = math.hypot(*vector)
    return tuple(value / length for value in vector)


def _lerp(a: ArrayLike, b: ArrayLike, t: ArrayLike) -> NDArray:
    return np.asarray(a) + (np.asarray(b) - np.asarray(a)) * np.asarray(t)


def _smoothstep(low: float, high: float, x: ArrayLike) -> NDArray:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _blur(field: Array, sigma: float) -> Array:
    """A Gaussian blur of a field with values in 0..1; a wide one is done on a quarter of the resolution."""
    image = Image.fromarray((np.clip(field, 0, 1) * 255).astype(np.uint8))
    if sigma < 4:
        image = image.filter(ImageFilter.GaussianBlur(sigma))
    else:
        small = image.reduce(4).filter(ImageFilter.GaussianBlur(sigma / 4))
        image = small.resize(image.size, Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float32) / 255


def _around(points: ArrayLike, margin: int) -> Area:
    """The part of the picture around points (..., 2), to work on that alone."""
    flat = np.asarray(points).reshape(-1, 2)
    left, top = (int(value) - margin for value in flat.min(axis=0))
    right, bottom = (int(value) + margin + 1 for value in flat.max(axis=0))
    return (slice(max(top, 0), min(max(bottom, 1), SIZE[1])), slice(max(left, 0), min(max(right, 1), SIZE[0])))


def _sheet_of_paper(area: Area, scale: int, fill: int = 0) -> Image.Image:
    """An empty picture to draw on that covers the area at `scale` times the resolution."""
    rows, columns = area
    return Image.new("L", ((columns.stop - columns.start) * scale, (rows.stop - rows.start) * scale), fill)


def _on_paper(points: NDArray, area: Area, scale: int) -> NDArray:
    """Where points (..., 2) lie on the area's sheet of paper."""
    return (points - (area[1].start, area[0].start)) * scale + (scale - 1) / 2


def _polygon(points: ArrayLike, area: Area) -> Array:
    """The mask of a polygon in the area, 0 to 1, with soft edges."""
    image = _sheet_of_paper(area, 3)
    ImageDraw.Draw(image).polygon(_on_paper(np.asarray(points), area, 3).ravel().tolist(), fill=255)
    return np.asarray(image.reduce(3), dtype=np.float32) / 255


def _bump(x: float, y: float, width: float, height: float) -> tuple[Area, Array]:
    """A Gaussian hill of height 1, and the area that it reaches."""
    area = _around([(x - 3 * width, y - 3 * height), (x + 3 * width, y + 3 * height)], 0)
    across = np.exp(-0.5 * ((_grid().x[area][:1] - x) / width) ** 2)
    down = np.exp(-0.5 * ((_grid().y[area][:, :1] - y) / height) ** 2)
    return area, across * down


def _add_bump(field: Array, x: float, y: float, width: float, height: float, amount: float) -> None:
    """Add a Gaussian hill in place."""
    area, hill = _bump(x, y, width, height)
    field[area] += amount * hill


def _normals(height: Array) -> tuple[Array, Array, Array]:
    """Unit normals of a relief: to the right, down, and towards the viewer."""
    dx, dy = np.zeros_like(height), np.zeros_like(height)
    dx[:, 1:-1] = (height[:, 2:] - height[:, :-2]) / 2
    dy[1:-1] = (height[2:] - height[:-2]) / 2
    length = 1 / np.sqrt(1 + dx * dx + dy * dy)
    return -dx * length, -dy * length, length


def _paint(canvas: Array, mask: Array, colour: ArrayLike) -> None:
    """Lay a colour (3,) or coloured field (H, W, 3) over the canvas where the mask is."""
    canvas += mask[..., None] * (np.asarray(colour, dtype=np.float32) - canvas)


class _Strands(NamedTuple):
    """Hairs: `points` (N, K, 2) from root to tip, their `shade` (N,) from 0 (dark) to 1 (light), and their outline."""

    points: NDArray
    shade: NDArray
    outline: NDArray


def _sheet(rng: Generator, rails: Sequence[ArrayLike], count: int, *, wave: float = 0.0, untidy: float = 1.0) -> _Strands:
    """Comb hairs from the first of four rails to the last; the rails in between bend them.

    Each rail is a curve (M, 2); hair number t follows the cubic Bezier curve of the four rails' points at t.

    Args:
        rng: Where untidiness comes from.
        rails: Roots, two bending rails, tips.
        count: How many hairs.
        wave: Amplitude of the waves, in pixels.
        untidy: How far roots and tips stray, in pixels.
    """
    edge = np.linspace(0, 1, 40)
    t = np.concatenate([np.sort(rng.random(count)), edge])
    controls = []
    for rail in rails:
        rail = np.asarray(rail, dtype=float)
        stops = np.linspace(0, 1, len(rail))
        controls.append(np.stack([np.interp(t, stops, rail[:, k]) for k in range(2)], axis=1)[:, None])
    stray = rng.normal(0, untidy, (4, count, 1, 2)) * np.array([0.4, 0.7, 1.0, 1.5])[:, None, None, None]
    for control, offset in zip(controls, stray, strict=True):
        control[:count] += offset
    s = np.linspace(0, 1, 10)[:, None]
    a, b, c, d = controls
    points = (1 - s) ** 3 * a + 3 * (1 - s) ** 2 * s * b + 3 * (1 - s) * s**2 * c + s**3 * d
    if wave:
        phase = s[:, 0] * 13 + 5 * t[:, None] + rng.uniform(0, 6)
        points[..., 0] += wave * np.sin(phase) * np.minimum(s[:, 0] * 2, 1)
    # Neighbouring hairs lie in locks of a common shade.
    locks = np.interp(t[:count] * 26, np.arange(28), rng.normal(0, 0.1, 28))
    shade = np.clip(0.5 + locks + rng.normal(0, 0.16, count), 0, 1)
    # The outline stays inside, so that the edge of the hair is made of single hairs.
    hull = points[count:]
    outline = np.concatenate([hull[1:-1, 1], hull[-2, 2:-1], hull[-2:0:-1, -2], hull[1, -2:0:-1]])
    return _Strands(points[:count], shade, outline)


def _curls(rng: Generator, sheet: _Strands, count: int, radius: float) -> _Strands:
    """Replace the hairs of a sheet by loops of about `radius` pixels, strewn over the same area and a little beyond."""
    row = rng.integers(0, len(sheet.points), count)
    column, between = np.divmod(rng.uniform(0, sheet.points.shape[1] - 1, count), 1)
    column, between = column.astype(int), between[:, None]
    turn = np.linspace(0, 1, 9) * rng.uniform(3.5, 6.3, (count, 1)) + rng.uniform(0, 6.3, (count, 1))
    size = radius * rng.uniform(0.5, 1.2, (count, 1))
    centre = _lerp(sheet.points[row, column], sheet.points[row, column + 1], between)
    centre = centre + rng.normal(0, radius * 0.5, (count, 2))
    loop = np.stack([np.cos(turn) * size, np.sin(turn) * size * 0.85], axis=2)
    shade = np.clip(rng.normal(0.5, 0.2, count), 0, 1)
    return _Strands(centre[:, None] + loop, shade, sheet.outline)


class _Pencil:
    """A sheet on which strokes are drawn at three times the resolution."""

    def __init__(self, rng: Generator):
        self._rng = rng
        self._image = Image.new("L", (SIZE[0] * 3, SIZE[1] * 3))
        self._draw = ImageDraw.Draw(self._image)

    def stroke(self, points: ArrayLike, *, width: float, pressure: float, taper: float = 0.35, passes: int = 2) -> None:
        """Draw along points (M, 2), a few times over as one does; the pressure swells and tapers.

        Args:
            points: The path, in pixels.
            width: Of the point of the pencil, in pixels.
            pressure: 0 (paper) to 1 (black).
            taper: The share of the pressure that is left at both ends.
            passes: How many times the line is gone over.
        """
        points = np.asarray(points, dtype=float)
        count = len(points)
        along = np.linspace(0, 1, count)
        swell = taper + (1 - taper) * np.sin(np.pi * along) ** 0.6
        for number in range(passes):
            wobble = np.interp(along, np.linspace(0, 1, 5), self._rng.normal(0, 0.35 if number else 0.12, 5))
            path = ((points + wobble[:, None]) * 3 + 1).tolist()
            force = swell * pressure * (1.0 if number == passes - 1 else 0.6) * self._rng.uniform(0.9, 1.05)
            shades = np.clip(force * 255, 0, 255).astype(int).tolist()
            widths = np.maximum(1, width * 3 * (0.55 + 0.45 * swell)).round().astype(int).tolist()
            for k in range(0, count - 1, 3):
                run = [value for point in path[k : k + 4] for value in point]
                self._draw.line(run, fill=shades[k], width=widths[k])

    def field(self) -> Array:
        """How dark the strokes are, 0 to 1, at the resolution of the picture."""
        return np.asarray(self._image.reduce(3), dtype=np.float32) / 255


class _Portrait:
    """One person in the making: geometry first, then both pictures at once, from the back to the front."""

    def __init__(self, seed: int):
        self.traits = traits(seed)
        self.rng = _generator(seed, 1)
        rng, who = self.rng, self.traits
        soft, age = who.softness, who.age
        self.width = rng.uniform(51.5, 58.5) - 2 * soft
        self.top = rng.uniform(52, 58)
        self.chin = rng.uniform(206, 219) - 5 * soft
        self.jaw = np.clip(rng.normal(0.83 - 0.05 * soft, 0.045), 0.7, 0.93)
        self.chin_width = np.clip(rng.normal(0.3 - 0.06 * soft, 0.05), 0.16, 0.44)
        self.hairline = rng.uniform(74, 84) - 6 * age * (1 - soft)
        self.outline = self._outline()

        self.skin = _on_path(_SKIN, who.skin) * rng.normal(1, 0.012, 3).astype(np.float32)
        self.hair_colour = _on_path(_HAIR, who.hair_tone)
        self.cloth_tone, self.background_tone = rng.random(2)
        # Plain floats: a NumPy float64 would turn every field that it meets into float64.
        self.lamp = _unit(rng.uniform(-0.62, 0.62), rng.uniform(-0.5, -0.22), 0.85)
        self.warmth = rng.uniform(-0.04, 0.05)
        self.ambient = rng.uniform(0.3, 0.44)

        self.photo = np.empty((SIZE[1], SIZE[0], 3), dtype=np.float32)
        self.graphite = np.zeros((SIZE[1], SIZE[0]), dtype=np.float32)

    def draw(self) -> DrawnPair:
        self._paint_background()
        back, front = self._hair()
        for sheet in back:
            self._paint_hair(sheet, depth=0.62)
        self._paint_body()
        self._paint_head()
        for side in (-1, 1):
            self._paint_eye(side)
            self._paint_brow(side)
        self._paint_nose()
        self._paint_mouth()
        self._paint_beard()
        self._rule(self.face_lines)
        self._shadow_of_hair(front)
        if self.traits.wears_earrings:
            self._paint_earrings()
        for sheet in front:
            self._paint_hair(sheet)
        if self.traits.wears_hat:
            self._paint_hat()
        if self.traits.glasses != "none":
            self._paint_glasses()
        return DrawnPair(self._develop(), self._sketch())

    # Geometry

    def _outline(self) -> NDArray:
        """The head's outline from crown round the chin and back: (160, 2)."""
        w, middle = self.width, _CENTRE[0]
        height = self.chin - 130
        left = [
            (0, self.top), (0.5 * w, self.top + 8), (0.82 * w, self.top + 28), (0.97 * w, 106), (w, 128),
            (0.965 * w, 130 + 0.24 * height), (self.jaw * w, 130 + 0.57 * height),
            (_lerp(self.chin_width, self.jaw, 0.55) * w, 130 + 0.8 * height),
            (self.chin_width * 0.9 * w, 130 + 0.95 * height), (0, self.chin),
        ]  # fmt: skip
        half = np.array([(middle - dx, y) for dx, y in left])
        return _spline(np.concatenate([half, (half[-2:0:-1] * (-1, 1)) + (2 * middle, 0)]), 160, closed=True)

    def _side(self, side: int, points: Sequence[tuple[float, float]]) -> NDArray:
        """Points given as distance from the axis and y, on one side of the face (-1 is the left of the picture)."""
        return np.array([(_CENTRE[0] + side * dx, y) for dx, y in points])

    def _light(self, height: Array, *, wrap: float = 0.3, gloss: float = 0.0) -> tuple[Array, Array | float]:
        """How brightly a relief is lit, about 0.3 to 1.1, and its highlights, 0 to `gloss`."""
        right, down, front = _normals(height)
        x, y, z = self.lamp
        diffuse = np.maximum(right * x + down * y + front * z + wrap, 0)
        light = self.ambient * (1 - 0.15 * down) + (1.08 - self.ambient) / (1 + wrap) * diffuse
        if not gloss:
            return light, 0.0
        x, y, z = _unit(x, y, z + 1)
        shine = np.maximum(right * x + down * y + front * z, 0)
        for _ in range(3):
            shine *= shine
        return light, shine * shine * shine * gloss

    def _lit(self, colour: ArrayLike, light: Array, shine: Array | float = 0.0) -> Array:
        """A colour (3,) or (H, W, 3) in the light: shadows grow redder, highlights take the lamp's colour."""
        lamp = (1 + self.warmth, 1.0, 1 - self.warmth)
        shade = light * (1 - light)
        lit = np.empty((*light.shape, 3), dtype=np.float32)
        for channel, bend in enumerate((0.14, -0.08, -0.16)):
            lit[..., channel] = (light + bend * shade) * (colour[..., channel] * lamp[channel])
            lit[..., channel] += shine * (255 * lamp[channel])
        return lit

    def _lay(self, mask: Array, colour: ArrayLike, graphite: ArrayLike, area: Area = _EVERYWHERE) -> None:
        """Cover both pictures where the area's mask is."""
        _paint(self.photo[area], mask, colour)
        below = self.graphite[area]
        below += mask * (graphite - below)

    def _tint(self, x: float, y: float, width: float, height: float, colour: ArrayLike, graphite: float) -> None:
        """Breathe a colour over a soft spot: multiplies the photo by `colour` (3,), adds graphite."""
        area, spot = _bump(x, y, width, height)
        self.photo[area] *= 1 + spot[..., None] * (np.asarray(colour, dtype=np.float32) - 1)
        self.graphite[area] += spot * graphite

    # From the back to the front

    def _paint_background(self) -> None:
        grid, rng = _grid(), self.rng
        colour = _on_path(_BACKGROUND, self.background_tone)
        glow = np.exp(-(((grid.x - 100 + 60 * self.lamp[0]) / 130) ** 2) - ((grid.y - 90) / 150) ** 2)
        mottle = np.asarray(Image.fromarray(rng.random((7, 6), dtype=np.float32)).resize(SIZE, Image.Resampling.BICUBIC))
        self.photo[:] = colour * (0.74 + 0.34 * glow + 0.07 * (mottle - 0.5))[..., None]
        # The pencil only hints at a dark background, around the head.
        near = np.exp(-(((grid.radius - 85) / 38) ** 2)) * _smoothstep(238, 190, grid.y)
        self.graphite[:] = near * (0.03 + 0.24 * (1 - self.background_tone)) * (0.55 + 0.6 * mottle)

    def _paint_body(self) -> None:
        grid, rng, who = _grid(), self.rng, self.traits
        area = (slice(160, SIZE[1]), slice(0, SIZE[0]))
        x, y = grid.x[area], grid.y[area]
        self.body_lines = _Pencil(rng)
        half = 37 - 9 * who.softness + rng.uniform(-1, 4)
        side = [
            (half + 1, 165), (half, 196), (half + 3, 212), (half + 14, 222), (half + 34, 229),
            (half + 60, rng.uniform(238, 246)),
        ]  # fmt: skip
        left = _spline(self._side(-1, side), 30)
        right = left * (-1, 1) + (200, 0)
        skin_mask = _polygon(np.concatenate([left, [(-20, 270), (220, 270)], right[::-1]]), area)

        across = np.clip((x - 100) / (half + 3), -1, 1)
        relief = 30 * np.sqrt(1.02 - across * across) + 0.35 * np.maximum(y - 214, 0)
        tendon = (np.abs(x - 100) - 9 - 0.25 * np.maximum(232 - y, 0)) / 4
        relief += 2.2 * np.exp(-0.5 * tendon * tendon)
        light, shine = self._light(relief, gloss=0.04)
        # The head shades the neck.
        shifted = np.add(self.outline, (-14 * self.lamp[0], 13))
        shade = _blur(_polygon(shifted, area), 4) * 0.5
        light = light * (1 - shade)
        self._lay(skin_mask, self._lit(self.skin * 0.97, light, shine), self._skin_tone(light), area)

        kind = ("crew", "v", "collar", "roll")[int(rng.choice(4, p=(0.36, 0.24, 0.24, 0.16)))]
        colour = _on_path(_CLOTH, self.cloth_tone)
        dip = {"crew": 231, "v": 262, "collar": 250, "roll": 214}[kind] + rng.uniform(-2, 3)
        rim = {"crew": 218, "v": 213, "collar": 210, "roll": 203}[kind] + rng.uniform(-1, 2)
        bend = 1 if kind in ("v", "collar") else 2
        reach = half + (1.5 if kind == "roll" else 5)
        neckline = [(reach * (1 - t), dip - (dip - rim) * (1 - t) ** bend)
                    for t in np.linspace(0, 1, 12)]  # fmt: skip
        neck_left = self._side(-1, neckline)
        edge = np.concatenate([neck_left, neck_left[-2::-1] * (-1, 1) + (200, 0)])
        outside = left[left[:, 1] > rim] - (2, 2)
        cloth = np.concatenate([outside[::-1], edge, outside * (-1, 1) + (200, 0), [(240, 270), (-40, 270)]])
        mask = _polygon(cloth, area)
        folds = np.sin(x * 0.13 + (x - 100) * (y - 200) * 0.0012 + rng.uniform(0, 6)) * 1.3
        relief = 26 * np.sqrt(np.maximum(1.05 - ((x - 100) / 112) ** 2, 0)) + 0.5 * np.maximum(y - 216, 0) + folds
        light, _ = self._light(relief)
        light *= 1 - 0.4 * _blur(_polygon(np.add(self.outline, (-10 * self.lamp[0], 16)), area), 5)
        pattern = int(rng.choice(4, p=(0.55, 0.15, 0.15, 0.15)))
        tone = 1 - self.cloth_tone
        weave = np.ones_like(light)
        if pattern == 1:
            weave -= 0.22 * _smoothstep(0.2, 0.6, np.sin(y * 0.9 + ((x - 100) / 40) ** 2))
        elif pattern == 2:
            weave -= 0.16 * (np.sin(x * 0.55) > 0.6) + 0.16 * (np.sin(y * 0.55) > 0.6)
        elif pattern == 3:
            weave -= 0.2 * _smoothstep(0.5, 0.8, np.sin(x * 0.8) * np.sin(y * 0.8))
        light *= weave
        self._lay(mask, self._lit(colour, light), 0.08 + 0.62 * tone + 0.5 * (1 - light), area)
        if kind == "collar":
            for sign in (-1, 1):
                flap = self._side(sign, [(half + 2, rim - 8), (half + 14, rim + 6), (half - 6, rim + 31), (3, dip - 3)])
                self._lay(_polygon(flap, area), self._lit(colour, light * 1.08), 0.05 + 0.5 * tone, area)
                self.body_lines.stroke(_densify(flap), width=1.0, pressure=0.75)
        if kind == "roll":
            for drop in (8, 17):
                self.body_lines.stroke(np.add(edge, (0, drop)), width=1.0, pressure=0.4)
        elif kind == "crew":
            self.body_lines.stroke(np.add(edge, (0, 5)), width=0.8, pressure=0.5)
        self.body_lines.stroke(edge, width=1.0, pressure=0.8)
        for curve in (left, right):
            self.body_lines.stroke(curve[curve[:, 1] < rim + 2], width=1.0, pressure=0.7)
            self.body_lines.stroke(curve[curve[:, 1] >= rim] - (0, 2), width=1.1, pressure=0.85)
        if kind != "roll":
            for sign in (-1, 1):
                self.body_lines.stroke(self._side(sign, [(22, 205), (16, 218), (7, 229)]), width=0.8, pressure=0.3)
        self._paint_ears()
        self._rule(self.body_lines)

    def _paint_ears(self) -> None:
        size = self.rng.uniform(0.88, 1.1)
        self.lobe = 149 + 3.5 * size
        for side in (-1, 1):
            points = [
                (self.width - 5, 118), (self.width + 1, 114 - 4 * size), (self.width + 7.5 * size, 118),
                (self.width + 8.5 * size, 130), (self.width + 5 * size, 143), (self.width + 1.5, 150 + 4 * size),
                (self.width - 5, 150),
            ]  # fmt: skip
            rim = _spline(self._side(side, points), 28)
            area = _around(rim, 6)
            mask = _polygon(rim, area)
            relief = 7 * np.sqrt(_blur(mask, 2.2))
            light, _ = self._light(relief, wrap=0.5)
            light = light * (0.86 + 0.1 * side * self.lamp[0])
            red = self.skin * np.array([1.02, 0.92, 0.9], dtype=np.float32)
            self._lay(mask, self._lit(red, light), self._skin_tone(light), area)
            inner = [(self.width + 2, 122), (self.width + 5.5 * size, 124), (self.width + 5 * size, 133),
                     (self.width + 1.5, 141)]  # fmt: skip
            self._tint(100 + side * (self.width + 2.5), 131, 2.4, 8, (0.72, 0.6, 0.56), 0.22)
            self.body_lines.stroke(rim[2:-2], width=1.0, pressure=0.85)
            self.body_lines.stroke(_spline(self._side(side, inner), 12), width=0.8, pressure=0.5)

    def _paint_head(self) -> None:
        grid, rng, who = _grid(), self.rng, self.traits
        soft, age = who.softness, who.age
        angle = np.arctan2(self.outline[:, 1] - _CENTRE[1], self.outline[:, 0] - _CENTRE[0])
        reach = np.hypot(self.outline[:, 0] - _CENTRE[0], self.outline[:, 1] - _CENTRE[1])
        limit = np.interp(grid.angle, *_sorted(angle, reach), period=2 * np.pi).astype(np.float32)
        ratio = np.minimum(grid.radius / limit, 1)
        self.face_mask = np.clip(limit - grid.radius + 0.5, 0, 1)
        self.inside = ratio
        relief = 44 * np.sqrt(1.012 - ratio**3.1)

        self.mouth_y = 130 + (self.chin - 130) * rng.uniform(0.635, 0.675)
        self.nose_y = 130 + (self.chin - 130) * rng.uniform(0.385, 0.43)
        self.nose_width = rng.uniform(10.5, 13.5) + 3 * rng.random() * who.skin - 1.5 * soft
        self.nose_length = rng.uniform(0.8, 1.2)

        # The bridge and back of the nose: a ridge that widens and rises down to the tip.
        rows = np.arange(104, 172)
        rise = np.interp(rows, (104, 122, self.nose_y - 9, self.nose_y - 3, self.nose_y + 4), (0, 1.7, 6.2, 5.5, 0))
        breadth = np.interp(rows, (104, 124, self.nose_y - 8, self.nose_y), (10, 6, 5.6, 6))
        columns = np.arange(70, 131)
        ridge = rise[:, None] * np.exp(-0.5 * ((columns - 100) / breadth[:, None]) ** 2)
        relief[104:172, 70:131] += (ridge * rng.uniform(0.65, 1.0)).astype(np.float32)
        _add_bump(relief, 100, self.nose_y - 3.5, 5.4, 4.6, 7.5)
        for side in (-1, 1):
            _add_bump(relief, 100 + side * (self.nose_width - 3), self.nose_y - 1, 3.4, 3.8, 5)
            _add_bump(relief, 100 + side * 26, 121, 12, 8, -5)
            _add_bump(relief, 100 + side * 25, 125, 8.5, 5, 4)
            _add_bump(relief, 100 + side * 24, 109, 13, 4, 2.2 - 1.2 * soft)
            _add_bump(relief, 100 + side * 33, 150, 12, 9, 3 + 1.5 * max(who.smile, 0))
            _add_bump(relief, 100 + side * (self.width - 10), 165, 8, 12, -2.5 + soft)
            _add_bump(relief, 100 + side * 24, self.mouth_y + 1, 5, 6, -1.6)
            _add_bump(relief, 100 + side * 25, 136, 10, 3, 0.8 * age)
            _add_bump(relief, 100 + side * 25, 141, 12, 3, -0.8 * age)
        _add_bump(relief, 100, self.mouth_y + 12, 14, 3, -2.6)
        _add_bump(relief, 100, self.chin - 11, 13, 8, 4)
        _add_bump(relief, 100, self.mouth_y, 19, 9, 3)
        _add_bump(relief, 100, (self.nose_y + self.mouth_y) / 2, 2.4, 5, -1.4)
        self.face_light, shine = self._light(relief, gloss=rng.uniform(0.08, 0.2))
        light = self.face_light
        light *= 1 - 0.25 * _smoothstep(0.86, 1.0, ratio)
        for side in (-1, 1):
            _add_bump(light, 100 + side * 13, 121, 4, 7, -0.06)
            _add_bump(light, 100 + side * 25, 117, 12, 3.5, -0.1)
            _add_bump(light, 100 + side * (self.nose_width + 4), self.nose_y, 3, 4, -0.06)
        _add_bump(light, 100 - 7 * self.lamp[0], self.nose_y + 7, 8, 3, -0.13)

        skin = self.skin
        mottle = rng.random((50, 40), dtype=np.float32)
        mottle = np.asarray(Image.fromarray(mottle).resize(SIZE, Image.Resampling.BICUBIC)) - 0.5
        colour = self._lit(skin, light * (1 + 0.04 * mottle), shine)
        blush = np.zeros_like(light)
        strength = rng.uniform(0.4, 1.0)
        for side in (-1, 1):
            _add_bump(blush, 100 + side * 35, 154, 13, 10, strength)
        _add_bump(blush, 100, self.nose_y - 3, 8, 6, 0.7 * strength)
        _add_bump(blush, 100, self.chin - 8, 12, 8, 0.35 * strength)
        colour *= 1 - blush[..., None] * np.array([0.0, 0.085, 0.085], dtype=np.float32)
        self._lay(self.face_mask, colour, self._skin_tone(light))

        self.face_lines = _Pencil(rng)
        jaw = self.outline[(self.outline[:, 1] > 118)]
        order = np.argsort(np.arctan2(jaw[:, 0] - 100, jaw[:, 1] - 118))
        self.face_lines.stroke(jaw[order], width=1.1, pressure=0.8, taper=0.7)
        brow_top = self.outline[self.outline[:, 1] < 122]
        order = np.argsort(np.arctan2(brow_top[:, 0] - 100, 122 - brow_top[:, 1]))
        self.face_lines.stroke(brow_top[order], width=1.0, pressure=0.65, taper=0.7)
        self._lines_of_age()
        if who.has_freckles:
            self._freckles()

    def _skin_tone(self, light: Array) -> Array:
        """Graphite for skin in the light: nothing on bright fair skin, soft hatching on deep skin and in shadow."""
        base = 0.34 * self.traits.skin**1.3
        return np.clip(base + (0.62 + 0.15 * self.traits.skin) * (0.93 - light), 0.0, 0.85)

    def _lines_of_age(self) -> None:
        age, rng = self.traits.age, self.rng
        smile = max(self.traits.smile, 0)
        fold = 0.25 * smile + 0.6 * age
        for side in (-1, 1):
            path = [(self.nose_width + 3, self.nose_y - 3), (self.nose_width + 9, self.nose_y + 6),
                    (25 + 2 * smile, self.mouth_y - 2), (26 + smile, self.mouth_y + 7)]  # fmt: skip
            path = _spline(self._side(side, path), 14)
            self._crease(path, 0.1 + fold, 1.9)
            bag = _spline(self._side(side, [(15, 133), (24, 138), (34, 136)]), 10)
            self._crease(bag, 0.12 + 0.5 * age, 1.5)
            if age > 0.45:
                for spread in (-1, 0, 1):
                    foot = self._side(side, [(40, 125 + 2 * spread), (47, 124 + 5 * spread)])
                    self._crease(_densify(foot), 0.5 * age, 1.0)
        if age > 0.35:
            for row in range(3):
                y = 99 - 7 * row + rng.uniform(-1, 1)
                reach = rng.uniform(22, 32)
                line = [(100 - reach, y + 2), (90, y), (110, y + rng.uniform(-1, 1)), (100 + reach, y + 2)]
                self._crease(_spline(line, 16), 0.4 * age, 1.3)

    def _crease(self, path: NDArray, depth: float, width: float) -> None:
        """A fold of the skin along `path`: a soft shadow, and a thin stroke."""
        area = _around(path, 8)
        image = _sheet_of_paper(area, 2)
        line = _on_paper(path, area, 2).ravel().tolist()
        ImageDraw.Draw(image).line(line, fill=255, width=max(1, round(width * 2)))
        image = image.reduce(2).filter(ImageFilter.GaussianBlur(width * 0.55))
        shade = np.asarray(image, dtype=np.float32)[..., None] / 255 * min(depth, 0.9)
        self.photo[area] *= 1 - shade * np.array([0.32, 0.4, 0.42], dtype=np.float32)
        self.face_lines.stroke(path, width=0.8, pressure=0.2 + 0.45 * min(depth, 0.9), taper=0.2, passes=1)

    def _freckles(self) -> None:
        rng = self.rng
        for x, y in rng.normal((0, 150), (26, 11), (90, 2)):
            if abs(x) < self.width - 8 and abs(abs(x) - 25) + abs(y - 125) > 16:
                strength = rng.uniform(0.06, 0.18)
                size, colour = rng.uniform(0.6, 1.0), (1 - strength, 1 - 1.5 * strength, 1 - 1.8 * strength)
                self._tint(100 + x, y, size, size, colour, 0)
                dot = np.array([(100 + x, y), (100.6 + x, y + 0.4)])
                self.face_lines.stroke(dot, width=0.9, pressure=0.2 + strength, passes=1)

    def _paint_eye(self, side: int) -> None:
        if side == -1:
            rng, who = self.rng, self.traits
            self.eye_width = rng.uniform(11.6, 13.6)
            self.eye_open = rng.uniform(4.0, 5.6) - 0.6 * max(who.smile, 0) - 0.4 * who.age
            self.eye_low = rng.uniform(3.2, 4.0) - 0.7 * max(who.smile, 0)
            self.eye_tilt = rng.normal(-0.05, 0.05)
            self.eye_crease = rng.choice((0.0, 3.2, 4.2, 5.2))
            self.iris_radius = rng.uniform(4.9, 5.5)
            tone = rng.beta(1.2, 1.6) if who.skin < 0.45 else rng.beta(1, 5) * 0.5
            self.iris = _on_path(_IRIS, tone)
            self.iris_tone = tone
            self.make_up = who.softness > 0.5 and rng.random() < 0.5
        cx, cy = (LEFT_EYE, RIGHT_EYE)[side > 0]
        area = (slice(cy - 16, cy + 15), slice(cx - 22, cx + 23))
        grid = _grid()
        u, v = side * (grid.x[area] - cx), grid.y[area] - cy
        slant = self.eye_tilt * u
        t = np.clip(u / self.eye_width, -1, 1)
        bulge = 1 - t * t
        upper = slant - self.eye_open * bulge**0.75 * (1 + 0.12 * t)
        lower = slant + self.eye_low * bulge**0.85 * (1 + 0.15 * t)
        opening = np.clip(v - upper + 0.5, 0, 1) * np.clip(lower - v + 0.5, 0, 1) * (np.abs(u) < self.eye_width)
        photo, graphite = self.photo[area], self.graphite[area]
        light = np.clip(self.face_light[area].mean() + 0.12, 0.5, 1.05)

        lid = np.exp(-(((v - upper + 0.5) / 2.6) ** 2)) * np.exp(-((u / (self.eye_width + 1)) ** 4))
        photo *= 1 - (0.22 + 0.25 * self.make_up) * lid[..., None] * np.array([0.8, 1, 1], dtype=np.float32)
        graphite += 0.16 * lid
        white = np.array([236, 230, 226], dtype=np.float32) * light
        depth = 0.78 + 0.22 * _smoothstep(0, 4.5, v - upper) - 0.25 * t**4
        ball = white * depth[..., None]
        ball[..., 1:] -= 22 * np.exp(-(((u + self.eye_width - 1) / 2.2) ** 2))[..., None]
        _paint(photo, opening, ball)
        graphite += opening * (0.03 + 0.55 * (0.95 - depth) - graphite)

        r = np.hypot(u, v)
        ray = 0.5 + 0.5 * np.sin(np.arctan2(v, u) * 17 + np.sin(np.arctan2(v, u) * 5) * 2)
        iris_mask = opening * np.clip(self.iris_radius - r + 0.5, 0, 1)
        glow = 0.75 + 0.35 * v / self.iris_radius + 0.22 * ray * _smoothstep(1.5, 3, r)
        rim = 1 - 0.55 * _smoothstep(self.iris_radius - 1.6, self.iris_radius, r)
        lid_shade = 0.55 + 0.45 * _smoothstep(0, 3.5, v - upper)
        _paint(photo, iris_mask, self.iris * (glow * rim * lid_shade * light * 1.15)[..., None])
        iris_graphite = np.clip(0.9 - 0.55 * self.iris_tone - 0.25 * (v / self.iris_radius) + 0.3 * (1 - rim), 0, 0.95)
        graphite += iris_mask * (iris_graphite - graphite)
        pupil = opening * np.clip(2.3 - r + 0.5, 0, 1)
        _paint(photo, pupil, (14, 11, 11))
        graphite += pupil * (0.98 - graphite)
        gx, gy = side * 2.6 * np.sign(self.lamp[0] + 1e-6), -2.4
        glint = np.clip(1.5 - np.hypot(u - gx, v - gy), 0, 1) * np.clip(v - upper + 0.2, 0, 1)
        _paint(photo, glint * 0.95, (255, 253, 250))
        soft_glint = 0.2 * iris_mask * np.exp(-(((u + gx) ** 2 + (v + gy) ** 2) / 4))
        _paint(photo, soft_glint, (230, 236, 245))
        graphite *= 1 - glint

        lash = np.exp(-(((v - upper + 0.3) / (0.95 + 0.35 * t + 0.35 * self.make_up)) ** 2)) * _smoothstep(
            self.eye_width + 1, self.eye_width - 1.5, np.abs(u)
        )
        _paint(photo, np.clip(lash * 0.9, 0, 1), np.minimum(self.hair_colour * 0.3, 40))
        low = np.exp(-(((v - lower) / 0.8) ** 2)) * _smoothstep(self.eye_width, self.eye_width - 2, np.abs(u))
        photo *= 1 - 0.34 * low[..., None]

        def curve(sample: NDArray, edge: str, lift: float = 0.0) -> NDArray:
            bow = np.clip(1 - (sample / self.eye_width) ** 2, 0, 1)
            if edge == "upper":
                height = -self.eye_open * bow**0.75 * (1 + 0.12 * sample / self.eye_width)
            else:
                height = self.eye_low * bow**0.85 * (1 + 0.15 * sample / self.eye_width)
            return np.stack([cx + side * sample, cy + self.eye_tilt * sample + height - lift], axis=1)

        sample = np.linspace(-self.eye_width, self.eye_width, 18)
        lines = self.face_lines
        lines.stroke(curve(sample, "upper"), width=1.5 + 0.5 * self.make_up, pressure=1.0, taper=0.55)
        lines.stroke(curve(sample[2:], "lower"), width=0.8, pressure=0.6, taper=0.25, passes=1)
        turn = np.linspace(-0.6, 3.75, 22)
        ring = np.stack([cx + self.iris_radius * np.cos(turn), cy + self.iris_radius * np.sin(turn)], axis=1)
        ring = ring[ring[:, 1] < curve(side * (ring[:, 0] - cx), "lower")[:, 1] + 0.5]
        for part in np.split(ring, np.flatnonzero(np.hypot(*np.diff(ring, axis=0).T) > 3) + 1):
            lines.stroke(part, width=0.9, pressure=0.8, taper=0.6, passes=1)
        if self.eye_crease:
            fold = curve(sample[1:] * 1.02, "upper", self.eye_crease * 0.8)
            self._crease(fold, 0.5, 1.0)
        if self.traits.softness > 0.45:
            roots = curve(self.rng.uniform(0.1, 1.0, 11) * self.eye_width, "upper")
            reach = self.rng.uniform(2, 3.6, 11)
            out = np.clip((roots[:, 0] - cx) / self.eye_width, -1, 1)
            tips = roots + np.stack([out * reach * 0.8, -reach * 0.8], axis=1)
            self._hairs(np.stack([roots, (roots + tips) / 2 + (0, 0.5), tips], axis=1), (28, 22, 22), 0.8, width=1)

    def _hairs(self, hairs: NDArray, colour: ArrayLike, strength: float, *, width: int = 2, fade: float = 0.5) -> None:
        """Draw short hairs (N, K, 2) into both pictures; `fade` is how much less graphite white hair gets."""
        shades = np.clip(self.rng.normal(235, 30, len(hairs)), 110, 255) * strength
        area = _around(hairs, 3)
        image = _sheet_of_paper(area, 3)
        draw = ImageDraw.Draw(image)
        paths = _on_paper(hairs, area, 3).reshape(len(hairs), -1).tolist()
        for path, shade in zip(paths, shades.astype(int).tolist(), strict=True):
            draw.line(path, fill=shade, width=width)
        mask = np.asarray(image.reduce(3), dtype=np.float32) / 255
        _paint(self.photo[area], mask, colour)
        self.graphite[area] += mask * (0.95 - fade * self.traits.hair_tone - self.graphite[area])

    def _paint_brow(self, side: int) -> None:
        rng, who = self.rng, self.traits
        if side == -1:
            self.brow_y = rng.uniform(108, 112.5) - 1.5 * max(who.smile, 0)
            self.brow_arch = rng.uniform(1, 4.5) * (0.6 + 0.7 * who.softness)
            self.brow_thick = rng.uniform(3.8, 7.0) - 2.2 * who.softness
            self.brow_slant = rng.normal(0.02, 0.05)
        t = np.sort(rng.random(95))
        dx = 11 + 28 * t
        y = self.brow_y - self.brow_arch * np.sin(np.pi * np.clip(t * 0.95, 0, 1)) + self.brow_slant * (dx - 25)
        y = y + 3 * np.maximum(t - 0.7, 0) * 3
        thick = self.brow_thick * np.clip(1.15 - t, 0.25, 0.9) * np.minimum(0.65 + t * 2, 1)
        lean = _lerp(-1.2, 0.25, np.minimum(t * 1.6, 1)) + rng.normal(0, 0.15, len(t))
        offset = rng.uniform(-0.5, 0.5, len(t)) * thick
        length = rng.uniform(3.4, 5.5, len(t)) * (0.75 + 0.07 * self.brow_thick)
        root = np.stack([100 + side * dx, y + offset + 1], axis=1)
        step = np.stack([side * np.cos(lean), np.sin(lean)], axis=1) * length[:, None]
        bend = np.stack([0 * t, 0.1 * length], axis=1)
        hairs = np.stack([root, root + step * 0.55 - bend * 0.5, root + step + bend], axis=1)
        colour = self.hair_colour * (0.75 if who.hair_tone > 0.45 else 0.9)
        self._tint(100 + side * 24, self.brow_y, 10, self.brow_thick * 0.42, (0.86, 0.84, 0.84), 0.05)
        self._hairs(hairs, colour, 0.8)

    def _paint_nose(self) -> None:
        rng, w, y = self.rng, self.nose_width, self.nose_y
        lines = self.face_lines
        for side in (-1, 1):
            self._tint(100 + side * w * 0.46, y + 3.6, 2.5, 1.25, (0.42, 0.34, 0.32), 0.5)
            self._tint(100 + side * (w + 0.6), y, 1.3, 3.2, (0.84, 0.76, 0.74), 0.08)
            wing = _spline(self._side(side, [(w - 1, y - 5), (w + 1.2, y - 0.5), (w - 0.8, y + 3), (w * 0.62, y + 3)]), 14)
            lines.stroke(wing, width=0.9, pressure=0.65, taper=0.25)
            nostril = _spline(self._side(side, [(w * 0.68, y + 3.6), (w * 0.45, y + 2.6), (w * 0.24, y + 4)]), 10)
            lines.stroke(nostril, width=1.4, pressure=0.9, taper=0.4)
        lines.stroke(_spline([(97, y + 4.5), (100, y + 5.5), (103, y + 4.5)], 8), width=0.9, pressure=0.45)
        shadow_side = -1 if self.lamp[0] > 0 else 1
        bridge = [(9, 120), (6.5, 128), (6, 138), (7.5, y - 8)]
        lines.stroke(_spline(self._side(shadow_side, bridge), 16), width=0.9, pressure=0.3, taper=0.1)
        lines.stroke(_spline(self._side(-shadow_side, bridge[:2]), 8), width=0.8, pressure=0.25, taper=0.2, passes=1)
        # The tip catches the lamp.
        glow = rng.uniform(1.06, 1.14)
        self._tint(100 + 4 * self.lamp[0], y - 5, 3, 2.6, (glow, glow, glow), -0.05)

    def _paint_mouth(self) -> None:
        rng, who, grid = self.rng, self.traits, _grid()
        my, soft = self.mouth_y, who.softness
        half = rng.uniform(17.5, 21) + 3.5 * max(who.smile, 0)
        up = rng.uniform(3.2, 4.6) + 1.5 * soft * rng.random() + who.skin * rng.uniform(0, 2)
        low = rng.uniform(4.6, 6.2) + 2.2 * soft * rng.random() + who.skin * rng.uniform(0, 2)
        gap = rng.uniform(4, 7.5) if who.shows_teeth else 0.0
        corner = 5.4 * who.smile
        area = (slice(int(my) - 18, int(my) + 24), slice(70, 131))
        x, y = grid.x[area] - 100, grid.y[area] - my
        t = np.clip(x / half, -1, 1)
        inside = np.clip(half - np.abs(x) + 0.5, 0, 1)

        def seam(t: NDArray) -> NDArray:
            return 1.2 * corner * (0.45 - np.abs(t) ** 1.8) - 0.9 * np.cos(t * 7) * np.exp(-((t / 0.4) ** 2))

        def top(t: NDArray) -> NDArray:
            cupid = 1 - 0.28 * np.exp(-((t / 0.13) ** 2)) + 0.12 * np.exp(-(((np.abs(t) - 0.25) / 0.15) ** 2))
            return seam(t) - up * np.clip(1 - np.abs(t) ** 1.7, 0, 1) * cupid - gap * 0.25 * (1 - t * t)

        def bottom(t: NDArray) -> NDArray:
            return seam(t) + low * np.clip(1 - np.abs(t) ** 2.2, 0, 1) ** 0.9 + gap * 0.85 * np.clip(1 - t * t, 0, 1)

        inner_top = seam(t) - gap * 0.25 * (1 - t * t)
        inner_low = seam(t) + gap * 0.85 * (1 - t * t)
        upper = np.clip(y - top(t) + 0.5, 0, 1) * np.clip(inner_top - y + 0.5, 0, 1) * inside
        lower = np.clip(y - inner_low + 0.5, 0, 1) * np.clip(bottom(t) - y + 0.5, 0, 1) * inside
        paint = who.softness > 0.5 and rng.random() < 0.5
        rose = np.array((186, 74, 78) if paint else (196, 108, 102), dtype=np.float32)
        colour = _lerp(self.skin, rose * (0.4 + 0.6 * self.skin.mean() / 200), 0.75 if paint else 0.5)
        colour = colour.astype(np.float32) * 0.98
        light = self.face_light[area]
        photo, graphite = self.photo[area], self.graphite[area]
        tone = 0.16 + 0.16 * paint + 0.3 * who.skin**1.3
        _paint(photo, upper * 0.92, colour * (0.8 * light)[..., None])
        graphite += upper * (tone + 0.16 + 0.2 * (1 - light) - graphite)
        roll = (y - inner_low) / np.maximum(bottom(t) - inner_low, 0.5)
        full = 0.98 + 0.14 * np.exp(-(((roll - 0.4) / 0.3) ** 2)) - 0.2 * _smoothstep(0.6, 1.1, roll)
        _paint(photo, lower * 0.92, colour * (full * light)[..., None])
        graphite += lower * (tone + 0.9 * np.maximum(1.02 - full, 0) + 0.15 * (1 - light) - graphite)
        gloss = lower * np.exp(-(((roll - 0.35) / 0.16) ** 2)) * np.exp(-(((t - 0.25 * self.lamp[0]) / 0.28) ** 2))
        _paint(photo, gloss * (0.4 if paint else 0.22), (255, 238, 232))
        graphite *= 1 - 0.8 * gloss
        if gap:
            hole = np.clip(y - inner_top + 0.3, 0, 1) * np.clip(inner_low - y + 0.3, 0, 1) * inside
            _paint(photo, hole, (74, 26, 28))
            graphite += hole * (0.85 - graphite)
            edge = inner_top + gap * 0.8 * np.clip(1 - (t / 0.93) ** 4, 0, 1)
            teeth = hole * np.clip(edge - y + 0.3, 0, 1) * _smoothstep(0.97, 0.8, np.abs(t))
            shade = (0.98 - 0.3 * t * t) * (0.86 + 0.14 * _smoothstep(0, 2.2, y - inner_top))
            shade = shade * (1 - 0.1 * (np.cos((np.abs(x) + 2.4) * 1.36) > 0.9))
            _paint(
                photo,
                teeth,
                np.array([240, 234, 224], dtype=np.float32) * (shade * np.clip(light + 0.1, 0, 1))[..., None],
            )
            graphite += teeth * (0.04 + 0.5 * (0.95 - shade) - graphite)
        for side in (-1, 1):
            end = seam(np.array(side * 1.0))
            self._tint(100 + side * half, my + end, 2.2, 1.8, (0.66, 0.58, 0.58), 0.25)
        self._tint(100, my + float(bottom(np.array(0.0))) + 3, 11, 2.2, (0.87, 0.84, 0.84), 0.12)

        sample = np.linspace(-1, 1, 26)

        def path(height: NDArray) -> NDArray:
            return np.stack([100 + sample * half, my + height], axis=1)

        lines = self.face_lines
        slit = path(seam(sample) - gap * 0.25 * (1 - sample**2))
        dark = np.exp(-(((y - inner_top) / (0.95 + 0.35 * np.cos(t * 5) * (1 - np.abs(t)))) ** 2)) * inside
        photo *= 1 - 0.6 * dark[..., None] * np.array([0.85, 1, 1], dtype=np.float32)
        lines.stroke(slit, width=1.3, pressure=0.95, taper=0.7)
        if gap:
            lines.stroke(path(seam(sample) + gap * 0.85 * (1 - sample**2)), width=0.9, pressure=0.75)
        lines.stroke(path(top(sample)), width=0.8, pressure=0.5, taper=0.3, passes=1)
        lines.stroke(path(bottom(sample))[5:-5], width=0.9, pressure=0.6, taper=0.2)

    def _paint_beard(self) -> None:
        kind, rng, grid = self.traits.beard, self.rng, _grid()
        if kind == "none":
            return
        area = (slice(130, 224), slice(30, 171))
        x, y = np.abs(grid.x[area] - 100), grid.y[area]
        lip = self.mouth_y
        cheek = _smoothstep(0.80, 0.93, self.inside[area] + 0.25 * _smoothstep(lip - 6, self.chin - 8, y))
        jaw = cheek * _smoothstep(136, 158, y)
        around = _smoothstep(0.55, 0.75, self.inside[area]) * _smoothstep(lip + 9, lip + 14, y) * _smoothstep(30, 22, x)
        patch = np.exp(-((x / 5) ** 2)) * _smoothstep(lip + 8, lip + 10, y)
        middle = (self.nose_y + lip) / 2 + 1.5 + 0.012 * x * x
        moustache = np.exp(-(((y - middle) / 4.2) ** 4)) * _smoothstep(27, 21, x) * _smoothstep(0.4, 2.0, x)
        side = np.exp(-(((x - 25) / 4) ** 2)) * _smoothstep(lip - 8, lip - 2, y)
        density = {
            "stubble": np.maximum(np.maximum(jaw, 0.8 * moustache), np.maximum(around, patch * 0.6)),
            "moustache": moustache,
            "goatee": np.maximum(np.maximum(moustache, around), np.maximum(patch, side)),
            "full": np.maximum(np.maximum(jaw, moustache), np.maximum(np.maximum(around, patch), side)),
        }[kind]
        density = density * self.face_mask[area]
        # Lips stay bare.
        bare = np.clip(1 - (x / 24) ** 2, 0, 1) ** 0.5
        density *= 1 - _smoothstep(0.8, 0, np.abs(y - lip - 1.5) / (6.8 * bare + 0.01) - 0.2) * (x < 24)
        density = np.clip(density, 0, 1).astype(np.float32)
        stubble = kind == "stubble"
        ink = 0.28 if stubble else 0.62
        colour = self.hair_colour * (0.55 + 0.5 * self.face_light[area])[..., None]
        darkness = 1 - 0.75 * self.traits.hair_tone
        # White hair is left out of the hatching of deep skin, and given some of its own on fair skin.
        cover = ink * _blur(density, 1.5)
        _paint(self.photo[area], cover, colour)
        self.graphite[area] += cover * (darkness * 0.8 - self.graphite[area]) * (0.6 if stubble else 1)
        count = 1500 if stubble else 2600
        px = rng.uniform(100 - self.width, 100 + self.width, count)
        py = rng.uniform(134, self.chin + 1, count)
        hit = rng.random(count) < density[py.astype(int) - 130, px.astype(int) - 30]
        root = np.stack([px[hit], py[hit]], axis=1)
        count = len(root)
        if not count:
            return
        length = rng.uniform(0.8, 1.6, count) if stubble else rng.uniform(3, 6.5, count)
        lean = (root[:, 0] - 100) * (0.035 if kind != "full" else 0.012) + rng.normal(0, 0.25, count)
        above = root[:, 1] < lip
        lean = np.where(above & (np.abs(root[:, 0] - 100) < 26), np.sign(root[:, 0] - 100) * 0.95 + lean, -0.5 * lean)
        step = np.stack([np.sin(lean), np.cos(lean)], axis=1) * length[:, None]
        hairs = np.stack([root, root + step * 0.5 + rng.normal(0, 0.25, (count, 2)), root + step], axis=1)
        light = rng.random(count) < 0.3
        tint = self.hair_colour * (0.62 + 0.2 * (self.traits.hair_tone > 0.5))
        self._hairs(hairs[~light], tint, 0.5 if stubble else 0.85, width=1, fade=0.3)
        if light.any() and not stubble:
            glimmer = np.minimum(self.hair_colour * 1.35 + 26, 240)
            self._hairs(hairs[light], glimmer, 0.4, width=1, fade=0.8)

    def _rule(self, pencil: _Pencil) -> None:
        """Press the strokes into the sketch, so that what is painted later covers them."""
        self.graphite = np.maximum(self.graphite, 0)
        self.graphite += pencil.field() * np.maximum(1.0 - self.graphite, 0) * 0.92

    # Hair

    def _hair(self) -> tuple[list[_Strands], list[_Strands]]:
        """The sheets of hair behind the body and in front of the face, each from the back to the front."""
        rng, style, w = self.rng, self.traits.hair, self.width
        age = self.traits.age
        recess = rng.uniform(0, 0.05) + (0.12 * age if self.traits.softness < 0.5 else 0)
        line = self.hairline - (16 if style == "receding" else 0)
        recess += 0.1 if style == "receding" else 0
        edge = _spline(
            _mirrored(
                self._side(
                    -1,
                    [(0.99 * w, 130), (0.92 * w, 116), (0.86 * w, 103), ((0.74 - recess) * w, 90 - 60 * recess),
                     ((0.4 - recess) * w, line + 1), (0, line + rng.uniform(-1, 3))],
                )
            ),
            48,
        )  # fmt: skip

        def silhouette(thick: float, flat: float) -> NDArray:
            points = [
                (w + 0.25 * thick, 128), (w + 2 + 0.55 * thick, 105), (0.84 * w + 0.8 * thick, self.top + 20),
                (0.48 * w + 0.4 * thick, self.top + 4 - 0.85 * thick * flat), (0, self.top - thick * flat),
            ]  # fmt: skip
            return _spline(_mirrored(self._side(-1, points)), 48)

        def cap(thick: float, count: int, *, lean: float = 0.0, flat: float = 1.0, gather: float = 0.0,
                **options: float) -> _Strands:  # fmt: skip
            """Hair from the hairline outwards; gathered (0 to 1), it runs along the head and up to the crown."""
            tips = silhouette(thick, flat)
            shift = np.array([lean * w, 0])
            t = np.linspace(0, 1, 48)
            fade = np.sin(np.pi * t)[:, None]
            crown = np.stack([np.interp(0.5 + (t - 0.5) * (1 - gather), t, tips[:, k]) for k in range(2)], axis=1)
            along = np.stack([np.interp(0.5 + (t - 0.5) * (1 - 0.5 * gather), t, tips[:, k]) for k in range(2)], axis=1)
            rails = (edge, _lerp(edge, tips, 0.3 + 0.3 * gather) + shift * 0.25 * fade,
                     _lerp(edge, along, 0.75 + 0.25 * gather) + shift * fade, crown)  # fmt: skip
            return _sheet(rng, rails, count, **options)

        def curtain(side: int, part: float, volume: float, end: float, inner: float, outer: float, count: int,
                    **options: float) -> _Strands:  # fmt: skip
            t = np.linspace(0, 1, 12)
            crown = self.top - volume
            x, px = (lambda dx: 100 + side * np.asarray(dx)), 100 + part
            roots = np.stack([px - side * 3 * t, _lerp(line - 1, crown + 0.1 * abs(part) + 1, t**0.8)], axis=1)
            first = np.stack([x(_lerp(0.5, 0.74, t) * w + 0.6 * volume * t), _lerp(line - 3, crown - 1, t)], axis=1)
            second = np.stack([x(_lerp(1.0, 1.2, t) * w + 1.2 * volume * t), _lerp(100, 84, t)], axis=1)
            ends = np.stack([x(_lerp(inner, outer, t)), np.full(12, end) + 4 * np.sin(3 * t)], axis=1)
            return _sheet(rng, (roots, first, second, ends), count, **options)

        def behind(volume: float, end: float, flare: float, count: int, **options: float) -> _Strands:
            t = np.linspace(-1, 1, 20)
            roots = np.stack([100 + t * 0.6 * w, self.top + 14 * t**2], axis=1)
            first = np.stack([100 + t * (1.2 * w + volume), np.full(20, 85.0)], axis=1)
            second = np.stack([100 + t * (1.1 * w + volume), np.full(20, 150.0)], axis=1)
            ends = np.stack([100 + t * (w + flare), np.full(20, end)], axis=1)
            return _sheet(rng, (roots, first, second, ends), count, **options)

        def fringe(depth: float, count: int) -> _Strands:
            t = np.linspace(-1, 1, 20)
            roots = np.stack([100 + t * 0.42 * w, self.top + 4 + 6 * t**2], axis=1)
            first = np.stack([100 + t * 0.72 * w, self.top + 6 + 16 * t**2], axis=1)
            second = np.stack([100 + t * 0.93 * w, 84 + 8 * t**2], axis=1)
            ends = np.stack([100 + t * 0.9 * w, depth + 12 * t**4 + 2 * np.sin(9 * t)], axis=1)
            return _sheet(rng, (roots, first, second, ends), count, untidy=1.2)

        part = float(rng.choice((-1, 1)) * rng.uniform(16, 30))
        centre = part if rng.random() < 0.45 else rng.uniform(-5, 5)
        volume = rng.uniform(6, 13)
        wave = rng.uniform(1.6, 3.4)
        if style == "bald":
            return [], []
        if style == "buzz":
            return [], [cap(rng.uniform(1, 3), 900, untidy=0.8)]
        if style in ("receding", "combed back"):
            return [], [cap(rng.uniform(5, 12), 650, lean=rng.uniform(-0.1, 0.1), gather=0.45)]
        if style == "tousled":
            return [], [
                cap(
                    rng.uniform(9, 17),
                    650,
                    lean=rng.choice((-1, 1)) * rng.uniform(0.1, 0.35),
                    gather=0.4,
                    untidy=2.3,
                    wave=1.2,
                )
            ]
        if style == "side part":
            return [], [
                cap(volume * 0.6, 260),
                curtain(-1, part, volume, 121, 0.9 * w, w + 2, 330),
                curtain(1, part, volume, 121, 0.9 * w, w + 2, 330),
            ]
        if style == "curls":
            return [], [_curls(rng, cap(rng.uniform(10, 18), 300), 1300, 3.2)]
        if style == "afro":
            return [], [_curls(rng, cap(rng.uniform(24, 38), 300), 2600, 2.1)]
        if style in ("bob", "bob with fringe"):
            end = rng.uniform(172, 198)
            curl_in = rng.uniform(-0.1, 0.12)
            sides = [curtain(side, centre, volume, end, (0.78 - curl_in) * w, (1.2 - curl_in) * w, 360) for side in (-1, 1)]
            front = [*sides, fringe(rng.uniform(99, 105), 330)] if "fringe" in style else sides
            return [behind(volume, end - 3, 4, 260)], front
        if style in ("long", "long with fringe", "wavy"):
            end, extra = 282, wave if style == "wavy" else 0.0
            sides = [
                curtain(side, centre, volume, end, rng.uniform(0.8, 0.96) * w, w + rng.uniform(14, 24), 380, wave=extra)
                for side in (-1, 1)
            ]
            front = [*sides, fringe(rng.uniform(99, 105), 330)] if "fringe" in style else sides
            return [behind(volume, end, rng.uniform(10, 20), 260, wave=extra)], front
        if style == "long curls":
            sides = [curtain(side, centre, volume + 5, 290, 0.84 * w, w + 30, 300, wave=2) for side in (-1, 1)]
            crown = _curls(rng, cap(volume, 200, flat=1.2), 300, 3.2)
            loose = [_curls(rng, sheet, 1000, 3.2) for sheet in sides]
            return [_curls(rng, behind(volume + 8, 285, 28, 200), 700, 3.6)], [crown, *loose]
        pulled = cap(rng.uniform(3, 7), 620, flat=1.1, gather=0.55, untidy=0.8)
        turn = np.linspace(0, 2 * np.pi, 24)
        if style == "bun":
            bun = np.stack([100 + 24 * np.cos(turn), self.top - 14 + 18 * np.sin(turn)], axis=1)
            hub = np.full_like(bun, (100.0, self.top - 4)) + rng.normal(0, 3, (24, 2))
            swirl = bun + np.stack([-np.sin(turn), np.cos(turn)], axis=1) * 14 - (bun - hub) * 0.3
            return [_sheet(rng, (hub, swirl, _lerp(swirl, bun, 0.6), bun), 320, untidy=0.8)], [pulled]
        side = rng.choice((-1, 1))
        t = np.linspace(-1, 1, 12)
        rails = [
            np.stack([100 + side * (20 + 14 * t), self.top + 6 + 8 * t], axis=1),
            np.stack([100 + side * (w + 26 + 14 * t), 74 - 10 * t], axis=1),
            np.stack([100 + side * (w + 26 + 18 * t), 170 + 0 * t], axis=1),
            np.stack([100 + side * (w + 8 + 15 * t), 256 + 0 * t], axis=1),
        ]
        return [_sheet(rng, rails, 420, wave=wave * 0.6)], [pulled]

    def _comb(self, strands: _Strands, area: Area) -> tuple[Array, Array]:
        """Draw a sheet of hair: the cover of its hairs and their shades, fields in 0..1."""
        cover, texture = _sheet_of_paper(area, 2), _sheet_of_paper(area, 2, 110)
        draw_cover, draw_texture = ImageDraw.Draw(cover), ImageDraw.Draw(texture)
        fill = 200 if self.traits.hair == "buzz" else 255
        draw_cover.polygon(_on_paper(strands.outline, area, 2).ravel().tolist(), fill=fill)
        paths = _on_paper(strands.points, area, 2).reshape(len(strands.points), -1).tolist()
        shades = (strands.shade * 255).astype(int).tolist()
        for number, (path, shade) in enumerate(zip(paths, shades, strict=True)):
            draw_texture.line(path, fill=shade, width=1 if number % 5 else 2)
            if number % 2 == 0:
                draw_cover.line(path, fill=255, width=1)
        return tuple(np.asarray(image.reduce(2), dtype=np.float32) / 255 for image in (cover, texture))

    def _shadow_of_hair(self, front: list[_Strands]) -> None:
        if not front:
            return
        area = _around(self.outline, 2)
        image = _sheet_of_paper(area, 1)
        draw = ImageDraw.Draw(image)
        offset = np.array([-5 * self.lamp[0], 5])
        for sheet in front:
            draw.polygon(_on_paper(sheet.outline + offset, area, 1).ravel().tolist(), fill=255)
        shadow = _blur(np.asarray(image, dtype=np.float32) / 255, 4) * 0.42 * self.face_mask[area]
        self.photo[area] *= 1 - shadow[..., None] * np.array([0.85, 1, 1.05], dtype=np.float32)
        self.graphite[area] += 0.35 * shadow

    def _paint_hair(self, strands: _Strands, *, depth: float = 1.0) -> None:
        tone = self.traits.hair_tone
        area = _around(np.concatenate([strands.outline, strands.points.reshape(-1, 2)]), 4)
        x, y = _grid().x[area], _grid().y[area]
        cover, texture = self._comb(strands, area)
        puff = np.sqrt(_blur(cover, 7)) * 24
        dome = np.maximum(1.02 - ((x - 100) / 92) ** 2 - (np.minimum(y - 125, 0) / 98) ** 2, 0.02)
        light, shine = self._light(puff + 40 * np.sqrt(dome), gloss=1.0)
        curly = "curl" in self.traits.hair or self.traits.hair in ("afro", "buzz")
        shine *= (texture**1.5) * (0.12 if curly else 0.36) * (0.6 + 0.5 * tone)
        light = light * (0.42 + 1.12 * texture) * depth
        colour = self._lit(self.hair_colour, light, shine * depth)
        colour += shine[..., None] * self.hair_colour * 0.6
        # Black hair is drawn densely, fair hair with a few lines; highlights stay paper.
        press = 1 - 0.6 * min(tone * 1.1, 1)
        strokes = np.clip(0.88 + 1.25 * (0.46 - texture), 0.15, 1.15)
        graphite = press * strokes * (1.06 - 0.22 * light) - 0.9 * shine + 0.12 * (1 - depth)
        self._lay(cover, colour, np.clip(graphite, 0.02, 1), area)

    def _paint_hat(self) -> None:
        rng, w = self.rng, self.width
        tone = rng.random()
        colour = _on_path(_CLOTH, tone)
        brim = rng.uniform(88, 94)
        tall = self.top - rng.uniform(14, 20)
        dome = _spline(_mirrored(self._side(-1, [(w + 5, brim + 6), (w + 6, brim - 14), (0.86 * w, tall + 24),
                                                 (0.45 * w, tall + 4), (0, tall)])), 48)  # fmt: skip
        low = _spline(_mirrored(self._side(-1, [(w + 5, brim + 7), (0.6 * w, brim + 1), (0, brim - 1)])), 32)
        area = _around(dome, 6)
        x, y = _grid().x[area] - 100, _grid().y[area]
        mask = _polygon(np.concatenate([dome, low[::-1]]), area)
        relief = np.sqrt(np.maximum(1.02 - (x / (w + 8)) ** 2, 0.02)) * 44 + 14 * np.sqrt(_blur(mask, 6))
        bend = x / np.sqrt(np.maximum(1.05 - ((y - 100) / (110 - tall)) ** 2, 0.06))
        rib = 0.5 + 0.5 * np.cos(bend * 1.15)
        knit = 0.5 + 0.5 * np.cos(y * 1.5 + np.abs(np.sin(bend * 0.575)) * 3)
        band = y - (brim - 17 + 6 * (x / w) ** 2)
        cuff = np.clip(band + 0.5, 0, 1)
        light, _ = self._light(relief + rib * 1.2 + 3 * cuff, wrap=0.4)
        weave = 0.8 + 0.22 * rib * _lerp(0.75 + 0.25 * knit, 1, cuff) - 0.25 * np.exp(-((band / 1.4) ** 2))
        graphite = 0.06 + 0.6 * (1 - tone) + 0.75 * (1 - weave) + 0.3 * (0.9 - light)
        self._lay(mask, self._lit(colour, light * weave), graphite, area)
        pencil = _Pencil(rng)
        pencil.stroke(dome, width=1.1, pressure=0.85, taper=0.7)
        pencil.stroke(low, width=1.1, pressure=0.85, taper=0.7)
        pencil.stroke(low - (0, 17), width=1.0, pressure=0.7, taper=0.7)
        self._rule(pencil)

    def _paint_earrings(self) -> None:
        rng, grid = self.rng, _grid()
        gold = np.array((222, 178, 92) if rng.random() < 0.6 else (206, 210, 216), dtype=np.float32)
        hoop = rng.random() < 0.5
        size = rng.uniform(4, 7.5) if hoop else rng.uniform(1.8, 2.6)
        for side in (-1, 1):
            x, y = 100 + side * (self.width + 2.5), self.lobe + (size - 1 if hoop else 0)
            area = _around([(x, y)], 11)
            dx, dy = grid.x[area] - x, grid.y[area] - y
            r = np.hypot(dx, dy)
            mask = np.clip(1.3 - np.abs(r - size), 0, 1) if hoop else np.clip(size - r + 0.5, 0, 1)
            shade = np.clip(0.75 - 0.07 * dy + 0.05 * dx * math.copysign(1, self.lamp[0]), 0.35, 1.15)
            self._lay(mask, gold * shade[..., None], np.clip(1 - 0.75 * shade, 0.1, 0.9), area)

    def _paint_glasses(self) -> None:
        rng, grid, kind = self.rng, _grid(), self.traits.glasses
        wide = rng.uniform(18, 21)
        tall = {"round": wide * 0.92, "square": rng.uniform(12.5, 15.5), "cat-eye": rng.uniform(12.5, 15)}[kind]
        power = {"round": 2.0, "square": 4.5, "cat-eye": 2.8}[kind]
        rim = rng.uniform(0.8, 2.0)
        frame = np.array(
            ((32, 28, 30), (72, 44, 30), (150, 126, 84), (120, 124, 130), (104, 30, 36))[int(rng.integers(5))],
            dtype=np.float32,
        )
        darkness = 1 - frame.mean() / 190
        pencil = _Pencil(rng)
        turn = np.linspace(0, 2 * np.pi, 49)
        area = (slice(100, 155), slice(30, 171))
        x, y = grid.x[area], grid.y[area]
        lens, ring = np.zeros_like(x), np.zeros_like(x)
        for side in (-1, 1):
            u, v = side * (x - 100) - 25.5, y - 127.5
            if kind == "cat-eye":
                v = v + 0.16 * u * (v < 6)
            level = (np.abs(u / wide) ** power + np.abs(v / tall) ** power) ** (1 / power)
            distance = (level - 1) * ((wide + tall) / 2)
            lens = np.maximum(lens, np.clip(0.5 - distance, 0, 1))
            ring = np.maximum(ring, np.clip(rim + 0.5 - np.abs(distance), 0, 1))
        out = np.abs(x - 100)
        bridge = np.clip(rim + 0.3 - np.abs(y - (121 + 0.06 * out * out)), 0, 1) * (out < 27 - wide)
        arm = np.clip(rim + 0.2 - np.abs(y - (118 + 0.06 * out)), 0, 1) * (out > 25 + wide) * (out < self.width + 1)
        ring = np.maximum(ring, np.maximum(bridge, arm))
        shadow = np.roll(_blur(ring, 1.4), (4, round(-3 * self.lamp[0])), axis=(0, 1)) * self.face_mask[area]
        self.photo[area] *= 1 - 0.3 * shadow[..., None]
        self.graphite[area] += 0.12 * shadow
        streak = _smoothstep(0.75, 1.0, np.sin((x + 0.7 * y) * 0.13 + rng.uniform(0, 6)))
        _paint(self.photo[area], lens * (0.05 + 0.12 * streak * (y < 128)), (236, 244, 252))
        gleam = 0.75 + 0.5 * np.exp(-(((y - 117) / 5) ** 2))
        self._lay(ring, frame * gleam[..., None], np.clip(0.35 + 0.6 * darkness, 0, 1), area)
        for side in (-1, 1):
            circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
            circle = np.sign(circle) * np.abs(circle) ** (2 / power)
            path = circle * (wide, tall)
            if kind == "cat-eye":
                path[:, 1] -= 0.16 * path[:, 0] * (path[:, 1] < 6)
            pencil.stroke(
                (path * (side, 1)) + (100 + side * 25.5, 127.5),
                width=0.8 + 0.3 * rim,
                pressure=0.6 + 0.3 * darkness,
                taper=0.8,
                passes=1,
            )
        self._rule(pencil)

    # The two developers

    def _develop(self) -> Image.Image:
        """The photo: a soft shoulder for the highlights, a lens a little soft, and the sensor's noise."""
        # From 200 on the curve bends; it is flat, at 255, where the light is 310.
        photo = np.clip(self.photo, 0, 310)
        above = np.maximum(photo - 200, 0)
        photo -= above * above * (1 / 220)
        image = Image.fromarray((photo + 0.5).astype(np.uint8))
        image = image.filter(ImageFilter.GaussianBlur(0.45))
        noise = self.rng.standard_normal((SIZE[1], SIZE[0], 1), dtype=np.float32) * 1.6
        return Image.fromarray(np.clip(np.asarray(image) + noise + 0.5, 0, 255).astype(np.uint8))

    def _sketch(self) -> Image.Image:
        """The sketch: graphite catches on the paper's grain, and tone is laid in slanted hatching."""
        rng = self.rng
        noise = rng.standard_normal((SIZE[1] + 24, SIZE[0] + 24), dtype=np.float32)
        hatch = sum(noise[24 - k : 24 - k + SIZE[1], k : k + SIZE[0]] for k in range(0, 24, 2)) / 12**0.5
        grain = (noise[:-24, :-24] + noise[1:-23, :-24] + noise[:-24, 1:-23]) / 3**0.5
        tone = np.clip(self.graphite, 0, 1)
        mid = 4 * tone * (1 - tone)
        tone = tone + mid * (0.075 * hatch + 0.07 * grain) * (0.35 + 0.65 * mid)
        tone = np.where(tone < 0.1, np.maximum(tone, 0) ** 2 * 10, tone)
        paper = 250 + 1.2 * grain
        sketch = paper - 222 * np.clip(tone, 0, 1) ** 0.95
        return Image.fromarray(np.clip(sketch + 0.5, 0, 255).astype(np.uint8))


def _densify(points: ArrayLike, step: float = 3.0) -> NDArray:
    """Add points to a polyline so that none are further apart than `step` pixels."""
    points = np.asarray(points, dtype=float)
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    sample = np.linspace(0, length[-1], max(2, int(length[-1] / step) + 1))
    return np.stack([np.interp(sample, length, points[:, k]) for k in range(2)], axis=1)


def _sorted(angle: NDArray, value: NDArray) -> tuple[NDArray, NDArray]:
    order = np.argsort(angle)
    return angle[order], value[order]
