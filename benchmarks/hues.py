"""Which colors come back: for every true hue, where the prediction lies. Sky is blue, grass green, skin orange.

    python benchmarks/hues.py RUN [RUN ...] --data PHOTOS [--limit 240]

Of pixels of a true chroma over 15, by true hue in the ab plane: the share whose predicted hue is within 45 degrees of
the true one, and the mean predicted chroma. A network that gives everything one tint scores in one row only.
"""

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from studies import run_study

import ssl_colorize as sc
from ssl_colorize.color import rgb_to_lab
from ssl_colorize.data import open_photos

# Centers in degrees, from the a axis (red to green) toward b (yellow to blue).
HUES = {"red": 20, "orange, skin": 60, "yellow": 95, "green": 135, "cyan": 195, "blue, sky": 265, "purple": 325}
CHROMA, NEAR, SIDE = 15, 45, 128


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--data", multiple=True, required=True)
@click.option("--limit", default=240)
@click.option("--size", type=int, help="Short side of what the network sees.")
def main(runs: tuple[str, ...], data: tuple[str, ...], limit: int, size: int | None) -> None:
    """Print a table for each run."""
    photos = open_photos(data, split="all", limit=limit)
    for run in runs:
        colorizer = sc.Colorizer.load(run)
        near: dict[str, float] = dict.fromkeys(HUES, 0.0)
        chroma: dict[str, float] = dict.fromkeys(HUES, 0.0)
        count: dict[str, int] = dict.fromkeys(HUES, 0)
        for index in range(len(photos)):
            true = photos[index].convert("RGB")
            true.thumbnail((SIDE, SIDE))
            for name, mask, angle, strength in by_hue(ab(true), ab(colorizer.colorize(true, size=size))):
                near[name] += float((angle[mask] < NEAR).sum())
                chroma[name] += float(strength[mask].sum())
                count[name] += int(mask.sum())
        click.echo(f"\n{run}, {len(photos)} photos\n\n| true hue | pixels | right within {NEAR}° | chroma |")
        click.echo("|---|---|---|---|")
        total = sum(count.values())
        for name in HUES:
            n = max(count[name], 1)
            click.echo(f"| {name} | {count[name] / total:.0%} | {near[name] / n:.0%} | {chroma[name] / n:.0f} |")
        click.echo(f"| all | 100% | {sum(near.values()) / total:.0%} | {sum(chroma.values()) / total:.0f} |")


def ab(photo: Image.Image) -> NDArray[np.float32]:
    """(2, H, W)."""
    rgb = torch.from_numpy(np.array(photo)).permute(2, 0, 1).float() / 255
    values: NDArray[np.float32] = rgb_to_lab(rgb)[1:].numpy()
    return values


def by_hue(
    true: NDArray[np.float32], predicted: NDArray[np.float32]
) -> list[tuple[str, NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]]:
    """For each hue: its name, its pixels, and of all pixels the angle between the two and the predicted chroma."""
    hue = np.degrees(np.arctan2(true[1], true[0])) % 360
    other = np.degrees(np.arctan2(predicted[1], predicted[0])) % 360
    centers = np.array(list(HUES.values()))
    nearest = apart(hue[..., None], centers).argmin(-1)
    colorful = np.hypot(*true) > CHROMA
    strength = np.hypot(*predicted)
    return [(name, colorful & (nearest == number), apart(hue, other), strength) for number, name in enumerate(HUES)]


def apart(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Degrees between hues, 0 to 180."""
    distance: NDArray[np.float64] = 180 - np.abs(180 - np.abs(one - other))
    return distance


if __name__ == "__main__":
    run_study(main)
