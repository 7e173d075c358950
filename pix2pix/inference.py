"""`Translator`: a picture in, the other side of it out. With `faces` and `drawn_faces`, all that the Space imports."""

import copy
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, overload

import torch
from PIL import Image
from torch import Tensor

from pix2pix.devices import best_layout, default_device, translating_dtype
from pix2pix.directions import Direction, source_and_target
from pix2pix.generator import WEIGHTS_NAME, ModelError, UNetGenerator
from pix2pix.images import ImageError, fit, to_image, to_tensor, unfit, upright
from pix2pix.layers import dropping_out
from pix2pix.onnx_generator import ONNX_NAME, OnnxGenerator

MINIMUM_SIDE = 16
MAX_STRENGTH = 2.0
"""The strongest variation: twice the dropout of the training."""

# Dropout draws from the process's one stream of random numbers, so two variations must not run at the same time.
_one_variation = threading.Lock()

Runtime = Literal["torch", "onnx"]


class Translator:
    """Translates pictures in one direction.

        translator = Translator.from_pretrained("user/model", "photo2sketch")
        sketch = translator(Image.open("me.jpg"))

    Args:
        generator: The network; it is moved to the device and put into evaluation mode. An `OnnxGenerator` stays on the
            CPU.
        direction: What it was trained for: "photo2sketch" or "sketch2photo".
        device: Where it runs; by default `default_device()`.
        dtype: What it computes in, of floating point; by default `translating_dtype()`: bfloat16 on a processor that has it
            natively, which moves a pixel by a fraction of one of 256 levels on average, else float32. In anything but
            float32 a copy of the network computes. ONNX Runtime computes in float32.

    Raises:
        ValueError: If the direction is unknown, or the dtype no floating-point one.
    """

    def __init__(
        self,
        generator: UNetGenerator | OnnxGenerator,
        direction: Direction = "photo2sketch",
        device: str | torch.device | None = None,
        *,
        dtype: torch.dtype | None = None,
    ) -> None:
        source_and_target(direction)
        self.direction = direction
        if dtype is not None and not dtype.is_floating_point:
            raise ValueError(f"dtype must be one of floating point, such as torch.float32, got {dtype}")
        is_onnx = isinstance(generator, OnnxGenerator)
        self.device = torch.device("cpu") if is_onnx else torch.device(device) if device is not None else default_device()
        self._layout = torch.contiguous_format if is_onnx else best_layout(self.device)
        self.dtype = torch.float32 if is_onnx else dtype or translating_dtype(self.device)
        self.generator = generator.to(self.device, memory_format=self._layout).eval()
        self._network = self.generator
        if self.dtype != torch.float32:
            self._network = copy.deepcopy(self.generator).to(self.dtype)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        direction: Direction = "photo2sketch",
        device: str | torch.device | None = None,
        *,
        dtype: torch.dtype | None = None,
        runtime: Runtime | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike | None = None,
        local_files_only: bool = False,
    ) -> "Translator":
        """Load one direction of a model from a run folder or the Hub; arguments as in `UNetGenerator.from_pretrained`.

        Args:
            pretrained_model_name_or_path: A run folder, a folder written by `python -m pix2pix.export`, or a Hub id.
            direction: "photo2sketch" or "sketch2photo".
            device: Where it runs; by default `default_device()`. ONNX Runtime runs on the CPU.
            dtype: What it computes in; see the class.
            runtime: What runs the network: "torch", or "onnx" for the `model.onnx` of an exported folder. By default torch,
                unless the folder holds nothing but that file.
            revision: Branch, tag or commit on the Hub.
            token: Hub token; by default the one stored by `hf auth login`.
            cache_dir: Where downloads are kept; by default the Hub's cache.
            local_files_only: Whether to use the cache alone.

        Raises:
            ValueError: If the direction or the runtime is unknown, or the dtype no floating-point one.
            ModelError: If the model cannot be found or reached, or is incomplete, damaged or of another kind.
        """
        source_and_target(direction)
        if runtime not in (None, "torch", "onnx"):
            raise ValueError(f"runtime must be torch or onnx, got {runtime!r}")
        folder = Path(pretrained_model_name_or_path, direction)
        holds_only_onnx = (folder / ONNX_NAME).is_file() and not (folder / WEIGHTS_NAME).is_file()
        if runtime == "onnx" or (runtime is None and holds_only_onnx):
            network = OnnxGenerator.from_pretrained(pretrained_model_name_or_path, subfolder=direction)
            if network.direction != direction:
                raise ModelError(f"model '{folder / ONNX_NAME}' translates {network.direction}, not {direction}")
            return cls(network, direction)
        generator = UNetGenerator.from_pretrained(
            pretrained_model_name_or_path,
            subfolder=direction,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        return cls(generator, direction, device, dtype=dtype)

    @overload
    def __call__(
        self, image: Image.Image, *, align: bool = ..., seed: int | None = ..., strength: float = ...
    ) -> Image.Image: ...

    @overload
    def __call__(
        self,
        image: Sequence[Image.Image],
        *,
        align: bool = ...,
        seed: int | None = ...,
        strength: float = ...,
        batch_size: int = ...,
    ) -> list[Image.Image]: ...

    def __call__(self, image, *, align=False, seed=None, strength=1.0, batch_size=8):
        """Translate one picture or a list of them.

        Each is turned upright, brought to the training size (aspect kept, the rest mirrored), translated, and brought
        back. The result is the same whatever else is in the list.

        Args:
            image: A picture, or a list of pictures, of any mode, orientation (EXIF) and transparency (laid on white), at
                least 16 px a side.
            align: Whether to find the largest face and bring it to the training geometry first. The result then is
                the aligned portrait's translation, in the portrait's size.
            seed: None for the deterministic translation; a number for the variation of that number (dropout on, and new
                noise where the network takes any: the paper's z).
            strength: How far a variation may go, from 0 (the deterministic translation) to 2: what the dropout
                probabilities of the training are multiplied by, and how much of the noise is new (all from 1 on). Without
                a seed it does nothing.
            batch_size: How many pictures of a list go through the network at once.

        Returns:
            A picture of the input's (upright) size, or a list of them; mode "L" if the network draws one channel.

        Raises:
            ImageError: If a picture is below 16 px a side, or is no PIL image.
            ValueError: If strength is outside [0, 2]; or if a seed is given and ONNX Runtime runs the network, because its
                file holds no dropout.
        """
        if not 0 <= strength <= MAX_STRENGTH:
            raise ValueError(f"strength must be between 0 and {MAX_STRENGTH:g}, got {strength}")
        if seed is not None and isinstance(self.generator, OnnxGenerator):
            raise ValueError(
                f"seed needs the torch runtime, got seed {seed} with onnx; leave it out, or load with runtime='torch'"
            )
        if not isinstance(image, Image.Image):
            if isinstance(image, str | bytes | os.PathLike) or not isinstance(image, Sequence):
                raise ImageError(f"image must be a PIL image or a list of them, got {type(image).__name__}; open it first")
            step = 1 if seed is not None else batch_size
            batches = [image[start : start + step] for start in range(0, len(image), step)]
            return [result for batch in batches for result in self._translate(batch, align=align, seed=seed, strength=strength)]
        return self._translate([image], align=align, seed=seed, strength=strength)[0]

    def _translate(self, images: Sequence[Image.Image], *, align: bool, seed: int | None, strength: float) -> list[Image.Image]:
        pictures = [self._prepared(image, align=align) for image in images]
        fitted, boxes = zip(*(fit(picture, self.generator.image_size) for picture in pictures), strict=True)
        channels = 1 if self.generator.in_channels == 1 else 3
        source = torch.stack([to_tensor(picture, channels=channels) for picture in fitted])
        translated = self.translate(source, seed=seed, strength=strength)
        return [
            unfit(to_image(tensor), box, picture.size) for tensor, box, picture in zip(translated, boxes, pictures, strict=True)
        ]

    def _prepared(self, image: Image.Image, *, align: bool) -> Image.Image:
        if not isinstance(image, Image.Image):
            raise ImageError(f"image must be a PIL image or a list of them, got a list with {type(image).__name__}")
        if min(image.size) < MINIMUM_SIDE:
            raise ImageError(f"a picture must have at least {MINIMUM_SIDE} pixels a side, got {image.width} x {image.height}")
        image = upright(image)
        if align:
            from pix2pix.faces import align_largest  # finding faces needs OpenCV, which a plain translation does not

            image = align_largest(image).portrait
        return image

    @torch.inference_mode()
    def translate(self, source: Tensor, *, seed: int | None = None, strength: float = 1.0) -> Tensor:
        """The network's part of a call: tensors to tensors, without what brings pictures to its size and back.

        Args:
            source: (N, in_channels, H, W), in [-1, 1], float32; H and W at least 16.
            seed: As in a call.
            strength: As in a call.

        Returns:
            (N, out_channels, H, W), in [-1, 1], float32, on the CPU.
        """
        source = source.to(self.device, self.dtype, memory_format=self._layout)
        if seed is None:
            return self._network(source).float().cpu()
        devices = [self.device] if self.device.type == "cuda" else []
        # A twin that shares the weights: another thread may want the translation without dropout meanwhile.
        shared = {id(tensor): tensor for tensor in (*self._network.parameters(), *self._network.buffers())}
        twin = copy.deepcopy(self._network, shared)
        with _one_variation, torch.random.fork_rng(devices), dropping_out(twin, strength=strength):
            torch.manual_seed(seed)
            twin.draw_noise(strength)
            return twin(source).float().cpu()
