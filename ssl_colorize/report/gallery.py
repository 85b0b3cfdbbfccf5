"""The gallery of a scoring run: gray | each method | truth, as a page that needs no other file, and as pictures."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from ssl_colorize.colorize import gray
from ssl_colorize.pictures import encode
from ssl_colorize.report.sheets import photo_sheet
from ssl_colorize.runs import write_atomically
from ssl_colorize.score.scorer import Example

# These two stand at the ends of every row anyway.
GRAY, TRUTH = "gray", "truth"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #28282e; background: #fff; margin: 1.5rem; }
h1 { font-size: 1.3rem; margin: 0; }
h1 + p { margin: .2rem 0 1rem; color: #66666e; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin-bottom: 1.5rem; }
.photos { table-layout: fixed; }
.photos th, .photos td { padding: 3px; text-align: center; vertical-align: top; width: 176px; font-weight: 600; }
.photos td { font-weight: 400; font-size: 12px; color: #66666e; font-variant-numeric: tabular-nums; }
.photos img { display: block; width: 170px; height: auto; margin: 0 auto 2px; }
.photos thead th { position: sticky; top: 0; background: #fff; overflow-wrap: anywhere; }
.figures th, .figures td { padding: .15rem .7rem; text-align: right; font-variant-numeric: tabular-nums; }
.figures th:first-child, .figures td:first-child { text-align: left; }
.figures thead th { border-bottom: 1px solid #aaa; white-space: nowrap; }
dt { font-weight: 600; } dd { margin: 0 0 .4rem; max-width: 60rem; }
@media (prefers-color-scheme: dark) {
  body, .photos thead th { color: #e8e8ec; background: #18181b; }
  h1 + p, .photos td { color: #a5a5ad; }
}
"""


def gallery_page(
    path: Path,
    examples: Sequence[Example],
    *,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    protocol: Mapping[str, str],
) -> Path:
    """Write the page, atomically: the table, the photos with each picture's AuC below it, and the protocol.

    Args:
        path: the .html to write; pictures are inside it.
        examples: the photos.
        title: what was scored.
        columns: of the table of figures.
        rows: its cells, as text.
        protocol: what each figure is.
    """
    shown = coloring_methods(examples)
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        "<p>Below each picture: the AuC of its colors, in percent.</p>",
        _figures(columns, rows),
        '<div class="wide"><table class="photos"><thead><tr>',
        *(f'<th scope="col">{escape(name)}</th>' for name in ("gray", *shown, "truth")),
        "</tr></thead><tbody>",
        *(_row(example, shown) for example in examples),
        "</tbody></table></div>",
        "<details><summary>Protocol</summary><dl>",
        *(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in protocol.items()),
        "</dl></details></body></html>\n",
    ]
    write_atomically(path, "\n".join(parts))
    return path


def gallery_sheet(path: Path, examples: Sequence[Example], *, methods: Sequence[str] | None = None) -> Path:
    """Write the same photos as one PNG, with these methods or all between gray and truth."""
    shown = coloring_methods(examples) if methods is None else list(methods)
    rows = [(gray(example.photo), *(example.pictures[name] for name in shown), example.photo) for example in examples]
    # Few columns stand twice beside each other, so that the sheet is not a strip.
    photo_sheet(rows, ("gray", *shown, "truth"), path, cell=160, groups=2 if len(shown) < 3 else 1)
    return path


def coloring_methods(examples: Sequence[Example]) -> list[str]:
    """The methods whose pictures say more than the ends of the row."""
    return [name for name in examples[0].pictures if name not in (GRAY, TRUTH)] if examples else []


def _figures(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table class="figures"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _row(example: Example, shown: Sequence[str]) -> str:
    cells = [
        _cell(gray(example.photo), f"{example.name}, gray", example.auc.get(GRAY)),
        *(_cell(example.pictures[name], f"{example.name}, {name}", example.auc[name]) for name in shown),
        _cell(example.photo, f"{example.name}, true colors", example.auc.get(TRUTH)),
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _cell(picture: Image.Image, what: str, auc: float | None) -> str:
    data = b64encode(encode(picture, "jpg")).decode()
    below = "" if auc is None else f"{100 * auc:.1f}"
    said = escape(what, quote=True)
    return f'<td><img src="data:image/jpeg;base64,{data}" alt="{said}" title="{said}" loading="lazy">{below}</td>'
