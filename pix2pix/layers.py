"""What both networks share: the initialisation, the norm, padding for odd sizes, and borrowed modes."""

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def initialise(network: nn.Module) -> None:
    """Draw every convolution's weights from N(0, 0.02) and set its biases to zero (section 3.3 of the paper).

    Weights without memory stay as they are: there, PyTorch loads its compiler to draw nothing, which takes a second.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and not module.weight.is_meta:
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class InstanceNorm(nn.InstanceNorm2d):
    """Instance norm without learned scale or running statistics, computed as group norm with a group a channel.

    The same arithmetic, which PyTorch runs up to ten times as fast on a CPU, and without leaving the channels-last layout.
    Only small maps in that layout are quicker as they were.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), any range, to the same shape: mean 0 and variance 1 in each channel of each picture."""
        if not x.is_contiguous() and x.shape[-2] * x.shape[-1] < _SMALL_MAP:
            return super().forward(x)
        return F.group_norm(x, x.shape[1], eps=self.eps)


_SMALL_MAP = 1024  # pixels


def norm(channels: int) -> nn.Module:
    """The norm between convolutions: each channel of each picture on its own, without learned scale or running statistics.

    The paper uses batch norm with the statistics of the test batch, which at its batch size of 1 is this very
    computation. Written as instance norm, it no longer depends on what else is in the batch.
    """
    return InstanceNorm(channels)


def pad_to_even(x: Tensor) -> Tensor:
    """Repeat the last row and column of (N, C, H, W) where H or W is odd, so that halving loses nothing."""
    height, width = x.shape[-2:]
    if height % 2 == 0 and width % 2 == 0:
        return x
    # Not F.pad: its "replicate" knows no bfloat16 under autocast, and its backward pass no other memory layout when compiled.
    if height % 2:
        x = torch.cat([x, x[..., -1:, :]], dim=-2)
    return torch.cat([x, x[..., -1:]], dim=-1) if width % 2 else x


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Put a network into evaluation mode and give the mode back at the end."""
    was_training = network.training
    network.eval()
    try:
        yield network
    finally:
        network.train(was_training)


MAX_DROPOUT = 0.9
"""The most that `dropping_out` drops; at 1 nothing would be left of the picture."""


@contextlib.contextmanager
def dropping_out(network: nn.Module, *, strength: float = 1.0) -> Iterator[nn.Module]:
    """Turn the dropout layers of a network on, all else in evaluation mode: the noise z of the paper at test time.

    Args:
        network: Its modes and probabilities are given back at the end.
        strength: What each layer's probability is multiplied by, at least 0; the product is cut at `MAX_DROPOUT`.
    """
    modes = [(module, module.training) for module in network.modules()]
    probabilities = [(module, module.p) for module in network.modules() if isinstance(module, nn.Dropout)]
    network.eval()
    for module, probability in probabilities:
        module.train()
        module.p = probability if strength == 1 else min(MAX_DROPOUT, probability * strength)
    try:
        yield network
    finally:
        for module, mode in modes:
            module.training = mode
        for module, probability in probabilities:
            module.p = probability
