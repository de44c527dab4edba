"""What was measured of a checkpoint, as Markdown: records, tables and sentences."""

import math
import re

from ..checkpoint import Checkpoint
from .experiment import COPY, Sampling
from .inversion import inversion_table
from .report import (
    SOLVERS,
    by_way,
    entry,
    guided_cells,
    label_of,
    solver_lines,
    table,
    words_of,
)

MOST = 12  # classes that a table has room for


def plain(text: str) -> str:
    """A text, such as a class name, that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&$])", r"\\\1", text)


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def span(cell: dict, figure: str, form: str) -> str:
    """A figure with its interval, as Markdown."""
    low, high = cell[f"{figure}_interval"]
    return f"{cell[figure]:{form}} ({low:{form}} … {high:{form}})"


def training_record(checkpoint: Checkpoint) -> str:
    """How the checkpoint was trained, as a Markdown table: what it says of that."""
    meta, ab = checkpoint.meta, checkpoint.schedule.alpha_bar
    weights = sum(w.numel() for w in checkpoint.model.parameters())
    rows = {
        "data": plain(meta.get("data", "not recorded")),
        "weights": f"{weights:,}, width {checkpoint.network.width}",
        "schedule": f"{len(ab) - 1} steps, √alpha_bar[T] = {ab[-1].sqrt():.4f}",
    }
    if {"steps", "images_seen", "settings"} <= set(meta):
        batch = meta["settings"]["batch_size"]
        images = f"{meta['images_seen']:,} in all"
        rows["updates"] = f"{meta['steps']:,} of {batch} images, {images}"
        rows["settings"] = ", ".join(f"{k} {v}" for k, v in meta["settings"].items())
    if "recipe" in meta:
        rows["trained by"] = plain(meta["recipe"])
    if "loss" in meta:
        rows["loss"] = f"{meta['loss']} (mean of the last 1,000 updates)"
    if "held_out" in meta:
        each = (f"{loss} (EMA {ema})" for ema, loss in meta["held_out"].items())
        rows["loss on unseen images"] = ", ".join(each)
    if "seconds" in meta:
        rows["time"] = f"{meta['seconds'] / 60:.0f} minutes"
    if "machine" in meta:
        rows["machine"] = meta["machine"]
    lines = [f"| {key} | {value} |" for key, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def judged(full: dict, guided: dict, names: tuple[str, ...], judge: dict) -> str:
    """What the judge says of a table and of guidance, as Markdown."""
    floor = full["floor"]
    return "\n\n".join(
        [
            f"Of {judge['unseen']:,} unseen images the judge names "
            f"{judge['accuracy']:.2%} rightly. The FCD of {floor['n']:,} unseen "
            f"images, in the same shares of classes, is {span(floor, 'fcd', '.3f')}: "
            "the floor.",
            judged_tables(full),
            guidance_words(guided),
            guidance_table(guided, names),
            copies_words(guided),
            f"Measured by `make card DATASET={full['name']}` on: {full['machine']}.",
        ]
    )


def judged_tables(full: dict) -> str:
    """The tables over the steps and η: distance, class seen and time."""
    return "\n\n".join(
        [
            f"**Fréchet classifier distance** of {full['n']:,} samples, guidance 1:",
            table(full),
            "**The same minus that of η = 0**, with the 95 % interval that independent "
            "samples would have:",
            differences(full),
            "**Class asked for = class seen**:",
            table(full, "label_accuracy", ".1%"),
            f"**Seconds** for the {full['n']:,}:",
            table(full, "seconds", ".1f"),
        ]
    )


def differences(full: dict) -> str:
    """The FCD of each η minus that of η = 0 in as many steps, as a Markdown table.

    Samplers that share their noise differ by less chance than the ± says.
    """
    rows = by_way(full)
    usual = Sampling(steps=1)
    zero = {cell["steps"]: cell for cell in rows.get(usual, [])}
    steps = sorted(zero)
    lines = [f"| η | {' | '.join(f'S = {S}' for S in steps)} |"]
    lines.append("|---|" + "---:|" * len(steps))
    for way, row in rows.items():
        cells = {cell["steps"]: cell for cell in row}
        texts = [gap(cells[S], zero[S]) if S in cells else "–" for S in steps]
        if way != usual:
            lines.append(f"| {label_of(way)} | {' | '.join(texts)} |")
    return "\n".join(lines)


def gap(one: dict, other: dict) -> str:
    """The FCD of one cell minus that of another, ± half its 95 % interval."""
    halves = [cell["fcd_interval"][1] - cell["fcd"] for cell in (one, other)]
    return f"{one['fcd'] - other['fcd']:+.3f} ± {math.hypot(*halves):.3f}"


def guidance_words(guided: dict) -> str:
    """What stands above the table of guidance."""
    near, intervals = guided.get("floor"), "95 % intervals in brackets"
    if near is None:
        return f"**Guidance**, {guided['n']:,} samples each ({intervals}):"
    return (
        f"**Guidance**, {guided['n']:,} samples each ({intervals}; the "
        f"FCD of as many unseen images is {near['fcd']:.3f}, their precision "
        f"{percent(near['precision'])}, recall {percent(near['recall'])}, classifier "
        f"score {near['classifier_score']:.2f}):"
    )


def guidance_table(guided: dict, names: tuple[str, ...]) -> str:
    """All figures of each guidance; of each class too, if these are MOST or fewer."""
    shown = [plain(name) for name in names] if len(names) <= MOST else []
    lines = [
        "| S | guidance | class seen | FCD | kernel distance × 1000 | precision "
        f"| recall | {' | '.join(['classifier score', *shown])} |",
        "|---:|---:|---|---|---:|---:|---:|---:|" + "---:|" * len(shown),
    ]
    for cell in guided["cells"]:
        score = cell["classifier_score"]
        figures = [
            f"{cell['steps']} | {cell['guidance']:g}",
            span(cell, "label_accuracy", ".1%"),
            span(cell, "fcd", ".3f"),
            f"{1000 * cell['kernel_distance'][0]:.1f}",
            percent(cell["precision"]),
            percent(cell["recall"]),
            "–" if score is None else f"{score:.2f}",
            *map(percent, cell["by_class"][: len(shown)]),
        ]
        lines.append(f"| {' | '.join(figures)} |")
    return "\n".join(lines)


def copies_words(guided: dict) -> str:
    """Whether the samples are copies of training images."""
    first, near = guided["cells"][0], guided["floor"]
    return (
        "Distance to the nearest training image (root mean square, values in [-1, 1]): "
        f"median {first['nearest_median']:.3f} for samples at guidance 1, "
        f"{near['nearest_median']:.3f} for unseen images; nearer than {COPY} are "
        f"{percent(first['copies'])} of the samples and {percent(near['copies'])} of "
        "those."
    )


def inverted(result: dict) -> str:
    """How exactly images came back from their latents, as Markdown."""
    return "\n\n".join(
        [
            inverted_tables(result),
            f"Measured by `make card DATASET={result['name']}` on: "
            f"{result['machine']}.",
        ]
    )


def inverted_tables(result: dict) -> str:
    """The errors beside those of the paper, and all that was measured."""
    lines = [
        "| refine | S | mean, 10⁻⁴ | median | worst | latents: mean "
        "| variance | correlation of neighbours |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for cell in result["cells"]:
        lines.append(
            f"| {cell['refine']} | {cell['steps']} | {1e4 * cell['mse']:.2g} ± "
            f"{1e4 * cell['error']:.2g} | {1e4 * cell['median']:.2g} "
            f"| {1e4 * cell['worst']:.3g} | {cell['mean']:.2f} "
            f"| {cell['variance']:.2f} | {cell['correlation']:.2f} |"
        )
    return "\n\n".join(
        [
            f"Mean squared error of {result['n']} images that went up with `invert` "
            "and down with `ddim`, S steps each; values in [0, 1], errors in units of "
            "10⁻⁴:",
            inversion_table(result),
            "\n".join(lines),
        ]
    )


def solved(result: dict) -> str:
    """The solvers at equal evaluations, and guidance in three ways, as Markdown.

    result: what tools/after_ddim.py wrote.
    """
    parts = []
    for guidance in sorted({cell["guidance"] for cell in result["cells"]}):
        lines = solver_lines(result, guidance)
        if len(lines) > 1:
            n = next(iter(lines.values()))[0]["n"]
            words = "FCD ± half of its 95 % interval, class seen, and seconds for all"
            parts.append(f"**Solvers**, guidance {guidance:g}, {n:,} samples: {words}.")
            parts.append(solvers_table(lines))
    parts += [
        "**Guidance in three ways**: plain, in an interval of t/T, and away from the "
        "worse network (95 % intervals in brackets).",
        ways_table(result),
        f"Measured by `python -m tools.after_ddim {result['name']}` on: "
        f"{result['machine']}.",
    ]
    return "\n\n".join(parts)


def solvers_table(lines: dict[tuple, list[dict]]) -> str:
    """A row for each solver, a column for each number of evaluations.

    Heun, whose numbers are odd, stands below the next one, with its own before it.
    """
    columns = sorted({cell["evaluations"] for cell in lines["ddim", "uniform"]})
    rows = [f"| evaluations | {' | '.join(f'{number:g}' for number in columns)} |"]
    rows.append("|---|" + "---:|" * len(columns))
    for (solver, spacing), line in lines.items():
        texts = dict.fromkeys(columns, "–")
        for cell in line:
            column = min(number for number in columns if number >= cell["evaluations"])
            own = f"{cell['evaluations']:g}: " if cell["evaluations"] < column else ""
            texts[column] = (
                f"{own}{entry(cell, 'fcd', '.3f', error=True)}<br>"
                f"{percent(cell['label_accuracy'])}, {cell['seconds']:.0f} s"
            )
        name = SOLVERS[solver] + (f", {spacing}" if spacing != "uniform" else "")
        rows.append(f"| {name} | {' | '.join(texts.values())} |")
    return "\n".join(rows)


def ways_table(result: dict) -> str:
    """All figures of each way to guide, by DDIM-20 where no solver is named."""
    rows = [
        "| way | samples | evaluations | FCD | class seen | precision | recall |",
        "|---|---:|---:|---|---|---:|---:|",
    ]
    for cell in guided_cells(result):
        figures = [
            words_of(cell),
            f"{cell['n']:,}",
            f"{cell['evaluations']:g}",
            span(cell, "fcd", ".3f"),
            span(cell, "label_accuracy", ".1%"),
            percent(cell["precision"]),
            percent(cell["recall"]),
        ]
        rows.append(f"| {' | '.join(figures)} |")
    return "\n".join(rows)


def distilled(result: dict, full: dict, students: list[Checkpoint]) -> str:
    """What the students are, and how they do beside their teacher, as Markdown.

    result: what `compare` wrote; full: the table of the teacher, for DDPM.
    """
    between, n = "95 % intervals in brackets", f"{result['n']:,}"
    folded = f"{students[0].model.guidance:g}"
    return "\n\n".join(
        [
            students_table(students),
            f"**Beside the teacher**, {n} samples of the same noise ({between}). The "
            "distance is the root mean square between an image and the teacher's with "
            f"guidance {folded} in 20 steps, the median of all; in brackets it is a "
            "share of the distance between two of the teacher's images of one class.",
            beside_table(result, full),
            f'Measured by `make card DATASET={result["name"]} ARGS="--parts students"` '
            f"on: {result['machine']}.",
        ]
    )


def students_table(students: list[Checkpoint]) -> str:
    """How the students were made: what their records say."""
    lines = [
        "| steps | times | guidance in it | teacher | its checksum | updates in all "
        "| minutes in all | loss |",
        "|---:|---|---:|---|---|---:|---:|---:|",
    ]
    for one in students:
        meta, taught = one.meta, one.meta["teacher"]
        cells = [
            f"{len(one.times) - 1}",
            ", ".join(map(str, one.times)),
            f"{one.model.guidance:g}",
            plain(taught["file"]),
            taught["checksum"],
            f"{meta['updates']:,} of {meta['settings']['batch_size']} images",
            f"{meta['seconds'] / 60:.0f}",
            f"{meta['loss']:.4f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def beside_table(result: dict, full: dict) -> str:
    """The figures of DDPM with all its steps, of the teacher and of the students."""
    lines = [
        "| | evaluations | FCD | class seen | precision | recall | distance "
        "| seconds | against DDPM |",
        "|---|---:|---|---|---:|---:|---:|---:|---:|",
    ]
    slowest = result["ddpm_seconds"]
    noisy = [cell for cell in full["cells"] if cell["eta"] == 1]
    most = max(noisy, key=lambda cell: cell["steps"])
    rows = [{**most, "evaluations": most["steps"], "seconds": slowest}]
    for cell in rows + result["cells"]:
        who = f"teacher, DDIM, guidance {cell['guidance']:g}"
        if cell is rows[0]:
            who = f"DDPM, guidance {cell['guidance']:g}"
        elif cell["student"]:
            who = "student"
        distance = "–"
        if "share" in cell:
            distance = f"{cell['distance']:.2f} ({cell['share']:.0%})"
        figures = [
            who,
            f"{cell['evaluations']:g}",
            span(cell, "fcd", ".3f"),
            span(cell, "label_accuracy", ".1%"),
            percent(cell["precision"]),
            percent(cell["recall"]),
            distance,
            f"{cell['seconds']:,.1f}",
            f"{slowest / cell['seconds']:.3g} × as fast",
        ]
        lines.append(f"| {' | '.join(figures)} |")
    return "\n".join(lines)


def unjudged_tables(full: dict) -> str:
    """The tables over the steps and η that need no judge."""
    return "\n\n".join(
        [
            f"**Distance to the nearest training image**, median of {full['n']:,} "
            "samples:",
            table(full, "nearest_median"),
            f"**Share of samples nearer than {COPY}**:",
            table(full, "copies", ".1%"),
            f"**Seconds** for the {full['n']:,}:",
            table(full, "seconds", ".1f"),
        ]
    )
