import pytest
import torch
from torch import nn

from pix2pix.layers import InstanceNorm, dropping_out, evaluating, initialise, norm, pad_to_even


def test_initialise_draws_weights_and_clears_biases():
    network = nn.Sequential(nn.Conv2d(64, 64, 4), nn.ConvTranspose2d(64, 64, 4))
    initialise(network)
    for layer in network:
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.02)
        assert not layer.bias.any()


def test_norm_is_per_picture_and_channel_without_parameters():
    layer = norm(3)
    x = torch.randn(2, 3, 8, 8) * torch.tensor([1.0, 10.0]).view(2, 1, 1, 1) + 5
    y = layer(x)
    assert list(layer.parameters()) == []
    assert list(layer.buffers()) == []
    assert torch.allclose(y.mean((2, 3)), torch.zeros(2, 3), atol=1e-5)
    assert torch.allclose(y.var((2, 3), correction=0), torch.ones(2, 3), atol=1e-3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(2, 3), (40, 50)])
def test_instance_norm_is_that_of_torch_and_keeps_the_layout(layout, size):
    torch.manual_seed(0)
    x = (5 + 3 * torch.randn(2, 4, *size)).contiguous(memory_format=layout).requires_grad_()
    y = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    weight = torch.randn(2, 4, *size)
    mine, theirs = InstanceNorm(4)(x), torch.nn.InstanceNorm2d(4)(y)
    (weight * mine).sum().backward()
    (weight * theirs).sum().backward()
    torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=0)
    torch.testing.assert_close(x.grad, y.grad, atol=1e-4, rtol=0)
    if size == (40, 50):
        assert mine.is_contiguous(memory_format=layout)


def test_pad_to_even_repeats_the_last_row_and_column():
    x = torch.arange(9.0).view(1, 1, 3, 3)
    padded = pad_to_even(x)
    assert padded.shape == (1, 1, 4, 4)
    assert torch.equal(padded[..., 3, :3], x[..., 2, :])
    assert torch.equal(padded[..., :3, 3], x[..., :, 2])
    assert pad_to_even(padded) is padded


@pytest.mark.parametrize("was_training", [True, False])
def test_evaluating_gives_the_mode_back_even_after_an_error(was_training):
    network = nn.Dropout().train(was_training)
    modes = []

    def fail():
        with evaluating(network):
            modes.append(network.training)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert modes == [False]
    assert network.training is was_training


def test_dropping_out_wakes_the_dropout_alone():
    network = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(3)).eval()
    with dropping_out(network):
        assert network[0].training
        assert not network[1].training
    assert not network[0].training


def test_dropping_out_scales_the_probability_for_a_while():
    network = nn.Sequential(nn.Dropout(0.4), nn.Dropout(0.6)).eval()
    for strength, expected in {0: [0, 0], 0.5: [0.2, 0.3], 1: [0.4, 0.6], 2: [0.8, 0.9]}.items():
        with dropping_out(network, strength=strength):
            assert [layer.p for layer in network] == pytest.approx(expected)
        assert [layer.p for layer in network] == [0.4, 0.6]
