"""python -m lesson_utils train | evaluate: what takes long, from the command line."""

import argparse
import platform
import re
import sys
import time
from itertools import islice, product
from pathlib import Path

import torch

from . import data as sources
from .arguments import refuse, whole
from .checkpoint import CHECKPOINTS, load, read_state, save, usable
from .evaluation import BATCH, Setting, chart, checked, evaluate, table
from .metrics import judge_for
from .schedule import Schedule
from .training import train
from .unet import ContextUnet
from .viz import progress

LARGE = 400  # pixels; width and updates of a run by default, of pictures up to it:
SMALL, BIG = (48, 30_000), (32, 15_000)  # and of larger ones, which take longer
STATES = CHECKPOINTS.parent / "build/train"
RESULTS = CHECKPOINTS.parent / "build/evaluate"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; gives the exit status, 2 for a wrong argument."""
    parser = argparse.ArgumentParser(prog="python -m lesson_utils", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    options = commands.add_parser("train", help="train a checkpoint, or go on")
    options.add_argument("--dataset", default="sprites", help="or a folder (README)")
    options.add_argument("--size", type=int, help="of a folder's pictures; default 16")
    length = options.add_mutually_exclusive_group()
    length.add_argument(
        "--steps", type=int, help="updates; default 30,000, for large pictures 15,000"
    )
    length.add_argument("--minutes", type=float, help="instead: as many as fit")
    options.add_argument("--batch-size", type=int, default=64)
    options.add_argument(
        "--width", type=int, help="channels at full size; default 48, large 32"
    )
    options.add_argument("--learning-rate", type=float, default=3e-3, help="its peak")
    options.add_argument("--ema-decay", type=float, help="default 0.999, less if short")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--bfloat16", action="store_true", help="autocast")
    options.add_argument("--device", default=None, help="cpu, cuda, mps; default: best")
    options.add_argument("--out", type=Path, help="default: in checkpoints/")
    options.add_argument("--state", type=Path, help="default: in build/train/")
    options.set_defaults(run=run_train)
    options = commands.add_parser("evaluate", help="judge samples, or go on with it")
    options.add_argument("--checkpoint", default="sprites", help="a name or a path")
    options.add_argument("--dataset", help="that it was trained on; default: its name")
    options.add_argument("--size", type=int, help="of a folder's pictures; default 16")
    options.add_argument("--steps", default="10,20,50,100,500", help="each of them")
    options.add_argument("--eta", default="0,0.2,0.5,1,sigma-hat", help="with each")
    options.add_argument("--guidance", default="1", help="and each of these scales")
    options.add_argument("--n-samples", type=int, default=500, help="for each setting")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--device", default=None, help="cpu, cuda, mps; default: best")
    options.add_argument("--out", type=Path, help="JSON; default: in build/evaluate/")
    options.set_defaults(run=run_evaluate)
    chosen = parser.parse_args(arguments)
    try:
        chosen.run(chosen)
    except (ValueError, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        how = "the same command goes on from the last state"
        print(f"\nstopped; {how}", file=sys.stderr)
        return 130
    return 0


def run_train(chosen: argparse.Namespace) -> None:
    """Train from the start or from the last state, then write the checkpoint."""
    own = chosen.out and chosen.state  # then any folder's name will do
    name = Path(chosen.dataset).resolve().name if own else sources.label(chosen.dataset)
    out = chosen.out or CHECKPOINTS / f"{name}.safetensors"
    state = chosen.state or STATES / f"{name}.safetensors"
    if out.suffix != ".safetensors" or out.resolve() == state.resolve():
        refuse("--out", "a .safetensors file, not --state's,", str(out))
    device = str(usable(chosen.device or best_device()))
    data, schedule = sources.dataset(chosen.dataset, chosen.size), Schedule.linear()
    settings = {"batch_size": chosen.batch_size, "peak": chosen.learning_rate}
    settings |= {"seed": chosen.seed, "bfloat16": chosen.bfloat16}
    channels, height, side = data.x.shape[1:]
    usual = SMALL if height * side <= LARGE else BIG
    width = usual[0] if chosen.width is None else chosen.width

    def new_model() -> ContextUnet:
        torch.manual_seed(chosen.seed)
        return ContextUnet(channels, data.c.shape[1], width).to(device)

    steps, done = usual[1] if chosen.steps is None else chosen.steps, 0
    if state.exists():
        _, record = read_state(state)
        done = record["step"]
        if chosen.steps is None:  # also with --minutes: they were measured then
            steps = whole("steps", record["settings"].get("steps"), 1)
        if chosen.ema_decay is None:
            chosen.ema_decay = record["settings"].get("ema_decay")
        print(f"{state}: goes on after update {done:,} of {steps:,}")
    elif chosen.minutes is not None:
        steps = steps_in(chosen.minutes * 60, new_model(), schedule, data, settings)
    if chosen.ema_decay is None and steps > 0:
        chosen.ema_decay = max(0.0, min(0.999, 1 - 10 / steps))
    settings["ema_decay"] = chosen.ema_decay
    updates = train(new_model(), schedule, data, steps, state=state, **settings)
    label = f"{name} on {device}"
    for update in progress(updates, total=steps - done, label=label):
        loss = update.losses
    mean = round(float(loss[-1000:].mean()), 5)
    meta = {"data": f"{name}, {len(data.x):,} pictures", "steps": steps, "loss": mean}
    meta |= {"images_seen": steps * chosen.batch_size, "seconds": round(update.seconds)}
    meta["loss_curve"] = [round(float(v.mean()), 5) for v in loss.chunk(100)]
    meta |= {"settings": settings, "machine": machine(device)}
    save(out, update.ema, schedule, data.names, tuple(data.x.shape[1:]), **meta)
    state.unlink(missing_ok=True)
    print(f"{out}: {out.stat().st_size:,} bytes, loss {mean:.4f}")


def run_evaluate(chosen: argparse.Namespace) -> None:
    """Fill the table of all steps, η and guidance; write JSON and a chart."""
    lists = [
        numbers("--steps", chosen.steps),
        numbers("--eta", chosen.eta, "sigma-hat"),
        numbers("--guidance", chosen.guidance),
    ]
    device = str(usable(chosen.device or best_device()))
    checkpoint = load(chosen.checkpoint, device)
    T = checkpoint.schedule.T
    settings = [checked(Setting(*each), T) for each in product(*lists)]
    whole("--n-samples", chosen.n_samples, 10)
    whole("--seed", chosen.seed, 0)
    if chosen.out and chosen.out.suffix != ".json":
        refuse("--out", "a .json file", str(chosen.out))
    name = chosen.dataset or chosen.checkpoint
    data = sources.dataset(name, chosen.size)
    unseen = sources.UNSEEN.get(name, lambda: None)()
    out = chosen.out or RESULTS / f"{sources.label(name)}.json"
    judge = judge_for(name, size=chosen.size)
    arguments = checkpoint, judge, settings, chosen.n_samples, out, data
    about = {"machine": machine(device), "name": str(chosen.checkpoint)}
    results = evaluate(*arguments, unseen, chosen.seed, **about)
    batches = -(-chosen.n_samples // BATCH)
    total = batches * sum(setting.steps for setting in settings)
    *_, result = progress(results, total, f"{name} on {device}")
    scales = sorted({setting.guidance for setting in settings})
    out.with_suffix(".png").write_bytes(chart(result, scales[0]))
    for scale in scales:
        print(f"FCD, guidance {scale:g}:\n{table(result, guidance=scale)}")


def numbers(name: str, text: str, *words: str) -> list[float | str]:
    """The numbers, or some of these words, of a list such as 10,20,50."""
    found = []
    for part in text.split(","):
        try:
            value = part.strip()
            found.append(value if value in words else float(value))
        except ValueError:
            kinds = " or ".join(("numbers", *words))
            refuse(name, f"{kinds} with commas between", text)
    return found


def steps_in(seconds: float, model, schedule, data, settings: dict) -> int:
    """How many updates fit into so many seconds, measured over 30 of them."""
    if not 0 < seconds < 1e7:
        refuse("--minutes", "a number above 0", seconds / 60)
    updates = islice(train(model, schedule, data, 1000, **settings), 35)
    times = [time.perf_counter() for _ in updates]
    return max(1, round(seconds * 30 / (times[-1] - times[4])))


def best_device() -> str:
    """cuda, mps or cpu: the first that this machine has."""
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return next((name for name in has if has[name]), "cpu")


def machine(device: str) -> str:
    """The hardware and the versions that a measurement must name."""
    if torch.device(device).type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{torch.get_num_threads()} CPU threads, {cpu_name()}"
    return f"{name}, Python {platform.python_version()}, torch {torch.__version__}"


def cpu_name() -> str:
    """The processor's own name where the system tells it, else its architecture."""
    info = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*: (.+)", info.read_text() if info.exists() else "")
    return name[1] if name else platform.processor() or platform.machine()
