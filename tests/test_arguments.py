"""Arguments that make no sense: every public function refuses them, and says why.

What a rule refuses follows from its kind: `nonsense` makes it up for every argument of
the calls in `valid`, and `in_other_types` gives values that must change nothing. What
depends on several arguments, or on a rule of no kind, stands by hand in CASES:
(function.argument, a call, the value as the message shows it, what would do).
"""

import functools
import inspect
import math
import re
import tempfile
import traceback
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

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
from lesson_utils.support.checked import (
    Call,
    choice,
    fit,
    flag,
    multiple,
    optional,
    real,
    refuse,
    tensor,
    whole,
)
from lesson_utils.support.rules import eta_rule, shaped_as, steps_rule

FUNCTIONS = {name: getattr(lu, name) for name in lu.__all__}
FUNCTIONS["add_noise"] = lu.Schedule.add_noise
FUNCTIONS["forward"] = lu.ContextUnet.forward
X, T, C = small_data(2).x, torch.tensor([0.25, 0.5]), torch.eye(2)
TIMES, NAN = torch.tensor([1, 2]), float("nan")
MODEL, S = small_model(), SCHEDULE


def eps_fn(x, t):
    return torch.tanh(x) + 0.1 * t.view(-1, 1, 1, 1)


def rules_of(function) -> dict:
    made = function.__init__ if inspect.isclass(function) else function
    return getattr(made, "rules", {})


