"""The command sample: files that depend on seed and number alone, and are whole."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small import small_data, small_model, small_run

from lesson_utils import (
    Schedule,
    Step,
    ddim,
    ddpm,
    dpmpp_2m,
    guide,
    heun,
    image_generators,
    initial_noise,
    invert,
    last,
    load,
    parse,
    save,
    slerp,
)
from lesson_utils.cli import main
from lesson_utils.gallery import file_name
from lesson_utils.support.files import locked, write_tensors
from lesson_utils.support.state import read_state
from lesson_utils.viz import pixels

T = 12  # and so the steps, where none are given
SCHEDULE = Schedule.linear(T, 0.02, 0.3)


def calm(seed=0) -> torch.nn.Module:
    """A network whose samples stay in [-1, 1], each of its own greys."""
    model = small_model(1, 2, seed=seed, lively=True)
    with torch.no_grad():
        model.mix.bias[:] = torch.tensor([0.9, 0.0])
    return model


class Desk:
    """A small checkpoint, and the command that samples six images from it."""

    def __init__(self, home):
        self.home, self.file = home, home / "small.safetensors"
        save(self.file, calm(), SCHEDULE, ("a", "b"), (1, 8, 8))

    def words(self, name, *more) -> list[str]:
        start = ["sample", "--save-dir", self.home / name, "--checkpoint", self.file]
        small = "--batch-size", "4", "--n-samples", "6", "--device", "cpu"
        return [str(word) for word in (*start, *small, *more)]

    def sample(self, name, *more):
        """Sample into the folder of this name; gives the folder."""
        assert main(self.words(name, *more)) == 0
        return self.home / name

    def again(self, folder, name, *more):
        """Sample what another folder's run.json says."""
        where = "--save-dir", str(self.home / name), *map(str, more)
        assert main(["sample", "--again", str(folder / "run.json"), *where]) == 0
        return self.home / name


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


@pytest.fixture
def refused(capsys):
    """Runs a command, which must fail in one line, and gives that."""

    def run(words) -> str:
        capsys.readouterr()
        try:
            status = main(words)
        except SystemExit as ended:
            status = ended.code
        said = capsys.readouterr().err
        assert status == 2 and said.startswith("error: ") and said.count("\n") == 1
        return said

    return run


