"""make bench: what is fast here, as ratios taken side by side in one run.

Every pair is timed in turns (a, b, a, b, …) and compared by its medians, so that a
change of the machine's pace touches both. Prints one table and writes it with its
figures as JSON; --readme also puts it into README.md and checkpoints/bench.json.
"""

import argparse
import asyncio
import copy
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import count, islice, pairwise
from pathlib import Path
from statistics import median

import matplotlib
import torch
from torch import Tensor

from lesson_utils import (
    Checkpoint,
    ContextUnet,
    Schedule,
    Settings,
    dataset,
    ddim,
    ddim_step,
    ddpm,
    dpmpp_2m,
    draw_sprites,
    gif,
    guide,
    heun,
    initial_noise,
    last,
    load,
    playground,
    train,
)
from lesson_utils.export import scheduler_config
from lesson_utils.quality.card import fill
from lesson_utils.sample_runs import into_folder
from lesson_utils.samples import SampleSettings, planned
from lesson_utils.support.device import machine
from lesson_utils.support.files import ROOT, write_json
from lesson_utils.support.flags import printable

MFLOP_TARGET = "at most 320, aim 160"


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


def classes_in_turn(n: int, checkpoint: Checkpoint) -> Tensor:
    """A context (n,K): one class after the other."""
    K = len(checkpoint.context)
    return torch.eye(K)[torch.arange(n) % K]


def network_alone(checkpoint: Checkpoint, x: Tensor, c: Tensor, steps: int = 20):
    """The evaluations that DDIM makes, of the same images, and nothing else."""
    model, schedule = checkpoint.model, checkpoint.schedule
    sampler = ddim(guide(model, c), x, schedule, steps)
    inputs = [x, *(step.x for step in sampler)][:steps]
    times = schedule.timesteps(steps)[:-1]

    @torch.no_grad()
    def evaluate():
        for x_t, t in zip(inputs, times, strict=True):
            model(x_t, x_t.new_full((len(x),), t / schedule.T), c)

    return evaluate


def bench_samplers(name: str, n: int = 8, rounds: int = 3) -> list[dict]:
    """DDIM-20 beside DDPM-500, and beside its 20 network evaluations alone."""
    ck = load(name)
    x, c = initial_noise(n, ck.image_shape), classes_in_turn(n, ck)
    eps_fn = guide(ck.model, c)

    def ddim_20():
        last(ddim(eps_fn, x, ck.schedule, 20))

    def ddpm_500():
        last(ddpm(eps_fn, x, ck.schedule))

    both = in_turns(rounds, ddim_20=ddim_20, ddpm_500=ddpm_500)
    bare = in_turns(20 * rounds, ddim_20=ddim_20, network=network_alone(ck, x, c))
    faster = both["ddpm_500"] / both["ddim_20"]
    what = f"DDIM-20 against DDPM-500, {n} {name}"
    first = row(what, faster, "× faster", "at least 24 of 25", faster >= 24, **both)
    cost = bare["ddim_20"] / bare["network"]
    what = f"DDIM-20 against its evaluations alone, {n} {name}"
    return [first, row(what, cost, "× the time", "at most 1.05", cost <= 1.05, **bare)]


def bench_batches(name: str, sizes: dict[int, int]) -> list[dict]:
    """DDIM-20 by batch: its 20 evaluations in three ways, then the loop around them.

    sizes: {images in a batch: rounds}. Gives seconds of each for a batch.
    """
    found = []
    for n, rounds in sizes.items():
        ck = load(name)  # its weights are channels-last
        x, c = initial_noise(n, ck.image_shape), classes_in_turn(n, ck)
        eager = copy.deepcopy(ck.model).to(memory_format=torch.contiguous_format)
        compiled = torch.compile(ck.model, dynamic=False)
        eps_fn = guide(ck.model, c)
        took = in_turns(
            rounds,
            eager=network_alone(ck._replace(model=eager), x, c),
            channels_last=network_alone(ck, x, c),
            compiled=network_alone(ck._replace(model=compiled), x, c),
            ours=lambda f=eps_fn, x=x, s=ck.schedule: last(ddim(f, x, s, 20)),
            diffusers=by_diffusers(eps_fn, x, ck.schedule),
        )
        found.append({"batch": n, **{k: round(v, 5) for k, v in took.items()}})
    return found


def by_diffusers(
    eps_fn, x: Tensor, schedule: Schedule, kind: str = "DDIMScheduler", **settings
) -> Callable[[], Tensor]:
    """The loop of one of Diffusers' schedulers over the same network, in 20 steps."""
    import diffusers

    config = scheduler_config(schedule)
    scheduler = getattr(diffusers, kind).from_config(config, **settings)

    @torch.no_grad()
    def sample():
        scheduler.set_timesteps(20)  # forgets the guesses of the last run
        x_t = x
        for t in scheduler.timesteps:
            eps = eps_fn(x_t, ((t + 1) / schedule.T).expand(len(x)))
            x_t = scheduler.step(eps, t, x_t).prev_sample
        return x_t

    return sample


