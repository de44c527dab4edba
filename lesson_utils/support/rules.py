"""The rules for arguments that are this project's own: images, times, steps, noise."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from .checked import (
    Call,
    choice,
    each,
    fit,
    instance,
    optional,
    real,
    refuse,
    something_to_call,
    tensor,
    whole,
)
from .files import located

FINITE = "(-inf, inf)"
images = tensor("B C H W")
noisy_images = tensor("B C H W", span=FINITE)
# A sampler's own images may leave [-1, 1] a little; those in 0..255 are far outside.
clean_images = tensor(
    "B C H W", span="[-10, 10]", words="an image with values in [-1, 1]"
)
a_schedule = fit(
    lambda value: (
        isinstance(getattr(value, "alpha_bar", None), Tensor) and hasattr(value, "T")
    ),
    "a Schedule, such as Schedule.linear(),",  # a lesson's own class too
)
a_network = something_to_call("ContextUnet(3, 5)")
a_student = fit(lambda value: hasattr(value, "guesses"), "a Student")
a_generator = optional(instance(torch.Generator, "a torch.Generator or None"))
spacing_rule = choice("uniform", "linspace", "quad", "logsnr")
seed_rule = whole(0, 2**40)
weights_rule = fit(
    lambda value: (
        isinstance(value, nn.Module) and any(True for _ in value.parameters())
    ),
    "a torch module with weights, such as ContextUnet,",
)


def has_values(value: Tensor) -> bool:
    """Whether it has numbers to look at: a FakeTensor or one of "meta" has none."""
    return type(value) is Tensor and not value.is_meta


def numbers(name: str, value: object, needed="a row of finite numbers") -> Tensor:
    """value as a float64 tensor (N,) on the CPU, if it is finite numbers in a row."""
    try:
        row = torch.as_tensor(value).detach().cpu()
        fits = row.ndim == 1 and not row.is_complex() and row.dtype != torch.bool
    except (TypeError, ValueError, RuntimeError):
        fits = False
    if not fits or not row.isfinite().all():
        refuse(name, needed, value)
    return row.double()


def falling(name: str, value: object, call: Call) -> Tensor:
    """alpha_bar as Schedule keeps it: float32 on the CPU, falling from 1 to above 0."""
    needed = "numbers (T+1,), falling strictly from 1 to a value above 0,"
    ab = numbers(name, value, needed).float()
    if len(ab) < 2 or ab[0] != 1 or not ab[-1] > 0 or not (ab.diff() < 0).all():
        refuse(name, needed, ab[:4].tolist())
    return ab


def levels_of_times(name: str, value: object, call: Call) -> Tensor | None:
    """alpha_bar (T+1,) where the spacing of T times is "logsnr"; else unused."""
    if call["spacing"] != "logsnr":
        return None
    needed = f"with spacing = 'logsnr', the {call['T'] + 1} numbers of a schedule"
    if value is None:
        refuse(name, needed, value)
    ab = falling(name, value, call)
    if len(ab) != call["T"] + 1:
        refuse(name, needed, ab)
    return ab


def last_beta(name: str, value: object, call: Call) -> float | None:
    """β_T: None, or a number below 1 from β_1 on."""
    if value is None:
        return None
    first = 0.1 / call["T"] if call["beta_1"] is None else call["beta_1"]
    return real(f"[{first}, 1)")(name, value, call)


def an_eps_fn(
    name: str, value: object, call: Call
) -> Callable[[Tensor, Tensor], Tensor]:
    """What guesses the noise; its guess has the shape of x, and is given x's type."""
    something_to_call("guide(model)")(name, value, call)

    def eps_fn(x: Tensor, t: Tensor) -> Tensor:
        eps = value(x, t)
        if not isinstance(eps, Tensor) or eps.shape != x.shape:
            wanted = f"a function that gives the noise {tuple(x.shape)} of x"
            refuse(name, wanted, eps)
        return eps.to(x.dtype)

    return eps_fn


def interval_rule(name: str, value: object, call: Call) -> tuple[float, float]:
    """The two ends of an interval of t/T."""
    needed = "two numbers low <= high, both in [0, 1],"
    try:
        low, high = each(real("[0, 1]"))(name, value, call)
    except ValueError:
        refuse(name, needed, value)
    if low > high:
        refuse(name, needed, value)
    return low, high


