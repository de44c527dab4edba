"""Set-up: the files that install and run the project agree with each other."""

import ast
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from conftest import listens, outer_environment, started_lab
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from small import small_checkpoint

from lesson_utils import load, save
from lesson_utils.quality.card import table_experiments
from lesson_utils.quality.experiment import digest
from lesson_utils.quality.judge import load_judge
from lesson_utils.quality.report import committed
from lesson_utils.support import files
from lesson_utils.support.files import (
    quoted,
    read_checksums,
    shipped_files,
    write_checksums,
)
from tools import bench, doctor
from tools.lessons import ROOT

TOML = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PYPROJECT = TOML["project"]
EXTRAS = PYPROJECT["optional-dependencies"]
CONDA = [*PYPROJECT["dependencies"], *EXTRAS["test"], *EXTRAS["dev"]]
DIRECT = [*CONDA, *EXTRAS["browser"]]
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
CHECKPOINTS = sorted((ROOT / "checkpoints").glob("*.safetensors"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
TARGETS = "help setup lab lessons test lint train card bench html doctor clean".split()


def bounds(requirements: list[str]) -> dict[str, str]:
    parsed = map(Requirement, requirements)
    return {canonicalize_name(each.name): str(each.specifier) for each in parsed}


def test_environment_yml_is_in_step():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    conda = yaml.safe_load(text)["dependencies"]
    assert conda.pop() == {"pip": ["-e .[browser]"]}
    listed = bounds(conda)
    assert listed.pop("python") == PYPROJECT["requires-python"]
    assert listed.pop("pip") == ""
    listed["torch"] = listed.pop("pytorch")
    assert listed == bounds(CONDA)


def test_constraints_pin_what_is_installed():
    lines = [x for x in CONSTRAINTS.splitlines() if x and not x.startswith("#")]
    assert [x for x in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.]+", x)] == []
    pinned = bounds(lines)
    assert list(pinned) == sorted(pinned)
    assert bounds(DIRECT).keys() <= pinned.keys()
    for each in map(Requirement, DIRECT):
        version = pinned[canonicalize_name(each.name)].removeprefix("==")
        assert each.specifier.contains(version), each


# The Makefile, without running what it would run


def make(*arguments, cwd=ROOT):
    """Run make as a user would, not as a part of the make that may run this test."""
    if not shutil.which("make"):
        pytest.skip("there is no make here")
    return subprocess.run(
        ["make", *arguments],
        cwd=cwd,
        env=outer_environment(),
        capture_output=True,
        text=True,
    )


def test_make_alone_prints_help():
    said = make()
    assert said.returncode == 0
    described = re.findall(r"^  make ([a-z-]+) +\S.*", said.stdout, re.MULTILINE)
    assert described == TARGETS
    assert max(map(len, said.stdout.splitlines())) <= 88


def open_to_others(command: str) -> list[str]:
    """What in a JupyterLab command line lets others in."""
    words = r"token|passw|no-auth|allow_unauth|allow_origin|allow_remote|disable_check"
    found = re.findall(rf"(?i)\S*(?:{words})\S*", command)
    found += [ip for ip in re.findall(r"ip=(\S*)", command) if ip != "127.0.0.1"]
    return found if "--ip=127.0.0.1" in command else [*found, "no ip"]


def test_lab_stays_on_this_machine():
    command = make("-n", "lab", "VENV=/somewhere").stdout
    more = make("-n", "lab", "VENV=/somewhere", "LAB_ARGS=--no-browser --port=9").stdout
    assert open_to_others(command) == open_to_others(more) == []
    for fault in ("--ServerApp.token=''", "--ip=0.0.0.0", "--no-auth", "--ip="):
        assert open_to_others(f"{command} {fault}"), fault
    assert open_to_others(command.replace("--ip=127.0.0.1", ""))
    assert [*command.split(), "--no-browser", "--port=9"] == more.split()
    assert f'--ServerApp.root_dir="{ROOT}"' in command
    assert re.search(r"default_url=/lab/tree/work/01_\w+\.ipynb", command)


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return refusal.code


def test_the_real_lab_hears_this_machine_alone_and_wants_its_token(tmp_path):
    with started_lab(ROOT, tmp_path) as (port, token):
        assert len(token) >= 32
        contents = f"http://127.0.0.1:{port}/api/contents"
        for query in ("", "?token=", f"?token={token[:-1]}"):
            assert status(contents + query) == 403
        assert status(f"{contents}?token={token}") == 200
        assert listens("127.0.0.1", port)
        # Another address of this machine, at which whatever hears all of them answers.
        with socket.create_server(("0.0.0.0", 0)) as everywhere:
            if not listens("127.0.0.2", everywhere.getsockname()[1]):
                pytest.skip("127.0.0.2 is no address here")
        assert not listens("127.0.0.2", port)


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
    other = f"VENV={checkout / 'other'}"
    command = make("-n", "test", other, cwd=checkout).stdout
    assert "pip" not in command and "touch" not in command and "-m venv" not in command
    said = make("test", other, cwd=checkout)
    assert said.returncode and "is no environment" in said.stderr


def test_setup_says_what_python_it_needs(checkout):
    said = make("setup", "PYTHON=no-such-python", cwd=checkout)
    assert said.returncode and "Python 3.11 or later is needed" in said.stderr
    old = checkout / "old-python"
    script = '#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1\nexit 1\n'
    old.write_text(script, encoding="utf-8")
    old.chmod(0o755)
    said = make("setup", f"PYTHON={old}", cwd=checkout)
    assert said.returncode and "Python 3.9.1" in said.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train"], "lesson_utils train --dataset sprites"),
        (
            ["train", "DATASET=my pets", "ARGS=--minutes 3 --seed 1"],
            "lesson_utils train --dataset 'my pets' --minutes 3 --seed 1",
        ),
        (["card", "DATASET=mnist", "ARGS=-n 9"], "card --checkpoint mnist -n 9"),
        (["lessons"], "tools/lessons.py"),
        (["lessons", "ARGS=--in-place 06_ddim"], "lessons.py --in-place 06_ddim"),
        (["test", "ARGS=tests/test_site.py"], "pytest tests/test_site.py"),
        (["lint"], "/v/bin/lint-imports --no-cache --no-logo"),
    ],
)
def test_options_are_passed_on(arguments, words):
    command = make("-n", *arguments, "VENV=/v").stdout.replace("\\\n", "")
    assert shlex.join(shlex.split(command)).endswith(words)


