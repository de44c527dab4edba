"""Nothing is lost: runs that are killed, disks that are full, states that are foreign.

The runs that get killed are forks of one server (`python tests/test_survival.py`), so
that torch is imported once for all of them.
"""

import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from lesson_utils import ContextUnet, Pictures, Schedule, load, save, train
from lesson_utils.checkpoint import read_state, write_tensors
from lesson_utils.cli import main

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork here")
SCHEDULE = Schedule.linear()
STEPS = 120


def small_data(n=40, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 1, 8, 8, generator=g) * 2 - 1
    return Pictures(x, torch.eye(2)[torch.arange(n) % 2], ("a", "b"))


def new_model(width=16):
    torch.manual_seed(0)
    return ContextUnet(1, 2, width)


# The server, and what it runs


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def run(state: str, how: str) -> None:
    """A run as a user starts it, which says how far it is, and at its end its digest.

    how: "save" after each update, "die" while writing its second state (no time to
    clean up), "full" with a disk on which only 1 MB fits, or "plain", with no state.
    """
    if how == "full":
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    files = {} if how == "plain" else {"state": state, "save_seconds": 0}
    model = new_model()
    try:
        for update in train(model, SCHEDULE, small_data(), STEPS, 4, **files):
            if how == "die" and Path(state).exists():
                os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
            if how != "plain":
                say("update", update.step)
    except OSError as problem:
        say("OSError", problem)
        return
    digest = hashlib.sha256(update.losses.numpy().tobytes())
    for module in (model, update.ema):
        for name, value in module.state_dict().items():
            digest.update(name.encode() + value.contiguous().numpy().tobytes())
    say("end", digest.hexdigest())


def serve() -> None:
    torch.set_num_threads(1)
    train(new_model(), SCHEDULE, small_data(), 1)  # imports what a first run imports
    for line in sys.stdin:
        child = os.fork()
        if not child:
            try:
                run(*line.split())
            finally:
                os._exit(0)
        say("pid", child)
        os.waitpid(child, 0)
        say("over")


class Server:
    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def start(self, state, how) -> int:
        """Start a run; gives its process number."""
        print(state, how, file=self.process.stdin, flush=True)
        word, number = self.read()
        assert word == "pid"
        return int(number)

    def read(self) -> list[str]:
        return self.process.stdout.readline().split(maxsplit=1)

    def rest(self) -> list[list[str]]:
        """What a run says until it is over."""
        lines = []
        while (line := self.read()) != ["over"]:
            lines.append([word.strip() for word in line])
        return lines


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.process.stdin.close()
    server.process.stdout.close()
    assert server.process.wait(10) == 0


# SIGKILL


def test_a_run_killed_twenty_times_ends_bit_for_bit_as_one_that_was_not(
    server, tmp_path
):
    state = tmp_path / "run" / "state.safetensors"
    part = state.with_name(f".{state.name}.part")
    server.start("none", "plain")
    [[_, expected]] = server.rest()

    draw, begun, reached, half_written = random.Random(0), [], [], 0
    for kill in range(20):
        itself = kill % 5 == 3
        pid, said = server.start(state, "die" if itself else "save"), []
        if not itself:
            said = [server.read() for _ in range(draw.randint(1, 4))]
            time.sleep(draw.random() * 0.02)
            until = time.monotonic() + 1
            while kill % 3 == 0 and not part.exists() and time.monotonic() < until:
                pass  # in the middle of a write, as near as one can come
            os.kill(pid, signal.SIGKILL)
        said += server.rest()
        assert {word for word, _ in said} == {"update"}  # the run did not end
        numbers = [int(number) for _, number in said]
        begun.append(numbers[0])
        reached.append(numbers[-1])
        half_written += part.exists()
        left = {path.name for path in state.parent.iterdir()}
        assert left <= {state.name, part.name} and state.exists()
        read_state(state)  # whole, at any moment
    assert begun[0] == 1 and min(begun[1:]) > 1  # the others went on from the middle
    assert len(set(reached)) >= 15 and reached == sorted(reached)
    assert half_written >= 3
    # What a run had said was saved, and at most one more update.
    assert {start - end for start, end in zip(begun[1:], reached, strict=False)} <= {
        1,
        2,
    }

    server.start(state, "save")
    *_, (word, digest) = server.rest()
    assert word == "end" and digest == expected
    assert [path.name for path in state.parent.iterdir()] == [state.name]


