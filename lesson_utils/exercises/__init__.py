"""Self-checks of the exercises: each takes the learner's answer and reports on it.

    lu.exercises.onward(my_onward)

The checks of a lesson are in the module of its number. A check prints what it finds,
and raises nothing.
"""

from .checks import compare
from .lesson1 import larger_images, onward, same_noise
from .lesson2 import gaussian, lopsided, same_start
from .lesson3 import attention, cut, told
from .lesson4 import class_helps, error_factor, hundredfold
from .lesson5 import away, decided, minus_one
from .lesson6 import clipped, crowded, one_error
from .lesson7 import fourfold, one_each, resampled
from .lesson8 import halves, long, slope
from .lesson9 import random_pixels, upward, wrong_context
from .lesson10 import from_velocity, three_spacings, two_strides
from .lesson11 import chord, hurry, two_of_four
from .lesson12 import odd_steps, restart, same_files

__all__ = [
    "same_noise", "larger_images", "onward",
    "lopsided", "same_start", "gaussian",
    "attention", "cut", "told",
    "class_helps", "error_factor", "hundredfold",
    "minus_one", "decided", "away",
    "crowded", "one_error", "clipped",
    "fourfold", "resampled", "one_each",
    "slope", "long", "halves",
    "wrong_context", "random_pixels", "upward",
    "three_spacings", "two_strides", "from_velocity",
    "hurry", "two_of_four", "chord",
    "same_files", "odd_steps", "restart",
    "compare",
]  # fmt: skip
