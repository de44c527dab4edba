"""Class names <-> context vectors: prompts such as "seven" or "0.5 hero + 0.5 food"."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NoReturn

import torch
from torch import Tensor

from .arguments import refuse, shaped

WORDS = "zero one two three four five six seven eight nine ten".split()
NUMBER = r"-?(?:\d+(?:\.\d*)?|\.\d+)(?:e-?\d+)?|nan|inf|½"
WEIGHT = rf"(?:({NUMBER})(?: ?[*×] ?| |(?=[^\W\d])))"
AND = re.compile(r" ?(?:[+&]|,(?: ?and(?= |$))?|(?<= )and(?= |$)) ?")


def parse(prompt: str | Sequence[str], names: Sequence[str]) -> Tensor:
    """A prompt -> float32 (K,); B prompts -> (B,K), as `guide` takes it.

    A prompt is class names joined by "+", "&", "," or "and", each with a weight in
    (0, 1] before it if it is not 1: "0.5 hero + ½ food"; "" is no context, zeros.
    names: the K classes. Case does not matter, nor does which of space, hyphen and
    underscore a name has; a class "7" is also "seven". The longest name that fits wins,
    so one may hold an "and". Raises ValueError for all else: an unknown word, a class
    twice, or "3 8", which may mean two things.
    """
    keys, one = _keys(names), isinstance(prompt, str)
    texts = [prompt] if one else prompt
    listed = isinstance(texts, Sequence) and len(texts) > 0
    if not listed or not all(isinstance(text, str) for text in texts):
        refuse("prompt", 'a text such as "0.5 hero + 0.5 food", or several,', prompt)
    spelt = (map(re.escape, k.split(" ")) for k in sorted(keys, key=len, reverse=True))
    name = "|".join(map("[ _-]+".join, spelt)) or "(?!)"
    term = re.compile(rf"{WEIGHT}??({name})(?<! )(?=[ +,&]|$)")  # rather no weight
    c = torch.zeros(len(texts), len(names))
    for i, text in enumerate(texts):
        where = "prompt" if one else f"prompt[{i}]"
        text = " ".join(text.casefold().split())
        end = 0 if text else None
        while end is not None:
            match = term.match(text, end)
            after = match and AND.match(text, match.end())
            if not match or (match.end() < len(text) and not after):
                _refuse_words(where, text[end:], term, keys, names)
            if c[i, k := keys[_key(match[2])]]:
                refuse(where, f"each class once, not {names[k]!r} again,", text)
            c[i, k] = float((match[1] or "1").replace("½", "0.5"))
            if not 0 < c[i, k] <= 1:
                refuse(where, f'a weight in (0, 1], as in "0.5 {names[k]}",', match[0])
            end = after and after.end()
    return c[0] if one else c


def describe(c: Tensor, names: Sequence[str]) -> str | list[str]:
    """The way back: weights in [0, 1], (K,) -> a prompt, (B,K) -> B prompts.

    `parse` gives c again, to its last bit in float32. ValueError for other c.
    """
    _keys(names)
    shaped("c", c, *["B"] * (getattr(c, "ndim", 1) == 2), len(names))
    if not (inside := (c >= 0) & (c <= 1)).all():
        refuse("c", "weights in [0, 1]", c[~inside][0].item())
    prompts = []
    for row in torch.atleast_2d(c.detach().cpu().float()).numpy():
        pairs = zip(row, names, strict=True)
        prompts += [" + ".join(k if w == 1 else f"{w!s} {k}" for w, k in pairs if w)]
    return prompts if c.ndim == 2 else prompts[0]


def _key(name: str) -> str:
    return re.sub("[ _-]+", " ", " ".join(name.casefold().split()))


def _keys(names: Sequence[str]) -> dict[str, int]:
    """{name as prompts are read: its class}, with the words for numbers."""
    listed = isinstance(names, Sequence) and not isinstance(names, str)
    texts = listed and all(isinstance(name, str) for name in names)
    keys = {_key(name): k for k, name in enumerate(names)} if texts else {"": 0}
    if "" in keys or len(keys) < len(names):
        needed = "class names that differ in more than case, spaces and hyphens,"
        refuse("names", needed, names)
    return {word: keys[str(n)] for n, word in enumerate(WORDS) if str(n) in keys} | keys


def _refuse_words(where, text, term, keys, names) -> NoReturn:
    """Say why a text does not begin with a term and, if it goes on, a joint."""
    one = term.match(text)
    if one and (two := term.match(text, one.end() + 1)):
        a, b = (names[keys[_key(match[2])]] for match in (one, two))
        refuse(where, f'"{a} and {b}", or "0.5 {a} + 0.5 {b}",', text)
    word = re.sub(f"^{WEIGHT}", "", AND.split(text[:200], 1)[0])
    if not word:
        refuse(where, 'a class before and after each "+", "," or "and"', text)
    near = get_close_matches(word, keys, 1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    refuse(where, f"one of: {', '.join(names) or 'no class':.300}{hint}", word)
