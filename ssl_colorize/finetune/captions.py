"""Words under pictures."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_PAPER, _INK = (255, 255, 255), (40, 40, 46)


def captioned(picture: Image.Image, lines: Sequence[str], *, side: int) -> Image.Image:
    """A picture fitted into a square of `side` pixels, with lines of text under it, each shortened to fit."""
    scale = side / max(picture.size)
    width, height = (max(1, round(each * scale)) for each in picture.size)
    fitted = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    font = ImageFont.load_default(max(11, side // 17))
    step = max(14, side // 13)
    whole = Image.new("RGB", (side, side + step * len(lines)), _PAPER)
    whole.paste(fitted, ((side - width) // 2, side - height))
    draw = ImageDraw.Draw(whole)
    for number, line in enumerate(lines):
        shown = line
        while draw.textlength(shown, font=font) > side and len(shown) > 1:
            shown = shown[:-2] + "…"
        draw.text((side / 2, side + step * (number + 0.5)), shown, font=font, fill=_INK, anchor="mm")
    return whole
