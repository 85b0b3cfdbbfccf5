"""Write the tables of RESULTS.md from what the studies recorded.

    python benchmarks/report.py            # --check only says whether the file is as it should be

A table stands between two lines, `<!-- frozen imagenette probe -->` and `<!-- end -->`: the first names the study and
what it is asked for. All else in RESULTS.md is written by hand.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import click
import colors
import evidence
import frozen
import gray
import recipes
import transfer
from studies import run_study

from ssl_colorize.errors import UserError
from ssl_colorize.runs import write_atomically

FILE = Path(__file__).parent / "RESULTS.md"
TABLES: dict[str, Callable[..., str]] = {
    "frozen": frozen.measured,
    "frozen-published": frozen.published,
    "gray": gray.measured,
    "recipes": recipes.measured,
    "evidence": evidence.measured,
    "transfer": transfer.measured,
    "transfer-published": transfer.published,
    "colors": colors.measured,
    "colors-compared": colors.compared,
    "colors-trimmed": colors.trimmed,
    "colors-published": colors.published,
}
_BLOCK = re.compile(r"(<!-- (?!end)([^\n]+?) -->\n).*?(<!-- end -->)", re.DOTALL)


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if something would change.")
def main(check: bool) -> None:
    """Write the tables of RESULTS.md."""
    before = FILE.read_text("utf-8")
    after = filled(before)
    if check:
        sys.exit(int(before != after))
    write_atomically(FILE, after)


def filled(text: str) -> str:
    """A text with the tables between its marks.

    Raises:
        UserError: a mark names no table.
    """
    return _BLOCK.sub(lambda block: f"{block[1]}{_table(block[2])}\n{block[3]}", text)


def _table(mark: str) -> str:
    name, *arguments = mark.split()
    if name not in TABLES:
        raise UserError(f"{FILE}: no table {name!r}: choose from {', '.join(TABLES)}.")
    return TABLES[name](*arguments)


if __name__ == "__main__":
    run_study(main)
