"""The state of a run of training, from which it goes on."""

import torch
from torch import Tensor

from .files import read_tensors

LARGEST_STATE = 16 * 2**30  # bytes; a state has 8 times those of its checkpoint


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
        raise ValueError(f"state: {path} is of another run ({why}); move it away")
    with torch.no_grad():
        for name, tensor in live.items():
            tensor.copy_(stored[name])
    return record["step"], record["seconds"]
