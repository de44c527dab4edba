"""One process, or several that `accelerate launch` started: which part each one does.

Each process of a launch runs the same program and calls the functions here in the same
order. Without a launch there is one process, number 0 of 1, and none of them does
anything. Accelerate is imported only when several processes meet.
"""

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

PATIENCE = timedelta(days=1)  # with a busy process; one that has ended shows at once
GRACE = 10  # seconds in which the launcher, which knows who ended, may speak first


def launched() -> bool:
    """Whether this process was started beside others."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def met() -> bool:
    """Whether this process can talk with others."""
    return distributed.is_available() and distributed.is_initialized()


def count() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if met() else 1


def number() -> int:
    """Which of them this one is, from 0; number 0, the main one, writes and prints."""
    return distributed.get_rank() if met() else 0


def is_main() -> bool:
    return number() == 0


@contextmanager
def meeting(cpu: bool) -> Iterator[None]:
    """Inside, the processes of a launch can talk; a process alone just goes on.

    cpu: whether they work on the CPU. What the others print is lost. SIGTERM, by which
    a launcher ends what a lost process leaves, is as Ctrl-C: the state is written.
    Raises ValueError if Accelerate is missing.
    """
    if met() or not launched():
        yield
        return
    try:
        from accelerate import PartialState
    except ImportError:
        todo = 'pip install -e ".[scale]"'
        raise ValueError(f"several processes need Accelerate: {todo}") from None
    state = PartialState(cpu=cpu, timeout=PATIENCE)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with ExitStack() as held:
        if not is_main():
            nowhere = held.enter_context(open(os.devnull, "w", encoding="utf-8"))
            held.enter_context(redirect_stdout(nowhere))
        try:
            yield
        except ConnectionError:
            time.sleep(GRACE)
            raise
    state.destroy_process_group()


@contextmanager
def talking() -> Iterator[None]:
    """ConnectionError, which says so, if another process is not there any more."""
    try:
        yield
    except RuntimeError as problem:
        who, why = f"process {number()} of {count()}", str(problem).splitlines()[0]
        raise ConnectionError(f"{who}: another process has ended ({why})") from None


# Values


def agreed(value):
    """The main process's value, in all of them."""
    if count() == 1:
        return value
    box = [value]
    with talking():
        distributed.broadcast_object_list(box)
    return box[0]


def gathered(value) -> list:
    """The values of all processes, in all of them."""
    if count() == 1:
        return [value]
    boxes = [None] * count()
    with talking():
        distributed.all_gather_object(boxes, value)
    return boxes


def wait() -> None:
    """Until all processes are here."""
    gathered(None)


@contextmanager
def main_first() -> Iterator[None]:
    """What is inside is done by the main process, and then by the others."""
    if not is_main():
        wait()
    yield
    if is_main():
        wait()


@torch.no_grad()
def spread(tensors: Iterable[Tensor]) -> None:
    """Give tensors of all processes the main one's values, in place."""
    if count() == 1:
        return
    for tensor in tensors:
        sent = on_the_line(tensor)
        with talking():
            distributed.broadcast(sent, 0)
        tensor.copy_(sent)


@torch.no_grad()
def add_up(tensor: Tensor) -> None:
    """Replace a tensor by the sum of those of all processes."""
    sent = on_the_line(tensor)
    with talking():
        distributed.all_reduce(sent)
    tensor.copy_(sent)


def on_the_line(tensor: Tensor) -> Tensor:
    """A tensor as it can be sent: a backend for GPUs sends only what is on them."""
    if distributed.get_backend() != "gloo":
        tensor = tensor.to(torch.accelerator.current_accelerator())
    return tensor.contiguous()


# Training


def shared(model: nn.Module) -> nn.Module:
    """What the processes call in the model's place, to share the images of a batch."""
    return model if count() == 1 else Shared(model)


class Shared(nn.Module):
    """A model of which each process evaluates its part of the images.

    All have the results for all images, and gradients as one process would have them.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        """x (B,C,H,W), t (B,), c (B,K) or None -> (B,C,H,W), as of the model."""
        first, end = (len(x) * k // count() for k in (number(), number() + 1))
        part = slice(first, end)
        own = self.model(x[part], t[part], None if c is None else c[part])
        everyone = own.new_zeros(len(x), *own.shape[1:])
        everyone[part] = own.detach()
        add_up(everyone)
        if own.requires_grad:  # the chain rule goes on from the gradient of everyone
            everyone.requires_grad_()
            everyone.register_hook(lambda slope: self.go_back(own, slope[part]))
        return everyone

    def go_back(self, own: Tensor, slope: Tensor) -> None:
        """Add up the gradients of the weights: one message for all of them."""
        own.backward(slope)
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        total = torch.cat([grad.flatten() for grad in grads])
        add_up(total)
        parts = total.split([grad.numel() for grad in grads])
        for grad, part in zip(grads, parts, strict=True):
            grad.copy_(part.view_as(grad))
