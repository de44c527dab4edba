"""From tensors to numbers: oracles for every figure, and refusals."""

import math

import pytest
import torch
from torchmetrics.image.inception import InceptionScore

from lesson_utils import initial_noise
from lesson_utils.quality.metrics import (
    as_seen,
    classifier_score,
    frechet_distance,
    interval,
    kernel_distance,
    nearest,
    nearest_others,
    precision_recall,
    reference,
    share_interval,
)


def normal(n=1000, width=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=g).double()


def test_nearest_is_found_as_by_looking_at_all():
    x = 2 * initial_noise(150, (3, 8, 8), seed=1)
    known = initial_noise(40, (3, 8, 8), seed=2).clamp(-1, 1)
    index, distance = nearest(x, known)
    assert index.shape == distance.shape == (150,)
    for i, one in enumerate(x.clamp(-1, 1)):
        every = [float((one - other).square().mean().sqrt()) for other in known]
        assert index[i] == every.index(min(every))
        assert distance[i] == pytest.approx(min(every), abs=1e-5)
    index, distance = nearest(known[7:12], known)  # copies
    assert index.tolist() == [7, 8, 9, 10, 11] and distance.max() < 1e-2
    with pytest.raises(ValueError, match=r"known: .*\(M,3,8,8\)"):
        nearest(known, known[..., :4])


# Distances: oracles, and what makes no sense


def gaussian(mean, variance, n=2000):
    """Features with exactly this mean (F,) and these variances (F,), uncorrelated."""
    x = normal(n, len(mean))
    x -= x.mean(0)
    white = torch.linalg.solve(torch.linalg.cholesky(torch.cov(x.T)), x.T).T
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
    middles = torch.tensor([[10.0 * c, 0] for c in centres]).repeat_interleave(n, 0)
    return middles + torch.randn(len(middles), 2, generator=g)


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
    assert interval(figure, ALIKE[:100], 100) == (low, high)
    assert interval(figure, ALIKE[:100], 100, seed=1) != (low, high)


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
    calls = [
        ("features", lambda: reference(bad)),
        ("features", lambda: frechet_distance(bad, reference(good))),
        ("features", lambda: kernel_distance(bad, good, 2, 2)),
        ("features", lambda: precision_recall(bad, good)),
        ("real_features", lambda: kernel_distance(good, bad, 2, 2)),
        ("real_features", lambda: precision_recall(good, bad)),
    ]
    if bad is not NONSENSE["one row"]:
        calls.append(("logits", lambda: classifier_score(bad)))
    for name, call in calls:
        with pytest.raises(ValueError, match=f"^{name}: "):
            call()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda x: frechet_distance(x, reference(x[:, :3])), r"reference\.mean.*\(4,"),
        (lambda x: frechet_distance(x, x), "reference: a Reference"),
        (lambda x: kernel_distance(x, x[:, :3], 2, 2), r"real_features: .*\(M,4\)"),
        (lambda x: kernel_distance(x, x[:5], 2, 6), "subset_size: .* in 2..5"),
        (lambda x: kernel_distance(x, x, 0, 6), "subsets: "),
        (lambda x: kernel_distance(x, x, 2, 6, seed=-1), "seed: "),
        (lambda x: precision_recall(x, x[:, :3]), r"real_features: .*\(M,4\)"),
        (lambda x: precision_recall(x, x, 0), "k: .* in 1..8 is needed, got 0"),
        (lambda x: precision_recall(x, x, 9), "k: .* in 1..8 is needed, got 9"),
        (lambda x: precision_recall(x, x[:3], 3), "k: .* in 1..2 is needed, got 3"),
        (lambda x: interval(0.5, ALIKE), "figure: something to call"),
        (lambda x: interval(len, ALIKE[:1]), "groups: int64 classes .n,. of two"),
        (lambda x: interval(len, ALIKE + 0.5), "groups: int64 classes"),
        (lambda x: interval(len, 9), "groups: int64 classes"),
        (lambda x: interval(len, ALIKE, 1), "times: a whole number of 2 or more"),
        (lambda x: interval(len, ALIKE, 2, 0.5), "seed: "),
        (lambda x: interval(lambda i: math.nan, ALIKE), "figure: a number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(call, match):
    with pytest.raises(ValueError, match=f"^{match}"):
        call(normal(9))


def test_the_nearest_other_image_is_never_the_image_itself():
    x = torch.tensor([0.0, 0.1, 0.5, 0.5]).view(4, 1, 1, 1).expand(4, 1, 4, 4)
    found = nearest_others(x, torch.tensor([0, 2, 3]))
    assert torch.allclose(found, torch.tensor([0.1, 0, 0]), atol=1e-6)
