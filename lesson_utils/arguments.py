"""Arguments that make no sense are refused here; this module knows no other.

Each check raises ValueError with the argument's name, what would do, and its value.
"""

from itertools import pairwise
from numbers import Real
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor, nn


def refuse(name: str, needed: str, value: object) -> NoReturn:
    """Raise the ValueError for one argument."""
    got = repr(value)
    if isinstance(value, Tensor | np.ndarray) and value.shape not in ((), (1,)):
        got = f"{type(value).__name__} of {value.dtype} and shape {tuple(value.shape)}"
    got = got if len(got) <= 200 else f"{got[:200]} …"
    raise ValueError(f"{name}: {needed} is needed, got {got}") from None


def whole(name: str, value: object, least: int, most: int | None = None) -> int:
    """value as an int, if it is a whole number from least to most."""
    try:
        number = int(value)
        fits = number == value and not isinstance(value, bool | str)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        fits = False
    if not fits or number < least or (most is not None and number > most):
        span = f"of {least} or more" if most is None else f"in {least}..{most}"
        refuse(name, f"a whole number {span}", value)
    return number


def real(name: str, value: object, span: str) -> float:
    """value as a float, if it is a number in the span, such as "[0, inf)"."""
    low, high = map(float, span[1:-1].split(","))
    one = isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1)
    number = float(value) if one and not isinstance(value, bool) else float("nan")
    inside = low < number < high or (number == low and span[0] == "[")
    if not inside and not (number == high and span[-1] == "]"):
        refuse(name, f"a number in {span}", value)
    return number


def shaped(name: str, value: object, *sizes: int | str) -> None:
    """Only a float tensor, of these sizes if given; a letter is any, and only K 0."""
    fits = isinstance(value, Tensor) and value.is_floating_point()
    if fits and sizes:
        pairs = zip(value.shape, sizes, strict=False)
        known = (n == s or (isinstance(s, str) and (n or s == "K")) for n, s in pairs)
        fits = value.ndim == len(sizes) and all(known)
    if not fits:
        wanted = ",".join(map(str, sizes or "BCHW")) + "," * (len(sizes) == 1)
        refuse(name, f"a float tensor of shape ({wanted})", value)


def finite(name: str, value: object, needed: str = "a row of finite numbers") -> Tensor:
    """value as a tensor (N,) on the CPU, if it is finite numbers in a row."""
    try:
        numbers = torch.as_tensor(value).detach().cpu()
        fits = numbers.ndim == 1 and not numbers.is_complex()
    except (TypeError, ValueError, RuntimeError):
        fits = False
    if not fits or not numbers.isfinite().all():
        refuse(name, needed, value)
    return numbers.double()


def check_alpha_bar(value: object) -> Tensor:
    """alpha_bar as Schedule keeps it: float32 on the CPU, falling from 1 to above 0."""
    needed = "numbers (T+1,), falling strictly from 1 to a value above 0,"
    ab = finite("alpha_bar", value, needed).float()
    if len(ab) < 2 or ab[0] != 1 or not ab[-1] > 0 or not (ab.diff() < 0).all():
        refuse("alpha_bar", needed, ab[:4].tolist())
    return ab


def check_schedule(schedule: object) -> None:
    """Whatever has an alpha_bar is a schedule, a lesson's own class too."""
    if not isinstance(getattr(schedule, "alpha_bar", None), Tensor):
        refuse("schedule", "a Schedule, such as Schedule.linear(),", schedule)


def check_noising(T: int, x0: object, t: object, eps: object) -> None:
    """For Schedule.add_noise: pictures, their times in 0..T, and their noise."""
    shaped("x0", x0, "B", "C", "H", "W")
    shaped("eps", eps, *x0.shape)
    whole_numbers = isinstance(t, Tensor) and t.dtype == torch.int64
    if not whole_numbers or t.shape != x0.shape[:1] or t.min() < 0 or t.max() > T:
        shown = t.tolist() if isinstance(t, Tensor) and t.ndim == 1 else t
        refuse("t", f"an int64 tensor ({len(x0)},) of times in 0..{T}", shown)


