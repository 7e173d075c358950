"""Write ONNX files: `python -m pix2pix.export --model ID_OR_DIR --output DIR`.

The graph is written layer by layer instead of by torch's exporters. Those record one run of the network; but what a
U-Net pads and crops depends on the size of the picture, and the recorded run either keeps the sizes it saw or drags a
proof about every odd side along. Here each level computes its padding from its own shape, so a file takes every size
and batch that the network takes, and nothing but the `onnx` package is needed.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pix2pix.directions import DIRECTIONS, Direction

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from pix2pix.generator import UNetGenerator

OPSET = 18
IR_VERSION = 9  # what the onnx package writes by itself may be newer than a browser's runtime reads
BOTH = "both"


def parser() -> argparse.ArgumentParser:
    """The command line of this program."""
    parser = argparse.ArgumentParser(
        prog="python -m pix2pix.export",
        description="Write the generators of a model as ONNX: DIR/photo2sketch/model.onnx and DIR/sketch2photo/model.onnx. "
        "They take every size and batch; how a picture becomes their input is noted in the files' metadata.",
    )
    parser.add_argument("--model", required=True, metavar="ID_OR_DIR", help="Hub id (user/name) or run folder")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument("--direction", choices=(*DIRECTIONS, BOTH), default=BOTH, help="default: %(default)s")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for the files; made when missing")
    parser.add_argument(
        "--half",
        action="store_true",
        help="store the weights in float16: half the file; they are turned back and computed with in float32",
    )
    return parser


def to_onnx(
    generator: "UNetGenerator", direction: Direction, *, half: bool = False, model: str | None = None
) -> "onnx.ModelProto":
    """Describe a generator, as it translates without dropout, as an ONNX model.

    Its input "source" is (N, in_channels, H, W) and its output "image" (N, out_channels, H, W), float32 in [-1, 1], with
    any N and any H and W of at least 16.

    Args:
        generator: The network.
        direction: What it was trained for: "photo2sketch" or "sketch2photo".
        half: Whether to store the convolutions' weights in float16; nothing is lost if they were stored so before.
        model: What the model is called, for the metadata.

    Raises:
        ModelError: If the network has a layer that is not known here.
        ValueError: If the direction is unknown.
    """
    import onnx

    from pix2pix.directions import source_and_target

    source_and_target(direction)
    graph = _Graph(half=half)
    _write_network(graph, generator)
    shapes = {"source": ["N", generator.in_channels, "H", "W"], "image": ["N", generator.out_channels, "H", "W"]}
    source, image = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items())
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "generator", [source], [image], graph.constants),
        producer_name="pix2pix",
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.helper.set_model_props(
        proto, {name: json.dumps(value) for name, value in _notes(generator, direction, half, model).items()}
    )
    onnx.checker.check_model(proto, full_check=True)
    return proto


def write_onnx(
    generator: "UNetGenerator", direction: Direction, path: str | Path, *, half: bool = False, model: str | None = None
) -> None:
    """Write a generator into one file, whole or not at all; arguments as in `to_onnx`.

    Raises:
        ModelError: As `to_onnx`; or if it does not fit into one file of 2 GB.
        ValueError: If the direction is unknown.
    """
    from google.protobuf.message import EncodeError

    from pix2pix.files import whole_file
    from pix2pix.generator import ModelError

    proto = to_onnx(generator, direction, half=half, model=model)
    try:
        content = proto.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ModelError("an ONNX file holds at most 2 GB; take a smaller network, or --half") from error
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def _notes(generator: "UNetGenerator", direction: Direction, half: bool, model: str | None) -> dict[str, Any]:
    """The metadata: all that somebody needs to feed the file without this project."""
    source, target = direction.split("2")
    kinds = {1: "grey (ITU-R 601 luma)", 3: "RGB"}
    return {
        "library_name": "pix2pix",
        "model": model,
        "direction": direction,
        "source": source,
        "target": target,
        "in_channels": generator.in_channels,
        "out_channels": generator.out_channels,
        "channel_order": {
            "source": kinds.get(generator.in_channels, "other"),
            "image": kinds.get(generator.out_channels, "other"),
        },
        "layout": "N, C, H, W",
        "value_range": [-1, 1],
        "image_size": list(generator.image_size),
        "preprocessing": "turn upright, lay on white; resize (bicubic) to lie whole in image_size (height, width), aspect "
        "kept, centred, the rest mirrored; value = pixel / 127.5 - 1",
        "postprocessing": "pixel = round((value + 1) * 127.5); cut out where the picture lay; resize (bicubic) to its size",
        "weights": "float16" if half else "float32",
    }


class _Graph:
    """The nodes and constants of an ONNX graph as they grow; values are known by their names."""

    def __init__(self, *, half: bool) -> None:
        self.half = half
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._names: dict[tuple, str] = {}

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node with one output and return that output's name."""
        from onnx import helper

        output = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def integers(self, *values: int, scalar: bool = False) -> str:
        """An int64 constant, stored once."""
        import numpy as np

        key = (scalar, *values)
        if key not in self._names:
            array = np.array(values[0] if scalar else values, dtype=np.int64)
            self._names[key] = self.constant(array, f"int{len(self._names)}")
        return self._names[key]

    def constant(self, array: "np.ndarray", name: str) -> str:
        """A constant under a name."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, tensor: Any, name: str) -> str:
        """A convolution's weight, float32 for those who use it, in float16 on disk if asked for."""
        import numpy as np
        from onnx import TensorProto

        array = tensor.detach().float().cpu().numpy()
        if not self.half:
            return self.constant(array, name)
        # Beyond float16's range (65,504) a weight would become infinite.
        array = np.clip(array, -65504, 65504).astype(np.float16)
        return self.add("Cast", self.constant(array, f"{name}.half"), output=name, to=TensorProto.FLOAT)


