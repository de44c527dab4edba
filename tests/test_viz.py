"""Stills, trajectories, curves, what a notebook shows, and the progress bar."""

import base64
import gc
import re
import weakref

import numpy as np
import pytest
import torch
from art import has, noise, pixels_of

from lesson_utils import gif, grid, plot, progress, show, strip, viz
from lesson_utils.support.bar import Bar
from lesson_utils.viz import COLOURS


def flat(*values, c=1, size=2):
    """Images (len(values), c, size, size), each of one value."""
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, c, size, size).clone()


# grid


def test_the_mapping_to_pixels_is_fixed():
    levels = torch.arange(256) / 127.5 - 1
    out = grid(levels.view(1, 1, 16, 16), scale=1)
    assert (out[..., 0].ravel() == np.arange(256)).all()
    pixels = {-1: 0, -0.5: 64, 0: 128, 0.5: 191, 1: 255, -9: 0, float("inf"): 255}
    for value, pixel in pixels.items():
        assert (grid(flat(float(value)), scale=1) == pixel).all(), value


def test_layout_is_row_by_row_and_white_where_there_is_no_image():
    """And no image depends on its neighbours."""
    out = grid(flat(-1.0, -0.5, 0.0, 0.5, -0.8), columns=3, scale=3)
    assert out.dtype == np.uint8 and out.shape == (12, 18, 3)
    assert out[::6, ::6, 0].tolist() == [[0, 64, 128], [191, 25, 255]]
    blocks = out.reshape(2, 6, 3, 6, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()


@pytest.mark.parametrize(
    "b, columns",
    [(1, 1), (2, 2), (3, 3), (6, 3), (8, 4), (10, 5), (16, 4), (32, 8), (64, 8)],
)
def test_default_columns(b, columns):
    out = grid(torch.zeros(b, 1, 4, 4), scale=1)
    assert out.shape == (b // columns * 4, columns * 4, 3)


def test_enlargement_copies_pixels():
    x = noise(1, 3, 5, 7)
    assert (grid(x, scale=4)[1::4, 2::4] == grid(x, scale=1)).all()


def test_channels_are_in_order():
    x = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1)
    assert grid(x, scale=1).ravel().tolist() == [255, 128, 0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_any_float_type_with_gradient_and_x_untouched(dtype):
    x = (3 * noise(2, 3, 4, 4)).to(getattr(torch, dtype)).requires_grad_()
    before = x.detach().clone()
    out = grid(x)
    assert (x == before).all() and x.requires_grad
    assert (out == grid(before.float())).all()


BAD_IMAGES = [
    (np.zeros((1, 1, 2, 2)), "ndarray"),
    (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), "uint8"),
    (torch.zeros(3, 2, 2), r"\(3, 2, 2\)"),
    (torch.zeros(1, 2, 2, 2), "C = 1 or 3"),
    (torch.zeros(0, 3, 2, 2), r"\(0, 3, 2, 2\)"),
    (torch.full((1, 1, 2, 2), float("nan")), "NaN"),
]


@pytest.mark.parametrize("x, words", BAD_IMAGES)
def test_bad_images_are_refused(x, words):
    with pytest.raises(ValueError, match=words):
        grid(x)
    with pytest.raises(ValueError, match=rf"frames\[1\].*{words}"):
        strip([flat(0.0), x])


# strip


def test_strip_has_a_row_an_image_and_a_column_a_moment():
    frames = [flat(i / 10, -i / 10) for i in range(11)]
    out = strip(iter(frames), moments=3, scale=2)
    assert out.shape == (8, 12, 3)
    assert out[::4, ::4, 0].tolist() == [[128, 191, 255], [128, 64, 0]]


def test_strip_takes_indices_and_no_more_frames_than_there_are():
    frames = [flat(i / 5) for i in range(6)]
    assert (strip(frames, [0, -1]) == strip(frames, 2)).all()
    assert (strip(frames, [0.0, np.int8(-1)]) == strip(frames, 2)).all()
    assert (strip(frames, 99) == strip(frames, range(6))).all()
    assert (strip(frames, 1) == grid(frames[-1])).all()


@pytest.mark.parametrize("moments", [0, [], [6], [-7], [0.5], "ab"])
def test_strip_refuses(moments):
    with pytest.raises(ValueError, match="^moments: "):
        strip([flat(0.0)] * 6, moments)
    with pytest.raises(ValueError, match=r"frames\[1\]: one shape for all.*= 1,2,2"):
        strip([flat(0.0), flat(0.0, 0.0)], moments)


@pytest.fixture
def shown():
    """Calls show in an IPython shell and returns its one output's data."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    shell = InteractiveShell.instance()

    def call(*args, **kwargs):
        with capture_output() as captured:
            show(*args, **kwargs)
        assert captured.stdout == "" and len(captured.outputs) == 1
        return captured.outputs[0].data

    yield call
    shell.history_manager.enabled = False
    InteractiveShell.clear_instance()


# plot


def test_plot_draws_each_curve_in_its_colour_on_white():
    curves = {"one": [0, 1, 4], "two": torch.tensor([3.0, 2, 2]), "three": (1, 1, 1)}
    data = plot(curves, xlabel="step", ylabel="loss")
    picture = pixels_of(data)
    assert picture.shape == (600, 900, 3) and (picture[0] == 255).all()
    assert all(has(picture, colour) for colour in COLOURS[:3])
    assert not has(picture, COLOURS[3])
    assert data == plot(curves, xlabel="step", ylabel="loss")
    assert len(data) < 15_000


def test_plot_takes_places_axes_and_a_size():
    curve, places = {"": [1.0, 10, 100]}, torch.tensor([1.0, 10, 1000])
    plain = plot(curve)
    assert pixels_of(plot(curve, size=(3.0, 2.0))).shape == (400, 600, 3)
    drawn = [plain, plot(curve, places)]
    drawn += [plot(curve, places, log=axes) for axes in ("x", "y", "xy")]
    assert len(set(drawn)) == 5
    assert plot(curve, [0, 1, 2]) == plain


def test_plot_names_its_curves_and_its_axes():
    named, plain = plot({"a curve": [1, 2]}), plot({"": [1, 2]})
    assert named != plain != plot({"": [1, 2]}, xlabel="steps")


def test_plots_are_drawn_in_few_colours_at_twice_their_size(shown):
    """Issue 12: they were drawn at 1× and enlarged in blocks on sharp screens."""
    data = plot({str(i): [i, i + 1] for i in range(7)}, size=(4.5, 3.0))
    assert len(np.unique(pixels_of(data).reshape(-1, 3), axis=0)) <= 5 + 2 * 6
    page = shown(data, noise(1, 1, 4, 4), alt=["plot", "noise"], scale=3)["text/html"]
    sizes = re.findall(r'width="(\d+)" style="[^"]*image-rendering:(\w+)"', page)
    assert sizes == [("450", "auto"), ("12", "pixelated")]


def boxes_and_paths(curves, **more):
    """Where plot has put its legend, and its curves, in pixels."""
    words = ["", "", *curves]
    figure = viz.figure_of(curves, None, words, more.get("log", ""), (4.5, 3.0))
    figure.draw_without_rendering()
    [axes] = figure.axes
    legend = axes.get_legend() or figure.legends[0]
    paths = [x.get_transform().transform_path(x.get_path()) for x in axes.lines]
    return legend.get_window_extent(), paths, figure.bbox


FULL = {
    "rises": torch.linspace(0, 1, 50),
    "falls": torch.linspace(1, 0, 50),
    "stays": torch.full((50,), 0.5),
}
ROOMY = {"a curve": torch.linspace(0, 1, 50)}
WAVES = {f"wave {i}": (torch.arange(200.0) + i).sin() for i in range(7)}


@pytest.mark.parametrize("curves", [ROOMY, FULL, WAVES], ids=["roomy", "full", "waves"])
def test_no_legend_lies_on_a_curve_or_leaves_the_plot(curves):
    box, paths, whole = boxes_and_paths(curves)
    assert not any(path.intersects_bbox(box, filled=False) for path in paths)
    assert box.x0 >= 0 and box.x1 <= whole.x1 and box.y0 >= 0 and box.y1 <= whole.y1


@pytest.mark.parametrize(
    "name", ["猫", "$a$b$", "_hidden", "کتاب", "👩\u200d🚀", "e\u0301"]
)
def test_any_class_name_can_be_a_curve(name, recwarn):
    """Issue 12 (n): matplotlib warned of a missing glyph, on stderr in a lesson."""
    named, other = plot({name: [1, 2]}), plot({"": [1, 2]})
    assert named != other and recwarn.list == []


@pytest.mark.parametrize(
    "bad, words",
    [
        ({"x": [1, 2]}, r"curves\['a'\]: .* each of 2 x"),
        ({"x": [[1, 2, 3]]}, "x: a row of finite numbers"),
        ({"curves": {"b": [1, float("inf")]}}, r"curves\['b'\]"),
        ({"curves": {"b": [[1.0]]}}, r"curves\['b'\]"),
        ({"size": (1, 2, 3)}, "size: "),
        ({"size": (1, 0)}, "size: "),
        ({"size": ("wide", 3)}, "size: "),
    ],
)
def test_plot_refuses(bad, words):
    with pytest.raises(ValueError, match=words):
        plot(**({"curves": {"a": [1, 2, 3]}} | bad))


# show


def sources(page):
    found = re.findall(r'src="data:image/(\w+);base64,([^"]+)"', page)
    return [(kind, base64.b64decode(text)) for kind, text in found]


def test_show_puts_pictures_of_every_kind_side_by_side(shown, tmp_path):
    x = noise(4, 3, 8, 8)
    film, curve = gif([x, -x], tmp_path / "a.gif"), plot({"loss": torch.rand(50)})
    pictures = [grid(x), x, film, tmp_path / "a.gif", curve]
    data = shown(*pictures, titles=[*"abcde"], scale=2)
    (k0, still), (k1, tensor), *rest = sources(data["text/html"])
    assert k0 == k1 == "png"
    assert (pixels_of(still) == grid(x)).all()
    assert (pixels_of(tensor) == grid(x, scale=2)).all()
    assert rest == [("gif", film), ("gif", film), ("png", curve)]
    assert data["text/plain"] == "a\nb\nc\nd\ne"


def test_show_in_few_colours_is_smaller_and_keeps_white(shown):
    x = noise(4, 3, 16, 16).clamp(-1, 1)
    x[..., :8] = 1
    [(_, large)] = sources(shown(x, alt="noise")["text/html"])
    [(_, small)] = sources(shown(x, alt="noise", colors=64)["text/html"])
    exact, near = pixels_of(large).astype(int), pixels_of(small).astype(int)
    assert len(small) < len(large) / 2
    assert len(np.unique(near.reshape(-1, 3), axis=0)) <= 64
    assert (near[exact.min(2) == 255] == 255).all() and abs(near - exact).mean() < 20


def test_show_escapes_its_texts(shown):
    page = shown(flat(0.0), titles="<b>", alt='a "quoted" <i> & more')
    assert 'alt="a &quot;quoted&quot; &lt;i&gt; &amp; more"' in page["text/html"]
    assert "<figcaption>&lt;b&gt;</figcaption>" in page["text/html"]
    assert page["text/plain"] == 'a "quoted" <i> & more'


def widths(page):
    return [int(w) for w in re.findall(r'<img [^>]*width="(\d+)"', page)]


@pytest.mark.parametrize(
    "shapes, columns, scale, wide",
    [
        ([(15, 3, 16, 16)] * 3, 5, 4, [240] * 3),  # at 4 they are 988 pixels wide
        ([(8, 3, 16, 16)] * 3, 4, 4, [256] * 3),
        ([(8, 1, 28, 28)] * 3, 4, 4, [224] * 3),
        ([(10, 1, 28, 28)], 10, 4, [840]),  # alone, and wider than a page
        ([(10, 1, 28, 28)] * 5, 10, 4, [840] * 5),  # one below the other
        ([(1, 1, 2000, 2000)], 1, 4, [2000]),
    ],
)
def test_tensors_stand_side_by_side_in_whole_enlargements(
    shown, shapes, columns, scale, wide
):
    pictures = [torch.zeros(shape) for shape in shapes]
    alt = ["black"] * len(shapes)
    page = shown(*pictures, alt=alt, columns=columns, scale=scale)["text/html"]
    assert widths(page) == wide


def test_a_tensor_leaves_room_for_a_plot_beside_it(shown):
    x, curve = torch.zeros(16, 1, 16, 16), plot({"": [1, 2]})
    page = shown(curve, x, alt=["a plot", "black"], scale=9)["text/html"]
    assert widths(page) == [450, 448]


def test_figures_begin_at_one_height_and_long_titles_are_broken(shown):
    """Issue 12: of two sheets one hung lower where a title took two lines."""
    titles = ["short", "a title that takes three lines or more beneath so small a one"]
    page = shown(*[noise(1, 1, 16, 16)] * 2, titles=titles)["text/html"]
    assert re.match(
        '<div style="display:flex;flex-wrap:wrap;align-items:flex-start', page
    )
    assert re.findall(r"flex:(\d 1 \d+px)", page) == ["0 1 100px", "1 1 100px"]


def test_show_uses_tags_that_a_sanitiser_keeps(shown):
    page = shown(flat(0.0), alt="noise")["text/html"]
    assert set(re.findall(r"<(\w+)", page)) <= {"div", "figure", "img", "figcaption"}
    assert "figcaption" not in page


def test_show_prints_its_words_outside_ipython(capsys):
    show(flat(0.0), flat(0.5), alt=["left", "right"])
    assert capsys.readouterr().out == "left\nright\n"


@pytest.mark.parametrize(
    "picture, texts, words",
    [
        (flat(0.0), {"alt": " "}, "alt"),
        (flat(0.0), {"titles": [1]}, "titles"),
        (np.zeros((4, 4, 3)), {"alt": "a"}, "float64"),
        (b"BM", {"alt": "a"}, "GIF or a PNG"),
        (noise(4, 4), {"alt": "a"}, r"pictures\[0\]: a float tensor"),
    ],
)
def test_show_refuses(picture, texts, words):
    with pytest.raises(ValueError, match=words):
        show(picture, **texts)


# progress


def test_items_pass_and_one_line_stays_on_stdout(capsys):
    items = [object() for _ in range(5)]
    assert [*progress(iter(items), total=5, label="DDIM")] == items
    out, err = capsys.readouterr()
    assert err == "" and out.count("\n") == 1 and out.endswith("\n")
    last = out.rstrip("\n").split("\r")[-1]
    assert last.startswith("DDIM: 100%") and "5/5" in last and len(last) <= 79


def test_the_length_is_found(capsys):
    progress(range(77))  # starts nothing before the first item
    list(progress(range(3)))
    list(progress(i for i in range(3)))
    list(progress([], total=0))
    out = capsys.readouterr().out
    assert "3/3" in out and "3 steps" in out and out.count("\n") == 3
    assert "/77" not in out


@pytest.mark.parametrize(
    "n, total, elapsed, said",
    [
        (9, 9, 16.56, "9/9 [00:16<00:00,  1.84 s/step]"),  # was 1.84s/ steps
        (9, 9, 1.0, "9/9 [00:01<00:00,  9.00 steps/s]"),
        (1, None, 0.5, " 1 step [00:00,  2.00 steps/s]"),
        (21, None, 42.0, "21 steps [00:42,  2.00 s/step]"),
    ],
)
def test_the_bar_has_words_for_one_and_for_many(n, total, elapsed, said):
    text = Bar.format_meter(n=n, total=total, elapsed=elapsed, unit=" steps", ncols=79)
    assert f" {text}".endswith(said)


@pytest.mark.parametrize("way", ["close", "break", "raise"])
def test_the_bar_closes_early(way, capsys):
    def source():
        yield 1
        yield 2
        raise KeyError("broken")

    steps = progress(source(), total=9)
    if way == "raise":
        with pytest.raises(KeyError):
            list(steps)
    else:
        assert next(steps) == 1
        steps.close()
        del steps
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and out.endswith("\n")
    assert "2/9" in out if way == "raise" else "1/9" in out
    assert next(progress(range(2))) == 0
    assert "\x1b" not in capsys.readouterr().out  # the next bar stands on its own line


def test_no_item_is_held_and_gradient_mode_stays():
    class Item:
        pass

    steps = progress(Item() for _ in range(3))
    ref = weakref.ref(next(steps))
    gc.collect()
    assert ref() is None
    with torch.no_grad():
        next(steps)
    assert torch.is_grad_enabled()
    steps.close()


def test_it_costs_next_to_nothing(capsys):
    list(progress(range(10_000)))
    assert capsys.readouterr().out.count("\r") < 100
