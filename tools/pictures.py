"""make pictures: the README's contact sheet, the model card's pictures and figures."""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from lesson_utils import (
    Checkpoint,
    Pictures,
    ddim,
    draw_sprites,
    grid,
    guide,
    initial_noise,
    last,
    load,
)
from lesson_utils.data import UNSEEN, to_unit
from tools.blocks import fill

ROOT = Path(__file__).resolve().parent.parent


def write_png(picture: np.ndarray, path: Path) -> None:
    """A picture of few colours (H,W,3) as a PNG with a palette."""
    image = Image.fromarray(picture).quantize(256, dither=Image.Dither.NONE)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=True)


def contact_sheet(rows: int = 12, columns: int = 20) -> np.ndarray:
    """Drawn sprites, as they come: uint8 (rows*64, columns*64, 3)."""
    images, _ = draw_sprites(rows * columns, seed=3)
    return grid(to_unit(images), columns=columns, scale=4)


def samples_beside_real(
    checkpoint: Checkpoint, real: Pictures, n: int = 64
) -> np.ndarray:
    """n unseen pictures at the left, n of DDIM-20 of the same classes at the right."""
    order = real.c[:n].argmax(1).argsort(stable=True)
    x = initial_noise(n, checkpoint.image_shape, seed=2026)
    eps_fn = guide(checkpoint.model, real.c[order])
    sampled = last(ddim(eps_fn, x, checkpoint.schedule, steps=20))
    scale = 4 if x.shape[-1] <= 16 else 2
    left, right = (grid(side, 8, scale) for side in (real.x[order], sampled))
    gap = np.full((len(left), 32, 3), 255, np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def loss_curve(checkpoint: Checkpoint, path: Path) -> None:
    """The loss over the updates of the recorded training, as a PNG."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    losses, steps = checkpoint.meta["loss_curve"], checkpoint.meta["steps"]
    figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
    middle = (np.arange(len(losses)) + 0.5) * steps / len(losses)
    axis.semilogy(middle, losses)
    axis.set_xlabel("updates")
    axis.set_ylabel("mean squared error of the noise")
    axis.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def record(checkpoint: Checkpoint) -> str:
    """The training record as a Markdown table."""
    meta, weights = checkpoint.meta, checkpoint.model.parameters()
    figures = {
        "data": meta["data"],
        "weights": f"{sum(w.numel() for w in weights):,}, width "
        f"{checkpoint.model.width}",
        "schedule": f"{checkpoint.schedule.T} steps, √alpha_bar[T] = "
        f"{checkpoint.schedule.alpha_bar[-1].sqrt():.4f}",
        "updates": f"{meta['steps']:,} of {meta['settings']['batch_size']} pictures, "
        f"{meta['images_seen']:,} in all",
        "settings": ", ".join(f"{k} {v}" for k, v in meta["settings"].items()),
        "loss": f"{meta['loss']} (mean of the last 1,000 updates)",
        "time": f"{meta['seconds'] / 60:.0f} minutes",
        "machine": meta["machine"],
    }
    return "\n".join(
        ["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in figures.items())]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="sprites", choices=sorted(UNSEEN))
    checkpoint = load(name := parser.parse_args().checkpoint)
    if name == "sprites":
        write_png(contact_sheet(), ROOT / "lessons/assets/sprites.png")
    folder = ROOT / "checkpoints"
    both = samples_beside_real(checkpoint, UNSEEN[name]())
    write_png(both, folder / f"{name}_samples.png")
    loss_curve(checkpoint, folder / f"{name}_loss.png")
    fill(folder / "README.md", name, record(checkpoint))


if __name__ == "__main__":
    main()
