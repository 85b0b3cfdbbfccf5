"""How good colors are, measured: each command writes one record, or the pictures of the README.

    python benchmarks/colors.py scores runs/colors --against gray -o results/colors/imagenette-0.json
    python benchmarks/colors.py hues --encoder runs/full --data imagenette/val -o results/hues/full-0.json
    python benchmarks/colors.py pictures dahl=runs/dahl full=runs/full -o methods.png

`scores` keeps the figures of an `ssl-colorize score` and adds differences between its methods. Every method colored the
same photos, so a photo that is hard for one is hard for all; the intervals of `score`, one a method, do not know of
that. Here photos are drawn anew (with replacement, 2,000 times), all methods are judged on the same draw, and what is
bracketed is the difference. Rebalanced AuC weights a pixel by 1 / p~ of its color, and of a few hundred photos one or
two that were lit in violet may hold most of the weight: the figure is then theirs alone. So it is also taken without
the heaviest photos.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from matplotlib import cbook
from numpy.typing import NDArray
from PIL import Image
from records import origin, record, run_command

import ssl_colorize as sc
from ssl_colorize.color import rgb_to_lab
from ssl_colorize.colorize import gray
from ssl_colorize.data import open_photos
from ssl_colorize.data.images import read_photo
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate import bootstrap
from ssl_colorize.report.sheets import photo_sheet
from ssl_colorize.runs import git_revision
from ssl_colorize.score.measures import closeness
from ssl_colorize.score.run import LINES
from ssl_colorize.score.summary import Journal, Line

DRAWS = 2000
# How many of the heaviest photos are left out.
DROPPED = (0, 1, 2, 5, 10)
Array = NDArray[np.float64]
# Centers of hues in degrees, from the a axis (red to green) toward b (yellow to blue).
HUES = {"red": 20, "orange, skin": 60, "yellow": 95, "green": 135, "cyan": 195, "blue, sky": 265, "purple": 325}
CHROMA, NEAR, SIDE = 15, 45, 128
# astronaut: NASA, grace_hopper: US Navy, both public domain. chelsea: Stefan van der Walt, coffee: Rachel Michetti,
# retina: Haggstrom 2014, rocket: SpaceX, all CC0. china and flower: danielbuechele and vultilion, CC BY 2.0.
FREE = ("astronaut", "chelsea", "china", "coffee", "flower", "retina", "rocket")
PORTRAIT = "grace_hopper.jpg"


@click.group()
def main() -> None:
    """Colors, measured."""


# ---- differences between methods -------------------------------------------------------------------------------------


@main.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--against", multiple=True, required=True, metavar="METHOD", help="What the others are compared with.")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="FILE.json")
def scores(run: Path, against: tuple[str, ...], out: Path) -> None:
    """Keep what an `ssl-colorize score` found, and differences between its methods."""
    record_scores(run, out, against=against)


def record_scores(run: Path, out: Path, *, against: tuple[str, ...]) -> None:
    """Write the record of a finished run.

    Raises:
        UserError: the run is not finished, or lacks a method.
    """
    lines = [line for line in Journal(run / LINES).lines() if "methods" in line]
    if not lines or not (run / "metrics.json").is_file():
        raise UserError(f"{run} holds no finished scores: give the folder of an `ssl-colorize score`.")
    content = json.loads((run / "metrics.json").read_text("utf-8"))
    methods = list(lines[0]["methods"])
    for each in against:
        if each not in methods:
            raise UserError(f"{run} has no method {each!r}: choose from {', '.join(methods)}.")
    differences = {other: differences_from(lines, other, methods) for other in against}
    dropped = [without_heaviest(lines, count, methods) for count in DROPPED if count < len(lines)]
    kept = {key: content[key] for key in ("git", "seed", "metrics")}
    name = out.stem.rpartition("-")[0]
    record(out, {"data": name, "methods": methods, "differences": differences, "trimmed": dropped} | kept)


def differences_from(lines: list[Line], other: str, methods: list[str]) -> dict[str, dict[str, list[float] | None]]:
    """How far each method is from one of them, by measure."""
    return {
        method: {title: difference(numbers(lines, method), numbers(lines, other)) for title, numbers in MEASURES}
        for method in methods
        if method != other
    }


def without_heaviest(lines: list[Line], count: int, methods: list[str]) -> dict[str, Any]:
    """Rebalanced AuC of each method over all photos but the `count` that weigh most, and the share that those had."""
    rest = sorted(lines, key=lambda line: line["weight"] or 0.0, reverse=True)[count:]
    figures = {}
    for method in methods:
        shares, weights = auc_rebalanced(rest, method).sum(0)
        figures[method] = float(shares / weights)
    total = sum(line["weight"] or 0.0 for line in lines)
    left = sum(line["weight"] or 0.0 for line in rest)
    return {"left_out": count, "weight": 1 - left / total if total else 0.0, "auc_rebalanced": figures}


def difference(ours: Array, theirs: Array, *, seed: int = 0) -> list[float] | None:
    """How much higher a measure is, and the ends of its 95 % interval; None where it was not measured.

    Args:
        ours, theirs: (N, 2) each, a photo's share of what is summed up, and its weight.
        seed: of the draws.
    """
    if np.isnan(ours).any() or np.isnan(theirs).any() or not len(ours):
        return None
    both = np.stack((ours, theirs), axis=1)
    low, high = bootstrap(lambda drawn: _apart(both[drawn]), len(both), seed=seed, draws=DRAWS)
    return [_apart(both), low, high]


def _apart(both: Array) -> float:
    """(N, 2 methods, share and weight) -> the difference of their weighted means."""
    shares, weights = both.sum(0).T
    return float(shares[0] / weights[0] - shares[1] / weights[1])


def auc(lines: list[Line], method: str) -> Array:
    """AuC, a mean over photos."""
    return np.array([(line["methods"][method]["auc"], 1.0) for line in lines], np.float64)


def auc_rebalanced(lines: list[Line], method: str) -> Array:
    """Rebalanced AuC, a mean over pixels by their weight."""
    missing = float("nan")
    pairs = [(line["methods"][method]["auc_weighted"], line["weight"]) for line in lines]
    each = [(missing, missing) if value is None else (value * weight, weight) for value, weight in pairs]
    return np.array(each, np.float64)


def top1(lines: list[Line], method: str) -> Array:
    """What the classifier gets right, of the photos whose class is known."""
    known = [(line["class"], line["methods"][method]["says"]) for line in lines if line["class"] is not None]
    return np.array([(says[0] == truth, 1.0) for truth, says in known], np.float64).reshape(-1, 2)


MEASURES: tuple[tuple[str, Callable[[list[Line], str], Array]], ...] = (
    ("AuC", auc), ("AuC rebal.", auc_rebalanced), ("classifier top-1", top1),
)  # fmt: skip


# ---- which colors come back ------------------------------------------------------------------------------------------


@main.command()
@click.option("--encoder", "source", required=True, metavar="RUN", help="A colorizer.")
@click.option("--data", multiple=True, required=True, metavar="PHOTOS")
@click.option("--limit", type=int, help="Photos at most.")
@click.option("--size", type=int, help="Short side of what the network sees.")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="FILE.json")
def hues(source: str, data: tuple[str, ...], limit: int | None, size: int | None, out: Path) -> None:
    """For every true hue, where the prediction lies: of pixels of a true chroma over 15, by their hue in the ab plane.

    A network that gives everything one tint scores in one row only.
    """
    photos = open_photos(data, split="all", limit=limit)
    colorizer = sc.Colorizer.load(source)
    # Of each hue its pixels, those whose predicted hue is near, and their predicted chroma.
    sums = dict.fromkeys(HUES, np.zeros(3))
    for index in range(len(photos)):
        true = photos[index].convert("RGB")
        true.thumbnail((SIDE, SIDE))
        found = by_hue(ab(true), ab(colorizer.colorize(true, size=size)))
        sums = {name: sums[name] + found[name] for name in HUES}
    total = np.sum(list(sums.values()), axis=0)
    shares = {
        name: {"pixels": count / total[0], "near": near / max(count, 1), "chroma": chroma / max(count, 1)}
        for name, (count, near, chroma) in (sums | {"all": total}).items()
    }
    record(out, {**origin(source), "photos": len(photos), "git": git_revision(), "hues": shares})


def ab(photo: Image.Image) -> NDArray[np.float32]:
    """(2, H, W)."""
    values: NDArray[np.float32] = rgb_to_lab(torch.from_numpy(np.array(photo)).permute(2, 0, 1))[1:].numpy()
    return values


def by_hue(true: NDArray[np.float32], predicted: NDArray[np.float32]) -> dict[str, Array]:
    """Of the colorful pixels of each true hue (3,): their number, how many are predicted near, and their chroma."""
    hue, other = (np.degrees(np.arctan2(each[1], each[0])) % 360 for each in (true, predicted))
    nearest = apart(hue[..., None], np.array(list(HUES.values()))).argmin(-1)
    near, chroma = apart(hue, other) < NEAR, np.hypot(*predicted)
    masks = [(np.hypot(*true) > CHROMA) & (nearest == number) for number in range(len(HUES))]
    return {
        name: np.array([mask.sum(), near[mask].sum(), chroma[mask].sum()], np.float64)
        for name, mask in zip(HUES, masks, strict=True)
    }


def apart(one: Array, other: Array) -> Array:
    """Degrees between hues, 0 to 180."""
    distance: Array = 180 - np.abs(180 - np.abs(one - other))
    return distance


# ---- pictures --------------------------------------------------------------------------------------------------------


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="NAME=RUN...")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, metavar="FILE.png")
@click.option("--size", type=int, help="Short side of what the network sees.")
@click.option("--cell", default=176, help="Side of a photo of the sheet.")
def pictures(runs: tuple[str, ...], out: Path, size: int | None, cell: int) -> None:
    """Photos that no network of them saw: gray | colored by each | true.

    The rule: of the photos that scikit-image, scikit-learn and Matplotlib carry, all that are free to show (public
    domain, CC0 or CC BY), at each network's own temperature; not drawings, grays, or a sky that is nearly all black.
    They stand in the order of the first network's AuC (paper section 3.1: how close the colors are to the true ones),
    best first, so that the failures are the last line. No RUN may have trained on `samples`.
    """
    sources = named(runs)
    colorizers = {name: sc.Colorizer.load(source) for name, source in sources.items()}
    for name, colorizer in colorizers.items():
        if "samples" in colorizer.pretrained.training.get("recipe", {}).get("data", ()):
            raise click.UsageError(f"{sources[name]} trained on the sample photos: give a run that did not.")
    rows: list[tuple[float, tuple[Image.Image, ...]]] = []
    for name, photo in free_photos().items():
        colored = [colorizer.colorize(photo, size=size) for colorizer in colorizers.values()]
        first, truth = (torch.from_numpy(ab(each.convert("RGB"))) for each in (colored[0], photo))
        rows.append((float(closeness(first, truth).mean()), (gray(photo), *colored, photo)))
        click.echo(f"{name}: AuC {rows[-1][0]:.1%}")
    rows.sort(key=lambda row: -row[0])
    out.parent.mkdir(parents=True, exist_ok=True)
    # One network's three columns leave room for two photos in a row.
    groups = 2 if len(colorizers) == 1 else 1
    photo_sheet([row for _, row in rows], ("gray", *colorizers, "true"), out, cell=cell, groups=groups)


def named(runs: tuple[str, ...]) -> dict[str, str]:
    """The sources of runs given as NAME=RUN, each name once; a path may hold an equals sign."""
    found: dict[str, str] = {}
    for each in runs:
        name, _, source = each.partition("=")
        if not name or not source:
            raise click.UsageError(f"{each}: give NAME=RUN, a name for the sheet and the run's folder.")
        if name in found:
            raise click.UsageError(f"{each}: {name} is {found[name]} already; give it another name.")
        found[name] = source
    return found


def free_photos() -> dict[str, Image.Image]:
    """All that we may show, by name."""
    samples = open_photos(["samples"], split="all")
    found = {samples.name(index).split(".")[0]: samples[index] for index in range(len(samples))}
    portrait = Path(str(cbook.get_sample_data(PORTRAIT, asfileobj=False)))
    return {name: found[name] for name in FREE} | {portrait.stem: read_photo(portrait)}


if __name__ == "__main__":
    run_command(main)
