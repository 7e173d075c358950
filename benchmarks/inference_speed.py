"""What one translation takes, in every runtime at hand, and what surrounds it: `python benchmarks/inference_speed.py`.

The runtimes take turns on one drawn face of 200 x 250 pixels, decoding and encoding left out. What a runtime loses against
float32 is measured beside its time. Then the start-up of fresh processes, and a folder of pictures through
`pix2pix.translate` against the time that the network alone takes for them.
"""

import argparse
import contextlib
import copy
import functools
import inspect
import io
import logging
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import timing
from pix2pix.directions import DIRECTIONS, source_and_target

if TYPE_CHECKING:
    from torch import Tensor

    from pix2pix.generator import UNetGenerator

Runner = Callable[["Tensor"], "Tensor"]

SHIPPED = timing.ROOT / "space" / "weights"
CALIBRATION_SEEDS = range(100, 116)
"""Drawn people by whom static quantization finds the ranges of the activations."""

JUDGED_SEEDS = range(8)
"""Drawn people on whom a runtime's pictures are compared with float32's; the first is the one that is timed."""

FIRST_TRANSLATION = """
import sys
from PIL import Image
from pix2pix.inference import Translator
Translator.from_pretrained(sys.argv[1], sys.argv[2], "cpu")(Image.new("RGB", (200, 250), "grey"))
"""


def parser() -> argparse.ArgumentParser:
    """The command line of this program."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/inference_speed.py",
        description="Time one translation in every runtime at hand with its loss against float32, the start-up of fresh "
        "processes, and a folder of pictures against the network's own time.",
    )
    parser.add_argument(
        "--model", metavar="DIR", help="run folder or Hub id (default: space/weights, else a new network of the preset lite)"
    )
    parser.add_argument("--direction", choices=DIRECTIONS, default="photo2sketch", help="default: %(default)s")
    parser.add_argument(
        "--runtimes", nargs="+", choices=RUNTIMES, default=list(RUNTIMES), metavar="NAME", help=f"of {', '.join(RUNTIMES)}"
    )
    parser.add_argument("--rounds", type=timing.count, default=30, metavar="N", help="timings of each runtime (default: 30)")
    parser.add_argument("--starts", type=timing.count, default=3, metavar="N", help="timed starts of each program (default: 3)")
    parser.add_argument("--pictures", type=timing.count, default=200, metavar="N", help="in the folder (default: 200)")
    parser.add_argument("--threads", type=timing.count, metavar="N", help="of every runtime (default: the cores at hand)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the report goes (default: printed alone)")
    return parser


# -- the runtimes: each makes a function from (1, C, H, W) to (1, C', H, W), both in [-1, 1], float32 -------------------


def eager(generator: "UNetGenerator", _: Path, *, dtype: str, channels_last: bool = False, autocast: bool = False) -> Runner:
    """PyTorch as it comes."""
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format
    kind = getattr(torch, dtype)
    network = copy.deepcopy(generator).to(torch.float32 if autocast else kind, memory_format=layout)

    def run(source: "Tensor") -> "Tensor":
        with torch.autocast("cpu", kind, enabled=autocast):
            return network(source.to(torch.float32 if autocast else kind, memory_format=layout)).float()

    return run


def compiled(generator: "UNetGenerator", folder: Path, *, dtype: str) -> Runner:
    """`torch.compile`; its first call, which compiles, is not timed."""
    import torch

    return torch.compile(eager(generator, folder, dtype=dtype, channels_last=True))


def onnx_file(generator: "UNetGenerator", folder: Path) -> Path:
    """The generator as ONNX, written once."""
    from pix2pix.export import write_onnx

    path = folder / "model.onnx"
    if not path.exists():
        write_onnx(generator, DIRECTIONS[0], path)
    return path


def onnx_runtime(generator: "UNetGenerator", folder: Path, *, quantized: str | None = None) -> Runner:
    """ONNX Runtime on the CPU; `quantized` is "dynamic" or "static" for int8."""
    import onnxruntime
    import torch

    path = onnx_file(generator, folder)
    if quantized:
        from onnxruntime import quantization

        target = folder / f"{quantized}.onnx"
        if quantized == "dynamic":
            quantization.quantize_dynamic(path, target)
        else:
            quantization.quantize_static(path, target, calibration_reader(generator))
        path = target
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda source: torch.from_numpy(session.run(None, {name: source.numpy()})[0])


def calibration_reader(generator: "UNetGenerator") -> Any:
    """Pictures of drawn people, one after the other, as static quantization asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.sources = ({"source": source_of(generator, seed).numpy()} for seed in CALIBRATION_SEEDS)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.sources, None)

    return Reader()


