"""Mixtures: what is exact about them, against oracles that know nothing of them."""

import pytest
import torch
from torch.distributions import Normal

import lesson_utils as lu
from lesson_utils import Mixture, Schedule, exact

LEVELS = (0.02, 0.3, 0.9, 0.999)
SHAPES = [(), (2,), (1, 2, 3)]
WEIGHTS = [0.1, 0.2, 0.3, 0.4, 0.0]
NAN = float("nan")


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.double)


def same(ours, theirs, atol=1e-9):
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=atol)


# Against closed forms, numeric integration and automatic derivatives


@pytest.mark.parametrize("ab", [*LEVELS, 1.0])
@pytest.mark.parametrize("std", [0.3, 1.0, 2.0])
def test_one_gaussian_is_known_in_closed_form(ab, std):
    mean, x = 0.7, random(9)
    one = Mixture(torch.tensor([mean]).double(), std=std)
    variance = ab * std**2 + 1 - ab  # of x_t, whose mean is √ab · mean
    away = x - ab**0.5 * one.points
    there = Normal(ab**0.5 * one.points, variance**0.5)
    same(one.log_density(x, ab), there.log_prob(x))
    same(one.score(x, ab), -away / variance)
    same(one.eps(x, ab), (1 - ab) ** 0.5 * away / variance)
    # Linear regression: the covariance of x_0 and x_t over the variance of x_t.
    slope = ab**0.5 * std**2 / variance
    same(one.best_guess(x, ab), one.points + slope * away)


@pytest.mark.parametrize("std", [0.0, 0.4])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ab", LEVELS)
def test_the_score_is_the_gradient_and_eps_and_the_guess_are_its_other_names(
    shape, std, ab
):
    mixture = Mixture(random(5, *shape), WEIGHTS, std)
    x = random(7, *shape, seed=1).requires_grad_()
    density = mixture.log_density(x, ab)
    [gradient] = torch.autograd.grad(density.sum(), x)
    x = x.detach()
    score, eps = mixture.score(x, ab), mixture.eps(x, ab)
    same(score, gradient)
    same(eps, -((1 - ab) ** 0.5) * score)
    guess = mixture.best_guess(x, ab)
    assert guess.shape == eps.shape == x.shape and density.shape == (7,)
    same(ab**0.5 * guess + (1 - ab) ** 0.5 * eps, x)  # DDPM eq. 4


@pytest.mark.parametrize("ab", LEVELS)
@pytest.mark.parametrize("std", [0.1, 0.5])
def test_the_guess_is_the_mean_by_numeric_integration(std, ab):
    points = torch.tensor([-1.0, 0.8]).double()
    mixture = Mixture(points, [1, 3], std)
    x0 = torch.linspace(-6, 6, 40_001, dtype=torch.double)
    low, high = (Normal(point, std).log_prob(x0).exp() for point in points)
    prior = (low + 3 * high) / 4
    for x in torch.tensor([-2.0, -0.3, 0.0, 1.1]).double():
        seen = Normal(ab**0.5 * x0, (1 - ab) ** 0.5).log_prob(x).exp()
        mean = torch.trapezoid(x0 * prior * seen) / torch.trapezoid(prior * seen)
        guess = mixture.best_guess(x[None], ab)
        assert float(guess) == pytest.approx(float(mean), abs=1e-8)


@pytest.mark.parametrize("ab", LEVELS)
def test_the_guess_has_the_least_squared_error(ab):
    mixture = Mixture(torch.tensor([-1.0, 0.2, 1.0]), [2, 1, 1])
    x0 = mixture.sample(200_000, torch.Generator().manual_seed(0))
    x = ab**0.5 * x0 + (1 - ab) ** 0.5 * random(200_000, seed=1).float()
    guess = mixture.best_guess(x, ab)
    error = ((guess - x0) ** 2).mean()
    for other in (guess + 0.03, 0.97 * guess, guess + 0.03 * x, x / ab**0.5):
        assert ((other - x0) ** 2).mean() > error


