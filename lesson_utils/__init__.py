"""Diffusion in twenty steps: what the lessons build, in the order in which they do."""

# isort: off
from .checkpoint import Checkpoint, load, save
from .checks import check_noised, check_levels, check_posterior
from .checks import check_embedding, check_parameters, check_attention
from .checks import check_average, check_guess, check_weight, check_guided, check_mixed
from .checks import check_times, check_sigma, check_clipped
from .checks import check_sigma_hat, check_frechet, check_frontier
from .checks import check_length, check_blended, check_refined
from .context import describe, parse
from .data import Pictures, dataset, image_folder, npy_pair
from .noise import image_generators, initial_noise, noise_like
from .optimiser import Muon
from .sampling import EpsFn, Step, Steps, clipped
from .sampling import ddim, ddim_step, ddpm, guide, invert, last, slerp
from .schedule import Schedule, cosine_alpha_bar, linear_alpha_bar, spaced_times
from .sprites import ARCHETYPES, SPRITE_CLASSES, draw_archetype, draw_sprites
from .training import Update, diffusion_loss, learning_rate, train, train_step
from .unet import Attention, ContextUnet, ResBlock, time_embedding
from .viz import gif, grid, plot, progress, sheet, show, strip
from .widgets import playground

__all__ = ["linear_alpha_bar", "cosine_alpha_bar", "spaced_times", "Schedule"]
__all__ += ["time_embedding", "ResBlock", "Attention", "ContextUnet"]
__all__ += ["diffusion_loss", "learning_rate", "Muon", "train_step", "train", "Update"]
__all__ += ["EpsFn", "Step", "Steps", "initial_noise", "image_generators", "noise_like"]
__all__ += ["guide", "ddpm", "ddim_step", "clipped", "ddim", "last"]
__all__ += ["slerp", "invert"]
__all__ += ["Checkpoint", "load", "save"]
__all__ += ["parse", "describe"]
__all__ += ["Pictures", "dataset", "image_folder", "npy_pair"]
__all__ += ["SPRITE_CLASSES", "ARCHETYPES", "draw_sprites", "draw_archetype"]
__all__ += ["grid", "sheet", "strip", "plot", "gif", "show", "progress", "playground"]
__all__ += ["check_noised", "check_levels", "check_posterior"]
__all__ += ["check_embedding", "check_parameters", "check_attention"]
__all__ += ["check_average", "check_guess", "check_weight"]
__all__ += ["check_guided", "check_mixed"]
__all__ += ["check_times", "check_sigma", "check_clipped"]
__all__ += ["check_sigma_hat", "check_frechet", "check_frontier"]
__all__ += ["check_length", "check_blended", "check_refined"]
