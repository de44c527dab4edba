"""What several test modules need."""

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial

import pytest
import torch

from lesson_utils import cli, runs
from lesson_utils.data import DATA
from lesson_utils.quality import card
from lesson_utils.quality import judge as judging
from lesson_utils.support.files import located

DIGITS = located(os.environ.get("LESSONS_DATA") or DATA) / "MNIST/raw"

needs_digits = pytest.mark.skipif(
    not (DIGITS / "t10k-labels-idx1-ubyte").is_file(),
    reason=f"MNIST is not in {DIGITS}: connect and run a lesson with dataset = 'mnist' "
    "once, or set LESSONS_DATA to the folder that holds MNIST/raw",
)


@pytest.fixture
def bare_project(tmp_path, monkeypatch):
    """The checkpoints/ of a project without any, where judges learn for a moment."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "checkpoints"
    for module in ("cli", "runs", "checkpoint", "quality.card", "quality.report"):
        monkeypatch.setattr(f"lesson_utils.{module}.CHECKPOINTS", folder)
    monkeypatch.setattr(judging, "JUDGES", folder / "judges")
    monkeypatch.setattr(cli, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(runs, "STATES", tmp_path / "states")
    monkeypatch.setattr(cli, "judge_for", partial(judging.judge_for, steps=3))
    monkeypatch.setattr(card, "quick_judge", partial(judging.quick_judge, steps=3))
    return folder


@pytest.fixture(scope="module")  # as long as it is open, an event loop runs
def browser():
    """Headless Chromium by Playwright; skips without one, or fails if BROWSER=must."""
    names = "chromium", "chromium-browser", "google-chrome"
    found = filter(None, [os.environ.get("CHROMIUM"), *map(shutil.which, names)])
    if not (path := next(found, None)):
        lacking = pytest.fail if os.environ.get("BROWSER") == "must" else pytest.skip
        lacking(
            "there is no Chromium: install one (Debian, Ubuntu: apt install chromium), "
            "or say where it is: CHROMIUM=/path/to/chromium"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox"],  # root has no other choice
        )
        yield browser
        browser.close()


@pytest.fixture
def compiled(monkeypatch):
    """What is compiled; without C++, as a compiler would take a minute."""
    usual, seen = torch.compile, []

    def quick(what):
        seen.append(what)
        return usual(what, backend="eager")

    monkeypatch.setattr(torch, "compile", quick)
    return seen


def outer_environment() -> dict[str, str]:
    """What a user has set, without what a make that runs this test has."""
    of_make = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
    given = {"VENV", "PYTHON", "PYTHONPATH", "ARGS", "DATASET", "LAB_ARGS"}
    inner = of_make | given
    return {name: value for name, value in os.environ.items() if name not in inner}


def listens(address: str, port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(2)
        return client.connect_ex((address, port)) == 0


@contextmanager
def started_lab(project, home, more=""):
    """`make lab` as a user of project starts it, at home elsewhere: its port and token.

    What it says is in home/lab.log.
    """
    if not importlib.util.find_spec("jupyterlab"):
        pytest.skip("there is no jupyterlab here")
    if not shutil.which("make"):
        pytest.skip("there is no make here")
    own = {"JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "HOME"}
    env = outer_environment() | {name: str(home / name) for name in own}
    env.pop("JUPYTER_TOKEN", None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"LAB_ARGS=--no-browser --port={port} --ServerApp.port_retries=0 {more}"
    log, until = home / "lab.log", time.monotonic() + 60
    with open(log, "w", encoding="utf-8") as said:
        process = subprocess.Popen(
            ["make", "lab", f"VENV={sys.prefix}", options],
            cwd=project,
            env=env,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        named = rf"http://127\.0\.0\.1:{port}/\S*token=(\w+)"
        while not (
            found := re.search(named, log.read_text(encoding="utf-8"))
        ) or not listens("127.0.0.1", port):
            assert time.monotonic() < until and process.poll() is None, log.read_text(
                encoding="utf-8"
            )
            time.sleep(0.05)
        yield port, found[1]
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
