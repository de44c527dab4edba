"""DDPM's objective and the training loop, as a generator."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .optimiser import Muon
from .schedule import Schedule
from .support.checked import (
    checked,
    fit,
    flag,
    instance,
    optional,
    real,
    refuse,
    whole,
)
from .support.files import fingerprint
from .support.processes import count, shared
from .support.rules import (
    a_generator,
    a_network,
    a_schedule,
    context_of,
    images,
    loss_rule,
    pictures_for,
    seed_rule,
    state_path,
    weights_rule,
)
from .support.state import Keeper, live_tensors


class Update(NamedTuple):
    """What train yields after each update of the weights.

    step: updates so far, 1..steps; losses: (step,), one for each of them; seconds: the
    time they took, in all runs; ema: the averaged model, called like the model itself.
    """

    step: int
    losses: Tensor
    seconds: float
    ema: AveragedModel


def average_decay(name: str, value: object, call) -> float:
    """A decay in [0, 1); None: 0.999, or less for a run of under 10,000 updates."""
    if value is None:
        return max(0.0, min(0.999, 1 - 10 / call["steps"]))
    return real("[0, 1)")(name, value, call)


@checked()
@dataclass(frozen=True)
class Settings:
    """How to train. Each line is a setting's type, rule, help and default: those of
    `train`, of the flags of the command line, and of what a state and a card record.
    """

    steps: Annotated[
        int, whole(1, 10**8), "updates of the weights; for images over 20×20 15000"
    ] = 30_000
    batch_size: Annotated[int, whole(1, 10**6), "images an update"] = 64
    learning_rate: Annotated[float, real("(0, 1)"), "its peak"] = 3e-3
    warmup: Annotated[int, whole(0), "updates until the peak"] = 100
    ema_decay: Annotated[
        float | None, average_decay, "of the averaged weights; 0.999, less if short"
    ] = None
    context_dropout: Annotated[
        float, real("[0, 1]"), "share of images trained without their context"
    ] = 0.1
    gamma: Annotated[float, real("[0, inf)"), "power of the loss's weights"] = 0.5
    bfloat16: Annotated[bool, flag, "autocast"] = False
    seed: Annotated[int, seed_rule, "of weights, times and noise"] = 0


def images_to_noise(name: str, value: object, call) -> Tensor:
    """Images in float32 or better: in bfloat16 a little noise would vanish."""
    x0 = images(name, value, call)
    return x0.to(torch.promote_types(x0.dtype, torch.float32))


def network_of_any_type(name: str, value: object, call) -> Callable:
    """A network that takes images of x0's type, whatever that of its weights is."""
    model, x0 = a_network(name, value, call), call["x0"]
    weights = model.parameters() if isinstance(model, nn.Module) else ()
    kind = next(iter(weights), x0).dtype
    if kind == x0.dtype:
        return model
    return lambda x, t, c=None: model(x.to(kind), t, c)


