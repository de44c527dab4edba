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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from small import (
    OTHER,
    SCHEDULE,
    small_data,
    small_distillation,
    small_model,
    small_run,
)

from lesson_utils import Schedule, Settings, load, save
from lesson_utils.cli import main
from lesson_utils.support.files import write_tensors
from lesson_utils.support.state import interrupts_wait, read_state

STEPS = 120


# The server, and what it runs


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def run(state: str, how: str) -> None:
    """A run as a user starts it, which says how far it is, and at its end its digest.

    how: "save" after each update, "seldom" only when stopped, "die" while writing its
    second state (no time to clean up), "full" with a disk on which only 1 MB fits, or
    "plain", with no state. "distil-save" and so on: a distillation in three stages.
    """
    distils, how = how.startswith("distil-"), how.removeprefix("distil-")
    if how == "full":
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    seconds = 1e9 if how == "seldom" else 0
    files = None if how == "plain" else {"state": state, "save_seconds": seconds}
    model = small_model(lively=distils)
    if distils:
        updates = small_distillation(model, files=files, updates=10)
    else:
        updates = small_run(model, steps=STEPS, files=files)
    try:
        for update in updates:
            if how == "die" and Path(state).exists():
                os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
            if how != "plain":
                say("update", update.step)
    except OSError as problem:
        say("OSError", problem)
        return
    except KeyboardInterrupt:
        say("stopped")
        return
    digest = hashlib.sha256(update.losses.numpy().tobytes())
    for module in (model, update.ema):
        for name, value in module.state_dict().items():
            digest.update(name.encode() + value.contiguous().numpy().tobytes())
    say("end", digest.hexdigest())


def serve() -> None:
    torch.set_num_threads(1)
    for begun in (small_run(steps=1), small_distillation()):
        next(begun)  # imports what a first run imports
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
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = [sys.executable, __file__]
        self.process = subprocess.Popen(command, text=True, bufsize=1, **pipes)

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
    if not hasattr(os, "fork"):
        pytest.skip("no os.fork here")
    server = Server()
    yield server
    server.process.stdin.close()
    server.process.stdout.close()
    assert server.process.wait(60) == 0


def test_a_run_killed_twenty_times_ends_as_one_that_was_not(server, tmp_path):
    """Bit for bit."""
    state = tmp_path / "run" / "state.safetensors"
    part = state.with_name(f".{state.name}.part")
    lock = state.with_name(f".{state.name}.lock")
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
        assert left <= {state.name, part.name, lock.name} and state.exists()
        read_state(state)  # whole, at any moment
    assert begun[0] == 1 and min(begun[1:]) > 1  # the others went on from the middle
    assert len(set(reached)) >= 15 and reached == sorted(reached)
    assert half_written >= 3
    # What a run had said was saved, and at most one more update.
    gaps = {start - end for start, end in zip(begun[1:], reached, strict=False)}
    assert gaps <= {1, 2}

    server.start(state, "save")
    *_, (word, digest) = server.rest()
    assert word == "end" and digest == expected
    assert [path.name for path in state.parent.iterdir()] == [state.name]


def test_a_distillation_that_is_killed_ends_as_one_that_was_not(server, tmp_path):
    """Bit for bit, though it is killed in each of its three stages and between them."""
    state = tmp_path / "state.safetensors"
    server.start("none", "distil-plain")
    [[_, expected]] = server.rest()
    draw, told = random.Random(2), 0
    for wanted in (3, 9, 10, 12, None, 19, 20, None, 25):  # None: while it writes
        pid = server.start(state, "distil-save" if wanted else "distil-die")
        while wanted and told < wanted:
            word, told = server.read()[0], told + 1
            assert word == "update"
        time.sleep(draw.random() * 0.02)
        if wanted:
            os.kill(pid, signal.SIGKILL)
        said = server.rest()
        assert {word for word, _ in said} <= {"update"}  # the run did not end
        told = read_state(state)[1]["step"]  # whole, at any moment
    assert 25 <= told < 30
    server.start(state, "distil-save")
    *_, (word, digest) = server.rest()
    assert word == "end" and digest == expected


