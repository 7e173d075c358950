import sys

import numpy as np
import piq
import pytest
import torch

from pix2pix.drawn_faces import draw_pair
from pix2pix.images import to_tensor
from pix2pix.metrics import (
    another_person,
    as_levels,
    bootstrap_interval,
    face_descriptors,
    frechet_distance,
    kernel_distance,
    kernel_distance_resamples,
    mean_picture,
    paired_difference,
    per_image_scores,
    percentile_interval,
    rank1,
    validation_scores,
)
from pix2pix.perception import PerceptualNetwork


@pytest.fixture(scope="module")
def network():
    return PerceptualNetwork(image_size=(64, 56))


@pytest.fixture(scope="module")
def people():
    """Photos (6, 3, 250, 200) and sketches (6, 1, 250, 200) of drawn people, in [-1, 1]."""
    pairs = [draw_pair(seed) for seed in range(6)]
    photos = torch.stack([to_tensor(pair.photo) for pair in pairs])
    return photos, torch.stack([to_tensor(pair.sketch, channels=1) for pair in pairs])


def pictures(count=2, channels=3, size=(32, 24), seed=0):
    return torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def level(value, channels=3, size=(32, 24)):
    """A flat picture of one of the 256 levels."""
    return torch.full((1, channels, *size), value / 127.5 - 1)


def test_levels_survive_the_way_to_model_range_and_back():
    levels = torch.arange(256.0).view(1, 1, 16, 16)
    assert torch.equal(as_levels(levels / 127.5 - 1), levels)
    assert as_levels(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_mae_and_psnr_of_a_known_shift():
    scores = per_image_scores(level(110), level(100))
    assert scores["mae"].item() == pytest.approx(10, abs=1e-4)
    assert scores["psnr"].item() == pytest.approx(20 * np.log10(255 / 10), abs=1e-3)


def test_mae_averages_the_channels():
    fake = level(100)
    fake[:, 0] += 30 / 127.5
    assert per_image_scores(fake, level(100))["mae"].item() == pytest.approx(10, abs=1e-3)


def test_psnr_of_known_noise():
    noise = torch.randn(1, 1, 300, 300, generator=torch.Generator().manual_seed(0)) * 20
    found = per_image_scores(level(128, 1, (300, 300)) + noise / 127.5, level(128, 1, (300, 300)))["psnr"].item()
    assert found == pytest.approx(20 * np.log10(255 / 20), abs=0.1)


def test_differences_do_not_wrap_as_uint8_would():
    # In uint8 the square of 16 is 0: such a PSNR would be perfect.
    assert ((np.uint8([116]) - np.uint8([100])) ** 2)[0] == 0
    assert per_image_scores(level(116), level(100))["psnr"].item() == pytest.approx(20 * np.log10(255 / 16), abs=1e-3)
    down, up = per_image_scores(level(0), level(255)), per_image_scores(level(255), level(0))
    assert down["mae"].item() == up["mae"].item() == 255
    assert abs(down["psnr"].item()) < 1e-4


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(16, 16), (17, 41), (250, 200)])
def test_equal_pictures_score_perfectly(channels, size):
    images = pictures(channels=channels, size=size)
    scores = per_image_scores(images, images.clone())
    assert scores["mae"].tolist() == [0, 0]
    assert scores["psnr"].tolist() == pytest.approx([80, 80], abs=1e-3)
    for name in ("ssim", "fsim"):
        assert scores[name].tolist() == pytest.approx([1, 1], abs=1e-5)


def test_flat_pictures_have_scores_too():
    for value in (0, 128, 255):
        scores = per_image_scores(level(value), level(value))
        assert scores["fsim"].item() == pytest.approx(1)
        assert scores["ssim"].item() == pytest.approx(1)
    assert all(torch.isfinite(values).all() for values in per_image_scores(level(0), pictures(1)).values())


def test_more_noise_scores_worse(people):
    photos = people[0][:2]
    noise = torch.randn(photos.shape, generator=torch.Generator().manual_seed(1)) * 0.05
    little, much = per_image_scores(photos + noise, photos), per_image_scores(photos + 5 * noise, photos)
    assert (much["mae"] > little["mae"]).all()
    for name in ("psnr", "ssim", "fsim"):
        assert (much[name] < little[name]).all()


