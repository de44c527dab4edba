"""The table of quality and time: figures, resuming, refusals."""

import json
from functools import partial
from itertools import islice

import pytest
import torch
from small import small_data, small_model

import lesson_utils as lu
from lesson_utils.quality import experiment as ex
from lesson_utils.quality.experiment import Experiment, Sampling, evaluate, sampled
from lesson_utils.quality.judge import Judge, quick_judge
from lesson_utils.quality.metrics import frechet_distance, reference
from lesson_utils.support.files import fingerprint

DATA, UNSEEN = small_data(40, classes=3, seed=1), small_data(30, classes=3, seed=2)
SOME = Experiment(steps=(2, 4), eta=(0, "sigma-hat"), guidance=(1, 2), n_samples=12)
CELLS = SOME.cells()
ONE = Experiment(steps=2, eta=0, n_samples=12)
OTHER = Experiment(steps=4, eta=0, n_samples=12)
BOTH = Experiment(steps=(2, 4), eta=0, n_samples=12)


@pytest.fixture
def judge():
    torch.manual_seed(0)
    judge = Judge(1, DATA.names, width=8).eval()
    judge.real = reference(judge.seen(DATA.x)[0])
    return judge


@pytest.fixture
def checkpoint():
    model = small_model(1, 3, seed=1).eval()
    return lu.Checkpoint(model, lu.Schedule.linear(8), DATA.names, (1, 8, 8), {})


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(ex, "BATCH", 5)
    monkeypatch.setattr(ex, "interval", partial(ex.interval, times=5))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "r.json"


def run(checkpoint, judge, path, experiment=SOME, **about):
    work = evaluate(checkpoint, judge, experiment, path, DATA, UNSEEN, **about)
    *_, result = work
    return result


def count_calls(model):
    """A list that grows by one with each evaluation, and what ends that."""
    calls = []
    return calls, model.register_forward_hook(lambda *_: calls.append(1))


def without_seconds(result):
    cells = [{k: v for k, v in c.items() if k != "seconds"} for c in result["cells"]]
    return {**result, "cells": cells}


def test_an_experiment_is_every_combination():
    assert len(CELLS) == 8
    assert CELLS[:3] == [
        Sampling(2, 0.0, 1.0),
        Sampling(2, 0.0, 2.0),
        Sampling(2, "sigma-hat", 1.0),
    ]
    assert [cell.evaluations for cell in CELLS[:3]] == [2, 4, 2]
    assert Sampling(5, guidance=0).evaluations == 5
    twice = Experiment(steps=(2, 2.0), eta=0, n_samples=12.0)
    assert twice.cells() == ONE.cells() and twice.n_samples == 12


def test_solvers_are_taken_once_and_with_eta_0():
    both = Experiment((5, 9), (0, 1), sampler=("ddim", "heun"), spacing="logsnr")
    assert both.cells() == [
        Sampling(5, 0.0, 1.0, "logsnr"),
        Sampling(5, 1.0, 1.0, "logsnr"),
        Sampling(9, 0.0, 1.0, "logsnr"),
        Sampling(9, 1.0, 1.0, "logsnr"),
        Sampling(5, 0.0, 1.0, "logsnr", "heun"),
        Sampling(9, 0.0, 1.0, "logsnr", "heun"),
    ]
    usual = Experiment(steps=5, sampler="dpmpp_2m")  # whose η are those of the paper
    assert usual.cells() == [Sampling(5, sampler="dpmpp_2m")]


@pytest.mark.parametrize(
    ("sampler", "guidance", "evaluations"),
    [("ddim", 1, 5), ("heun", 1, 9), ("heun", 2, 18), ("dpmpp_2m", 2, 10)],
)
def test_evaluations_are_those_that_are_made(
    checkpoint, sampler, guidance, evaluations
):
    cell, sizes = Sampling(5, 0, guidance, "uniform", sampler), []
    checkpoint.model.register_forward_hook(lambda _, x, eps: sizes.append(len(eps)))
    lu.last(sampled(checkpoint, torch.eye(3), cell))
    assert cell.evaluations == evaluations == sum(sizes) / 3


