"""Distillation: its target, its loss and its students, on worlds that are known.

The worlds are those of exact.py: their best denoiser is a formula, so a teacher makes
no error of its own, and what a student should answer is known.
"""

import copy
import gc
from dataclasses import FrozenInstanceError, asdict
from itertools import islice, pairwise

import pytest
import torch
from guards import noise, stub
from hypothesis import given, settings
from hypothesis import strategies as st
from small import SCHEDULE, small_data, small_distillation, small_model

from lesson_utils import (
    DistillSettings,
    Mixture,
    Schedule,
    Student,
    ddim,
    ddim_step,
    distillation_loss,
    dpmpp_2m,
    from_v,
    guide,
    heun,
    initial_noise,
    jump_target,
    last,
    load,
)
from lesson_utils.loop import (
    Pupil,
    advance,
    between,
    even_times,
    some_contexts,
    stages_of,
    turn_to_v,
)
from lesson_utils.support.state import Keeper, read_state

AB = SCHEDULE.alpha_bar.double()
POINTS = torch.tensor([-0.9, 0.2, 0.7]).double().view(3, 1, 1, 1)
WORLD = Mixture(POINTS, [2, 1, 2], std=0.3)


def dots(n, seed=0):
    """Noise (n,1,1,1): images of one pixel."""
    return initial_noise(n, (1, 1, 1), seed).double()


def levels(t):
    """alpha_bar at times (B,): (B,1,1,1)."""
    return AB[t].view(-1, 1, 1, 1)


class InV(torch.nn.Module):
    """A network that answers what a function (x, t/T, c) -> eps says, but in v."""

    def __init__(self, eps_fn):
        super().__init__()
        self.eps_fn = eps_fn

    def forward(self, x, t, c=None):
        ab = levels((t * 500).round().long())
        eps = self.eps_fn(x, t) if c is None else self.eps_fn(x, t, c)
        return (eps - (1 - ab).sqrt() * x) / ab.sqrt()  # of v, solved for its ε


# v


@pytest.mark.parametrize("ab", [3.6e-5, 0.3, 0.999, 1.0, None])
def test_a_v_is_the_noise_and_the_image_that_it_is_made_of(ab):
    x0, eps = noise(4), noise(4, seed=1)
    ab = levels(torch.tensor([1, 100, 400, 500])) if ab is None else ab
    x = ab**0.5 * x0 + (1 - ab) ** 0.5 * eps
    v = ab**0.5 * eps - (1 - ab) ** 0.5 * x0
    for found, expected in zip(from_v(x, v, ab), (eps, x0), strict=True):
        assert torch.allclose(found, expected, atol=1e-7)


def test_an_error_at_T_stays_as_small_as_it_is_in_v_and_grows_in_eps():
    x, v, wrong = noise(4), noise(4, seed=1), 0.001 * noise(4, seed=2)
    ab = float(AB[500])
    eps, x0 = from_v(x, v, ab)
    _, in_v = from_v(x, v + wrong, ab)
    _, in_eps = ddim_step(x, eps + wrong, ab, 0.5)
    assert (in_v - x0).abs().max() <= wrong.abs().max()
    assert (in_eps - x0).abs().max() > 100 * wrong.abs().max()


@pytest.mark.parametrize("solver", [ddim, heun, dpmpp_2m])
def test_every_sampler_runs_a_network_that_answers_in_v(solver):
    eps_fn, x = WORLD.eps_fn(SCHEDULE), dots(20)
    student = Student(InV(eps_fn), SCHEDULE).double()
    for steps in (1, 5, 50):
        ours = solver(guide(student), x, SCHEDULE, steps)
        theirs = solver(eps_fn, x, SCHEDULE, steps)
        for a, b in zip(ours, theirs, strict=True):
            assert torch.allclose(a.x, b.x, atol=1e-6)
            assert torch.allclose(a.x0, b.x0, atol=1e-4)


