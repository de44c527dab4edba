"""The state of a run of training: kept while it goes, and where it goes on from."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .files import locked, read_tensors, write_tensors
from .processes import agreed, is_main, spread

LARGEST_STATE = 16 * 2**30  # bytes; a state has 8 times those of its checkpoint
LOOK = 50  # after so many updates it is seen whether losses and weights are numbers


def live_tensors(model, ema, optimiser, losses: Tensor) -> dict[str, Tensor]:
    """All that an update of training changes, by name: the tensors themselves."""
    tensors = {"losses": losses}
    for part, module in (("model", model), ("ema", ema)):
        tensors.update({f"{part}.{k}": v for k, v in module.state_dict().items()})
    for name, parameter in model.named_parameters():
        for key, value in optimiser.state[parameter].items():
            tensors[f"optimiser.{name}.{key}"] = value
    return tensors


def read_state(path) -> tuple[dict[str, Tensor], dict]:
    """A stored state: its tensors; its settings, step, seconds. ValueError if none."""
    tensors, record = read_tensors(path, LARGEST_STATE)
    match record:
        case {"settings": {"steps": int(end)}, "step": int(step), "seconds": float()}:
            if 0 < step < end:
                return tensors, record
    raise ValueError(f"state: {path} is not the state of a run; move it away")


def holds_state(path: Path) -> bool:
    """Whether a file is the state of a run, and no checkpoint; reads its head alone."""
    try:
        with safe_open(path, "pt") as file:
            return "step" in json.loads((file.metadata() or {})["record"])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        return False


def load_state(path, live: dict[str, Tensor], settings: dict) -> tuple[int, float]:
    """Copy a stored state into the live tensors; gives its (step, seconds).

    Raises ValueError if the state is of another model or of other settings.
    """
    stored, record = read_state(path)
    known = record["settings"]
    other = [k for k in settings | known if known.get(k) != settings.get(k)]
    kinds = [{k: (v.shape, v.dtype) for k, v in x.items()} for x in (live, stored)]
    if other or kinds[0] != kinds[1]:
        why = ", ".join(other) or "another model"
        todo = "ask for the same as there, or move it away"
        raise ValueError(f"state: {path} is of another run ({why}); {todo}")
    with torch.no_grad():
        for name, tensor in live.items():
            tensor.copy_(stored[name])
    return record["step"], record["seconds"]


# What ends a run between two updates; a lost process is noticed before weights move.
CUT = KeyboardInterrupt | GeneratorExit | ConnectionError
HERE = WeakValueDictionary()  # path -> the Keeper of this process that has it


class Keeper:
    """Keeps the state of one run: locks its file, goes on from it, and writes it.

    path: of the file, None to keep nothing; live: all tensors that an update changes;
    settings: what a state must agree with; every: seconds between two writings; about:
    what else is written, for those who sample from a state.
    done, seconds: updates so far, and the time they took, in all runs. Each update is
    made inside `update`, and all of them inside `with keeper`, after which what an
    interrupt, a lost process or a consumer that stops would lose is written, and the
    lock is gone. Of several processes the main one has the file, and the others begin
    with what it has.
    Raises ValueError if the file is of another run, or another training has it.
    """

    def __init__(
        self,
        path: Path | None,
        live: dict[str, Tensor],
        settings: dict,
        every: float,
        about: dict,
    ):
        self.path, self.live = path if is_main() else None, live
        self.settings, self.every = settings, every
        self.about = about
        self.done, self.kept = 0, 0  # updates: made, and in the file
        self.seconds = 0.0
        self.whole = threading.RLock()  # held during an update
        self.held = ExitStack()
        self.over = False
        if self.path:
            self.open()
        self.done = agreed(self.done)
        spread(live.values())
        self.kept, self.saved = self.done, self.seconds

    def open(self) -> None:
        """Lock the file, and go on from what it holds."""
        place = os.path.realpath(self.path)
        if place in HERE:
            HERE[place].leave()  # of a cell that is run again
        with ExitStack() as held:
            held.enter_context(locked(self.path))
            if self.path.exists():
                found = load_state(self.path, self.live, self.settings)
                self.done, self.seconds = found
            self.held = held.pop_all()
        HERE[place] = self

    def __enter__(self) -> "Keeper":
        self.started = time.monotonic() - self.seconds
        return self

    def __exit__(self, kind, problem, trace) -> None:
        cut = kind is not None and issubclass(kind, CUT)
        with interrupts_wait():
            self.leave(cut)

    @contextmanager
    def update(self) -> Iterator[None]:
        """One update, which Ctrl-C does not break, is made inside; then it counts.

        Raises FloatingPointError if training has lost its way: a loss is no number.
        """
        with interrupts_wait(), self.whole:
            if self.over:
                raise ValueError(f"state: a later run goes on from {self.path}")
            yield
            self.done += 1
            self.seconds = time.monotonic() - self.started
            last = self.done == self.settings["steps"]
            due = bool(self.path) and self.seconds - self.saved >= self.every
            if last or due or self.lost() or self.done % LOOK == 0:
                self.refuse_nan()
            if due and not last:
                self.write()

    def leave(self, rescue: bool = True) -> None:
        """Let the file go; rescue: write what it lacks, unless that is nonsense."""
        with self.whole:
            if self.over:
                return
            self.over = True
            new = self.kept < self.done < self.settings["steps"]
            if rescue and self.path and new and self.first_nan() is None:
                self.write()
            self.held.close()

    def write(self) -> None:
        record = {"settings": self.settings, "step": self.done, "seconds": self.seconds}
        write_tensors(self.path, self.live, {**record, "about": self.about})
        self.kept, self.saved = self.done, self.seconds

    def lost(self) -> bool:
        """Whether the last loss is no number; not asked of a GPU, which would wait."""
        losses = self.live["losses"]
        return losses.is_cpu and not bool(losses[self.done - 1].isfinite())

    def first_nan(self) -> int | None:
        """The first update whose loss, or the last whose weights, are not finite."""
        wrong = (~self.live["losses"][: self.done].isfinite()).nonzero()
        if len(wrong):
            return int(wrong[0]) + 1
        whole = all(bool(tensor.isfinite().all()) for tensor in self.live.values())
        return None if whole else self.done

    def refuse_nan(self) -> None:
        """FloatingPointError if weights or losses are not finite numbers."""
        first = self.first_nan()
        if first is None:
            return
        rate, warmup = self.settings["learning_rate"], self.settings["warmup"]
        coarse = ", or bfloat16 too coarse" if self.settings["bfloat16"] else ""
        kept = "nothing is kept"
        if self.kept:
            kept = f"update {self.kept:,} is kept in {self.path}: move it away"
        raise FloatingPointError(
            f"loss: no finite number at update {first:,}, so training stops; {kept}; "
            f"likely causes: a learning_rate of {rate:g} is too high, or a warmup of "
            f"{warmup} updates too short{coarse}: try a third of the rate; or contexts "
            "with numbers far from 0 and 1"
        )


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Ctrl-C waits until the end of what is inside, so that it is done whole."""
    ours = threading.current_thread() is threading.main_thread()
    usual = signal.getsignal(signal.SIGINT) if ours else None
    if usual is None:  # another thread, which Ctrl-C does not reach
        yield
        return
    came = []
    signal.signal(signal.SIGINT, lambda *_: came.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if came:
            signal.raise_signal(signal.SIGINT)