def test_the_samples_of_a_solver_are_its_own(checkpoint):
    cell, c = Sampling(4, 0, 2.0, "logsnr", "heun"), torch.eye(3)
    ours = lu.last(sampled(checkpoint, c, cell, seed=4))
    eps_fn, x = lu.guide(checkpoint.model, c, 2.0), lu.initial_noise(3, (1, 8, 8), 4)
    right = lu.last(lu.heun(eps_fn, x, checkpoint.schedule, 4, "logsnr"))
    assert torch.equal(ours, right)


def test_solvers_and_spacings_join_a_file_that_knows_none(checkpoint, judge, path):
    """What was written before there were samplers to choose from is still read."""
    old = run(checkpoint, judge, path, ONE)
    for key in ("sampler", "spacing"):
        assert old["cells"][0].pop(key)
    path.write_text(json.dumps(old), encoding="utf-8")
    more = Experiment(
        steps=2,
        eta=0,
        n_samples=12,
        sampler=("ddim", "heun", "dpmpp_2m"),
        spacing=("uniform", "logsnr"),
    )
    cells = run(checkpoint, judge, path, more)["cells"]
    assert cells[:1] == old["cells"] and len(cells) == 6
    assert [ex.cell_of(record) for record in cells] == more.cells()
    assert [record["evaluations"] for record in cells] == [2, 2, 3, 3, 2, 2]


@pytest.mark.parametrize(
    ("kind", "changes", "word"),
    [
        (Sampling, {"steps": 0}, "steps: a whole number of 1"),
        (Sampling, {"steps": 2.5}, "steps: a whole number"),
        (Sampling, {"eta": -0.1}, "eta: a number in"),
        (Sampling, {"eta": "sigma"}, "eta: a number in"),
        (Sampling, {"guidance": -1}, "guidance: a number in"),
        (Sampling, {"guidance": float("nan")}, "guidance: a number in"),
        (Sampling, {"spacing": "even"}, "spacing: 'uniform' or"),
        (Sampling, {"sampler": "ddpm"}, "sampler: 'ddim' or 'heun' or 'dpmpp_2m'"),
        (Sampling, {"sampler": "heun", "eta": 0.5}, "eta: 0 with heun"),
        (Experiment, {"sampler": ()}, "sampler: one value or more"),
        (Experiment, {"sampler": ("ddim", "euler")}, "sampler: 'ddim' or"),
        (Experiment, {"sampler": "dpmpp_2m", "eta": 1}, "eta: with dpmpp_2m, 0 among"),
        (Experiment, {"spacing": ("uniform", "even")}, "spacing: 'uniform' or"),
        (Experiment, {"steps": ()}, "steps: one value or more"),
        (Experiment, {"n_samples": "12"}, "n_samples: a whole number"),
    ],
)
def test_what_makes_no_sense_cannot_be_asked_for(kind, changes, word):
    with pytest.raises(ValueError, match=f"^{word}"):
        kind(**changes)


def test_each_cell_has_its_figures(checkpoint, judge, path):
    result = run(checkpoint, judge, path, machine="mine")
    assert result == json.loads(path.read_text(encoding="utf-8"))
    assert result["n"] == 12 and result["machine"] == "mine"
    assert [ex.cell_of(record) for record in result["cells"]] == CELLS
    for cell, record in zip(CELLS, result["cells"], strict=True):
        assert record["evaluations"] == cell.evaluations
    assert [file.name for file in path.parent.iterdir()] == ["r.json"]
    for record in (*result["cells"], result["floor"]):
        low, high = record["fcd_interval"]
        assert low < record["fcd"] < high
        low, high = record["label_accuracy_interval"]
        assert low <= record["label_accuracy"] <= high
        assert 0 <= record["precision"] <= 1 and 0 <= record["recall"] <= 1
        assert 1 <= record["classifier_score"] <= 3
        assert len(record["by_class"]) == 3


