"""`UNetGenerator`: the encoder-decoder with skips of the paper's section 3.2.1 and appendix 6.1.1."""

import json
import os
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import PyTorchModelHubMixin
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from pix2pix.downloads import DownloadError, MissingFileError, fetch
from pix2pix.files import whole_file, write_tensors, write_text
from pix2pix.images import pad_to_multiple, parse_image_size
from pix2pix.layers import initialise, norm, pad_to_even

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"

Upsampling = Literal["transposed", "blurred", "resize", "subpixel"]
UPSAMPLING: tuple[Upsampling, ...] = ("transposed", "blurred", "resize", "subpixel")

# Far above anything trainable, far below what would exhaust memory: a config from the Hub is not trusted.
LIMITS = {
    "in_channels": (1, 64),
    "out_channels": (1, 64),
    "base_channels": (1, 512),
    "max_channels": (1, 2048),
    "num_downsamples": (1, 10),
    "head_channels": (0, 256),
    "noise_channels": (0, 16),
}

NOISE_SIDE = 128
"""Side in pixels of the noise that is kept, and repeated, for translations that are to be the same each time."""

CONFIG_BYTES = 100_000
"""The longest `config.json` that is fetched or read; that of a network here has some hundred bytes."""

MAX_ACTIVATION = 2**27
"""Numbers in the largest activation of a picture of `image_size`: half a gigabyte, of which a translation holds a few."""


class ModelError(ValueError):
    """Weights that cannot be found or must not be used: the message names them, the rule and the remedy."""


class Blur(nn.Module):
    """The binomial filter (1, 2, 1) / 4 each way, which passes nothing that alternates from pixel to pixel.

    Args:
        channels: Of what it blurs.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def kernel(self, like: Tensor) -> Tensor:
        """The filter for each channel, (channels, 1, 3, 3), of the type and on the device of `like`.

        Made anew each time: a buffer that is not stored would have no value in a network that is built without memory.
        """
        line = like.new_tensor([0.25, 0.5, 0.25])
        return torch.outer(line, line).repeat(self.channels, 1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Blur (N, channels, H + 2, W + 2), any range, to (N, channels, H, W)."""
        return F.conv2d(x, self.kernel(x), groups=self.channels)


