"""The table of quality and time: figures, resuming, refusals, the command line."""

import json
from functools import partial
from itertools import islice

import imageio.v3 as iio
import pytest
import torch

from lesson_utils import (
    Checkpoint,
    ContextUnet,
    Pictures,
    Schedule,
    ddpm,
    draw_archetype,
    guide,
    last,
    save,
)
from lesson_utils import evaluation as ev
from lesson_utils.cli import main
from lesson_utils.evaluation import Setting, chart, evaluate, figures, sampled, table
from lesson_utils.metrics import (
    Judge,
    frechet_distance,
    judge_for,
    reference,
    save_judge,
)
from lesson_utils.noise import image_generators, initial_noise

NAMES = ("food", "hero", "spell")
GRID = [Setting(2), Setting(4), Setting(2, "sigma-hat"), Setting(3, 0.5, 2.0)]


def pictures(n, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 1, 8, 8, generator=g) * 2 - 1
    c = torch.eye(3)[torch.randint(3, (n,), generator=g)]
    return Pictures(x, c, NAMES)


DATA, UNSEEN = pictures(40, 1), pictures(30, 2)


@pytest.fixture
def judge():
    torch.manual_seed(0)
    judge = Judge(1, NAMES, width=8).eval()
    judge.real = reference(judge.seen(DATA.x)[0])
    return judge


@pytest.fixture
def checkpoint():
    torch.manual_seed(1)
    model = ContextUnet(1, 3, width=16).eval()
    return Checkpoint(model, Schedule.linear(8), NAMES, (1, 8, 8), {})


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(ev, "BATCH", 5)
    monkeypatch.setattr("lesson_utils.cli.BATCH", 5)
    monkeypatch.setattr(ev, "interval", partial(ev.interval, times=5))


def run(checkpoint, judge, path, settings=GRID, n=12, **more):
    *_, result = evaluate(checkpoint, judge, settings, n, path, DATA, UNSEEN, **more)
    return result


def without_seconds(result):
    cells = [{k: v for k, v in c.items() if k != "seconds"} for c in result["cells"]]
    return result | {"cells": cells}


# What a cell holds


def test_each_setting_has_its_figures(checkpoint, judge, tmp_path):
    result = run(checkpoint, judge, tmp_path / "r.json", machine="mine")
    assert result == json.loads((tmp_path / "r.json").read_text())
    assert result["n"] == 12 and result["machine"] == "mine"
    assert [ev.setting_of(cell) for cell in result["cells"]] == GRID
    assert [cell["evaluations"] for cell in result["cells"]] == [2, 4, 2, 6]
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]
    for cell in (*result["cells"], result["floor"]):
        low, high = cell["fcd_interval"]
        assert low < cell["fcd"] < high
        low, high = cell["label_accuracy_interval"]
        assert low <= cell["label_accuracy"] <= high
        assert 0 <= cell["precision"] <= 1 and 0 <= cell["recall"] <= 1
        assert 1 <= cell["classifier_score"] <= 3
        assert len(cell["by_class"]) == 3


def test_few_pictures_are_enough(checkpoint, judge, tmp_path):
    few = DATA._replace(x=DATA.x[:10], c=DATA.c[:10])
    path = tmp_path / "r.json"
    *_, result = evaluate(checkpoint, judge, GRID[:1], 12, path, few)
    assert "floor" not in result and 0 <= result["cells"][0]["precision"] <= 1


def test_the_figures_are_those_of_the_samples(checkpoint, judge, tmp_path):
    cell = run(checkpoint, judge, tmp_path / "r.json", [Setting(4, 1.0)])["cells"][0]
    c = torch.eye(3)[ev.in_shares(DATA.c, 12)]
    x = torch.cat(
        [
            last(sampled(checkpoint, c[i : i + 5], Setting(4, 1.0), 0, i))
            for i in (0, 5, 10)
        ]
    )
    features, logits = judge.seen(x)
    assert cell["fcd"] == frechet_distance(features, judge.real)
    assert cell["label_accuracy"] == (logits.argmax(1) == c.argmax(1)).double().mean()


