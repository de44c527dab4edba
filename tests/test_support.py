"""support: arguments above a function, files that appear whole, devices."""

import dataclasses
import errno
import inspect
import json
import os
import re
import shutil
from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated

import numpy as np
import pytest
import torch
from small import small_data, small_model

from lesson_utils import Settings, load
from lesson_utils.support import checked as kinds
from lesson_utils.support import files, flags, rules
from lesson_utils.support.checked import (
    Call,
    checked,
    choice,
    each,
    real,
    tensor,
    whole,
)
from lesson_utils.support.device import best_device, cpu_name, machine, usable
from lesson_utils.support.files import label, located

X = torch.zeros(2, 1, 8, 8)


def value_of(rule, value, **others):
    """What a rule gives for the argument x of a call with these others."""
    return rule("x", value, Call(others))


# checked


@checked(most=whole(1), n=whole(0, "most"), share=real("[0, 1]"))
def counted(n, most=9, *, share: float = 0.5):
    """How many of how many."""
    return n, most, share


def test_checked_binds_and_converts():
    assert counted(3) == (3, 9, 0.5)
    got = counted(np.int64(3), share=torch.tensor(0.25), most=4.0)
    assert got == (3, 4, 0.25) and list(map(type, got)) == [int, int, float]
    with pytest.raises(ValueError, match=r"^n: a whole number in 0\.\.9 is needed, g"):
        counted(10)
    with pytest.raises(ValueError, match=r"^most: a whole number of 1 or more is"):
        counted(10, 0)  # its rule comes first
    for wrong in ({}, {"n": 1, "m": 2}):
        with pytest.raises(TypeError):
            counted(**wrong)


def test_checked_keeps_what_a_function_says_of_itself():
    assert counted.__name__ == "counted" and counted.__doc__ == "How many of how many."
    assert str(inspect.signature(counted)) == "(n, most=9, *, share: float = 0.5)"
    assert "return n, most, share" in inspect.getsource(counted)
    assert list(counted.rules) == ["most", "n", "share"]
    assert list(inspect.signature(Settings).parameters) == list(Settings.__init__.rules)
    assert Settings.__doc__.startswith("How to train.")


def test_a_generator_function_refuses_at_the_call_and_begins_later():
    begun = []

    @checked(n=whole(1))
    def counting(n):
        begun.append(n)
        yield from range(n)

    with pytest.raises(ValueError, match="n: "):
        counting(0)
    numbers = counting(2.0)
    assert not begun and list(numbers) == [0, 1] and begun == [2]


def test_a_rule_for_no_argument_fails_at_the_definition():
    with pytest.raises(TypeError, match="named has no argument {'m'}"):

        @checked(m=whole())
        def named(n):
            """Its rule has another name."""

    with pytest.raises(TypeError, match=r"Box\.__init__ has no argument {'m'}"):

        @checked(m=whole())
        class Box:
            def __init__(self, n):
                self.n = n


def test_a_class_checks_what_makes_one():
    @checked(n=whole(1))
    class Box:
        """Holds n."""

        def __init__(self, n, words=""):
            self.n, self.words = n, words

    class Labelled(Box):
        def __init__(self, n):
            super().__init__(n, "of its own")

    assert Box(2.0).n == 2 and Labelled(np.int8(3)).n == 3
    assert Box.__doc__ == "Holds n." and isinstance(Labelled(1), Box)
    for kind in (Box, Labelled):
        with pytest.raises(ValueError, match="n: a whole number of 1 or more"):
            kind(0)


