"""The judge and what it counts: round trips, refusals, and oracles for the figures."""

import math

import pytest
import torch
from conftest import needs_digits
from torchmetrics.image.inception import InceptionScore

from lesson_utils import ContextUnet, Schedule, save
from lesson_utils.checkpoint import read_tensors, write_tensors
from lesson_utils.data import Pictures, mnist, sprites
from lesson_utils.metrics import (
    JUDGES,
    Judge,
    Reference,
    as_seen,
    classifier_score,
    frechet_distance,
    interval,
    judge_for,
    kernel_distance,
    label_accuracy,
    load_judge,
    nearest,
    precision_recall,
    reference,
    save_judge,
    share_interval,
)
from tools import judges
from tools.judges import any_hue, bent, hue_shift

NAMES = ("hero", "food", "spell")


@pytest.fixture
def judge():
    torch.manual_seed(0)
    judge = Judge(3, NAMES, width=8).eval()
    judge.real = reference(judge.seen(pictures(50))[0])
    return judge


@pytest.fixture
def path(judge, tmp_path):
    path = tmp_path / "judge.safetensors"
    save_judge(path, judge, accuracy=0.5, data="drawn")
    return path


def pictures(n=6, channels=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, channels, 8, 8, generator=g)


def normal(n=1000, width=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=g).double()


# Round trip and refusals


def test_a_judge_comes_back(judge, path):
    got, record = load_judge(path)
    assert record == {"accuracy": 0.5, "data": "drawn"}
    assert got.names == NAMES and got.in_channels == 3 and not got.training
    half = {name: v.half().float() for name, v in judge.state_dict().items()}
    assert all(torch.equal(v, half[k]) for k, v in got.state_dict().items())
    assert torch.allclose(got(pictures()), judge(pictures()), atol=0.02)
    assert torch.equal(got.real.mean, judge.real.mean) and got.real.n == 50
    assert torch.equal(got.real.cov, judge.real.cov)


@pytest.mark.parametrize(
    "real",
    [
        None,
        (torch.zeros(32), torch.eye(32), 2),
        Reference(torch.zeros(31), torch.eye(31), 2),
        Reference(None, torch.eye(32), 2),
        Reference(torch.zeros(32), torch.eye(32), 1),
        Reference(torch.full((32,), math.nan), torch.eye(32), 2),
    ],
)
def test_a_judge_without_its_reference_is_not_saved(judge, tmp_path, real):
    judge.real = real
    with pytest.raises(ValueError, match=r"judge\.real"):
        save_judge(tmp_path / "x.safetensors", judge)
    assert not list(tmp_path.iterdir())


def test_weights_beyond_half_precision_are_not_saved(judge, tmp_path):
    with torch.no_grad():
        judge.head.bias[0] = 70_000
    with pytest.raises(ValueError, match=r"head\.bias is not finite"):
        save_judge(tmp_path / "x.safetensors", judge)
    assert not list(tmp_path.iterdir())


def test_there_is_no_such_judge(tmp_path):
    for name in ("no-such", tmp_path / "none.safetensors"):
        with pytest.raises(ValueError, match="no such judge; make train-judges"):
            load_judge(name)


def test_damage_is_refused(path):
    good = path.read_bytes()
    for place in (3, 30, len(good) // 2, len(good) - 1):
        bad = bytearray(good)
        bad[place] ^= 1
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"judge\.safetensors: "):
            load_judge(path)
    path.write_bytes(good[:-9])
    with pytest.raises(ValueError, match="not a readable"):
        load_judge(path)


@pytest.mark.parametrize(
    "change",
    [
        {"names": ["hero"]},
        {"names": None},
        {"judge": {"in_channels": 1, "width": 8}},
        {"judge": {"in_channels": 3, "width": 10**9}},
        {"judge": {"depth": 3}},
        {"real": 1},
        {"real": "many"},
    ],
)
def test_a_record_that_lies_is_refused(path, change):
    tensors, record = read_tensors(path)
    write_tensors(path, tensors, record | change)
    with pytest.raises(ValueError, match="not a judge of ours"):
        load_judge(path)


@pytest.mark.parametrize("lie", [torch.zeros(3), torch.full((3,), math.nan).half()])
def test_weights_that_lie_are_refused(path, lie):
    tensors, record = read_tensors(path)
    write_tensors(path, tensors | {"head.bias": lie}, record)
    with pytest.raises(ValueError, match=r"judge of ours \(head\.bias is not finite"):
        load_judge(path)


