"""One bar for whatever takes its time: on stdout, with one line left at the end."""

import re
import sys
from collections.abc import Iterable, Iterator

from tqdm import tqdm

from .checked import checked, instance, optional, real, whole
from .words import known


class Bar(tqdm):
    """A bar without a thread that watches it, and with words for one and for many."""

    monitor_interval = 0

    @staticmethod
    def format_meter(n, total, elapsed, unit="it", **more):
        """What tqdm writes, with "s/step" for its "s/ steps", and "1 step"."""
        text = tqdm.format_meter(n, total, elapsed, unit=unit, **more)
        one = unit.removesuffix("s")
        text = text.replace(f"s/{unit}", f" s/{one.strip()}")
        return re.sub(rf"\b1{unit} \[", f"1{one} [", text)


@checked(
    steps=instance(Iterable, "a sampler or a sequence, such as ddim(...),"),
    total=optional(whole()),
    label=instance(str, "a text"),
    unit=instance(str, "a text"),
    delay=real("[0, inf)"),
)
def progress(
    steps: Iterable,
    total: int | None = None,
    label: str = "",
    unit: str = " steps",
    delay: float = 0,
) -> Iterator:
    """The items of steps, unchanged, with a bar on stdout that leaves one line.

    total=None takes len(steps) where there is one. delay: seconds that must pass before
    there is a bar. The bar closes when the items end, the source raises or the reader
    stops. No item is held, and gradient mode is left alone. Raises ValueError if steps
    is not iterable or total is negative.
    """
    if total is None and hasattr(steps, "__len__"):
        total = len(steps)
    bar = Bar(
        total=total or None,
        desc=known(label) or None,
        unit=known(unit),
        miniters=1,
        ncols=79,
        position=0,
        file=sys.stdout,
        delay=delay,
    )

    def tick(item):
        bar.update()
        return item

    with bar:
        yield from map(tick, steps)  # holds no item, as a loop's variable would
