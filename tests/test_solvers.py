"""Heun and 2M: their order, their steps beside those of others, and their ends."""

import ast
import inspect
import math
import textwrap
from itertools import pairwise

import numpy as np
import pytest
import torch
from guards import SHAPE, gradient_mode_does_not_leak, mixture, noise, stub
from hypothesis import given, settings
from hypothesis import strategies as st
from small import SCHEDULE, small_model

from lesson_utils import (
    Mixture,
    Schedule,
    ddim,
    ddim_step,
    dpmpp_2m,
    guide,
    heun,
    initial_noise,
    last,
)
from lesson_utils.export import scheduler_config

SOLVERS = {"heun": heun, "dpmpp_2m": dpmpp_2m}
each_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
SPACINGS = ["uniform", "linspace", "quad", "logsnr"]
AB = SCHEDULE.alpha_bar.tolist()


def counted(eps_fn=stub, T=500):
    """An EpsFn that notes the times at which it is asked."""
    asked = []

    def counting(x, t):
        asked.append(round(float(t[0]) * T))
        return eps_fn(x, t)

    return counting, asked


# ── order of convergence, on a world whose best denoiser is known ───────────────────

FINE = 4097  # times: strides of 8, 16, … meet t = 1
EVEN = Schedule(
    torch.cat([torch.ones(1), torch.linspace(3, -4, FINE).mul(2).sigmoid()])
)  # λ falls evenly from 3 at t = 1 to -4 at t = T
POINTS = torch.tensor([[-1.0, 0.5], [0.8, 0.9], [0.3, -1.1]]).double().view(3, 1, 1, 2)


def runge_kutta(world, x, schedule, n=2000):
    """x at t = 1 by the classical method of order 4 on dy/dλ = -σ ε, y = x/√ab."""
    top, end = (schedule.alpha_bar[[-1, 1]].double().logit() / 2).tolist()

    def slope(y, lam):
        ab = 1 / (1 + math.exp(-2 * lam))
        return -math.exp(-lam) * world.eps(ab**0.5 * y, ab)

    y, h = x / float(schedule.alpha_bar[-1]) ** 0.5, (end - top) / n
    for i in range(n):
        lam = top + i * h
        k1 = slope(y, lam)
        k2 = slope(y + h / 2 * k1, lam + h / 2)
        k3 = slope(y + h / 2 * k2, lam + h / 2)
        k4 = slope(y + h * k3, lam + h)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return float(schedule.alpha_bar[1]) ** 0.5 * y


def at_t_1(solver, eps_fn, x, steps):
    """x after so many steps of one size in λ."""
    times = [*range(FINE, 0, -(FINE - 1) // steps), 0]
    [found] = [step.x for step in solver(eps_fn, x, EVEN, times) if step.t == 1]
    return found


@pytest.mark.parametrize("std", [0.2, 0.5])
def test_the_order_of_convergence(std):
    """Over four doublings of the steps: 1 for DDIM, 2 for Heun and 2M."""
    world, x = Mixture(POINTS, [1, 2, 1], std), initial_noise(8, (1, 1, 2)).double()
    exact, eps_fn = runge_kutta(world, x, EVEN), world.eps_fn(EVEN)
    counts = [32, 64, 128, 256, 512]
    solvers = {ddim: (1, 0.1), heun: (2, 0.15), dpmpp_2m: (2, 0.15)}
    for solver, (order, tolerance) in solvers.items():
        ends = [at_t_1(solver, eps_fn, x, n) for n in counts]
        errors = [float((end - exact).square().mean().sqrt()) for end in ends]
        slope, _ = np.polyfit(np.log(counts), np.log(errors), 1)
        assert -slope == pytest.approx(order, abs=tolerance)
        for a, b in pairwise(errors):
            assert math.log2(a / b) == pytest.approx(order, abs=tolerance)


def test_the_reference_is_exact():
    """A Gaussian has a closed form: its place in units of the spread stays."""
    world, x = Mixture(POINTS[:1], std=0.5), initial_noise(8, (1, 1, 2)).double()
    top, end = EVEN.alpha_bar[[-1, 1]].double().tolist()
    place = (x - top**0.5 * POINTS[0]) / (top * 0.25 + 1 - top) ** 0.5
    exact = end**0.5 * POINTS[0] + (end * 0.25 + 1 - end) ** 0.5 * place
    assert (runge_kutta(world, x, EVEN, 1000) - exact).abs().max() < 1e-10


def test_ten_evaluations_of_2m_are_worth_more_than_of_ddim():
    """Also on whole times that end at t = 0."""
    world, x = Mixture(POINTS, std=0.5), initial_noise(64, (1, 1, 2)).double()
    eps_fn = world.eps_fn(SCHEDULE)
    right = last(heun(eps_fn, x, SCHEDULE, 250))
    ends = [last(solver(eps_fn, x, SCHEDULE, 10)) for solver in (ddim, dpmpp_2m)]
    by_ddim, by_2m = ((end - right).square().mean() for end in ends)
    assert by_2m < 0.3 * by_ddim


# ── single steps beside those of others ─────────────────────────────────────────────


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # inside theirs
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 10, 20, 50])
def test_2m_agrees_with_diffusers(steps, spacing):
    """Each step from the same x, after the same answers of the network."""
    from diffusers import DPMSolverMultistepScheduler

    theirs = DPMSolverMultistepScheduler.from_config(
        scheduler_config(SCHEDULE),
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
    )
    times = SCHEDULE.timesteps(steps, spacing)
    theirs.set_timesteps(timesteps=[t - 1 for t in times[:-1]])
    x = noise(2, torch.float32)
    run = dpmpp_2m(stub, x, SCHEDULE, steps, spacing)
    for t, step in zip(times[:-1], run, strict=True):
        eps = stub(x, torch.full((2,), t / 500))
        one = theirs.step(eps, t - 1, x).prev_sample
        assert torch.allclose(step.x, one, rtol=1e-5, atol=1e-5)
        x = step.x


