"""What every test stands on: one thread, no network but a Hub on loopback, and that Hub empty for each test.

The client libraries read `HF_ENDPOINT` when they are imported, so the address is taken and the environment is set here,
before any test module is: neither this process nor one it starts can reach another Hub.
"""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hub_server import HubServer

ROOT = Path(__file__).parent.parent
MOST_WORKERS = 4  # with more, all the others wait for the longest file
WORKER_BYTES = 3 * 2**30  # it holds torch, and so does each of the programs that its tests start
LONGEST = ["train", "benchmarks", "app", "static_page", "walkthrough", "faults", "space_tree"]  # files, the longest first

if early := {"huggingface_hub", "datasets", "torch"} & sys.modules.keys():
    raise RuntimeError(f"{', '.join(sorted(early))} was imported before the environment of the tests was set")

_server = HubServer()

for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING", "PIX2PIX_", "GRADIO_", "WANDB_"))]:
    del os.environ[name]
os.environ.update(_server.environment())
del os.environ["HF_TOKEN"]  # only a test that asks for the Hub is logged in
os.environ.update(
    OMP_NUM_THREADS="1",
    PYTHONUNBUFFERED="1",  # what a program says through a pipe is read while it runs
    MPLBACKEND="Agg",
    GRADIO_ANALYTICS_ENABLED="False",
    WANDB_MODE="disabled",
    TORCH_HOME=os.path.join(os.environ["HF_HOME"], "torch"),  # what somebody has fetched does not change what is scored
    # Programs under test start in folders of their own, and find the package all the same.
    PYTHONPATH=os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
)
sys.path[:0] = [str(folder) for folder in (ROOT, ROOT / "space") if str(folder) not in sys.path]


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many processes share the tests: none but this one for a single file, which is not divided."""
    files = {argument.partition("::")[0] for argument in config.args}
    most = len(files) if all(name.endswith(".py") for name in files) else MOST_WORKERS
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    fitting = min(most, MOST_WORKERS, cores, psutil.virtual_memory().available // WORKER_BYTES)
    return fitting if fitting > 1 else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes share the tests, the longest files come first: nobody is left alone with one at the end."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        places = {f"test_{name}": place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_unconfigure() -> None:
    _server.stop()


@pytest.fixture(autouse=True)
def _process_as_it_was() -> Iterator[None]:
    """Programs that are run in this process set it up for themselves; the next test finds it as if they had not been."""
    environment, folder, scratch = dict(os.environ), os.getcwd(), tempfile.tempdir
    levels = {name: logging.getLogger(name).level for name in ("", "pix2pix", "huggingface_hub", "datasets", "accelerate")}
    threads = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    yield
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = scratch
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    if threads:
        sys.modules["torch"].set_num_threads(threads)
        sys.modules["torch"].set_flush_denormal(False)
    if "accelerate.state" in sys.modules:  # the first run's precision and accumulation would be those of the next
        state = sys.modules["accelerate.state"]
        for kept in (state.AcceleratorState, state.GradientState, state.PartialState):
            kept._reset_state()


@pytest.fixture(scope="session")
def _running_hub() -> HubServer:
    return _server.start()


@pytest.fixture
def hub(_running_hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """An empty Hub that this process, and those it starts, are logged in to as `hub.user`."""
    _running_hub.reset()
    if "huggingface_hub.hf_file_system" in sys.modules:  # its file systems outlive a test, and remember what is missing
        sys.modules["huggingface_hub.hf_file_system"].HfFileSystem.clear_instance_cache()
    monkeypatch.setenv("HF_TOKEN", _running_hub.token)
    return _running_hub


@pytest.fixture(scope="session")
def published_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `TORCH_HOME` with the files that LPIPS and FID need, of the published shapes, random numbers in them."""
    import torch
    from torchvision.models import inception_v3, vgg16

    from pix2pix.published_networks import weight_files

    home = tmp_path_factory.mktemp("torch")
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.setenv("TORCH_HOME", str(home))
        torch.manual_seed(0)
        network_file, scales_file = weight_files("lpips")
        network_file.parent.mkdir(parents=True)
        # The published file holds the classifier as well.
        held = {f"features.{name}": value for name, value in vgg16(init_weights=False).features.state_dict().items()}
        torch.save(held | {"classifier.6.bias": torch.zeros(1000)}, network_file)
        torch.save([torch.rand(1, width, 1, 1) for width in (64, 128, 256, 512, 512)], scales_file)
        network = inception_v3(num_classes=1008, aux_logits=False, init_weights=False)
        for parameter in network.parameters():
            if parameter.dim() == 4:  # by default, so deep a network sees nothing in any picture
                torch.nn.init.kaiming_normal_(parameter, nonlinearity="relu")
        torch.save(network.state_dict(), weight_files("fid")[0])
    return home
