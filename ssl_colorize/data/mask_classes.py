"""The classes of a set's masks: their names, and the numbers or colors that stand for them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ssl_colorize.data.annotations import IGNORED
from ssl_colorize.errors import UserError
from ssl_colorize.text import read_lines

Color = tuple[int, int, int]

MOST_CLASSES = IGNORED  # 0 to 254: the next number is that of pixels that do not count
UNCOUNTED = (IGNORED, 0xFFFF)  # all bits of 8 and of 16, where they stand for no class


def voc_color(number: int) -> Color:
    """VOC's color of a class number: its bits, three at a time, are the highest bits of red, green and blue.

    Source: VOCdevkit, VOClabelcolormap.m.

    >>> voc_color(1), voc_color(15), voc_color(255)
    ((128, 0, 0), (192, 128, 128), (224, 224, 192))
    """
    color = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            color[channel] |= (number >> (3 * place + channel) & 1) << (7 - place)
    return color[0], color[1], color[2]


@dataclass(frozen=True)
class MaskClasses:
    """The classes of a set's masks, and what stands for each in a pixel.

    Attributes:
        names: C names, the background first.
        colors: one a class, or none at all if they are not known.
        declared: whether a file of the set's says the colors; else they are VOC's, which a set may have its own of.
        values: the number that stands for each class where somebody said so; else 0, 1, 2, ...
        uncounted: numbers that were said to stand for pixels that do not count.
        uncounted_colors: colors that do.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...] = ()
    declared: bool = False
    values: tuple[int, ...] = ()
    uncounted: tuple[int, ...] = ()
    uncounted_colors: tuple[Color, ...] = (voc_color(IGNORED),)

    def __post_init__(self) -> None:
        if len(self.names) > MOST_CLASSES:
            raise UserError(
                f"Masks take {MOST_CLASSES} classes at most, with the background, and there are {len(self.names)}: "
                "leave some out."
            )

    @cached_property
    def by_color(self) -> dict[int, int]:
        """Color -> class, or IGNORED."""
        known = {packed(color): IGNORED for color in self.uncounted_colors}
        return known | {packed(color): number for number, color in enumerate(self.colors)}

    @cached_property
    def by_value(self) -> dict[int, int]:
        """Number -> class, or IGNORED."""
        known = dict.fromkeys((*UNCOUNTED, *self.uncounted), IGNORED)
        return known | {value: number for number, value in enumerate(self.values or range(len(self.names)))}

    @cached_property
    def usual(self) -> dict[int, int]:
        """Class -> color: what a palette has for each number where numbers are classes."""
        return {number: packed(color) for number, color in enumerate(self.colors)}

    def with_values(self, text: str, *, listed: bool) -> "MaskClasses":
        """With the numbers that stand for the classes, as `--mask-values` gives them.

        Args:
            text: "0,255": what stands for class 0, for class 1, ...; "1-150" is a row of numbers, "ignore=0" a number
                for pixels that do not count.
            listed: whether a file of the set's says how many classes there are; else there are as many as values.

        Raises:
            UserError: it cannot be read, or there are as many classes as values.

        >>> classes = MaskClasses(("background", "cat")).with_values("0, 255", listed=True)
        >>> classes.by_value[255], classes.names
        (1, ('background', 'cat'))
        >>> MaskClasses(()).with_values("1-3,ignore=0", listed=False).by_value
        {255: 255, 65535: 255, 0: 255, 1: 0, 2: 1, 3: 2}
        """
        values, uncounted = _parse_values(text)
        names = self.names
        if len(values) != len(names):
            if listed:
                raise UserError(
                    f"--mask-values says what stands for {len(values)} classes, and {len(names)} are listed: "
                    f"{', '.join(names[:3])}, ... Give a value for each."
                )
            rest = ("object",) if len(values) == 2 else tuple(f"class{number}" for number in range(1, len(values)))
            names = ("background", *rest)
        return MaskClasses(names, (), False, tuple(values), tuple(uncounted))


def _parse_values(text: str) -> tuple[list[int], list[int]]:
    """The numbers that stand for classes 0, 1, ..., and those for pixels that do not count."""
    values: list[int] = []
    uncounted: list[int] = []
    try:
        for word in text.replace(",", " ").split():
            into, number = (uncounted, word[7:]) if word.lower().startswith("ignore=") else (values, word)
            first, dash, last = number.partition("-")
            into += range(int(first), int(last) + 1) if dash else [int(number)]
    except ValueError:
        values = []
    both = values + uncounted
    if len(values) < 2 or len(set(both)) < len(both):
        raise UserError(
            f"--mask-values {text!r}: give the value of class 0, of class 1, ..., each once, such as 0,255; "
            "ignore=N is for pixels that do not count."
        )
    return values, uncounted


