import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from pix2pix.devices import translating_dtype
from pix2pix.generator import ModelError, UNetGenerator
from pix2pix.images import ImageError, fit, to_image, to_tensor
from pix2pix.inference import Translator


def picture(size=(60, 75), mode="RGB", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1] // 5 + 1, size[0] // 5 + 1, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).convert(mode)


@pytest.fixture
def translator():
    torch.manual_seed(0)
    generator = UNetGenerator(3, 1, base_channels=4, num_downsamples=4, image_size=(50, 40), dropout=0.5)
    return Translator(generator, "photo2sketch", "cpu")


def pixels(image):
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16", "HSV", "LAB"])
def test_any_mode_comes_back_in_its_size(translator, mode):
    image = Image.new(mode, (60, 75)) if mode in ("I;16", "LAB", "HSV") else picture(mode=mode)
    result = translator(image)
    assert result.size == (60, 75)
    assert result.mode == "L"


@pytest.mark.parametrize("size", [(16, 16), (300, 20), (41, 333)])
def test_any_size_comes_back(translator, size):
    assert translator(picture(size)).size == size


def test_at_the_training_size_it_is_the_network_and_nothing_else(translator):
    translator = Translator(translator.generator, device="cpu", dtype=torch.float32)
    image = picture((40, 50))
    with torch.inference_mode():
        expected = to_image(translator.generator(to_tensor(image)[None])[0])
    assert np.array_equal(pixels(translator(image)), pixels(expected))


def test_bfloat16_moves_pixels_by_little_and_leaves_the_network_as_it_is(translator):
    exact, coarse = (Translator(translator.generator, device="cpu", dtype=kind) for kind in (torch.float32, torch.bfloat16))
    one, other = (pixels(translate(picture((40, 50)))) for translate in (exact, coarse))
    assert 0 < np.abs(one - other).mean() < 0.5
    assert coarse.generator is translator.generator
    assert {weight.dtype for weight in coarse.generator.parameters()} == {torch.float32}
    assert translator.dtype == translating_dtype(torch.device("cpu"))
    with pytest.raises(ValueError, match=r"dtype must be one of floating point, such as torch\.float32, got torch\.int8"):
        Translator(translator.generator, dtype=torch.int8)


def test_another_shape_goes_through_the_shared_preprocessing(translator):
    image = picture((100, 50))
    fitted, box = fit(image, (50, 40))
    inside = translator(fitted).crop(box)
    assert np.array_equal(pixels(translator(image)), pixels(inside.resize((100, 50), Image.Resampling.BICUBIC)))


def test_exif_rotation_is_applied(translator, tmp_path):
    image = picture((40, 50))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    image.rotate(90, expand=True).save(tmp_path / "phone.png", exif=exif)
    with Image.open(tmp_path / "phone.png") as phone:
        result = translator(phone)
    assert np.array_equal(pixels(result), pixels(translator(image)))


def test_transparency_lies_on_white(translator):
    clear = Image.new("RGBA", (40, 50), (255, 0, 0, 0))
    assert np.array_equal(pixels(translator(clear)), pixels(translator(Image.new("RGB", (40, 50), "white"))))


def test_a_list_gives_what_each_alone_gives(translator):
    images = [picture((40 + index, 50), seed=index) for index in range(5)]
    for batch_size in (1, 2, 8):
        for together, image in zip(translator(images, batch_size=batch_size), images, strict=True):
            assert np.abs(pixels(together) - pixels(translator(image))).max() <= 1
    assert translator([]) == []


def test_it_is_deterministic_unless_a_variation_is_asked_for(translator):
    image = picture()
    assert np.array_equal(pixels(translator(image)), pixels(translator(image)))
    assert np.array_equal(pixels(translator(image, seed=1)), pixels(translator(image, seed=1)))
    assert not np.array_equal(pixels(translator(image, seed=1)), pixels(translator(image, seed=2)))
    assert not np.array_equal(pixels(translator(image, seed=1)), pixels(translator(image)))


def test_a_variation_is_the_same_in_a_list_and_leaves_the_callers_random_numbers_alone(translator):
    images = [picture(seed=seed) for seed in range(3)]
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    together = translator(images, seed=3)
    assert torch.equal(torch.rand(1), expected)
    for one, image in zip(together, images, strict=True):
        assert np.array_equal(pixels(one), pixels(translator(image, seed=3)))


