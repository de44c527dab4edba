"""A trained model as one safetensors file that rebuilds everything, or is refused."""

import hashlib
import json
import os
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

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
    path: str | Path,
    model: nn.Module,
    schedule: Schedule,
    context: tuple[str, ...] | list[str],
    image_shape: tuple[int, int, int] | None = None,
    **meta,
) -> None:
    """Write a ContextUnet, its schedule, class names and training record to one file.

    Weights are kept in half precision. image_shape: (C,H,W), None for (C,16,16). meta:
    whatever JSON can hold. model: also the average that train yields. The file appears
    whole or not at all. Raises ValueError if path does not end in .safetensors, names
    or shape do not fit the model, a weight is not finite or too large for half
    precision, or meta is no JSON.
    """
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"path: must end in .safetensors, got {str(path)!r}")
    model = model.module if isinstance(model, AveragedModel) else model
    shape = [int(size) for size in image_shape or (model.in_channels, 16, 16)]
    check_record(model, list(context), shape, meta)
    record = {
        "architecture": {
            "in_channels": model.in_channels,
            "context_size": model.context_size,
            "width": model.width,
        },
        "context": list(context),
        "image_shape": shape,
        "meta": meta,
    }
    tensors = {k: v.half().contiguous() for k, v in model.state_dict().items()}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"model: {name} is not finite in half precision")
    tensors[SCHEDULE] = schedule.alpha_bar
    try:
        record = json.loads(json.dumps(record, allow_nan=False))
    except (TypeError, ValueError) as problem:
        raise ValueError(f"meta: must be plain JSON values ({problem})") from None
    record["sha256"] = checksum(tensors, record)
    write_tensors(path, tensors, record)


def load(
    name_or_path: str | Path, device: str | torch.device | None = None
) -> Checkpoint:
    """Read a Checkpoint: by name ("sprites") from checkpoints/, or by path.

    device: where the model goes, None for the CPU. Raises ValueError, saying what is
    wrong, if there is no such file or device, or it is damaged, truncated or foreign.
    """
    device = usable(device)
    path = Path(name_or_path)
    if path.suffix != ".safetensors":
        path = CHECKPOINTS / f"{name_or_path}.safetensors"
    if not path.is_file():
        known = sorted(p.stem for p in CHECKPOINTS.glob("*.safetensors"))
        raise ValueError(
            f"name_or_path: no checkpoint {str(name_or_path)!r}; there are "
            f"{', '.join(known) or 'none'}, or give the path of a .safetensors file"
        )
    tensors, record = read_tensors(path)
    if record.pop("sha256", None) != checksum(tensors, record):
        raise ValueError(f"{path}: damaged, its checksum does not match; get it again")
    try:
        schedule = Schedule(tensors.pop(SCHEDULE))
        with torch.device("meta"):  # a size that is a lie costs no memory
            model = ContextUnet(**record["architecture"])
        for name, tensor in tensors.items():
            if tensor.dtype != torch.float16 or not tensor.isfinite().all():
                raise ValueError(f"{name} is not finite in half precision")
        weights = {name: tensor.float() for name, tensor in tensors.items()}
        model.load_state_dict(weights, assign=True)
        names, shape, meta = (record[k] for k in ("context", "image_shape", "meta"))
        check_record(model, names, shape, meta)
    except (KeyError, TypeError, RuntimeError, ValueError) as problem:
        raise ValueError(f"{path}: not a checkpoint of ours ({problem})") from None
    # Convolutions on a CPU are fastest with channels last.
    model = model.eval().to(device, memory_format=torch.channels_last)
    return Checkpoint(model, schedule, tuple(names), tuple(shape), meta)


