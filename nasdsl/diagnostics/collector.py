"""Collects diagnostics, so that all mistakes of a file are reported at once.

Takes diagnostics, returns them sorted. Invariant: one mistake has one diagnostic:
the same code at the same primary place is kept once, the first one wins.
"""

from __future__ import annotations

from nasdsl.diagnostics.diagnostic import Diagnostic, Label, Note, Severity
from nasdsl.diagnostics.exceptions import UserError
from nasdsl.diagnostics.source import Span


class Diagnostics:
    """The diagnostics found so far."""

    def __init__(self) -> None:
        self._items: dict[tuple[object, ...], Diagnostic] = {}

    def add(self, diagnostic: Diagnostic) -> None:
        """Keeps a diagnostic, unless its code is already reported at its place."""
        place: object = diagnostic.message
        if diagnostic.primary is not None:
            span = diagnostic.primary.span
            place = (span.source, span.start, span.end)
        self._items.setdefault((diagnostic.code, place), diagnostic)

    def error(
        self,
        code: str,
        message: str,
        span: Span,
        label: str = "",
        *,
        secondary: tuple[Label, ...] = (),
        notes: tuple[Note, ...] = (),
        help: str | None = None,
    ) -> None:
        """Adds an error."""
        self.add(Diagnostic(code, message, Label(span, label), tuple(secondary), tuple(notes), help))

    def warning(
        self,
        code: str,
        message: str,
        span: Span,
        label: str = "",
        *,
        secondary: tuple[Label, ...] = (),
        notes: tuple[Note, ...] = (),
        help: str | None = None,
    ) -> None:
        """Adds a warning."""
        primary = Label(span, label)
        self.add(Diagnostic(code, message, primary, tuple(secondary), tuple(notes), help, Severity.WARNING))

    @property
    def items(self) -> tuple[Diagnostic, ...]:
        """Everything: errors first, then by place."""
        return tuple(sorted(self._items.values(), key=_order))

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The errors alone, by place."""
        return tuple(d for d in self.items if d.severity is Severity.ERROR)

    def raise_if_errors(self) -> None:
        """Raises UserError with everything collected if any of it is an error."""
        if self.errors:
            raise UserError(self.items)


def _order(diagnostic: Diagnostic) -> tuple[bool, int, int, str]:
    start, end = (-1, -1)
    if diagnostic.primary is not None:
        start, end = diagnostic.primary.span.start, diagnostic.primary.span.end
    return (diagnostic.severity is Severity.WARNING, start, end, diagnostic.code)
