"""Muon: orthogonal steps for matrices, AdamW for vectors, a state that is complete."""

import copy
import io
import math
import pickle

import pytest
import torch
from small import small_model
from torch import nn

from lesson_utils import ContextUnet, Muon
from lesson_utils.optimiser import is_matrix, orthogonal


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(16, 16), (48, 432), (192, 48), (16, 500)])
def test_orthogonal_evens_the_singular_values_and_keeps_the_directions(shape):
    u, s, v = torch.linalg.svd(noise(*shape), full_matrices=False)
    g = u * (0.1 + s / s.max()) @ v
    x = orthogonal(g)
    values = torch.linalg.svdvals(x)
    assert values.min() >= 0.6 and values.max() <= 1.3
    assert torch.allclose(u.T @ x @ v.T, torch.diag((u.T @ x @ v.T).diag()), atol=1e-3)
    assert torch.allclose(orthogonal(1000 * g), x, atol=1e-3)
    assert torch.allclose(orthogonal(g.T), x.T, atol=1e-3)
    assert torch.equal(orthogonal(0 * g), 0 * g)


def test_what_counts_as_a_matrix():
    for shape in ((16, 16), (64, 32, 3, 3), (16, 2, 3, 3)):
        assert is_matrix(torch.zeros(shape))
    for shape in ((48,), (3, 48, 3, 3), (48, 5), (48, 1, 3, 3), ()):
        assert not is_matrix(torch.zeros(shape))


def test_what_is_no_row_of_weights_is_refused():
    """Groups too, of which only the first would move as matrices do."""
    weight = nn.Parameter(noise(32, 32))
    groups, named = [{"params": [weight]}] * 2, [("a", weight)]
    for wrong in (groups, named, noise(3), nn.Sequential()):
        with pytest.raises(ValueError, match=r"^parameters: model\.parameters\(\) is"):
            Muon(wrong)


def test_vectors_follow_adamw_bit_for_bit():
    """Biases, norms and narrow matrices: as if Muon were not there."""
    start = [noise(48), noise(48, 5, seed=1), noise(3, 48, seed=2)]
    ours, theirs = ([nn.Parameter(p.clone()) for p in start] for _ in range(2))
    muon = Muon([*ours, nn.Parameter(noise(32, 32))], lr=0.01)
    adamw = torch.optim.AdamW(theirs, lr=0.01)
    for step in range(20):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = noise(*mine.shape, seed=step)
            other.grad = mine.grad.clone()
        muon.step()
        adamw.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_matrix_moves_by_an_orthogonal_step():
    weight = nn.Parameter(noise(64, 32))
    before, muon = weight.detach().clone(), Muon([weight], lr=0.01, weight_decay=0.0)
    weight.grad = noise(64, 32, seed=1)
    muon.step()
    values = torch.linalg.svdvals(before - weight.detach())
    step = 5 * 0.01 * math.sqrt(64 / 32)
    assert 0.6 * step <= values.min() and values.max() <= 1.3 * step
    assert weight.grad is None
    still = weight.detach().clone()
    muon.step()  # without a gradient
    assert torch.equal(weight, still)


def test_the_state_is_complete_at_construction():
    """So that the state of a run can be loaded into a new optimiser."""
    model = small_model()
    muon = Muon(model.parameters())
    before = {p: set(muon.state[p]) for p in model.parameters()}
    model(noise(2, 1, 8, 8), torch.tensor([0.1, 0.9]), torch.eye(2)).mean().backward()
    muon.step()
    assert before == {p: set(muon.state[p]) for p in model.parameters()}
    assert {"momentum"} in before.values()
    assert {"step", "exp_avg", "exp_avg_sq"} in before.values()


def through_a_file(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def from_the_state_of(muon, way):
    weights = [nn.Parameter(p.detach().clone()) for p in muon.param_groups[0]["params"]]
    other = Muon(weights, lr=0.5)
    other.load_state_dict(way(muon.state_dict()))
    return other


WAYS = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda muon: pickle.loads(pickle.dumps(muon)),
    "state_dict": lambda muon: from_the_state_of(muon, copy.deepcopy),
    "file": lambda muon: from_the_state_of(muon, through_a_file),
}


