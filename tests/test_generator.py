import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from pix2pix.generator import UPSAMPLING, Blur, ModelError, UNetGenerator
from pix2pix.layers import evaluating


def tiny(**changes):
    return UNetGenerator(**{"base_channels": 4, "max_channels": 8, "num_downsamples": 4, "image_size": 32, **changes})


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    generator = tiny()
    generator.save_pretrained(tmp_path / "model")
    return generator, tmp_path / "model"


def test_without_arguments_it_is_the_papers_network():
    generator = UNetGenerator()
    assert sum(p.numel() for p in generator.parameters()) == 54_409_603
    with torch.inference_mode():
        assert generator.eval()(torch.zeros(1, 3, 256, 256)).shape == (1, 3, 256, 256)


def test_the_bottleneck_of_the_paper_is_one_pixel_of_512_channels():
    generator, seen = UNetGenerator().eval(), []
    generator.encoder[-1].register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape))
    with torch.inference_mode():
        generator(torch.zeros(1, 3, 256, 256))
    assert seen == [(1, 512, 1, 1)]


@pytest.mark.parametrize("upsampling", UPSAMPLING)
@pytest.mark.parametrize("size", [(16, 16), (17, 31), (64, 48), (50, 39)])
def test_any_size_from_16_comes_back_as_it_went_in(size, upsampling):
    generator = tiny(in_channels=1, out_channels=2, upsampling=upsampling, num_downsamples=6)
    assert generator(torch.zeros(2, 1, *size)).shape == (2, 2, *size)


@pytest.mark.parametrize("depth", [1, 2, 8])
@pytest.mark.parametrize("skips", [True, False])
def test_any_depth_with_and_without_skips(depth, skips):
    generator = tiny(num_downsamples=depth, skips=skips)
    output = generator(torch.rand(2, 3, 40, 24) * 2 - 1)
    assert output.shape == (2, 3, 40, 24)
    assert output.abs().max() <= 1


def test_a_skip_carries_what_the_bottleneck_cannot():
    def sees_its_own_pixels(skips):
        torch.manual_seed(0)
        generator = tiny(skips=skips, num_downsamples=5).eval()
        # With the path through the deeper levels cut off, only a skip can bring the source to the output.
        torch.nn.init.zeros_(generator.encoder[1][1].weight)
        source = torch.rand(1, 3, 64, 64)
        return not torch.equal(generator(source), generator(1 - source))

    assert sees_its_own_pixels(True)
    assert not sees_its_own_pixels(False)


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (50, 39)])
@pytest.mark.parametrize("skips", [True, False])
def test_a_head_at_full_resolution_keeps_sizes_and_range(size, skips):
    generator = tiny(in_channels=1, out_channels=2, head_channels=5, num_downsamples=5, skips=skips)
    output = generator(torch.rand(2, 1, *size) * 2 - 1)
    assert output.shape == (2, 2, *size)
    assert output.abs().max() <= 1


def test_the_head_sees_the_source_pixel_by_pixel_unless_there_are_no_skips():
    def sees(skips):
        torch.manual_seed(0)
        generator = tiny(head_channels=4, skips=skips).eval()
        torch.nn.init.zeros_(generator.decoder[-1][1].weight)  # nothing comes from the levels below
        source = torch.rand(1, 3, 64, 64).requires_grad_()
        generator(source)[0, 0, 30, 30].backward()
        return source.grad[0].abs().sum(0).nonzero().tolist() if source.grad is not None else []

    assert sees(True) == [[row, column] for row in range(28, 33) for column in range(28, 33)]
    assert sees(False) == []


def test_a_blur_keeps_even_areas_and_takes_a_checkerboard_away():
    rows, columns = torch.meshgrid(torch.arange(10), torch.arange(12), indexing="ij")
    board = ((rows + columns) % 2 * 2.0 - 1).expand(2, 3, 10, 12)
    assert Blur(3)(board).abs().max() < 1e-6
    assert torch.allclose(Blur(3)(torch.full((1, 3, 4, 4), 0.7)), torch.full((1, 3, 2, 2), 0.7))
    assert not Blur(3).state_dict()


def test_blurred_levels_lose_the_checkerboard_of_uneven_kernels():
    def unevenness(upsampling):
        torch.manual_seed(0)
        generator = tiny(upsampling=upsampling, dropout=0.0, num_downsamples=3)
        up = generator.decoder[1][1:3] if upsampling == "blurred" else generator.decoder[1][1:2]
        inner = up(torch.ones(1, up[0].in_channels, 8, 8))[0, :, 4:-4, 4:-4]
        return (inner[:, :, 1:] - inner[:, :, :-1]).abs().max()

    assert unevenness("transposed") > 100 * unevenness("blurred")


