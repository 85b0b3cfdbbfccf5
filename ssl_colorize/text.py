"""Text files of any editor: with or without a byte order mark, with any line ends; what is wrong names the line."""

import codecs
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ssl_colorize.errors import UserError, one_line

# Longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(file: str | Path) -> str:
    r"""A text file's content: UTF-8, or as its byte order mark says, which is not part of it; lines end with "\n".

    Raises:
        UserError: the file cannot be read, or is not text; the message names the line.

    >>> _ = Path("list.txt").write_bytes(b"\xef\xbb\xbfa.jpg\r\nb.jpg\r\n")
    >>> read_text("list.txt")
    'a.jpg\nb.jpg\n'
    """
    path = Path(file).expanduser()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from None
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}, is not {encoding.upper()[:6]}: save the file as UTF-8.") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UserError(f"{path}, line {line}, is not text: save the file as UTF-8.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(file: str | Path) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, without spaces around them, each after its number from 1.

    Raises:
        UserError: as `read_text`.

    >>> _ = Path("list.txt").write_text("a.jpg \\n\\n b.jpg")
    >>> read_lines("list.txt")
    [(1, 'a.jpg'), (3, 'b.jpg')]
    """
    # Not splitlines, which also splits at characters that names may hold.
    numbered = enumerate(map(str.strip, read_text(file).split("\n")), start=1)
    return [(number, line) for number, line in numbered if line]


def read_table(file: str | Path) -> list[tuple[int, list[str]]]:
    """The rows of a CSV file that are not blank, each after the number of its last line; spaces around values go.

    Values are separated by what separates those of the first row: commas, semicolons or tabs.

    Raises:
        UserError: as `read_text`, or the file is no CSV.

    >>> _ = Path("labels.csv").write_text('file;label\\n"a;1.jpg";cat\\n')
    >>> read_table("labels.csv")
    [(1, ['file', 'label']), (2, ['a;1.jpg', 'cat'])]
    """
    text = read_text(file)
    first = next((line for line in text.split("\n") if line.strip()), "")
    delimiter = max(",;\t", key=lambda each: len(next(csv.reader([first], delimiter=each), [])))
    rows = csv.reader(text.split("\n"), delimiter=delimiter, skipinitialspace=True)

    def numbered() -> Iterator[tuple[int, list[str]]]:
        for row in rows:
            values = [value.strip() for value in row]
            if any(values):
                yield rows.line_num, values

    try:
        return list(numbered())
    except csv.Error as error:
        raise UserError(f"{file}, line {rows.line_num}, is not CSV: {one_line(error)}.") from None


def read_json(file: str | Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: as `read_text`, or the file is no JSON; the message names the line.

    >>> _ = Path("numbers.json").write_bytes(b"\\xef\\xbb\\xbf[1, 2]")
    >>> read_json("numbers.json")
    [1, 2]
    """
    try:
        return json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise UserError(f"{file}, line {error.lineno}, is not JSON: {error.msg}.") from None
    except RecursionError:
        raise UserError(f"{file} is not JSON that can be read: it is nested too deep.") from None
