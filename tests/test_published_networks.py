"""LPIPS and FID, on files of the published shapes with random numbers in them: what matters here is the arithmetic."""

import os
import pickle
import re
import warnings

import piq
import pytest
import torch
from piq.feature_extractors import InceptionV3
from piq.feature_extractors.fid_inception import FID_WEIGHTS_URL
from torch.nn import functional as F
from torchvision.models import VGG16_Weights, vgg16

from pix2pix import published_networks
from pix2pix.published_networks import InceptionFeatures, Lpips, missing_files, weight_files


@pytest.fixture
def at_hand(published_weights, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(published_weights))


@pytest.fixture
def pictures():
    return torch.rand(3, 3, 40, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_files_are_named_as_torch_and_piq_name_them_and_missing_until_they_are_there(published_weights, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    names = [path.name for measure in ("lpips", "fid") for path in missing_files(measure)]
    assert names == [
        url.rpartition("/")[2] for url in (VGG16_Weights.IMAGENET1K_V1.url, piq.LPIPS._weights_url, FID_WEIGHTS_URL)
    ]
    monkeypatch.setenv("TORCH_HOME", str(published_weights))
    assert missing_files("lpips") == missing_files("fid") == []


@pytest.mark.usefixtures("at_hand")
def test_lpips_is_the_scaled_squared_distance_of_unit_vectors_after_five_layers(pictures):
    network_file, scales_file = weight_files("lpips")
    features = vgg16(init_weights=False).features.eval()
    features.load_state_dict({name[9:]: x for name, x in torch.load(network_file).items() if name.startswith("features.")})
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    fake, target = pictures, pictures.flip(0)
    expected, maps = torch.zeros(3), [((x + 1) / 2 - mean) / std for x in (fake, target)]
    scales = torch.load(scales_file)
    with torch.no_grad():
        for index, layer in enumerate(features):
            maps = [layer(x).clone() for x in maps]
            if index in (3, 8, 15, 22, 29):
                one, other = (F.normalize(x, dim=1) for x in maps)
                expected += ((one - other) ** 2 * scales.pop(0)).sum(1).mean((1, 2))
        lpips = Lpips()
        found = lpips(lpips.maps(fake), lpips.maps(target))
    assert torch.allclose(found, expected, rtol=1e-4)
    assert found[1] == 0  # the middle picture met itself
    assert (found[[0, 2]] > 0).all()


@pytest.mark.usefixtures("at_hand")
def test_grey_pictures_are_seen_as_the_same_grey_in_colour(pictures):
    grey, other = pictures[:, :1], pictures[:, 1:2]
    lpips, inception = Lpips(), InceptionFeatures()
    with torch.no_grad():
        one, two = (lpips(lpips.maps(grey.expand(-1, c, -1, -1)), lpips.maps(other.expand(-1, c, -1, -1))) for c in (1, 3))
        assert torch.equal(one, two)
        seen = inception(grey)
        assert seen.shape == (3, 2048)
        assert torch.equal(seen, inception(grey.expand(-1, 3, -1, -1)))
        assert torch.allclose(seen[:1], inception(grey[:1]), atol=1e-5)  # no score depends on its batch


@pytest.mark.usefixtures("at_hand")
def test_the_smallest_pictures_that_other_scores_take_are_large_enough():
    lpips = Lpips()
    assert [each.shape[-1] for each in lpips.maps(torch.zeros(1, 1, 16, 16))] == [16, 8, 4, 2, 1]


@pytest.mark.usefixtures("at_hand")
def test_inception_sees_what_piq_shows_it(pictures):
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        expected = InceptionV3().eval()((pictures + 1) / 2)[0].flatten(1)
        assert torch.equal(InceptionFeatures()(pictures), expected)
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


@pytest.mark.parametrize(("measure", "network"), [("lpips", Lpips), ("fid", InceptionFeatures)])
def test_files_that_are_missing_are_named(tmp_path, monkeypatch, measure, network):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=re.escape(str(weight_files(measure)[0]))) as refused:
        network()
    assert "are missing" in str(refused.value)
    assert published_networks.FETCH in str(refused.value)


def test_scales_of_other_layers_are_refused(published_weights, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(published_weights))
    network_file = weight_files("lpips")[0]
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    link, scales_file = weight_files("lpips")
    link.parent.mkdir(parents=True)
    link.symlink_to(network_file)
    torch.save([torch.rand(1, width, 1, 1) for width in (64, 192, 384, 256, 256)], scales_file)  # AlexNet's
    with pytest.raises(ValueError, match=r"lpips_weights\.pt' are not those that were published"):
        Lpips()


@pytest.mark.parametrize(("measure", "network"), [("lpips", Lpips), ("fid", InceptionFeatures)])
def test_files_that_hold_something_else_are_refused_and_never_executed(tmp_path, monkeypatch, measure, network):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    ran = tmp_path / "ran"

    class Executed:
        def __reduce__(self):
            return open, (str(ran), "w")

    for path in weight_files(measure):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(Executed()))
    with pytest.raises(ValueError, match="are not those that were published") as refused:
        network()
    assert published_networks.FETCH in str(refused.value)
    for path in weight_files(measure):
        torch.save({"features.0.weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="are not those that were published"):
        network()
    assert not ran.exists()