def test_readme_commands_are_targets():
    blocks = "\n".join(re.findall(r"(?s)```.*?```|`[^`\n]+`", README))
    named = set(re.findall(r"\bmake ([a-z]+(?:-[a-z]+)*)", blocks))
    assert {"lab", "test", "card"} <= named <= set(TARGETS)


@pytest.mark.parametrize("found", [[], ["chromium"]])
def test_ci_brings_its_browser_and_runs_the_readme_commands(tmp_path, found):
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")
    for name in ("apt-get", "make", *found):
        stub = f'#!/bin/sh\necho {name} "$@" $BROWSER >&2\n'
        (tmp_path / name).write_text(stub, encoding="utf-8")
    (tmp_path / "id").write_text("#!/bin/sh\necho 0\n", encoding="utf-8")
    for path in tmp_path.iterdir():
        path.chmod(0o755)
    (tmp_path / "dirname").symlink_to(shutil.which("dirname"))
    said = subprocess.run(
        [shutil.which("bash"), script],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    *before, lint, test = said.stderr.splitlines()
    assert (lint, test) == ("make lint must", "make test must")
    needed = [] if found else ["update", "install"]
    assert [line.split()[2] for line in before] == needed
    assert found or "chromium" in before[-1].split()


# make doctor


def test_doctor_verifies_what_ships(tmp_path):
    """From any folder, and where the output knows no Greek."""
    said = subprocess.run(
        [sys.executable, ROOT / "tools/doctor.py"],
        capture_output=True,
        text=True,
        cwd="/",
        env=os.environ | {"PYTHONIOENCODING": "ascii", "LESSONS_DATA": "/π/猫"},
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.endswith("\nReady.\n")
    assert said.stdout.count("as it ships, checksum verified") == 12
    assert "device" in said.stdout and "/?/?" in said.stdout


def test_the_committed_checksums_are_those_of_the_files(tmp_path):
    shutil.copytree(ROOT / "checkpoints", tmp_path / "c")
    write_checksums(tmp_path / "c")
    sums = (ROOT / "checkpoints/SHA256SUMS").read_text(encoding="utf-8")
    assert (tmp_path / "c/SHA256SUMS").read_text(encoding="utf-8") == sums
    assert len(read_checksums()) == 12


def test_git_keeps_what_ships_and_ignores_what_a_reader_trains():
    """A file that git ignores is there at home, and missing in a clone."""
    ships = [path.relative_to(ROOT).as_posix() for path in shipped_files()]
    own = ["checkpoints/mine.safetensors", "checkpoints/sprites-8.safetensors"]
    ignored = subprocess.run(
        ["git", "check-ignore", "--no-index", *ships, *own],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ignored.stdout.split() == own


@pytest.fixture
def shelf(tmp_path):
    """A copy of checkpoints/, for doctor to look at."""
    return Path(shutil.copytree(ROOT / "checkpoints", tmp_path / "my shelf"))


def test_doctor_finds_missing_and_damaged_files(shelf, capsys):
    damaged = shelf / "judges/sprites.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    (shelf / "mnist.safetensors").unlink()
    assert doctor.main(["--checkpoints", str(shelf)]) == 1
    said = capsys.readouterr().out
    assert "judge         sprites.safetensors: DAMAGED" in said
    assert "Not ready:" in said and f"- {damaged} is damaged: " in said
    assert f"{shelf / 'mnist.safetensors'} is missing" in said
    for name in ("judges/sprites.safetensors", "mnist.safetensors"):  # paste anywhere
        assert said.count(f"git -C {quoted(ROOT)} checkout -- checkpoints/{name} ") == 1
    assert "again or remove" not in said


@pytest.mark.parametrize(
    ("sums", "why"),
    [
        (b"", "lacks sprites.safetensors, mnist.safetensors, sprites-worse.safeten"),
        (b"%b  sprites.safetensors\n\n", "lacks mnist.safetensors, sprites-worse"),
        (b"garbage\n", "line 1 is not a SHA-256 and a file's name"),
        (b"\xff\xfe", "line 1 is not"),
        (b"%b  a\n<<<<<<< HEAD\n", "line 2 is not"),
        (None, "No such file"),
    ],
)
def test_doctor_wants_the_whole_list_of_checksums(
    shelf, monkeypatch, capsys, sums, why
):
    """And, whatever is in it, the files that ship."""
    monkeypatch.setattr(files, "CHECKPOINTS", shelf)
    (shelf / "SHA256SUMS").unlink()
    if sums is not None:
        (shelf / "SHA256SUMS").write_bytes(sums.replace(b"%b", b"0" * 64))
    (shelf / "mnist.safetensors").unlink()
    assert doctor.main(["--checkpoints", str(shelf)]) == 1
    said = capsys.readouterr().out.partition("Not ready:\n")[2].splitlines()
    assert why in said[0] and "-- checkpoints/SHA256SUMS " in said[0]
    assert f"{shelf / 'mnist.safetensors'} is missing" in said[1]
    assert [line[:2] for line in said[:2]] == ["- ", "- "]


def test_doctor_says_what_is_the_readers_own_and_what_does_not_ship(shelf, capsys):
    """What --overwrite has replaced is whole, but not what the lessons speak of."""
    shutil.copy(shelf / "sprites.safetensors", shelf / "pets-0a1b2c.safetensors")
    other = small_checkpoint()
    replaced = shelf / "mnist.safetensors"
    save(replaced, other.model, other.schedule, other.context, other.image_shape)
    assert doctor.main(["--checkpoints", str(shelf)]) == 0
    said = capsys.readouterr().out
    assert "pets-0a1b2c.safetensors: your own, checksum verified" in said
    assert "mnist.safetensors: NOT the one that ships" in said
    assert f"Ready, but:\n- {replaced} is not the one that ships" in said
    assert said.count("as it ships") == 11


def test_doctor_names_a_damaged_file_of_the_readers_own(shelf, capsys):
    """Which is in no lesson's way."""
    (shelf / "junk.safetensors").write_bytes(b"junk")
    assert doctor.main(["--checkpoints", str(shelf)]) == 0
    said = capsys.readouterr().out
    assert f"{shelf / 'junk.safetensors'}: damaged: train it again or remove it" in said
    assert said.endswith("\nReady.\n") and said.count("git") == 0


def test_doctor_looks_for_what_is_needed_and_works_without(monkeypatch, capsys):
    def missing(name):
        raise doctor.metadata.PackageNotFoundError(name)

    assert set(doctor.PACKAGES) == set(bounds(PYPROJECT["dependencies"]))
    monkeypatch.setattr(doctor.metadata, "version", missing)
    assert doctor.main([]) == 1
    said = capsys.readouterr().out
    assert "torchvision   missing" in said and f"make -C {ROOT} setup" in said


def test_doctor_explains_a_torch_of_another_build(monkeypatch):
    def fail(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(doctor.importlib, "import_module", fail)
    [said] = doctor.check_torch()
    assert "not built for each other" in said
    assert Path(shlex.split(said.split("pip install -c ")[1])[0]).is_file()


# Text files


def texts_without_encoding(source: str) -> list[str]:
    """Calls that read or write text in whatever encoding the system has."""
    found = []
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        given = {keyword.arg for keyword in call.keywords}
        plain = ast.unparse(call)
        mode = plain.split("open(", 1)[-1]
        binary = re.search(r"""['"][rwax+]*b[rwax+]*['"]""", mode)
        opens = name == "open" and ast.unparse(call.func) in OPENERS and not binary
        before = {"read_text": 0, "write_text": 1}.get(name)  # arguments
        texts = before is not None and len(call.args) <= before
        if (opens or texts) and "encoding" not in given:
            found.append(plain)
    return found


OPENERS = ("open", "io.open", "path.open", "Path.open")


@pytest.mark.parametrize("folder", ["lesson_utils", "tools", "tests"])
def test_text_files_have_an_encoding(folder):
    """Else a π written here is another letter, or an error, on Windows."""
    found = {
        path.name: texts
        for path in (ROOT / folder).rglob("*.py")
        if (texts := texts_without_encoding(path.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("source", "n"),
    [
        ("p.write_text('π')", 1),
        ("open(p)", 1),
        ("open(p, 'w')", 1),
        ("p.read_text()", 1),
        ("p.read_text(encoding='utf-8'); open(p, 'rb'); open(p, encoding='utf-8')", 0),
        ("p.read_text('utf-8'); p.write_text('a', 'utf-8')", 0),
        ("Image.open(p); p.write_bytes(b'a')", 0),
    ],
)
def test_the_guard_of_encodings_sees_its_mistakes(source, n):
    assert len(texts_without_encoding(source)) == n


# Measured figures


def test_the_readme_shows_the_committed_benchmark():
    result = json.loads((ROOT / "checkpoints/bench.json").read_text(encoding="utf-8"))
    shown = f"{bench.table(result)}\n\n{bench.batches_table(result)}"
    assert shown in README


@pytest.mark.parametrize("name", ["sprites", "mnist"])
def test_the_worse_network_is_smaller_and_was_trained_a_tenth_as_long(name):
    good, worse = load(name), load(f"{name}-worse")
    sizes = [sum(p.numel() for p in ck.model.parameters()) for ck in (good, worse)]
    assert sizes[1] < sizes[0] / 2
    share = worse.meta["images_seen"] / good.meta["images_seen"]
    assert share == pytest.approx(0.1, rel=0.01)
    assert worse.schedule.alpha_bar.equal(good.schedule.alpha_bar)
    assert (worse.context, worse.image_shape) == (good.context, good.image_shape)


@pytest.mark.parametrize("name", ["sprites", "mnist"])
def test_the_committed_figures_are_whole_and_of_the_shipped_files(name):
    model, (judge, record) = digest(load(name).model), load_judge(name)
    full, guided = committed(name, "table"), committed(name, "guidance")
    assert full["model"] == guided["model"] == model
    assert full["judge"] == guided["judge"] == digest(judge)
    assert committed(name, "inversion")["model"] == model
    assert record["unseen"] == 10_000
    assert name == "mnist" or record["accuracy_hue_shifted"] >= 0.99
    every = [cell for part in table_experiments(2000) for cell in part.cells()]
    wanted = {(cell.steps, cell.eta) for cell in every}
    found = {(cell["steps"], cell["eta"]) for cell in full["cells"]}
    assert found == wanted
