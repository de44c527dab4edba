"""The samplers against closed forms, against each other and against Diffusers."""

import ast
import inspect
import math
import textwrap
from functools import partial
from itertools import pairwise

import pytest
import torch
from guards import SHAPE, gaussian, gradient_mode_does_not_leak, mixture, noise, stub
from hypothesis import given, settings
from hypothesis import strategies as st
from small import SCHEDULE, small_model

from lesson_utils import Schedule, ddim, ddim_step, ddpm, guide, invert, last, slerp
from lesson_utils.noise import image_generators, initial_noise, noise_like, seeded
from lesson_utils.sampling import Step, within

SAMPLERS = {"ddpm": ddpm, "ddim": ddim, "invert": invert}
SPACINGS = ["uniform", "linspace", "quad", "logsnr"]


def lambda_schedule(T, first=3.0, end=-4.0):
    """alpha_bar with ½ log-SNR uniform over t = 1 … T: steps of equal size in λ."""
    lam = torch.linspace(first, end, T, dtype=torch.double)
    return Schedule(torch.cat([torch.ones(1), torch.sigmoid(2 * lam)]))


def at_t_1(eps_fn, x, schedule, stride):
    """x at t = 1 after DDIM with equal steps in λ."""
    *_, step, _ = ddim(eps_fn, x, schedule, [*range(schedule.T, 1, -stride), 1, 0])
    return step.x


def has_the_moments(x, mean, std):
    assert x.mean() == pytest.approx(mean, abs=0.01)
    assert x.std() == pytest.approx(std, abs=0.015)


def halves(errors):
    """Each time the steps double: the error has order 1."""
    ratios = [a / b for a, b in pairwise(errors)]
    assert all(1.8 < ratio < 2.2 for ratio in ratios), ratios


def on_the_ode(x, ab_from, ab_to, mean=0.3, std=0.5):
    """Where the ODE takes x of a Gaussian: its place in units of the spread stays."""

    def spread(ab):
        return math.sqrt(ab * std**2 + 1 - ab)

    place = (x - ab_from**0.5 * mean) / spread(ab_from)
    return ab_to**0.5 * mean + spread(ab_to) * place


# ── closed forms ────────────────────────────────────────────────────────────────────


def test_ddim_on_a_gaussian_is_the_exact_map_in_the_limit():
    """DDIM eq. 14."""
    schedule, x = lambda_schedule(4096), noise(8)
    exact = on_the_ode(x, *schedule.alpha_bar[[-1, 1]].double().tolist())
    strides = (256, 128, 64, 32, 16, 8, 4, 2)
    ends = [at_t_1(gaussian(schedule), x, schedule, stride) for stride in strides]
    errors = [float((end - exact).abs().max()) for end in ends]
    assert errors[-1] < 2e-3
    halves(errors[1:])


def test_ddim_halves_its_error_on_a_mixture_when_the_steps_double():
    schedule = lambda_schedule(4096)
    end = partial(at_t_1, mixture(schedule), noise(8), schedule)
    # Richardson: the error of the finest run is removed to first order.
    exact = 2 * end(1) - end(2)
    halves([float((end(n) - exact).abs().mean()) for n in (128, 64, 32, 16)])


@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        (ddim, {"steps": 250, "eta": 0.0}),
        (ddim, {"steps": 250, "eta": 0.5}),
        (ddim, {"steps": 250, "eta": 1.0}),
        (ddpm, {"variance": "posterior"}),
        (ddpm, {"variance": "beta"}),
    ],
)
def test_samples_of_a_gaussian_have_its_moments(sampler, options):
    generator, eps_fn = torch.Generator().manual_seed(1), gaussian(SCHEDULE, 0.3, 0.5)
    steps = sampler(eps_fn, noise(2000), SCHEDULE, generator=generator, **options)
    has_the_moments(last(steps), 0.3, 0.5)


# ── DDPM is a DDIM ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("T", [10, 100, 500])
@pytest.mark.parametrize(
    ("eta", "variance"), [(1.0, "posterior"), ("sigma-hat", "beta")]
)
def test_all_steps_with_full_noise_are_ddpm(T, eta, variance):
    schedule = Schedule.linear(T)
    x, eps_fn = noise(3), mixture(schedule)
    ours = ddim(eps_fn, x, schedule, T, eta, generator=image_generators(3))
    theirs = ddpm(eps_fn, x, schedule, variance, image_generators(3))
    for a, b in zip(ours, theirs, strict=True):
        assert a.t == b.t
        assert torch.allclose(a.x, b.x, rtol=0, atol=1e-10)
        assert torch.allclose(a.x0, b.x0, rtol=0, atol=1e-9)


