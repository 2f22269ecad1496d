"""Texts and places in them.

Takes a text, returns lines, columns and spans. Invariant: offsets are half-open
and count characters; lines and columns count from one; an offset at the end of
the text has a line and a column too.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

import attrs


@attrs.frozen(eq=False)
class Source:
    """A text with the name that diagnostics show for it; equal only to itself."""

    name: str
    text: str = attrs.field(repr=False)
    _starts: tuple[int, ...] = attrs.field(init=False, repr=False)

    @_starts.default
    def _find_lines(self) -> tuple[int, ...]:
        # Only "\n" ends a line: editors agree on it, and "\r\n" ends with it.
        return (0, *accumulate(len(line) + 1 for line in self.text.split("\n")[:-1]))

    def line_column(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, clamped to the text."""
        offset = max(0, min(offset, len(self.text)))
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def line_start(self, number: int) -> int:
        """The offset of the first character of a line."""
        return self._starts[number - 1]

    def line(self, number: int) -> str:
        """The text of a line, without its end; empty for a line that does not exist."""
        if not 1 <= number <= len(self._starts):
            return ""
        start = self._starts[number - 1]
        end = self._starts[number] - 1 if number < len(self._starts) else len(self.text)
        return self.text[start:end].removesuffix("\r")


@attrs.frozen
class Span:
    """The characters `start..end` of a source."""

    source: Source
    start: int
    end: int

    @property
    def line(self) -> int:
        """The line of the first character."""
        return self.source.line_column(self.start)[0]

    @property
    def column(self) -> int:
        """The column of the first character."""
        return self.source.line_column(self.start)[1]

    @property
    def text(self) -> str:
        """The characters themselves."""
        return self.source.text[self.start : self.end]

    def to(self, other: Span) -> Span:
        """From the start of the first of the two to the end of the last."""
        return Span(self.source, min(self.start, other.start), max(self.end, other.end))
