"""Diagnostics as text for people and as data for programs.

Takes diagnostics, returns text or plain data. Invariant: both forms hold the same
content; colour is added, never needed; no control character of the input reaches
the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from nasdsl.diagnostics.diagnostic import Diagnostic, Label, Severity
from nasdsl.diagnostics.excerpt import Mark, excerpt, printable
from nasdsl.diagnostics.source import Source, Span

_HUES = {Severity.ERROR: "\033[1;31m", Severity.WARNING: "\033[1;33m"}
_BLUE, _BOLD, _END = "\033[1;34m", "\033[1m", "\033[0m"


def render(items: Iterable[Diagnostic], *, color: bool = False) -> str:
    """The text of diagnostics, a blank line between two, no newline at the end."""
    return "\n\n".join(_Renderer(d, color).text() for d in items)


def to_json(items: Iterable[Diagnostic]) -> list[dict[str, Any]]:
    """The same content as plain data; lines and columns count from one."""
    return [
        {
            "code": d.code,
            "severity": d.severity.value,
            "message": d.message,
            "primary": None if d.primary is None else _label(d.primary),
            "secondary": [_label(s) for s in d.secondary],
            "notes": [{"message": n.message, "place": _place(n.span)} for n in d.notes],
            "help": d.help,
        }
        for d in items
    ]


def _label(label: Label) -> dict[str, Any]:
    return {"message": label.message, "place": _place(label.span)}


def _place(span: Span | None) -> dict[str, Any] | None:
    if span is None:
        return None
    end_line, end_column = span.source.line_column(span.end)
    return {
        "file": span.source.name,
        "line": span.line,
        "column": span.column,
        "end_line": end_line,
        "end_column": end_column,
    }


@attrs.frozen
class _Renderer:
    """The text of one diagnostic."""

    diagnostic: Diagnostic
    color: bool

    def text(self) -> str:
        d = self.diagnostic
        head = self._paint(f"{d.severity.value}[{d.code}]", _HUES[d.severity])
        lines = [f"{head}{self._paint(f': {printable(d.message)}', _BOLD)}"]
        spans = [label.span for label in self._labels()]
        gutter = max([2, *(len(str(s.source.line_column(s.end)[0])) for s in spans)])
        indent = " " * gutter
        if d.primary is not None:
            lines.extend(self._excerpts(d.primary, gutter))
            if d.notes or d.help is not None:
                lines.append(self._paint(f"{indent} |", _BLUE))
        for note in d.notes:
            lines.append(f"{indent}{self._paint('note', _BLUE)}: {self._wrapped(note.message, indent)}")
            if note.span is not None:
                lines.append(self._arrow(note.span, indent))
        if d.help is not None:
            lines.append(f"{indent}{self._paint('help', _BLUE)}: {self._wrapped(d.help, indent)}")
        return "\n".join(lines)

    def _labels(self) -> tuple[Label, ...]:
        d = self.diagnostic
        return () if d.primary is None else (d.primary, *d.secondary)

    def _paint(self, text: str, code: str) -> str:
        return f"{code}{text}{_END}" if self.color and text else text

    def _wrapped(self, text: str, indent: str) -> str:
        """Further lines of a message stand below its first word."""
        return f"\n{indent}      ".join(printable(line) for line in text.split("\n"))

    def _arrow(self, span: Span, indent: str, sign: str = "-->") -> str:
        place = f"{printable(span.source.name)}:{span.line}:{span.column}"
        return f"{indent}{self._paint(sign, _BLUE)} {place}"

    def _excerpts(self, primary: Label, gutter: int) -> list[str]:
        """The lines that the labels stand on, source by source, the primary one's source first."""
        sources: dict[Source, list[Label]] = {}
        for label in self._labels():
            sources.setdefault(label.span.source, []).append(label)
        indent = " " * gutter
        lines = []
        for labels in sources.values():
            first = labels[0].span
            lines.append(self._arrow(first, indent, "-->" if first is primary.span else ":::"))
            lines.append(self._paint(f"{indent} |", _BLUE))
            marks = [Mark(label.span, label.message, label is primary) for label in labels]
            for number, text, kind in excerpt(first.source, marks):
                bar = self._paint("..." if number == -1 else f"{number or '':>{gutter}} |", _BLUE)
                lines.append(f"{bar} {self._carets(text, kind)}".rstrip())
        return lines

    def _carets(self, text: str, kind: str) -> str:
        if kind == "primary":
            return self._paint(text, _HUES[self.diagnostic.severity])
        return self._paint(text, _BLUE) if kind == "secondary" else text