def test_ssim_equals_its_definition_at_one_position():
    # A picture of the window's own size has one position: the formula can be written out.
    fake, target = pictures(1, 1, (16, 16), seed=2), pictures(1, 1, (16, 16), seed=3)
    x, y = (as_levels(each)[0, 0].double() / 255 for each in (fake, target))
    axis = torch.exp(-((torch.arange(11.0).double() - 5) ** 2) / (2 * 1.5**2))
    window = torch.outer(axis, axis) / axis.sum() ** 2
    values = []
    for top in range(6):
        for left in range(6):
            a, b = x[top : top + 11, left : left + 11], y[top : top + 11, left : left + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            spread = (window * a * a).sum() - mean_a**2 + (window * b * b).sum() - mean_b**2
            shared = (window * a * b).sum() - mean_a * mean_b
            values.append(
                (2 * mean_a * mean_b + 0.01**2)
                * (2 * shared + 0.03**2)
                / ((mean_a**2 + mean_b**2 + 0.01**2) * (spread + 0.03**2))
            )
    found = per_image_scores(fake, target)["ssim"].item()
    assert found == pytest.approx(torch.stack(values).mean().item(), abs=1e-5)


def test_colour_is_ignored_on_luma_and_when_the_other_side_is_grey():
    colour, grey = pictures(seed=4), pictures(channels=1, seed=5)
    red, green, blue = as_levels(colour).unbind(1)
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue
    error = (brightness - as_levels(grey)[:, 0]).abs().mean((1, 2))
    as_colour = grey.expand(-1, 3, -1, -1)
    expected = per_image_scores(colour, grey)
    torch.testing.assert_close(expected["mae"], error)
    for found in (per_image_scores(colour, as_colour, on_luma=True), per_image_scores(as_colour, colour, on_luma=True)):
        for name, values in found.items():
            torch.testing.assert_close(values, expected[name], atol=1e-4, rtol=1e-4)
    assert (per_image_scores(colour, as_colour)["mae"] > expected["mae"] + 5).all()
    assert per_image_scores(level(100), level(100, 1))["mae"].item() == pytest.approx(0, abs=1e-4)


def test_a_picture_scores_the_same_in_any_batch():
    fake, target = pictures(11, seed=6), pictures(11, seed=7)
    together = per_image_scores(fake, target)
    for index in (0, 7, 8, 10):
        alone = per_image_scores(fake[index : index + 1], target[index : index + 1])
        for name, values in together.items():
            assert values.shape == (11,)
            assert values[index].item() == pytest.approx(alone[name].item(), abs=1e-4)


def test_scores_are_of_the_levels_that_a_file_can_hold():
    fake, target = pictures(seed=8), pictures(seed=9)
    saved = per_image_scores(as_levels(fake) / 127.5 - 1, as_levels(target) / 127.5 - 1)
    for name, values in per_image_scores(fake, target).items():
        assert torch.equal(values, saved[name])


@pytest.mark.parametrize(
    ("fake", "target", "message"),
    [
        (pictures(2), pictures(3), "must agree in number and size"),
        (pictures(size=(32, 24)), pictures(size=(24, 32)), "must agree in number and size"),
        (pictures(size=(15, 40)), pictures(size=(15, 40)), "at least 16 pixels a side, got 40 x 15"),
    ],
)
def test_pictures_that_cannot_be_compared_are_refused(fake, target, message):
    with pytest.raises(ValueError, match=message):
        per_image_scores(fake, target)


def test_validation_scores_are_the_means(network):
    fake, target = pictures(9, seed=10), pictures(9, seed=11)
    scores = validation_scores(fake, target, network)
    assert list(scores) == ["mae", "psnr", "ssim", "fsim", "perceptual"]
    for name, values in per_image_scores(fake, target).items():
        assert scores[name] == pytest.approx(values.mean().item())
    assert scores["perceptual"] == pytest.approx(network.perceptual_distance(fake, target).mean().item(), rel=0.01)
    assert "perceptual" not in validation_scores(fake, target, None)
    assert validation_scores(target, target, network)["perceptual"] == 0


def test_mean_picture_lies_in_the_middle():
    assert torch.allclose(mean_picture(torch.cat([level(10), level(20), level(90)])), level(40)[0], atol=1e-6)
    assert torch.allclose(mean_picture(iter([level(0)[0], level(255)[0]])), torch.zeros(3, 32, 24), atol=1e-6)
    with pytest.raises(ValueError, match="at least one picture"):
        mean_picture([])


def test_another_person_is_never_the_same_person():
    assert another_person(torch.arange(4)).tolist() == [1, 2, 3, 0]
    who = ["c", "a", "b", "a", "c", "a"]
    chosen = another_person(torch.arange(6), who).tolist()
    assert all(who[index] != person for index, person in zip(chosen, who, strict=True))
    assert [who[index] for index in chosen] == ["a", "b", "c", "b", "a", "b"]
    images = pictures(4)
    assert torch.equal(another_person(images), images.roll(-1, 0))
    with pytest.raises(ValueError, match="at least two people, got 1"):
        another_person(torch.arange(3), ["a", "a", "a"])


def features(count, shift=0.0, seed=0):
    return torch.rand(count, 64, generator=torch.Generator().manual_seed(seed)) + shift


def test_kernel_distance_equals_its_definition():
    a, b = features(4, seed=1).double(), features(3, 0.5, seed=2).double()

    def kernel(u, v):
        return (u @ v / 64 + 1).item() ** 3

    within_a = np.mean([kernel(a[i], a[j]) for i in range(4) for j in range(4) if i != j])
    within_b = np.mean([kernel(b[i], b[j]) for i in range(3) for j in range(3) if i != j])
    across = np.mean([kernel(u, v) for u in a for v in b])
    assert kernel_distance(a, b) == pytest.approx(within_a + within_b - 2 * across)


def test_kernel_distance_is_zero_in_the_mean_for_one_source_and_grows_with_the_shift():
    same = [kernel_distance(features(50, seed=seed), features(50, seed=seed + 100)) for seed in range(40)]
    assert abs(np.mean(same)) < 4 * np.std(same) / np.sqrt(len(same))
    assert min(same) < 0 < max(same)
    near, far = (kernel_distance(features(50, seed=1), features(50, shift, seed=2)) for shift in (0.1, 0.4))
    assert max(same) < near < far


def test_kernel_distance_is_symmetric_and_needs_two_pictures():
    a, b = features(9, seed=3), features(7, 0.2, seed=4)
    assert kernel_distance(a, b) == pytest.approx(kernel_distance(b, a))
    for call in (kernel_distance, kernel_distance_resamples):
        with pytest.raises(ValueError, match="at least 2 pictures a set, got 1"):
            call(a[:1], b[:1])


def test_resampled_kernel_distances_lie_around_the_distance():
    fake, real = features(60, 0.1, seed=5), features(60, seed=6)
    resampled = kernel_distance_resamples(fake, real)
    low, high = percentile_interval(resampled)
    distance = kernel_distance(fake, real)
    assert low < distance < high
    # Copies of a picture among the draws, if they were compared, would raise the mean far beyond this.
    assert abs(resampled.mean().item() - distance) < 0.2 * resampled.std().item()
    assert torch.equal(resampled, kernel_distance_resamples(fake, real))
    assert torch.isfinite(torch.tensor(percentile_interval(kernel_distance_resamples(fake[:2], real[:2])))).all()


def test_bootstrap_interval_contains_the_mean_and_narrows():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)) * 2 + 5
    widths = []
    for count in (25, 100, 400):
        low, high = bootstrap_interval(values[:count])
        assert low < values[:count].mean() < high
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] == pytest.approx(2 * 1.96 * values.std().item() / 20, rel=0.1)
    low, high = bootstrap_interval(values, confidence=0.5)
    assert high - low < widths[2] / 2
    assert bootstrap_interval(values) == bootstrap_interval(values.tolist())
    assert bootstrap_interval([3.0]) == (3, 3)


