"""The networks behind LPIPS and FID as others report them, where their weights are at hand.

No package index has these weights, so nothing here downloads them: what piq and torchvision have fetched before, or somebody
has copied, is found in torch's folder of checkpoints. Without it, `PerceptualNetwork` answers the same two questions.
"""

import contextlib
import os
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import piq
import torch
from piq.feature_extractors import InceptionV3
from torch import Tensor, nn
from torchvision.models import vgg16

WEIGHTS = {
    "lpips": ("vgg16-397923af.pth", "lpips_weights.pt"),
    "fid": ("pt_inception-2015-12-05-6726825d.pth",),
}
"""The files of each measure, as torchvision and piq name them."""

FETCH = 'python -c "import piq; piq.LPIPS(); piq.feature_extractors.InceptionV3()"'
"""What brings them into torch's folder, 650 MB, on a machine with a network."""

_LAYERS = (3, 8, 15, 22, 29)  # the last ReLU before each pooling, as Zhang et al. chose
_WIDTHS = (64, 128, 256, 512, 512)


def weight_files(measure: str) -> list[Path]:
    """Where torch keeps the weights of a measure of `WEIGHTS`, whether or not they are there."""
    return [Path(torch.hub.get_dir()) / "checkpoints" / name for name in WEIGHTS[measure]]


def missing_files(measure: str) -> list[Path]:
    """Which weights of a measure of `WEIGHTS` are not at hand."""
    return [path for path in weight_files(measure) if not os.path.isfile(path)]


class Lpips(nn.Module):
    """LPIPS on VGG16 (Zhang et al. 2018, version 0.1), by piq, with the weights that are at hand.

    Raises:
        ValueError: If a file of weights is missing or does not hold them.
    """

    def __init__(self) -> None:
        super().__init__()
        network_file, scales_file = weight_files("lpips")
        with torch.device("meta"):  # no memory and no random numbers for what is replaced at once
            features = vgg16().features[: _LAYERS[-1] + 1]
        held = _read(network_file)
        try:
            # Only what is used: the published file holds the classifier as well.
            features.load_state_dict({name: held[f"features.{name}"] for name in features.state_dict()}, assign=True)
        except (KeyError, RuntimeError, TypeError) as error:
            raise ValueError(_unfit(network_file)) from error
        scales = _read(scales_file)
        try:
            scales = [scale.view(1, width, 1, 1) for scale, width in zip(scales, _WIDTHS, strict=True)]
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(_unfit(scales_file)) from error
        layers = [str(layer) for layer in _LAYERS]
        self.content = piq.ContentLoss(features.eval(), layers, scales, normalize_features=True)

    def maps(self, images: Tensor) -> list[Tensor]:
        """What `forward` compares: five maps of unit vectors, each (N, channels, height, width).

        Args:
            images: (N, 1 or 3, H, W), in [-1, 1], at least 16 x 16.
        """
        return self.content.get_features(_as_colour(images))

    def forward(self, fake_maps: list[Tensor], target_maps: list[Tensor]) -> Tensor:
        """How different two batches look, (N,), 0 for equal pictures.

        Args:
            fake_maps: What `maps` finds in one.
            target_maps: And in the other.
        """
        squared = self.content.compute_distance(fake_maps, target_maps)
        scaled = [
            (each * scale.to(each)).sum(1).mean((1, 2)) for each, scale in zip(squared, self.content.weights, strict=True)
        ]
        return torch.stack(scaled).sum(0)


class InceptionFeatures(nn.Module):
    """What the Inception network of Heusel et al. (2017) sees, the features behind FID, by piq.

    Raises:
        ValueError: If the file of weights is missing or does not hold them.
    """

    def __init__(self) -> None:
        super().__init__()
        (file,) = weight_files("fid")
        _read(file)
        try:
            with _loading_tensors_only(), warnings.catch_warnings(action="ignore"):  # about how piq calls torchvision
                self.network = InceptionV3().eval()
        except (AttributeError, RuntimeError, TypeError) as error:
            raise ValueError(_unfit(file)) from error

    def forward(self, images: Tensor) -> Tensor:
        """Look at pictures, at 299 x 299 pixels.

        Args:
            images: (N, 1 or 3, H, W), in [-1, 1].

        Returns:
            (N, 2048).
        """
        return self.network(_as_colour(images))[0].flatten(1)


def _as_colour(images: Tensor) -> Tensor:
    """(N, 3, H, W), in [0, 1], as both networks take them."""
    return images.float().add(1).div(2).clamp(0, 1).expand(-1, 3, -1, -1)


def _read(path: Path) -> Any:
    """Tensors from a file, and nothing but tensors."""
    if not os.path.isfile(path):
        raise ValueError(f"weights '{path}' are missing; {FETCH} fetches them")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, LookupError, pickle.UnpicklingError, RuntimeError, ValueError) as error:
        raise ValueError(_unfit(path)) from error


@contextlib.contextmanager
def _loading_tensors_only() -> Iterator[None]:
    """Whatever is loaded meanwhile by somebody else's code, piq's in this case, runs nothing that a pickle says."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _unfit(path: Path) -> str:
    return f"weights '{path}' are not those that were published; delete the file, and fetch it anew: {FETCH}"
