import numpy as np
import pytest
import torch

from pix2pix.jitter import moved, outlined, redrawn, resettled, retoned


def draws(function, count=40):
    return [function(np.random.default_rng(seed)) for seed in range(count)]


@pytest.fixture(scope="module")
def both():
    """Two pictures whose pixels tell where they came from: rows in the first channel, columns in the second."""
    rows, columns = torch.meshgrid(torch.arange(60.0), torch.arange(48.0), indexing="ij")
    return torch.stack([rows, columns])


def test_a_pair_that_is_not_resampled_is_a_shifted_copy(both):
    results = draws(lambda rng: moved(both, rng, zoom=1.2, max_rotation=10, max_warp=3))
    shifted = [result for result in results if torch.equal(result, result.round())]
    assert 4 < len(shifted) < 22  # three in ten
    for result in shifted:
        inner = result[:, 8:-8, 8:-8]
        assert (inner[0].diff(dim=0) == 1).all()
        assert (inner[1].diff(dim=1) == 1).all()
    assert len({tuple(result[:, 30, 24].tolist()) for result in shifted}) > 3


def test_rotation_keeps_distances_and_stays_in_its_range(both):
    angles = []
    for result in draws(lambda rng: moved(both, rng, zoom=1.0, max_rotation=20, max_warp=0)):
        step = (result[:, 30, 34] - result[:, 30, 14]) / 20  # a pixel to the right, in the coordinates of the original
        assert step.norm() == pytest.approx(1, abs=0.02)
        angles.append(torch.atan2(step[0], step[1]).rad2deg().item())
    assert max(abs(angle) for angle in angles) <= 20.5
    assert max(angles) > 8
    assert min(angles) < -8


def test_zoom_goes_both_ways_and_stays_in_its_range(both):
    scales = [
        (result[1, 30, 30] - result[1, 30, 20]).item() / 10
        for result in draws(lambda rng: moved(both, rng, zoom=1.25, max_rotation=0, max_warp=0))
    ]
    assert min(scales) < 0.9
    assert max(scales) > 1.1
    assert all(0.79 < scale < 1.26 for scale in scales)


def test_bending_is_smooth_and_as_large_as_asked(both):
    shifts = []
    for result in draws(lambda rng: moved(both, rng, zoom=1.0, max_rotation=0, max_warp=2)):
        shift = (result - both)[:, 12:-12, 12:-12]
        assert shift.diff(dim=1).abs().max() < 1
        shifts.append(shift)
    assert 0.7 < torch.stack(shifts).std() < 2.2


def test_nothing_leaves_the_range_of_the_pictures():
    noise = torch.rand(4, 32, 24) * 255
    for result in draws(lambda rng: moved(noise, rng, zoom=1.3, max_rotation=30, max_warp=4)):
        assert result.shape == noise.shape
        assert result.min() >= noise.min()
        assert result.max() <= noise.max()
        assert result.isfinite().all()


def test_tone_stays_in_model_range_and_leaves_some_pictures_alone():
    source = torch.rand(3, 32, 24) * 2 - 1
    results = draws(lambda rng: retoned(source, rng, 1.0), 60)
    assert 8 < sum(torch.equal(result, source) for result in results) < 30
    assert all(result.min() >= -1 and result.max() <= 1 for result in results)
    assert len({round(result.mean().item(), 3) for result in results}) > 25


def test_no_tone_change_changes_nothing():
    source = torch.rand(1, 32, 24) * 1.9 - 0.95
    for result in draws(lambda rng: retoned(source, rng, 0.0), 10):
        torch.testing.assert_close(result, source, atol=1e-5, rtol=0)


def test_grey_stays_grey_and_edges_stay_where_they_are():
    half = torch.cat([torch.full((1, 32, 12), 0.8), torch.full((1, 32, 12), -0.6)], dim=2)
    for result in draws(lambda rng: retoned(half, rng, 1.0)):
        assert result.shape == half.shape
        assert result[0, :, :11].mean() > result[0, :, 13:].mean() + 0.3


