"""Export the lessons as a static site, to be read without a kernel or a network.

    python -m tools.site [--out site]

README.md is the start page; lessons, the pages beside them and model cards stand where
the checkout has them.
The committed notebooks are shown as they are: nothing is executed, nothing is loaded
from elsewhere, and no page needs a script.
"""

import argparse
import html
import posixpath
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from lesson_utils.support.files import located
from lesson_utils.support.flags import printable
from tools.lessons import ROOT, lesson_paths, problems
from tools.mathml import mathml

START = "README.md"
NAME = "Diffusion in Twenty Steps"
WRITTEN = ".written"  # in the site: the names of its files, which a newer site replaces
SLIDERS = re.compile(r"\b(?:playground|interact|interactive|interactive_output)\(")
NOTE = (
    '<p class="note">This cell shows sliders, which need a running kernel '
    "(<code>make lab</code>). The image below shows what they do.</p>\n"
)
FRAME = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="{style}">
</head>
<body>
<main>
{body}</main>
{nav}</body>
</html>
"""


class Page(IPythonRenderer):
    """HTML for the Markdown of one file of the project, `source`.

    places: source file -> its page. `title` becomes the first heading, `images` the
    files that it shows.
    """

    def __init__(self, source: str, places: dict[str, str], root: Path):
        super().__init__(escape=False)
        self.source, self.places, self.root = source, places, root
        self.title, self.slugs, self.images = "", Counter(), set()

    def heading(self, text: str, level: int, **_) -> str:
        words = html.unescape(re.sub(r"<[^>]*>", "", text)).strip()
        self.title = self.title or words
        # As GitHub makes them, so that a link serves here and there.
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        count = self.slugs[slug]
        self.slugs[slug] += 1
        slug = html.escape(f"{slug}-{count}" if count else slug)
        return f'<h{level} id="{slug}">{text}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        path, mark, anchor = url.partition("#")
        if path and not re.match(r"[a-z]+:", url):
            page = self.places.get(self.beside(path))
            if page is None:  # a file of the project that is no page
                return text
            url = relative(page, self.places[self.source]) + mark + anchor
        return super().link(text, url, title)

    def image(self, text: str, url: str, title: str | None = None) -> str:
        path = self.beside(url)
        if not (self.root / path).is_file():
            raise ValueError(f"the image {url} is no file of the project")
        self.images.add(path)
        return super().image(text, url, title)

    def inline_html(self, html: str) -> str:
        for url in re.findall(r'<img\b[^>]*\ssrc="([^"]*)"', html):
            self.image("", url)  # it must be there, and goes along
        return super().inline_html(html)

    def beside(self, path: str) -> str:
        """A path as this file has it -> as seen from the project's root."""
        return posixpath.normpath(posixpath.join(posixpath.dirname(self.source), path))

    def table(self, text: str) -> str:
        return f'<div class="wide"><table>\n{text}</table></div>\n'

    def inline_math(self, body: str) -> str:
        if body != body.strip() or "`" in body:
            raise ValueError(rf"${body}$ is no formula: a dollar in text is written \$")
        return mathml(body)

    def block_math(self, body: str) -> str:
        return f'<span class="wide">{mathml(body, display=True)}</span>'

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")


def relative(page: str, other: str) -> str:
    """The address of a page or file of the site, as another page writes it."""
    return posixpath.relpath(page, posixpath.dirname(other))


def cells(nb: NotebookNode, markdown: Callable[[str], str]) -> Iterator[str]:
    """The cells of a notebook, with their outputs, as HTML."""
    lexer, formatter = get_lexer_by_name("ipython3"), HtmlFormatter()
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            yield markdown(cell.source)
        elif cell.cell_type == "code" and cell.source.strip():
            yield highlight(cell.source, lexer, formatter)
            for output in cell.outputs:
                yield f'<div class="output">{shown(output, markdown)}</div>\n'
            if SLIDERS.search(cell.source):
                yield NOTE


def shown(output: NotebookNode, markdown: Callable[[str], str]) -> str:
    """One output as HTML. Raises ValueError for an image that is no HTML."""
    data = output.get("data", {})
    if "text/html" in data:
        return data["text/html"]
    if "text/markdown" in data:
        return markdown(data["text/markdown"])
    if any(kind.startswith("image/") for kind in data):
        raise ValueError(
            f"an output is {', '.join(data)}: show it by lesson_utils.show"
        )
    return f"<pre>{html.escape(output.get('text') or data['text/plain'])}</pre>"


