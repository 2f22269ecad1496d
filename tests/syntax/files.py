"""The `.nas` files that the tests of the syntax read."""

from __future__ import annotations

from pathlib import Path

from nasdsl.diagnostics import Diagnostic, Diagnostics, Source
from nasdsl.resources import shipped_spaces
from nasdsl.syntax import ast
from nasdsl.syntax.parse import parse

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.nas"))
FILES = [*FIXTURES, *shipped_spaces().values()]
"""Every space of the design, and every space that is shipped."""


def parsed(text: str, name: str = "test.nas") -> tuple[ast.File | None, tuple[Diagnostic, ...]]:
    diagnostics = Diagnostics()
    file = parse(Source(name, text), diagnostics)
    return file, diagnostics.items


def good(text: str) -> ast.File:
    """The tree of a text without mistakes."""
    file, found = parsed(text)
    assert not found
    assert file is not None
    return file
