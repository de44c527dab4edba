"""Arguments that make no sense: every public function refuses them, and says why.

What a rule refuses follows from its kind: `nonsense` makes it up for every argument of
the calls in `valid`, and `in_other_types` gives values that must change nothing. What
depends on several arguments, or on a rule of no kind, stands by hand in CASES.
"""

import inspect
import math
import re
import traceback
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from small import (
    NAMES,
    SCHEDULE,
    small_checkpoint,
    small_data,
    small_folder,
    small_model,
)
from torch.optim.swa_utils import AveragedModel

import lesson_utils as lu
from lesson_utils.support import checked as kinds
from lesson_utils.support.checked import Call, flag, real, refuse
from lesson_utils.support.rules import eta_rule, shaped_as, steps_rule

FUNCTIONS = {name: getattr(lu, name) for name in lu.__all__}
FUNCTIONS["add_noise"] = lu.Schedule.add_noise
FUNCTIONS["forward"] = lu.ContextUnet.forward
DATA, S, NAN = small_data(2), SCHEDULE, float("nan")
INF = float("inf")
X, T, C = DATA.x, torch.tensor([0.25, 0.5]), torch.eye(2)
TIMES = torch.tensor([1, 2])
LEVELS = torch.tensor([0.5, 0.75]).view(2, 1, 1, 1)


def eps_fn(x, t):
    return torch.tanh(x) + 0.1 * t.view(-1, 1, 1, 1)


def rules_of(function) -> dict:
    made = function.__init__ if inspect.isclass(function) else function
    return getattr(made, "rules", {})


CHECKED = {name for name, function in FUNCTIONS.items() if rules_of(function)}


