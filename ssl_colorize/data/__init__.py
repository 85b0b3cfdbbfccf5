"""Photos in: decoding, data sets with labels, boxes or masks, and batches."""

from ssl_colorize.data.annotations import Boxes
from ssl_colorize.data.datasets import LabeledDataset
from ssl_colorize.data.images import MAX_PIXELS, UnreadablePhoto, read_photo
from ssl_colorize.data.loading import Batch, UnreadableLog, holdout_batches, training_batches
from ssl_colorize.data.photos import Photos
from ssl_colorize.data.reading import announce
from ssl_colorize.data.sources import leave_out, open_dataset, open_photos
from ssl_colorize.data.splits import choosing_split
from ssl_colorize.data.walk import PHOTO_SUFFIXES, find_photos

__all__ = [
    "MAX_PIXELS",
    "PHOTO_SUFFIXES",
    "Batch",
    "Boxes",
    "LabeledDataset",
    "Photos",
    "UnreadableLog",
    "UnreadablePhoto",
    "announce",
    "choosing_split",
    "find_photos",
    "holdout_batches",
    "leave_out",
    "open_dataset",
    "open_photos",
    "read_photo",
    "training_batches",
]