def test_few_images_are_enough(checkpoint, judge, path):
    few = DATA._replace(x=DATA.x[:10], c=DATA.c[:10])
    *_, result = evaluate(checkpoint, judge, ONE, path, few)
    assert "floor" not in result and 0 <= result["cells"][0]["precision"] <= 1


def test_the_figures_are_those_of_the_samples(checkpoint, judge, path):
    noisy = Experiment(steps=4, eta=1, n_samples=12)
    record = run(checkpoint, judge, path, noisy)["cells"][0]
    c = ex.in_shares(DATA.c, 12)
    parts = [
        sampled(checkpoint, c[i : i + 5], Sampling(4, 1), 0, i) for i in (0, 5, 10)
    ]
    features, logits = judge.seen(torch.cat([lu.last(steps) for steps in parts]))
    assert record["fcd"] == frechet_distance(features, judge.real)
    right = (logits.argmax(1) == c.argmax(1)).double().mean()
    assert record["label_accuracy"] == right


def test_eta_1_with_all_steps_is_ddpm(checkpoint):
    c = torch.eye(3)
    ours = lu.last(sampled(checkpoint, c, Sampling(8, 1.0), seed=4))
    noise, fresh = lu.initial_noise(3, (1, 8, 8), 4), lu.image_generators(3, 4)
    eps_fn = lu.guide(checkpoint.model, c)
    theirs = lu.last(lu.ddpm(eps_fn, noise, checkpoint.schedule, generator=fresh))
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_copies_of_the_training_data_are_counted(judge):
    found = ex.figures(judge, DATA.x[:20], DATA.c[:20], DATA)
    assert found["copies"] == 1 and found["nearest_median"] < 1e-3
    assert ex.figures(judge, UNSEEN.x, UNSEEN.c, DATA)["copies"] == 0
    assert "copies" not in ex.figures(judge, UNSEEN.x, UNSEEN.c)


def test_classes_are_asked_for_in_the_shares_of_the_data():
    c = torch.eye(4)[torch.tensor([0] * 50 + [3] * 30 + [1] * 20)]
    wanted = ex.in_shares(c, 20)
    assert wanted.sum(0).tolist() == [10, 4, 0, 6]
    ordered = torch.tensor([0] * 10 + [1] * 4 + [3] * 6)
    shuffled = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(wanted, torch.eye(4)[ordered[shuffled]])  # as in the cards
    some = ex.like_those(c.bool(), wanted.bool())
    assert len(set(some.tolist())) == 20
    assert c[some].sum(0).tolist() == [10, 4, 0, 6]
    assert len(ex.in_shares(c, 7)) == 7


# Several classes in one image


HALVES = torch.ones(2, 1, 8, 8)
HALVES[0, ..., 4:], HALVES[1, ..., :4] = 0, 0  # what each of two classes paints


def painted(c):
    """Images (N,1,8,8): the left half is bright for class a, the right one for b."""
    return torch.einsum("nk,kchw->nchw", c, 1.6 * HALVES) - 0.8


class Painter(torch.nn.Module):
    """Knows the noise in painted(c), or in what is painted for less than c."""

    def __init__(self, schedule, heard):
        super().__init__()
        self.schedule, self.weight = schedule, torch.nn.Parameter(heard)

    def forward(self, x, t, c):
        ab = self.schedule.alpha_bar[(t * self.schedule.T).round().long()]
        ab = ab.view(-1, 1, 1, 1)
        return (x - ab.sqrt() * painted(c * self.weight)) / (1 - ab).sqrt()


KINDS = torch.tensor([[1.0, 1], [1, 0], [0, 1], [0, 0]])
SHARES = torch.tensor([[1.0, 0], [0.5, 0.5], [0, 1]])


