"""Training photos that are (nearly) the same as photos that something is tested on.

    python benchmarks/duplicates.py --train tiny-imagenet/train --train imagenette/train \\
        --against tiny-imagenet/val --against imagenette/val --against VOCdevkit/VOC2012 -o duplicates.txt
    ssl-colorize pretrain --data ... --set exclude=duplicates.txt

Two photos are held for the same where their perceptual hashes (64 bits, of the lowest frequencies of the gray photo,
by ImageHash) differ in at most --bits, and their gray thumbnails (32 x 32, contrast evened out) correlate by at least
--correlation; a mirrored photo counts as well. The first finds candidates among all pairs, the second drops those that
are only as plain as each other. A sheet beside the list shows the pairs, the most alike first. --tested lists the
others of each pair, for `frozen.py --leave-out`, so that runs trained on the former may be measured without the latter.
"""

from dataclasses import dataclass
from pathlib import Path

import click
import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from studies import run_study

from ssl_colorize.data import Photos, UnreadablePhoto, open_photos
from ssl_colorize.errors import UserError
from ssl_colorize.report.sheets import photo_sheet
from ssl_colorize.runs import write_atomically

BITS, SIDE = 64, 32
CHUNK = 4096
SHOWN = 40


@dataclass(frozen=True)
class Looks:
    """How photos look, of those that can be read: their places in the set, hashes as ±1, and even thumbnails."""

    indices: NDArray[np.int64]  # (N,)
    signs: NDArray[np.float32]  # (N, 64)
    thumbnails: NDArray[np.float16]  # (N, 1024), of mean 0 and length 1


@click.command()
@click.option("--train", multiple=True, required=True, metavar="PHOTOS")
@click.option("--against", multiple=True, required=True, metavar="PHOTOS", help="All photos of theirs, in any split.")
@click.option("--bits", default=10, show_default=True, help="By which two hashes differ at most.")
@click.option("--correlation", default=0.95, show_default=True, help="Of two thumbnails, at least.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("duplicates.txt"))
@click.option("--tested", "others", type=click.Path(path_type=Path), help="Also list what they are the same as.")
def main(
    train: tuple[str, ...], against: tuple[str, ...], bits: int, correlation: float, out: Path, others: Path | None
) -> None:
    """List training photos that are in what is tested on as well."""
    trained, tested = open_photos(train, split="train"), open_photos(against, split="all")
    queries = look(tested, mirrored=False)
    pairs = same(look(trained, mirrored=False), queries, bits=bits, correlation=correlation)
    pairs += same(look(trained, mirrored=True), queries, bits=bits, correlation=correlation)
    pairs.sort(reverse=True)
    names = list(dict.fromkeys(trained.name(index) for _, index, _ in pairs))
    write_atomically(out, "".join(f"{name}\n" for name in names))
    if others is not None:
        write_atomically(others, "".join(f"{tested.name(index)}\n" for index in sorted({pair[2] for pair in pairs})))
    if pairs:
        rows = [(trained[first], tested[second]) for _, first, second in pairs[:SHOWN]]
        photo_sheet(rows, ("trained on", "tested on"), out.with_suffix(".png"), cell=96, groups=4)
    click.echo(f"{len(names)} of {len(trained):,} training photos are among the {len(tested):,} others: {out}")


def look(photos: Photos, *, mirrored: bool) -> Looks:
    """How all photos of a set look, or their mirror images."""
    indices, signs, thumbnails = [], [], []
    for index in range(len(photos)):
        try:
            gray = photos.read(index, short_side=2 * SIDE).convert("L")
        except UnreadablePhoto as error:
            click.echo(f"Left out: {error}", err=True)
            continue
        gray = ImageOps.mirror(gray) if mirrored else gray
        indices.append(index)
        signs.append(np.where(imagehash.phash(gray).hash.ravel(), 1, -1).astype(np.float32))
        flat = np.asarray(gray.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32).ravel()
        flat = flat - flat.mean()
        thumbnails.append((flat / max(float(np.linalg.norm(flat)), 1e-6)).astype(np.float16))
    if not indices:
        raise UserError(f"None of the {len(photos)} photos could be read. Check what --train and --against point to.")
    return Looks(np.array(indices), np.stack(signs), np.stack(thumbnails))


def same(trained: Looks, tested: Looks, *, bits: int, correlation: float) -> list[tuple[float, int, int]]:
    """Pairs that look the same: how much they correlate, and the places of both in their sets."""
    found = []
    for start in range(0, len(trained.signs), CHUNK):
        part = slice(start, start + CHUNK)
        # Of signs the product is the bits that agree less those that do not.
        apart = (BITS - trained.signs[part] @ tested.signs.T) / 2
        for first, second in np.argwhere(apart <= bits):
            one, other = trained.thumbnails[part][first], tested.thumbnails[second]
            alike = float(one.astype(np.float32) @ other.astype(np.float32))
            if alike >= correlation:
                found.append((alike, int(trained.indices[part][first]), int(tested.indices[second])))
    return found


if __name__ == "__main__":
    run_study(main)