def test_bootstrap_intervals_cover_the_truth_as_often_as_they_say():
    draws = torch.rand(200, 40, generator=torch.Generator().manual_seed(1))
    covered = [low <= 0.5 <= high for low, high in (bootstrap_interval(row, resamples=300) for row in draws)]
    assert 0.88 <= np.mean(covered) <= 0.99


def test_pairing_finds_a_difference_that_the_two_intervals_hide():
    difficulty = torch.randn(100, generator=torch.Generator().manual_seed(2)) * 10
    better = difficulty + torch.randn(100, generator=torch.Generator().manual_seed(3)) * 0.1 - 1
    assert bootstrap_interval(better)[1] > bootstrap_interval(difficulty)[0]
    low, high = paired_difference(better, difficulty)
    assert low < -1 < high < 0
    with pytest.raises(ValueError, match="same pictures, got 3 and 4"):
        paired_difference([1, 2, 3], [1, 2, 3, 4])


def test_frechet_distance_is_that_of_two_normal_distributions():
    a = torch.randn(60, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    b = 2 * torch.randn(50, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 3
    assert frechet_distance(a, b) == pytest.approx(piq.FID()(a, b).item(), rel=1e-4)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_fewer_pictures_than_features():
    """Where covariances are singular: a set that is moved has the square of the way, one that is doubled its variance."""
    few = torch.randn(10, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert frechet_distance(few, few + 0.5) == pytest.approx(300 * 0.25, rel=1e-6)
    assert frechet_distance(few, 2 * few - few.mean(0)) == pytest.approx(few.var(0).sum().item(), rel=1e-6)
    with pytest.raises(ValueError, match="at least 2 pictures a set, got 1"):
        frechet_distance(few[:1], few)


def test_rank1_counts_the_right_people():
    real = torch.eye(4)
    assert rank1(real, real).tolist() == [1, 1, 1, 1]
    assert rank1(real[[1, 0, 2, 3]] * 0.9, real).tolist() == [0, 0, 1, 1]
    # The nearest picture is another one of the same person: that is right too.
    assert rank1(real[[1, 0, 2, 3]], real, people=["a", "a", "b", "c"]).tolist() == [1, 1, 1, 1]


def test_faces_are_told_apart_and_described_repeatably(people):
    photos = people[0][:2]
    known = {}
    described = face_descriptors(photos, known=known)
    assert described.shape == (2, 128)
    assert rank1(described, described).tolist() == [1, 1]
    darker = face_descriptors([photo * 0.9 - 0.1 for photo in photos])
    assert rank1(darker, described).tolist() == [1, 1]
    assert not torch.equal(darker, described)
    assert torch.equal(face_descriptors(photos[:1]), described[:1])
    # What is known is not described again: a marked entry comes back.
    known[next(iter(known))] = [7.0] * 128
    assert face_descriptors(photos, known=known)[0].tolist() == [7.0] * 128


@pytest.mark.parametrize("package", ["dlib", "face_recognition_models"])
def test_missing_face_recognition_is_named_with_its_remedy(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match="pip install dlib-bin face_recognition_models"):
        face_descriptors(pictures())
