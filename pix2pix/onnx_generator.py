"""`OnnxGenerator`: a generator that `pix2pix.export` wrote, run by ONNX Runtime. It stands in for `UNetGenerator`."""

import json
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from pix2pix.directions import DIRECTIONS
from pix2pix.generator import LIMITS, ModelError
from pix2pix.images import parse_image_size

ONNX_NAME = "model.onnx"
ONNX_METADATA = ("direction", "in_channels", "out_channels", "image_size")
"""What `pix2pix.export` notes in a file and this runtime must find there; each value is JSON."""

MAX_BYTES = 2**31
"""What the format can hold. A longer file is not read into memory to find that out."""


class OnnxGenerator(nn.Module):
    """The network of a `model.onnx`, on the CPU, with as many threads as torch uses.

    It is called like a `UNetGenerator` and gives the same pictures, but it has no weights to train and no dropout to
    turn on. ONNX Runtime is imported here, when the first one is made.

    Args:
        path: A file written by `python -m pix2pix.export`. It is read as a whole, so it cannot name other files.

    Raises:
        ModelError: If ONNX Runtime is not installed, or the file is missing, damaged or of another kind.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise ModelError(f"model '{path}' needs ONNX Runtime ({error}); install it: pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > MAX_BYTES:
                    raise ModelError(
                        f"model '{path}' has {size:,} bytes, and no ONNX file has more than {MAX_BYTES:,}; export it again"
                    )
                content = file.read(MAX_BYTES)
        except OSError as error:
            raise ModelError(f"model '{path}' cannot be read ({error.strerror or error}); check the path") from error
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            notes = self._session.get_modelmeta().custom_metadata_map
        except Exception as error:  # the runtime's exceptions share no class of their own
            raise ModelError(f"model '{path}' is damaged, or no ONNX file; export it again") from error
        self.direction, self.in_channels, self.out_channels, self.image_size = _read_notes(notes, path)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike, *, subfolder: str | None = None) -> "OnnxGenerator":
        """Load `model.onnx` from a folder written by `python -m pix2pix.export`.

        Args:
            folder: The folder.
            subfolder: The direction: "photo2sketch" or "sketch2photo".

        Raises:
            ModelError: As the constructor.
        """
        path = Path(folder, subfolder or "", ONNX_NAME)
        if not path.is_file():
            where = f"'{folder}'" + (f" ({subfolder})" if subfolder else "")
            raise ModelError(
                f"model {where} has no {ONNX_NAME}; write one: python -m pix2pix.export --model ID_OR_DIR --output DIR"
            )
        return cls(path)

    def forward(self, source: Tensor) -> Tensor:
        """Translate pictures.

        Args:
            source: (N, in_channels, H, W), in [-1, 1], H and W at least 16.

        Returns:
            (N, out_channels, H, W), in [-1, 1], float32, on the CPU.
        """
        (image,) = self._session.run(None, {self._session.get_inputs()[0].name: source.detach().float().cpu().numpy()})
        return torch.from_numpy(image)


def _read_notes(notes: dict[str, str], path: str | os.PathLike) -> tuple[str, int, int, tuple[int, int]]:
    """Direction, channels in and out, and image size, judged like a config: a file may come from anywhere."""
    try:
        direction, in_channels, out_channels, image_size = (json.loads(notes[name]) for name in ONNX_METADATA)
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            low, high = LIMITS[name]
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r}")
        if direction not in DIRECTIONS:
            raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, got {direction!r}")
        if not isinstance(image_size, list) or not all(type(side) is int and side <= 4096 for side in image_size):
            raise ValueError(f"image_size must be whole numbers up to 4096, got {image_size!r}")
        return direction, in_channels, out_channels, parse_image_size(image_size)
    except KeyError as error:
        raise ModelError(f"model '{path}' was not written by pix2pix.export: it does not note its {error.args[0]}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"model '{path}' has unusable notes: {error}") from error