def test_eta_1_with_all_steps_is_ddpm(checkpoint):
    c = torch.eye(3)
    ours = last(sampled(checkpoint, c, Setting(8, 1.0), seed=4))
    noise = initial_noise(3, (1, 8, 8), 4)
    fresh = image_generators(3, 4)
    theirs = ddpm(
        guide(checkpoint.model, c), noise, checkpoint.schedule, generator=fresh
    )
    assert torch.allclose(ours, last(theirs), atol=1e-4)


def test_copies_of_the_training_data_are_counted(judge):
    found = figures(judge, DATA.x[:20], DATA.c[:20], DATA)
    assert found["copies"] == 1 and found["nearest_median"] < 1e-3
    assert figures(judge, UNSEEN.x, UNSEEN.c, DATA)["copies"] == 0
    assert "copies" not in figures(judge, UNSEEN.x, UNSEEN.c)


def test_classes_are_asked_for_in_the_shares_of_the_data():
    c = torch.eye(3)[torch.tensor([0] * 50 + [2] * 30 + [1] * 20)]
    wanted = ev.in_shares(c, 20)
    assert wanted.bincount().tolist() == [10, 4, 6]
    assert wanted.tolist() != sorted(wanted.tolist())
    some = ev.of_classes(c, wanted)
    assert len(set(some.tolist())) == 20
    assert c[some].sum(0).tolist() == [10, 4, 6]
    assert ev.in_shares(c, 7).bincount().sum() == 7


# Killed and resumed


@pytest.mark.parametrize("steps", [1, 7, 12, 25])
def test_a_stopped_run_goes_on_where_it_was(checkpoint, judge, tmp_path, steps):
    whole = without_seconds(run(checkpoint, judge, tmp_path / "whole.json"))
    path = tmp_path / "r.json"
    work = evaluate(checkpoint, judge, GRID, 12, path, DATA, UNSEEN)
    for _ in islice(work, steps):
        pass
    work.close()
    calls = []
    hook = checkpoint.model.register_forward_hook(lambda *_: calls.append(1))
    again = list(evaluate(checkpoint, judge, GRID, 12, path, DATA, UNSEEN))
    hook.remove()
    assert without_seconds(again[-1]) == whole
    total = 3 * sum(setting.steps for setting in GRID)
    assert len(again) == total  # what was done is counted, for the bar
    assert total - steps <= len(calls) < total - steps + 4  # one batch again at most
    assert not list(tmp_path.glob("*.part*"))


def test_a_setting_asked_for_twice_is_sampled_once(checkpoint, judge, tmp_path):
    assert len(run(checkpoint, judge, tmp_path / "r.json", GRID[:1] * 2)["cells"]) == 1


def test_one_run_does_not_cost_another_its_samples(checkpoint, judge, tmp_path):
    path = tmp_path / "r.json"
    work = evaluate(checkpoint, judge, GRID[1:2], 12, path, DATA)
    list(islice(work, 9))  # two of three batches
    run(checkpoint, judge, path, GRID[:1])
    calls = []
    hook = checkpoint.model.register_forward_hook(lambda *_: calls.append(1))
    run(checkpoint, judge, path, GRID[1:2])
    hook.remove()
    assert len(calls) == 4  # the third


def test_more_settings_join_the_file(checkpoint, judge, tmp_path):
    path = tmp_path / "r.json"
    first = run(checkpoint, judge, path, GRID[:1])["cells"]
    both = run(checkpoint, judge, path, GRID[1:2])["cells"]
    assert both[:1] == first and len(both) == 2
    assert run(checkpoint, judge, path, GRID[:2])["cells"] == both


@pytest.mark.parametrize(
    ("change", "word"), [({"n": 13}, "another n"), ({"seed": 1}, "another seed")]
)
def test_results_of_another_run_are_kept(checkpoint, judge, tmp_path, change, word):
    path = tmp_path / "r.json"
    run(checkpoint, judge, path, GRID[:1])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"r\.json: of {word}; move it away"):
        run(checkpoint, judge, path, **change)
    with torch.no_grad():
        checkpoint.model.mix.bias += 1
    with pytest.raises(ValueError, match="another model"):
        run(checkpoint, judge, path)
    assert path.read_bytes() == before


