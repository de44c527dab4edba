"""Results shown: table, chart, model cards and their images."""

import json

import pytest
import torch
from small import small_checkpoint, small_data

from lesson_utils import Schedule, initial_noise, load
from lesson_utils.quality import card, inversion
from lesson_utils.quality.inversion import errors, inversion_table, invert_all
from lesson_utils.quality.markdown import differences, inverted
from lesson_utils.quality.markdown import solved as solved_words
from lesson_utils.quality.report import chart, committed, solvers_chart, table
from lesson_utils.support.files import CHECKPOINTS


def record(S, eta, guidance=1.0, **more):
    about = {"steps": S, "eta": eta, "guidance": guidance, "n": 10}
    figures = {"fcd": S + 0.25, "seconds": 2.0 * S, "fcd_interval": [S, S + 0.5]}
    return {**about, **figures, **more}


def test_the_table_has_the_papers_layout():
    cells = [record(S, eta) for eta in ("sigma-hat", 0.0, 1.0) for S in (100, 10)]
    cells[0]["guidance"] = 2.0
    assert table({"cells": cells}, form=".2f").splitlines() == [
        "| η | S = 10 | S = 100 |",
        "|---|---:|---:|",
        "| 0 | 10.25 | 100.25 |",
        "| 1 | 10.25 | 100.25 |",
        "| σ̂ | 10.25 | – |",
    ]
    assert table({"cells": cells}, form=".2f", error=True).splitlines()[2:4] == [
        "| 0 | 10.25 ± 0.25 | 100.25 ± 0.25 |",
        "| 1 | 10.25 ± 0.25 | 100.25 ± 0.25 |",
    ]
    result = {"cells": cells, "floor": {"n": 10, "fcd": 1.0}}
    assert chart(result).startswith(b"\x89PNG")
    assert chart(result) != chart({"cells": cells})


def test_solvers_and_spacings_have_rows_of_their_own():
    cells = [record(S, 0.0) for S in (10, 20)]
    cells += [record(10, 0.0, spacing="logsnr")]
    cells += [record(10, 0.0, sampler="heun", spacing="logsnr", fcd=1.0)]
    cells += [record(20, 0.0, sampler="dpmpp_2m", spacing="uniform", fcd=2.0)]
    assert table({"cells": cells[::-1]}, form=".2f").splitlines() == [
        "| η, or sampler | S = 10 | S = 20 |",
        "|---|---:|---:|",
        "| 0 | 10.25 | 20.25 |",
        "| 0, logsnr | 10.25 | – |",
        "| dpmpp_2m | – | 2.00 |",
        "| heun, logsnr | 1.00 | – |",
    ]
    assert chart({"cells": cells}) != chart({"cells": cells[:3]})
    wrong = record(10, 0.5, sampler="heun")  # heun has no η
    for show in (table, chart):
        with pytest.raises(ValueError, match="^result: a result of evaluate"):
            show({"cells": [wrong]})


@pytest.mark.parametrize("seconds", [4e-4, 0.0331, 0.4938, 31.0])
@pytest.mark.parametrize("fcd", [-1e-12, 1.6e-7, 0.0011, 0.5763, 212.0])
def test_one_dot_makes_a_chart(seconds, fcd):
    about = {"seconds": seconds, "fcd": fcd, "fcd_interval": [fcd - 1, fcd + 1]}
    assert chart({"cells": [record(2, 0.0, **about)]}).startswith(b"\x89PNG")


@pytest.mark.parametrize("show", [table, chart])
def test_nothing_to_show_is_refused(show):
    with pytest.raises(ValueError, match="^result: a result with a cell or more"):
        show({"cells": []})
    with pytest.raises(ValueError, match=r"^guidance: one of \[1.0\], .* got 2.0"):
        show({"cells": [record(2, 0.0)]}, guidance=2.0)


