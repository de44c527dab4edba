"""GIFs: frames, times, palette and file are what was asked for."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from lesson_utils import draw_sprites, gif, grid

PLAIN = torch.zeros(1, 1, 4, 4)
RAMP = (torch.arange(256) / 127.5 - 1).view(1, 1, 16, 16)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sprites(n=6, size=16):
    """Flat two-coloured squares on white, as float images in [-1, 1]."""
    rng = np.random.default_rng(0)
    x = np.full((n, size, size, 3), 255, np.uint8)
    for i in range(n):
        x[i, 3:13, 4:12] = rng.integers(0, 250, 3)
        x[i, 5:8, 6:10] = rng.integers(0, 250, 3)
    return torch.tensor(x).permute(0, 3, 1, 2) / 127.5 - 1


def fading(n=6, frames=9):
    x0, eps = sprites(n), noise(n, 3, 16, 16)
    return [(1 - w) * eps + w * x0 for w in torch.linspace(0, 1, frames)]


def read(data):
    """A GIF's frames as RGB arrays, their durations, and its loop count."""
    image = Image.open(io.BytesIO(data))
    arrays, times = [], []
    for i in range(image.n_frames):
        image.seek(i)
        arrays.append(np.array(image.convert("RGB")))
        times.append(image.info["duration"])
    return arrays, times, image.info["loop"]


@pytest.mark.parametrize("c", [1, 3])
def test_gif_keeps_frames_times_size_and_loop(c):
    frames = [noise(6, c, 8, 8, seed=i) for i in range(5)]
    arrays, times, loop = read(
        gif(iter(frames), columns=3, scale=2, ms=40, hold_ms=900)
    )
    assert len(arrays) == 5 and arrays[0].shape == (32, 48, 3)
    assert times == [40] * 4 + [900] and loop == 0


def coloured(codes, side=20):
    """The colours 0xRRGGBB as one image (1,3,side,side), the last one to its end."""
    codes = torch.tensor(codes + [codes[-1]] * (side**2 - len(codes)))
    rgb = torch.stack([codes >> 16, codes >> 8 & 255, codes & 255])
    return (rgb.view(1, 3, side, side) / 127.5 - 1).float()


