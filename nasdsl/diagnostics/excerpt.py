"""The lines of a source with underlines and labels below them.

Takes a source and marks, returns rows to print. Invariant: an underline stands
exactly below its characters as a terminal shows them: tabs are spread, wide
characters take two columns, combining ones none, and very long lines are cut
around their first mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from unicodedata import combining, east_asian_width

import attrs

from nasdsl.diagnostics.source import Source, Span

TAB = " " * 4
WINDOW = 160
"""So many characters of a line are shown at most."""
BEFORE = 60
"""Of these so many stand before the first mark when a line is cut."""

Row = tuple[int, str, str]
"""Line number (0 for a row below a line, -1 for a gap), text, and whose row it is."""


@attrs.frozen
class Mark:
    """A span to underline and what to write at it."""

    span: Span
    message: str
    primary: bool


@attrs.frozen
class _Piece:
    """The part of a mark that lies on one line: character columns from zero."""

    start: int
    end: int
    message: str
    primary: bool


def printable(text: str) -> str:
    """The text with everything that could steer a terminal replaced by `�`."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def excerpt(source: Source, marks: Iterable[Mark]) -> Iterator[Row]:
    """The marked lines in order, each followed by its underlines and labels."""
    pieces: dict[int, list[_Piece]] = {}
    for mark in marks:
        for number, piece in _split(source, mark):
            pieces.setdefault(number, []).append(piece)
    previous = None
    for number in sorted(pieces):
        if previous is not None and number > previous + 1:
            yield -1, "", ""
        previous = number
        yield from _line(source.line(number), number, pieces[number])


def _split(source: Source, mark: Mark) -> Iterator[tuple[int, _Piece]]:
    """A mark over several lines is drawn on its first and its last, the message at the last."""
    span = mark.span
    first, start = source.line_column(span.start)
    last, end = source.line_column(max(span.start, span.end))
    if last > first and end == 1:
        # The span ends with the end of a line: what it covers is the line before.
        last -= 1
        end = len(source.line(last)) + 1
    if first == last:
        yield first, _Piece(start - 1, max(end - 1, start), mark.message, mark.primary)
        return
    width = len(source.line(first))
    yield first, _Piece(start - 1, max(width, start), "", mark.primary)
    text = source.line(last)
    indent = len(text) - len(text.lstrip())
    yield last, _Piece(min(indent, max(0, end - 2)), max(end - 1, 1), mark.message, mark.primary)


def _line(text: str, number: int, pieces: list[_Piece]) -> Iterator[Row]:
    first = min(p.start for p in pieces)
    skipped = 0 if len(text) <= WINDOW else max(0, first - BEFORE)
    shown = text[skipped : skipped + WINDOW]
    lead = "..." if skipped else ""
    tail = "..." if skipped + WINDOW < len(text) else ""
    cells, columns = _cells(shown)
    yield number, f"{lead}{cells}{tail}", ""

    def column(offset: int) -> int:
        inside = max(0, min(offset - skipped, len(shown)))
        beyond = max(0, offset - skipped - len(shown)) if not tail else 0
        return len(lead) + columns[inside] + min(beyond, 1)

    placed = [(column(p.start), max(column(p.end), column(p.start) + 1), p) for p in pieces]
    placed.sort(key=lambda entry: (entry[0], entry[1]))
    yield from _underlines([(start, end, p.message, p.primary) for start, end, p in placed])


def _cells(text: str) -> tuple[str, list[int]]:
    """The text as printed, and the column at which each character starts (and the last one ends)."""
    columns = [0]
    cells = []
    for character in text:
        if character == "\t":
            cell, width = TAB, len(TAB)
        elif character.isascii():
            cell, width = printable(character), 1
        else:
            cell = printable(character)
            width = 0 if combining(cell) else 2 if east_asian_width(cell) in "WF" else 1
        cells.append(cell)
        columns.append(columns[-1] + width)
    return "".join(cells), columns


def _underlines(marks: list[tuple[int, int, str, bool]]) -> Iterator[Row]:
    """One row of carets with the rightmost label beside it; the other labels hang below theirs."""
    under = [" "] * max(end for _, end, _, _ in marks)
    for start, end, _, _ in marks:
        under[start:end] = "^" * (end - start)
    carets = "".join(under)
    kind = "primary" if any(primary for *_, primary in marks) else "secondary"
    spoken = [(start, printable(message).rstrip()) for start, _, message, _ in marks if message.strip()]
    beside = ""
    # Beside the carets a label can only stand for the mark that ends the row.
    if spoken and spoken[-1][0] == marks[-1][0] and len(carets) == marks[-1][1]:
        beside = f" {spoken.pop()[1]}"
    yield 0, carets + beside, kind
    if spoken:
        yield 0, _stems([start for start, _ in spoken]), kind
    while spoken:
        start, message = spoken.pop()
        stems = _stems([s for s, _ in spoken if s < start])
        yield 0, f"{stems:<{start}}{message}", kind


def _stems(columns: list[int]) -> str:
    row = [" "] * (max(columns, default=-1) + 1)
    for column in columns:
        row[column] = "|"
    return "".join(row)
