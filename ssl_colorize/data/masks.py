"""Masks in picture files: from what their pixels say, numbers or colors, to classes.

What a pixel says is taken for a class only where there is no doubt. A palette, or an RGB picture, goes by its colors
where the colors of the classes are known, whatever number stands for a color; all else goes by numbers. Whatever is no
class is refused with the values that were seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssl_colorize.data.annotations import IGNORED, Finding, Mask
from ssl_colorize.data.images import Header
from ssl_colorize.data.mask_classes import MaskClasses
from ssl_colorize.data.mask_pixels import Pixels, Raw, open_pixels, seen_in, through
from ssl_colorize.data.orientation import Frame, frame_of, turn_pixels
from ssl_colorize.errors import UserError, one_line

_BLUR = 64  # least distance of values that blurred pixels can still be told apart by
_NAMED = 8  # values that a message names

# ---- one mask --------------------------------------------------------------------------------------------------------


class Examined(NamedTuple):
    """A mask as classes, and what it was read by."""

    classes: NDArray[np.uint8]  # (H, W); IGNORED where nothing counts
    seen: tuple[int, ...]  # the numbers in the file, or the colors as `packed` has them
    by: Literal["value", "color"]
    orientation: int = 1  # as the file's own EXIF says; it is upright here
    colors: dict[int, int] = {}  # noqa: RUF012  (never changed) of numbers in a palette that nothing speaks for


@dataclass(frozen=True)
class MaskFile:
    """A picture whose pixels stand for classes."""

    path: str
    classes: MaskClasses = field(repr=False)
    exif: bool = True  # whether its own EXIF turns it

    def read(self) -> NDArray[np.uint8]:
        """(H, W) uint8 classes, as `annotations.Mask` has them."""
        return self.examine().classes

    def examine(self) -> Examined:
        """The classes, and how they were found.

        Raises:
            UserError: the file cannot be read, or what it says is no class for sure.
        """
        try:
            raw, blurred, orientation = open_pixels(self.path, exif=self.exif)
            return self._examine(raw, blurred)._replace(orientation=orientation)
        except (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError) as error:
            raise UserError(f"Cannot use the mask {self.path}: {one_line(error)}.") from None

    def _examine(self, raw: Raw, blurred: str) -> Examined:
        if blurred and not (self.classes.values and raw.numbers):
            seen = raw.values()
            held = _listed(seen) if raw.numbers else f"{len(seen)} colors"
            raise ValueError(
                f"it is {blurred}, which may blur values (it holds {held}): save masks as .png, or, if the values of "
                "the classes are far apart, say them with --mask-values"
            )
        if self.classes.values:
            return self._by_given_values(raw, blurred)
        if raw.palette is not None:
            return self._by_palette(raw.numbers[0], raw.palette)
        if raw.colors is not None:
            return self._by_colors(raw)
        return self._by_values(raw)

    def _by_given_values(self, raw: Raw, blurred: str) -> Examined:
        """By the numbers that were said; of several readings of the pixels the first that has no others."""
        known = self.classes.by_value
        if blurred:
            said = sorted({*self.classes.values, *self.classes.uncounted})
            if min(np.diff(said)) < _BLUR:
                raise ValueError(
                    f"it is {blurred}, which may blur values, too much for classes that are fewer than {_BLUR} apart: "
                    "save masks as .png"
                )
            levels = np.asarray(said)
            nearest = np.abs(raw.numbers[0][..., None] - levels).argmin(-1)
            return _translated(levels[nearest], known, "value")
        for numbers in (*raw.numbers, *raw.levels()):
            if known.keys() >= set(seen_in(numbers)):
                return _translated(numbers, known, "value")
        seen = raw.values() if raw.numbers else []
        if not seen:
            raise ValueError("it is in colors, which --mask-values cannot say: list the colors in classes.csv instead")
        others = [value for value in seen if value not in known]
        raise ValueError(
            f"it has the values {_listed(others)}, of which --mask-values says nothing; all: {_listed(seen)}"
        )

    def _by_palette(self, numbers: Pixels, palette: Sequence[int]) -> Examined:
        """By color where the colors of the classes are known, or by number where the palette does not speak of them."""
        used = seen_in(numbers)
        colors = {number: palette[number] if number < len(palette) else -1 for number in used}
        known = self.classes.by_color
        usual = self.classes.usual
        # Whatever the color of its 255, VOC's border is what does not count, unless that is the color of a class.
        border = {IGNORED} if known.get(colors.get(IGNORED, -1), IGNORED) == IGNORED else set()
        moved = [number for number in used if usual.get(number) != colors[number] and number not in border]
        grays = [color & 255 if color == (color & 255) * 0x010101 else -1 for color in colors.values()]
        highest = max(0 if gray == IGNORED else gray for gray in grays)
        if moved and -1 not in grays and grays != used and 0 < highest < len(self.classes.names):
            return self._by_grays(numbers, dict(zip(used, grays, strict=True)))
        if not moved or (not known.keys() & {colors[number] for number in moved} and not self.classes.declared):
            by_value = self._translate(numbers, used)
            return by_value._replace(colors={number: colors[number] for number in moved})
        distinct = {colors[number] for number in used if number not in border}
        if len(distinct) == 1 < len(set(used) - border):
            return self._translate(numbers, used)  # no palette at all
        if len(distinct) < len(set(used) - border):
            raise ValueError(
                f"its palette has one color for several of the numbers {_listed(used)}: go by the numbers "
                "with --mask-values, or give each class a color"
            )
        if known.keys() >= distinct:
            if not self.classes.declared and not self._are_voc():
                raise ValueError(
                    f"its palette has VOC's colors in an order of its own ({_shown(colors[moved[0]])} is number "
                    f"{moved[0]}): say the color of each class in classes.csv (name,red,green,blue), or go by the "
                    f"numbers {_listed(used)} with --mask-values"
                )
            table = known | ({-2: IGNORED} if border else {})
            coded = {number: -2 if number in border else colors[number] for number in used}
            return _translated(through(numbers, coded), table, "color")
        odd = [number for number in moved if colors[number] not in known]
        raise ValueError(
            f"the color {_shown(colors[odd[0]])} of its palette is none of the classes', whose colors the others are: "
            f"add it to classes.csv (name,red,green,blue), or go by the numbers {_listed(used)} with --mask-values"
        )

    def _by_grays(self, numbers: Pixels, grays: dict[int, int]) -> Examined:
        """By the grays of a palette that are numbers of classes themselves, as when a GIF leaves out unused numbers."""
        if self.classes.by_value.keys() >= grays.keys():
            raise ValueError(
                f"it has the numbers {_listed(list(grays))}, which its palette makes the grays "
                f"{_listed(list(grays.values()))}: say which of them stand for classes 0, 1, ... with --mask-values"
            )
        return self._translate(through(numbers, grays))

    def _are_voc(self) -> bool:
        """Whether names and colors are VOC's own."""
        return len(self.classes.names) == 21 and self.classes.names[1:2] == ("aeroplane",)

    def _by_colors(self, raw: Raw) -> Examined:
        """By color, or by number if it is a picture of grays."""
        assert raw.colors is not None
        known = self.classes.by_color
        seen = seen_in(raw.colors)
        if self.classes.colors and known.keys() >= set(seen):
            return _translated(raw.colors, known, "color")
        if raw.numbers:
            return self._by_values(raw)
        odd = [color for color in seen if color not in known]
        colors = ", ".join(_shown(color) for color in odd[:_NAMED]) + (", ..." if len(odd) > _NAMED else "")
        where = "the classes', whose colors are said" if self.classes.declared else "VOC's"
        raise ValueError(
            f"it is a picture in colors, and {colors} {'is' if len(odd) == 1 else 'are'} none of {where}: "
            "list the color of each class in classes.csv (name,red,green,blue)"
        )

    def _by_values(self, raw: Raw) -> Examined:
        numbers = raw.numbers[0]
        if self.classes.declared and numbers.max() >= len(self.classes.names):
            # Grays may be colors that a list declares, as black, gray and white.
            grays = numbers.astype(np.int64) * 0x010101
            if self.classes.by_color.keys() >= set(seen_in(grays)):
                return _translated(grays, self.classes.by_color, "color")
        return self._translate(numbers)

    def _translate(self, numbers: Pixels, seen: Sequence[int] | None = None) -> Examined:
        """By number, where each is a class or does not count."""
        known = self.classes.by_value
        seen = seen_in(numbers) if seen is None else seen
        unknown = [value for value in seen if value not in known]
        if unknown:
            more = f", as {_listed(unknown[1:])}" if len(unknown) > 1 else ""
            what = "blurred, as by resizing" if len(seen) > 2 * len(self.classes.names) + 8 else ""
            raise UserError(
                f"The mask {self.path} has the value {unknown[0]}, which is none of the {len(self.classes.names)} "
                f"classes{more} ({IGNORED} is not counted; its values are {_listed(seen)}{what and ': '}{what}). "
                + ("Save it without smoothing." if what else f"Say which is class 0, 1, ... with {_flag(seen)}.")
            )
        return _translated(numbers, known, "value", seen)


