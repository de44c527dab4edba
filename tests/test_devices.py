"""Another device than the CPU: all of sampling follows the network there.

No GPU is needed: a fake tensor has a device and a shape, but no values, and refuses to
meet one of another device.
"""

import pytest
import torch
from small import small_data, small_model
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lesson_utils import (
    DistillSettings,
    Schedule,
    Student,
    ddim,
    ddim_step,
    ddpm,
    distillation_loss,
    dpmpp_2m,
    guide,
    heun,
    invert,
    jump_target,
    last,
)
from lesson_utils.loop import Pupil, Stage, turn_to_v
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


# Students


class NoFloat64(TorchDispatchMode):
    """No tensor off the CPU is of float64: Apple's GPUs have none."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **kwargs or {})
        for value in tree_leaves(made):
            if isinstance(value, torch.Tensor) and value.dtype == torch.float64:
                assert value.device.type == "cpu", func
        return made


def test_a_student_answers_where_its_network_is(cuda):
    """Though its schedule came from the CPU, and it was never moved."""
    model, x = cuda
    student = Student(model, S, [12, 6, 0])
    assert student.alpha_bar.device == x.device
    with NoFloat64():
        for step in ddim(guide(student, C), x, S, student.times):
            assert step.x.device == step.x0.device == x.device
    assert Student(model, S).T == S.T == 12


def test_target_and_loss_stay_where_the_images_are(cuda):
    model, x = cuda
    student, c = Student(model, S, [12, 6, 0]), C.to(x)
    t, m, s = (torch.tensor([time, time]) for time in (12, 9, 6))
    with NoFloat64():
        target = jump_target(guide(model, c, 2.0), x, S, t, m, s)
        loss = distillation_loss(student, x, t, target, c)
    assert target.device == loss.device == x.device and loss.shape == ()


@pytest.mark.filterwarnings("ignore:CUDA is not available:UserWarning")
@pytest.mark.filterwarnings("ignore:Accessing the data pointer:UserWarning")
@pytest.mark.parametrize("half", [False, True])
def test_a_distillation_stays_on_the_device_of_its_teacher(cuda, half, monkeypatch):
    model, x = cuda
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, **how: self)  # no fake does
    teacher = Student(model, S, [12, 9, 6, 3, 0], 2.0)
    stages = [Stage([12, 6, 0], teacher.times, 0, 1), Stage([12, 0], [12, 6, 0], 1, 2)]
    how = DistillSettings(1, updates=1, batch_size=2, bfloat16=half)
    with NoFloat64():
        pupil = Pupil(teacher, S, small_data(), how, stages)
        for step, stage in enumerate(stages):
            assert pupil.loss(stage, small_data(), step).device == x.device
            pupil.begin()


def test_a_network_is_turned_to_v_without_float64_on_its_device(cuda):
    model, x = cuda
    with NoFloat64():
        turn_to_v(model, S, [12, 6, 0], C.to(x))
    assert model.mix.weight.device == x.device
    assert model.mix.weight.dtype == torch.float32
