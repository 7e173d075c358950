"""The reference of the benchmarks: pix2pix as one would first write it, independent of train.py.

Float32, eager, one batch after the other, three discriminator passes, `torch.optim.Adam` as it comes. The networks and the
objective are those of the paper: cross-entropy, L1 with a weight of 100, dropout, the discriminator's loss halved.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

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
