"""Some photos of a scoring run as every method colors them, for people to look at."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from ssl_colorize.score.journal import Line
from ssl_colorize.score.scorer import Scorer, recolored, scenes
from ssl_colorize.score.stream import Others, ScoredPhotos, piece_of


@dataclass(frozen=True)
class Example:
    """One photo as each method colors it.

    Attributes:
        name: the photo's.
        photo: as it was cut.
        pictures: by method.
        auc: by method, in 0..1.
    """

    name: str
    photo: Image.Image
    pictures: dict[str, Image.Image]
    auc: dict[str, float]


def choose_examples(
    scorer: Scorer,
    scored: ScoredPhotos,
    others: Others | None,
    lines: Sequence[Line],
    *,
    size: int,
    count: int,
) -> list[Example]:
    """Photos at even distances over the set, as every method colors them.

    Args:
        scorer: the methods.
        scored: the photos.
        others: where the method random takes its colors from.
        lines: their figures.
        size: side of the crops in pixels.
        count: how many photos, at most.
    """
    readable = [index for index, line in enumerate(lines) if "methods" in line]
    count = min(count, len(readable))
    chosen = [readable[(2 * place + 1) * len(readable) // (2 * count)] for place in range(count)]
    found = []
    for index in chosen:
        piece = piece_of(scored, index, size=size, others=others)
        for scene in scenes(piece, scorer.device):
            pictures = {
                method.name: _image(recolored(scene.lab, method.ab(scene).to(scorer.device)))
                for method in scorer.methods
            }
            auc = {name: row["auc"] for name, row in lines[index]["methods"].items()}
            found.append(Example(lines[index]["photo"], _image(scene.rgb), pictures, auc))
    return found


def _image(pixels: Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
