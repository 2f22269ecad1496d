"""Brackets: finds those that do not match, and matches them as far as that goes.

Takes tokens, returns tokens whose brackets match, and a diagnostic for each that
did not. Invariant: the returned tokens are balanced; what was added has no text
and what was dropped closed nothing, so later stages can cut by depth alone.

A bracket left open would swallow the rest of the file. A keyword that only begins
an item, at the start of a line, ends it: one mistake, one error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import attrs

from nasdsl.diagnostics import Diagnostic, Label, Note, Source, Span
from nasdsl.syntax.tokens import Token

MAX_NESTING = 100
"""More brackets inside each other are refused (NAS004); so are deeper trees."""

ITEM_KEYWORDS = frozenset(
    {
        "DOC",
        "NOTATION",
        "DISTINCT",
        "USE",
        "INPUT",
        "PARAM",
        "LIMIT",
        "WITHIN",
        "OP",
        "CELL",
        "SET",
        "NETWORK",
    }
)
_CLOSERS = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
_OPENERS = {closer: opener for opener, closer in _CLOSERS.items()}
_SIGNS = {"RPAR": ")", "RSQB": "]", "RBRACE": "}"}
_FOLLOWERS = {"DOC": "STRING", "DISTINCT": "BY", "USE": "PYTHON", "WITHIN": "STRING", "NETWORK": "LBRACE"}
_SHOWN = 3


@attrs.frozen
class Balanced:
    """Tokens whose brackets match.

    Attributes:
        tokens: what was given, less closers of nothing, with closers that were missing.
        partner: for each opener's position the position of its closer.
        problems: what did not match.
    """

    tokens: tuple[Token, ...]
    partner: dict[int, int]
    problems: tuple[Diagnostic, ...]


def starts_line(tokens: Sequence[Token], index: int) -> bool:
    """Whether a token is the first of its line."""
    if index == 0:
        return True
    before, span = tokens[index - 1].span, tokens[index].span
    return "\n" in span.source.text[before.end : span.start]


def balance(source: Source, tokens: tuple[Token, ...]) -> Balanced:
    """Matches the brackets of a file; reports NAS003, and NAS004 for too many inside each other."""
    return _Balancer(source, tokens).run()


class _Balancer:
    def __init__(self, source: Source, tokens: tuple[Token, ...]) -> None:
        self.source = source
        self.given = tokens
        self.out: list[Token] = []
        self.open: list[int] = []
        self.kinds: Counter[str] = Counter()
        self.partner: dict[int, int] = {}
        self.problems: list[Diagnostic] = []
        self.too_deep = False

    def run(self) -> Balanced:
        for index, token in enumerate(self.given):
            if token.type in _CLOSERS:
                self._opens(token)
            elif token.type in _OPENERS:
                self._closes(index, token)
            else:
                floor = self._floor(index, token)
                if len(self.open) > floor:
                    self._cut_off(floor, token.span, f"`{token.text}`")
                self.out.append(token)
        if self.open:
            end = self.given[-1].span.end
            self._cut_off(0, Span(self.source, end, end), "the end of the file")
        return Balanced(tuple(self.out), self.partner, tuple(self.problems))

    def _floor(self, index: int, token: Token) -> int:
        """How many brackets may be open in front of a token that is no bracket."""
        if len(self.open) > 1 and token.type in ITEM_KEYWORDS and self._begins_item(index):
            return 1
        if self.open and token.type == "SPACE" and self._begins_item(index):
            return 0
        return len(self.open)

    def _begins_item(self, index: int) -> bool:
        following = self.given[index + 1].type if index + 1 < len(self.given) else ""
        expected = _FOLLOWERS.get(self.given[index].type, "NAME")
        return following == expected and starts_line(self.given, index)

    def _opens(self, token: Token) -> None:
        self.open.append(len(self.out))
        self.kinds[token.type] += 1
        self.out.append(token)
        if len(self.open) > MAX_NESTING and not self.too_deep:
            self.too_deep = True
            self.problems.append(nested_too_deep(token.span))

    def _closes(self, index: int, token: Token) -> None:
        opener = _OPENERS[token.type]
        if not self.kinds[opener]:
            self._report(f"`{token.text}` closes nothing", Label(token.span, "nothing is open here"))
            return
        floor = len(self.open)
        while self.out[self.open[floor - 1]].type != opener:
            floor -= 1
        if floor < len(self.open):
            # Everything between the two was left open.
            self._cut_off(floor, token.span, f"`{token.text}`")
        if len(self.open) == 1 and self._goes_on(index):
            head = self.out[self.open[0]]
            self._report(
                "`}` closes the space, but the space goes on",
                Label(token.span, "one `}` too many, here or above"),
                notes=(Note("the space opens here", head.span),),
            )
            return
        self._close(token)

    def _goes_on(self, index: int) -> bool:
        """Whether more than brackets or another space follows."""
        following = self.given[index + 1] if index + 1 < len(self.given) else None
        return following is not None and following.type != "SPACE" and following.type not in _OPENERS

    def _close(self, token: Token) -> None:
        at = self.open.pop()
        self.kinds[self.out[at].type] -= 1
        self.partner[at] = len(self.out)
        self.out.append(token)

    def _cut_off(self, floor: int, place: Span, found: str) -> None:
        """Closes all brackets but `floor` in front of `place`, with one error."""
        left = self.open[floor:]
        inner = self.out[left[-1]]
        missing = _SIGNS[_CLOSERS[inner.type]]
        labels = [Label(self.out[at].span, "never closed") for at in left[: -_SHOWN - 1 : -1]]
        more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
        self._report(
            f"`{inner.text}` is never closed{more}",
            Label(place, f"expected `{missing}` before {found}"),
            tuple(labels),
        )
        end = self.out[-1].span.end
        while len(self.open) > floor:
            kind = _CLOSERS[self.out[self.open[-1]].type]
            self._close(Token(kind, _SIGNS[kind], Span(self.source, end, end)))

    def _report(
        self, message: str, label: Label, secondary: tuple[Label, ...] = (), notes: tuple[Note, ...] = ()
    ) -> None:
        self.problems.append(Diagnostic("NAS003", message, label, secondary, notes))


def nested_too_deep(span: Span) -> Diagnostic:
    """What is said of brackets or operators inside each other without end."""
    return Diagnostic(
        "NAS004",
        f"this nests more than {MAX_NESTING} deep",
        Label(span, "too deep here"),
        help="give a part of it a name; many terms of a sum are written `sum(a, b, ...)`",
    )
