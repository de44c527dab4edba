"""The objective, the training loop, its settings, and training by the command line."""

import gc
import json
import math
import re
import shlex
import typing
from contextlib import nullcontext
from dataclasses import FrozenInstanceError, asdict, fields
from itertools import count, islice

import numpy as np
import pytest
import torch
from PIL import Image
from small import OTHER, SCHEDULE, small_data, small_folder, small_model, small_run

from lesson_utils import (
    Schedule,
    Settings,
    dataset,
    diffusion_loss,
    learning_rate,
    load,
)
from lesson_utils.cli import main
from lesson_utils.data import Reading, same_data
from lesson_utils.support.files import fingerprint, label, locked, read_tensors
from lesson_utils.support.state import read_state

NAMES = [field.name for field in fields(Settings)]


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_the_loss_is_eq_14(gamma):
    """Against the sum written out, with the same noise and times."""
    data, seen = small_data(), {}

    def model(x, t, c):
        seen.update(x=x, t=t, c=c)
        return 0.3 * x

    g = torch.Generator().manual_seed(5)
    loss = diffusion_loss(model, SCHEDULE, data.x, data.c, 0.5, gamma, generator=g)
    t = (seen["t"] * 500).round().long()
    ab = SCHEDULE.alpha_bar[t].view(-1, 1, 1, 1)
    eps = (seen["x"] - ab.sqrt() * data.x) / (1 - ab).sqrt()
    expected = ((1 - ab) ** gamma * (0.3 * seen["x"] - eps).square()).mean()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert t.min() >= 1 and t.max() <= 500
    kept = (seen["c"] == data.c).all(1)
    dropped = (seen["c"] == 0).all(1)
    assert (kept ^ dropped).all() and 0 < dropped.sum() < len(t)


def timesteps_of(B, T, seed=0, monkeypatch=None, offset=None):
    """The timesteps (B,) of a batch in the loss; offset: instead of a random one."""
    seen, schedule = [], Schedule.linear(T)

    def model(x, t, c):
        seen.append((t * T).round().long())
        return x

    if offset is not None:

        def fixed(high, size, generator=None):
            assert (high, size) == (T, (1,))  # offsets: each of 0..T-1
            return torch.tensor([offset])

        monkeypatch.setattr("lesson_utils.training.torch.randint", fixed)
    g = torch.Generator().manual_seed(seed)
    diffusion_loss(model, schedule, torch.zeros(B, 1, 4, 4), generator=g)
    return seen[0]


@pytest.mark.parametrize(("B", "T"), [(1, 7), (3, 10), (64, 500), (10, 10), (25, 7)])
def test_each_image_has_every_timestep_equally_often(B, T, monkeypatch):
    """Counted over all T offsets, of which each is equally likely; B > T works too."""
    each = [timesteps_of(B, T, 0, monkeypatch, offset) for offset in range(T)]
    every = torch.arange(1, T + 1)
    for times in torch.stack(each, 1):  # (T,) of one image
        assert torch.equal(times.sort().values, every)


@pytest.mark.parametrize(("B", "T"), [(2, 500), (7, 500), (64, 500), (99, 100)])
def test_the_timesteps_of_a_batch_are_evenly_spread(B, T):
    """The gaps, also that from the last over T to the first, differ by at most one."""
    for seed in range(20):
        t = timesteps_of(B, T, seed).sort().values
        gaps = torch.cat([t.diff(), t[:1] + T - t[-1:]])
        assert t[0] >= 1 and t[-1] <= T and gaps.sum() == T
        assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize(("B", "T"), [(8, 3), (1000, 500), (501, 500)])
def test_more_images_than_timesteps_share_them(B, T):
    for seed in range(5):
        counts = timesteps_of(B, T, seed).bincount(minlength=T + 1)
        assert counts[0] == 0 and counts[1:].max() - counts[1:].min() <= 1


def test_the_timestep_of_one_image_is_uniform():
    """Chi-square over 10 timesteps in 2,000 batches: its 99.9 % quantile is 27.9."""
    times = torch.cat([timesteps_of(1, 10, seed) for seed in range(2000)])
    counts = times.bincount(minlength=11)[1:].double()
    assert counts.sum() == 2000
    assert ((counts - 200) ** 2 / 200).sum() < 27.9