@pytest.fixture(scope="module")
def valid(tmp_path_factory) -> dict[str, partial]:
    """A call that makes sense of each function that has rules, and of some others."""
    folder = tmp_path_factory.mktemp("arguments")
    pets, arrays = small_folder(folder / "a"), small_folder(folder / "b", "arrays")
    panel = folder / "panel.safetensors"
    lu.save(panel, *small_checkpoint()[:4])
    model = small_model(lively=True)
    ema, sgd = AveragedModel(model), torch.optim.SGD(model.parameters(), 0.1)
    loss = lu.diffusion_loss(model, S, X, C, generator=torch.Generator())
    student = lu.Student(model, S)
    halving = lu.DistillSettings(steps=2, teacher_steps=4, updates=1, batch_size=2)
    two, short = lu.Settings(steps=2, batch_size=2), lu.Schedule.linear(9)
    sampler = dict(eps_fn=eps_fn, schedule=short, steps=4, spacing="quad")
    step = dict(x=X, eps=X.flip(0), ab_t=0.25)
    at_16 = small_checkpoint((3, 16, 16))._replace(context=("cats", "dogs"))
    arguments = dict(
        linear_alpha_bar=dict(T=9, beta_1=0.125, beta_T=0.25),
        cosine_alpha_bar=dict(T=9),
        spaced_times=dict(T=9, steps=4, spacing="logsnr", alpha_bar=short.alpha_bar),
        Schedule=dict(alpha_bar=[1, 0.5]),
        Mixture=dict(points=X, weights=[1, 3], std=0.5),
        add_noise=dict(self=S, x0=X, t=TIMES, eps=X),
        time_embedding=dict(t=T, dim=8),
        ResBlock=dict(c_in=8, c_out=16, dim=4),
        Attention=dict(c=32),
        ContextUnet=dict(in_channels=3, context_size=2, width=16),
        forward=dict(self=model, x=X, t=T, c=C),
        diffusion_loss=dict(model=model, schedule=S, x0=X, c=C),
        learning_rate=dict(step=3, steps=9, peak=0.5, warmup=2),
        Muon=dict(parameters=list(model.parameters()), lr=0.5, weight_decay=0.25),
        train_step=dict(model=model, ema=ema, optimiser=sgd, loss=loss, rate=0.5),
        Settings=dict(ema_decay=0.5),
        train=dict(model=model, schedule=S, data=small_data(4), settings=two),
        initial_noise=dict(n=2, shape=(1, 4, 4), seed=3, start=1),
        image_generators=dict(n=2, seed=3, start=1),
        noise_like=dict(x=X, generator=None),
        guide=dict(model=model, c=C, scale=2.0, interval=(0.25, 0.5), worse=model),
        within=dict(interval=(0.25, 0.5), inside=eps_fn, outside=model),
        ddpm=dict(eps_fn=eps_fn, x=X, schedule=short, variance="beta", generator=None),
        ddim_step=dict(step, ab_s=0.5, eta=0.5, noise=X),
        clipped=step,
        ddim=dict(sampler, x=X, eta=0.5, clip=True, generator=None),
        heun=dict(sampler, x=X),
        dpmpp_2m=dict(sampler, x=X),
        last=dict(steps=list(lu.ddim(eps_fn, X, S, 2))),
        slerp=dict(a=X, b=X.flip(0), w=0.5),
        invert=dict(sampler, x0=X, refine=1),
        from_v=dict(x=X, v=X.flip(0), ab_t=0.5),
        Student=dict(network=model, schedule=S, times=[500, 250, 0], guidance=2.0),
        jump_target=dict(
            eps_fn=eps_fn, x=X, schedule=S, t=TIMES + 5, m=TIMES, s=[0, 1]
        ),
        distillation_loss=dict(student=student, x=X, t=TIMES, target=X, c=C),
        DistillSettings=dict(ema_decay=0.5),
        distill=dict(teacher=model, schedule=S, data=small_data(4), settings=halving),
        load=dict(name_or_path="sprites", device="cpu"),
        save=dict(path=panel, model=model, schedule=S, context=NAMES[:2]),
        parse=dict(prompt="a", names=["a", "b"]),
        describe=dict(c=C, names=["a", "b"]),
        dataset=dict(name_or_path=pets, like=at_16, unseen=False),
        image_folder=dict(path=pets, size=8, background="black", grey=True),
        npy_pair=dict(
            images=arrays / "x.npy",
            labels=arrays / "c.npy",
            class_names=("a", "b"),
            grey=True,
        ),
        draw_sprites=dict(n=2, seed=3),
        draw_archetype=dict(name="apple", n=2, seed=3),
        grid=dict(x=X, columns=2, scale=3),
        as_u=dict(model=model, x=X, t=T, c=C, guess=X.flip(0)),
        u_diagram=dict(image_shape=(1, 8, 8), width=16, context_size=2),
        sheet=dict(x=X, prompts=["a", "b"], columns=2, scale=3),
        strip=dict(frames=[X, X], moments=2, scale=3),
        plot=dict(curves={"a": [1, 2]}, log="x", size=(3, 2)),
        gif=dict(frames=[X, -X], path=folder / "x.gif", columns=2),
        show=dict(alt="noise", columns=2, scale=3, colors=16),
        progress=dict(steps=[1, 2], total=2),
        playground=dict(name=panel, n=2),
    )
    calls = {name: partial(FUNCTIONS[name], **arguments[name]) for name in arguments}
    return calls | {"show": partial(lu.show, X, **arguments["show"])}


# What follows from the kind of a rule


