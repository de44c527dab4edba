"""Checkpoints: what is saved comes back, and nothing damaged does."""

import io
import json
import os
import pickle
import random
import shlex
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from small import SCHEDULE, small_model, small_run
from torch.optim.swa_utils import AveragedModel

from lesson_utils import Schedule, load, save
from lesson_utils.support import files
from lesson_utils.support.state import read_state

NAMES = ("hero", "non-hero", "food", "spell", "side-facing")


@pytest.fixture
def model():
    return small_model(3, 5, lively=True)


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
    plain = path.with_name("plain")
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode  # others may read it


def test_the_average_of_training_is_saved_to_a_path_at_home(
    model, tmp_path, monkeypatch
):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    save("~/x.safetensors", AveragedModel(model), SCHEDULE, NAMES)
    assert (tmp_path / "x.safetensors").is_file()
    assert load("~/x.safetensors").image_shape == (3, 16, 16)


@pytest.mark.parametrize("name", ["n" * 300, "n" * 300 + ".safetensors", "a/b", "."])
def test_what_is_no_checkpoint_is_said_with_those_that_are(name):
    with pytest.raises(ValueError, match="^name_or_path: no checkpoint .*sprites"):
        load(name)


@pytest.mark.parametrize(
    "given", ["checkpoints/sprites", "checkpoints/sprites.safetensors"]
)
def test_a_shipped_one_is_found_by_its_path_from_any_folder(
    tmp_path, monkeypatch, given
):
    monkeypatch.chdir(tmp_path)
    assert load(given).meta == load(Path(given)).meta == load("sprites").meta


def test_a_path_may_lack_its_ending_and_two_answers_are_none(
    path, tmp_path, monkeypatch
):
    monkeypatch.setattr("lesson_utils.checkpoint.CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.chdir(path.parent)
    for given in ("model", path.with_suffix(""), "model.safetensors", "../deep/model"):
        assert contents(load(given)) == contents(load(path))
    other = tmp_path / "checkpoints/model.safetensors"
    save(other, small_model(), SCHEDULE, ("a", "b"), (1, 8, 8))
    with pytest.raises(ValueError, match="'model' may be one of ") as said:
        load("model")
    assert f"{other}, {path}" in str(said.value)
    assert load(other).context == ("a", "b")
    assert load("model.safetensors").context == NAMES  # a file that is named


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("spirtes", "sprites"),
        ("Sprites", "sprites"),
        ("a/sprite.safetensors", "sprites"),
    ],
)
def test_a_name_that_is_nearly_right_is_said(given, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=f"{given}' .did you mean '{meant}'.*there are"
    ):
        load(given)


def test_what_to_run_for_a_folder_can_be_pasted_anywhere(tmp_path, monkeypatch):
    (tmp_path / "it's mine").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no checkpoint .*; train one: python") as said:
        load("it's mine")
    assert shlex.split(str(said.value).split("--dataset ")[1]) == [
        str(tmp_path / "it's mine")
    ]


def test_what_load_would_refuse_is_not_saved(model, tmp_path):
    class Rising:
        T, alpha_bar = 2, torch.tensor([1.0, 0.5, 0.6])

    with pytest.raises(ValueError, match="^alpha_bar: numbers .* falling"):
        save(tmp_path / "x.safetensors", model, Rising(), NAMES)
    for value in (float("inf"), float("nan"), 70_000.0):
        with torch.no_grad():
            model.stem.bias[0] = value
        with pytest.raises(ValueError, match=r"model: stem\.bias is not finite"):
            save(tmp_path / "x.safetensors", model, SCHEDULE, NAMES)
    assert not list(tmp_path.iterdir())


def test_shipped_checkpoints_are_found_by_name():
    for file in files.CHECKPOINTS.glob("*.safetensors"):
        checkpoint = load(file.stem)
        assert file.stat().st_size <= 6_000_000
        assert len(checkpoint.context) == checkpoint.model.context_size
        record = {"data", "images_seen", "seconds", "machine"}
        assert record <= set(checkpoint.meta)
        of_long_training = "recipe" in checkpoint.meta
        assert ("held_out" if of_long_training else "loss") in checkpoint.meta


def contents(checkpoint):
    """Everything in it, to compare bit for bit."""
    tensors = checkpoint.model.state_dict() | {"": checkpoint.schedule.alpha_bar}
    return checkpoint[2:], list(tensors), files.fingerprint(*tensors.values())


