"""Diffusers, both ways: our checkpoints in its pipelines and schedulers.

Its own DDIM is held against the exact sampler too, where that steps wrongly.
"""

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import torch
from guards import mixture, noise
from small import SCHEDULE, small_checkpoint

import lesson_utils
from lesson_utils import (
    Schedule,
    cli,
    ddim,
    ddpm,
    export,
    guide,
    initial_noise,
    last,
    load,
    noise_like,
    parse,
)
from lesson_utils.export import CODE, START, export_diffusers, scheduler_config
from lesson_utils.viz import pixels

# Diffusers calls numpy on tensors in a way that numpy will not take for ever.
pytestmark = pytest.mark.filterwarnings("ignore:.*__array:DeprecationWarning")

EXACT = mixture(SCHEDULE)  # the best denoiser of data that is known
MULTISTEP = ("UniPCMultistepScheduler", "DPMSolverMultistepScheduler")


def scheduler(name: str, schedule=SCHEDULE, **settings):
    """One of Diffusers, with our schedule."""
    import diffusers

    kind = getattr(diffusers, name)
    return kind.from_config(scheduler_config(schedule), **settings)


def ran(theirs, x, steps, eps_fn=EXACT):
    """A denoiser of ours from noise x under one of their schedulers: the last x."""
    theirs.set_timesteps(steps)
    for t in theirs.timesteps:
        eps = eps_fn(x, ((t + 1) / SCHEDULE.T).expand(len(x)))
        x = theirs.step(eps, t, x).prev_sample
    return x


def error(x, y) -> float:
    """Root of the mean square of their difference."""
    return ((x - y) ** 2).mean().sqrt().item()


# The folder


@pytest.fixture(scope="module", autouse=True)
def modules_of_diffusers(tmp_path_factory):
    """Where Diffusers puts the code of folders that it loads: not in the user's own."""
    from diffusers.utils import dynamic_modules_utils

    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("modules"))
        patch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", folder)
        patch.setattr(sys, "path", [*sys.path])
        yield


def loaded(folder: Path):
    """The pipeline of a folder, without progress bars."""
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging as talk

    talk.disable_progress_bar()
    pipe = DiffusionPipeline.from_pretrained(
        folder, trust_remote_code=True, low_cpu_mem_usage=False
    )
    talk.enable_progress_bar()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def ours(checkpoint, x, prompts, scale=1.0, **settings):
    """The images (B,C,H,W) that ddim gives."""
    c = None if prompts is None else parse(prompts, checkpoint.context)
    return last(
        ddim(guide(checkpoint.model, c, scale), x, checkpoint.schedule, **settings)
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small checkpoint as load gives it, and its pipeline."""
    folder = tmp_path_factory.mktemp("small")
    path = folder / "small.safetensors"
    lesson_utils.save(path, *small_checkpoint((3, 16, 16))[:4])
    checkpoint = load(path)
    return checkpoint, loaded(export_diffusers(checkpoint, folder / "export"))


ALONE = """
import json, socket, sys
sys.modules["lesson_utils"] = None  # an import of it is an error
socket.socket.connect = None  # and so is a look at the network
import numpy as np, torch
from diffusers import DiffusionPipeline, UniPCMultistepScheduler
from diffusers.utils.logging import disable_progress_bar
disable_progress_bar()
for folder, asked in json.loads(sys.argv[1]).items():
    pipe = DiffusionPipeline.from_pretrained(
        folder, trust_remote_code=True, low_cpu_mem_usage=False
    )
    pipe.set_progress_bar_config(disable=True)
    made = {}
    for eta in (0.0, 1.0):
        one_each = [torch.Generator().manual_seed(i) for i in range(2)]
        result = pipe(
            **asked, num_inference_steps=20, eta=eta, guidance_scale=2.0,
            num_images_per_prompt=2, generator=one_each,
        )
        made[str(eta)] = np.stack([np.asarray(image) for image in result.images])
    np.savez(f"{folder}/made.npz", **made)
    pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config)
    assert pipe(num_inference_steps=4).images[0].size == result.images[0].size