def test_samples_of_another_cell_are_not_taken(checkpoint, judge, tmp_path):
    path = tmp_path / "r.json"
    work = evaluate(checkpoint, judge, GRID[:1], 12, path, DATA)
    list(islice(work, 5))
    other = run(checkpoint, judge, path, GRID[1:2])["cells"]
    fresh = run(checkpoint, judge, tmp_path / "fresh.json", GRID[1:2])["cells"]
    assert other[0]["fcd"] == fresh[0]["fcd"]


# Refusals


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        (Setting(0), "steps: a whole number in 1..8"),
        (Setting(9), "steps: a whole number in 1..8"),
        (Setting(2.5), "steps: a whole number"),
        (Setting(2, -0.1), "eta: a number in"),
        (Setting(2, 1.1), "eta: a number in"),
        (Setting(2, "sigma"), "eta: a number in"),
        (Setting(2, 0.0, -1), "guidance: a number in"),
        (Setting(2, 0.0, float("nan")), "guidance: a number in"),
    ],
)
def test_settings_that_make_no_sense(checkpoint, judge, tmp_path, setting, word):
    with pytest.raises(ValueError, match=word):
        evaluate(checkpoint, judge, [setting], 12, tmp_path / "r.json", DATA)


def test_other_arguments_that_make_no_sense(checkpoint, judge, tmp_path):
    path = tmp_path / "r.json"
    with pytest.raises(ValueError, match="settings: one Setting or more"):
        evaluate(checkpoint, judge, [], 12, path, DATA)
    for n in (0, 9, 12.5, "12"):
        with pytest.raises(ValueError, match="n: a whole number"):
            evaluate(checkpoint, judge, GRID, n, path, DATA)
    with pytest.raises(ValueError, match=r"path: a path that ends in \.json"):
        evaluate(checkpoint, judge, GRID, 12, tmp_path / "r.txt", DATA)
    for other in (Judge(3, NAMES, 8), Judge(1, (*NAMES, "more"), 8)):
        with pytest.raises(ValueError, match="judge: one of 1 channels and 3 classes"):
            evaluate(checkpoint, other, GRID, 12, path, DATA)
    for small in (DATA.x[:, :, :4], DATA.x.repeat(1, 3, 1, 1), DATA.x[:9]):
        other = DATA._replace(x=small)
        with pytest.raises(ValueError, match=r"data\.x: "):
            evaluate(checkpoint, judge, GRID, 12, path, other)
    assert not path.exists()


BAD_CELL = '{"cells": [{"steps": 2, "eta": 0, "guidance": 1, "n": 12, "seconds": "1"}]}'
NO_RESULTS = ["", "{}", "[]", '{"cells": [{}]}', '{"cells": 3}', '{"cells": {}}']


@pytest.mark.parametrize("text", [*NO_RESULTS, BAD_CELL, "[" * 100_000])
def test_a_file_that_is_no_result(checkpoint, judge, tmp_path, text):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"r\.json: no result of evaluate"):
        evaluate(checkpoint, judge, GRID, 12, path, DATA)
    assert path.read_text() == text


def test_samples_with_nan_are_refused(checkpoint, judge, tmp_path):
    with torch.no_grad():
        checkpoint.model.mix.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN"):
        run(checkpoint, judge, tmp_path / "r.json")


# Shown


def test_the_table_has_the_papers_layout():
    cells = [
        {
            "steps": S,
            "eta": eta,
            "guidance": 1.0,
            "fcd": S + 0.25,
            "n": 10,
            "seconds": 2.0 * S,
            "fcd_interval": [S, S + 0.5],
        }
        for eta in ("sigma-hat", 0.0, 1.0)
        for S in (100, 10)
    ]
    cells[0]["guidance"] = 2.0
    assert table({"cells": cells}, form=".2f").splitlines() == [
        "| η | S = 10 | S = 100 |",
        "|---|---:|---:|",
        "| 0 | 10.25 | 100.25 |",
        "| 1 | 10.25 | 100.25 |",
        "| σ̂ | 10.25 | – |",
    ]
    result = {"cells": cells, "floor": {"n": 10, "fcd": 1.0}}
    assert chart(result).startswith(b"\x89PNG")
    assert chart(result) != chart({"cells": cells})