def openvino_runtime(generator: "UNetGenerator", folder: Path, *, precision: str | None = None) -> Runner:
    """OpenVINO on the CPU, in the precision that it chooses, or in `precision`."""
    import openvino
    import torch

    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    options |= {"INFERENCE_PRECISION_HINT": precision} if precision else {}
    network = openvino.Core().compile_model(str(onnx_file(generator, folder)), "CPU", options)
    return lambda source: torch.from_numpy(network(source.numpy())[0])


RUNTIMES: dict[str, Callable[["UNetGenerator", Path], Runner]] = {
    "eager-f32": functools.partial(eager, dtype="float32"),
    "eager-f32-channels-last": functools.partial(eager, dtype="float32", channels_last=True),
    "eager-bf16": functools.partial(eager, dtype="bfloat16"),
    "eager-bf16-channels-last": functools.partial(eager, dtype="bfloat16", channels_last=True),
    "autocast-bf16-channels-last": functools.partial(eager, dtype="bfloat16", channels_last=True, autocast=True),
    "compiled-f32": functools.partial(compiled, dtype="float32"),
    "compiled-bf16": functools.partial(compiled, dtype="bfloat16"),
    "onnx-f32": onnx_runtime,
    "onnx-int8-dynamic": functools.partial(onnx_runtime, quantized="dynamic"),
    "onnx-int8-static": functools.partial(onnx_runtime, quantized="static"),
    "openvino": openvino_runtime,
    "openvino-f32": functools.partial(openvino_runtime, precision="f32"),
}


# -- the measurements --------------------------------------------------------------------------------------------------


@functools.cache
def drawn_photo_and_sketch(seed: int) -> Any:
    """A drawn person of 200 x 250 pixels."""
    from pix2pix.drawn_faces import draw_pair

    return draw_pair(seed)


def source_of(generator: "UNetGenerator", seed: int) -> "Tensor":
    """What the network is given of a drawn person: (1, in_channels, H, W), in [-1, 1]."""
    from pix2pix.images import fit, to_tensor

    picture, _ = fit(drawn_photo_and_sketch(seed).photo, generator.image_size)
    return to_tensor(picture, channels=generator.in_channels)[None].contiguous()


def measure_runtimes(generator: "UNetGenerator", names: Sequence[str], *, rounds: int, folder: Path) -> list[dict[str, Any]]:
    """Milliseconds of one translation in each runtime, and the loss against float32 in levels of 255 and as FSIM."""
    import torch

    from pix2pix.metrics import per_image_scores

    sources = [source_of(generator, seed) for seed in JUDGED_SEEDS]
    with torch.inference_mode():
        reference = torch.cat([generator(source) for source in sources])
        runners, rows = {}, []
        for name in names:
            row: dict[str, Any] = {"runtime": name}
            rows.append(row)
            try:
                runner = RUNTIMES[name](generator, folder)
                made = torch.cat([runner(source).clone() for source in sources])
            except Exception as error:  # a package, a compiler or an operator that is missing says so in its own way
                row["left_out"] = (str(error).strip().splitlines() or [type(error).__name__])[0]
                continue
            runners[name] = runner
            difference = (made - reference).abs() * 127.5
            row |= {"max_difference": difference.max().item(), "mean_difference": difference.mean().item()}
            row["fsim"] = per_image_scores(made, reference)["fsim"].mean().item()
        cases = {name: functools.partial(_discard, runner, sources[0]) for name, runner in runners.items()}
        timing.interleave(cases, rounds=2)  # warms up
        seconds = timing.interleave(cases, rounds=rounds)
    for row in rows:
        if row["runtime"] in seconds:
            row["milliseconds"] = 1000 * statistics.median(seconds[row["runtime"]])
    return rows


def _discard(runner: Runner, source: "Tensor") -> None:
    runner(source)


def measure_starts(model: str, direction: str, *, starts: int) -> dict[str, float]:
    """Median seconds from the start to the end of fresh processes; one start before warms the disk's cache."""
    commands = {
        "import pix2pix.inference, first translation": [sys.executable, "-c", FIRST_TRANSLATION, model, direction],
        "train.py --help": [sys.executable, str(timing.ROOT / "train.py"), "--help"],
    }
    cases = {
        name: functools.partial(subprocess.run, command, cwd=timing.ROOT, stdout=subprocess.DEVNULL, check=True)
        for name, command in commands.items()
    }
    cases = {name: functools.partial(_only_time, start) for name, start in cases.items()}
    timing.interleave(cases, rounds=1)
    return {name: statistics.median(seconds) for name, seconds in timing.interleave(cases, rounds=starts).items()}


def _only_time(start: Callable[[], Any]) -> None:
    start()


