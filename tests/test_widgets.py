"""The playground, without a kernel: its callbacks are called plainly."""

import asyncio
import base64
import functools
import html
import os
import random
import re
import signal
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import imageio.v3 as iio
import ipywidgets
import pytest
import torch
from small import small_checkpoint, small_model
from torch._subclasses.fake_tensor import FakeTensorMode

from lesson_utils import (
    Schedule,
    ddpm,
    dpmpp_2m,
    guide,
    heun,
    initial_noise,
    last,
    playground,
    save,
    widgets,
)

MILD = Schedule(torch.linspace(1, 0.3, 41))  # so that guesses are no extremes
SHORT = Schedule(torch.linspace(1, 0.3, 7))


def keep(folder, names=("cat", "<dog>"), channels=1):
    path = folder / "tiny.safetensors"
    model = small_model(channels, len(names), lively=True)
    save(path, model, MILD, names, (channels, 8, 8))
    return path


@pytest.fixture
def path(tmp_path):
    return keep(tmp_path)


@pytest.fixture(autouse=True)
def own_folder(monkeypatch, tmp_path):
    """Films are saved here; and no slow machine shows guesses while it draws."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(widgets, "LIVE", float("inf"))


@pytest.fixture
def play(path):
    return playground(path, 2, "cpu")


def sources(play):
    return re.findall(r'src="(data:image/png;base64,[^"]+)"', play.image.value)


def source(play):
    [one] = sources(play)
    return one


def said(play):
    return re.sub("<[^>]+>", "", play.status.value)


def evaluations(play):
    """A list that grows by one batch size at each call of the network."""
    sizes = []
    play.checkpoint.model.register_forward_pre_hook(
        lambda _, x: sizes.append(len(x[0]))
    )
    return sizes


def test_it_shows_samples_with_words_for_them(play):
    assert play.images.shape == (2, 1, 8, 8)
    assert [s.description for s in play.context] == ["cat", "<dog>"]
    assert 'alt="2 samples of cat"' in play.image.value
    assert re.fullmatch(r"8 evaluations of the network, \d+\.\d\d s", said(play))
    play.guidance.value = 2.0  # which costs two evaluations a step
    assert said(play).startswith("16 evaluations")
    play.guidance.value = 1.0000000000000002  # what a browser makes of 1.25 - 0.25
    assert said(play).startswith("8 evaluations")
    assert play.progress.value == play.progress.max == 8
    assert play.stop.disabled and not play.save.disabled


@pytest.mark.parametrize(
    ("control", "value"),
    [
        ("guidance", 3.0),
        ("steps", 3),
        ("eta", 1.0),
        ("seed", 5),
        ("sampler", "DDPM"),
        ("sampler", "Heun"),
    ],
)
def test_each_control_changes_the_picture_and_back(play, control, value):
    first, control = source(play), getattr(play, control)
    before = control.value
    control.value = value
    assert source(play) != first
    control.value = before
    assert source(play) == first


def test_picture_i_stays_when_their_number_changes(play):
    two = play.images
    play.count.value = 3
    assert play.images.shape == (3, 1, 8, 8)
    assert torch.allclose(play.images[:2], two, atol=1e-4)
    assert 'alt="3 samples of cat"' in play.image.value


def test_ddpm_takes_all_steps_and_ddim_what_is_asked(play):
    play.sampler.value = "DDPM"
    assert said(play).startswith("40 evaluations")
    assert play.steps.disabled and play.eta.disabled
    play.sampler.value = "DDIM"
    assert not play.steps.disabled and not play.eta.disabled
    play.steps.value = 5
    assert said(play).startswith("5 evaluations")


def test_solvers_take_the_steps_asked_for_and_no_eta(play):
    sizes = evaluations(play)
    for name, solver, cost in (("Heun", heun, 9), ("DPM++ 2M", dpmpp_2m, 5)):
        with play.quietly():
            play.steps.value = 5
        sizes.clear()
        play.sampler.value = name
        assert said(play).startswith(f"{cost} evaluations") and len(sizes) == cost
        assert play.eta.disabled and not play.steps.disabled
        eps_fn = guide(play.checkpoint.model, torch.eye(2)[:1].repeat(2, 1))
        right = last(solver(eps_fn, initial_noise(2, (1, 8, 8)), MILD, 5))
        assert torch.equal(play.images, right)
        play.guidance.value = 2.0
        assert said(play).startswith(f"{2 * cost} evaluations")
        play.guidance.value = 1.0
    assert play.save.click() is None and "_dpmpp-2m-5_seed0_" in said(play)
    play.sampler.value = "DDIM"
    assert not play.eta.disabled


def test_a_solver_that_is_stopped_says_what_it_cost(play):
    play.steps.value = 5
    play.sampler.value = "Heun"
    run = play.asked()
    for cost in (2, 4, 6, 8, 9):
        run.advance()
        assert run.evaluations == cost


# The prompt, the presets and the sliders are one wish


def wish(play):
    return play.prompt.value, play.preset.value, *(s.value for s in play.context)


def test_the_slider_of_a_class_writes_the_prompt(play):
    first = source(play)
    play.context[1].value = 0.5
    assert source(play) != first
    assert wish(play) == ("cat + 0.5 <dog>", None, 1.0, 0.5)
    assert 'alt="2 samples of cat + 0.5 &lt;dog&gt;"' in play.image.value
    play.context[0].value = play.context[1].value = 0.0
    assert wish(play) == ("", "", 0.0, 0.0)
    assert 'alt="2 samples of anything"' in play.image.value


def test_the_prompt_moves_the_sliders(play):
    first, sizes = source(play), evaluations(play)
    play.prompt.value = "½ CAT, 0.125 <dog>"
    assert wish(play) == ("½ CAT, 0.125 <dog>", None, 0.5, 0.125)
    assert len(sizes) == 8 and source(play) != first  # one drawing, not one a control
    play.prompt.value = "cat"
    assert wish(play) == ("cat", "cat", 1.0, 0.0) and source(play) == first


def test_a_preset_sets_both(play):
    texts = [text for _, text in play.preset.options]
    assert texts == [None, "cat", "<dog>", "0.5 cat + 0.5 <dog>", ""]
    first = source(play)
    play.preset.value = "0.5 cat + 0.5 <dog>"
    assert wish(play) == ("0.5 cat + 0.5 <dog>",) * 2 + (0.5, 0.5)
    assert source(play) != first
    play.preset.value = None  # "your own" asks for nothing new
    assert play.prompt.value == "0.5 cat + 0.5 <dog>"


def test_a_bad_prompt_says_so_in_its_place_and_draws_nothing(play):
    first, status = source(play), play.status.value
    play.prompt.value = "<dogg>"
    assert 'role="alert"' in play.complaint.value
    assert "did you mean &#x27;&lt;dog&gt;&#x27;?" in play.complaint.value
    assert (source(play), play.status.value) == (first, status)
    play.seed.value = 3  # is drawn with the last good prompt, and says so
    assert 'alt="2 samples of cat"' in play.image.value and play.complaint.value
    play.context[1].value = 0.5
    assert play.complaint.value == "" and play.prompt.value == "cat + 0.5 <dog>"


def shown(widget):
    children = getattr(widget, "children", ())
    return [widget, *(each for child in children for each in shown(child))]


def test_a_model_without_classes_has_no_controls_for_them(tmp_path):
    play = playground(keep(tmp_path, (), 3), 1)
    assert play.context == [] and 'alt="1 sample of anything"' in play.image.value
    assert play.prompt not in shown(play) and play.preset not in shown(play)


def test_many_classes_have_the_prompt_alone(tmp_path):
    names = [f"class {k}" for k in range(300)]
    play = playground(keep(tmp_path, names), 1)
    assert play.context == [] and play.prompt in shown(play)
    first = source(play)
    play.prompt.value = "class 299"
    assert play.preset.value == "class 299" and source(play) != first


def test_ten_classes_stand_in_two_columns(tmp_path):
    few, ten = (playground(keep(tmp_path, [*"abcdefghij"[:k]]), 1) for k in (5, 10))
    widths = [{s.layout.width for s in play.context} for play in (few, ten)]
    assert widths == [{"100%"}, {widgets.HALF}]


def test_every_control_that_is_shown_has_a_label(play):
    text = ipywidgets.HTML | ipywidgets.Box
    controls = [w for w in shown(play) if not isinstance(w, text)]
    assert len(controls) == 16
    assert all(re.search(r"\w", control.description) for control in controls)


# The noise


def test_the_dice_gives_other_noise_and_the_same_number_the_same(play):
    first = source(play)
    play.dice.click()
    assert play.seed.value != "0" and source(play) != first
    play.seed.value = 0
    assert source(play) == first


def test_noise_that_is_not_held_is_new_for_each_drawing(play):
    assert play.hold.value
    play.guidance.value = 2.0
    assert play.seed.value == "0"
    play.hold.value = False
    seeds, sizes = ["0"], evaluations(play)
    for name, value in (("guidance", 1.0), ("steps", 3), ("prompt", "<dog>")):
        getattr(play, name).value = value
        seeds.append(play.seed.value)
    assert len(set(seeds)) == 4 and len(sizes) == 8 + 3 + 3
    play.seed.value = 7
    assert play.seed.value == "7"
    play.dice.click()
    assert play.seed.value != "7" and len(sizes) == 8 + 3 + 3 + 3 + 3


def test_the_dice_never_stay_and_leave_the_numbers_of_the_notebook(play, monkeypatch):
    states = random.getstate(), torch.get_rng_state()
    play.dice.click()
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    for least in (True, False):
        number = (lambda n: 0) if least else (lambda n: n - 1)
        monkeypatch.setattr(widgets.secrets, "randbelow", number)
        for seed in (0, widgets.SEEDS - 1):
            with play.quietly():
                play.seed.value = seed
                play.dice.click()
            assert seed != play.number and 0 <= play.number < widgets.SEEDS
            assert play.seed.value == str(play.number)


@pytest.mark.parametrize(
    "typed", ["3.7", "-5", "abc", "", "1e3", "٣", "1_0", "9" * 20, "9" * 5000]
)
def test_a_seed_that_is_none_is_refused_and_the_last_one_stays(play, typed):
    """Issue 12 (o): 3.7 became 37, and -5 became 0."""
    play.seed.value = "12"
    first, sizes = source(play), evaluations(play)
    play.seed.value = typed
    assert play.seed.value == "12" and source(play) == first and sizes == []
    assert "seed: a whole number in 0.." in play.refusal.value
    assert 'role="alert"' in play.refusal.value
    play.seed.value = " 013 "
    assert play.seed.value == "13" and play.refusal.value == "" and len(sizes) == 8
    assert source(play) != first


# What goes wrong stands in the panel


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, KeyError])
def test_what_goes_wrong_stands_in_the_status(play, monkeypatch, kind):
    def fails(*arguments, **more):
        raise kind("no <such> memory")

    first = source(play)
    monkeypatch.setattr(widgets, "ddim", fails)
    play.seed.value = 7
    assert 'role="alert"' in play.status.value
    assert "no &lt;such&gt; memory" in play.status.value
    assert source(play) == first and play.stop.disabled
    monkeypatch.undo()
    play.draw()
    assert "evaluations" in said(play) and source(play) != first


def test_images_that_are_none_leave_the_last_good_ones(play):
    first = source(play)
    play.checkpoint.model.register_forward_hook(
        lambda _, given, eps: eps / (given[1][0] > 0.5).float()
    )
    play.draw()
    assert "holds NaN" in said(play) and 'role="alert"' in play.status.value
    assert source(play) == first and play.stop.disabled


# Its device


@pytest.mark.parametrize("device, used", [(None, "best"), ("cpu", "cpu")])
def test_the_best_device_is_taken_unless_another_is_named(monkeypatch, device, used):
    monkeypatch.setattr(widgets, "best_device", lambda: "best")
    monkeypatch.setattr(widgets, "load", lambda *arguments: arguments)
    monkeypatch.setattr(widgets, "Playground", lambda *arguments: arguments)
    path = "a/tiny.safetensors"
    assert playground(path, 3.0, device) == ((path, used), "tiny", 3)


def test_the_network_s_device_does_the_work_and_the_cpu_shows_it(monkeypatch):
    """No GPU is needed: fake tensors know their device, and refuse another's."""
    shown, used = [], []
    monkeypatch.setattr(widgets, "markup", lambda x, *_: (str(shown.extend(x)), ""))
    monkeypatch.setattr(widgets, "gif", lambda x, **_: shown.extend(x) or b"GIF8")
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.device("cuda"):
            checkpoint = small_checkpoint()._replace(schedule=SHORT)
        checkpoint.model.register_forward_hook(
            lambda _, given, eps: used.extend(t.device.type for t in (*given, eps))
        )
        play = widgets.Playground(checkpoint, "tiny", 2)
        for name, value in (("guidance", 2.0), ("eta", 0.5), ("sampler", "DDPM")):
            getattr(play, name).value = value
            assert "evaluations" in said(play)
        play.moment.value = 0
        play.save.click()
        assert said(play).startswith("saved")
    assert len(used) == 4 * (2 + 2 + 2 + 6) and set(used) == {"cuda"}
    assert len(shown) == 4 + 2 + 7 and {x.device.type for x in shown} == {"cpu"}