def test_points_are_the_limit_of_narrow_gaussians():
    points, x = random(5, 2), random(6, 2, seed=1)
    limit = Mixture(points, WEIGHTS)
    for ab in LEVELS:
        for name in ("best_guess", "score", "eps", "log_density"):
            narrow = getattr(Mixture(points, WEIGHTS, 1e-7), name)
            same(getattr(limit, name)(x, ab), narrow(x, ab), atol=1e-6)


def test_two_equal_points_are_a_hyperbolic_tangent():
    two, x, ab = Mixture(torch.tensor([-1.0, 1.0]).double()), random(9), 0.3
    same(two.best_guess(x, ab), torch.tanh(ab**0.5 * x / (1 - ab)))


# What sizes, types and parts do


def test_far_points_and_many_dimensions_stay_finite():
    far = Mixture(torch.tensor([-1e4, 1e4]))
    x = torch.tensor([-3e4, 0.0, 2.0])
    same(far.best_guess(x, 0.5), torch.tensor([-1e4, 0.0, 1e4]))
    assert far.log_density(x, 0.5).isfinite().all()
    images = Mixture(random(20, 3, 16, 16).float())
    x = 0.9995**0.5 * images.points + 0.0005**0.5 * random(20, 3, 16, 16, seed=1)
    same(images.best_guess(x.float(), 0.9995), images.points, atol=1e-5)


@pytest.mark.parametrize("std", [0.0, 0.4])
@pytest.mark.parametrize("name", ["best_guess", "score", "eps", "log_density"])
def test_parts_levels_and_types_change_nothing(monkeypatch, name, std):
    mixture, x = Mixture(random(5, 2), WEIGHTS, std), random(7, 2, seed=1)
    function = getattr(mixture, name)
    whole = function(x, 0.3)
    levels = torch.linspace(0.1, 0.9, 7)
    mixed = function(x, levels)
    for i, level in enumerate(levels.tolist()):
        same(mixed[i : i + 1], function(x[i : i + 1], level))
    monkeypatch.setattr(exact, "LARGEST", 11)  # two rows at a time
    same(function(x, 0.3), whole)
    same(function(x, levels), mixed)
    single = function(x.float(), torch.tensor(0.3))
    assert single.dtype == torch.float32
    assert function(x.half(), 0.3).dtype == torch.float16
    same(single.double(), whole, atol=1e-5)


def test_weights_need_no_sum_and_a_part_is_a_mixture():
    points, x = random(5, 2), random(4, 2, seed=1)
    three = Mixture(points[:3])
    same(Mixture(points, [2, 2, 2, 0, 0]).best_guess(x, 0.5), three.best_guess(x, 0.5))
    same(Mixture(points[:3], [7, 7, 7]).score(x, 0.5), three.score(x, 0.5))


# Samples


def test_samples_of_points_are_points():
    points = random(4, 1, 2, 2)
    mixture = Mixture(points, [1, 0, 3, 4])
    found = mixture.sample(4000, torch.Generator().manual_seed(0))
    which = torch.cdist(found.flatten(1), points.flatten(1)).argmin(1)
    assert torch.equal(found, points[which])
    shares = which.bincount(minlength=4) / 4000
    same(shares, torch.tensor([1, 0, 3, 4]) / 8, atol=0.03)
    again = mixture.sample(4000, torch.Generator().manual_seed(0))
    assert torch.equal(again, found)
    equal = Mixture(points).sample(4000)
    assert (
        torch.cdist(equal.flatten(1), points.flatten(1)).argmin(1).unique().numel() == 4
    )


def test_samples_of_gaussians_have_their_spread():
    mixture = Mixture(torch.tensor([[0.0, 3.0]]), std=0.5)
    found = mixture.sample(20_000, torch.Generator().manual_seed(0))
    same(found.mean(0), torch.tensor([0.0, 3.0]), atol=0.02)
    same(found.std(0), torch.tensor([0.5, 0.5]), atol=0.02)


