"""Words beside numbers, and words that any output can print."""

import sys


def counted(n: int, noun: str) -> str:
    """ "1 step", "20 steps", "1,000 steps": a number with its noun."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def reason(problem: Exception) -> str:
    """An exception in one short line, whatever it holds."""
    text = " ".join(repr(problem)[:1000].split())
    return text if len(text) <= 200 else f"{text[:200]} …"


def known(text: str) -> str:
    """The text, with a ? for each letter that stdout does not know, such as σ or 猫."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def say(text: str) -> None:
    """Print a line on stdout, whatever letters it knows."""
    print(known(text))
