"""The mistakes of the systems before this one: each guard holds here, and each fails
where the mistake is made on purpose.

A mistake is a function or a class of its own that takes the place of ours; where it is
one of a text (of sources, of constraints), it is such a text.
"""

import inspect
import io
import re
import socket
import urllib.request
from dataclasses import fields
from functools import partial
from importlib import metadata
from itertools import pairwise
from types import SimpleNamespace

import nbformat
import pytest
import torch
from guards import gaussian, gradient_mode_does_not_leak, noise, stub, times_fall
from nbformat.v4 import new_code_cell, new_notebook
from packaging.requirements import Requirement
from PIL import Image
from small import SCHEDULE, small_model, small_run
from torch.optim.swa_utils import AveragedModel

from lesson_utils import (
    DistillSettings,
    ResBlock,
    Schedule,
    Settings,
    cli,
    load,
    loop,
    training,
)
from lesson_utils.data import Reading
from lesson_utils.gif import gif
from lesson_utils.noise import image_generators, initial_noise, noise_like
from lesson_utils.quality.card import CardSettings
from lesson_utils.quality.experiment import Experiment
from lesson_utils.samples import SampleSettings
from lesson_utils.sampling import Step, clipped, ddim, ddim_step, invert, slerp
from lesson_utils.schedule import linear_alpha_bar, spaced_times
from lesson_utils.sprites import draw_sprites
from lesson_utils.support.files import CHECKPOINTS, ROOT
from lesson_utils.viz import grid
from tools import bench, lessons

X = noise(4)


def check(guard, ours, *wrong):
    """The guard lets ours pass, and none of the wrong ones."""
    guard(ours)
    for each in wrong:
        with pytest.raises(AssertionError):
            guard(each)


def project_text(*folders) -> dict[str, str]:
    """Every source of these folders, lessons' code cells included."""
    found = {}
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            found[path.name] = path.read_text(encoding="utf-8")
        for path in sorted((ROOT / folder).glob("*.ipynb")):
            cells = lessons.code_cells(nbformat.read(path, as_version=4))
            found[path.name] = "\n\n".join(cell.source for cell in cells)
    assert found
    return found


CODE = project_text("lesson_utils", "lessons", "tools")


def without(pattern):
    """A guard: no source has this."""

    def guard(sources):
        for name, text in sources.items():
            assert not re.search(pattern, text), name

    return guard


def test_mistake_01_noise_scaled_by_its_variance():
    """x_t with (1 - alpha_bar) ε instead of its root."""

    class Wrong(Schedule):
        def add_noise(self, x0, t, eps):
            ab = self.alpha_bar[t].view(-1, 1, 1, 1)
            return ab.sqrt() * x0 + (1 - ab) * eps

    def guard(kind):  # 13 times too small at t = 10
        schedule = kind.linear()
        x0, eps = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
        noise = float(schedule.add_noise(x0, torch.tensor([10]), eps))
        share = 1 - float(schedule.alpha_bar[10])
        assert abs(noise / share**0.5 - 1) < 1e-6 and noise / share > 13

    check(guard, Schedule, Wrong)


def test_mistake_02_a_shortcut_made_anew_in_every_forward():
    """A residual block with a random 1×1 convolution in its forward."""

    class Wrong(ResBlock):
        def forward(self, x, emb):
            self.shortcut = torch.nn.Conv2d(16, 32, 1)
            return super().forward(x, emb)

    def guard(kind):
        block, x, emb = kind(16, 32, 8), torch.randn(2, 16, 4, 4), torch.randn(2, 8)
        assert torch.equal(block(x, emb), block(x, emb))

    check(guard, ResBlock, Wrong)


