"""The README's pictures: photos that no network of them saw, grey | coloured by each | true.

    python benchmarks/unseen.py RUN [-o benchmarks/results/unseen.png]
    python benchmarks/unseen.py dahl=RUN l2=RUN full=RUN -o benchmarks/results/methods.png

The rule: of the sample photos that scikit-image and scikit-learn carry, all that are free to show (public domain, CC0
or CC BY), in the order of their names, at each network's own temperature. No RUN may have trained on `samples`.
"""

from pathlib import Path

import click
from PIL import Image
from studies import named, run_study

import ssl_colorize as sc
from ssl_colorize.colorize import grey
from ssl_colorize.data import open_photos
from ssl_colorize.report.sheets import photo_sheet

# astronaut: NASA, public domain. chelsea: Stefan van der Walt, coffee: Rachel Michetti, rocket: SpaceX, all CC0.
# china and flower: danielbuechele and vultilion, CC BY 2.0.
FREE = ("astronaut", "chelsea", "china", "coffee", "flower", "rocket")


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="[NAME=]RUN...")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/unseen.png"))
@click.option("--size", type=int, help="Short side of what the network sees.")
@click.option("--cell", default=176)
def main(runs: tuple[str, ...], out: Path, size: int | None, cell: int) -> None:
    """Colour the sample photos and draw the sheet."""
    sources = named(runs) if len(runs) > 1 else {"coloured": runs[0].partition("=")[2] or runs[0]}
    colorizers = {name: sc.Colorizer.load(source) for name, source in sources.items()}
    for name, colorizer in colorizers.items():
        if "samples" in colorizer.pretrained.training.get("recipe", {}).get("data", ()):
            raise click.UsageError(f"{sources[name]} trained on the sample photos: give a run that did not.")
    photos = open_photos(["samples"], split="all")
    chosen = {photos.name(index).split(".")[0]: photos[index] for index in range(len(photos))}
    rows: list[tuple[Image.Image, ...]] = []
    for name in FREE:
        coloured = [colorizer.colorize(chosen[name], size=size) for colorizer in colorizers.values()]
        rows.append((grey(chosen[name]), *coloured, chosen[name]))
    out.parent.mkdir(parents=True, exist_ok=True)
    # One network's three columns leave room for two photos in a row.
    photo_sheet(rows, ("grey", *colorizers, "true"), out, cell=cell, groups=2 if len(colorizers) == 1 else 1)
    print(f"Wrote {out}.")


if __name__ == "__main__":
    run_study(main)
