"""python -m lesson_utils distill: its files, its flags, and what it refuses."""

import re
import typing
from dataclasses import asdict, fields
from itertools import islice

import pytest
import torch
from PIL import Image
from small import SCHEDULE, small_data, small_distillation, small_folder, small_model

from lesson_utils import DistillSettings, Settings, Student, distill, load, save, train
from lesson_utils.cli import main
from lesson_utils.loop import even_times
from lesson_utils.quality.experiment import digest
from lesson_utils.support.files import fingerprint, locked
from lesson_utils.support.state import read_state

NAMES = [field.name for field in fields(DistillSettings)]
SHORT = {"teacher_steps": 16, "updates": 3, "batch_size": 4, "warmup": 1}
OTHER = DistillSettings(1, 4, 3.0, 2, 5, 1e-4, 7, 0.9, 0.2, 0.3, True, 1)


def flags(**settings) -> list[str]:
    words = []
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, str(value)]
    return words


def distil(*words, **settings) -> int:
    """The exit status of the command, for a small and short run."""
    short = flags(**SHORT | settings)
    return main(["distill", "--device", "cpu", *short, *map(str, words)])


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project with a checkpoint called sprites, of small data."""
    for place in ("cli", "runs", "checkpoint"):
        folder = tmp_path / "checkpoints"
        monkeypatch.setattr(f"lesson_utils.{place}.CHECKPOINTS", folder)
    monkeypatch.setattr("lesson_utils.runs.STATES", tmp_path / "states")
    monkeypatch.setattr("lesson_utils.data.SOURCES", {"sprites": small_data})
    model = small_model(lively=True)
    path = tmp_path / "checkpoints/sprites.safetensors"
    save(path, model, SCHEDULE, ("a", "b"), (1, 8, 8), data="sprites, 40 images")
    return tmp_path


@pytest.fixture
def refused(capsys):
    """Runs a command that must be refused in one line; gives that line."""

    def refused(*words, **settings):
        capsys.readouterr()
        assert distil(*words, **settings) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        return line

    return refused


def weights(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def test_it_makes_a_student_that_says_what_it_is(home, capsys):
    """That of distill with the same settings; then a student of the student."""
    assert distil(steps=2) == 0
    told = capsys.readouterr()
    assert "sprites: students of 8 → 4 → 2 steps, 9 updates in all" in told.out
    assert not told.err and not list(home.glob("states/*"))
    teacher, got = load("sprites"), load("sprites-2")
    assert got.times == even_times(SCHEDULE, 16)[::8] and got.model.guidance == 2.0
    assert got.context == ("a", "b") and got.image_shape == (1, 8, 8)
    *_, update = small_distillation(teacher.model)
    assert torch.equal(weights(got.network), weights(update.ema.network.half().float()))
    meta, data = got.meta, small_data()
    assert meta["data"] == "sprites, 40 images"
    assert meta["fingerprint"] == fingerprint(data.x, data.c)
    known = {"file": "sprites.safetensors", "checksum": digest(teacher.model)}
    assert meta["teacher"] == known
    assert (meta["updates"], meta["images_seen"]) == (9, 36)
    assert list(meta["losses"]) == ["8", "4", "2"]
    assert meta["losses"]["2"] == meta["loss"]
    assert DistillSettings(**meta["settings"]) == DistillSettings(**SHORT, steps=2)

    more = {"updates": 2, "batch_size": 5, "steps": 1}
    words = ["--updates", 2, "--batch-size", 5, "--steps", 1, "--device", "cpu"]
    words = ["distill", "--checkpoint", "sprites-2", *words]
    assert main([str(word) for word in words]) == 0
    last = load("sprites-1")
    assert last.times == [500, 0] and last.model.guidance == 2.0
    *_, update = distill(got.model, SCHEDULE, data, DistillSettings(**more))
    assert torch.equal(
        weights(last.network), weights(update.ema.network.half().float())
    )
    assert last.meta["teacher"]["checksum"] == digest(got.model)
    in_force = {"guidance": 2.0, "teacher_steps": 2}
    assert last.meta["settings"] == asdict(DistillSettings(**more)) | in_force
    assert (last.meta["updates"], last.meta["images_seen"]) == (11, 46)
    assert list(last.meta["losses"]) == ["8", "4", "2", "1"]


def test_it_goes_on_where_it_was_stopped(home, capsys, monkeypatch):
    def cut(updates, *more):
        yield from islice(updates, 5)
        raise KeyboardInterrupt

    plain, state = home / "plain.safetensors", home / "states/sprites-2.safetensors"
    assert distil("--out", plain, steps=2) == 0
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr("lesson_utils.distill_runs.progress", cut)
        assert distil(steps=2) == 130
        told = capsys.readouterr().err.strip()
        assert told == f"stopped; the same command goes on from {state}"
    assert read_state(state)[1]["step"] == 5
    assert distil(steps=2) == 0
    assert f"{state}: goes on after update 5" in capsys.readouterr().out
    assert torch.equal(weights(load(plain).network), weights(load("sprites-2").network))


@pytest.mark.parametrize("place", ["--state", "--out", None])
def test_it_goes_on_with_the_settings_of_its_state(home, place, capsys, monkeypatch):
    """Those that are not given again, the number of steps too."""

    def cut(updates, *more):
        yield from islice(updates, 2)
        raise KeyboardInterrupt

    file = home / "x.safetensors"
    words = ["--checkpoint", "sprites", *([place, file] if place else [])]
    once = ["--teacher-steps", 12, "--steps", 3, "--guidance", 3, "--seed", 5]
    small = ["--updates", 2, "--batch-size", 4, "--warmup", 1, *once]
    command = ["distill", "--device", "cpu", *map(str, words)]
    with monkeypatch.context() as patch:
        patch.setattr("lesson_utils.distill_runs.progress", cut)
        assert main([*command, *map(str, small)]) == 130
    capsys.readouterr()
    if place is None:  # the name of the state has the steps in it
        command += ["--steps", "3"]
    assert main(command) == 0
    assert "goes on after update 2" in capsys.readouterr().out
    found = load(file if place == "--out" else "sprites-3")
    known = {"teacher_steps": 12, "guidance": 3.0, "seed": 5, "updates": 2}
    assert found.meta["settings"].items() >= known.items() and len(found.times) == 4


@pytest.mark.parametrize("name", NAMES)
def test_a_state_of_other_settings_is_refused(home, refused, name):
    words = ["--state", home / "s.safetensors", "--out", home / "out.safetensors"]
    files = {"state": home / "s.safetensors", "save_seconds": 0}
    list(islice(small_distillation(load("sprites").model, files=files), 2))
    line = refused(*words, **{"steps": 2, name: getattr(OTHER, name)})
    assert "of another run" in line and name in line


def test_a_state_of_training_is_refused(home, refused):
    state = home / "states/sprites-2.safetensors"
    run = train(small_model(), SCHEDULE, small_data(), Settings(steps=9), state, 0)
    list(islice(run, 2))
    run.close()
    assert "--state: that of a distillation" in refused(steps=2)


def test_each_setting_is_one_flag_with_its_help_and_arrives(home, capsys):
    with pytest.raises(SystemExit):
        main(["distill", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    hints = typing.get_type_hints(DistillSettings, include_extras=True)
    for name in NAMES:
        flag, text = flags(**{name: 1})[0], re.escape(hints[name].__metadata__[1])
        assert re.search(rf"{flag}( [A-Z_0-9]+)? {text}", told), name
    assert not [n for n in NAMES if getattr(OTHER, n) == getattr(DistillSettings(), n)]
    words = flags(**asdict(OTHER))
    assert main(["distill", "--device", "cpu", *words]) == 0
    assert DistillSettings(**load("sprites-1").meta["settings"]) == OTHER


def test_minutes_are_of_each_stage(home, monkeypatch):
    clock = iter(range(10**6))  # every look at it is a second later
    monkeypatch.setattr(
        "lesson_utils.distill_runs.time.perf_counter", lambda: next(clock)
    )
    for steps in (8, 4):  # one stage, or two
        words = flags(batch_size=4, minutes=0.1, device="cpu", steps=steps)
        assert main(["distill", *words]) == 0
        assert load(f"sprites-{steps}").meta["settings"]["updates"] == 6


def test_previews_are_in_a_student_s_own_steps_and_change_nothing(home, capsys):
    assert distil("--out", home / "plain.safetensors", steps=4) == 0
    assert distil("--preview-every", 2, steps=4) == 0
    folder = home / "states/sprites-4"
    assert f"{folder}: samples every 2 updates" in capsys.readouterr().out
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["000002.png", "000004.png", "000006.png"]
    with Image.open(folder / names[0]) as picture:
        assert picture.size[0] >= 4 * 32
    plain = load(home / "plain.safetensors")
    assert torch.equal(weights(plain.network), weights(load("sprites-4").network))


def test_own_images_are_read_as_their_checkpoint_says(home):
    pets = small_folder(home / "pets")
    words = ["--dataset", pets, "--size", 8, "--steps", 2, "--width", 16]
    words = ["train", *words, "--batch-size", 4, "--device", "cpu"]
    assert main([str(word) for word in words]) == 0
    assert distil("--checkpoint", pets, steps=4) == 0
    [made] = home.glob("checkpoints/pets-*-4.safetensors")
    got = load(made)
    assert got.image_shape == (3, 8, 8) and got.context == ("cats", "dogs")
    assert got.meta["reading"] == load(pets).meta["reading"]
    assert got.meta["data"] == "pets, 8 images"


def test_nothing_is_replaced_unless_one_says_so(home, refused):
    out = home / "checkpoints/sprites-4.safetensors"
    assert distil(steps=4) == 0
    before = out.read_bytes()
    line = refused(steps=4, seed=1)
    assert f"--out: {out} is there already" in line and "--overwrite" in line
    assert out.read_bytes() == before
    assert distil("--overwrite", steps=4, seed=1) == 0
    assert out.read_bytes() != before
    with locked(out):
        assert "another distillation is writing it" in refused("--overwrite", steps=4)
        assert "another distillation is writing it" in refused(steps=4)


def test_the_checkpoint_is_not_replaced_by_another_name_of_it(home, refused):
    link = home / "link.safetensors"
    link.symlink_to(home / "checkpoints/sprites.safetensors")
    known = ["--dataset", "sprites", "--overwrite"]
    for words in (
        ["--checkpoint", link, "--out", home / "checkpoints/sprites.safetensors"],
        ["--checkpoint", "sprites", "--out", link],
    ):
        assert "--out: a .safetensors file, not" in refused(*known, *words), words


def test_a_checkpoint_without_classes_has_no_guidance(home, refused):
    plain = home / "plain.safetensors"
    save(plain, small_model(classes=0, lively=True), SCHEDULE, (), (1, 8, 8))
    data = small_folder(home / "pets")
    known = ["--checkpoint", plain, "--dataset", data]
    line = refused(*known, steps=4, guidance=2)
    assert line.startswith("error: --guidance: 1, or none, with a checkpoint without c")


def test_what_is_wrong_is_said_in_a_line(home, refused, capsys):
    student = Student(small_model(lively=True), SCHEDULE, [500, 250, 0], 3.0)
    save(home / "s-2.safetensors", student, SCHEDULE, ("a", "b"), (1, 8, 8))
    known = ["--checkpoint", home / "s-2.safetensors", "--dataset", "sprites"]
    student = Student(small_model(lively=True), SCHEDULE, [500, 0], 3.0)
    save(home / "one.safetensors", student, SCHEDULE, ("a", "b"), (1, 8, 8))
    of_one = ["--checkpoint", home / "one.safetensors", "--dataset", "sprites"]
    given = ["--device", "cpu", "--steps", "1", *map(str, known)]
    for words, why in (
        (["--steps", "3"], "--steps: 8 or 4 or 2 or 1 is needed, got 3"),
        (["--steps", "0"], "--steps: a whole number in 1..512"),
        (["--guidance", "0.5"], "--guidance: a number in [1, inf)"),
        (["--minutes", "1"], "--minutes: not allowed with --updates"),
        (["--checkpoint", "nowhere"], "no checkpoint 'nowhere'"),
        (["--out", home / "m.pt"], "--out: a .safetensors file"),
        (["--out", home / "checkpoints/sprites.safetensors"], "--out: a .safetensors"),
        (["--preview-every", "0"], "--preview-every: a whole number of 1 or more"),
        (["--device", "gpu"], "device: one of this machine"),
        ([*known, "--steps", "2"], "--steps: 1 is needed, got 2"),
        ([*known, "--steps", "1"], "--teacher-steps: none with a student as --checkp"),
        (["--teacher-steps", "7"], "--teacher-steps: an even number is needed, got 7"),
        (of_one, "--checkpoint: a student of two steps or more is needed, got [500, 0"),
    ):
        assert why in refused(*words), words
    for words, why in (
        (["--guidance", "2"], "--guidance: 3, or none, with a student"),
        (["--minutes", "-1"], "--minutes: a number above 0"),
    ):
        assert main(["distill", *given, *words]) == 2
        assert why in capsys.readouterr().err, words
    assert not list(home.glob("**/m.*"))