def test_step_coefficients_of_eq_12_and_16():
    x, eps, z = torch.randn(3, 2, *SHAPE, dtype=torch.double)
    ab_t, ab_s, eta = 0.3, 0.7, 0.4
    sigma = eta * math.sqrt((1 - ab_s) / (1 - ab_t)) * math.sqrt(1 - ab_t / ab_s)
    x0 = (x - math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t)
    x_s = math.sqrt(ab_s) * x0 + math.sqrt(1 - ab_s - sigma**2) * eps + sigma * z
    got_s, got_0 = ddim_step(x, eps, ab_t, ab_s, eta, z)
    assert torch.allclose(got_s, x_s, atol=1e-12)
    assert torch.allclose(got_0, x0, atol=1e-12)
    hat, _ = ddim_step(x, eps, ab_t, ab_s, "sigma-hat", z)
    mean, _ = ddim_step(x, eps, ab_t, ab_s, 1.0, 0 * z)
    assert torch.allclose(hat - mean, math.sqrt(1 - ab_t / ab_s) * z, atol=1e-12)


# ── Diffusers ───────────────────────────────────────────────────────────────────────


BETAS = {"beta_start": 0.1 / 500, "beta_end": 20 / 500, "clip_sample": False}


def agree(sampler, step_of_theirs, times, fresh):
    """Each step from the same x, and the whole chain; fresh: makes their generators."""
    x = chain = noise(2, torch.float32)
    ours, for_one, for_chain = fresh(), fresh(), fresh()

    def theirs(x, t, generator):
        eps = stub(x, torch.full((2,), t / 500))
        return step_of_theirs(eps, t - 1, x, generator=generator).prev_sample

    steps = sampler(stub, x, SCHEDULE, generator=ours)
    for t, step in zip(times[:-1], steps, strict=True):
        one, chain = theirs(x, t, for_one), theirs(chain, t, for_chain)
        assert torch.allclose(step.x, one, rtol=1e-5, atol=1e-5)
        assert torch.allclose(step.x, chain, rtol=1e-4, atol=1e-4)
        x = step.x


@pytest.mark.parametrize("steps", [1, 5, 20, 50, 250, 500])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_agrees_with_diffusers(steps, eta):
    from diffusers import DDIMScheduler

    # "trailing" with S dividing T visits the times of our "uniform", counted from 0.
    theirs = DDIMScheduler(500, **BETAS, timestep_spacing="trailing")
    theirs.set_timesteps(steps)
    times = SCHEDULE.timesteps(steps)
    assert (theirs.timesteps + 1).tolist() == times[:-1]
    ours, step = partial(ddim, steps=steps, eta=eta), partial(theirs.step, eta=eta)
    agree(ours, step, times, lambda: image_generators(2))


def test_ddpm_agrees_with_diffusers():
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(500, **BETAS, variance_type="fixed_small")
    theirs.set_timesteps(500)
    times = SCHEDULE.timesteps(500)
    agree(ddpm, theirs.step, times, lambda: torch.Generator().manual_seed(3))


# ── properties ──────────────────────────────────────────────────────────────────────


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60),
    st.data(),
    st.sampled_from(SPACINGS),
    st.sampled_from([0, 0.3, 1.0, "sigma-hat"]),
    st.integers(1, 3),
)
def test_any_number_of_steps_runs_and_ends_at_the_image(T, data, spacing, eta, n):
    steps = data.draw(st.integers(1, T))
    schedule, asked = Schedule.linear(T), []

    def eps_fn(x, t):
        asked.extend(t[:1].tolist())
        return stub(x, t)

    x, how = noise(n), (schedule, steps, eta, spacing, False)
    run = list(ddim(eps_fn, x, *how, image_generators(n)))
    times = schedule.timesteps(steps, spacing)
    assert [s.t for s in run] == times[1:] and len(run) == steps
    assert [round(t * T) for t in asked] == times[:-1] and min(asked) > 0
    assert all(s.x.isfinite().all() and s.x.shape == x.shape for s in run)
    assert torch.allclose(run[-1].x, run[-1].x0, atol=1e-12)  # nothing left to add
    assert torch.equal(run[-1].x, last(ddim(stub, x, *how, image_generators(n))))