def _write_network(graph: _Graph, generator: "UNetGenerator") -> None:
    """`UNetGenerator.forward`, operator by operator, from "source" to "image"."""
    sides = graph.add("Shape", "source", start=2)
    x, corner = _mirrored(graph, "source", sides, generator.minimum_size)
    sizes, skips, source = [], [], x
    for level, down in enumerate(generator.encoder):
        size = graph.add("Shape", x, start=2)
        sizes.append(size)
        odd = graph.add("Mod", size, graph.integers(2))
        pads = graph.add("Concat", graph.integers(0, 0), odd, axis=0)
        x = graph.add("Pad", x, pads, "", graph.integers(2, 3), mode="edge")
        x = _write_layers(graph, x, down, f"encoder.{level}")
        skips.append(x)
    skips.pop()  # the bottleneck has no skip
    channels = generator.config["noise_channels"]
    noise = graph.weight(generator.noise, "noise") if channels else None
    for level, up in enumerate(generator.decoder):
        x = _with_noise(graph, x, noise, channels) if len(sizes) == 1 else x
        x = _write_layers(graph, x, up, f"decoder.{level}")
        x = graph.add("Slice", x, graph.integers(0, 0), sizes.pop(), graph.integers(2, 3))
        if generator.skips and skips:
            x = graph.add("Concat", x, skips.pop(), axis=1)
    if generator.head is not None:
        x = graph.add("Concat", x, source, axis=1) if generator.skips else x
        x = _write_layers(graph, _with_noise(graph, x, noise, channels), generator.head, "head")
    if generator.smoother is not None:
        x = graph.add("Pad", x, graph.integers(1, 1, 1, 1), "", graph.integers(2, 3), mode="edge")
        x = _write_layers(graph, x, [generator.smoother], "smoother")
    graph.add("Slice", x, corner, graph.add("Add", corner, sides), graph.integers(2, 3), output="image")


def _with_noise(graph: _Graph, x: str, noise: str | None, channels: int) -> str:
    """`UNetGenerator.with_noise`: the noise that is kept, if there is any, repeated beside the activations."""
    from pix2pix.generator import NOISE_SIDE

    if noise is None:
        return x
    count, sides = graph.add("Shape", x, end=1), graph.add("Shape", x, start=2)
    zero, one = graph.integers(0, scalar=True), graph.integers(1, scalar=True)
    for axis in (0, 1):
        side = graph.add("Gather", sides, graph.integers(axis, scalar=True))
        positions = graph.add("Mod", graph.add("Range", zero, side, one), graph.integers(NOISE_SIDE, scalar=True))
        noise = graph.add("Gather", noise, positions, axis=1 + axis)
    shape = graph.add("Concat", count, graph.integers(channels), sides, axis=0)
    return graph.add("Concat", x, graph.add("Expand", noise, shape), axis=1)