def test_the_loss_of_spread_timesteps_varies_less():
    """That is what they are for: a model whose loss depends on t alone."""

    def spread(timesteps):
        losses = [(timesteps(seed) / 500.0).square().mean() for seed in range(200)]
        return torch.stack(losses).std()

    def independent(seed):
        g = torch.Generator().manual_seed(seed)
        return torch.randint(1, 501, (64,), generator=g)

    assert spread(lambda s: timesteps_of(64, 500, s)) < 0.2 * spread(independent)


def test_times_noise_and_dropout_have_their_distributions():
    times, dropped, eps = [], [], []

    def model(x, t, c):
        times.append((t * 500).round().long())
        dropped.append((c == 0).all(1).float())
        eps.append(x)
        return x

    x0, c = torch.zeros(2000, 1, 4, 4), torch.ones(2000, 2)
    g = torch.Generator().manual_seed(0)
    for _ in range(5):
        diffusion_loss(model, SCHEDULE, x0, c, 0.1, generator=g)
    t = torch.cat(times)
    assert t.min() == 1 and t.max() == 500
    assert t.float().mean() == pytest.approx(250.5, abs=5)
    assert torch.cat(dropped).mean() == pytest.approx(0.1, abs=0.01)
    ab = SCHEDULE.alpha_bar[t].view(-1, 1, 1, 1)
    noise = torch.cat(eps) / (1 - ab).sqrt()
    assert noise.std() == pytest.approx(1, abs=0.01)


def test_learning_rate_rises_and_falls():
    rates = [learning_rate(i, 100, 1e-3, 10) for i in range(100)]
    assert rates[0] == pytest.approx(1e-4) and rates[10] == pytest.approx(1e-3)
    assert rates[:11] == sorted(rates[:11]) and max(rates) == rates[10]
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[-1] < 1e-6
    assert rates[55] == pytest.approx(1e-3 * 0.5 * (1 + math.cos(math.pi / 2)))


# Settings


def test_whole_settings_in_another_type_train_too():
    given = {"steps": 3.0, "batch_size": np.float32(4), "seed": torch.tensor(1.0)}
    [*_, a] = small_run(**given, warmup=2.0)
    [*_, b] = small_run(steps=3, batch_size=4, seed=1, warmup=2)
    assert torch.equal(a.losses, b.losses)


def test_settings_are_frozen_and_go_through_json():
    for settings in (Settings(), OTHER):
        assert Settings(**json.loads(json.dumps(asdict(settings)))) == settings
        for name in NAMES:
            with pytest.raises(FrozenInstanceError):
                setattr(settings, name, 1)
    assert not [n for n in NAMES if getattr(OTHER, n) == getattr(Settings(), n)]


def test_the_average_forgets_faster_in_a_short_run():
    for given, decay in (
        ({}, 0.999),
        ({"steps": 100.0}, 0.9),
        ({"steps": 3}, 0.0),
        ({"steps": 3, "ema_decay": 0.5}, 0.5),
    ):
        assert repr(Settings(**given).ema_decay) == repr(decay)
    for value in ("a", "5", -1, math.nan, [1, 2], torch.ones(2)):
        with pytest.raises(ValueError, match="^ema_decay: .* is needed, got "):
            Settings(ema_decay=value)


# The loop


def weights(model):
    return torch.cat([v.detach().flatten() for v in model.state_dict().values()])


def test_training_lowers_the_loss():
    *_, update = small_run(steps=150, batch_size=16, warmup=5)
    assert update.step == 150 and update.losses.shape == (150,)
    assert update.losses[-30:].mean() < 0.5 * update.losses[:5].mean()


def test_the_average_follows_the_weights():
    """EMA against its definition: average ← decay · average + (1 - decay) · weights."""
    model, average = small_model(), None
    for update in small_run(model, steps=6, ema_decay=0.8):
        now = weights(model)
        average = now if average is None else 0.8 * average + 0.2 * now
        assert torch.allclose(average, weights(update.ema.module), atol=1e-6)
    assert not torch.equal(now, weights(update.ema.module))


def test_same_seed_same_weights_and_global_rng_untouched():
    trained = []
    for seed in (1, 1, 2):
        model = small_model()
        state = torch.get_rng_state()
        list(small_run(model, steps=5, seed=seed))
        assert torch.equal(torch.get_rng_state(), state)
        trained.append(weights(model))
    assert torch.equal(*trained[:2]) and not torch.equal(*trained[1:])