@pytest.mark.parametrize("show", [table, chart])
@pytest.mark.parametrize("change", [{"fcd": None}, {"steps": "2"}, {"eta": 3}])
def test_what_is_no_result_is_refused(show, change):
    others = ({"cells": 3}, {"cells": [{}]}, {"cells": [record(2, 0.0) | change]})
    for wrong in ({}, None, [], "", *others):
        with pytest.raises(ValueError, match="^result: a result of evaluate with fcd"):
            show(wrong)
    with pytest.raises(ValueError, match="^result: a result of evaluate with nothing"):
        table({"cells": [record(2, 0.0)]}, "nothing")
    with pytest.raises(ValueError, match="^result: a result of evaluate with seconds"):
        table({"cells": [record(2, 0.0)]}, "seconds", error=True)


def solved(solver, evaluations, n=10, height=1.0, **more):
    """A cell of tools/after_ddim.py."""
    about = {"solver": solver, "spacing": "uniform", "steps": evaluations, "n": n}
    how = {"guidance": 1.0, "interval": None, "worse": False}
    fcd = height / evaluations
    figures = {"fcd": fcd, "fcd_interval": [fcd / 2, 2 * fcd], "seconds": 1.0}
    return {**about, **how, "evaluations": evaluations, **figures, **more}


def all_solved(**more):
    return [
        solved(solver, evaluations, **more)
        for solver in ("ddim", "heun", "dpmpp_2m", "unipc")
        for evaluations in (4, 6, 10)
    ]


FULL = {"cells": [record(500, 1.0), record(500, 0.0)], "floor": {"n": 10, "fcd": 0.01}}


def test_the_solvers_have_a_chart():
    cells = all_solved()
    bare = solvers_chart({"cells": cells})
    assert bare.startswith(b"\x89PNG") and bare == solvers_chart({"cells": cells[::-1]})
    assert bare == solvers_chart({"cells": cells}, None)
    limit = [*cells, solved("ddim", 100)]
    with_lines = solvers_chart({"cells": limit}, FULL)
    assert len({bare, solvers_chart({"cells": limit}), with_lines}) == 3
    logsnr = [solved("ddim", n, spacing="logsnr") for n in (4, 6, 10)]
    assert solvers_chart({"cells": cells + logsnr}) != bare


def test_a_chart_of_solvers_leaves_out_what_cannot_be_compared():
    """Other numbers of samples, guidance of another kind, and lone dots."""
    cells = all_solved()
    bare = solvers_chart({"cells": cells})
    for more in (
        {"n": 20},
        {"guidance": 2.0},
        {"interval": [0.25, 0.75]},
        {"worse": True},
        {"spacing": "quad"},
    ):
        assert solvers_chart({"cells": [*cells, solved("ddim", 8, **more)]}) == bare
    few = {"cells": [cell | {"n": 5} for cell in FULL["cells"]]}
    few["floor"] = {"n": 5, "fcd": 0.01}
    assert solvers_chart({"cells": cells}, few) == bare
    guided = [solved("ddim", n, guidance=2.0, height=2) for n in (4, 8, 16)]
    both = {"cells": cells + guided}
    assert solvers_chart(both) == bare != solvers_chart(both, guidance=2.0)


def test_solvers_and_ways_to_guide_have_tables():
    seen = {"label_accuracy": 0.5, "label_accuracy_interval": [0.4, 0.6]}
    more = {**seen, "precision": 0.7, "recall": None, "n": 2000}
    cells = all_solved(**more)
    heun = [solved("heun", n, height=2, **more) for n in (3, 5, 9)]  # odd ones
    cells = [cell for cell in cells if cell["solver"] != "heun"] + heun
    way = {**more, "steps": 20, "guidance": 3.0}
    guided = [
        solved("ddim", 40, **{**way, "worse": True}),
        solved("dpmpp_2m", 31, **{**way, "steps": 26, "interval": [0.2, 0.7]}),
        solved("ddim", 40, **way),
        solved("ddim", 40, **{**way, "n": 500}),  # too few samples
    ]
    text = solved_words({"name": "x", "machine": "mine", "cells": cells + guided})
    assert "| evaluations | 4 | 6 | 10 |\n" in text
    assert "| DDIM | 0.250 ± 0.188<br>50.0%, 1 s | 0.167" in text
    assert "| Heun | 3: 0.667" in text and "| 5: 0.400" in text and "| 9: 0.222" in text
    ways = [line for line in text.splitlines() if line.startswith("| g = 3")]
    plain, within, worse = ways
    assert plain.startswith("| g = 3 | 2,000 | 40 | 0.025 (0.013 … 0.050) | 50.0% (40")
    assert within.startswith("| g = 3 within (0.2, 0.7), 2M-26 | 2,000 | 31 |")
    assert worse.startswith("| g = 3, worse network |") and worse.endswith("| – |")


