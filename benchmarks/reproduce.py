"""One table of the results from nothing but photos: trains what is not trained, measures, and writes the table.

    python benchmarks/reproduce.py --list
    python benchmarks/reproduce.py frozen-imagenette --data PHOTOS              # --plan only prints the commands
    python benchmarks/reproduce.py frozen-imagenette --data PHOTOS --set steps=20 --set width=0.06 --limit 400 -o look

PHOTOS holds tiny-imagenet, imagenette128, VOCdevkit/VOC2012 and imagenet-like-240, those of them that the table needs;
--data NAME=FOLDER says where one of them is by itself (imagenet-like-240: any folder of photos with a labels.csv of
photo and class). Everything goes into the folder of --out: `data/`, `runs/` (one a network and seed), `results/` (a
record each, and the table). What is there is kept: a finished run is not trained again, a stopped one goes on, a figure
that is recorded is not measured again; tables share networks. Several tables may be made at once in one --out.

    python benchmarks/reproduce.py --check      # whether RESULTS.md and results/*.md follow from the records
    python benchmarks/reproduce.py --write      # makes them follow
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from measures import Transfer
from networks import NETWORKS
from records import RESULTS, markdown, recorded, run_command
from steps import SETS, Workspace, begin, perform, shown, unfinished
from tables import PARTS, RECIPES, TABLES, Table

from ssl_colorize.errors import UserError
from ssl_colorize.runs import write_atomically

ANSWERS = Path(__file__).parent / "RESULTS.md"
_BLOCK = re.compile(r"(<!-- (?!end)([^\n]+?) -->\n).*?(<!-- end -->)", re.DOTALL)


@click.command()
@click.argument("name", required=False, metavar="TABLE")
@click.option("--data", multiple=True, metavar="FOLDER|NAME=FOLDER", help="Photos; may be given again.")
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("runs/reproduce"))
@click.option("--plan", is_flag=True, help="Only print the commands that are left to run.")
@click.option("--list", "listed", is_flag=True, help="The tables, what they cost and what figures to expect.")
@click.option("--check", is_flag=True, help="Exit code 1 if a committed table does not follow from the records.")
@click.option("--write", is_flag=True, help="Write the committed tables from the records.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Of every pretraining, for a quick look.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Photos at most, for a quick look.")
@click.option("--draws", type=click.IntRange(min=1), metavar="N", help="Seeds of each. [default: as in RESULTS]")
@click.option("--workers", default=1, show_default=True, help="Processes that decode photos.")
def main(
    name: str | None, data: tuple[str, ...], out: Path, plan: bool, listed: bool, check: bool, write: bool,
    settings: tuple[str, ...], limit: int | None, draws: int | None, workers: int,
) -> None:  # fmt: skip
    """Train, measure and write one TABLE of the results."""
    if listed:
        click.echo(listing(RESULTS))
    elif check or write:
        sys.exit(keep_committed(write=write))
    elif name not in TABLES:
        raise click.UsageError(f"Give a TABLE: {', '.join(TABLES)}; or --list.")
    else:
        workspace = Workspace(folders(data), out, settings, limit, draws, workers)
        if plan:
            show_plan(TABLES[name], workspace)
        else:
            reproduce(name, workspace)


def reproduce(name: str, workspace: Workspace) -> None:
    """Do what the table takes, and write it."""
    begin(workspace)
    for measure in TABLES[name].measures:
        perform(measure.steps(workspace))
    text = TABLES[name].text(name, workspace.results)
    write_atomically(workspace.results / f"{name}.md", text)
    click.echo(text)
    click.echo(f"Wrote {workspace.results / name}.md; the figures to expect are in {RESULTS / name}.md.", err=True)


def show_plan(table: Table, workspace: Workspace) -> None:
    """Print what is left to run, as one would type it."""
    for step in unfinished(step for measure in table.measures for step in measure.steps(workspace)):
        if command := step.pending():
            click.echo(shown(command))


def folders(data: tuple[str, ...]) -> dict[str, Path]:
    """The sets of photos that are there, by their names.

    Raises:
        UserError: a folder is missing, or holds none of the sets.
    """
    found: dict[str, Path] = {}
    for item in data:
        name, _, folder = item.partition("=")
        sets = {name: Path(folder)} if name in SETS else {each: Path(item) / below for each, below in SETS.items()}
        there = {each: path for each, path in sets.items() if path.is_dir()}
        if not there:
            raise UserError(f"--data {item}: no such folder, or none of {', '.join(SETS.values())} in it.")
        found |= there
    return found


# ---- what it costs ---------------------------------------------------------------------------------------------------


def listing(results: Path) -> str:
    """Every table with its core-hours, by what the records say, and figures to expect."""
    rows: list[tuple[str, ...]] = [("table", "question", "core-hours of training", "expected")]
    for name, table in TABLES.items():
        try:
            expected = table.figure(results)
        except UserError:
            expected = "nothing recorded yet"
        rows.append((name, table.question, cost(table, results), expected))
    return markdown(rows)


def cost(table: Table, results: Path) -> str:
    """Core-hours of the trainings and of fine-tuning, as far as they are recorded; reading features comes on top."""
    trained = {(network.name, seed) for measure in table.measures for network, seed in measure.trained()
               if not network.source}  # fmt: skip
    # A record counts what a network began from as well.
    trained -= {(NETWORKS[name].start, seed) for name, seed in trained}
    known = dict(training_seconds(results))
    seconds = sum(known.get(key, 0) for key in trained)
    tasks = {measure.task for measure in table.measures if isinstance(measure, Transfer)}
    seconds += sum(
        one["seconds_of_fine_tuning"] for task in tasks for draws in recorded(results / "transfer" / task).values()
        for one in draws
    )  # fmt: skip
    unknown = len(trained - known.keys())
    more = f" and {unknown} trainings that no record times" if unknown else ""
    return f"{seconds / 3600:.1f}{more}"


def training_seconds(results: Path) -> Iterator[tuple[tuple[str, int], float]]:
    """What each network's training took, by its name and seed."""
    for folder in (results / "frozen").iterdir():
        for name, draws in recorded(folder).items():
            yield from (((name, one["seed"]), one["seconds"]) for one in draws if "seconds" in one)
    found = recorded(results / "recipes")
    for name, (network, seed) in RECIPES.rows.items():
        if name in found:
            yield (network.name, seed), found[name][0]["seconds"]


