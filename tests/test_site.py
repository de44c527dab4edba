"""The static site: what it is made of, and how it looks in a browser without a network.

Each check gives its complaints, and can fail.
"""

import io
import re
import time
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin
from urllib.request import urlopen

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

import lesson_utils
from tools import site
from tools.lessons import ROOT, code_cells, lesson_paths
from tools.mathml import mathml

IMAGES = ROOT / "build" / "browser"
SHEETS = ["lessons/cheat_sheet.html", "lessons/glossary.html"]
LESSON_PAGES = [f"lessons/{path.stem}.html" for path in lesson_paths()]
PAGES = ["index.html", "checkpoints/index.html", *SHEETS, *LESSON_PAGES]
STILL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs="
WIDGETS = "lesson_utils.widgets"
DOT = '<img alt="a dot" src="dot.png">'


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "site"
    with redirect_stdout(io.StringIO()) as said:
        assert site.main(["--out", str(out)]) == 0
    assert (out / "index.html").as_uri() in said.getvalue()
    return out


@pytest.fixture
def planted(tmp_path):
    """A folder with one page, whose body is to be written."""
    Image.new("RGB", (8, 8)).save(tmp_path / "dot.png")

    def plant(body: str) -> Path:
        page = tmp_path / "page.html"
        page.write_text(
            f"<!doctype html><meta charset=utf-8><body>{body}</body>", encoding="utf-8"
        )
        return page

    return plant


# Formulas


@pytest.mark.parametrize(
    ("latex", "part"),
    [
        (r"\mathcal N(0, I)", "<mi>𝒩</mi>"),
        (r"\mathbb E_x", "𝔼"),
        (r"\bar\alpha_t", '<mi>α</mi><mo stretchy="false">‾</mo></mover><mi>t</mi>'),
        (r"\hat x_0", '<mover><mi>x</mi><mo stretchy="false">ˆ</mo></mover>'),
        (r"c_\mathrm{in}", "<mtext>in</mtext>"),
        (r"z \sim x", "<mo>∼</mo>"),
        (r"U\Sigma", '<mi mathvariant="normal">Σ</mi>'),
        (r"[-1, 1]", '<mo form="prefix">−</mo>'),
        (r"1 - t", "<mo>−</mo>"),
        (r"(1) - t", "<mo>−</mo>"),
        (r"\log t", '<mo lspace="0" rspace="0.167em">log</mo>'),
        (r"\big\|x\big\|^2", 'form="prefix">‖</mo></mrow><mn>2</mn></msup>'),
        (r"\lVert x\rVert", '<mo stretchy="false">‖</mo></mrow></math>'),
        (r"\big(x\big)", 'stretchy="true" form="postfix">)'),
        (r"\begin{aligned}h &= 1\\ o &= 2\end{aligned}", '<mtd columnalign="right">'),
        (r"\sqrt\frac12", "<msqrt><mfrac><mn>1</mn><mn>2</mn></mfrac></msqrt>"),
    ],
)
def test_formulas_are_mathml(latex, part):
    assert part in mathml(latex)
    assert 'display="block"' in mathml(latex, display=True)


@pytest.mark.parametrize(
    "latex",
    [r"\nonsense x", r"\frac{1", r"\frac{1}{2", r"a & b", r"\boldsymbol\mu", ""],
)
def test_what_has_no_mathml_is_refused(latex):
    with pytest.raises(ValueError, match=re.escape(f"the formula ${latex}$ has no")):
        mathml(latex)


# A small project


