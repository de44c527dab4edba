"""The playground: a panel for all that a sampler is asked, with images and a film."""

import asyncio
import hashlib
import html
import re
import secrets
import signal
import time
import unicodedata
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import ipywidgets
import torch
import traitlets
from torch import Tensor

from .checkpoint import Checkpoint, load
from .context import describe, parse
from .gif import gif
from .noise import image_generators, initial_noise
from .samples import SAMPLERS, SampleSettings, refuse_for_student
from .sampling import Step, ddim, ddpm, guide
from .solvers import dpmpp_2m, heun
from .support.checked import checked, whole
from .support.device import best_device
from .support.files import located, write_bytes
from .support.rules import seed_rule
from .support.words import counted
from .viz import data_url, markup

LEFT, MOST_LEFT, HALF = "250px", "340px", "calc(50% - 4px)"  # widths of the controls
SHEET = 384  # pixels, the width of a sheet of images
MOST_SLIDERS = 12  # for more classes there is the prompt alone
SEEDS = 1_000_000  # of which the button takes one
PATIENCE = 0.1  # seconds between two moves of the progress bar
LIVE = 0.3  # seconds between two guesses that are shown while a sampler runs
MOST_FRAMES = 64  # of a film; a longer one keeps every second, fourth, eighth step
WAIT = 0.5  # seconds, from one look whether a cell still runs to the next
SLUG = 40  # characters of a prompt in the name of a file
PANELS = weakref.WeakSet()  # all of this kernel
NAMES = {"DDIM": "ddim", "DDPM": "ddpm", "Heun": "heun", "DPM++ 2M": "dpmpp_2m"}
RESTARTED = "If nothing moves any more (a restarted kernel), run this cell again."
# ipywidgets ties a slider's label to nothing: here its handle and number get its name.
# Also it cuts off a number that is typed until it fits: here it is refused in words.
SCRIPT = """
const panel = this.closest('.widget-vbox');
for (const box of panel.querySelectorAll('.widget-slider'))
    for (const part of box.querySelectorAll('[role=slider], .widget-readout'))
        part.ariaLabel = box.querySelector('label').textContent;
const check = event => {
    const field = event.target, typed = field.textContent.trim();
    if (!field.matches('.widget-readout')) return;
    if (event.type === 'focus') field.good = typed;
    if (event.type === 'focus' || (event.key && event.key !== 'Enter')) return;
    const box = field.closest('.widget-slider');
    const handle = box.querySelector('[role=slider]');
    const [low, high] = ['min', 'max'].map(k => +handle.getAttribute('aria-value' + k));
    const whole = !field.good.includes('.'), n = typed === '' ? NaN : Number(typed);
    const fits = low <= n && n <= high && (!whole || Number.isInteger(n));
    if (typed !== field.good) field.said?.remove();
    if (fits || typed === field.good) return;
    field.said = document.createElement('div');
    field.said.role = 'alert';
    field.said.style = 'color: var(--jp-error-color1, #b00020); margin-left: 82px';
    field.said.textContent = `${field.ariaLabel}: a ${whole ? 'whole ' : ''}number `
        + `from ${low} to ${high} is needed, got '${typed}'`;
    box.after(field.said);
    field.textContent = field.good;
};
for (const type of ['focus', 'blur', 'keydown'])
    panel.addEventListener(type, check, true);
"""
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACADs="


@checked(n=whole(1, 256))
def playground(
    name: str | Path = "sprites", n: int = 8, device: str | torch.device | None = None
) -> "Playground":
    """A panel of controls at the left, n samples and their film at the right.

    name: of a checkpoint, as load takes it. device: where the network runs, None for
    best_device(). What another panel of this kernel draws is stopped. What goes wrong
    later stands in the panel. Raises ValueError for a name, an n or a device that makes
    no sense.
    """
    checkpoint = load(name, best_device() if device is None else device)
    return Playground(checkpoint, Path(name).stem, n)


