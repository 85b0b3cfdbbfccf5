"""Photos to train on and photos to test on, kept apart: near-duplicates, and a part that is set aside.

    python benchmarks/duplicates.py find --train tiny-imagenet/train --train imagenette/train \\
        --against tiny-imagenet/val --against imagenette/val --against VOCdevkit/VOC2012 -o duplicates.txt
    ssl-colorize pretrain --data ... --set exclude=duplicates.txt
    python benchmarks/duplicates.py split imagenette128 imagenette

Two photos are held for the same where their perceptual hashes (64 bits, of the lowest frequencies of the gray photo,
by ImageHash) differ in at most --bits, and their gray thumbnails (32 x 32, contrast evened out) correlate by at least
--correlation; a mirrored photo counts as well. The first finds candidates among all pairs, the second drops those that
are only as plain as each other. A sheet beside the list shows the pairs, the most alike first. --tested lists the
others of each pair, for `frozen.py test --leave-out`, so that runs trained on the former may be measured without the
latter.
"""

from dataclasses import dataclass
from pathlib import Path

import click
import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from records import run_command

from ssl_colorize.data import Photos, UnreadablePhoto, open_dataset, open_photos
from ssl_colorize.errors import UserError
from ssl_colorize.report.sheets import photo_sheet
from ssl_colorize.runs import write_atomically

BITS, SIDE = 64, 32
CHUNK = 4096
SHOWN = 40


@dataclass(frozen=True)
class Fingerprints:
    """How photos look, of those that can be read: their places in the set, hashes as ±1, and even thumbnails."""

    indices: NDArray[np.int64]  # (N,)
    signs: NDArray[np.float32]  # (N, 64)
    thumbnails: NDArray[np.float16]  # (N, 1024), of mean 0 and length 1


@click.group()
def main() -> None:
    """Keep what is trained on and what is tested on apart."""


@main.command()
@click.option("--train", multiple=True, required=True, metavar="PHOTOS")
@click.option("--against", multiple=True, required=True, metavar="PHOTOS", help="All photos of theirs, in any split.")
@click.option("--bits", default=10, show_default=True, help="By which two hashes differ at most.")
@click.option("--correlation", default=0.95, show_default=True, help="Of two thumbnails, at least.")
@click.option("--limit", type=int, help="Photos of each side at most, for a quick look.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("duplicates.txt"))
@click.option("--tested", "others", type=click.Path(path_type=Path), help="Also list what they are the same as.")
def find(
    train: tuple[str, ...], against: tuple[str, ...], bits: int, correlation: float, limit: int | None, out: Path,
    others: Path | None,
) -> None:  # fmt: skip
    """List training photos that are in what is tested on as well."""
    trained, tested = open_photos(train=train, limit=limit), open_photos(against, split="all", limit=limit)
    queries = fingerprints(tested, mirrored=False)
    pairs = same(fingerprints(trained, mirrored=False), queries, bits=bits, correlation=correlation)
    pairs += same(fingerprints(trained, mirrored=True), queries, bits=bits, correlation=correlation)
    pairs.sort(reverse=True)
    names = list(dict.fromkeys(trained.name(index) for _, index, _ in pairs))
    if others is not None:
        write_atomically(others, "".join(f"{tested.name(index)}\n" for index in sorted({pair[2] for pair in pairs})))
    if pairs:
        rows = [(trained[first], tested[second]) for _, first, second in pairs[:SHOWN]]
        photo_sheet(rows, ("trained on", "tested on"), out.with_suffix(".png"), cell=96, groups=4)
    write_atomically(out, "".join(f"{name}\n" for name in names))
    click.echo(f"{len(names)} of {len(trained):,} training photos are among the {len(tested):,} others: {out}")


def fingerprints(photos: Photos, *, mirrored: bool) -> Fingerprints:
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
    return Fingerprints(np.array(indices), np.stack(signs), np.stack(thumbnails))


def same(
    trained: Fingerprints, tested: Fingerprints, *, bits: int, correlation: float
) -> list[tuple[float, int, int]]:  # fmt: skip
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


@main.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path))
def split(source: Path, out: Path) -> None:
    """Set aside a fifth of the labeled photos of SOURCE for testing, as links in OUT/train and OUT/val.

    The part is the one that the verbs set aside by themselves (a hash of the names), so both have the same test photos;
    but pretraining, which looks at no labels and knows of no test photos, reads OUT/train alone.
    """
    root = source / "train" if (source / "train").is_dir() else source
    lines = []
    for part, photos in zip(("train", "val"), open_dataset([str(root)]), strict=True):
        for index in range(len(photos)):
            path = root / photos.photos.name(index)
            link = out / part / photos.classes[photos.labels[index]] / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(path.resolve())
        lines.append(f"{part}: {len(photos)} photos\n")
    # Last, so that it tells that all links are there.
    write_atomically(out / "split.txt", "".join(lines))
    click.echo("".join(lines), nl=False)


if __name__ == "__main__":
    run_command(main)