@pytest.mark.parametrize("changes", [{}, {"head_channels": 4}, {"skips": False, "upsampling": "blurred"}])
def test_noise_is_new_in_training_and_the_same_in_evaluation(changes):
    generator = tiny(noise_channels=2, dropout=0.0, **changes)
    source = torch.rand(2, 3, 150, 40) * 2 - 1
    with torch.no_grad():
        assert not torch.equal(generator(source), generator(source))
        with evaluating(generator):
            both = generator(source)
            assert torch.equal(generator(source), both)
            assert torch.allclose(generator(source[1:]), both[1:], atol=1e-5)  # whatever the batch
            assert torch.equal(tiny(noise_channels=2).noise, generator.noise)


def test_the_noise_that_is_kept_is_the_same_whatever_the_weights():
    generators = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        generators.append(tiny(noise_channels=3))
    first, second = generators
    assert torch.equal(first.noise, second.noise)
    assert not torch.equal(first.encoder[2][1].weight, second.encoder[2][1].weight)


@pytest.mark.parametrize("size", [(16, 16), (33, 50)])
def test_a_smooth_picture_is_the_blurred_one_but_not_in_training(size):
    plain, smooth = tiny(dropout=0.0, head_channels=4), tiny(dropout=0.0, head_channels=4, smooth=True)
    smooth.load_state_dict(plain.state_dict())  # it has no weights of its own
    source = torch.rand(2, 3, *size) * 2 - 1
    with torch.no_grad():
        picture = plain(source)
        assert torch.equal(smooth(source), picture)
        with evaluating(smooth):
            blurred = smooth(source)
    line = torch.tensor([0.25, 0.5, 0.25])
    for row, column in ((7, 9), (0, 5), (size[0] - 1, size[1] - 1)):  # at the borders, pixels stand for those beyond
        rows, columns = ((torch.arange(-1, 2) + at).clamp(0, side - 1) for at, side in zip((row, column), size, strict=True))
        expected = torch.einsum("nchw,h,w->nc", picture[:, :, rows][:, :, :, columns], line, line)
        assert torch.allclose(blurred[:, :, row, column], expected, atol=1e-6)
    assert blurred.shape == picture.shape


def test_weights_are_drawn_from_a_normal_of_deviation_0_02():
    weight = UNetGenerator().encoder[4][1].weight
    assert weight.mean().abs() < 1e-4
    assert weight.std().item() == pytest.approx(0.02, rel=0.01)


def test_a_picture_is_translated_alike_whatever_the_batch():
    torch.manual_seed(0)
    generator = tiny()
    pictures = torch.rand(5, 3, 40, 40) * 2 - 1
    with evaluating(generator), torch.inference_mode():
        together = generator(pictures)
        alone = torch.cat([generator(picture[None]) for picture in pictures])
    assert torch.allclose(together, alone, atol=1e-5)


def test_dropout_is_noise_in_training_and_absent_in_evaluation():
    generator, source = tiny(), torch.rand(1, 3, 32, 32)
    assert not torch.equal(generator(source), generator(source))
    with evaluating(generator):
        assert torch.equal(generator(source), generator(source))
    assert generator.training


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"num_downsamples": 0}, "num_downsamples must be a whole number from 1 to 10, got 0"),
        ({"head_channels": 257}, "head_channels must be a whole number from 0 to 256, got 257"),
        ({"base_channels": 10**9}, "base_channels must be a whole number from 1 to 512"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"upsampling": "magic"}, "upsampling must be transposed, blurred, resize or subpixel, got 'magic'"),
        ({"image_size": 8}, "image_size must be at least 16, got 8"),
        ({"skips": "yes"}, "skips must be true or false, got 'yes'"),
        ({"smooth": "photo"}, "smooth must be true or false, got 'photo'"),
        (
            {"base_channels": 512, "num_downsamples": 1, "image_size": 4096},
            "for 256 channels a pixel; lower it, or",
        ),
        ({"base_channels": 64, "upsampling": "resize", "image_size": 2048}, "for 128 channels a pixel"),
        ({"head_channels": 64, "image_size": 2048}, "for 64 channels a pixel"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, rule):
    with pytest.raises(ValueError, match=rule.replace(".", r"\.")):
        tiny(**arguments)


