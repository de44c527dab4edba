"""Set-up: the files that install and run the project agree with each other."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lesson_utils
from tools import bench, doctor, pictures
from tools.blocks import fill
from tools.lessons import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]
EXTRAS = PYPROJECT["optional-dependencies"]
DIRECT = [*PYPROJECT["dependencies"], *EXTRAS["test"], *EXTRAS["dev"]]
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
CHECKPOINTS = sorted((ROOT / "checkpoints").glob("*.safetensors"))
TARGETS = ["help", "setup", "lab", "lessons", "refresh", "test", "lint", "train"]
TARGETS += ["bench", "pictures", "doctor", "clean"]


def bounds(requirements: list[str]) -> dict[str, str]:
    parsed = map(Requirement, requirements)
    return {canonicalize_name(each.name): str(each.specifier) for each in parsed}


def test_environment_yml_is_in_step():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))[
        "dependencies"
    ]
    assert conda.pop() == {"pip": ["-e ."]}
    listed = bounds(conda)
    assert listed.pop("python") == PYPROJECT["requires-python"]
    assert listed.pop("pip") == ""
    listed["torch"] = listed.pop("pytorch")
    assert listed == bounds(DIRECT)


def test_constraints_pin_what_is_installed():
    lines = [x for x in CONSTRAINTS.splitlines() if x and not x.startswith("#")]
    assert [x for x in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.]+", x)] == []
    pinned = bounds(lines)
    assert list(pinned) == sorted(pinned)
    assert bounds(DIRECT).keys() <= pinned.keys()
    for each in map(Requirement, DIRECT):
        version = pinned[canonicalize_name(each.name)].removeprefix("==")
        assert each.specifier.contains(version), each


def test_torch_and_torchvision_are_pinned_together():
    pinned = bounds([x for x in CONSTRAINTS.splitlines() if x.startswith("torch")])
    assert set(pinned) == {"torch", "torchvision"}
    asked = map(Requirement, metadata.requires("torchvision"))
    [torch] = [each for each in asked if each.name == "torch"]
    assert torch.specifier.contains(pinned["torch"].removeprefix("=="))


# The Makefile, without running what it would run


def make(*arguments, cwd=ROOT):
    """Run make as a user would, not as a part of the make that may run this test."""
    inner = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "VENV", "PYTHON", "PYTHONPATH"}
    env = {name: value for name, value in os.environ.items() if name not in inner}
    if not shutil.which("make"):
        pytest.skip("there is no make here")
    return subprocess.run(
        ["make", *arguments], cwd=cwd, env=env, capture_output=True, text=True
    )


def test_make_alone_prints_help():
    said = make()
    assert said.returncode == 0
    described = re.findall(r"^  make ([a-z]+) +\S.*", said.stdout, re.MULTILINE)
    assert described == TARGETS
    assert max(map(len, said.stdout.splitlines())) <= 88


def test_lab_stays_on_this_machine():
    command = make("-n", "lab", "VENV=/somewhere").stdout
    assert "--ip=127.0.0.1" in command
    assert f'--ServerApp.root_dir="{ROOT}"' in command
    assert "token" not in command and "password" not in command
    assert re.search(r"default_url=/lab/tree/lessons/0[15]_\w+\.ipynb", command)


@pytest.fixture
def checkout(tmp_path):
    """The files that setup reads, in a folder of their own."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_setup_installs_once_and_after_changes(checkout):
    assert "pip install" in make("-n", "setup", cwd=checkout).stdout
    stamp = checkout / ".venv" / ".lessons-installed"
    stamp.parent.mkdir()
    stamp.touch()
    for target in ("setup", "lab", "lessons", "test", "doctor"):
        assert "pip install" not in make("-n", target, cwd=checkout).stdout
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(checkout / name, (2e9, 2e9))
        assert "pip install" in make("-n", "test", cwd=checkout).stdout
        os.utime(checkout / name, (1e9, 1e9))