@pytest.fixture
def project(tmp_path):
    """A project with one lesson, which consists of what is asked for."""
    root = tmp_path / "project"
    for name in ("README.md", "checkpoints/README.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("# Start\n\n## The lessons\n", encoding="utf-8")
    (root / "lessons").mkdir()

    def lesson(*cells) -> Path:
        nb = new_notebook(cells=[new_markdown_cell("# 1 · One: first"), *cells])
        nbformat.write(nb, root / "lessons" / "01_one.ipynb")
        return root

    return lesson


def test_a_lesson_becomes_a_page(project, tmp_path):
    text = r"5 \$ or 6 \$ of `$x$`." + "\n\n## A & B\n\n## A & B\n\n"
    text += "[up](../README.md#start) [code](../tools/x.py)\n\n| a |\n|---|\n| $b$ |"
    outputs = [
        new_output("stream", name="stdout", text="1 < 2"),
        new_output("display_data", {"text/html": DOT, "text/plain": "no dot"}),
        new_output("execute_result", {"text/markdown": "*so*", "text/plain": "no"}),
        new_output("execute_result", {"text/plain": "<x>"}),
    ]
    code = new_code_cell("%timeit f(1)", outputs=outputs)
    root = project(new_markdown_cell(text), code, new_code_cell(" "))
    site.build(tmp_path / "out", root)
    page = (tmp_path / "out/lessons/01_one.html").read_text(encoding="utf-8")
    parts = [
        "<title>1 · One: first – Diffusion in Twenty Steps</title>",
        '<html lang="en">',
        "5 $ or 6 $ of ",
        "<code>$x$</code>",
        '<h2 id="a--b">',
        '<h2 id="a--b-1">',
        '<a href="../index.html#start">up</a> code',
        "<mi>b</mi>",
        '<div class="wide">',
        "<pre>1 &lt; 2</pre>",
        DOT,
        "<em>so</em>",
        "<pre>&lt;x&gt;</pre>",
        "timeit",
    ]
    for part in parts:
        assert part in page, part
    assert "no dot" not in page and "<nav>" in page


PNG = new_output("display_data", {"image/png": ""})
STDERR = new_output("stream", name="stderr", text="no")


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (new_markdown_cell(r"if $\nonsense x$"), r"\$\\nonsense x\$ has no MathML"),
        (new_markdown_cell("$$\\frac{1$$"), "braces do not match"),
        (new_markdown_cell("5 $ or 6 $"), "is no formula"),
        (new_markdown_cell("5$ are `$x$`"), "is no formula"),
        (new_markdown_cell("![a dot](dot.png)"), "dot.png is no file"),
        (new_markdown_cell("![a dot](https://no.where/dot.png)"), "is no file"),
        (new_markdown_cell('a <img alt="1" src="dot.png"> b'), "dot.png is no file"),
        (new_code_cell("1", outputs=[PNG]), "an output is image/png"),
        (new_code_cell("1", outputs=[STDERR]), "code cell 1 writes to stderr: no"),
    ],
    ids="command braces dollars code image elsewhere tag output stderr".split(),
)
def test_what_cannot_be_shown_is_named(project, tmp_path, cell, words):
    site.build(tmp_path / "out", project())
    with pytest.raises(ValueError, match=rf"^lessons/01_one.ipynb: .*{words}"):
        site.build(tmp_path / "out", project(cell))
    assert (tmp_path / "out/lessons/01_one.html").is_file()  # the older one