@pytest.mark.parametrize(
    ("kinds", "counts", "ignorant"),
    [(KINDS, [5, 10, 5, 20], 0.75), (SHARES, [10, 20, 10], 0.25)],
)
def test_all_the_labels_of_a_context_count(path, kinds, counts, ignorant):
    """A model that does not hear of the second class is right where it is not asked."""
    c = kinds.repeat_interleave(torch.tensor(counts), 0)
    noise = 0.1 * lu.initial_noise(40, (1, 8, 8))
    data = lu.Pictures((painted(c) + noise).clamp(-1, 1), c, ("a", "b"))
    judge, _ = quick_judge(data, 200)
    assert judge.several == (kinds is KINDS) and judge.accuracy(data.x, c) == 1
    experiment = Experiment(steps=2, eta=0, n_samples=40)
    found = {}
    for name, heard in {"all": (1.0, 1.0), "first": (1.0, 0.0)}.items():
        model = Painter(lu.Schedule.linear(8), torch.tensor(heard))
        checkpoint = lu.Checkpoint(model, model.schedule, data.names, (1, 8, 8), {})
        plan = ex.planned(checkpoint, judge, experiment, path, data, None, {})
        asked = sorted(plan.c.tolist())
        assert asked == sorted(c.tolist())
        *_, result = evaluate(checkpoint, judge, experiment, path.with_stem(name), data)
        found[name] = result["cells"][0]
    assert found["all"]["label_accuracy"] == 1 and found["all"]["by_class"] == [1, 1]
    assert found["first"]["label_accuracy"] == ignorant
    assert found["first"]["by_class"][1] == 0


def test_of_data_without_classes_time_and_neighbours_are_left(judge, checkpoint, path):
    model = small_model(1, 0)
    bare = lu.Checkpoint(model, lu.Schedule.linear(8), (), (1, 8, 8), {})
    data = DATA._replace(c=DATA.c[:, :0], names=())
    *_, result = evaluate(bare, None, ONE, path, data)
    [cell] = result["cells"]
    left = {"n", "seconds", "evaluations", "nearest_median", "copies"}
    assert set(cell) == {*vars(Sampling(2)), *left} and result["judge"] is None
    assert result == ex.read_result(path) and 0 < cell["nearest_median"] < 2
    with pytest.raises(ValueError, match="^judge: None without classes is needed"):
        evaluate(bare, judge, ONE, path, data)
    with pytest.raises(ValueError, match="^judge: one of images .* and 3 classes"):
        evaluate(checkpoint, None, ONE, path, DATA)


# Killed and resumed


@pytest.mark.parametrize("steps", [1, 7, 12, 25])
def test_a_stopped_run_goes_on_where_it_was(checkpoint, judge, path, steps):
    whole = without_seconds(run(checkpoint, judge, path.with_name("whole.json")))
    list(islice(evaluate(checkpoint, judge, SOME, path, DATA, UNSEEN), steps))
    calls, hook = count_calls(checkpoint.model)
    again = list(evaluate(checkpoint, judge, SOME, path, DATA, UNSEEN))
    hook.remove()
    assert without_seconds(again[-1]) == whole
    total = 3 * sum(cell.steps for cell in CELLS)
    assert len(again) == total  # what was done is counted, for the bar
    assert total - steps <= len(calls) < total - steps + 4  # one batch again at most
    assert not list(path.parent.glob("*.part*"))


def test_one_run_neither_takes_nor_costs_another_its_samples(checkpoint, judge, path):
    list(islice(evaluate(checkpoint, judge, OTHER, path, DATA), 9))  # two batches of 3
    found, fresh = (
        run(checkpoint, judge, file, ONE)["cells"][0]["fcd"]
        for file in (path, path.with_name("fresh.json"))
    )
    assert found == fresh
    calls, hook = count_calls(checkpoint.model)
    run(checkpoint, judge, path, OTHER)
    hook.remove()
    assert len(calls) == 4  # the third


def test_samples_of_another_network_are_not_taken(checkpoint, judge, path):
    list(islice(evaluate(checkpoint, judge, OTHER, path, DATA), 9))  # two batches of 3
    with torch.no_grad():
        checkpoint.model.mix.bias += 1
    ours = run(checkpoint, judge, path, OTHER)
    fresh = run(checkpoint, judge, path.with_name("fresh.json"), OTHER)
    assert without_seconds(ours) == without_seconds(fresh)


