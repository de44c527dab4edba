"""ContextUnet: shapes, context, determinism, budget."""

import copy

import pytest
import torch
from small import small_model, with_all_weights

from lesson_utils import Attention, ContextUnet, ResBlock, time_embedding


@pytest.fixture(scope="module")
def model():
    return small_model(3, 5, lively=True).eval()


def inputs(n=4, channels=3, size=(16, 16)):
    g = torch.Generator().manual_seed(1)
    x = torch.randn(n, channels, *size, generator=g)
    return x, torch.rand(n, generator=g), torch.rand(n, 5, generator=g)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(16, 16), (28, 28), (4, 4), (8, 20), (36, 12)])
def test_any_size_divisible_by_4(channels, size):
    x, t, c = inputs(2, channels, size)
    assert small_model(channels, 5)(x, t, c).shape == x.shape


def test_no_context_is_rows_of_zeros(model):
    x, t, c = inputs()
    assert torch.equal(model(x, t), model(x, t, 0 * c))
    assert not torch.allclose(model(x, t), model(x, t, c), atol=1e-3)
    without = small_model(3, 0, lively=True)
    assert torch.equal(without(x, t), without(x, t, torch.zeros(4, 0)))


def test_context_enters_at_every_resolution(model):
    """Each block alone lets the context through: the others are made deaf to it."""
    x, t, c = inputs()
    blocks = [m for m in model.modules() if isinstance(m, ResBlock)]
    assert len(blocks) == 8
    for hearing in blocks:
        saved = [(b, b.emb.weight.clone()) for b in blocks if b is not hearing]
        with torch.no_grad():
            for block, _ in saved:
                block.emb.weight.zero_()
            heard = (model(x, t, c) - model(x, t)).abs().max()
            for block, weight in saved:
                block.emb.weight.copy_(weight)
        assert heard > 1e-4


def test_same_input_same_output_in_both_modes(model):
    """Mistakes 2 and 7: no new random layer in forward, no dropout left on."""
    x, t, c = inputs()
    first = model(x, t, c)
    assert torch.equal(first, model(x, t, c))
    training = model.train()(x, t, c)
    model.eval()
    assert torch.equal(first, training)
    assert not list(model.buffers())  # no batch statistics


def test_an_image_does_not_depend_on_its_batch(model):
    x, t, c = inputs(6)
    alone = [model(*(each[i : i + 1] for each in (x, t, c))) for i in range(6)]
    assert torch.allclose(model(x, t, c), torch.cat(alone), atol=1e-4)


def test_double_precision_gives_the_same_more_exactly(model):
    x, t, c = inputs()
    exact = copy.deepcopy(model).double()(x.double(), t.double(), c.double())
    assert exact.dtype == torch.float64
    assert torch.allclose(model(x, t, c).double(), exact, atol=1e-4)


def test_gradients_reach_every_weight():
    model = small_model(3, 5, lively=True)
    model(*inputs()).square().mean().backward()
    grads = [p.grad for p in model.parameters()]
    assert all(g is not None and g.abs().max() > 0 for g in grads)


def test_the_default_is_within_its_budget():
    parameters = sum(p.numel() for p in ContextUnet(3, 5).parameters())
    assert parameters <= 2_500_000


def test_time_embedding_tells_all_times_apart():
    emb = time_embedding(torch.arange(1, 501) / 500, 64)
    assert emb.shape == (500, 64) and emb.abs().max() <= 1
    distance = torch.cdist(emb, emb) + 9 * torch.eye(500)
    assert distance.min() > 0.1
    assert torch.allclose(emb[:, :32] ** 2 + emb[:, 32:] ** 2, torch.ones(500, 32))


def test_attention_sees_every_place_and_only_its_image():
    torch.manual_seed(0)
    attention, x = with_all_weights(Attention(32)), torch.randn(2, 32, 4, 4)
    moved = x.clone()
    moved[0, :, 3, 3] += 5
    change = (attention(moved) - attention(x)).abs().amax(1)
    assert (change[0] > 1e-5).all() and (change[1] == 0).all()
    mixed = x.flatten(2)[..., torch.randperm(16)]  # it knows no order of places
    assert torch.allclose(
        attention(x).sum((2, 3)), attention(mixed.view_as(x)).sum((2, 3)), atol=1e-3
    )
