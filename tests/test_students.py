"""Students as files: what they say of themselves, and who knows them.

Their network here is a small one with random weights: what they draw is no image.
"""

import json
import re
from itertools import islice

import imageio.v3 as iio
import pytest
import torch
from small import (
    SCHEDULE,
    small_checkpoint,
    small_data,
    small_distillation,
    small_model,
)

from lesson_utils import (
    Schedule,
    Student,
    cli,
    ddim,
    dpmpp_2m,
    guide,
    heun,
    initial_noise,
    last,
    load,
    playground,
    save,
)
from lesson_utils.cli import main
from lesson_utils.quality import card
from lesson_utils.quality.experiment import digest, figures, in_shares
from lesson_utils.quality.judge import Judge
from lesson_utils.quality.markdown import distilled
from lesson_utils.quality.metrics import reference
from lesson_utils.quality.report import committed
from lesson_utils.quality.students import (
    all_from,
    beside_teacher,
    compare,
    is_of,
    students_of,
)
from lesson_utils.support.files import (
    BUILT_IN,
    CHECKPOINTS,
    STUDENTS,
    read_tensors,
    write_tensors,
)
from lesson_utils.viz import pixels

TIMES = [500, 263, 183, 117, 0]
NAMES = ("a", "b")


@pytest.fixture
def student():
    """Its weights as half precision has them."""
    model = small_model(lively=True).half().float().eval()
    return Student(model, SCHEDULE, TIMES, 2.0)


@pytest.fixture
def path(student, tmp_path):
    path = tmp_path / "tiny-4.safetensors"
    save(path, student, SCHEDULE, NAMES, (1, 8, 8), data="sprites, 40 images")
    return path


@pytest.fixture
def said(capsys):
    """Runs a command; gives its status and its last line."""

    def said(command, *words):
        capsys.readouterr()
        status = main([command, *map(str, words)])
        both = capsys.readouterr()
        return status, (both.out + both.err).strip().splitlines()[-1]

    return said


# The file


def test_a_student_comes_back_as_what_it_is(student, path):
    got = load(path)
    assert isinstance(got.model, Student) and not got.model.training
    assert got.times == got.model.times == TIMES and got.model.guidance == 2.0
    assert got.network is got.model.network and got.meta["data"].startswith("sprites")
    for name, value in student.state_dict().items():
        assert torch.equal(got.model.state_dict()[name], value)
    x, c = torch.randn(2, 1, 8, 8), torch.eye(2)
    for solver in (ddim, heun, dpmpp_2m):
        ours, theirs = (
            last(solver(guide(model, c), x, SCHEDULE, TIMES))
            for model in (student, got.model)
        )
        assert torch.allclose(ours, theirs, atol=1e-5)
        with pytest.raises(ValueError, match="t: .* knows, 500, 263, 183, 117 of"):
            last(solver(guide(got.model, c), x, got.schedule, 20))


def test_the_average_of_a_distillation_is_saved(tmp_path):
    *_, update = small_distillation()
    save(tmp_path / "x.safetensors", update.ema, SCHEDULE, NAMES, (1, 8, 8))
    assert load(tmp_path / "x.safetensors").times == update.ema.times


def test_other_checkpoints_are_no_students(tmp_path):
    path = tmp_path / "x.safetensors"
    save(path, small_model(), SCHEDULE, NAMES, (1, 8, 8))
    assert "student" not in read_tensors(path)[1]
    got = load(path)
    assert got.times is None and got.network is got.model
    save(path, Student(small_model(), SCHEDULE), SCHEDULE, NAMES, (1, 8, 8))
    got = load(path)  # answers in v at any time
    assert got.times is None and isinstance(got.model, Student)
    assert last(ddim(got.model, torch.randn(1, 1, 8, 8), SCHEDULE, 3)).shape[0] == 1