def nonsense(rule, right, call: Call) -> tuple[str, list]:
    """What a rule of a kind says that it needs, and values that it must refuse.

    right: a value that it takes; call: the arguments that had their turn before. There
    are no values for a rule of no kind.
    """
    anything = [None, "a", object()]
    numbers = [*anything, NAN, 1j, True, np.True_, torch.tensor(True), X, str(right)]
    match rule:
        case kinds.optional(inner):
            words, values = nonsense(inner, right, call)
            return words, [value for value in values if value is not None]
        case kinds.whole(least, most):
            most = call.find(most) if isinstance(most, str) else most
            span = f"of {least} or more" if most is None else f"in {least}..{most}"
            above = [] if most is None else [most + 1]
            ours = [least - 1, right + 0.5, math.inf, [right], *above]
            return f"a whole number {span} is needed", numbers + ours
        case kinds.multiple(of):
            ours = [0, -of, 2.5 * of, 10**6 * of + of, [right]] + [of + 1] * (of > 1)
            return f"a multiple of {of}, up to a million, is needed", numbers + ours
        case kinds.real(span):
            low, high = map(float, span[1:-1].split(","))
            under = low if span[0] == "(" else math.nextafter(low, -math.inf)
            over = high if span[-1] == ")" else math.nextafter(high, math.inf)
            ours = [under, over, [right], -(10**400)]
            return f"a number in {span} is needed", numbers + ours
        case kinds.choice(values):
            ours = [f"not {values[0]}", [values[0]], {values[0]}]
            as_text = [str(x) for x in values if not isinstance(x, str)]
            return " or ".join(map(repr, values)), numbers[:-1] + ours + as_text
        case kinds.tensor(shape):
            wrong = [*anything, 3, right.long(), right.numpy(), right.tolist()]
            wrong += misshapen(shape, right, call) if shape else []
            return "a float tensor of shape (", wrong
        case shaped_as():
            doubled = [torch.cat([right, right], i) for i in range(right.ndim)]
            wrong = [*anything, 3, right.long(), right[0], right[None], *doubled]
            return "a float tensor of shape (", wrong
        case steps_rule(path, to_0):
            n = call.find(path)
            times = [[n], [n, n, 0], [n - 1, 0], [0, n], [], range(n)]
            times += [[n, 1]] if to_0 else []
            times += [] if n > 255 else [bytes([n, 0]), bytearray([n, 0])]
            return f"{n}", [*numbers, 0, n + 1, 2.5, *times]
        case kinds.fit(_, words):
            return f"{words} is needed", [3, object()]
        case _ if rule is eta_rule:
            _, values = nonsense(real("[0, 1]"), right, call)
            return "[0, 1] or 'sigma-hat'", ["sigma", *values]
        case _ if rule is flag:
            ours = [*anything, 0, 1, 1.0, "False", "", [], X, torch.tensor(1)]
            return "True or False is needed", ours
    return "", []


def misshapen(shape: str, right: torch.Tensor, call: Call) -> list:
    """Tensors that are not of this shape, of which right is one."""
    wrong = [right[0], right[None]]
    for i, size in enumerate(shape.split()):
        if size != "K":
            wrong.append(right.narrow(i, 0, 0))
        if "." in size or size in call.sizes:
            wrong.append(torch.cat([right, right], i))
    return wrong


def in_other_types(right, times: bool = False) -> list[tuple]:
    """(a value, the same in another type) for a truth value, a number or some steps."""
    double = partial(torch.tensor, dtype=torch.double)
    types = [np.array, double]
    if not times:  # of which one in a row is a list of one
        types += [lambda x: np.array([x]), lambda x: double([x])]
    if isinstance(right, bool):
        types = [np.bool_, np.array, torch.tensor, lambda x: torch.tensor([x])]
    elif isinstance(right, int):
        types += [Fraction, float, np.float64, np.float32, np.int64, torch.tensor]
    elif isinstance(right, float):
        types += [Fraction, np.float64]
    else:
        return []
    pairs = [(right, other(right)) for other in types]
    if times:
        rows = [tuple, np.array, torch.tensor, lambda row: [*map(float, row)]]
        pairs += [([9, 2, 0], other([9, 2, 0])) for other in rows]
        pairs.append(([9, 6, 3, 0], range(9, -1, -3)))
    return pairs