def test_what_is_no_result_of_solvers_is_refused():
    needed = "^result: a result of tools/after_ddim.py"
    wrong = [
        {},
        None,
        [],
        "",
        {"cells": [{}]},
        {"cells": []},
        {"cells": [record(2, 0)]},
    ]
    wrong += [{"cells": all_solved(fcd="1")}]
    wrong += [{"cells": [solved("euler", n) for n in (4, 6, 10)]}]
    for value in wrong:
        with pytest.raises(ValueError, match=needed):
            solvers_chart(value)
    with pytest.raises(ValueError, match=f"{needed}.* at guidance 3"):
        solvers_chart({"cells": all_solved()}, guidance=3)


@pytest.mark.parametrize("what", ["table", "guidance", "inversion"])
def test_what_is_committed_is_found_by_name(what):
    for name in ("sprites", "mnist"):
        assert committed(name, what)["cells"]
    assert committed("../pets", what) is None


def tiny(seed=0):
    return small_checkpoint(seed=seed)._replace(schedule=Schedule.linear(20))


@pytest.fixture
def few(monkeypatch):
    """Two sizes and one way, in batches of two."""
    monkeypatch.setattr(inversion, "PAPER", {4: 0.014, 10: 0.0065})
    monkeypatch.setattr(inversion, "REFINE", (0,))
    monkeypatch.setattr(inversion, "BATCH", 2)


DATA = small_data(9)._replace(x=initial_noise(9, (1, 8, 8)).tanh())


def there_and_back(path, checkpoint=None, n=5):
    about = {"name": "tiny", "machine": "mine"}
    *_, result = invert_all(checkpoint or tiny(), DATA, n, path, **about)
    return result


def test_errors_are_of_values_from_0_to_1_and_of_the_latents():
    x0 = torch.zeros(4, 1, 16, 16)
    far = torch.tensor([0.2, 0.2, 0.2, 0.6]).view(-1, 1, 1, 1)
    noise = initial_noise(4, (1, 16, 16))
    found = errors(x0, noise, x0 + far)
    assert found["mse"] == pytest.approx((3 * 0.01 + 0.09) / 4)
    assert found["median"] == pytest.approx(0.01)
    assert found["worst"] == pytest.approx(0.09)
    assert found["error"] == pytest.approx(1.96 * 0.04 / 2)  # of 0.04 over √4
    assert abs(found["variance"] - 1) < 0.1 > abs(found["correlation"])
    rows = noise[..., :1].expand(-1, -1, -1, 16) + 3
    found = errors(x0, rows, x0)
    assert found["mse"] == 0 and found["correlation"] > 0.99
    assert found["mean"] == pytest.approx(float(rows.mean()))


def test_inversion_goes_on_where_it_was(few, tmp_path, monkeypatch):
    path = tmp_path / "i.json"
    first = there_and_back(path)
    assert [(c["refine"], c["steps"]) for c in first["cells"]] == [(0, 4), (0, 10)]
    assert json.loads(path.read_text(encoding="utf-8")) == first
    kept = [dict(cell) for cell in first["cells"]]
    monkeypatch.setattr(inversion, "REFINE", (0, 6))
    both = there_and_back(path)
    assert both["cells"][:2] == kept and len(both["cells"]) == 4
    plain, refined = both["cells"][1::2]
    assert refined["mse"] < plain["mse"] / 10
    for change in ({"checkpoint": tiny(1)}, {"n": 4}):
        with pytest.raises(ValueError, match="another network or number"):
            there_and_back(path, **change)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"cells": [{}]}', '{"cells": 3}'])