def packed(color: Sequence[int]) -> int:
    """A color as one number."""
    return color[0] << 16 | color[1] << 8 | color[2]


# ---- lists of classes ------------------------------------------------------------------------------------------------

# Files that may list a set's classes, the better ones first.
_LISTS = (
    "classes.txt", "classes.csv", "class_names.txt", "class_dict.csv", "labelmap.txt", "label_colors.txt",
    "labels.txt",
)  # fmt: skip
_NOT_COUNTED = frozenset(("__ignore__", "ignore", "void"))  # names that lists with colors have for what does not count


def read_mask_classes(folder: Path, default: Sequence[str], mask_values: str | None = None) -> MaskClasses:
    """The classes of a folder's masks: those of the first file of `_LISTS` that is there, one a line.

    A line is a name, or a name and a color ("cat,128,0,0", "cat #800000", "cat:128,0,0::", "128 0 0 cat").

    Args:
        default: names where there is no such file, with VOC's colors.
        mask_values: what `--mask-values` said.

    Raises:
        UserError: a list or the values cannot be used.
    """
    found = [(folder / name, _read_list(folder / name)) for name in _LISTS if (folder / name).is_file()]
    if not found:
        listed = MaskClasses(tuple(default), tuple(map(voc_color, range(len(default)))))
    else:
        file, rows = found[0]
        colors = {name: color for _, each in found[::-1] for name, color in each.items() if color is not None}
        names = tuple(name for name in rows if not (name.lower() in _NOT_COUNTED and name in colors))
        if len(names) < 2:
            raise UserError(f"{file} must name each class once, one a line, the background first.")
        if all(name in colors for name in names):
            uncounted = [color for name, color in colors.items() if name.lower() in _NOT_COUNTED]
            chosen = tuple(colors[name] for name in names)
            if len({*chosen, *uncounted}) < len(chosen) + len(uncounted):
                raise UserError(f"{file}: two classes have the same color. Give each its own.")
            listed = MaskClasses(
                names, chosen, True, uncounted_colors=(*uncounted, *MaskClasses.uncounted_colors)
            )  # fmt: skip
        else:
            listed = MaskClasses(names, tuple(map(voc_color, range(len(names)))))
    return listed if mask_values is None else listed.with_values(mask_values, listed=bool(found))


def _read_list(file: Path) -> dict[str, Color | None]:
    """Name -> color, None where it has none, in the order of the lines."""
    found: dict[str, Color | None] = {}
    for number, line in read_lines(file):
        name, color = _name_and_color(line)
        if not name or (number == 1 and color is None and re.split(r"[,;:\t]", name)[0].strip().lower() in _HEADER):
            continue
        if name in found:
            raise UserError(f"{file} must name each class once, one a line, and has {name} twice.")
        found[name] = color
    return found


_COLOR = r"(\d{1,3})[\s,;:]+(\d{1,3})[\s,;:]+(\d{1,3})"
_HEADER = ("name", "class", "label", "class_name", "classname", "names", "classes")


def _name_and_color(line: str) -> tuple[str, Color | None]:
    """What a line says of a class; no name for a comment.

    >>> [_name_and_color(line) for line in ("traffic light,250,170,30", "64 128 64 Animal", "cat #800000")]
    [('traffic light', (250, 170, 30)), ('Animal', (64, 128, 64)), ('cat', (128, 0, 0))]
    >>> _name_and_color("# label:color_rgb:parts:actions"), _name_and_color("bus:0,60,100::"), _name_and_color("cat")
    (('', None), ('bus', (0, 60, 100)), ('cat', None))
    """
    line = line.strip().rstrip(":,;\t ")
    if re.match(r"#(?![0-9a-fA-F]{6}\b)", line):
        return "", None
    color: Color | None = None
    hexadecimal = re.search(r"#([0-9a-fA-F]{6})\b", line)
    numbers = re.search(rf"(?:^{_COLOR}(?=[\s,;:])|(?<=[\s,;:]){_COLOR}$)", line)
    found = hexadecimal or numbers
    if found is None:
        return line, None
    if hexadecimal is not None:
        whole = int(hexadecimal[1], 16)
        color = whole >> 16, whole >> 8 & 255, whole & 255
    else:
        red, green, blue = (int(each) for each in found.groups() if each is not None)
        if max(red, green, blue) > 255:
            return line, None
        color = red, green, blue
    name = (line[: found.start()] + line[found.end() :]).strip(":,;\t ")
    # A number of the class before its name.
    return re.sub(r"^\d+[,;:\t]\s*", "", name), color