def test_mistake_03_steps_that_do_not_divide_T():
    """30 of 500 steps run as 32, and the last ends at t = -12."""

    def strides(T, steps, spacing="uniform"):
        return list(range(T, -(T // steps), -(T // steps)))

    assert strides(500, 30)[-1] == -12 and len(strides(500, 30)) == 33
    check(times_fall, spaced_times, strides)


def test_mistake_04_alpha_bar_1_holds_two_alphas():
    """alpha_bar[0] set to 1 after a cumulative product that counts α_0 too."""

    def guard(alpha_bar):
        ab = alpha_bar(4, 0.1, 0.4).tolist()
        assert ab == pytest.approx([1, 0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.7, 0.3024])

    def wrong(T, beta_1, beta_T):
        ab = (1 - torch.linspace(beta_1, beta_T, T + 1)).cumprod(0)
        ab[0] = 1
        return ab

    check(guard, linear_alpha_bar, wrong)


def test_mistake_05_sampling_starts_where_the_image_is_still_seen():
    """√alpha_bar[T] far from 0: 0.080 for T = 500 with the betas of T = 1000."""

    def guard(schedules):
        for schedule in schedules:
            assert 0.004 <= float(schedule.alpha_bar[-1]) ** 0.5 <= 0.05

    ours = [make(T) for make in (Schedule.linear, Schedule.cosine) for T in (200, 500)]
    shipped = sorted(CHECKPOINTS.glob("*.safetensors"))
    assert len(shipped) >= 2
    ours += [load(path).schedule for path in shipped]
    wrong = ([Schedule.linear(T, 1e-4, 0.02)] for T in (500, 200))
    check(guard, ours, *wrong)


def test_mistake_06_images_stretched_one_by_one():
    """Each image scaled to its own range, a flat one by 0."""

    def guard(draw):
        dim = torch.linspace(-0.1, 0.1, 16).view(1, 1, 4, 4)
        pixels = draw(torch.cat([dim, 0 * dim]))
        assert pixels.min() >= 114 and pixels.max() <= 141

    def stretched(x):
        low, high = x.amin((1, 2, 3), True), x.amax((1, 2, 3), True)
        return grid((2 * (x - low) / (high - low) - 1).nan_to_num())

    check(guard, grid, stretched)


def test_mistake_07_the_mode_of_training_left_on_or_off(monkeypatch):
    """Dropout on while sampling, or off for good after the first preview."""

    def sampled(give):
        assert not give("sprites").model.training

    def left_on(name):
        checkpoint = load(name)
        checkpoint.model.train()
        return checkpoint

    check(sampled, load, left_on)

    def trained(loss_of_step):
        monkeypatch.setattr(loop, "one_loss", loss_of_step)
        model, modes = small_model(), []
        model.register_forward_pre_hook(lambda model, _: modes.append(model.training))
        for _ in small_run(model, steps=3):
            model.eval()
        assert modes == [True] * 3

    def in_whatever_mode(model, schedule, data, settings, step):
        return training.diffusion_loss(model, schedule, data.x, data.c)

    check(trained, loop.one_loss, in_whatever_mode)


def test_mistake_08_nothing_runs_without_a_gpu():
    """`.to("cuda")`, or torch.load without map_location."""
    guard = without(r"""\.cuda\(|\(\s*["']cuda|device=["']cuda|torch\.load\(""")
    for line in ('x.to("cuda")', "x.cuda()", "y = torch.load('a')", "f(device='cuda')"):
        check(guard, CODE, CODE | {"planted": line})
    assert {p.device.type for p in load("sprites").model.parameters()} == {"cpu"}


def test_mistake_09_options_that_do_nothing_and_flags_that_are_always_true():
    """`--num_examples` read and ignored; type=bool, for which "False" is true."""
    kinds = (Settings, DistillSettings, Reading, Experiment, CardSettings)
    kinds = (*kinds, SampleSettings)
    settings = {field.name for kind in kinds for field in fields(kind)}

    def commands(parser):
        [found] = (a for a in parser._actions if hasattr(a, "choices") and a.choices)
        return found.choices

    def guard(parser):
        options = [a for each in commands(parser).values() for a in each._actions]
        modules = ("cli", "runs", "sample_runs", "distill_runs")
        sources = "".join(CODE[f"{module}.py"] for module in modules)
        read = re.findall(r"chosen\.(\w+)", sources)
        assert len(options) >= 20 and not any(a.type is bool for a in options)
        assert {a.dest for a in options} <= {*settings, *read, "help"}

    def with_option(*name, **how):
        parser = cli.parser()
        commands(parser)["train"].add_argument(*name, **how)
        return parser

    ignored = with_option("--num-examples", type=int)
    check(guard, cli.parser(), ignored, with_option("--json", type=bool))


def test_mistake_10_quadratic_times_that_repeat():
    """Quadratic spacing with equal times, and with its top at 0.8 T."""

    def plain(T, steps, _):
        return [round(T * (i / steps) ** 2) for i in range(steps, -1, -1)]

    def low(T, steps, spacing):
        return [round(0.8 * t) for t in spaced_times(T, steps, spacing)]

    check(partial(times_fall, spacing="quad"), spaced_times, plain, low)


def test_mistake_11_x0_clipped_and_eps_left_as_it_was():
    """The clipped guess and ε then tell two stories; inversion must not clip at all."""

    def guard(cut):
        x, ab = 3 * noise(4), float(SCHEDULE.alpha_bar[250])
        eps = stub(x, torch.ones(4))
        _, x0 = ddim_step(x, eps, ab, 0.9)
        _, new_x0 = ddim_step(x, cut(x, eps, ab), ab, 0.9)
        assert x0.abs().max() > 1.5
        assert torch.allclose(new_x0, x0.clamp(-1, 1), atol=1e-12)

    check(guard, clipped, lambda x, eps, ab: eps, lambda x, eps, ab: eps.clamp(-1, 1))
    with pytest.raises(TypeError):
        invert(stub, X, SCHEDULE, clip=True)


def test_mistake_12_inversion_at_the_wrong_times():
    """ε asked at s instead of t (so at t = 0 too), or one step fewer than sampling."""

    def guard(upwards):
        asked = []

        def eps_fn(x, t):
            asked.append(round(float(t[0]) * 500))
            return gaussian(SCHEDULE)(x, t)

        x0 = 0.3 + 0.5 * noise(4)
        *_, top = upwards(eps_fn, x0, SCHEDULE, 50)
        up = list(asked)
        asked.clear()
        *_, back = ddim(eps_fn, top.x, SCHEDULE, 50)
        assert up == asked[::-1] and len(up) == 50 and 0 not in up
        assert (back.x - x0).abs().mean() < 0.03

    def upwards(eps_fn, x, schedule, steps, early):
        ab = schedule.alpha_bar.tolist()
        for s, t in pairwise(schedule.timesteps(steps)[::-1]):
            eps = eps_fn(x, x.new_full((len(x),), (s if early else t) / schedule.T))
            x, guess = ddim_step(x, eps, ab[s], ab[t])
            yield Step(t, x, guess)

    def fewer(eps_fn, x0, schedule, steps):
        return upwards(eps_fn, x0, schedule, steps - 1, early=False)

    check(guard, invert, partial(upwards, early=True), fewer)


def test_mistake_13_one_angle_for_a_whole_batch():
    """An image between two others then depends on what else is in the batch."""

    def guard(arc):
        a, b = X, X.flip(0) + 2 * X.roll(1, 0)
        whole = arc(a, b, 0.3)
        alone = [arc(a[i : i + 1], b[i : i + 1], 0.3) for i in range(len(a))]
        assert torch.allclose(whole, torch.cat(alone), atol=1e-9)
        assert torch.allclose(arc(a, b, 0.0), a) and torch.allclose(arc(a, b, 1.0), b)

    def one_angle(a, b, w):
        angle = ((a * b).sum() / ((a * a).sum() * (b * b).sum()).sqrt()).acos()
        return (((1 - w) * angle).sin() * a + (w * angle).sin() * b) / angle.sin()

    check(guard, slerp, one_angle)


def test_mistake_14_noise_drawn_for_the_whole_batch():
    """Image 3 changes when the size of the batch does."""

    def start(noise):
        assert torch.equal(noise(5, (1, 4, 4))[3:], noise(2, (1, 4, 4), start=3))

    def at_once(n, shape, start=0):
        return torch.randn(n, *shape, generator=torch.Generator().manual_seed(start))

    check(start, initial_noise, at_once)

    def inside(like):
        many, few = (image_generators(n) for n in (4, 2))
        assert torch.equal(like(X, many)[:2], like(X[:2], few))

    check(inside, noise_like, lambda x, each: noise_like(x.movedim(0, -1), each[0]))


def test_mistake_15_timing_that_counts_other_work(monkeypatch):
    """Printing, copies and GIFs inside the clock, and no round to warm up."""
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr(bench, "time", clock)

    def guard(in_turns):
        costs = iter([100.0, 1.0, 1.0, 1.0])

        def action():
            clock.now += next(costs)

        assert in_turns(1, a=action)["a"] == 1.0

    def cold(rounds, a):
        start = clock.now
        for _ in range(rounds):
            a()
        return {"a": (clock.now - start) / rounds}

    check(guard, bench.in_turns, cold)

    slow = without(r"print\(|gif\(|\.cpu\(\)|\.numpy\(\)")
    timed = inspect.getsource(bench.bench_samplers)
    check(slow, {"ours": timed}, {"planted": f"{timed}\n    print(x)"})


def test_mistake_16_a_clamp_that_hides_a_wrong_sigma():
    """clamp(min=0) under the root: a σ that is too large passes unseen."""
    core = {name: CODE[name] for name in CODE if name in ("sampling.py", "solvers.py")}
    clamps = r"clamp\(min=0|clamp_min\(0|max\(\s*0(\.0)?\s*,|relu\("
    hidden = core | {"planted": "(1 - ab_s - sigma**2).clamp(min=0).sqrt()"}
    check(without(clamps), core, hidden)

    def guard(step):
        try:  # a step to an earlier time than its own has no σ
            x_s, _ = step(X, X, 0.5, 0.4, 1.0, X)
        except ValueError:
            return
        raise AssertionError(f"a σ of nothing gives {x_s.flatten()[0]}")

    def clamped(x, eps, ab_t, ab_s, eta, z):
        x0 = (x - (1 - ab_t) ** 0.5 * eps) / ab_t**0.5
        sigma = eta * ((1 - ab_s) / (1 - ab_t) * max(1 - ab_t / ab_s, 0)) ** 0.5
        return ab_s**0.5 * x0 + (1 - ab_s - sigma**2) ** 0.5 * eps + sigma * z, x0

    sound = clamped(X, X, 0.3, 0.6, 0.7, X)[0]
    torch.testing.assert_close(sound, ddim_step(X, X, 0.3, 0.6, 0.7, X)[0])
    check(guard, ddim_step, clamped)


def test_mistake_17_no_grad_around_a_yield():
    """It leaks the disabled mode into the caller between two steps."""

    def leaks(eps_fn, x, schedule):
        with torch.no_grad():
            yield from ddim(eps_fn, x, schedule)

    try:
        check(gradient_mode_does_not_leak, ddim, leaks)
    finally:
        torch.set_grad_enabled(True)


def test_mistake_18_an_average_that_forgets_buffers(monkeypatch):
    """EMA over parameters alone."""

    def guard(average):
        monkeypatch.setattr(loop, "AveragedModel", average)
        model = small_model()
        model.register_buffer("level", torch.zeros(1))
        for update in small_run(model, steps=3, ema_decay=0.5):
            level = float(update.ema.module.level)
            model.level += 1
        assert level == pytest.approx(0 * 0.25 + 1 * 0.25 + 2 * 0.5)

    def of_parameters(model, multi_avg_fn, use_buffers):
        return AveragedModel(model, multi_avg_fn=multi_avg_fn)

    check(guard, AveragedModel, of_parameters)


def test_mistake_19_gifs_that_stop_hurry_or_lose_frames():
    """No loop, frames a second for milliseconds, equal frames merged."""
    different = [noise(2, torch.float32, seed) for seed in range(4)]
    equal = [different[0]] * 3 + [different[1]] * 2

    def played(make, frames):
        """The milliseconds of each frame of a film, and how often it is played."""
        film, times = Image.open(io.BytesIO(make(frames, ms=40, hold_ms=900))), []
        for i in range(film.n_frames):
            film.seek(i)
            times.append(film.info["duration"])
        return times, film.info.get("loop")

    def goes_on(make):
        assert played(make, different)[1] == 0

    def keeps_its_pace(make):
        assert played(make, different)[0] == [40, 40, 40, 900]

    def keeps_all(make):
        assert played(make, equal)[0] == [40, 40, 40, 40, 900]

    def saved(frames, **how):
        first, *rest = (Image.fromarray(grid(x)) for x in frames)
        film = io.BytesIO()
        first.save(film, "GIF", save_all=True, append_images=rest, **how)
        return film.getvalue()

    def once(frames, ms, hold_ms):
        return saved(frames, duration=ms)

    def hurried(frames, ms, hold_ms):
        return saved(frames, duration=round(1000 / ms), loop=0)

    def merged(frames, ms, hold_ms):
        return saved(frames, duration=[*[ms] * (len(frames) - 1), hold_ms], loop=0)

    check(goes_on, gif, once)
    check(keeps_its_pace, gif, hurried)
    check(keeps_all, gif, merged)


def test_mistake_20_exceptions_inside_widgets_pass_unseen():
    """An error in a callback stands in no cell, only in its widget's saved state."""
    error = {"output_type": "error", "ename": "KeyError", "evalue": "'x'"}
    state = {"w": {"state": {"outputs": [error | {"traceback": ["KeyError: 'x'"]}]}}}
    nb = new_notebook(cells=[new_code_cell("1")])
    nb.metadata["widgets"] = {lessons.WIDGET_STATE: {"state": state}}

    def guard(scan):
        assert any("KeyError" in problem for problem in scan(nb))

    def of_cells(nb):
        return [str(output) for cell in nb.cells for output in cell.outputs]

    check(guard, lessons.problems, of_cells)


def test_mistake_21_a_distance_of_ones_own_called_fid():
    """The name is of one feature network: others' published figures may bear it."""

    def guard(texts):
        for name, text in texts.items():
            for place in re.finditer(r"\bfid\b|_fid|fid_", text, re.IGNORECASE):
                around = text[max(0, place.start() - 300) : place.end() + 300]
                assert re.search(r"\bpaper|published|Inception|not FID", around), name

    texts = project_text("lesson_utils", "tools")
    for path in [ROOT / "README.md", ROOT / "checkpoints/README.md"]:
        texts[str(path)] = path.read_text(encoding="utf-8")
    for path in lessons.lesson_paths():
        for i, cell in enumerate(nbformat.read(path, as_version=4).cells):
            texts[f"{path.name} {i}"] = cell.source
    texts["quoted"] = "In the paper, on CIFAR-10, DDIM reaches an FID of 6.84."
    wrong = ("Our FID is 3.", "def fid(a, b):", "fid_score = 1")
    check(guard, texts, *({"planted": text} for text in wrong))


def test_mistake_22_weights_on_a_file_host(monkeypatch):
    """What a lesson needs is in the checkout: no connection is opened for it."""
    connections = []

    def refuse(*address, **more):
        connections.append(address)
        raise OSError("there is no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    def guard(give):
        connections.clear()
        try:
            give()
        except OSError:
            assert not connections
        assert not connections

    def ours():
        assert load("sprites").context and draw_sprites(2, 0)

    hosted = "http://weights.invalid/sprites.pt"
    check(guard, ours, partial(urllib.request.urlopen, hosted))


def test_mistake_23_timeit_at_its_defaults():
    """A sampler of 30 seconds runs eight times."""

    def guard(sources):
        for name, text in sources.items():
            for line in re.findall(r"^.*%%?timeit.*$", text, re.MULTILINE):
                assert re.search(r"-n\s*\d", line) and re.search(r"-r\s*\d", line), name

    ours = project_text("lessons")
    assert any("%timeit" in text for text in ours.values())
    check(guard, ours, {"x": "%timeit last(steps)"}, {"x": "a = %timeit -o -n1 f()"})


def test_mistake_24_one_of_torch_and_torchvision_pinned():
    """The other is then swapped alone, and the import fails."""
    asked = map(Requirement, metadata.requires("torchvision"))
    [wanted] = [each.specifier for each in asked if each.name == "torch"]

    def guard(pins):
        assert {"torch", "torchvision"} <= pins.keys()
        assert wanted.contains(pins["torch"])

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    ours = dict(line.split("==") for line in lines if line.startswith("torch"))
    alone = ({name: ours[name]} for name in ("torch", "torchvision"))
    check(guard, ours, *alone, ours | {"torch": "2.6.0"})


def test_the_list_is_complete():
    mistakes = {k: v for k, v in globals().items() if k.startswith("test_mistake_")}
    assert [name[13:15] for name in mistakes] == [f"{i:02}" for i in range(1, 25)]
    assert all(test.__doc__ for test in mistakes.values())