# The film


def test_the_film_shows_x_t_and_the_guess_and_ends_with_the_result(play):
    first = source(play)
    assert play.moment.value == play.moment.max == 8
    play.moment.value = 0
    noise = initial_noise(2, (1, 8, 8)).half()
    assert torch.equal(play.drawn.film[0][1], noise)
    assert "x_t at t = 40" in play.image.value and len(sources(play)) == 2
    noise, guess = sources(play)
    play.moment.value = 4
    assert "x_t at t = 20" in play.image.value
    assert "the guess of x_0 from it" in play.image.value
    assert not {noise, guess, first} & set(sources(play))
    play.moment.value = 8
    assert source(play) == first


def sizes(play):
    pngs = [base64.b64decode(s.partition(",")[2]) for s in sources(play)]
    return [iio.imread(png).shape[:2] for png in pngs]


def test_the_images_are_as_large_as_there_is_room(play):
    found = {}
    for n in (2, 4, 8, 16):
        play.count.value = n
        found[n] = sizes(play)
        play.moment.value = 0
        found[n] += sizes(play)
    side = 384 // 4
    assert found[2] == [(side, 2 * side)] * 3
    assert found[4] == [(side, 384)] * 3 and found[8] == [(2 * side, 384)] * 3
    assert found[16] == [(384, 384), (160, 160), (160, 160)]  # side by side


