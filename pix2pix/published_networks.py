"""The networks behind LPIPS and FID as others report them, where their weights are at hand.

No package index has these weights, so nothing here downloads them: what piq and torchvision have fetched before, or somebody
has copied, is found in torch's folder of checkpoints. Without it, `PerceptualNetwork` answers the same two questions.
"""

import pickle
import warnings
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import piq
import torch
from piq.feature_extractors import InceptionV3
from piq.feature_extractors.fid_inception import FID_WEIGHTS_URL
from torch import Tensor, nn
from torchvision.models import VGG16_Weights, vgg16

WEIGHTS = {"lpips": (VGG16_Weights.IMAGENET1K_V1.url, piq.LPIPS._weights_url), "fid": (FID_WEIGHTS_URL,)}
"""Where the files of each measure come from; their names are the last parts."""

FETCH = 'python -c "import piq; piq.LPIPS(); piq.feature_extractors.InceptionV3()"'
"""What brings them into torch's folder, 650 MB, on a machine with a network."""

_LAYERS = (3, 8, 15, 22, 29)  # the last ReLU before each pooling, as Zhang et al. chose


def weight_files(measure: str) -> list[Path]:
    """Where torch keeps the weights of "lpips" or "fid", whether or not they are there."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return [folder / PurePosixPath(urlsplit(url).path).name for url in WEIGHTS[measure]]


def missing_files(measure: str) -> list[Path]:
    """Which weights of "lpips" or "fid" are not at hand."""
    return [path for path in weight_files(measure) if not path.is_file()]


class Lpips(nn.Module):
    """LPIPS on VGG16 (Zhang et al. 2018, version 0.1), by piq, with the weights that are at hand.

    Raises:
        ValueError: If a file of weights is missing or does not hold them.
    """

    def __init__(self) -> None:
        super().__init__()
        network_file, scales_file = weight_files("lpips")
        with torch.device("meta"):  # no memory and no random numbers for what is replaced at once
            features = vgg16().features
        try:
            held = {name.removeprefix("features."): value for name, value in _read(network_file).items()}
            features.load_state_dict({name: held[name] for name in features.state_dict()}, assign=True)
            scales = [torch.as_tensor(scale).view(1, -1, 1, 1) for scale in _read(scales_file)]
            if [scale.shape[1] for scale in scales] != [64, 128, 256, 512, 512]:
                raise ValueError(f"'{scales_file}' has other scales than the five layers of VGG16")
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(_unfit(network_file, scales_file, error)) from error
        layers = [str(layer) for layer in _LAYERS]
        self.distance = piq.ContentLoss(features, layers, scales, reduction="none", normalize_features=True)

    def forward(self, fake: Tensor, target: Tensor) -> Tensor:
        """How different two batches look, (N,), 0 for equal pictures.

        Args:
            fake: (N, 1 or 3, H, W), in [-1, 1], at least 16 x 16.
            target: The same shape and range.
        """
        return self.distance(_as_colour(fake), _as_colour(target))


class InceptionFeatures(nn.Module):
    """What the Inception network of Heusel et al. (2017) sees, the features behind FID, by piq.

    Raises:
        ValueError: If the file of weights is missing or does not hold them.
    """

    def __init__(self) -> None:
        super().__init__()
        (file,) = weight_files("fid")
        try:
            _read(file)  # piq's own loader, below, would run what a pickle says
            with warnings.catch_warnings(action="ignore"):  # about how piq calls torchvision
                self.network = InceptionV3().eval()
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(_unfit(file, error)) from error

    def forward(self, images: Tensor) -> Tensor:
        """(N, 2048) features of (N, 1 or 3, H, W), in [-1, 1]; the network sees them at 299 x 299 pixels."""
        return self.network(_as_colour(images))[0].flatten(1)


def _as_colour(images: Tensor) -> Tensor:
    """(N, 3, H, W), in [0, 1], as both networks take them."""
    return images.float().add(1).div(2).clamp(0, 1).expand(-1, 3, -1, -1)


def _read(path: Path) -> Any:
    """Tensors from a file, and nothing but tensors."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, pickle.UnpicklingError, RuntimeError) as error:
        raise ValueError(f"'{path}' cannot be read") from error


def _unfit(*files_and_error: Any) -> str:
    *files, error = files_and_error
    names = " or ".join(f"'{file}'" for file in files)
    return f"{names} does not hold the published weights ({str(error).splitlines()[0]}); delete it, and fetch it anew: {FETCH}"
