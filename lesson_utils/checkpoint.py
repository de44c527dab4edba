"""A trained model as one safetensors file that rebuilds everything, or is refused."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from .arguments import check_schedule, refuse
from .data import label
from .schedule import Schedule
from .unet import ContextUnet

CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"
LARGEST_FILE = 256 * 2**20  # bytes; a lesson's checkpoint has 2 to 6 MB
LARGEST_STATE = 16 * 2**30  # bytes; the state of a run has 8 times its checkpoint's
SCHEDULE = "schedule.alpha_bar"  # kept beside the weights, bit for bit


class Checkpoint(NamedTuple):
    """What load gives.

    model: in eval mode, float32; context: the K class names; image_shape: (C,H,W);
    meta: the training record (data, images seen, seconds, machine, loss, …).
    """

    model: ContextUnet
    schedule: Schedule
    context: tuple[str, ...]
    image_shape: tuple[int, int, int]
    meta: dict


def save(
    path, model: nn.Module, schedule: Schedule, context, image_shape=None, **meta
) -> None:
    """Write a ContextUnet, its schedule, class names and training record to one file.

    model: also the average that train yields; kept in half precision. context: its K
    names. image_shape: (C,H,W), None for (C,16,16). meta: whatever JSON can hold. The
    file appears whole or not at all. Raises ValueError if path does not end in
    .safetensors, names or shape do not fit the model, half precision cannot hold a
    weight, or meta is no JSON.
    """
    if not isinstance(path, str | Path) or Path(path).suffix != ".safetensors":
        refuse("path", "a path that ends in .safetensors", path)
    model = model.module if isinstance(model, AveragedModel) else model
    if not isinstance(model, ContextUnet):
        refuse("model", "a ContextUnet, or the average of one,", model)
    check_schedule(schedule)
    shape = (model.in_channels, 16, 16) if image_shape is None else image_shape
    names, shape = (list(v) if isinstance(v, tuple) else v for v in (context, shape))
    try:
        meta = json.loads(json.dumps(meta, allow_nan=False))
    except (TypeError, ValueError) as problem:
        refuse("meta", f"plain JSON ({problem})", meta)
    check_record(model, names, shape, meta)
    sizes = {k: getattr(model, k) for k in ("in_channels", "context_size", "width")}
    record = {"architecture": sizes, "context": names, "image_shape": shape}
    tensors = halves(model) | {SCHEDULE: schedule.alpha_bar}
    write_tensors(path, tensors, record | {"meta": meta})


def load(name_or_path: str | Path, device=None) -> Checkpoint:
    """Read a Checkpoint: by name ("sprites") from checkpoints/, or by path.

    A folder's path stands for what was trained on it: "my/pets" for checkpoints/pets.
    device: where the model goes, None for the CPU. Raises ValueError if there is no
    such file or device, or the file is damaged, truncated or foreign.
    """
    device = usable(device)
    if not isinstance(name_or_path, str | Path):
        refuse("name_or_path", "a name such as 'sprites', or a path,", name_or_path)
    path = Path(name_or_path)
    if path.suffix != ".safetensors":
        path = CHECKPOINTS / f"{label(name_or_path)}.safetensors"
    if not path.is_file():
        known = sorted(p.stem for p in CHECKPOINTS.glob("*.safetensors"))
        raise ValueError(
            f"name_or_path: no checkpoint {str(name_or_path)!r}; there are "
            f"{', '.join(known) or 'none'}; give the path of a .safetensors file, or "
            f"train a folder's: make train DATASET={str(name_or_path)!r}"
        )
    tensors, record = read_tensors(path)
    with ours(path, "a checkpoint"):
        schedule = Schedule(tensors.pop(SCHEDULE))
        model = rebuilt(tensors, ContextUnet, **record["architecture"])
        names, shape, meta = (record[k] for k in ("context", "image_shape", "meta"))
        check_record(model, names, shape, meta)
    model.eval().to(device, memory_format=torch.channels_last)  # faster on a CPU
    return Checkpoint(model, schedule, tuple(names), tuple(shape), meta)


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


@contextmanager
def ours(path: Path, what: str) -> Iterator[None]:
    """Whatever goes wrong inside means that the file at path is not what it should."""
    try:
        yield
    except (KeyError, TypeError, RuntimeError, ValueError) as problem:
        raise ValueError(f"{path}: not {what} of ours ({problem})") from None


def usable(device: str | torch.device | None) -> torch.device:
    """The device, None being the CPU; ValueError if this machine has no such one."""
    try:
        return torch.empty(0, device=device or "cpu").device
    except (RuntimeError, AssertionError, TypeError) as problem:
        why = str(problem).splitlines()[0]
        refuse("device", f"one of this machine, such as 'cpu' ({why}),", device)


def checksum(tensors: dict[str, Tensor], record: dict) -> str:
    """SHA-256 over the record and the names, types, shapes and bytes of all tensors."""
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def fingerprint(*tensors: Tensor) -> str:
    """Their shapes and a checksum, for settings that must be the same."""
    named = {str(i): tensor for i, tensor in enumerate(tensors)}
    return f"{[tuple(t.shape) for t in tensors]} {checksum(named, {})[:16]}"


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a path to write to; what is there at the end takes the place of path.

    A file appears whole or not at all: after an OSError the old one is in place.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.part")  # what a kill leaves is reused
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except (OSError, SafetensorError) as problem:  # a full disk, for instance
        raise OSError(f"{path}: cannot be written ({problem})") from None
    finally:
        with suppress(OSError):
            part.unlink()


def write_tensors(path: str | Path, tensors: dict[str, Tensor], record: dict) -> None:
    """Write tensors, a JSON record and their checksum to one file, or raise OSError."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    record = json.dumps(record | {"sha256": checksum(tensors, record)})
    with replacing(path) as part:
        save_file(tensors, part, metadata={"record": record})
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(part, 0o666 & ~umask)  # as any new file; safetensors makes it 600