def check_generator(x: object, generator: object) -> None:
    """None, one generator, or a list with one for each of the pictures x."""
    shaped("x", x)
    several = isinstance(generator, list | tuple)
    each = generator if several else [generator] * (generator is not None)
    known = all(isinstance(g, torch.Generator) for g in each)
    if not known or (several and len(each) != len(x)):
        needed = f"one torch.Generator, or a list of {len(x)}, one for each picture,"
        refuse("generator", needed, generator)


def check_guide(model: object, c: object, scale: object) -> None:
    """For guide: a model to call, a context (B,K) or None, a scale of 0 or more."""
    if not callable(model):
        refuse("model", "something to call, such as ContextUnet(3, 5),", model)
    if c is not None:
        shaped("c", c, "B", "K")
    real("scale", scale, "[0, inf)")


def check_sampler(eps_fn, x, schedule, generator, eta=0.0, variance="posterior"):
    """What every sampler takes: it can start from x with these."""
    if not callable(eps_fn):
        refuse("eps_fn", "something to call, such as guide(model),", eps_fn)
    shaped("x", x, "B", "C", "H", "W")
    check_schedule(schedule)
    check_generator(x, generator)
    check_eta(eta)
    if variance not in ("posterior", "beta"):
        refuse("variance", "'posterior' or 'beta'", variance)


def check_inversion(eps_fn, x0, schedule, refine) -> None:
    """For invert: it can start from the pictures x0."""
    shaped("x0", x0, "B", "C", "H", "W")
    check_sampler(eps_fn, x0, schedule, None)
    whole("refine", refine, 0)


def check_step(x, eps, ab_t, ab_s, eta, noise) -> None:
    """For ddim_step: with noise where eta needs it, and s before t where it does."""
    check_eta(eta)
    shaped("x", x)
    shaped("eps", eps, *x.shape)
    ab_t, ab_s = real("ab_t", ab_t, "(0, 1]"), real("ab_s", ab_s, "(0, 1]")
    if eta != 0 and not ab_t < ab_s:
        refuse("ab_s", f"with eta = {eta!r}, a number above ab_t = {ab_t}", ab_s)
    if noise is not None or (eta != 0 and ab_s < 1):
        shaped("noise", noise, *x.shape)


def check_arc(a: object, b: object, w: object) -> Tensor:
    """For slerp: two latents that span one arc; gives w as (1,1,1,1) or (B,1,1,1)."""
    shaped("a", a, "B", "C", "H", "W")
    shaped("b", b, *a.shape)
    for name, x in (("a", a), ("b", b)):
        if not x.flatten(1).any(1).all():
            refuse(name, "latents that are not all zeros", x)
    if (nn.functional.cosine_similarity(a.flatten(1), b.flatten(1)) < -0.9999).any():
        refuse("b", "latents that are not opposite to those of a", b)
    several = isinstance(w, Tensor) and w.ndim == 1
    each = finite("w", w, f"numbers ({len(a)},)").tolist() if several else [w]
    each = [real("w", x, "[0, 1]") for x in each]
    if len(each) not in (1, len(a)):
        refuse("w", f"a number for all pairs, or ({len(a)},),", w)
    return a.new_tensor(each).view(-1, 1, 1, 1)


def check_clipping(x: object, eps: object, ab_t: object) -> None:
    """For clipped: at ab_t = 1 there is no noise to change."""
    shaped("x", x)
    shaped("eps", eps, *x.shape)
    real("ab_t", ab_t, "(0, 1)")


def check_eta(eta: object) -> None:
    """A number in [0, 1] or "sigma-hat"."""
    if eta != "sigma-hat" and not (isinstance(eta, Real) and 0 <= eta <= 1):
        refuse("eta", "a number in [0, 1] or 'sigma-hat'", eta)


def check_loss(model, schedule, x0, c, context_dropout, gamma, generator) -> None:
    """For diffusion_loss."""
    check_guide(model, None, 1.0)
    check_schedule(schedule)
    shaped("x0", x0, "B", "C", "H", "W")
    if c is not None:
        shaped("c", c, len(x0), "K")
    real("context_dropout", context_dropout, "[0, 1]")
    real("gamma", gamma, "[0, inf)")
    if not isinstance(generator, torch.Generator | None):
        refuse("generator", "a torch.Generator or None", generator)


