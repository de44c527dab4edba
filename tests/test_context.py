"""Prompts: from words to context vectors, and back."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import small_model

from lesson_utils import describe, guide, load, parse
from lesson_utils.support.names import class_names

SPRITES = ("hero", "non-hero", "food", "spell", "side-facing")
DIGITS = tuple("0123456789")
NUMBERED = tuple(f"class {k}" for k in range(12))
ODD = ("salt, pepper", "rock and roll", "rock", "c++", "3 8", "R&B", "-", "été")


READ = [  # (class names, {index: weight}, prompts that say so)
    (SPRITES, {}, "", " \t\n"),
    (SPRITES, {0: 1}, "hero", "  HERO ", "1 hero", "1. hero"),
    (SPRITES, {1: 1}, "Non_Hero", "non hero"),
    (SPRITES, {4: 1}, "side  facing", "side - facing", "SIDE_FACING"),
    (SPRITES, {0: 1, 2: 1}, "hero and food", "hero AND food", "hero+food"),
    (SPRITES, {0: 1, 2: 1}, "hero & food"),
    (SPRITES, {0: 1, 2: 1, 3: 1}, "hero, food, and spell", "hero,food and spell"),
    (SPRITES, {0: 0.5}, "0.5 * hero", "0.5 × hero", "0.5hero", "½ hero"),
    (SPRITES, {0: 0.5, 2: 0.5}, "0.5 hero + 0.5 food"),
    (SPRITES, {0: 0.5, 2: 0.25}, "0.5*hero+.25 food"),
    (SPRITES, {0: 0.5, 2: 1e-3}, "½hero and 1e-3 food"),
    (SPRITES, {1: 0.3, 4: 0.7}, "0.3 Non Hero, 0.7 side_facing"),
    (DIGITS, {7: 1}, "7", "seven", "Seven", "1.0 7", "1*7"),
    (DIGITS, {0: 1}, "zero"),
    (DIGITS, {3: 1, 8: 1}, "3 and 8", "3+8", "3,eight"),
    (DIGITS, {3: 0.5, 8: 0.5}, "0.5 3 + 0.5 8"),
    (DIGITS, {3: 0.5, 8: 0.25}, "½ three and 0.25*eight"),
    (("1", "10"), {1: 1}, "ten"),
    (("1", "10"), {0: 1, 1: 1}, "10 + one"),
    (NUMBERED, {0: 1}, "class 0"),
    (NUMBERED, {1: 1}, "1 class 1"),
    (NUMBERED, {1: 1, 10: 1}, "Class_1 + class-10"),
    (NUMBERED, {0: 0.5, 11: 0.5}, "0.5 class 0, 0.5 class 11"),
    (ODD, {0: 1}, "salt, pepper"),
    (ODD, {1: 1}, "rock and roll"),
    (ODD, {1: 1, 2: 1}, "rock and rock_and_roll"),
    (ODD, {0: 1, 2: 1}, "rock and salt, pepper"),
    (ODD, {2: 1, 3: 1}, "c+++rock"),
    (ODD, {4: 1}, "3 8"),
    (ODD, {3: 0.5, 5: 0.5}, "0.5 r&b & 0.5 c++"),
    (ODD, {6: 1, 7: 1}, "- + ÉTÉ"),
    (("cafe\u0301", "b"), {0: 1}, "caf\u00e9", "CAFE\u0301", "1 CAF\u00c9"),
    (("b", "caf\u00e9"), {0: 1, 1: 0.5}, "b + 0.5 cafe\u0301"),
    (("hero", "hero-"), {0: 1, 1: 1}, "hero- + hero", "hero + hero-"),
    (("rock", "rock and roll"), {1: 1}, "rock and roll"),
    (("sand", "land"), {0: 1, 1: 1}, "sand and land"),
    (("nan", "inf"), {0: 1, 1: 0.5}, "nan and 0.5 inf"),
    (("(a.*)", "[b"), {0: 1, 1: 1}, "(a.*) + [b"),
    ((), {}, ""),
]


@pytest.mark.parametrize(
    "prompt, names, shares",
    [(one, names, shares) for names, shares, *prompts in READ for one in prompts],
)
def test_words_become_weights(prompt, names, shares):
    expected = torch.zeros(len(names))
    for index, weight in shares.items():
        expected[index] = weight
    c = parse(prompt, names)
    assert c.dtype == torch.float32 and torch.equal(c, expected)
    assert torch.equal(parse([prompt, ""], list(names))[0], c)


WEIGHT = r"weight in \(0, 1\]"
BESIDE = "a class before and after"
REFUSED = [  # (class names, a part of the message, prompts)
    # What is known, and the nearest of it
    (SPRITES, r"hero, non-hero, .*mean 'hero'\?.*got 'herro'", "herro"),
    (SPRITES, r"mean 'side facing'\?", "sidefacing"),
    (SPRITES, r"mean 'food'\?.*got 'fod'", "0.5 hero + 0.5 fod"),
    (DIGITS, r"0, 1, 2.*mean 'seven'\?", "sevn"),
    (SPRITES, "spell, side-facing is needed, got 'seven'", "seven"),
    (NUMBERED, "class 0, class 1", "class seven"),
    (SPRITES, "one of: hero.*side-facing is needed, got 'dragon'", "dragon"),
    (DIGITS, "got '10'", "10"),
    (DIGITS, "got '38'", "38"),
    (DIGITS, "got '0.57'", "0.57"),
    (SPRITES, "one of: hero", "nan", "0.5", "hero; food"),
    (DIGITS, "one of: 0", "infhero"),
    (SPRITES, "got '0'", "0,5 hero"),
    (SPRITES, "got '50% hero'", "50% hero"),
    (SPRITES, "mean 'hero'", "hero*0.5"),
    (SPRITES, "got 'heroand food'", "heroand food"),
    (SPRITES, "got 'hero a food'", "hero a food"),
    (("hero-", "food"), "one of: hero-, food.*got 'hero'", "hero + food"),
    ((), "no class is needed", "x"),
    # Weights
    (SPRITES, r"\(0, 1\], as in \"0.5 hero\", is needed, got '2 hero'", "2 hero"),
    (SPRITES, WEIGHT, "0 hero", "1.01 hero", "inf hero", "1e300 hero", "1e-60 hero"),
    (SPRITES, f"{WEIGHT}.*'-0.5 hero'", "-0.5 hero"),
    (SPRITES, f"{WEIGHT}.*'nan hero'", "nan hero"),
    (SPRITES, r"as in \"0.5 food\".*'3\*food'", "hero + 3*food"),
    (DIGITS, rf"{WEIGHT}, as in \"0.5 8\"", "3*8"),
    # Twice, or two things at once
    (SPRITES, "each class once, not 'hero' again", "hero + Hero"),
    (SPRITES, "each class once", "0.5 hero and 0.5 hero"),
    (DIGITS, "each class once, not '3' again", "3 and three"),
    (DIGITS, '"3 and 8", or "0.5 3 \\+ 0.5 8", is needed, got \'3 8\'', "3 8"),
    (DIGITS, '"1 and 7", or "0.5 1', "1 7"),
    (DIGITS, '"1 and 7"', "one seven"),
    (DIGITS, '"3 and 8"', "0.5 3 0.5 8"),
    (SPRITES, '"hero and food", or "0.5 hero', "hero food"),
    (SPRITES, '"side-facing and non-hero"', "spell + side facing non hero"),
    # Joints with nothing beside them
    (SPRITES, BESIDE, "hero +", "+ hero", "hero + + food", "hero,,food", "hero and"),
    (SPRITES, "got 'and'", "and"),
    (DIGITS, BESIDE, ","),
]


@pytest.mark.parametrize(
    "prompt, names, complaint",
    [(one, names, words) for names, words, *prompts in REFUSED for one in prompts],
)
def test_a_prompt_that_cannot_be_read(prompt, names, complaint):
    with pytest.raises(ValueError, match=rf"(?s)^prompt: .*{complaint}"):
        parse(prompt, names)
    with pytest.raises(ValueError, match=rf"(?s)^prompt\[1\]: .*{complaint}"):
        parse(["", prompt], names)


NO_PROMPTS = [None, 7, 0.5, b"hero", [], (), [7], ["hero", None], [["hero"]], {"hero"}]
NO_PROMPTS += [{"hero": 1}, torch.zeros(5), np.array(["hero"]), iter(["hero"])]
NO_NAMES = [None, 5, "hero", b"hero", [1, 2], ["hero", None], ["hero", ""], ["a", " "]]
NO_NAMES += [["a", "a"], ["hero", "Hero"], ["a b", "a-b"], ["a_b", "a  b"], {"hero"}]
NO_NAMES += [torch.zeros(2), {"hero": 0}]


@pytest.mark.parametrize("prompt", NO_PROMPTS)
def test_not_a_prompt(prompt):
    with pytest.raises(ValueError, match="^prompt: a text such as .* is needed, got"):
        parse(prompt, SPRITES)


@pytest.mark.parametrize("names", NO_NAMES)
def test_not_names(names):
    for call in (lambda: parse("hero", names), lambda: describe(torch.ones(2), names)):
        with pytest.raises(ValueError, match="^names: a (list of )?class name"):
            call()


NOT_TOLD_APART = [  # (class names, the one that is at fault, why)
    (["Cat", "dog", "cat"], "cat", "differs from 'Cat' in more than case"),
    (["caf\u00e9", "cafe\u0301"], "cafe\u0301", "differs from 'caf\u00e9'"),
    (["t-shirt", "t shirt"], "t shirt", "differs from 't-shirt'"),
    (["dog", "0.5"], "0.5", "not a weight below 1"),
    (["dog", "½"], "½", "not a weight below 1"),
    (["dog", "0.5 Dog"], "0.5 Dog", "begins unlike a prompt for 'dog'"),
    (["sea + sun", "sea"], "sea + sun", "begins unlike a prompt for 'sea'"),
    (["7", "seven+"], None, None),
    (["cats", "2 cats", "and", "rock and roll", "rock", "1", "1e3", "0"], None, None),
    (["dog", "* dog"], "* dog", "not begin with"),
    (["_a", "0.5 a"], "0.5 a", "begins unlike a prompt for '_a'"),
    (["a_", "a + b", "b"], "a + b", "begins unlike a prompt for 'a_'"),
]


@pytest.mark.parametrize(("names", "wrong", "why"), NOT_TOLD_APART)
def test_names_that_prompts_cannot_tell_apart(names, wrong, why):
    if wrong is None:
        assert torch.equal(parse(names, names), torch.eye(len(names)))
    else:
        with pytest.raises(ValueError, match=f"^names: .*{why}") as caught:
            parse("", names)
        assert str(caught.value).endswith(f"is needed, got {wrong!r}")


HARD = "a|b|a + b|a and b|2 a|0.5 a|0.25 b|and|and a|cat and|,|a,|a, b|½|1|one|5|½ 5"
HARD += "|nan|1e3|-|_a|a_|-a|x*|* a|+ a|a+|&|a&b|.5|0.5|0.|½a|ß|ss|İ|\u0345|a\tb|3 8"


@given(st.lists(st.sampled_from(HARD.split("|")), min_size=2, max_size=4), st.data())
def test_names_that_are_taken_are_read_back(names, data):
    weight = st.sampled_from([0, 0.25, 0.5, 1])
    row = data.draw(st.lists(weight, min_size=len(names), max_size=len(names)))
    c = torch.tensor(row, dtype=torch.float32)
    try:
        class_names("names", names)
    except ValueError as problem:
        assert str(problem).startswith("names: a class name that ")
    else:
        assert torch.equal(parse(names, names), torch.eye(len(names)))
        assert torch.equal(parse(describe(c, names), names), c)


def test_a_gap_at_the_start_of_a_name_is_no_crash():
    assert parse("0.5* -a", ["-a", "b"]).tolist() == [0.5, 0]


MILLION = 10**6
HOSTILE = ["9", "0.", ".", " ", "hero ", "hero + ", "hero and ", "+", "-", "½", "and "]
HOSTILE += ["side-", "side facing-", "\u0301", "0 ", "1e", "nan ", "x", "hero,"]


@pytest.mark.parametrize("part", HOSTILE)
@pytest.mark.parametrize("start", ["", "hero", "side", "1e", "0.5 "])
def test_a_million_characters_cost_little_and_say_little(part, start):
    text = start + part * (MILLION // len(part)) + "?"
    began = time.process_time()
    with pytest.raises(ValueError, match="^prompt: ") as caught:
        parse(text, SPRITES)
    assert time.process_time() - began < 5
    assert len(str(caught.value)) < 600


def test_a_long_prompt_over_many_classes_is_no_trouble():
    names = [f"folder {k}" for k in range(1000)]
    c = torch.linspace(0.001, 1, 1000)
    assert torch.equal(parse(describe(c, names), names), c)
    with pytest.raises(ValueError, match="folder 0, folder 1") as caught:
        parse("no such", names)
    assert len(str(caught.value)) < 600


# describe


@pytest.mark.parametrize(
    "c, names, said",
    [
        ([0, 0, 0, 0, 0], SPRITES, ""),
        ([1, 0, 0, 0, 0], SPRITES, "hero"),
        ([0.5, 0, 0.5, 0, 0], SPRITES, "0.5 hero + 0.5 food"),
        ([0, 1, 0, 0.05, 1], SPRITES, "non-hero + 0.05 spell + side-facing"),
        ([0, 0, 0, 1, 0, 0, 0, 0, 1, 0], DIGITS, "3 + 8"),
        ([0, 0, 0, 0.3, 0, 0, 0, 0, 0.1, 0], DIGITS, "0.3 3 + 0.1 8"),
        ([], (), ""),
    ],
)
def test_weights_become_words(c, names, said):
    c = torch.tensor(c, dtype=torch.float32)
    assert describe(c, names) == said
    assert describe(c.repeat(3, 1), names) == [said] * 3
    assert describe(c.double().requires_grad_(), names) == said


@given(st.sampled_from([SPRITES, DIGITS, NUMBERED, ODD, ("1", "10", "0")]), st.data())
def test_parse_undoes_describe(names, data):
    share = st.integers(0, 100).map(lambda n: n / 100)
    row = st.lists(share, min_size=len(names), max_size=len(names))
    c = torch.tensor(data.draw(st.lists(row, min_size=1, max_size=4)))
    assert torch.equal(parse(describe(c, names), names), c)
    assert torch.equal(parse(describe(c[0], names), names), c[0])


@given(st.floats(0, 1, width=32, allow_subnormal=False))
def test_no_bit_is_lost(share):
    c = torch.tensor([share, 1.0, 0.0, share, 0.0])
    assert torch.equal(parse(describe(c, SPRITES), SPRITES), c)


@given(st.text("hero fdan+,&0.5½-_*", max_size=20))
def test_any_text_is_read_or_refused(text):
    try:
        c = parse(text, SPRITES)
    except ValueError as problem:
        assert str(problem).startswith("prompt: ")
    else:
        assert ((c >= 0) & (c <= 1)).all()
        assert torch.equal(parse(describe(c, SPRITES), SPRITES), c)


@pytest.mark.parametrize(
    "c, complaint",
    [
        ([1, 0], "float tensor"),
        (None, "float tensor"),
        ("hero", "float tensor"),
        (torch.zeros(5).long(), "int64"),
        (torch.zeros(4), r"of shape \(5,\)"),
        (torch.zeros(2, 4), r"of shape \(B,5\)"),
        (torch.zeros(0, 5), r"of shape \(B,5\)"),
        (torch.tensor(1.0), r"of shape \(5,\)"),
        (torch.zeros(1, 1, 5), r"of shape \(5,\)"),
        (torch.tensor([0, 0, -0.5, 0, 0]), r"weights in \[0, 1\] is needed, got -0.5"),
        (torch.tensor([[0, 0, 1.5, 0, 0]]), "got 1.5"),
        (torch.tensor([0, 0, float("nan"), 0, 0]), "got nan"),
    ],
)
def test_not_a_context(c, complaint):
    with pytest.raises(ValueError, match=rf"^c: .*{complaint}"):
        describe(c, SPRITES)


# With the rest of the module


def test_a_list_of_prompts_is_ready_for_guide():
    model = small_model(classes=5, lively=True)
    x, t = torch.zeros(2, 1, 8, 8), torch.full((2,), 0.5)
    c = parse(["0.5 hero + 0.5 food", ""], SPRITES)
    assert torch.equal(guide(model, c)(x, t), model(x, t, c))


def test_the_shipped_checkpoint_knows_its_own_words():
    names = load("sprites").context
    assert torch.equal(parse(names, names), torch.eye(len(names)))
    assert describe(torch.eye(len(names)), names) == list(names)
