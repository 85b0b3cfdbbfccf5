"""The README's pictures: photos that no network of them saw, gray | colored by each | true.

    python benchmarks/unseen.py RUN [-o benchmarks/results/unseen.png]
    python benchmarks/unseen.py dahl=RUN l2=RUN full=RUN -o benchmarks/results/methods.png

The rule: of the photos that scikit-image, scikit-learn and Matplotlib carry, all that are free to show (public domain,
CC0 or CC BY), at each network's own temperature; not drawings, grays, or a sky that is nearly all black. They stand in
the order of the first network's AuC (paper section 3.1: how close the colors are to the true ones), best first, so
that the failures are the last line. No RUN may have trained on `samples`.
"""

from pathlib import Path

import click
import numpy as np
import torch
from matplotlib import cbook
from PIL import Image
from studies import named, run_study

import ssl_colorize as sc
from ssl_colorize.color import rgb_to_lab
from ssl_colorize.colorize import gray
from ssl_colorize.data import open_photos
from ssl_colorize.data.images import read_photo
from ssl_colorize.report.sheets import photo_sheet
from ssl_colorize.score.measures import closeness

# astronaut: NASA, grace_hopper: US Navy, both public domain. chelsea: Stefan van der Walt, coffee: Rachel Michetti,
# retina: Haggstrom 2014, rocket: SpaceX, all CC0. china and flower: danielbuechele and vultilion, CC BY 2.0.
FREE = ("astronaut", "chelsea", "china", "coffee", "flower", "retina", "rocket")
PORTRAIT = "grace_hopper.jpg"


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="[NAME=]RUN...")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/unseen.png"))
@click.option("--size", type=int, help="Short side of what the network sees.")
@click.option("--cell", default=176)
def main(runs: tuple[str, ...], out: Path, size: int | None, cell: int) -> None:
    """Color the sample photos and draw the sheet."""
    sources = named(runs) if len(runs) > 1 else {"colored": runs[0].partition("=")[2] or runs[0]}
    colorizers = {name: sc.Colorizer.load(source) for name, source in sources.items()}
    for name, colorizer in colorizers.items():
        if "samples" in colorizer.pretrained.training.get("recipe", {}).get("data", ()):
            raise click.UsageError(f"{sources[name]} trained on the sample photos: give a run that did not.")
    rows: list[tuple[float, tuple[Image.Image, ...]]] = []
    for name, photo in free_photos().items():
        colored = [colorizer.colorize(photo, size=size) for colorizer in colorizers.values()]
        rows.append((auc(colored[0], photo), (gray(photo), *colored, photo)))
        click.echo(f"{name}: AuC {rows[-1][0]:.1%}")
    rows.sort(key=lambda row: -row[0])
    out.parent.mkdir(parents=True, exist_ok=True)
    # One network's three columns leave room for two photos in a row.
    groups = 2 if len(colorizers) == 1 else 1
    photo_sheet([row for _, row in rows], ("gray", *colorizers, "true"), out, cell=cell, groups=groups)
    click.echo(f"Wrote {out}.")


def free_photos() -> dict[str, Image.Image]:
    """All that we may show, by name."""
    samples = open_photos(["samples"], split="all")
    found = {samples.name(index).split(".")[0]: samples[index] for index in range(len(samples))}
    portrait = Path(str(cbook.get_sample_data(PORTRAIT, asfileobj=False)))
    return {name: found[name] for name in FREE} | {portrait.stem: read_photo(portrait)}


def auc(colored: Image.Image, photo: Image.Image) -> float:
    """How close the colors are, 0 to 1, by the picture that is shown."""
    ab, truth = (
        rgb_to_lab(torch.from_numpy(np.array(each.convert("RGB"))).permute(2, 0, 1))[1:] for each in (colored, photo)
    )
    return float(closeness(ab, truth).mean())


if __name__ == "__main__":
    run_study(main)
