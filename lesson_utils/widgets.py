"""The playground: a panel for all that a sampler is asked, with pictures and a film."""

import asyncio
import base64
import html
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ipywidgets
import torch
from torch import Tensor

from .arguments import whole
from .checkpoint import load
from .context import describe, parse
from .noise import image_generators, initial_noise
from .sampling import Steps, ddim, ddpm, guide
from .viz import gif, markup

LEFT, HALF, RIGHT = "340px", "168px", "468px"  # widths; two halves stand side by side
SHEET = 448  # pixels, the width of a sheet of pictures
MOST_SLIDERS = 12  # for more classes there is the prompt alone
SEEDS = 1_000_000
PATIENCE = 0.1  # seconds between two moves of the progress bar
GIF_FRAMES = 60  # about so many of a longer film are saved
# ipywidgets ties a slider's label to nothing: here its handle and number get its name.
NAMES = (
    '<img alt="" src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACADs=" '
    "onload=\"for (const box of this.closest('.widget-vbox').querySelectorAll("
    "'.widget-slider')) for (const part of box.querySelectorAll("
    "'[role=slider], .widget-readout')) "
    "part.ariaLabel = box.querySelector('label').textContent\">"
)


class Playground(ipywidgets.VBox):
    """Controls at the left, n samples of a checkpoint and their film at the right.

    name: as load takes it. Every control is an attribute: prompt, preset, context (one
    slider a class, where they are at most 12), guidance, sampler, steps, eta, count,
    seed, dice, hold, stop, moment (the film's step), save. Letting one go redraws: in a
    notebook step by step, so that the kernel hears `stop` and a newer wish, which takes
    the older one's place; at once where no event loop runs, and in `draw()`. What goes
    wrong stands in the panel. `pictures` holds the last samples (B,C,H,W). Raises
    ValueError for a name or an n that makes no sense.
    """

    def __init__(self, name: str | Path = "sprites", n: int = 8):
        self.checkpoint, n = load(name), whole("n", n, 1, 256)
        self.file, self.names = Path(name).stem, self.checkpoint.context
        self.c = torch.eye(max(len(self.names), 1), len(self.names))[0]
        self.deaf, self.halted, self.latest, self.task = False, False, None, None
        self.pictures, self.film = None, []
        wish, ways, results = self.wishes(), self.ways(n), self.results()
        for control in (self.prompt, self.preset, *self.context):
            control.observe(self.ask, "value")
        for control in ways:
            control.observe(self.redraw, "value")
        self.moment.observe(self.scrub, "value")
        seeds = ipywidgets.HBox([ways.pop(), self.dice])
        left = ipywidgets.VBox([*wish, *ways, seeds, self.hold])
        right = ipywidgets.VBox(results, layout={"width": RIGHT, "margin": "0 0 0 4px"})
        both = ipywidgets.HBox([left, right], layout={"flex_flow": "row wrap"})
        super().__init__([both, ipywidgets.HTML(NAMES)])
        self.draw()

    def wishes(self) -> list[ipywidgets.Widget]:
        """The controls of the context; none to show where there are no classes."""
        names, few = self.names, self.names if len(self.names) <= MOST_SLIDERS else ()
        self.text = start = "".join(names[:1])
        mix = [f"0.5 {start} + 0.5 {names[len(names) // 2]}"] if len(names) > 1 else []
        offers = [("your own", None), *((text, text) for text in [*names, *mix])]
        offers.append(("no context", ""))
        self.prompt = made(ipywidgets.Text, "prompt", start, placeholder="no context")
        beneath = {"width": "260px", "margin": "0 0 0 82px"}
        self.complaint = ipywidgets.HTML(layout=beneath)
        self.preset = made(ipywidgets.Dropdown, "preset", start, options=offers)
        self.context = [slider(k, float(k == start), 1.0, 0.05) for k in few]
        if len(few) > 6:  # two columns
            room = f"{min(0.6 * max(map(len, few)) + 0.6, 4):g}em"
            for s in self.context:
                s.layout.width, s.style.description_width = HALF, room
        grid = {"flex_flow": "row wrap", "width": "344px"}
        sliders = ipywidgets.Box(self.context, layout=grid)
        return [self.prompt, self.complaint, self.preset, sliders] if names else []

    def ways(self, n: int) -> list[ipywidgets.Widget]:
        """The controls of the sampler and the noise; the last is the seed."""
        T = self.checkpoint.schedule.T
        self.guidance = slider("guidance", 1.0, 6.0, 0.25)
        both = ["DDIM", "DDPM"]
        self.sampler = made(ipywidgets.Dropdown, "sampler", both[0], options=both)
        self.steps = slider("steps", 20, max(T // 5, 2), 1, least=1)
        self.eta = slider("η (eta)", 0.0, 1.0, 0.05)
        self.count = slider("pictures", n, max(16, n), 1, least=1)
        seeds = {"min": 0, "max": SEEDS - 1, "width": "232px"}
        self.seed = made(ipywidgets.BoundedIntText, "seed", 0, **seeds)
        self.dice = button("New seed", "random", "draw from other noise", self.roll)
        self.hold = made(ipywidgets.Checkbox, "hold the noise", True)
        ways = [self.guidance, self.sampler, self.steps, self.eta]
        return [*ways, self.count, self.seed]

    def results(self) -> list[ipywidgets.Widget]:
        """What a drawing fills: progress, film, words and pictures."""
        self.progress = made(ipywidgets.IntProgress, "progress", 0, width="352px")
        self.stop = button("Stop", "stop", "show how far it came", self.halt)
        self.moment = slider("film", 1, 1, 1, width="352px")
        self.moment.continuous_update = True
        self.save = button("Save GIF", "download", "keep the film", self.save_gif)
        self.stop.disabled = self.save.disabled = True
        self.status, self.image = ipywidgets.HTML(), ipywidgets.HTML()
        rows = [self.progress, self.stop], [self.moment, self.save]
        return [*map(ipywidgets.HBox, rows), self.status, self.image]

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """Controls that are set inside redraw nothing."""
        self.deaf = True
        try:
            yield
        finally:
            self.deaf = False

    def ask(self, change) -> None:
        """A prompt, a preset or a class has changed: the other two follow, and draw."""
        if self.deaf or change.new is None:
            return
        slid = change.owner in self.context
        try:
            if slid:
                c = torch.tensor([s.value for s in self.context])
                text = describe(c, self.names)
            else:
                c, text = parse(change.new, self.names), change.new
        except ValueError as problem:
            self.complaint.value = spoken(problem)
            return
        self.c, self.text, self.complaint.value = c, text, ""
        with self.quietly():
            self.prompt.value = text
            offered = any(text == offer for _, offer in self.preset.options)
            self.preset.value = text if offered else None
            if self.context and not slid:
                for s, weight in zip(self.context, c.tolist(), strict=True):
                    s.value = round(weight, 6)
        self.redraw(change)

    def redraw(self, change=None) -> None:
        """Draw what the controls say, step by step if an event loop runs."""
        if self.deaf:
            return
        if not self.hold.value and (change is None or change.owner is not self.seed):
            with self.quietly():
                self.roll()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.draw()
        else:
            self.task = loop.create_task(self.draw_in_turns())

    def draw(self) -> None:
        """Draw what the controls say, to the end, before anything else happens."""
        for _ in self.drawing():
            pass

    async def draw_in_turns(self) -> None:
        """The same, letting the event loop have its turn before each step."""
        for _ in self.drawing():
            await asyncio.sleep(0)

    def drawing(self) -> Iterator[None]:
        """Sample, pausing before each step; show it unless a newer one has begun."""
        mine, self.halted = object(), False
        self.latest = mine
        try:
            steps, total, x = self.sampling()
            words = f"{len(x)} samples of {self.text or 'anything'}"
            way = f"{self.sampler.value.lower()}-{total}-seed{self.seed.value}"
            twice = round(self.guidance.value, 6) not in (0, 1)  # two calls a step
            self.progress.value, self.progress.max = 0, total
            film, t, self.stop.disabled = [], self.checkpoint.schedule.T, False
            now = began = moved = time.perf_counter()
            while len(film) < total:
                yield
                if self.latest is not mine:
                    return
                if self.halted:
                    break
                step = next(steps)
                film.append((t, x.half(), step.x0.half()))  # x_t, and the guess from it
                t, x, now = step.t, step.x, time.perf_counter()
                if now > moved + PATIENCE:
                    self.progress.value, moved = len(film), now
            self.progress.value, calls = len(film), (1 + twice) * len(film)
            said = f"{calls} evaluations of the network, {now - began:.2f} s"
            self.status.value = spoken(f"stopped at t = {t}: {said}" if t else said)
            if film:
                self.pictures, self.film = step.x0 if t else x, film
                self.words, self.drawn = words, f"{self.file}-{way}.gif"
                self.end = f"the guess of x_0, stopped at t = {t}" if t else ""
                with self.quietly():
                    self.moment.max = self.moment.value = len(film)
                self.scrub()
                self.save.disabled = False
        except Exception as problem:  # whatever it is, it must be seen
            self.status.value, self.progress.value = spoken(problem), 0
        finally:
            if self.latest is mine:
                self.stop.disabled = True

    def sampling(self) -> tuple[Steps, int, Tensor]:
        """The sampler as the controls say, the number of its steps, and its noise."""
        ck, n, seed = self.checkpoint, self.count.value, self.seed.value
        x, fresh = initial_noise(n, ck.image_shape, seed), image_generators(n, seed)
        eps_fn = guide(ck.model, self.c.repeat(n, 1), round(self.guidance.value, 6))
        start = eps_fn, x, ck.schedule
        self.steps.disabled = self.eta.disabled = self.sampler.value == "DDPM"
        if self.steps.disabled:
            return ddpm(*start, generator=fresh), ck.schedule.T, x
        total, eta = self.steps.value, self.eta.value
        return ddim(*start, total, eta, generator=fresh), total, x

    def scrub(self, change=None) -> None:
        """Show the film's step that `moment` says: x_t and its guess, or the result."""
        if self.deaf or not self.film:
            return
        shown, titles, alts = [self.pictures], [self.end], [self.words]
        if (i := self.moment.value) < len(self.film):
            t, *shown = self.film[i]
            titles = [f"x_t at t = {t}", "the guess of x_0 from it"]
            alts = [f"{self.words}: {title}" for title in titles]
        n, width = len(self.pictures), self.pictures.shape[-1]
        columns = 4 if n <= 16 else 8 if n <= 64 else 16
        scale = SHEET // (columns * width) // (2 if len(shown) > 1 and n > 8 else 1)
        try:
            pictures, _ = markup(shown, titles, alts, min(n, columns), max(scale, 1))
            self.image.value = f'<div style="line-height:1.4">{pictures}</div>'
        except ValueError as problem:
            self.status.value = spoken(problem)

    def save_gif(self, button=None) -> None:
        """Write the film as a GIF into the working directory, and give a link to it."""
        try:
            frames = [x for _, x, _ in self.film[:: -(-len(self.film) // GIF_FRAMES)]]
            columns = 4 if len(self.pictures) <= 16 else None
            data = gif([*frames, self.pictures], self.drawn, columns)
            source = f"data:image/gif;base64,{base64.b64encode(data).decode()}"
            name = html.escape(self.drawn)
            link = f'<a download="{name}" href="{source}"><u>{name}</u></a>'
            self.status.value = spoken("saved ", link)
        except Exception as problem:  # a full disk, for instance
            self.status.value = spoken(problem)

    def roll(self, button=None) -> None:
        """Another seed; the notebook's own random numbers stay as they are."""
        self.seed.value = (self.seed.value + 1 + secrets.randbelow(SEEDS - 1)) % SEEDS

    def halt(self, button=None) -> None:
        """The drawing ends before its next step."""
        self.halted = True


playground = Playground  # as lessons call it


def made(kind: type, label: str, value, width: str = LEFT, **more) -> ipywidgets.Widget:
    """A control with its label, which reports when it is let go."""
    if "continuous_update" in kind.class_trait_names():
        more["continuous_update"] = False
    look = {"style": {"description_width": "5.5em"}, "layout": {"width": width}}
    return kind(value=value, description=label, **look, **more)


def slider(label: str, value, most, step, least=0, width: str = LEFT):
    """For whole numbers if its step is one."""
    kind = ipywidgets.IntSlider if isinstance(step, int) else ipywidgets.FloatSlider
    return made(kind, label, value, width, min=least, max=most, step=step)


def button(label: str, icon: str, tooltip: str, press: Callable) -> ipywidgets.Button:
    """A button of the panel."""
    look = {"icon": icon, "tooltip": tooltip, "layout": {"width": "104px"}}
    pressed = ipywidgets.Button(description=label, **look)
    pressed.on_click(press)
    return pressed


def spoken(words: str | Exception, link: str = "") -> str:
    """Words, or what went wrong, as HTML that a screen reader reads when it comes."""
    role, look = "status", "line-height:1.4"
    if isinstance(words, Exception):
        role, look = "alert", f"{look};color:var(--jp-error-color1, #b00020)"
        words = str(words) or type(words).__name__
    return f'<div role="{role}" style="{look}">{html.escape(words)}{link}</div>'
