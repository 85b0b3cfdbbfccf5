"""Features of many photos: one pass for all layers, kept on disk for the next time."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_colorize.data import Batch, Photos, holdout_batches
from ssl_colorize.encoder import Encoder, Pooling, pool_map
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate.cache import Entry, Writer, key_of, photos_key, read

# Part of every key: raise it when the same input gives other features.
_VERSION = 1


# (N, D), perhaps memory-mapped.
Features = NDArray[np.floating[Any]]


class Extracted(NamedTuple):
    """Features of the photos that could be read."""

    features: dict[str, NDArray[np.float32]]  # (N, D) by layer
    kept: NDArray[np.int64]  # (N,) which photos of the set these are, ascending


def extract(
    encoder: Encoder,
    photos: Photos,
    *,
    layers: Sequence[str] = (),
    resize: int | None = None,
    crop: int | None = None,
    pool: Pooling = "adaptive",
    sizes: Mapping[str, int] | None = None,
    batch_size: int = 64,
    workers: int = 0,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    advance: Callable[[int], None] = lambda photos: None,
) -> Extracted:
    """Pooled features of photos, in one pass for all layers.

    Args:
        encoder: on the device to compute on.
        layers: names; all by default.
        resize: short side in pixels; the encoder's input size by default.
        crop: side of the center crop; `resize` by default.
        pool: see `pool_map`.
        sizes: cells a side that a layer's map is pooled to; 1 where not given.
        cache: folder to keep features in, or to take them from, memory-mapped; None computes them in memory.
        say: is told, in a line, what is taken from the cache, how much goes into it, and what cannot be read.
        advance: is told after every batch how many photos it was.

    Raises:
        UserError: a layer is unknown, no photo can be read, or the disk cannot hold the features.
    """
    chosen = encoder.choose(layers)
    resize = resize or encoder.input_size
    crop = crop or resize
    side = {layer: (sizes or {}).get(layer, 1) for layer in chosen}
    read_photos = holdout_batches(photos, resize=resize, crop=crop, batch_size=batch_size, workers=workers)
    batches = _watched(read_photos, say, advance)
    if cache is None:
        return _in_memory(_pooled(encoder, batches, side, pool), len(photos))
    entries = _entries(encoder, photos_key(photos), side, pool, (resize, crop))
    found = {entry.layer: read(cache, entry) for entry in entries}
    missing = [entry for entry in entries if found[entry.layer] is None]
    if len(missing) < len(entries):
        say(f"Features of {', '.join(layer for layer in chosen if found[layer])} taken from {cache}.")
    if missing:
        with Writer(cache, missing, photos=len(photos)) as writer:
            say(f"Keeping the features of {', '.join(each.layer for each in missing)} in {cache}: {writer.size}.")
            kept: list[int] = []
            wanted = {each.layer: side[each.layer] for each in missing}
            for features, indices in _pooled(encoder, batches, wanted, pool):
                kept += indices.tolist()
                for layer, rows in features.items():
                    writer.write(layer, rows)
            writer.finish(np.asarray(kept, dtype=np.int64))
        found |= {entry.layer: read(cache, entry) for entry in missing}
    return _agreed(found, cache)


def _watched(batches: Iterator[Batch], say: Callable[[str], None], advance: Callable[[int], None]) -> Iterator[Batch]:
    unreadable: list[str] = []
    for batch in batches:
        yield batch
        unreadable += batch.unreadable
        advance(len(batch.photos) + len(batch.unreadable))
    if unreadable:
        more = f", and {len(unreadable) - 1} more" if len(unreadable) > 1 else ""
        say(f"Left out, as it cannot be read: {unreadable[0]}{more}.")


def _entries(
    encoder: Encoder, photos: str, side: Mapping[str, int], pool: Pooling, sides: tuple[int, int]
) -> list[Entry]:
    channels = {info["module"]: info["num_chs"] for info in encoder.feature_info}
    device = next(encoder.parameters()).device.type
    common = (_VERSION, encoder.fingerprint(), photos, sides, device)
    return [
        # Pooled to a single cell, average and adaptive are the same, but not so that it could be relied on.
        Entry(layer, channels[layer] * size**2, key_of(*common, layer, pool, size))
        for layer, size in side.items()
    ]


def _pooled(
    encoder: Encoder, batches: Iterator[Batch], side: Mapping[str, int], pool: Pooling
) -> Iterator[tuple[dict[str, NDArray[np.float32]], NDArray[np.int64]]]:
    """For every batch the vectors (B, D) of each layer, and which photos they are of."""
    for batch in batches:
        yield vectors(encoder, batch.photos, side, pool), batch.indices.numpy()


@torch.no_grad()
def vectors(
    encoder: Encoder, photos: Tensor, side: Mapping[str, int], pool: Pooling = "adaptive"
) -> dict[str, NDArray[np.float32]]:
    """The pooled features (B, D) of photos (B, 3, H, W), by layer; `side` says to how many cells a side each is."""
    maps = encoder(photos.to(next(encoder.parameters()).device, non_blocking=True), tuple(side))
    found = [pool_map(maps[layer], size, pool).flatten(1) for layer, size in side.items()]
    # In one piece: every transfer from a GPU waits for all the work before it.
    together = torch.cat(found, 1).cpu().numpy()
    ends = np.cumsum([each.shape[1] for each in found])
    return dict(zip(side, np.split(together, ends[:-1], axis=1), strict=True))


def _in_memory(batches: Iterator[tuple[dict[str, NDArray[np.float32]], NDArray[np.int64]]], count: int) -> Extracted:
    features: dict[str, NDArray[np.float32]] = {}
    kept: list[int] = []
    for rows, indices in batches:
        for layer, part in rows.items():
            whole = features.setdefault(layer, np.empty((count, part.shape[1]), np.float32))
            whole[len(kept) : len(kept) + len(part)] = part
        kept += indices.tolist()
    return Extracted({layer: whole[: len(kept)] for layer, whole in features.items()}, np.asarray(kept, dtype=np.int64))


def _agreed(found: Mapping[str, tuple[NDArray[np.float32], NDArray[np.int64]] | None], cache: Path) -> Extracted:
    """All layers, which must be of the same photos."""
    first, *rest = found.values()
    if first is None or any(each is None or not np.array_equal(each[1], first[1]) for each in rest):
        raise UserError(f"The features in {cache} do not fit together: photos changed meanwhile. Empty it and repeat.")
    return Extracted({layer: each[0] for layer, each in found.items() if each is not None}, first[1])


def map_sides(
    encoder: Encoder, layers: Sequence[str], crop: int, *, numbers: int, sizes: Mapping[str, int] | None = None
) -> dict[str, int]:
    """The side of each layer's pooled map, for photos of `crop` pixels a side.

    Args:
        numbers: most features that a layer is pooled to, as far as its map has them.
        sizes: sides that are given, by layer.
    """
    device = next(encoder.parameters()).device
    maps = encoder(torch.zeros(1, 3, crop, crop, dtype=torch.uint8, device=device), layers)
    return {
        name: (sizes or {}).get(name) or max(1, min(math.isqrt(numbers // x.shape[1]), x.shape[2], x.shape[3]))
        for name, x in maps.items()
    }


@contextmanager
def frozen(encoder: Encoder) -> Iterator[None]:
    """Prove that what happens inside leaves the encoder's weights and buffers as they are, bit by bit.

    Raises:
        RuntimeError: something changed.
    """
    before = encoder.fingerprint()
    yield
    if encoder.fingerprint() != before:
        raise RuntimeError(f"the weights or buffers of {encoder.name} changed while they should have been frozen")
