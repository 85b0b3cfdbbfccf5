"""The photos of a set that are most like a given one, layer by layer; no labels are needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssl_colorize.data import LabeledDataset, Photos, announce, open_photos
from ssl_colorize.data.photos import PhotoFiles
from ssl_colorize.data.training_photos import identities
from ssl_colorize.data.walk import is_photo_name
from ssl_colorize.encoder import Encoder
from ssl_colorize.errors import UserError, printable
from ssl_colorize.evaluate.knn import memory_bytes
from ssl_colorize.evaluate.neighbors import make_search
from ssl_colorize.evaluate.runner import Extracted, Runner, Say, Watch
from ssl_colorize.evaluate.settings import KnnSettings


class Nearest(NamedTuple):
    """The photos nearest to one query, the nearest first."""

    indices: list[int]  # of the bank
    similarity: list[float]  # cosine


@dataclass(frozen=True)
class RetrievedLayer:
    """What one layer finds.

    Attributes:
        queries: the photos that were asked about.
        bank: the photos that were searched.
        found: of each query.
        untrained: the same by the untrained network; None without one.
    """

    layer: str
    queries: Photos
    bank: Photos
    found: list[Nearest]
    untrained: list[Nearest] | None


class RetrievalResult(NamedTuple):
    """Figures by layer, and what the pictures show."""

    metrics: dict[str, Any]
    layers: list[RetrievedLayer]


def run_retrieval(
    settings: KnnSettings, *, say: Say = lambda line: None, watch: Watch = lambda what, done, total: None
) -> RetrievalResult:
    """Find the photos nearest to those of `neighbors_of`, by cosine similarity, in every layer asked for.

    All photos of the data are searched, those for measuring as well; a query that is one of them is not its own
    neighbor.

    Returns:
        metrics: `{layer: {"neighbors": {query: [{"photo", "similarity"}, ...]}}}`, the nearest first, and "random" and
        "trunk_unchanged" as in `Runner.run`.

    Raises:
        UserError: the encoder, a layer or a photo is not there, or there are no photos to search.
    """
    if settings.also or settings.corrupt or settings.seeds > 1:
        raise UserError("--neighbors-of classifies nothing: leave --also, --corrupt and --seeds away.")
    queries = _queries(settings.neighbors_of)
    bank = open_photos(settings.data, train=settings.train, split="all", limit=settings.limit)
    announce(photos=bank)
    runner = Runner.around(settings, _unlabeled(bank), _unlabeled(queries), say=say, watch=watch)
    searched: list[tuple[Photos, dict[str, list[Nearest]]]] = []

    def measure(encoders: Sequence[Encoder], seed: int) -> list[dict[str, list[Nearest]]]:
        for encoder in encoders:
            sizes = dict.fromkeys(runner.layers, settings.size)
            asked = runner.features(encoder, runner.test, sizes=sizes)
            if len(asked[0]) < len(queries):
                known = {asked[0].photos.name(index) for index in range(len(asked[0]))}
                lost = next(name for name in map(queries.name, range(len(queries))) if name not in known)
                raise UserError(f"--neighbors-of {lost}: it cannot be read as a photo.")
            photos = runner.features(encoder, runner.train, sizes=sizes)
            found = {layer: _nearest(runner, photos, asked, layer) for layer in runner.layers}
            searched.append((photos[0].photos, found))
        return [found for _, found in searched]

    def listed(runs: Sequence[list[Nearest]]) -> dict[str, Any]:
        photos = searched[0][0]
        return {
            "neighbors": {
                printable(queries.name(number)): [
                    {"photo": printable(photos.name(index)), "similarity": similarity}
                    for index, similarity in zip(*each, strict=True)
                ]
                for number, each in enumerate(runs[0])
            }
        }

    metrics = runner.run(measure, listed, seed_matters=False)
    (photos, found), *rest = searched
    layers = [
        RetrievedLayer(layer, queries, photos, found[layer], rest[0][1][layer] if rest else None)
        for layer in runner.layers
    ]
    return RetrievalResult(metrics, layers)


def _queries(named: Sequence[str]) -> PhotoFiles:
    files = [Path(item).expanduser().absolute() for item in named]
    for item, file in zip(named, files, strict=True):
        if not file.is_file() or not is_photo_name(file.name):
            what = "is not a photo by its name" if file.is_file() else "there is no such file"
            raise UserError(f"--neighbors-of {item}: {what}. Give the path of a photo.")
    # Named as they were given: two of them may have one name in two folders.
    return PhotoFiles.together([PhotoFiles.below("/", [str(file)]) for file in files])


def _unlabeled(photos: Photos) -> LabeledDataset:
    """Photos of which nothing is known, as all of one class."""
    return LabeledDataset(photos, np.zeros(len(photos), np.int64), ("photo",))


def _nearest(runner: Runner[KnnSettings], bank: Extracted, asked: Extracted, layer: str) -> list[Nearest]:
    (photos, features), (queries, rows) = bank, asked
    files = photos.photos
    own: list[object] = list(identities(files.paths)) if isinstance(files, PhotoFiles) else [None] * len(photos)
    assert isinstance(queries.photos, PhotoFiles)
    settings, found = runner.settings, []
    search = make_search(
        settings.engine, features[layer], device=runner.device, memory=memory_bytes(settings, runner.device)
    )
    for number, identity in enumerate(identities(queries.photos.paths)):
        # The query itself may be among them.
        wanted = min(len(photos), settings.shown + own.count(identity))
        one = search(rows[layer][number : number + 1], wanted)
        pairs = [
            (index, similarity)
            for index, similarity in zip(one.indices[0].tolist(), one.similarity[0].tolist(), strict=True)
            if own[index] != identity
        ][: settings.shown]
        found.append(Nearest([index for index, _ in pairs], [similarity for _, similarity in pairs]))
    return found