@functools.cache
def valid(folder: Path) -> dict[str, partial]:
    """A call that makes sense of each function that has rules."""
    pets, file, panel = (folder / name for name in ("pets", "x", "panel"))
    file, panel = (path.with_suffix(".safetensors") for path in (file, panel))
    if not pets.exists():
        small_folder(pets)
        lu.save(panel, *small_checkpoint()[:4])
    model = small_model(lively=True)
    ema, sgd = AveragedModel(model), torch.optim.SGD(model.parameters(), 0.1)
    loss = lu.diffusion_loss(model, S, X, C, generator=torch.Generator())
    two, short = lu.Settings(steps=2, batch_size=2), lu.Schedule.linear(9)
    sampler = dict(eps_fn=eps_fn, schedule=short, steps=4, spacing="quad")
    step = dict(x=X, eps=X.flip(0), ab_t=0.25)
    at_16 = small_checkpoint((3, 16, 16))._replace(context=("cats", "dogs"))
    arguments = dict(
        linear_alpha_bar=dict(T=9, beta_1=0.125, beta_T=0.25),
        cosine_alpha_bar=dict(T=9),
        spaced_times=dict(T=9, steps=4, spacing="quad"),
        Schedule=dict(alpha_bar=[1, 0.5]),
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
        guide=dict(model=model, c=C, scale=2.0),
        ddpm=dict(eps_fn=eps_fn, x=X, schedule=short, variance="beta", generator=None),
        ddim_step=dict(step, ab_s=0.5, eta=0.5, noise=X),
        clipped=step,
        ddim=dict(sampler, x=X, eta=0.5, clip=True, generator=None),
        last=dict(steps=list(lu.ddim(eps_fn, X, S, 2))),
        slerp=dict(a=X, b=X.flip(0), w=0.5),
        invert=dict(sampler, x0=X, refine=1),
        save=dict(path=file, model=model, schedule=S, context=NAMES[:2]),
        parse=dict(prompt="a", names=["a", "b"]),
        describe=dict(c=C, names=["a", "b"]),
        dataset=dict(name_or_path=pets, like=at_16, unseen=False),
        image_folder=dict(path=pets, size=8),
        draw_sprites=dict(n=2, seed=3),
        draw_archetype=dict(name="apple", n=2, seed=3),
        grid=dict(x=X, columns=2, scale=3),
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


def fresh(folder: Path, name: str) -> partial:
    """One of the calls, whose model and generator no other call has changed."""
    if "model" in valid(folder)[name].keywords:
        valid.cache_clear()
    return valid(folder)[name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("arguments")


# What follows from the kind of a rule


def nonsense(rule, right, call: Call) -> list:
    """Values that a rule of a kind must refuse; right is one that it takes.

    call: the arguments that had their turn before. Empty for a rule of no kind.
    """
    anything = [None, "a", object()]
    numbers = [*anything, NAN, 1j, True, np.True_, torch.tensor(True), X, str(right)]
    match rule:
        case optional(inner):
            return [x for x in nonsense(inner, right, call) if x is not None]
        case whole(least, most):
            most = call.find(most) if isinstance(most, str) else most
            above = [] if most is None else [most + 1]
            return [*numbers, least - 1, right + 0.5, math.inf, [right], *above]
        case multiple(of):
            ours = [0, -of, 2.5 * of, 10**6 * of + of, [right]]
            return numbers + ours + [of + 1] * (of > 1)
        case real(span):
            low, high = map(float, span[1:-1].split(","))
            under = low if span[0] == "(" else math.nextafter(low, -math.inf)
            over = high if span[-1] == ")" else math.nextafter(high, math.inf)
            return [*numbers, under, over, [right], -(10**400)]
        case choice(values):
            ours = [f"not {values[0]}", [values[0]], {values[0]}]
            as_text = [str(x) for x in values if not isinstance(x, str)]
            return numbers[:-1] + ours + as_text
        case tensor(shape):
            wrong = [*anything, 3, right.long(), right.numpy(), right.tolist()]
            return wrong + (misshapen(shape, right, call) if shape else [])
        case shaped_as():
            doubled = [torch.cat([right, right], i) for i in range(right.ndim)]
            return [*anything, 3, right.long(), right[0], right[None], *doubled]
        case steps_rule(path):
            n = call.find(path)
            times = [[n], [n, n, 0], [n, 1], [n - 1, 0], [0, n], [], range(n)]
            return [*numbers, 0, n + 1, 2.5, *times]
        case fit():
            return [3, object()]
        case _ if rule is eta_rule:
            return ["sigma", *nonsense(real("[0, 1]"), right, call)]
        case _ if rule is flag:
            return [*anything, 0, 1, 1.0, "False", "", [], X, torch.tensor(1)]
    return []


def misshapen(shape: str, right: torch.Tensor, call: Call) -> list:
    """Tensors that are not of this shape, of which right is one."""
    wrong = [right[0], right[None]]
    for i, size in enumerate(shape.split()):
        if size != "K":
            wrong.append(right.narrow(i, 0, 0))
        if "." in size or size in call.sizes:
            wrong.append(torch.cat([right, right], i))
    return wrong


def needed(rule, call: Call) -> str:
    """A part of the message: what would do."""
    match rule:
        case optional(inner):
            return needed(inner, call)
        case whole(least, None):
            return f"a whole number of {least} or more is needed"
        case whole(least, most):
            most = call.find(most) if isinstance(most, str) else most
            return f"a whole number in {least}..{most} is needed"
        case multiple(of):
            return f"a multiple of {of}, up to a million, is needed"
        case real(span):
            return f"a number in {span} is needed"
        case choice(values):
            return " or ".join(map(repr, values))
        case tensor() | shaped_as():
            return "a float tensor of shape ("
        case steps_rule(path):
            return f"{call.find(path)}"
        case fit(_, words):
            return f"{words} is needed"
    return "[0, 1] or 'sigma-hat'" if rule is eta_rule else "True or False is needed"


def shown(value) -> str:
    """A value as a message shows it."""
    if isinstance(value, torch.Tensor | np.ndarray) and value.shape not in ((), (1,)):
        return f"shape {tuple(value.shape)}"
    return " ".join(repr(value).split())[:200]


def in_other_types(right, times: bool = False) -> list[tuple]:
    """(a value, the same in another type) for a truth value, a number or some steps."""
    exact = [Fraction, np.float64, np.array, torch.tensor]
    if isinstance(right, bool):
        kinds = [np.bool_, np.array, torch.tensor]
    elif isinstance(right, int):
        kinds = [*exact, float, np.int64, lambda n: torch.tensor(float(n))]
    elif isinstance(right, float):
        kinds = [*exact[:-1], lambda x: torch.tensor([x], dtype=torch.double)]
    else:
        return []
    pairs = [(right, kind(right)) for kind in kinds]
    if times:
        rows = [tuple, np.array, torch.tensor, lambda row: [*map(float, row)]]
        pairs += [([9, 2, 0], kind([9, 2, 0])) for kind in rows]
        pairs.append(([9, 6, 3, 0], range(9, -1, -3)))
    return pairs


def before(call: partial, argument: str | None = None) -> Call:
    """The arguments of a call, when it is one's turn to be checked."""
    bound = inspect.signature(call.func).bind(*call.args, **call.keywords)
    bound.apply_defaults()
    arguments = Call(bound.arguments)
    for name, rule in rules_of(call.func).items():
        if name == argument:
            break
        arguments[name] = rule(name, arguments[name], arguments)
    return arguments


def flat(value) -> Iterator:
    """A result as tensors, and texts that give away its type."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, torch.nn.Module):
        yield from value.parameters()
    elif isinstance(value, lu.Update):
        yield from (value.losses, *value.ema.parameters())
    elif isinstance(value, torch.Generator):
        yield value.get_state()
    elif isinstance(value, list | tuple | Iterator):
        for each_one in value:
            yield from flat(each_one)
    elif inspect.isfunction(value):  # the eps_fn of guide
        yield value(X, T)
    elif hasattr(value, "pictures"):  # a playground
        yield value.pictures
    elif not isinstance(value, torch.optim.Optimizer):
        yield repr(value)
    else:
        yield repr(value.defaults)


def result(call: partial) -> list:
    """What a call gives, and what it makes of the weights of its model."""
    torch.manual_seed(0)
    got = list(flat(call()))
    return got + list(flat(call.keywords.get("model", ())))


def same(a: list, b: list) -> bool:
    pairs = zip(a, b, strict=True)
    return all(torch.equal(x, y) if hasattr(x, "ndim") else x == y for x, y in pairs)


CHECKED = {name for name, function in FUNCTIONS.items() if rules_of(function)}
RULED = [
    (name, argument)
    for name in sorted(CHECKED)
    for argument in rules_of(FUNCTIONS[name])
    if argument != "pictures"  # any number of them: by hand
]


def test_every_function_with_rules_has_a_call_that_makes_sense(folder):
    calls = valid(folder)
    assert calls.keys() == CHECKED
    assert all(result(call) for call in calls.values())


@pytest.mark.parametrize(("name", "argument"), RULED)
def test_nonsense_of_its_kind_is_refused(name, argument, folder):
    call = valid(folder)[name]
    rule, at = rules_of(call.func)[argument], before(call, argument)
    for wrong in nonsense(rule, at[argument], at):
        refused = partial(call, **{argument: wrong})
        found = complaints(argument, refused, shown(wrong), needed(rule, at))
        assert found == [], wrong


def made_up(folder) -> set[str]:
    """The arguments for which there is nonsense of a kind."""
    calls, found = valid(folder), set()
    for name, argument in RULED:
        at = before(calls[name], argument)
        if nonsense(rules_of(FUNCTIONS[name])[argument], at[argument], at):
            found.add(f"{name}.{argument}")
    return found


def test_nonsense_is_made_up_for_most_arguments(folder):
    """So that a new kind of rule does not pass unseen."""
    found = made_up(folder)
    assert len(found) >= 95
    assert {"ddim.steps", "ddim.eta", "forward.c", "Settings.bfloat16"} <= found


@pytest.mark.parametrize("name", sorted(CHECKED))
def test_the_same_in_another_type_gives_the_same(name, folder):
    for argument, right in before(valid(folder)[name]).items():
        rule = rules_of(FUNCTIONS[name]).get(argument)
        for plain, other in in_other_types(right, isinstance(rule, steps_rule)):
            ours, theirs = (
                result(partial(fresh(folder, name), **{argument: value}))
                for value in (plain, other)
            )
            assert same(ours, theirs), (argument, other)


# What depends on several arguments, or on a rule of no kind


linear, draw, like = lu.linear_alpha_bar, lu.draw_archetype, lu.noise_like


def sample(**changes):
    return lu.ddim(eps_fn, X, S, **changes)


def arc(a=X, b=X + 1, w=0.5):
    return lu.slerp(a, b, w)


def learn(**changes):
    made = {"model": MODEL, "schedule": S, "data": lu.Pictures(X, C, NAMES[:2])}
    return lu.train(**(made | changes))


def learn_from(x, c, names="ab"):
    return learn(data=lu.Pictures(x, c, names))


def step(**changes):
    optimiser = torch.optim.SGD(MODEL.parameters(), 0.1)
    made = {"model": MODEL, "ema": AveragedModel(MODEL), "optimiser": optimiser}
    return lu.train_step(**(made | {"loss": MODEL(X, T).mean(), "rate": 0.1} | changes))


def keep(path="x.safetensors", model=MODEL, context=("a", "b"), **more):
    return lu.save(path, model, S, context, **more)


ZEROS, GREY, TWO = 0 * X, np.zeros((4, 4), np.uint8), {"a": [1, 2]}
THREE = lu.image_generators(3)
CASES = [
    # schedule
    ("linear_alpha_bar.T", lambda: lu.Schedule.linear(0), "0", "1 or more"),
    ("cosine_alpha_bar.T", lambda: lu.Schedule.cosine("many"), "'many'", "1 or more"),
    (
        "linear_alpha_bar.beta_T",
        lambda: linear(9, 0.5, 1),
        "1",
        "[0.5, 1)",
    ),
    (
        "linear_alpha_bar.beta_T",
        lambda: linear(9, 0.5, 0.1),
        "0.1",
        "[0.5",
    ),
    ("linear_alpha_bar.beta_T", lambda: linear(9, None, "a"), "'a'", "1)"),
    ("spaced_times.steps", lambda: S.timesteps([500, "a", 0]), "'a'", "0..500"),
    ("spaced_times.steps", lambda: S.timesteps([501, 0]), "501", "0..500"),
    ("Schedule.alpha_bar", lambda: lu.Schedule("a"), "'a'", "falling strictly"),
    ("Schedule.alpha_bar", lambda: lu.Schedule(None), "None", "falling strictly"),
    ("Schedule.alpha_bar", lambda: lu.Schedule([0.9, 0.5]), "[0.8999", "from 1"),
    ("Schedule.alpha_bar", lambda: lu.Schedule([1, 0.5, 0.5]), "0.5, 0.5", "strictly"),
    ("Schedule.alpha_bar", lambda: lu.Schedule([1, 0.5, 0.0]), "0.5, 0.0", "above 0"),
    ("Schedule.alpha_bar", lambda: lu.Schedule([1]), "[1.0]", "(T+1,)"),
    ("Schedule.alpha_bar", lambda: lu.Schedule([1, NAN]), "nan", "falling"),
    ("Schedule.alpha_bar", lambda: lu.Schedule(torch.ones(2, 2)), "(2, 2)", "(T+1,)"),
    ("Schedule.alpha_bar", lambda: lu.Schedule(1j * T), "complex", "falling"),
    ("add_noise.t", lambda: S.add_noise(X, TIMES + 499, X), "501", "0..500"),
    ("add_noise.t", lambda: S.add_noise(X, -TIMES, X), "-1", "0..500"),
    ("add_noise.t", lambda: S.add_noise(X, T, X), "0.25", "int64"),
    ("add_noise.t", lambda: S.add_noise(X, 3, X), "3", "int64 tensor (2,)"),
    ("add_noise.t", lambda: S.add_noise(X, TIMES[:1], X), "[1]", "(2,)"),
    # unet
    ("forward.x", lambda: MODEL([1], T), "[1]", "(B,1,H,W)"),
    ("forward.x", lambda: MODEL(X[0], T[:1]), "(1, 8, 8)", "(B,1,H,W)"),
    ("forward.x", lambda: MODEL(X.repeat(1, 3, 1, 1), T), "(2, 3", "(B,1,H,W)"),
    ("forward.x", lambda: MODEL(X[..., :7], T), "(2, 1, 8, 7)", "multiples of 4"),
    ("forward.x", lambda: MODEL(X[..., :0], T), "(2, 1, 8, 0)", "(B,1,H,W)"),
    ("forward.x", lambda: MODEL(X.long(), T), "int64", "float"),
    ("forward.x", lambda: MODEL(X.double(), T), "float64", "type torch.float32"),
    ("forward.x", lambda: MODEL(X.to("meta"), T), "'meta'", "model's device cpu"),
    # training
    ("Muon.parameters", lambda: lu.Muon(MODEL), "ContextUnet", "model.parameters()"),
    ("Muon.parameters", lambda: lu.Muon([]), "[]", "model.parameters()"),
    ("Muon.parameters", lambda: lu.Muon(["a"]), "['a']", "model.parameters()"),
    ("train_step.model", lambda: step(model=torch.nn.ReLU()), "ReLU", "with weights"),
    ("train_step.ema", lambda: step(ema=MODEL), "ContextUnet", "AveragedModel"),
    ("train_step.optimiser", lambda: step(optimiser="Adam"), "'Adam'", "torch.optim"),
    ("train_step.loss", lambda: step(loss=X), "(2, 1, 8, 8)", "scalar"),
    ("train_step.loss", lambda: step(loss=torch.tensor(3.0)), "tensor(3.)", "graph"),
    ("train_step.loss", lambda: step(loss=3.0), "3.0", "graph"),
    ("train.model", lambda: learn(model=len), "len", "ContextUnet"),
    ("train.model", lambda: learn(model=torch.nn.ReLU()), "ReLU", "with weights"),
    ("train.data", lambda: learn(data=X), "(2, 1, 8, 8)", "Pictures"),
    ("train.data", lambda: learn_from(None, C), "x=None", "names"),
    ("train.data", lambda: learn_from(X[:0], C[:0]), "(0,", "(N,1,"),
    ("train.data", lambda: learn_from(X, C[:1]), "(1, 2)", "(2,2)"),
    ("train.data", lambda: learn_from(X, C[:, :1]), "(2, 1)", "(2,2)"),
    ("train.data", lambda: learn_from(ZEROS + 255, C), "255", "[-1, 1]"),
    ("train.data", lambda: learn_from(X * NAN, C), "nan", "[-1, 1]"),
    ("train.settings", lambda: learn(settings={"steps": 3}), "'steps'", "Settings"),
    ("train.state", lambda: learn(state=3), "3", "path of a file"),
    ("train.state", lambda: learn(state="/"), "'/'", "path of a file"),
    ("Settings.ema_decay", lambda: lu.Settings(ema_decay=1.0), "1.0", "[0, 1)"),
    ("Settings.ema_decay", lambda: lu.Settings(ema_decay="a"), "'a'", "[0, 1)"),
    # noise
    ("initial_noise.shape", lambda: lu.initial_noise(1, (1, 0, 4)), "0", "1 or more"),
    ("initial_noise.shape", lambda: lu.initial_noise(1, 16), "16", "(C,H,W)"),
    ("noise_like.generator", lambda: like(X, 0), "0", "torch.Generator"),
    (
        "noise_like.generator",
        lambda: like(X, THREE),
        "Generator",
        "a list of 2",
    ),
    # sampling
    ("ddpm.generator", lambda: lu.ddpm(eps_fn, X, S, "beta", [None]), "[None]", "of 2"),
    ("ddim.eps_fn", lambda: lu.ddim(X, X, S), "(2, 1, 8, 8)", "guide(model)"),
    ("ddim.generator", lambda: sample(generator=0), "0", "torch.Generator"),
    ("ddim.generator", lambda: sample(generator=THREE), "Generator", "a list of 2"),
    ("ddim_step.ab_s", lambda: lu.ddim_step(X, X, 0.5, 1.5), "1.5", "(0, 1]"),
    ("ddim_step.ab_s", lambda: lu.ddim_step(X, X, 0.5, "a"), "'a'", "(0, 1]"),
    ("ddim_step.ab_s", lambda: lu.ddim_step(X, X, 0.5, 0.4, 1, X), "0.4", "above ab_t"),
    ("ddim_step.noise", lambda: lu.ddim_step(X, X, 0.5, 0.6, 1), "None", "(2,1,8,8)"),
    ("ddim_step.noise", lambda: lu.ddim_step(X, X, 0.5, 0.6, 1, C), "(2, 2)", "(2,1,8"),
    ("last.steps", lambda: lu.last([]), "[]", "ddim(…)"),
    ("last.steps", lambda: lu.last(3), "3", "ddim(…)"),
    ("last.steps", lambda: lu.last([1, 2]), "[1, 2]", "ddim(…)"),
    ("last.steps", lambda: lu.last(torch.tensor(1)), "tensor(1)", "ddim(…)"),
    ("slerp.a", lambda: arc([1]), "[1]", "(B,C,H,W)"),
    ("slerp.a", lambda: arc(ZEROS), "(2, 1, 8, 8)", "not all zeros"),
    ("slerp.b", lambda: arc(b=X[:1]), "(1, 1, 8, 8)", "(2,1,8,8)"),
    ("slerp.b", lambda: arc(b=ZEROS), "(2, 1, 8, 8)", "not all zeros"),
    ("slerp.b", lambda: arc(b=-X), "(2, 1, 8, 8)", "opposite"),
    ("slerp.w", lambda: arc(w=1.1), "1.1", "[0, 1]"),
    ("slerp.w", lambda: arc(w="half"), "'half'", "[0, 1]"),
    ("slerp.w", lambda: arc(w=torch.rand(3)), "(3,)", "(2,)"),
    ("slerp.w", lambda: arc(w=torch.tensor([0.0, 2.0])), "2.0", "[0, 1]"),
    ("slerp.w", lambda: arc(w=torch.tensor([0.0, NAN])), "(2,)", "numbers"),
    # checkpoint
    ("load.name_or_path", lambda: lu.load(None), "None", "'sprites'"),
    ("load.name_or_path", lambda: lu.load("no-such"), "'no-such'", "sprites"),
    ("load.name_or_path", lambda: lu.load("a/b.safetensors"), "a/b", "sprites"),
    ("load.name_or_path", lambda: lu.load(""), "''", "a path"),
    ("load.device", lambda: lu.load("sprites", "gpu"), "'gpu'", "'cpu'"),
    ("load.device", lambda: lu.load("sprites", "cuda:99"), "'cuda:99'", "'cpu'"),
    ("load.device", lambda: lu.load("sprites", 3.5), "3.5", "'cpu'"),
    ("save.path", lambda: keep("x.pt"), "'x.pt'", ".safetensors"),
    ("save.path", lambda: keep(None), "None", ".safetensors"),
    ("save.model", lambda: keep(model=torch.nn.ReLU()), "ReLU", "ContextUnet"),
    ("save.context", lambda: keep(context=("a",)), "'a'", "2 names"),
    ("save.context", lambda: keep(context="ab"), "'ab'", "2 names"),
    ("save.context", lambda: keep(context=None), "None", "2 names"),
    ("save.image_shape", lambda: keep(image_shape=(1, 7)), "1, 7", "multiples of 4"),
    ("save.image_shape", lambda: keep(image_shape="abc"), "'abc'", "(1,H,W)"),
    ("save.image_shape", lambda: keep(image_shape=5), "5", "(1,H,W)"),
    ("save.meta", lambda: keep(thing=len), "len", "plain JSON"),
    ("save.meta", lambda: keep(loss=NAN), "nan", "plain JSON"),
    # context
    ("parse.prompt", lambda: lu.parse([], ["a"]), "[]", "or several"),
    ("parse.prompt", lambda: lu.parse("herro", ["hero"]), "'herro'", "did you mean"),
    ("parse.names", lambda: lu.parse("a", "ab"), "'ab'", "class names"),
    ("parse.names", lambda: lu.parse("a", ["a", "A"]), "['a', 'A']", "differ in more"),
    ("describe.c", lambda: lu.describe([1], ["a"]), "[1]", "float tensor"),
    ("describe.c", lambda: lu.describe(C + 0.5, ["a", "b"]), "1.5", "[0, 1]"),
    ("describe.names", lambda: lu.describe(C, None), "None", "class names"),
    # data
    ("dataset.name_or_path", lambda: lu.dataset("spirtes"), "spirtes", "sprites"),
    ("dataset.name_or_path", lambda: lu.dataset(3), "3", "a name or a path"),
    ("dataset.size", lambda: lu.dataset("sprites", 16), "16", "none for sprites"),
    ("image_folder.path", lambda: lu.image_folder("none-here"), "none-here", "folders"),
    ("path", lambda: lu.image_folder(3), "3", "a name or a path"),
    ("image_folder.size", lambda: lu.image_folder(".", 17), "17", "multiple of 4"),
    ("image_folder.size", lambda: lu.image_folder(".", "8"), "'8'", "4..1024"),
    ("npy_pair.images", lambda: lu.npy_pair("no.npy", "y.npy"), "no.npy", "np.save"),
    ("npy_pair.labels", lambda: lu.npy_pair(one_file(), "y.npy"), "y.npy", "np.save"),
    (
        "draw_archetype.name",
        lambda: draw("spoon", 1, 0),
        "'spoon'",
        "apple",
    ),
    # viz
    ("grid.x", lambda: lu.grid(GREY), "ndarray", "(B,C,H,W)"),
    ("grid.x", lambda: lu.grid(X[0]), "(1, 8, 8)", "(B,C,H,W)"),
    ("grid.x", lambda: lu.grid(X * NAN), "NaN", "look for its source"),
    ("sheet.x", lambda: lu.sheet(X[0], ["a"]), "(1, 8, 8)", "(B,C,H,W)"),
    ("sheet.prompts", lambda: lu.sheet(X, ["a"]), "['a']", "2 texts"),
    ("strip.frames", lambda: lu.strip([]), "[]", "one tensor"),
    ("strip.moments", lambda: lu.strip([X], 0), "0", "1 or more"),
    ("strip.moments", lambda: lu.strip([X], [7]), "[7]", "indices into 1 frames"),
    ("plot.curves", lambda: lu.plot({"a": [1, NAN]}), "'a'", "finite numbers"),
    ("plot.curves", lambda: lu.plot({"a": "b"}), "'a'", "finite numbers"),
    ("plot.x", lambda: lu.plot(TWO, x="ab"), "'ab'", "numbers"),
    ("gif.frames", lambda: lu.gif(X), "(1, 8, 8)", "(B,C,H,W)"),
    ("gif.frames", lambda: lu.gif([X, X[:1]]), "frames[1]", "one shape"),
    ("gif.path", lambda: lu.gif([X], "a.png"), "'a.png'", ".gif"),
    ("gif.scale", lambda: lu.gif([X], scale=60_000), "60000", "65535 pixels a side"),
    ("show.pictures", lambda: lu.show(alt="a"), "()", "one picture or more"),
    ("show.pictures", lambda: lu.show(3, alt="a"), "3", "a GIF or a PNG"),
    ("show.pictures", lambda: lu.show(GREY, alt="a"), "(4, 4)", "uint8 (H,W,3)"),
    ("show.titles", lambda: lu.show(X, titles=3, alt="a"), "3", "1 texts"),
    ("show.alt", lambda: lu.show(X), "None", "says what pictures[0] shows"),
    ("show.alt", lambda: lu.show(X, alt=["a", "b"]), "['a', 'b']", "1 texts"),
    # widgets
    ("playground.name", lambda: lu.playground("no-such"), "'no-such'", "sprites"),
    ("playground.device", lambda: lu.playground(device="gpu"), "'gpu'", "'cpu'"),
]
# Any value will do: a text that is shown as it is. A file is named by its path, and
# playground passes its name to load, which calls it name_or_path.
ANY = {"plot.xlabel", "plot.ylabel", "progress.label"}
CALLED = {
    "playground.name": "name_or_path",
    "image_folder.path": "none-here",
    "npy_pair.images": "no.npy",
    "npy_pair.labels": "y.npy",
}


@functools.cache
def one_file() -> Path:
    path = Path(tempfile.mkdtemp()) / "x.npy"
    np.save(path, np.zeros((1, 4, 4, 3), np.uint8))
    return path


def fault(call) -> Exception:
    """What the call raises. Iterators are not begun: the call itself must refuse."""
    try:
        call()
    except Exception as problem:
        return problem
    return AssertionError("nothing is raised")


def complaints(where, call, value, remedy) -> list[str]:
    """What is wrong with the way in which a call is refused."""
    problem, name = fault(call), CALLED.get(where, where.rpartition(".")[2])
    said = str(problem)
    found = [] if type(problem) is ValueError else [repr(problem)]
    frames = traceback.extract_tb(problem.__traceback__)
    if not frames or "lesson_utils" not in frames[-1].filename:
        found.append(f"not raised by us: {problem!r}")
    if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said):
        found.append(f"{name} is not named: {said}")
    rest = said.replace(remedy, "", 1)
    if value not in rest:
        found.append(f"{value} is not shown: {said}")
    return found + ([] if remedy in said else [f"{remedy} is not offered: {said}"])


@pytest.mark.parametrize(
    ("where", "call", "value", "remedy"), CASES, ids=[case[0] for case in CASES]
)
def test_nonsense_is_refused_at_the_call(where, call, value, remedy):
    assert complaints(where, call, value, remedy) == []


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
    assert complaints("f.x", lambda: refuse("x", "1 or 2", 3), "3", "1 or 2") == []
    assert complaints("f.x", call, "3", "1 or 2") != []


def arguments(functions: dict) -> set[str]:
    """function.argument for all that is exported: plain records aside."""
    found = set()
    for name, public in functions.items():
        called = inspect.isfunction(public) or inspect.isclass(public)
        if called and not hasattr(public, "_fields"):
            found |= {f"{name}.{p}" for p in inspect.signature(public).parameters}
    return found - {"add_noise.self", "forward.self"}


def test_every_public_argument_has_a_rule_or_a_case(folder):
    by_hand = {case[0] for case in CASES}
    every, covered = arguments(FUNCTIONS), by_hand | made_up(folder)
    assert every - covered == ANY
    assert {"ddim.eta", "Schedule.alpha_bar", "save.meta", "forward.c"} <= every
    assert len(every) >= 130 and len(CASES) >= 90