def test_a_seed_draws_the_noise_anew_and_leaves_the_networks_own_alone():
    torch.manual_seed(0)
    generator = UNetGenerator(3, 1, base_channels=4, num_downsamples=3, image_size=(50, 40), dropout=0.0, noise_channels=2)
    translator, image, kept = Translator(generator, device="cpu"), picture(), generator.noise.clone()
    plain, first = (pixels(translator(image, **options)) for options in ({}, {"seed": 1}))
    assert not np.array_equal(plain, first)
    assert not np.array_equal(first, pixels(translator(image, seed=2)))
    assert np.array_equal(first, pixels(translator(image, seed=1)))
    assert np.array_equal(plain, pixels(translator(image, seed=1, strength=0)))
    assert torch.equal(generator.noise, kept)
    for share in (0.3, 1.0, 2.0):
        generator.draw_noise(share)
        assert generator.noise.std().item() == pytest.approx(1, abs=0.02)


def test_strength_goes_from_the_deterministic_translation_further_and_further(translator):
    image = picture()
    plain = pixels(translator(image)).astype(int)
    assert np.array_equal(plain, pixels(translator(image, seed=1, strength=0)))
    assert np.array_equal(pixels(translator(image, seed=1)), pixels(translator(image, seed=1, strength=1)))
    far = [np.abs(plain - pixels(translator(image, seed=1, strength=strength))).mean() for strength in (0.2, 1, 2)]
    assert far == sorted(far)
    assert far[0] > 0
    assert np.array_equal(plain, pixels(translator(image, strength=2)))  # without a seed there is no noise to strengthen
    assert [layer.p for layer in translator.generator.modules() if isinstance(layer, torch.nn.Dropout)] == [0.5] * 3
    for strength in (-0.1, 2.1, float("nan")):
        with pytest.raises(ValueError, match=f"strength must be between 0 and 2, got {strength}"):
            translator(image, seed=1, strength=strength)


def test_variations_and_plain_translations_in_many_threads_do_not_disturb_each_other(translator):
    image = picture()
    wanted = [None, 1, 2] * 20
    alone = {seed: pixels(translator(image, seed=seed)) for seed in set(wanted)}
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda seed: pixels(translator(image, seed=seed)), wanted))
    for seed, result in zip(wanted, together, strict=True):
        assert np.array_equal(result, alone[seed])


def test_the_input_is_left_as_it_was(translator):
    image = picture(mode="RGBA")
    before = image.copy()
    translator(image)
    assert image.tobytes() == before.tobytes()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("RGB", (1, 1)), "at least 16 pixels a side, got 1 x 1"),
        ("photo.jpg", "must be a PIL image or a list of them, got str; open it first"),
        ([np.zeros((50, 40, 3))], "got a list with ndarray"),
    ],
)
def test_what_is_no_usable_picture_is_named(translator, image, message):
    with pytest.raises(ImageError, match=message):
        translator(image)


def test_from_pretrained_takes_a_run_folder_and_a_direction(translator, tmp_path):
    translator.generator.save_pretrained(tmp_path / "photo2sketch")
    loaded = Translator.from_pretrained(tmp_path, "photo2sketch", "cpu")
    assert np.array_equal(pixels(loaded(picture())), pixels(translator(picture())))
    with pytest.raises(ModelError, match=r"\(sketch2photo\) has no config.json"):
        Translator.from_pretrained(tmp_path, "sketch2photo")
    with pytest.raises(ValueError, match="direction must be one of photo2sketch, sketch2photo, got 'AtoB'"):
        Translator.from_pretrained(tmp_path, "AtoB")


def test_aligning_returns_the_aligned_portraits_translation(translator):
    from pix2pix.drawn_faces import draw_pair
    from pix2pix.faces import align_largest

    scene = Image.new("RGB", (500, 400), (120, 130, 140))
    scene.paste(draw_pair(3).photo, (200, 100))
    result = translator(scene, align=True)
    assert result.size == (200, 250)
    assert np.array_equal(pixels(result), pixels(translator(align_largest(scene).portrait)))


def test_a_first_translation_loads_neither_training_nor_the_page_nor_a_compiler(translator, tmp_path):
    translator.generator.save_pretrained(tmp_path / "photo2sketch")
    code = (
        "import sys; from PIL import Image; from pix2pix.inference import Translator; "
        "Translator.from_pretrained(sys.argv[1], 'photo2sketch', 'cpu')(Image.new('RGB', (40, 50))); "
        "heavy = {'datasets', 'accelerate', 'gradio', 'cv2', 'piq', 'pandas', 'torch._dynamo', 'sympy'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
