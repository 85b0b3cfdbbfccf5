"""Color: CIELAB, the 313 bins, soft encoding, decoding, the prior. Tensors in, tensors out."""

from ssl_colorize.color.bins import ab_bins
from ssl_colorize.color.encoding import annealed_mean, mean, mode, nearest_bin, soft_encode
from ssl_colorize.color.lab import (
    into_gamut,
    lab_to_rgb,
    lightness_to_gray,
    luminance,
    rgb_to_lab,
    rgb_to_lightness,
    to_uint8_keeping_lightness,
)
from ssl_colorize.color.prior import ColorStatistics, is_colored, rebalance_weights, smooth_prior

__all__ = [
    "ColorStatistics",
    "ab_bins",
    "annealed_mean",
    "into_gamut",
    "is_colored",
    "lab_to_rgb",
    "lightness_to_gray",
    "luminance",
    "mean",
    "mode",
    "nearest_bin",
    "rebalance_weights",
    "rgb_to_lab",
    "rgb_to_lightness",
    "smooth_prior",
    "soft_encode",
    "to_uint8_keeping_lightness",
]
