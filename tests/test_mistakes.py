"""The mistakes of the systems before this one: each guard holds here, and each fails
where the mistake is made on purpose."""

import inspect
import re
import socket
import sys
import textwrap
import urllib.request
from itertools import pairwise
from types import SimpleNamespace

import nbformat
import pytest
import test_project
import test_sampling
import test_training
import test_viz
import torch
from nbformat.v4 import new_code_cell, new_notebook

import lesson_utils
from lesson_utils import (
    ContextUnet,
    ResBlock,
    Schedule,
    Step,
    clipped,
    ddim,
    ddim_step,
    gif,
    grid,
    initial_noise,
    invert,
    last,
    linear_alpha_bar,
    load,
    noise_like,
    slerp,
    spaced_times,
    train,
)
from tools import bench, lessons

X = initial_noise(4, (1, 4, 4)).double()


def planted(function, *changes):
    """The function with changes to its source: the mistake, made on purpose."""
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in changes:
        assert old in source, f"{function.__name__} no longer has {old!r}"
        source = source.replace(old, new)
    names = dict(vars(sys.modules[function.__module__]))
    exec(source, names)
    return names[function.__name__]


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
        for path in sorted((lessons.ROOT / folder).glob("*.py")):
            found[path.name] = path.read_text(encoding="utf-8")
        for path in sorted((lessons.ROOT / folder).glob("*.ipynb")):
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

    def guard(schedule):
        x0, eps = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
        noise = schedule.linear().add_noise(x0, torch.tensor([10]), eps)
        share = 1 - linear_alpha_bar()[10]
        assert float(noise) == pytest.approx(float(share) ** 0.5, rel=1e-4)

    check(
        guard, Schedule, planted(Schedule, ("(1 - ab).sqrt() * eps", "(1 - ab) * eps"))
    )


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

    def guard(times):
        for steps in range(1, 501):
            found = times(500, steps)
            assert len(found) == steps + 1 and found[0] == 500 and found[-1] == 0

    def strides(T, steps):
        return list(range(T, -(T // steps), -(T // steps)))

    assert strides(500, 30)[-1] == -12 and len(strides(500, 30)) == 33
    check(guard, spaced_times, strides)


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


def test_mistake_05_sampling_starts_where_the_picture_is_still_seen():
    """√alpha_bar[T] far from 0: 0.080 for T = 500 with the betas of T = 1000."""

    def guard(schedules):
        for schedule in schedules:
            assert 0.004 <= float(schedule.alpha_bar[-1]) ** 0.5 <= 0.05

    ours = [make(T) for make in (Schedule.linear, Schedule.cosine) for T in (200, 500)]
    ours += [load(path.stem).schedule for path in test_project.CHECKPOINTS]
    wrong = ([Schedule.linear(T, 1e-4, 0.02)] for T in (500, 200))
    check(guard, ours, *wrong)


def test_mistake_06_pictures_stretched_one_by_one():
    """Each picture scaled to its own range, a flat one by 0."""

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

    check(sampled, load, planted(load, ("model.eval()", "model.train()")))

    def trained(loop):
        monkeypatch.setattr(test_training, "train", loop)
        test_training.test_a_preview_in_eval_mode_does_not_last()

    check(trained, train, planted(train, ("model.train()", "None")))
    kinds = {type(module).__name__ for module in ContextUnet(1, 0, 16).modules()}
    assert not {kind for kind in kinds if "Dropout" in kind or "BatchNorm" in kind}


def test_mistake_08_nothing_runs_without_a_gpu():
    """`.to("cuda")`, or torch.load without map_location."""
    guard = without(r"""\.cuda\(|\(\s*["']cuda|device=["']cuda|torch\.load\(""")
    for line in ('x.to("cuda")', "x.cuda()", "y = torch.load('a')", "f(device='cuda')"):
        check(guard, CODE, CODE | {"planted": line})
    assert {p.device.type for p in load("sprites").model.parameters()} == {"cpu"}


def test_mistake_09_options_that_do_nothing_and_flags_that_are_always_true():
    """`--num_examples` read and ignored; type=bool, for which "False" is true."""

    def guard(source):
        options = re.findall(r"""add_argument\(\s*["']--([\w-]+)""", source)
        assert len(options) >= 10 and not re.search(r"type\s*=\s*bool", source)
        for option in options:
            assert f"chosen.{option.replace('-', '_')}" in source, option

    ours = CODE["cli.py"]
    ignored = ours + '\noptions.add_argument("--num-examples", type=int)'
    check(guard, ours, ignored, ours.replace('action="store_true"', "type=bool"))


def test_mistake_10_quadratic_times_that_repeat():
    """Quadratic spacing with equal times, and with its top at 0.8 T."""

    def guard(times):
        for steps in range(1, 501):
            found = times(500, steps, "quad")
            assert found[0] == 500 and all(t > s for t, s in pairwise(found))

    def plain(T, steps, _):
        return [round(T * (i / steps) ** 2) for i in range(steps, -1, -1)]

    def low(T, steps, _):
        return [round(0.8 * t) for t in spaced_times(T, steps, "quad")]

    check(guard, spaced_times, plain, low)


def test_mistake_11_x0_clipped_and_eps_left_as_it_was(monkeypatch):
    """The clipped guess and ε then tell two stories; inversion must not clip at all."""

    def guard(cut):
        monkeypatch.setattr(test_sampling, "clipped", cut)
        test_sampling.test_clipping_recomputes_eps()

    check(
        guard, clipped, lambda x, eps, ab_t: eps, lambda x, eps, ab_t: eps.clamp(-1, 1)
    )
    assert "clip" not in inspect.signature(invert).parameters


def inversion(eps_fn, x0, schedule, steps, late=1, fewer=0):
    """DDIM backwards, wrongly: ε at (x_s, s) with late=0, or fewer steps."""
    times, ab = schedule.timesteps(steps - fewer)[::-1], schedule.alpha_bar.tolist()
    x = x0
    for s, t in pairwise(times):
        eps = eps_fn(x, x.new_full((len(x),), (t if late else s) / schedule.T))
        x, guess = ddim_step(x, eps, ab[s], ab[t])
        yield Step(t, x, guess)


def test_mistake_12_inversion_at_the_wrong_times():
    """ε asked at s instead of t (so at t = 0 too), or one step fewer than sampling."""

    def guard(upwards):
        schedule, asked = Schedule.linear(), []

        def eps_fn(x, t):
            asked.append(round(float(t[0]) * 500))
            return test_sampling.gaussian(schedule)(x, t)

        x0 = 0.3 + 0.5 * X
        latent = last(upwards(eps_fn, x0, schedule, 50))
        up = list(asked)
        asked.clear()
        back = last(ddim(eps_fn, latent, schedule, 50))
        assert up == asked[::-1] and len(up) == 50 and 0 not in up
        assert (back - x0).abs().mean() < 0.03

    early = lambda *a: inversion(*a, late=0)  # noqa: E731
    check(guard, invert, early, lambda *a: inversion(*a, fewer=1))


def one_angle(a, b, w):
    """The arc of a whole batch."""
    angle = ((a * b).sum() / ((a * a).sum() * (b * b).sum()).sqrt()).acos()
    return (((1 - w) * angle).sin() * a + (w * angle).sin() * b) / angle.sin()


def test_mistake_13_one_angle_for_a_whole_batch():
    """A picture between two others then depends on what else is in the batch."""

    def guard(arc):
        a, b = X, X.flip(0) + 2 * X.roll(1, 0)
        whole = arc(a, b, 0.3)
        alone = [arc(a[i : i + 1], b[i : i + 1], 0.3) for i in range(len(a))]
        assert torch.allclose(whole, torch.cat(alone), atol=1e-9)
        assert torch.allclose(arc(a, b, 0.0), a) and torch.allclose(arc(a, b, 1.0), b)

    check(guard, slerp, one_angle)


def test_mistake_14_noise_drawn_for_the_whole_batch():
    """Picture 3 changes when the size of the batch does."""

    def start(noise):
        assert torch.equal(noise(5, (1, 4, 4))[3:], noise(2, (1, 4, 4), start=3))

    def one_draw(n, shape, start=0):
        return torch.randn(n, *shape, generator=torch.Generator().manual_seed(start))

    check(start, initial_noise, one_draw)

    def inside(like):
        many, few = (lesson_utils.image_generators(n) for n in (4, 2))
        assert torch.equal(like(X, many)[:2], like(X[:2], few))

    check(inside, noise_like, lambda x, each: noise_like(x.movedim(0, -1), each[0]))


def test_mistake_15_timing_that_counts_other_work():
    """Printing, copies and GIFs inside the clock, and no round to warm up."""
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)

    def guard(in_turns):
        costs = iter([100.0, 1.0, 1.0, 1.0])

        def action():
            clock.now += next(costs)

        in_turns.__globals__["time"] = clock
        assert in_turns(1, a=action)["a"] == 1.0

    def median_of(ours):
        return planted(ours, ("if turn:", "if True:"))

    own = planted(bench.in_turns)
    check(guard, own, median_of(bench.in_turns))
    slow = r"print\(|gif\(|\.cpu\(\)|\.numpy\(\)"
    timed = {"bench": inspect.getsource(bench.bench_samplers)}
    check(without(slow), timed, {"bench": timed["bench"] + "\n    print(x)"})


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

    unseen = (("check_step(x, eps, ab_t, ab_s, eta, noise)", "pass"),)
    unseen += (("(1 - ab_t / ab_s) ** 0.5", "max(1 - ab_t / ab_s, 0) ** 0.5"),)
    check(guard, ddim_step, planted(ddim_step, *unseen))


def test_mistake_17_no_grad_around_a_yield():
    """It leaks the disabled mode into the caller between two steps."""

    def leaks(eps_fn, x, schedule):
        with torch.no_grad():
            yield from ddim(eps_fn, x, schedule)

    try:
        check(test_sampling.test_gradient_mode_does_not_leak, ddim, leaks)
    finally:
        torch.set_grad_enabled(True)


def test_mistake_18_an_average_that_forgets_buffers(monkeypatch):
    """EMA over parameters alone."""

    def guard(loop):
        monkeypatch.setattr(test_training, "train", loop)
        test_training.test_ema_averages_buffers_too()

    wrong = planted(train, ("use_buffers=True", "use_buffers=False"))
    check(guard, train, wrong)


def test_mistake_19_gifs_that_stop_hurry_or_lose_frames(monkeypatch):
    """No loop, frames a second for milliseconds, equal frames merged."""

    def guard(make):
        monkeypatch.setattr(test_viz, "gif", make)
        test_viz.test_gif_keeps_frames_times_size_and_loop(3)
        test_viz.test_equal_frames_are_not_merged(64)

    once = planted(gif, ("loop=0", "loop=1"))
    hurried = planted(gif, ("round(ms, -1)", "round(1000 / ms)"))
    merged = planted(gif, ("palette = _keep_equal_frames(big, palette)", "pass"))
    check(guard, gif, once, hurried, merged)


def test_mistake_20_exceptions_inside_widgets_pass_unseen():
    """An error in a callback stands in no cell, only in its widget's saved state."""
    error = {"output_type": "error", "ename": "KeyError", "evalue": "'x'"}
    state = {"w": {"state": {"outputs": [error | {"traceback": ["KeyError: 'x'"]}]}}}
    nb = new_notebook(cells=[new_code_cell("1")])
    nb.metadata["widgets"] = {lessons.WIDGET_STATE: {"state": state}}

    def guard(scan):
        assert any("KeyError" in problem for problem in scan(nb))

    wrong = planted(lessons.problems, ('.get("widgets", {})', '.get("nothing", {})'))
    check(guard, lessons.problems, wrong)


def test_mistake_21_a_distance_of_ones_own_called_fid():
    """The name is of one feature network: others' published figures may bear it."""

    def guard(texts):
        for name, text in texts.items():
            for place in re.finditer(r"\bfid\b|_fid|fid_", text, re.IGNORECASE):
                around = text[max(0, place.start() - 300) : place.end() + 300]
                assert re.search(r"\bpaper|published|Inception|not FID", around), name

    quoted = {"cells": "In the paper, on CIFAR-10, DDIM reaches an FID of 6.84."}
    root, texts = lessons.ROOT, project_text("lesson_utils", "tools")
    for path in [root / "README.md", root / "checkpoints/README.md"]:
        texts[str(path)] = path.read_text(encoding="utf-8")
    for path in lessons.lesson_paths():
        for i, cell in enumerate(nbformat.read(path, as_version=4).cells):
            texts[f"{path.name} {i}"] = cell.source
    wrong = (
        {"x": text} for text in ("Our FID is 3.", "def fid(a, b):", "fid_score = 1")
    )
    check(guard, texts | quoted, *wrong)


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

    def hosted():
        return urllib.request.urlopen("http://weights.invalid/sprites.pt")

    def ours():
        assert load("sprites").context and lesson_utils.draw_sprites(2, 0)

    check(guard, ours, hosted)


def test_mistake_23_timeit_at_its_defaults():
    """A sampler of 30 seconds runs eight times."""

    def guard(sources):
        for name, text in sources.items():
            for line in re.findall(r"^.*%%?timeit.*$", text, re.MULTILINE):
                assert re.search(r"-n\s*\d", line) and re.search(r"-r\s*\d", line), name

    ours = project_text("lessons")
    assert any("%timeit" in text for text in ours.values())
    check(guard, ours, {"x": "%timeit last(steps)"}, {"x": "a = %timeit -o -n1 f()"})


def test_mistake_24_one_of_torch_and_torchvision_pinned(monkeypatch):
    """The other is then swapped alone, and the import fails."""

    def guard(constraints):
        monkeypatch.setattr(test_project, "CONSTRAINTS", constraints)
        test_project.test_torch_and_torchvision_are_pinned_together()

    ours = test_project.CONSTRAINTS
    lines = ours.splitlines(keepends=True)
    alone = (
        "".join(x for x in lines if not x.startswith(f"{name}==")) for name in PAIR
    )
    other = re.sub(r"(?m)^torch==.*$", "torch==2.6.0", ours)
    check(guard, ours, *alone, other)


PAIR = ("torch", "torchvision")


def test_the_list_is_complete():
    numbers = [name[13:15] for name in globals() if name.startswith("test_mistake_")]
    assert numbers == [f"{i:02}" for i in range(1, 25)]
    assert all(
        function.__doc__
        for name, function in globals().items()
        if name.startswith("test_mistake_")
    )
