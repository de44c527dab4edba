"""Arguments that make no sense: every public function refuses them, and says why.

CASES: (function.argument, a call, the value as the message shows it, what would do).
"""

import functools
import inspect
import re
import tempfile
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

import lesson_utils
from lesson_utils import (
    Attention,
    ContextUnet,
    Muon,
    Pictures,
    ResBlock,
    Schedule,
    clipped,
    cosine_alpha_bar,
    dataset,
    ddim,
    ddim_step,
    ddpm,
    describe,
    diffusion_loss,
    draw_archetype,
    draw_sprites,
    gif,
    grid,
    guide,
    image_folder,
    image_generators,
    initial_noise,
    invert,
    last,
    learning_rate,
    linear_alpha_bar,
    load,
    noise_like,
    npy_pair,
    parse,
    playground,
    plot,
    progress,
    save,
    sheet,
    show,
    slerp,
    spaced_times,
    strip,
    time_embedding,
    train,
    train_step,
)
from lesson_utils.arguments import refuse

S, MODEL = Schedule.linear(), ContextUnet(1, 2, 16)
X, T, C = torch.zeros(2, 1, 8, 8), torch.tensor([0.1, 0.2]), torch.zeros(2, 2)
TIMES, NAN = torch.tensor([1, 2]), float("nan")
DATA, EMA = Pictures(X, C, ("a", "b")), AveragedModel(MODEL)
LOSS, GREY = MODEL(X, T).mean(), np.zeros((4, 4), np.uint8)


def eps_fn(x, t):
    return x


def sample(*changes, **more):
    return ddim(eps_fn, X, S, *changes, **more)


def learn(**changes):
    return train(
        **({"model": MODEL, "schedule": S, "data": DATA, "steps": 3} | changes)
    )


def keep(path="x.safetensors", model=MODEL, schedule=S, context=("a", "b"), **more):
    return save(path, model, schedule, context, **more)


def step(model=MODEL, ema=EMA, optimiser=None, loss=LOSS, rate=0.1):
    optimiser = optimiser or torch.optim.SGD(MODEL.parameters(), 0.1)
    return train_step(model, ema, optimiser, loss, rate)


def film(**changes):
    return gif(**({"frames": [X]} | changes))