@pytest.mark.parametrize("seconds", [4e-4, 0.0331, 0.4938, 31.0])
@pytest.mark.parametrize("fcd", [-1e-12, 1.6e-7, 0.0011, 0.5763, 212.0])
def test_one_dot_makes_a_chart(seconds, fcd):
    cell = {"steps": 2, "eta": 0.0, "guidance": 1.0, "n": 10}
    cell |= {"seconds": seconds, "fcd": fcd, "fcd_interval": [fcd - 1, fcd + 1]}
    assert chart({"cells": [cell]}).startswith(b"\x89PNG")


# The command line


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ("--steps=", "--steps: numbers with commas between"),
        ("--steps=10,,20", "--steps: numbers"),
        ("--steps=ten", "--steps: numbers"),
        ("--steps=10.5", "steps: a whole number"),
        ("--steps=0", "steps: a whole number in 1..500"),
        ("--steps=501", "steps: a whole number in 1..500"),
        ("--eta=-0.5", "eta: a number in [0, 1] or 'sigma-hat'"),
        ("--eta=sigma", "--eta: numbers or sigma-hat"),
        ("--eta=nan", "eta: a number in"),
        ("--guidance=-1", "guidance: a number in"),
        ("--checkpoint=no-such", "no checkpoint 'no-such'"),
        ("--n-samples=0", "--n-samples: a whole number of 10 or more"),
        ("--seed=-1", "--seed: a whole number"),
        ("--out=r.txt", "--out: a .json file"),
        ("--device=none", "device: one of this machine"),
    ],
)
def test_bad_options_end_before_any_work(options, word, capsys, monkeypatch):
    for work in ("cli.sources.dataset", "cli.judge_for", "evaluation.sampled"):
        monkeypatch.setattr(f"lesson_utils.{work}", None)
    assert main(["evaluate", *options.split()]) == 2
    assert word in capsys.readouterr().err


def test_the_command_writes_table_and_chart(
    checkpoint, judge, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("lesson_utils.data.SOURCES", {"mnist": lambda: DATA})
    monkeypatch.setattr("lesson_utils.data.UNSEEN", {"mnist": lambda: UNSEEN})
    monkeypatch.setattr("lesson_utils.metrics.JUDGES", tmp_path)
    save_judge(tmp_path / "mnist.safetensors", judge)
    path, out = tmp_path / "mine.safetensors", tmp_path / "new/r.json"
    save(path, checkpoint.model, checkpoint.schedule, NAMES, (1, 8, 8))
    command = ["evaluate", "--checkpoint", str(path), "--dataset", "mnist"]
    command += ["--steps=2,8", "--eta=0, 1,sigma-hat", "--n-samples=12"]
    command += ["--out", str(out), "--device=cpu"]
    assert main(command) == 0
    result = json.loads(out.read_text())
    assert [(cell["steps"], cell["eta"]) for cell in result["cells"]] == [
        (S, eta) for S in (2, 8) for eta in (0.0, 1.0, "sigma-hat")
    ]
    assert "torch" in result["machine"] and result["floor"]["n"] == 12
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert table(result) in said and "90/90" in said  # 3 batches × 30 steps
    assert main(command) == 0  # all is done already
    assert json.loads(out.read_text())["cells"] == result["cells"]


def test_a_folder_of_ones_own_at_its_own_size(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lesson_utils.metrics.JUDGES", tmp_path / "none")
    monkeypatch.setattr("lesson_utils.cli.judge_for", partial(judge_for, steps=3))
    for kind in ("bat", "star"):
        (tmp_path / "pets" / kind).mkdir(parents=True)
        for i, picture in enumerate(draw_archetype(kind, 8, seed=1)):
            iio.imwrite(tmp_path / "pets" / kind / f"{i}.png", picture)
    torch.manual_seed(0)
    path = tmp_path / "mine.safetensors"
    model = ContextUnet(3, 2, width=16)
    save(path, model, Schedule.linear(8), ("bat", "star"), (3, 24, 24))
    command = ["evaluate", "--checkpoint", str(path), "--dataset"]
    command += [str(tmp_path / "pets"), "--steps=2", "--eta=0", "--n-samples=10"]
    command += ["--out", str(tmp_path / "r.json"), "--device=cpu"]
    assert main(command) == 2
    assert "data.x: a float tensor of shape (N,3,24,24)" in capsys.readouterr().err
    for _ in range(2):  # the second time it goes on: the judge is the same
        assert main([*command, "--size=24"]) == 0
    assert "| 0 |" in capsys.readouterr().out