def test_a_network_of_ours_may_answer_in_v():
    model, x, c = small_model(lively=True), torch.randn(3, 1, 8, 8), torch.eye(3, 2)
    student, t = Student(model, SCHEDULE), torch.tensor([0.002, 0.5, 1.0])
    ab = SCHEDULE.alpha_bar[[1, 250, 500]].view(-1, 1, 1, 1)
    expected = (1 - ab).sqrt() * x + ab.sqrt() * model(x, t, c)
    assert torch.allclose(student(x, t, c), expected, atol=1e-6)
    assert student.context_size == 2 and student.in_channels == 1
    keys = [f"network.{name}" for name in model.state_dict()]
    assert list(student.state_dict()) == keys  # the schedule is no weight


# The times of a student


TIMES = [500, 375, 250, 125, 0]


@pytest.mark.parametrize("solver", [ddim, heun, dpmpp_2m])
def test_a_student_runs_on_its_times_and_names_them_on_others(solver):
    student, x = Student(InV(stub), SCHEDULE, TIMES), noise(2)
    for steps in (4, TIMES, [500, 250, 0]):
        assert last(solver(guide(student), x, SCHEDULE, steps)).isfinite().all()
    why = r"^t: t/T at a time t that the student knows, 500, 375, 250, 125 of T = 500, "
    for steps in (3, 5, [500, 374, 0]):
        with pytest.raises(ValueError, match=why):
            last(solver(guide(student), x, SCHEDULE, steps))
    with pytest.raises(ValueError, match=rf"{why}is needed, got \[125.4\]"):
        student(x, torch.tensor([0.25, 0.2508]))
    with pytest.raises(ValueError, match=r"that the student knows, 1..500 of T = 500"):
        Student(InV(stub), SCHEDULE)(x, torch.zeros(2))


@pytest.mark.parametrize("T", [7, 100, 999, 1000])
def test_a_time_is_known_though_its_share_of_T_is_rounded(T):
    schedule = Schedule.linear(T)
    times = list(range(T, -1, -1))
    student = Student(lambda x, t, c: x, schedule, times)
    x = torch.randn(T, 1, 4, 4)
    ab = schedule.alpha_bar[1:].view(-1, 1, 1, 1)  # each image at a time of its own
    expected = ((1 - ab) ** 0.5 + ab**0.5) * x
    assert torch.allclose(student(x, torch.arange(1, T + 1) / T), expected)


# The target


@st.composite
def jumps(draw, n=3):
    """Times t > m > s of n images, (n,) each."""
    each = st.lists(st.integers(0, 500), min_size=3, max_size=3, unique=True)
    rows = [sorted(draw(each), reverse=True) for _ in range(n)]
    return torch.tensor(rows).unbind(1)


@given(jumps())
@settings(max_examples=60, deadline=None)
def test_one_step_with_the_target_ends_where_two_of_the_teacher_do(times):
    t, m, s = times
    x = noise(3)
    target = jump_target(stub, x, SCHEDULE, t, m, s)
    for i in range(3):  # one by one, with the sampler itself
        two = [int(time[i]) for time in (t, m, s)]
        alone = x[i : i + 1]
        for upper, lower in pairwise(two):
            share = torch.full((1,), upper / 500)
            ab = AB[[upper, lower]].tolist()
            alone, _ = ddim_step(alone, stub(alone, share), *ab)
        ab_t, ab_s = AB[[two[0], two[2]]].tolist()
        eps = (x[i] - ab_t**0.5 * target[i]) / (1 - ab_t) ** 0.5
        one = ab_s**0.5 * target[i] + (1 - ab_s) ** 0.5 * eps  # DDIM (12)
        assert torch.allclose(one, alone[0], atol=1e-8)


@pytest.mark.parametrize(("m", "s"), [(375, 250), (250, 0), (499, 498)])
def test_float32_is_enough_for_the_target_at_T(m, s):
    """There the teacher's answer is divided by 0.006, and what float32 rounds too."""
    x, times = dots(50), [torch.full((50,), time) for time in (500, m, s)]
    teacher = WORLD.eps_fn(SCHEDULE)
    exact = jump_target(teacher, x, SCHEDULE, *times)
    found = jump_target(teacher, x.float(), SCHEDULE, *times)
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 1e-3


def test_no_gradient_passes_the_target():
    x = noise(2).requires_grad_()
    t, m, s = (torch.tensor([time, time]) for time in (500, 250, 0))
    assert not jump_target(stub, x, SCHEDULE, t, m, s).requires_grad