def tilted(width=32):
    cov = torch.eye(width)
    cov[0, 1] = 0.5
    return cov


@pytest.mark.parametrize(
    "lie",
    [
        {"real.mean": torch.zeros(31)},
        {"real.mean": torch.full((32,), math.inf)},
        {"real.mean": torch.zeros(32).int()},
        {"real.cov": torch.eye(31)},
        {"real.cov": torch.eye(32)[:31]},
        {"real.cov": torch.eye(32) * math.nan},
        {"real.cov": -torch.eye(32)},
        {"real.cov": tilted()},
    ],
)
def test_a_reference_that_lies_is_refused(path, lie):
    tensors, record = read_tensors(path)
    write_tensors(path, tensors | lie, record)
    with pytest.raises(ValueError, match=r"not a judge of ours \(real"):
        load_judge(path)


@pytest.mark.parametrize("part", ["real.mean", "real.cov"])
def test_a_judge_without_reference_is_refused(path, part):
    tensors, record = read_tensors(path)
    del tensors[part]
    write_tensors(path, tensors, record)
    with pytest.raises(ValueError, match=rf"not a judge of ours \('{part}'"):
        load_judge(path)


def test_a_checkpoint_is_no_judge(path):
    save(path, ContextUnet(3, 3, 16), Schedule.linear(), NAMES)
    with pytest.raises(ValueError, match="not a judge of ours"):
        load_judge(path)


# Classes and accuracy


def test_classes_are_those_of_the_picture_as_shown(judge):
    x = 3 * pictures(7)
    expected = judge(x.clamp(-1, 1)).argmax(1)
    for batch_size in (1, 3, 500):
        assert torch.equal(judge.classes(x, batch_size), expected)
        features, logits = judge.seen(x, batch_size)
        assert torch.allclose(features, judge.features(x.clamp(-1, 1)), atol=1e-5)
        assert torch.allclose(logits, judge(x.clamp(-1, 1)), atol=1e-5)
        assert not features.requires_grad and not logits.requires_grad
    assert torch.is_grad_enabled()
    with pytest.raises(ValueError, match="batch_size: a whole number of 1 or more"):
        judge.seen(x, 0)


@pytest.mark.parametrize("x", [pictures(2, 1), pictures()[0], pictures().byte(), [1]])
def test_pictures_of_another_kind_are_refused(judge, x):
    with pytest.raises(ValueError, match=r"x: .*\(N,3,H,W\)"):
        judge.classes(x)


def test_nan_is_refused(judge):
    x = pictures()
    x[3, 1, 2, 2] = math.nan
    with pytest.raises(ValueError, match="without NaN"):
        judge.seen(x)


def test_label_accuracy_counts(judge):
    x = pictures(8)
    seen = judge.classes(x)
    for right in (8, 5, 0):
        asked = torch.where(torch.arange(8) < right, seen, (seen + 1) % 3)
        assert label_accuracy(judge, x, torch.eye(3)[asked]) == right / 8
    with pytest.raises(ValueError, match=r"c: .*\(8,3\)"):
        label_accuracy(judge, x, torch.eye(4)[seen])


# Neighbours


def test_nearest_is_found_as_by_looking_at_all():
    x, known = 2 * pictures(150, seed=1), pictures(40, seed=2).clamp(-1, 1)
    index, distance = nearest(x, known)
    assert index.shape == distance.shape == (150,)
    for i, one in enumerate(x.clamp(-1, 1)):
        every = [float((one - other).square().mean().sqrt()) for other in known]
        assert index[i] == every.index(min(every))
        assert distance[i] == pytest.approx(min(every), abs=1e-5)


def test_a_copy_is_its_own_nearest():
    known = pictures(30).clamp(-1, 1)
    index, distance = nearest(known[7:12], known)
    assert index.tolist() == [7, 8, 9, 10, 11] and distance.max() < 1e-2
    with pytest.raises(ValueError, match=r"known: .*\(M,3,8,8\)"):
        nearest(known, known[..., :4])


# Distances: oracles, and what makes no sense