def mutations(good: bytes, draw: random.Random, n: int):
    """n damaged files: (kind, bytes), each kind in turn."""
    header = 8 + int.from_bytes(good[:8], "little")
    record = good.index(b"__metadata__")
    places = {
        "length": (0, 8),
        "header": (8, header),
        "record": (record, record + 2000),
        "weights": (header, len(good)),
    }
    kinds = [*places, "truncated", "tail", "hole", "bytes swapped"]
    for i in range(n):
        kind, data = kinds[i % len(kinds)], bytearray(good)
        if kind in places:
            place = draw.randrange(*places[kind])
            data[place] ^= 1 << draw.randrange(8)
        elif kind == "truncated":
            data = data[: draw.randrange(len(data))]
        elif kind == "tail":
            data += draw.randbytes(draw.randrange(1, 99))
        elif kind == "hole":
            start = draw.randrange(len(data))
            data[start : start + 4096] = bytes(len(data[start : start + 4096]))
        else:
            p, q = draw.sample(range(8, len(data)), 2)
            data[p], data[q] = data[q], data[p]
        yield kind, bytes(data)


@pytest.mark.parametrize(("which", "n"), [("small", 400), ("sprites", 80)])
def test_damage_is_refused_or_harmless(path, which, n):
    """Flipped bits, cuts, tails, holes: refused by name, or equal in every bit."""
    if which == "sprites":
        path.write_bytes((files.CHECKPOINTS / "sprites.safetensors").read_bytes())
    whole, good, refused = path.read_bytes(), contents(load(path)), 0
    for kind, data in mutations(whole, random.Random(0), n):
        path.write_bytes(data)
        try:
            got = load(path)
        except ValueError as problem:
            assert str(path) in str(problem), kind
            refused += 1
        else:
            # The old one comes back whole, or else the damage was not seen.
            assert contents(got) == good, kind
    assert refused > 0.9 * n
    path.write_bytes(whole)
    assert contents(load(path)) == good


def test_names_that_prompts_cannot_tell_apart_are_not_saved(tmp_path):
    for names in (("Cat", "cat"), ("t-shirt", "t shirt"), ("0.5", "a")):
        with pytest.raises(ValueError, match="^context: a class name that"):
            save(tmp_path / "x.safetensors", small_model(), SCHEDULE, names)
    assert not list(tmp_path.iterdir())


def test_a_changed_record_is_refused(path):
    """Class names, say, exchanged by somebody who did not think of the checksum."""
    tensors, record = files.read_tensors(path)

    def put(**change):
        """No other files.checksum is made for the change."""
        changed = json.dumps(
            record | {"sha256": files.checksum(tensors, record)} | change
        )
        save_file(tensors, path, metadata={"record": changed})

    put()
    load(path)
    for change in (
        {"context": [*NAMES[1:], NAMES[0]]},
        {"image_shape": [3, 8, 8]},
        {"meta": {}},
        {"sha256": "0" * 64},
        {"sha256": None},
        {"architecture": {}},
    ):
        put(**change)
        with pytest.raises(ValueError, match=r"model\.safetensors: damaged.*checksum"):
            load(path)


def test_a_loaded_checkpoint_does_not_hang_on_its_file(path):
    """Tensors that are mapped from the file would change, or crash, with it."""
    got = load(path)
    good = contents(got)
    with open(path, "r+b") as file:
        file.write(bytes(path.stat().st_size))
        file.truncate(10)
    assert contents(got) == good and got.schedule.alpha_bar[0] == 1


@contextmanager
def peak_below(megabytes):
    """The memory of this process stays within so much of what it is now."""
    try:
        Path("/proc/self/clear_refs").write_text(
            "5", encoding="utf-8"
        )  # the peak starts afresh
    except OSError:
        yield
        return
    before = memory("VmRSS")
    yield
    assert memory("VmHWM") - before < 1000 * megabytes


def memory(kind) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(x for x in lines if x.startswith(kind)).split()[1])


def test_the_measure_of_memory_measures():
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the peak of memory cannot be read here")
    with pytest.raises(AssertionError), peak_below(300):
        torch.ones(100_000_000)


def rewrite(path, tensors=None, record=None):
    """A checkpoint with changed tensors (None: taken away) and entries of its record.

    Its files.checksum is right, as a hostile file would have it.
    """
    old, known = files.read_tensors(path)
    changed = {k: v for k, v in (old | (tensors or {})).items() if v is not None}
    files.write_tensors(path, changed, known | (record or {}))


