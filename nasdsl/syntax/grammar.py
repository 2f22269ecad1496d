"""The parser's tables, built from `grammar/nas.lark` when first needed.

Takes tokens, returns syntax trees. Invariant: the grammar file is the only place
that knows the syntax; what the lexer needs is read from it too.

The tables are rebuilt in every process (a tenth of a second): Lark's own cache is a
pickle in a shared temporary folder, and unpickling what someone else may have put
there would run it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import cast

from lark import Lark, UnexpectedToken

from nasdsl.resources import grammar_text
from nasdsl.syntax.ast import File, Item
from nasdsl.syntax.build import Builder
from nasdsl.syntax.tokens import Token, Words

STARTS = ("start", "item", "bind", "step")
END = "$END"


class Unexpected(Exception):  # noqa: N818 - a signal between two modules, never seen outside
    """The token at `position` does not fit; behind the last one: the end does not."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


@cache
def _lark() -> Lark:
    return Lark(
        grammar_text(),
        parser="lalr",
        lexer="basic",
        start=list(STARTS),
        keep_all_tokens=True,  # the builder takes spans from them
        maybe_placeholders=False,
        transformer=Builder(),
    )


@cache
def words() -> Words:
    """The words of the language, as the grammar has them."""
    texts = {t.name: t.pattern.value for t in _lark().terminals if t.pattern.type == "str"}
    keywords = {text: name for name, text in texts.items() if text.isalpha()}
    signs = sorted((n for n, text in texts.items() if not text.isalpha()), key=lambda n: -len(texts[n]))
    free = [t for t in _lark().terminals if t.pattern.type == "re"]
    parts = [f"(?P<{t.name}>{t.pattern.to_regexp()})" for t in free]
    parts += [f"(?P<{name}>{re.escape(texts[name])})" for name in signs]
    return Words(re.compile("|".join(parts)), keywords, texts)


def run(tokens: Iterable[Token], start: str) -> File | Item:
    """The tree of some tokens.

    Args:
        start: the rule that the tokens are to match, one of STARTS.

    Raises:
        Unexpected: at the first token that does not fit.
    """
    state = _lark().parse_interactive(start=start)
    position = 0
    try:
        for token in tokens:
            state.feed_token(token)  # type: ignore[arg-type] # the parser reads `.type` alone
            position += 1
        return cast("File | Item", state.feed_eof())  # type: ignore[no-untyped-call]
    except UnexpectedToken:
        raise Unexpected(position) from None


def accepted(tokens: Iterable[Token], start: str) -> frozenset[str]:
    """The types of the tokens that can follow some tokens, END among them; the tokens themselves fit."""
    state = _lark().parse_interactive(start=start)
    for token in tokens:
        state.feed_token(token)  # type: ignore[arg-type] # the parser reads `.type` alone
    return frozenset(state.accepts())  # type: ignore[no-untyped-call]


def fits(tokens: Iterable[Token], start: str) -> int | None:
    """How many tokens fit before one does not; None when all do and the text may end there."""
    try:
        run(tokens, start)
    except Unexpected as unexpected:
        return unexpected.position
    return None