def worse_network(name: str, value: object, call: Call) -> object:
    """Another network for the images and contexts of the model, on its device."""
    if value is None:
        return None
    a_network(name, value, call)
    ours, theirs = about_network(call["model"]), about_network(value)
    for what in ours.keys() & theirs.keys():
        if theirs[what] != ours[what]:
            needed = f"a network with {what} {ours[what]}, as the model has,"
            refuse(name, needed, theirs[what])
    return value


def about_network(network: object) -> dict[str, object]:
    """What a network says of its inputs; a function says nothing."""
    known = {}
    for size in ("in_channels", "context_size"):
        if hasattr(network, size):
            known[size] = getattr(network, size)
    weights = network.parameters() if isinstance(network, nn.Module) else ()
    for weight in weights:
        known["device"] = str(weight.device)
    return known


@dataclass(frozen=True)
class context_for:
    """A context (B,K) or None for a model, as many numbers a row as it takes, there."""

    model: str

    def __call__(self, name, value, call) -> Tensor | None:
        shape = f"B {self.model}.context_size"
        c = optional(tensor(shape, span=FINITE))(name, value, call)
        model = call[self.model]
        weights = model.parameters() if isinstance(model, nn.Module) else ()
        weight = next((w for w in weights if w.is_floating_point()), None)
        return c if c is None or weight is None else c.to(weight)


context_of = context_for("model")


def images_to_noise(name: str, value: object, call: Call) -> Tensor:
    """Images in float32 or better: in bfloat16 a little noise would vanish."""
    x0 = images(name, value, call)
    return x0.to(torch.promote_types(x0.dtype, torch.float32))


def network_of_any_type(name: str, value: object, call: Call) -> Callable:
    """A network that takes images of x0's type, whatever that of its weights is."""
    model, x0 = a_network(name, value, call), call["x0"]
    weights = model.parameters() if isinstance(model, nn.Module) else ()
    kind = next(iter(weights), x0).dtype
    if kind == x0.dtype:
        return model
    return lambda x, t, c=None: model(x.to(kind), t, c)


@dataclass(frozen=True)
class steps_rule:
    """The steps of a sampler: how many of T, or the times themselves, T … 0.

    T: the argument that says how many there are; to_0: whether a list must end at 0. A
    range, a tensor or an array of times becomes a list.
    """

    T: str
    to_0: bool = True

    def __call__(self, name, value, call) -> int | list[int]:
        T = int(call.find(self.T))
        listed = f"a list of times in 0..{T}, falling from {T}{' to 0' * self.to_0},"
        if isinstance(value, Tensor | np.ndarray) and value.ndim == 1:
            value = value.tolist()
        text = isinstance(value, str | bytes | bytearray | memoryview)
        if not isinstance(value, Sequence) or text:
            try:
                return whole(1, T)(name, value, call)
            except ValueError:
                refuse(name, f"a whole number in 1..{T}, or {listed}", value)
        try:
            times = [whole(0, T)(name, t, call) for t in value]
        except ValueError:
            refuse(name, listed, value)
        down = all(t > s for t, s in pairwise(times))
        ends = len(times) > 1 and times[0] == T and not (self.to_0 and times[-1])
        if not down or not ends:
            refuse(name, listed, value)
        return times


def eta_rule(name: str, value: object, call: Call) -> float | str:
    """η: a number in [0, 1] or "sigma-hat"."""
    if isinstance(value, str) and value == "sigma-hat":
        return value
    try:
        return real("[0, 1]")(name, value, call)
    except ValueError:
        refuse(name, "a number in [0, 1] or 'sigma-hat'", value)


def generators(name: str, value: object, call: Call) -> object:
    """None, one generator, or a list with one for each of the images x."""
    several = isinstance(value, list | tuple)
    given = value if several else [value] * (value is not None)
    known = all(isinstance(g, torch.Generator) for g in given)
    n = len(call["x"])
    if not known or (several and len(given) != n):
        refuse(
            name, f"one torch.Generator, or a list of {n}, one for each image,", value
        )
    return value


@dataclass(frozen=True)
class level_rule:
    """alpha_bar in a span: a number, or (B,1,1,1) with one for each of the images x."""

    span: str

    def __call__(self, name, value, call) -> float | Tensor:
        if not isinstance(value, Tensor) or value.ndim != 4:
            return real(self.span)(name, value, call)
        shape = f"{len(call['x'])} 1 1 1"
        words = f"numbers in {self.span}"
        return tensor(shape, like="x", span=self.span, words=words)(name, value, call)


