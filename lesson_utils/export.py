"""A checkpoint as a folder that Diffusers loads, without lesson_utils.

Diffusers counts its timesteps from 0 to T - 1, where t runs from 1 to T here, and
alpha_bar from 0 on. This module writes files and imports nothing of Diffusers.
"""

import json
import os
from pathlib import Path

import safetensors.torch
from torch import Tensor, nn

from .checkpoint import Checkpoint
from .distilling import Student
from .schedule import Schedule
from .support.bundle import bundled
from .support.checked import checked, choice, flag, instance, refuse
from .support.files import located, write_bytes, write_json
from .support.rules import a_schedule

TEMPLATES = Path(__file__).resolve().parent / "templates"
START = "model_index.json"  # without it a folder is no pipeline
CODE = {  # Diffusers asks for a component's code beside its weights or settings
    "context_pipeline.py": "context_pipeline.py",
    "context_unet.py": "unet/context_unet.py",
    "exact_ddim.py": "scheduler/exact_ddim.py",
}
a_checkpoint = instance(Checkpoint, "a Checkpoint, as load gives,")
CARD = """\
---
library_name: diffusers
---
A ContextUnet. It needs PyTorch and Diffusers.

- Images: {shape}
- Training steps T: {T}
- Classes: {classes}
{student}
```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("FOLDER", trust_remote_code=True)
images = pipe({prompt}num_inference_steps={steps}, num_images_per_prompt=4).images
```
"""
STUDENT = """\
- A student: made for {steps} steps, with guidance {guidance:g} in it; it answers in v
"""


@checked(schedule=a_schedule, prediction=choice("epsilon", "v_prediction"))
def scheduler_config(schedule: Schedule, prediction: str = "epsilon") -> dict:
    """The settings with which a scheduler of Diffusers has this schedule.

    So any of them drives a checkpoint, from noise x (B,C,H,W) to images:

        scheduler = UniPCMultistepScheduler.from_config(scheduler_config(schedule))
        scheduler.set_timesteps(20)
        x = x * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            with torch.no_grad():
                shares = (t + 1).expand(len(x)) / schedule.T
                eps = eps_fn(scheduler.scale_model_input(x, t), shares)
            x = scheduler.step(eps, t, x).prev_sample

    eps_fn: as guide gives it; with the prediction "v_prediction" they take v instead.
    Their timestep is t - 1; their "trailing" begins at T, as our "uniform" does.
    """
    ab = schedule.alpha_bar.double()
    return {
        "_class_name": "DDIMScheduler",  # whose other settings may be left out
        "num_train_timesteps": len(ab) - 1,
        "trained_betas": (1 - ab[1:] / ab[:-1]).tolist(),
        "prediction_type": prediction,
        "timestep_spacing": "trailing",
        "steps_offset": 0,
        "set_alpha_to_one": True,
        "clip_sample": False,
    }


@checked(checkpoint=a_checkpoint, overwrite=flag)
def export_diffusers(
    checkpoint: Checkpoint, folder: str | Path, overwrite: bool = False
) -> Path:
    """Write a checkpoint into a folder for `DiffusionPipeline.from_pretrained`.

    It loads with trust_remote_code=True, offline and without lesson_utils, and with its
    own scheduler samples what `ddim` does, bit for bit on the same machine. Weights are
    float32. folder: a new or an empty one, or with overwrite that of an older export,
    whose files are replaced; other files in it stay. Gives the folder. Raises
    ValueError for any other folder, OSError if it cannot be written.
    """
    folder = located(folder, "folder")
    check_folder(folder, overwrite)
    start = folder / START
    start.unlink(missing_ok=True)  # half of an export is none
    for template, place in CODE.items():
        write_bytes(folder / place, bundled(TEMPLATES / f"{template}.txt").encode())
    weights = safetensors.torch.save(floats(checkpoint.network), {"format": "pt"})
    write_bytes(folder / "unet/diffusion_pytorch_model.safetensors", weights)
    write_json(folder / "unet/config.json", unet_config(checkpoint))
    in_v = isinstance(checkpoint.model, Student)
    prediction = "v_prediction" if in_v else "epsilon"
    settings = scheduler_config(checkpoint.schedule, prediction)
    write_json(folder / "scheduler/scheduler_config.json", settings)
    write_bytes(folder / "README.md", card(checkpoint).encode())
    index = {
        "_class_name": ["context_pipeline", "ContextPipeline"],
        "unet": ["context_unet", "ContextUnetModel"],
        "scheduler": ["exact_ddim", "ExactDDIMScheduler"],
    }
    write_json(start, index)
    return folder


def check_folder(folder: Path, overwrite: bool) -> None:
    """ValueError unless an export may be written there."""
    ours = (folder / next(iter(CODE))).is_file()  # the first file that is written
    if os.path.lexists(folder) and not folder.is_dir():
        refuse("folder", "a folder", str(folder))
    if not folder.is_dir() or not any(folder.iterdir()) or (ours and overwrite):
        return
    if ours:
        refuse("folder", "a new folder, or overwrite for this export,", str(folder))
    refuse("folder", "a new or an empty folder", str(folder))


def floats(model: nn.Module) -> dict[str, Tensor]:
    """Its weights in float32, on the CPU, in the order of their places."""
    state = {name: v.detach().float().cpu() for name, v in model.state_dict().items()}
    return {name: value.contiguous() for name, value in state.items()}


def unet_config(checkpoint: Checkpoint) -> dict:
    """What rebuilds the network, and says what its images and contexts are."""
    model = checkpoint.network
    return {
        "_class_name": "ContextUnetModel",
        "in_channels": model.in_channels,
        "context_size": model.context_size,
        "width": model.width,
        "sample_size": list(checkpoint.image_shape[1:]),
        "class_names": list(checkpoint.context),
        "num_train_timesteps": checkpoint.schedule.T,
        "times": checkpoint.times,
        "guidance": getattr(checkpoint.model, "guidance", 1.0),
    }


def card(checkpoint: Checkpoint) -> str:
    """What the folder's README says."""
    names, times = checkpoint.context, checkpoint.times
    student, steps = "", 20
    if times:
        steps = len(times) - 1
        student = STUDENT.format(steps=steps, guidance=checkpoint.model.guidance)
    return CARD.format(
        student=student,
        steps=steps,
        shape="×".join(map(str, checkpoint.image_shape)),
        T=checkpoint.schedule.T,
        classes=", ".join(names) or "none",
        prompt=f"{json.dumps(names[0], ensure_ascii=False)}, " if names else "",
    )
