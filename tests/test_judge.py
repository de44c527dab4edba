"""The judge: round trips, refusals, training, and the judges that ship."""

import math

import pytest
import torch
from conftest import needs_digits
from small import SCHEDULE, small_checkpoint, small_data, small_model

from lesson_utils import initial_noise, load, save
from lesson_utils.data import mnist, sprites
from lesson_utils.quality import judge as judging
from lesson_utils.quality import metrics
from lesson_utils.quality.judge import (
    Judge,
    judge_for,
    judge_path,
    load_judge,
    save_judge,
)
from lesson_utils.quality.metrics import Reference, frechet_distance, reference
from lesson_utils.support.files import read_tensors, write_tensors

NAMES = ("hero", "food", "spell")
X = initial_noise(8, (3, 8, 8))


@pytest.fixture
def judge():
    torch.manual_seed(0)
    judge = Judge(3, NAMES, width=8).eval()
    judge.real = reference(judge.seen(initial_noise(50, (3, 8, 8)))[0])
    return judge


@pytest.fixture
def path(judge, tmp_path):
    path = tmp_path / "judge.safetensors"
    save_judge(path, judge, accuracy=0.5, data="drawn")
    return path


def test_a_judge_comes_back(judge, path):
    got, record = load_judge(path)
    assert record == {"accuracy": 0.5, "data": "drawn"}
    assert got.names == NAMES and got.in_channels == 3 and not got.training
    half = {name: v.half().float() for name, v in judge.state_dict().items()}
    assert all(torch.equal(v, half[k]) for k, v in got.state_dict().items())
    assert torch.allclose(got(X), judge(X), atol=0.02)
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
def test_what_load_judge_would_refuse_is_not_saved(judge, tmp_path, real):
    known, judge.real = judge.real, real
    with pytest.raises(ValueError, match=r"judge\.real"):
        save_judge(tmp_path / "x.safetensors", judge)
    judge.real = known
    with torch.no_grad():
        judge.head.bias[0] = 70_000
    with pytest.raises(ValueError, match=r"head\.bias is not finite"):
        save_judge(tmp_path / "x.safetensors", judge)
    assert not list(tmp_path.iterdir())


def test_there_is_no_such_judge(tmp_path):
    for name in ("no-such", tmp_path / "none.safetensors"):
        with pytest.raises(ValueError, match="no such judge; judge_for trains one"):
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


def tilted(width=32):
    cov = torch.eye(width)
    cov[0, 1] = 0.5
    return cov


NOT_OURS = r"judge\.safetensors: not a judge of ours "
RECORDS = [
    {"names": ["hero"]},
    {"names": None},
    {"judge": {"in_channels": 1, "width": 8}},
    {"judge": {"in_channels": 3, "width": 8, "image_shape": [1, 8, 8]}},
    {"judge": {"in_channels": 3, "width": 8, "image_shape": 3}},
    {"judge": {"in_channels": 3, "width": 10**9}},
    {"judge": {"depth": 3}},
    {"real": 1},
    {"real": "many"},
]
REFERENCES = [
    {"real.mean": torch.zeros(31)},
    {"real.mean": torch.full((32,), math.inf)},
    {"real.mean": torch.zeros(32).int()},
    {"real.cov": torch.eye(31)},
    {"real.cov": torch.eye(32)[:31]},
    {"real.cov": torch.eye(32) * math.nan},
    {"real.cov": -torch.eye(32)},
    {"real.cov": tilted()},
]
HEADS = [torch.zeros(3), torch.full((3,), math.nan).half()]
LIES = [({}, record, "") for record in RECORDS]
LIES += [(tensors, {}, r"\(real") for tensors in REFERENCES]
LIES += [({"head.bias": lie}, {}, r"\(head\.bias is not finite") for lie in HEADS]
LIES += [({part: None}, {}, rf"\('{part}'") for part in ("real.mean", "real.cov")]


@pytest.mark.parametrize(("changed", "record", "why"), LIES)
def test_a_file_that_lies_is_refused(path, changed, record, why):
    tensors, known = read_tensors(path)
    kept = {k: v for k, v in (tensors | changed).items() if v is not None}
    write_tensors(path, kept, known | record)
    with pytest.raises(ValueError, match=NOT_OURS + why):
        load_judge(path)


