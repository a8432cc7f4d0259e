"""Lay out facts, tables and sentences as text or HTML; nothing is computed here."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from math import floor, isnan, log10
from typing import Any, Protocol

import pandas as pd

WIDEST, NARROWEST, LEAST_WORDS = 100, 60, 16

# Colours and fonts are the notebook's own, so that light and dark themes both look right.
CELL = "padding:0.1em 0.8em;border:0;background:none;vertical-align:top"
LEFT = f"{CELL};text-align:left"
NUMBER = f"{CELL};text-align:right;font-family:monospace;white-space:pre"
LINE = "border-bottom:1px solid currentColor"

type Row = tuple[str, ...]


class Part(Protocol):
    """A piece of a page."""

    def text(self, width: int) -> str:
        """Give the lines, none longer than `width` unless numbers need it."""

    def html(self) -> str:
        """Give an HTML element, every name escaped."""


@dataclass(frozen=True)
class Facts:
    """Names with what is to be said of each."""

    rows: tuple[tuple[str, str], ...]

    def text(self, width: int) -> str:
        """Give the names in one column and the words in the next."""
        return _aligned(self.rows, width)

    def html(self) -> str:
        """Give a table whose rows have a heading each."""
        rows = (
            f'<tr><th scope="row" style="{LEFT}">{escape(name)}</th>'
            f'<td style="{LEFT}">{escape(words)}</td></tr>'
            for name, words in self.rows
        )
        return f"<table><tbody>{''.join(rows)}</tbody></table>"


@dataclass(frozen=True)
class Grid:
    """
    A table of texts, its rows in sections.

    The first `words` columns are words; the others numbers, padded to equal lengths, so that
    they stay as they are. A section with a heading has its rows indented.
    """

    title: str
    header: Row
    sections: tuple[tuple[str, tuple[Row, ...]], ...]
    words: int = 1

    def text(self, width: int) -> str:
        """Give the title, a line of headers, and the rows."""
        blank = ("",) * (len(self.header) - 1)
        lines: list[Row] = [self.header]
        for heading, rows in self.sections:
            if heading:
                lines.append((heading, *blank))
            lines += [("  " + row[0], *row[1:]) if heading else row for row in rows]
        return f"{self.title}\n{_aligned(lines, width, words=self.words)}"

    def html(self) -> str:
        """Give a table with a caption."""
        head = "".join(
            f'<th scope="col" style="{self._style(k)};{LINE}">{escape(name)}</th>'
            for k, name in enumerate(self.header)
        )
        body = "".join(self._section(heading, rows) for heading, rows in self.sections)
        caption = f'<caption style="{LEFT};font-weight:bold">{escape(self.title)}</caption>'
        return f"<table>{caption}<thead><tr>{head}</tr></thead>{body}</table>"

    def _section(self, heading: str, rows: Iterable[Row]) -> str:
        first = f'<tr><th scope="rowgroup" colspan="{len(self.header)}" style="{LEFT}">'
        lines = [f"{first}{escape(heading)}</th></tr>"] if heading else []
        for row in rows:
            cells = (
                f'<td style="{self._style(k)}">{escape(cell)}</td>' for k, cell in enumerate(row)
            )
            lines.append(f"<tr>{''.join(cells)}</tr>")
        return f"<tbody>{''.join(lines)}</tbody>"

    def _style(self, column: int) -> str:
        return LEFT if column < self.words else NUMBER


@dataclass(frozen=True)
class Sentences:
    """A title and a list of sentences."""

    title: str
    lines: tuple[str, ...]

    def text(self, width: int) -> str:
        """Give the title, and each sentence after a dash."""
        return f"{self.title}\n{_aligned([('-', line) for line in self.lines], width)}"

    def html(self) -> str:
        """Give a list."""
        items = "".join(f"<li>{escape(line)}</li>" for line in self.lines)
        return f"<p><strong>{escape(self.title)}</strong></p><ul>{items}</ul>"


@dataclass(frozen=True)
class Page:
    """A title and parts one below the other."""

    title: str
    parts: tuple[Part, ...]

    def text(self, width: int | None = None) -> str:
        """Lay the page out in at most `width` columns: by default the terminal's, at most 100."""
        if width is None:
            width = shutil.get_terminal_size((WIDEST, 24)).columns
        width = min(max(width, NARROWEST), WIDEST)
        return "\n\n".join([self.title, *(part.text(width) for part in self.parts)])

    def html(self) -> str:
        """Write the page as one HTML element."""
        parts = "".join(part.html() for part in self.parts)
        return f"<div><p><strong>{escape(self.title)}</strong></p>{parts}</div>"

    def __repr__(self) -> str:
        """Print as text."""
        return self.text()

    def _repr_html_(self) -> str:
        return self.html()


