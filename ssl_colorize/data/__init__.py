"""Photos in: decoding, sources, and batches."""

from ssl_colorize.data.annotated import open_annotated
from ssl_colorize.data.annotations import AnnotatedPhotos, Boxes
from ssl_colorize.data.images import MAX_PIXELS, PHOTO_SUFFIXES, UnreadablePhoto, find_photos, read_photo
from ssl_colorize.data.labeled import LabeledPhotos, choosing_split, open_labeled
from ssl_colorize.data.loading import Batch, UnreadableLog, holdout_batches, training_batches
from ssl_colorize.data.photos import Photos
from ssl_colorize.data.sources import open_photos

__all__ = [
    "MAX_PIXELS",
    "PHOTO_SUFFIXES",
    "AnnotatedPhotos",
    "Batch",
    "Boxes",
    "LabeledPhotos",
    "Photos",
    "UnreadableLog",
    "UnreadablePhoto",
    "choosing_split",
    "find_photos",
    "holdout_batches",
    "open_annotated",
    "open_labeled",
    "open_photos",
    "read_photo",
    "training_batches",
]
