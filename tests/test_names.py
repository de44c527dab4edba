"""One network under four names: the conversions that lesson 10 prints.

The oracles: the exact world, differences along its exact trajectory, and what Diffusers
does for networks that answer with v or with the velocity of a flow.
"""

from itertools import pairwise

import nbformat
import pytest
import torch
from guards import mixture, noise

from lesson_utils import Mixture, Schedule, ddim, ddim_step, guide, heun, last
from lesson_utils.export import scheduler_config
from tools.lessons import LESSONS, code_cells

SCHEDULE = Schedule.linear()
AB = SCHEDULE.alpha_bar.tolist()
TIMES = [500, 375, 250, 100, 25, 1]
POINTS = torch.tensor([[-1.0, 0.5], [0.8, 0.9], [0.3, -1.1]]).double().view(3, 1, 1, 2)
WORLD = Mixture(POINTS, [1, 2, 1], 0.3)


def conversions() -> dict:
    """The functions of the lesson's cell of conversions, by name."""
    nb = nbformat.read(LESSONS / "10_after_ddim.ipynb", as_version=4)
    scope: dict = {}
    for cell in code_cells(nb):
        if cell.source.startswith("def roots("):
            exec(cell.source, scope)
    return scope


NAMES = conversions()
from_eps, to_v, out_of_v = (NAMES[name] for name in ("from_eps", "to_v", "out_of_v"))
to_flow, from_flow = NAMES["to_flow"], NAMES["from_flow"]


def roots(ab: float) -> tuple[float, float]:
    return ab**0.5, (1 - ab) ** 0.5


def near(one, other, tolerance=1e-5) -> bool:
    return bool((one - other).abs().max() <= tolerance * other.abs().max())


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
@pytest.mark.parametrize("t", TIMES)
def test_each_name_gives_the_others(t, dtype):
    a, b = roots(AB[t])
    x = torch.randn(100, 1, 1, 2, generator=torch.Generator().manual_seed(t)).to(dtype)
    guess, eps = WORLD.best_guess(x.double(), AB[t]), WORLD.eps(x.double(), AB[t])
    x0 = from_eps(x, eps.to(dtype), a, b)
    assert torch.equal(x0, ddim_step(x, eps.to(dtype), AB[t], 0.5)[1])  # in every bit
    assert near(from_eps(x.double(), eps, a, b), guess, 1e-9)
    v, u = to_v(guess, eps, a, b).to(dtype), (eps - guess).to(dtype)
    z, r = to_flow(x, a, b)
    for pair in (out_of_v(x, v, a, b), from_flow(z, u, r)):
        assert near(pair[0], guess) and near(pair[1], eps)


@pytest.mark.parametrize("t", TIMES)
def test_the_coordinates_of_a_flow(t):
    """z is (1 - r) x_0 + r ε, with weights that add up to 1, and is x/√ab/(1 + ς)."""
    a, b = roots(AB[t])
    x0, eps = noise(3), noise(3, seed=1)
    z, r = to_flow(a * x0 + b * eps, a, b)
    assert near(z, (1 - r) * x0 + r * eps, 1e-12)
    sigma = b / a
    assert r == pytest.approx(sigma / (1 + sigma), rel=1e-12)
    assert near(z, (x0 + sigma * eps) / (1 + sigma), 1e-12)
    assert to_flow(x0, 1.0, 0.0)[1] == 0


def trajectory(n=400):
    """x (n+1,B,1,1,2) at even strides of λ on the exact curve, and alpha_bar there."""
    lam = torch.linspace(3, -4, 20 * n + 1).double()
    schedule = Schedule(torch.cat([torch.ones(1), (2 * lam).sigmoid()]).float())
    start = noise(4, torch.double).flatten()[:16].view(8, 1, 1, 2)
    times = [*range(20 * n + 1, 0, -1)]
    steps = heun(WORLD.eps_fn(schedule), start, schedule, times)
    x = torch.stack([start, *(step.x for step in steps)])
    return x[::20], schedule.alpha_bar.double()[times][::20]


def test_each_name_is_the_velocity_in_coordinates_of_its_own():
    """dy/dς is ε, dz/dr is u, and dx/dφ is v, if √ab is cos φ: along exact curves."""
    x, ab = trajectory()
    a, b = (each.view(-1, 1, 1, 1, 1) for each in (ab.sqrt(), (1 - ab).sqrt()))
    eps = torch.stack([WORLD.eps(*each) for each in zip(x, ab.tolist(), strict=True)])
    x0 = from_eps(x, eps, a, b)
    z, r = to_flow(x, a, b)
    v = to_v(x0, eps, a, b)
    for curve, place, velocity in (
        (x / a, b / a, eps),
        (z, r, eps - x0),
        (x, torch.atan2(b, a), v),
    ):
        slope = (curve[2:] - curve[:-2]) / (place[2:] - place[:-2])
        assert near(slope, velocity[1:-1], 1e-3)


