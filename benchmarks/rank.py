"""How many directions a network's features use: the effective rank of every layer, untrained or trained.

    python benchmarks/rank.py --data PHOTOS [--init kmeans] [--init lsuv] [--run RUN]

The effective rank is the exponential of the entropy of the normalized squared singular values of the standardized
features, over 64 held-out photos of 64 px.
"""

import click
import torch
from studies import run_study
from torch import Tensor

from ssl_colorize.color import rgb_to_lightness
from ssl_colorize.data import holdout_batches, open_photos
from ssl_colorize.models import ColorizationModel, create_model, load_pretrained
from ssl_colorize.models.init import initialize


@click.command()
@click.option("--data", multiple=True, default=("samples",))
@click.option("--init", "starts", multiple=True, type=click.Choice(["kmeans", "lsuv"]))
@click.option("--run", "runs", multiple=True)
@click.option("--width", default=0.5)
def main(data: tuple[str, ...], starts: tuple[str, ...], runs: tuple[str, ...], width: float) -> None:
    """Print a row of ranks for each start and each run."""
    _, held_out = open_photos(data).holdout(0.02, most=128)
    batches = holdout_batches(held_out, resize=88, crop=64, batch_size=64, workers=0)
    light = [rgb_to_lightness(batch.photos) for batch in batches]
    for start in starts:
        model = create_model("eccv16", width=width)
        initialize(model, light[0], method="kmeans" if start == "kmeans" else "lsuv")
        print(start, ranks(model, light[-1]))
    for run in runs:
        print(run, ranks(load_pretrained(run).model, light[-1]))


@torch.no_grad()
def ranks(model: ColorizationModel, light: Tensor) -> dict[str, float]:
    """Effective rank of every layer's map."""
    return {name: effective_rank(maps) for name, maps in model.forward_features(light, model.layers).items()}


def effective_rank(maps: Tensor) -> float:
    """Of features (B, C, h, w), every eighth place."""
    points = maps.permute(0, 2, 3, 1).flatten(0, 2)[::8]
    power = torch.linalg.svdvals((points - points.mean(0)) / (points.std(0) + 1e-6)).square()
    return round(float(torch.exp(torch.special.entr(power / power.sum()).sum())), 1)


if __name__ == "__main__":
    run_study(main)