def gaussian(mean, variance, n=2000):
    """Features with exactly this mean (F,) and these variances (F,), uncorrelated."""
    x = normal(n, len(mean))
    x -= x.mean(0)
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(torch.cov(x.T)), x.T, upper=False
    ).T
    return torch.tensor(mean) + white * torch.tensor(variance).sqrt()


def test_frechet_distance_of_gaussians_without_correlation():
    x = gaussian([0.0, 1.0, 2.0], [1.0, 4.0, 0.25])
    y = gaussian([3.0, 1.0, 0.0], [9.0, 1.0, 0.25])
    expected = 9 + 0 + 4 + (1 - 3) ** 2 + (2 - 1) ** 2 + 0  # Σ (μ-μ_r)² + (σ-σ_r)²
    assert frechet_distance(x, reference(y)) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(y, reference(x)) == pytest.approx(expected, rel=1e-5)


def root(a):
    """The square root of a symmetric matrix without negative eigenvalues."""
    values, vectors = torch.linalg.eigh(a)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def test_frechet_distance_is_the_formula_and_symmetric():
    x = normal(300, 6) @ normal(6, 6, seed=1)
    y = normal(500, 6, seed=2) @ normal(6, 6, seed=3) + 1
    a, b = torch.cov(x.T), torch.cov(y.T)
    half = root(a)
    between = root(half @ b @ half).trace()
    expected = (x.mean(0) - y.mean(0)).square().sum() + (a + b).trace() - 2 * between
    found = frechet_distance(x, reference(y))
    assert found == pytest.approx(float(expected), rel=1e-4)
    assert frechet_distance(y, reference(x)) == pytest.approx(found, rel=1e-4)
    assert frechet_distance(x, reference(x)) == pytest.approx(0, abs=1e-4)
    assert frechet_distance(x[:4], reference(x)) > found / 100  # fewer than features


def test_a_reference_is_mean_and_covariance():
    x = torch.tensor([[1.0, 2.0], [3.0, 2.0], [5.0, 8.0]])
    mean, cov, n = reference(x)
    assert mean.tolist() == [3, 4] and cov.tolist() == [[4, 6], [6, 12]] and n == 3
    assert mean.dtype == cov.dtype == torch.float32
    assert reference(x[:, :1]).cov.tolist() == [[4]]