@pytest.mark.parametrize(
    ("stop", "shared", "every"),
    [(1, False, 0), (4, False, 0), (11, False, 0), (4, True, 0), (5, False, 1e9)],
)
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, stop, shared, every):
    """Also of a model of one's own, two layers of which share their weights.

    Whoever stops asking for updates has them in the state.
    """
    state = tmp_path / "run" / "state.safetensors"

    def run(seed=0, files=None):
        model = small_model(seed=seed)
        if shared:
            model.up1 = model.down1
        for update in small_run(model, steps=12, warmup=3, files=files):
            yield update, model

    *_, (end, straight) = run()
    files = {"state": state, "save_seconds": every}
    list(islice(run(files=files), stop))
    updates = list(run(9, files))  # its own weights must not matter
    update, resumed = updates[-1]
    assert updates[0][0].step == stop + 1
    assert torch.equal(weights(resumed), weights(straight))
    assert torch.equal(weights(update.ema), weights(end.ema))
    assert torch.equal(update.losses, end.losses)
    assert [p.name for p in state.parent.iterdir()] == ["state.safetensors"]


def test_a_state_records_its_run(tmp_path):
    state = tmp_path / "state.safetensors"
    files = {"state": str(state), "save_seconds": 0}
    [update] = islice(small_run(files=files, **asdict(OTHER)), 1)
    _, record = read_state(state)
    data, known = small_data(), record["settings"]
    assert known.pop("data") == fingerprint(data.x, data.c)
    assert known.pop("schedule") == fingerprint(SCHEDULE.alpha_bar)
    assert known.pop("start") is None
    assert Settings(**known) == OTHER
    assert (record["step"], record["seconds"]) == (1, update.seconds)


def test_the_state_is_written_at_least_every_save_seconds(tmp_path, monkeypatch):
    clock = count(0, 10)  # every look at the clock is ten seconds later
    monkeypatch.setattr(
        "lesson_utils.support.state.time.monotonic", lambda: next(clock)
    )
    state, written = tmp_path / "s.safetensors", []
    for _ in small_run(steps=9, files={"state": state, "save_seconds": 30}):
        if state.exists():
            written.append(read_tensors(state)[1]["step"])
    assert sorted(set(written)) == [3, 6]  # and not with the last update


def test_bfloat16_trains_too():
    model = small_model()
    *_, update = small_run(model, steps=3, bfloat16=True)
    assert update.losses.isfinite().all() and model.stem.weight.dtype == torch.float32
    *_, exact = small_run(steps=3)
    assert 0 < (update.losses - exact.losses).abs().max() < 0.05


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.half, torch.double])
def test_the_loss_of_a_model_in_another_type_is_that_in_float32(kind):
    """The noise of the first times too, which in bfloat16 would be none."""
    x0, c, seen = torch.zeros(40, 1, 8, 8), small_data().c, []
    early = Schedule(SCHEDULE.alpha_bar[:6])

    def loss_of(model, x0, c):
        g = torch.Generator().manual_seed(3)
        model.register_forward_pre_hook(lambda model, given: seen.append(given))
        return diffusion_loss(model, early, x0, c, gamma=0.5, generator=g)

    expected = loss_of(small_model(lively=True), x0, c).item()
    for images in (x0, x0.to(kind)):
        model = small_model(lively=True).to(kind)
        loss = loss_of(model, images, c.to(kind))
        loss.backward()
        x, t, _ = seen[-1]
        assert loss.item() == pytest.approx(expected, rel=0.02)
        assert x.dtype == kind and 0.02 < x.std() < 0.05
        assert torch.equal(t, seen[0][1]) and t.dtype == torch.float32
        assert model.stem.weight.grad.isfinite().all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_contexts_that_are_no_numbers_are_refused(value):
    data = small_data()
    with pytest.raises(ValueError, match="^c: a tensor of finite numbers"):
        diffusion_loss(small_model(), SCHEDULE, data.x, data.c * value)