@pytest.mark.parametrize(("t", "m", "s"), [(500, 375, 250), (250, 125, 0), (9, 8, 7)])
def test_where_both_steps_are_exact_the_target_is_the_teachers(t, m, s):
    """A single point: the guess is always that point, and each step is the exact ODE.

    For a Gaussian, whose ODE has a closed form, a teacher is made whose steps are.
    """
    x, times = dots(5), [torch.full((5,), time) for time in (t, m, s)]
    point = Mixture(POINTS[:1])
    target = jump_target(point.eps_fn(SCHEDULE), x, SCHEDULE, *times)
    assert torch.allclose(target, POINTS[:1].expand(5, 1, 1, 1), atol=1e-6)

    def place(ab, std=0.4, mean=0.3):  # of x_t: its mean and its spread
        return ab**0.5 * mean, (ab * std**2 + 1 - ab) ** 0.5

    def flow(x, ab, ab_s):  # the ODE: the place in units of the spread stays
        (mean, spread), (mean_s, spread_s) = place(ab), place(ab_s)
        return mean_s + spread_s * (x - mean) / spread

    def exact(x, ab, ab_s):  # the ε with which a step of DDIM is the flow
        a = (ab_s / ab) ** 0.5
        return (flow(x, ab, ab_s) - a * x) / ((1 - ab_s) ** 0.5 - a * (1 - ab) ** 0.5)

    after = {t: m, m: s}

    def eps_fn(x, share):
        time = round(float(share[0]) * 500)
        return exact(x, float(AB[time]), float(AB[after[time]]))

    target = jump_target(eps_fn, x, SCHEDULE, *times)
    ab_t, ab_s = AB[[t, s]].tolist()
    eps = exact(x, ab_t, ab_s)  # of the teacher that takes the whole way at once
    one, guess = ddim_step(x, eps, ab_t, ab_s)
    assert torch.allclose(target, guess, atol=1e-6)
    assert torch.allclose(one, flow(x, ab_t, ab_s), atol=1e-9)


# The loss


def test_the_loss_is_that_of_the_paper_and_v_in_other_words():
    x0, target, v = noise(6), noise(6, seed=1), noise(6, seed=2)
    t = torch.tensor([1, 60, 200, 300, 400, 500])
    x = SCHEDULE.add_noise(x0.float(), t, noise(6, seed=3).float()).double()
    student = Student(lambda x, t, c: v, SCHEDULE)
    loss = float(distillation_loss(student, x, t, target))
    ab = levels(t)
    guess = ab.sqrt() * x - (1 - ab).sqrt() * v
    snr = (ab / (1 - ab)).clamp(min=1)
    assert loss == pytest.approx(float((snr * (guess - target) ** 2).mean()), rel=1e-5)
    wanted = (ab.sqrt() * x - target) / (1 - ab).sqrt()  # the v whose guess it is
    in_v = torch.maximum(ab, 1 - ab) * (v - wanted) ** 2
    assert loss == pytest.approx(float(in_v.mean()), rel=1e-5)


# A student that has learnt all that it can


class Series(torch.nn.Module):
    """For each of its times a polynomial in x: a network that can be fitted to the end.

    Chebyshev's polynomials up to a degree, on [-6, 6].
    """

    def __init__(self, times, degree=120):
        super().__init__()
        self.times = times
        self.weights = torch.nn.Parameter(torch.zeros(len(times), degree + 1).double())

    def forward(self, x, t, c=None):
        angle = (x.flatten() / 6).clamp(-1, 1).acos()  # (B,)
        powers = torch.cos(angle[:, None] * torch.arange(self.weights.shape[1]))
        which = [self.times.index(round(float(share) * 500)) for share in t]
        return (powers * self.weights[which]).sum(1).view(-1, 1, 1, 1)