def test_a_dataclass_carries_its_rules_in_its_annotations():
    @checked()
    @dataclasses.dataclass(frozen=True)
    class Plan:
        steps: Annotated[int, whole(1), "how many"] = 20
        part: Annotated[int, whole(0, "steps"), "of these"] = 3

    plan = Plan(30.0)
    assert plan == Plan(30) and type(plan.steps) is int
    assert dataclasses.replace(plan, part=np.int64(30)) == Plan(30, 30)
    with pytest.raises(ValueError, match=r"part: a whole number in 0\.\.2 is needed"):
        dataclasses.replace(plan, steps=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.part = 1


def test_the_message_shows_the_value_and_never_a_whole_tensor():
    for value, shown in (
        ("a", "'a'"),
        (torch.tensor(3.0), "tensor(3.)"),
        (X, "Tensor of torch.float32 and shape (2, 1, 8, 8)"),
        (np.zeros((2, 2)), "ndarray of float64 and shape (2, 2)"),
        ("b" * 300, f"'{'b' * 199} …"),
    ):
        with pytest.raises(ValueError) as caught:
            kinds.refuse("x", "something else", value)
        assert str(caught.value) == f"x: something else is needed, got {shown}"
        assert caught.value.__suppress_context__


# Kinds of rules. test_arguments.py has the nonsense that each refuses, and more that
# it converts.

THREE = [3, 3.0, Fraction(3), np.int8(3), np.float32(3), np.array(3), np.array([3])]
THREE += [torch.tensor(3), torch.tensor(3.0), torch.tensor([3])]
HALF = [0.5, Fraction(1, 2), np.float16(0.5), np.float64(0.5), np.array([0.5])]
HALF += [np.array(0.5), torch.tensor(0.5), torch.tensor([0.5]).double()]


@pytest.mark.parametrize(
    ("rule", "values", "plain"),
    [
        (whole(3, 3), THREE, 3),
        (kinds.multiple(3), THREE, 3),
        (choice(1, 3), THREE, 3),
        (choice("a", "b"), ["b", np.str_("b"), np.array("b")], "b"),
        (real("[0, 3]"), THREE, 3.0),
        (real("(0, 1)"), HALF, 0.5),
        (each(whole()), [[1, 3.0], (1, 3), torch.tensor([1, 3]), iter([1, 3])], (1, 3)),
        (each(whole()), THREE, (3,)),
    ],
)
def test_what_makes_sense_in_another_type_is_converted(rule, values, plain):
    for value in values:
        assert repr(value_of(rule, value)) == repr(plain), value


def test_spans_have_ends():
    for end in (0, 1):
        assert value_of(real("[0, 1]"), end) == end
        with pytest.raises(ValueError, match=r"x: a number in \(0, 1\) is needed"):
            value_of(real("(0, 1)"), end)
    assert value_of(real("[0, inf)"), 1e300) == 1e300
    for value in (float("inf"), float("nan"), 10**400):
        with pytest.raises(ValueError):
            value_of(real("[0, inf)"), value)


def test_a_truth_value_in_a_row_is_no_number_either():
    for rule in (whole(), real("[0, 1]"), choice(1, 3), kinds.multiple(1)):
        with pytest.raises(ValueError):
            value_of(rule, np.array([True]))


def test_each_of_several_has_its_rule():
    for value in ([], [1, -1], "a", [True], np.array([0.5, 1]), {"a": 1}):
        with pytest.raises(ValueError, match="x: "):
            value_of(each(whole()), value)


def test_letters_are_one_size_in_all_arguments():
    call = Call({"model": small_model(1, 2)})
    images, contexts = tensor("B model.in_channels H W"), tensor("B K")
    assert images("x", X, call) is X and call.sizes == {"B": 2, "H": 8, "W": 8}
    assert contexts("c", torch.zeros(2, 0), call).shape == (2, 0)  # only K may be 0
    with pytest.raises(ValueError, match=r"c: a float tensor of shape \(2,0\) is"):
        contexts("c", torch.zeros(3, 0), call)
    with pytest.raises(ValueError, match=r"x: a float tensor of shape \(B,1,H,W\) is"):
        images("x", X[..., :0], Call({"model": small_model(1, 2)}))
    row = tensor("N")
    with pytest.raises(ValueError, match=r"shape \(N,\) is needed, got 3"):
        value_of(row, 3)
    lesson = tensor("B model.in_channels H W")  # whatever can be called is a model
    assert value_of(lesson, X, model=lambda x, t, c: x) is X


def test_tensors_are_moved_and_cast_to_another_argument():
    meta = torch.zeros(2, 1, 8, 8, dtype=torch.double, device="meta")
    moved = value_of(tensor("B C H W", like="other"), X, other=meta)
    assert moved.device.type == "meta" and moved.dtype == torch.float32
    cast = value_of(tensor("B C H W", like="other", cast=True), X, other=meta)
    assert cast.device.type == "meta" and cast.dtype == torch.double
    assert value_of(rules.shaped_as("other"), X, other=meta).device.type == "meta"
    assert value_of(tensor("B C H W", like="other"), X, other=X) is X


def test_rules_that_take_a_thing_as_it_is():
    g = torch.Generator()
    assert value_of(kinds.instance(str, "a text"), "x") == "x"
    assert value_of(kinds.something_to_call("len"), len) is len
    assert value_of(kinds.fit(lambda n: n > 2, "more than 2"), 3) == 3
    assert value_of(kinds.optional(whole(1)), None) is None
    for several in (None, g, [g, g], (g, g)):
        assert rules.generators("generator", several, Call({"x": X})) is several


# torch.compile


FAST = {"cpp_wrapper": True, "cpp.simdlen": 0}  # to compile, not to run


@pytest.mark.parametrize(("backend", "options"), [("eager", None), ("inductor", FAST)])
def test_the_network_compiles_in_one_graph_and_gives_the_same(backend, options):
    compilers = ("g++", "c++", "clang++")
    if backend == "inductor" and not any(map(shutil.which, compilers)):
        pytest.skip("there is no C++ compiler here")
    model = small_model(lively=True).eval()
    x, t, c = X[:1, :, :4, :4] + 0.5, torch.tensor([0.3]), torch.tensor([[1.0, 0.0]])
    fast = torch.compile(model, fullgraph=True, backend=backend, options=options)
    with torch.no_grad():
        torch.testing.assert_close(fast(x, t, c), model(x, t, c), atol=1e-5, rtol=0)


def test_nothing_is_checked_while_torch_compiles(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert counted("many", most=None) == ("many", None, 0.5)


# Devices; test_devices.py has the samplers on a GPU


def test_contexts_and_images_take_the_type_of_the_network():
    model, t, c = small_model(lively=True).double(), torch.ones(2), torch.ones(2, 2)
    expected = model(X.double(), t, c)
    assert torch.equal(expected, model(X.double(), t, c.double()))
    assert torch.equal(expected, model(X, t, c)) and expected.dtype == torch.double
    with torch.autocast("cpu", torch.bfloat16):
        assert small_model()(X.bfloat16(), t, c).shape == X.shape


def test_a_device_is_usable_or_refused_by_name():
    assert usable(None) == usable("cpu") == usable(torch.device("cpu"))
    assert usable(best_device()).type == best_device()
    with pytest.raises(ValueError, match="device: one of this machine, such as"):
        usable(["cpu"])  # for more that is none see test_arguments.py
    with pytest.raises(ValueError, match="device: one of this machine.* got True"):
        usable(True)


def test_a_number_is_a_gpu_and_never_the_cpu(monkeypatch):
    """As torch has it: 0 is the first one."""
    asked, empty = [], torch.empty

    def no_gpu(*size, device):
        asked.append(device)
        if device == 0:
            raise AssertionError("Torch not compiled with CUDA enabled")
        return empty(*size, device="meta" if device == 1 else device)

    monkeypatch.setattr(torch, "empty", no_gpu)
    with pytest.raises(ValueError, match="device: one of this .*CUDA.* got 0"):
        load("sprites", 0)
    assert usable(1).type == "meta" and usable(None).type == "cpu"
    assert asked == [0, 1, "cpu"]


@pytest.mark.parametrize(
    ("cuda", "mps", "best"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_best_device_is_the_first_there_is(cuda, mps, best, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert best_device() == best


def test_a_figure_names_its_machine(monkeypatch):
    assert cpu_name() in machine("cpu") and torch.__version__ in machine("cpu")
    assert f"{torch.get_num_threads()} CPU threads" in machine("cpu")
    for wrong in ("nonsense", None, True, 99, "cuda:99"):
        with pytest.raises(ValueError, match=f"^device: .* got {wrong!r}$"):
            machine(wrong)
    monkeypatch.setattr("lesson_utils.support.device.usable", torch.device)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    assert machine("cuda").startswith("Some GPU, Python 3.")
    for device in ("mps", "xpu", torch.device("mps", 0)):
        assert machine(device).startswith(("the GPU of ", "xpu of "))
        assert "CPU threads" not in machine(device)


# Files


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with files.replacing(path) as part:
        part.write_text("first", encoding="utf-8")
        assert not path.exists() and part.parent == path.parent
    with pytest.raises(ZeroDivisionError), files.replacing(path) as part:
        part.write_text(f"second, half {1 / 0}", encoding="utf-8")
    full = pytest.raises(OSError, match=r"a\.txt: cannot be written \(No space")
    with full, files.replacing(path) as part:
        part.write_text("third, half", encoding="utf-8")
        raise OSError("No space left on device")
    assert path.read_text(encoding="utf-8") == "first" and os.listdir(path.parent) == [
        "a.txt"
    ]
    files.write_json(path, {"π": 3})
    assert json.loads(path.read_text(encoding="utf-8")) == {"π": 3}
    assert "π" in path.read_text(encoding="utf-8")


def test_tensors_come_back_with_their_record(tmp_path):
    path, record = tmp_path / "t.safetensors", {"steps": 3, "names": ["a"]}
    tensors = {"x": torch.eye(3).T[:, :2], "n": torch.tensor(7, requires_grad=False)}
    files.write_tensors(path, tensors, record)
    got, known = files.read_tensors(path)
    assert known == record and list(record) == ["steps", "names"]
    assert all(torch.equal(got[name], tensors[name]) for name in tensors)


def test_a_fingerprint_is_of_shapes_types_values_and_order():
    x, c, _ = small_data(4)
    known = files.fingerprint(x, c)
    assert known == files.fingerprint(x.clone(), c.T.contiguous().T)
    changed = x.clone()
    changed[3, 0, 7, 7] += 1e-6
    for others in ((changed, c), (c, x), (x,), (x.double(), c), (x.flatten(1), c)):
        assert files.fingerprint(*others) != known


def test_paths_are_located_and_labelled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    assert located("a/../b") == located(tmp_path / "b") == located("~/b")
    mine = label("some where/My Pets/")
    assert (
        mine
        == label(tmp_path / "some where/x/../My Pets")
        == label("~/some where/My Pets")
    )
    assert re.fullmatch("My Pets-[0-9a-f]{6}", mine)
    assert label("else where/My Pets") != mine and len(label("a" * 300)) == 47
    assert label("caf\udce9/a") != label("caf\udce8/a")  # no UTF-8 on Linux
    for name in files.BUILT_IN:
        assert label(name) == name
        assert label(f"own/{name}") != label(tmp_path / name) != name
    for wrong in (3, None, "", "a\0b", ["a"]):
        with pytest.raises(ValueError, match="name_or_path: a name or a path is need"):
            label(wrong)


def test_a_link_is_the_folder_that_it_leads_to(tmp_path):
    (tmp_path / "pets").mkdir()
    (tmp_path / "there").symlink_to(tmp_path)
    assert label(tmp_path / "there/pets") == label(tmp_path / "pets")


def test_what_belongs_to_a_file_is_called_after_it(tmp_path):
    assert files.label_of(tmp_path / "a.b.safetensors", tmp_path) == "a.b"
    other = files.label_of(tmp_path / "a.b.safetensors", tmp_path / "home")
    assert other == label(tmp_path / "a.b") and other.startswith("a.b-")


@pytest.mark.parametrize(("system", "text"), [("linux", "'{}'"), ("win32", '"{}"')])
def test_paths_can_be_pasted_from_any_folder(tmp_path, monkeypatch, system, text):
    monkeypatch.chdir(tmp_path)
    path, mine = str(tmp_path / "my pets"), tmp_path / "sprites"
    monkeypatch.setattr(files.sys, "platform", system)
    assert files.quoted("my pets") == files.quoted(path) == text.format(path)
    assert files.quoted("sprites") == "sprites" and files.quoted(mine) == str(mine)


def test_the_checksums_are_those_of_sha256sum(tmp_path):
    (tmp_path / "judges").mkdir()
    for name in ("sprites", "judges/mnist", "mine"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"abc")
    files.write_checksums(tmp_path)
    sums = (tmp_path / "SHA256SUMS").read_text(encoding="utf-8")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sums == f"{abc}  sprites.safetensors\n{abc}  judges/mnist.safetensors\n"


def test_a_lock_is_for_one_and_leaves_nothing(tmp_path):
    path = tmp_path / "deep" / "a.safetensors"
    for _ in range(2):
        with files.locked(path):
            with pytest.raises(ValueError, match=f"{path}: another training is"):
                files.locked(path).__enter__()
            with files.locked(path.with_name("b.safetensors")):
                assert not path.exists()
    assert list(path.parent.iterdir()) == []


def test_where_no_locks_are_known_one_does_without(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.FileLock, "acquire", fail)
    number = errno.ENOLCK
    with files.locked(tmp_path / "a"):
        pass
    number = errno.EACCES
    with pytest.raises(OSError, match="a: cannot be written"):
        files.locked(tmp_path / "a").__enter__()


# Flags and words


def test_flags_come_from_the_types_of_the_fields():
    text = kinds.optional(kinds.instance(str, "a text"))
    row_of_texts = kinds.optional(each(text))

    @checked()
    @dataclasses.dataclass(frozen=True)
    class Plan:
        steps: Annotated[tuple, each(whole(1)), "how many"] = (10, 20)
        names: Annotated[tuple[str, ...] | None, row_of_texts, "of classes"] = None
        colour: Annotated[str | None, text, "behind"] = None
        size: Annotated[int | None, kinds.optional(whole(4)), "of images"] = None
        grey: Annotated[bool | None, kinds.optional(kinds.flag), "one channel"] = None
        eta: Annotated[float | str, each(real("[0, 1]")), "or a name"] = 0.0
        prompts: Annotated[Sequence[str] | None, row_of_texts, "with commas"] = None

    options = flags.OneLineParser(prog="plan")
    flags.add_settings(options, Plan)
    assert flags.made(Plan, options.parse_args([])) == Plan()
    given = "--steps 5,6 --names 1,cat,007 --colour 000000 --size 8 --grey".split()
    made = flags.made(Plan, options.parse_args(given))
    assert made == Plan((5, 6), ("1", "cat", "007"), "000000", 8, True)
    made = flags.made(Plan, options.parse_args(["--prompts", "a, b", "7", "--eta=1"]))
    assert made.prompts == ("a, b", "7") and made.eta == (1.0,)
    base = flags.made(Plan, options.parse_args(["--size=12"]), size=4, colour="red")
    assert (base.size, base.colour) == (12, "red")
    with pytest.raises(ValueError, match="^--size: a whole number of 4 or more"):
        flags.made(Plan, options.parse_args(["--size=2"]))
    assert "how many; default 10,20" in " ".join(options.format_help().split())