def render(page: Page) -> str:
    """The contents of a page. Raises ValueError naming the file and what is wrong."""
    path, markdown = page.root / page.source, MarkdownWithMath(page).render
    try:
        if path.suffix == ".md":
            return markdown(path.read_text(encoding="utf-8"))
        nb = nbformat.read(path, as_version=4)
        if found := problems(nb):
            raise ValueError(found[0])
        return "".join(cells(nb, markdown))
    except ValueError as error:
        raise ValueError(f"{page.source}: {error}") from error


def navigation(page: Page, pages: dict[str, Page]) -> str:
    """Links to the lessons before and after a page, to the start, and to what helps."""
    here = page.places[page.source]

    def link(words: str, place: str) -> str:
        return f'<a href="{relative(place, here)}">{html.escape(words)}</a>\n'

    def named(words: str, other: Page) -> str:
        return link(words.format(other.title.split(":")[0]), other.places[other.source])

    folder = [each for name, each in pages.items() if name.startswith("lessons/")]
    lessons = [each for each in folder if each.source.endswith(".ipynb")]
    links = [link("All lessons", f"{page.places[START]}#the-lessons")]
    links += [named("{}", each) for each in folder if each not in [*lessons, page]]
    if page in lessons:
        at = lessons.index(page)
        links[:0] = [named("← {}", other) for other in lessons[:at][-1:]]
        links += [named("{} →", other) for other in lessons[at + 1 :][:1]]
    return f"<nav>\n{''.join(links)}</nav>\n"


def style() -> str:
    """The one style sheet, colours of code included, for light and dark screens."""
    own = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    light, dark = (
        HtmlFormatter(style=name).get_style_defs(".highlight")
        for name in ("default", "github-dark")
    )
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n{own}"


def framed(page: Page, body: str, pages: dict[str, Page]) -> str:
    """A whole page of the site as HTML."""
    place = page.places[page.source]
    title = NAME if page.source == START else f"{page.title} – {NAME}"
    return FRAME.format(
        title=html.escape(title),
        style=relative("style.css", place),
        body=body,
        nav=navigation(page, pages),
    )


def build(out: Path, root: Path = ROOT) -> Path:
    """Write the site of the project at root into the folder out; gives its start page.

    A site that this has written at out is replaced, once the new one is complete in
    memory; no other file is touched. Raises ValueError if out holds anything else, or
    if a formula, image or output cannot be shown.
    """
    older = written(out)
    lessons = [f"lessons/{path.name}" for path in lesson_paths(root / "lessons")]
    sheets = [
        f"lessons/{path.name}" for path in sorted((root / "lessons").glob("*.md"))
    ]
    places = {n: posixpath.splitext(n)[0] + ".html" for n in [*lessons, *sheets]}
    for name in (START, f"checkpoints/{START}"):
        places[name] = posixpath.join(posixpath.dirname(name), "index.html")
    pages = {name: Page(name, places, root) for name in places}
    files = {"style.css": style().encode()}
    bodies = {name: render(page) for name, page in pages.items()}  # and their titles
    for name, page in pages.items():
        files[places[name]] = framed(page, bodies[name], pages).encode()
    for image in set.union(*(page.images for page in pages.values())):
        files[image] = (root / image).read_bytes()
    for path in sorted({out / name for name in files} - set(older)):
        if path.exists():
            raise ValueError(f"out: {path} is not of an older site; move it away")
    remove(out, older)
    files[WRITTEN] = "".join(f"{name}\n" for name in sorted(files)).encode()
    for name, data in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)
    return out / places[START]


def written(out: Path) -> list[Path]:
    """The files of the site at out; ValueError if it holds something else."""
    if (out / WRITTEN).is_file():
        names = (out / WRITTEN).read_text(encoding="utf-8").splitlines()
        found = [out / name for name in names if (out / name).is_file()]
        return [path for path in found if path.resolve().is_relative_to(out.resolve())]
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out: a new folder or a site of ours is needed, got {out}")
    return []


def remove(out: Path, paths: list[Path]) -> None:
    """Remove these files of a folder, and the folders in it that they leave empty."""
    for path in paths:
        path.unlink()
    for folder in sorted({path.parent for path in paths} - {out}, reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def main(arguments: list[str] | None = None) -> int:
    printable()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", default=ROOT / "site")
    try:
        start = build(located(parser.parse_args(arguments).out, "--out"))
    except ValueError as error:
        print(f"make html: {error}", file=sys.stderr)
        return 2
    print(f"The site is in {start.parent}: open {start.resolve().as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
