"""Photos in: decoding, sources, and batches."""

from ssl_colorize.data.images import MAX_PIXELS, PHOTO_SUFFIXES, UnreadablePhoto, find_photos, read_photo
from ssl_colorize.data.loading import Batch, UnreadableLog, holdout_batches, training_batches
from ssl_colorize.data.photos import Photos
from ssl_colorize.data.sources import open_photos

__all__ = [
    "MAX_PIXELS",
    "PHOTO_SUFFIXES",
    "Batch",
    "Photos",
    "UnreadableLog",
    "UnreadablePhoto",
    "find_photos",
    "holdout_batches",
    "open_photos",
    "read_photo",
    "training_batches",
]
