"""make bench: what is fast here, as ratios taken side by side in one run.

Every pair is timed in turns (a, b, a, b, …) and compared by its medians, so that a
change of the machine's pace touches both. Prints one table and writes it with its
figures as JSON; --readme also puts it into README.md and checkpoints/bench.json.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count, islice, pairwise
from pathlib import Path
from statistics import median

import matplotlib
import torch
from torch import Tensor

from lesson_utils import (
    ContextUnet,
    Schedule,
    dataset,
    ddim,
    ddpm,
    draw_sprites,
    gif,
    guide,
    initial_noise,
    last,
    load,
    playground,
    train,
)
from lesson_utils.cli import machine
from tools.blocks import fill

ROOT = Path(__file__).resolve().parent.parent


def in_turns(rounds: int, **actions: Callable[[], object]) -> dict[str, float]:
    """Median seconds of each action, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(rounds + 1):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in seconds.items()}


def row(what: str, value: float, unit: str, target: str, met: bool | None, **details):
    """One line of the table."""
    return {
        "what": what,
        "value": round(value, 3),
        "unit": unit,
        "target": target,
        "met": met,
        "details": {k: round(v, 5) for k, v in details.items()},
    }


def bench_samplers(name: str, n: int = 8, rounds: int = 3) -> list[dict]:
    """DDIM-20 beside DDPM-500, and beside its 20 network evaluations alone."""
    ck = load(name)
    x = initial_noise(n, ck.image_shape)
    c = torch.eye(len(ck.context))[torch.arange(n) % len(ck.context)]
    eps_fn = guide(ck.model, c)

    @torch.no_grad()
    def network_alone():
        for t in ck.schedule.timesteps(20)[:-1]:
            ck.model(x, torch.full((n,), t / ck.schedule.T), c)

    both = in_turns(
        rounds,
        ddim_20=lambda: last(ddim(eps_fn, x, ck.schedule, 20)),
        ddpm_500=lambda: last(ddpm(eps_fn, x, ck.schedule)),
    )
    bare = in_turns(
        10 * rounds,
        ddim_20=lambda: last(ddim(eps_fn, x, ck.schedule, 20)),
        network=network_alone,
    )
    faster = both["ddpm_500"] / both["ddim_20"]
    cost = bare["ddim_20"] / bare["network"]
    return [
        row(
            f"DDIM-20 against DDPM-500, {n} {name}",
            faster,
            "× faster",
            "at least 24 of 25",
            faster >= 24,
            **both,
        ),
        row(
            f"DDIM-20 against its evaluations alone, {n} {name}",
            cost,
            "× the time",
            "at most 1.05",
            cost <= 1.05,
            **bare,
        ),
    ]


def bench_playground(name: str, n: int = 8, rounds: int = 20) -> list[dict]:
    """From a control that is let go to the picture, beside the evaluations alone."""
    panel = playground(name, n)
    ck, seeds = panel.checkpoint, count(1)
    x, c = initial_noise(n, ck.image_shape), panel.c.repeat(n, 1)

    @torch.no_grad()
    def network_alone():
        for t in ck.schedule.timesteps(20)[:-1]:
            ck.model(x, torch.full((n,), t / ck.schedule.T), c)

    async def another_seed():  # as in a notebook, whose kernel is an event loop
        panel.seed.value = next(seeds)
        await panel.task

    took = in_turns(
        rounds, playground=lambda: asyncio.run(another_seed()), network=network_alone
    )
    cost = took["playground"] / took["network"]
    what = f"The playground against its 20 evaluations alone, {n} {name}"
    return [row(what, cost, "× the time", "at most 1.15", cost <= 1.15, **took)]


