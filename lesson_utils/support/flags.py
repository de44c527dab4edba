"""Command lines: flags from the fields of dataclasses, words for any terminal."""

import argparse
import io
import sys
import types
import typing
from collections.abc import Sequence
from dataclasses import fields
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """Says in one line what is wrong with a command."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def printable() -> None:
    """A letter that the terminal does not know, such as σ or 猫, is printed as ?.

    Where the output has an old code page, as a pipe on Windows, it would else end the
    command after all of its work.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def add_settings(options: argparse.ArgumentParser, kind: type) -> None:
    """A flag for each field of a dataclass; its rule is applied when one is made."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        base = without_none(hints[field.name].__origin__)
        text = hints[field.name].__metadata__[1]
        flag = "--" + field.name.replace("_", "-")
        about = {"default": argparse.SUPPRESS, "help": described(text, field.default)}
        if base is bool:
            options.add_argument(flag, action="store_true", **about)
        elif base == Sequence[str]:  # of texts with commas in them
            options.add_argument(flag, nargs="+", metavar="TEXT", **about)
        else:
            options.add_argument(flag, type=READERS.get(base, number), **about)


def without_none(hint: object) -> object:
    """The type of a setting that may be None too."""
    if not isinstance(hint, types.UnionType):
        return hint
    bases = [each for each in typing.get_args(hint) if each is not types.NoneType]
    return bases[0] if len(bases) == 1 else hint


def described(text: str, default: object) -> str:
    """The help of a flag."""
    if default is None or default is False:
        return text
    values = default if isinstance(default, tuple) else (default,)
    return f"{text}; default {','.join(map(str, values))}"


def number(text: str) -> int | float | str:
    """A whole number, another number, or the text as it is: rules say what may be."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def texts(text: str) -> tuple[str, ...]:
    """The texts of a list such as cat,dog."""
    return tuple(part.strip() for part in text.split(","))


def row(text: str) -> tuple:
    """The values of a list such as 10,20,50."""
    return tuple(number(part) for part in texts(text))


READERS = {str: str, tuple: row, tuple[str, ...]: texts}


def made(kind: type, chosen: argparse.Namespace, **base):
    """A dataclass from base and the flags that were given; its errors name flags."""
    given = {f.name: getattr(chosen, f.name) for f in fields(kind) if f.name in chosen}
    try:
        return kind(**{**base, **given})
    except ValueError as problem:
        name, _, rest = str(problem).partition(":")
        raise ValueError(f"--{name.replace('_', '-')}:{rest}") from None
