"""Checkpoints: what is saved comes back, and nothing damaged does."""

import json
import os
import random

import pytest
import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from lesson_utils import ContextUnet, Schedule, load, save
from lesson_utils.checkpoint import (
    CHECKPOINTS,
    checksum,
    read_tensors,
    write_tensors,
)

NAMES = ("hero", "non-hero", "food", "spell", "side-facing")


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = ContextUnet(3, 5, 16)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return model


@pytest.fixture
def path(model, tmp_path):
    path = tmp_path / "deep" / "model.safetensors"
    save(path, model, Schedule.cosine(77), NAMES, (3, 16, 20), data="drawn", steps=3)
    return path


def test_everything_comes_back(model, path):
    got = load(path)
    assert got.context == NAMES and got.image_shape == (3, 16, 20)
    assert got.meta == {"data": "drawn", "steps": 3}
    assert torch.equal(got.schedule.alpha_bar, Schedule.cosine(77).alpha_bar)
    assert not got.model.training
    x, t, c = torch.randn(2, 3, 16, 16), torch.rand(2), torch.rand(2, 5)
    half = {name: v.half().float() for name, v in model.state_dict().items()}
    assert all(torch.equal(v, half[k]) for k, v in got.model.state_dict().items())
    assert torch.allclose(got.model(x, t, c), model.eval()(x, t, c), atol=0.02)
    assert os.listdir(path.parent) == ["model.safetensors"]
    assert load(str(path), "cpu").model(x, t, c).shape == x.shape


def test_saving_again_replaces_the_file_at_one_stroke(model, path, monkeypatch):
    before = path.read_bytes()

    def no_space(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr("lesson_utils.checkpoint.save_file", no_space)
    with pytest.raises(OSError, match="No space"):
        save(path, model, Schedule.linear(), NAMES)
    assert path.read_bytes() == before and len(os.listdir(path.parent)) == 1


def test_shipped_checkpoints_are_found_by_name():
    for file in CHECKPOINTS.glob("*.safetensors"):
        checkpoint = load(file.stem)
        assert file.stat().st_size <= 6_000_000
        assert len(checkpoint.context) == checkpoint.model.context_size
        assert {"data", "images_seen", "seconds", "loss", "machine"} <= set(
            checkpoint.meta
        )


def same(a, b):
    weights, others = a.model.state_dict(), b.model.state_dict()
    return (
        a[2:] == b[2:]
        and torch.equal(a.schedule.alpha_bar, b.schedule.alpha_bar)
        and all(torch.equal(v, others[k]) for k, v in weights.items())
    )


def test_damage_is_refused_or_harmless(path):
    """A flipped bit, a cut or an added tail: refused, or equal in every bit."""
    whole, draw, good = path.read_bytes(), random.Random(0), load(path)
    header = 8 + int.from_bytes(whole[:8], "little")
    refused = 0
    for i in range(150):
        data = bytearray(whole)
        if i % 5 == 4:
            data = data[: draw.randrange(len(data))] + b"tail" * draw.randrange(2)
        else:
            place = draw.randrange(*[(0, 8), (8, header), (header, len(data))][i % 3])
            data[place] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        try:
            got = load(path)
        except ValueError as problem:
            assert "model.safetensors" in str(problem)
            refused += 1
        else:
            assert same(got, good)
    assert refused > 140


def test_a_changed_record_is_refused(path):
    tensors, record = read_tensors(path)
    write_tensors(path, tensors, record)
    load(path)
    for change in (
        {"context": [*NAMES[1:], NAMES[0]]},
        {"image_shape": [3, 8, 8]},
        {"meta": {}},
        {"sha256": "0" * 64},
        {"architecture": {}},
    ):
        write_tensors(path, tensors, record | change)
        with pytest.raises(ValueError, match="checksum"):
            load(path)


def signed(tensors, record):
    """The record with the right checksum, as a hostile file would have it."""
    record = {k: v for k, v in record.items() if k != "sha256"}
    return record | {"sha256": checksum(tensors, record)}


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": {"in_channels": 3, "context_size": 5, "width": 16 * 10**6}},
        {"architecture": {"in_channels": 3, "context_size": 5, "width": 32}},
        {"architecture": {"in_channels": 3, "context_size": 5, "width": "16"}},
        {"architecture": {"depth": 3}},
        {"architecture": None},
        {"context": ["a"]},
        {"context": 5},
        {"context": "abcde"},
        {"context": [1, 2, 3, 4, None]},
        {"meta": None},
        {"image_shape": [16, 16]},
        {"image_shape": [3, 10**9, 10**9]},
        {"image_shape": [1, 16, 16]},
        {"image_shape": [3, 15, 16]},
        {"image_shape": "abc"},
        {"image_shape": None},
    ],
)
def test_a_record_that_lies_is_refused(path, change):
    tensors, record = read_tensors(path)
    write_tensors(path, tensors, signed(tensors, record))
    load(path)
    write_tensors(path, tensors, signed(tensors, record | change))
    with pytest.raises(ValueError, match="not a checkpoint of ours"):
        load(path)