def fitted(student, batches):
    """Minimise the loss over batches (x, t, target) until nothing changes any more."""
    weights = list(student.parameters())
    solver = torch.optim.LBFGS(
        weights, max_iter=2000, history_size=100, tolerance_grad=1e-14,
        tolerance_change=1e-16, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure():
        solver.zero_grad()
        loss = sum(distillation_loss(student, *batch) for batch in batches)
        loss.backward()
        return loss

    solver.step(closure)
    return float(closure().detach())


def test_a_student_fitted_to_convergence_reproduces_two_steps_of_its_teacher():
    """8 → 4 → 2 → 1, each the teacher of the next, on noise that it has not seen."""
    times = SCHEDULE.timesteps(8)
    teacher, x = WORLD.eps_fn(SCHEDULE), dots(200, seed=1)
    every = 6 * torch.cos(torch.pi * (torch.arange(300) + 0.5) / 300).double()
    grid = every.view(-1, 1, 1, 1)
    for _ in range(3):
        finer, times = times, times[::2]
        student = Student(Series(times[:-1]), SCHEDULE, times).double()
        batches = []
        for t, m, s in zip(finer[0:-2:2], finer[1:-1:2], finer[2::2], strict=True):
            each = [torch.full((300,), time) for time in (t, m, s)]
            target = jump_target(teacher, grid, SCHEDULE, *each)
            batches.append((grid, each[0], target))
        loss = fitted(student, batches)
        assert loss < 1e-9
        two = {step.t: step.x for step in ddim(teacher, x, SCHEDULE, finer)}
        one = list(ddim(guide(student), x, SCHEDULE, times))
        for step in one:
            assert (step.x - two[step.t]).abs().max() < 1e-4, (times, step.t)
        teacher = guide(student)
    assert times == [500, 0]


# The loop


def weights(module):
    """All its weights in a row: of a model, an average or a student."""
    return torch.cat([v.flatten() for v in module.state_dict().values() if v.ndim])


@pytest.mark.parametrize("schedule", [SCHEDULE, Schedule.cosine(100)])
def test_each_step_of_a_student_brings_as_much_of_the_image(schedule):
    for steps in (1, 4, 16):
        times = even_times(schedule, steps)
        assert (times[0], times[-1], len(times)) == (schedule.T, 0, steps + 1)
        strides = schedule.alpha_bar[times].sqrt().diff()
        assert torch.allclose(strides, strides.mean().expand(steps), atol=0.02)
    for T in (1, 3, 20):
        for steps in range(1, T + 1):
            times = even_times(Schedule.linear(T), steps)
            assert (times[0], times[-1], len(times)) == (T, 0, steps + 1)
            assert all(t > s for t, s in pairwise(times))


def test_the_stages_halve_the_steps():
    teacher = small_model()
    stages = stages_of(teacher, SCHEDULE, DistillSettings(1, 8, updates=5))
    assert [len(stage.times) - 1 for stage in stages] == [4, 2, 1]
    assert [(stage.start, stage.end) for stage in stages] == [(0, 5), (5, 10), (10, 15)]
    assert stages[0].finer == even_times(SCHEDULE, 8)
    for stage in stages:
        assert stage.times == stage.finer[::2]
    for one, next_one in pairwise(stages):
        assert next_one.finer == one.times
    known = Student(teacher, SCHEDULE, TIMES)
    [only] = stages_of(known, SCHEDULE, DistillSettings(steps=2))
    assert only.finer == TIMES and (only.times, only.start) == ([500, 250, 0], 0)
    [alone] = stages_of(teacher, Schedule.linear(10), DistillSettings(steps=5))
    assert alone.finer == list(range(10, -1, -1))  # no more steps than times
    for T in (7, 9):
        why = f"^teacher_steps: an even number up to T = {T} is needed, got 16$"
        with pytest.raises(ValueError, match=why):
            stages_of(teacher, Schedule.linear(T), DistillSettings(steps=1))


@pytest.mark.parametrize(
    ("times", "steps_of_teacher", "steps", "why"),
    [
        (None, 16, 3, "steps: 8 or 4 or 2 or 1 is needed, got 3"),
        (None, 16, 16, "steps: 8 or 4 or 2 or 1 is needed, got 16"),
        (None, 12, 2, "steps: 6 or 3 is needed, got 2"),
        (None, 7, 7, "teacher_steps: an even number is needed, got 7"),
        (TIMES, 16, 4, "steps: 2 or 1 is needed, got 4"),
        (TIMES, 16, 3, "steps: 2 or 1 is needed, got 3"),
        ([500, 0], 16, 1, "teacher: a student of two steps or more is needed, got "),
        ([500, 9, 5, 0], 16, 1, "teacher: a student of an even number of steps is "),
    ],
)
def test_steps_to_which_no_halving_leads_are_refused(
    times, steps_of_teacher, steps, why
):
    teacher = small_model()
    teacher = Student(teacher, SCHEDULE, times) if times else teacher
    with pytest.raises(ValueError, match=f"^{why}"):
        small_distillation(teacher, steps=steps, teacher_steps=steps_of_teacher)


def test_settings_are_frozen_and_have_their_rules():
    known = DistillSettings(steps=2.0, guidance=3)
    assert (known.steps, known.guidance) == (2, 3.0)
    assert DistillSettings(**asdict(known)) == known
    with pytest.raises(FrozenInstanceError):
        known.steps = 1
    for updates, decay in ((5, 0.0), (100, 0.9), (10**5, 0.999)):
        assert DistillSettings(updates=updates).ema_decay == decay
    for name, value in {"steps": 0, "guidance": 0.5, "learning_rate": 1}.items():
        with pytest.raises(ValueError, match=f"^{name}: "):
            DistillSettings(**{name: value})


def test_a_student_starts_from_its_teacher_and_the_teacher_stays():
    """With rates of next to nothing, all students are the network that was given."""
    teacher = small_model(lively=True)
    before, first = weights(teacher).clone(), None
    seen = []
    for update in small_distillation(teacher, learning_rate=1e-9):
        now = weights(update.ema.network)
        first = now.clone() if first is None else first
        assert torch.allclose(now, first, atol=1e-6)
        seen.append((update.step, len(update.ema.times) - 1))
    assert seen == [
        (1, 8),
        (2, 8),
        (3, 8),
        (4, 4),
        (5, 4),
        (6, 4),
        (7, 2),
        (8, 2),
        (9, 2),
    ]
    for name, value in teacher.state_dict().items():  # the last layer is turned to v
        same = torch.allclose(update.ema.network.state_dict()[name], value, atol=1e-6)
        assert same is not name.startswith("mix."), name
    assert update.losses.shape == (9,) and update.ema.guidance == 2.0
    assert torch.equal(weights(teacher), before)


def test_a_stage_begins_with_the_average_and_a_new_optimiser(tmp_path):
    state = tmp_path / "state.safetensors"
    files = {"state": state, "save_seconds": 0}
    run = small_distillation(files=files, ema_decay=0.5)
    [*_, end] = islice(run, 3)
    average = {k: v.clone() for k, v in end.ema.network.state_dict().items()}
    run.close()
    assert int(read_state(state)[0]["ema.n_averaged"]) == 3
    run = small_distillation(files=files, ema_decay=0.5, seed=0)
    next(run)
    run.close()
    tensors, record = read_state(state)
    for name, value in average.items():
        assert torch.equal(tensors[f"old.{name}"], value), name
    assert int(tensors["ema.n_averaged"]) == 1
    steps = {float(v) for k, v in tensors.items() if k.endswith("].step")}
    steps |= {float(v) for k, v in tensors.items() if k.endswith(".step")}
    assert steps == {1.0}
    assert record["about"]["student"] == {
        "times": even_times(SCHEDULE, 16)[::4],
        "guidance": 2,
    }


def test_a_stage_begins_with_nothing_of_the_one_before():
    """Seen before its first update, which moves what it begins with."""
    model, data = small_model(lively=True), small_data()
    how = DistillSettings(2, updates=3, batch_size=4, warmup=1, ema_decay=0.5)
    stages = stages_of(model, SCHEDULE, how)
    pupil = Pupil(model, SCHEDULE, data, how, stages)
    for step in range(3):
        advance(pupil, stages[0], data, step)
    average = weights(pupil.average.module).clone()
    before = weights(pupil.network), weights(pupil.old)
    assert not any(torch.equal(average, other) for other in before)
    pupil.begin()
    for module in (pupil.network, pupil.old, pupil.average.module):
        assert torch.equal(weights(module), average)
    kept = [v for state in pupil.optimiser.state.values() for v in state.values()]
    assert len(kept) >= len(list(model.parameters()))
    assert not any(value.any() for value in kept)
    assert int(pupil.average.n_averaged) == 0


def test_a_student_is_distilled_on():
    known = Student(small_model(lively=True), SCHEDULE, TIMES, 3.0)
    *_, update = small_distillation(known, steps=1, guidance=2.0)
    assert update.step == 6 and update.ema.times == [500, 0]
    assert update.ema.guidance == 3.0  # it was folded in when the first was made
    anywhere = Student(known.network, SCHEDULE, None, 3.0)  # at any time, but guided
    next(run := small_distillation(anywhere, guidance=2.0))
    assert next(run).ema.guidance == 3.0


def test_the_first_teacher_is_the_guided_pair_and_the_next_the_student_before():
    """What each stage's teacher answers, whichever stage a run begins with."""
    model, data, c = small_model(lively=True), small_data(), torch.eye(2)
    settings = DistillSettings(2, 8, guidance=3.0)
    first, second = stages_of(model, SCHEDULE, settings)
    pupil = Pupil(model, SCHEDULE, data, settings, [first, second])
    x, t = torch.randn(2, 1, 8, 8), torch.tensor(first.times[:2]) / 500
    pair = guide(model, c, 3.0)(x, t)
    assert torch.equal(pupil.taught(first, c)(x, t), pair)
    student = Student(pupil.old, SCHEDULE, first.times, 3.0)
    assert torch.equal(pupil.taught(second, c)(x, t), student(x, t, c))
    [only] = stages_of(student, SCHEDULE, settings)
    pupil = Pupil(student, SCHEDULE, data, settings, [only])
    assert torch.equal(pupil.taught(only, c)(x, t), student(x, t, c))
    anywhere = Student(pupil.old, SCHEDULE, None, 3.0)
    stages = stages_of(anywhere, SCHEDULE, settings)
    pupil = Pupil(anywhere, SCHEDULE, data, settings, stages)
    assert torch.equal(pupil.taught(stages[0], c)(x, t), anywhere(x, t, c))


def test_some_contexts_are_between_two():
    """As many as are asked for, on the line to that of another image; none with 0."""
    c, generator = torch.eye(4).repeat(500, 1), torch.Generator().manual_seed(0)
    mixed = between(c, 0.25, generator)
    assert torch.allclose(mixed.sum(1), torch.ones(2000))
    own, other = (mixed * c).sum(1), (mixed * c.roll(1, 0)).sum(1)
    assert torch.allclose(own + other, torch.ones(2000))
    moved = own < 1
    assert 0.2 < moved.float().mean() < 0.3
    assert 0.4 < own[moved].mean() < 0.6 and own.min() >= 0
    assert torch.equal(between(c, 0.0, generator), c)  # to the bit
    assert between(c[:, :0], 0.5, generator).shape == (2000, 0)


def test_no_context_is_between_two_at_T(monkeypatch):
    seen = {}

    def loss(student, x, t, target, c):
        for time, row in zip(t.tolist(), c, strict=True):
            seen.setdefault(time, []).append(float(row.max()))
        return distillation_loss(student, x, t, target, c)

    monkeypatch.setattr("lesson_utils.loop.distillation_loss", loss)
    how = {"context_mixing": 1.0, "context_dropout": 0.0, "batch_size": 40}
    next(small_distillation(teacher_steps=4, steps=2, **how))
    assert len(seen) == 2 and set(seen.pop(500)) == {1.0}
    [others] = seen.values()
    assert sum(0 < weight < 1 for weight in others) >= 5


def test_in_bfloat16_the_student_answers_and_its_target_is_exact(monkeypatch):
    """At T the teacher's answer is divided by 0.006, and its rounding would be too."""
    seen = []

    def loss(student, x, t, target, c):
        seen.append((torch.is_autocast_enabled("cpu"), t, target))
        return distillation_loss(student, x, t, target, c)

    monkeypatch.setattr("lesson_utils.loop.distillation_loss", loss)
    for half in (False, True):
        for teacher in (None, Student(small_model(lively=True), SCHEDULE, TIMES)):
            next(small_distillation(teacher, bfloat16=half, batch_size=8))
    assert [half for half, *_ in seen] == [False, False, True, True]
    for (_, t, exact), (_, _, found) in zip(seen[:2], seen[2:], strict=True):
        assert 500 in t and torch.equal(found, exact)


def test_without_classes_there_is_no_guidance():
    data = small_data()._replace(c=torch.zeros(40, 0), names=())
    model = small_model(classes=0, lively=True)
    ends = [list(small_distillation(model, data, guidance=w))[-1] for w in (1.0, 3.0)]
    assert [update.ema.guidance for update in ends] == [1.0, 1.0]
    assert torch.equal(*(update.losses for update in ends))


@pytest.mark.parametrize("classes", [2, 0])
def test_a_network_is_turned_to_v_by_its_last_layer(classes):
    """Untrained, and to the last digits."""
    model, times = small_model(classes=classes, lively=True), SCHEDULE.timesteps(8)
    turned = copy.deepcopy(model)
    c = torch.cat([torch.eye(2), torch.zeros(1, 2)])[:, :classes]
    turn_to_v(turned, SCHEDULE, times, c)
    x = torch.randn(3, 1, 8, 8)
    for t in times[:-1]:
        ab, share = float(AB[t]), torch.full((3,), t / 500)
        expected = (model(x, share, c) - (1 - ab) ** 0.5 * x) / ab**0.5
        found = turned(x, share, c)
        assert (found - expected).abs().max() < 2e-3 * expected.abs().max(), t


def test_it_is_turned_for_every_class_though_they_come_one_after_the_other():
    """As folders are read: the first images are all of one class."""
    model, data = small_model(lively=True), small_data()
    data = data._replace(c=torch.eye(2).repeat_interleave(20, 0))
    how = DistillSettings(2, batch_size=4)
    stages = stages_of(model, SCHEDULE, how)
    turned = Pupil(model, SCHEDULE, data, how, stages).network
    x, c = torch.randn(3, 1, 8, 8), torch.tensor([[1.0, 0], [0, 1], [0, 0]])
    for t in stages[0].times[:-1]:
        ab, share = float(AB[t]), torch.full((3,), t / 500)
        expected = (model(x, share, c) - (1 - ab) ** 0.5 * x) / ab**0.5
        found = turned(x, share, c)
        assert (found - expected).abs().max() < 2e-3 * expected.abs().max(), t


def test_contexts_to_solve_for_are_some_of_all_and_none_at_all():
    rows = torch.eye(5)[torch.arange(100) // 20]
    found = some_contexts(rows)
    assert sorted(found.tolist()) == sorted([*torch.eye(5).tolist(), [0.0] * 5])
    many = torch.arange(1000.0).view(-1, 1)
    found = some_contexts(many)
    assert 32 <= len(found) <= 65 and found.max() > 900
    assert some_contexts(rows[:, :0]).shape == (1, 0)


@pytest.mark.parametrize("schedule", [Schedule.linear(20), Schedule.cosine(), SCHEDULE])
def test_half_precision_holds_a_fresh_network_that_is_turned(schedule):
    model, c = small_model(), torch.cat([torch.eye(2), torch.zeros(1, 2)])
    turn_to_v(model, schedule, even_times(schedule, 16), c)
    assert model.mix.weight.half().isfinite().all()
    assert model.mix.bias.half().isfinite().all()


def test_the_shipped_network_is_turned_without_large_weights():
    """Half precision holds them; at T its guess stays what it was."""
    ck = load("sprites")
    turned, c, t = copy.deepcopy(ck.model), torch.eye(5), torch.ones(5)
    turn_to_v(turned, ck.schedule, ck.schedule.timesteps(8), c)
    assert turned.mix.weight.abs().max() < 20
    x, ab = initial_noise(5, ck.image_shape), float(ck.schedule.alpha_bar[-1])
    with torch.no_grad():
        _, expected = ddim_step(x, ck.model(x, t, c), ab, ab)
        _, found = Student(turned.half().float(), ck.schedule).guesses(x, t, c)
    assert (found - expected).square().mean().sqrt() < 0.01


@pytest.mark.parametrize(("classes", "scale"), [(2, 2.0), (0, 1.0)])
def test_distillation_lowers_the_error(classes, scale):
    """That of each stage on noise that it has not seen; without classes too."""
    data = small_data(200)
    data = data._replace(x=0.2 * data.x + 0.5, c=data.c[:, :classes])
    more = {"updates": 60, "batch_size": 16, "guidance": scale, "teacher_steps": 8}
    model = small_model(classes=classes, lively=True)
    run = small_distillation(model, data, steps=2, learning_rate=3e-3, **more)
    losses = [float(update.losses[-1]) for update in run]
    for first in (0, 60):  # of a stage, where the network has much to lose
        end = first + 60
        assert sum(losses[end - 20 : end]) < 0.3 * sum(losses[first : first + 20])


def test_same_seed_same_student_and_global_rng_untouched():
    ends, teacher = [], small_model(lively=True)
    for seed in (1, 1, 2):
        state = torch.get_rng_state()
        *_, update = small_distillation(teacher, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        ends.append(weights(update.ema))
    assert torch.equal(*ends[:2]) and not torch.equal(*ends[1:])


@pytest.mark.parametrize(("stop", "every"), [(1, 0), (3, 0), (5, 0), (6, 1e9), (8, 0)])
def test_a_stopped_distillation_goes_on_bit_for_bit(tmp_path, stop, every):
    """Within a stage, and between two."""
    *_, straight = small_distillation()
    files = {"state": tmp_path / "state.safetensors", "save_seconds": every}
    list(islice(small_distillation(files=files), stop))
    updates = list(small_distillation(files=files))
    assert updates[0].step == stop + 1
    assert torch.equal(updates[-1].losses, straight.losses)
    assert torch.equal(weights(updates[-1].ema), weights(straight.ema))
    assert updates[-1].ema.times == straight.ema.times


@pytest.mark.parametrize(
    ("why", "changed"),
    [
        ("start", {"teacher": small_model(lively=True, seed=1)}),
        ("start", {"teacher": small_model(width=32, lively=True)}),
        ("teacher", {"teacher": Student(small_model(lively=True), SCHEDULE)}),
        ("data", {"data": small_data(30)}),
        ("schedule", {"schedule": Schedule.cosine()}),
        ("guidance", {"guidance": 3.0}),
        ("teacher_steps", {"teacher_steps": 8}),
        ("seed", {"seed": 1}),
    ],
)
def test_the_state_of_another_distillation_is_refused(tmp_path, why, changed):
    files = {"state": tmp_path / "state.safetensors", "save_seconds": 0}
    list(islice(small_distillation(files=files), 2))
    before = files["state"].read_bytes()
    with pytest.raises(ValueError, match=rf"of another run \(.*{why}"):
        small_distillation(files=files, **changed)
    assert files["state"].read_bytes() == before


@pytest.mark.parametrize(
    ("times", "guidance"), [([500, 250, 9, 5, 0], 3.0), (TIMES, 2.0), (None, 3.0)]
)
def test_the_state_of_another_student_s_distillation_is_refused(
    tmp_path, times, guidance
):
    """One of the same weights."""
    model = small_model(lively=True)
    files = {"state": tmp_path / "state.safetensors", "save_seconds": 0}
    known = Student(model, SCHEDULE, TIMES, 3.0)
    list(islice(small_distillation(known, files=files, teacher_steps=4), 2))
    with pytest.raises(ValueError, match=r"of another run \(teacher\)"):
        other = Student(model, SCHEDULE, times, guidance)
        small_distillation(other, files=files, teacher_steps=4)
    assert next(small_distillation(known, files=files, teacher_steps=4)).step == 3


def test_a_state_says_whose_weights_it_has(tmp_path, monkeypatch):
    """Though Ctrl-C comes when the next stage is about to begin."""
    state, usual = tmp_path / "state.safetensors", Keeper.update

    def cut(keeper):
        if keeper.done == 3:
            raise KeyboardInterrupt
        return usual(keeper)

    monkeypatch.setattr(Keeper, "update", cut)
    with pytest.raises(KeyboardInterrupt):
        list(small_distillation(files={"state": state}))
    record = read_state(state)[1]
    assert record["step"] == 3
    assert record["about"]["student"]["times"] == even_times(SCHEDULE, 16)[::2]


def test_a_loss_that_is_no_number_stops_it(tmp_path):
    model = small_model(lively=True)
    torch.nn.init.constant_(model.stem.bias, float("inf"))
    with pytest.raises(
        FloatingPointError, match="loss: no finite number at update 1, "
    ):
        list(small_distillation(model))


def test_no_update_leaves_tensors_behind():
    held = []
    for _ in small_distillation(updates=6, steps=4):
        held.append(sum(issubclass(type(x), torch.Tensor) for x in gc.get_objects()))
    assert max(held[5:]) == min(held[5:])