def test_what_was_saved_is_what_is_loaded(saved):
    generator, folder = saved
    loaded = UNetGenerator.from_pretrained(folder)
    source = torch.rand(1, 3, 32, 40)
    assert loaded.config == generator.config
    assert not loaded.training
    assert torch.equal(loaded(source), generator.eval()(source))
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_every_kind_of_decoder_is_loaded_as_it_was_saved(tmp_path, upsampling):
    generator = tiny(upsampling=upsampling, head_channels=3, noise_channels=1).eval()
    generator.save_pretrained(tmp_path)
    source = torch.rand(1, 3, 33, 40)
    assert torch.equal(UNetGenerator.from_pretrained(tmp_path).to("cpu")(source), generator(source))


def test_half_precision_weights_are_loaded_as_float32(saved, tmp_path):
    saved[0].save_pretrained(tmp_path / "half", dtype=torch.float16)
    loaded = UNetGenerator.from_pretrained(tmp_path / "half")
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    original = saved[0].state_dict()
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, original[name].half().float())


def test_a_loaded_generator_can_be_trained(saved):
    loaded = UNetGenerator.from_pretrained(saved[1])
    loaded(torch.rand(1, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in loaded.parameters())


def rewrite(path, change):
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("encoder.1.1.weight"), "1 weights missing, 0 unexpected .missing encoder.1.1.weight"),
        (lambda w: w.update(more=torch.zeros(1)), "0 weights missing, 1 unexpected .unexpected more"),
        (lambda w: w.update({"encoder.1.1.bias": torch.zeros(99)}), "encoder.1.1.bias has shape .99., the network needs .8."),
        (lambda w: w.update({"encoder.1.1.bias": torch.full((8,), torch.nan)}), "encoder.1.1.bias holds NaN or infinity"),
        (lambda w: w.update({"encoder.1.1.bias": torch.zeros(8, dtype=torch.int32)}), "must hold floating-point numbers"),
    ],
)
def test_weights_that_do_not_fit_are_refused(saved, change, message):
    rewrite(saved[1] / "model.safetensors", change)
    with pytest.raises(ModelError, match=message):
        UNetGenerator.from_pretrained(saved[1])


def test_a_truncated_or_foreign_weight_file_is_refused(saved):
    path = saved[1] / "model.safetensors"
    whole = path.read_bytes()
    for content in (whole[:-100], b"", b"\x80\x02}q\x00."):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"damaged model\.safetensors"):
            UNetGenerator.from_pretrained(saved[1])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architecture": "PatchDiscriminator"}, "holds a PatchDiscriminator, not a UNetGenerator"),
        ({"unet": True}, "holds a network of another project, not a UNetGenerator"),
        ({"architecture": "UNetGenerator", "surprise": 1}, "unusable config.json: .*surprise"),
        ({"architecture": "UNetGenerator", "base_channels": 10**12}, "unusable config.json: base_channels must be"),
        ({"architecture": "UNetGenerator", "image_size": "big"}, "unusable config.json"),
        ([], "not an object"),
    ],
)
def test_a_config_is_not_trusted(saved, config, message):
    (saved[1] / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message):
        UNetGenerator.from_pretrained(saved[1])


def test_the_largest_config_allowed_takes_no_memory_before_the_weights_are_compared(saved):
    big = {"architecture": "UNetGenerator", "base_channels": 512, "max_channels": 2048, "num_downsamples": 10}
    (saved[1] / "config.json").write_text(json.dumps(big))
    with pytest.raises(ModelError, match=r"does not fit its config\.json"):
        UNetGenerator.from_pretrained(saved[1])


def test_pictures_of_two_thousand_pixels_are_within_the_limits():
    with torch.device("meta"):
        assert UNetGenerator(image_size=2048).image_size == (2048, 2048)


def test_a_config_of_a_terabyte_is_not_read(saved):
    os.truncate(saved[1] / "config.json", 2**40)  # a hole: it takes no room on the disk
    with pytest.raises(ModelError, match=r"has a config\.json of more than 100,000 bytes"):
        UNetGenerator.from_pretrained(saved[1])


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_an_incomplete_folder_is_refused(saved, missing):
    (saved[1] / missing).unlink()
    with pytest.raises(ModelError, match=f"has no {missing}"):
        UNetGenerator.from_pretrained(saved[1])


def test_a_pickle_is_never_read(saved):
    (saved[1] / "model.safetensors").rename(saved[1] / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"has no model\.safetensors"):
        UNetGenerator.from_pretrained(saved[1])


def test_neither_folder_nor_id_is_named(tmp_path):
    with pytest.raises(ModelError, match="neither an existing folder nor a Hub id such as user/name"):
        UNetGenerator.from_pretrained(tmp_path / "nowhere")