def turns(call: partial) -> Iterator[tuple]:
    """(argument, its rule, its value, those that had their turn before) of a call."""
    bound = inspect.signature(call.func).bind(*call.args, **call.keywords)
    bound.apply_defaults()
    before = Call(bound.arguments)
    for name, rule in rules_of(call.func).items():
        yield name, rule, before[name], before
        before[name] = rule(name, before[name], before)


def shown(value) -> str:
    """A value as a message shows it."""
    if isinstance(value, Shown):
        return value.text
    if isinstance(value, torch.Tensor | np.ndarray) and value.shape not in ((), (1,)):
        return f"shape {tuple(value.shape)}"
    return " ".join(repr(value).split())[:200]


def complaints(named: str, call, value: str, needed: str) -> list[str]:
    """What is wrong with the way in which a call is refused.

    Iterators are not begun: the call itself must refuse.
    """
    try:
        call()
        return ["nothing is raised"]
    except Exception as error:
        problem, said = error, str(error)
    found = [] if type(problem) is ValueError else [repr(problem)]
    if "lesson_utils" not in traceback.extract_tb(problem.__traceback__)[-1].filename:
        found.append(f"not raised by us: {problem!r}")
    if not re.search(rf"(?<!\w){re.escape(named)}(?!\w)", said):
        found.append(f"{named} is not named: {said}")
    if value not in said.replace(needed, "", 1):
        found.append(f"{value} is not shown: {said}")
    return found + ([] if needed in said else [f"{needed} is not offered: {said}"])


def test_every_function_with_rules_has_a_call_that_makes_sense(valid):
    assert valid.keys() == CHECKED | {"load", "npy_pair"}
    for call in valid.values():
        got = call()
        assert not isinstance(got, Iterator) or list(got)


@pytest.mark.parametrize("name", sorted(CHECKED))
def test_nonsense_of_its_kind_is_refused(name, valid):
    for argument, rule, right, before in turns(valid[name]):
        needed, values = nonsense(rule, right, before)
        for wrong in values if argument != "pictures" else ():  # any number: by hand
            refused = partial(valid[name], **{argument: wrong})
            found = complaints(argument, refused, shown(wrong), needed)
            assert found == [], (argument, wrong)


@pytest.mark.parametrize("name", sorted(CHECKED))
def test_the_same_in_another_type_is_the_same_to_a_function(name, valid):
    for argument, rule, right, before in turns(valid[name]):
        for plain, other in in_other_types(right, isinstance(rule, steps_rule)):
            ours, theirs = (rule(argument, value, before) for value in (plain, other))
            if isinstance(theirs, torch.Tensor):  # a weight for each pair
                theirs = theirs.item()
            assert repr(ours) == repr(theirs), (argument, other)


def test_the_moments_of_a_strip_may_have_other_types():
    """They have no rule, as they may be indices too."""
    for plain, other in in_other_types(2):
        assert np.array_equal(lu.strip([X, -X, X], plain), lu.strip([X, -X, X], other))


@pytest.mark.parametrize("name", sorted(CHECKED))
def test_values_outside_their_span_are_refused(name, valid):
    for argument, rule, right, _ in turns(valid[name]):
        rule = rule.rule if isinstance(rule, kinds.optional) else rule
        if isinstance(rule, kinds.tensor | shaped_as) and rule.span:
            words = getattr(rule, "words", kinds.tensor.words)
            _, high = map(float, rule.span[1:-1].split(","))
            for wrong in (NAN, INF, -INF, *([] if high == INF else [255 * high])):
                values = torch.full_like(right, high / 2 if high < INF else 0.5)
                values[-1] = wrong
                refused = partial(valid[name], **{argument: values})
                said = f"{wrong:g}"
                assert complaints(argument, refused, said, words) == [], argument


# What depends on several arguments, or on a rule of no kind


class Shown(NamedTuple):
    """A value that a message shows in part, or in other words."""

    value: object
    text: str