def test_only_what_a_site_wrote_is_replaced(project, tmp_path, capsys):
    root, out = project(), tmp_path / "out"
    site.build(out, root)
    (out / "mine").touch()
    (out / "lessons/01_one.html").write_text("old", encoding="utf-8")
    (root / "lessons/01_one.ipynb").rename(root / "lessons/02_two.ipynb")
    site.build(out, root)
    assert (out / "mine").is_file() and (out / "lessons/02_two.html").is_file()
    assert not (out / "lessons/01_one.html").exists()
    (root / "lessons/02_two.ipynb").rename(root / "lessons/03_three.ipynb")
    (out / "lessons/03_three.html").touch()
    with pytest.raises(ValueError, match="03_three.html is not of an older site"):
        site.build(out, root)
    assert (out / "lessons/02_two.html").is_file()
    for name in ("style.css", "index.html", "thesis"):  # each alone in its folder
        mine = tmp_path / f"of {name}" / name
        mine.parent.mkdir()
        mine.write_text("mine", encoding="utf-8")
        assert site.main(["--out", str(mine.parent)]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "a new folder or a site of ours" in said
        assert mine.read_text(encoding="utf-8") == "mine"


def test_the_users_own_folder_is_known_by_its_sign(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine").touch()
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    for out, needed in (("~", f"of ours is needed, got {tmp_path}"), ("", "--out")):
        assert site.main(["--out", out]) == 2
        assert needed in capsys.readouterr().err


def test_a_list_that_points_out_of_the_site_removes_nothing_there(project, tmp_path):
    out, mine = tmp_path / "out", tmp_path / "mine"
    site.build(out, project())
    mine.touch()
    (out / site.WRITTEN).write_text(f"../mine\n{mine}\nindex.html\n", encoding="utf-8")
    (out / "style.css").unlink()
    for page in ("lessons/01_one.html", "checkpoints/index.html"):
        (out / page).unlink()
    site.build(out, project())
    assert mine.is_file() and (out / "style.css").is_file()


# The real site, as files


def tags(page: Path) -> list[tuple[str, dict]]:
    """Each start tag of a page with its attributes."""
    found, parser = [], HTMLParser()
    parser.handle_starttag = lambda tag, values: found.append((tag, dict(values)))
    parser.feed(page.read_text(encoding="utf-8"))
    return found


def dead_links(page: Path) -> Iterator[str]:
    """Links to files or places that are not there, other sites left aside."""
    for tag, attributes in tags(page):
        url = attributes.get("href", "")
        if tag == "a" and not url.startswith("https://"):
            path, mark, anchor = url.partition("#")
            target = page.parent / path if path else page
            if not target.is_file():
                yield f"{url} is no file"
            elif mark and anchor not in [a.get("id") for _, a in tags(target)]:
                yield f"{url} is no place in that page"


def foreign(page: Path) -> Iterator[str]:
    """Scripts, and what is loaded from anywhere but the site itself."""
    for tag, attributes in tags(page):
        if tag in ("script", "iframe", "object", "embed"):
            yield f"<{tag}>"
        yield from (name for name in attributes if name.startswith("on"))
        url = attributes.get("src") or (tag == "link" and attributes.get("href"))
        if url and not url.startswith("data:image/"):
            if not (page.parent / url).is_file():
                yield url
            elif url.endswith(".css"):
                style = (page.parent / url).read_text(encoding="utf-8")
                yield from re.findall(r"@import|url\(", style)


def stills(page: Path) -> Iterator[str]:
    """Images that are called films, or are GIF files, and do not move."""
    for tag, attributes in tags(page):
        url, words = attributes.get("src", ""), attributes.get("alt", "")
        if tag == "img" and (words.startswith("Film") or url.endswith(".gif")):
            with urlopen(urljoin(page.as_uri(), url)) as data:
                image = Image.open(io.BytesIO(data.read()))
            if getattr(image, "n_frames", 1) < 2:
                yield f"{words}, {url[:60]}"


def unfinished(page: Path) -> Iterator[str]:
    """What a page must have, and has not."""
    text, found = page.read_text(encoding="utf-8"), tags(page)
    if ("html", {"lang": "en"}) not in found:
        yield "no language"
    if not re.search(r"<title>[^<]*\w[^<]*</title>", text):
        yield "no title"
    if "viewport" not in [a.get("name") for _, a in found]:
        yield "no viewport"
    for tag, attributes in found:
        if tag == "details" and "open" in attributes:
            yield "open details"
        if tag == "img" and not attributes.get("alt", "").strip():
            yield f"no words for {attributes['src'][:60]}"


GOOD = (
    '<html lang="en"><title>1</title><meta name="viewport"><h1 id="a">1</h1>'
    f'{DOT}<a href="#a">1</a><details></details>'
)
FILE_CHECKS = {
    dead_links: ['<a href="no.html">', '<a href="#no">', '<a href="page.html#no">'],
    foreign: [
        "<script></script>",
        "<iframe></iframe>",
        '<p onclick="f()">',
        '<img alt="1" src="no.png">',
        '<img alt="1" src="https://no.where/x.png">',
        '<link href="https://no.where/x.css">',
        '<link href="bad.css">',
    ],
    stills: ['<img alt="1" src="dot.gif">', f'<img alt="Film: 1" src="{STILL}">'],
    unfinished: ['<img src="dot.png">', "<details open>", None],
}


@pytest.mark.parametrize("check", FILE_CHECKS, ids=lambda check: check.__name__)
def test_check_of_files(check, planted, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "dot.gif")
    (tmp_path / "bad.css").write_text("@import 'x.css';", encoding="utf-8")
    assert list(check(planted(GOOD))) == []
    for fault in FILE_CHECKS[check]:
        assert list(check(planted("" if fault is None else GOOD + fault))), fault


@pytest.mark.parametrize("check", FILE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("page", PAGES)
def test_files(built, page, check):
    assert list(check(built / page)) == []


def ways_on(page: str, text: str) -> dict[str, str]:
    """{page: words} of the links at the end of a page."""
    links = re.findall('href="([^"#]*)[^>]*>([^<]*)', text.partition("<nav>")[2])
    return {urljoin(page, url): words.strip("← →") for url, words in links}


def test_every_page_is_there_and_leads_on(built):
    pages = sorted(str(path.relative_to(built)) for path in built.rglob("*.html"))
    assert pages == sorted(PAGES)
    texts = {page: (built / page).read_text(encoding="utf-8") for page in PAGES}
    start = texts["index.html"].partition("<nav>")[0]
    assert all(f'href="{page}"' in start for page in PAGES[1:])
    titles = {page: re.search("<h1[^>]*>([^:<]*)", texts[page])[1] for page in PAGES}
    titles["index.html"] = "All lessons"
    for page in PAGES:
        others = {"index.html", *SHEETS} - ({page} & {*SHEETS})
        if page in LESSON_PAGES:
            at = LESSON_PAGES.index(page)
            others |= {*LESSON_PAGES[max(at - 1, 0) : at + 2]} - {page}
        assert ways_on(page, texts[page]) == {other: titles[other] for other in others}


def test_the_diagram_is_on_the_start_page_and_on_the_cheat_sheet(built):
    for page, source in (
        ("index.html", "lessons/assets/overview.svg"),
        ("lessons/cheat_sheet.html", "assets/overview.svg"),
    ):
        text = (built / page).read_text(encoding="utf-8")
        assert f'src="{source}"' in text, page


def test_the_sheets_of_a_project_are_pages_of_its_site(project, tmp_path):
    root = project(new_markdown_cell("[words](words.md)"))
    text = "# Words: all\n\n[1](01_one.ipynb): $x_0$\n\n```python\nx = 1\n```\n"
    (root / "lessons/words.md").write_text(text, encoding="utf-8")
    site.build(tmp_path / "out", root)
    page = (tmp_path / "out/lessons/words.html").read_text(encoding="utf-8")
    assert '<a href="01_one.html">1</a>' in page and "<msub>" in page
    assert 'class="highlight"' in page and "Words</a>" not in page
    for name in ("index.html", "lessons/01_one.html"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert text.partition("<nav>")[2].count('words.html">Words</a>') == 1


def test_what_needs_a_kernel_says_so_above_its_image(built):
    public = {name: getattr(lesson_utils, name) for name in lesson_utils.__all__}
    panels = [n for n, x in public.items() if getattr(x, "__module__", "") == WIDGETS]
    words = rf"\bipywidgets\.\w+\(|\b(?:{'|'.join(panels)})\("
    total = 0
    for path in lesson_paths():
        cells = code_cells(nbformat.read(path, as_version=4))
        text = (built / f"lessons/{path.stem}.html").read_text(encoding="utf-8")
        notes = text.split(site.NOTE)[1:]
        assert len(notes) == sum(bool(re.search(words, c.source)) for c in cells), path
        assert all("<img" in rest.partition("<h2")[0] for rest in notes), path
        total += len(notes)
    assert total


# The real site, in a browser

FAULTS = """
() => {
  const found = [], seen = new Set();
  document.querySelectorAll("details").forEach(each => { each.open = true; });
  for (const image of document.images)
    if (!image.naturalWidth) found.push("missing image " + image.src.slice(0, 60));
  for (const formula of document.querySelectorAll("math")) {
    const box = formula.getBoundingClientRect();
    if (!(box.width && box.height)) found.push("no box for " + formula.outerHTML);
  }
  if (document.documentElement.scrollWidth > innerWidth)
    found.push(`${document.documentElement.scrollWidth} pixels of ${innerWidth}`);
  const rgb = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => rgb(colour).slice(0, 3)
    .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const under = each => {
    for (; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (rgb(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.data.trim();
    const parent = texts.currentNode.parentElement;
    if (!text || parent.closest("script, style")) continue;
    if (!parent.closest("pre, code") && /[$]|\\\\[a-zA-Z]+/.test(text))
      found.push("raw mathematics: " + text);
    const pair = [getComputedStyle(parent).color, under(parent)];
    const [low, high] = pair.map(light).sort((a, b) => a - b);
    if ((high + 0.05) / (low + 0.05) < 4.5 && !seen.has(pair.join()))
      found.push(`hard to read: ${pair.join(" on ")}, ${text.slice(0, 20)}`);
    seen.add(pair.join());
  }
  return found;
}
"""


def faults(browser, page: Path, width=1000, scheme="light", image="") -> list[str]:
    """What a reader without a network would miss or find broken on a page."""
    size = {"width": width, "height": 900}
    context = browser.new_context(viewport=size, color_scheme=scheme, offline=True)
    with closing(context):
        tab, found = context.new_page(), []
        local = ("file:", "data:")
        tab.on("request", lambda r: r.url.startswith(local) or found.append(r.url))
        tab.on("console", lambda m: m.type != "error" or found.append(m.text))
        tab.on("pageerror", lambda error: found.append(str(error)))
        tab.goto(page.as_uri())
        if image:
            IMAGES.mkdir(parents=True, exist_ok=True)
            tab.screenshot(path=IMAGES / f"site_{image}.png", full_page=True)
        return found + tab.evaluate(FAULTS)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ('<img alt="1" src="no.png">', "missing image"),
        ('<script src="https://no.where/x.js"></script>', "https://no.where/x.js"),
        ("<script>console.error('planted')</script>", "planted"),
        ("<script>planted()</script>", "planted is not defined"),
        ("<math></math>", "no box for"),
        ("costs $x$", "raw mathematics"),
        ("<details>\\frac12</details>", "raw mathematics"),
        ("<div style='width: 1100px'>wide</div>", "pixels of 1000"),
        ("<p style='color: #888'>grey</p>", "hard to read"),
        ("<p style='background: #000'>black</p>", "hard to read"),
    ],
)
def test_check_in_the_browser(browser, planted, fault, words):
    good = f"<p>1 {DOT}</p><pre>$x$</pre><math><mi>x</mi></math><a href='https://x.y'>1</a>"
    assert faults(browser, planted(good)) == []
    assert any(words in each for each in faults(browser, planted(good + fault)))


@pytest.mark.parametrize(("width", "scheme"), [(1000, "light"), (390, "dark")])
@pytest.mark.parametrize("page", PAGES)
def test_in_the_browser(built, browser, page, width, scheme):
    image = f"{page.removesuffix('.html').replace('/', '_')}_{width}"
    assert faults(browser, built / page, width, scheme, image) == []


def moves(browser, page: Path, source: str) -> bool:
    """Whether an image changes on the screen within three seconds."""
    with closing(browser.new_page()) as tab:
        tab.goto(page.as_uri())
        image = tab.locator(f'img[src$="{source}"]').first
        first, until = image.screenshot(), time.monotonic() + 3
        while time.monotonic() < until:
            if image.screenshot() != first:
                return True
        return False


def test_films_move(built, browser, planted):
    assert not moves(browser, planted(DOT), ".png")
    assert moves(browser, built / "index.html", ".gif")


def test_hints_fold(built, browser):
    with closing(browser.new_page()) as tab:
        tab.goto((built / PAGES[-1]).as_uri())
        hint = tab.locator("details").first
        text = hint.locator("p, pre").first
        assert not text.is_visible()
        hint.locator("summary").click()
        assert text.is_visible()