def level_before(name: str, value: object, call: Call) -> float | Tensor:
    """alpha_bar at t, one number for all where η is not 0."""
    ab_t = level_rule("(0, 1]")(name, value, call)
    if isinstance(ab_t, Tensor) and call["eta"] != 0:
        refuse(name, f"with eta = {call['eta']!r}, a number", value)
    return ab_t


def level_after(name: str, value: object, call: Call) -> float | Tensor:
    """alpha_bar at s, which with an η above 0 lies before t."""
    if call["eta"] == 0:
        return level_rule("(0, 1]")(name, value, call)
    ab_s, ab_t, eta = real("(0, 1]")(name, value, call), call["ab_t"], call["eta"]
    if not ab_t < ab_s:
        refuse(name, f"with eta = {eta!r}, a number above ab_t = {ab_t}", value)
    return ab_s


def noise_of_step(name: str, value: object, call: Call) -> Tensor | None:
    """The noise of a DDIM step, which must be there if η and s are above 0."""
    if value is None and (call["eta"] == 0 or call["ab_s"] == 1):
        return None
    return shaped_as("x")(name, value, call)


@dataclass(frozen=True)
class shaped_as:
    """A float tensor of another argument's shape; it is given its device and type.

    span: where its values lie, as in `tensor`.
    """

    other: str
    span: str | None = None

    def __call__(self, name, value, call) -> Tensor:
        other = call[self.other]
        shape = " ".join(map(str, other.shape))
        rule = tensor(shape, like=self.other, cast=True, span=self.span)
        return rule(name, value, call)


def no_zeros(name: str, value: object, call: Call) -> Tensor:
    """Latents with a direction each, in float32 or better: angles need it."""
    value = noisy_images(name, value, call)
    if not value.flatten(1).any(1).all():
        refuse(name, "latents that are not all zeros", value)
    return value.to(torch.promote_types(value.dtype, torch.float32))


def not_opposite(name: str, value: object, call: Call) -> Tensor:
    """Latents b that span one arc with those of a."""
    b = shaped_as("a")(name, no_zeros(name, value, call), call)
    cos = nn.functional.cosine_similarity(call["a"].flatten(1), b.flatten(1))
    if (cos < -0.9999).any():
        refuse(name, "latents that are not opposite to those of a", value)
    return b


def weights_of_pairs(name: str, value: object, call: Call) -> float | Tensor:
    """A weight in [0, 1] for all pairs of a and b, or one for each."""
    several = isinstance(value, Tensor | np.ndarray) and value.ndim == 1
    if not several and not isinstance(value, list | tuple):
        return real("[0, 1]")(name, value, call)
    n = len(call["a"])
    row = numbers(name, value, f"numbers ({n},)")
    outside = row[(row < 0) | (row > 1)].tolist()
    if outside:
        refuse(name, "a number in [0, 1]", outside[0])
    if len(row) not in (1, n):
        refuse(name, f"a number for all pairs, or ({n},),", value)
    return row.to(call["a"])


def unfinished(name: str, value: object, call: Call) -> Iterable:
    """A sampler that still has a step to give."""
    listed = isinstance(value, Iterable) and not isinstance(value, Tensor | np.ndarray)
    steps = iter(value if listed else ())
    first = next(steps, None)
    if not isinstance(getattr(first, "x", None), Tensor):
        refuse(name, "a sampler, such as ddim(…), that has not run yet,", value)
    return chain([first], steps)


