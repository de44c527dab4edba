"""What several test modules need."""

import os

import pytest

from lesson_utils.data import DATA, located

DIGITS = located(os.environ.get("LESSONS_DATA") or DATA) / "MNIST/raw"

needs_digits = pytest.mark.skipif(
    not (DIGITS / "t10k-labels-idx1-ubyte").is_file(),
    reason=f"MNIST is not in {DIGITS}: connect and run a lesson with dataset = 'mnist' "
    "once, or set LESSONS_DATA to the folder that holds MNIST/raw",
)