def moved(muon, steps):
    """The weights after updates towards zero, by a closure."""
    weights = muon.param_groups[0]["params"]
    for _ in range(steps):

        def closure():
            muon.zero_grad()
            loss = sum(p.square().sum() for p in weights)
            loss.backward()
            return loss

        wanted = sum(p.detach().square().sum() for p in weights)
        assert torch.equal(muon.step(closure).detach(), wanted)
    return weights


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_goes_on_bit_for_bit(way):
    muon = Muon([nn.Parameter(noise(32, 32)), nn.Parameter(noise(48))], lr=0.01)
    moved(muon, 3)
    other = WAYS[way](muon)
    pairs = zip(moved(muon, 3), moved(other, 3), strict=True)
    assert all(torch.equal(a, b) and a is not b for a, b in pairs)


def test_the_state_of_another_optimiser_is_refused_and_an_empty_one_completed():
    weights = [nn.Parameter(noise(32, 32)), nn.Parameter(noise(48))]
    muon, adamw = Muon(weights), torch.optim.AdamW(weights)
    muon.load_state_dict(adamw.state_dict())
    moved(muon, 1)
    weights[0].grad = noise(32, 32)
    adamw.step()
    with pytest.raises(ValueError, match="^state_dict: Muon's state {'momentum'"):
        muon.load_state_dict(adamw.state_dict())


OTHERS = [ContextUnet(3, 2, 16), ContextUnet(3, 3, 32), nn.Linear(32, 32)]
NO_STATES = [{}, None, [], {"state": {}, "param_groups": [{}]}]


@pytest.mark.parametrize("other", [*OTHERS, *NO_STATES])
def test_the_state_of_other_weights_changes_nothing(other):
    muon = Muon(ContextUnet(3, 3, 16).parameters(), lr=0.5)
    before = copy.deepcopy(muon.state_dict())
    if isinstance(other, nn.Module):
        other = Muon(other.parameters(), lr=0.25).state_dict()
    with pytest.raises(ValueError, match=r"^state_dict: .* is needed, got "):
        muon.load_state_dict(other)
    torch.testing.assert_close(muon.state_dict(), before, rtol=0, atol=0)


def test_further_groups_move_as_the_first_does_and_schedulers_set_their_rates():
    start = noise(32, 32)
    one, two = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    muon = Muon([one], lr=0.01)
    muon.add_param_group({"params": [two]})
    rates = torch.optim.lr_scheduler.OneCycleLR(muon, 0.01, total_steps=10)
    for step in range(3):
        one.grad, two.grad = noise(32, 32, seed=step), noise(32, 32, seed=step)
        muon.step()
        rates.step()
    assert torch.equal(one, two) and not torch.equal(one, start)
    assert set(muon.state[two]) == {"momentum"}


def test_it_beats_adamw_where_inputs_are_ill_conditioned():
    """Least squares, whose inputs have variances from 1 down to 1e-4."""
    x = noise(256, 32) * torch.logspace(0, -2, 32)
    y = x @ noise(32, 16, seed=1)

    def end(kind, lr):
        weight = nn.Parameter(torch.zeros(32, 16))
        optimiser = kind([weight], lr=lr, weight_decay=0.0)
        for step in range(150):
            optimiser.zero_grad()
            loss = (x @ weight - y).square().mean()
            loss.backward()
            optimiser.param_groups[0]["lr"] = lr * (1 - step / 150)
            optimiser.step()
        return float(loss.detach())

    ours, theirs = (
        [end(kind, lr) for lr in (0.003, 0.01, 0.03, 0.1)]
        for kind in (Muon, torch.optim.AdamW)
    )
    assert min(ours) < 0.5 * min(theirs)
    assert end(Muon, 0.01) == ours[1]
