import pytest
import torch

from pix2pix.discriminator import RECEPTIVE_FIELDS, FeatureDiscriminator, PatchDiscriminator


def test_without_arguments_it_is_the_papers_network():
    discriminator = PatchDiscriminator()
    assert sum(p.numel() for p in discriminator.parameters()) == 2_767_809
    assert discriminator.receptive_field == 70
    pictures = torch.zeros(2, 3, 256, 256)
    assert discriminator(pictures, pictures).shape == (2, 1, 30, 30)


@pytest.mark.parametrize("side", RECEPTIVE_FIELDS)
def test_the_formula_gives_the_receptive_field_asked_for(side):
    assert PatchDiscriminator(receptive_field=side, base_channels=4).receptive_field == side


@pytest.mark.parametrize("side", [1, 16, 34, 70, 142])
def test_one_logit_depends_on_exactly_its_receptive_field(side):
    # Spectral norm instead of instance norm: statistics over the picture would let every pixel reach every logit.
    discriminator = PatchDiscriminator(receptive_field=side, base_channels=4, spectral=True).eval()
    image = torch.rand(1, 3, 320, 320, requires_grad=True)
    logits = discriminator(torch.zeros_like(image), image)
    middle = logits.shape[-1] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], image)
    reached = gradient[0].abs().sum(0) > 0
    for axis in (0, 1):
        touched = reached.any(axis).nonzero()
        assert touched.max() - touched.min() + 1 == side


def test_a_conditional_one_sees_the_source_and_an_unconditional_one_does_not():
    image, source = torch.rand(1, 3, 64, 64), torch.rand(1, 1, 64, 64)
    for conditional in (True, False):
        discriminator = PatchDiscriminator(1, 3, conditional=conditional, base_channels=4).eval()
        assert torch.equal(discriminator(source, image), discriminator(-source, image)) is not conditional


@pytest.mark.parametrize("side", RECEPTIVE_FIELDS)
@pytest.mark.parametrize("size", [(16, 16), (17, 40)])
def test_small_pictures_get_at_least_one_logit(side, size):
    discriminator = PatchDiscriminator(receptive_field=side, base_channels=4)
    logits = discriminator(torch.rand(2, 3, *size), torch.rand(2, 3, *size))
    assert logits.numel() >= 2
    assert torch.isfinite(logits).all()


def test_spectral_norm_bounds_every_convolution():
    discriminator = PatchDiscriminator(base_channels=8, spectral=True)
    for _ in range(50):  # each forward in training mode is one power iteration
        discriminator(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))
    discriminator.eval()
    for block in discriminator.features:
        assert torch.linalg.matrix_norm(block[0].weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)


def test_a_verdict_is_alike_whatever_the_batch():
    discriminator = PatchDiscriminator(base_channels=4)
    source, image = torch.rand(3, 3, 64, 64), torch.rand(3, 3, 64, 64)
    alone = torch.cat([discriminator(s[None], i[None]) for s, i in zip(source, image, strict=True)])
    assert torch.allclose(discriminator(source, image), alone, atol=1e-5)


def test_an_impossible_receptive_field_is_named():
    with pytest.raises(ValueError, match=r"receptive_field must be one of \[1, 16, 34, 70, 142, 286\], got 71"):
        PatchDiscriminator(receptive_field=71)


def maps_of(seed, count=2):
    generator = torch.Generator().manual_seed(seed)
    sizes = ((16, 28), (24, 14), (40, 7), (112, 4))
    return [torch.nn.functional.normalize(torch.randn(count, w, s, s, generator=generator), dim=1) for w, s in sizes]


def test_each_map_gets_verdicts_and_the_finest_are_looked_at_in_every_second_place():
    logits = FeatureDiscriminator((16, 24, 40, 112))(maps_of(0), maps_of(1))
    assert [tuple(each.shape) for each in logits] == [(2, 1, 14, 14), (2, 1, 7, 7), (2, 1, 7, 7), (2, 1, 4, 4)]


def test_a_conditional_one_sees_the_maps_of_the_source():
    for conditional in (True, False):
        discriminator = FeatureDiscriminator((16, 24, 40, 112), conditional=conditional).eval()
        pairs = zip(discriminator(maps_of(0), maps_of(1)), discriminator(maps_of(2), maps_of(1)), strict=True)
        assert all(torch.equal(*pair) is not conditional for pair in pairs)


def test_every_convolution_of_the_heads_is_bounded():
    discriminator = FeatureDiscriminator((16, 24, 40, 112))
    for _ in range(50):
        discriminator(maps_of(0, 1), maps_of(1, 1))
    convolutions = [module for module in discriminator.eval().modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(convolutions) == 12
    for convolution in convolutions:
        assert torch.linalg.matrix_norm(convolution.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)