CASES = [
    # schedule
    ("linear_alpha_bar.T", lambda: linear_alpha_bar("a"), "'a'", "1 or more"),
    ("linear_alpha_bar.T", lambda: Schedule.linear(0), "0", "1 or more"),
    ("linear_alpha_bar.T", lambda: Schedule.linear(2.5), "2.5", "whole number"),
    ("linear_alpha_bar.beta_1", lambda: linear_alpha_bar(9, "a"), "'a'", "(0, 1)"),
    ("linear_alpha_bar.beta_1", lambda: linear_alpha_bar(9, NAN), "nan", "(0, 1)"),
    ("linear_alpha_bar.beta_T", lambda: linear_alpha_bar(9, 0.5, 1), "1", "[0.5, 1)"),
    ("linear_alpha_bar.beta_T", lambda: linear_alpha_bar(9, 0.5, 0.1), "0.1", "[0.5"),
    ("cosine_alpha_bar.T", lambda: cosine_alpha_bar(-1), "-1", "1 or more"),
    ("cosine_alpha_bar.T", lambda: Schedule.cosine("many"), "'many'", "1 or more"),
    ("spaced_times.T", lambda: spaced_times("a", 3), "'a'", "1 or more"),
    ("spaced_times.steps", lambda: S.timesteps(0), "0", "1..500"),
    ("spaced_times.steps", lambda: S.timesteps(501), "501", "1..500"),
    ("spaced_times.steps", lambda: S.timesteps(2.5), "2.5", "1..500"),
    ("spaced_times.steps", lambda: S.timesteps(True), "True", "1..500"),
    ("spaced_times.steps", lambda: S.timesteps("20"), "'20'", "1..500"),
    ("spaced_times.steps", lambda: S.timesteps(X), "shape (2, 1, 8, 8)", "1..500"),
    ("spaced_times.steps", lambda: S.timesteps([500, 9, 9, 0]), "9, 9", "500 to 0"),
    ("spaced_times.steps", lambda: S.timesteps([400, 0]), "[400, 0]", "500 to 0"),
    ("spaced_times.steps", lambda: S.timesteps([500, 1]), "[500, 1]", "500 to 0"),
    ("spaced_times.steps", lambda: S.timesteps([]), "[]", "500 to 0"),
    ("spaced_times.steps", lambda: S.timesteps([500, "a", 0]), "'a'", "0..500"),
    ("spaced_times.spacing", lambda: S.timesteps(9, "leading"), "'leading'", "uniform"),
    ("Schedule.alpha_bar", lambda: Schedule("a"), "'a'", "falling strictly"),
    ("Schedule.alpha_bar", lambda: Schedule(None), "None", "falling strictly"),
    ("Schedule.alpha_bar", lambda: Schedule([0.9, 0.5]), "[0.8999", "from 1"),
    ("Schedule.alpha_bar", lambda: Schedule([1, 0.5, 0.5]), "0.5, 0.5", "strictly"),
    ("Schedule.alpha_bar", lambda: Schedule([1, 0.5, 0.0]), "0.5, 0.0", "above 0"),
    ("Schedule.alpha_bar", lambda: Schedule([1, NAN]), "nan", "falling"),
    ("Schedule.alpha_bar", lambda: Schedule(torch.ones(2, 2)), "(2, 2)", "(T+1,)"),
    ("Schedule.alpha_bar", lambda: Schedule(torch.ones(2) * 1j), "complex", "falling"),
    ("add_noise.t", lambda: S.add_noise(X, TIMES + 500, X), "501", "0..500"),
    ("add_noise.t", lambda: S.add_noise(X, -TIMES, X), "-1", "0..500"),
    ("add_noise.t", lambda: S.add_noise(X, T, X), "0.1", "int64"),
    ("add_noise.t", lambda: S.add_noise(X, 3, X), "3", "int64 tensor (2,)"),
    ("add_noise.t", lambda: S.add_noise(X, TIMES[:1], X), "[1]", "(2,)"),
    ("add_noise.eps", lambda: S.add_noise(X, TIMES, X[:1]), "(1, 1, 8", "(2,1,8,8)"),
    ("add_noise.x0", lambda: S.add_noise(X[0], TIMES, X), "(1, 8, 8)", "(B,C,H,W)"),
    ("add_noise.x0", lambda: S.add_noise(X.byte(), TIMES, X), "uint8", "float"),
    ("add_noise.x0", lambda: S.add_noise([1], TIMES, X), "[1]", "float tensor"),
    # unet
    ("time_embedding.t", lambda: time_embedding(0.5, 8), "0.5", "(B,)"),
    ("time_embedding.t", lambda: time_embedding(TIMES, 8), "int64", "float"),
    ("time_embedding.dim", lambda: time_embedding(T, 7), "7", "multiple of 2"),
    ("time_embedding.dim", lambda: time_embedding(T, 0), "0", "multiple of 2"),
    ("ResBlock.c_in", lambda: ResBlock(12, 16, 64), "12", "multiple of 8"),
    ("ResBlock.c_out", lambda: ResBlock(16, "16", 64), "'16'", "multiple of 8"),
    ("ResBlock.dim", lambda: ResBlock(16, 16, -1), "-1", "multiple of 1"),
    ("Attention.c", lambda: Attention(48), "48", "multiple of 32"),
    ("ContextUnet.in_channels", lambda: ContextUnet(2, 5), "2", "1 or 3"),
    ("ContextUnet.in_channels", lambda: ContextUnet("3", 5), "'3'", "1 or 3"),
    ("ContextUnet.context_size", lambda: ContextUnet(3, -1), "-1", "0 or more"),
    ("ContextUnet.context_size", lambda: ContextUnet(3, 1.5), "1.5", "whole number"),
    ("ContextUnet.width", lambda: ContextUnet(3, 5, 20), "20", "multiple of 16"),
    ("ContextUnet.width", lambda: ContextUnet(3, 5, 0), "0", "multiple of 16"),
    ("forward.x", lambda: MODEL([1], T), "[1]", "(B,1,H,W)"),
    ("forward.x", lambda: MODEL(X[0], T[:1]), "(1, 8, 8)", "(B,1,H,W)"),
    ("forward.x", lambda: MODEL(X.repeat(1, 3, 1, 1), T), "(2, 3", "(B,1,H,W)"),
    ("forward.x", lambda: MODEL(X[..., :7], T), "(2, 1, 8, 7)", "multiples of 4"),
    ("forward.x", lambda: MODEL(X[..., :0], T), "(2, 1, 8, 0)", "(B,1,H,W)"),
    ("forward.t", lambda: MODEL(X, 0.5), "0.5", "(2,)"),
    ("forward.t", lambda: MODEL(X, T[:1]), "tensor([0.1000])", "(2,)"),
    ("forward.t", lambda: MODEL(X, T[:, None]), "(2, 1)", "(2,)"),
    ("forward.c", lambda: MODEL(X, T, C[:1]), "(1, 2)", "(2,2)"),
    ("forward.c", lambda: MODEL(X, T, C.long()), "int64", "float"),
    # training
    ("diffusion_loss.model", lambda: diffusion_loss(3, S, X), "3", "ContextUnet"),
    (
        "diffusion_loss.schedule",
        lambda: diffusion_loss(MODEL, 500, X),
        "500",
        "Schedule.linear()",
    ),
    ("diffusion_loss.x0", lambda: diffusion_loss(MODEL, S, X[0]), "(1, 8", "(B,C,H,W)"),
    ("diffusion_loss.c", lambda: diffusion_loss(MODEL, S, X, C[0]), "(2,)", "(2,K)"),
    ("diffusion_loss.c", lambda: diffusion_loss(MODEL, S, X, C[:1]), "(1, 2)", "(2,K)"),
    (
        "diffusion_loss.context_dropout",
        lambda: diffusion_loss(MODEL, S, X, C, 1.5),
        "1.5",
        "[0, 1]",
    ),
    (
        "diffusion_loss.gamma",
        lambda: diffusion_loss(MODEL, S, X, gamma=-1),
        "-1",
        "[0, inf)",
    ),
    (
        "diffusion_loss.generator",
        lambda: diffusion_loss(MODEL, S, X, generator=7),
        "7",
        "torch.Generator",
    ),
    ("learning_rate.step", lambda: learning_rate(-1, 9, 0.1, 3), "-1", "0..9"),
    ("learning_rate.steps", lambda: learning_rate(0, 0, 0.1, 3), "0", "1 or more"),
    ("learning_rate.peak", lambda: learning_rate(0, 9, "a", 3), "'a'", "(0, 1)"),
    ("learning_rate.warmup", lambda: learning_rate(0, 9, 0.1, -3), "-3", "0 or more"),
    ("Muon.parameters", lambda: Muon(MODEL), "ContextUnet", "model.parameters()"),
    ("Muon.parameters", lambda: Muon([]), "[]", "model.parameters()"),
    ("Muon.lr", lambda: Muon(MODEL.parameters(), -1), "-1", "(0, 1)"),
    ("Muon.weight_decay", lambda: Muon(MODEL.parameters(), 0.1, "a"), "'a'", "[0, 1)"),
    ("train_step.model", lambda: step(model=3), "3", "ContextUnet"),
    ("train_step.ema", lambda: step(ema=MODEL), "ContextUnet", "AveragedModel"),
    ("train_step.optimiser", lambda: step(optimiser="Adam"), "'Adam'", "torch.optim"),
    ("train_step.loss", lambda: step(loss=X), "(2, 1, 8, 8)", "scalar"),
    ("train_step.loss", lambda: step(loss=LOSS.detach()), "tensor", "graph"),
    ("train_step.rate", lambda: step(rate=-0.1), "-0.1", "[0, 1]"),
    ("train.model", lambda: learn(model=len), "len", "ContextUnet"),
    ("train.model", lambda: learn(model=torch.nn.ReLU()), "ReLU", "with weights"),
    ("train.schedule", lambda: learn(schedule=None), "None", "Schedule.linear()"),
    ("train.data", lambda: learn(data=X), "(2, 1, 8, 8)", "Pictures"),
    ("train.data", lambda: learn(data=Pictures(None, C, "ab")), "x=None", "names"),
    ("train.data", lambda: learn(data=Pictures(X[:0], C[:0], "ab")), "(0,", "(N,1,"),
    ("train.data", lambda: learn(data=Pictures(X, C[:1], "ab")), "(1, 2)", "(2,2)"),
    ("train.data", lambda: learn(data=Pictures(X, C[:, :1], "a")), "(2, 1)", "(2,2)"),
    ("train.data", lambda: learn(data=Pictures(X + 255, C, "ab")), "255", "[-1, 1]"),
    ("train.data", lambda: learn(data=Pictures(X * NAN, C, "ab")), "nan", "[-1, 1]"),
    ("train.steps", lambda: learn(steps=0), "0", "1 or more"),
    ("train.batch_size", lambda: learn(batch_size=0), "0", "1 or more"),
    ("train.peak", lambda: learn(peak=0), "0", "(0, 1)"),
    ("train.warmup", lambda: learn(warmup=-1), "-1", "0 or more"),
    ("parse.prompt", lambda: parse(7, ["a"]), "7", "0.5 hero + 0.5 food"),
    ("parse.prompt", lambda: parse([], ["a"]), "[]", "or several"),
    ("parse.prompt", lambda: parse("herro", ["hero"]), "'herro'", "did you mean"),
    ("parse.names", lambda: parse("a", "ab"), "'ab'", "class names"),
    ("parse.names", lambda: parse("a", ["a", "A"]), "['a', 'A']", "differ in more"),
    ("describe.c", lambda: describe([1], ["a"]), "[1]", "float tensor"),
    ("describe.c", lambda: describe(C + 1.5, ["a", "b"]), "1.5", "[0, 1]"),
    ("describe.names", lambda: describe(C, None), "None", "class names"),
    ("sheet.x", lambda: sheet(X[0], ["a"]), "(1, 8, 8)", "(B,C,H,W)"),
    ("sheet.prompts", lambda: sheet(X, ["a"]), "['a']", "2 texts"),
    ("sheet.columns", lambda: sheet(X, ["a", "b"], 0), "0", "1 or more"),
    ("sheet.scale", lambda: sheet(X, ["a", "b"], scale=2.5), "2.5", "1 or more"),
    ("train.ema_decay", lambda: learn(ema_decay=1.0), "1.0", "[0, 1)"),
    ("train.context_dropout", lambda: learn(context_dropout="a"), "'a'", "[0, 1]"),
    ("train.gamma", lambda: learn(gamma=-0.5), "-0.5", "[0, inf)"),
    ("train.bfloat16", lambda: learn(bfloat16="False"), "'False'", "True or False"),
    ("train.seed", lambda: learn(seed=2**70), str(2**70), "0..1099511627776"),
    ("train.state", lambda: learn(state=3), "3", "path of a file"),
    ("train.state", lambda: learn(state="/"), "'/'", "path of a file"),
    ("train.save_seconds", lambda: learn(save_seconds=-1), "-1", "[0, inf)"),
    # noise
    ("initial_noise.n", lambda: initial_noise(0, (1, 4, 4)), "0", "1 or more"),
    ("initial_noise.n", lambda: initial_noise(1.5, (1, 4, 4)), "1.5", "whole number"),
    ("initial_noise.shape", lambda: initial_noise(1, (1, 0, 4)), "0", "1 or more"),
    ("initial_noise.shape", lambda: initial_noise(1, 16), "16", "(C,H,W)"),
    ("initial_noise.seed", lambda: initial_noise(1, (1, 4), -1), "-1", "0 or more"),
    ("initial_noise.start", lambda: initial_noise(1, (4,), 0, "a"), "'a'", "0 or more"),
    ("image_generators.n", lambda: image_generators(None), "None", "1 or more"),
    ("image_generators.seed", lambda: image_generators(1, -1), "-1", "0 or more"),
    ("image_generators.start", lambda: image_generators(1, 0, -1), "-1", "0 or more"),
    ("invert.eps_fn", lambda: invert(3, X, S), "3", "something to call"),
    ("invert.x0", lambda: invert(eps_fn, X[0], S), "(1, 8, 8)", "(B,C,H,W)"),
    ("invert.schedule", lambda: invert(eps_fn, X, 500), "500", "Schedule.linear()"),
    ("invert.steps", lambda: invert(eps_fn, X, S, 501), "501", "1..500"),
    ("invert.spacing", lambda: invert(eps_fn, X, S, 9, "even"), "'even'", "uniform"),
    ("invert.refine", lambda: invert(eps_fn, X, S, refine=-1), "-1", "0 or more"),
    ("invert.refine", lambda: invert(eps_fn, X, S, refine=0.5), "0.5", "whole number"),
    ("slerp.a", lambda: slerp([1], X, 0.5), "[1]", "(B,C,H,W)"),
    ("slerp.a", lambda: slerp(X, X + 1, 0.5), "(2, 1, 8, 8)", "not all zeros"),
    ("slerp.b", lambda: slerp(X + 1, X[:1], 0.5), "(1, 1, 8, 8)", "(2,1,8,8)"),
    ("slerp.b", lambda: slerp(X + 1, -X - 1, 0.5), "(2, 1, 8, 8)", "opposite"),
    ("slerp.w", lambda: slerp(X + 1, X + 1, 1.1), "1.1", "[0, 1]"),
    ("slerp.w", lambda: slerp(X + 1, X + 1, "half"), "'half'", "[0, 1]"),
    ("slerp.w", lambda: slerp(X + 1, X + 1, torch.rand(3)), "(3,)", "(2,)"),
    ("slerp.w", lambda: slerp(X + 1, X + 1, torch.tensor([0.0, 2.0])), "2.0", "[0, 1]"),
    (
        "slerp.w",
        lambda: slerp(X + 1, X + 1, torch.tensor([0.0, NAN])),
        "(2,)",
        "numbers",
    ),
    ("noise_like.x", lambda: noise_like([1]), "[1]", "float tensor"),
    ("noise_like.generator", lambda: noise_like(X, 0), "0", "torch.Generator"),
    (
        "noise_like.generator",
        lambda: noise_like(X, image_generators(3)),
        "torch._C.Generator",
        "a list of 2",
    ),
    # sampling
    ("guide.model", lambda: guide(3), "3", "something to call"),
    ("guide.c", lambda: guide(MODEL, 3), "3", "(B,K)"),
    ("guide.c", lambda: guide(MODEL, C[0]), "(2,)", "(B,K)"),
    ("guide.c", lambda: guide(MODEL, C.long()), "int64", "float"),
    ("guide.scale", lambda: guide(MODEL, scale=-1), "-1", "[0, inf)"),
    ("guide.scale", lambda: guide(MODEL, scale="2"), "'2'", "[0, inf)"),
    ("guide.scale", lambda: guide(MODEL, scale=NAN), "nan", "[0, inf)"),
    ("guide.scale", lambda: guide(MODEL, scale=float("inf")), "inf", "[0, inf)"),
    ("ddpm.eps_fn", lambda: ddpm(None, X, S), "None", "guide(model)"),
    ("ddpm.x", lambda: ddpm(eps_fn, X[0], S), "(1, 8, 8)", "(B,C,H,W)"),
    ("ddpm.schedule", lambda: ddpm(eps_fn, X, 500), "500", "Schedule.linear()"),
    ("ddpm.variance", lambda: ddpm(eps_fn, X, S, "learned"), "'learned'", "posterior"),
    (
        "ddpm.generator",
        lambda: ddpm(eps_fn, X, S, generator=[None, None]),
        "[None, None]",
        "a list of 2",
    ),
    ("ddim_step.x", lambda: ddim_step(1.0, X, 0.5, 0.6), "1.0", "(B,C,H,W)"),
    ("ddim_step.eps", lambda: ddim_step(X, X[:1], 0.5, 0.6), "(1, 1,", "(2,1,8,8)"),
    ("ddim_step.ab_t", lambda: ddim_step(X, X, 0.0, 0.5), "0.0", "(0, 1]"),
    ("ddim_step.ab_t", lambda: ddim_step(X, X, "a", 0.5), "'a'", "(0, 1]"),
    ("ddim_step.ab_s", lambda: ddim_step(X, X, 0.5, 1.5), "1.5", "(0, 1]"),
    ("ddim_step.ab_s", lambda: ddim_step(X, X, 0.5, 0.4, 1.0, X), "0.4", "above ab_t"),
    ("ddim_step.eta", lambda: ddim_step(X, X, 0.5, 0.6, 2.0), "2.0", "[0, 1]"),
    ("ddim_step.noise", lambda: ddim_step(X, X, 0.5, 0.6, 1.0), "None", "(2,1,8,8)"),
    ("ddim_step.noise", lambda: ddim_step(X, X, 0.5, 0.6, 1.0, C), "(2, 2)", "(2,1,8"),
    ("clipped.x", lambda: clipped([1], X, 0.5), "[1]", "float tensor"),
    ("clipped.eps", lambda: clipped(X, None, 0.5), "None", "(2,1,8,8)"),
    ("clipped.ab_t", lambda: clipped(X, X, 1.0), "1.0", "(0, 1)"),
    ("ddim.eps_fn", lambda: ddim(X, X, S), "(2, 1, 8, 8)", "guide(model)"),
    ("ddim.x", lambda: ddim(eps_fn, [1], S), "[1]", "(B,C,H,W)"),
    ("ddim.x", lambda: ddim(eps_fn, X[:0], S), "(0, 1, 8, 8)", "(B,C,H,W)"),
    ("ddim.x", lambda: ddim(eps_fn, X.long(), S), "int64", "float"),
    ("ddim.schedule", lambda: ddim(eps_fn, X, None), "None", "Schedule.linear()"),
    ("ddim.steps", lambda: sample(0), "0", "1..500"),
    ("ddim.steps", lambda: sample([500, 100]), "[500, 100]", "500 to 0"),
    ("ddim.eta", lambda: sample(eta=-0.1), "-0.1", "[0, 1]"),
    ("ddim.eta", lambda: sample(eta=1.1), "1.1", "[0, 1]"),
    ("ddim.eta", lambda: sample(eta=NAN), "nan", "[0, 1]"),
    ("ddim.eta", lambda: sample(eta="sigma"), "'sigma'", "'sigma-hat'"),
    ("ddim.eta", lambda: sample(eta=None), "None", "[0, 1]"),
    ("ddim.spacing", lambda: sample(spacing="trailing"), "'trailing'", "uniform"),
    ("ddim.generator", lambda: sample(generator=0), "0", "torch.Generator"),
    (
        "ddim.generator",
        lambda: sample(generator=image_generators(3)),
        "torch._C.Generator",
        "a list of 2",
    ),
    ("last.steps", lambda: last([]), "[]", "ddim(…)"),
    ("last.steps", lambda: last(3), "3", "ddim(…)"),
    ("last.steps", lambda: last([1, 2]), "[1, 2]", "ddim(…)"),
    # checkpoint
    ("load.name_or_path", lambda: load(None), "None", "'sprites'"),
    ("load.name_or_path", lambda: load("no-such"), "'no-such'", "sprites"),
    ("load.name_or_path", lambda: load("a/b.safetensors"), "a/b", "sprites"),
    ("load.name_or_path", lambda: load(""), "''", "a path"),
    ("load.device", lambda: load("sprites", "gpu"), "'gpu'", "'cpu'"),
    ("load.device", lambda: load("sprites", "cuda:99"), "'cuda:99'", "'cpu'"),
    ("load.device", lambda: load("sprites", 3.5), "3.5", "'cpu'"),
    ("save.path", lambda: keep(path="x.pt"), "'x.pt'", ".safetensors"),
    ("save.path", lambda: keep(path=None), "None", ".safetensors"),
    ("save.model", lambda: keep(model=torch.nn.Linear(1, 1)), "Linear", "ContextUnet"),
    ("save.schedule", lambda: keep(schedule=None), "None", "Schedule.linear()"),
    ("save.context", lambda: keep(context=("a",)), "['a']", "2 names"),
    ("save.context", lambda: keep(context="ab"), "'ab'", "2 names"),
    ("save.context", lambda: keep(context=None), "None", "2 names"),
    ("save.image_shape", lambda: keep(image_shape=(1, 7)), "[1, 7]", "multiples of 4"),
    ("save.image_shape", lambda: keep(image_shape="abc"), "'abc'", "(1,H,W)"),
    ("save.image_shape", lambda: keep(image_shape=5), "5", "(1,H,W)"),
    ("save.meta", lambda: keep(thing=len), "len", "plain JSON"),
    ("save.meta", lambda: keep(loss=NAN), "nan", "plain JSON"),
    # data
    ("dataset.name_or_path", lambda: dataset("spirtes"), "spirtes", "sprites"),
    ("dataset.name_or_path", lambda: dataset(3), "3", "a name or a path"),
    ("dataset.size", lambda: dataset("sprites", 16), "16", "none for sprites"),
    ("image_folder.path", lambda: image_folder("none-here"), "none-here", "folders"),
    ("path", lambda: image_folder(3), "3", "a name or a path"),
    ("image_folder.size", lambda: image_folder(".", 17), "17", "multiple of 4"),
    ("npy_pair.images", lambda: npy_pair("no.npy", "x.npy"), "no.npy", "np.save"),
    ("npy_pair.labels", lambda: npy_pair(one_file(), "y.npy"), "y.npy", "np.save"),
    ("draw_sprites.n", lambda: draw_sprites(0, 0), "0", "at least 1"),
    ("draw_sprites.seed", lambda: draw_sprites(1, -1), "-1", "from 0 to 2**64"),
    ("draw_archetype.name", lambda: draw_archetype("spoon", 1, 0), "'spoon'", "apple"),
    ("draw_archetype.n", lambda: draw_archetype("apple", 2.0, 0), "2.0", "at least 1"),
    ("draw_archetype.seed", lambda: draw_archetype("apple", 1, None), "None", "an int"),
    # viz
    ("grid.x", lambda: grid(GREY), "ndarray", "(B,C,H,W)"),
    ("grid.x", lambda: grid(X[0]), "(1, 8, 8)", "(B,C,H,W)"),
    ("grid.x", lambda: grid(X * NAN), "NaN", "look for its source"),
    ("grid.columns", lambda: grid(X, 0), "0", "1 or more"),
    ("grid.scale", lambda: grid(X, scale="4"), "'4'", "1 or more"),
    ("strip.frames", lambda: strip(3), "3", "(B,C,H,W) or more, in a row"),
    ("strip.frames", lambda: strip([]), "[]", "one tensor"),
    ("strip.moments", lambda: strip([X], 0), "0", "1 or more"),
    ("strip.moments", lambda: strip([X], [7]), "[7]", "indices into 1 frames"),
    ("strip.scale", lambda: strip([X], 1, 0), "0", "1 or more"),
    ("plot.curves", lambda: plot([1, 2]), "[1, 2]", "{label: numbers}"),
    ("plot.curves", lambda: plot({"a": [1, NAN]}), "'a'", "finite numbers"),
    ("plot.curves", lambda: plot({"a": "b"}), "'a'", "finite numbers"),
    ("plot.x", lambda: plot({"a": [1, 2]}, x="ab"), "'ab'", "numbers"),
    ("plot.log", lambda: plot({"a": [1, 2]}, log="z"), "'z'", "'xy'"),
    ("plot.size", lambda: plot({"a": [1, 2]}, size=3), "3", "(width, height)"),
    ("gif.frames", lambda: film(frames=X), "(1, 8, 8)", "(B,C,H,W)"),
    ("gif.frames", lambda: film(frames=[X, X[:1]]), "frames[1]", "one shape"),
    ("gif.path", lambda: film(path="a.png"), "'a.png'", ".gif"),
    ("gif.path", lambda: film(path=3), "3", ".gif"),
    ("gif.columns", lambda: film(columns=-1), "-1", "1..65535"),
    ("gif.scale", lambda: film(scale=10**5), "100000", "1..65535"),
    ("gif.ms", lambda: film(ms=60.5), "60.5", "10..655350"),
    ("gif.hold_ms", lambda: film(hold_ms=5), "5", "10..655350"),
    ("gif.colors", lambda: film(colors=257), "257", "2..256"),
    ("show.pictures", lambda: show(alt="a"), "()", "one picture or more"),
    ("show.pictures", lambda: show(3, alt="a"), "3", "a GIF or a PNG"),
    ("show.pictures", lambda: show(GREY, alt="a"), "(4, 4)", "uint8 (H,W,3)"),
    ("show.titles", lambda: show(X, titles=3, alt="a"), "3", "1 texts"),
    ("show.alt", lambda: show(X), "None", "says what pictures[0] shows"),
    ("show.alt", lambda: show(X, alt=["a", "b"]), "['a', 'b']", "1 texts"),
    ("show.columns", lambda: show(X, alt="a", columns=0), "0", "1 or more"),
    ("show.scale", lambda: show(X, alt="a", scale=2.5), "2.5", "1 or more"),
    ("show.colors", lambda: show(X, alt="a", colors=1), "1", "2..256"),
    ("show.colors", lambda: show(X, alt="a", colors="few"), "'few'", "2..256"),
    ("progress.steps", lambda: progress(3), "3", "ddim(...)"),
    ("progress.total", lambda: progress([], -1), "-1", "0 or more"),
    ("progress.total", lambda: progress([], "9"), "'9'", "0 or more"),
    # widgets
    ("playground.name", lambda: playground("no-such"), "'no-such'", "sprites"),
    ("playground.n", lambda: playground("sprites", 0), "0", "1..256"),
    ("playground.n", lambda: playground("sprites", 257), "257", "1..256"),
]
# Any value will do: a text that is shown as it is, a truth value. playground passes its
# name to load, which calls it name_or_path.
ANY = {"ddim.clip", "plot.xlabel", "plot.ylabel", "progress.label"}
CALLED = {"playground.name": "name_or_path", "plot.curves": "curves"}
# Files are named by their path.
CALLED |= {"image_folder.path": "none-here", "npy_pair.images": "no.npy"}
CALLED |= {"npy_pair.labels": "y.npy"}
SELF_CHECKS = [name for name in lesson_utils.__all__ if name.startswith("check_")]


