"""The README's picture: photos that a network never saw, grey | coloured | true.

    python benchmarks/unseen.py RUN [-o benchmarks/results/unseen.png]

The rule: of the sample photos that scikit-image and scikit-learn carry, all that are free to show (public domain, CC0
or CC BY), in the order of their names, at the network's own temperature. RUN must not have trained on `samples`.
"""

from pathlib import Path

import click
from PIL import Image
from studies import run_study

import ssl_colorize as sc
from ssl_colorize.colorize import grey
from ssl_colorize.data import open_photos
from ssl_colorize.report.sheets import photo_sheet

# astronaut: NASA, public domain. chelsea: Stefan van der Walt, coffee: Rachel Michetti, rocket: SpaceX, all CC0.
# china and flower: danielbuechele and vultilion, CC BY 2.0.
FREE = ("astronaut", "chelsea", "china", "coffee", "flower", "rocket")


@click.command()
@click.argument("run")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/unseen.png"))
@click.option("--size", type=int, help="Short side of what the network sees.")
@click.option("--cell", default=176)
def main(run: str, out: Path, size: int | None, cell: int) -> None:
    """Colour the sample photos and draw the sheet."""
    colorizer = sc.Colorizer.load(run)
    if "samples" in colorizer.pretrained.training.get("recipe", {}).get("data", ()):
        raise click.UsageError(f"{run} trained on the sample photos: give a run that did not.")
    photos = open_photos(["samples"], split="all")
    chosen = {photos.name(index).split(".")[0]: photos[index] for index in range(len(photos))}
    rows: list[tuple[Image.Image, ...]] = []
    for name in FREE:
        rows.append((grey(chosen[name]), colorizer.colorize(chosen[name], size=size), chosen[name]))
    out.parent.mkdir(parents=True, exist_ok=True)
    photo_sheet(rows, ("grey", "coloured", "true"), out, cell=cell, groups=2)
    print(f"Wrote {out}.")


if __name__ == "__main__":
    run_study(main)
