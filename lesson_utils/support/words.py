"""Words beside numbers."""


def counted(n: int, noun: str) -> str:
    """ "1 step", "20 steps", "1,000 steps": a number with its noun."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
