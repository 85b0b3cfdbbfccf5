"""``python -m ssl_colorize`` is ``ssl-colorize``; torchrun starts it this way."""

from ssl_colorize.cli import main

main(prog_name="ssl-colorize")