@dataclass
class Drawing:
    """One run of a sampler, and the film of its steps so far, which the CPU holds."""

    steps: Iterator[Step]
    total: int  # steps
    calls: int  # of the network in an evaluation by the sampler
    t: int  # the time reached
    x: Tensor  # (B,C,H,W), x_t at that time
    words: str  # what the samples are
    file: str  # what its GIF is called, without what comes after the last setting
    each: int = 1  # evaluations by the sampler in a step; that to t = 0 takes one
    x0: Tensor | None = None  # the guess from which the last step was made
    done: int = 0  # steps
    every: int = 1  # so many steps lie between two frames
    film: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)

    def advance(self) -> None:
        """Take a step: the film gets t, x_t and the guess of x_0 from it."""
        step = next(self.steps)
        if self.done % self.every == 0:
            self.film.append((self.t, self.x.half().cpu(), step.x0.half().cpu()))
        if len(self.film) > MOST_FRAMES:
            self.film = self.film[::2]
            self.every *= 2
        self.done += 1
        self.t, self.x, self.x0 = step

    @property
    def evaluations(self) -> int:
        """Of the network, so far."""
        saved = 0 if self.t else self.each - 1
        return self.calls * (self.each * self.done - saved)

    @property
    def images(self) -> Tensor:
        """What it came to: the samples, or the guess of them where it was stopped."""
        return (self.x0 if self.t else self.x).cpu()

    @property
    def end(self) -> str:
        """A title for that, where it needs one."""
        return f"the guess of x_0, stopped at t = {self.t}" if self.t else ""

    @property
    def name(self) -> str:
        """What its GIF is called: another name for whatever is another film."""
        return f"{self.file}_stopped-t{self.t}.gif" if self.t else f"{self.file}.gif"


