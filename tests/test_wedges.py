import numpy as np
import pytest
import torch

from pix2pix.wedges import filled, wedged


def wall(height=100, width=80):
    """A bright picture (3, H, W), uint8, none of whose columns are alike."""
    columns = 150 + torch.arange(width) % 90
    return columns.expand(3, height, width).to(torch.uint8).contiguous()


def with_upper_wedge(picture, *, left, right):
    """The picture under a black wedge that is `left` rows deep at its left end and `right` at the other."""
    height, width = picture.shape[1:]
    line = torch.linspace(left, right, width)
    return picture.masked_fill(torch.arange(height)[:, None] < line, 5)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize(("left", "right"), [(12, 12), (15, 0), (-8, 10), (3, 14)])
def test_a_wedge_at_any_side_is_filled_with_the_border(turns, left, right):
    picture = torch.rot90(with_upper_wedge(wall(), left=left, right=right), turns, (1, 2))
    result = filled(picture)
    assert result.dtype == torch.uint8
    assert result.min() >= 150
    if turns == 0:  # along a wedge at the top, every column goes on as it was
        assert torch.equal(result, wall())


def test_two_wedges_are_both_filled():
    picture = with_upper_wedge(wall(), left=10, right=0)
    picture = torch.rot90(with_upper_wedge(torch.rot90(picture, 1, (1, 2)), left=0, right=9), -1, (1, 2))
    assert filled(picture).min() >= 150


def test_a_picture_without_wedges_stays_as_it_is():
    assert torch.equal(filled(wall()), wall())


def test_hair_and_clothes_that_touch_the_border_stay():
    picture = wall()
    rows, columns = torch.meshgrid(torch.arange(100), torch.arange(80), indexing="ij")
    hair = (rows - 5) ** 2 + (columns - 40) ** 2 < 24**2
    shoulders = rows > 96 - 22 * torch.exp(-(((columns - 40) / 16) ** 2))
    dark = picture.masked_fill(hair | shoulders, 10)
    assert torch.equal(filled(dark), dark)


def test_hair_that_touches_a_wedge_is_no_reason_to_keep_it():
    picture = with_upper_wedge(wall(), left=14, right=2)
    picture[:, :40, 36:44] = 10
    result = filled(picture)
    assert result[:, :8, :30].min() >= 150
    assert (result[:, 20:40, 37:43] == 10).all()


def test_a_black_picture_and_a_tiny_one_are_left_alone():
    black = torch.zeros(3, 40, 40, dtype=torch.uint8)
    assert torch.equal(filled(black), black)
    tiny = torch.zeros(1, 3, 3, dtype=torch.uint8)
    assert torch.equal(filled(tiny), tiny)


def test_wedges_are_put_around_a_share_of_the_sources_and_the_middle_stays():
    source = torch.full((3, 100, 80), 0.25)
    results = [wedged(source, np.random.default_rng(seed), 0.5) for seed in range(200)]
    changed = [result for result in results if not torch.equal(result, source)]
    assert 70 < len(changed) < 130
    for result in changed:
        assert (result[:, 20:-20, 20:-20] == 0.25).all()
        assert len(set(result.unique().tolist()) - {0.25}) == 1  # of one tone
    assert 0.6 < np.mean([float(result.min()) == -1 for result in changed]) < 0.95
    assert all(torch.equal(wedged(source, np.random.default_rng(seed), 0), source) for seed in range(20))
    touched = torch.stack([result[0] != 0.25 for result in changed]).any(0)
    assert touched[0].all()
    assert touched[-1].all()
    assert touched[:, 0].all()
    assert touched[:, -1].all()


def test_what_is_put_around_a_source_is_found_again():
    source = torch.full((3, 120, 96), 0.5)
    put = left = 0.0
    for seed in range(100):
        levels = wedged(source, np.random.default_rng(seed), 1.0).add(1).mul(127.5).round().to(torch.uint8)
        put += float((levels < 24).float().mean())
        left += float((filled(levels) < 24).float().mean())
    assert put > 3
    assert left < 0.05 * put