@functools.cache
def one_file():
    path = Path(tempfile.mkdtemp()) / "x.npy"
    np.save(path, np.zeros((1, 4, 4, 3), np.uint8))
    return path


def fault(call) -> Exception:
    """What the call raises. Iterators are not begun: the call itself must refuse."""
    try:
        call()
    except Exception as problem:
        return problem
    return AssertionError("nothing is raised")


def complaints(where, call, value, remedy) -> list[str]:
    """What is wrong with the way in which a call is refused."""
    problem, name = fault(call), CALLED.get(where, where.rpartition(".")[2])
    said = str(problem)
    found = [] if type(problem) is ValueError else [repr(problem)]
    frames = traceback.extract_tb(problem.__traceback__)
    if not frames or "lesson_utils" not in frames[-1].filename:
        found.append(f"not raised by us: {problem!r}")
    if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said):
        found.append(f"{name} is not named: {said}")
    rest = said.replace(remedy, "", 1)
    if value not in rest:
        found.append(f"{value} is not shown: {said}")
    return found + ([] if remedy in said else [f"{remedy} is not offered: {said}"])


@pytest.mark.parametrize(
    ("where", "call", "value", "remedy"), CASES, ids=[case[0] for case in CASES]
)
def test_nonsense_is_refused_at_the_call(where, call, value, remedy):
    assert complaints(where, call, value, remedy) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda: None,
        lambda: [][1],
        lambda: torch.zeros("a"),
        lambda: refuse("y", "1 or 2", 3),
        lambda: refuse("x", "1 or 2", 4),
        lambda: refuse("x", "5 or 6", 3),
        lambda: {}.missing,
    ],
)
def test_the_test_of_refusals_can_fail(call):
    assert complaints("f.x", lambda: refuse("x", "1 or 2", 3), "3", "1 or 2") == []
    assert complaints("f.x", call, "3", "1 or 2") != []


def arguments(module) -> set[str]:
    """function.argument for all that a module exports: plain records aside."""
    found = set()
    for name in module.__all__:
        public = getattr(module, name)
        function = inspect.isfunction(public) or inspect.isclass(public)
        if function and not hasattr(public, "_fields") and name not in SELF_CHECKS:
            found |= {f"{name}.{p}" for p in inspect.signature(public).parameters}
    return found


def test_every_public_argument_has_a_case():
    covered = {case[0] for case in CASES}
    missing = arguments(lesson_utils) - ANY - covered
    assert missing == set()
    assert arguments(lesson_utils) >= ANY and not ANY & covered
    assert len(CASES) >= 60
    assert {"ddim.eta", "Schedule.alpha_bar", "save.meta"} <= arguments(lesson_utils)


@pytest.mark.parametrize("name", SELF_CHECKS)
@pytest.mark.parametrize(
    "answer", [3, None, "text", lambda: 1, functools.partial(lambda *a: None)]
)
def test_a_self_check_raises_nothing_whatever_it_is_given(name, answer, capsys):
    assert getattr(lesson_utils, name)(answer) is False
    assert capsys.readouterr().out.startswith("not yet: ")