def contents(folder) -> dict[str, bytes]:
    """All files but run.json, whose seconds differ."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert files.pop("run.json")
    return files


def record(folder) -> dict:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def stills(folder, n, kind="") -> np.ndarray:
    """The first n images (n,H,W) of a kind, or (n,H,W,3)."""
    found = []
    for i in range(n):
        with Image.open(folder / file_name(i, kind)) as picture:
            assert picture.mode in ("L", "RGB")
            found.append(np.asarray(picture).astype(int))
    return np.stack(found)


def near(folder, x, kind="") -> bool:
    """Whether the first images are x (N,1,8,8), but for a grey level."""
    wanted = pixels(x)[..., 0].astype(int)
    assert wanted.std() > 20 and np.isin(wanted, (0, 255)).mean() < 0.2
    return np.abs(stills(folder, len(x), kind) - wanted).max() <= 1


# What is in the files


WAYS = {
    "--sampler ddim": lambda e, x, s, g: ddim(e, x, s, T),
    "--steps 3 --eta 0.5": lambda e, x, s, g: ddim(e, x, s, 3, 0.5, generator=g),
    "--steps 5 --spacing quad": lambda e, x, s, g: ddim(e, x, s, 5, 0, "quad"),
    "--eta sigma-hat": lambda e, x, s, g: ddim(e, x, s, T, "sigma-hat", generator=g),
    "--sampler ddpm": lambda e, x, s, g: ddpm(e, x, s, generator=g),
    "--sampler heun": lambda e, x, s, g: heun(e, x, s),
    "--sampler dpmpp_2m --steps 5 --spacing logsnr": lambda e, x, s, g: dpmpp_2m(
        e, x, s, 5, "logsnr"
    ),
}


@pytest.mark.parametrize(("seed", "way"), [*enumerate(WAYS)])
def test_an_image_is_what_its_sampler_gives(desk, seed, way):
    """In micro-batches of four as alone; of each prompt in turn, and of none."""
    more = "--guidance=2", "--unconditional", "--seed", seed, *way.split()
    prompts = ["a", "0.5 a + 0.5 b", ""]
    folder = desk.sample("out", *more, "--prompts", *prompts)
    ck, sampler = load(desk.file), WAYS[way]
    noise, c = initial_noise(6, (1, 8, 8), seed), parse(prompts * 2, ck.context)
    for kind, context in (("", c), ("-unconditional", None)):
        generators = image_generators(6, seed)
        steps = sampler(guide(ck.model, context, 2.0), noise, ck.schedule, generators)
        taken = [step.x for step in steps]
        assert near(folder, taken[-1], kind)
    said = record(folder)
    assert said["finished"] and said["images"] == 6
    once = 2 * len(taken) - 1 if "heun" in way else len(taken)
    an_image = 3 * once  # two are guided, one is not
    assert said["evaluations"] == {"an_image": an_image, "in_all": 8 * an_image}


def test_classes_take_turns_and_the_grid_says_so(desk):
    folder = desk.sample("out", "--unconditional", "--gif")
    x, ck = initial_noise(6, (1, 8, 8)), load(desk.file)
    c = parse(["a", "b"] * 3, ck.context)
    assert near(folder, last(ddim(guide(ck.model, c), x, ck.schedule, T)))
    rows = [["a", "b"] * 2, ["no context"] * 4, ["a", "b"], ["no context"] * 2]
    words = (folder / "prompts.txt").read_text(encoding="utf-8")
    assert words.splitlines() == ["\t".join(row) for row in rows]
    with Image.open(folder / "grid.png") as grid:
        shown = np.asarray(grid.convert("L"))[::8, ::8].astype(int)
    tiles = shown.reshape(4, 8, 4, 8).swapaxes(1, 2)  # (rows, columns, H, W)
    for i, kind in enumerate(("", "-unconditional")):
        six = np.concatenate([tiles[i], tiles[2 + i, :2]])
        assert (six == stills(folder, 6, kind)).all()
    assert (tiles[2:, 2:] == 255).all()
    with Image.open(folder / "film.gif") as film:  # of one micro-batch
        assert film.n_frames == T and film.size == (256, 64)
        film.seek(T - 1)
        final = np.asarray(film.convert("L"))[::8, ::8]
    assert np.abs(final - shown[:8]).max() <= 1


def test_prompts_from_a_file_and_bfloat16(desk):
    lines = desk.home / "prompts.txt"
    lines.write_text("\ufeffa\n\n0.5 a + ½ b\n", encoding="utf-8")
    same = ["--prompts", "a", "", "0.5 a + 0.5 b"]
    given = desk.sample("given", *same, "--dtype", "float32")
    named = desk.sample("named", "--prompts-file", lines)
    images = [contents(folder) for folder in (given, named)]
    for found in images:
        assert found.pop("prompts.txt")
    assert images[0] == images[1]
    lower = desk.sample("lower", *same, "--dtype", "bfloat16")
    apart = np.abs(stills(lower, 6) - stills(given, 6))
    assert apart.max() > 0 and apart.mean() < 3


# Modes


@pytest.mark.parametrize("prompts", [None, ["b"], ["a", "b"]])
@pytest.mark.parametrize("eta", ["0", "1"])
def test_rows_lead_from_one_latent_or_prompt_to_another(desk, prompts, eta):
    more = ["--prompts", *prompts] if prompts else []
    mode = "--mode", "interpolate", "--n-interpolate", "3", "--eta", eta
    folder = desk.sample(
        "out", "--n-samples", "3", *mode, *more
    )  # rows over two batches
    ck, w = load(desk.file), torch.tensor([0.0, 0.5, 1.0])
    for row in range(3):
        if prompts == ["a", "b"]:
            x = initial_noise(1, (1, 8, 8), start=row).repeat(3, 1, 1, 1)
            c = torch.stack([1 - w, w], 1)
        else:
            ends = initial_noise(2, (1, 8, 8), start=2 * row)
            x = slerp(ends[:1].repeat(3, 1, 1, 1), ends[1:].repeat(3, 1, 1, 1), w)
            c = parse([prompts[0] if prompts else "aba"[row]] * 3, ck.context)
        g = [image_generators(1, start=row)[0] for _ in range(3)]
        steps = ddim(guide(ck.model, c), x, ck.schedule, T, int(eta), generator=g)
        wanted = pixels(last(steps))[..., 0].astype(int)
        found = stills(folder, 9)[3 * row : 3 * row + 3]
        assert np.abs(found - wanted).max() <= 1
    [first, *_] = (folder / "prompts.txt").read_text(encoding="utf-8").splitlines()
    middle = {None: "a", "b": "b", "a": "0.5 a + 0.5 b"}[prompts and prompts[0]]
    assert first.split("\t")[1] == middle and first.count("\t") == 2


def write_images(folder, n=5):
    """n grey images, 8 × 8, in a folder without classes."""
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (n, 8, 8), np.uint8)
    for i, one in enumerate(noise):
        Image.fromarray(one).save(folder / f"{i}.png")
    return torch.from_numpy(noise[:, None] / 127.5 - 1).float()


def test_images_of_a_folder_come_back_with_their_error(desk):
    x0 = write_images(desk.home / "mine")
    mode = "--mode", "reconstruct", "--steps", "4", "--spacing", "quad"
    source = "--input-dir", desk.home / "mine"
    folder = desk.sample("out", *mode, *source, "--gif")
    ck = load(desk.file)
    latent = last(invert(ck.model, x0, ck.schedule, 4, "quad"))
    back = last(ddim(ck.model, latent, ck.schedule, 4, 0, "quad"))
    assert near(folder, back) and (stills(folder, 5, "-original") >= 0).all()
    assert near(folder, x0, "-original")
    assert len(contents(folder)) == 2 * 5 + 3
    errors = ((back - x0) / 2).square().mean((1, 2, 3))
    said = record(folder)
    assert said["errors"] == pytest.approx(errors.tolist(), rel=1e-3)
    assert said["mse"] == pytest.approx(float(errors.mean()), rel=1e-3)
    assert said["evaluations"]["an_image"] == 8
    words = (folder / "prompts.txt").read_text(encoding="utf-8")
    rows = [["original"] * 5, ["no context"] * 5]
    assert words.splitlines() == ["\t".join(row) for row in rows]
    (folder / "000003.png").unlink()  # of the second micro-batch
    desk.sample("out", *mode, *source, "--gif", "--resume")
    assert near(folder, back) and record(folder)["errors"] == said["errors"]


@pytest.mark.parametrize("source", ["its own", "class folders"])
def test_images_are_reconstructed_with_their_class(desk, monkeypatch, source):
    data = small_data(6, (1, 8, 8), 2, seed=3)
    unseen = {"sprites": lambda: data}
    monkeypatch.setattr("lesson_utils.data.UNSEEN", unseen)
    more = []
    if source == "class folders":
        monkeypatch.setattr("lesson_utils.data.UNSEEN", {})
        for i, one in enumerate(pixels(data.x)):
            place = desk.home / "mine" / "ab"[i % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(one).save(place / f"{i}.png")
        more = ["--input-dir", desk.home / "mine"]
    ck = load(desk.file)
    save(
        desk.file,
        ck.model,
        ck.schedule,
        ck.context,
        (1, 8, 8),
        data="sprites, 6 images",
    )
    folder = desk.sample("out", "--mode", "reconstruct", "--steps", "4", *more)
    order = [0, 2, 4, 1, 3, 5] if more else list(range(6))
    x0, c = data.x[order], data.c[order]
    eps_fn = guide(ck.model, c)
    latent = last(invert(eps_fn, x0, ck.schedule, 4))
    assert near(folder, last(ddim(eps_fn, latent, ck.schedule, 4)))


# The same on every way


MORE = "--batch-size 7 --eta 1 --unconditional --gif --prompts a b".split()
MORE.append("")  # a prompt too


def test_whatever_is_missing_comes_back_to_the_byte(desk, capsys):
    """Of any number of images, and in whatever order they were made."""
    whole = contents(desk.sample("whole", *MORE, "--n-samples", "11"))
    folder = desk.sample("part", *MORE, "--n-samples", "5")
    assert len(contents(folder)) == 2 * 5 + 3
    for name in ("000001.png", "000003-unconditional.png", "grid.png"):
        (folder / name).unlink()
    (folder / "000000.png").write_bytes(b"")  # of a machine that failed
    kept = (folder / "000002.png").stat().st_mtime_ns
    capsys.readouterr()
    desk.sample("part", *MORE, "--n-samples", "11", "--resume")
    said = capsys.readouterr().out
    assert "2 images of 11 are there" in said and "9/9" in said
    assert contents(folder) == whole  # with the film of a whole micro-batch
    assert (folder / "000002.png").stat().st_mtime_ns == kept
    desk.sample("part", *MORE, "--n-samples", "11", "--resume")
    assert contents(folder) == whole
    assert record(folder)["evaluations"]["in_all"] == 7 * T * 2 * (1 + 2)


@pytest.mark.parametrize("way", WAYS)
def test_another_batch_size_changes_a_grey_level_at_most(desk, way):
    one = desk.sample("one", *way.split(), "--batch-size", "2")
    all_of_them = desk.sample("all", *way.split(), "--batch-size", "7")
    assert np.abs(stills(one, 6) - stills(all_of_them, 6)).max() <= 1


def test_again_repeats_it_bit_for_bit(desk, monkeypatch, capsys, refused):
    write_images(desk.home / "mine")
    monkeypatch.chdir(desk.home)
    given = {
        "one": (*MORE, "--steps", "5", "--spacing", "quad", "--guidance", "1.5"),
        "two": ("--mode", "interpolate", "--n-interpolate", "5", "--seed", "3"),
        "three": ("--mode", "reconstruct", "--input-dir", "mine", "--steps", "2"),
        "four": ("--sampler", "ddpm", "--dtype", "bfloat16"),
    }
    for name, more in given.items():
        folder = desk.sample(name, *more)
        same = desk.again(folder, f"{name} again")
        assert contents(same) == contents(folder)
        desk.again(same, f"{name} again", "--resume")
        one, two = record(folder), record(same)
        assert one.pop("seconds") and two.pop("seconds") and one == two
    capsys.readouterr()
    run = ["sample", "--again", "one/run.json", "--save-dir", "x"]
    assert "--again: no other settings beside it" in refused([*run, "--steps", "5"])
    moved = desk.file.rename(desk.home / "moved.safetensors")
    assert "no checkpoint" in refused(run)
    assert main([*run, "--checkpoint", str(moved)]) == 0
    save(moved, calm(seed=1), SCHEDULE, ("a", "b"), (1, 8, 8))
    why = "made of other weights; they must be the same"
    assert why in refused([*run[:-1], "y", "--checkpoint", str(moved)])
    (desk.home / "one/run.json").write_text('{"settings": {}}', encoding="utf-8")
    assert "one/run.json: no run.json of sample" in refused(run)
    assert not (desk.home / "y").exists()


@pytest.mark.parametrize("ema", [None, "--ema", "--no-ema"])
def test_the_state_of_a_training_is_sampled_from(desk, ema):
    state = desk.home / "state.safetensors"
    last_one = calm()
    run = {"files": {"state": state}, "schedule": SCHEDULE, "steps": 9}
    run.update(warmup=1, learning_rate=0.02, ema_decay=0.9)
    for update in islice(small_run(last_one, **run), 3):
        average = update.ema.module
    folder = desk.sample("out", "--checkpoint", state, *([ema] if ema else []))
    c, noise = torch.eye(2).repeat(3, 1), initial_noise(6, (1, 8, 8))
    for model, chosen in ((average, ema != "--no-ema"), (last_one, ema == "--no-ema")):
        x = last(ddim(guide(model.eval(), c), noise, SCHEDULE, T))
        assert near(folder, x) == chosen
    assert contents(desk.again(folder, "again")) == contents(folder)


def test_an_old_state_says_what_to_do(desk, refused, monkeypatch):
    state = desk.home / "state.safetensors"
    next(small_run(files={"state": state}, schedule=SCHEDULE, steps=9))
    tensors, known = read_state(state)
    del known["about"]
    write_tensors(state, tensors, known)
    said = refused(desk.words("out", "--checkpoint", state))
    assert "state.safetensors: an old state" in said and "one more update" in said
    next(small_run(files={"state": state}, schedule=SCHEDULE, steps=9))
    assert len(contents(desk.sample("out", "--checkpoint", state))) == 6 + 2


# Nothing is lost


def stopped_again_and_again(home: Path, how: int) -> None:
    """Sample by forks that are stopped in the middle, until one is not."""
    desk, draw, stops = Desk(home), random.Random(0), 0
    words = desk.words("part", *MORE, "--n-samples", "30", "--resume")
    folder = home / "part"
    while True:
        before = len(list(folder.glob("0*.png")))
        child = os.fork()
        if not child:
            os._exit(main(words))
        wanted = before + draw.randint(1, 12)
        while len(list(folder.glob("0*.png"))) < wanted:
            if os.waitpid(child, os.WNOHANG)[0]:
                print("stops", stops, flush=True)
                return
            time.sleep(0.002)  # leaves the core to the child
        os.kill(child, how)
        _, status = os.waitpid(child, 0)
        assert status == how if how == signal.SIGKILL else status >> 8 == 130
        stops += 1
        for path in folder.glob("*.png"):
            with Image.open(path) as picture:
                picture.load()
        json.loads((folder / "run.json").read_text(encoding="utf-8"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no os.fork here")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_a_run_stopped_again_and_again_ends_as_one_that_was_not(desk, how):
    """Bit for bit, and with whole files at any moment."""
    whole = contents(desk.sample("whole", *MORE, "--n-samples", "30"))
    home = desk.home / "forks"
    home.mkdir()
    command = [sys.executable, __file__, home, how]
    pipes = {"capture_output": True, "text": True, "encoding": "utf-8"}
    done = subprocess.run(command, **pipes, timeout=300)
    assert done.returncode == 0, done.stderr
    stops = int(done.stdout.split()[-1])
    assert stops >= 3 and contents(home / "part") == whole
    if how == "SIGINT":
        told = f"stopped; the same command with --resume goes on from {home}"
        assert done.stderr.count(told) == stops and "Traceback" not in done.stderr


@pytest.mark.parametrize("nth", [1, 2, 4, 9])
def test_a_full_disk_is_one_line_and_keeps_what_is_there(
    desk, refused, monkeypatch, nth
):
    write, times = Path.write_bytes, iter(range(1, 100))

    def full(path, data):
        if next(times) >= nth:
            write(path, data[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert "cannot be written ([Errno 28] No space left" in refused(
            desk.words("out")
        )
    left = {path.name for path in (desk.home / "out").iterdir()}
    whole = contents(desk.sample("whole"))
    assert left <= whole.keys() | {"run.json"} and len(left) >= min(nth, 3) - 1
    assert all((desk.home / "out" / name).stat().st_size > 10 for name in left)
    assert contents(desk.sample("out", "--resume")) == whole


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/none"])
def test_a_folder_that_takes_no_file_is_named(desk, refused, place):
    (desk.home / "file").write_text("no folder", encoding="utf-8")
    assert str(desk.home / place) in refused(desk.words(place))


def test_what_is_there_is_kept_or_replaced_as_asked(desk, refused):
    folder = desk.sample("out", *MORE)
    (folder / "mine.txt").write_text("mine", encoding="utf-8")
    before = contents(folder)
    said = refused(desk.words("out", *MORE))
    assert "out is not empty; --resume" in said and "--overwrite" in said
    assert "not allowed with" in refused(desk.words("out", "--resume", "--overwrite"))
    assert "--n-samples: 6 or more" in refused(
        desk.words("out", *MORE, "--n-samples", "5", "--resume")
    )
    for more, why in (
        (["--seed", "1"], "(--seed)"),
        (["--eta", "0", "--steps", "2"], "(--steps, --eta)"),
        (["--batch-size", "5"], "(--batch-size)"),
        (["--prompts", "a"], "(--prompts)"),
    ):
        assert why in refused(desk.words("out", *MORE, *more, "--resume"))
    save(desk.file, calm(seed=1), SCHEDULE, ("a", "b"), (1, 8, 8))
    assert "(weights)" in refused(desk.words("out", *MORE, "--resume"))
    with locked(folder / "run.json"):
        assert "another sampling is writing it" in refused(
            desk.words("out", *MORE, "--overwrite")
        )
    assert contents(folder) == before
    desk.sample("out", "--overwrite", "--n-samples", "3")
    names = {"mine.txt", "grid.png", "prompts.txt", *map(file_name, range(3))}
    assert contents(folder).keys() == names
    (folder / "run.json").unlink()
    assert "holds no run.json" in refused(desk.words("out", "--resume"))
    (folder / "run.json").write_text("[]", encoding="utf-8")
    assert "run.json: no run.json of sample" in refused(desk.words("out", "--resume"))


WRONG = {
    "--prompts c": "--prompts: one of: a, b is needed, got 'c'",
    "--prompts a b a --mode interpolate": "--prompts: two or fewer in --mode",
    "--prompts-file nowhere": "--prompts-file: ",
    "--prompts-file /dev/full": "--prompts-file: ",
    "--save-dir=": "--save-dir: a name or a path is needed",
    "--prompts a --prompts-file x": "--prompts-file: no --prompts beside it",
    "--steps 13": "--steps: a whole number in 1..12",
    "--sampler ddpm --steps 3": "--steps: none with ddpm",
    "--sampler ddpm --eta 1": "--eta: none with ddpm",
    "--sampler ddpm --spacing quad": "--spacing: none with ddpm",
    "--sampler heun --eta 1": "--eta: none with heun",
    "--sampler dpmpp_2m --eta sigma-hat": "--eta: none with dpmpp_2m",
    "--sampler heun --steps 13": "--steps: a whole number in 1..12",
    "--sampler heun --spacing karras": "--spacing: 'uniform' or",
    "--sampler euler": "--sampler: 'ddim' or 'ddpm' or 'heun' or 'dpmpp_2m'",
    "--eta 2": "--eta: a number in [0, 1] or 'sigma-hat'",
    "--n-samples 0": "--n-samples: a whole number in 1..1000000",
    "--batch-size 0": "--batch-size: a whole number",
    "--mode dream": "--mode: 'sample' or 'interpolate' or 'reconstruct'",
    "--dtype float16": "--dtype: 'float32' or 'bfloat16'",
    "--guidance -1": "--guidance: a number in [0, inf)",
    "--n-interpolate 5": "--n-interpolate: none but in --mode interpolate",
    "--n-interpolate 1 --mode interpolate": "--n-interpolate: a whole number in 2..100",
    "--input-dir .": "--input-dir: none but in --mode reconstruct",
    "--mode reconstruct": "--input-dir: the images",
    "--mode reconstruct --input-dir nowhere": "--input-dir: a folder of images",
    "--mode reconstruct --input-dir . --eta 1": "--mode: with reconstruct, --sampler",
    "--mode reconstruct --input-dir . --sampler ddpm": "--mode: with reconstruct",
    "--mode reconstruct --input-dir . --sampler heun": "--mode: with reconstruct",
    "--mode reconstruct --unconditional": "--unconditional: ",
    "--ema": "--ema: the state of a training",
    "--no-ema": "--no-ema: the state of a training",
    "--again nowhere.json": "nowhere.json: no run.json of sample",
    "--checkpoint nowhere": "no checkpoint 'nowhere'",
    "--device none": "device: one of this machine",
}


@pytest.mark.parametrize("words", WRONG)
def test_what_makes_no_sense_is_refused_before_any_work(
    desk, refused, monkeypatch, words
):
    monkeypatch.chdir(desk.home)
    command = (
        ["sample", "--save-dir", "out"] if "--again" in words else desk.words("out")
    )
    assert WRONG[words] in refused([*command, *words.split()])
    assert not (desk.home / "out").exists()


def test_what_is_no_record_is_refused_in_a_short_line(desk, refused):
    (desk.home / "run.json").write_bytes(b"\xff" * 100_000)
    again = "--again", str(desk.home / "run.json")
    said = refused(["sample", "--save-dir", str(desk.home / "x"), *again])
    assert "no run.json of sample (UnicodeDecodeError" in said and len(said) < 600


def test_unreadable_images_to_reconstruct_are_named_without_a_flag_for_training(
    desk, refused
):
    write_images(desk.home / "mine")
    (desk.home / "mine" / "x.png").write_bytes(b"no image")
    flags = "--mode", "reconstruct", "--input-dir", desk.home / "mine"
    said = refused(desk.words("x", *flags))
    assert "x.png" in said and "or move away" in said and "skip" not in said


def test_strong_guidance_and_another_batch_size_change_two_grey_levels_at_most(
    tmp_path,
):
    """The shipped network, where guidance multiplies what rounding leaves."""
    command = (
        "sample --n-samples 8 --steps 20 --guidance 8 --eta 1 --device cpu".split()
    )
    for size in ("3", "8"):
        where = "--save-dir", str(tmp_path / size), "--batch-size", size
        assert main([*command, *where]) == 0
    assert np.abs(stills(tmp_path / "3", 8) - stills(tmp_path / "8", 8)).max() <= 2


def test_a_compiled_network_gives_the_same_images(desk, compiled):
    plain, fast = desk.sample("plain"), desk.sample("fast", "--compile")
    assert len(compiled) == 2 and record(fast)["settings"]["compile"] is True
    again = desk.again(fast, "again")
    assert len(compiled) == 4 and contents(again) == contents(fast)
    for name in ("000000.png", "000005.png"):
        one, two = (np.asarray(Image.open(f / name), int) for f in (plain, fast))
        assert abs(one - two).max() <= 1


def test_a_model_without_classes(desk, refused):
    save(desk.file, small_model(1, 0), SCHEDULE, (), (1, 8, 8))
    assert "--unconditional: none for a checkpoint without classes" in refused(
        desk.words("x", "--unconditional")
    )
    folder = desk.sample("out", "--guidance", "2")
    assert record(folder)["evaluations"]["an_image"] == T
    words = (folder / "prompts.txt").read_text(encoding="utf-8")
    assert set(words.split("\n")[0].split("\t")) == {"no context"}


def test_what_is_no_number_becomes_no_image(desk, refused, monkeypatch):
    def wrong(job, start):
        x = torch.zeros(4, 1, 8, 8)
        x[1, 0, 3, 3] = torch.nan if start else 0
        yield "", Step(0, x, None)

    monkeypatch.setattr("lesson_utils.sample_runs.passes", wrong)
    said = refused(desk.words("out", "--steps", "1", "--device", "auto"))
    assert "image 5: the network gives no finite number" in said
    assert contents(desk.home / "out").keys() == {file_name(i) for i in range(4)}


def test_memory_does_not_grow_with_the_number_of_images(desk, monkeypatch):
    def nothing(job, start):
        yield "", Step(0, torch.zeros(job.settings.batch_size, 1, 8, 8), None)

    monkeypatch.setattr("lesson_utils.sample_runs.passes", nothing)
    desk.sample("first", "--steps", "1")  # imports, and the like
    peaks = []
    for i, n in enumerate((200, 2000, 2000)):  # twice: whatever else may be at work
        tracemalloc.start()
        desk.sample(f"out{i}", "--n-samples", n, "--steps", "1")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert min(peaks[1:]) < peaks[0] + 100_000  # of an image's 256 bytes, 55


if __name__ == "__main__":
    stopped_again_and_again(Path(sys.argv[1]), getattr(signal, sys.argv[2]))
