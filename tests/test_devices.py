"""Another device than the CPU: all of sampling follows the network there.

No GPU is needed: a fake tensor has a device and a shape, but no values, and refuses to
meet one of another device.
"""

import pytest
import torch
from small import small_model
from torch._subclasses.fake_tensor import FakeTensorMode

from lesson_utils import (
    Schedule,
    ddim,
    ddim_step,
    ddpm,
    dpmpp_2m,
    guide,
    heun,
    invert,
    last,
)
from lesson_utils.noise import image_generators, initial_noise, noise_like

S = Schedule.linear(12)
C = torch.eye(2)
FRESH = image_generators(2)


@pytest.fixture
def cuda():
    """A network and noise on a GPU that need not be there; all else is on the CPU."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.device("cuda"):
            model = small_model()
        yield model, initial_noise(2, (1, 8, 8)).to("cuda")


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
@pytest.mark.parametrize(
    "sampler, options",
    [
        (ddpm, {"generator": FRESH}),
        (ddim, {"steps": 3}),
        (ddim, {"steps": 3, "eta": 0.5, "clip": True, "generator": FRESH}),
        (ddim, {"steps": [12, 9, 0], "eta": "sigma-hat", "generator": FRESH[0]}),
        (heun, {"steps": 3, "spacing": "quad"}),
        (dpmpp_2m, {"steps": [12, 9, 4]}),
        (invert, {"steps": 3, "refine": 1}),
    ],
)
def test_samplers_stay_on_the_device_of_their_noise(cuda, sampler, options, scale):
    model, x = cuda
    for step in sampler(guide(model, C, scale), x, S, **options):
        assert step.x.device == step.x0.device == x.device != torch.device("cpu")
        assert step.x.shape == x.shape


def test_what_comes_from_the_cpu_is_moved(cuda):
    model, x = cuda
    assert model(x, torch.ones(2), C).device == x.device
    assert noise_like(x, FRESH[0]).device == x.device
    x_s, x0 = ddim_step(x, x.cpu(), 0.5, 0.6, 1.0, x.cpu())
    assert x_s.device == x0.device == x.device


def test_images_elsewhere_than_the_network_are_refused(cuda):
    model, x = cuda
    with pytest.raises(ValueError, match="^x: a tensor on the model's device cuda"):
        last(ddim(guide(model, C), x.cpu(), S, steps=3))
