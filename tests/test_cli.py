"""The command line: evaluate, card and info; flags, help and errors in one line."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from functools import partial

import imageio.v3 as iio
import pytest
import torch
from small import SCHEDULE, small_data, small_folder, small_model

from lesson_utils import Schedule, cli, draw_archetype, load, runs, save
from lesson_utils import data as sources
from lesson_utils.cli import main
from lesson_utils.quality import card, experiment, inversion
from lesson_utils.quality import judge as judging
from lesson_utils.quality.experiment import Experiment
from lesson_utils.quality.judge import Judge, judge_for, save_judge
from lesson_utils.quality.metrics import reference
from lesson_utils.quality.report import table
from lesson_utils.support.files import label
from lesson_utils.support.flags import made

DATA, UNSEEN = small_data(40, classes=3, seed=1), small_data(30, classes=3, seed=2)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(experiment, "BATCH", 5)
    monkeypatch.setattr(cli, "BATCH", 5)
    short = partial(experiment.interval, times=5)
    monkeypatch.setattr(experiment, "interval", short)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A checkpoint, data and judge that are called mnist, in a folder of their own."""
    torch.manual_seed(0)
    judge = Judge(1, DATA.names, width=8).eval()
    judge.real = reference(judge.seen(DATA.x)[0])
    monkeypatch.setattr("lesson_utils.data.SOURCES", {"mnist": lambda: DATA})
    monkeypatch.setattr("lesson_utils.data.UNSEEN", {"mnist": lambda: UNSEEN})
    monkeypatch.setattr(judging, "JUDGES", tmp_path / "judges")
    for module in ("checkpoint", "quality.card", "quality.report"):
        monkeypatch.setattr(f"lesson_utils.{module}.CHECKPOINTS", tmp_path)
    save_judge(tmp_path / "judges/mnist.safetensors", judge, unseen=30, accuracy=0.5)
    record = {
        "data": "mnist, 40 images",
        "settings": {"batch_size": 4},
        "steps": 3,
        "images_seen": 12,
        "loss": 0.5,
        "loss_curve": [1.0, 0.5, 0.25],
        "seconds": 60,
        "machine": "mine",
    }
    path = tmp_path / "mnist.safetensors"
    save(path, small_model(1, 3), Schedule.linear(20), DATA.names, (1, 8, 8), **record)
    return path