# ---- the committed tables --------------------------------------------------------------------------------------------


def keep_committed(*, write: bool) -> int:
    """Write RESULTS.md and results/*.md, or only compare; the exit code."""
    wanted = {ANSWERS: filled(ANSWERS.read_text("utf-8"))} | dict(committed(RESULTS))
    wrong = [path for path, text in wanted.items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in wrong:
        if write:
            write_atomically(path, wanted[path])
        click.echo(f"{'Wrote' if write else 'Does not follow from the records:'} {path}", err=True)
    return int(bool(wrong) and not write)


def committed(results: Path) -> Iterator[tuple[Path, str]]:
    """The files of the tables of which everything is recorded."""
    for name, table in TABLES.items():
        path = results / f"{name}.md"
        try:
            yield path, table.text(name, results)
        except UserError:
            # Of a table that was never committed nothing needs to be there.
            if path.is_file():
                raise


def filled(text: str) -> str:
    """A text with the tables between its marks, `<!-- NAME -->` and `<!-- end -->`.

    Raises:
        UserError: a mark names no table.
    """

    def block(found: re.Match[str]) -> str:
        if found[2] not in PARTS:
            raise UserError(f"{ANSWERS}: no table {found[2]!r}: choose from {', '.join(PARTS)}.")
        return f"{found[1]}{PARTS[found[2]](RESULTS)}\n{found[3]}"

    return _BLOCK.sub(block, text)


if __name__ == "__main__":
    run_command(main)
