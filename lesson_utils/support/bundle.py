"""One file out of several: a template, and all that it takes from this package."""

import ast
import re
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

GUARD = "checked"  # the decorator that is left out, with the rules that it names


@dataclass(frozen=True)
class Source:
    """A module as text, and where its names come from.

    own: {name: its definition}; ours: {name: the file of this package that has it};
    others: {name: its import from elsewhere}, as (module, what is imported from it),
    the module being "" for a plain `import …`; guards: the lines of its guards.
    """

    path: Path
    tree: ast.Module
    lines: list[str]
    own: dict[str, ast.stmt] = field(default_factory=dict)
    ours: dict[str, Path] = field(default_factory=dict)
    others: dict[str, tuple[str, str]] = field(default_factory=dict)
    guards: set[int] = field(default_factory=set)


def bundled(template: str | Path) -> str:
    """The source of a template with what it imports from this package written out.

    The template imports relatively ("from ..unet import ContextUnet"). In its place
    stand the definition and, before it, whatever that needs in turn, each as it is
    written where it belongs, but without `@checked(...)`.
    """
    main = read(Path(template))
    found: dict[tuple[Path, str], str] = {}
    imports = set(main.others.values())
    for name in main.ours:
        collect(main, name, found, imports)
    imported = ast.Import | ast.ImportFrom
    rest = [node for node in main.tree.body[1:] if not isinstance(node, imported)]
    body = "".join(main.lines[first_line(rest[0]) - 1 :]).strip()
    opening = "".join(main.lines[: main.tree.body[0].end_lineno]).strip()
    parts = [f"{opening}\n\n{import_lines(imports)}", *found.values(), body]
    return "\n\n\n".join(parts) + "\n"


@cache
def read(path: Path) -> Source:
    """A module's text, taken apart."""
    text = path.read_text(encoding="utf-8")
    source = Source(path, ast.parse(text), text.splitlines(keepends=True))
    for node in source.tree.body:
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1]
            file = folder.joinpath(*node.module.split(".")).with_suffix(".py")
            source.ours.update((alias.name, file) for alias in node.names)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", "")
            for alias in node.names:
                written = ast.unparse(alias)  # with its "as"
                source.others[alias.asname or alias.name] = module, written
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            source.own[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            source.own[node.targets[0].id] = node
    for node in ast.walk(source.tree):
        for guard in filter(is_guard, getattr(node, "decorator_list", [])):
            node.decorator_list.remove(guard)
            source.guards.update(range(guard.lineno, guard.end_lineno + 1))
    return source


def is_guard(decorator: ast.expr) -> bool:
    called = isinstance(decorator, ast.Call) and decorator.func
    return isinstance(called, ast.Name) and called.id == GUARD


def collect(source: Source, name: str, found: dict, imports: set) -> None:
    """Add the definition of a name to found, after all that it needs."""
    if name in source.ours:
        source = read(source.ours[name])
    if name in source.others:
        imports.add(source.others[name])
    key = source.path, name
    if name not in source.own or key in found:
        return
    node = source.own[name]
    found[key] = ""  # functions may call each other
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            collect(source, part.id, found, imports)
    lines = range(first_line(node), node.end_lineno + 1)
    kept = [source.lines[n - 1] for n in lines if n not in source.guards]
    del found[key]
    found[key] = "".join(kept).rstrip()


def first_line(node: ast.stmt) -> int:
    """Where a definition begins, its decorators included."""
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(d.lineno for d in decorators)])


def import_lines(imports: set[tuple[str, str]]) -> str:
    """The statements that import these, those of Python's own library first."""
    names: dict[str, list[str]] = {}
    for module, written in sorted(imports):
        line = f"from {module} import " if module else f"import {written}"
        names.setdefault(line, []).extend([written] * bool(module))
    own, others = [], []
    for line, listed in names.items():
        package = re.split("[ .]", line)[1]
        group = own if package in sys.stdlib_module_names else others
        group.append(line + ", ".join(listed))
    return "\n\n".join("\n".join(group) for group in (own, others) if group)
