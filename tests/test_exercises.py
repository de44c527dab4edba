"""The exercises' self-checks: right answers pass, wrong and missing ones say why."""

import re
from functools import cache, partial
from itertools import pairwise

import nbformat
import pytest
import torch

from lesson_utils import exercises
from lesson_utils.exercises.checks import compare, exercise, prediction
from tools.lessons import lesson_paths

CALL = re.compile(r"\blu\.exercises\.(\w+)\((my_\w+)")
SOLUTION = re.compile(r"<summary>Solution</summary>\s+```python\n(.*?)```", re.DOTALL)


@cache
def solutions() -> dict[str, tuple[str, str]]:
    """{exercise: (name, code)} of what its folded solution defines."""
    found = {}
    for path in lesson_paths():
        cells = nbformat.read(path, as_version=4).cells
        for cell, after in pairwise(cells):
            call = CALL.search(cell.source)
            if cell.cell_type == "code" and call:
                [code] = SOLUTION.findall(after.source)
                found[call[1]] = call[2], code
    return found


def solved(name: str):
    """What the folded solution of an exercise defines."""
    defined, code = solutions()[name]
    scope = {"torch": torch, "pi": torch.pi}
    exec(code, scope)
    return scope[defined]


NAMES = [name for name in exercises.__all__ if name != "compare"]
CODE = [name for name in NAMES if not hasattr(getattr(exercises, name), "right")]
GUESSES = [name for name in NAMES if name not in CODE]
each_code = pytest.mark.parametrize("name", CODE)
each_guess = pytest.mark.parametrize("name", GUESSES)
MEASURED = 0.37  # what an experiment of these tests gives


def of_mistakes(names):
    return [
        pytest.param(name, words, wrong, id=f"{name}-{words[:30]}")
        for name in names
        for words, wrong in getattr(exercises, name).mistakes.items()
    ]


def test_every_exercise_of_the_lessons_is_here_and_no_other():
    assert solutions().keys() == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_likely_mistakes_are_known(name):
    assert len(getattr(exercises, name).mistakes) >= 2


@each_code
def test_the_solution_in_the_lesson_passes(name, capsys):
    assert getattr(exercises, name)(solved(name))
    assert "yes: largest difference" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "words", "wrong"), of_mistakes(CODE))
def test_a_mistake_is_named(name, words, wrong, capsys):
    assert not getattr(exercises, name)(wrong)
    assert capsys.readouterr().out == f"not yet: {words}\n"


@each_code
def test_another_wrong_answer_is_told_where(name, capsys):
    def other(*arguments):
        return torch.as_tensor(solved(name)(*arguments), dtype=torch.double) + 3.21

    assert not getattr(exercises, name)(other)
    assert re.match(r"not yet: other\(.*\) is off by", capsys.readouterr().out)


@each_code
@pytest.mark.parametrize("answer", [None, ...])
def test_a_stub_is_not_yet_and_raises_nothing(name, answer, capsys):
    def stub(*arguments):
        return answer

    assert not getattr(exercises, name)(stub)
    assert capsys.readouterr().out == f"not yet: stub gives {answer} so far\n"


@each_code
@pytest.mark.parametrize(
    "answer", [3, None, "text", lambda: 1, partial(lambda *a: None), lambda *a: "text"]
)
def test_nothing_is_raised_whatever_is_given(name, answer, capsys):
    assert getattr(exercises, name)(answer) is False
    assert capsys.readouterr().out.startswith("not yet: ")


# Guesses


@each_guess
def test_nothing_is_measured_before_there_is_a_guess(name, capsys):
    check = getattr(exercises, name)
    for guess in (None, ...):
        assert not check(guess, lambda: pytest.fail("measured too early"))
        assert "not yet: write your guess" in capsys.readouterr().out


@each_guess
def test_the_right_guess_is_explained(name, capsys):
    check = getattr(exercises, name)
    right = check.right or MEASURED
    assert check(right, lambda: MEASURED)
    assert f"yes: {' '.join(check.__doc__.split())}" in capsys.readouterr().out
    assert check.right in (None, solved(name))


@pytest.mark.parametrize(("name", "words", "wrong"), of_mistakes(GUESSES))
def test_a_wrong_guess_is_told_why(name, words, wrong, capsys):
    guess = wrong if isinstance(wrong, str) else wrong(MEASURED)
    assert not getattr(exercises, name)(guess, lambda: MEASURED)
    assert capsys.readouterr().out.splitlines()[-1] == f"not yet: {words}"


@each_guess
@pytest.mark.parametrize("guess", ["?", "", [], {}])
def test_what_is_no_guess_is_told_so(name, guess, capsys):
    check = getattr(exercises, name)
    assert not check(guess, lambda: pytest.fail("measured in vain"))
    assert "needed" in capsys.readouterr().out


# The tools of the checks


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda x: 1 / 0, "(2) raises ZeroDivisionError"),
        (lambda x: float("nan"), "(2) is off by nan"),
        (lambda x: [1.0, 2.0], "(2) has shape (2,), expected ()"),
        (lambda x: 1.25, "(2) is off by 0.25"),
        (lambda x: torch.randn(()), "(2): two calls differ; use the noise that is"),
        (lambda x: (1 - x) ** 0.5, "(2): the number under a root is negative"),
        (lambda x: (1 - x) ** 0.5 * torch.ones(()), "(2): the number under a root is"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(answer, words, capsys):
    assert not compare(answer, lambda x: 1.0, [(2.0,)])
    assert words in capsys.readouterr().out


def test_an_answer_may_change_its_arguments(capsys):
    cases = [(torch.ones(3),), (torch.zeros(3),)]
    for _ in range(2):
        assert compare(lambda x: x.add_(1), lambda x: x + 1, cases)
    assert "in 2 cases" in capsys.readouterr().out


def test_a_mistake_is_named_only_if_all_results_are_its(capsys):
    check = exercise([(1.0,), (2.0,)], {"yours is the square": lambda x: x**4})(
        lambda x: x**2
    )
    assert not check(lambda x: x**4)
    assert capsys.readouterr().out == "not yet: yours is the square\n"
    assert not check(lambda x: 8 * x)
    assert capsys.readouterr().out == "not yet: <lambda>(1) is off by 7\n"


def test_a_number_is_guessed(capsys):
    @prediction(near=0.1, mistakes={"that is its square": lambda found: found**2})
    def root():
        """Well guessed."""

    assert root(1.95, lambda: 2)
    assert capsys.readouterr().out == (
        "your guess: 1.95; measured: 2\nyes: Well guessed.\n"
    )
    for guess, words in [
        (4, "that is its square"),
        (3, "your guess is off by 1"),
        (float("nan"), "your guess is off by nan"),
    ]:
        assert not root(guess, lambda: 2)
        assert capsys.readouterr().out.endswith(f"not yet: {words}\n")


def test_a_letter_is_guessed(capsys):
    @prediction(right="b", mistakes={"no, it grows": "a", "it does change": "c"})
    def which():
        """It shrinks."""

    assert which(" B ", lambda: "0.5")
    assert capsys.readouterr().out == "your guess: b; measured: 0.5\nyes: It shrinks.\n"
    assert not which("a", lambda: None)
    assert capsys.readouterr().out == "your guess: a\nnot yet: no, it grows\n"
    assert which("(b)", lambda: None)
    assert not which("d", lambda: None)
    assert "one of the letters a, b, c is needed" in capsys.readouterr().out
