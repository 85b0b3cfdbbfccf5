"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """A mistake in what was asked or given, as one line: what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with 2.
    """


def printable(text: str) -> str:
    """A name on one line that any terminal and any file can hold: control characters and bad bytes escaped.

    >>> printable("a\\nb\\udcff.jpg")
    'a\\\\nb\\\\xff.jpg'
    """
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is no UTF-8, as os.fsdecode keeps it
        return f"\\x{number - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def one_line(error: BaseException) -> str:
    """The first line of another library's complaint, or its kind where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
