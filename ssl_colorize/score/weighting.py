"""Which prior rebalances: every method of a table is weighed by the same one, and the table says which."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from ssl_colorize.data import open_photos
from ssl_colorize.pretrain.measure import PriorSettings, measure_prior
from ssl_colorize.pretrain.statistics import read_prior
from ssl_colorize.runs import write_atomically
from ssl_colorize.score.measures import rarity_weights
from ssl_colorize.score.methods import Method, Trained

PRIOR_FILE = "prior.npy"

Watch = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Weighting:
    """Weights of the bins (313,) float64, and whose colors they come from, in words."""

    weights: Tensor
    about: str


def find_weighting(
    folder: Path,
    methods: Sequence[Method],
    *,
    file: str | None = None,
    data: Sequence[str] = (),
    workers: int = 0,
    watch: Watch = lambda what, done, total: None,
) -> Weighting | None:
    """The prior of a file, of photos that are counted now, or of the first network's own training photos.

    The prior is kept in the run folder as prior.npy.

    Args:
        folder: the run's.
        methods: whose networks may know a prior.
        file: a prior.npy.
        data: photos to count; their training part.
        workers: processes that decode them.
        watch: told how far the counting is.

    Returns:
        None where no prior is given and no network has one.

    Raises:
        UserError: the file or the photos cannot be used.
    """
    if file is not None:
        return _kept(folder, read_prior(Path(file)), f"the prior {file}")
    if data:
        return _kept(folder, _count(folder, data, workers, watch), f"the colors of {', '.join(data)}, counted here")
    for method in methods:
        if isinstance(method, Trained) and method.colorizer.pretrained.prior is not None:
            source = method.colorizer.pretrained.source
            return _kept(folder, method.colorizer.pretrained.prior, f"the training photos of {source}")
    return None


def kept_weighting(folder: Path, about: str) -> Weighting:
    """The one that a run began with."""
    return Weighting(rarity_weights(read_prior(folder / PRIOR_FILE)), about)


def _kept(folder: Path, prior: Tensor, about: str) -> Weighting:
    encoded = io.BytesIO()
    np.save(encoded, prior.double().cpu().numpy())
    write_atomically(folder / PRIOR_FILE, encoded.getvalue())
    return kept_weighting(folder, about)


def _count(folder: Path, data: Sequence[str], workers: int, watch: Watch) -> Tensor:
    photos = open_photos(data)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        watch("Counting colors", done, len(photos))

    # What cannot be read of these photos is listed apart from the scored ones.
    place = folder / "prior"
    place.mkdir(exist_ok=True)
    try:
        return measure_prior(photos, PriorSettings(data=tuple(data), workers=workers), place, on_batch=advance).prior
    finally:
        if not any(place.iterdir()):
            place.rmdir()