class Playground(ipywidgets.VBox):
    """The panel of a checkpoint; file: how the names of its GIFs begin.

    Every control is an attribute: prompt, preset, context (one slider a class, where
    they are at most 12), guidance, sampler, steps, eta, count, seed, dice, hold, stop,
    moment (the film's step), save. Letting one go redraws: in a notebook step by step,
    so that the kernel hears `stop` and a newer wish, which takes the older one's place;
    at once where no event loop runs, and in `draw()`. `drawn` is the Drawing that is
    shown, `images` its samples (B,C,H,W). An interrupt of the kernel, and another
    panel, stop what is drawn.
    """

    def __init__(self, checkpoint: Checkpoint, file: str, n: int):
        self.checkpoint = checkpoint
        self.device = next(checkpoint.model.parameters()).device
        self.file = file
        self.names = checkpoint.context
        self.text = self.names[0] if self.names else ""  # the last good prompt
        self.c = torch.eye(max(len(self.names), 1), len(self.names))[0]  # and its (K,)
        self.number = 0  # the last good seed
        self.deaf = False  # while controls are set that shall redraw nothing
        self.halted = False  # by Stop
        self.latest = None  # the run that may show its result
        self.task = None
        self.drawn = None
        wish = self.wish_controls()
        sampler = self.sampler_controls(n)
        noise = self.noise_controls()
        left = ipywidgets.VBox([*wish, *sampler, *noise])
        left.layout = {"flex": f"1 1 {LEFT}", "max_width": MOST_LEFT}
        right = ipywidgets.VBox(self.results())
        right.layout = {"flex": f"0 1 {SHEET + 8}px", "margin": "0 0 0 4px"}
        both = ipywidgets.HBox([left, right], layout={"flex_flow": "row wrap"})
        script = f'<img alt="" src="{PIXEL}" onload="{html.escape(SCRIPT)}">'
        note = f'<div style="color:#767676;line-height:1.4">{RESTARTED}</div>'
        super().__init__([both, ipywidgets.HTML(note + script)])
        stop_all()
        PANELS.add(self)
        with suppress(RuntimeError):
            listen(asyncio.get_running_loop())
        self.draw()

    @property
    def images(self) -> Tensor | None:
        """The samples that are shown, (B,C,H,W)."""
        return None if self.drawn is None else self.drawn.images

    # The controls

    def wish_controls(self) -> list[ipywidgets.Widget]:
        """The prompt, the presets and the sliders of the classes, if there are any."""
        names = self.names
        offers = [("your own", None)]
        offers += [(name, name) for name in names]
        if len(names) > 1:
            mix = f"0.5 {names[0]} + 0.5 {names[len(names) // 2]}"
            offers.append((mix, mix))
        offers.append(("no context", ""))
        self.prompt = made(ipywidgets.Text, "prompt", self.text)
        self.prompt.placeholder = "no context"
        self.complaint = ipywidgets.HTML(layout={"margin": "0 0 0 82px"})
        self.preset = made(ipywidgets.Dropdown, "preset", self.text, options=offers)
        self.context = self.class_sliders() if len(names) <= MOST_SLIDERS else []
        for control in (self.prompt, self.preset, *self.context):
            control.observe(self.ask, "value")
        sliders = ipywidgets.Box(self.context, layout={"flex_flow": "row wrap"})
        return [self.prompt, self.complaint, self.preset, sliders] if names else []

    def class_sliders(self) -> list[ipywidgets.Widget]:
        """A slider for each class, in two columns where they are many."""
        sliders = [slider(k, float(k == self.text), 1.0, 0.05) for k in self.names]
        for wide in sliders:
            wide.layout.width = "100%"
        if len(sliders) > 6:
            room = min(0.6 * max(map(len, self.names)) + 0.6, 4)
            for narrow in sliders:
                narrow.layout.width = HALF
                narrow.style.description_width = f"{room:g}em"
        return sliders

    def sampler_controls(self, n: int) -> list[ipywidgets.Widget]:
        """How to sample, and how many images."""
        times = self.checkpoint.times
        most_steps = max(self.checkpoint.schedule.T // 5, 2)
        self.guidance = slider("guidance", 1.0, 6.0, 0.25)
        self.sampler = made(ipywidgets.Dropdown, "sampler", "DDIM", options=[*NAMES])
        own = len(times) - 1 if times else min(20, most_steps)
        self.steps = slider("steps", own, max(most_steps, own), 1, least=1)
        self.guidance.disabled = bool(times)  # folded into a student
        self.eta = slider("η (eta)", 0.0, 1.0, 0.05)
        self.count = slider("images", n, max(16, n), 1, least=1)
        controls = [self.guidance, self.sampler, self.steps, self.eta, self.count]
        for control in controls:
            control.observe(self.redraw, "value")
        return [*self.note_of_student(), *controls]

    def note_of_student(self) -> list[ipywidgets.Widget]:
        """What is fixed, if the model is a student."""
        if not self.checkpoint.times:
            return []
        steps = counted(len(self.checkpoint.times) - 1, "step")
        folded = f"guidance {self.checkpoint.model.guidance:g}"
        words = f"A student: made for {steps}, with {folded} in it."
        return [ipywidgets.HTML(spoken(words), layout={"margin": "0 0 0 82px"})]

    def noise_controls(self) -> list[ipywidgets.Widget]:
        """The seed, a button for another one, and whether each drawing gets its own."""
        self.seed = made(Seed, "seed", 0)
        self.seed.layout.flex = "1 1 0"
        self.seed.layout.min_width = "0"
        self.seed.observe(self.ask_seed, "value")
        self.refusal = ipywidgets.HTML(layout={"margin": "0 0 0 82px"})
        self.dice = button("New seed", "random", "sample from other noise", self.roll)
        self.hold = made(ipywidgets.Checkbox, "hold the noise", True)
        return [ipywidgets.HBox([self.seed, self.dice]), self.refusal, self.hold]

    def results(self) -> list[ipywidgets.Widget]:
        """What a drawing fills: progress, film, words and images."""
        self.progress = made(ipywidgets.IntProgress, "progress", 0)
        self.progress.layout.flex = "1 1 auto"
        self.stop = button("Stop", "stop", "show how far it came", self.halt)
        self.stop.disabled = True
        self.moment = slider("film", 1, 1, 1)
        self.moment.layout.flex = "1 1 auto"
        self.moment.continuous_update = True
        self.moment.observe(self.scrub, "value")
        self.moment.disabled = True
        self.save = button("Save GIF", "download", "keep the film", self.save_gif)
        self.save.disabled = True
        self.status = ipywidgets.HTML()
        self.image = ipywidgets.HTML()
        run = ipywidgets.HBox([self.progress, self.stop])
        film = ipywidgets.HBox([self.moment, self.save])
        return [run, film, self.status, self.image]

    # What they call

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
                c = parse(change.new, self.names)
                text = change.new
        except ValueError as problem:
            self.complaint.value = spoken(problem)
            return
        self.c = c
        self.text = text
        self.complaint.value = ""
        with self.quietly():
            self.prompt.value = text
            offered = any(text == offer for _, offer in self.preset.options)
            self.preset.value = text if offered else None
            if self.context and not slid:
                for s, weight in zip(self.context, c.tolist(), strict=True):
                    s.value = round(weight, 6)
        self.redraw(change)

    def ask_seed(self, change) -> None:
        """A seed was typed: it is drawn, or refused, and the last one comes back."""
        typed = change.new.strip()
        if typed == str(self.number):
            return
        try:
            digits = re.fullmatch("[0-9]{1,20}", typed)
            self.number = seed_rule("seed", int(typed) if digits else typed)
            self.refusal.value = ""
        except ValueError as problem:
            self.refusal.value = spoken(problem)
        self.seed.value = self.number
        if not self.refusal.value:
            self.redraw(change)

    def roll(self, button=None) -> None:
        """Another seed; the notebook's own random numbers stay as they are."""
        self.seed.value = (self.number + 1 + secrets.randbelow(SEEDS - 1)) % SEEDS

    def halt(self, button=None) -> None:
        """The drawing ends before its next step."""
        self.halted = True

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

    # Drawing

    def draw(self) -> None:
        """Draw what the controls say, to the end, before anything else happens."""
        for _ in self.drawing():
            pass

    async def draw_in_turns(self) -> None:
        """The same, letting the event loop have its turn before each step."""
        try:
            for _ in self.drawing():
                await asyncio.sleep(0)
        except KeyboardInterrupt:  # of a cell that waits; here it would end the kernel
            self.status.value = spoken("interrupted")
            self.scrub()

    def drawing(self) -> Iterator[None]:
        """Sample, pausing before each step; show it unless a newer one has begun."""
        mine = object()
        self.latest = mine
        self.halted = False
        try:
            run = self.asked()
            self.progress.value = 0
            self.progress.max = run.total
            self.stop.disabled = False
            now = began = moved = shown = time.perf_counter()
            while run.done < run.total:
                yield
                if self.latest is not mine:
                    return
                if self.halted:
                    break
                run.advance()
                now = time.perf_counter()
                if now > moved + PATIENCE:
                    self.progress.value = run.done
                    moved = now
                if now > shown + LIVE and run.t:
                    self.show_guess(run)
                    shown = time.perf_counter()
                    shown += 9 * (shown - now)  # a tenth of the time at most
            self.finish(run, now - began)
        except Exception as problem:  # whatever it is, it must be seen
            self.status.value = spoken(problem)
            self.progress.value = 0
            self.scrub()
        finally:
            if self.latest is mine:
                self.stop.disabled = True
                self.moment.disabled = self.save.disabled = self.drawn is None

    def asked(self) -> Drawing:
        """The run that the controls ask for, at its start."""
        schedule, n, seed = self.checkpoint.schedule, self.count.value, self.number
        x = initial_noise(n, self.checkpoint.image_shape, seed).to(self.device)
        c = self.c.repeat(n, 1).to(self.device)
        scale = round(self.guidance.value, 6)
        eps_fn = guide(self.checkpoint.model, c, scale)
        fresh = image_generators(n, seed)
        sampler = NAMES[self.sampler.value]
        knows = SAMPLERS[sampler].takes
        times = self.checkpoint.times
        self.steps.disabled = "steps" not in knows or bool(times)
        self.eta.disabled = "eta" not in knows
        total = self.steps.value if "steps" in knows else schedule.T
        eta = round(self.eta.value, 6)
        if times:
            how = SampleSettings(steps=total, guidance=scale, sampler=sampler)
            refuse_for_student(self.checkpoint, how)
        if sampler == "ddpm":
            steps = ddpm(eps_fn, x, schedule, generator=fresh)
        elif sampler == "ddim":
            steps = ddim(eps_fn, x, schedule, times or total, eta, generator=fresh)
        else:
            solver = heun if sampler == "heun" else dpmpp_2m
            steps = solver(eps_fn, x, schedule, times or total)
        words = f"{counted(n, 'sample')} of {self.text or 'anything'}"
        parts = [slug(self.file), f"{sampler.replace('_', '-')}-{total}", f"seed{seed}"]
        parts += [slug(self.text) or "no_context", f"guidance{scale:.9g}"]
        parts += [f"eta{eta:.9g}"] if "eta" in knows else []
        file = "_".join([*parts, counted(n, "sample").replace(" ", "-")])
        calls, each = (1 if scale in (0, 1) else 2), SAMPLERS[sampler].each
        return Drawing(steps, total, calls, schedule.T, x, words, file, each)

    def finish(self, run: Drawing, seconds: float) -> None:
        """Say what a run took, and show what it came to."""
        said = counted(run.evaluations, "evaluation")
        stopped = f"stopped at t = {run.t}: " if run.t else ""
        self.status.value = spoken(f"{stopped}{said} of the network, {seconds:.2f} s")
        self.progress.value = run.done
        if run.done:
            self.drawn = run
            with self.quietly():
                self.moment.max = self.moment.value = len(run.film)
        self.scrub()

    # Showing and keeping

    def scrub(self, change=None) -> None:
        """Show the film's step that `moment` says: x_t and its guess, or the result."""
        if self.deaf or self.drawn is None:
            return
        run, i = self.drawn, self.moment.value
        if i < len(run.film):
            t, *shown = run.film[i]
            titles = [f"x_t at t = {t}", "the guess of x_0 from it"]
            alts = [f"{run.words}: {title}" for title in titles]
        else:
            shown, titles, alts = [run.images], [run.end], [run.words]
        try:
            self.put(shown, titles, alts)
        except ValueError as problem:
            self.status.value = spoken(problem)

    def show_guess(self, run: Drawing) -> None:
        """Show how far a run has come, whose film nobody can scrub yet."""
        self.moment.disabled = self.save.disabled = True
        title = f"the guess of x_0 on the way, at t = {run.t}"
        self.put([run.images], [title], [f"{run.words}: {title}"])

    def put(self, shown: list[Tensor], titles: list[str], alts: list[str]) -> None:
        """Show one sheet, or two, side by side or not, as large as there is room."""
        n, width = len(shown[0]), shown[0].shape[-1]
        columns = 4 if n <= 16 else 8 if n <= 64 else 16
        scale = SHEET // (columns * width)
        if len(shown) > 1 and n > 8:  # side by side
            scale = (SHEET // 2 - 7) // (columns * width)
        page, _ = markup(shown, titles, alts, min(n, columns), max(scale, 1))
        self.image.value = f'<div style="line-height:1.4">{page}</div>'

    def save_gif(self, button=None) -> None:
        """Write the film as a GIF into saved/, and give a link to it."""
        try:
            run = self.drawn
            columns = 4 if len(run.x) <= 16 else None
            data = gif([*(x for _, x, _ in run.film), run.images], columns=columns)
            path = kept(Path("saved", run.name), data)
            name, source = html.escape(path.name), data_url("gif", data)
            link = f'<a download="{name}" href="{source}"><u>{name}</u></a>'
            self.status.value = spoken(f"saved in {path.parent}: ", link)
        except Exception as problem:  # a full disk, for instance
            self.status.value = spoken(problem)


class Seed(ipywidgets.Text):
    """A field for a seed; a number that it is given becomes its text."""

    value = traitlets.CUnicode("0").tag(sync=True)


def stop_all(*signal_and_frame) -> None:
    """Whatever a panel draws ends before its next step."""
    for panel in PANELS:
        panel.halt()


def listen(loop: asyncio.AbstractEventLoop) -> None:
    """From when its cell has run, an interrupt of an idle kernel calls stop_all.

    A kernel ignores the signal between two cells; panels draw just then.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.SIG_IGN:
        signal.signal(signal.SIGINT, stop_all)
    elif handler is not stop_all:
        loop.call_later(WAIT, listen, loop)


def slug(text: str) -> str:
    """Text as part of a file's name anywhere: a-z, 0-9, "-", "." and at most SLUG long.

    What is not as it was gets a few characters more, so that two never are the same.
    """
    spelt = unicodedata.normalize("NFKD", text.casefold().replace("½", "0.5"))
    plain = spelt.encode("ascii", "ignore").decode()
    short = re.sub("[^a-z0-9.]+", "-", plain).strip("-.")[:SLUG]
    if short == text:
        return short
    return f"{short or 'prompt'}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def kept(path: Path, data: bytes) -> Path:
    """Write data to a path, or beside what else is there: to NAME-2, NAME-3, …"""
    place, number = path, 1
    while place.exists() and place.read_bytes() != data:
        number += 1
        place = path.with_name(f"{path.stem}-{number}{path.suffix}")
    write_bytes(located(place), data)
    return place


def made(kind: type, label: str, value, **more) -> ipywidgets.Widget:
    """A control with its label, which reports when it is let go."""
    if "continuous_update" in kind.class_trait_names():
        more["continuous_update"] = False
    style, layout = {"description_width": "5.5em"}, {"width": "auto"}
    return kind(value=value, description=label, style=style, layout=layout, **more)


def slider(label: str, value, most, step, least=0) -> ipywidgets.Widget:
    """For whole numbers if its step is one."""
    kind = ipywidgets.IntSlider if isinstance(step, int) else ipywidgets.FloatSlider
    return made(kind, label, value, min=least, max=most, step=step)


def button(label: str, icon: str, tooltip: str, press: Callable) -> ipywidgets.Button:
    """A button of the panel."""
    pressed = ipywidgets.Button(description=label, icon=icon, tooltip=tooltip)
    pressed.layout.flex = "0 0 104px"
    pressed.on_click(press)
    return pressed


def spoken(words: str | Exception, link: str = "") -> str:
    """Words, or what went wrong, as HTML that a screen reader reads when it comes."""
    role = "status"
    look = "line-height:1.4;overflow-wrap:anywhere"
    if isinstance(words, Exception):
        role = "alert"
        look += ";color:var(--jp-error-color1, #b00020)"
        words = str(words) or type(words).__name__
    return f'<div role="{role}" style="{look}">{html.escape(words)}{link}</div>'