def test_a_new_drawing_ends_the_scrubbing(play):
    play.moment.value = 3
    play.steps.value = 5
    assert play.moment.value == play.moment.max == 5 and source(play)
    play.sampler.value = "DDPM"
    assert play.moment.value == play.moment.max == 40 and source(play)


def saved(play):
    """The GIF that a press on *Save GIF* leaves, read from saved/."""
    play.save.click()
    name = said(play).removeprefix("saved in saved: ")
    assert f'download="{html.escape(name)}"' in play.status.value
    return Path("saved", name)


def test_the_film_is_saved_as_a_gif(play):
    play.seed.value = 12
    play.guidance.value = 0.5
    path = saved(play)
    assert path.name == "tiny_ddim-8_seed12_cat_guidance0.5_eta0_2-samples.gif"
    assert len(iio.imread(path)) == 9  # noise, and eight steps
    play.sampler.value = "DDPM"
    path = saved(play)
    assert path.name == "tiny_ddpm-40_seed12_cat_guidance0.5_2-samples.gif"
    film = iio.imread(path)
    assert len(film) == 41 and (film[-1] != film[-2]).any()


def test_other_settings_give_another_file(play, monkeypatch):
    """Issue 12 (c): the name had neither prompt, guidance, η, count nor the stop."""
    names = [saved(play).name, saved(play).name]
    assert names.pop() == names[0]  # the same film is one file
    for name, value in (
        ("prompt", "<dog>"),
        ("prompt", "0.5 cat"),
        ("prompt", "0.50 cat"),
        ("prompt", ""),
        ("guidance", 1.000001),
        ("eta", 0.25),
        ("count", 1),
        ("steps", 5),
        ("seed", 3),
        ("sampler", "DDPM"),
    ):
        getattr(play, name).value = value
        names.append(saved(play).name)
    play.drawn.t = 7  # as if it had been stopped there
    names.append(saved(play).name)
    assert len({*names}) == len(names) == 12
    assert names[-1].endswith("_stopped-t7.gif") and "no_context" in names[-1]
    assert {path.name for path in Path("saved").iterdir()} == {*names}


