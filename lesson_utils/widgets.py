"""The playground: sliders for all that a sampler is asked, and its pictures."""

import html
import time

import ipywidgets
import torch

from .arguments import whole
from .checkpoint import load
from .noise import image_generators, initial_noise
from .sampling import ddim, ddpm, guide, last
from .viz import markup

STYLE = {"description_width": "6.5em"}


class Playground(ipywidgets.VBox):
    """Controls at the left, n samples of a checkpoint at the right, for a notebook.

    name: as load takes it. Every control is an attribute: context (one slider a class),
    guidance, steps, eta, seed, sampler. A slider redraws when it is let go; what goes
    wrong stands in `status`, in place of the figures. `pictures` holds the last samples
    (n,C,H,W).
    """

    def __init__(self, name: str = "sprites", n: int = 8):
        self.checkpoint, self.n = load(name), whole("n", n, 1, 256)
        names = self.checkpoint.context
        self.context = [slider(k, float(k == names[0]), 1.0, 0.05) for k in names]
        self.guidance = slider("guidance", 1.0, 6.0, 0.25)
        self.steps = slider("steps", 20, self.checkpoint.schedule.T // 5, 1, least=1)
        self.eta = slider("eta", 0.0, 1.0, 0.05)
        self.seed = slider("seed", 0, 99, 1)
        self.sampler = ipywidgets.ToggleButtons(
            options=["DDIM", "DDPM"], description="sampler", style=STYLE
        )
        self.image, self.status = ipywidgets.HTML(), ipywidgets.HTML()
        ways = [self.guidance, self.steps, self.eta, self.seed, self.sampler]
        for control in (*self.context, *ways):
            control.observe(self.draw, "value")
        sides = [*self.context, *ways], [self.image, self.status]
        super().__init__([ipywidgets.HBox([*map(ipywidgets.VBox, sides)])])
        self.draw()

    def draw(self, change=None) -> None:
        """Sample as the controls say and show the pictures, or what went wrong."""
        try:
            start = time.perf_counter()
            evaluations = self.sample()
            seconds = time.perf_counter() - start
            asked = ", ".join(f"{s.value:g} {s.description}" for s in self.context)
            alt = f"{self.n} samples" + (f" of {asked}" if asked else "")
            self.image.value, _ = markup([self.pictures], None, alt, 4, 5)
            self.status.value = f"{evaluations} evaluations, {seconds:.2f} s"
        except (ValueError, RuntimeError) as problem:
            self.status.value = f"<b>{html.escape(str(problem))}</b>"

    def sample(self) -> int:
        """Fill `pictures`; gives the number of evaluations of the network."""
        ck = self.checkpoint
        row = torch.tensor([[s.value for s in self.context]])
        eps_fn = guide(ck.model, row.repeat(self.n, 1), self.guidance.value)
        noise = initial_noise(self.n, ck.image_shape, self.seed.value)
        start = eps_fn, noise, ck.schedule
        fresh = image_generators(self.n, self.seed.value)
        if self.sampler.value == "DDPM":
            evaluations, steps = ck.schedule.T, ddpm(*start, generator=fresh)
        else:
            evaluations, eta = self.steps.value, self.eta.value
            steps = ddim(*start, evaluations, eta, generator=fresh)
        self.pictures = last(steps)
        return evaluations * (1 if self.guidance.value in (0, 1) else 2)


playground = Playground  # as lessons call it


def slider(label: str, value, most, step, least=0):
    """A slider that reports when it is let go."""
    kind = ipywidgets.IntSlider if isinstance(step, int) else ipywidgets.FloatSlider
    look = {"description": label, "style": STYLE, "continuous_update": False}
    return kind(value=value, min=least, max=most, step=step, **look)