def test_more_cells_join_the_file(checkpoint, judge, path):
    first = run(checkpoint, judge, path, ONE)["cells"]
    both = run(checkpoint, judge, path, OTHER)["cells"]
    assert both[:1] == first and len(both) == 2
    assert run(checkpoint, judge, path, BOTH)["cells"] == both


@pytest.mark.parametrize(
    ("change", "word"),
    [({"n_samples": 13}, "another n"), ({"seed": 1}, "another seed")],
)
def test_results_of_another_run_are_kept(checkpoint, judge, path, change, word):
    run(checkpoint, judge, path, ONE)
    before = path.read_bytes()
    other = Experiment(**{"steps": 2, "eta": 0, "n_samples": 12, **change})
    with pytest.raises(ValueError, match=rf"r\.json: of {word}; move it away"):
        run(checkpoint, judge, path, other)
    with torch.no_grad():
        checkpoint.model.mix.bias += 1
    with pytest.raises(ValueError, match="another model"):
        run(checkpoint, judge, path)
    assert path.read_bytes() == before


NAN_C = DATA._replace(c=DATA.c * float("nan"))
OTHER_JUDGE = r"judge: one of images \(1, 8, 8\) and 3 classes"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"experiment": Experiment(steps=9, n_samples=12)}, "steps: .* in 1..8"),
        ({"path": "r.txt"}, r"path: a path that ends in \.json"),
        ({"judge": Judge(3, DATA.names, 8)}, OTHER_JUDGE),
        ({"judge": Judge(1, "abcd", 8)}, OTHER_JUDGE),
        ({"judge": Judge(1, DATA.names, 8, (1, 4, 4))}, OTHER_JUDGE),
        ({"data": DATA._replace(x=DATA.x[:, :, :4])}, r"data\.x: "),
        ({"data": DATA._replace(x=DATA.x.repeat(1, 3, 1, 1))}, r"data\.x: "),
        ({"data": NAN_C}, r"data\.c: a tensor of finite numbers"),
        ({"data": None}, "data: Pictures"),
        ({"experiment": {"steps": 2}}, r"experiment: Experiment\("),
        ({"judge": "mnist"}, "judge: a Judge"),
        (
            {"data": DATA._replace(x=DATA.x[:9], c=DATA.c[:9])},
            r"data\.x: 10 images or more",
        ),
        ({"unseen": UNSEEN._replace(x=UNSEEN.x[..., :4])}, r"unseen\.x: "),
    ],
)
def test_what_cannot_be_evaluated(checkpoint, judge, path, changes, word):
    arguments = {"judge": judge, "experiment": SOME, "path": path, "data": DATA}
    with pytest.raises(ValueError, match=f"^{word}"):
        evaluate(checkpoint, **{**arguments, **changes})
    assert not path.exists()


def test_data_that_the_checkpoint_was_not_trained_on(checkpoint, judge, path):
    known = checkpoint._replace(meta={"fingerprint": fingerprint(DATA.x, DATA.c)})
    run(known, judge, path, ONE)
    with pytest.raises(ValueError, match="data: what the checkpoint was trained on"):
        evaluate(known, judge, ONE, path, UNSEEN)


BAD_CELL = '{"cells": [{"steps": 2, "eta": 0, "guidance": 1, "n": 12, "seconds": "1"}]}'
NO_RESULTS = ["", "{}", "[]", '{"cells": [{}]}', '{"cells": 3}', '{"cells": {}}']


@pytest.mark.parametrize("text", [*NO_RESULTS, BAD_CELL, "[" * 100_000])
def test_a_file_that_is_no_result(checkpoint, judge, path, text):
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"r\.json: no result of evaluate"):
        evaluate(checkpoint, judge, SOME, path, DATA)
    assert path.read_text(encoding="utf-8") == text


def test_samples_with_nan_are_refused(checkpoint, judge, path):
    with torch.no_grad():
        checkpoint.model.mix.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN"):
        run(checkpoint, judge, path)