@pytest.mark.parametrize(
    ("every", "part", "noticed", "kept"),
    [
        (None, "model", 61, None),  # a loss is looked at when it comes
        (0, "model", 61, 60),
        (1e9, "model", 61, None),
        (0, "ema", 61, 60),  # and before each writing
    ],
)
def test_training_that_has_lost_its_way_stops_soon_and_keeps_no_nan(
    tmp_path, every, part, noticed, kept
):
    state = tmp_path / "state.safetensors"
    files = None if every is None else {"state": state, "save_seconds": every}
    model, seen = small_model(), []
    with pytest.raises(FloatingPointError) as problem:
        for update in small_run(model, steps=300, files=files):
            seen.append(update.step)
            if update.step == 60:
                module = model if part == "model" else update.ema.module
                torch.nn.init.constant_(module.stem.bias, math.nan)
    assert seen[-1] == noticed - 1
    assert "loss: no finite number at update 61, so training stops" in str(
        problem.value
    )
    causes = "learning_rate of 0.003 is too high, or a warmup of 100 updates too short"
    assert causes in str(problem.value) and "bfloat16" not in str(problem.value)
    assert state.exists() is bool(kept)
    if kept:
        assert read_state(state)[1]["step"] == kept
        assert f"update {kept} is kept in {state}: move it away" in str(problem.value)


def test_the_end_is_no_nan_and_a_stop_after_one_keeps_none(tmp_path):
    state = tmp_path / "state.safetensors"
    files = {"state": state, "save_seconds": 1e9}
    for steps, stop in ((6, 9), (9, 3)):
        model = small_model()
        ended = pytest.raises(FloatingPointError) if stop > steps else nullcontext()
        with ended:
            for update in islice(small_run(model, steps=steps, files=files), stop):
                if update.step == 3:
                    torch.nn.init.constant_(model.stem.bias, math.inf)
        assert not state.exists()


def test_data_in_float64_trains_too():
    data = small_data()
    double = data._replace(x=data.x.double(), c=data.c.double())
    [*_, a], [*_, b] = small_run(steps=3), small_run(data=double, steps=3)
    assert torch.equal(a.losses, b.losses)


def test_no_update_leaves_tensors_behind():
    held = []
    for _ in small_run(steps=8):
        held.append(sum(issubclass(type(x), torch.Tensor) for x in gc.get_objects()))
    assert max(held[2:]) == min(held[2:])


# The command line