class UNetGenerator(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="pix2pix",
    pipeline_tag="image-to-image",
    tags=["pix2pix", "image-to-image"],
    paper_url="https://arxiv.org/abs/1611.07004",
):
    """A U-Net from source to image, of any width and depth.

    Without arguments it is the paper's network for 256 px RGB: encoder C64-C128-C256-C512-C512-C512-C512-C512,
    decoder CD512-CD512-CD512-C512-C256-C128-C64, skips between equal resolutions; 54,409,603 parameters.

    Unlike the paper's, it takes any picture from 16 px a side: levels of odd size are padded by one row or column on
    the way down and cropped on the way up, and a picture smaller than the bottleneck needs is mirrored to that size.

    Args:
        in_channels: Channels of the source.
        out_channels: Channels of the image.
        base_channels: Filters of the first level; they double with each level.
        max_channels: Where the doubling stops.
        num_downsamples: Levels; the bottleneck is 1/2^num_downsamples of the picture's side.
        skips: Whether the encoder's activations are concatenated to the decoder's (U-Net) or not (encoder-decoder).
        dropout: Probability of dropout in the three innermost decoder levels: the paper's noise z. 0 to below 1.
        upsampling: How the decoder doubles the resolution: "transposed" 4x4 convolutions as in the paper; "blurred", the
            same followed by a blur of two pixels, which takes the checkerboard away that they leave (Karras et al. 2019);
            "resize" (nearest) and 3x3 convolution, free of checkerboard; or "subpixel", a 3x3 convolution to four
            times the channels and a pixel shuffle.
        head_channels: Filters of the last decoder level, when two 3x3 convolutions follow that see them and the source at
            full resolution. Unlike the paper, whose last level (0 here) makes every second pixel of the picture from
            another set of weights, and so leaves a grid on even surfaces.
        noise_channels: Channels of Gaussian noise that the last decoder level and the head see beside all else: the paper's
            z, at the scale of a pencil's strokes, which nothing in a photo foretells. Drawn anew each time in training, kept
            in evaluation. Unlike the paper, whose noise is dropout alone (0 here): it is too coarse for strokes.
        smooth: Whether the finished picture is blurred by the binomial filter (1, 2, 1) / 4 in evaluation mode. What
            discriminators leave on a photo changes from pixel to pixel, which no camera does. Not in training, where the
            network would learn to sharpen against it; it has no weights, so it may be changed afterwards.
        image_size: (height, width) in pixels, or one number, of the pictures it is trained on. The network itself takes
            any size; `Translator` brings pictures to this one.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        *,
        base_channels: int = 64,
        max_channels: int = 512,
        num_downsamples: int = 8,
        skips: bool = True,
        dropout: float = 0.5,
        upsampling: Upsampling = "transposed",
        head_channels: int = 0,
        noise_channels: int = 0,
        smooth: bool = False,
        image_size: int | tuple[int, int] = 256,
    ) -> None:
        super().__init__()
        self.config = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "base_channels": base_channels,
            "max_channels": max_channels,
            "num_downsamples": num_downsamples,
            "skips": skips,
            "dropout": dropout,
            "upsampling": upsampling,
            "head_channels": head_channels,
            "noise_channels": noise_channels,
            "smooth": smooth,
            "image_size": list(parse_image_size(image_size)),
        }
        for name, (low, high) in LIMITS.items():
            value = self.config[name]
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r}")
        if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout!r}")
        if upsampling not in UPSAMPLING:
            raise ValueError(f"upsampling must be transposed, blurred, resize or subpixel, got {upsampling!r}")
        if not all(isinstance(side, int) and side <= 4096 for side in self.config["image_size"]):
            raise ValueError(f"image_size must be whole numbers up to 4096, got {image_size!r}")
        for name in ("skips", "smooth"):
            if not isinstance(self.config[name], bool):
                raise ValueError(f"{name} must be true or false, got {self.config[name]!r}")

        self.in_channels, self.out_channels = in_channels, out_channels
        self.image_size = parse_image_size(image_size)
        # The last level of the decoder: it is given its skip too at half the sides; at the full ones it resizes that, or
        # makes the head's channels of it.
        given = 2 * base_channels
        largest = max(given if upsampling == "resize" else given // 4, head_channels, in_channels, out_channels)
        if largest * self.image_size[0] * self.image_size[1] > MAX_ACTIVATION:
            raise ValueError(
                f"image_size must leave the largest activation below {MAX_ACTIVATION:,} numbers, got {list(self.image_size)} "
                f"for {largest} channels a pixel; lower it, or base_channels"
            )
        self.num_downsamples = num_downsamples
        self.skips = skips

        widths = [min(base_channels * 2**level, max_channels) for level in range(num_downsamples)]
        self.encoder = nn.ModuleList()
        for level, width in enumerate(widths):
            # The first level sees pixels; the last may be a single one, which has no variance to normalise.
            layers: list[nn.Module] = [nn.LeakyReLU(0.2)] if level > 0 else []
            layers.append(nn.Conv2d(widths[level - 1] if level else in_channels, width, 4, stride=2, padding=1))
            if 0 < level < num_downsamples - 1:
                layers.append(norm(width))
            self.encoder.append(nn.Sequential(*layers))

        self.decoder = nn.ModuleList()
        for level in reversed(range(num_downsamples)):
            innermost = level == num_downsamples - 1
            width_in = widths[level] * (2 if skips and not innermost else 1) + (0 if level else noise_channels)
            width_out = widths[level - 1] if level else head_channels or out_channels
            # Without a head, a blur at the end would blur the picture itself.
            is_sharp = upsampling == "blurred" and level == 0 and not head_channels
            layers = [nn.ReLU(), *_doubling(width_in, width_out, "transposed" if is_sharp else upsampling)]
            if level > 0:
                layers.append(norm(width_out))
                if dropout and num_downsamples - 1 - level < 3:
                    layers.append(nn.Dropout(dropout))
            else:
                layers.append(nn.LeakyReLU(0.2) if head_channels else nn.Tanh())
            self.decoder.append(nn.Sequential(*layers))
        self.head = None
        if head_channels:
            width_in = head_channels + (in_channels if skips else 0) + noise_channels
            self.head = nn.Sequential(
                nn.Conv2d(width_in, head_channels, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(head_channels, out_channels, 3, padding=1),
                nn.Tanh(),
            )
        self.smoother = Blur(out_channels) if smooth else None
        initialise(self)
        if noise_channels:
            # From a generator of its own, and stored: the weights do not depend on it, and every runtime has the same.
            own = torch.Generator().manual_seed(0)
            self.register_buffer("noise", torch.randn(noise_channels, NOISE_SIDE, NOISE_SIDE, generator=own, device="cpu"))

    @property
    def minimum_size(self) -> int:
        """Side in pixels below which a picture is mirrored: the last level with a norm then still has four pixels."""
        return 2**self.num_downsamples

    def forward(self, source: Tensor) -> Tensor:
        """Translate pictures.

        Args:
            source: (N, in_channels, H, W), in [-1, 1], H and W at least 16.

        Returns:
            (N, out_channels, H, W), in [-1, 1].
        """
        height, width = source.shape[-2:]
        x, (top, left) = source, (0, 0)
        if min(height, width) < self.minimum_size:
            x, (top, left) = pad_to_multiple(source, 1, minimum=self.minimum_size)
        sizes, skips, source = [], [], x
        for down in self.encoder:
            sizes.append(x.shape[-2:])
            x = down(pad_to_even(x))
            skips.append(x)
        skips.pop()  # the bottleneck has no skip
        for up in self.decoder:
            rows, columns = sizes.pop()
            x = up(x if sizes else self.with_noise(x))[..., :rows, :columns]
            if self.skips and skips:
                x = torch.cat([x, skips.pop()], dim=1)
        if self.head is not None:
            x = self.head(self.with_noise(torch.cat([x, source], dim=1) if self.skips else x))
        if self.smoother is not None and not self.training:
            x = self.smoother(F.pad(x, (1, 1, 1, 1), mode="replicate"))
        return x[..., top : top + height, left : left + width]

    def with_noise(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C + noise_channels, H, W): the activations, and noise beside them."""
        channels = self.config["noise_channels"]
        if not channels:
            return x
        count, _, height, width = x.shape
        if self.training:
            noise = torch.randn(count, channels, height, width, dtype=x.dtype, device=x.device)
        else:
            rows, columns = (torch.arange(side, device=x.device) % NOISE_SIDE for side in (height, width))
            noise = self.noise[:, rows][:, :, columns].to(x.dtype).expand(count, -1, -1, -1)
        return torch.cat([x, noise], dim=1)

    def draw_noise(self, share: float) -> None:
        """Draw the noise that is kept anew, from the process's random numbers; nothing happens to a network without any.

        Args:
            share: How much of it is new, from 0 to 1; what is above counts as 1. Its variance stays what it was.
        """
        if self.config["noise_channels"] and share > 0:
            share = min(1.0, share)
            self.noise = (1 - share**2) ** 0.5 * self.noise + share * torch.randn_like(self.noise)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        *,
        dtype: torch.dtype | None = None,
        config: dict | None = None,
        model_card_kwargs: dict | None = None,
    ) -> None:
        """Write `config.json` and `model.safetensors` into a folder, each whole or not at all.

        Unlike the mixin's, it writes no card: one card describes both directions, and `pix2pix.cards` writes that one.

        Args:
            save_directory: The folder; made when missing.
            dtype: Precision of the stored weights, such as `torch.float16`; by default their own.
            config: Ignored; the mixin's `push_to_hub` passes it.
            model_card_kwargs: Ignored; the mixin's `push_to_hub` passes it.
        """
        folder = Path(save_directory)
        weights = {name: w.detach().to("cpu", dtype or w.dtype).contiguous() for name, w in self.state_dict().items()}
        with whole_file(folder / WEIGHTS_NAME) as temporary:
            write_tensors(temporary, weights, metadata={"format": "pt"})
        write_text(folder / CONFIG_NAME, json.dumps({"architecture": type(self).__name__, **self.config}, indent=2) + "\n")

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *,
        subfolder: str | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
    ) -> "UNetGenerator":
        """Load a generator from a folder or the Hub, strictly, in evaluation mode and float32.

        Nothing is trusted: the config may only hold known arguments within their limits, and the names and shapes of
        the weights are compared with the network's before either takes memory. Only safetensors are read.

        Args:
            pretrained_model_name_or_path: A folder, or a Hub id "user/name".
            subfolder: The direction: "photo2sketch" or "sketch2photo".
            revision: Branch, tag or commit on the Hub.
            token: Hub token; by default the one stored by `hf auth login`.
            cache_dir: Where downloads are kept; by default the Hub's cache.
            local_files_only: Whether to use the cache alone.
            force_download: Whether to download again what the cache holds.

        Raises:
            ModelError: If the model cannot be found or reached, or is incomplete, damaged or of another kind.
        """
        where = f"'{pretrained_model_name_or_path}'" + (f" ({subfolder})" if subfolder else "")
        folder = Path(pretrained_model_name_or_path)
        is_local = folder.is_dir()
        if is_local:
            folder = folder / (subfolder or "")
            files = {name: folder / name for name in (CONFIG_NAME, WEIGHTS_NAME)}
            for name, path in files.items():
                if not path.is_file():
                    raise ModelError(f"model {where} has no {name}; give a folder written by train.py or save_pretrained")
        else:
            name = str(pretrained_model_name_or_path)
            options = {
                "subfolder": subfolder,
                "revision": revision,
                "token": token,
                "cache_dir": cache_dir,
                "local_files_only": local_files_only,
                "force_download": force_download,
            }
            # The weights are then fetched of the very commit of the config: somebody may be pushing another.
            path, options["revision"] = _download(name, CONFIG_NAME, where, options, most=CONFIG_BYTES)
            files = {CONFIG_NAME: path}
        config = _read_config(files[CONFIG_NAME], where, cls.__name__)
        try:
            with torch.device("meta"):
                generator = cls(**config)
        except (TypeError, ValueError) as error:
            raise ModelError(f"model {where} has an unusable {CONFIG_NAME}: {error}") from error
        if not is_local:
            # Of float64 at most, and a header with a line for each weight: more is not what the config describes.
            most = 8 * sum(weight.numel() for weight in generator.state_dict().values()) + 1_000_000
            files[WEIGHTS_NAME], _ = _download(name, WEIGHTS_NAME, where, options, most=most)
        generator.load_state_dict(_read_weights(files[WEIGHTS_NAME], generator.state_dict(), where), assign=True)
        return generator.requires_grad_(True).eval()