def check_record(model: ContextUnet, names: list, shape: list, meta: dict) -> None:
    """ValueError unless names, image shape and training record fit the model."""
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not texts or len(names) != model.context_size:
        raise ValueError(f"context: {model.context_size} names needed, got {names!r}")
    sizes = isinstance(shape, list) and all(type(size) is int for size in shape)
    fits = sizes and len(shape) == 3 and shape[0] == model.in_channels
    if not fits or any(size % 4 or not 4 <= size <= 1024 for size in shape[1:]):
        raise ValueError(
            f"image_shape: ({model.in_channels},H,W), H and W multiples of 4 up to "
            f"1024, is needed, got {shape!r}"
        )
    if not isinstance(meta, dict):
        raise ValueError(f"meta: a dict is needed, got {meta!r}")


def usable(device: str | torch.device | None) -> torch.device:
    """The device, None being the CPU; ValueError if this machine has no such one."""
    try:
        return torch.empty(0, device=device or "cpu").device
    except (RuntimeError, AssertionError, TypeError) as problem:
        why = str(problem).splitlines()[0]
        raise ValueError(f"device: {device!r} is not usable here ({why})") from None


def checksum(tensors: dict[str, Tensor], record: dict) -> str:
    """SHA-256 over the record and the names, types, shapes and bytes of all tensors."""
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def write_tensors(path: str | Path, tensors: dict[str, Tensor], record: dict) -> None:
    """Write tensors and a JSON record to one safetensors file, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    try:
        save_file(tensors, part, metadata={"record": json.dumps(record)})
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(part, 0o666 & ~umask)  # as any new file; safetensors makes it 600
        os.replace(part, path)
    except SafetensorError as problem:  # a full disk, for instance
        raise OSError(f"{path}: cannot be written ({problem})") from None
    finally:
        part.unlink(missing_ok=True)


def read_tensors(
    path: str | Path, largest: int = LARGEST_FILE
) -> tuple[dict[str, Tensor], dict]:
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
    if not isinstance(record, dict):
        raise ValueError(f"{path}: not a checkpoint of ours")
    return tensors, record


def live_tensors(model, ema, optimiser, losses: Tensor) -> dict[str, Tensor]:
    """All that an update of train changes, by name: the tensors themselves."""
    tensors = {"losses": losses}
    tensors |= {f"model.{name}": v for name, v in model.state_dict().items()}
    tensors |= {f"ema.{name}": v for name, v in ema.state_dict().items()}
    for name, parameter in model.named_parameters():
        # AdamW makes its moments in its first update: make the same ones before it.
        optimiser.state[parameter] = optimiser.state[parameter] or {
            "step": torch.tensor(0.0),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
        moments = optimiser.state[parameter].items()
        tensors |= {f"optimiser.{name}.{key}": v for key, v in moments}
    return tensors


def save_state(path, live: dict[str, Tensor], settings: dict, step, seconds) -> None:
    """Write the state of an unfinished run, whole or not at all."""
    record = {"settings": settings, "step": step, "seconds": seconds}
    write_tensors(path, live, record)


def read_state(path) -> tuple[dict[str, Tensor], dict]:
    """The tensors and the record of a stored state; ValueError if it is none."""
    tensors, record = read_tensors(path, LARGEST_STATE)
    kinds = {"settings": dict, "step": int, "seconds": float}
    if not all(isinstance(record.get(key), kind) for key, kind in kinds.items()):
        raise ValueError(f"state: {path} is not the state of a run; move it away")
    return tensors, record


def load_state(path, live: dict[str, Tensor], settings: dict) -> tuple[int, float]:
    """Copy a stored state into the live tensors; gives its (step, seconds).

    Raises ValueError if the state is of another model or of other settings.
    """
    stored, record = read_state(path)
    other = [k for k in settings if record["settings"].get(k) != settings[k]]
    shapes = [{k: v.shape for k, v in tensors.items()} for tensors in (live, stored)]
    if other or shapes[0] != shapes[1]:
        raise ValueError(
            f"state: {path} is of another run ({', '.join(other) or 'another model'}); "
            f"move it away to start afresh"
        )
    with torch.no_grad():
        for name, tensor in live.items():
            tensor.copy_(stored[name])
    return record["step"], record["seconds"]
