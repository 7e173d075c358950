"""The objective of the paper's section 3.1 as pure functions of what they judge.

L_cGAN(G, D) = E[log D(x, y)] + E[log(1 - D(x, G(x)))]        equation 1
L_L1(G)      = E[||y - G(x)||_1]                               equation 3
G*           = arg min_G max_D L_cGAN(G, D) + lambda L_L1(G)   equation 4
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Adversarial = Literal["cross-entropy", "least-squares", "hinge", "none"]
Reconstruction = Literal["l1", "l2", "none"]

ADVERSARIAL: tuple[Adversarial, ...] = ("cross-entropy", "least-squares", "hinge", "none")
RECONSTRUCTION: tuple[Reconstruction, ...] = ("l1", "l2", "none")


class GeneratorLoss(NamedTuple):
    """The generator's objective: the weighted total and its unweighted terms, each a scalar tensor."""

    total: Tensor
    adversarial: Tensor
    reconstruction: Tensor
    feature_matching: Tensor


def adversarial_loss(logits: Tensor, *, is_real: bool, kind: Adversarial = "cross-entropy") -> Tensor:
    """How far the verdicts are from "real" or from "fake": ln 2 at zero logits under cross-entropy.

    For the generator, call it with `is_real=True` on its fakes: that is -log D(x, G(x)), the non-saturating form.

    Args:
        logits: (N, 1, H, W), any real numbers.
        is_real: What the verdicts should have been.
        kind: "cross-entropy" as in the paper, "least-squares" to the labels 1 and 0 (LSGAN), or "hinge".
    """
    if kind == "hinge":
        return F.relu(1 - logits if is_real else 1 + logits).mean()
    label = torch.full_like(logits, float(is_real))
    if kind == "least-squares":
        return F.mse_loss(logits, label)
    return F.binary_cross_entropy_with_logits(logits, label)


def reconstruction_loss(fake: Tensor, target: Tensor, kind: Reconstruction = "l1") -> Tensor:
    """Mean absolute ("l1", equation 3) or squared ("l2", blurrier) difference in model range; 0 for "none"."""
    if kind == "none":
        return fake.new_zeros(())
    return F.l1_loss(fake, target) if kind == "l1" else F.mse_loss(fake, target)


def discriminator_loss(
    discriminator: nn.Module,
    source: Tensor,
    target: Tensor,
    fake: Tensor,
    *,
    kind: Adversarial = "cross-entropy",
    noise: float = 0.0,
) -> Tensor:
    """The discriminator's side of equation 1, halved to slow it down against the generator (section 3.3).

    Real and fake go through in one pass, which is the same arithmetic as two, because no layer mixes pictures.
    `fake` is detached here: no gradient reaches the generator.

    Args:
        discriminator: The network that judges, a `PatchDiscriminator`.
        source: (N, C, H, W), in [-1, 1].
        target: (N, C', H, W), in [-1, 1].
        fake: (N, C', H, W), in [-1, 1].
        kind: See `adversarial_loss`.
        noise: Standard deviation of Gaussian noise on the pictures it judges, in model range.
    """
    images = torch.cat([target, fake.detach()])
    if noise:
        images = images + noise * torch.randn_like(images)
    logits_real, logits_fake = discriminator(torch.cat([source, source]), images).chunk(2)
    return verdict_loss(logits_real, logits_fake, kind)


def feature_discriminator_loss(
    discriminator: nn.Module,
    source_maps: Sequence[Tensor],
    target_maps: Sequence[Tensor],
    fake_maps: Sequence[Tensor],
    *,
    kind: Adversarial = "cross-entropy",
) -> Tensor:
    """The same for a `FeatureDiscriminator`: the mean over its heads. `fake_maps` are detached here.

    Args:
        discriminator: The network that judges.
        source_maps: Maps of the sources, each (N, C, H, W).
        target_maps: Maps of the targets, each (N, C, H, W).
        fake_maps: Maps of the fakes, each (N, C, H, W).
        kind: See `adversarial_loss`.
    """
    maps = [torch.cat([real, fake.detach()]) for real, fake in zip(target_maps, fake_maps, strict=True)]
    verdicts = discriminator([torch.cat([x, x]) for x in source_maps], maps)
    return torch.stack([verdict_loss(*logits.chunk(2), kind) for logits in verdicts]).mean()


def verdict_loss(logits_real: Tensor, logits_fake: Tensor, kind: Adversarial = "cross-entropy") -> Tensor:
    """Equation 1 for a discriminator that gave these verdicts, (N, 1, H, W) each; halved as section 3.3 asks."""
    real = adversarial_loss(logits_real, is_real=True, kind=kind)
    return (real + adversarial_loss(logits_fake, is_real=False, kind=kind)) / 2


def fooling_loss(logits_fake: Tensor, kind: Adversarial = "cross-entropy") -> Tensor:
    """The generator's side of equation 1, non-saturating: how far the verdicts (N, 1, H, W) on its fakes are from "real"."""
    if kind == "hinge":
        return -logits_fake.mean()
    return adversarial_loss(logits_fake, is_real=True, kind=kind)


def generator_loss(
    discriminator: nn.Module | None,
    source: Tensor,
    target: Tensor,
    fake: Tensor,
    *,
    adversarial: Adversarial = "cross-entropy",
    reconstruction: Reconstruction = "l1",
    adversarial_weight: float = 1.0,
    l1_weight: float = 100.0,
    feature_weight: float = 0.0,
) -> GeneratorLoss:
    """The generator's side: fool the discriminator, stay near the target (equation 4).

    Args:
        discriminator: The network that judges, a `PatchDiscriminator`; unused without an adversarial term. Freeze its
            parameters first, or it is given gradients that nobody uses.
        source: (N, C, H, W), in [-1, 1].
        target: (N, C', H, W), in [-1, 1].
        fake: (N, C', H, W), in [-1, 1], with its graph.
        adversarial: See `adversarial_loss`; "none" leaves the term out. The hinge form is -D(x, G(x)).
        reconstruction: See `reconstruction_loss`.
        adversarial_weight: Weight of the adversarial term; 1 in the paper.
        l1_weight: The paper's lambda, for L1 and L2 alike.
        feature_weight: Weight of feature matching: mean absolute difference between the discriminator's activations
            on target and fake, averaged over its levels (pix2pixHD; not in the paper).
    """
    zero = fake.new_zeros(())
    term_adversarial = term_features = zero
    if adversarial != "none":
        logits_fake, activations_fake = discriminator.judge(source, fake)
        term_adversarial = fooling_loss(logits_fake, adversarial)
        if feature_weight:
            with torch.no_grad():
                _, activations_real = discriminator.judge(source, target)
            differences = [F.l1_loss(f, r) for f, r in zip(activations_fake, activations_real, strict=True)]
            term_features = torch.stack(differences).mean()
    term_reconstruction = reconstruction_loss(fake, target, reconstruction)
    total = adversarial_weight * term_adversarial + l1_weight * term_reconstruction + feature_weight * term_features
    return GeneratorLoss(total, term_adversarial, term_reconstruction, term_features)