def test_a_file_of_other_content_is_never_overwritten(play):
    path = saved(play)
    path.write_bytes(b"mine")
    second = saved(play)
    assert path.read_bytes() == b"mine" and second.name == f"{path.stem}-2.gif"
    assert saved(play) == second and len([*path.parent.iterdir()]) == 2


@pytest.mark.parametrize(
    "text, start",
    [
        ("hero", "hero"),
        ("side-facing", "side-facing"),
        ("", ""),
        ("Hero", "hero-"),
        ("½ é + 0.5 a", "0.5-e-0.5-a-"),
        ("猫", "prompt-"),
        ("../a:b", "a-b-"),
        ("a" * 200, "a" * 40),
    ],
)
def test_a_slug_is_short_and_safe(text, start):
    found = widgets.slug(text)
    assert found.startswith(start) and len(found) <= 47
    assert re.fullmatch("[a-z0-9.-]*", found)
    assert (found == text) == (text in ("hero", "side-facing", ""))
    assert found != widgets.slug(text + " ")


def test_a_folder_that_takes_no_file_is_told(play, tmp_path):
    (tmp_path / "saved").write_bytes(b"a file")
    play.save.click()
    assert "cannot be written" in said(play) and 'role="alert"' in play.status.value


@pytest.mark.parametrize("stop, every", [(5, 1), (64, 1), (65, 2), (200, 4), (500, 8)])
def test_a_long_film_keeps_evenly_spread_steps(play, stop, every):
    """Issue 12: 256 images of 32×32 through DDPM held 1.5 GB."""
    long = Schedule.linear(500)
    play.checkpoint = play.checkpoint._replace(schedule=long)
    noise = initial_noise(1, (1, 8, 8))
    steps = ddpm(lambda x, t: x, noise, long)
    run = widgets.Drawing(steps, 500, 1, 500, noise, "", "")
    for _ in range(stop):
        run.advance()
    times = [t for t, *_ in run.film]
    assert times == [*range(500, 500 - stop, -every)] and len(times) <= 64
    assert run.done == stop