def _mirrored(graph: _Graph, x: str, sides: str, minimum: int) -> tuple[str, str]:
    """Mirror pictures, centred, to at least `minimum` pixels a side; returns them and where the top left corner went."""
    missing = graph.add("Max", graph.add("Sub", graph.integers(minimum, minimum), sides), graph.integers(0, 0))
    corner = graph.add("Div", missing, graph.integers(2))
    zero, one = graph.integers(0, scalar=True), graph.integers(1, scalar=True)
    for axis in (0, 1):
        side, start, more = (
            graph.add("Gather", value, graph.integers(axis, scalar=True)) for value in (sides, corner, missing)
        )
        # Positions on an axis that is mirrored at both ends, again and again, as in `images.reflected`.
        positions = graph.add("Sub", graph.add("Range", zero, graph.add("Add", side, more), one), start)
        period = graph.add("Mul", graph.add("Sub", side, one), graph.integers(2, scalar=True))
        positions = graph.add("Mod", graph.add("Abs", positions), period)
        positions = graph.add("Min", positions, graph.add("Sub", period, positions))
        x = graph.add("Gather", x, positions, axis=2 + axis)
    return x, corner


def _write_layers(graph: _Graph, x: str, layers: Any, name: str) -> str:
    """The layers of one level, in their order."""
    import numpy as np
    import torch
    from torch import nn

    from pix2pix.generator import Blur, ModelError

    for index, layer in enumerate(layers):
        where = f"{name}.{index}"
        match layer:
            case nn.Conv2d() | nn.ConvTranspose2d() if layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
                inputs = [graph.weight(layer.weight, f"{where}.weight")]
                if layer.bias is not None:
                    inputs.append(graph.constant(layer.bias.detach().float().cpu().numpy(), f"{where}.bias"))
                attributes = {
                    "kernel_shape": layer.kernel_size,
                    "strides": layer.stride,
                    "pads": layer.padding * 2,
                    "dilations": layer.dilation,
                    "group": layer.groups,
                }
                if isinstance(layer, nn.ConvTranspose2d):
                    x = graph.add("ConvTranspose", x, *inputs, output_padding=layer.output_padding, **attributes)
                else:
                    x = graph.add("Conv", x, *inputs, **attributes)
            case nn.InstanceNorm2d(affine=False, track_running_stats=False):
                scale = graph.constant(np.ones(layer.num_features, np.float32), f"{where}.scale")
                shift = graph.constant(np.zeros(layer.num_features, np.float32), f"{where}.shift")
                x = graph.add("InstanceNormalization", x, scale, shift, epsilon=layer.eps)
            case nn.LeakyReLU():
                x = graph.add("LeakyRelu", x, alpha=layer.negative_slope)
            case nn.ReLU():
                x = graph.add("Relu", x)
            case nn.Tanh():
                x = graph.add("Tanh", x)
            case nn.PixelShuffle():
                x = graph.add("DepthToSpace", x, blocksize=layer.upscale_factor, mode="CRD")
            case nn.Upsample(mode="nearest", size=None):
                factors = np.array([1, 1, layer.scale_factor, layer.scale_factor], np.float32)
                scales = graph.constant(factors, f"{where}.scales")
                x = graph.add(
                    "Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
                )
            case Blur():
                kernel = graph.constant(layer.kernel(torch.zeros(())).numpy(), f"{where}.kernel")
                x = graph.add("Conv", x, kernel, kernel_shape=[3, 3], group=layer.channels)
            case nn.Dropout():
                pass  # the translation without a seed drops nothing
            case _:
                raise ModelError(f"layer {where} ({layer}) cannot be written as ONNX; teach pix2pix.export to")
    return x


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    command = parser()
    args = command.parse_args(argv)

    from pix2pix.files import require_writable
    from pix2pix.generator import ModelError, UNetGenerator
    from pix2pix.onnx_generator import ONNX_NAME

    directions = DIRECTIONS if args.direction == BOTH else (args.direction,)
    try:
        import onnx  # noqa: F401

        # All are loaded before the first is written, so that a model with one faulty direction writes none.
        generators = {
            direction: UNetGenerator.from_pretrained(args.model, subfolder=direction, revision=args.revision)
            for direction in directions
        }
        require_writable(args.output, name="--output")
        for direction, generator in generators.items():
            path = args.output / direction / ONNX_NAME
            write_onnx(generator, direction, path, half=args.half, model=_model_name(args.model, args.revision))
            print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    except ImportError as error:
        command.error(f"writing ONNX needs the onnx package ({error}); install it: pip install onnx")
    except OSError as error:
        command.error(f"--output '{args.output}' cannot be written to ({error.strerror or error}); make room there")
    except (ModelError, ValueError) as error:
        command.error(str(error).splitlines()[0])
    return 0


def _model_name(model: str, revision: str | None) -> str:
    """What a file says of its origin: the Hub id, or of a folder its own name, not where it lies."""
    if Path(model).is_dir():
        return Path(model).resolve().name
    return f"{model}@{revision}" if revision else model


if __name__ == "__main__":
    raise SystemExit(main())
