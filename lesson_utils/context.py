"""Class names <-> context vectors: prompts such as "seven" or "0.5 hero + 0.5 food"."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NoReturn

import torch
from torch import Tensor

from .support.checked import checked, fit, refuse, tensor
from .support.names import (
    WEIGHT,
    all_texts,
    as_weight,
    class_names,
    classes_by_key,
    folded,
    gaps_as_read,
)

AND = re.compile(r" ?(?:[+&]|,(?: ?and(?= |$))?|(?<= )and(?= |$)) ?")


# Rules for arguments


def are_prompts(value: object) -> bool:
    """Whether a value is a text, or several."""
    several = isinstance(value, Sequence) and len(value) > 0
    return isinstance(value, str) or (several and all_texts(value))


def weights_of_names(name: str, value: object, call) -> Tensor:
    """Weights in [0, 1] of the K names, (K,) or (B,K)."""
    K = len(call["names"])
    shape = f"B {K}" if getattr(value, "ndim", 1) == 2 else f"{K}"
    c = tensor(shape)(name, value)
    inside = (c >= 0) & (c <= 1)
    if not inside.all():
        refuse(name, "weights in [0, 1]", c[~inside][0].item())
    return c


some_prompts = fit(are_prompts, 'a text such as "0.5 hero + 0.5 food", or several,')


# Reading and writing


@checked(names=class_names, prompt=some_prompts)
def parse(prompt: str | Sequence[str], names: Sequence[str]) -> Tensor:
    """A prompt -> float32 (K,); B prompts -> (B,K), as `guide` takes it.

    A prompt is class names joined by "+", "&", "," or "and", each with a weight in
    (0, 1] before it if it is not 1: "0.5 hero + ½ food"; "" is no context, zeros.
    names: the K classes. Case does not matter, nor does which of space, hyphen and
    underscore a name has; a class "7" is also "seven". The longest name that fits wins,
    so one may hold an "and". Raises ValueError for all else: an unknown word, a class
    twice, or "3 8", which may mean two things.
    """
    keys = classes_by_key(names)
    term = term_pattern(keys)
    if isinstance(prompt, str):
        return weights("prompt", prompt, names, keys, term)
    rows = [
        weights(f"prompt[{i}]", text, names, keys, term)
        for i, text in enumerate(prompt)
    ]
    return torch.stack(rows)


@checked(names=class_names, c=weights_of_names)
def describe(c: Tensor, names: Sequence[str]) -> str | list[str]:
    """The way back: weights in [0, 1], (K,) -> a prompt, (B,K) -> B prompts.

    `parse` gives c again, to its last bit in float32. ValueError for other c.
    """
    prompts = []
    for row in torch.atleast_2d(c.detach().cpu().float()).numpy():
        pairs = zip(row, names, strict=True)
        terms = [name if w == 1 else f"{w!s} {name}" for w, name in pairs if w]
        prompts.append(" + ".join(terms))
    return prompts if c.ndim == 2 else prompts[0]


def term_pattern(keys: dict[str, int]) -> re.Pattern:
    """What matches a class with or without its weight, the longest name first."""
    spelt = []
    for key in sorted(keys, key=len, reverse=True):
        spelt.append("[ _-]+".join(map(re.escape, key.split(" "))))
    name = "|".join(spelt) or "(?!)"
    return re.compile(rf"{WEIGHT}??({name})(?<! )(?=[ +,&]|$)")  # rather no weight


def weights(
    where: str, text: str, names: Sequence[str], keys: dict, term: re.Pattern
) -> Tensor:
    """The weights (K,) that one prompt gives; where: what a complaint calls it."""
    c = torch.zeros(len(names))
    text = folded(text)
    end = 0 if text else None
    while end is not None:
        match = term.match(text, end)
        after = match and AND.match(text, match.end())
        if not match or (match.end() < len(text) and not after):
            refuse_words(where, text[end:], term, keys, names)
        k = keys[gaps_as_read(match[2])]
        if c[k]:
            refuse(where, f"each class once, not {names[k]!r} again,", text)
        weight = as_weight(match[1] or "1")
        if not torch.finfo(c.dtype).tiny <= weight <= 1:  # less would be 0
            refuse(where, f'a weight in (0, 1], as in "0.5 {names[k]}",', match[0])
        c[k] = weight
        end = after and after.end()
    return c


def refuse_words(where, text, term, keys, names) -> NoReturn:
    """Say why a text does not begin with a term and, if it goes on, a joint."""
    first = term.match(text)
    second = first and term.match(text, first.end() + 1)
    if second:
        one, two = (names[keys[gaps_as_read(match[2])]] for match in (first, second))
        refuse(where, f'"{one} and {two}", or "0.5 {one} + 0.5 {two}",', text)
    word = re.sub(f"^{WEIGHT}", "", AND.split(text[:200], 1)[0])
    if not word:
        refuse(where, 'a class before and after each "+", "," or "and"', text)
    near = get_close_matches(word, keys, 1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    refuse(where, f"one of: {', '.join(names) or 'no class':.300}{hint}", word)