def case(where: str, needed: str, *values, named: str = "", **others) -> tuple:
    """What a message offers for some values of function.argument.

    others: arguments that are not as in the valid call; named: what the message is
    about, if it is not the argument.
    """
    return where, needed, values, named or where.rpartition(".")[2], others


PLAIN = torch.nn.ReLU()
GREY = np.zeros((4, 4), np.uint8)
ONE, THREE = TIMES[:1], lu.image_generators(3)
NO_IMAGES = DATA._replace(x=None)
BETWEEN = "two numbers low <= high, both in [0, 1],"
FALLING = "numbers (T+1,), falling strictly from 1 to a value above 0,"
CASES = [
    # schedule
    case("linear_alpha_bar.beta_T", "[0.125, 1)", 1, 0.1, "a"),
    case("spaced_times.steps", "0..9", Shown([9, "a", 0], "'a'"), Shown([10, 0], "10")),
    case(
        "Schedule.alpha_bar", FALLING, "a", None, [1.0], [0.75, 0.5], [1, NAN], 1j * T
    ),
    case("as_u.x", "", "a", X[0], X.long()),
    case("u_diagram.image_shape", "(C,H,W)", (1, 8), (1, 7, 8), "a"),
    case("Mixture.points", "finite point", [1.0], Shown(X.long(), "int64"), X * NAN),
    case(
        "Mixture.weights",
        "numbers (2,)",
        "a",
        1j * T,
        [1.0],
        [1.0, -1.0],
        [0.0, 0.0],
    ),
    case("Schedule.alpha_bar", FALLING, [1.0, 0.5, 0.5], [1.0, 0.5, 0.0], X[0, 0]),
    case("add_noise.t", "0..500", Shown(TIMES + 499, "501"), Shown(-TIMES, "-1")),
    case("add_noise.t", "int64 tensor (2,)", 3, Shown(T, "0.25"), Shown(ONE, "[1]")),
    case("add_noise.t", "int64 tensor (2,)", [True, True], [1, 501]),
    case("spaced_times.steps", "falling from 9,", {9, 0}, [9, 4.5, 0]),
    case("spaced_times.spacing", "'quad' or 'logsnr'", "even"),
    case("spaced_times.alpha_bar", "the 10 numbers of a schedule", None, S.alpha_bar),
    case("spaced_times.alpha_bar", FALLING, "a", S, Shown(T, "[0.25, 0.5]")),
    # unet
    case("forward.x", "(B,1,H,W)", [1], X[0], X.repeat(1, 3, 1, 1), X[..., :0]),
    case("forward.x", "a float tensor", Shown(X.long(), "int64")),
    case("forward.x", "multiples of 4", X[..., :7]),
    case("forward.x", "a float tensor", Shown(X.to_sparse(), "(2, 1, 8, 8)")),
    case("forward.x", "model's device cpu", Shown(X.to("meta"), "'meta'")),
    # training
    case("diffusion_loss.model", "ContextUnet(3, 5)", None, X),
    case("diffusion_loss.x0", "(B,C,H,W)", [1], X[0], Shown(X.long(), "int64")),
    case("diffusion_loss.x0", "[-1, 1]", Shown(255 * X, "254"), Shown(X * NAN, "nan")),
    case("diffusion_loss.c", "(2,2)", [1], C[:, :1], C[0], C.long()),
    case("diffusion_loss.c", "finite numbers", Shown(C * NAN, "nan")),
    case("Muon.parameters", "model.parameters()", small_model(), [], ["a"]),
    case("train_step.model", "with weights", PLAIN),
    case("train_step.ema", "AveragedModel", small_model()),
    case("train_step.optimiser", "torch.optim", "Adam"),
    case("train_step.loss", "scalar tensor with its graph", X, torch.tensor(3.0), 3.0),
    case("train.model", "ContextUnet", len, PLAIN),
    case("train.data", "Pictures(x, c, names)", X, Shown(NO_IMAGES, "x=None")),
    case("train.data", "(N,1,H,W)", Shown(DATA._replace(x=X[:0]), "(0,")),
    case("train.data", "(2,2)", Shown(DATA._replace(c=C[:1]), "(1, 2)")),
    case("train.data", "(2,2)", Shown(DATA._replace(c=C[:, :1]), "(2, 1)")),
    case("train.data", "[-1, 1]", Shown(DATA._replace(x=0 * X + 255), "255")),
    case("train.data", "[-1, 1]", Shown(DATA._replace(x=X * NAN), "nan")),
    case("train.settings", "Settings", {"steps": 3}),
    case("train.state", "path of a file", 3, "/"),
    case("Settings.ema_decay", "[0, 1)", 1.0, "a"),
    # noise and sampling
    case("initial_noise.shape", "1 or more", Shown((1, 0, 4), "0")),
    case("initial_noise.shape", "(C,H,W)", 16),
    case("noise_like.generator", "one torch.Generator, or a list of 2", 0, THREE),
    case("ddpm.generator", "a list of 2", [None]),
    case("ddim.eps_fn", "guide(model)", X, None),
    case("ddpm.eps_fn", "guide(model)", X, None),
    case("invert.eps_fn", "guide(model)", X, None),
    case("heun.eps_fn", "guide(model)", X, None),
    case("dpmpp_2m.eps_fn", "guide(model)", X, None),
    case("heun.schedule", "a Schedule", SCHEDULE.alpha_bar),
    case("guide.interval", BETWEEN, (0.5, 0.25), (-0.25, 0.5), (0.5, 1.5), (0.5,)),
    case("guide.interval", BETWEEN, 0.5, "ab", (0.25, NAN), (0, 0.5, 1), (0, None)),
    case("guide.worse", "in_channels 1", Shown(small_model(3), "3")),
    case("guide.worse", "context_size 2", Shown(small_model(1, 3), "3")),
    case("guide.worse", "device cpu", Shown(small_model().to("meta"), "'meta'")),
    case("guide.worse", "something to call", X),
    case("within.interval", BETWEEN, (0.5, 0.25), (0.5, 1.5), None, 3),
    case("within.inside", "guide(model)", X, None),
    case("within.outside", "guide(model)", X, None),
    case("guide.c", "(B,2)", [1], C[:, :1], C[0], C.long()),
    case("guide.c", "finite numbers", Shown(C * NAN, "nan"), Shown(C + INF, "inf")),
    case("ddim.schedule", "a Schedule", SCHEDULE.alpha_bar),
    case("ddim.generator", "one torch.Generator, or a list of 2", 0, THREE),
    case("ddim_step.ab_t", "(0, 1]", 1.5, 0.0, "a", Shown(LEVELS - 0.5, "0 to 0.25")),
    case("ddim_step.ab_t", "(2,1,1,1)", Shown(LEVELS[:1].repeat(3, 1, 1, 1), "(3,")),
    case("ddim_step.ab_t", "with eta = 0.5, a number", Shown(LEVELS, "(2, 1, 1, 1)")),
    case("ddim_step.ab_s", "(0, 1]", 1.5, "a"),
    case("ddim_step.ab_s", "above ab_t", 0.2),
    case("ddim_step.noise", "(2,1,8,8)", None, C),
    case("last.steps", "ddim(…)", [], 3, [1, 2], torch.tensor(1)),
    case("slerp.a", "(B,C,H,W)", [1]),
    case("slerp.a", "not all zeros", 0 * X),
    case("slerp.a", "finite numbers", Shown(X * NAN, "nan")),
    case("slerp.b", "(2,1,8,8)", X[:1]),
    case("slerp.b", "not all zeros", 0 * X),
    case("slerp.b", "opposite", -X),
    case("slerp.w", "[0, 1]", 1.1, "half", Shown(torch.tensor([0.0, 2.0]), "2.0")),
    case("slerp.w", "(2,)", torch.rand(3), [0.1, 0.2, 0.3]),
    case("slerp.w", "numbers", torch.tensor([0.0, NAN])),
    # distilling
    case("from_v.ab_t", "[0, 1]", -0.5, "a", None, Shown(2 * LEVELS, "1 to 1.5")),
    case("Student.times", "0..500", [250, 0], [500, 500, 0], [500, 250], "ab", 3),
    case("jump_target.eps_fn", "guide(model)", X, None),
    case("jump_target.t", "1..500", Shown(0 * TIMES, "[0, 0]"), "a", None),
    case("jump_target.m", "below those of t", Shown(TIMES + 5, "[6, 7]")),
    case("jump_target.s", "below those of m", Shown(TIMES, "[1, 2]")),
    case("Student.schedule", "a Schedule", SCHEDULE.alpha_bar),
    case("distillation_loss.t", "1..500", Shown(500 + TIMES, "[501, 502]"), 3),
    case("distillation_loss.t", "1..500", Shown(0 * TIMES, "[0, 0]"), [1.5, 2.0]),
    case("distillation_loss.c", "(2,2)", C[:, :1], Shown(C.long(), "int64")),
    case("DistillSettings.ema_decay", "[0, 1)", 1.0, "a"),
    case("distill.data", "Pictures(x, c, names)", X, Shown(NO_IMAGES, "x=None")),
    case("distill.state", "path of a file", 3, "/"),
    # checkpoint
    case("load.name_or_path", "sprites", None, "no-such"),
    case("load.name_or_path", "sprites", Shown("a/b.safetensors", "a/b")),
    case("load.name_or_path", "a path", ""),
    case("load.device", "one of this machine, such as 'cpu'", "gpu", "cuda:99", 3.5),
    case("save.path", ".safetensors", "x.pt", None),
    case("save.model", "ContextUnet", PLAIN),
    case("save.context", "2 names", ["a"], "ab", None),
    case("save.image_shape", "multiples of 4", [1, 7]),
    case("save.image_shape", "(1,H,W)", "abc", 5),
    case("save.meta", "plain JSON", len, NAN),
    # context
    case("parse.prompt", "or several", []),
    case("parse.prompt", "did you mean", "herro", names=["hero"]),
    case("parse.names", "a list of class names", "ab"),
    case("parse.names", "differs from 'a' in more", Shown(["a", "A"], "'A'")),
    case("describe.c", "float tensor", [1]),
    case("describe.c", "[0, 1]", Shown(C + 0.5, "1.5")),
    case("describe.names", "a list of class names", None),
    # data
    case("dataset.name_or_path", "sprites", Shown("spirtes", "spirtes")),
    case("dataset.name_or_path", "a name or a path", 3),
    case("dataset.size", "none for sprites", 16, name_or_path="sprites", like=None),
    case("image_folder.path", "folders", Shown("none", "none"), named="none"),
    case("image_folder.path", "a name or a path", 3),
    case("image_folder.size", "multiple of 4", 17),
    case("image_folder.size", "4..1024", "8"),
    case("image_folder.background", "a colour such as 'white'", 0, "whit", "#12345"),
    case("dataset.background", "a colour such as 'white'", "#1234567", ""),
    case("dataset.class_names", "differs from 'a'", Shown(("a", "A"), "'A'")),
    case("npy_pair.class_names", "2 names for", ("a", "b", "c")),
    case("npy_pair.images", "np.save", Shown("no.npy", "no.npy"), named="no.npy"),
    case("npy_pair.labels", "np.save", Shown("no.npy", "no.npy"), named="no.npy"),
    case("draw_archetype.name", "apple", "spoon"),
    # viz
    case("grid.x", "(B,C,H,W)", X[0], Shown(GREY, "ndarray")),
    case("grid.x", "look for its source", Shown(X * NAN, "NaN")),
    case("sheet.x", "(B,C,H,W)", X[0]),
    case("sheet.prompts", "2 texts", ["a"]),
    case("strip.frames", "one tensor", []),
    case("strip.moments", "1 or more", 0),
    case("strip.moments", "indices into 2 frames", [7]),
    case("plot.curves", "finite numbers", Shown({"a": [1, NAN]}, "'a'")),
    case("plot.curves", "finite numbers", Shown({"a": "b"}, "'a'")),
    case("plot.x", "numbers", "ab"),
    case("gif.frames", "(B,C,H,W)", Shown(X, "(1, 8, 8)")),
    case("gif.frames", "one shape", Shown([X, X[:1]], "frames[1]")),
    case("gif.path", ".gif", "a.png"),
    case("gif.scale", "65535 pixels a side", 60_000),
    case("show.pictures", "one picture or more", ()),
    case("show.pictures", "a GIF or a PNG", Shown((3,), "3")),
    case("show.pictures", "uint8 (H,W,3)", Shown((GREY,), "(4, 4)")),
    case("show.titles", "1 text", 3),
    case("show.alt", "says what pictures[0] shows", None),
    case("show.alt", "1 text", ["a", "b"]),
    # widgets
    case("playground.name", "sprites", "no-such", named="name_or_path"),
    case("playground.device", "'cpu'", "gpu"),
]