def test_kernel_distance_is_the_formula_for_whole_sets():
    x, y = normal(30), normal(30, seed=1) + 0.5
    kernel = [(a @ b.T / 4 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    own = sum((k.sum() - k.trace()) / (30 * 29) for k in kernel[:2])
    mean, deviation = kernel_distance(x, y, 5, 30)
    assert mean == pytest.approx(float(own - 2 * kernel[2].mean()))
    assert deviation == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_unbiased_and_leaves_the_global_numbers_alone():
    x, y = normal(600), normal(700, seed=1)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    mean, deviation = kernel_distance(x, y, 50, 100, seed=3)
    assert torch.equal(torch.rand(3), expected)
    assert kernel_distance(x, y, 50, 100, seed=3) == (mean, deviation)
    assert kernel_distance(x, y, 50, 100, seed=4) != (mean, deviation)
    assert abs(mean) < deviation < kernel_distance(x + 1, y, 50, 100)[0] / 10


def test_classifier_score_of_sure_and_of_blind_judges():
    sure = 1000 * torch.eye(5).repeat(4, 1)
    assert classifier_score(sure) == pytest.approx(5)
    assert classifier_score(sure[:10:5]) == pytest.approx(1)  # one class alone
    assert classifier_score(torch.zeros(7, 5)) == pytest.approx(1)
    assert classifier_score(sure[:2]) == pytest.approx(2)


@pytest.mark.filterwarnings("ignore")  # of the one split's deviation
def test_classifier_score_is_the_inception_score_of_other_logits():
    logits = 3 * normal(200, 10)
    theirs = InceptionScore(as_seen(10), splits=1)
    theirs.update(logits)
    assert classifier_score(logits) == pytest.approx(float(theirs.compute()[0]))


def test_precision_and_recall_by_hand():
    real = torch.tensor([0.0, 1.0, 3.0, 10.0])[:, None]  # k = 1: radii 1, 1, 2, 7
    x = torch.tensor([-0.5, 4.0, 6.0, 18.0])[:, None]  # radii 4.5, 2, 2, 12
    # -0.5 is near 0, 4 near 3, 6 near 10; 18 is near none. 0, 1 and 3 are near -0.5
    # or 4, 10 is near 18.
    assert precision_recall(x, real, k=1) == (0.75, 1)
    # -0.5 has radius 0.5, 0 has 0.5: 0 is near, at the border; 50 and 60 see nothing.
    x = torch.tensor([-0.5, 0.0, 50.0, 60.0])[:, None]
    assert precision_recall(x, real, k=1) == (0.5, 0.25)


def modes(*centres, n=400, seed=0):
    """n features (2,) about each of the centres."""
    g = torch.Generator().manual_seed(seed)
    parts = [
        torch.tensor([10.0 * c, 0]) + torch.randn(n, 2, generator=g) for c in centres
    ]
    return torch.cat(parts)


def test_precision_and_recall_tell_what_is_wrong():
    real = modes(0, 1, 2)
    precision, recall = precision_recall(modes(0, 1, 2, seed=1), real)
    assert precision > 0.9 and recall > 0.9
    precision, recall = precision_recall(modes(0, 1, seed=1), real)  # one is missing
    assert precision > 0.9 and 0.6 < recall < 0.67
    precision, recall = precision_recall(modes(0, 1, 2, 5, seed=1), real)  # garbage
    assert 0.7 < precision < 0.75 and recall > 0.9
    assert precision_recall(real, real) == (1, 1)


def test_precision_and_recall_do_not_depend_on_the_parts_they_are_counted_in():
    x, y = normal(1100), normal(700, seed=1) + 0.5
    near = torch.cdist(y, y).sort(1).values[:, 3]  # after itself
    expected = (torch.cdist(x, y) <= near).any(1).double().mean()
    assert precision_recall(x, y)[0] == pytest.approx(float(expected))
    assert precision_recall(x, y) == precision_recall(y, x)[::-1]


ALIKE = torch.zeros(400, dtype=torch.int64)  # samples of one class


def test_shares_of_classes_that_were_set_are_not_left_to_chance():
    classes = torch.arange(400) % 4
    low, high = interval(lambda i: float((classes[i] == 1).double().mean()), classes)
    assert low == high == 0.25


def test_wilsons_interval():
    low, high = share_interval(0.5, 10)  # the textbook's example
    assert (low, high) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    low, high = share_interval(1.0, 2000)
    assert 0.998 < low < 0.9985 and high == pytest.approx(1)
    assert share_interval(0.0, 9)[0] == pytest.approx(0, abs=1e-12)
    for bad in ((1.1, 9), (-0.1, 9), (0.5, 0), (math.nan, 9)):
        with pytest.raises(ValueError, match="share: |n: "):
            share_interval(*bad)


def test_the_interval_of_a_share_is_the_binomial_one():
    right = torch.arange(400) % 4 > 0
    low, high = interval(lambda i: float(right[i].double().mean()), ALIKE[:400], 1000)
    half = 1.96 * (0.75 * 0.25 / 400) ** 0.5
    assert low == pytest.approx(0.75 - half, rel=0.01)
    assert high == pytest.approx(0.75 + half, rel=0.01)
    assert (low + high) / 2 == pytest.approx(0.75)


def test_the_interval_of_a_distance_holds_it_where_percentiles_do_not():
    x, real = normal(100, 8), reference(normal(5000, 8, seed=1))
    again = []

    def figure(i):
        again.append(frechet_distance(x[i], real))
        return again[-1]

    low, high = interval(figure, ALIKE[:100], 100)
    itself, *drawn = again
    assert low < itself < high and itself < sorted(drawn)[2]
    assert interval(lambda i: frechet_distance(x[i], real), ALIKE[:100], 100) == (
        low,
        high,
    )
    other = interval(lambda i: frechet_distance(x[i], real), ALIKE[:100], 100, seed=1)
    assert other != (low, high)


NONSENSE = {
    "NaN": torch.full((9, 4), math.nan),
    "infinite": torch.full((9, 4), math.inf),
    "one row": torch.zeros(1, 4),
    "no row": torch.zeros(0, 4),
    "a row": torch.zeros(4),
    "whole numbers": torch.zeros(9, 4).long(),
    "no tensor": [[1.0, 2.0]],
}


@pytest.mark.parametrize("bad", NONSENSE.values(), ids=NONSENSE)
def test_features_that_make_no_sense_are_refused(bad):
    good = normal(9)
    for call in (
        lambda: reference(bad),
        lambda: frechet_distance(bad, reference(good)),
        lambda: kernel_distance(bad, good, 2, 2),
        lambda: precision_recall(bad, good),
    ):
        with pytest.raises(ValueError, match="^features: "):
            call()
    for call in (
        lambda: kernel_distance(good, bad, 2, 2),
        lambda: precision_recall(good, bad),
    ):
        with pytest.raises(ValueError, match="^real_features: "):
            call()
    if bad is not NONSENSE["one row"]:
        with pytest.raises(ValueError, match="^logits: "):
            classifier_score(bad)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (
            lambda x: frechet_distance(x, reference(x[:, :3])),
            r"reference\.mean.*\(4,\)",
        ),
        (lambda x: frechet_distance(x, x), "reference: a Reference"),
        (lambda x: kernel_distance(x, x[:, :3], 2, 2), r"real_features: .*\(N,4\)"),
        (lambda x: kernel_distance(x, x[:5], 2, 6), "subset_size: .* in 2..5"),
        (lambda x: kernel_distance(x, x, 0, 6), "subsets: "),
        (lambda x: kernel_distance(x, x, 2, 6, seed=-1), "seed: "),
        (lambda x: precision_recall(x, x[:, :3]), r"real_features: .*\(N,4\)"),
        (lambda x: precision_recall(x, x, 0), "k: .* in 1..8 is needed, got 0"),
        (lambda x: precision_recall(x, x, 9), "k: .* in 1..8 is needed, got 9"),
        (lambda x: precision_recall(x, x[:3], 3), "k: .* in 1..2 is needed, got 3"),
        (lambda x: interval(0.5, ALIKE), "figure: something to call"),
        (lambda x: interval(len, ALIKE[:1]), "groups: int64 classes .n,. of two"),
        (lambda x: interval(len, ALIKE / 2), "groups: int64 classes"),
        (lambda x: interval(len, 9), "groups: int64 classes"),
        (lambda x: interval(len, ALIKE, 1), "times: a whole number of 2 or more"),
        (lambda x: interval(len, ALIKE, 2, 0.5), "seed: "),
        (lambda x: interval(lambda i: math.nan, ALIKE), "figure: a number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(call, match):
    with pytest.raises(ValueError, match=f"^{match}"):
        call(normal(9))


# Hues


def test_hue_shift_leaves_greys_and_a_full_turn_leaves_all():
    grey = torch.linspace(-1, 1, 9).view(9, 1, 1, 1).expand(9, 3, 4, 4)
    assert torch.allclose(hue_shift(grey, any_hue(9)), grey, atol=1e-6)
    x = pictures().clamp(-1, 1)
    for angle in (0.0, 2 * math.pi):
        assert torch.allclose(hue_shift(x, torch.full((6,), angle)), x, atol=1e-5)
    third = hue_shift(x, torch.full((6,), 2 * math.pi / 3))  # red, green, blue go round
    assert torch.allclose(third, x.roll(1, 1), atol=1e-5)


# What bends digits


def test_bent_digits_keep_their_values_and_nothing_stays_as_it_was():
    x = -torch.ones(200, 1, 28, 28)
    x[:, :, 10:18, 12:16] = 1
    torch.manual_seed(0)
    y = bent(x)
    assert y.shape == x.shape and y.min() == -1 and y.max() <= 1
    assert not (y == x).flatten(1).all(1).any()
    ink = (y + 1).sum((1, 2, 3)) / (x + 1).sum((1, 2, 3))
    assert ink.min() > 0.75 and ink.max() < 1.35  # scaled by 0.88² … 1.12²
    assert ink.mean() == pytest.approx(1, abs=0.05)


# Training, and what comes of it


def test_train_judges_writes_those_asked_for(tmp_path, monkeypatch, capsys):
    def fresh(n=200, seed=0):
        return sprites(min(n, 200), seed)

    digits = Pictures(
        pictures(90, 1).clamp(-1, 1), torch.eye(10).repeat(9, 1), tuple("0123456789")
    )
    monkeypatch.setattr(judges, "JUDGES", tmp_path)
    monkeypatch.setattr(judges, "STEPS", {"sprites": 3, "mnist": 2})
    monkeypatch.setattr(judges, "sprites", fresh)
    monkeypatch.setattr(judges, "mnist", lambda split: digits)
    data = {"sprites": fresh(), "mnist": digits}
    monkeypatch.setattr(judges, "dataset", data.__getitem__)
    monkeypatch.setattr("sys.argv", ["judges", "sprites"])
    judges.main()
    assert [path.name for path in tmp_path.iterdir()] == ["sprites.safetensors"]
    judge, record = load_judge(tmp_path / "sprites.safetensors")
    assert judge.real.n == record["unseen"] == 200 and record["images_seen"] == 384
    assert 0 <= record["accuracy"] <= 1 and 0 <= record["accuracy_hue_shifted"] <= 1
    assert "accuracy on 200 unseen pictures" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["judges"])  # both
    judges.main()
    judge, record = load_judge(tmp_path / "mnist.safetensors")
    assert judge.real.n == record["unseen"] == 90 and judge.names == digits.names
    expected = frechet_distance(judge.seen(digits.x)[0], judge.real)
    assert expected == pytest.approx(0, abs=1e-3)


def test_train_judges_leaves_out_what_has_no_data(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(judges, "JUDGES", tmp_path)
    monkeypatch.setenv("LESSONS_DATA", str(tmp_path / "none"))
    monkeypatch.setattr("lesson_utils.data.MNIST", lambda *_, **__: 1 / 0)
    monkeypatch.setattr("sys.argv", ["judges", "mnist"])
    judges.main()
    assert "mnist: its judge is left out" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("sys.argv", ["judges", "cats", "mnist"])
    with pytest.raises(SystemExit):
        judges.main()
    assert "no judge is trained for cats" in capsys.readouterr().err


# The judge that ships, and one that is trained where none does


def test_the_shipped_judge_sees_what_sprites_show():
    judge, record = load_judge("sprites")
    x, c, names = sprites(2000, 10**8)
    assert judge.names == names and record["accuracy"] >= 0.99
    assert judge.real.n == 50_000
    assert label_accuracy(judge, x, c) >= 0.99
    turned = hue_shift(x, any_hue(len(x), torch.Generator().manual_seed(0)))
    assert label_accuracy(judge, turned, c) >= 0.99


def test_the_shipped_judge_of_digits():
    judge, record = load_judge("mnist")
    assert judge.names == tuple("0123456789") and judge.in_channels == 1
    assert record["unseen"] == 10_000 and record["accuracy"] >= 0.994
    assert judge.real.n == 60_000


@pytest.mark.parametrize("name", ["sprites", "mnist"])
def test_a_shipped_judge_is_small(name):
    assert (JUDGES / f"{name}.safetensors").stat().st_size < 1_000_000


@needs_digits
def test_the_judge_of_digits_reads_those_it_has_not_seen():
    x, c, _ = mnist("test")
    judge, record = load_judge("mnist")
    features, logits = judge.seen(x)
    right = float((logits.argmax(1) == c.argmax(1)).double().mean())
    assert right == pytest.approx(record["accuracy"], abs=5e-4)
    assert 8 < classifier_score(logits) < 10  # it was taught not to be too sure
    floor = frechet_distance(features, judge.real)
    assert 0 < floor < float(judge.real.cov.trace()) / 1000
    noisy, _ = judge.seen(x[:500] + 0.5 * torch.randn_like(x[:500]))
    assert frechet_distance(noisy, judge.real) > 20 * floor
    assert (
        frechet_distance(features[c[:, 7] == 0], judge.real) > 20 * floor
    )  # no sevens


def test_where_no_judge_ships_one_is_trained(tmp_path, monkeypatch):
    known = sprites(300)
    monkeypatch.setattr("lesson_utils.metrics.dataset", lambda name, size: known)
    torch.manual_seed(0)
    judge = judge_for(tmp_path / "pets", steps=30)
    assert judge.names == known.names and not judge.training
    assert label_accuracy(judge, known.x, known.c) > 0.5
    assert judge.real.n == 300
    assert frechet_distance(judge.seen(known.x)[0], judge.real) == pytest.approx(
        0, abs=1e-3
    )
    again = judge_for(tmp_path / "pets", steps=30)  # an evaluation can go on with it
    assert torch.equal(again.head.weight, judge.head.weight)