def portrait(wall, person=(0.2, -0.1, -0.3)):
    """A person, an oval that stands on the lower edge, before a wall of one colour."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 80), torch.linspace(-1, 1, 64), indexing="ij")
    is_person = (columns / 0.6) ** 2 + ((rows - 0.3) / 0.9) ** 2 < 1
    colours = [torch.tensor(colour).view(3, 1, 1) for colour in (person, wall)]
    return torch.where(is_person, *colours), is_person


def test_an_even_background_is_replaced_and_the_person_is_not():
    photo, is_person = portrait((-0.2, 0.4, 0.8))
    inside = torch.nn.functional.avg_pool2d(is_person[None].float(), 5, 1, 2) == 1
    results = draws(lambda rng: resettled(photo, rng, 1.0), 20)
    for result in results:
        assert torch.equal(result[:, inside[0]], photo[:, inside[0]])
        assert result.min() >= -1
        assert result.max() <= 1
    changed = [(result - photo)[:, :20].abs().mean().item() for result in results]
    assert min(changed) > 0.05
    assert len({round(change, 4) for change in changed}) == 20


def test_what_does_not_hang_together_with_the_background_stays():
    photo, _ = portrait((-0.2, 0.4, 0.8))
    photo[:, 50:60, 28:36] = torch.tensor((-0.2, 0.4, 0.8)).view(3, 1, 1)  # a badge of the wall's colour
    for result in draws(lambda rng: resettled(photo, rng, 1.0), 5):
        assert torch.equal(result[:, 50:60, 28:36], photo[:, 50:60, 28:36])


def test_only_the_share_asked_for_is_changed_and_uneven_backgrounds_never():
    photo, _ = portrait((0.9, 0.9, 0.9))
    results = draws(lambda rng: resettled(photo, rng, 0.4), 100)
    assert 25 < sum(not torch.equal(result, photo) for result in results) < 55
    street = torch.rand(3, 80, 64) * 2 - 1
    assert all(torch.equal(result, street) for result in draws(lambda rng: resettled(street, rng, 1.0), 10))


def test_black_corners_are_no_background():
    photo, _ = portrait((-0.2, 0.4, 0.8))
    photo[:, :6] = -1
    for result in draws(lambda rng: resettled(photo, rng, 1.0), 5):
        assert torch.equal(result[:, :4], photo[:, :4])
        assert not torch.equal(result[:, 10:20], photo[:, 10:20])


def test_another_hand_draws_thicker_and_thinner_lines_and_other_shading():
    sketch = torch.ones(1, 60, 48)
    sketch[:, 30, 10:40] = -1  # a line
    sketch[:, 5:25, 10:40] = 0.4  # shading
    results = draws(lambda rng: redrawn(sketch, rng, 1.0), 60)
    beside = [result[0, 31, 25].item() for result in results]
    line = [result[0, 30, 25].item() for result in results]
    shading = [result[0, 15, 25].item() for result in results]
    assert min(beside) < 0.2  # the line has spread
    assert max(line) > 0  # it has faded, which is what a thin line does on a grid of pixels
    assert min(shading) < 0 < 0.7 < max(shading)
    assert all(result.shape == sketch.shape and result.min() >= -1 and result.max() <= 1 for result in results)
    assert all(torch.equal(redrawn(sketch, np.random.default_rng(seed), 0.0), sketch) for seed in range(5))


def test_white_paper_stays_white_whatever_the_hand():
    paper = torch.ones(3, 32, 24)
    assert all(torch.equal(result, paper) for result in draws(lambda rng: redrawn(paper, rng, 1.0), 10))


def test_of_an_outlined_sketch_only_lines_are_left():
    sketch = torch.full((1, 120, 96), 0.9)
    sketch[:, 20:60, 20:76] = -0.7  # hair, filled
    sketch[:, 90, 20:76] = -0.7  # a mouth
    for result in draws(lambda rng: outlined(sketch, rng, 1.0), 40):
        assert result.shape == sketch.shape
        assert result.min() >= -1
        assert result.max() == 1
        assert torch.all(result[:, 36:44, 40:56] == 1)  # inside the hair: empty
        assert result[0, 18:24, 48].min() < result[0, 40, 48] - 0.1  # its outline
        assert result[0, 90, 48] < 0.95  # the mouth
        assert torch.all(result[:, :5] == 1)
        assert torch.all(result[:, 110:] == 1)  # the paper, white now


def test_strokes_side_by_side_grow_together_or_stay_lines():
    hatched = torch.ones(1, 120, 96)
    hatched[:, 30:90, 20:76:4] = -0.8
    inside = [result[0, 60, 40:56].min().item() for result in draws(lambda rng: outlined(hatched, rng, 1.0), 60)]
    assert min(inside) < 0 < 1 == max(inside)


def test_outlines_are_the_share_asked_for_alike_in_all_channels():
    sketch = torch.rand(1, 40, 32).mul(2).sub(1).expand(3, -1, -1)
    results = draws(lambda rng: outlined(sketch, rng, 0.3), 100)
    assert 15 < sum(not torch.equal(result, sketch) for result in results) < 45
    assert all(torch.equal(result, result[:1].expand(3, -1, -1)) for result in results)
    paper = torch.ones(1, 32, 24)
    assert all(torch.equal(result, paper) for result in draws(lambda rng: outlined(paper, rng, 1.0), 10))