def test_explicit_times():
    x = noise(2)
    assert [s.t for s in ddim(stub, x, SCHEDULE, [500, 250, 9, 0])] == [250, 9, 0]
    even = last(ddim(stub, x, SCHEDULE, SCHEDULE.timesteps(20)))
    assert torch.equal(even, last(ddim(stub, x, SCHEDULE, 20)))


@given(st.integers(0, 2**40), st.integers(1, 9), st.integers(0, 40))
def test_noise_is_bit_equal_in_any_batch(seed, n, start):
    batch = initial_noise(n, SHAPE, seed, start)
    for i in range(n):
        assert torch.equal(batch[i : i + 1], initial_noise(1, SHAPE, seed, start + i))
        a = torch.randn(9, generator=image_generators(n, seed, start)[i])
        b = torch.randn(9, generator=image_generators(1, seed, start + i)[0])
        assert torch.equal(a, b)


def test_no_two_images_of_a_seed_share_their_noise():
    """torch's generator keeps 32 bits of its seed: they must not meet by chance."""
    for seed in (0, 1, 2**63):
        both = [*seeded(30_000, seed, 0, 0), *seeded(30_000, seed, 0, 1)]
        assert len({g.initial_seed() for g in both}) == 60_000
        assert all(g.initial_seed() < 2**32 for g in both)


def test_noise_is_normal_and_never_the_same_twice():
    x = torch.cat([initial_noise(500, (3, 16, 16), seed) for seed in (0, 1)])
    inner = noise_like(torch.zeros(500, 3, 16, 16), image_generators(500))
    has_the_moments(x, 0, 1)
    everything = torch.cat([x, inner]).flatten(1)
    correlation = torch.corrcoef(everything) - torch.eye(len(everything))
    assert correlation.abs().max() < 0.25


@pytest.mark.parametrize(
    ("sampler", "options"),
    [(ddpm, {}), (ddim, {"steps": 10}), (ddim, {"steps": 10, "eta": 0.7})],
)
def test_an_image_does_not_depend_on_its_batch(sampler, options):
    eps_fn = guide(small_model(3, 5, lively=True).eval())

    def sample(n, start=0):
        x = initial_noise(n, (3, 16, 16), 5, start)
        generator = image_generators(n, 5, start)
        steps = sampler(eps_fn, x, Schedule.linear(40), generator=generator, **options)
        return last(steps)

    eight = sample(8)
    assert torch.equal(eight, sample(8))
    assert torch.allclose(eight[:3], sample(3), atol=1e-4)
    assert torch.allclose(eight[5:], sample(3, start=5), atol=1e-4)


def test_eta_0_needs_no_noise_and_others_do():
    x, generator = noise(2), torch.Generator().manual_seed(0)
    state, before = generator.get_state(), torch.get_rng_state()
    last(ddim(stub, x, SCHEDULE, 20, generator=generator))
    last(ddim(stub, x, SCHEDULE, 1, 1.0, generator=generator))  # nor the last step
    assert torch.equal(generator.get_state(), state)
    last(ddim(stub, x, SCHEDULE, 20))
    assert torch.equal(torch.get_rng_state(), before)
    last(ddim(stub, x, SCHEDULE, 20, 0.1, generator=generator))
    assert not torch.equal(generator.get_state(), state)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("sampler", [ddim, ddpm, invert])
def test_gradient_mode_does_not_leak(sampler):
    gradient_mode_does_not_leak(sampler)


@pytest.mark.parametrize("sampler", [ddim, ddpm, invert])
def test_a_sampler_is_a_plain_generator_of_ten_lines_at_most(sampler):
    bare = inspect.unwrap(sampler)
    assert inspect.isgeneratorfunction(bare)
    source = textwrap.dedent(inspect.getsource(bare))
    said, first, *_ = ast.parse(source).body[0].body
    assert isinstance(said.value, ast.Constant)
    lines = source.splitlines()[first.lineno - 1 :]
    assert 5 <= len(lines) <= 10 and not any("def " in line for line in lines)


def test_a_sampler_leaves_its_input_alone():
    x = noise(2)
    copy = x.clone()
    last(ddim(stub, x, SCHEDULE, 5, clip=True))
    last(ddpm(stub, x, Schedule.linear(5)))
    last(invert(stub, x, SCHEDULE, 5, refine=1))
    assert torch.equal(x, copy)


