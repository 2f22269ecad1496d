"""What the optimising passes saved, read from `rewrites.md`.

Takes the text that `nasdsl.codegen.explain` wrote, returns tables. Invariant: a text of another form has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

import attrs

from nasdsl.drawing.pages import Table

_CELL = re.compile(r"(?<!\\)\|")
_NUMBER = re.compile(r"[0-9][0-9,]*")
_ESCAPED = re.compile(r"\\([\\|])")
_WORDS = 5
"""Columns of a chapter's table that hold words or how often; figures follow."""


@attrs.frozen
class Saving:
    """One figure of the network before and after all passes."""

    name: str
    before: int
    after: int

    @property
    def share(self) -> float:
        """What is left, as a share."""
        return self.after / self.before if self.before else 1.0

    @property
    def text(self) -> str:
        """The change in words: a part less, or how many times as much."""
        if self.after == self.before:
            return "as it was"
        return f"{100 * abs(1 - self.share):.0f} % {'less' if self.after < self.before else 'more'}"


@attrs.frozen
class Chapter:
    """A pass: its heading, what it does, its table where it changed something."""

    title: str
    summary: str
    table: Table | None


@attrs.frozen
class Rewrites:
    """The report: savings of all passes together, the network after each, and a chapter a pass."""

    savings: tuple[Saving, ...]
    totals: Table
    chapters: tuple[Chapter, ...]


def read_rewrites(text: str) -> Rewrites | None:
    """The tables of the text; None where it has none."""
    parts = re.split(r"^## ", text, flags=re.MULTILINE)
    totals = next(_tables(parts[0]), None)
    if totals is None or len(totals) < 2 or len(totals[0]) < 3:
        return None
    heads, *rows = totals
    numbers = [[_number(cell) for cell in row[2:]] for row in (rows[0], rows[-1])]
    savings = [
        Saving(name, before, after)
        for name, before, after in zip(heads[2:], *numbers, strict=False)
        if before is not None and after is not None
    ]
    chapters = tuple(map(_chapter, parts[1:]))
    return Rewrites(tuple(savings), Table(heads, rows, frozenset({1})), chapters)


def _chapter(text: str) -> Chapter:
    title, _, rest = text.partition("\n")
    said = rest.strip().split("\n\n")
    rows = next(_tables(rest), None)
    table = None if rows is None else Table(rows[0], rows[1:], frozenset(range(1, _WORDS - 1)))
    plain = [p for p in said if p and not p.startswith(("|", "- ", "Step by step"))]
    return Chapter(title.strip(), " ".join(plain), table)


def _tables(text: str) -> Iterator[list[tuple[str, ...]]]:
    """The Markdown tables of a text, their heads first; rows have as many cells as the head."""
    for is_row, lines in groupby(text.splitlines(), key=lambda line: line.startswith("|")):
        rows = [_cells(line) for line in lines] if is_row else []
        if len(rows) >= 2:
            yield [row for i, row in enumerate(rows) if i != 1 and len(row) == len(rows[0])]


def _cells(line: str) -> tuple[str, ...]:
    inside: Sequence[str] = _CELL.split(line.strip())[1:-1]
    return tuple(_ESCAPED.sub(r"\1", cell.strip()) for cell in inside)


def _number(text: str) -> int | None:
    return int(text.replace(",", "")) if _NUMBER.fullmatch(text) else None


__all__ = ["Chapter", "Rewrites", "Saving", "read_rewrites"]