"""


def test_folders_load_alone_and_give_our_images(tmp_path):
    """Offline, without lesson_utils, without a warning, pixel for pixel."""
    plain = small_checkpoint((1, 8, 12), classes=0)
    lesson_utils.save(tmp_path / "plain.safetensors", *plain[:4])
    checkpoints = {
        str(export_diffusers(load(path), tmp_path / folder)): load(path)
        for folder, path in [
            ("a", "sprites"),
            ("b", "mnist"),
            ("c", tmp_path / "plain.safetensors"),
        ]
    }
    ways = [{"prompt": "0.5 Hero + ½ food"}, {"class_labels": [7]}, {}]
    prompts = ["0.5 hero + 0.5 food", "seven", ""]
    asked = dict(zip(checkpoints, ways, strict=True))
    env = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, json.dumps(asked)],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.stderr, done.stdout, done.returncode) == ("", "", 0)
    for (folder, checkpoint), prompt in zip(checkpoints.items(), prompts, strict=True):
        made = np.load(f"{folder}/made.npz")
        for eta in (0.0, 1.0):
            one_each = [torch.Generator().manual_seed(i) for i in range(2)]
            x = noise_like(torch.empty(2, *checkpoint.image_shape), one_each)
            more = {"eta": eta, "generator": one_each}
            right = pixels(ours(checkpoint, x, [prompt] * 2, 2.0, **more))
            grey = checkpoint.image_shape[0] == 1
            assert np.array_equal(made[str(eta)], right[..., 0] if grey else right)
            assert prompt == "" or len(np.unique(right)) > 50


@pytest.mark.parametrize("eta", [0.0, 0.5, "sigma-hat"])
@pytest.mark.parametrize("steps, scale", [(1, 2.0), (7, 0.0), (30, 1.0), (50, 2.5)])
def test_its_scheduler_is_ours_bit_for_bit(small, steps, scale, eta):
    """For any number of steps, whether or not it divides T."""
    checkpoint, pipe = small
    x = initial_noise(2, checkpoint.image_shape)
    settings = {"guidance_scale": scale, "eta": eta, "output_type": "latent"}
    one = torch.Generator().manual_seed(3)
    x0 = pipe(["a", "b"], None, steps, latents=x, generator=one, **settings).images
    right = ours(
        checkpoint,
        x,
        ["a", "b"],
        scale,
        steps=steps,
        eta=eta,
        generator=torch.Generator().manual_seed(3),
    )
    assert torch.equal(x0, right) and x0.std() > 0.01
    assert pipe.scheduler.alpha_bar == checkpoint.schedule.alpha_bar.tolist()


@pytest.mark.parametrize("spacing", ["linspace", "quad", "logsnr"])
def test_its_scheduler_has_our_other_spacings(small, spacing):
    checkpoint, pipe = small
    x = initial_noise(2, checkpoint.image_shape)
    kind, config = type(pipe.scheduler), pipe.scheduler.config
    exact = kind.from_config(config, timestep_spacing=spacing)
    eps_fn = guide(checkpoint.model)
    with torch.no_grad():
        made = ran(exact, x, 12, eps_fn)
    assert torch.equal(made, ours(checkpoint, x, None, steps=12, spacing=spacing))
    with pytest.raises(ValueError, match="timestep_spacing: 'trailing' or"):
        kind.from_config(config, timestep_spacing="leading").set_timesteps(5)


def test_its_network_is_ours_bit_for_bit(small):
    checkpoint, pipe = small
    x, c = initial_noise(4, checkpoint.image_shape), torch.eye(2).repeat(2, 1)
    for t in (1, 2, 250, 499, 500):
        share = torch.full((4,), t / 500)
        with torch.no_grad():
            right = checkpoint.model(x, share, c)
            assert torch.equal(pipe.unet(x, t - 1, c).sample, right)
            several = pipe.unet(x, torch.full((4,), t - 1), c, return_dict=False)
            assert torch.equal(several[0], right)
    times = torch.arange(500)
    assert ((times + 1) / 500).tolist() == torch.tensor(
        [t / 500 for t in range(1, 501)]
    ).tolist()


def test_the_ways_to_ask(small):
    checkpoint, pipe = small
    x = initial_noise(4, checkpoint.image_shape)
    ask = partial(pipe, num_inference_steps=2, output_type="pt")
    by_name = ask("b", latents=x).images
    assert torch.equal(by_name, ask(class_labels=1, latents=x).images)
    assert torch.equal(by_name, ask(["b"] * 4, latents=x).images)
    assert not torch.equal(by_name, ask(latents=x).images)
    arrays = ask("b", latents=x, output_type="np", return_dict=False)[0]
    assert np.array_equal(arrays, by_name.permute(0, 2, 3, 1).numpy())
    assert 0 <= arrays.min() < arrays.max() <= 1
    seeded = ask(num_images_per_prompt=3, generator=torch.Generator().manual_seed(1))
    drawn = noise_like(torch.empty(3, 3, 16, 16), torch.Generator().manual_seed(1))
    assert torch.equal(seeded.images, ask(latents=drawn).images)


NONSENSE = [
    ({"prompt": "cat"}, "prompt[0]: one of: a, b"),
    ({"prompt": []}, "prompt: texts"),
    ({"prompt": ["a", 3]}, "prompt: texts"),
    ({"prompt": "a", "class_labels": 0}, "prompt, class_labels: give one"),
    ({"class_labels": [0, 2]}, "class_labels: numbers in 0..1"),
    ({"class_labels": 0.5}, "class_labels: numbers in 0..1"),
    ({"guidance_scale": -1}, "guidance_scale: a number in [0, inf)"),
    ({"guidance_scale": float("nan")}, "guidance_scale: a number in [0, inf)"),
    ({"num_inference_steps": 501}, "num_inference_steps: a whole number in 1..500"),
    ({"num_inference_steps": 2.5}, "num_inference_steps: a whole number in 1..500"),
    ({"eta": 1.5}, "eta: a number in [0, 1] or 'sigma-hat'"),
    ({"output_type": "jpeg"}, "output_type: one of pil, np, pt, latent"),
    ({"prompt": ["a", "b"], "latents": noise(3)}, "latents: 3 images for 2 prompts"),
]


@pytest.mark.parametrize("asked, why", NONSENSE)
def test_what_makes_no_sense_is_refused(small, asked, why):
    with pytest.raises(ValueError, match=re.escape(why)):
        small[1](**{"num_inference_steps": 2} | asked)


def test_schedulers_without_eta_refuse_it(small):
    from diffusers import UniPCMultistepScheduler

    _, pipe = small
    config = pipe.scheduler.config
    other = type(pipe)(pipe.unet, UniPCMultistepScheduler.from_config(config))
    with pytest.raises(ValueError, match="eta: UniPCMultistepScheduler has none"):
        other(eta=0.5)


# In place of our scheduler, and around our own checkpoint


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A trained checkpoint, its pipeline, noise, and what many steps make of it."""
    checkpoint = load("mnist")
    pipe = loaded(export_diffusers(checkpoint, tmp_path_factory.mktemp("digits")))
    x = initial_noise(8, (1, 28, 28))
    return checkpoint, pipe, x, ours(checkpoint, x, ["seven"] * 8, steps=250)


