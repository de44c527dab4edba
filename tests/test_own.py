"""One's own images to the end: train, sample, evaluate, card and the playground."""

import re
import shlex
from functools import partial

import numpy as np
import pytest
from PIL import Image

from lesson_utils import load
from lesson_utils.cli import main
from lesson_utils.quality import card, experiment, inversion
from lesson_utils.support.files import label
from lesson_utils.widgets import playground


@pytest.fixture
def home(bare_project, monkeypatch):
    """A project without checkpoints, where whatever takes minutes takes a moment."""
    monkeypatch.setattr(card, "OWN_STEPS", (2,))
    monkeypatch.setattr(card, "SHOWN", 3)
    short = partial(experiment.interval, times=5)
    monkeypatch.setattr(experiment, "interval", short)
    monkeypatch.setattr(inversion, "PAPER", {2: 0.014, 10: 0.0065})
    return bare_project


def drawings(n, side, channels, seed=0):
    """n different images (n,side,side,channels) uint8: a square each, on white."""
    draw = np.random.default_rng(seed)
    x = np.full((n, side, side, channels), 255, np.uint8)
    for image in x:
        top, left = draw.integers(1, side // 2, 2)
        image[top : top + side // 3, left : left + side // 3] = draw.integers(
            0, 200, channels
        )
    return x


def class_folders(folder, x, K):
    """K folders of PNGs; without classes (K = 0) PNGs alone."""
    for i, image in enumerate(x):
        place = folder / f"kind_{i % K}" if K else folder
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze()).save(place / f"{i}.png")


def arrays(folder, x, K):
    """A pair of .npy files: an image shows a class, or a class and the next one."""
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", x)
    c = np.eye(K)[np.arange(len(x)) % K]
    c[::4] += np.eye(K)[(np.arange(len(x)) + 1) % K][::4]
    np.save(folder / "labels.npy", c.astype(np.float32))


CASES = {
    "16 grey, 2 classes": (class_folders, 16, 1, 2, "--grey"),
    "28 in colour, no classes": (class_folders, 28, 3, 0, "--size 28"),
    "32 in colour, 3 classes, several at once": (arrays, 32, 3, 3, ""),
    "64 grey, 12 classes": (class_folders, 64, 1, 12, "--size 64 --grey"),
}


@pytest.mark.parametrize("case", CASES)
def test_five_commands_take_images_to_a_card_and_a_panel(home, case, capsys):
    write, side, channels, K, flags = CASES[case]
    write(home.parent / "my/pets", drawings(24, side, channels), K)
    few = "--width 16 --steps 3 --batch-size 4 --device cpu"
    assert main(f"train --dataset my/pets {flags} {few}".split()) == 0
    ck = load("my/pets")
    assert ck.image_shape == (channels, side, side) and len(ck.context) == K
    said = capsys.readouterr().out.splitlines()
    [line] = [line for line in said if "a model memorises fewer than 1,000" in line]
    look = line.partition("python -m lesson_utils ")[2].partition(" shows ")[0]

    to = "--checkpoint my/pets --device cpu"
    command = f"sample {to} --n-samples 3 --steps 2 --save-dir samples"
    assert main(command.split()) == 0
    assert len([*home.parent.glob("samples/00000?.png")]) == 3

    ask = "--steps 2 --eta 0 --n-samples 10"
    assert main(f"evaluate {to} {ask}".split()) == 0
    said = capsys.readouterr().out
    assert ("no judge can be trained. Left out: the Fréchet" in said) == (K == 0)
    assert ("Distance to the nearest training image" in said) == (K == 0)
    assert ("FCD, guidance 1:" in said) == (K > 0)

    more = "--device cpu --n-samples 10 --inversions 4"
    assert main([*shlex.split(look), *more.split()]) == 0
    own = home / f"{label('my/pets')}_card"
    text = (own / "README.md").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out and not (home / "README.md").exists()
    for image in re.findall(r"!\[.*?\]\((.*?)\)", text):
        with Image.open(own / image) as opened:
            assert opened.width > 200
    assert text.count("![") == 3 and "fewer than 1,000 images" in text
    assert f"trained on 24 images with {f'{K} classes' if K else 'no classes'}" in text
    assert ("Left out: the Fréchet distance" in text) == (K == 0)
    assert ("**Class asked for = class seen**" in text) == (K > 0)
    assert ("images that it has not seen it names" in text) == (K > 0)
    assert "| S | guidance |" in text or K == 0
    assert "| refine = 1 |" in text and "refine = 2" not in text
    judge = home / f"judges/{label('my/pets')}.safetensors"
    assert judge.is_file() == (K > 0)
    assert main(f"evaluate {to} {ask}".split()) == 0  # by the same judge, which is kept

    panel = playground("my/pets", 2, "cpu")
    panel.steps.value = 2
    panel.draw()
    assert panel.images.shape == (2, *ck.image_shape)


def test_a_card_of_another_network_of_the_same_name_is_measured_anew(home, capsys):
    """And a checkpoint elsewhere has its card beside it, and needs to know its data."""
    class_folders(home.parent / "my/pets", drawings(12, 16, 3), 2)
    few = "--width 16 --batch-size 4 --device cpu"
    command = f"train --dataset my/pets {few} --out mine.safetensors"
    write = "card --checkpoint mine.safetensors --device cpu --n-samples 10"
    tables = []
    for steps in (1, 2):
        assert main(f"{command} --steps {steps} --overwrite".split()) == 0
        assert main(f"{write} --dataset my/pets --parts table".split()) == 0
        tables.append((home.parent / "mine_card/table.json").read_text("utf-8"))
    assert tables[0] != tables[1]
    assert capsys.readouterr().out.count("of an older network of this name") == 1
    assert main(write.split()) == 2
    assert "--dataset: the data that the checkpoint" in capsys.readouterr().err
    class_folders(home.parent / "other", drawings(12, 16, 3, seed=1), 2)
    assert main(f"{write} --dataset other".split()) == 2
    assert "dataset: the data that the checkpoint" in capsys.readouterr().err


def test_of_enough_images_nothing_is_said(home, capsys, monkeypatch):
    monkeypatch.setattr("lesson_utils.data.FEW", 12)
    class_folders(home.parent / "my/pets", drawings(12, 16, 3), 2)
    train = "train --dataset my/pets --width 16 --batch-size 4 --steps 1 --device cpu"
    assert main(train.split()) == 0
    assert "memorises" not in capsys.readouterr().out
