"""A trained model as one safetensors file that rebuilds everything, or is refused."""

import json
import os
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from .distilling import Student
from .schedule import Schedule
from .support.checked import checked, choice, refuse
from .support.device import usable
from .support.files import (
    BUILT_IN,
    CHECKPOINTS,
    foreign,
    label,
    located,
    quoted,
    read_tensors,
    write_tensors,
)
from .support.names import class_names
from .support.rules import a_schedule
from .unet import ContextUnet

SCHEDULE = "schedule.alpha_bar"  # kept beside the weights, bit for bit


class Checkpoint(NamedTuple):
    """What load gives: a model, and what its images are.

    model: answers in eps, in eval mode, float32; context: the K class names;
    image_shape: (C,H,W); meta: the training record (data and its fingerprint, images
    seen, seconds, machine, loss, …). `dataset(name, like=checkpoint)` gives the data
    that fits it.
    """

    model: ContextUnet | Student
    schedule: Schedule
    context: tuple[str, ...]
    image_shape: tuple[int, int, int]
    meta: dict

    @property
    def times(self) -> list[int] | None:
        """T … 0, on which alone a student may be sampled; None for other models."""
        return getattr(self.model, "times", None)

    @property
    def network(self) -> ContextUnet:
        """What has the weights: the model, or that which a student asks."""
        return getattr(self.model, "network", self.model)


@checked(schedule=a_schedule)
def save(
    path, model: nn.Module, schedule: Schedule, context, image_shape=None, **meta
) -> None:
    """Write a model, its schedule, class names and training record to one file.

    model: a ContextUnet, the average of one that train yields, or a Student, whose
    times and guidance are written too; kept in half precision. context: its K names.
    image_shape: (C,H,W), None for (C,16,16). meta: whatever JSON can hold. The file
    appears whole or not at all.
    Raises ValueError if path does not end in .safetensors, model is none of these,
    names or shape do not fit it, schedule is not that of the Student, prompts cannot
    tell two names apart, half precision cannot hold a weight, or meta is no JSON; and
    OSError if the file cannot be written.
    """
    if not isinstance(path, str | Path) or Path(path).suffix != ".safetensors":
        refuse("path", "a path that ends in .safetensors", path)
    path = located(path)
    student = model if isinstance(model, Student) else None
    if student and not torch.equal(student.alpha_bar.cpu(), schedule.alpha_bar.cpu()):
        refuse("schedule", "that of the student", schedule.alpha_bar)
    model = student.network if student else model
    model = model.module if isinstance(model, AveragedModel) else model
    if not isinstance(model, ContextUnet):
        refuse("model", "a ContextUnet, the average of one, or a Student,", model)
    shape = (model.in_channels, 16, 16) if image_shape is None else image_shape
    names = list(context) if isinstance(context, tuple) else context
    shape = list(shape) if isinstance(shape, tuple) else shape
    try:
        meta = json.loads(json.dumps(meta, allow_nan=False))
    except (TypeError, ValueError) as problem:
        refuse("meta", f"plain JSON ({problem})", meta)
    check_record(model, names, shape, meta)
    class_names("context", names)  # which prompts can tell apart
    tensors = halves(model)
    tensors[SCHEDULE] = Schedule(schedule.alpha_bar).alpha_bar  # as load will check it
    record = {
        "architecture": {
            "in_channels": model.in_channels,
            "context_size": model.context_size,
            "width": model.width,
        },
        "context": names,
        "image_shape": shape,
        "meta": meta,
    }
    if student:
        folded = {"times": student.times, "guidance": student.guidance}
        record["student"] = {"prediction": "v", **folded}
    write_tensors(path, tensors, record)


