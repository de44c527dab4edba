"""Measured figures in Markdown files: each stands between <!-- name --> marks."""

import re
from pathlib import Path


def fill(path: Path, name: str, text: str) -> None:
    """Put text between the marks <!-- name --> and <!-- /name --> of a file.

    Raises ValueError if the file has no such marks.
    """
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    old = path.read_text(encoding="utf-8")
    new, found = re.subn(
        pattern, lambda m: f"{m[1]}{text}\n{m[2]}", old, flags=re.DOTALL
    )
    if found != 1:
        raise ValueError(f"{path}: marks <!-- {name} --> found {found} times, not once")
    path.write_text(new, encoding="utf-8")
