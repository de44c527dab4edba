"""Short trainings side by side: what pays for a longer one, and what does not.

    python -m tools.trials sprites [--seconds 120] [--seeds 0 1] [--only "batch 128"]

Every trial changes one thing of the recipe. All go on from the same weights, have the
same seconds of one core's work (so other programs may run), and bring their learning
rate down to 0 in that time; only the trials of the width begin with a fresh network.
--start: a checkpoint to go on from. One whose own rate is down at 0 already, as that of
those that ship, first loses by training on, so that short trials say little: better is
one that a long training has written on its way. What counts is the loss on
2,000 unseen images, the same times and noise for all. Prints a table, and writes it as
JSON into checkpoints/NAME_trials.json, a trial at a time: those that are in it are not
run again.
"""

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lesson_utils import (
    Checkpoint,
    ContextUnet,
    Muon,
    Pictures,
    Schedule,
    dataset,
    draw_sprites,
    load,
    train_step,
)
from lesson_utils.data import to_unit
from lesson_utils.support.device import machine
from lesson_utils.support.files import BUILT_IN, CHECKPOINTS, write_json

HELD_OUT = 2000
EMA = 0.99  # for some hundred updates
HALF = 250  # times up to here decide what an image looks like


@dataclass(frozen=True)
class Recipe:
    """How a trial trains."""

    peak: float = 2e-3
    batch_size: int = 64
    weights: str = "gamma 0.5"  # of the loss at each time
    spread: bool = True  # the times of a batch, evenly over 1..T
    fresh_sprites: bool = False  # new ones for each update, instead of 50,000
    width: int | None = None  # of a fresh network; None: goes on from the checkpoint
    optimiser: str = "Muon"  # or AdamW


TRIALS = {
    "as it is": Recipe(),
    "times at random": Recipe(spread=False),
    "peak 1e-3": Recipe(peak=1e-3),
    "peak 4e-3": Recipe(peak=4e-3),
    "batch 128": Recipe(batch_size=128),
    "gamma 0": Recipe(weights="gamma 0"),
    "min-SNR-5": Recipe(weights="min-SNR-5"),
    "fresh sprites": Recipe(fresh_sprites=True),
    "a fresh network, width 48": Recipe(width=48),
    "a fresh network, width 64": Recipe(width=64),
    "a fresh network, width 32, Muon": Recipe(peak=3e-3, width=32),
    "a fresh network, width 32, AdamW": Recipe(3e-3, width=32, optimiser="AdamW"),
}