def sizes_rule(name: str, value: object, call: Call) -> list[int]:
    """Sizes such as (C,H,W)."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 1:
        value = value.tolist()
    if not isinstance(value, list | tuple):
        refuse(name, "sizes (C,H,W)", value)
    return [whole(1)(name, size, call) for size in value]


@dataclass(frozen=True)
class times_rule:
    """The times (B,) int64 of images; whole numbers of any type do.

    T: the argument that says how many there are; images: the one that holds the images;
    least: the first time; below: an argument with the times that they all lie below.
    """

    T: str
    images: str
    least: int = 0
    below: str | None = None

    def __call__(self, name, value, call) -> Tensor:
        T, n = int(call.find(self.T)), len(call[self.images])
        needed = f"an int64 tensor ({n},) of times in {self.least}..{T}"
        times = value
        if not isinstance(value, Tensor) or value.dtype != torch.int64:
            row = numbers(name, value, needed)
            times = row.long()
            if not torch.equal(times.double(), row):
                refuse(name, needed, row.tolist())
        if times.shape != (n,):
            refuse(name, needed, times.tolist() if times.ndim == 1 else value)
        if not has_values(times):
            return times.to(call[self.images].device)
        if times.min() < self.least or times.max() > T:
            refuse(name, needed, times.tolist())
        times = times.to(call[self.images].device)
        if self.below and not (times < call[self.below]).all():
            needed = f"times below those of {self.below}, {call[self.below].tolist()},"
            refuse(name, needed, times.tolist())
        return times


times_of = times_rule("self.T", "x0")


def times_of_student(name: str, value: object, call: Call) -> list[int] | None:
    """None, or the times T … 0 of a student, of which it is asked for all but the 0."""
    if value is None:
        return None
    listed = isinstance(value, Iterable) and not isinstance(value, str)
    return steps_rule("schedule.T")(name, list(value) if listed else [value], call)


def beside_network(name: str, value: object, call: Call) -> object:
    """A schedule whose alpha_bar lies where the weights of the network do."""
    schedule, network = a_schedule(name, value, call), call["network"]
    weights = network.parameters() if isinstance(network, nn.Module) else ()
    weight = next(iter(weights), schedule.alpha_bar)
    if weight.is_meta or weight.device == schedule.alpha_bar.device:
        return schedule
    return SimpleNamespace(T=schedule.T, alpha_bar=schedule.alpha_bar.to(weight.device))


of_student = {
    "network": a_network,
    "schedule": beside_network,
    "times": times_of_student,
    "guidance": real("[0, inf)"),
}


def time_of_student(name: str, value: object, call: Call) -> Tensor:
    """t/T (B,) at times that the student knows; under torch.compile it is not seen.

    Elsewhere its answer would be wrong without a word. So this is looked at on a GPU
    too, which waits for it: a student is asked a few times only.
    """
    t, student = share_of_T(name, value, call), call["self"]
    if not has_values(t):
        return t
    T = student.T
    known = range(1, T + 1) if student.times is None else student.times[:-1]
    asked = set((t.cpu().double() * T).tolist())
    wrong = [time for time in asked if min(abs(time - k) for k in known) > 0.01]
    if wrong:
        said = ", ".join(map(str, known)) if student.times else f"1..{T}"
        what = f"t/T at a time t that the student knows, {said} of T = {T},"
        refuse(name, what, [round(time, 2) for time in wrong])
    return t


def input_of(name: str, value: object, call: Call) -> Tensor:
    """Images for a ContextUnet: its channels, its device, sides of 4, 8, …

    They are given its type, except where autocast chooses.
    """
    x = tensor("B self.in_channels H W")(name, value, call)
    if any(size % 4 for size in x.shape[2:]):
        refuse(name, "a height and a width that are multiples of 4", x)
    weight = call["self"].stem.weight
    if x.device != weight.device:
        refuse(name, f"a tensor on the model's device {weight.device}", f"{x.device}")
    return x if torch.is_autocast_enabled(x.device.type) else x.to(weight.dtype)


share_of_T = tensor(
    "B", like="x", span="[0, 1]", words="times t/T in (0, 1]", in_loop=True
)
context_in_loop = tensor(
    "B self.context_size", like="x", cast=True, span=FINITE, in_loop=True
)


@dataclass(frozen=True)
class pictures_of:
    """Data with images x and contexts c that fit the model to be trained on them."""

    model: str

    def __call__(self, name, value, call) -> object:
        x, c = getattr(value, "x", None), getattr(value, "c", None)
        if not isinstance(x, Tensor) or not isinstance(c, Tensor):
            refuse(name, "Pictures(x, c, names), as dataset() gives,", value)
        tensor(f"N {self.model}.in_channels H W")(f"{name}.x", x, call)
        tensor(f"N {self.model}.context_size")(f"{name}.c", c, call)
        if not x.abs().max() <= 1:
            refuse(f"{name}.x", "an image with values in [-1, 1]", x.aminmax())
        if not c.isfinite().all():
            refuse(f"{name}.c", "contexts of finite numbers", c)
        return value


pictures_for = pictures_of("model")


def state_path(name: str, value: object, call: Call) -> Path | None:
    """None, or where a file may lie."""
    if value is None:
        return None
    if not isinstance(value, str | Path) or located(value, name).is_dir():
        refuse(name, "the path of a file, or None,", value)
    return located(value, name)


def loss_rule(name: str, value: object, call: Call) -> Tensor:
    """A loss with its graph."""
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        refuse(name, "a scalar tensor with its graph, as diffusion_loss gives,", value)
    return value
