"""The sprite artist draws what it promises: contract, variety, style, fair colours."""

import ast
import hashlib
import inspect
from functools import partial

import numpy as np
import pytest

from lesson_utils import (
    ARCHETYPES,
    SPRITE_CLASSES,
    draw_archetype,
    draw_sprites,
    sprites,
)

PINNED = "5308e1a987f54559449bb578569736f600f73ce86205bc79ebdbeae622ad0f3c"


@pytest.fixture(scope="module")
def drawn():
    """50,000 sprites of one seed: images, class numbers, silhouettes."""
    images, labels = draw_sprites(50_000, 0)
    return images, labels.argmax(1), (images != 255).any(-1)


def distinct(arrays):
    return len({array.tobytes() for array in arrays})


def test_shapes_types_and_one_hot_labels():
    images, labels = draw_sprites(7, 3)
    assert images.shape == (7, 16, 16, 3) and images.dtype == np.uint8
    assert labels.shape == (7, 5) and labels.dtype == np.float32
    assert (labels.sum(1) == 1).all() and set(np.unique(labels)) == {0, 1}
    assert SPRITE_CLASSES == ("hero", "non-hero", "food", "spell", "side-facing")


def test_seeds_have_64_bits():
    last = draw_sprites(3, 2**64 - 1)[0]
    assert (draw_sprites(3, np.uint64(2**64 - 1))[0] == last).all()
    for draw in (draw_sprites, partial(draw_archetype, "apple")):
        for n, seed, name in ((0, 0, "n"), (1, -1, "seed"), (1, 2**64, "seed")):
            with pytest.raises(ValueError, match=f"^{name}: a whole number"):
                draw(n, seed)


def test_a_sprite_depends_on_seed_and_place_alone():
    images, labels = draw_sprites(10_000, 5)
    for n in (1, 10, 8_193):
        fewer, fewer_labels = draw_sprites(n, 5)
        assert (fewer == images[:n]).all() and (fewer_labels == labels[:n]).all()
    assert not (draw_sprites(10, 6)[0] == images[:10]).all()


def test_same_bytes_everywhere():
    images, labels = draw_sprites(1000, 0)
    digest = hashlib.sha256(images.tobytes() + labels.astype("<f4").tobytes())
    assert digest.hexdigest() == PINNED


def test_only_the_stable_stream_and_little_of_the_project():
    tree = ast.parse(inspect.getsource(sprites))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert "random_raw" in used and not used & {"default_rng", "Generator", "seed"}
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    known = {"functools", "pathlib", "typing", "support.checked"}
    assert {node.module for node in froms} <= known


def test_classes_are_equally_likely(drawn):
    counts = np.bincount(drawn[1], minlength=5)
    assert abs(counts - 10_000).max() < 450  # five standard deviations


def test_most_of_fifty_thousand_differ(drawn):
    images, classes, masks = drawn
    assert distinct(images) >= 45_000
    assert distinct(masks) >= 5_000
    for k in range(5):
        assert distinct(masks[classes == k]) >= 300


def test_sprites_fill_the_canvas_and_lie_central(drawn):
    masks = drawn[2]
    for axis in (1, 2):
        seen = masks.any(axis)
        low, high = seen.argmax(1), 15 - seen[:, ::-1].argmax(1)
        assert (high - low + 1).min() >= 9
        assert np.mean(high - low + 1 >= 12) > 0.9
        assert abs(low + high - 15).max() <= 4


def test_the_outline_is_dark_closed_and_inside(drawn):
    images, _, masks = drawn
    dark = images.astype(int).sum(-1) < 200
    padded = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    ground = ~padded[:, :-2, 1:-1] | ~padded[:, 2:, 1:-1]
    ground |= ~padded[:, 1:-1, :-2] | ~padded[:, 1:-1, 2:]
    assert dark[masks & ground].all()


def test_colours_are_few_and_none_is_nearly_lost_on_the_ground(drawn):
    images, _, masks = drawn
    lightest = images[masks].min(-1)
    assert lightest.max() < 250
    packed = images[:5000].astype(np.int64) @ [65536, 256, 1]
    counts = [len(np.unique(image)) - 1 for image in packed]
    assert min(counts) >= 3 and max(counts) <= 17 and np.mean(counts) <= 11


def test_fronts_are_symmetric():
    for name in ("slime", "skull", "ghost", "heart", "star", "burger", "eyeball"):
        masks = (draw_archetype(name, 200, 1) != 255).any(-1)
        centred = [m[:, m.any(0)] for m in masks]
        assert np.mean([(m == m[:, ::-1]).all() for m in centred]) >= 0.1, name


def test_side_facing_look_both_ways():
    for name in ARCHETYPES["side-facing"]:
        masks = (draw_archetype(f"side-facing/{name}", 100, 2) != 255).any(-1)
        profiles = [m[:, m.any(0)] for m in masks]
        assert not any((m == m[:, ::-1]).all() for m in profiles)
        forms = {m.tobytes() + bytes(m.shape) for m in profiles}
        assert any(m[:, ::-1].tobytes() + bytes(m.shape) in forms for m in profiles)


def test_archetypes_are_many_named_and_drawn():
    assert tuple(ARCHETYPES) == SPRITE_CLASSES
    for label, names in ARCHETYPES.items():
        assert len(names) >= 12 and len(set(names)) == len(names)
        for name in names:
            images = draw_archetype(f"{label}/{name}", 20, 0)
            assert images.shape == (20, 16, 16, 3) and distinct(images) >= 15, name
    assert (draw_archetype("apple", 9, 4) == draw_archetype("food/apple", 9, 4)).all()
    with pytest.raises(
        ValueError, match="^name: one of ARCHETYPES, .* is needed, got 'spoon'$"
    ):
        draw_archetype("spoon", 1, 0)


def test_every_class_wears_every_colour(drawn):
    images, classes, _ = drawn
    for k, label in enumerate(SPRITE_CLASSES):
        packed = images[classes == k].astype(np.int64) @ [65536, 256, 1]
        shown = set(np.unique(packed))
        for name, (_, base, _) in sprites.RAMPS.items():
            assert int(np.dot(base, [65536, 256, 1])) in shown, (label, name)


def test_no_class_is_told_by_its_colours(drawn):
    """Softmax regression on 4x4x4 colour histograms, white left out: chance is 20 %."""
    images, classes, masks = (part[:10_000] for part in drawn)
    bins = (images // 64).astype(np.int64) @ [16, 4, 1]
    bins = np.where(masks, bins, 64) + 65 * np.arange(10_000)[:, None, None]
    counts = np.bincount(bins.ravel(), minlength=650_000).reshape(-1, 65)[:, :64]
    x = counts / counts.sum(1, keepdims=True)
    x = (x - x[:8000].mean(0)) / (x[:8000].std(0) + 1e-3)
    x = np.c_[x, np.ones(10_000)]
    target, weights, speed = np.eye(5)[classes[:8000]], np.zeros((65, 5)), 0.0
    for _ in range(500):
        logits = x[:8000] @ weights
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        speed = 0.9 * speed - 0.3 * x[:8000].T @ (p - target) / 8000
        weights = weights + speed
    accuracy = ((x[8000:] @ weights).argmax(1) == classes[8000:]).mean()
    assert 0.2 < accuracy <= 0.55, accuracy