# In an event loop, as in a notebook


def as_a_cell(test):
    """The test as a cell of a notebook: in an event loop."""

    @functools.wraps(test)
    def run(**fixtures):
        asyncio.run(test(**fixtures))

    return run


async def turns(n):
    for _ in range(n):
        await asyncio.sleep(0)


def drawn_at_once(play, **controls):
    with play.quietly():
        for name, value in controls.items():
            getattr(play, name).value = value
    play.draw()
    return source(play)


@as_a_cell
async def test_a_notebook_shows_the_same_at_once(play, path):
    here, first = playground(path, 2), source(play)
    assert here.task is None
    play.draw()
    assert source(here) == source(play) == first
    assert torch.equal(here.images, play.images)


@as_a_cell
async def test_others_have_their_turn_before_each_step(play):
    first, sizes = source(play), evaluations(play)
    play.guidance.value = 2.0
    assert sizes == [] and source(play) == first
    seen = []
    while not play.task.done():
        await asyncio.sleep(0)
        seen.append(len(sizes))
    assert seen == sorted(seen) and set(range(8)) <= set(seen)
    later = source(play)
    assert later != first
    play.draw()
    assert source(play) == later


@as_a_cell
async def test_a_newer_wish_takes_the_place_of_the_older(play):
    wanted = drawn_at_once(play, guidance=3.0)
    drawn_at_once(play, guidance=1.0)
    sizes, images = evaluations(play), []
    play.image.observe(lambda change: images.append(change.new), "value")
    play.guidance.value = 2.0
    first = play.task
    await turns(4)
    assert 0 < len(sizes) < 8
    play.guidance.value = 4.0  # these come in one turn, and only the last is drawn
    play.guidance.value = 5.0
    play.guidance.value = 3.0
    await asyncio.gather(first, play.task)
    assert len(sizes) < 8 + 5 and len(images) == 1
    assert source(play) == wanted and said(play).startswith("16 evaluations")
    assert play.stop.disabled and play.progress.value == 8


@as_a_cell
async def test_drawing_at_once_takes_the_place_of_what_runs(play):
    play.sampler.value = "DDPM"
    await turns(5)
    drawn = drawn_at_once(play, sampler="DDIM")
    await play.task
    assert source(play) == drawn and said(play).startswith("8 evaluations")


@as_a_cell
async def test_stop_shows_how_far_it_came(play):
    first = source(play)
    play.sampler.value = "DDPM"
    await turns(8)
    assert not play.stop.disabled
    play.stop.click()
    await play.task
    done = len(play.drawn.film)
    assert 1 <= done <= 8 and play.stop.disabled and play.progress.value == done
    assert said(play).startswith(f"stopped at t = {40 - done}: {done} evaluations")
    assert f"the guess of x_0, stopped at t = {40 - done}<" in play.image.value
    assert torch.allclose(play.images, play.drawn.film[-1][2].float(), atol=1e-2)
    assert source(play) != first and play.moment.max == done
    play.sampler.value = "DDIM"
    await play.task
    assert source(play) == first


@as_a_cell
async def test_stop_before_the_first_step_keeps_the_picture(play):
    first = source(play)
    play.sampler.value = "DDPM"
    await turns(1)
    play.stop.click()
    await play.task
    assert said(play).startswith("stopped at t = 40: 0 evaluations")
    assert source(play) == first and play.moment.max == 8


