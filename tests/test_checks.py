"""The exercises' self-checks: right answers pass, wrong and missing ones say why."""

import re

import nbformat
import pytest
import torch

import lesson_utils
from lesson_utils.checks import check
from tools.lessons import lesson_paths

CHECKS = [name for name in lesson_utils.__all__ if name.startswith("check_")]
EXERCISE = re.compile(r"def (my_\w+)\(.*\blu\.(check_\w+)\(\1\)", re.DOTALL)
SOLUTION = re.compile(r"<summary>Solution</summary>\s+```python\n(.*?)```", re.DOTALL)


def solutions() -> dict[str, tuple[str, str]]:
    """{check: (name, code)} of the function in each exercise's folded solution."""
    found = {}
    for path in lesson_paths():
        cells = nbformat.read(path, as_version=4).cells
        for i, cell in enumerate(cells):
            exercise = (
                EXERCISE.search(cell.source) if cell.cell_type == "code" else None
            )
            if exercise:
                [code] = SOLUTION.findall(cells[i + 1].source)
                found[exercise[2]] = exercise[1], code
    return found


WRONG = {
    "check_noised": lambda x0, ab, eps: ab**0.5 * x0 + (1 - ab) * eps,
    "check_levels": lambda betas: (
        [1.0, *(1 - torch.tensor(betas)).cumprod(0).tolist()[1:], 0.0]
    ),
    "check_posterior": lambda ab_t, ab_s: 1 - ab_t / ab_s,
    "check_times": lambda T, steps: list(range(T, -1, -(T // steps))),
    "check_sigma": lambda ab_t, ab_s, eta: eta * (1 - ab_t / ab_s) ** 0.5,
    "check_clipped": lambda x, eps, ab: eps,
    "check_average": lambda average, weights, decay: (
        decay * weights + (1 - decay) * average
    ),
    "check_guess": lambda x_t, eps, ab: (x_t - (1 - ab) * eps) / ab**0.5,
    "check_weight": lambda ab, gamma: ab**gamma,
    "check_guided": lambda c, free, scale: c + scale * (c - free),
    "check_mixed": lambda names, shares: torch.tensor([list(shares.values())]),
    "check_embedding": lambda t, dim: [0.0] * dim,
    "check_parameters": lambda c_in, c_out, dim: 9 * c_in * c_out,
    "check_attention": lambda q, k, v: (q @ k.T).softmax(1) @ v,
    "check_sigma_hat": lambda ab_t, ab_s: 1 - ab_t / ab_s,
    "check_frechet": lambda mean, variance, real_mean, real_variance: (
        (mean - real_mean).square().sum() + (variance - real_variance).square().sum()
    ),
    "check_frontier": lambda pairs: [pairs.index(min(pairs))],
    "check_length": lambda w: 1.0,
    "check_blended": lambda noises, weights: torch.einsum(
        "n,nchw->chw", weights / weights.sum(), noises
    ),
    "check_refined": lambda eps_of, x_s, ab_s, ab_t, refine: lesson_utils.ddim_step(
        x_s, eps_of(x_s), ab_s, ab_t
    )[0],
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_solution_in_the_lesson_passes(name, capsys):
    function, code = solutions()[name]
    scope = {"torch": torch}
    exec(code, scope)
    assert getattr(lesson_utils, name)(scope[function])
    assert "yes: largest difference" in capsys.readouterr().out


@pytest.mark.parametrize("name", CHECKS)
def test_a_wrong_answer_is_told_where(name, capsys):
    assert not getattr(lesson_utils, name)(WRONG[name])
    assert "not yet" in capsys.readouterr().out


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("answer", [None, ...])
def test_a_stub_is_not_yet_and_raises_nothing(name, answer, capsys):
    def stub(*arguments):
        return answer

    assert not getattr(lesson_utils, name)(stub)
    assert "not yet: stub gives" in capsys.readouterr().out


def test_an_answer_that_raises_or_is_nan_is_not_yet(capsys):
    assert not check(lambda x: 1 / 0, lambda x: 1.0, [(1.0,)])
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert not check(lambda x: float("nan"), lambda x: 1.0, [(1.0,)])
    assert "off by nan" in capsys.readouterr().out
    assert not check(lambda x: [1.0, 2.0], lambda x: 1.0, [(1.0,)])
    assert "shape" in capsys.readouterr().out
