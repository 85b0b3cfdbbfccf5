"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """A mistake in what was asked or given, as one line: what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with 2.
    """
