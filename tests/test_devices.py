import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pix2pix import devices

ROOT = Path(__file__).parent.parent


def test_threads_are_the_ones_asked_for_or_a_share_of_the_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: set(range(6)), raising=False)
    for wanted, processes, threads in ((3, 1, 3), (None, 1, 6), (None, 2, 3), (None, 8, 1)):
        devices.set_up(num_threads=wanted, processes=processes)
        assert torch.get_num_threads() == threads


def test_numbers_below_the_smallest_normal_one_are_zero_once_it_is_set_up():
    tiny = torch.tensor([2e-38], dtype=torch.float32)
    torch.set_flush_denormal(False)
    assert float(tiny * 0.1) != 0
    devices.set_up(num_threads=1)
    assert float(tiny * 0.1) == 0


@pytest.mark.parametrize(("name", "layout"), [("cpu", torch.channels_last), ("meta", torch.contiguous_format)])
def test_the_layout_is_the_one_that_the_device_computes_fast_in(name, layout):
    assert devices.best_layout(torch.device(name)) is layout


@pytest.mark.parametrize(("name", "layout"), [("cpu", torch.contiguous_format), ("cuda", torch.channels_last)])
def test_training_has_a_layout_of_its_own(name, layout):
    assert devices.training_layout(torch.device(name)) is layout


def test_memory_that_is_freed_stays_with_the_process():
    code = """
import sys, torch
from pix2pix import devices
if sys.argv[1] == "keep":
    devices.keep_memory()
def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
before = held()
tensor = torch.ones(50_000_000)
del tensor
print(held() - before > 190_000_000)
"""
    for word, is_kept in (("keep", "True"), ("give back", "False")):
        told = subprocess.run([sys.executable, "-c", code, word], capture_output=True, text=True, check=True, cwd=ROOT)
        assert told.stdout.strip() == is_kept


def test_the_precision_is_one_that_accelerate_takes_and_the_device_one_that_torch_has():
    assert devices.best_precision() in ("bf16", "no")
    native = {"bf16": torch.bfloat16, "no": torch.float32}[devices.best_precision()]
    assert devices.has_gpu() or devices.translating_dtype(torch.device("cpu")) == native
    assert devices.translating_dtype(torch.device("cuda")) == torch.float32
    assert torch.zeros(1, device=devices.default_device()).device.type == devices.default_device().type


def test_a_machine_whose_graphics_card_is_hidden_has_none():
    code = "from pix2pix import devices; print(devices.has_gpu(), devices.default_device().type in ('cpu', 'mps'))"
    told = subprocess.run(
        [sys.executable, "-c", code], env={"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, check=True,
        cwd=ROOT,
    )  # fmt: skip
    assert told.stdout.split() == ["False", "True"]


def test_only_one_thread_at_a_time_uses_mps():
    assert [devices.most_at_once(torch.device(name), 5) for name in ("cpu", "cuda", "mps")] == [5, 5, 1]