def usual_gif(frames: list[Tensor]) -> bytes:
    """The film as it is usually made: matplotlib clears and draws every axis anew."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.animation import FuncAnimation, PillowWriter

    figure, axes = plt.subplots(4, 8, figsize=(8, 4))
    pictures = [(x.clamp(-1, 1) / 2 + 0.5).permute(0, 2, 3, 1).numpy() for x in frames]

    def draw(i: int):
        drawn = []
        for axis, picture in zip(axes.flat, pictures[i], strict=True):
            axis.clear()
            axis.set_xticks([])
            axis.set_yticks([])
            drawn.append(axis.imshow(picture))
        return drawn

    film = FuncAnimation(figure, draw, frames=len(frames), blit=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "usual.gif"
        film.save(path, dpi=100, writer=PillowWriter(fps=16))
        plt.close(figure)
        return path.read_bytes()


def bench_gif(name: str, rounds: int = 2) -> list[dict]:
    """32 sprites × 25 frames at 4×, from a real trajectory, beside the usual way."""
    ck = load(name)
    x = initial_noise(32, ck.image_shape)
    c = torch.eye(len(ck.context))[torch.arange(32) % len(ck.context)]
    frames = [step.x for step in ddim(guide(ck.model, c), x, ck.schedule, 25)]
    size = {}

    def keep(key: str, data: bytes):
        size[key] = len(data)

    took = in_turns(
        rounds,
        gif=lambda: [keep("ours", gif(frames, columns=8)) for _ in range(5)],
        usual=lambda: keep("usual", usual_gif(frames)),
    )
    faster = 5 * took["usual"] / took["gif"]
    took["gif"] /= 5
    share = size["ours"] / size["usual"]
    return [
        row(
            "GIF of 32 sprites × 25 frames against matplotlib's",
            faster,
            "× faster",
            "at least 100",
            faster >= 100,
            **took,
        ),
        row(
            "Size of that GIF against matplotlib's",
            share,
            "× the bytes",
            "at most 1",
            share <= 1,
            ours=size["ours"],
            usual=size["usual"],
        ),
    ]


def bench_forward(rounds: int = 40) -> list[dict]:
    """One forward of 32 sprites beside one product of 2048 × 2048 matrices."""
    model = ContextUnet(3, 5).eval().to(memory_format=torch.channels_last)
    x, t, c = torch.randn(32, 3, 16, 16), torch.rand(32), torch.rand(32, 5)
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.randn(2, 2048, 2048).to(dtype)
        lower = dtype != torch.float32
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=lower):
            took = in_turns(
                rounds, forward=lambda: model(x, t, c), product=lambda a=a, b=b: a @ b
            )
        mflop = took["forward"] / took["product"] * 2 * 2048**3 / 32 / 1e6
        kind = str(dtype).removeprefix("torch.")
        target = ("at most 320, aim 160", mflop <= 320) if not lower else ("none", None)
        what = f"Forward of a sprite, {kind}"
        rows.append(row(what, mflop, "MFLOP of matrix product", *target, **took))
    return rows


def bench_training(updates: int = 40) -> list[dict]:
    """Updates of the recipe that made the shipped checkpoint."""
    data, times = dataset("sprites"), []
    for bfloat16 in (False, True):
        model, clock = ContextUnet(3, 5), []
        for _ in islice(
            train(model, Schedule.linear(), data, 1000, bfloat16=bfloat16), updates
        ):
            clock.append(time.perf_counter())
        times.append(median(b - a for a, b in pairwise(clock[5:])))
    return [
        row(
            f"Training at batch 64, {kind}",
            64 / seconds,
            "sprites a second",
            "none",
            None,
            update=seconds,
        )
        for kind, seconds in zip(("float32", "bfloat16"), times, strict=True)
    ]


def bench_drawing(n: int = 20_000, rounds: int = 3) -> list[dict]:
    """Drawing sprites; NumPy's part of it runs on one core."""
    took = in_turns(rounds, draw=lambda: draw_sprites(n, seed=0))
    rate = n / took["draw"]
    what, unit = "Sprites drawn on one core", "a second"
    return [row(what, rate, unit, "at least 10,000", rate >= 10_000, **took)]


def table(result: dict) -> str:
    """The figures as a Markdown table, under the name of the machine."""
    marks = {True: "yes", False: "**no**", None: "–"}
    lines = [
        f"Measured by `make bench` on: {result['machine']}.",
        "",
        "| what | figure | target | met |",
        "|---|---:|---|---|",
    ]
    for r in result["rows"]:
        figure = f"{r['value']:.3g}" if r["value"] < 100 else f"{r['value']:,.0f}"
        lines.append(
            f"| {r['what']} | {figure} {r['unit']} | {r['target']} "
            f"| {marks[r['met']]} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build/bench.json")
    parser.add_argument("--readme", action="store_true", help="also into the project")
    chosen = parser.parse_args()
    rows = []
    for part in (
        lambda: bench_samplers("sprites"),
        lambda: bench_playground("sprites"),
        lambda: bench_gif("sprites"),
        bench_forward,
        bench_training,
        bench_drawing,
    ):
        rows += part()
        print(f"measured: {rows[-1]['what']}", file=sys.stderr)
    result = {"machine": machine("cpu"), "rows": rows}
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    print(table(result))
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(text)
    if chosen.readme:
        (ROOT / "checkpoints/bench.json").write_text(text)
        fill(ROOT / "README.md", "bench", table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