# Disks and folders that take nothing


def test_a_disk_that_is_full_stops_the_run_and_keeps_the_last_state(server, tmp_path):
    """A real one: the system lets this process write no more than 1 MB to a file."""
    state = tmp_path / "state.safetensors"
    pid = server.start(state, "save")
    assert server.read()[0] == "update"
    os.kill(pid, signal.SIGKILL)
    server.rest()
    before = state.read_bytes()
    assert len(before) > 1_000_000
    server.start(state, "full")
    [(word, problem)] = server.rest()
    assert word == "OSError" and f"{state}: cannot be written" in problem
    assert state.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [state.name]


def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_space_in_safetensors(*args, **kwargs):
    raise SafetensorError("Error while serializing: I/O error: No space left on device")


def no_space_half_way(tensors, path, metadata=None):
    save_file(tensors, path, metadata=metadata)
    os.truncate(path, 1000)
    no_space()


FULL = {
    "before": ("lesson_utils.checkpoint.save_file", no_space),
    "safetensors": ("lesson_utils.checkpoint.save_file", no_space_in_safetensors),
    "half-way": ("lesson_utils.checkpoint.save_file", no_space_half_way),
    "fsync": ("os.fsync", no_space),
    "chmod": ("os.chmod", no_space),
    "replace": ("os.replace", no_space),
}


@pytest.mark.parametrize("where", FULL)
def test_a_write_that_fails_anywhere_keeps_the_last_good_file(
    where, tmp_path, monkeypatch, capsys
):
    """In train, in save, and in the command line: status 2 and no traceback."""
    monkeypatch.setattr("lesson_utils.data.SOURCES", {"sprites": small_data})
    state, out = tmp_path / "state.safetensors", tmp_path / "out.safetensors"
    files = {"state": state, "save_seconds": 0}
    list(islice(train(new_model(), SCHEDULE, small_data(), 9, 4, **files), 2))
    save(out, new_model(), SCHEDULE, ("a", "b"), (1, 8, 8))
    before = {path: path.read_bytes() for path in (state, out)}
    command = ["train", "--width", "16", "--device", "cpu", "--batch-size", "4"]
    command += ["--out", str(out), "--state", str(state)]
    with monkeypatch.context() as patch:
        patch.setattr(*FULL[where])
        with pytest.raises(
            OSError, match=r"state\.safetensors: cannot be written .*space"
        ):
            list(train(new_model(), SCHEDULE, small_data(), 9, 4, **files))
        with pytest.raises(
            OSError, match=r"out\.safetensors: cannot be written .*space"
        ):
            save(out, new_model(), SCHEDULE, ("a", "b"), (1, 8, 8))
        assert main(command) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith("error: ") and "out.safetensors: cannot be" in said
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert main(command) == 0  # with room again, it goes on
    assert load(out).meta["steps"] == 9 and not state.exists()


def test_a_folder_that_takes_no_file_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lesson_utils.data.SOURCES", {"sprites": small_data})
    (tmp_path / "file").write_text("not a folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none")):
        path = folder / "x.safetensors"
        with pytest.raises(OSError, match=f"{path}: cannot be written"):
            save(path, new_model(), SCHEDULE, ("a", "b"), (1, 8, 8))
        updates = train(
            new_model(), SCHEDULE, small_data(), 3, 4, state=path, save_seconds=0
        )
        with pytest.raises(OSError, match=f"{path}: cannot be written"):
            list(updates)
        state = tmp_path / "state.safetensors"
        command = ["train", "--width", "16", "--device", "cpu", "--batch-size", "4"]
        command += ["--steps", "2", "--out", str(path), "--state", str(state)]
        assert main(command) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith("error: ") and str(path) in said
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# States of other runs