def heun_of_karras(D, y, sigmas):
    """Algorithm 1 of Karras 2022, with σ(t) = t and s(t) = 1: y after each step."""
    for sigma, after in pairwise(sigmas):
        d = (y - D(y, sigma)) / sigma
        there = y + (after - sigma) * d
        if after != 0:
            d_after = (there - D(there, after)) / after
            there = y + (after - sigma) * (d / 2 + d_after / 2)
        y = there
        yield y


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 2, 5, 20, 500])
def test_heun_agrees_with_karras(steps, spacing):
    """Their y is x/√ab, their σ √((1 - ab)/ab), their D the guess of x_0."""
    times = SCHEDULE.timesteps(steps, spacing)
    sigma = {t: ((1 - AB[t]) / AB[t]) ** 0.5 for t in times}
    time_of = {value: t for t, value in sigma.items()}

    def guess(y, sigma):
        t = time_of[sigma]
        eps = stub(AB[t] ** 0.5 * y, torch.full((len(y),), t / 500))
        return y - sigma * eps

    x = noise(2)
    theirs = heun_of_karras(guess, x / AB[500] ** 0.5, sigma.values())
    ours = heun(stub, x, SCHEDULE, steps, spacing)
    for step, y in zip(ours, theirs, strict=True):
        assert torch.allclose(step.x, AB[step.t] ** 0.5 * y, rtol=1e-5, atol=1e-5)


def test_the_first_and_the_last_step_of_2m_are_ddims():
    """The line has one guess at first; and at t = 0 it has no slope."""
    x, times = noise(3), SCHEDULE.timesteps(5)
    run = list(dpmpp_2m(stub, x, SCHEDULE, times))
    for before, step, (t, s) in zip(
        [x, *(step.x for step in run)], run, pairwise(times), strict=False
    ):
        eps = stub(before, torch.full((3,), t / 500))
        x_s, x0 = ddim_step(before, eps, AB[t], AB[s])
        assert torch.allclose(step.x0, x0, atol=1e-12)
        near = (step.x - x_s).abs().max()
        assert near < 1e-9 if s in (times[1], 0) else near > 1e-3
    assert torch.equal(run[-1].x, run[-1].x0)


def test_2m_goes_on_along_a_straight_line():
    """A guess of x_0 that is a line over λ is followed at its middle."""
    lam = [math.inf, *(math.log(ab / (1 - ab)) / 2 for ab in AB[1:])]
    c, slope = noise(2), noise(2, seed=1)

    def eps_fn(x, t):
        t = round(float(t[0]) * 500)
        x0 = c + lam[t] * slope
        return (x - AB[t] ** 0.5 * x0) / (1 - AB[t]) ** 0.5

    _, step, _ = dpmpp_2m(eps_fn, noise(2, seed=2), SCHEDULE, [500, 300, 100, 0])
    x, *_ = (one.x for one in dpmpp_2m(eps_fn, noise(2, seed=2), SCHEDULE, [500, 300]))
    D = c + (lam[300] + lam[100]) / 2 * slope
    share = math.expm1(lam[300] - lam[100])
    x_s = ((1 - AB[100]) / (1 - AB[300])) ** 0.5 * x - AB[100] ** 0.5 * share * D
    assert torch.allclose(step.x, x_s, atol=1e-9)


# ── ends: S = 1, S = T, lists that end above 0; what is asked ───────────────────────


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.data(), st.sampled_from(SPACINGS))
def test_any_number_of_steps_runs_and_ends_at_the_image(T, data, spacing):
    steps, schedule, x = data.draw(st.integers(1, T)), Schedule.linear(T), noise(2)
    times = schedule.timesteps(steps, spacing)
    for name, solver in SOLVERS.items():
        eps_fn, asked = counted(T=T)
        run = list(solver(eps_fn, x, schedule, steps, spacing))
        assert [step.t for step in run] == times[1:]
        assert all(step.x.isfinite().all() for step in run)
        assert torch.equal(run[-1].x, run[-1].x0) or name == "heun"
        assert torch.allclose(run[-1].x, run[-1].x0, atol=1e-12)
        twice = [t for t in times[1:-1] for _ in range(2)]
        assert asked == ([T, *twice] if name == "heun" else times[:-1])
        assert len(asked) == (2 * steps - 1 if name == "heun" else steps)