def test_clipping_holds_the_guess_and_the_end():
    for step in ddim(stub, 3 * noise(4), SCHEDULE, 20, clip=True):
        assert step.x0.abs().max() <= 1 + 1e-9
    inside = mixture(SCHEDULE, std=0.05)
    end = last(ddim(inside, noise(4) / 3, SCHEDULE, 100, clip=True))
    assert end.abs().max() <= 1 + 1e-9


# ── guidance ────────────────────────────────────────────────────────────────────────


class Counting(torch.nn.Module):
    """A model whose answer shows what it was asked: eps = sum of the context."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, x, t, c=None):
        self.batches.append(len(x))
        total = torch.zeros(len(x)) if c is None else c.sum(1)
        return total.view(-1, 1, 1, 1) + 0 * x


@pytest.mark.parametrize(
    ("scale", "expected", "batches"), [(0, 0, [2]), (1, 3, [2]), (2.5, 7.5, [4])]
)
def test_guidance_pushes_away_from_no_context(scale, expected, batches):
    model, x = Counting(), torch.zeros(2, *SHAPE)
    eps = guide(model, torch.tensor([[1.0, 2.0]] * 2), scale)(x, torch.ones(2))
    assert torch.allclose(eps, torch.full_like(x, expected))
    assert model.batches == batches
    assert torch.equal(guide(model)(x, torch.ones(2)), x)


CONTEXT = torch.tensor([[1.0, 2.0]] * 2)


@pytest.mark.parametrize(
    ("share", "expected", "batches"),
    [(0.1, 3, [2]), (0.25, 7.5, [4]), (0.4, 7.5, [4]), (0.5, 7.5, [4]), (0.51, 3, [2])],
)
def test_outside_its_interval_guidance_is_one_plain_evaluation(
    share, expected, batches
):
    model, x = Counting(), torch.zeros(2, *SHAPE)
    eps_fn = guide(model, CONTEXT, 2.5, interval=(0.25, 0.5))
    eps = eps_fn(x, torch.full((2,), share))
    assert torch.allclose(eps, torch.full_like(x, expected))
    assert model.batches == batches


def test_images_at_other_times_are_guided_each_by_its_own():
    model, x = small_model(lively=True), noise(4, torch.float)
    c, t = torch.eye(2).repeat(2, 1), torch.tensor([0.2, 0.3, 0.5, 0.9])
    eps = guide(model, c, 3.0, interval=(0.3, 0.5))(x, t)
    pushed, plain = guide(model, c, 3.0)(x, t), guide(model, c)(x, t)
    assert torch.equal(eps[1:3], pushed[1:3]) and not torch.equal(pushed, plain)
    assert torch.equal(eps[[0, 3]], plain[[0, 3]])


@pytest.mark.parametrize("scale", [0, 0.5, 1, 3])
def test_an_interval_of_all_times_is_none(scale):
    model, x, c = small_model(lively=True), noise(2, torch.float), torch.eye(2)
    whole = ddim(guide(model, c, scale, interval=(0, 1)), x, SCHEDULE, 5)
    assert torch.equal(last(whole), last(ddim(guide(model, c, scale), x, SCHEDULE, 5)))


@pytest.mark.parametrize("T", [10, 50, 500])
def test_both_ends_of_an_interval_belong_to_it(T):
    """Also where t/T has no exact float32."""
    for low, high in ((1, T), (T // 5, T // 2), (T // 3, T // 3)):
        model, x = Counting(), torch.zeros(1, *SHAPE)
        eps_fn = guide(model, CONTEXT[:1], 2.0, interval=(low / T, high / T))
        last(ddim(eps_fn, x, Schedule.linear(T), T))
        guided = [T - i for i, n in enumerate(model.batches) if n == 2]
        assert guided == [*range(high, low - 1, -1)]


def test_scale_0_in_an_interval_is_no_context_there_and_context_elsewhere():
    model, x = Counting(), torch.zeros(2, *SHAPE)
    eps_fn = guide(model, CONTEXT, 0, interval=(0.25, 0.5))
    assert (eps_fn(x, torch.full((2,), 0.3)) == 0).all()
    assert (eps_fn(x, torch.full((2,), 0.6)) == 3).all()
    assert model.batches == [2, 2]


def test_within_takes_one_eps_fn_or_the_other():
    x, t = noise(3), torch.tensor([0.1, 0.5, 0.9])
    eps = within((0.4, 0.6), lambda x, t: x, lambda x, t: 2 * x)(x, t)
    assert torch.equal(eps, torch.stack([2 * x[0], x[1], 2 * x[2]]))


@pytest.mark.parametrize("scale", [0, 0.5, 1, 2.5])
@pytest.mark.parametrize("c", [None, torch.eye(2)])
def test_autoguidance_pushes_away_from_a_worse_network(scale, c):
    model, bad = small_model(lively=True), small_model(width=32, seed=1, lively=True)
    x, t = noise(2, torch.float), torch.full((2,), 0.5)
    good, worse = model(x, t, c), bad(x, t, c)
    eps = guide(model, c, scale, worse=bad)(x, t)
    assert torch.allclose(eps, worse + scale * (good - worse), atol=1e-5)
    assert not torch.allclose(good, worse, atol=1e-2)


def test_autoguidance_costs_an_evaluation_of_each_inside_its_interval():
    model, bad, x = Counting(), Counting(), torch.zeros(2, *SHAPE)
    eps_fn = guide(model, CONTEXT, 2.0, interval=(0.25, 0.5), worse=bad)
    last(ddim(eps_fn, x, SCHEDULE, 20))
    assert model.batches == [2] * 20 and bad.batches == [2] * 6  # 250, 225 … 125
    model.batches, bad.batches = [], []
    last(ddim(guide(model, CONTEXT, 1.0, worse=bad), x, SCHEDULE, 20))
    assert model.batches == [2] * 20 and bad.batches == []


@pytest.mark.parametrize(
    ("named", "wrong"),
    [
        ({"interval": (0.5, 0.2)}, "interval: two numbers low <= high"),
        ({"interval": (0, 500)}, r"interval: .* in \[0, 1\]"),
        ({"interval": 0.5}, "interval: two numbers"),
        ({"worse": small_model(3)}, "worse: a network with in_channels 1"),
        ({"worse": small_model(1, 5)}, "worse: a network with context_size 2"),
        ({"worse": "bad.safetensors"}, "worse: something to call"),
    ],
)
def test_guidance_that_makes_no_sense_is_refused_at_the_call(named, wrong):
    with pytest.raises(ValueError, match=f"^{wrong}.* is needed, got "):
        guide(small_model(), torch.eye(2), 2.0, **named)


def test_last_keeps_only_the_end():
    steps = (Step(t, torch.full((1,), float(t)), torch.zeros(1)) for t in (2, 1, 0))
    assert last(steps) == 0.0


# ── upwards, and between two latents ────────────────────────────────────────────────


def test_a_gaussian_image_has_the_latent_of_the_closed_form():
    """The exact map of the ODE, upwards; DDIM's Euler steps have order 1."""
    schedule, x0 = lambda_schedule(4096, first=5.0), 0.3 + 0.5 * noise(8)
    exact = on_the_ode(x0, 1, float(schedule.alpha_bar[-1]))
    errors = []
    for stride in (32, 16, 8, 4, 2):
        times = [*range(4096, 1, -stride), 1, 0]
        latent = last(invert(gaussian(schedule), x0, schedule, times))
        errors.append(float((latent - exact).abs().max()))
    assert errors[-1] < 2e-2
    halves(errors)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_refined_often_inversion_is_undone_by_sampling(spacing):
    eps_fn, x0 = gaussian(SCHEDULE), 0.3 + 0.5 * noise(4)
    errors = []
    for refine in (0, 1, 2, 4, 60):
        latent = last(invert(eps_fn, x0, SCHEDULE, 20, spacing, refine))
        back = last(ddim(eps_fn, latent, SCHEDULE, 20, spacing=spacing))
        errors.append(float((back - x0).abs().max()))
    assert all(a > b for a, b in pairwise(errors)), errors
    assert errors[-1] < 1e-6 < 1e-3 < errors[0]