@pytest.mark.parametrize("colors", [2, 3, 16, 255, 256])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_film_whose_colours_fit_into_the_palette_is_exact(colors, more):
    """Equal frames too, that have no colour in common, and that fill the palette."""
    n = colors + more
    codes = [k * 0x9E3779 % 2**24 for k in range(n)]
    half = max(1, n // 2)
    parts = [codes[:half], codes[half:] or codes, codes]
    frames = [coloured(part) for part in parts for _ in range(3)]
    frames += [coloured(codes)] * 2 + [coloured(codes[:half])] * 4
    for scale in (1, 2):
        arrays, times, _ = read(gif(frames, scale=scale, colors=colors))
        assert len(arrays) == len(times) == len(frames)
        off = [
            abs(array.astype(int) - grid(frame, scale=scale)).max()
            for array, frame in zip(arrays, frames, strict=True)
        ]
        assert (max(off) == 0) == (n <= colors), off


def test_flat_colours_and_white_ground_of_the_last_frame_are_exact():
    frames = fading()
    arrays, _, _ = read(gif(frames))
    assert (arrays[-1] == grid(frames[-1])).all()
    for array, frame in zip(arrays, frames, strict=True):
        wanted = grid(frame).astype(int)
        white = (wanted == 255).all(-1)
        assert (array[white] == 255).all()
        assert abs(array - wanted).mean() < 25


def test_last_frame_of_up_to_250_colours_is_exact_after_noise():
    levels = torch.randint(0, 256, (250, 3), generator=torch.Generator().manual_seed(1))
    last = (levels.T.reshape(1, 3, 10, 25) / 127.5 - 1).float()
    arrays, _, _ = read(gif([noise(1, 3, 10, 25), last]))
    assert (arrays[-1] == grid(last)).all()


def test_last_frame_of_many_colours_is_close_and_its_ground_exact():
    x = sprites(32)
    last = torch.where(x == 1, x, x + 0.01 * noise(*x.shape))
    arrays, _, _ = read(gif([*fading(32), last]))
    wanted = grid(last).astype(int)
    assert abs(arrays[-1] - wanted).max() <= 12
    assert abs(arrays[-1] - wanted).mean() < 1
    assert (arrays[-1][(wanted == 255).all(-1)] == 255).all()


@pytest.mark.parametrize("colors, off", [(256, 4), (32, 10)])
def test_grey_levels_survive_and_few_are_spread_evenly(colors, off):
    arrays, _, _ = read(gif([noise(1, 1, 16, 16), RAMP], colors=colors))
    assert abs(arrays[-1].astype(int) - grid(RAMP)).max() <= off


@pytest.mark.parametrize("colors", [2, 7, 64, 256])
def test_equal_frames_are_not_merged(colors):
    a, b = noise(4, 3, 8, 8), noise(4, 3, 8, 8, seed=1)
    frames = [a, a, b, b, b, a, *[sprites(4)[..., 4:12, 4:12]] * 4]
    arrays, times, _ = read(gif(frames, ms=50, hold_ms=700, colors=colors))
    assert times == [50] * 9 + [700]
    for i, j in ((0, 1), (2, 3), (3, 4), (0, 5), (6, 7), (7, 8), (8, 9)):
        assert (arrays[i] == arrays[j]).all()
    assert len(np.unique(np.stack(arrays).reshape(-1, 3), axis=0)) <= colors


def test_equal_frames_are_not_merged_where_the_palette_is_full():
    arrays, _, _ = read(
        gif([noise(8, 3, 8, 8)] * 2 + [torch.full((8, 3, 8, 8), 0.5)] * 2, scale=1)
    )
    assert len(arrays) == 4
    assert (arrays[0] == arrays[1]).all() and (arrays[2] == 191).all()
    assert (arrays[2] == arrays[3]).all()


def from_one_noise(n=10, steps=20):
    """Films of sprites with a little noise at the end: it fades, or is ever new."""
    uint8, _ = draw_sprites(2 * n, seed=1)
    x0 = torch.tensor(uint8).permute(0, 3, 1, 2) / 127.5 - 1
    start, films = noise(n, 3, 16, 16), []
    for k, part in enumerate(x0.split(n)):
        film = [start]
        for i in range(1, steps + 1):
            w = 0.999 * (i / steps) ** 0.5
            eps = noise(n, 3, 16, 16, seed=i) if k else start
            film.append(w * part + (1 - w**2) ** 0.5 * eps)
        films.append(film)
    return films


def colour_errors(data, frames, columns):
    """Of each pixel's channels, frame by frame: how far from what was asked for."""
    arrays, _, _ = read(data)
    wanted = [grid(x, columns, 4).astype(int) for x in frames]
    return abs(np.stack(arrays) - wanted)


@pytest.mark.parametrize("colors", [64, 256])
def test_films_that_are_compared_have_equal_colours(colors):
    a, b = from_one_noise()
    one, _, _ = read(gif(a, columns=5, colors=colors, like=b))
    two, _, _ = read(gif(b, columns=5, colors=colors, like=iter(a)))
    assert (one[0] == two[0]).all()
    used = np.unique(np.stack([*one, *two]).reshape(-1, 3), axis=0)
    assert len(used) <= colors
    alone, _, _ = read(gif(a, columns=5, colors=colors))
    other, _, _ = read(gif(b, columns=5, colors=colors))
    assert (alone[0] != other[0]).any()


def test_our_sprites_keep_their_colours():
    a, b = from_one_noise()
    for film, other in ((a, b), (b, a), (a, None)):
        off = colour_errors(gif(film, columns=5, like=other), film, 5)
        assert off[-1].mean() < 3 and off[-1].max() < 32
        assert off.mean() < 16 and off[0].max() < 100
    few = colour_errors(gif(a, columns=5, colors=32), a, 5)
    assert few[-1].mean() > 2  # so the numbers above can fail


def test_compared_films_are_exact_if_the_palette_holds_both():
    a, b = [sprites(4), sprites(4) * 0.5], [-sprites(3)[..., :12], sprites(3)[..., 4:]]
    for film, other in ((a, b), (b, a)):
        arrays, _, _ = read(gif(film, like=other))
        for array, frame in zip(arrays, film, strict=True):
            assert (array == grid(frame)).all()


def test_one_frame_makes_a_picture():
    arrays, times, loop = read(gif([sprites(2)], hold_ms=500))
    assert (arrays[0] == grid(sprites(2))).all()
    assert len(arrays) == 1 and times == [500] and loop == 0


def test_file_holds_the_bytes_and_appears_at_one_stroke(tmp_path):
    path = tmp_path / "new" / "folder" / "a.gif"
    data = gif(fading(), path)
    assert path.read_bytes() == data == gif(fading(), str(path)) == gif(fading())
    assert [p.name for p in path.parent.iterdir()] == ["a.gif"]


def test_failure_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.gif"
    path.write_bytes(b"old")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        gif(fading(), path)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_fewer_colours_make_a_smaller_file():
    sizes = [len(gif(fading(16), colors=c)) for c in (256, 64, 16)]
    assert sizes[0] > sizes[1] > sizes[2]


OUTSIDE = {
    "columns": (0, 65_536),
    "scale": (0, 65_536),
    "ms": (9, 655_351, 60.5),
    "hold_ms": (9, 655_351),
    "colors": (1, 257),
    "path": ("a.png", "a", 3),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_arguments_are_checked_before_the_sampler_runs(name):
    frames = iter([PLAIN])
    for value in OUTSIDE[name]:
        with pytest.raises(ValueError, match=f"^{name}: "):
            gif(frames, **{name: value})
    with pytest.raises(ValueError, match="^like: "):
        gif(frames, like=3)
    assert len(list(frames)) == 1
    with pytest.raises(ValueError, match="^frames: "):
        gif(frames)  # there are none any more
