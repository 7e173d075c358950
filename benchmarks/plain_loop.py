"""The reference of the benchmarks: pix2pix as one would first write it, independent of train.py.

Float32, eager, one batch after the other, three discriminator passes, `torch.optim.Adam` as it comes. The networks and the
objective are those of the paper: cross-entropy, L1 with a weight of 100, dropout, the discriminator's loss halved.

As a program it is timed by another process (`PlainProcess`): nothing that train.py sets up for itself can change its pace.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import timing
from pix2pix.discriminator import PatchDiscriminator
from pix2pix.generator import UNetGenerator

L1_WEIGHT = 100.0
LEARNING_RATE = 2e-4
BETAS = (0.5, 0.999)


class PlainLoop:
    """Networks, optimizers and the step.

    Args:
        generator: By default the paper's, for colour.
        discriminator: By default the paper's.
    """

    def __init__(self, generator: UNetGenerator | None = None, discriminator: PatchDiscriminator | None = None) -> None:
        self.generator = generator or UNetGenerator()
        self.discriminator = discriminator or PatchDiscriminator()
        self.optimizer_g = torch.optim.Adam(self.generator.parameters(), lr=LEARNING_RATE, betas=BETAS)
        self.optimizer_d = torch.optim.Adam(self.discriminator.parameters(), lr=LEARNING_RATE, betas=BETAS)

    def step(self, source: Tensor, target: Tensor) -> tuple[float, float]:
        """One step of both networks; returns the discriminator's and the generator's loss.

        Args:
            source: (N, C, H, W), in [-1, 1].
            target: (N, C', H, W), in [-1, 1].
        """
        self.generator.train()
        fake = self.generator(source)

        self.optimizer_d.zero_grad()
        logits_real = self.discriminator(source, target)
        logits_fake = self.discriminator(source, fake.detach())
        loss_real = F.binary_cross_entropy_with_logits(logits_real, torch.ones_like(logits_real))
        loss_fake = F.binary_cross_entropy_with_logits(logits_fake, torch.zeros_like(logits_fake))
        loss_d = (loss_real + loss_fake) / 2
        loss_d.backward()
        self.optimizer_d.step()

        self.optimizer_g.zero_grad()
        logits_fake = self.discriminator(source, fake)
        loss_adversarial = F.binary_cross_entropy_with_logits(logits_fake, torch.ones_like(logits_fake))
        loss_g = loss_adversarial + L1_WEIGHT * F.l1_loss(fake, target)
        loss_g.backward()
        self.optimizer_g.step()
        return loss_d.item(), loss_g.item()


class PlainProcess:
    """The plain loop in a process of its own, on one random pair; used as a context.

    Args:
        generator: Arguments of the `UNetGenerator`.
        discriminator: Arguments of the `PatchDiscriminator`.
        size: Height and width of the pictures, in pixels.
        device: Where it runs.
        threads: Of the processor.
    """

    def __init__(
        self, generator: dict[str, Any], discriminator: dict[str, Any], *, size: tuple[int, int], device: str, threads: int
    ) -> None:
        self.wanted = {"generator": generator, "discriminator": discriminator, "size": size, "device": device}
        self.environment = os.environ | {"OMP_NUM_THREADS": str(threads)}

    def __enter__(self) -> "PlainProcess":
        command = [sys.executable, __file__]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment)
        self._tell(self.wanted)
        return self

    def __exit__(self, *_exception: object) -> None:
        with self.child:  # waits, and closes its pipes: at the end of its input it ends
            pass

    def steps(self, count: int) -> float:
        """Make so many steps; returns the seconds that they took."""
        return self._ask(count)["seconds"]

    def peak_memory(self) -> int:
        """The most bytes of memory that it has held so far."""
        return self._ask(0)["peak_bytes"]

    def _tell(self, what: Any) -> None:
        self.child.stdin.write(json.dumps(what) + "\n")
        self.child.stdin.flush()

    def _ask(self, count: int) -> dict[str, Any]:
        self._tell(count)
        answer = self.child.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process of the plain loop ended with status {self.child.wait()}; see its message above")
        return json.loads(answer)


def main() -> None:
    """Read what is wanted, then numbers of steps, a line each; answer each number with what its steps took."""
    wanted = json.loads(sys.stdin.readline())
    device = torch.device(wanted["device"])
    generator, discriminator = UNetGenerator(**wanted["generator"]), PatchDiscriminator(**wanted["discriminator"])
    loop = PlainLoop(generator.to(device), discriminator.to(device))
    source, target = (
        torch.rand(1, channels, *wanted["size"], device=device).mul(2).sub(1)
        for channels in (generator.in_channels, generator.out_channels)
    )
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(json.loads(line)):
            loop.step(source, target)  # its losses are read, so nothing is left on its way when the clock is
        report = {"seconds": time.perf_counter() - start, "peak_bytes": timing.peak_memory()}
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