def times(n: int, T: int, spread: bool, generator: torch.Generator) -> Tensor:
    """n times in 1..T, spread evenly (Kingma et al. 2021) or each at random."""
    if not spread:
        return torch.randint(1, T + 1, (n,), generator=generator)
    offset = torch.randint(T, (1,), generator=generator)
    return 1 + (offset + torch.arange(n) * T // n) % T


def weights_at(alpha_bar: Tensor, name: str) -> Tensor:
    """How much the loss counts at times of these alpha_bar."""
    if name == "min-SNR-5":  # Hang et al. 2023, for a network that guesses the noise
        snr = alpha_bar / (1 - alpha_bar)
        return snr.clamp(max=5) / snr
    return (1 - alpha_bar) ** float(name.removeprefix("gamma "))


def loss_of(
    model: ContextUnet,
    schedule: Schedule,
    x0: Tensor,
    c: Tensor,
    recipe: Recipe,
    generator: torch.Generator,
) -> Tensor:
    """The loss of one update: diffusion_loss with the recipe's times and weights."""
    t = times(len(x0), schedule.T, recipe.spread, generator)
    eps = torch.randn(x0.shape, generator=generator)
    keep = torch.rand(len(x0), 1, generator=generator) >= 0.1
    guess = model(schedule.add_noise(x0, t, eps), t / schedule.T, c * keep)
    weight = weights_at(schedule.alpha_bar[t], recipe.weights)
    return (weight.view(-1, 1, 1, 1) * (guess - eps) ** 2).mean()


@torch.no_grad()
def held_out_loss(model, schedule: Schedule, data: Pictures) -> tuple[float, float]:
    """The loss on unseen images with the same noise for all: up to t = HALF, above."""
    generator = torch.Generator().manual_seed(0)
    n = min(HELD_OUT, len(data.x))
    t = 1 + torch.arange(n) * schedule.T // n
    eps = torch.randn(data.x[:n].shape, generator=generator)
    x_t = schedule.add_noise(data.x[:n], t, eps)
    parts = torch.arange(n).split(250)
    guess = torch.cat([model(x_t[i], t[i] / schedule.T, data.c[i]) for i in parts])
    error = ((guess - eps) ** 2).mean((1, 2, 3))
    return error[t <= HALF].mean().item(), error[t > HALF].mean().item()


def fresh_sprites(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Sprites that no other seed gives again: images (n,3,16,16), contexts (n,5)."""
    images, labels = draw_sprites(n, seed=seed)
    return to_unit(images), torch.from_numpy(labels)


def batch_of(data: Pictures, recipe: Recipe, generator: torch.Generator, seed: int):
    """The images and contexts of one update."""
    n = recipe.batch_size
    if recipe.fresh_sprites:
        return fresh_sprites(n, seed)
    i = torch.randint(len(data.x), (n,), generator=generator)
    return data.x[i], data.c[i]


def rate_at(share: float, peak: float) -> float:
    """The learning rate when this share of the seconds is over: up, and down to 0."""
    return peak * min(share / 0.05, (1 + math.cos(math.pi * share)) / 2)


def run_trial(checkpoint: Checkpoint, data, unseen, recipe: Recipe, seed: int, seconds):
    """Train for so many seconds; a dict of what came of it."""
    model, schedule = checkpoint.model, checkpoint.schedule
    if recipe.width:
        torch.manual_seed(seed)
        size = len(checkpoint.context)
        model = ContextUnet(checkpoint.image_shape[0], size, recipe.width)
    model.train().to(memory_format=torch.channels_last)
    kind = {"Muon": Muon, "AdamW": torch.optim.AdamW}[recipe.optimiser]
    optimiser = kind(model.parameters(), lr=recipe.peak)
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(EMA))
    updates, end = 0, time.process_time() + seconds
    while (left := end - time.process_time()) > 0:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + updates)
        fresh = 10_000_000 * (seed + 1) + updates
        x0, c = batch_of(data, recipe, generator, fresh)
        loss = loss_of(model, schedule, x0, c, recipe, generator)
        rate = rate_at(1 - left / seconds, recipe.peak)
        train_step(model, ema, optimiser, loss, rate)
        updates += 1
    low, high = held_out_loss(ema.eval(), schedule, unseen)
    return {"updates": updates, "loss": (low + high) / 2, "low": low, "high": high}


def table(result: dict) -> str:
    """The trials as Markdown, with the range over the seeds."""
    lines = [
        "| trial | updates | loss on unseen images | t ≤ 250 | t > 250 |",
        "|---|---:|---:|---:|---:|",
    ]
    before = result["before"]
    lines.append(
        f"| before all of them | – | {before['loss']:.5f} | {before['low']:.5f} "
        f"| {before['high']:.5f} |"
    )
    for name, runs in result["trials"].items():
        found = list(runs.values())
        losses = [run["loss"] for run in found]
        span = f"{mean(losses):.5f} ({min(losses):.5f} … {max(losses):.5f})"
        low, high = (mean(run[part] for run in found) for part in ("low", "high"))
        updates = mean(run["updates"] for run in found)
        lines.append(f"| {name} | {updates:,.0f} | {span} | {low:.5f} | {high:.5f} |")
    lines += ["", f"Measured by `python -m tools.trials` on: {result['machine']}."]
    return "\n".join(lines)


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.trials", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("name", choices=BUILT_IN)
    parser.add_argument("--start", type=Path, help="default: what ships of this name")
    parser.add_argument("--seconds", type=float, default=120, help="of each trial")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", choices=TRIALS, default=list(TRIALS))
    parser.add_argument(
        "--out", type=Path, help="default: checkpoints/NAME_trials.json"
    )
    return parser.parse_args()


def main() -> int:
    given = asked()
    torch.set_num_threads(1)
    start = given.start or CHECKPOINTS / f"{given.name}.safetensors"
    data, unseen = dataset(given.name), dataset(given.name, unseen=True)
    path = given.out or CHECKPOINTS / f"{given.name}_trials.json"
    result = {"trials": {}}
    if path.is_file():
        result = json.loads(path.read_text(encoding="utf-8"))
    result["seconds"], result["machine"] = given.seconds, machine("cpu")
    result["recipe"] = asdict(TRIALS["as it is"])
    low, high = held_out_loss(load(start).model, load(start).schedule, unseen)
    result["before"] = {"loss": (low + high) / 2, "low": low, "high": high}
    for seed in given.seeds:
        for name in given.only:
            runs = result["trials"].setdefault(name, {})
            if str(seed) in runs:
                continue
            runs[str(seed)] = run_trial(
                load(start), data, unseen, TRIALS[name], seed, given.seconds
            )
            print(f"{name}, seed {seed}: {runs[str(seed)]}", flush=True)
            write_json(path, result)
    print(table(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
