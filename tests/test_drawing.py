"""The drawings of a network: the labelled diagram, and what its layers compute."""

import numpy as np
import pytest
import torch
from art import has, noise, pixels_of
from small import small_model
from torch import nn

from lesson_utils import as_u, gif, grid, u_diagram
from lesson_utils.drawing import tinted
from lesson_utils.viz import COLOURS


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (1, 28, 28), (3, 64, 32)])
def test_as_u_gives_a_page_for_each_image(shape):
    model = small_model(shape[0], lively=True)
    x, t, c = noise(2, *shape), torch.tensor([0.5, 1.0]), torch.eye(2)
    pages = as_u(model, x, t, c)
    assert pages.shape[:2] == (2, 3) and not torch.equal(*pages)
    assert pages.min() >= -1 and (pages[:, :, -1] == 1).all()
    assert torch.equal(pages, as_u(model, x, t, c, guess=model(x, t, c)))
    assert not torch.equal(pages, as_u(model, x, t))
    assert gif(pages.split(1), scale=1).startswith(b"GIF8")


def test_as_u_shows_x_at_the_left_and_the_guess_at_the_right():
    x, guess = noise(1, 3, 16, 16).clamp(-1, 1), noise(1, 3, 16, 16, seed=1)
    [page] = as_u(small_model(3), x, torch.ones(1), guess=guess)
    page = ((page.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    assert (page[24:120, 8:104] == grid(x, scale=6)).all()
    assert (page[24:120, -104:-8] == grid(guess, scale=6)).all()


def test_as_u_has_one_scale_for_all_pages_and_leaves_the_model_alone():
    """Else a film would show weak maps as strong ones."""
    model = small_model(lively=True).eval()
    x = torch.cat([noise(1, 1, 8, 8), 0.01 * noise(1, 1, 8, 8)])
    t = torch.ones(2)
    before = model(x, t)
    two, [alone] = as_u(model, x, t), as_u(model, x[1:], t[1:])
    assert not torch.equal(two[1], alone)
    assert torch.equal(model(x, t), before) and before.requires_grad
    assert not any(part._forward_hooks for part in model.modules())
    with pytest.raises(ValueError, match="multiples of 4"):
        as_u(model, noise(1, 1, 6, 6), torch.ones(1))
    assert not any(part._forward_hooks for part in model.modules())


def test_maps_are_orange_above_zero_and_blue_below():
    maps = torch.tensor([-1.0, 0, 1]).view(3, 1, 1).expand(3, 1, 1)
    row = tinted(maps, 4, 1)[0, [0, 2, 4]]
    colours = [np.frombuffer(bytes.fromhex(c[1:]), np.uint8) for c in COLOURS[:2]]
    assert (row == [colours[0], [255] * 3, colours[1]]).all()


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"model": nn.ReLU()}, "model: a network with the layers of ContextUnet"),
        ({"model": None}, "model: "),
        ({"x": noise(1, 2, 8, 8)}, "x: .*C = 1 or 3"),
        ({"t": torch.tensor([1.5])}, "t: times t/T"),
        ({"t": torch.ones(2)}, r"t: .* \(1,\)"),
        ({"c": torch.ones(1, 3)}, r"c: .* \(1,2\)"),
        ({"guess": noise(2, 1, 8, 8)}, r"guess: .* \(1,1,8,8\)"),
    ],
)
def test_as_u_refuses(changes, words):
    right = dict(model=small_model(), x=noise(1, 1, 8, 8), t=torch.ones(1))
    with pytest.raises(ValueError, match=words):
        as_u(**right | changes)


def test_the_diagram_shows_each_kind_of_layer_in_its_colour():
    data = u_diagram((3, 16, 16), 48, 5)
    picture = pixels_of(data)
    assert picture.shape == (990, 1840, 3) and (picture[0] == 255).all()
    assert all(has(picture, colour) for colour in COLOURS[:4])
    assert data == u_diagram([3, 16, 16], 48.0, 5) and len(data) < 40_000
    others = [u_diagram((1, 28, 28), 48, 5), u_diagram((3, 16, 16), 32, 5)]
    others.append(u_diagram((3, 16, 16), 48))
    assert len({data, *others}) == 4


@pytest.mark.parametrize(
    "shape, width, classes, words",
    [
        ((3, 16), 48, 5, "image_shape: "),
        ((3, 15, 16), 48, 5, "image_shape: .*multiples of 4"),
        ("abc", 48, 5, "image_shape: "),
        ((3, 16, 16), 40, 5, "width: a multiple of 16"),
        ((3, 16, 16), 48, -1, "context_size: "),
    ],
)
def test_the_diagram_refuses(shape, width, classes, words):
    with pytest.raises(ValueError, match=words):
        u_diagram(shape, width, classes)
