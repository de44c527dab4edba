"""What `import lesson_utils` gives, and what it does not load."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import lesson_utils

# Slow to import, or not there for all who only sample.
HEAVY = {"torchvision", "torchmetrics", "matplotlib", "ipywidgets", "IPython"}
HEAVY |= {"accelerate", "diffusers", "scipy", "pandas", "jupyterlab"}
# Public names: 54 of lessons 1 to 9, and heun, dpmpp_2m and within, which lesson 10
# builds, and the 6 of distillation, four of which lesson 11 builds; only what is public
# is held to be the same code in a lesson.
MOST = 63


def test_public_names_are_one_literal_list():
    tree = ast.parse(Path(lesson_utils.__file__).read_text(encoding="utf-8"))
    [written] = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    ]
    names = ast.literal_eval(written)
    assert names == lesson_utils.__all__ and len(names) == len(set(names)) <= MOST
    missing = [name for name in names if not hasattr(lesson_utils, name)]
    assert missing == [] and not hasattr(lesson_utils, "playgrounds")


def test_importing_loads_nothing_heavy():
    say = "import sys, json, lesson_utils; print(json.dumps(list(sys.modules)))"
    root = Path(lesson_utils.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", say],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    )
    loaded = set(json.loads(done.stdout))
    assert {"torch", "lesson_utils.training"} <= loaded and not HEAVY & loaded
