"""The judge and what it counts: round trips, refusals, and oracles for the figures."""

import math

import pytest
import torch

from lesson_utils import ContextUnet, Schedule, save
from lesson_utils.checkpoint import read_tensors, write_tensors
from lesson_utils.data import sprites
from lesson_utils.metrics import (
    JUDGES,
    Judge,
    judge_for,
    label_accuracy,
    load_judge,
    nearest,
    save_judge,
)
from tools.judges import any_hue, hue_shift

NAMES = ("hero", "food", "spell")


@pytest.fixture
def judge():
    torch.manual_seed(0)
    return Judge(3, NAMES, width=8).eval()


@pytest.fixture
def path(judge, tmp_path):
    path = tmp_path / "judge.safetensors"
    save_judge(path, judge, accuracy=0.5, data="drawn")
    return path


def pictures(n=6, channels=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, channels, 8, 8, generator=g)


# Round trip and refusals


def test_a_judge_comes_back(judge, path):
    got, record = load_judge(path)
    assert record == {"accuracy": 0.5, "data": "drawn"}
    assert got.names == NAMES and got.in_channels == 3 and not got.training
    half = {name: v.half().float() for name, v in judge.state_dict().items()}
    assert all(torch.equal(v, half[k]) for k, v in got.state_dict().items())
    assert torch.allclose(got(pictures()), judge(pictures()), atol=0.02)


def test_weights_beyond_half_precision_are_not_saved(judge, tmp_path):
    with torch.no_grad():
        judge.head.bias[0] = 70_000
    with pytest.raises(ValueError, match=r"head\.bias is not finite"):
        save_judge(tmp_path / "x.safetensors", judge)
    assert not list(tmp_path.iterdir())


def test_there_is_no_such_judge(tmp_path):
    for name in ("no-such", tmp_path / "none.safetensors"):
        with pytest.raises(ValueError, match="no such judge; make train-judges"):
            load_judge(name)


def test_damage_is_refused(path):
    good = path.read_bytes()
    for place in (3, 30, len(good) // 2, len(good) - 1):
        bad = bytearray(good)
        bad[place] ^= 1
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"judge\.safetensors: "):
            load_judge(path)
    path.write_bytes(good[:-9])
    with pytest.raises(ValueError, match="not a readable"):
        load_judge(path)


@pytest.mark.parametrize(
    "change",
    [
        {"names": ["hero"]},
        {"names": None},
        {"judge": {"in_channels": 1, "width": 8}},
        {"judge": {"in_channels": 3, "width": 10**9}},
        {"judge": {"depth": 3}},
    ],
)
def test_a_record_that_lies_is_refused(path, change):
    tensors, record = read_tensors(path)
    write_tensors(path, tensors, record | change)
    with pytest.raises(ValueError, match="not a judge of ours"):
        load_judge(path)


@pytest.mark.parametrize("lie", [torch.zeros(3), torch.full((3,), math.nan).half()])
def test_weights_that_lie_are_refused(path, lie):
    tensors, record = read_tensors(path)
    write_tensors(path, tensors | {"head.bias": lie}, record)
    with pytest.raises(ValueError, match=r"judge of ours \(head\.bias is not finite"):
        load_judge(path)


def test_a_checkpoint_is_no_judge(path):
    save(path, ContextUnet(3, 3, 16), Schedule.linear(), NAMES)
    with pytest.raises(ValueError, match="not a judge of ours"):
        load_judge(path)


# Classes and accuracy


def test_classes_are_those_of_the_picture_as_shown(judge):
    x = 3 * pictures(7)
    expected = judge(x.clamp(-1, 1)).argmax(1)
    for batch_size in (1, 3, 500):
        assert torch.equal(judge.classes(x, batch_size), expected)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("x", [pictures(2, 1), pictures()[0], pictures().byte(), [1]])
def test_pictures_of_another_kind_are_refused(judge, x):
    with pytest.raises(ValueError, match=r"x: .*\(N,3,H,W\)"):
        judge.classes(x)


def test_nan_is_refused(judge):
    x = pictures()
    x[3, 1, 2, 2] = math.nan
    with pytest.raises(ValueError, match="without NaN"):
        judge.classes(x)


def test_label_accuracy_counts(judge):
    x = pictures(8)
    seen = judge.classes(x)
    for right in (8, 5, 0):
        asked = torch.where(torch.arange(8) < right, seen, (seen + 1) % 3)
        assert label_accuracy(judge, x, torch.eye(3)[asked]) == right / 8
    with pytest.raises(ValueError, match=r"c: .*\(8,3\)"):
        label_accuracy(judge, x, torch.eye(4)[seen])


# Neighbours


def test_nearest_is_found_as_by_looking_at_all():
    x, known = 2 * pictures(150, seed=1), pictures(40, seed=2).clamp(-1, 1)
    index, distance = nearest(x, known)
    assert index.shape == distance.shape == (150,)
    for i, one in enumerate(x.clamp(-1, 1)):
        every = [float((one - other).square().mean().sqrt()) for other in known]
        assert index[i] == every.index(min(every))
        assert distance[i] == pytest.approx(min(every), abs=1e-5)


def test_a_copy_is_its_own_nearest():
    known = pictures(30).clamp(-1, 1)
    index, distance = nearest(known[7:12], known)
    assert index.tolist() == [7, 8, 9, 10, 11] and distance.max() < 1e-2
    with pytest.raises(ValueError, match=r"known: .*\(M,3,8,8\)"):
        nearest(known, known[..., :4])


# Hues


def test_hue_shift_leaves_greys_and_a_full_turn_leaves_all():
    grey = torch.linspace(-1, 1, 9).view(9, 1, 1, 1).expand(9, 3, 4, 4)
    assert torch.allclose(hue_shift(grey, any_hue(9)), grey, atol=1e-6)
    x = pictures().clamp(-1, 1)
    for angle in (0.0, 2 * math.pi):
        assert torch.allclose(hue_shift(x, torch.full((6,), angle)), x, atol=1e-5)
    third = hue_shift(x, torch.full((6,), 2 * math.pi / 3))  # red, green, blue go round
    assert torch.allclose(third, x.roll(1, 1), atol=1e-5)


# The judge that ships, and one that is trained where none does


@pytest.mark.skipif(
    not (JUDGES / "sprites.safetensors").is_file(), reason="no judge is shipped yet"
)
def test_the_shipped_judge_sees_what_sprites_show():
    judge, record = load_judge("sprites")
    x, c, names = sprites(2000, 10**8)
    assert judge.names == names and record["accuracy"] >= 0.99
    assert label_accuracy(judge, x, c) >= 0.99
    turned = hue_shift(x, any_hue(len(x), torch.Generator().manual_seed(0)))
    assert label_accuracy(judge, turned, c) >= 0.99


def test_where_no_judge_ships_one_is_trained(tmp_path, monkeypatch):
    known = sprites(300)
    monkeypatch.setattr("lesson_utils.metrics.dataset", lambda name: known)
    torch.manual_seed(0)
    judge = judge_for(tmp_path / "pets", steps=30)
    assert judge.names == known.names and not judge.training
    assert label_accuracy(judge, known.x, known.c) > 0.5
