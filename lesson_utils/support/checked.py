"""Arguments that make no sense are refused above a function, and never inside it.

    @checked(x=images, eta=eta_rule)
    def ddim(eps_fn, x, schedule, steps=20, eta=0.0, ...):

binds the call, applies to each argument the rule of its name, and calls the function
with what the rules give back: `5.0` steps become `5`. So the error comes at the call,
also where the function is a generator, and the code below the line is arithmetic alone.

A rule is called with an argument's name, its value and the whole Call. It gives the
value to use, or raises the ValueError of `refuse`, which says the argument's name, what
would do, and the value. Inside a function that is not taught, a rule may be called by
itself: `whole(1)("n", n)`.
"""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Iterable
from numbers import Real
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor


def refuse(name: str, needed: str, value: object) -> NoReturn:
    """Raise the ValueError for one argument, which needs something else."""
    got = " ".join(repr(value).split())  # one line
    if isinstance(value, Tensor | np.ndarray) and value.shape not in ((), (1,)):
        got = f"{type(value).__name__} of {value.dtype} and shape {tuple(value.shape)}"
    got = got if len(got) <= 200 else f"{got[:200]} …"
    raise ValueError(f"{name}: {needed} is needed, got {got}") from None


class Call(dict):
    """The arguments of one call by name, those that had their turn converted already.

    sizes: what the letters of tensors' shapes stand for in this call.
    """

    def __init__(self, arguments: dict):
        super().__init__(arguments)
        self.sizes: dict[str, int] = {}

    def find(self, path: str) -> object:
        """The argument, or the attribute of one: "steps", "schedule.T"."""
        name, *attributes = path.split(".")
        return functools.reduce(getattr, attributes, self[name])


Rule = Callable[[str, object, Call], object]


def checked(**rules: Rule) -> Callable:
    """A decorator: a rule for each argument of this name, applied in their order.

    Above a class it holds for what makes one, and a dataclass may carry its rules in
    its annotations: `steps: Annotated[int, whole(1), "updates"] = 30_000`. Under
    torch.compile nothing is checked.
    """

    def decorate(target):
        if isinstance(target, type):
            own = rules or annotated_rules(target)
            target.__init__ = checked(**own)(target.__init__)
            return target
        signature = inspect.signature(target)
        if unknown := rules.keys() - signature.parameters.keys():
            raise TypeError(f"{target.__qualname__} has no argument {unknown}")

        @functools.wraps(target)
        def call(*args, **kwargs):
            if torch.compiler.is_compiling():
                return target(*args, **kwargs)
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError as problem:
                raise TypeError(f"{target.__qualname__}(): {problem}") from None
            bound.apply_defaults()
            arguments = Call(bound.arguments)
            for name, rule in rules.items():
                arguments[name] = rule(name, arguments[name], arguments)
            bound.arguments.update(arguments)
            return target(*bound.args, **bound.kwargs)

        call.rules = rules
        return call

    return decorate


def annotated_rules(kind: type) -> dict[str, Rule]:
    """The rules that a dataclass carries in Annotated[type, rule, help]."""
    hints = typing.get_type_hints(kind, include_extras=True)
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: hints[name].__metadata__[0] for name in names}


# The kinds of rules. Tests make up nonsense for each of them.


def plain(value: object) -> object:
    """The Python number in a numpy one, or in a tensor or array that holds just one."""
    known = isinstance(value, Tensor | np.ndarray | np.generic)
    single = known and value.shape in ((), (1,)) and not getattr(value, "is_meta", 0)
    return value.item() if single else value


@dataclasses.dataclass(frozen=True)
class whole:
    """A whole number from least to most; most may name another argument."""

    least: int = 0
    most: int | str | None = None

    def __call__(self, name, value, call=None) -> int:
        most = call.find(self.most) if isinstance(self.most, str) else self.most
        try:
            given = plain(value)
            number = int(given)
            fits = number == given and not isinstance(given, bool | str)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            fits = False
        if not fits or number < self.least or (most is not None and number > most):
            span = f"in {self.least}..{most}"
            if most is None:
                span = f"of {self.least} or more"
            refuse(name, f"a whole number {span}", value)
        return number


@dataclasses.dataclass(frozen=True)
class multiple:
    """A whole number above 0, up to a million, that is a multiple of another."""

    of: int

    def __call__(self, name, value, call=None) -> int:
        needed = f"a multiple of {self.of}, up to a million,"
        try:
            number = whole(1, 10**6)(name, value, call)
        except ValueError:
            refuse(name, needed, value)
        if number % self.of:
            refuse(name, needed, value)
        return number


@functools.cache
def ends_of(span: str) -> tuple[float, float]:
    """The two numbers of a span."""
    low, high = map(float, span[1:-1].split(","))
    return low, high


def in_span(number: float, span: str) -> bool:
    """Whether a number lies in a span such as "[0, inf)"."""
    low, high = ends_of(span)
    at_an_end = (number == low and span[0] == "[") or (
        number == high and span[-1] == "]"
    )
    return low < number < high or at_an_end