def _flag(seen: Sequence[int]) -> str:
    """The `--mask-values` that takes the values seen in a mask for classes 0, 1, ..."""
    return f"--mask-values {','.join(map(str, seen[:_NAMED]))}{',...' if len(seen) > _NAMED else ''}"


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:_NAMED])) + (f", ... ({len(values)} of them)" if len(values) > _NAMED else "")


def _shown(color: int) -> str:
    return "none" if color < 0 else f"({color >> 16}, {color >> 8 & 255}, {color & 255})"


def _translated(
    codes: Pixels, known: dict[int, int], by: Literal["value", "color"], seen: Sequence[int] | None = None
) -> Examined:
    seen = seen_in(codes) if seen is None else seen
    table = {code: known[code] for code in seen}
    same = codes.dtype == np.uint8 and all(code == number for code, number in table.items())
    return Examined(codes.astype(np.uint8) if same else through(codes, table).astype(np.uint8), tuple(seen), by)


# ---- checks ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TurnedMask:
    """A mask of a photo as it is stored, brought upright with it."""

    mask: Mask
    orientation: int  # of the photo

    def read(self) -> NDArray[np.uint8]:
        """(H, W) uint8 classes, as `annotations.Mask` has them."""
        return turn_pixels(self.mask.read(), self.orientation)


