"""Files: paths and labels, atomic writing, locks, tensors on disk, checksums."""

import errno
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .checked import refuse
from .words import reason

ROOT = Path(__file__).resolve().parent.parent.parent  # the project
CHECKPOINTS = ROOT / "checkpoints"
BUILT_IN = ("sprites", "mnist")  # the data sets that are built in, and their labels
STUDENTS = (4, 2, 1)  # the steps of those that ship, for each of these
LARGEST_FILE = 256 * 2**20  # bytes; a lesson's checkpoint has 2 to 6 MB


# Paths and names


def located(path: str | Path, name: str = "path") -> Path:
    """path in full, ~ being the user's own folder; name: what the caller calls it."""
    if not isinstance(path, str | os.PathLike) or path == "" or "\0" in str(path):
        refuse(name, "a name or a path", path)
    return Path(os.path.abspath(os.path.expanduser(path)))


def label(name_or_path: str | Path) -> str:
    """What a data set's files are called: a built-in one's name, or NAME-xxxxxx.

    xxxxxx stands for the whole path of one's own folder, so that flowers/train and
    pets/train never meet. A very long name is cut, as a file's name has its limit.
    """
    folder = located(name_or_path, "name_or_path")
    if os.fspath(name_or_path) in BUILT_IN:
        return os.fspath(name_or_path)
    whole = os.path.realpath(folder)
    return f"{folder.name[:40]}-{hashlib.sha256(os.fsencode(whole)).hexdigest()[:6]}"


def label_of(file: Path, home: Path) -> str:
    """What belongs to a .safetensors file is called: its name if it lies in home."""
    bare = file.with_suffix("")
    return bare.name if file.parent == home else label(bare)


def quoted(path: str | Path) -> str:
    """A path in full, as it can be pasted into a shell; a built-in name as it is."""
    text = str(path) if str(path) in BUILT_IN else str(located(path))
    windows = sys.platform == "win32"
    return subprocess.list2cmdline([text]) if windows else shlex.quote(text)


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


# Locks

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextmanager
def locked(path: Path, by: str = "training") -> Iterator[None]:
    """path is ours until the end, or until this process ends in whatever way.

    by: what locks it. Raises ValueError if another one has it, OSError if no file can
    lie there. A file system that knows no locks does without.
    """
    beside = path.with_name(f".{path.name}.lock")
    lock = FileLock(beside, thread_local=False)  # let go of by whatever thread ends
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(
            f"{path}: another {by} is writing it now; wait for its end, or give "
            "this one another place"
        ) from None
    except OSError as problem:
        if problem.errno not in NO_LOCKS:
            raise OSError(f"{path}: cannot be written ({problem})") from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes it itself
            beside.unlink()
        lock.release()


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
        raise ValueError(
            f"{path}: not a readable checkpoint ({reason(problem)})"
        ) from None
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


# The files that ship


def shipped_files(folder: Path = CHECKPOINTS) -> list[Path]:
    """Where what ships lies: checkpoints, the worse ones, students, and judges."""
    students = [f"{{}}-{steps}" for steps in STUDENTS]
    kinds = ("{}", "{}-worse", *students, "judges/{}")
    names = [kind.format(name) for kind in kinds for name in BUILT_IN]
    return [folder / f"{name}.safetensors" for name in names]


def write_checksums(folder: Path = CHECKPOINTS) -> None:
    """Write SHA256SUMS, as `sha256sum` does, of the files there that ship."""
    lines = [
        f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n"
        for path in shipped_files(folder)
        if path.is_file()
    ]
    write_bytes(folder / "SHA256SUMS", "".join(lines).encode())


def read_checksums() -> dict[str, str]:
    """{file below checkpoints/: its SHA-256 when it was shipped}.

    ValueError, naming the line, if SHA256SUMS is not as `sha256sum` writes it.
    """
    path, sums = CHECKPOINTS / "SHA256SUMS", {}
    text = path.read_text(encoding="utf-8", errors="replace")
    for n, line in enumerate(text.splitlines(), 1):
        found = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if found:
            sums[found[2]] = found[1]
        elif line.strip():
            raise ValueError(f"{path}: line {n} is not a SHA-256 and a file's name")
    return sums


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
