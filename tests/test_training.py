"""The objective, the training loop and its resuming."""

import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image

from lesson_utils import (
    ContextUnet,
    Pictures,
    Schedule,
    dataset,
    diffusion_loss,
    learning_rate,
    load,
    train,
)
from lesson_utils.checkpoint import read_tensors
from lesson_utils.cli import main

SCHEDULE = Schedule.linear()


def small_data(n=40):
    g = torch.Generator().manual_seed(0)
    x = torch.rand(n, 1, 8, 8, generator=g) * 2 - 1
    return Pictures(x, torch.eye(2)[torch.arange(n) % 2], ("a", "b"))


def new_model(seed=0):
    torch.manual_seed(seed)
    return ContextUnet(1, 2, 16)


def test_the_loss_is_eq_14():
    """Against the sum written out, with the same draws in the same order."""
    data, seen = small_data(), {}

    def model(x, t, c):
        seen.update(x=x, t=t, c=c)
        return 0.3 * x

    g = torch.Generator().manual_seed(5)
    loss = diffusion_loss(model, SCHEDULE, data.x, data.c, 0.5, generator=g)
    t = (seen["t"] * 500).round().long()
    ab = SCHEDULE.alpha_bar[t].view(-1, 1, 1, 1)
    eps = (seen["x"] - ab.sqrt() * data.x) / (1 - ab).sqrt()
    expected = (0.3 * seen["x"] - eps).square().mean()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert t.min() >= 1 and t.max() <= 500
    kept = (seen["c"] == data.c).all(1)
    dropped = (seen["c"] == 0).all(1)
    assert (kept ^ dropped).all() and 0 < dropped.sum() < len(t)


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


def test_training_lowers_the_loss():
    *_, update = train(
        new_model(), SCHEDULE, small_data(), 150, batch_size=16, warmup=5
    )
    assert update.step == 150 and update.losses.shape == (150,)
    assert update.losses[-30:].mean() < 0.5 * update.losses[:5].mean()


def test_the_average_follows_the_weights():
    """EMA against its definition: average ← decay · average + (1 - decay) · weights."""
    model, average = new_model(), None
    for update in train(model, SCHEDULE, small_data(), 6, 4, ema_decay=0.8):
        now = [p.detach().clone() for p in model.parameters()]
        average = (
            now
            if average is None
            else [0.8 * a + 0.2 * p for a, p in zip(average, now, strict=True)]
        )
        for a, b in zip(average, update.ema.module.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-6)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(model.parameters(), update.ema.parameters(), strict=True)
    )


def test_ema_averages_buffers_too():
    """Mistake 18, on a model that has a buffer."""
    model = new_model()
    model.register_buffer("level", torch.zeros(1))
    updates = train(model, SCHEDULE, small_data(), 3, 4, ema_decay=0.5)
    for update in updates:
        assert update.ema.module.level < 3
        model.level += 1
    assert float(update.ema.module.level) == pytest.approx(
        0 * 0.25 + 1 * 0.25 + 2 * 0.5
    )


def test_same_seed_same_weights_and_global_rng_untouched():
    state = torch.get_rng_state()
    models = []
    for seed in (1, 1, 2):
        torch.set_rng_state(state)
        models.append(new_model())
        after = torch.get_rng_state()
        list(train(models[-1], SCHEDULE, small_data(), 5, 4, seed=seed))
        assert torch.equal(torch.get_rng_state(), after)
    a, b, c = (torch.cat([p.flatten() for p in m.parameters()]) for m in models)
    assert torch.equal(a, b) and not torch.equal(a, c)


def weights(model):
    return torch.cat([v.flatten() for v in model.state_dict().values()])


@pytest.mark.parametrize("stop", [1, 4, 11])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, stop):
    settings = {"steps": 12, "batch_size": 4, "warmup": 3}
    straight = new_model()
    *_, end = train(straight, SCHEDULE, small_data(), **settings)
    state = tmp_path / "run" / "state.safetensors"
    files = {"state": state, "save_seconds": 0}
    first = train(new_model(), SCHEDULE, small_data(), **settings, **files)
    list(itertools.islice(first, stop))
    resumed = new_model(seed=9)  # its own weights must not matter
    *_, update = train(resumed, SCHEDULE, small_data(), **settings, **files)
    assert torch.equal(weights(resumed), weights(straight))
    assert torch.equal(weights(update.ema), weights(end.ema))
    assert torch.equal(update.losses, end.losses)
    assert [p.name for p in state.parent.iterdir()] == ["state.safetensors"]