@each_solver
def test_one_step_is_ddims(solver):
    x = noise(3)
    [ours], [theirs] = solver(stub, x, SCHEDULE, 1), ddim(stub, x, SCHEDULE, 1)
    assert ours.t == 0
    assert torch.allclose(ours.x, theirs.x, atol=1e-12)
    assert torch.allclose(ours.x0, theirs.x0, atol=1e-12)


@each_solver
def test_all_T_steps_go_where_ddim_goes(solver):
    eps_fn, x = mixture(SCHEDULE), noise(4)
    all_steps = last(solver(eps_fn, x, SCHEDULE, 500))
    assert (all_steps - last(ddim(eps_fn, x, SCHEDULE, 500))).abs().max() < 0.05
    every = [*range(500, -1, -1)]
    assert torch.equal(all_steps, last(solver(eps_fn, x, SCHEDULE, every)))


@each_solver
@pytest.mark.parametrize("end", [1, 7, 250])
def test_times_may_end_above_0(solver, end):
    """The last step is then one like the others: as if the list went on."""
    eps_fn, asked = counted()
    x, times = noise(2), [500, 400, 300, end]
    run = list(solver(eps_fn, x, SCHEDULE, times))
    longer = list(solver(stub, x, SCHEDULE, [*times, 0]))
    assert [step.t for step in run] == [400, 300, end]
    for one, other in zip(run, longer, strict=False):
        assert torch.equal(one.x, other.x) and torch.equal(one.x0, other.x0)
    assert asked == ([500, 400, 400, 300, 300, end] if solver is heun else times[:-1])
    [single] = solver(stub, x, SCHEDULE, [500, end])
    assert single.t == end and single.x.isfinite().all()


# ── rules ───────────────────────────────────────────────────────────────────────────


@each_solver
@pytest.mark.parametrize(
    ("named", "wrong"),
    [
        ("steps", 0),
        ("steps", 501),
        ("steps", [500]),
        ("steps", [400, 0]),
        ("steps", [500, 0, 100]),
        ("steps", [500, 100, -1]),
        ("spacing", "karras"),
        ("spacing", None),
        ("x", noise(2)[0]),
        ("x", noise(2) * math.nan),
        ("schedule", SCHEDULE.alpha_bar),
        ("eps_fn", None),
    ],
)
def test_nonsense_is_refused_at_the_call(solver, named, wrong):
    arguments = {"eps_fn": stub, "x": noise(2), "schedule": SCHEDULE}
    with pytest.raises(ValueError, match=rf"^{named}: .* is needed, got "):
        solver(**arguments | {named: wrong})


@each_solver
def test_a_guess_of_another_shape_is_refused(solver):
    with pytest.raises(ValueError, match="^eps_fn: .*the noise"):
        next(solver(lambda x, t: x[:1], noise(2), SCHEDULE))


@each_solver
def test_gradient_mode_does_not_leak(solver):
    gradient_mode_does_not_leak(solver)


@each_solver
def test_a_solver_is_a_plain_generator_of_twelve_lines_at_most(solver):
    bare = inspect.unwrap(solver)
    assert inspect.isgeneratorfunction(bare)
    source = textwrap.dedent(inspect.getsource(bare))
    said, first, *_ = ast.parse(source).body[0].body
    assert isinstance(said.value, ast.Constant)
    lines = source.splitlines()[first.lineno - 1 :]
    assert 5 <= len(lines) <= 12 and not any("def " in line for line in lines)
    assert solver.rules.keys() == {"eps_fn", "x", "schedule", "steps", "spacing"}


@each_solver
def test_a_solver_leaves_its_input_alone_and_draws_no_noise(solver):
    x, state = noise(2), torch.get_rng_state()
    copy = x.clone()
    first = last(solver(stub, x, SCHEDULE, 5))
    assert torch.equal(x, copy) and torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, last(solver(stub, x, SCHEDULE, 5)))


@each_solver
def test_an_image_does_not_depend_on_its_batch(solver):
    eps_fn = guide(small_model(3, 5, lively=True).eval())
    x, schedule = initial_noise(8, (3, 16, 16), 5), Schedule.linear(40)
    eight = last(solver(eps_fn, x, schedule))
    assert torch.allclose(eight[:3], last(solver(eps_fn, x[:3], schedule)), atol=1e-4)


@each_solver
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.half, torch.float])
def test_the_times_are_float32_and_the_guess_of_any_type(solver, dtype):
    asked, exact_eps = [], mixture(SCHEDULE)

    def eps_fn(x, t):
        asked.append(t)
        return exact_eps(x.double(), t.double())

    x = noise(2).to(dtype)
    *_, step = solver(eps_fn, x, SCHEDULE, 20)
    exact = last(solver(eps_fn, x.double(), SCHEDULE, 20))
    assert step.x.dtype == step.x0.dtype == dtype and step.x.shape == (2, *SHAPE)
    assert {t.dtype for t in asked} == {torch.float32}
    atol = {torch.float: 1e-4, torch.half: 0.1, torch.bfloat16: 0.5}[dtype]
    assert torch.allclose(step.x.double(), exact, atol=atol)
