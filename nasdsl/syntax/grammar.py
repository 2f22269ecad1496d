"""Parses tokens by the tables of the grammar.

Takes tokens, returns syntax trees. Invariant: the grammar file is the only place
that knows the syntax; what the lexer needs is read from it too. Nothing here
recurses, so no nesting is too deep.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from nasdsl.errors import InternalError
from nasdsl.syntax.build import Builder, Children
from nasdsl.syntax.tables import END, Rule, tables
from nasdsl.syntax.tokens import Token, Words


class Unexpected(Exception):
    """The token at `position` does not fit; behind the last one: the end does not."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


class _Splice(list[Any]):
    """Children that join those of the rule around."""


@cache
def words() -> Words:
    """The words of the language, as the grammar has them."""
    texts = {t.name: t.text for t in tables().terminals if t.fixed}
    keywords = {text: name for name, text in texts.items() if text.isalpha()}
    signs = sorted((n for n, text in texts.items() if not text.isalpha()), key=lambda n: -len(texts[n]))
    parts = [f"(?P<{t.name}>{t.text})" for t in tables().terminals if not t.fixed]
    parts += [f"(?P<{name}>{re.escape(texts[name])})" for name in signs]
    return Words(re.compile("|".join(parts)), keywords, texts)


@cache
def _reductions() -> tuple[Callable[[Children], Any], ...]:
    """For each rule what makes one value of its children."""
    builder = Builder()
    return tuple(_reduction(rule, builder) for rule in tables().rules)


def _reduction(rule: Rule, builder: Builder) -> Callable[[Children], Any]:
    if rule.builds is None:
        return lambda children: _spliced(children, keep=True)
    if rule.passes and rule.length == 1:
        return lambda children: children[0]
    method: Callable[[Children], Any] = getattr(builder, rule.builds)
    return lambda children: method(_spliced(children))


def _spliced(children: Children, keep: bool = False) -> Children:
    """Children with those of helper rules in their place; a first list is extended, which is linear."""
    first = children[0]
    flat: Children = first if type(first) is _Splice else _Splice((first,))
    for child in children[1:]:
        if type(child) is _Splice:
            flat.extend(child)
        else:
            flat.append(child)
    return flat if keep else list(flat)


def run(tokens: Sequence[Token], start: str) -> Any:
    """The tree of some tokens.

    Args:
        start: the rule that the tokens are to match, one of STARTS.

    Raises:
        Unexpected: at the first token that does not fit.
    """
    rules, actions, reductions = tables().rules, tables().actions, _reductions()
    end = tables().ends[start]
    states, values = [tables().starts[start]], []
    for position in range(len(tokens) + 1):
        token = tokens[position] if position < len(tokens) else None
        kind = END if token is None else token.type
        while True:
            action = actions[states[-1]].get(kind)
            if action is None:
                raise Unexpected(position)
            if action >= 0:
                states.append(action)
                values.append(token)
                break
            rule = rules[-1 - action]
            value = reductions[-1 - action](values[-rule.length :])
            del states[-rule.length :], values[-rule.length :]
            states.append(actions[states[-1]][rule.origin])
            values.append(value)
            if token is None and states[-1] == end:
                return value
    raise InternalError("the parser passed the end of the text")


def accepted(tokens: Sequence[Token], start: str) -> frozenset[str]:
    """The types of the tokens that can follow some tokens, END among them; the tokens themselves fit."""
    end = tables().ends[start]
    states = [tables().starts[start]]
    for token in tokens:
        if not _step(states, token.type, end):
            return frozenset()
    kinds = (END, *(t.name for t in tables().terminals))
    return frozenset(kind for kind in kinds if _step([*states], kind, end))


def _step(states: list[int], kind: str, end: int) -> bool:
    """Moves a stack of states over one token; whether it fits."""
    rules, actions = tables().rules, tables().actions
    while True:
        action = actions[states[-1]].get(kind)
        if action is None:
            return False
        if action >= 0:
            states.append(action)
            return True
        rule = rules[-1 - action]
        del states[-rule.length :]
        states.append(actions[states[-1]][rule.origin])
        if kind == END and states[-1] == end:
            return True


def fits(tokens: Sequence[Token], start: str) -> int | None:
    """How many tokens fit before one does not; None when all do and the text may end there."""
    end = tables().ends[start]
    states = [tables().starts[start]]
    for position, token in enumerate(tokens):
        if not _step(states, token.type, end):
            return position
    return None if _step(states, END, end) else len(tokens)