def load(name_or_path: str | Path, device=None) -> Checkpoint:
    """Read a Checkpoint: by name ("sprites") from checkpoints/, or by path.

    A folder's path stands for what was trained on it: "my/pets" for
    checkpoints/pets-xxxxxx (see `label`). "checkpoints/sprites" is found from any
    working directory. device: where the model goes, None for the CPU, 0 for the first
    GPU. Of a student the model is a Student, which any sampler runs on its own times:
    `ddim(guide(model, c), noise, schedule, model.times)`. Raises ValueError if there is
    no such file or device, or the file is damaged, truncated or foreign.
    """
    device = usable(device)
    path = checkpoint_file(name_or_path)
    tensors, record = read_tensors(path)
    if "step" in record and SCHEDULE not in tensors:
        what = "the state of a training, which only sample takes as --checkpoint"
        raise ValueError(f"{path}: {what}; the finished training writes a checkpoint")
    with foreign(path, "a checkpoint"):
        schedule = Schedule(tensors.pop(SCHEDULE))
        model = rebuilt(tensors, ContextUnet, **record["architecture"])
        names, shape, meta = record["context"], record["image_shape"], record["meta"]
        check_record(model, names, shape, meta)
        if "student" in record:
            model = student_of(model, schedule, **record["student"])
    model.eval().to(device, memory_format=torch.channels_last)  # faster on a CPU
    return Checkpoint(model, schedule, tuple(names), tuple(shape), meta)


def student_of(
    network: ContextUnet, schedule: Schedule, prediction: str, times, guidance: float
) -> Student:
    """The student that a record describes; ValueError if it does not make sense."""
    choice("v")("prediction", prediction)
    return Student(network, schedule, times, guidance)


def checkpoint_file(name_or_path: str | Path) -> Path:
    """The file that load is asked for; ValueError if there is none, or are several."""
    if not isinstance(name_or_path, str | Path):
        refuse("name_or_path", "a name such as 'sprites', or a path,", name_or_path)
    given, path = os.fspath(name_or_path), located(name_or_path, "name_or_path")
    project = CHECKPOINTS.parent
    if given in BUILT_IN:
        places = [CHECKPOINTS / f"{given}.safetensors"]
    elif path.suffix == ".safetensors":
        places = [path] if os.path.isfile(path) else [project / given]
    else:
        places = [Path(f"{path}.safetensors"), project / f"{given}.safetensors"]
        places += [CHECKPOINTS / f"{name}.safetensors" for name in (given, label(path))]
    found = {
        place for place in places if os.path.isfile(place)
    }  # of too long names too
    if len(found) > 1:
        several = ", ".join(sorted(map(str, found)))
        raise ValueError(f"name_or_path: {given!r} may be one of {several}; say which")
    if not found:
        raise ValueError(f"name_or_path: no checkpoint {given!r}{instead(path)}")
    return found.pop()


def instead(path: Path) -> str:
    """What to do about a checkpoint that is not there."""
    known = sorted(p.stem for p in CHECKPOINTS.glob("*.safetensors"))
    near = get_close_matches(path.stem.lower(), known, 1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    todo = "give one of them, or the path of a .safetensors file"
    if os.path.isdir(path):
        todo = f"train one: python -m lesson_utils train --dataset {quoted(path)}"
    return f"{meant}; there are {', '.join(known) or 'none'}; {todo}"


def check_record(model: ContextUnet, names: list, shape: list, meta: dict) -> None:
    """ValueError unless names, image shape and training record fit the model."""
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not texts or len(names) != model.context_size:
        refuse("context", f"a list of {model.context_size} names", names)
    sizes = isinstance(shape, list) and all(type(size) is int for size in shape)
    fits = sizes and len(shape) == 3 and shape[0] == model.in_channels
    if not fits or any(size % 4 or not 4 <= size <= 1024 for size in shape[1:]):
        wanted = f"({model.in_channels},H,W), H and W multiples of 4 up to 1024,"
        refuse("image_shape", wanted, shape)
    if not isinstance(meta, dict):
        refuse("meta", "a dict", meta)


def halves(model: nn.Module) -> dict[str, Tensor]:
    """Its weights in half precision; ValueError for one that this cannot hold."""
    tensors = {name: v.half() for name, v in model.state_dict().items()}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"model: {name} is not finite in half precision")
    return tensors


def rebuilt(tensors: dict[str, Tensor], kind: type, **sizes) -> nn.Module:
    """A model of this kind and these sizes, with weights from halves, in float32."""
    with torch.device("meta"):  # a size that is a lie costs no memory
        model = kind(**sizes)
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float16 or not tensor.isfinite().all():
            raise ValueError(f"{name} is not finite in half precision")
    model.load_state_dict({k: v.float() for k, v in tensors.items()}, assign=True)
    return model