@dataclasses.dataclass(frozen=True)
class real:
    """A number in a span, such as "[0, inf)"."""

    span: str

    def __call__(self, name, value, call=None) -> float:
        try:
            given = plain(value)
            known = isinstance(given, Real) and not isinstance(given, bool)
            number = float(given) if known else np.nan
        except (OverflowError, RuntimeError):
            number = np.nan
        if not in_span(number, self.span):
            refuse(name, f"a number in {self.span}", value)
        return number


@dataclasses.dataclass(frozen=True)
class choice:
    """One of a few values."""

    values: tuple

    def __init__(self, *values):
        object.__setattr__(self, "values", values)

    def __call__(self, name, value, call=None) -> object:
        given = plain(value)
        one = isinstance(given, str | Real) and not isinstance(given, bool)
        found = [known for known in self.values if one and known == given]
        if not found:
            refuse(name, " or ".join(map(repr, self.values)), value)
        return found[0]


@dataclasses.dataclass(frozen=True)
class tensor:
    """A float tensor of a shape such as "B C H W", or of any if none is given.

    A letter is the same size in all arguments of a call; a number, or the attribute of
    an argument ("self.in_channels"), is just that size. Only K may be 0. like: the
    argument to whose device it is moved and, with cast, to whose type. span: where its
    values lie, as in `real`; NaN is in none; words: what such values are. in_loop: they
    are looked at on the CPU only: on another device each look would wait for its work.
    """

    shape: str | None = None
    like: str | None = None
    cast: bool = False
    span: str | None = None
    words: str = "a tensor of finite numbers"
    in_loop: bool = False

    def __call__(self, name, value, call=None) -> Tensor:
        call = Call({}) if call is None else call
        known = isinstance(value, Tensor) and value.is_floating_point()
        known = known and value.layout == torch.strided
        if not known or (self.shape is not None and not self.fits(value, call)):
            sizes = ["B", "C", "H", "W"] if self.shape is None else self.sizes(call)
            comma = "," * (len(sizes) == 1)
            wanted = f"({','.join(map(str, sizes))}{comma})"
            refuse(name, f"a float tensor of shape {wanted}", value)
        if self.span is not None and (value.device.type == "cpu" or not self.in_loop):
            self.look(name, value)
        if self.like is None:
            return value
        other = call.find(self.like)
        return value.to(other) if self.cast else value.to(other.device)

    def look(self, name: str, value: Tensor) -> None:
        """Refuse values outside the span."""
        if not value.numel():
            return
        ends = value.detach().aminmax()
        if type(ends.min) is not Tensor or ends.min.is_meta:
            return  # a FakeTensor or one of "meta" has no values
        low, high = ends.min.item(), ends.max.item()
        if not all(in_span(end, self.span) for end in (low, high)):
            refuse(name, self.words, f"values from {low:.6g} to {high:.6g}")

    def sizes(self, call: Call) -> list[int | str]:
        """The shape as far as this call knows it."""
        return [known_size(size, call) for size in self.shape.split()]

    def fits(self, value: Tensor, call: Call) -> bool:
        wanted = self.sizes(call)
        if value.ndim != len(wanted):
            return False
        new = {}
        for size, n in zip(wanted, value.shape, strict=True):
            if isinstance(size, int) and n != size:
                return False
            if isinstance(size, str):
                if (n == 0 and size != "K") or new.get(size, n) != n:
                    return False
                new[size] = n
        call.sizes.update(new)
        return True


def known_size(size: str, call: Call) -> int | str:
    """A size of a tensor's shape as a number, or its letter if nothing is known."""
    if size.isdigit():
        return int(size)
    if "." not in size:
        return call.sizes.get(size, size)
    try:
        return int(call.find(size))
    except AttributeError:  # whatever can be called is a model
        return {"in_channels": "C", "context_size": "K"}[size.rpartition(".")[2]]


@dataclasses.dataclass(frozen=True)
class optional:
    """None, or what another rule takes."""

    rule: Rule

    def __call__(self, name, value, call=None) -> object:
        return None if value is None else self.rule(name, value, call)


@dataclasses.dataclass(frozen=True)
class each:
    """One or more values in a row, for each of which another rule holds: a tuple."""

    rule: Rule

    def __call__(self, name, value, call=None) -> tuple:
        one = plain(value)
        several = isinstance(one, Iterable) and not isinstance(one, str)
        values = tuple(one) if several else (one,)
        if not values:
            refuse(name, "one value or more", value)
        return tuple(self.rule(name, one, call) for one in values)


@dataclasses.dataclass(frozen=True)
class fit:
    """Anything for which a test holds; words say what that is."""

    test: Callable[[object], bool]
    words: str

    def __call__(self, name, value, call=None) -> object:
        if not self.test(value):
            refuse(name, self.words, value)
        return value


def instance(kind: type | tuple, words: str) -> fit:
    """The rule for an instance of a class."""
    return fit(lambda value: isinstance(value, kind), words)


def something_to_call(example: str) -> fit:
    """The rule for a function, a module or whatever else can be called."""
    return fit(callable, f"something to call, such as {example},")


def flag(name: str, value: object, call: Call | None = None) -> bool:
    """True or False: the text "False" would be true."""
    given = plain(value)
    if not isinstance(given, bool):
        refuse(name, "True or False", value)
    return given