def _doubling(width_in: int, width_out: int, upsampling: Upsampling) -> list[nn.Module]:
    """The layers that take (N, width_in, H, W) to (N, width_out, 2 H, 2 W)."""
    if upsampling == "transposed":
        return [nn.ConvTranspose2d(width_in, width_out, 4, stride=2, padding=1)]
    if upsampling == "blurred":
        return [nn.ConvTranspose2d(width_in, width_out, 4, stride=2), Blur(width_out)]
    if upsampling == "resize":
        return [nn.Upsample(scale_factor=2), nn.Conv2d(width_in, width_out, 3, padding=1)]
    return [nn.Conv2d(width_in, 4 * width_out, 3, padding=1), nn.PixelShuffle(2)]


def _download(repo_id: str, file: str, where: str, options: dict[str, Any], *, most: int) -> tuple[Path, str]:
    """`fetch` for a file of a model, with errors that are a `ModelError`."""
    try:
        return fetch(repo_id, file, f"model {where}", most=most, **options)
    except MissingFileError:
        raise ModelError(f"model {where} has no {file}; it holds no weights of this project for that direction") from None
    except DownloadError as error:
        raise ModelError(str(error)) from None


def _read_config(path: Path, where: str, architecture: str) -> dict[str, Any]:
    """Read the constructor arguments, refusing anything that is not a plain description of this class."""
    with path.open("rb") as file:
        content = file.read(CONFIG_BYTES + 1)
    if len(content) > CONFIG_BYTES:
        raise ModelError(
            f"model {where} has a {CONFIG_NAME} of more than {CONFIG_BYTES:,} bytes; take one that was written here"
        )
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"model {where} has a {CONFIG_NAME} that is not JSON; download it again") from error
    if not isinstance(config, dict):
        raise ModelError(f"model {where} has a {CONFIG_NAME} that is not an object; download it again")
    found = config.pop("architecture", None)
    if found != architecture:
        raise ModelError(f"model {where} holds a {found or 'network of another project'}, not a {architecture}")
    return config


def _read_weights(path: Path, expected: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Read float weights whose names and shapes are exactly the expected ones."""
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        missing, extra = sorted(expected.keys() - shapes.keys()), sorted(shapes.keys() - expected.keys())
        if missing or extra:
            names = [f"missing {name}" for name in missing[:1]] + [f"unexpected {name}" for name in extra[:1]]
            raise ModelError(
                f"model {where} does not fit its {CONFIG_NAME}: {len(missing)} weights missing, {len(extra)} unexpected "
                f"({', '.join(names)}); take both files from the same run"
            )
        for name, tensor in expected.items():
            if shapes[name] != list(tensor.shape):
                raise ModelError(
                    f"model {where} does not fit its {CONFIG_NAME}: {name} has shape {shapes[name]}, "
                    f"the network needs {list(tensor.shape)}; take both files from the same run"
                )
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"model {where} has a damaged {WEIGHTS_NAME} ({error}); download it again") from error
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            raise ModelError(f"model {where}: {name} must hold floating-point numbers, got {tensor.dtype}")
        if not torch.isfinite(tensor).all():
            raise ModelError(f"model {where}: {name} holds NaN or infinity; take an earlier checkpoint of that run")
    return {name: tensor.float() for name, tensor in weights.items()}
