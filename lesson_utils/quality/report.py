"""Results shown: the paper's table, a chart, and what was committed."""

import json
from dataclasses import replace
from pathlib import Path
from statistics import mode

from ..support.checked import Call, checked, instance, real, refuse
from ..support.files import CHECKPOINTS, label
from ..support.rules import FINITE, numbers
from ..support.words import reason
from ..viz import COLOURS, LINES, png
from .experiment import Sampling, cell_of, read_result

NO_JUDGE = (
    "The images have no classes, so no judge can be trained. Left out: the Fréchet "
    "distance, the class seen, precision, recall and guidance."
)
ABOVE = {"xycoords": ("data", "axes fraction"), "ha": "center"}  # of a chart
SOLVERS = {"ddim": "DDIM", "heun": "Heun", "dpmpp_2m": "2M", "unipc": "UniPC"}


def a_result(name: str, value: object, call: Call) -> dict:
    """The rule for a result of evaluate whose cells all have what is to be shown."""
    figures = [call["figure"]] if "figure" in call else ["fcd", "seconds", "n"]
    try:
        for cell in value["cells"]:
            cell_of(cell)
            for key in ("steps", "guidance", *figures):
                real(FINITE)(key, cell[key])
            if call.get("error", True):  # a chart has always bars
                interval = f"{call.get('figure', 'fcd')}_interval"
                numbers(interval, cell[interval])
    except (KeyError, TypeError, ValueError):
        refuse(name, f"a result of evaluate with {', '.join(figures)}", value)
    return value


def committed(name: str, what: str) -> dict | None:
    """The committed result of a checkpoint of this name, or None if there is none.

    what: "table", "guidance", "inversion" or "students", each as `card` measured it, or
    "after_ddim", as tools/after_ddim.py did.
    """
    return result_in(CHECKPOINTS / f"{label(name)}_{what}.json", what)


def result_in(path: Path, what: str) -> dict | None:
    """What `card` measured into a file, None if there is none; ValueError as its own.

    what: "table", "guidance", "inversion", "students" or "nearest".
    """
    if not path.exists():
        return None
    if what in ("table", "guidance"):
        return read_result(path)
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as problem:
        raise ValueError(f"{path}: no result of card ({reason(problem)})") from None


def by_way(result: dict, guidance: float = 1.0) -> dict[Sampling, list[dict]]:
    """The cells of a guidance: for each way to sample, those of rising steps.

    A way is a Sampling of one step. Those of DDIM come first, the η rising and σ̂ last.
    ValueError if there is none.
    """
    if not result["cells"]:
        refuse("result", "a result with a cell or more", result)
    cells = [cell for cell in result["cells"] if cell["guidance"] == guidance]
    if not cells:
        known = sorted({cell["guidance"] for cell in result["cells"]})
        refuse("guidance", f"one of {known}, which the result has,", guidance)
    ways: dict[Sampling, list[dict]] = {}
    for cell in sorted(cells, key=lambda cell: cell["steps"]):
        ways.setdefault(replace(cell_of(cell), steps=1), []).append(cell)

    def place(way: Sampling) -> tuple:
        sampler = (way.sampler != "ddim", way.sampler)
        spacing = (way.spacing != "uniform", way.spacing)
        return *sampler, *spacing, way.eta == "sigma-hat", way.eta

    return {way: ways[way] for way in sorted(ways, key=place)}


@checked(figure=instance(str, "the name of a figure"), result=a_result)
def table(
    result: dict, figure="fcd", form=".3f", guidance=1.0, error: bool = False
) -> str:
    """A figure of every cell in the layout of the paper's table 1, as Markdown.

    result: what evaluate gives or wrote; ValueError if its cells lack the figure.
    error: whether half of its 95 % interval stands behind it, after ±.
    """
    rows = by_way(result, guidance)
    steps = sorted({cell["steps"] for row in rows.values() for cell in row})
    head = "η" if all(way.sampler == "ddim" for way in rows) else "η, or sampler"
    lines = [f"| {head} | {' | '.join(f'S = {S}' for S in steps)} |"]
    lines.append("|---|" + "---:|" * len(steps))
    for way, row in rows.items():
        texts = {cell["steps"]: entry(cell, figure, form, error) for cell in row}
        texts = [texts.get(S, "–") for S in steps]
        lines.append(f"| {label_of(way)} | {' | '.join(texts)} |")
    return "\n".join(lines)


