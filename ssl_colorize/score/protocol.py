"""The protocol in words, as the output and metrics.json state it."""

from collections.abc import Sequence

from ssl_colorize.score.measures import LARGEST, PSNR_MOST, RAREST
from ssl_colorize.score.scorer import Instruments
from ssl_colorize.score.weighting import Weighting


def protocol(
    *,
    photos: str,
    size: int,
    weighting: Weighting | None,
    instruments: Instruments,
    classes: Sequence[int | None],
    others: str | None,
) -> dict[str, str]:
    """What each figure is, by its name in metrics.json.

    Args:
        photos: which photos, in words.
        size: side of the crops in pixels.
        weighting: of the rebalanced area.
        instruments: the networks that measure.
        classes: of the photos.
        others: where the method random takes its colors from.
    """
    text = {
        "photos": f"{photos}: upright 8-bit sRGB, short side resized to {size} px (bicubic, antialiased), center crop "
        f"of {size} x {size} px",
        "colors": "CIELAB in floats (D65, 2 degrees). A network sees lightness only, at its own input size; its ab "
        "are brought to the photo's size bilinearly and joined with the photo's own lightness",
        "auc": f"of ab as predicted, before sRGB limits them: the mean over pixels of 1 - min(d, {LARGEST:.0f}) / "
        f"{LARGEST:.0f}, d the Euclidean ab error; the area under the share of pixels within a threshold, 0 to "
        f"{LARGEST:.0f}",
        "auc_rebalanced": "not measured"
        if weighting is None
        else f"the same over the pixels of all photos together, each weighted by 1 / p~ at the bin nearest to its true "
        f"color (lambda 0); p~ is of {weighting.about}; shares below {RAREST:g} (ImageNet's rarest) count as that",
        "pictures": "all below is measured on 8-bit sRGB pictures in memory, as colorize writes PNGs: what sRGB cannot "
        "show at a pixel's lightness loses chroma, not lightness",
        "psnr": f"mean over photos, in dB; at most {PSNR_MOST} a photo, what rounding to 8 bits costs",
        "ssim": "mean over photos; RGB 0..255, Gaussian window of 11 px, sigma 1.5, mirrored at the borders",
        "colorfulness": "mean over photos of Hasler and Suesstrunk's M3, opponents with their signs, RGB 0..255",
        "cost": "parameters as stored; all that one forward pass at the network's input size computes, in-place "
        "results once; 1 MB = 10^6 bytes; seconds are the median over photos, one at a time, from pixels to ab",
        "intervals": "95 %, bootstrap over photos",
    }
    if instruments.classifier is not None:
        known = sum(each is not None for each in classes)
        meaning = f"right on the {known} photos whose class is known" if known else "the photos' classes are not known"
        text["classifier"] = (
            f"{instruments.classifier.name}, {instruments.classifier.about}; top1 and top5: {meaning}; agreement: the "
            "same first answer as on the true photo"
        )
    if instruments.lpips is not None:
        text["lpips"] = f"mean over photos; {instruments.lpips.about}"
    if instruments.fid is not None:
        text["fid"] = f"of {instruments.fid.extractor.about}, against the true photos; depends on their number"
    if others is not None:
        text["random"] = f"ab of a random other photo of {others}, cut in the same way"
    return text