def test_the_two_times_of_a_flow_differ_by_signs_in_every_bit():
    """τ = 1 - r from noise to image: the velocity is that of r with the other sign."""
    eps, x0 = noise(2), noise(2, seed=1)
    u, w = eps - x0, x0 - eps
    assert torch.equal(w, -u)
    r = 0.25  # 1 - r is exact
    z = (1 - r) * x0 + r * eps
    ours, theirs = from_flow(z, u, r), from_flow(z, -w, 1 - (1 - r))
    assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("steps", [1, 4, 20])
def test_ddim_is_eulers_method_for_the_flow(steps):
    eps_fn, x = mixture(SCHEDULE), noise(4)
    times = SCHEDULE.timesteps(steps)
    z, _ = to_flow(x, *roots(AB[500]))
    for (t, s), step in zip(
        pairwise(times), ddim(eps_fn, x, SCHEDULE, steps), strict=True
    ):
        (a, b), (a_s, b_s) = roots(AB[t]), roots(AB[s])
        now = z * (a + b)
        eps = eps_fn(now, torch.full((4,), t / 500))
        u = eps - from_eps(now, eps, a, b)
        z = z + (b_s / (a_s + b_s) - b / (a + b)) * u
        assert near(z * (a_s + b_s), step.x, 1e-6)


def test_diffusers_flow_sampler_runs_a_network_that_was_trained_on_noise():
    """The scheduler of SD3 and FLUX, whose sigma is our r and whose answer is u."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    eps_fn, x = mixture(SCHEDULE), noise(4, torch.float32)
    times = SCHEDULE.timesteps(10)
    levels = [to_flow(x, *roots(AB[t]))[1] for t in times]
    theirs = FlowMatchEulerDiscreteScheduler(shift=1.0)
    theirs.set_timesteps(sigmas=levels[:-1])
    assert torch.allclose(theirs.sigmas, torch.tensor(levels), atol=1e-6)
    z, _ = to_flow(x, *roots(AB[500]))
    for t, theirs_t in zip(times, theirs.timesteps, strict=False):
        assert float(theirs_t) == pytest.approx(
            1000 * to_flow(x, *roots(AB[t]))[1], rel=1e-5
        )
        a, b = roots(AB[t])
        now = z * (a + b)
        eps = eps_fn(now, torch.full((4,), t / 500))
        u = eps - from_eps(now, eps, a, b)
        z = theirs.step(u, theirs_t, z).prev_sample
    assert near(z, last(ddim(eps_fn, x, SCHEDULE, 10)), 1e-4)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_shift_of_sd3_multiplies_the_noise_level(shift):
    from diffusers import FlowMatchEulerDiscreteScheduler

    levels = torch.tensor([0.9, 0.5, 0.1]).double()
    theirs = FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(sigmas=levels.tolist())
    shifted = theirs.sigmas[:-1].double()
    found = (shifted / (1 - shifted)) / (levels / (1 - levels))
    assert torch.allclose(found, torch.full((3,), shift).double(), atol=1e-4)


def test_diffusers_takes_v_as_the_lesson_defines_it():
    from diffusers import DDIMScheduler

    settings = scheduler_config(SCHEDULE) | {"prediction_type": "v_prediction"}
    theirs = DDIMScheduler.from_config(settings)
    theirs.set_timesteps(500)
    x, eps = noise(2, torch.float32), noise(2, torch.float32, seed=1)
    for t in (500, 250, 2):
        a, b = roots(AB[t])
        x0 = from_eps(x, eps, a, b)
        found = theirs.step(to_v(x0, eps, a, b), t - 1, x).pred_original_sample
        assert near(found, x0, 1e-3 if t == 500 else 1e-5)


def test_guidance_has_one_formula_for_all_names():
    from small import small_model

    model = small_model(3, 2, lively=True).eval()
    x, c = noise(2, torch.float32)[:, :1].expand(-1, 3, -1, -1), torch.eye(2)
    t, (a, b) = torch.full((2,), 0.5), roots(AB[250])
    with torch.no_grad():
        eps, plain, free = (guide(model, c, g)(x, t) for g in (2.5, 1.0, 0.0))
    guided = [to_v(from_eps(x, e, a, b), e, a, b) for e in (eps, plain, free)]
    assert near(guided[0], guided[2] + 2.5 * (guided[1] - guided[2]))
    flow = [e - from_eps(x, e, a, b) for e in (eps, plain, free)]
    assert near(flow[0], flow[2] + 2.5 * (flow[1] - flow[2]))
