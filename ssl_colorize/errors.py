"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """A mistake in what was asked or given, as one line: what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with 2.
    """


def one_line(error: BaseException) -> str:
    """The first line of another library's complaint, or its kind where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