def measure_folder(model: str, direction: str, *, pictures: int, rounds: int, folder: Path) -> dict[str, float]:
    """Seconds for a folder of JPEG files through `pix2pix.translate`, and for the network alone on the same batches."""
    import torch

    from pix2pix import translate
    from pix2pix.images import fit, to_tensor
    from pix2pix.inference import Translator

    (folder / "in").mkdir()
    for index in range(pictures):
        drawn_photo_and_sketch(index % len(JUDGED_SEEDS)).photo.save(folder / "in" / f"{index:05d}.jpg", quality=92)
    translator = Translator.from_pretrained(model, direction, "cpu")
    channels = translator.generator.in_channels
    fitted = [fit(drawn_photo_and_sketch(seed).photo, translator.generator.image_size)[0] for seed in JUDGED_SEEDS]
    batch_size = translate.parser().get_default("batch_size")
    chosen = [to_tensor(fitted[index % len(fitted)], channels=channels) for index in range(min(batch_size, pictures))]
    full, rest = divmod(pictures, batch_size)

    def network_alone() -> None:
        for _ in range(full):
            translator.translate(torch.stack(chosen))
        if rest:
            translator.translate(torch.stack(chosen[:rest]))

    def whole_folder() -> None:
        words = ["--model", model, "--direction", direction, str(folder / "in"), "--output", str(folder / "out")]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            if translate.main([*words, "--device", "cpu"]):
                raise RuntimeError("pix2pix.translate left pictures out")

    timing.interleave({"network": network_alone, "folder": whole_folder}, rounds=1)
    seconds = timing.interleave({"network": network_alone, "folder": whole_folder}, rounds=rounds)
    return {
        "pictures": pictures,
        "network_seconds": statistics.median(seconds["network"]),
        "folder_seconds": statistics.median(seconds["folder"]),
        "ratio": timing.median_ratio(seconds["folder"], seconds["network"]),
    }


def new_model(folder: Path, direction: str) -> str:
    """A network of the preset lite as it is before training: the time is the same."""
    import torch

    from pix2pix import arguments
    from pix2pix.generator import UNetGenerator

    preset = arguments.DEFAULTS | arguments.PRESETS["lite"]
    known = inspect.signature(UNetGenerator).parameters
    shape = {name: value for name, value in preset.items() if name in known and value is not None}
    torch.manual_seed(0)
    channels = (3, 1) if direction == "photo2sketch" else (1, 3)
    _, target = source_and_target(direction)
    shape |= {
        "image_size": (250, 200),
        "noise_channels": preset["noise_channels"][target == "sketch"],
        "smooth": preset["smooth"] in (target, "both"),
    }
    UNetGenerator(*channels, **shape).save_pretrained(folder / direction)
    return str(folder)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hear no warnings and no advice, which the quantizers give on the root logger; both are heard again afterwards."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        root.setLevel(level)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status, 0."""
    command = parser()
    args = command.parse_args(argv)

    from pix2pix.devices import cores, torch_threads
    from pix2pix.generator import ModelError
    from pix2pix.inference import Translator

    with quiet(), torch_threads(args.threads or cores()), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = args.model or (str(SHIPPED) if SHIPPED.is_dir() else new_model(folder / "model", args.direction))
        try:
            generator = Translator.from_pretrained(model, args.direction, "cpu").generator.requires_grad_(False)
        except ModelError as error:
            command.error(str(error))
        runtimes = measure_runtimes(generator, args.runtimes, rounds=args.rounds, folder=folder)
        starts = measure_starts(model, args.direction, starts=args.starts)
        pictures = measure_folder(model, args.direction, pictures=args.pictures, rounds=3, folder=folder)
        machine = timing.machine()
    report = {
        "model": model if args.model or SHIPPED.is_dir() else "a new network of the preset lite",
        "direction": args.direction,
        "parameters": sum(p.numel() for p in generator.parameters()),
        "image_size": list(generator.image_size),
        "rounds": args.rounds,
        "runtimes": runtimes,
        "starts": starts,
        "folder": pictures,
        "machine": machine,
    }
    height, width = generator.image_size
    print(f"{report['model']}, {args.direction}: {report['parameters'] / 1e6:.1f} M parameters, {width} x {height} px\n")
    titles = ["runtime", "ms a picture", "largest difference", "mean difference", "FSIM with float32"]
    columns = ["runtime", "milliseconds", "max_difference", "mean_difference", "fsim"]
    print(timing.table(titles, [[row.get(name) for name in columns] for row in runtimes]))
    print("differences in levels of 255, on drawn faces; " + f"medians of {args.rounds} rounds")
    for row in runtimes:
        if "left_out" in row:
            print(f"left out: {row['runtime']} ({row['left_out']})")
    print("\n" + timing.table(["fresh process", "s"], starts.items()))
    print("\n" + timing.table(["pictures", "network alone, s", "folder, s", "ratio"], [list(pictures.values())]))
    if args.json:
        timing.write_json(args.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
