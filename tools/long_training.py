"""The long training that made the weights which ship: they go on from older ones.

    python -m tools.long_training sprites --updates 60000 --decay 15000 [--start FILE]

One thread, resumable: the same command goes on from build/long/NAME.safetensors. The
learning rate rises over 500 updates, stays, and falls to 0 in a straight line over the
last --decay updates. The sprites are drawn afresh for each update, so that none comes
twice. Three moving averages of the weights are kept side by side; the
one with the lowest loss on unseen images is written to build/long/NAME-best.safetensors
together with its record.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lesson_utils import (
    Checkpoint,
    Muon,
    Pictures,
    Settings,
    dataset,
    diffusion_loss,
    load,
    progress,
    save,
    train_step,
)
from lesson_utils.quality.experiment import digest
from lesson_utils.support.device import machine
from lesson_utils.support.files import BUILT_IN, CHECKPOINTS, ROOT, fingerprint
from lesson_utils.support.state import Keeper, live_tensors
from tools.trials import fresh_sprites, held_out_loss

STATES = ROOT / "build/long"
DECAYS = (0.999, 0.9995, 0.9999)  # of the averages
PEAK, WARMUP = 2e-3, 500
FRESH = 500_000_000  # the first seed of fresh sprites, far from those of the data


def rate_of(step: int, settings: Settings, decay: int) -> float:
    """The learning rate of update step, 0-based: up, level, and down to 0."""
    up = (step + 1) / settings.warmup
    down = (settings.steps - step) / decay
    return settings.learning_rate * min(1, up, down)


class Averages:
    """Moving averages of one model, which train_step updates together."""

    def __init__(self, model: torch.nn.Module):
        self.of = {
            decay: AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
            for decay in DECAYS
        }

    def update_parameters(self, model: torch.nn.Module) -> None:
        for average in self.of.values():
            average.update_parameters(model)

    def tensors(self) -> dict[str, Tensor]:
        """All their tensors, by name."""
        return {
            f"ema {decay}.{key}": value
            for decay, average in self.of.items()
            for key, value in average.state_dict().items()
        }


class Run:
    """A long training: its parts, and the Keeper of its state.

    decay: updates at the end in which the learning rate falls; fresh: whether every
    update has new sprites instead of the data's images.
    """

    def __init__(
        self,
        start: Checkpoint,
        data: Pictures,
        settings: Settings,
        decay: int,
        state: Path,
        fresh: bool = False,
    ):
        self.start, self.data, self.settings, self.decay = start, data, settings, decay
        self.fresh = fresh
        self.model = start.model.train().to(memory_format=torch.channels_last)
        self.averages = Averages(self.model)
        self.optimiser = Muon(self.model.parameters(), lr=settings.learning_rate)
        self.losses = torch.zeros(settings.steps)
        any_average = self.averages.of[DECAYS[0]]
        live = live_tensors(self.model, any_average, self.optimiser, self.losses)
        live.update(self.averages.tensors())
        about = {
            "context": list(start.context),
            "image_shape": list(start.image_shape),
            "alpha_bar": start.schedule.alpha_bar.tolist(),
        }
        made_of = {
            **asdict(settings),
            "decay": decay,
            "fresh": fresh,
            "data": fingerprint(data.x, data.c),
            "start": digest(start.model),
        }
        self.keeper = Keeper(state, live, made_of, every=300.0, about=about)

    def updates(self):
        """Make the updates that are left, and yield the number of each."""
        with self.keeper:
            for step in range(self.keeper.done, self.settings.steps):
                with self.keeper.update():
                    loss = self.loss(step)
                    rate = rate_of(step, self.settings, self.decay)
                    train_step(self.model, self.averages, self.optimiser, loss, rate)
                    self.losses[step] = loss.detach()
                yield step + 1

    def loss(self, step: int) -> Tensor:
        """The loss of update step, 0-based; its randomness comes from step alone."""
        generator = torch.Generator().manual_seed(step)
        n = self.settings.batch_size
        if self.fresh:
            x0, c = fresh_sprites(n, FRESH + step)
        else:
            batch = torch.randint(len(self.data.x), (n,), generator=generator)
            x0, c = self.data.x[batch], self.data.c[batch]
        dropout, gamma = self.settings.context_dropout, self.settings.gamma
        return diffusion_loss(
            self.model, self.start.schedule, x0, c, dropout, gamma, generator
        )

    def held_out(self, unseen: Pictures) -> dict[float, float]:
        """The loss of each average on unseen images."""
        found = {}
        for decay, average in self.averages.of.items():
            low, high = held_out_loss(average.eval(), self.start.schedule, unseen)
            found[decay] = (low + high) / 2
        return found

    def write(self, out: Path, name: str, unseen: Pictures) -> None:
        """Save the best average, with the record of all its training."""
        found, earlier = self.held_out(unseen), self.start.meta
        best = min(found, key=found.get)
        curve = [round(float(part.mean()), 5) for part in self.losses.chunk(100)]
        settings = self.settings
        save(
            out,
            self.averages.of[best],
            self.start.schedule,
            self.start.context,
            self.start.image_shape,
            data=earlier["data"] + (", then fresh ones" if self.fresh else ""),
            fingerprint=fingerprint(self.data.x, self.data.c),
            machine=machine("cpu"),
            steps=settings.steps,
            images_seen=earlier["images_seen"] + settings.steps * settings.batch_size,
            seconds=round(earlier["seconds"] + self.keeper.seconds),
            loss=round(float(self.losses[-1000:].mean()), 5),
            **{"from": {key: earlier[key] for key in ("images_seen", "seconds")}},
            loss_curve=[*earlier["loss_curve"], *curve],
            settings={**asdict(settings), "ema_decay": best, "decay": self.decay},
            held_out={str(decay): round(loss, 5) for decay, loss in found.items()},
            recipe=f"python -m tools.long_training {name} --updates {settings.steps} "
            f"--decay {self.decay}",
        )
        print(f"{out}: loss on unseen images by average: {found}")


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.prog = "python -m tools.long_training"
    parser.add_argument("name", choices=BUILT_IN)
    parser.add_argument("--updates", type=int, required=True)
    parser.add_argument("--decay", type=int, required=True, help="of these updates")
    parser.add_argument("--start", type=Path, help="default: the checkpoint that ships")
    return parser.parse_args()


def main() -> int:
    given = asked()
    torch.set_num_threads(1)
    name = given.name
    start = load(given.start or CHECKPOINTS / f"{name}.safetensors")
    data = dataset(name, like=start)
    settings = Settings(
        steps=given.updates, learning_rate=PEAK, warmup=WARMUP, ema_decay=DECAYS[0]
    )
    state, fresh = STATES / f"{name}.safetensors", name == "sprites"
    run = Run(start, data, settings, given.decay, state, fresh)
    left = given.updates - run.keeper.done
    for _ in progress(run.updates(), left, f"{name}, {given.updates:,} updates"):
        pass
    out = STATES / f"{name}-best.safetensors"
    run.write(out, name, dataset(name, like=start, unseen=True))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