def test_what_is_no_student_is_refused(student, path, tmp_path):
    with pytest.raises(ValueError, match="^schedule: that of the student is needed"):
        save(tmp_path / "x.safetensors", student, Schedule.cosine(), NAMES, (1, 8, 8))
    with pytest.raises(ValueError, match="^model: a ContextUnet, .* or a Student,"):
        wrong = Student(torch.nn.ReLU(), SCHEDULE)
        save(tmp_path / "x.safetensors", wrong, SCHEDULE, NAMES, (1, 8, 8))
    tensors, record = read_tensors(path)
    told = record["student"]
    assert told == {"prediction": "v", "times": TIMES, "guidance": 2.0}
    for wrong in (
        told | {"prediction": "x0"},
        told | {"times": [500, 600, 0]},
        told | {"times": 4},
        told | {"guidance": "much"},
        {"prediction": "v"},
        [],
        None,
    ):
        write_tensors(path, tensors, record | {"student": wrong})
        with pytest.raises(ValueError, match="tiny-4.*: not a checkpoint of ours"):
            load(path)


# The commands

REFUSED = {
    "--steps 20": "--steps: 4 with a student of 4 steps is needed, got 20",
    "--steps 2": "--steps: 4 with a student of 4 steps is needed, got 2",
    "--guidance 2": "--guidance: 1 with a student of 4 steps, which has guidance 2 in",
    "--spacing quad": "--spacing: none with a student of 4 steps, which has the times",
}
SAMPLE = {
    "--sampler ddpm": "--sampler: ddim or heun or dpmpp_2m with a student of 4 steps",
    "--mode reconstruct": "--mode: sample or interpolate with a student of 4 steps",
}


def test_sample_takes_a_student_s_own_steps(path, tmp_path, said):
    small = "--n-samples 4 --batch-size 2 --device cpu --checkpoint".split()
    for sampler, evaluations in (("ddim", 4), ("heun", 7), ("dpmpp_2m", 4)):
        folder = tmp_path / sampler
        where = [*small, path, "--save-dir", folder, "--sampler", sampler]
        assert said("sample", *where)[0] == 0
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        assert record["evaluations"]["an_image"] == evaluations
        assert record["settings"]["steps"] == 4
    for option, why in (REFUSED | SAMPLE).items():
        where = ["--save-dir", tmp_path / "none", *option.split()]
        status, line = said("sample", *small, path, *where)
        assert status == 2 and line.startswith(f"error: {why}"), option
    assert not (tmp_path / "none").exists()


def test_samples_are_those_of_ddim_on_its_times(path, tmp_path, said):
    small = "--n-samples 4 --batch-size 4 --device cpu --prompts a b --checkpoint"
    assert said("sample", *small.split(), path, "--save-dir", tmp_path / "s")[0] == 0
    got, c = load(path), torch.eye(2).repeat(2, 1)
    x = initial_noise(4, (1, 8, 8), 0)
    x = last(ddim(guide(got.model, c), x, got.schedule, TIMES))
    for i, still in enumerate(pixels(x)):
        image = iio.imread(tmp_path / f"s/{i:06}.png")
        assert (image == still[..., 0]).all()


def test_a_state_of_a_distillation_is_sampled_as_the_student_of_its_stage(
    tmp_path, said
):
    state = tmp_path / "state.safetensors"
    run = small_distillation(files={"state": state, "save_seconds": 0})
    *_, update = islice(run, 5)  # the second of the second stage
    times, c = update.ema.times, torch.eye(2)
    x = initial_noise(2, (1, 8, 8), 0)
    expected = pixels(last(ddim(guide(update.ema.eval(), c), x, SCHEDULE, times)))
    run.close()
    where = ["--save-dir", tmp_path / "s", "--checkpoint", state]
    small = "--n-samples 2 --batch-size 2 --device cpu --prompts a b".split()
    assert said("sample", *where, *small)[0] == 0
    record = json.loads((tmp_path / "s/run.json").read_text(encoding="utf-8"))
    assert record["settings"]["steps"] == 4 and len(times) == 5
    for i, still in enumerate(expected):
        image = iio.imread(tmp_path / f"s/{i:06}.png")
        assert (image == still[..., 0]).all()