def test_a_checkpoint_is_no_judge(path):
    save(path, small_model(3, 3), SCHEDULE, NAMES)
    with pytest.raises(ValueError, match=NOT_OURS):
        load_judge(path)


def test_classes_are_those_of_the_picture_as_shown(judge):
    x = 3 * X
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


def test_pictures_of_another_kind_and_nan_are_refused(judge):
    for x in (X[:, :1], X[0], X.byte(), [1]):
        with pytest.raises(ValueError, match=r"x: .*\(N,3,H,W\)"):
            judge.classes(x)
    x = X.clone()
    x[3, 1, 2, 2] = math.nan
    with pytest.raises(ValueError, match="without NaN"):
        judge.seen(x)


def test_label_accuracy_counts(judge):
    seen = judge.classes(X)
    for right in (8, 5, 0):
        asked = torch.where(torch.arange(8) < right, seen, (seen + 1) % 3)
        assert judge.accuracy(X, torch.eye(3)[asked]) == right / 8
    with pytest.raises(ValueError, match=r"c: .*\(8,3\)"):
        judge.accuracy(X, torch.eye(4)[seen])


def test_hue_shift_leaves_greys_and_a_full_turn_leaves_all():
    grey = torch.linspace(-1, 1, 9).view(9, 1, 1, 1).expand(9, 3, 4, 4)
    assert torch.allclose(judging.hue_shift(grey, judging.any_hue(9)), grey, atol=1e-6)
    x = X.clamp(-1, 1)
    for angle in (0.0, 2 * math.pi):
        assert torch.allclose(
            judging.hue_shift(x, torch.full((8,), angle)), x, atol=1e-5
        )
    third = judging.hue_shift(
        x, torch.full((8,), 2 * math.pi / 3)
    )  # red, green, blue go round
    assert torch.allclose(third, x.roll(1, 1), atol=1e-5)


def test_bent_digits_keep_their_values_and_nothing_stays_as_it_was():
    x = -torch.ones(200, 1, 28, 28)
    x[:, :, 10:18, 12:16] = 1
    torch.manual_seed(0)
    y = judging.bent(x)
    assert y.shape == x.shape and y.min() == -1 and y.max() <= 1
    assert not (y == x).flatten(1).all(1).any()
    ink = (y + 1).sum((1, 2, 3)) / (x + 1).sum((1, 2, 3))
    assert ink.min() > 0.75 and ink.max() < 1.35  # scaled by 0.88² … 1.12²
    assert ink.mean() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", ["sprites", "mnist"])
def test_a_judge_that_ships_is_trained_by_its_recipe(name, tmp_path, monkeypatch):
    digits = small_data(90, (1, 8, 8), 10)._replace(names=tuple("0123456789"))
    data = {"sprites": sprites(200), "mnist": digits}[name]
    monkeypatch.setattr(judging, "dataset", lambda *_, **__: data)
    recipe = judging.RECIPES[name]._replace(steps=3)
    monkeypatch.setitem(judging.RECIPES, name, recipe)
    judge, record = judging.train_shipped_judge(name, data)
    save_judge(tmp_path / "j.safetensors", judge, **record)
    judge, record = load_judge(tmp_path / "j.safetensors")
    assert judge.names == data.names and judge.width == recipe.width
    assert judge.real.n == record["unseen"] == len(data.x)
    assert record["images_seen"] == 384 and record["data"] == recipe.about
    assert all(0 <= record[figure] <= 1 for figure in recipe.tests)
    expected = frechet_distance(judge.seen(data.x)[0], judge.real)
    assert expected == pytest.approx(0, abs=0.1)  # in half precision


@pytest.mark.parametrize(
    ("name", "n", "least"), [("sprites", 50_000, 0.99), ("mnist", 60_000, 0.994)]
)
def test_the_shipped_judges_are_small_and_good(name, n, least):
    judge, record = load_judge(name)
    _, _, names, shape, _ = load(name)
    assert judge.names == names and judge.image_shape == shape and not judge.several
    assert record["accuracy"] >= least and judge.real.n == n
    assert (judging.JUDGES / f"{name}.safetensors").stat().st_size < 1_000_000