@checked(
    x0=images_to_noise,
    c=context_of,
    model=network_of_any_type,
    schedule=a_schedule,
    context_dropout=real("[0, 1]"),
    gamma=real("[0, inf)"),
    generator=a_generator,
)
def diffusion_loss(
    model: nn.Module,
    schedule: Schedule,
    x0: Tensor,
    c: Tensor | None = None,
    context_dropout: float = 0.1,
    gamma: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """How well the model guesses the noise (DDPM eq. 14, alg. 1): a scalar Tensor.

    x0: (B,C,H,W) in [-1, 1]; c: (B,K) or None. Each image gets its own timestep, all of
    1..T equally likely; those of a batch are spread evenly from one random offset, so
    that the loss varies less from batch to batch (low-discrepancy sampling, Kingma et
    al. 2021, "Variational diffusion models", app. I.1; here in whole numbers). A share
    context_dropout of the images gets a context of zeros, so that guidance has both to
    push apart (alg. 1 there). gamma: above 0, timesteps with little noise, where no
    image is decided, count less, by (1 - alpha_bar)^gamma: P2 weighting (Choi et al.
    2022, eq. 8) with k = 1. generator: on the CPU, whatever the device. The noise and
    the loss are float32 for a model in bfloat16 too, which sees x_t in its own type.
    Raises ValueError for arguments that make no sense, as all of training does.
    """
    B, T, device = len(x0), schedule.T, x0.device
    offset = torch.randint(T, (1,), generator=generator)
    t = (1 + (offset + torch.arange(B) * T // B) % T).to(device)  # evenly spread
    eps = torch.randn(x0.shape, generator=generator).to(device)
    keep = torch.rand(B, 1, generator=generator).to(device) >= context_dropout
    x_t = schedule.add_noise(x0, t, eps)  # (4)
    guess = model(x_t, t / T, None if c is None else c * keep)
    weight = (1 - schedule.alpha_bar.to(x0)[t]) ** gamma
    return (weight.view(-1, 1, 1, 1) * (guess - eps) ** 2).mean()  # (14) for gamma = 0


@checked(steps=whole(1), step=whole(0, "steps"), peak=real("(0, 1)"), warmup=whole())
def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """The rate of update step, 0-based: straight up to peak, then a cosine to 0."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(steps - warmup, 1)
    return peak * (1 + math.cos(math.pi * share)) / 2


@checked(
    model=weights_rule,
    ema=fit(lambda ema: hasattr(ema, "update_parameters"), "an AveragedModel"),
    optimiser=instance(torch.optim.Optimizer, "one of torch.optim, such as AdamW,"),
    loss=loss_rule,
    rate=real("[0, 1]"),
)
def train_step(
    model: nn.Module,
    ema: AveragedModel,
    optimiser: torch.optim.Optimizer,
    loss: Tensor,
    rate: float,
) -> None:
    """Move the weights against the gradient of the loss, and their average after them.

    loss: a scalar with its graph; rate: the learning rate of this step. The gradient is
    clipped to norm 1. ema keeps an exponential moving average, as DDPM app. B has.
    """
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    ema.update_parameters(model)


def settings_for_all(name: str, value: object, call) -> Settings:
    """Settings that leave no process without an image."""
    settings = instance(Settings, "Settings(…)")(name, value, call)
    if settings.batch_size < count():
        what = f"{count()} or more, one for each process,"
        refuse("batch_size", what, settings.batch_size)
    return settings


@checked(
    model=weights_rule,
    schedule=a_schedule,
    data=pictures_for,
    settings=settings_for_all,
    state=state_path,
    save_seconds=real("[0, inf)"),
    start=optional(instance(str, "a text or None")),
)
def train(
    model: nn.Module,
    schedule: Schedule,
    data,
    settings: Settings = Settings(),
    state: str | Path | None = None,
    save_seconds: float = 30.0,
    start: str | None = None,
) -> Iterator[Update]:
    """Train the model in place; yields an Update after each of settings.steps.

    data: Pictures, as dataset gives. Muon with warm-up and cosine decay, gradients
    clipped to norm 1, an exponential moving average (EMA) of the weights; batches,
    times and noise depend on the seed and the step alone. state: a file from which an
    unfinished run of the same model, data and settings goes on, written every
    save_seconds until the last update, and when the run is stopped before it: Ctrl-C
    waits for the end of an update. start: what the model's weights are of, if they are
    not fresh; a state must be of the same. Under `accelerate launch` the processes
    share each batch, and all have the same weights; the main one has the state.
    Raises ValueError, at the call, for arguments that make no sense, or if another
    training has the state; FloatingPointError if the loss is no finite number any more;
    ConnectionError if another process is lost.
    """
    model.to(memory_format=torch.channels_last)
    optimiser = Muon(model.parameters(), lr=settings.learning_rate)
    average = get_ema_multi_avg_fn(settings.ema_decay)
    ema = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
    losses = torch.zeros(settings.steps, device=next(model.parameters()).device)
    made_of = asdict(settings)
    made_of["data"] = fingerprint(data.x, data.c)
    made_of["schedule"] = fingerprint(schedule.alpha_bar)
    made_of["start"] = start
    live = live_tensors(model, ema, optimiser, losses)
    about = {
        "context": list(getattr(data, "names", ())),
        "image_shape": list(data.x.shape[1:]),
        "alpha_bar": schedule.alpha_bar.tolist(),
    }
    keeper = Keeper(state, live, made_of, save_seconds, about)
    network = shared(model)

    def loop() -> Iterator[Update]:
        with keeper:
            for step in range(keeper.done, settings.steps):
                with keeper.update():
                    loss = one_loss(network, schedule, data, settings, step)
                    peak, warmup = settings.learning_rate, settings.warmup
                    rate = learning_rate(step, settings.steps, peak, warmup)
                    train_step(model, ema, optimiser, loss, rate)
                    losses[step] = loss.detach()
                yield Update(step + 1, losses[: step + 1], keeper.seconds, ema)

    return loop()


def one_loss(model, schedule, data, settings: Settings, step: int) -> Tensor:
    """The loss of update step, 0-based; its randomness comes from seed and step."""
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
    batch = torch.randint(len(data.x), (settings.batch_size,), generator=generator)
    weight = next(model.parameters())
    x0 = data.x[batch].to(weight.device, torch.float32)
    c = data.c[batch].to(weight)
    model.train()  # whatever a preview in between has set
    with torch.autocast(weight.device.type, torch.bfloat16, enabled=settings.bfloat16):
        return diffusion_loss(
            model, schedule, x0, c, settings.context_dropout, settings.gamma, generator
        )