# Help and errors


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_teaches_by_examples_that_can_be_typed(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    examples = cli.COMMANDS[command][2].strip().splitlines()
    said = capsys.readouterr().out
    assert len(examples) == 3 and all(example in said for example in examples)
    for example in examples:
        python, m, package, *arguments = shlex.split(example)
        assert (python, m, package) == ("python", "-m", "lesson_utils")
        assert cli.parser().parse_args(arguments).command == command


SMALLER = {
    "train": "--batch-size 4 --device cpu",
    "distill": "--batch-size 4 --updates 2 --device cpu",
    "sample": "--n-samples 4 --batch-size 2 --device cpu",
    "evaluate": "--n-samples 10 --device cpu",
    "card": "--inversions 4 --device cpu",
}


@pytest.fixture
def shop(bare_project, tmp_path, monkeypatch):
    """A project with two small data sets, their checkpoints, and a reader's images."""
    home = bare_project
    few = {"width": 16, "steps": 3}
    monkeypatch.setattr(runs, "SMALL_RUN", few)
    monkeypatch.setattr(runs, "LARGE_RUN", few)
    monkeypatch.setattr(runs, "steps_in", lambda *of: 3)
    short = Experiment(steps=2, eta=0, guidance=(1, 2), n_samples=12)
    monkeypatch.setattr(card, "GUIDED", dict.fromkeys(("sprites", "mnist"), short))
    monkeypatch.setattr(card, "table_experiments", lambda n: [short])
    monkeypatch.setattr(card, "own_experiments", lambda T, n: ([short], short))
    monkeypatch.setattr(inversion, "PAPER", {2: 0.014})
    marks = ""
    for name, channels, classes in (("sprites", 3, 5), ("mnist", 1, 10)):
        names, shape = tuple("0123456789"[:classes]), (channels, 8, 8)
        data = small_data(40, shape, classes)._replace(names=names)
        for sets in ("SOURCES", "UNSEEN"):
            table_of_sets = getattr(sources, sets)
            monkeypatch.setitem(table_of_sets, name, lambda data=data: data)
        judge = Judge(channels, names, width=8).eval()
        judge.real = reference(judge.seen(data.x)[0])
        path = home / f"judges/{name}.safetensors"
        save_judge(path, judge, unseen=30, accuracy=0.5)
        model, schedule = small_model(channels, classes), Schedule.linear(20)
        record = {"data": f"{name}, 40 images", "steps": 3, "images_seen": 12}
        record.update(settings={"batch_size": 4}, machine="mine", seconds=60)
        record.update(loss=0.5, loss_curve=[1.0, 0.5])
        save(home / f"{name}.safetensors", model, schedule, names, shape, **record)
        for part in (name, f"{name} judged", f"{name} inverted"):
            marks += f"<!-- {part} -->\n<!-- /{part} -->\n"
    (home / "README.md").write_text(marks, encoding="utf-8")
    digits = card.subject("mnist", load("mnist"))
    for _ in card.measure_inversion(digits, 4):  # it ships
        pass
    for image in small_folder(tmp_path / "my/pets").glob("*/*.png"):
        shutil.copy(image, image.with_stem(f"{image.stem} again"))
    return tmp_path


def test_the_examples_of_help_run(shop, capsys):
    """All of them, one after the other, as a reader may; only smaller."""
    for command, (_, _, examples) in cli.COMMANDS.items():
        for example in examples.strip().splitlines():
            _, _, _, *arguments = shlex.split(example)
            smaller = SMALLER.get(command, "")
            if "--again" in arguments:
                smaller = "--device cpu"
            assert main([*arguments, *smaller.split()]) == 0, example
    written = {path.name for path in shop.iterdir()}
    new = "mine.safetensors longer.safetensors samples samples-again sevens digits mine"
    assert written > {*new.split()}
    for path in (shop / "samples").glob("*.*g*"):  # images and the film
        assert path.read_bytes() == (shop / "samples-again" / path.name).read_bytes()
    said = capsys.readouterr()
    assert said.err == "" and '"images": [' in said.out


USAGE = {
    "": "command",
    "frob": "invalid choice: 'frob'",
    "evaluate --frob 3": "--frob",
    "info": "checkpoint",
}
OPTIONS = {
    "--steps=": "--steps: a whole number of 1 or more is needed, got ''",
    "--steps=10,,20": "--steps: a whole number",
    "--steps=ten": "--steps: a whole number",
    "--steps=10.5": "--steps: a whole number",
    "--steps=2,0": "--steps: a whole number of 1 or more",
    "--steps=501": "--steps: a whole number in 1..500",
    "--eta=0,1.1": "--eta: a number in [0, 1] or 'sigma-hat'",
    "--eta=sigma": "--eta: a number in [0, 1] or 'sigma-hat'",
    "--eta=nan": "--eta: a number in",
    "--sampler=ddpm": "--sampler: 'ddim' or 'heun' or 'dpmpp_2m'",
    "--sampler=heun --eta=1": "--eta: with heun, 0 among them",
    "--spacing=even": "--spacing: 'uniform' or 'linspace' or 'quad' or 'logsnr'",
    "--guidance=-1": "--guidance: a number in",
    "--checkpoint=no-such": "no checkpoint 'no-such'",
    "--n-samples=9": "--n-samples: a whole number in 10..50000",
    "--seed=-1": "--seed: a whole number",
    "--out=r.txt": "--out: a .json file",
    "--device=none": "device: one of this machine",
    "--device=99": "device: one of this machine",
}
WRONG = [(command, word, "--help") for command, word in USAGE.items()]
WRONG += [("card --parts=frob", "--parts: 'table' or", "")]
WRONG += [("card --checkpoint pets", "no checkpoint 'pets'", "")]
WRONG += [(f"evaluate {option}", word, "") for option, word in OPTIONS.items()]


@pytest.mark.parametrize(("command", "word", "hint"), WRONG)
def test_what_is_wrong_is_said_in_a_line_before_any_work(
    command, word, hint, capsys, monkeypatch
):
    for work in ("cli.sources.dataset", "cli.judge_for", "quality.experiment.sampled"):
        monkeypatch.setattr(f"lesson_utils.{work}", None)
    try:
        status = main(command.split())
    except SystemExit as ended:
        status = ended.code
    said = capsys.readouterr()
    assert status == 2 and said.out == ""
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    assert word in said.err and hint in said.err


def test_a_flag_for_each_field_with_its_default():
    chosen = cli.parser().parse_args(["evaluate"])
    assert made(Experiment, chosen) == Experiment()
    given = "--steps 2,8 --eta 0,1,sigma-hat --guidance 2 --n-samples 12 --seed 3"
    chosen = cli.parser().parse_args(["evaluate", *given.split()])
    expected = Experiment((2, 8), (0, 1, "sigma-hat"), 2, 12, 3)
    assert made(Experiment, chosen) == expected


def test_evaluate_writes_table_and_chart(tiny, tmp_path, capsys):
    out = tmp_path / "new/r.json"
    command = ["evaluate", "--checkpoint", str(tiny), "--dataset", "mnist"]
    command += ["--steps=2,8", "--eta=0, 1,sigma-hat", "--n-samples=12"]
    command += ["--out", str(out), "--device=cpu"]
    assert main(command) == 0
    result = json.loads(out.read_text(encoding="utf-8"))
    assert [(cell["steps"], cell["eta"]) for cell in result["cells"]] == [
        (S, eta) for S in (2, 8) for eta in (0.0, 1.0, "sigma-hat")
    ]
    assert "torch" in result["machine"] and result["floor"]["n"] == 12
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert table(result) in said and "90/90" in said  # 3 batches × 30 steps
    assert main(command) == 0  # all is done already
    assert json.loads(out.read_text(encoding="utf-8"))["cells"] == result["cells"]


def test_a_folder_of_ones_own_is_read_at_the_checkpoints_size(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(judging, "JUDGES", tmp_path / "none")
    monkeypatch.setattr(cli, "judge_for", partial(judge_for, steps=3))
    for kind in ("bat", "star"):
        (tmp_path / "pets" / kind).mkdir(parents=True)
        for i, image in enumerate(draw_archetype(kind, 8, seed=1)):
            iio.imwrite(tmp_path / "pets" / kind / f"{i}.png", image)
    path = tmp_path / "mine.safetensors"
    save(path, small_model(3), Schedule.linear(8), ("bat", "star"), (3, 24, 24))
    command = ["evaluate", "--checkpoint", str(path), "--dataset"]
    command += [str(tmp_path / "pets"), "--steps=2", "--eta=0", "--n-samples=10"]
    command += ["--out", str(tmp_path / "r.json"), "--device=cpu"]
    for _ in range(2):  # the second time it goes on: the judge is the same
        assert main(command) == 0
    assert "| 0 |" in capsys.readouterr().out
    save(path, small_model(3), Schedule.linear(8), ("bat", "moon"), (3, 24, 24))
    assert main(command) == 2
    assert "like: a checkpoint of the classes" in capsys.readouterr().err


def test_each_folder_of_one_name_is_judged_by_its_own_checkpoint(
    tmp_path, monkeypatch, capsys
):
    """And a checkpoint that is called by its name needs to be told the data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(judging, "JUDGES", tmp_path / "none")
    monkeypatch.setattr(cli, "judge_for", partial(judge_for, steps=3))
    for module in ("cli", "checkpoint"):
        folder = tmp_path / "checkpoints"
        monkeypatch.setattr(f"lesson_utils.{module}.CHECKPOINTS", folder)
    monkeypatch.setattr(cli, "RESULTS", tmp_path / "results")
    for seed, kind in enumerate(("flowers", "pets")):
        for image in small_folder(tmp_path / kind / "train").glob("*/*.png"):
            shutil.copy(image, image.with_stem(f"{image.stem} again"))
        out = folder / f"{label(f'{kind}/train')}.safetensors"
        names, model = ("cats", "dogs"), small_model(3, seed=seed, lively=True)
        save(out, model, Schedule.linear(8), names, (3, 24, 24))
    command = ["evaluate", "--steps=2", "--eta=0", "--n-samples=10", "--device=cpu"]
    for kind in ("flowers", "pets"):
        assert main([*command, "--checkpoint", f"{kind}/train"]) == 0
        name = label(f"{kind}/train")
        result = json.loads((tmp_path / f"results/{name}.json").read_text("utf-8"))
        assert result["model"] == experiment.digest(load(f"{kind}/train").model)
    other = ["--checkpoint", name, "--dataset", "pets/train"]
    for way in (["--checkpoint", "./pets/../pets/train/"], other):  # it goes on
        assert main([*command, *way]) == 0
    capsys.readouterr()
    assert main([*command, "--checkpoint", name]) == 2
    assert "--dataset: the data that the checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("page", ["cp1252", "ascii"])
def test_letters_that_the_output_does_not_know_stop_nothing(tmp_path, page):
    """All work would be lost for a σ̂, or for a cat; programs get plain JSON."""
    path = tmp_path / "猫.safetensors"
    save(path, small_model(1, 2), SCHEDULE, ("猫", "σ̂"), (1, 8, 8), data="猫, ½")
    said = subprocess.run(
        [sys.executable, "-c", SAYS, "info", path],
        env=os.environ | {"PYTHONIOENCODING": page},
        capture_output=True,
        encoding=page,
    )
    assert said.returncode == 0, said.stderr
    assert "classes      ?, ??" in said.stdout and "? = ??" in said.stdout
    assert "?.safetensors: no" in said.stderr.splitlines()[-1]
    plain = said.stdout[said.stdout.index("{") :]
    assert json.loads(plain)["classes"] == ["猫", "σ̂"]


SAYS = """
import sys
from lesson_utils.cli import main
assert main(sys.argv[1:]) == 0
print("η = σ̂")
assert main([*sys.argv[1:], "--json"]) == 0
print("猫.safetensors: no", file=sys.stderr)
"""


def test_card_measures_and_fills_what_was_asked_for(tiny, tmp_path, monkeypatch):
    parts = ("mnist", "mnist judged", "mnist inverted")
    marks = "\n".join(f"<!-- {part} -->\n<!-- /{part} -->" for part in parts)
    (tmp_path / "README.md").write_text(marks, encoding="utf-8")
    short = Experiment(steps=2, eta=0, guidance=(1, 2), n_samples=12)
    monkeypatch.setitem(card.GUIDED, "mnist", short)
    everything = Experiment(steps=(2, 8), eta=(0, 1), n_samples=12)
    monkeypatch.setattr(card, "table_experiments", lambda n: [everything])
    monkeypatch.setattr(inversion, "PAPER", {2: 0.014, 8: 0.0065})
    command = ["card", "--checkpoint", "mnist", "--inversions", "4", "--device", "cpu"]
    assert main(command) == 0
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| updates | 3 of 4 images, 12 in all |" in text
    assert "| η | S = 2 | S = 8 |" in text and "| refine = 2 |" in text
    assert text.count("Measured by `make card DATASET=mnist` on: ") == 2
    made = {file.name for file in tmp_path.iterdir() if file.name.startswith("mnist_")}
    names = "table.json table.png guidance.json inversion.json samples.png nearest.png"
    assert made == {f"mnist_{name}" for name in [*names.split(), "loss.png"]}
    before = {name: (tmp_path / name).read_bytes() for name in made}
    monkeypatch.setattr(experiment, "sampled", None)  # nothing is measured again
    monkeypatch.setattr(inversion, "there_and_back", None)
    assert main([*command, "--parts", "table,guidance,inversion"]) == 0
    assert {name: (tmp_path / name).read_bytes() for name in made} == before


def test_card_trains_a_judge_where_there_is_none(tiny, tmp_path, monkeypatch):
    kept = tmp_path / "judges/mnist.safetensors"
    trained = []

    def shipped(name, data):
        trained.append(name)
        judge = Judge(1, data.names, width=8)
        judge.real = reference(judge.seen(data.x)[0])
        return judge, {"unseen": 1, "accuracy": 1.0}

    monkeypatch.setattr(card, "train_shipped_judge", shipped)
    who = card.Subject("mnist", None, DATA, UNSEEN)
    before = kept.read_bytes()
    card.ensure_judge(who)
    assert not trained and kept.read_bytes() == before
    kept.unlink()
    card.ensure_judge(who)
    assert trained == ["mnist"] and kept.is_file()


def test_info_says_what_is_in_a_checkpoint(tiny, capsys):
    assert main(["info", str(tiny)]) == 0
    said = capsys.readouterr().out
    lines = dict(line.split(maxsplit=1) for line in said.splitlines())
    assert lines["images"] == "1, 8, 8" and lines["classes"] == "a, b, c"
    assert lines["settings"] == "batch_size 4" and "loss_curve" not in said
    assert main(["info", "mnist", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["images"] == [1, 8, 8] and about["loss_curve"] == [1.0, 0.5, 0.25]
    assert main(["info", "no-such"]) == 2
    assert capsys.readouterr().err.startswith("error: name_or_path: no checkpoint")
