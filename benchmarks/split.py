"""Set aside a fifth of a labeled folder for testing, before anything trains on it.

    python benchmarks/split.py PHOTOS/imagenette128 PHOTOS/imagenette

PHOTOS/imagenette then holds train/CLASS/ and val/CLASS/, as links to the photos. The part is the one that the verbs set
aside by themselves (a hash of the names), so both have the same test photos; but pretraining, which looks at no labels
and knows of no test photos, reads train/ alone.
"""

from pathlib import Path

import click
from studies import run_study

from ssl_colorize.data import open_dataset


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path))
def main(source: Path, out: Path) -> None:
    """Link the photos of SOURCE into OUT/train and OUT/val."""
    root = source / "train" if (source / "train").is_dir() else source
    for part, photos in zip(("train", "val"), open_dataset([str(root)]), strict=True):
        for index in range(len(photos)):
            path = root / photos.photos.name(index)
            link = out / part / photos.classes[photos.labels[index]] / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(path.resolve())
        click.echo(f"{out / part}: {len(photos)} photos")


if __name__ == "__main__":
    run_study(main)