# As a denoiser


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_ddpm_gives_the_gaussian_back(variance):
    one, schedule = Mixture(torch.full((1, 1, 1, 2), 0.4), std=0.6), Schedule.linear()
    noise = lu.initial_noise(1, (1, 8000, 2)).view(8000, 1, 1, 2)
    random = torch.Generator().manual_seed(0)
    x = lu.last(lu.ddpm(one.eps_fn(schedule), noise, schedule, variance, random))
    assert float(x.mean()) == pytest.approx(0.4, abs=0.02)
    assert float(x.std()) == pytest.approx(0.6, abs=0.02)


def test_ddpm_gives_points_back_in_their_shares():
    points, schedule = torch.tensor([-1.0, 0.2, 1.0]), Schedule.linear()
    mixture = Mixture(points.view(3, 1, 1, 1), [1, 2, 1])
    noise = lu.initial_noise(1, (4000,)).view(4000, 1, 1, 1)
    random = torch.Generator().manual_seed(0)
    x = lu.last(lu.ddpm(mixture.eps_fn(schedule), noise, schedule, generator=random))
    away = (x.view(-1, 1) - points).abs()
    assert away.min(1).values.max() < 1e-3
    shares = away.argmin(1).bincount() / 4000
    same(shares, torch.tensor([0.25, 0.5, 0.25]), atol=0.03)


def test_eps_fn_takes_each_image_at_its_own_time():
    mixture, schedule = Mixture(random(5, 1, 2, 3)), Schedule.linear(10)
    x, times = random(3, 1, 2, 3, seed=1), [1, 7, 10]
    found = mixture.eps_fn(schedule)(x, torch.tensor(times) / 10)
    for i, t in enumerate(times):
        same(found[i], mixture.eps(x[i : i + 1], float(schedule.alpha_bar[t]))[0])


# What makes no sense


@pytest.mark.parametrize(
    ("named", "arguments"),
    [
        ("points", dict(points=[1.0, 2.0])),
        ("points", dict(points=torch.tensor(1.0))),
        ("points", dict(points=torch.arange(3))),
        ("points", dict(points=torch.zeros(0, 2))),
        ("points", dict(points=torch.tensor([1.0, NAN]))),
        ("weights", dict(weights=[1.0])),
        ("weights", dict(weights=[1.0, -1.0])),
        ("weights", dict(weights=[0, 0])),
        ("weights", dict(weights=[1, NAN])),
        ("weights", dict(weights="equal")),
        ("std", dict(std=-0.1)),
        ("std", dict(std="0")),
    ],
)
def test_what_is_no_mixture_is_refused(named, arguments):
    with pytest.raises(ValueError, match=rf"^{named}: .* is needed, got "):
        Mixture(**(dict(points=torch.tensor([-1.0, 1.0])) | arguments))


@pytest.mark.parametrize(
    ("named", "x", "ab"),
    [
        ("x", random(3), 0.5),
        ("x", random(3, 3), 0.5),
        ("x", random(0, 2), 0.5),
        ("x", random(3, 2, 1), 0.5),
        ("x", [[1.0, 2.0]], 0.5),
        ("x", torch.ones(3, 2, dtype=torch.int64), 0.5),
        ("x", torch.zeros(3, 2, device="meta"), 0.5),
        ("ab_t", random(3, 2), 0),
        ("ab_t", random(3, 2), 1.0),
        ("ab_t", random(3, 2), NAN),
        ("ab_t", random(3, 2), "half"),
        ("ab_t", random(3, 2), torch.tensor([0.5, 0.5])),
        ("ab_t", random(3, 2), torch.tensor([0.5, 1.5, 0.5])),
    ],
)
@pytest.mark.parametrize("name", ["best_guess", "score", "eps", "log_density"])
def test_what_does_not_fit_is_refused(name, named, x, ab):
    mixture = Mixture(random(4, 2))
    with pytest.raises(ValueError, match=rf"^{named}: .* is needed, got "):
        getattr(mixture, name)(x, ab)


def test_other_arguments_that_make_no_sense_are_refused():
    mixture = Mixture(random(4, 2))
    with pytest.raises(ValueError, match="^n: "):
        mixture.sample(0)
    with pytest.raises(ValueError, match="^generator: "):
        mixture.sample(2, 5)
    with pytest.raises(ValueError, match="^schedule: "):
        mixture.eps_fn(500)