def check_rate(step: object, steps: object, peak: object, warmup: object) -> None:
    """For learning_rate."""
    whole("step", step, 0, whole("steps", steps, 1))
    real("peak", peak, "(0, 1)")
    whole("warmup", warmup, 0)


def check_update(model, ema, optimiser, loss, rate) -> None:
    """For train_step: a model, its average and optimiser, and a loss to go down."""
    check_weights(model)
    if not hasattr(ema, "update_parameters"):
        refuse("ema", "an AveragedModel of the model", ema)
    if not isinstance(optimiser, torch.optim.Optimizer):
        refuse("optimiser", "one of torch.optim, such as AdamW,", optimiser)
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        refuse("loss", "a scalar tensor with its graph, as diffusion_loss gives,", loss)
    real("rate", rate, "[0, 1]")


def check_weights(model: object) -> None:
    """A torch module that has some."""
    if not isinstance(model, nn.Module) or not any(True for _ in model.parameters()):
        refuse("model", "a torch module with weights, such as ContextUnet,", model)


def check_training(model, schedule, data, state, save_seconds, settings) -> dict:
    """For train: gives the settings, by name, as a stored state keeps them."""
    check_weights(model)
    check_schedule(schedule)
    x, c = getattr(data, "x", None), getattr(data, "c", None)
    if not isinstance(x, Tensor) or not isinstance(c, Tensor):
        refuse("data", "Pictures(x, c, names), as dataset() gives,", data)
    shaped("data.x", x, "N", getattr(model, "in_channels", "C"), "H", "W")
    shaped("data.c", c, len(x), getattr(model, "context_size", "K"))
    if not x.abs().max() <= 1:
        refuse("data.x", "a picture with values in [-1, 1]", x.aminmax())
    fits = isinstance(state, str | Path) and not Path(state).is_dir()
    if state is not None and not fits:
        refuse("state", "the path of a file, or None,", state)
    real("save_seconds", save_seconds, "[0, inf)")
    if not isinstance(settings["bfloat16"], bool):  # the text "False" would be true
        refuse("bfloat16", "True or False", settings["bfloat16"])
    least = {"steps": 1, "batch_size": 1, "warmup": 0, "seed": 0}
    spans = {"peak": "(0, 1)", "ema_decay": "[0, 1)", "context_dropout": "[0, 1]"}
    spans["gamma"] = "[0, inf)"
    for name, value in settings.items():
        if name in least:
            most = 2**40 if name == "seed" else None
            settings[name] = whole(name, value, least[name], most)
        elif name in spans:
            settings[name] = real(name, value, spans[name])
    return settings


def check_times(T: int, times: list) -> list[int]:
    """The times of a sampler as ints: they must fall strictly from T to 0."""
    found = [whole("steps", t, 0, T) for t in times]
    if not all(t > s for t, s in pairwise(found)) or found[:1] != [T] or found[-1] != 0:
        refuse("steps", f"a list of times falling from {T} to 0", times)
    return found


def multiples(of: int, **sizes: object) -> None:
    """Each size, called by its name, a multiple of a number."""
    for name, size in sizes.items():
        if type(size) is not int or size % of or not 0 < size < 2**20:
            refuse(name, f"a multiple of {of}, up to a million,", size)


def check_time(t: object, dim: object) -> None:
    """For time_embedding."""
    shaped("t", t, "B")
    multiples(2, dim=dim)


def check_sizes(in_channels: object, context_size: object, width: object) -> None:
    """For ContextUnet: what its layers can be built for."""
    if type(in_channels) is not int or in_channels not in (1, 3):
        refuse("in_channels", "1 or 3", in_channels)
    if type(context_size) is not int or context_size not in range(2**20):
        refuse("context_size", "a whole number of 0 or more", context_size)
    multiples(16, width=width)


def check_input(model: nn.Module, x: object, t: object, c: object) -> None:
    """For ContextUnet's forward: shapes that fit the model and each other."""
    shaped("x", x, "B", model.in_channels, "H", "W")
    if any(size % 4 for size in x.shape[2:]):
        refuse("x", "a height and a width that are multiples of 4", x)
    shaped("t", t, len(x))
    if c is not None:
        shaped("c", c, len(x), model.context_size)