def test_each_step_upwards_is_undone_by_the_step_down_with_the_same_noise():
    schedule, calls = SCHEDULE, []

    def eps_fn(x, t):
        calls.append((round(float(t[0]) * 500), x, stub(x, t)))
        return calls[-1][2]

    x = x0 = noise(3)
    steps = list(invert(eps_fn, x0, schedule, 30, refine=2))
    ab, times = schedule.alpha_bar.tolist(), schedule.timesteps(30)[::-1]
    assert [step.t for step in steps] == times[1:]
    assert [t for t, *_ in calls] == [t for t in times[1:] for _ in range(3)]
    for s, step, first, second, third in zip(
        times, steps, calls[::3], calls[1::3], calls[2::3], strict=False
    ):
        eps = third[2]
        back, _ = ddim_step(step.x, eps, ab[step.t], ab[s])
        torch.testing.assert_close(back, x, atol=1e-9, rtol=0)
        torch.testing.assert_close(
            step.x0, (x - (1 - ab[s]) ** 0.5 * eps) / ab[s] ** 0.5
        )
        assert torch.equal(first[1], x) and not torch.equal(second[1], third[1])
        x = step.x


def test_slerp_goes_round_at_an_even_pace():
    """Latents of one length stay of it, and each w is that share of the angle."""
    a, b = noise(5), noise(5, seed=1)
    a, b = (x / x.flatten(1).norm(dim=1).view(-1, 1, 1, 1) for x in (a, b))
    whole = (a * b).sum((1, 2, 3)).acos()
    for w in (0.0, 0.25, 0.5, 0.9, 1.0):
        x = slerp(a, b, w)
        torch.testing.assert_close(x.flatten(1).norm(dim=1), torch.ones(5).double())
        angle = (a * x).sum((1, 2, 3)).clamp(max=1).acos()
        torch.testing.assert_close(angle, w * whole, atol=1e-7, rtol=1e-7)


