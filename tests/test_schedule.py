"""Schedule: its tensor, its times, its noising."""

import math
from itertools import pairwise

import pytest
import torch
from guards import times_fall
from hypothesis import given
from hypothesis import strategies as st
from small import SCHEDULE

from lesson_utils import Schedule

MAKES = [Schedule.linear, Schedule.cosine]


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("T", [1, 2, 7, 20, 21, 50, 100, 500, 1000])
def test_alpha_bar_starts_at_one_and_falls(make, T):
    schedule = make(T)
    ab = schedule.alpha_bar
    assert schedule.T == T and ab.shape == (T + 1,) and ab.dtype == torch.float32
    assert ab[0] == 1 and (ab.diff() < 0).all() and ab[-1] > 0


def test_linear_is_the_cumulative_product_of_straight_betas():
    betas = [0.1 / 500 + i * (20 - 0.1) / 500 / 499 for i in range(500)]
    products = [math.prod(1 - beta for beta in betas[:t]) for t in range(501)]
    assert SCHEDULE.alpha_bar.tolist() == pytest.approx(products, rel=2e-7)


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("T", [100, 200, 500, 1000])
def test_the_end_is_near_zero_and_not_too_near(make, T):
    ab = make(T).alpha_bar.double()
    assert 0.004 <= ab[T].sqrt() <= 0.05
    assert (ab[T - T // 20] / ab[T]).sqrt() - 1 < 3  # first of 20 steps


@pytest.mark.parametrize("T", [100, 250, 500, 1000])
def test_linear_leaves_the_same_for_any_T(T):
    assert Schedule.linear(T).alpha_bar[T].sqrt() == pytest.approx(0.006, abs=0.0015)


SPACINGS = ["uniform", "linspace", "quad", "logsnr"]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("T", [1, 2, 3, 10, 37, 100, 500, 1000])
def test_every_number_of_steps_has_its_times(T, spacing):
    schedule = Schedule.linear(T)
    times_fall(lambda T, *how: schedule.timesteps(*how), T, spacing)


def test_times_of_the_formulas():
    times = SCHEDULE.timesteps
    assert times(20) == list(range(500, -1, -25))
    assert times(500, "quad") == list(range(500, -1, -1))
    assert times(3) == [500, 333, 167, 0]
    assert times(3, "linspace") == [500, 250, 1, 0]
    assert times(1, "linspace") == [500, 0]
    assert times(4, "quad") == [500, 281, 125, 31, 0]
    assert times([500, 400, 7, 0]) == [500, 400, 7, 0]
    assert times([500, 400, 7]) == [500, 400, 7]


@pytest.mark.parametrize("make", MAKES)
def test_logsnr_is_even_in_lambda_and_ends_at_1_and_0(make):
    schedule = make(1000)
    lam = schedule.alpha_bar[1:].double().logit() / 2  # of t = 1 … T
    for steps in (2, 3, 5, 10, 20):
        *times, one, zero = schedule.timesteps(steps, "logsnr")
        assert (one, zero) == (1, 0) and times[0] == 1000
        wanted = torch.linspace(lam[-1], lam[0], steps, dtype=torch.double)
        for t, where in zip([*times, one], wanted, strict=True):
            nearest = int((lam - where).abs().argmin()) + 1
            assert t == nearest, (steps, t)


def test_logsnr_at_its_ends():
    times = SCHEDULE.timesteps
    assert times(1, "logsnr") == [500, 0] and times(2, "logsnr") == [500, 1, 0]
    assert times(500, "logsnr") == list(range(500, -1, -1))
    assert Schedule.linear(1).timesteps(1, "logsnr") == [1, 0]


@given(
    st.lists(st.floats(2**-20, 1, exclude_max=True, width=32), min_size=1, max_size=40),
    st.data(),
)
def test_logsnr_has_its_times_for_any_schedule(levels, data):
    """Also where alpha_bar is nearly flat, or falls in one jump."""
    ab = sorted({1.0, *levels}, reverse=True)
    schedule, T = Schedule(ab), len(ab) - 1
    steps = data.draw(st.integers(1, T))
    found = schedule.timesteps(steps, "logsnr")
    assert len(found) == steps + 1 and found[0] == T and found[-1] == 0
    assert all(t > s for t, s in pairwise(found))


@given(st.integers(1, 500), st.integers(0, 2**32 - 1))
def test_add_noise_is_eq_4(t, seed):
    g = torch.Generator().manual_seed(seed)
    x0, eps = torch.randn(2, 3, 1, 4, 4, generator=g, dtype=torch.double)
    times = torch.tensor([0, t, 500])
    x_t = SCHEDULE.add_noise(x0, times, eps)
    for i, time in enumerate(times.tolist()):
        ab = float(SCHEDULE.alpha_bar[time])
        expected = math.sqrt(ab) * x0[i] + math.sqrt(1 - ab) * eps[i]
        assert torch.allclose(x_t[i], expected, atol=1e-6)
    assert torch.equal(x_t[0], x0[0])
    assert SCHEDULE.add_noise(x0.float(), times, eps.float()).dtype == torch.float32


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.half, torch.float, torch.double]
)
def test_a_little_noise_is_a_little_noise_in_any_type(dtype):
    """At t = 5 its share is 0.0424; half precision has no 1 - alpha_bar."""
    x0, eps = torch.zeros(9, 1, 4, 4, dtype=dtype), torch.ones(9, 1, 4, 4)
    x_t = SCHEDULE.add_noise(x0, torch.arange(1, 10), eps)
    share = (1 - SCHEDULE.alpha_bar[1:10].double()).sqrt()
    assert share[4] == pytest.approx(0.0424, abs=5e-5) and x_t.dtype == dtype
    assert torch.allclose(x_t[:, 0, 0, 0].double(), share, rtol=2**-8)


@pytest.mark.parametrize(
    "kind",
    [torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.int, torch.Tensor.float],
)
def test_times_of_other_types_are_the_same_times(kind):
    x0, eps = torch.randn(2, 2, 1, 4, 4)
    times = torch.tensor([1, 500])
    expected = SCHEDULE.add_noise(x0, times, eps)
    assert torch.equal(SCHEDULE.add_noise(x0, kind(times), eps), expected)
    assert torch.equal(SCHEDULE.add_noise(x0, times, eps.double()), expected)


def test_the_schedule_is_frozen():
    given = torch.tensor([1.0, 0.5, 0.1])
    schedule = Schedule(given)
    given[1] = 7
    assert schedule.alpha_bar.tolist() == pytest.approx([1, 0.5, 0.1])
    with pytest.raises(AttributeError):
        schedule.alpha_bar = torch.ones(3)