@pytest.mark.parametrize("steps", [10, 20])
@pytest.mark.parametrize("name", [*MULTISTEP, "HeunDiscreteScheduler"])
def test_one_line_swaps_the_scheduler(digits, name, steps, capfd):
    """On a trained network it is nearer than DDIM to where both go."""
    import diffusers

    checkpoint, pipe, x, right = digits
    exact = pipe.scheduler
    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
    by_theirs = pipe("seven", None, steps, latents=x, output_type="latent").images
    pipe.scheduler = exact
    by_ddim = ours(checkpoint, x, ["seven"] * 8, steps=steps)
    assert error(by_theirs, right) < 0.75 * error(by_ddim, right) < 0.06
    assert capfd.readouterr().err == ""  # no setting that it does not know


SHOWN = re.findall("(?m)^    .*$", inspect.getdoc(scheduler_config))
LOOP = dedent("\n".join(SHOWN))


@pytest.mark.parametrize(
    "name, steps",
    [
        ("DDIMScheduler", 50),
        ("DDPMScheduler", 500),
        *((name, 20) for name in MULTISTEP),
    ],
)
def test_any_scheduler_drives_a_checkpoint(digits, name, steps):
    """By the loop that the docstring of scheduler_config shows."""
    import diffusers

    assert 0 < len(LOOP.splitlines()) <= 8
    checkpoint, _, x, right = digits
    x, right = x[:1], right[:1]
    schedule = checkpoint.schedule
    eps_fn = guide(checkpoint.model, parse(["seven"], checkpoint.context))
    known = globals() | {"x": x, "schedule": schedule, "eps_fn": eps_fn}
    known[name] = getattr(diffusers, name)
    loop = LOOP.replace("UniPCMultistepScheduler", name).replace("20", str(steps))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        exec(loop, known)
        torch.manual_seed(1)
        if name == "DDPMScheduler":
            right = last(ddpm(eps_fn, x, schedule))
        if name == "DDIMScheduler":
            right = last(ddim(eps_fn, x, schedule, steps))
    assert error(known["x"], right) < (0.03 if name in MULTISTEP else 1e-4)