SIZES = {"in_channels": 3, "context_size": 5, "width": 16}
LYING_RECORDS = [
    {"architecture": SIZES | {"width": 16 * 10**6}},
    {"architecture": SIZES | {"width": 2**20 - 16}},
    {"architecture": SIZES | {"width": 32}},
    {"architecture": SIZES | {"width": "16"}},
    {"architecture": SIZES | {"width": float("inf")}},
    {"architecture": SIZES | {"context_size": 2**20}},
    {"architecture": SIZES | {"in_channels": True}},
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
    {"image_shape": [3, 16.0, 16]},
    {"image_shape": "abc"},
    {"image_shape": None},
]
BIASES = [
    torch.zeros(16),
    torch.zeros(16, dtype=torch.complex64),
    torch.zeros(16, dtype=torch.int8),
    torch.zeros(16, dtype=torch.bfloat16),
    torch.full((16,), float("nan")).half(),
    torch.zeros(4, 4).half(),
    torch.zeros(17).half(),
    torch.zeros(()).half(),
    torch.zeros(0, 2**40).half(),
]
LYING_TENSORS = [{"stem.bias": lie} for lie in BIASES] + [
    {"other.weight": torch.zeros(3).half()},
    {"stem.weight": None},
    {"schedule.alpha_bar": None},
    {"schedule.alpha_bar": torch.tensor([1.0, 0.5, 0.6])},
    {"schedule.alpha_bar": torch.ones(2, 2)},
    {"schedule.alpha_bar": torch.ones(3, dtype=torch.complex64)},
    {"schedule.alpha_bar": torch.ones(0)},
]


@pytest.mark.parametrize(
    ("tensors", "record"),
    [(None, lie) for lie in LYING_RECORDS] + [(lie, None) for lie in LYING_TENSORS],
)
def test_a_file_that_lies_is_refused(path, tensors, record):
    rewrite(path, record={"architecture": SIZES | {"width": 16.0}})
    assert load(path).model.width == 16
    rewrite(path, tensors, record)
    why = r"model\.safetensors: not a checkpoint of ours"
    with peak_below(300), pytest.raises(ValueError, match=why):
        load(path)


@pytest.mark.parametrize(
    "claim",
    [
        {"shape": [2**40]},
        {"shape": [2**63, 2**63]},
        {"shape": [-1]},
        {"data_offsets": [0, 2**50]},
        {"data_offsets": [2**62, 2**62 + 32]},
        {"shape": [2**40], "data_offsets": [0, 2**41]},
        {"dtype": "F64"},
        {"dtype": "F4"},
        {"dtype": "F8_E4M3"},
        {"dtype": "PICKLE"},
        {"dtype": None},
    ],
)
def test_sizes_that_the_file_does_not_have_are_refused(path, claim):
    data = path.read_bytes()
    body = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:body])
    header["stem.bias"] |= claim
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[body:])
    with peak_below(300), pytest.raises(ValueError, match=r"model\.safetensors"):
        load(path)


NO_RECORDS = ["[" * 100_000, "1e999", '{"a":', "", "\x00", "NaN", "[]", "{", "{}", None]


@pytest.mark.parametrize("text", NO_RECORDS)
def test_a_record_that_is_no_json_object_is_refused(path, text):
    tensors, _ = files.read_tensors(path)
    save_file(tensors, path, metadata=None if text is None else {"record": text})
    with peak_below(300), pytest.raises(ValueError, match=r"model\.safetensors"):
        load(path)


class Leaves:
    """Unpickled, it leaves a mark: it makes a file."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return open, (self.mark, "w")


def foreign(mark) -> dict[str, bytes]:
    image, archive, saved, old = (io.BytesIO() for _ in range(4))
    Image.new("RGB", (16, 16)).save(image, "PNG")
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "hello")
    torch.save({"a": torch.zeros(3), "b": Leaves(mark)}, saved)
    torch.save(Leaves(mark), old, _use_new_zipfile_serialization=False)
    return {
        "empty": b"",
        "text": b"hello" * 99,
        "png": image.getvalue(),
        "zip": archive.getvalue(),
        "torch": saved.getvalue(),
        "old-torch": old.getvalue(),
        "pickle": pickle.dumps(Leaves(mark)),
        "huge": (2**62).to_bytes(8, "little") + b"{}",
        "no-header": (2).to_bytes(8, "little") + b"{}",
    }


def test_foreign_files_are_refused_and_nothing_in_them_is_run(tmp_path):
    mark = tmp_path / "mark"
    for name, content in foreign(mark).items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        for read in (load, read_state):
            with pytest.raises(ValueError, match=rf"{name}\.safetensors"):
                read(path)
    assert not mark.exists()
    pickle.loads(foreign(mark)["pickle"]).close()  # it would have left one
    assert mark.exists()


def test_the_state_of_a_training_is_called_one(tmp_path):
    state = tmp_path / "state.safetensors"
    updates = small_run(steps=9, files={"state": state, "save_seconds": 0})
    next(updates), next(updates)
    with pytest.raises(ValueError, match="the state of a training, which only sample"):
        load(state)
    updates.close()


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "big.safetensors"
    with open(path, "wb") as file:
        file.truncate(2**30)
    with pytest.raises(ValueError, match="more than"):
        load(path)
