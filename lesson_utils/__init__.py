"""Diffusion in twenty steps: what the lessons build, in the order in which they do."""

# isort: off
from . import exercises
from .support.device import best_device
from .schedule import Schedule, cosine_alpha_bar, linear_alpha_bar, spaced_times
from .unet import Attention, ContextUnet, ResBlock, time_embedding
from .optimiser import Muon
from .training import diffusion_loss, learning_rate, train_step
from .loop import DistillSettings, Settings, Update, distill, train
from .noise import image_generators, initial_noise, noise_like
from .sampling import EpsFn, Step, clipped, ddim, ddim_step, ddpm, guide, invert, last
from .sampling import slerp, within
from .solvers import dpmpp_2m, heun
from .exact import Mixture
from .distilling import Student, distillation_loss, from_v, jump_target
from .checkpoint import Checkpoint, load, save
from .context import describe, parse
from .data import Pictures, dataset, image_folder, npy_pair
from .sprites import ARCHETYPES, SPRITE_CLASSES, draw_archetype, draw_sprites
from .gif import gif
from .viz import grid, plot, progress, sheet, show, strip
from .drawing import as_u, u_diagram

__all__ = [
    "linear_alpha_bar", "cosine_alpha_bar", "spaced_times", "Schedule",
    "Mixture",
    "time_embedding", "ResBlock", "Attention", "ContextUnet",
    "diffusion_loss", "learning_rate", "Muon", "train_step",
    "Settings", "train", "Update",
    "EpsFn", "Step", "initial_noise", "image_generators", "noise_like",
    "guide", "ddpm", "ddim_step", "clipped", "ddim", "last", "slerp", "invert",
    "heun", "dpmpp_2m", "within",
    "from_v", "Student", "jump_target", "distillation_loss",
    "DistillSettings", "distill",
    "Checkpoint", "load", "save", "best_device",
    "parse", "describe",
    "Pictures", "dataset", "image_folder", "npy_pair",
    "SPRITE_CLASSES", "ARCHETYPES", "draw_sprites", "draw_archetype",
    "grid", "sheet", "strip", "plot", "u_diagram", "as_u",
    "gif", "show", "progress", "playground", "exercises",
]  # fmt: skip


def __getattr__(name: str):
    """The playground is imported when it is asked for: its widgets are slow to load."""
    if name == "playground":
        from .widgets import playground

        return playground
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