def read_tensors(path, largest: int = LARGEST_FILE) -> tuple[dict[str, Tensor], dict]:
    """Read what write_tensors wrote; ValueError if the file is anything else."""
    size = Path(path).stat().st_size
    if size > largest:
        raise ValueError(f"{path}: {size:,} bytes, more than {largest:,}")
    try:
        with safe_open(path, "pt") as file:
            record = json.loads((file.metadata() or {})["record"])
            # Copies: a file that is overwritten later must not change them.
            tensors = {k: file.get_tensor(k).clone() for k in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as problem:
        raise ValueError(f"{path}: not a readable checkpoint ({problem!r})") from None
    known = record.pop("sha256", None) if isinstance(record, dict) else None
    if known != checksum(tensors, record):
        raise ValueError(f"{path}: damaged (its checksum); get it again or remove it")
    return tensors, record


def live_tensors(model, ema, optimiser, losses: Tensor) -> dict[str, Tensor]:
    """All that an update of train changes, by name: the tensors themselves."""
    tensors = {"losses": losses}
    for part, module in (("model", model), ("ema", ema)):
        tensors |= {f"{part}.{k}": v for k, v in module.state_dict().items()}
    for name, parameter in model.named_parameters():
        moments = optimiser.state[parameter].items()
        tensors |= {f"optimiser.{name}.{key}": v for key, v in moments}
    return tensors


def read_state(path) -> tuple[dict[str, Tensor], dict]:
    """A stored state: its tensors; its settings, step, seconds. ValueError if none."""
    tensors, record = read_tensors(path, LARGEST_STATE)
    match record:
        case {"settings": {"steps": int()}, "step": int(), "seconds": float()}:
            return tensors, record
    raise ValueError(f"state: {path} is not the state of a run; move it away")


def load_state(path, live: dict[str, Tensor], settings: dict) -> tuple[int, float]:
    """Copy a stored state into the live tensors; gives its (step, seconds).

    Raises ValueError if the state is of another model or of other settings.
    """
    stored, record = read_state(path)
    other = [k for k in settings if record["settings"].get(k) != settings[k]]
    kinds = [{k: (v.shape, v.dtype) for k, v in x.items()} for x in (live, stored)]
    if other or kinds[0] != kinds[1]:
        why = ", ".join(other) or "another model"
        raise ValueError(f"state: {path} is of another run ({why}); move it away")
    with torch.no_grad():
        for name, tensor in live.items():
            tensor.copy_(stored[name])
    return record["step"], record["seconds"]