@pytest.mark.parametrize(
    ("where", "needed", "values", "named", "others"), CASES, ids=[c[0] for c in CASES]
)
def test_nonsense_is_refused_at_the_call(where, needed, values, named, others, valid):
    name, argument = where.split(".")
    for wrong in values:
        value = wrong.value if isinstance(wrong, Shown) else wrong
        call = partial(valid[name], **others | {argument: value})
        if argument == "pictures":
            call = partial(lu.show, *value, alt="a")
        assert complaints(named, call, shown(wrong), needed) == [], value


def test_methods_refuse_what_their_functions_refuse():
    for method in (lu.Schedule.linear, lu.Schedule.cosine):
        for wrong in (0, "many"):
            refused = partial(method, wrong)
            assert complaints("T", refused, shown(wrong), "of 1 or more") == []
    assert complaints("steps", lambda: S.timesteps([501, 0]), "501", "0..500") == []


@pytest.mark.parametrize(
    "call",
    [
        lambda: None,
        lambda: [][1],
        lambda: torch.zeros("a"),
        lambda: refuse("y", "1 or 2", 3),
        lambda: refuse("x", "1 or 2", 4),
        lambda: refuse("x", "5 or 6", 3),
        lambda: {}.missing,
    ],
)
def test_the_test_of_refusals_can_fail(call):
    assert complaints("x", lambda: refuse("x", "1 or 2", 3), "3", "1 or 2") == []
    assert complaints("x", call, "3", "1 or 2") != []


def test_every_public_argument_has_a_rule_or_a_case(valid):
    every = set()
    for name, public in FUNCTIONS.items():
        called = inspect.isfunction(public) or inspect.isclass(public)
        if called and not hasattr(public, "_fields"):  # no plain record
            every |= {f"{name}.{p}" for p in inspect.signature(public).parameters}
    made_up = set()
    for name in CHECKED:
        for argument, *rest in turns(valid[name]):
            if nonsense(*rest)[1]:
                made_up.add(f"{name}.{argument}")
    # Any value will do for these: a text that is shown as it is, and a method's own.
    free = {"plot.xlabel", "plot.ylabel", "add_noise.self", "forward.self"}
    assert every - made_up - {where for where, *_ in CASES} == free
    # So that a new kind of rule, or a case that is gone, does not pass unseen:
    assert {"ddim.steps", "ddim.eta", "forward.c", "Settings.bfloat16"} <= made_up
    assert len(every) >= 130 and len(made_up) >= 95
    assert sum(len(values) for _, _, values, *_ in CASES) >= 130
