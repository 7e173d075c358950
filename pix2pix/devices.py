"""What differs from one processor or graphics card to another: what is there, how it is set up, how exact it computes."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator

import torch

# Of malloc.h: how many blocks may be mapped one by one, how much free memory is kept, and how much is asked for ahead.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def has_gpu() -> bool:
    """Whether there is a CUDA device: then batches are pinned, copied beside the computation, and steps end later than said."""
    return torch.cuda.is_available()


def default_device() -> torch.device:
    """The fastest device at hand: CUDA, else Apple's MPS, else the CPU."""
    if has_gpu():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def most_at_once(device: torch.device, most: int) -> int:
    """How many threads may use the device at the same time: one on MPS, where two may abort the process.

    Reported for PyTorch 2.14 as pytorch/pytorch#197805.
    """
    return 1 if device.type == "mps" else most


def best_layout(device: torch.device) -> torch.memory_format:
    """The memory layout that convolutions of oneDNN and cuDNN need not rearrange their input in."""
    return torch.channels_last if device.type in ("cpu", "cuda") else torch.contiguous_format


def training_layout(device: torch.device) -> torch.memory_format:
    """The memory layout of the quickest training step: on the CPU the plain one, as oneDNN then copies less on the way back."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def best_precision() -> str:
    """The `mixed_precision` of accelerate for training here: "bf16" where it is native, else "no"."""
    if has_gpu():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if _has_native_bfloat16() else "no"


def translating_dtype(device: torch.device) -> torch.dtype:
    """What a translation computes in: bfloat16 on processors that have it, at half the time of float32; else float32."""
    return torch.bfloat16 if device.type == "cpu" and _has_native_bfloat16() else torch.float32


def _has_native_bfloat16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Inside the block, PyTorch computes with `count` processor threads; so do threads that are made in it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def set_up(*, num_threads: int | None = None, processes: int = 1) -> None:
    """Make the process ready to train: threads, TF32, the search for fast convolutions, memory that is kept, no denormals.

    Args:
        num_threads: Processor threads; by default the cores that `processes` leave to each.
        processes: How many share this machine.
    """
    # `accelerate launch` sets one thread a process on a machine without a GPU, which would leave the other cores idle.
    torch.set_num_threads(num_threads or max(1, cores() // processes))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    keep_memory()
    # Activations near zero make gradients below the smallest normal float; computed exactly, they slow a step manifold.
    # Only threads that are made after this obey: in a process that has computed before, a run may differ in its last bits.
    torch.set_flush_denormal(True)


def keep_memory() -> None:
    """Let the process keep the memory that it frees, where the C library is glibc; elsewhere nothing happens.

    By default large tensors go back to the system as soon as they are freed, and the next step has it clear every page anew.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        tune = ctypes.CDLL("libc.so.6").mallopt
        for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 * 2**20)):
            tune(option, value)


def wait_for_device() -> None:
    """Wait until everything that was asked of the device is done, so that a clock may be read."""
    if has_gpu():
        torch.cuda.synchronize()
