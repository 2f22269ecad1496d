"""Diagnostics: places, messages, codes and their rendering.

Takes texts and places, returns messages for people and data for programs.
Invariant: whatever is wrong with a user's input becomes one `Diagnostic` with a
stable code and the place where it shows.
"""

from __future__ import annotations

from nasdsl.diagnostics.codes import CODES, Code, explain
from nasdsl.diagnostics.collector import Diagnostics
from nasdsl.diagnostics.diagnostic import Diagnostic, Label, Note, Severity, did_you_mean
from nasdsl.diagnostics.render import render, to_json
from nasdsl.diagnostics.source import Source, Span

__all__ = [
    "CODES",
    "Code",
    "Diagnostic",
    "Diagnostics",
    "Label",
    "Note",
    "Severity",
    "Source",
    "Span",
    "did_you_mean",
    "explain",
    "render",
    "to_json",
]