def test_the_shipped_judge_sees_what_sprites_show():
    judge, _ = load_judge("sprites")
    x, c, _ = sprites(2000, 10**8)
    turned = judging.hue_shift(
        x, judging.any_hue(2000, torch.Generator().manual_seed(0))
    )
    assert judge.accuracy(x, c) >= 0.99 and judge.accuracy(turned, c) >= 0.99


@needs_digits
def test_the_judge_of_digits_reads_those_it_has_not_seen():
    x, c, _ = mnist("test")
    judge, record = load_judge("mnist")
    features, logits = judge.seen(x)
    right = float((logits.argmax(1) == c.argmax(1)).double().mean())
    assert right == pytest.approx(record["accuracy"], abs=5e-4)
    assert 8 < metrics.classifier_score(logits) < 10  # it was taught not to be too sure
    floor = frechet_distance(features, judge.real)
    assert 0 < floor < float(judge.real.cov.trace()) / 1000
    noisy, _ = judge.seen(x[:500] + 0.5 * torch.randn_like(x[:500]))
    for worse in (noisy, features[c[:, 7] == 0]):  # without the sevens
        assert frechet_distance(worse, judge.real) > 20 * floor


def test_where_no_judge_ships_one_is_trained(tmp_path, monkeypatch):
    known = sprites(300)
    monkeypatch.setattr(judging, "dataset", lambda name, like: known)
    torch.manual_seed(0)
    judge = judge_for(tmp_path / "pets", steps=30)
    assert judge.names == known.names and not judge.training
    assert judge.accuracy(known.x, known.c) > 0.5
    assert judge.real.n == 300
    distance = frechet_distance(judge.seen(known.x)[0], judge.real)
    assert distance == pytest.approx(0, abs=1e-3)
    # An evaluation can go on with it, whether it is trained again or was kept.
    again, record = judging.quick_judge(known, 30)
    assert torch.equal(again.head.weight, judge.head.weight)
    save_judge(tmp_path / "judge.safetensors", again, **record)
    kept, record = load_judge(tmp_path / "judge.safetensors")
    assert torch.equal(kept.head.weight, judge.head.weight)
    _, rest = judging.four_fifths(known.c)
    assert record["unseen"] == len(rest) == 60
    assert record["accuracy"] == judge.accuracy(known.x[rest], known.c[rest])


def test_a_quick_judge_is_tried_on_a_fifth_of_each_kind():
    c = torch.eye(3).repeat_interleave(torch.tensor([20, 5, 10]), 0)
    learned, kept = judging.four_fifths(c)
    assert sorted([*learned.tolist(), *kept.tolist()]) == list(range(35))
    assert c[kept].sum(0).tolist() == [4, 1, 2]
    data = small_data(4)  # too few for a fifth
    assert judging.quick_judge(data, 1)[1]["accuracy"] is None


def test_a_judge_fits_the_checkpoint_whose_samples_it_judges(tmp_path, monkeypatch):
    """Trained for images of 8 × 8 it is not taken for others, nor for other classes."""
    data = {8: small_data(), 12: small_data(shape=(1, 12, 12))}
    found = []

    def of_size(name, like):
        found.append(like.image_shape[-1])
        return data[like.image_shape[-1]]

    monkeypatch.setattr(judging, "dataset", of_size)
    monkeypatch.setattr(judging, "JUDGES", tmp_path)
    monkeypatch.setattr(judging, "checkpoint_of", lambda name: None)
    own = Judge(1, data[8].names, 8, (1, 8, 8)).eval()
    own.real = reference(own.seen(data[8].x)[0])
    save_judge(judge_path("pets"), own)
    taken = judge_for("pets", small_checkpoint(), steps=2)
    assert taken.width == 8 and not found
    other = judge_for("pets", small_checkpoint((1, 12, 12)), steps=2)
    assert other.width == 32 and found == [12] and other.real.n == 40
    third = small_checkpoint()._replace(context=("a", "c"))
    assert judge_for("pets", third, steps=2).width == 32
    assert judge_for("pets").width == 8
    save_judge(judge_path("pets"), own, fingerprint="1")  # of what was there then
    for then, width in (("1", 8), ("2", 32)):
        like = small_checkpoint()._replace(meta={"fingerprint": then})
        assert judge_for("pets", like, steps=2).width == width
    old = Judge(1, data[8].names, 8).eval()  # does not say the size
    old.real = own.real
    save_judge(judge_path("pets"), old)
    assert judge_for("pets", small_checkpoint(), steps=2).width == 32


