"""Tables in CSV files.

Takes a file with a column `arch` and columns of numbers, returns a `Table`. Invariant: every row is an
architecture of the space and no two rows are the same one; a cell is a finite number, or empty for what is
not known; what is wrong is said with its line. The format is written down in `docs/howto/benchmark.md`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from math import isfinite
from typing import Any, NoReturn

import attrs

from nasdsl.diagnostics import Diagnostic, Label, Source, Span, did_you_mean
from nasdsl.errors import UserError
from nasdsl.tabular.keys import Keys
from nasdsl.tabular.reading import read_text
from nasdsl.tabular.table import Ranked, Request, Table

ARCH = "arch"


def open_csv(request: Request) -> Table:
    """Reads a CSV file. Raises UserError (NAS005, NAS601, NAS602)."""
    opened = read_text(request.path, request.sha256)
    sheet = _Sheet.read(Source(request.path, opened.text))
    keys = Keys(request.space)
    rows = sheet.keys(keys)
    columns, notes = sheet.columns()
    return CsvTable(
        keys,
        request.path,
        tuple(columns),
        opened.digest,
        notes,
        request.metric,
        index=rows,
        figures=columns,
        sheet=sheet,
    )


@attrs.define(eq=False, slots=False, kw_only=True)
class CsvTable(Ranked):
    """The rows of one CSV file.

    Attributes:
        index: key to number of the row.
        figures: metric to its cells, in the order of the rows.
    """

    index: Mapping[str, int] = attrs.field(repr=False)
    figures: Mapping[str, Sequence[float | None]] = attrs.field(repr=False)
    sheet: _Sheet = attrs.field(repr=False)

    def keys(self) -> Collection[str]:
        return self.index.keys()

    def value(self, key: str, metric: str) -> float | None:
        number = self.index.get(key)
        return None if number is None else self.figures[metric][number]

    def check(self, fits: Callable[[Mapping[str, Any]], object] | None = None) -> int:
        for number in self.index.values():
            with self.sheet.blaming(number):
                choices = self.form.choices(self.sheet.architecture(number))
                if fits is not None:
                    fits(choices)
        return len(self)


@attrs.frozen(eq=False)
class _Sheet:
    """The cells of a file with the lines they stand on."""

    source: Source
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    lines: Sequence[int]

    @classmethod
    def read(cls, source: Source) -> _Sheet:
        head: list[str] = []
        rows: list[list[str]] = []
        lines: list[int] = []
        reader = csv.reader(StringIO(source.text, newline=""), strict=True)
        before = 0
        try:
            for cells in reader:
                line, before = before + 1, reader.line_num
                if not any(map(str.strip, cells)):
                    continue
                if not head:
                    head = [c.strip() for c in cells]
                    _check_head(source, line, head)
                    continue
                if len(cells) != len(head):
                    _refuse(
                        source,
                        line,
                        f"this row has {len(cells)} cells, the heading {len(head)}",
                        help='an architecture with commas in it stands in quotation marks: "...", a quotation mark '
                        'in it is doubled: ""',
                    )
                rows.append(cells)
                lines.append(line)
        except csv.Error as error:
            _refuse(
                source,
                max(before + 1, 1),
                f"this is not CSV: {error}",
                help="cells with commas, quotation marks or line ends stand in quotation marks",
            )
        if not head:
            raise UserError.plain("NAS601", f"{source.name} is empty", help=_SHAPE)
        if not rows:
            raise UserError.plain("NAS601", f"{source.name} has a heading and no rows", help=_SHAPE)
        return cls(source, head, rows, lines)

    def keys(self, keys: Keys) -> dict[str, int]:
        """Key to number of row."""
        column = self.head.index(ARCH)
        found: dict[str, int] = {}
        for number, cells in enumerate(self.rows):
            with self.blaming(number):
                key = keys.of_text(cells[column])
            if key in found:
                first = self._cell(found[key], column)
                self._refuse(
                    number,
                    column,
                    "this architecture has a row already",
                    secondary=(Label(first, "its first row"),),
                    help="keep one of the rows",
                )
            found[key] = number
        return found

    def columns(self) -> tuple[dict[str, list[float | None]], tuple[str, ...]]:
        """The columns of numbers, and what is to say about the others."""
        numbers: dict[str, list[float | None]] = {}
        notes = []
        for column, name in enumerate(self.head):
            if name == ARCH:
                continue
            cells = [row[column].strip() for row in self.rows]
            if not name:
                notes.append(f"column {column + 1} is left out: it has no name")
            elif not any(cells):
                notes.append(f"column `{name}` is left out: it is empty")
            elif name in ("id", "index") or name.endswith("_index"):
                notes.append(f"column `{name}` is left out: it numbers the rows")
            elif any(map(_is_number, cells)):
                numbers[name] = [
                    self._number(i, column, cell) if cell else None for i, cell in enumerate(cells)
                ]
            else:
                notes.append(f"column `{name}` is left out: it has no numbers")
        if not numbers:
            said = f" ({'; '.join(notes)})" if notes else ""
            raise UserError.plain("NAS601", f"{self.source.name} has no column of numbers{said}", help=_SHAPE)
        return numbers, tuple(notes)

    def architecture(self, number: int) -> str:
        """What a row says in its column `arch`."""
        return self.rows[number][self.head.index(ARCH)]

    @contextmanager
    def blaming(self, number: int) -> Iterator[None]:
        """What is wrong with a row's architecture is said with its line."""
        try:
            yield
        except UserError as error:
            self._refuse(
                number,
                self.head.index(ARCH),
                f"this row is no architecture of the space: {error.diagnostics[0].message}",
                help="load the space that the table was made for, with the same parameters; or correct the row",
            )

    def _number(self, number: int, column: int, cell: str) -> float:
        try:
            value = float(cell)
        except ValueError:
            value = None
        if value is None or "_" in cell:
            self._refuse(
                number,
                column,
                f"`{cell[:40]}` in column `{self.head[column]}` is not a number",
                help="write a number with a decimal point; leave the cell empty for what is not known; take a "
                "column that is no figure out of the file",
            )
        if not isfinite(value):
            self._refuse(
                number,
                column,
                f"`{cell[:40]}` in column `{self.head[column]}` is not a finite number",
                help="leave the cell empty for what is not known",
            )
        return value

    def _refuse(
        self, number: int, column: int, message: str, *, help: str, secondary: tuple[Label, ...] = ()
    ) -> NoReturn:
        place = Label(self._cell(number, column), "")
        raise UserError([Diagnostic("NAS601", message, place, secondary, help=help)]) from None

    def _cell(self, number: int, column: int) -> Span:
        """Where a cell stands, or its line where it is written otherwise (in quotation marks)."""
        line = self.lines[number]
        text = self.source.line(line)
        start = self.source.line_start(line)
        before = sum(len(c) + 1 for c in self.rows[number][:column])
        cell = self.rows[number][column]
        if cell and text[before : before + len(cell)] == cell:
            return Span(self.source, start + before, start + before + len(cell))
        return Span(self.source, start, start + len(text))


_SHAPE = (
    f"the first line names the columns: `{ARCH}` and one or more metrics; every other line is an architecture"
)


def _check_head(source: Source, line: int, head: Sequence[str]) -> None:
    if ARCH not in head:
        hint = did_you_mean(ARCH, head)
        _refuse(source, line, f"there is no column `{ARCH}`{hint if 'mean' in hint else ''}", help=_SHAPE)
    twice = [name for name in head if name and head.count(name) > 1]
    if twice:
        _refuse(
            source, line, f"column `{twice[0]}` is there twice", help="give every column a name of its own"
        )


def _refuse(source: Source, line: int, message: str, *, help: str) -> NoReturn:
    start = source.line_start(min(line, source.text.count("\n") + 1))
    span = Span(source, start, start + len(source.line(line)))
    raise UserError([Diagnostic("NAS601", message, Label(span, ""), help=help)]) from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