def train_by(*arguments) -> int:
    """The exit status of the command, for a small model."""
    short = ["--width", "16", "--device", "cpu", "--batch-size", "4"]
    return main(["train", *short, *map(str, arguments)])


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Checkpoints and states go into tmp_path, and sprites are small data."""
    for place in ("cli", "runs", "checkpoint"):
        folder = tmp_path / "checkpoints"
        monkeypatch.setattr(f"lesson_utils.{place}.CHECKPOINTS", folder)
    monkeypatch.setattr("lesson_utils.runs.STATES", tmp_path / "states")
    monkeypatch.setattr("lesson_utils.data.SOURCES", {"sprites": small_data})
    return tmp_path


@pytest.fixture
def refused(capsys):
    """Runs a command that must be refused in one line; gives that line."""

    def refused(*arguments):
        try:
            assert train_by(*arguments) == 2
        except SystemExit as stop:
            assert stop.code == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        return line

    return refused


def test_the_command_line_trains_and_saves(home, capsys):
    out, state = home / "m.safetensors", home / "state.safetensors"
    where = ["--out", out, "--state", state]
    assert train_by(*where, "--steps", "4") == 0
    assert "m.safetensors" in capsys.readouterr().out
    got = load(out)
    assert got.context == ("a", "b") and got.image_shape == (1, 8, 8)
    assert got.meta["images_seen"] == 16 and not state.exists()
    data = small_data()
    assert same_data(data, got) and same_data(small_data(30), got) is False
    assert same_data(data._replace(c=1 - data.c), got) is False
    assert train_by(*where, "--minutes", "0.01", "--overwrite") == 0
    assert load(out).meta["steps"] >= 1


def test_a_finished_checkpoint_is_not_overwritten_unless_one_says_so(home, refused):
    """Neither one's own nor, by default, the one that ships; a state changes nothing.

    What to do can be pasted, from whatever folder.
    """
    shipped = home / "checkpoints/sprites.safetensors"
    assert train_by("--steps", "2") == 0
    before = shipped.read_bytes()
    files = {"state": home / "states/sprites.safetensors", "save_seconds": 0}
    for more in (0, 2):
        list(islice(small_run(steps=4, files=files), more))
        line = refused("--steps", "4")
        assert f"--out: {shipped} is there already" in line and "--overwrite" in line
        assert shipped.read_bytes() == before
    files["state"].unlink()
    command = "python -m lesson_utils train "
    pasted = shlex.split(line[line.index(command) + len(command) :])
    assert train_by(*pasted, "--steps", "3") == 0
    longer = load(home / "checkpoints/sprites-longer.safetensors").meta
    seconds = load(shipped).meta["seconds"]  # on a busy machine more than 0
    known = {"file": shipped.name, "images_seen": 8, "seconds": seconds}
    assert longer["from"] == known
    assert (longer["steps"], longer["images_seen"]) == (3, 8 + 12)
    assert len(longer["loss_curve"]) == 2 + 3
    assert shipped.read_bytes() == before
    assert train_by("--steps", "3", "--overwrite") == 0
    assert load(shipped).meta["steps"] == 3


def test_training_longer_begins_with_the_weights_and_keeps_what_they_are(home, refused):
    """Width, schedule and reading; the run that does so has a state of its own."""
    pets, out = small_folder(home / "pets"), home / "longer.safetensors"
    first = ["--dataset", pets, "--size", "8", "--steps", "3", "--background", "black"]
    assert train_by(*first) == 0
    begin = load(pets)
    longer = ["--from", pets, "--out", out, "--steps", "2"]
    assert "--width: with --from its own 16" in refused(*longer, "--width", "32")
    assert train_by(*longer, "--learning-rate", "1e-6") == 0
    end = load(out)
    assert end.context == begin.context
    assert end.image_shape == (3, 8, 8) and end.model.width == 16
    assert end.meta["reading"] == begin.meta["reading"]
    assert begin.meta["reading"]["background"] == "black"
    for name, value in end.model.state_dict().items():
        assert torch.allclose(value, begin.model.state_dict()[name], atol=1e-3), name
    assert "--dataset: the data that --from" in refused("--from", out)


def test_a_state_of_other_weights_is_refused(tmp_path):
    state = tmp_path / "state.safetensors"
    files = {"state": state, "save_seconds": 0}
    list(islice(small_run(files=files | {"start": "a"}, steps=4), 2))
    for start in (None, "b"):
        with pytest.raises(ValueError, match=r"of another run \(start\)"):
            small_run(files=files | {"start": start}, steps=4)
    assert next(small_run(files=files | {"start": "a"}, steps=4)).step == 3


@pytest.mark.parametrize("classes", [2, 0])
def test_previews_are_written_while_it_trains_and_change_nothing(
    home, capsys, monkeypatch, classes
):
    """Without classes too."""
    data = small_data()
    data = data._replace(c=data.c[:, :classes], names=data.names[:classes])
    monkeypatch.setattr("lesson_utils.data.SOURCES", {"sprites": lambda: data})
    plain, seen = home / "plain.safetensors", home / "seen.safetensors"
    assert train_by("--steps", "5", "--out", plain) == 0
    assert train_by("--steps", "5", "--out", seen, "--preview-every", "2") == 0
    [folder] = (home / "states").glob("seen-*/")
    assert f"{folder}: samples every 2 updates" in capsys.readouterr().out
    assert sorted(p.name for p in folder.iterdir()) == ["000002.png", "000004.png"]
    with Image.open(folder / "000004.png") as picture:  # 4 × 2 samples
        assert picture.size[0] >= 4 * 32 and picture.size[1] >= 2 * 32
    for name, value in load(plain).model.state_dict().items():
        assert torch.equal(value, load(seen).model.state_dict()[name])


def test_a_compiled_network_trains_to_the_same_weights(home, compiled):
    plain, fast = home / "plain.safetensors", home / "fast.safetensors"
    assert train_by("--steps", "5", "--out", plain) == 0 and not compiled
    assert train_by("--steps", "5", "--out", fast, "--compile") == 0
    assert len(compiled) == 2  # and first something small
    for name, value in load(plain).model.state_dict().items():
        assert torch.allclose(value, load(fast).model.state_dict()[name], atol=1e-4)


def test_where_nothing_compiles_it_is_said_in_a_line(home, refused, monkeypatch):
    def fails(what):
        raise RuntimeError("no compiler\nand so on")

    monkeypatch.setattr(torch, "compile", fails)
    said = "--compile: torch.compile does not work: no compiler"
    assert refused("--steps", "5", "--compile") == f"error: {said}"


def test_what_ctrl_c_leaves_is_said_truly(home, capsys, monkeypatch):
    def stopped(*arguments):
        assert train_by("--steps", "6", *arguments) == 130
        return capsys.readouterr().err.strip()

    def no_data(*args, **kwargs):
        raise KeyboardInterrupt

    def cut(updates, *more):
        yield next(updates)
        yield next(updates)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lesson_utils.runs.sources.dataset", no_data)
        assert stopped() == "stopped; nothing was kept"
    with monkeypatch.context() as patch:
        patch.setattr("lesson_utils.runs.progress", cut)
        state = home / "states/sprites.safetensors"
        assert stopped() == f"stopped; the same command goes on from {state}"
    assert read_state(state)[1]["step"] == 2
    assert train_by() == 0
    assert "goes on after update 2 of 6" in capsys.readouterr().out


def test_a_loss_that_is_no_number_is_one_line(home, refused, monkeypatch):
    def wrong(model, *others):
        return next(model.parameters()).sum() * math.nan

    monkeypatch.setattr("lesson_utils.loop.one_loss", wrong)
    assert "loss: no finite number at update 1, " in refused("--steps", "3")
    assert not list(home.glob("**/*.safetensors"))


def test_one_command_at_a_time_writes_a_checkpoint(home, refused):
    out = home / "m.safetensors"
    with locked(out):
        assert f"{out}: another training is writing it" in refused("--out", out)
    assert train_by("--out", out, "--steps", "1") == 0
    assert sorted(p.name for p in home.glob("*.*")) == ["m.safetensors"]


def test_wrong_options_are_refused(home, refused):
    (home / "state.safetensors").touch()
    for options, why in (
        (["--dataset", "spirtes"], "spirtes"),
        (["--dataset", "sprites", "--size", "32"], "size: none for sprites"),
        (["--minutes", "-1"], "--minutes: a number above 0"),
        (["--minutes", "1", "--steps", "9"], "--minutes: not allowed with"),
        (["--steps", "0"], "--steps: a whole number"),
        (["--steps", "many"], "--steps: a whole number .* got 'many'"),
        (["--warm", "-3"], "--warmup: a whole number"),
        (["--width", "20"], "width: a multiple of 16"),
        (["--device", "gpu"], "device: one of this machine"),
        (["--out", home / "m.pt"], "--out: a .safetensors file"),
        (["--out", home / "a.safetensors", "--state", home / "a.safetensors"], "--out"),
        (["--preview-every", "0"], "--preview-every: a whole number of 1 or more"),
        (["--from", "nowhere", "--dataset", "sprites"], "no checkpoint 'nowhere'"),
        (["--state", home], "a folder, where a file is needed"),
        (["--state", home / "state.safetensors"], "state.safetensors: not a readable"),
    ):
        assert re.search(why, refused("--out", home / "m.safetensors", *options))
    assert not list(home.glob("**/m.*"))


def flag(name):
    return f"--{name.replace('_', '-')}"


def other(name):
    """What sets one setting as in OTHER."""
    value = getattr(OTHER, name)
    return [flag(name)] if value is True else [flag(name), str(value)]


def test_each_setting_is_one_flag_with_its_help(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    said = capsys.readouterr().out
    hints = typing.get_type_hints(Settings, include_extras=True)
    assert stop.value.code == 0
    for name in NAMES:
        assert len(re.findall(rf"^ +{flag(name)}\b(?!-)", said, re.M)) == 1
        text, plain = re.escape(hints[name].__metadata__[1]), " ".join(said.split())
        assert re.search(rf"{flag(name)}( [A-Z_0-9]+)? {text}", plain), name


def test_every_setting_arrives(home):
    out = home / "m.safetensors"
    flags = [word for name in NAMES for word in other(name)]
    assert train_by(*flags, "--out", out) == 0
    assert Settings(**load(out).meta["settings"]) == OTHER


@pytest.mark.parametrize("name", ["sprites", "pets"])
def test_the_command_line_goes_on(home, capsys, monkeypatch, refused, name):
    monkeypatch.chdir(small_folder(home / "pets").parent)
    data, state = dataset(name), home / "states" / f"{label(name)}.safetensors"
    files = {"state": state, "save_seconds": 0}
    model = small_model(data.x.shape[1])
    list(islice(small_run(model, data, files=files, steps=6, warmup=3), 2))
    for setting in NAMES:  # not read and ignored
        assert f"({setting})" in refused("--dataset", name, *other(setting))
    assert not list(home.glob("checkpoints/*"))
    assert train_by("--dataset", name) == 0
    assert "goes on after update 2 of 6" in capsys.readouterr().out
    assert load(name).meta["steps"] == 6 and not state.exists()


# One's own images


@pytest.mark.parametrize(
    ("kind", "options", "size", "names"),
    [
        ("folders", [], 16, ("cats", "dogs")),
        ("folders", ["--size", "8"], 8, ("cats", "dogs")),
        ("arrays", [], 24, ("class 0", "class 1")),
    ],
)
def test_a_path_trains_and_loads(home, capsys, monkeypatch, kind, options, size, names):
    small_folder(home / "some where" / "my pets", kind)
    monkeypatch.chdir(home)
    path = "some where/my pets"
    assert train_by("--dataset", path, "--steps", "3", *options) == 0
    said = capsys.readouterr()
    assert "\rmy pets on cpu: " in said.out and not said.err
    [file] = home.glob("*/*.safetensors")
    assert re.fullmatch(r"my pets-[0-9a-f]{6}", file.stem)
    got = load(path)
    assert got.context == names and got.image_shape == (3, size, size)
    assert got.meta["data"] == "my pets, 8 images"
    assert same_data(dataset(path, like=got), got)
    for same in (file.stem, home / path, f"{home / path}/"):
        assert load(same).meta == got.meta
    noise = torch.randn(2, *got.image_shape)
    assert got.model(noise, torch.ones(2), torch.eye(2)).shape == noise.shape


@pytest.mark.parametrize("name", ["train", "sprites", "MNIST"])
def test_folders_of_one_name_never_take_each_others_files(home, monkeypatch, name):
    """Nor do those that are called like a data set of ours."""
    monkeypatch.chdir(home)
    paths = [small_folder(home / kind / name) for kind in ("flowers", "pets")]
    for steps, path in enumerate(paths, 2):
        assert train_by("--dataset", path.relative_to(home), "--steps", steps) == 0
    assert len(list(home.glob("checkpoints/*.safetensors"))) == 2
    for steps, path in enumerate(paths, 2):
        assert load(path).meta["steps"] == load(path.relative_to(home)).meta["steps"]
        assert load(path).meta["steps"] == steps
        assert load(path).meta["data"] == f"{name}, 8 images"


def test_how_own_images_are_read_is_asked_for_and_recorded(home, capsys):
    """Grey, without classes, a file left out; then once more, as it was."""
    folder, out = home / "pets", home / "m.safetensors"
    small_folder(home / "some")
    (home / "some/cats").rename(folder)
    (folder / "bad.png").write_bytes(b"no image")
    reading = ["--size", "8", "--grey", "--skip-unreadable", "--background", "black"]
    assert train_by("--dataset", folder, "--steps", "2", "--out", out, *reading) == 0
    got = load(out)
    assert got.image_shape == (1, 8, 8) and got.context == ()
    kept = Reading(**got.meta["reading"])
    assert kept == Reading(8, "black", True, None, True)
    assert same_data(dataset(folder, like=got), got)
    more = ["--dataset", folder, "--from", out, "--out", home / "n.safetensors"]
    assert train_by(*more, "--steps", "1") == 0
    assert load(home / "n.safetensors").meta["reading"] == got.meta["reading"]
    capsys.readouterr()
    assert main(["info", str(out)]) == 0
    said = capsys.readouterr().out
    assert "classes      none" in said and "size 8, background black, grey True" in said


def test_class_names_are_texts(home):
    folder, out = small_folder(home / "pets", "arrays"), home / "m.safetensors"
    named = ["--class-names", "007,猫", "--out", out]
    assert train_by("--dataset", folder, "--steps", "1", *named) == 0
    assert load(out).context == ("007", "猫")
    assert dataset(folder, like=load(out)).names == ("007", "猫")


def test_a_path_without_a_checkpoint_says_how_to_train_it(home, refused):
    path = small_folder(home / "my pets")
    with pytest.raises(ValueError, match="there are none; train one: python") as said:
        load(path)
    assert str(said.value).endswith(f"--dataset '{path}'")
    for wrong in (["nowhere"], [path, "--size", "9"]):
        refused("--dataset", *wrong)