def test_somebody_elses_environment_is_left_alone(checkout):
    command = make("-n", "test", f"VENV={checkout / 'other'}", cwd=checkout).stdout
    assert "pip" not in command and "touch" not in command and "-m venv" not in command
    said = make("test", f"VENV={checkout / 'other'}", cwd=checkout)
    assert said.returncode and "is no environment" in said.stderr


def test_setup_says_what_python_it_needs(checkout):
    said = make("setup", "PYTHON=no-such-python", cwd=checkout)
    assert said.returncode and "Python 3.11 or later is needed" in said.stderr
    old = checkout / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1\nexit 1\n')
    old.chmod(0o755)
    said = make("setup", f"PYTHON={old}", cwd=checkout)
    assert said.returncode and "Python 3.9.1" in said.stderr
    assert not (checkout / ".venv").exists()


def test_train_passes_its_options_on():
    command = make("-n", "train", "VENV=/v", "MINUTES=3", "ARGS=--seed 1").stdout
    options = "-m lesson_utils train --dataset sprites --minutes 3 --seed 1"
    assert options in " ".join(command.replace("\\\n", "").split())


def test_readme_commands_are_targets():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"(?s)```.*?```|`[^`\n]+`", readme))
    named = set(re.findall(r"\bmake ([a-z]+)", blocks))
    assert {"lab", "test"} <= named <= set(TARGETS)


def test_ci_runs_the_readme_test_command():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")
    assert re.search(
        r"^(exec )?make test\b", script.read_text(encoding="utf-8"), re.MULTILINE
    )


# make doctor


def run_doctor(folder):
    command = [sys.executable, ROOT / "tools" / "doctor.py", "--checkpoints", folder]
    return subprocess.run(command, capture_output=True, text=True)


def test_doctor_verifies_checkpoints(tmp_path):
    assert CHECKPOINTS, "no checkpoint in checkpoints/"
    said = run_doctor(ROOT / "checkpoints")
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.endswith("\nReady.\n")
    assert "checksum verified" in said.stdout and "device" in said.stdout
    damaged = bytearray(CHECKPOINTS[0].read_bytes())
    damaged[-1] ^= 1
    (tmp_path / CHECKPOINTS[0].name).write_bytes(damaged)
    said = run_doctor(tmp_path)
    assert said.returncode == 1
    assert "DAMAGED" in said.stdout and "Not ready:" in said.stdout


def test_doctor_misses_checkpoints(tmp_path):
    said = run_doctor(tmp_path)
    assert said.returncode == 1 and "no checkpoint in" in said.stdout


def test_doctor_works_without_packages(monkeypatch, capsys):
    def missing(name):
        raise doctor.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "version", missing)
    assert doctor.main([]) == 1
    said = capsys.readouterr().out
    assert "torchvision   missing" in said and "make setup" in said


def test_doctor_explains_a_torch_of_another_build(monkeypatch):
    def fail(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(doctor.importlib, "import_module", fail)
    assert "not built for each other" in doctor.check_torch()[0]


# Measured figures in Markdown


def test_the_readme_shows_the_committed_benchmark():
    result = json.loads((ROOT / "checkpoints/bench.json").read_text(encoding="utf-8"))
    assert bench.table(result) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_model_card_shows_the_checkpoints_record():
    card = (ROOT / "checkpoints/README.md").read_text(encoding="utf-8")
    assert pictures.record(lesson_utils.load("sprites")) in card


def test_fill_replaces_what_stands_between_its_marks_and_nothing_else(tmp_path):
    path = tmp_path / "x.md"
    path.write_text("a\n<!-- b -->\nold\n<!-- /b -->\nc\n", encoding="utf-8")
    fill(path, "b", r"new \1")
    fill(path, "b", r"new \1")
    expected = "a\n<!-- b -->\nnew \\1\n<!-- /b -->\nc\n"
    assert path.read_text(encoding="utf-8") == expected
    with pytest.raises(ValueError, match="marks"):
        fill(path, "other", "new")
