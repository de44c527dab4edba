"""How the answers of learners are checked: code by its results, guesses by measuring.

`exercise` makes a check of the right function, `prediction` one of a question whose
answer is measured. Both know likely mistakes, and say which one an answer has made.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy

import torch

TOLERANCE = 1e-5


def compare(
    function: Callable,
    oracle: Callable,
    cases: Iterable[tuple],
    mistakes: Mapping[str, Callable] | None = None,
) -> bool:
    """Compare a learner's function with the right one; prints one line, raises nothing.

    function, oracle: called with the arguments of each case, must give numbers, tensors
    or sequences of them. A function that gives None or Ellipsis is "not yet" written.
    mistakes: wrong functions, by the words that explain each; if one of them gives what
    the learner's gives in all cases, its words are printed. True if all results agree
    with the oracle's to 1e-5.
    """
    cases = list(cases)
    largest = 0.0
    for case in cases:
        found = difference(function, oracle, case)
        if isinstance(found, str):
            name = getattr(function, "__name__", repr(function))  # of a partial, say
            print(f"not yet: {mistake_of(function, cases, mistakes) or name + found}")
            return False
        largest = max(largest, found)
    print(f"yes: largest difference {largest:.1e} in {len(cases)} cases")
    return True


def mistake_of(function, cases, mistakes: Mapping[str, Callable] | None) -> str | None:
    """The words of the mistake that gives the same results as the function, if any."""
    for words, wrong in (mistakes or {}).items():
        found = [difference(function, wrong, case) for case in cases]
        if not any(isinstance(each, str) for each in found):
            return words
    return None


def difference(function: Callable, oracle: Callable, case: tuple) -> float | str:
    """How far apart the results are or, in words, what is wrong with the function's."""
    where = f"({', '.join(map(brief, case))})"
    expected = torch.as_tensor(oracle(*deepcopy(case)), dtype=torch.double)
    try:
        got = function(*deepcopy(case))  # which it may change in place
        if got is None or got is ...:
            return f" gives {got} so far"
        got, again = torch.as_tensor(got), torch.as_tensor(function(*deepcopy(case)))
        if got.is_complex():
            return f"{where}: the number under a root is negative"
        got, again = got.double(), again.double()
    except Exception as problem:  # a learner's function may raise anything
        return f"{where} raises {problem!r}"
    if got.shape != expected.shape:
        return f"{where} has shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    if not torch.equal(got.nan_to_num(), again.nan_to_num()):
        return f"{where}: two calls differ; use the noise that is given"
    largest = float((got - expected).abs().max())
    return largest if largest <= TOLERANCE else f"{where} is off by {largest:g}"


def brief(value: object) -> str:
    """An argument in a few characters."""
    if isinstance(value, torch.Tensor):
        return f"tensor{tuple(value.shape)}"
    return f"{value:g}" if isinstance(value, int | float) else str(value)[:30]


def exercise(
    cases: Iterable[tuple], mistakes: Mapping[str, Callable] | None = None
) -> Callable:
    """Turn a right function into the check of a learner's; name and text stay.

    mistakes: wrong functions, by the words that explain each, as compare takes them.
    """
    cases, mistakes = list(cases), dict(mistakes or {})

    def decorate(oracle: Callable) -> Callable[[Callable], bool]:
        def check(function: Callable) -> bool:
            return compare(function, oracle, cases, mistakes)

        check.__name__ = check.__qualname__ = oracle.__name__
        check.__doc__ = oracle.__doc__
        check.mistakes = mistakes
        return check

    return decorate


def prediction(
    right: str | None = None,
    near: float = 0.0,
    mistakes: Mapping[str, str | Callable[[float], float]] | None = None,
) -> Callable:
    """Turn words into the check of a guess, which is made before anything is measured.

    The check takes the learner's guess and a function without arguments, which measures
    and shows the result. That function runs only once there is a guess. A question has
    either letters for answers, and right is the right one, or a number, which may
    differ from the measured one by near. mistakes: by the words that explain each, the
    letter, or a function from the measured number to the wrong guess. The decorated
    function's own docstring is what is printed after a right guess.
    """
    mistakes = dict(mistakes or {})

    def decorate(answer: Callable) -> Callable[[object, Callable], bool]:
        def check(guess: object, experiment: Callable[[], object]) -> bool:
            if guess is None or guess is ...:
                print("not yet: write your guess in place of ..., then run the cell")
                return False
            if right is None:
                return judge_number(guess, experiment, near, mistakes, answer.__doc__)
            return judge_letter(guess, experiment, right, mistakes, answer.__doc__)

        check.__name__ = check.__qualname__ = answer.__name__
        check.__doc__ = answer.__doc__
        check.mistakes, check.right, check.near = mistakes, right, near
        return check

    return decorate


def judge_letter(
    guess: object, experiment: Callable, right: str, mistakes: Mapping, why: str
) -> bool:
    """Say whether a letter is the right one, beside what was measured (None: shown)."""
    letter = str(guess).strip(" ().").lower()
    letters = sorted({right, *mistakes.values()})
    if letter not in letters:
        print(f"not yet: one of the letters {', '.join(letters)} is needed")
        return False
    found = experiment()
    measured = "" if found is None else f"; measured: {found}"
    print(f"your guess: {letter}{measured}")
    if letter == right:
        print(f"yes: {one_line(why)}")
        return True
    for words, wrong in mistakes.items():
        if letter == wrong:
            print(f"not yet: {words}")
    return False


def judge_number(
    guess: object, experiment: Callable, near: float, mistakes: Mapping, why: str
) -> bool:
    """Say whether a number is near enough to the measured one."""
    try:
        number = float(guess)
    except (TypeError, ValueError):
        print(f"not yet: a number is needed, got {guess!r}")
        return False
    found = float(experiment())
    print(f"your guess: {number:g}; measured: {found:.3g}")
    if abs(number - found) <= near:
        print(f"yes: {one_line(why)}")
        return True
    for words, wrong in mistakes.items():
        if abs(number - wrong(found)) <= near:
            print(f"not yet: {words}")
            return False
    print(f"not yet: your guess is off by {abs(number - found):.3g}")
    return False


def one_line(text: str) -> str:
    return " ".join(text.split())
