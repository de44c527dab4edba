"""The exercises' self-checks: right answers pass, wrong and missing ones say why."""

import re
from functools import cache, partial
from itertools import pairwise

import nbformat
import pytest
import torch

from lesson_utils import ddim_step, exercises
from tools.lessons import lesson_paths

EXERCISE = re.compile(r"def (my_\w+)\(.*\blu\.exercises\.(\w+)\(\1\)", re.DOTALL)
SOLUTION = re.compile(r"<summary>Solution</summary>\s+```python\n(.*?)```", re.DOTALL)


@cache
def solutions() -> dict[str, tuple[str, str]]:
    """{exercise: (name, code)} of the function in its folded solution."""
    found = {}
    for path in lesson_paths():
        cells = nbformat.read(path, as_version=4).cells
        for cell, after in pairwise(cells):
            exercise = EXERCISE.search(cell.source)
            if cell.cell_type == "code" and exercise:
                [code] = SOLUTION.findall(after.source)
                found[exercise[2]] = exercise[1], code
    return found


def averaged(average, weights, decay):
    return decay * weights + (1 - decay) * average


def all_added(mean, variance, real_mean, real_variance):
    return (mean - real_mean).square().sum() + (variance - real_variance).square().sum()


def shared(noises, weights):
    return torch.einsum("n,nchw->chw", weights / weights.sum(), noises)


def asked_once(eps_of, x_s, ab_s, ab_t, refine):
    return ddim_step(x_s, eps_of(x_s), ab_s, ab_t)[0]


WRONG = {
    "noised": lambda x0, ab, eps: ab**0.5 * x0 + (1 - ab) * eps,
    "levels": lambda betas: [1.0, *(1 - torch.tensor(betas)).cumprod(0)[1:], 0.0],
    "posterior": lambda ab_t, ab_s: 1 - ab_t / ab_s,
    "embedding": lambda t, dim: [0.0] * dim,
    "parameters": lambda c_in, c_out, dim: 9 * c_in * c_out,
    "attention": lambda q, k, v: (q @ k.T).softmax(1) @ v,
    "average": averaged,
    "guess": lambda x_t, eps, ab: (x_t - (1 - ab) * eps) / ab**0.5,
    "weight": lambda ab, gamma: ab**gamma,
    "guided": lambda c, free, scale: c + scale * (c - free),
    "mixed": lambda names, shares: torch.tensor([list(shares.values())]),
    "times": lambda T, steps: list(range(T, -1, -(T // steps))),
    "sigma": lambda ab_t, ab_s, eta: eta * (1 - ab_t / ab_s) ** 0.5,
    "clipped": lambda x, eps, ab: eps,
    "sigma_hat": lambda ab_t, ab_s: 1 - ab_t / ab_s,
    "frechet": all_added,
    "frontier": lambda pairs: [pairs.index(min(pairs))],
    "length": lambda w: 1.0,
    "blended": shared,
    "refined": asked_once,
}
each_exercise = pytest.mark.parametrize("name", WRONG)


def test_every_exercise_of_the_lessons_is_here_and_no_other():
    assert WRONG.keys() == solutions().keys() == set(exercises.__all__) - {"compare"}


@each_exercise
def test_the_solution_in_the_lesson_passes(name, capsys):
    function, code = solutions()[name]
    scope = {"torch": torch}
    exec(code, scope)
    assert getattr(exercises, name)(scope[function])
    assert "yes: largest difference" in capsys.readouterr().out


@each_exercise
def test_a_wrong_answer_is_told_where(name, capsys):
    assert not getattr(exercises, name)(WRONG[name])
    said = rf"not yet: {WRONG[name].__name__}\(.*\) (is off by|has shape)"
    assert re.match(said, capsys.readouterr().out)


@each_exercise
@pytest.mark.parametrize("answer", [None, ...])
def test_a_stub_is_not_yet_and_raises_nothing(name, answer, capsys):
    def stub(*arguments):
        return answer

    assert not getattr(exercises, name)(stub)
    assert capsys.readouterr().out == f"not yet: stub gives {answer} so far\n"


@each_exercise
@pytest.mark.parametrize(
    "answer", [3, None, "text", lambda: 1, partial(lambda *a: None), lambda *a: "text"]
)
def test_nothing_is_raised_whatever_is_given(name, answer, capsys):
    assert getattr(exercises, name)(answer) is False
    assert capsys.readouterr().out.startswith("not yet: ")


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda x: 1 / 0, "(2) raises ZeroDivisionError"),
        (lambda x: float("nan"), "(2) is off by nan"),
        (lambda x: [1.0, 2.0], "(2) has shape (2,), expected ()"),
        (lambda x: 1.25, "(2) is off by 0.25"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(answer, words, capsys):
    assert not exercises.compare(answer, lambda x: 1.0, [(2.0,)])
    assert words in capsys.readouterr().out


def test_an_answer_may_change_its_arguments(capsys):
    cases = [(torch.ones(3),), (torch.zeros(3),)]
    for _ in range(2):
        assert exercises.compare(lambda x: x.add_(1), lambda x: x + 1, cases)
    assert "in 2 cases" in capsys.readouterr().out