@pytest.mark.parametrize("T", [20, 500, 1000])
@pytest.mark.parametrize("kind", [Schedule.linear, Schedule.cosine])
def test_the_settings_hold_alpha_bar_to_its_last_bit(kind, T):
    schedule = kind(T)
    betas = scheduler_config(schedule)["trained_betas"]
    betas = torch.tensor(betas, dtype=torch.float64)
    assert torch.equal((1 - betas).cumprod(0).float(), schedule.alpha_bar[1:])
    theirs = scheduler("DDIMScheduler", schedule)
    assert torch.allclose(theirs.alphas_cumprod, schedule.alpha_bar[1:], rtol=1e-4)
    theirs.set_timesteps(T // 4)
    assert (theirs.timesteps + 1).tolist() == schedule.timesteps(T // 4)[:-1]


# What Diffusers does wrongly, beside what is right


@pytest.mark.parametrize(
    "theirs, spacing, steps",
    [
        ("trailing", "uniform", 30),
        ("trailing", "uniform", 300),
        ("linspace", "linspace", 20),
        ("linspace", "linspace", 50),
    ],
)
def test_ddim_of_diffusers_misses_its_own_timesteps(theirs, spacing, steps):
    """It goes down by T // S, and is then asked to go on from another timestep."""
    x = noise(4, torch.float32)
    other = scheduler("DDIMScheduler", timestep_spacing=theirs)
    wrong = ran(other, x, steps)
    t = other.timesteps.tolist()
    assert (other.timesteps + 1).tolist() == SCHEDULE.timesteps(steps, spacing)[:-1]
    assert {a - b for a, b in pairwise(t)} != {500 // steps}
    right = last(ddim(EXACT, x, SCHEDULE, steps, spacing=spacing))
    assert error(wrong, right) > 0.003
    x0 = last(ddim(EXACT, x, SCHEDULE, 500))
    if steps == 300:  # 200 steps of two are made as steps of one
        assert error(wrong, x0) > 20 * error(right, x0)


def test_ddim_of_diffusers_is_right_where_the_steps_divide_T():
    x = noise(4, torch.float32)
    right = last(ddim(EXACT, x, SCHEDULE, 25))
    assert error(ran(scheduler("DDIMScheduler"), x, 25), right) < 1e-5


# Files


def names_in(folder: Path) -> set[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in paths}


def test_only_an_export_of_ours_is_replaced(tmp_path):
    one, two = small_checkpoint(seed=1), small_checkpoint(seed=2)
    folder = tmp_path / "new" / "folder"
    assert export_diffusers(one, folder) == folder
    written = names_in(folder)
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    before = weights.read_bytes()
    (folder / "mine.txt").touch()
    with pytest.raises(ValueError, match="folder: a new folder, or overwrite for"):
        export_diffusers(two, folder)
    assert weights.read_bytes() == before
    export_diffusers(two, folder, overwrite=True)
    assert weights.read_bytes() != before and (folder / "mine.txt").is_file()
    assert names_in(folder) - written == {"mine.txt"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other/README.md").touch()
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="folder: a new or an empty folder"):
            export_diffusers(one, tmp_path / "other", overwrite)
        with pytest.raises(ValueError, match="folder: a folder is needed"):
            export_diffusers(one, folder / "mine.txt", overwrite)
    assert names_in(tmp_path / "other") == {"README.md"}
    with pytest.raises(ValueError, match="checkpoint: a Checkpoint, as load gives"):
        export_diffusers("mnist", tmp_path / "none")
    with pytest.raises(ValueError, match="schedule: a Schedule"):
        scheduler_config(500)


def test_half_an_export_is_no_pipeline(tmp_path, monkeypatch):
    """What is cut short cannot be loaded, and is written again with overwrite."""
    folder = export_diffusers(small_checkpoint(), tmp_path / "export")

    def full(path, record):
        raise OSError(28, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(export, "write_json", full)
        with pytest.raises(OSError, match="no space"):
            export_diffusers(small_checkpoint(), folder, overwrite=True)
    assert not (folder / START).exists()
    export_diffusers(small_checkpoint(), folder, overwrite=True)
    assert (folder / START).is_file()


def test_the_command_writes_the_folder(tmp_path, capsys):
    path, folder = tmp_path / "small.safetensors", tmp_path / "export"
    lesson_utils.save(path, *small_checkpoint()[:4])
    asked = ["export", "--to", "diffusers", "--checkpoint", str(path), str(folder)]
    assert cli.main(asked) == 0 and str(folder) in capsys.readouterr().out
    by_hand = export_diffusers(load(path), tmp_path / "by hand")
    for name in names_in(by_hand):
        assert (folder / name).read_bytes() == (by_hand / name).read_bytes()
    assert cli.main(asked) == 2 and "overwrite" in capsys.readouterr().err
    assert cli.main([*asked, "--overwrite"]) == 0


def imports(source: str) -> set[str]:
    """The packages that a module imports, in whatever depth."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("lesson_utils" if node.level else node.module.split(".")[0])
    return found


def test_the_code_of_a_folder_needs_torch_and_diffusers_only(tmp_path):
    folder = export_diffusers(small_checkpoint(), tmp_path / "export")
    needed = set()
    for place in CODE.values():
        source = (folder / place).read_text(encoding="utf-8")
        assert "@checked" not in source
        needed |= imports(source)
    assert needed - sys.stdlib_module_names == {"torch", "diffusers", "numpy", "PIL"}


def test_lesson_utils_never_imports_diffusers():
    assert imports("def f():\n    from diffusers.x import y") == {"diffusers"}
    for path in Path(lesson_utils.__file__).parent.rglob("*.py"):
        assert "diffusers" not in imports(path.read_text(encoding="utf-8")), path
