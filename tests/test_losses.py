import math

import pytest
import torch
from torch import nn

from pix2pix.discriminator import FeatureDiscriminator, PatchDiscriminator
from pix2pix.generator import UNetGenerator
from pix2pix.losses import (
    adversarial_loss,
    discriminator_loss,
    feature_discriminator_loss,
    fooling_loss,
    generator_loss,
    reconstruction_loss,
    verdict_loss,
)


@pytest.fixture
def players():
    torch.manual_seed(0)
    generator = UNetGenerator(base_channels=4, num_downsamples=3, dropout=0.0)
    return (
        generator,
        PatchDiscriminator(base_channels=4, receptive_field=16),
        torch.rand(2, 3, 32, 32),
        torch.rand(2, 3, 32, 32),
    )


class Undecided(nn.Module):
    def forward(self, source, image):
        return torch.zeros(len(image), 1, 4, 4)


@pytest.mark.parametrize("is_real", [True, False])
def test_zero_logits_cost_ln_2(is_real):
    assert adversarial_loss(torch.zeros(2, 1, 30, 30), is_real=is_real).item() == pytest.approx(math.log(2))


def test_the_discriminators_loss_is_halved(players):
    _, _, source, target = players
    assert discriminator_loss(Undecided(), source, target, target).item() == pytest.approx(math.log(2))
    assert discriminator_loss(Undecided(), source, target, target, kind="least-squares").item() == pytest.approx(0.5)
    assert discriminator_loss(Undecided(), source, target, target, kind="hinge").item() == pytest.approx(1.0)


def test_least_squares_is_zero_at_the_labels():
    assert adversarial_loss(torch.ones(1, 1, 2, 2), is_real=True, kind="least-squares") == 0
    assert adversarial_loss(torch.zeros(1, 1, 2, 2), is_real=False, kind="least-squares") == 0


def test_the_generators_term_does_not_saturate():
    # Where the discriminator is sure of the fake, log(1 - D) is flat and -log D is steep: the reason for the form used.
    logits = torch.full((1, 1, 1, 1), -10.0, requires_grad=True)
    adversarial_loss(logits, is_real=True).backward()
    assert logits.grad.item() == pytest.approx(-1, abs=1e-3)


@pytest.mark.parametrize(("kind", "expected"), [("l1", 0.5), ("l2", 0.25), ("none", 0.0)])
def test_reconstruction_of_a_constant_difference(kind, expected):
    assert reconstruction_loss(torch.full((2, 3, 4, 4), 0.5), torch.zeros(2, 3, 4, 4), kind).item() == expected


def test_one_pass_over_real_and_fake_equals_two(players):
    _, discriminator, source, target = players
    fake = torch.rand_like(target)
    real = adversarial_loss(discriminator(source, target), is_real=True)
    both = (real + adversarial_loss(discriminator(source, fake), is_real=False)) / 2
    assert discriminator_loss(discriminator, source, target, fake).item() == pytest.approx(both.item(), abs=1e-6)


def test_the_discriminators_loss_leaves_no_gradient_in_the_generator(players):
    generator, discriminator, source, target = players
    discriminator_loss(discriminator, source, target, generator(source)).backward()
    assert all(p.grad is None for p in generator.parameters())
    assert all(p.grad is not None for p in discriminator.parameters())


def test_the_generators_loss_leaves_no_gradient_in_a_frozen_discriminator(players):
    generator, discriminator, source, target = players
    discriminator.requires_grad_(False)
    generator_loss(discriminator, source, target, generator(source), feature_weight=1.0).total.backward()
    assert all(p.grad is None for p in discriminator.parameters())
    assert all(p.grad is not None for p in generator.parameters())


def test_the_total_is_the_weighted_sum(players):
    generator, discriminator, source, target = players
    weights = {"adversarial_weight": 0.25, "l1_weight": 7.0, "feature_weight": 3.0}
    loss = generator_loss(discriminator, source, target, generator(source), **weights)
    expected = loss.adversarial / 4 + 7 * loss.reconstruction + 3 * loss.feature_matching
    assert loss.total.item() == pytest.approx(expected.item())


def test_without_an_adversarial_term_no_discriminator_is_asked(players):
    _, _, source, target = players
    loss = generator_loss(None, source, target, source, adversarial="none", reconstruction="l2", l1_weight=2.0)
    assert loss.adversarial == 0
    assert loss.total.item() == pytest.approx(2 * (source - target).square().mean().item())


def test_feature_matching_is_zero_for_the_target_itself(players):
    _, discriminator, source, target = players
    discriminator.eval()
    assert generator_loss(discriminator, source, target, target, feature_weight=1.0).feature_matching == 0


def test_noise_blurs_the_verdict_on_equal_pictures(players):
    _, discriminator, source, target = players
    plain = discriminator_loss(discriminator, source, target, target)
    assert discriminator_loss(discriminator, source, target, target, noise=0.5) != plain


@pytest.mark.parametrize("kind", ["cross-entropy", "least-squares"])
def test_fooling_is_winning_the_verdict_real(kind):
    logits = torch.randn(2, 1, 3, 3)
    assert fooling_loss(logits, kind) == adversarial_loss(logits, is_real=True, kind=kind)
    assert fooling_loss(logits, "hinge") == -logits.mean()


def maps_of(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 6, 8, 8, generator=generator), torch.randn(2, 10, 4, 4, generator=generator)]


def test_the_feature_discriminators_loss_is_the_mean_over_its_heads():
    discriminator = FeatureDiscriminator((6, 10)).eval()
    source, target, fake = maps_of(0), maps_of(1), maps_of(2)
    real, faked = discriminator(source, target), discriminator(source, fake)
    expected = [verdict_loss(r, f, "least-squares") for r, f in zip(real, faked, strict=True)]
    loss = feature_discriminator_loss(discriminator, source, target, fake, kind="least-squares")
    torch.testing.assert_close(loss, sum(expected) / 2)


def test_the_feature_discriminators_loss_leaves_no_gradient_in_the_fake():
    discriminator = FeatureDiscriminator((6, 10), conditional=False)
    fake = [x.requires_grad_() for x in maps_of(2)]
    feature_discriminator_loss(discriminator, [], maps_of(1), fake).backward()
    assert all(x.grad is None for x in fake)
    assert all(p.grad is not None for p in discriminator.parameters())