@as_a_cell
async def test_an_error_in_a_task_stands_in_the_panel(play):
    def fails(*arguments):
        raise MemoryError

    play.checkpoint.model.register_forward_hook(fails)
    play.seed.value = 7
    await play.task
    assert said(play) == "MemoryError" and play.stop.disabled


@as_a_cell
async def test_a_task_may_be_cancelled(play):
    first = source(play)
    play.sampler.value = "DDPM"
    await turns(5)
    play.task.cancel()
    await asyncio.wait([play.task])
    assert play.task.cancelled() and play.stop.disabled and source(play) == first
    play.draw()
    assert said(play).startswith("40 evaluations")


def ticking(monkeypatch, seconds):
    """time.perf_counter gives so much more at each call."""
    clock = count()
    timer = SimpleNamespace(perf_counter=lambda: next(clock) * seconds)
    monkeypatch.setattr(widgets, "time", timer)
    monkeypatch.setattr(widgets, "LIVE", 0.3)


def test_the_bar_moves_while_ddpm_draws_but_not_at_each_step(play, monkeypatch):
    ticking(monkeypatch, 0.03)
    seen = []
    play.progress.observe(lambda change: seen.append(change.new), "value")
    play.sampler.value = "DDPM"
    assert seen[0] == 0 and seen[-1] == 40 and 9 <= len(seen) <= 13


def test_the_guess_is_shown_while_ddpm_draws_a_few_times_a_second(play, monkeypatch):
    ticking(monkeypatch, 0.03)  # so that 40 steps take 1.2 s, and more what is shown
    seen = []
    play.image.observe(lambda change: seen.append(change.new), "value")
    play.sampler.value = "DDPM"
    told = [re.findall(r"the guess of x_0 on the way, at t = (\d+)<", s) for s in seen]
    assert told.pop() == [] and 2 <= len(told) <= 4
    times = [int(t) for [t] in told]
    assert times == sorted(times, reverse=True) and 0 < times[-1] < times[0] < 40
    assert not play.moment.disabled and not play.save.disabled


@as_a_cell
async def test_a_guess_on_the_way_does_not_stay(play, monkeypatch):
    first = source(play)
    ticking(monkeypatch, 0.2)
    play.sampler.value = "DDPM"
    await turns(9)
    assert "on the way" in play.image.value and source(play) != first
    assert play.save.disabled and play.moment.disabled  # no film of it is there yet
    play.seed.value = 3
    await turns(1)
    play.stop.click()  # before the first step of the newer one
    await play.task
    assert source(play) == first
    assert not play.save.disabled and not play.moment.disabled


# Interrupts, and panels beside each other


@as_a_cell
async def test_an_interrupt_of_an_idle_kernel_stops_what_is_drawn(play, monkeypatch):
    """A kernel ignores SIGINT between two cells, just when panels draw."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        widgets.listen(asyncio.get_running_loop())
        play.sampler.value = "DDPM"
        await turns(5)
        os.kill(os.getpid(), signal.SIGINT)
        await play.task
        assert said(play).startswith("stopped at t = ") and play.stop.disabled
        play.sampler.value = "DDIM"
        await play.task
        assert said(play).startswith("8 evaluations")
    finally:
        signal.signal(signal.SIGINT, before)


@as_a_cell
async def test_listening_waits_until_the_cell_has_run(monkeypatch):
    """While a cell runs, an interrupt is its own."""
    monkeypatch.setattr(widgets, "WAIT", 0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        widgets.listen(asyncio.get_running_loop())
        await asyncio.sleep(0.01)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        await asyncio.sleep(0.01)
        assert signal.getsignal(signal.SIGINT) is widgets.stop_all
    finally:
        signal.signal(signal.SIGINT, before)


@as_a_cell
async def test_an_interrupt_inside_a_step_does_not_end_the_kernel(play):
    first = source(play)

    def interrupted(*arguments):
        raise KeyboardInterrupt

    hook = play.checkpoint.model.register_forward_hook(interrupted)
    play.seed.value = 7
    await play.task
    assert said(play) == "interrupted" and source(play) == first and play.stop.disabled
    hook.remove()
    play.draw()
    assert said(play).startswith("8 evaluations") and source(play) != first


@as_a_cell
async def test_another_panel_stops_what_the_first_draws(play, path):
    play.sampler.value = "DDPM"
    await turns(5)
    other = playground(path, 2, "cpu")
    await play.task
    assert said(play).startswith("stopped at t = ")
    assert said(other).startswith("8 evaluations")
    play.sampler.value = "DDIM"  # it is of use as before
    await play.task
    assert source(play) == source(other)
