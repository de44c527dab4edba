"""Diffusion in twenty steps: what the lessons build, in the order in which they do."""

from .checkpoint import Checkpoint, load, save
from .checks import check_clipped, check_sigma, check_times
from .data import Pictures, dataset
from .noise import image_generators, initial_noise
from .sampling import (
    EpsFn,
    Step,
    Steps,
    clipped,
    ddim,
    ddim_step,
    ddpm,
    guide,
    last,
    noise_like,
)
from .schedule import Schedule
from .sprites import ARCHETYPES, SPRITE_CLASSES, draw_archetype, draw_sprites
from .training import Update, diffusion_loss, learning_rate, train
from .unet import Attention, ContextUnet, ResBlock, time_embedding
from .viz import gif, grid, progress, show, strip

__all__ = [
    "Schedule",
    "time_embedding",
    "ResBlock",
    "Attention",
    "ContextUnet",
    "diffusion_loss",
    "learning_rate",
    "train",
    "Update",
    "EpsFn",
    "Step",
    "Steps",
    "initial_noise",
    "image_generators",
    "noise_like",
    "guide",
    "ddpm",
    "ddim_step",
    "clipped",
    "ddim",
    "last",
    "Checkpoint",
    "load",
    "save",
    "Pictures",
    "dataset",
    "SPRITE_CLASSES",
    "ARCHETYPES",
    "draw_sprites",
    "draw_archetype",
    "grid",
    "strip",
    "gif",
    "show",
    "progress",
    "check_times",
    "check_sigma",
    "check_clipped",
]