def bench_solvers(name: str, n: int = 8, rounds: int = 15) -> list[dict]:
    """2M in 20 steps beside the same of Diffusers, and Heun beside 2M."""
    ck = load(name)
    x, c = initial_noise(n, ck.image_shape), classes_in_turn(n, ck)
    eps_fn, schedule = guide(ck.model, c), ck.schedule
    how = {"algorithm_type": "dpmsolver++", "solver_order": 2}
    how.update(solver_type="midpoint", final_sigmas_type="zero")
    kind = "DPMSolverMultistepScheduler"
    took = in_turns(
        rounds,
        ours=lambda: last(dpmpp_2m(eps_fn, x, schedule, 20)),
        diffusers=by_diffusers(eps_fn, x, schedule, kind, **how),
        heun=lambda: last(heun(eps_fn, x, schedule, 20)),
    )
    cost = took["ours"] / took["diffusers"]
    what = f"DPM-Solver++(2M) in 20 steps against that of Diffusers, {n} {name}"
    first = row(what, cost, "× the time", "at most 1.05", cost <= 1.05, **took)
    cost = took["heun"] / took["ours"]
    what = f"Heun in 20 steps against 2M, whose evaluations are 20 of 39, {n} {name}"
    return [first, row(what, cost, "× the time", "at most 2.05", cost <= 2.05, **took)]


def bench_checked(calls: int = 1000, rounds: int = 20) -> list[dict]:
    """What a loop calls, checked and plain: the one whose rules cost the most."""
    schedule = Schedule.linear()
    x, eps = torch.randn(2, 8, 3, 16, 16)
    t = torch.arange(1, 9)
    model = ContextUnet(3, 5)
    cases = {
        "ddim": (ddim, (model, x, schedule, 20)),  # makes the generator alone
        "ddim_step": (ddim_step, (x, eps, 0.5, 0.6)),
        "add_noise": (Schedule.add_noise, (schedule, x, t, eps)),
    }

    def repeated(function: Callable, arguments: tuple):
        for _ in range(calls):
            function(*arguments)

    extra = {}
    for name, (function, arguments) in cases.items():
        took = in_turns(
            rounds,
            checked=partial(repeated, function, arguments),
            plain=partial(repeated, function.__wrapped__, arguments),
        )
        extra[name] = (took["checked"] - took["plain"]) / calls * 1e6
    most = max(extra.values())
    what = f"A checked call over the plain one, {max(extra, key=extra.get)}"
    return [row(what, most, "µs", "at most 30", most <= 30, **extra)]


def bench_playground(name: str, n: int = 8, rounds: int = 20) -> list[dict]:
    """From a control that is let go to the images, beside the evaluations alone."""
    panel = playground(name, n)
    ck, seeds = panel.checkpoint, count(1)
    x, c = initial_noise(n, ck.image_shape), panel.c.repeat(n, 1)

    async def another_seed():  # as in a notebook, whose kernel is an event loop
        panel.seed.value = next(seeds)
        await panel.task

    took = in_turns(
        rounds,
        playground=lambda: asyncio.run(another_seed()),
        network=network_alone(ck, x, c),
    )
    cost = took["playground"] / took["network"]
    what = f"The playground against its 20 evaluations alone, {n} {name}"
    return [row(what, cost, "× the time", "at most 1.15", cost <= 1.15, **took)]


def bench_student(name: str, n: int = 8, rounds: int = 3) -> list[dict]:
    """A student of four steps beside DDPM-500, and in the playground."""
    ck, panel, seeds = load(name), playground(f"{name}-4", n), count(1)
    student, times = panel.checkpoint.model, panel.checkpoint.times
    x, c = initial_noise(n, ck.image_shape), classes_in_turn(n, ck)
    plain, few = guide(ck.model, c), guide(student, c)

    def ddim_4():
        for _ in range(10):
            last(ddim(few, x, ck.schedule, times))

    async def another_seed():
        panel.seed.value = next(seeds)
        await panel.task

    took = in_turns(
        rounds, student=ddim_4, ddpm_500=lambda: last(ddpm(plain, x, ck.schedule))
    )
    took["student"] /= 10
    faster = took["ddpm_500"] / took["student"]
    what = f"A 4-step student against DDPM-500, {n} {name}"
    first = row(what, faster, "× faster", "none, of 125", None, **took)
    took = in_turns(20 * rounds, playground=lambda: asyncio.run(another_seed()))
    ms = 1000 * took["playground"]
    what = f"The playground with it, from a control to the images, {n} {name}"
    return [first, row(what, ms, "ms", "at most 50", ms <= 50, **took)]


def bench_writing(name: str, n: int = 192) -> list[dict]:
    """Samples as files: what their PNGs take beside the sampling, of DDIM-20."""
    job = planned(SampleSettings(n_samples=n), load(name), name)
    with tempfile.TemporaryDirectory() as folder:
        spent = into_folder(job, Path(folder), {})["seconds"]
    share = 100 * spent["writing"] / spent["sampling"]
    what = f"Writing {n} {name} as PNGs against sampling them with DDIM-20"
    return [row(what, share, "% of the time", "at most 10", share <= 10, **spent)]