# ---- numbers


def rounded(value: float, std_error: float) -> str:
    """
    Write a number with as many digits as two of its standard error need.

    Examples
    --------
    >>> rounded(10.3863, 1.6712), rounded(251.428, 7.2), rounded(1234.5, 321.0)
    ('10.4', '251.4', '1234')
    """
    if isnan(value):
        return ""
    if not std_error > 0:
        return f"{value:.6g}"
    decimals = 1 - floor(log10(std_error))
    if decimals > 6 or abs(value) >= 1e7:
        return f"{value:.3g}"
    return f"{value:z.{max(decimals, 0)}f}"


def estimate_header(level: float) -> Row:
    """
    Name the columns of estimates.

    Examples
    --------
    >>> estimate_header(0.9)
    ('estimate', 'std_error', '5%', '95%')
    """
    tail = 50 * (1 - level)
    return "estimate", "std_error", f"{tail:.4g}%", f"{100 - tail:.4g}%"


def p_value(p: float) -> str:
    """
    Write a p-value.

    Examples
    --------
    >>> p_value(0.0312), p_value(3e-9)
    ('0.0312', '<0.0001')
    """
    return "<0.0001" if p < 1e-4 else f"{p:.4f}"


# What may stand beside estimates: the column's head, and how a number of it is written.
BESIDE: dict[str, tuple[str, Callable[[float], str]]] = {
    "r_hat": ("R-hat", lambda x: f"{x:.3f}"),
    "ess_bulk": ("ESS bulk", lambda x: f"{x:.0f}"),
    "ess_tail": ("ESS tail", lambda x: f"{x:.0f}"),
    "statistic": ("z", lambda x: f"{x:.2f}"),
    "p_value": ("p", p_value),
}


def estimate_cells(table: pd.DataFrame, level: float) -> tuple[Row, list[Row]]:
    """
    Write a table of estimates.

    Parameters
    ----------
    table
        With `estimate, std_error, lower, upper`, and what of `BESIDE` it has. An estimate with a
        standard error of zero is a value that was fixed; one with NaN has none, shown as `-`.

    Returns
    -------
    header
        The columns' names, each as long as its column.
    rows
        The numbers, decimal points below one another.
    """
    # Of equal numbers the standard deviation is not always zero to the last digit.
    size = table["estimate"].abs()
    errors = table["std_error"].where(~(table["std_error"] <= 1e-12 * size), 0.0).tolist()

    def written(name: str, words: Callable[[float, float], str], fixed: str = "") -> list[str]:
        pairs = zip(table[name], errors, strict=True)
        return [words(x, s) if s > 0 else "-" if isnan(s) else fixed for x, s in pairs]

    columns = [
        [rounded(x, s) for x, s in zip(table["estimate"], errors, strict=True)],
        written("std_error", rounded, fixed="fixed"),
        written("lower", rounded),
        written("upper", rounded),
    ]
    names = list(estimate_header(level))
    for name, (head, words) in BESIDE.items():
        if name in table:
            names.append(head)
            columns.append(
                [
                    words(x) if s > 0 and not isnan(x) else ""
                    for x, s in zip(table[name], errors, strict=True)
                ]
            )
    padded = [_pointed(name, cells) for name, cells in zip(names, columns, strict=True)]
    return tuple(c[0] for c in padded), list(zip(*(c[1:] for c in padded), strict=True))


def right(name: str, cells: Sequence[str]) -> list[str]:
    """Make a column's name and cells equally long, with spaces before them."""
    width = max(map(len, [name, *cells]))
    return [text.rjust(width) for text in (name, *cells)]


def _pointed(name: str, cells: Sequence[str]) -> list[str]:
    """Put the decimal points of a column below one another."""
    behind = [len(text) - text.index(".") if "." in text else 0 for text in cells]
    most = max(behind, default=0)
    return right(name, [t + " " * (most - k) for t, k in zip(cells, behind, strict=True)])


def _aligned(rows: Iterable[Row], width: int, *, words: int = 2) -> str:
    """Align columns in text, folding the first `words` of them where they are too long."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    # Words fold, but a number that is cut off would be another number.
    numbers = [max(map(len, column)) + 2 for column in list(zip(*rows, strict=True))[words:]]
    width = max(width, sum(numbers) + LEAST_WORDS) if numbers else width
    table: Any = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    for k in range(len(rows[0]) if rows else 0):
        table.add_column(overflow="fold", no_wrap=k >= words)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # as Text, or brackets would be markup
    out = StringIO()
    # Rich would otherwise write to the notebook itself.
    console = Console(file=out, width=width, color_system=None, force_jupyter=False)
    console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
