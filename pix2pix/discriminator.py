"""`PatchDiscriminator`: real or fake, judged patch by patch (section 3.2.2 and appendix 6.1.2 of the paper).

`FeatureDiscriminator` judges what a network trained on photographs sees, instead of pixels. It is not in the paper: on few
pairs it needs far fewer steps, because it need not learn first what an eye is.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from pix2pix.images import pad_to_multiple
from pix2pix.layers import initialise, norm

RECEPTIVE_FIELDS = {1: 0, 16: 1, 34: 2, 70: 3, 142: 4, 286: 5}
"""Side of the patch in pixels, and the number of stride-2 convolutions that gives it."""


class PatchDiscriminator(nn.Module):
    """A convolutional network that gives one verdict per patch of the picture.

    Without arguments it is the paper's 70x70 discriminator for 256 px RGB: C64-C128-C256-C512 and a 1-channel
    convolution, conditional on the source; 2,767,809 parameters, 30 x 30 logits.

    Args:
        source_channels: Channels of the source it is conditioned on.
        image_channels: Channels of the picture it judges.
        receptive_field: Side in pixels of the patch that one logit sees: one of `RECEPTIVE_FIELDS`.
        conditional: Whether it sees the source beside the picture (cGAN) or the picture alone (GAN).
        base_channels: Filters of the first level; they double up to eight times as many.
        spectral: Whether spectral norm bounds every convolution in place of the instance norm. Unlike the paper,
            because on few pairs an unbounded discriminator wins within some tens of epochs.

    Raises:
        ValueError: If `receptive_field` is not one that the construction can give.
    """

    def __init__(
        self,
        source_channels: int = 3,
        image_channels: int = 3,
        *,
        receptive_field: int = 70,
        conditional: bool = True,
        base_channels: int = 64,
        spectral: bool = False,
    ) -> None:
        super().__init__()
        if receptive_field not in RECEPTIVE_FIELDS:
            raise ValueError(f"receptive_field must be one of {sorted(RECEPTIVE_FIELDS)}, got {receptive_field}")
        self.conditional = conditional
        self.num_downsamples = RECEPTIVE_FIELDS[receptive_field]
        channels = image_channels + (source_channels if conditional else 0)
        # (filters, kernel, stride) of each feature convolution. Only the first ones halve the resolution: the last
        # feature convolution and the verdict have stride 1, as in the authors' code, which is what makes 70 and 30 x 30.
        if self.num_downsamples == 0:
            plan = [(base_channels, 1, 1), (2 * base_channels, 1, 1)]
        else:
            plan = [(base_channels * min(2**level, 8), 4, 2) for level in range(self.num_downsamples)]
            plan.append((base_channels * min(2**self.num_downsamples, 8), 4, 1))
        self.features = nn.ModuleList()
        for level, (width, kernel, stride) in enumerate(plan):
            convolution: nn.Module = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 4)
            layers = [convolution, nn.LeakyReLU(0.2)]
            if level > 0 and not spectral:
                layers.insert(1, norm(width))
            self.features.append(nn.Sequential(*layers))
            channels = width
        kernel = plan[-1][1]
        self.verdict = nn.Conv2d(channels, 1, kernel, padding=kernel // 4)
        initialise(self)
        if spectral:
            for module in [*self.features.modules(), self.verdict]:
                if isinstance(module, nn.Conv2d):
                    spectral_norm(module)

    @property
    def receptive_field(self) -> int:
        """Side of the square of input pixels that one logit sees; 70 in the paper."""
        side = 1
        for convolution in reversed([*(block[0] for block in self.features), self.verdict]):
            side = (side - 1) * convolution.stride[0] + convolution.kernel_size[0]
        return side

    @property
    def minimum_size(self) -> int:
        """Side in pixels below which pictures are mirrored, so that one logit is left and every norm has four pixels."""
        return 3 * 2**self.num_downsamples

    def forward(self, source: Tensor, image: Tensor) -> Tensor:
        """Judge pictures.

        Args:
            source: (N, source_channels, H, W), in [-1, 1]; ignored unless conditional.
            image: (N, image_channels, H, W), in [-1, 1]: the target or the generator's fake.

        Returns:
            Logits (N, 1, H', W'), positive for real; 30 x 30 at 256 px.
        """
        return self.judge(source, image)[0]

    def judge(self, source: Tensor, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Judge pictures and show why: the logits of `forward`, and the activations of every level below them."""
        x = torch.cat([source, image], dim=1) if self.conditional else image
        if min(x.shape[-2:]) < self.minimum_size:
            x, _ = pad_to_multiple(x, 1, minimum=self.minimum_size)
        activations = []
        for block in self.features:
            x = block(x)
            activations.append(x)
        return self.verdict(x), activations


class FeatureDiscriminator(nn.Module):
    """A small head on each map of a frozen `PerceptualNetwork`, with one verdict per place (Sauer et al. 2021).

    Args:
        widths: Channels of the maps it judges, from the finest to the coarsest.
        conditional: Whether it sees the maps of the source beside those of the picture.
    """

    def __init__(self, widths: Sequence[int], *, conditional: bool = True) -> None:
        super().__init__()
        self.conditional = conditional
        self.heads = nn.ModuleList()
        for level, width in enumerate(widths):
            # The finest maps are large: looking at every second place of them halves the cost of the whole network.
            stride = 2 if level < len(widths) // 2 else 1
            layers: list[nn.Module] = [
                nn.Conv2d(width * (2 if conditional else 1), 32, 1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(32, 64, 3, stride, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(64, 1, 3, padding=1),
            ]
            self.heads.append(nn.Sequential(*(spectral_norm(m) if isinstance(m, nn.Conv2d) else m for m in layers)))

    def forward(self, source_maps: Sequence[Tensor], maps: Sequence[Tensor]) -> list[Tensor]:
        """Judge pictures by their maps.

        Args:
            source_maps: `PerceptualNetwork.maps` of the sources, each (N, width, H, W); ignored unless conditional.
            maps: The same of the targets or of the fakes.

        Returns:
            Logits of each map, (N, 1, H', W'), positive for real.
        """
        if self.conditional:
            maps = [torch.cat(both, dim=1) for both in zip(source_maps, maps, strict=True)]
        # Vectors of length 1 over many channels are small numbers, which spectral norm would not let the heads enlarge.
        return [head(x * x.shape[1] ** 0.5) for head, x in zip(self.heads, maps, strict=True)]
