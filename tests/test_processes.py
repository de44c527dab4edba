"""Several processes, as Accelerate launches them: two, on this machine's CPU."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small import small_folder, small_model, small_run

from lesson_utils import ContextUnet, Settings, dataset
from lesson_utils.cli import main
from lesson_utils.quality.experiment import read_result
from lesson_utils.support.files import ROOT
from lesson_utils.support.processes import agreed, gathered, meeting, number
from lesson_utils.support.state import read_state

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("accelerate"),
    reason='Accelerate is not installed: pip install -e ".[scale]"',
)
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch"]
TWO = "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no".split()
TWO += ["--dynamo_backend", "no", "--main_process_port", "0"]


@contextmanager
def launched(*program, log) -> Iterator[subprocess.Popen]:
    """Two processes of a program, as somebody launches them; log: what they say."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with open(log, "w", encoding="utf-8") as said:
        process = subprocess.Popen(
            [*LAUNCH, *TWO, *map(str, program)],
            env=env,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()  # and so both
        process.wait(40)


# What the two do together


RUNS = {
    "a hundred updates": dict(steps=100, batch_size=8, warmup=5),
    "an odd batch, bfloat16": dict(steps=6, batch_size=5, bfloat16=True),
}


def trained(settings: dict) -> dict[str, torch.Tensor]:
    """The losses of a run, its weights and their average."""
    model = small_model()
    *_, update = small_run(model, **settings)
    found = {f"model.{k}": v for k, v in model.state_dict().items()}
    found |= {f"ema.{k}": v for k, v in update.ema.state_dict().items()}
    found["losses"] = update.losses
    return {k: v.clone(memory_format=torch.contiguous_format) for k, v in found.items()}


def work(folder: Path) -> None:
    """What each of the two processes does."""
    with meeting(cpu=True):
        assert agreed(number()) == 0 and gathered(number()) == [0, 1]
        for name, flags in SAMPLES.items():
            assert main(["sample", *sampled(name, flags, folder)]) == 0
        if number() == 0:
            (folder / "noise/000005.png").unlink()
        again = sampled("noise", SAMPLES["noise"], folder)
        assert main(["sample", *again, "--resume"]) == 0
        assert main(["evaluate", *judged(folder)]) == 0
        for name, settings in RUNS.items():
            save_file(trained(settings), folder / f"{name} {number()}.safetensors")
        with pytest.raises(ValueError, match="^batch_size: 2 or more, one for each"):
            small_run(batch_size=1)


SAMPLES = {  # three micro-batches or more, so that one process has no part in the last
    "noise": "--n-samples 10 --batch-size 4 --steps 3 --eta 1 --gif --unconditional",
    "pairs": "--mode reconstruct --n-samples 5 --batch-size 2 --steps 2",
}


def sampled(name: str, flags: str, folder: Path) -> list[str]:
    """The flags of a run of sampling into folder/name."""
    return [*flags.split(), "--device", "cpu", "--save-dir", str(folder / name)]


def judged(folder: Path) -> list[str]:
    """The flags of an evaluation: three batches in two processes."""
    flags = "--n-samples 220 --steps 2 --eta 0,1 --device cpu".split()
    return [*flags, "--out", str(folder / "result.json")]


@pytest.fixture
def one_thread():
    """One thread, as in each of the two: another number rounds sums in another way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder in which two processes have worked."""
    folder = tmp_path_factory.mktemp("two")
    with launched(__file__, folder, log=folder / "log") as process:
        assert process.wait(120) == 0, (folder / "log").read_text(encoding="utf-8")
    return folder


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_as_one_does(done, name):
    """The same images, times and noise: all but rounding is equal."""
    one = trained(RUNS[name])
    first, second = (load_file(done / f"{name} {k}.safetensors") for k in (0, 1))
    assert first["losses"].isfinite().all() and first.keys() == one.keys()
    close = 1e-2 if RUNS[name].get("bfloat16") else 1e-4
    for key, value in one.items():
        assert torch.equal(first[key], second[key]), key
        assert torch.allclose(first[key], value, rtol=0, atol=close), key


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", SAMPLES)
def test_two_processes_write_the_files_of_one_byte_for_byte(done, name, tmp_path):
    """Also where they make what a folder lacks."""
    assert main(["sample", *sampled(name, SAMPLES[name], tmp_path)]) == 0
    one, two = (
        {p.name: p.read_bytes() for p in (folder / name).iterdir()}
        for folder in (tmp_path, done)
    )
    records = [json.loads(files.pop("run.json")) for files in (one, two)]
    assert one == two
    for record in records:
        del record["seconds"], record["evaluations"]["in_all"]
    assert records[0] == records[1]


@pytest.mark.usefixtures("one_thread")
def test_two_processes_evaluate_to_the_figures_of_one(done, tmp_path):
    assert main(["evaluate", *judged(tmp_path)]) == 0
    one, two = (read_result(folder / "result.json") for folder in (tmp_path, done))
    for record in one["cells"] + two["cells"]:
        del record["seconds"]
    assert one == two and len(one["cells"]) == 2


# The command line


def child(process: subprocess.Popen, rank: int):
    """The process of this number that a launcher has started."""
    from psutil import Process  # Accelerate needs it

    children = Process(process.pid).children()
    return next(each for each in children if each.environ()["RANK"] == str(rank))


def test_a_lost_process_ends_the_run_which_goes_on_from_its_state(tmp_path):
    folder, state = small_folder(tmp_path / "pets"), tmp_path / "state.safetensors"
    files = "--out", tmp_path / "pets.safetensors", "--state", state
    flags = "--width 16 --batch-size 4 --steps 1000000 --device cpu".split()
    command = "-m", "lesson_utils", "train", "--dataset", folder, *flags, *files
    with launched(*command, log=tmp_path / "log") as process:
        until(r" [1-9]\d*/1000000 ", tmp_path / "log")
        child(process, 1).kill()
        assert process.wait(60) != 0
    said = (tmp_path / "log").read_text(encoding="utf-8")
    assert re.search(r"rank +: 1 .*\s+exitcode +: -9 ", said), said
    assert f"the same command goes on from {state}" in said
    assert {path.name for path in tmp_path.iterdir()} == {"pets", "log", state.name}
    _, record = read_state(state)
    known = {f.name: record["settings"][f.name] for f in fields(Settings)}
    model = ContextUnet(3, 2, 16)
    files = {"state": state}
    update = next(small_run(model, dataset(folder), files=files, **known))
    assert update.step == record["step"] + 1


def until(words: str, log: Path) -> None:
    """Wait until something is in the log."""
    end = time.monotonic() + 60
    while not re.search(words, log.read_text(encoding="utf-8")):
        assert time.monotonic() < end, log.read_text(encoding="utf-8")
        time.sleep(0.1)


def test_what_one_process_does_is_not_launched(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["info", "sprites"]) == 2
    assert capsys.readouterr().err == "error: info: start it without a launcher\n"


def test_a_launch_without_accelerate_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert main(["train"]) == 2
    assert 'need Accelerate: pip install -e ".[scale]"' in capsys.readouterr().err


def test_one_process_does_not_import_accelerate():
    code = "import sys, lesson_utils.cli as c; c.main(['info', 'sprites']); "
    code += "assert not {'accelerate', 'diffusers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