def test_a_loaded_checkpoint_does_not_hang_on_its_file(path):
    """Tensors that are mapped from the file would change, or crash, with it."""
    got, good = load(path), load(path)
    with open(path, "r+b") as file:
        file.write(bytes(path.stat().st_size))
        file.truncate(10)
    assert same(got, good) and got.schedule.alpha_bar[0] == 1


def test_files_can_be_read_by_others_as_any_new_file(path):
    plain = path.with_name("plain")
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


def test_the_average_of_training_can_be_saved(model, path):
    save(path, AveragedModel(model), Schedule.linear(), NAMES)
    assert load(path).image_shape == (3, 16, 16)


def test_a_device_that_is_not_there_is_named(path):
    for device in ("gpu", "cuda:99", "xpu:77"):
        with pytest.raises(ValueError, match=f"device: '{device}'"):
            load(path, device)


def test_missing_and_foreign_tensors_are_refused(path):
    tensors, record = read_tensors(path)
    values = tensors["stem.bias"]
    for wrong in (values.float(), values.to(torch.complex64), values * float("nan")):
        lying = tensors | {"stem.bias": wrong}
        write_tensors(path, lying, signed(lying, record))
        with pytest.raises(ValueError, match=r"stem\.bias"):
            load(path)
    few = {k: v for k, v in tensors.items() if k != "stem.weight"}
    more = tensors | {"other.weight": torch.zeros(3)}
    no_schedule = {k: v for k, v in tensors.items() if not k.startswith("schedule")}
    for wrong in (few, more, no_schedule):
        write_tensors(path, wrong, signed(wrong, record))
        with pytest.raises(ValueError, match="not a checkpoint of ours"):
            load(path)


def test_foreign_files_are_refused(tmp_path):
    files = {"empty": b"", "text": b"hello" * 99, "zip": b"PK\x03\x04" + bytes(500)}
    files["huge"] = (2**62).to_bytes(8, "little") + b"{}"
    for name, content in files.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=name):
            load(path)
    path = tmp_path / "other.safetensors"
    for metadata in (None, {"record": "[]"}, {"record": "{"}, {"record": "{}"}):
        save_file({"a": torch.zeros(3)}, path, metadata=metadata)
        with pytest.raises(ValueError, match="other"):
            load(path)


def test_a_huge_file_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "big.safetensors"
    with open(path, "wb") as file:
        file.truncate(2**30)
    with pytest.raises(ValueError, match="more than"):
        load(path)


def test_pickles_are_never_read(tmp_path):
    path = tmp_path / "model.safetensors"
    torch.save({"a": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="model"):
        load(path)


@pytest.mark.parametrize("name", ["no-such-model", "no/such/file.safetensors", ""])
def test_an_unknown_name_lists_the_known(name):
    with pytest.raises(ValueError, match="name_or_path"):
        load(name)


def test_nonsense_is_not_saved(model, tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(ValueError, match="context"):
        save(path, model, Schedule.linear(), NAMES[:4])
    with pytest.raises(ValueError, match="meta"):
        save(path, model, Schedule.linear(), NAMES, thing=object())
    with pytest.raises(ValueError, match="meta"):
        save(path, model, Schedule.linear(), NAMES, loss=float("nan"))
    with pytest.raises(ValueError, match="image_shape"):
        save(path, model, Schedule.linear(), NAMES, (1, 7))
    with pytest.raises(ValueError, match="path"):
        save(tmp_path / "x.pt", model, Schedule.linear(), NAMES)
    with torch.no_grad():
        model.stem.bias[0] = float("inf")
    with pytest.raises(ValueError, match=r"stem\.bias"):
        save(path, model, Schedule.linear(), NAMES)
    assert not path.exists()


def test_the_record_is_plain_json(path):
    _, record = read_tensors(path)
    assert json.loads(json.dumps(record)) == record
