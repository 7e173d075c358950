import numpy as np
import pytest
import torch
from noise_pairs import photo_of, sketch_of, write_folders

from pix2pix.data import PairedImages, load_pairs
from pix2pix.images import to_tensor
from pix2pix.validation import GRID_ROWS, HeldOut

PEOPLE = ["anna", "anna", "berta", "berta"]


@pytest.fixture
def images(tmp_path):
    """Four photos and sketches of 24 x 32 pixels."""
    return PairedImages(load_pairs(write_folders(tmp_path)), image_size=(32, 24), mirror=False, channels=(3, 1))


def test_a_direction_says_which_pictures_are_the_sources(images):
    held_out = HeldOut(images, PEOPLE, known=images)
    photos = torch.stack([to_tensor(photo_of(number)) for number in range(4)])
    sketches = torch.stack([to_tensor(sketch_of(number), channels=1) for number in range(4)])
    for direction, wanted in (("photo2sketch", (photos, sketches)), ("sketch2photo", (sketches, photos))):
        assert all(torch.equal(*both) for both in zip(held_out.pictures(direction), wanted, strict=True))
    assert len(held_out) == 4


def test_pictures_are_read_once(images):
    held_out = HeldOut(images, PEOPLE, known=images)
    assert held_out.pictures("photo2sketch")[0] is held_out.pictures("sketch2photo")[1]


def test_the_floors_know_nothing_of_the_person(images):
    known = [images[0], images[3]]
    floors = HeldOut(images, PEOPLE, known=known).floors("sketch2photo")
    mean = torch.stack([pair["photo"] for pair in known]).mean(0)
    photos, sketches = (torch.stack([images[index][side] for index in range(4)]) for side in ("photo", "sketch"))
    assert floors.keys() == {"mean_picture", "input", "another_person"}
    assert floors["mean_picture"].shape == photos.shape
    assert torch.allclose(floors["mean_picture"], mean.expand_as(photos), atol=1e-6)
    assert torch.equal(floors["input"], sketches)
    assert torch.equal(floors["another_person"], photos[[2, 3, 0, 1]])


def test_where_there_is_one_person_nobody_else_is_a_floor(images):
    assert HeldOut(images, ["anna"] * 4, known=images).floors("photo2sketch").keys() == {"mean_picture", "input"}


def test_a_grid_holds_source_fake_and_target_of_each_direction(images):
    many = [images[index % 4] for index in range(GRID_ROWS + 2)]
    held_out = HeldOut(many, [*PEOPLE, *PEOPLE], known=many)
    fakes = {"photo2sketch": torch.full((len(many), 1, 32, 24), -1.0), "sketch2photo": torch.ones(len(many), 3, 32, 24)}
    both, one = held_out.grid(fakes), held_out.grid({"photo2sketch": fakes["photo2sketch"]})
    assert both.size == (6 * (24 + 6) + 6, 22 + GRID_ROWS * (32 + 6) + 6)
    assert one.size == (3 * (24 + 6) + 6, both.height)
    cells = [np.asarray(both)[28:60, 6 + 30 * column : 30 + 30 * column] for column in range(6)]
    photo, sketch = (np.asarray(image.convert("RGB")) for image in (photo_of(0), sketch_of(0)))
    for cell, wanted in zip(cells, (photo, np.zeros_like(photo), sketch, sketch, np.full_like(photo, 255), photo), strict=True):
        assert np.array_equal(cell, wanted)