def usual_gif(frames: list[Tensor]) -> bytes:
    """The GIF as it is usually made: matplotlib clears and draws every axis anew."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.animation import FuncAnimation, PillowWriter

    figure, axes = plt.subplots(4, 8, figsize=(8, 4))
    shown = [(x.clamp(-1, 1) / 2 + 0.5).permute(0, 2, 3, 1).numpy() for x in frames]

    def draw(i: int):
        drawn = []
        for axis, image in zip(axes.flat, shown[i], strict=True):
            axis.clear()
            axis.set_xticks([])
            axis.set_yticks([])
            drawn.append(axis.imshow(image))
        return drawn

    animation = FuncAnimation(figure, draw, frames=len(frames), blit=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "usual.gif"
        animation.save(path, dpi=100, writer=PillowWriter(fps=16))
        plt.close(figure)
        return path.read_bytes()


def bench_gif(name: str, rounds: int = 2) -> list[dict]:
    """32 sprites × 25 frames at 4×, from a real trajectory, beside the usual way."""
    ck = load(name)
    x, c = initial_noise(32, ck.image_shape), classes_in_turn(32, ck)
    frames = [step.x for step in ddim(guide(ck.model, c), x, ck.schedule, 25)]
    size = {}

    def ours():
        for _ in range(5):
            size["ours"] = len(gif(frames, columns=8))

    def usual():
        size["usual"] = len(usual_gif(frames))

    took = in_turns(rounds, gif=ours, usual=usual)
    took["gif"] /= 5
    faster = took["usual"] / took["gif"]
    what = "GIF of 32 sprites × 25 frames against matplotlib's"
    first = row(what, faster, "× faster", "at least 100", faster >= 100, **took)
    share = size["ours"] / size["usual"]
    what = "Size of that GIF against matplotlib's"
    return [first, row(what, share, "× the bytes", "at most 1", share <= 1, **size)]


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
        target, met = ("none", None) if lower else (MFLOP_TARGET, mflop <= 320)
        what = f"Forward of a sprite, {kind}"
        rows.append(row(what, mflop, "MFLOP of matrix product", target, met, **took))
    return rows


def bench_training(updates: int = 40) -> list[dict]:
    """Updates of the recipe that made the shipped checkpoint."""
    data, rows = dataset("sprites"), []
    for bfloat16 in (False, True):
        settings = Settings(steps=1000, bfloat16=bfloat16)
        run = train(ContextUnet(3, 5), Schedule.linear(), data, settings)
        clock = [time.perf_counter() for _ in islice(run, updates)]
        seconds = median(b - a for a, b in pairwise(clock[5:]))
        rate = settings.batch_size / seconds
        kind = "bfloat16" if bfloat16 else "float32"
        what = f"Training at batch {settings.batch_size}, {kind}"
        rows.append(row(what, rate, "sprites a second", "none", None, update=seconds))
    return rows


def bench_drawing(n: int = 20_000, rounds: int = 3) -> list[dict]:
    """Drawing sprites; NumPy's part of it runs on one core."""
    took = in_turns(rounds, draw=lambda: draw_sprites(n, seed=0))
    rate = n / took["draw"]
    what, unit = "Training sprites made on one core", "a second"
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


def batches_table(result: dict) -> str:
    """What bench_batches found, as a Markdown table: milliseconds an image."""
    lines = [
        f"Milliseconds an image for DDIM in 20 steps, on: {result['machine']}.",
        "",
        "| batch | network, eager | channels-last | compiled | DDIM-20 "
        "| DDIM of Diffusers | DDIM-20 over its network |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for r in result["batches"]:
        names = "eager", "channels_last", "compiled", "ours", "diffusers"
        each = " | ".join(f"{1000 * r[name] / r['batch']:.3g}" for name in names)
        over = 100 * (r["ours"] / r["channels_last"] - 1)
        lines.append(f"| {r['batch']} | {each} | {over:+.1f} % |")
    return "\n".join(lines)


def main() -> int:
    printable()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build/bench.json")
    parser.add_argument("--readme", action="store_true", help="also into the project")
    chosen = parser.parse_args()
    parts = [
        partial(bench_samplers, "sprites"),
        partial(bench_solvers, "sprites"),
        bench_checked,
        partial(bench_playground, "sprites"),
        partial(bench_student, "sprites"),
        partial(bench_writing, "sprites"),
        partial(bench_gif, "sprites"),
        bench_forward,
        bench_training,
        bench_drawing,
    ]
    rows = []
    for part in parts:
        rows += part()
        print(f"measured: {rows[-1]['what']}", file=sys.stderr)
    batches = bench_batches("sprites", {1: 60, 8: 30, 64: 8})
    result = {"machine": machine("cpu"), "rows": rows, "batches": batches}
    text = f"{table(result)}\n\n{batches_table(result)}"
    print(text)
    write_json(chosen.out, result)
    if chosen.readme:
        write_json(ROOT / "checkpoints/bench.json", result)
        fill(ROOT / "README.md", "bench", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
