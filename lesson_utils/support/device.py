"""Devices: the best one here, what a name means, and what machine a figure is from."""

import platform
import re
from pathlib import Path

import torch

from .checked import refuse


def best_device() -> str:
    """cuda, mps or cpu: the first that this machine has."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def usable(device: str | int | torch.device | None) -> torch.device:
    """The device, None being the CPU; ValueError if this machine has no such one.

    A number is an index, as torch has it: 0 is the first GPU.
    """
    if isinstance(device, bool):
        refuse("device", "one of this machine, such as 'cpu',", device)
    try:
        return torch.empty(0, device="cpu" if device is None else device).device
    except (RuntimeError, AssertionError, TypeError) as problem:
        why = str(problem).splitlines()[0]
        refuse("device", f"one of this machine, such as 'cpu' ({why}),", device)


def refuse_to_compile(device: torch.device) -> None:
    """ValueError if torch.compile does not work here, for want of a compiler, say."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(1, device=device))
    except Exception as problem:  # of many kinds
        why = str(problem).strip().partition("\n")[0]
        raise ValueError(f"--compile: torch.compile does not work: {why}") from None


def machine(device: str | int | torch.device) -> str:
    """The hardware and the versions that a measurement must name.

    ValueError for None, and for a device that this machine does not have.
    """
    if device is None:
        refuse("device", "the one of the measurement", device)
    device = usable(device)
    kind = device.type
    if kind == "cuda":
        name = torch.cuda.get_device_name(device)
    elif kind == "cpu":
        name = f"{torch.get_num_threads()} CPU threads, {cpu_name()}"
    elif kind == "mps":
        name = f"the GPU of {cpu_name()}"
    else:
        name = f"{kind} of {cpu_name()}"
    return f"{name}, Python {platform.python_version()}, torch {torch.__version__}"


def cpu_name() -> str:
    """The processor's own name where the system tells it, else its architecture."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    name = re.search(r"model name\s*: (.+)", text)
    return name[1] if name else platform.processor() or platform.machine()
