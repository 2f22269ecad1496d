"""Cuts tokens into the parts that are parsed alone.

Takes balanced tokens, returns ranges of them: spaces, their items, the lines of a
cell or network. Invariant: parts of one level do not overlap and cover what they
are cut from; a mistake inside a part moves no other part's ends.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import attrs

from nasdsl.syntax.brackets import ITEM_KEYWORDS, Balanced, starts_line
from nasdsl.syntax.tokens import Token


def _types(names: str) -> frozenset[str]:
    return frozenset(names.split())


# An expression can end with these, so what follows one can be the start of something new.
_ENDINGS = _types("NAME NUMBER DURATION STRING RPAR RSQB RBRACE ALL EARLIER")
# `where f = ...`: the name behind one of these does not begin an item.
_BINDERS = _types("WHERE WITH PARAM OP CELL SET AS NOTATION BY LIMIT INPUT")
# In an expression these follow a value.
_CONTINUING = _types("WHERE WITH VIA INTO THEN ELSE STEP FROM OF AND OR AS")
_RETURN = _types("RETURN")
_DEFINES = _types("EQUAL PLUS_EQUAL")
# Nothing of these can follow a name in an expression: in front of one, a name is a misspelt keyword.
_OPERANDS = _types("NAME STRING NUMBER LBRACE PYTHON BY SUM CONCAT CHOOSE REPEAT INDEPENDENT IF")


@attrs.frozen
class Part:
    """The tokens `start..end`."""

    start: int
    end: int


@attrs.frozen
class SpaceParts:
    """A space.

    Attributes:
        whole: all its tokens.
        head: the tokens up to `{`, that included.
        items: its items, one behind the other.
        close: its `}`; None when there is no `{`, and then there are no items.
    """

    whole: Part
    head: Part
    items: tuple[Part, ...]
    close: int | None


@attrs.frozen
class Cutter:
    """Cuts the tokens of one file."""

    balanced: Balanced
    meant: Callable[[str], str | None]
    """The type of the keyword that a name resembles."""

    @property
    def tokens(self) -> tuple[Token, ...]:
        return self.balanced.tokens

    def spaces(self) -> tuple[SpaceParts, ...]:
        """The spaces of a file; what stands before the first is in none."""
        starts = []
        index = 0
        while index < len(self.tokens):
            if self.tokens[index].type == "SPACE":
                starts.append(index)
            index = self.balanced.partner.get(index, index) + 1
        return tuple(self._space(start, end) for start, end in pairwise([*starts, len(self.tokens)]))

    def _space(self, start: int, end: int) -> SpaceParts:
        brace = start
        while brace < end and self.tokens[brace].type in ("SPACE", "NAME", "FROM", "STRING"):
            brace += 1
        if brace == end or self.tokens[brace].type != "LBRACE":
            return SpaceParts(Part(start, end), Part(start, min(brace + 1, end)), (), None)
        close = self.balanced.partner[brace]
        items = self._cut(brace + 1, close, self._begins_item)
        return SpaceParts(Part(start, close + 1), Part(start, brace + 1), items, close)

    def lines(self, item: Part) -> tuple[str, tuple[Part, ...]]:
        """The lines of a cell or network that can be parsed alone, and the rule for them."""
        kind = self.tokens[item.start].type
        if kind not in ("CELL", "NETWORK"):
            return "", ()
        brace = self._brace(item.start)
        if brace is None or brace >= item.end or self.tokens[brace].type != "LBRACE":
            return "", ()
        close = self.balanced.partner[brace]
        if kind == "NETWORK":
            return "step", self._cut(brace + 1, close, self._begins_step)
        parts = self._cut(brace + 1, close, self._begins_line)
        return "bind", tuple(p for p in parts if self._defines(p.start))

    def _cut(self, start: int, end: int, begins: Callable[[int, int], bool]) -> tuple[Part, ...]:
        cuts: list[int] = []
        index = start
        while index < end:
            if not cuts or begins(index, cuts[-1]):
                cuts.append(index)
            # What brackets enclose begins nothing.
            index = self.balanced.partner.get(index, index) + 1
        return tuple(Part(a, b) for a, b in pairwise([*cuts, end]))

    def _belongs(self, index: int, start: int) -> bool:
        """Whether what looks like an item is a line of the one at `start`, whose `{` is missing."""
        brace = self._brace(start)
        if brace is not None and self._type(brace) != "LBRACE":
            return True
        # Steps outside of a network come in a row: that is one mistake.
        return self._named(start, "COLON") and self._named(index, "COLON")

    def _brace(self, start: int) -> int | None:
        """Where the `{` of an item has to stand; None for an item without lines."""
        kind = self.tokens[start].type
        if kind == "NETWORK":
            return start + 1
        after = start + 2
        formals = self._type(after) == "LPAR"
        if formals:
            after = self.balanced.partner[after] + 1
        if kind == "SET" and self._type(after) == "EQUAL":
            return after + 1
        return after if kind == "CELL" and formals else None

    def _begins_item(self, index: int, last: int) -> bool:
        if self.tokens[index].type in ITEM_KEYWORDS:
            return self._fresh(index) or starts_line(self.tokens, index)
        if not self._fresh(index) or self._belongs(index, last):
            return False
        if self._misspells(index, ITEM_KEYWORDS) or self._named(index, "COLON") or self._defines(index):
            return True
        return self._stray(index)

    def _begins_line(self, index: int, _: int) -> bool:
        if self.tokens[index].type == "RETURN":
            return True
        if not self._fresh(index):
            return False
        return self._misspells(index, _RETURN) or self._defines(index) or self._stray(index)

    def _begins_step(self, index: int, _: int) -> bool:
        return self._fresh(index) and (self._named(index, "COLON") or self._stray(index))

    def _fresh(self, index: int) -> bool:
        """Whether a name can begin something: on a new line, or where an expression may have ended."""
        kind = self.tokens[index - 1].type
        new_line = starts_line(self.tokens, index)
        if not new_line and starts_line(self.tokens, index - 1) and self._misspells(index - 1, _BINDERS):
            return False
        return kind not in _BINDERS and (kind in _ENDINGS or new_line)

    def _stray(self, index: int) -> bool:
        """A name on a new line after a complete expression, which it cannot continue even if misspelt."""
        if self.tokens[index].type != "NAME" or self.tokens[index - 1].type not in _ENDINGS:
            return False
        return starts_line(self.tokens, index) and self.meant(self.tokens[index].text) not in _CONTINUING

    def _type(self, index: int) -> str:
        return self.tokens[index].type if index < len(self.tokens) else ""

    def _named(self, index: int, sign: str) -> bool:
        return self._type(index) == "NAME" and self._type(index + 1) == sign

    def _defines(self, index: int) -> bool:
        """`NAME =`, `NAME +=` or `NAME[...] =`."""
        if self._type(index) != "NAME":
            return False
        after = index + 1
        if self._type(after) == "LSQB":
            after = self.balanced.partner[after] + 1
        return self._type(after) in _DEFINES

    def _misspells(self, index: int, words: frozenset[str]) -> bool:
        """Whether a name looks like one of some keywords and stands where only a keyword can."""
        following = self._type(index + 1)
        if self._type(index) != "NAME" or self._defines(index):
            return False
        return following in _OPERANDS and self.meant(self.tokens[index].text) in words