def test_a_file_that_is_no_inversion(few, tmp_path, text):
    path = tmp_path / "i.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"i\.json: no result of invert_all"):
        there_and_back(path)


def test_the_batches_leave_no_trace(few, tmp_path, monkeypatch):
    one = there_and_back(tmp_path / "1.json")
    monkeypatch.setattr(inversion, "BATCH", 5)
    other = there_and_back(tmp_path / "2.json")
    for a, b in zip(one["cells"], other["cells"], strict=True):
        assert a["mse"] == pytest.approx(b["mse"], rel=1e-3)


def test_the_papers_row_stands_beside_ours(few, tmp_path):
    result = there_and_back(tmp_path / "i.json")
    lines = inversion_table(result).splitlines()
    assert lines[0] == "| | S = 4 | S = 10 |"
    assert lines[-1] == "| the paper, CIFAR-10 | 140 | 65 |"
    [ours] = [line for line in lines if line.startswith("| refine = 0 |")]
    assert float(ours.split("|")[2]) > float(ours.split("|")[3]) > 0
    assert inversion_table(result) in inverted(result)


# Cards


def test_marks_are_filled_and_nothing_else_changes(tmp_path):
    path = tmp_path / "card.md"
    path.write_text("a\n<!-- x -->\nold\n<!-- /x -->\nb\n", encoding="utf-8")
    card.fill(path, "x", r"new \1 σ̂")
    text = path.read_text(encoding="utf-8")
    assert text == "a\n<!-- x -->\nnew \\1 σ̂\n<!-- /x -->\nb\n"
    for name in ("y", "x y"):
        with pytest.raises(ValueError, match="found 0 times, not once"):
            card.fill(path, name, "")
    assert path.read_text(encoding="utf-8") == text


def test_differences_of_the_card_have_the_error_of_both():
    cells = [
        record(20, 0.0, fcd=0.5, fcd_interval=[0.47, 0.53]),
        record(20, 1.0, fcd=0.3, fcd_interval=[0.26, 0.34]),
        record(50, 1.0, fcd=0.2, fcd_interval=[0.16, 0.24]),
    ]
    assert differences({"cells": cells}).splitlines() == [
        "| η | S = 20 |",
        "|---|---:|",
        "| 1 | -0.200 ± 0.050 |",
    ]


@pytest.mark.parametrize("name", ["sprites", "mnist"])
def test_the_model_card_shows_record_and_figures_of_enough_samples(name):
    """Every part of the card is what the committed results give."""
    full, guided = committed(name, "table"), committed(name, "guidance")
    assert guided["n"] >= 2000 and guided["floor"]["n"] == guided["n"]
    assert full["n"] >= 2000
    assert full["floor"]["n"] == full["n"]
    text = (CHECKPOINTS / "README.md").read_text(encoding="utf-8")
    who = card.Subject(name, load(name), None, None)
    for part, words in card.sections(who).items():
        assert f"<!-- {part} -->\n{words}\n<!-- /{part} -->" in text


def test_the_images_of_a_card():
    data = small_data(70, classes=2)
    who = card.Subject("tiny", tiny(), data, data)
    assert card.samples_beside_real(who, 16).shape == (64, 8 * 32 * 2 + 32, 3)
    rows, columns, _ = card.neighbours(who, 30).shape
    assert rows > 4 * 24 and columns >= 15 * 24
    assert card.contact_sheet(2, 5).shape == (128, 320, 3)
    meta = {"loss_curve": [3.0, 2.0, 1.0], "steps": 30}
    assert card.loss_curve(tiny()._replace(meta=meta)).startswith(b"\x89PNG")


def test_the_loss_of_a_longer_training_stands_after_that_before(monkeypatch):
    drawn = []
    monkeypatch.setattr(card, "plot", lambda curves, x, *_, **__: drawn.extend(x))
    meta = {"loss_curve": [3.0, 2.0, 1.0], "steps": 2, "images_seen": 48}
    meta |= {"settings": {"batch_size": 4}}  # 10 updates before
    card.loss_curve(tiny()._replace(meta=meta))
    assert drawn == [5, 10.5, 11.5]