def test_without_a_checkpoint_it_is_the_one_of_that_name(tmp_path, monkeypatch):
    """So that 32 × 32 samples never meet a judge of 16 × 16 images."""
    own = small_checkpoint((1, 12, 12))
    asked = []

    def data_like(name, like):
        asked.append(like and like.image_shape)
        return small_data(shape=(1, 12, 12))

    monkeypatch.setattr(judging, "dataset", data_like)
    monkeypatch.setattr(judging, "JUDGES", tmp_path)
    monkeypatch.setattr(judging, "checkpoint_file", lambda name: "a file")
    monkeypatch.setattr(judging, "load", lambda name: own)
    judge = judge_for(tmp_path / "pets", steps=2)
    assert asked == [(1, 12, 12)] and judge.image_shape == (1, 12, 12)
    save_judge(tmp_path / "judge.safetensors", judge)
    for known in (judge, load_judge(tmp_path / "judge.safetensors")[0]):
        with pytest.raises(ValueError, match=r"^x: images \(1, 12, 12\), which"):
            known.seen(torch.zeros(2, 1, 16, 16))


def test_there_is_no_judge_of_data_without_classes(monkeypatch):
    bare = small_data()._replace(c=torch.zeros(40, 0), names=())
    monkeypatch.setattr(judging, "dataset", lambda name, like: bare)
    for like in (None, small_checkpoint()._replace(context=())):
        with pytest.raises(ValueError, match="^name: data with classes.*'pets'$"):
            judge_for("pets", like)


def test_what_weights_a_judge_can_learn():
    data = small_data()
    with pytest.raises(ValueError, match=r"^data\.c: weights in \[0, 1\]"):
        judging.quick_judge(data._replace(c=2 * data.c))
    shares = torch.tensor([[0.75, 0.25, 0.0], [0.5, 0.0, 0.5]])
    assert judging.one_each(shares) and not judging.one_each(2 * shares)
    assert not judging.one_each(torch.eye(3)[:2] * 0)


@pytest.mark.parametrize(
    ("several", "c", "logits", "right"),
    [
        (False, [0, 1, 0], [1, 2, 0], True),
        (False, [0, 1, 0], [2, 1, 0], False),
        (False, [0.5, 0, 0.5], [2, 0, 1.5], True),
        (False, [0.5, 0, 0.5], [2, 1.5, 0], False),
        (False, [0.5, 0, 0.5], [2, 0, 0], False),
        (False, [0.7, 0, 0.3], [2, 1, 0], True),
        (True, [1, 0, 1], [2, -1, 1], True),
        (True, [1, 0, 1], [2, -1, -1], False),
        (True, [1, 0, 1], [2, 1, 1], False),
        (True, [0, 0, 0], [-1, -1, -2], True),
        (True, [0, 0, 0], [-1, 1, -2], False),
        (True, [0.4, 0.6, 0], [-1, 1, -2], True),
    ],
)
def test_what_is_asked_for_and_seen(several, c, logits, right):
    judge = Judge(1, "abc", 8, several=several)
    logits, c = torch.tensor([logits]).float(), torch.tensor([c]).float()
    assert judge.right(logits, c).tolist() == [right]


def test_it_takes_images_from_any_device_and_answers_on_the_cpu(judge, monkeypatch):
    """A device that is not there: what `.to` is asked for is written down."""
    asked, move = [], torch.Tensor.to

    def spy(self, *where, **more):
        asked.append(where)
        return move(self, *where, **more)

    monkeypatch.setattr(torch.Tensor, "to", spy)
    judge.seen(X.double())
    assert any(where and where[0] is judge.head.weight for where in asked)
