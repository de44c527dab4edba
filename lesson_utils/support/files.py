"""Files: paths and labels, atomic writing, tensors on disk."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .checked import refuse

ROOT = Path(__file__).resolve().parent.parent.parent  # the project
CHECKPOINTS = ROOT / "checkpoints"
BUILT_IN = ("sprites", "mnist")  # the data sets that are built in, and their labels
LARGEST_FILE = 256 * 2**20  # bytes; a lesson's checkpoint has 2 to 6 MB


# Paths and names


def located(path: str | Path, name: str = "path") -> Path:
    """path in full, ~ being the user's own folder; name: what the caller calls it."""
    if not isinstance(path, str | os.PathLike) or path == "" or "\0" in str(path):
        refuse(name, "a name or a path", path)
    return Path(os.path.abspath(os.path.expanduser(path)))


def label(name_or_path: str | Path) -> str:
    """What a data set's files are called; ValueError for a folder named as BUILT_IN."""
    folder = located(name_or_path, "name_or_path")
    if os.fspath(name_or_path) not in BUILT_IN and folder.name.lower() in BUILT_IN:
        what = "is called like a data set of ours; rename it, or name the checkpoint"
        raise ValueError(f"name_or_path: {folder} {what} (--out and --state)")
    return folder.name


# Writing


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


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file, whole or not at all."""
    with replacing(path) as part:
        part.write_bytes(data)


def write_json(path: str | Path, record: dict) -> None:
    """Write a record as JSON, whole or not at all."""
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode())


def write_tensors(path: str | Path, tensors: dict[str, Tensor], record: dict) -> None:
    """Write tensors, a JSON record and their checksum to one file, or raise OSError."""
    # Copies: weights that two layers share are written twice, as safetensors asks.
    plain = {"device": "cpu", "memory_format": torch.contiguous_format, "copy": True}
    tensors = {k: v.detach().to(**plain) for k, v in tensors.items()}
    record = json.dumps(record | {"sha256": checksum(tensors, record)})
    with replacing(path) as part:
        save_file(tensors, part, metadata={"record": record})
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(part, 0o666 & ~umask)  # as any new file; safetensors makes it 600


# Reading


def read_tensors(path, largest: int = LARGEST_FILE) -> tuple[dict[str, Tensor], dict]:
    """Read what write_tensors wrote; ValueError if the file is anything else."""
    if os.path.isdir(path):
        raise ValueError(f"{path}: a folder, where a file is needed")
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


@contextmanager
def foreign(path: Path, what: str) -> Iterator[None]:
    """Whatever goes wrong inside means that the file at path is not what it should."""
    try:
        yield
    except (KeyError, TypeError, RuntimeError, ValueError) as problem:
        raise ValueError(f"{path}: not {what} of ours ({problem})") from None


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
