"""Text -> syntax tree.

Takes a source, returns a File; reports every syntax error at once. Invariant:
never raises for anything a user wrote.
"""

from __future__ import annotations

from typing import cast

from nasdsl.diagnostics import Diagnostics, Source, Span
from nasdsl.syntax import ast, grammar
from nasdsl.syntax.tokens import lex


def parse(source: Source, diagnostics: Diagnostics) -> ast.File | None:
    """The tree of a source, None when nothing of it is usable."""
    lexed = lex(source, grammar.words())
    for problem in lexed.problems:
        diagnostics.add(problem)
    if lexed.problems:
        return None
    try:
        return cast(ast.File, grammar.run(lexed.tokens, "start"))
    except grammar.Unexpected as unexpected:
        end = len(source.text)
        span = lexed.tokens[unexpected.position].span if unexpected.position < len(lexed.tokens) else Span(source, end, end)
        diagnostics.error("NAS001", "syntax error", span, "not expected here")
        return None