def foreign_states(state: Path) -> dict[str, bytes]:
    """Files that are no state of this run, made from one that is."""
    good, other = state.read_bytes(), state.with_name("other.safetensors")
    tensors, record = read_state(state)
    found = {
        "empty": b"",
        "text": b"hello" * 99,
        "cut": good[:-100],
        "long": good + b"x",
    }
    for place in (0, 60, len(good) // 2, len(good) - 1):
        flipped = bytearray(good)
        flipped[place] ^= 4
        found[f"bit flipped at {place}"] = bytes(flipped)
    save(other, new_model(), SCHEDULE, ("a", "b"), (1, 8, 8))
    found["a checkpoint"] = other.read_bytes()
    half = {name: value.half() for name, value in tensors.items()}
    few = {name: value for name, value in tensors.items() if name != "losses"}
    for name, changed in {"half precision": half, "no losses": few}.items():
        write_tensors(other, changed, record)
        found[name] = other.read_bytes()
    for changed in (
        {"step": None},
        {"settings": []},
        {"seconds": "9"},
        {"settings": {}},
    ):
        write_tensors(other, tensors, record | changed)
        found[str(changed)] = other.read_bytes()
    other.unlink()
    return found


def test_a_foreign_state_is_refused_and_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lesson_utils.data.SOURCES", {"sprites": small_data})
    state, out = tmp_path / "state.safetensors", tmp_path / "out.safetensors"
    files = {"state": state, "save_seconds": 0}
    list(islice(train(new_model(), SCHEDULE, small_data(), 9, 4, **files), 2))
    command = ["train", "--width", "16", "--device", "cpu", "--batch-size", "4"]
    command += ["--out", str(out), "--state", str(state)]
    for name, content in foreign_states(state).items():
        state.write_bytes(content)
        with pytest.raises(ValueError, match=r"state\.safetensors"):
            train(new_model(), SCHEDULE, small_data(), 9, 4, **files)
        assert main(command) == 2, name
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith("error: ") and "state.safetensors" in said, name
        assert state.read_bytes() == content and not out.exists(), name


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"model": 32}, "another model"),
        ({"schedule": Schedule.cosine()}, "schedule"),
        ({"schedule": Schedule.linear(500, 0.1 / 500, 0.0401)}, "schedule"),
        ({"data": small_data(30)}, "data"),
        ({"data": small_data(seed=1)}, "data"),  # as many, but others
        ({"data": small_data()._replace(c=1 - small_data().c)}, "data"),
        ({"steps": 10}, "steps"),
        ({"batch_size": 5}, "batch_size"),
        ({"peak": 1e-3}, "peak"),
        ({"warmup": 7}, "warmup"),
        ({"ema_decay": 0.9}, "ema_decay"),
        ({"context_dropout": 0.2}, "context_dropout"),
        ({"bfloat16": True}, "bfloat16"),
        ({"seed": 1}, "seed"),
    ],
)
def test_the_state_of_another_run_is_refused_and_kept(tmp_path, changed, why):
    state = tmp_path / "state.safetensors"
    files = {"state": state, "save_seconds": 0}
    own = {"schedule": SCHEDULE, "data": small_data(), "steps": 9, "batch_size": 4}
    list(islice(train(new_model(), **own, **files), 2))
    before = state.read_bytes()
    settings = own | changed
    model = new_model(settings.pop("model", 16))
    weights = [value.clone() for value in model.state_dict().values()]
    with pytest.raises(ValueError, match=rf"state: .*state\.safetensors .*\({why}\)"):
        train(model, **settings, **files)
    assert state.read_bytes() == before
    pairs = zip(weights, model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


if __name__ == "__main__":
    serve()