def test_the_state_is_written_at_least_every_save_seconds(tmp_path, monkeypatch):
    clock = itertools.count(0, 10)  # every look at the clock is ten seconds later
    monkeypatch.setattr("lesson_utils.training.time.monotonic", lambda: next(clock))
    state, written = tmp_path / "s.safetensors", []
    updates = train(
        new_model(), SCHEDULE, small_data(), 10, 4, state=state, save_seconds=30
    )
    for _ in updates:
        if state.exists():
            written.append(read_tensors(state)[1]["step"])
    assert sorted(set(written)) == [3, 6, 9]


def test_a_preview_in_eval_mode_does_not_last():
    """Mistake 7, the other way round."""
    model, modes = new_model(), []
    model.stem.register_forward_pre_hook(lambda stem, _: modes.append(stem.training))
    for _ in train(model, SCHEDULE, small_data(), 3, 4):
        model.eval()
    assert modes == [True] * 3


def test_bfloat16_trains_too():
    model = new_model()
    *_, update = train(model, SCHEDULE, small_data(), 3, 4, bfloat16=True)
    assert update.losses.isfinite().all() and model.stem.weight.dtype == torch.float32


def test_the_command_line_trains_and_saves(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lesson_utils.data.SOURCES", {"sprites": small_data})
    out, state = tmp_path / "m.safetensors", tmp_path / "state.safetensors"
    files = ["--out", str(out), "--state", str(state)]
    common = ["train", "--width", "16", "--device", "cpu", "--batch-size", "4"]
    assert main([*common, "--steps", "4", *files]) == 0
    checkpoint = load(out)
    assert checkpoint.context == ("a", "b") and checkpoint.image_shape == (1, 8, 8)
    assert checkpoint.meta["images_seen"] == 16 and not state.exists()
    assert "m.safetensors" in capsys.readouterr().out
    assert main([*common, "--minutes", "0.01", *files]) == 0
    assert load(out).meta["steps"] >= 1
    assert main(["train", "--dataset", "spirtes"]) == 2
    assert main([*common, "--minutes", "-1", *files]) == 2
    assert main([*common, "--steps", "0", *files]) == 2
    assert "steps: a whole number" in capsys.readouterr().err
    assert main([*common, "--out", str(out), "--state", str(out)]) == 2
    assert main([*common, "--out", str(tmp_path / "m.pt")]) == 2
    assert (
        main([*common, "--out", str(tmp_path / "n.safetensors"), "--state", str(out)])
        == 2
    )
    assert "is not the state of a run" in capsys.readouterr().err
    assert main([*common, *files, "--device", "gpu"]) == 2
    assert "device: one of this machine" in capsys.readouterr().err


def test_the_command_line_goes_on_and_reads_every_option(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lesson_utils.data.SOURCES", {"sprites": small_data})
    out, state = tmp_path / "m.safetensors", tmp_path / "state.safetensors"
    command = ["train", "--width", "16", "--device", "cpu", "--batch-size", "4"]
    command += ["--out", str(out), "--state", str(state)]
    begun = itertools.islice(
        train(new_model(), SCHEDULE, small_data(), 6, 4, state=state, save_seconds=0), 2
    )
    assert [update.step for update in begun] == [1, 2]
    assert main([*command, "--steps", "9"]) == 2  # not read and ignored
    assert "steps" in capsys.readouterr().err and not out.exists()
    assert main(command) == 0
    assert "goes on after update 2 of 6" in capsys.readouterr().out
    assert load(out).meta["steps"] == 6


# One's own pictures


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Checkpoints and states go into tmp_path."""
    for place in ("cli.CHECKPOINTS", "checkpoint.CHECKPOINTS"):
        monkeypatch.setattr(f"lesson_utils.{place}", tmp_path / "checkpoints")
    monkeypatch.setattr("lesson_utils.cli.STATES", tmp_path / "states")
    return tmp_path


def own_pictures(folder, kind="folders"):
    """A data set as somebody brings it: two classes of four pictures, 24 × 24."""
    pixels = np.random.default_rng(0).integers(0, 255, (2, 4, 24, 24, 3), np.uint8)
    folder.mkdir(parents=True)
    if kind == "arrays":
        np.save(folder / "x.npy", pixels.reshape(8, 24, 24, 3))
        np.save(folder / "c.npy", np.eye(2)[np.repeat([0, 1], 4)])
        return folder
    for name, four in zip(("cats", "dogs"), pixels, strict=True):
        (folder / name).mkdir()
        for i, each in enumerate(four):
            Image.fromarray(each).save(folder / name / f"{i}.png")
    return folder


SHORT = ["--width", "16", "--device", "cpu", "--batch-size", "4", "--steps", "3"]


@pytest.mark.parametrize(
    ("kind", "options", "size", "names"),
    [
        ("folders", [], 16, ("cats", "dogs")),
        ("folders", ["--size", "8"], 8, ("cats", "dogs")),
        ("arrays", [], 24, ("class 0", "class 1")),
    ],
)
def test_a_path_trains_and_loads(home, capsys, monkeypatch, kind, options, size, names):
    own_pictures(home / "some where" / "my pets", kind)
    monkeypatch.chdir(home)
    path = "some where/my pets"
    assert main(["train", "--dataset", path, *SHORT, *options]) == 0
    assert [file.name for file in home.glob("*/*.safetensors")] == [
        "my pets.safetensors"
    ]
    checkpoint = load(path)
    assert checkpoint.context == names and checkpoint.image_shape == (3, size, size)
    assert checkpoint.meta["data"] == "my pets, 8 pictures"
    said = capsys.readouterr()
    assert "my pets on cpu" in said.out + said.err and "some where/my" not in said.out
    for same in ("my pets", home / path, f"{home / path}/"):
        assert load(same).meta == checkpoint.meta
    noise = torch.randn(2, *checkpoint.image_shape)
    assert checkpoint.model(noise, torch.ones(2), torch.eye(2)).shape == noise.shape


def test_a_run_on_a_path_goes_on_from_its_state(home, capsys):
    data = dataset(own_pictures(home / "pets"))
    torch.manual_seed(0)
    model, state = ContextUnet(3, 2, 16), home / "states" / "pets.safetensors"
    updates = train(model, SCHEDULE, data, 3, 4, state=state, save_seconds=0)
    list(itertools.islice(updates, 2))
    assert main(["train", "--dataset", str(home / "pets"), *SHORT]) == 0
    assert "goes on after update 2 of 3" in capsys.readouterr().out
    assert not state.exists() and load("pets").meta["steps"] == 3


def test_a_folder_named_as_a_shipped_data_set_never_takes_its_checkpoint(home, capsys):
    for name in ("sprites", "Sprites"):
        path = own_pictures(home / name / name)
        command = ["train", "--dataset", str(path), *SHORT]
        out, state = home / f"{name}-out.safetensors", home / "state.safetensors"
        for some in ([], ["--out", str(out)], ["--state", str(state)]):
            assert main([*command, *some]) == 2
            said = capsys.readouterr().err
            assert (
                str(path) in said and "rename it" in said and "--out and --st" in said
            )
        assert not list(home.glob("**/*.safetensors"))
        with pytest.raises(ValueError, match="rename it"):
            load(path)
        assert main([*command, "--out", str(out), "--state", str(state)]) == 0
        assert load(out).meta["data"] == f"{name}, 8 pictures"
        out.unlink()


def test_a_path_without_a_checkpoint_says_how_to_train_it(home, capsys):
    path = own_pictures(home / "my pets")
    with pytest.raises(
        ValueError, match="there are none;.*make train DATASET='"
    ) as said:
        load(path)
    assert f"make train DATASET='{path}'" in str(said.value)
    for wrong in (["nowhere"], [str(path), "--size", "9"], ["sprites", "--size", "32"]):
        assert main(["train", *SHORT, "--dataset", *wrong]) == 2
        assert capsys.readouterr().err.startswith("error: ")