def test_ctrl_c_saves_the_state_after_the_update_and_nothing_is_lost(server, tmp_path):
    """Bit for bit, though the state is written only when the run is stopped."""
    state, draw, done = tmp_path / "state.safetensors", random.Random(1), 0
    server.start("none", "plain")
    [[_, expected]] = server.rest()
    for _ in range(5):
        pid = server.start(state, "seldom")
        said = [server.read() for _ in range(draw.randint(1, 6))]
        time.sleep(draw.random() * 0.02)  # somewhere in an update
        os.kill(pid, signal.SIGINT)
        *more, last = server.rest()
        assert last == ["stopped"] and int(said[0][1]) == done + 1
        told = [int(number) for _, number in said + more]
        done = read_state(state)[1]["step"]
        assert told[-1] <= done <= told[-1] + 1  # the update that was being made counts
    server.start(state, "seldom")
    *_, (word, digest) = server.rest()
    assert word == "end" and digest == expected


def test_ctrl_c_goes_through_after_an_update_or_at_once_without_one():
    made = []
    with pytest.raises(KeyboardInterrupt), interrupts_wait():
        signal.raise_signal(signal.SIGINT)
        made.append("whole")
    assert made == ["whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with ThreadPoolExecutor(1) as pool:  # Ctrl-C does not reach another thread
        [update] = pool.submit(lambda: list(small_run(steps=1))).result()
    assert update.step == 1


def test_one_training_at_a_time_and_a_killed_one_blocks_nobody(server, tmp_path):
    state = tmp_path / "state.safetensors"
    files = {"state": state, "save_seconds": 0}
    pid = server.start(state, "save")
    assert server.read()[0] == "update"
    why = r"state\.safetensors: another training is writing it now"
    with pytest.raises(ValueError, match=why):
        small_run(steps=STEPS, files=files)
    os.kill(pid, signal.SIGKILL)
    server.rest()
    assert len(list(tmp_path.iterdir())) > 1  # its lock file, which nobody holds
    first = small_run(steps=STEPS, files=files)
    begun = next(first).step
    assert begun > 1
    later = small_run(steps=STEPS, files=files)  # a cell that is run again
    assert next(later).step == begun + 1
    with pytest.raises(ValueError, match="state: a later run goes on from"):
        next(first)
    del first, later
    assert [path.name for path in tmp_path.iterdir()] == [state.name]
    assert read_state(state)[1]["step"] == begun + 1


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


SAVE = "lesson_utils.support.files.save_file"
FULL = [
    (SAVE, no_space),
    (SAVE, no_space_in_safetensors),
    (SAVE, no_space_half_way),
    *((f"os.{name}", no_space) for name in ("fsync", "chmod", "replace")),
]


class Desk:
    """A folder with a state and a checkpoint, and the three ways to write them."""

    def __init__(self, folder):
        self.state, self.out = folder / "state.safetensors", folder / "out.safetensors"

    def run(self, **more):
        files = {"state": self.state, "save_seconds": 0}
        return small_run(**{"steps": 9, "files": files} | more)

    def save(self):
        save(self.out, small_model(), SCHEDULE, ("a", "b"), (1, 8, 8))

    def command(self, *more) -> int:
        files = "--out", str(self.out), "--state", str(self.state)
        small = "--width", "16", "--device", "cpu", "--batch-size", "4"
        return main(["train", *small, *files, *more])

    def refuses(self, capsys, *more) -> str:
        """What the command line says: status 2, one line and no traceback."""
        capsys.readouterr()
        assert self.command(*more) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("error: ")
        return line


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.setattr("lesson_utils.data.SOURCES", {"sprites": small_data})
    return Desk(tmp_path)


@pytest.mark.parametrize(("where", "fault"), FULL)
def test_a_write_that_fails_anywhere_keeps_the_last_good_file(
    where, fault, desk, tmp_path, monkeypatch, capsys
):
    """In train, in save, and in the command line."""
    list(islice(desk.run(), 2))
    desk.save()
    before = {path: path.read_bytes() for path in (desk.state, desk.out)}
    with monkeypatch.context() as patch:
        patch.setattr(where, fault)
        for write, name in ((lambda: list(desk.run()), "state"), (desk.save, "out")):
            why = rf"{name}\.safetensors: cannot be written .*space"
            with pytest.raises(OSError, match=why):
                write()
        assert "out.safetensors: cannot be" in desk.refuses(capsys, "--overwrite")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert desk.command("--overwrite") == 0  # with room again, it goes on
    assert load(desk.out).meta["steps"] == 9 and not desk.state.exists()


@pytest.mark.parametrize("folder", ["file", "file/below", "/proc/none"])
def test_a_folder_that_takes_no_file_is_named(desk, tmp_path, capsys, folder):
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    path = tmp_path / folder / "x.safetensors"
    desk.out = path
    files = {"state": path, "save_seconds": 0}
    for write in (desk.save, lambda: list(desk.run(files=files))):
        with pytest.raises(OSError, match=f"{path}: cannot be written"):
            write()
    assert f"error: {path}" in desk.refuses(capsys, "--steps", "2")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# States of other runs


def foreign_states(desk) -> dict[str, bytes]:
    """Files that are no state of this run, made from one that is."""
    good = desk.state.read_bytes()
    tensors, record = read_state(desk.state)
    desk.save()
    found = {
        "empty": b"",
        "text": b"hello" * 99,
        "cut": good[:-100],
        "long": good + b"x",
        "a checkpoint": desk.out.read_bytes(),
    }
    for place in (0, 60, len(good) // 2, len(good) - 1):
        flipped = bytearray(good)
        flipped[place] ^= 4
        found[f"bit flipped at {place}"] = bytes(flipped)
    half = {name: value.half() for name, value in tensors.items()}
    few = {name: value for name, value in tensors.items() if name != "losses"}
    named = {"settings": record["settings"] | {"colour": "red"}}
    for name, changed, more in (
        ("half precision", half, {}),
        ("no losses", few, {}),
        ("a setting that we do not know", tensors, named),
        ("no step", tensors, {"step": None}),
        ("step 0", tensors, {"step": 0}),
        ("the end", tensors, {"step": 9}),
        ("a list of settings", tensors, {"settings": []}),
        ("no settings", tensors, {"settings": {}}),
        ("seconds in words", tensors, {"seconds": "9"}),
    ):
        write_tensors(desk.out, changed, record | more)
        found[name] = desk.out.read_bytes()
    desk.out.unlink()
    return found


def test_a_foreign_state_is_refused_and_kept(desk, capsys):
    list(islice(desk.run(), 2))
    for name, content in foreign_states(desk).items():
        desk.state.write_bytes(content)
        with pytest.raises(ValueError, match=r"state\.safetensors"):
            desk.run()
        assert "state.safetensors" in desk.refuses(capsys), name
        assert desk.state.read_bytes() == content and not desk.out.exists(), name


@pytest.mark.parametrize(
    ("why", "changed"),
    [
        ("another model", {"model": small_model(width=32)}),
        ("schedule", {"schedule": Schedule.cosine()}),
        ("schedule", {"schedule": Schedule.linear(500, 0.1 / 500, 0.0401)}),
        ("data", {"data": small_data(30)}),
        ("data", {"data": small_data(seed=1)}),  # as many, but others
        ("data", {"data": small_data()._replace(c=1 - small_data().c)}),
        *((f.name, {f.name: getattr(OTHER, f.name)}) for f in fields(Settings)),
    ],
)
def test_the_state_of_another_run_is_refused_and_kept(desk, changed, why):
    list(islice(desk.run(), 2))
    before = desk.state.read_bytes()
    changed = {"model": small_model()} | changed
    weights = {k: v.clone() for k, v in changed["model"].state_dict().items()}
    with pytest.raises(ValueError, match=rf"state: .*state\.safetensors .*\({why}\)"):
        desk.run(**changed)
    assert desk.state.read_bytes() == before
    after = changed["model"].state_dict()
    assert all(torch.equal(value, after[name]) for name, value in weights.items())


if __name__ == "__main__":
    serve()