def test_slerp_takes_a_weight_for_each_pair():
    a, b, w = noise(3), noise(3, seed=1), torch.tensor([0.0, 0.3, 1.0])
    alone = [slerp(a[i : i + 1], b[i : i + 1], float(w[i])) for i in range(3)]
    torch.testing.assert_close(slerp(a, b, w), torch.cat(alone))
    assert torch.equal(slerp(a, b, w)[0], a[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.double])
@pytest.mark.parametrize("distance", [0.0, 1e-6, 1e-3])
def test_slerp_between_neighbours_is_a_straight_line(distance, dtype):
    a = noise(4, dtype)
    b = a + distance * noise(4, dtype, seed=1)
    x = slerp(a, b, 0.3)
    torch.testing.assert_close(x, 0.7 * a + 0.3 * b, atol=1e-6, rtol=0)


# ── other types ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.half, torch.double])
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_the_times_are_float32_and_the_guess_of_any_type(sampler, dtype):
    """In bfloat16 the times 257/500 and 258/500 would be the same number."""
    asked = []

    def eps_fn(x, t):
        asked.append(t)
        return stub(x.double(), t.double())

    x = noise(2, dtype) / 4
    *_, step = sampler(eps_fn, x, SCHEDULE)
    assert step.x.dtype == dtype
    seen = torch.stack(asked)[:, 0]
    assert seen.dtype == torch.float32 and len(seen.unique()) == len(seen)
    assert torch.equal((500 * seen).round() / 500, seen)


class Unchecked(torch.nn.Linear):
    """A network without rules of its own, such as a lesson's."""

    def __init__(self):
        super().__init__(2, 1)

    def forward(self, x, t, c):
        return x + super().forward(c)[:, :, None, None]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.half, torch.double])
def test_images_and_contexts_are_given_the_type_of_the_network(dtype):
    model = small_model(lively=True)
    x, c = noise(2, torch.float), torch.eye(2)
    expected = last(ddim(guide(model, c, 2.0), x, SCHEDULE, 5))
    assert torch.equal(
        last(ddim(guide(model, c.to(dtype), 2.0), x, SCHEDULE, 5)), expected
    )
    got = last(ddim(guide(model, c, 2.0), x.to(dtype), SCHEDULE, 5))
    assert got.dtype == dtype
    assert torch.allclose(got.float(), expected, rtol=0.1, atol=0.1)
    eps_fn = guide(Unchecked(), c.to(dtype))
    assert eps_fn(x, torch.ones(2)).dtype == torch.float32


def test_a_guess_of_another_shape_is_refused():
    for wrong in (lambda x, t: x[:1], lambda x, t: (x,), lambda x, t: None):
        for sampler in SAMPLERS.values():
            with pytest.raises(ValueError, match="^eps_fn: .*the noise"):
                next(sampler(wrong, noise(2), SCHEDULE))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.half])
def test_slerp_in_half_precision_has_the_angles_of_float32(dtype):
    a, b = noise(2, dtype), noise(2, dtype, seed=1)
    assert torch.equal(slerp(a, b, 0.3), slerp(a.float(), b.float(), 0.3))