def test_evaluate_judges_a_student_at_its_steps(path, tmp_path, said, monkeypatch):
    data = small_data(40, seed=1)._replace(names=NAMES)
    judge = Judge(1, NAMES, width=8).eval()
    judge.real = reference(judge.seen(data.x)[0])
    for sets in ("SOURCES", "UNSEEN"):
        monkeypatch.setattr(f"lesson_utils.data.{sets}", {"sprites": lambda: data})
    monkeypatch.setattr(cli, "judge_for", lambda name, like: judge)
    out = tmp_path / "r.json"
    how = ["--checkpoint", path, "--n-samples", 10, "--device", "cpu", "--out", out]
    assert said("evaluate", *how)[0] == 0  # of the data that its record names
    [cell] = json.loads(out.read_text(encoding="utf-8"))["cells"]
    assert (cell["steps"], cell["eta"], cell["evaluations"]) == (4, 0, 4)
    for option, why in REFUSED.items():
        status, line = said("evaluate", *how, *option.split())
        assert status == 2 and line.startswith(f"error: {why}"), option


def test_info_says_what_a_student_is(path, capsys):
    assert main(["info", str(path)]) == 0
    told = capsys.readouterr().out
    for line in ("answers in +v", "times +500, 263, 183, 117, 0", "guidance in +2.0"):
        assert re.search(f"(?m)^{line}$", told)
    assert main(["info", "--json", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["times"] == TIMES


def test_info_says_by_a_checksum_whose_student_it_is(tmp_path, capsys):
    """That of the weights in the teacher's file, as its student's record has it."""
    taught, own = tmp_path / "tiny.safetensors", tmp_path / "tiny-4.safetensors"
    save(taught, small_model(lively=True), SCHEDULE, NAMES, (1, 8, 8))
    teacher = {"file": taught.name, "checksum": digest(load(taught).model)}
    student = Student(small_model(seed=1), SCHEDULE, TIMES)
    save(own, student, SCHEDULE, NAMES, (1, 8, 8), teacher=teacher)
    told = []
    for file in (taught, own):
        assert main(["info", "--json", str(file)]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0]["checksum"] == told[1]["teacher"]["checksum"] == teacher["checksum"]
    assert told[1]["checksum"] != told[0]["checksum"]
    assert main(["info", str(own)]) == 0
    lines = capsys.readouterr().out
    assert re.search(f"(?m)^checksum +{told[1]['checksum']}$", lines)
    known = f"file tiny.safetensors, checksum {teacher['checksum']}"
    assert re.search(f"(?m)^teacher +{known}$", lines)


@pytest.mark.parametrize("times", [TIMES, None])
def test_commands_that_are_not_for_students_say_so(times, path, said):
    save(path, Student(small_model(), SCHEDULE, times), SCHEDULE, NAMES, (1, 8, 8))
    words = ["--dataset", "sprites", "--device", "cpu"]
    status, line = said("card", "--checkpoint", path, *words)
    assert status == 2 and "--checkpoint: no student, which evaluate judges," in line
    where = ["--steps", 1, "--out", path.with_stem("y")]
    status, line = said("train", "--from", path, *words, *where)
    assert status == 2 and "--from: a model that answers in eps, no student," in line


# The playground


def test_the_playground_of_a_student_has_its_steps_and_no_dial(path):
    play = playground(path, 2, "cpu")
    assert play.steps.value == 4 and play.steps.disabled and play.guidance.disabled
    got, c = load(path), torch.eye(2)[:1].repeat(2, 1)
    x = initial_noise(2, (1, 8, 8), 0)
    expected = last(ddim(guide(got.model, c), x, got.schedule, TIMES))
    assert torch.allclose(play.images, expected, atol=1e-5)
    assert "4 evaluations" in play.status.value
    for sampler in ("Heun", "DPM++ 2M", "DDIM"):
        play.sampler.value = sampler
        assert 'role="status"' in play.status.value and play.steps.disabled
    for control, value, why in (
        (play.sampler, "DDPM", "sampler: ddim or heun or dpmpp_2m with a student"),
        (play.steps, 5, "steps: 4 with a student of 4 steps is needed, got 5"),
        (play.guidance, 2.0, "guidance: 1 with a student of 4 steps, which has"),
    ):
        usual, control.value = control.value, value
        assert 'role="alert"' in play.status.value and why in play.status.value
        control.value = usual
        assert 'role="status"' in play.status.value


# Diffusers


@pytest.mark.filterwarnings("ignore:.*__array:DeprecationWarning")
def test_diffusers_samples_an_exported_student_bit_for_bit(path, tmp_path, monkeypatch):
    from diffusers import DDIMScheduler, DiffusionPipeline
    from diffusers.utils import dynamic_modules_utils
    from diffusers.utils import logging as talk

    home = str(tmp_path / "modules")
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", home)
    talk.disable_progress_bar()
    folder = tmp_path / "export"
    assert main(["export", "--checkpoint", str(path), str(folder)]) == 0
    assert "made for 4 steps" in (folder / "README.md").read_text(encoding="utf-8")
    pipe = DiffusionPipeline.from_pretrained(str(folder), trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    got, c = load(path), torch.eye(2)
    x = initial_noise(2, (1, 8, 8), 0)
    ours = last(ddim(guide(got.model, c), x, got.schedule, TIMES))
    how = {"prompt": ["a", "b"], "latents": x, "output_type": "latent"}
    assert torch.equal(pipe(**how).images, ours)
    for wrong, why in (
        (
            {"num_inference_steps": 20},
            "num_inference_steps: 4 is needed with a stud",
        ),
        ({"guidance_scale": 2.0}, "guidance_scale: 1 is needed with a student of 4"),
    ):
        with pytest.raises(ValueError, match=why):
            pipe(**how, **wrong)
    with pytest.raises(ValueError, match=r"timestep: one of \[499, 262, 182, 116\]"):
        pipe.unet(x, 250)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    with pytest.raises(ValueError, match="^scheduler: ExactDDIMScheduler is needed"):
        pipe(**how)


# Beside their teacher


def judge_and_data():
    """A judge with random weights, and the data that it compares with."""
    torch.manual_seed(0)
    data = small_data(60)
    judge = Judge(1, NAMES, width=8).eval()
    judge.real = reference(judge.seen(data.x)[0])
    return judge, data


def family(folder, teacher, guidance=3.0):
    """A student of four steps, and one of two steps whose teacher it is."""
    found, above = [], teacher
    for times in (TIMES, TIMES[::2]):
        path = folder / f"tiny-{len(times) - 1}.safetensors"
        model = small_model(lively=True, seed=len(times)).half().float()
        student = Student(model, SCHEDULE, times, guidance)
        taught = {"file": "above.safetensors", "checksum": digest(above.model)}
        about = {"teacher": taught, "updates": 9, "seconds": 60, "loss": 0.25}
        about["settings"] = {"batch_size": 4}
        save(path, student, SCHEDULE, NAMES, (1, 8, 8), **about)
        above = load(path)
        found.append(above)
    return found


def test_students_are_compared_with_their_teacher(tmp_path):
    """Of the same noise, batch by batch; the teacher with their guidance and with 2."""
    teacher = small_checkpoint()
    students = family(tmp_path, teacher)
    judge, data = judge_and_data()
    out = tmp_path / "students.json"
    work = compare(teacher, students, judge, data, 30, out, name="tiny", machine="m")
    assert len(list(islice(work, 7))) == 7 and not out.exists()
    assert len(list(work)) == 1  # four ways of two batches each
    result = json.loads(out.read_text(encoding="utf-8"))
    own, usual, four, two = result["cells"]
    costs = [(cell["guidance"], cell["evaluations"]) for cell in result["cells"]]
    assert costs == [(3, 40), (2, 40), (3, 4), (3, 2)]
    assert (four["times"], two["times"]) == (TIMES, TIMES[::2])
    c = in_shares(data.c, 30)
    noise = initial_noise(30, teacher.image_shape)
    taught = last(ddim(guide(teacher.model, c, 3.0), noise, SCHEDULE, 20))
    x = last(ddim(guide(students[0].model, c), noise, SCHEDULE, TIMES))
    wanted = (x - taught).square().mean((1, 2, 3)).sqrt().median()
    assert four["distance"] == pytest.approx(float(wanted), abs=1e-4)
    assert four["fcd"] == pytest.approx(figures(judge, x, c, data)["fcd"], abs=1e-3)
    assert "distance" not in own and "distance" not in usual
    assert result["ddpm_seconds"] > own["seconds"] > four["seconds"] > 0
    assert is_of(result, teacher, students, 30)
    assert not is_of(result, teacher, students, 31)
    assert not is_of(result, teacher, students[:1], 30)
    assert not is_of(result, students[0], students, 30)
    ddpm = {**four, "eta": 1, "steps": 500, "guidance": 1}
    text = distilled(result, {"cells": [ddpm]}, students)
    assert "| student | 4 |" in text and "| student | 2 |" in text
    assert "| teacher, DDIM, guidance 3 | 40 |" in text
    made = (
        f"| 500, 263, 183, 117, 0 | 3 | above.safetensors | {digest(teacher.model)} |"
    )
    assert made in text


def test_what_cannot_be_compared_is_refused(tmp_path):
    teacher = small_checkpoint()
    students = family(tmp_path, teacher)
    judge, data = judge_and_data()
    out = tmp_path / "students.json"
    moved = students[1]._replace(
        model=Student(students[1].network, SCHEDULE, TIMES[::2], 2.0)
    )
    others = [
        (teacher, []),
        (small_checkpoint(seed=1), students),  # of another teacher
        (teacher, students[1:]),  # its teacher is not among them
        (teacher, [students[0], moved]),  # of another guidance
        (teacher, [students[0]._replace(meta={})]),  # does not say whose it is
    ]
    for above, below in others:
        with pytest.raises(ValueError, match="^students: one or more of this teacher"):
            compare(above, below, judge, data, 30, out)
    with pytest.raises(ValueError, match="^n: 4 or more, two of each context, is nee"):
        compare(teacher, students, judge, data, 3, out)


def test_the_distance_is_a_share_of_that_between_two_noises():
    """A student that gives the image of another noise has 100 %, the teacher's 0."""
    g = torch.Generator().manual_seed(0)
    c = torch.eye(2)[torch.arange(40) % 2]
    taught = torch.randn(40, 1, 8, 8, generator=g) + 10 * c[:, :1, None, None]
    assert beside_teacher(taught, taught, c) == {"distance": 0, "share": 0}
    moved = beside_teacher(taught + 0.25, taught, c)
    assert moved["distance"] == pytest.approx(0.25)
    others = torch.randn(40, 1, 8, 8, generator=g) + 10 * c[:, :1, None, None]
    assert beside_teacher(others, taught, c)["share"] == pytest.approx(1, abs=0.05)


# Those that ship


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_ships_is_what_was_measured(name):
    """Each student halves the steps of the one before, and the results are of them."""
    teacher, students = load(name), students_of(name)
    assert [len(one.times) - 1 for one in students] == list(STUDENTS)
    for one, finer in zip(students[1:], students, strict=False):
        assert one.times == finer.times[::2]
    assert all_from(teacher, students)
    assert is_of(committed(name, "students"), teacher, students, 2000)
    weights = sum(w.numel() for w in teacher.network.parameters())
    for one, steps in zip(students, STUDENTS, strict=True):
        assert sum(w.numel() for w in one.network.parameters()) == weights
        assert (CHECKPOINTS / f"{name}-{steps}.safetensors").stat().st_size < 3e6


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_students_that_ship_show_what_the_card_says(name):
    """Four evaluations are as good as 40 of the teacher with guidance 2."""
    cells = committed(name, "students")["cells"]
    [usual] = [c for c in cells if c["guidance"] == 2 and not c["student"]]
    few = {cell["evaluations"]: cell for cell in cells if cell["student"]}
    assert few[4]["fcd"] <= 1.25 * usual["fcd"] and few[4]["label_accuracy"] >= 0.99
    assert few[2]["fcd"] <= 2 * usual["fcd"]
    distances = [few[n]["distance"] for n in (4, 2, 1)]
    assert distances == sorted(distances) and few[1]["share"] < 0.5


def test_the_card_speaks_of_the_students_that_are_there(monkeypatch):
    who = card.subject("sprites", load("sprites"))
    full, students = committed("sprites", "table"), students_of("sprites")
    assert "| student | 4 |" in card.students_words(who, full)
    monkeypatch.setattr(card, "students_of", lambda *place: [])
    assert card.students_words(who, full) == ""
    monkeypatch.setattr(card, "students_of", lambda *place: students[:2])
    with pytest.raises(ValueError, match="is of other students; card --parts students"):
        card.students_words(who, full)