class CheckedMask(NamedTuple):
    """A mask that fits its photo."""

    mask: Mask
    shown: NDArray[np.int8]  # (C,): 1 for each class that it shows
    name: str
    findings: list[Finding]
    frame: Frame  # that it was made on
    examined: Examined | None = None  # of a file

    def turned(self, header: Header) -> "CheckedMask":
        """Turned with its photo if it does not tell whether it was made on that as it is stored."""
        return self if self.frame != "either" else self._replace(mask=TurnedMask(self.mask, header.orientation))


def checked_mask(mask: Mask, header: Header, name: str, classes: Sequence[str]) -> CheckedMask:
    """Read a mask and check it, turned with its photo.

    Args:
        header: of its photo.
        name: of the mask, for messages.

    Raises:
        UserError: the mask is unreadable, of another size than its photo, or has a value that is no class.
    """
    examined, values, findings = None, None, []
    if isinstance(mask, MaskFile):
        examined = mask.examine()
        values = examined.classes
        if examined.orientation >= 5 and values.shape == header.size:
            # Pixels that were turned upright already, with an EXIF that was copied from the photo.
            mask, values = replace(mask, exif=False), turn_pixels(values, _INVERSE[examined.orientation])
    values = mask.read() if values is None else values
    frame = frame_of((values.shape[1], values.shape[0]), header)
    if frame == "neither":
        raise UserError(
            f"The mask {name} is {values.shape[1]} x {values.shape[0]} px and its photo "
            f"{header.size[0]} x {header.size[1]} px. Mend it, or take it off the list."
        )
    if frame == "stored":
        mask = TurnedMask(mask, header.orientation)
        findings.append(Finding("turned", name))
    counts = np.bincount(values.ravel(), minlength=IGNORED + 1)
    if frame == "either" and examined is not None and examined.orientation == header.orientation:
        frame = "upright"  # by its own EXIF
    if frame == "either" and np.count_nonzero(counts) > 1:
        findings.append(Finding("orientation", name))
    shown = (counts[: len(classes)] > 0).astype(np.int8)
    if counts[IGNORED] and not shown[1:].any():
        seen = f": its values are {_listed(examined.seen)}" if examined and examined.by == "value" else ""
        findings.append(Finding("uncounted", f"{name}{seen}"))
    elif not shown[1:].any():
        findings.append(Finding("empty", name))
    return CheckedMask(mask, shown, name, findings, frame, examined)


def check_together(masks: Sequence[CheckedMask], classes: Sequence[str], where: object) -> None:
    """Refuse masks that show nothing but the background, and palettes that contradict each other.

    Args:
        where: they are from, for messages.

    Raises:
        UserError: they do.
    """
    numbers: dict[int, tuple[int, str]] = {}
    for each in masks:
        for number, color in each.examined.colors.items() if each.examined else ():
            other, first = numbers.setdefault(number, (color, each.name))
            if other != color:
                raise UserError(
                    f"{where}: the number {number} is {_shown(other)} in the palette of {first} and {_shown(color)} in "
                    f"that of {each.name}. Say the color of each class in classes.csv (name,red,green,blue), or go by "
                    "the numbers with --mask-values."
                )
    if not any(each.shown[1:].any() for each in masks):
        found = [each.examined for each in masks if each.examined]
        seen = sorted({value for each in found if each.by == "value" for value in each.seen})
        told = f" and the values {_listed(seen)} ({IGNORED} is not counted)" if seen else ""
        advice = f"If they are classes, say which with {_flag(seen)}." if len(seen) > 1 else "Give masks with objects."
        raise UserError(
            f"{where}: the {len(masks)} masks, the first of them {masks[0].name}, show nothing but {classes[0]}{told}. "
            f"{advice}"
        )


_INVERSE = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}  # orientation -> what turns pixels back
