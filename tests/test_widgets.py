"""The playground, without a kernel: its callbacks are called plainly."""

import re

import pytest
import torch

from lesson_utils import ContextUnet, Schedule, playground, save


@pytest.fixture
def path(tmp_path):
    torch.manual_seed(0)
    model = ContextUnet(1, 2, 16)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    path = tmp_path / "tiny.safetensors"
    save(path, model, Schedule.linear(40), ("cat", "<dog>"), (1, 8, 8))
    return path


@pytest.fixture
def play(path):
    return playground(path, 2)


def source(play):
    return re.search(r'src="(data:image/png;base64,[^"]+)"', play.image.value)[1]


def test_it_shows_samples_with_words_for_them(play):
    assert play.pictures.shape == (2, 1, 8, 8)
    assert [s.description for s in play.context] == ["cat", "<dog>"]
    assert 'alt="2 samples of 1 cat, 0 &lt;dog&gt;"' in play.image.value
    assert re.fullmatch(r"8 evaluations, \d+\.\d\d s", play.status.value)
    play.guidance.value = 2.0  # which costs two evaluations a step
    assert play.status.value.startswith("16 evaluations")


@pytest.mark.parametrize(
    ("control", "value"),
    [("guidance", 3.0), ("steps", 3), ("eta", 1.0), ("seed", 5), ("sampler", "DDPM")],
)
def test_each_control_changes_the_picture_and_back(play, control, value):
    first, slider = source(play), getattr(play, control)
    before = slider.value
    slider.value = value
    assert source(play) != first
    slider.value = before
    assert source(play) == first


def test_the_context_changes_the_picture(play):
    first = source(play)
    play.context[1].value = 0.5
    assert source(play) != first and "0.5 &lt;dog&gt;" in play.image.value


def test_the_same_settings_give_the_same_picture(path, play):
    again = playground(path, 2)
    assert source(again) == source(play)
    play.draw()
    assert source(again) == source(play) and torch.equal(again.pictures, play.pictures)


def test_ddpm_takes_all_steps_and_ddim_what_is_asked(play):
    play.sampler.value = "DDPM"
    assert play.status.value.startswith("40 evaluations")
    play.sampler.value = "DDIM"
    play.steps.value = 5
    assert play.status.value.startswith("5 evaluations")


@pytest.mark.parametrize("kind", [ValueError, RuntimeError])
def test_what_goes_wrong_stands_in_the_status(play, monkeypatch, kind):
    def fails(*arguments, **more):
        raise kind("no <such> memory")

    first = source(play)
    monkeypatch.setattr("lesson_utils.widgets.ddim", fails)
    play.seed.value = 7
    assert play.status.value == "<b>no &lt;such&gt; memory</b>"
    assert source(play) == first
    monkeypatch.undo()
    play.draw()
    assert "evaluations" in play.status.value and source(play) != first


def test_a_model_without_classes_has_no_sliders_for_them(path):
    save(path, ContextUnet(3, 0, 16), Schedule.linear(40), (), (3, 8, 8))
    play = playground(path, 1)
    assert play.context == [] and 'alt="1 samples"' in play.image.value