def entry(cell: dict, figure: str, form: str, error: bool) -> str:
    """What a table shows of a cell."""
    if not error:
        return format(cell[figure], form)
    low, high = cell[f"{figure}_interval"]
    return f"{cell[figure]:{form}} ± {(high - low) / 2:{form}}"


@checked(result=a_result)
def chart(result: dict, guidance: float = 1.0) -> bytes:
    """FCD over the time of an image, a line for each η or solver, as a PNG's bytes.

    The dots that none of as many evaluations or fewer beats are ringed: the frontier.
    result: what evaluate gives or wrote; ValueError if its cells have no FCD.
    """
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(7.5, 4.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log", xlabel="milliseconds for an image")
    axes.set_ylabel("Fréchet classifier distance (FCD)")
    dots = []  # (evaluations, FCD, milliseconds, steps)
    for i, (way, row) in enumerate(by_way(result, guidance).items()):
        dots += draw_row(axes, i, way, row)
    for S, ms in {S: ms for _, _, ms, S in reversed(dots)}.items():  # of the first way
        axes.annotate(f"S = {S}", (ms, 1.02), **ABOVE)
    best = [p for p in dots if not any(q[0] <= p[0] and q[1] < p[1] for q in dots)]
    _, y, x, _ = zip(*best, strict=True)
    axes.plot(x, y, "ko", ms=11, mfc="none", mew=0.8, label="the frontier")
    x = [ms for _, _, ms, _ in dots]
    axes.set_xlim(min(x) / 1.3, max(x) * 1.3)  # a single dot has none of its own
    if "floor" in result:
        words = f"{result['floor']['n']:,} real\nimages:\nthe floor"
        axes.axhline(result["floor"]["fcd"], color="0.5", lw=1, label=words)
    plain_numbers(axes)
    figure.legend(frameon=False, loc="outside right center")
    return png(figure)


def of_solvers(name: str, value: object, call: Call) -> dict:
    """The rule for a result of tools/after_ddim.py, whose lines are to be shown."""
    needed = "a result of tools/after_ddim.py with several numbers of evaluations"
    try:
        lines = solver_lines(value, call["guidance"])
        for cell in (cell for line in lines.values() for cell in line):
            for key in ("fcd", "evaluations", "n"):
                real(FINITE)(key, cell[key])
            numbers("fcd_interval", cell["fcd_interval"])
    except (KeyError, TypeError, ValueError, AttributeError):
        refuse(name, needed, value)
    if not lines:
        refuse(name, f"{needed} at guidance {call['guidance']:g}", value)
    return value


def solver_lines(result: dict, guidance: float) -> dict[tuple, list[dict]]:
    """The cells of plain guidance by (solver, spacing), the evaluations rising.

    Only those of the number of samples that most of them have, as an FCD depends on it,
    and ways of three cells or more, for a line.
    """
    cells = [
        cell
        for cell in result["cells"]
        if cell["guidance"] == guidance and not (cell["interval"] or cell["worse"])
    ]
    n = mode(cell["n"] for cell in cells) if cells else 0
    lines: dict[tuple, list[dict]] = {}
    for cell in sorted(cells, key=lambda cell: cell["evaluations"]):
        if cell["n"] == n:
            lines.setdefault((cell["solver"], cell["spacing"]), []).append(cell)
    several = {way: line for way, line in lines.items() if len(line) > 2}
    return {way: several[way] for way in sorted(several, key=rank)}


def guided_cells(result: dict) -> list[dict]:
    """The cells of guidance in three ways, and for plain guidance those of DDIM-20.

    result: what tools/after_ddim.py wrote. Only those of 2,000 samples or more.
    """

    def shown(cell: dict) -> bool:
        usual = (cell["solver"], cell["spacing"], cell["steps"])
        plain = usual == ("ddim", "uniform", 20)
        return cell["n"] >= 2000 and bool(cell["interval"] or cell["worse"] or plain)

    def place(cell: dict) -> tuple:
        kind = (cell["worse"], bool(cell["interval"]))
        return *kind, cell["solver"], cell["guidance"], cell["n"]

    return sorted(filter(shown, result["cells"]), key=place)


def words_of(cell: dict) -> str:
    """A cell of guided_cells in words."""
    words = f"g = {cell['guidance']:g}"
    words += f" within {tuple(cell['interval'])}" if cell["interval"] else ""
    words += ", worse network" if cell["worse"] else ""
    solver = f", {SOLVERS[cell['solver']]}-{cell['steps']}"
    return words + (solver if solver != ", DDIM-20" else "")


def rank(way: tuple[str, str]) -> tuple:
    """Where a solver in a spacing stands in a legend."""
    solver, spacing = way
    return list(SOLVERS).index(solver), spacing != "uniform", spacing


@checked(guidance=real("[0, inf)"), result=of_solvers)
def solvers_chart(result: dict, *others: dict | None, guidance: float = 1.0) -> bytes:
    """FCD over network evaluations, a line for each solver, as the bytes of a PNG.

    result: what tools/after_ddim.py wrote. others: results of evaluate, or None. Those
    of as many samples give the grey lines: DDPM (η = 1 with the most steps, drawn for
    guidance 1) and the floor. ValueError for what is no such result.
    """
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(7.5, 4.4), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log", xlabel="network evaluations for an image")
    axes.set_ylabel("Fréchet classifier distance (FCD)")
    lines = solver_lines(result, guidance)
    for i, ((solver, spacing), line) in enumerate(lines.items()):
        x = [cell["evaluations"] for cell in line]
        look = {"color": COLOURS[i % len(COLOURS)], "ls": LINES[i % len(LINES)]}
        words = SOLVERS[solver] + (f", {spacing}" if spacing != "uniform" else "")
        axes.errorbar(x, *bars(line), label=words, marker="o", ms=4, **look)
    [n] = {cell["n"] for line in lines.values() for cell in line}
    for i, (words, fcd) in enumerate(levels(lines, n, others, guidance).items()):
        axes.axhline(fcd, color="0.35", lw=1, ls=LINES[i], label=words)
    plain_numbers(axes)
    figure.legend(frameon=False, loc="outside right center")
    return png(figure)


def levels(lines: dict, n: int, others: tuple, guidance: float) -> dict[str, float]:
    """What the horizontal lines of solvers_chart show: {words: FCD of n samples}."""
    found = {}
    uniform = lines.get(("ddim", "uniform"), [])
    if uniform and uniform[-1]["evaluations"] >= 100:
        found[f"DDIM, {uniform[-1]['steps']} steps"] = uniform[-1]["fcd"]
    for other in others:
        if other is None:
            continue
        noisy = [c for c in other["cells"] if c["eta"] == 1 and c["n"] == n]
        noisy = [cell for cell in noisy if cell["guidance"] == guidance]
        if noisy:
            most = max(noisy, key=lambda cell: cell["steps"])
            found[f"DDPM, {most['steps']} steps"] = most["fcd"]
        if other.get("floor", {}).get("n") == n:
            found["real images: the floor"] = other["floor"]["fcd"]
    return found


def draw_row(axes, i: int, way: Sampling, row: list[dict]) -> list[tuple]:
    """The line of one way in a chart, the i-th; gives its dots."""
    x = [1000 * cell["seconds"] / cell["n"] for cell in row]
    y, ends = bars(row)
    look = {"color": COLOURS[i % len(COLOURS)], "ls": LINES[i % len(LINES)]}
    words = f"η = {label_of(way)}" if way.sampler == "ddim" else label_of(way)
    axes.errorbar(x, y, ends, label=words, marker="o", ms=4, **look)
    evaluations = [cell_of(cell).evaluations for cell in row]
    steps = [cell["steps"] for cell in row]
    return list(zip(evaluations, y, x, steps, strict=True))


def bars(row: list[dict]) -> tuple[list[float], list[list[float]]]:
    """The FCD of each cell of a row, above 0, and how far its bar goes down and up."""
    y = [max(cell["fcd"], 1e-9) for cell in row]  # rounding may make it negative
    high = [cell["fcd_interval"][1] - fcd for cell, fcd in zip(row, y, strict=True)]
    low = [min(h, 0.9 * fcd) for h, fcd in zip(high, y, strict=True)]
    return y, [low, high]


def plain_numbers(axes) -> None:
    """Logarithmic axes with 1, 2, 5, 10, … written out, and a grid."""
    from matplotlib.ticker import LogLocator, NullFormatter

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25, which="both")


def label_of(way: Sampling) -> str:
    """A way to sample as tables and charts name it: DDIM by its η."""
    name = way.sampler
    if name == "ddim":
        name = "σ̂" if way.eta == "sigma-hat" else f"{way.eta:g}"
    return name if way.spacing == "uniform" else f"{name}, {way.spacing}"
