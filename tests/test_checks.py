"""The exercises' self-checks: right answers pass, wrong and missing ones say why."""

import math

import pytest

from lesson_utils.checks import check, check_clipped, check_sigma, check_times

RIGHT = {
    check_times: lambda T, steps: [round(T - i * T / steps) for i in range(steps + 1)],
    check_sigma: lambda ab_t, ab_s, eta: (
        eta * math.sqrt((1 - ab_s) / (1 - ab_t)) * math.sqrt(1 - ab_t / ab_s)
    ),
    check_clipped: lambda x, eps, ab: (
        (x - ab**0.5 * ((x - (1 - ab) ** 0.5 * eps) / ab**0.5).clamp(-1, 1))
        / (1 - ab) ** 0.5
    ),
}
WRONG = {
    check_times: lambda T, steps: list(range(T, -1, -(T // steps))),
    check_sigma: lambda ab_t, ab_s, eta: eta * (1 - ab_t / ab_s) ** 0.5,
    check_clipped: lambda x, eps, ab: eps,
}


@pytest.mark.parametrize("checker", RIGHT, ids=lambda c: c.__name__)
def test_a_right_answer_passes(checker, capsys):
    assert checker(RIGHT[checker])
    assert "yes: largest difference" in capsys.readouterr().out


@pytest.mark.parametrize("checker", WRONG, ids=lambda c: c.__name__)
def test_a_wrong_answer_is_told_where(checker, capsys):
    assert not checker(WRONG[checker])
    assert "not yet" in capsys.readouterr().out


@pytest.mark.parametrize("checker", RIGHT, ids=lambda c: c.__name__)
@pytest.mark.parametrize("answer", [None, ...])
def test_a_stub_is_not_yet_and_raises_nothing(checker, answer, capsys):
    def stub(*arguments):
        return answer

    assert not checker(stub)
    assert "not yet: stub gives" in capsys.readouterr().out


def test_an_answer_that_raises_or_is_nan_is_not_yet(capsys):
    assert not check(lambda x: 1 / 0, lambda x: 1.0, [(1.0,)])
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert not check(lambda x: float("nan"), lambda x: 1.0, [(1.0,)])
    assert "off by nan" in capsys.readouterr().out
    assert not check(lambda x: [1.0, 2.0], lambda x: 1.0, [(1.0,)])
    assert "shape" in capsys.readouterr().out
