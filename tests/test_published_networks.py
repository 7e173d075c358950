"""LPIPS and FID, on files of the published shapes with random numbers in them: what matters here is the arithmetic."""

import pickle

import pytest
import torch
from torch.nn import functional as F
from torchvision.models import vgg16

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
    names = {path.name for measure in ("lpips", "fid") for path in missing_files(measure)}
    assert names == {"vgg16-397923af.pth", "lpips_weights.pt", "pt_inception-2015-12-05-6726825d.pth"}
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
        found = Lpips()(fake, target)
    assert torch.allclose(found, expected, rtol=1e-4)
    assert found[1] == 0  # the middle picture met itself
    assert (found[[0, 2]] > 0).all()


@pytest.mark.usefixtures("at_hand")
def test_grey_pictures_are_seen_as_the_same_grey_in_colour(pictures):
    grey, other = pictures[:, :1], pictures[:, 1:2]
    lpips, inception = Lpips(), InceptionFeatures()
    with torch.no_grad():
        assert torch.equal(lpips(grey, other), lpips(grey.expand(-1, 3, -1, -1), other.expand(-1, 3, -1, -1)))
        seen = inception(grey)
        assert seen.shape == (3, 2048)
        assert torch.equal(seen, inception(grey.expand(-1, 3, -1, -1)))
        assert torch.allclose(seen[:1], inception(grey[:1]), atol=1e-5)  # no score depends on its batch


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
    with pytest.raises(ValueError, match="does not hold the published weights") as refused:
        network()
    assert published_networks.FETCH in str(refused.value)
    for path in weight_files(measure):
        torch.save({"features.0.weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="does not hold the published weights"):
        network()
    assert not ran.exists()
