import os

import pytest
import torch
from torch import nn

from pix2pix.checkpoints import (
    find_state,
    first_not_finite,
    list_states,
    load_state,
    prune_states,
    restore_best,
    save_state,
    set_aside,
    state_name,
)


def player(seed):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)).to(memory_format=torch.channels_last)
    return network, torch.optim.Adam(network.parameters(), lr=0.1, fused=True)


def learn(network, optimizer, steps):
    for step in range(steps):
        network(torch.full((1, 3, 8, 8), float(step + 1))).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def save(folder, network, optimizer, best=None, **progress):
    save_state(folder, networks={"n": network}, optimizers={"n": optimizer}, progress=progress, best=best or {})


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_what_goes_on_from_a_state_equals_what_never_stopped(tmp_path):
    network, optimizer = player(0)
    learn(network, optimizer, 2)
    save(tmp_path / "epoch_0002", network, optimizer, step=2)
    learn(network, optimizer, 3)

    other, other_optimizer = player(1)
    progress = load_state(tmp_path / "epoch_0002", networks={"n": other}, optimizers={"n": other_optimizer})
    learn(other, other_optimizer, 3)
    assert progress["step"] == 2
    for name, value in weights(network).items():
        assert torch.equal(other.state_dict()[name], value)


def test_moments_come_back_in_the_layout_of_their_parameters(tmp_path):
    network, optimizer = player(0)
    learn(network, optimizer, 1)
    save(tmp_path / "epoch_0001", network, optimizer)
    load_state(tmp_path / "epoch_0001", networks={"n": network}, optimizers={"n": optimizer})
    for parameter, values in optimizer.state.items():
        assert values["exp_avg"].stride() == parameter.stride()


def test_a_state_holds_no_pickle(tmp_path):
    save(tmp_path / "epoch_0000", *player(0))
    assert sorted(path.name for path in (tmp_path / "epoch_0000").iterdir()) == [
        "networks.safetensors",
        "optimizers.safetensors",
        "progress.json",
    ]


def test_states_are_ordered_by_epoch_and_batch_and_temporary_ones_do_not_count(tmp_path):
    for name in ("epoch_0010", "epoch_0002", state_name(2, 5), ".epoch_0099-1234", "notes"):
        (tmp_path / "state" / name).mkdir(parents=True)
    assert [(state.epoch, state.batch) for state in list_states(tmp_path / "state")] == [(2, 0), (2, 5), (10, 0)]
    assert find_state(tmp_path, "latest").epoch == 10
    assert find_state(tmp_path, str(tmp_path / "state" / "epoch_0002")).epoch == 2


def test_nothing_to_resume_is_an_error_and_never_a_fresh_start(tmp_path):
    with pytest.raises(ValueError, match="--resume found no state in"):
        find_state(tmp_path, "latest")
    with pytest.raises(ValueError, match="is not a state folder such as RUN/state/epoch_0007"):
        find_state(tmp_path, str(tmp_path))


def test_pruning_keeps_the_newest(tmp_path):
    for epoch in range(5):
        (tmp_path / state_name(epoch)).mkdir()
    prune_states(tmp_path, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["epoch_0003", "epoch_0004"]


def test_going_on_from_an_older_state_keeps_the_later_ones_under_another_name(tmp_path):
    for name in ("epoch_0001", "epoch_0002", state_name(2, 3), ".epoch_0003-1a2b"):
        (tmp_path / "state" / name).mkdir(parents=True)
    set_aside(tmp_path / "state", after=find_state(tmp_path, str(tmp_path / "state" / "epoch_0001")))
    assert sorted(os.listdir(tmp_path / "state")) == [
        "abandoned_epoch_0002",
        "abandoned_epoch_0002_step_00000003",
        "epoch_0001",
    ]
    assert find_state(tmp_path, "latest").epoch == 1


def test_a_failed_write_leaves_the_old_states_alone(tmp_path):
    network, optimizer = player(0)
    save(tmp_path / "epoch_0001", network, optimizer)
    with pytest.raises(TypeError):
        save(tmp_path / "epoch_0002", network, optimizer, unwritable=object())
    assert os.listdir(tmp_path) == ["epoch_0001"]


@pytest.mark.parametrize("name", ["networks.safetensors", "optimizers.safetensors", "progress.json"])
def test_a_damaged_state_is_named(tmp_path, name):
    network, optimizer = player(0)
    learn(network, optimizer, 1)
    save(tmp_path / "epoch_0001", network, optimizer)
    path = tmp_path / "epoch_0001" / name
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"is damaged .*; resume from an older one"):
        load_state(tmp_path / "epoch_0001", networks={"n": network}, optimizers={"n": optimizer})


def test_a_state_of_other_networks_is_refused(tmp_path):
    save(tmp_path / "epoch_0001", *player(0))
    other = nn.Conv2d(3, 9, 3)
    with pytest.raises(ValueError, match="belongs to other networks"):
        load_state(
            tmp_path / "epoch_0001", networks={"n": other}, optimizers={"n": torch.optim.Adam(other.parameters(), fused=True)}
        )


def test_the_best_weights_come_back_as_they_were_when_the_state_was_written(tmp_path):
    best = tmp_path / "photo2sketch"
    best.mkdir()
    (best / "model.safetensors").write_bytes(b"epoch 1")
    save(tmp_path / "state" / "epoch_0001", *player(0), best={"photo2sketch": best})
    (best / "new").write_bytes(b"epoch 2")
    os.replace(best / "new", best / "model.safetensors")  # as every writer here does: a new file under the old name
    restore_best(find_state(tmp_path, "latest"), tmp_path)
    assert (best / "model.safetensors").read_bytes() == b"epoch 1"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_the_first_tensor_with_a_number_that_is_none_is_named(number):
    tensors = {name: torch.ones(2, 3) for name in "abc"} | {"steps": torch.tensor(7), "empty": torch.ones(0)}
    assert first_not_finite(tensors) is None
    assert first_not_finite({}) is None
    for name in "cb":
        tensors[name][1, 2] = number
        assert first_not_finite(tensors) == name


@pytest.mark.parametrize("where", ["weight", "moment"])
def test_a_state_with_numbers_that_are_none_is_refused_before_any_is_taken(tmp_path, where):
    network, optimizer = player(0)
    learn(network, optimizer, 1)
    with torch.no_grad():
        tensor = network[1].bias if where == "weight" else optimizer.state[network[1].bias]["exp_avg"]
        tensor[0] = torch.nan
    save(tmp_path / "epoch_0001", network, optimizer)
    other, other_optimizer = player(1)
    before = weights(other)
    with pytest.raises(ValueError, match=r"is damaged \(n/.* holds NaN or infinity\); resume from an older one"):
        load_state(tmp_path / "epoch_0001", networks={"n": other}, optimizers={"n": other_optimizer})
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
