"""Cuts tokens into the parts that are parsed alone.

Takes balanced tokens, returns ranges of them: spaces, their items, the lines of a
cell or network. Invariant: parts of one level do not overlap and cover what they
are cut from; a mistake inside a part moves no other part's ends.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from nasdsl.syntax.brackets import ITEM_KEYWORDS, Balanced, starts_line
from nasdsl.syntax.tokens import Token

# An expression can end with these, so what follows one can be the start of something new.
_ENDINGS = frozenset({"NAME", "NUMBER", "STRING", "RPAR", "RSQB", "RBRACE", "ALL", "EARLIER"})
# `where f = ...`: the name behind one of these does not begin an item.
_BINDERS = frozenset({"WHERE", "WITH", "PARAM", "OP", "CELL", "SET", "AS", "NOTATION", "BY", "LIMIT", "INPUT"})
_DEFINES = frozenset({"EQUAL", "PLUS_EQUAL"})
# Nothing of these can follow a name in an expression: in front of one, a name is a misspelt keyword.
_OPERANDS = frozenset(
    {"NAME", "STRING", "NUMBER", "LBRACE", "PYTHON", "BY", "SUM", "CONCAT", "CHOOSE", "REPEAT", "INDEPENDENT", "IF"}
)


@attrs.frozen
class Part:
    """The tokens `start..end`."""

    start: int
    end: int


@attrs.frozen
class SpaceParts:
    """A space: its tokens up to and with `{`, its items, and its `}`; without a body when there is no `{`."""

    whole: Part
    head: Part
    items: tuple[Part, ...]


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
        ends = [*starts[1:], len(self.tokens)]
        return tuple(self._space(start, end) for start, end in zip(starts, ends, strict=True))

    def _space(self, start: int, end: int) -> SpaceParts:
        brace = start
        while brace < end and self.tokens[brace].type in ("SPACE", "NAME", "FROM", "STRING"):
            brace += 1
        if brace == end or self.tokens[brace].type != "LBRACE":
            return SpaceParts(Part(start, end), Part(start, min(brace + 1, end)), ())
        close = self.balanced.partner[brace]
        items = self._cut(brace + 1, close, self._begins_item)
        return SpaceParts(Part(start, close + 1), Part(start, brace + 1), items)

    def lines(self, item: Part) -> tuple[str, tuple[Part, ...]]:
        """The lines of a cell or network that can be parsed alone, and the rule for them."""
        kind = self.tokens[item.start].type
        if kind not in ("CELL", "NETWORK"):
            return "", ()
        brace = self._first(item, "LBRACE")
        if brace is None:
            return "", ()
        close = self.balanced.partner[brace]
        if kind == "NETWORK":
            return "step", self._cut(brace + 1, close, self._begins_step)
        parts = self._cut(brace + 1, close, self._begins_line)
        return "bind", tuple(p for p in parts if self._defines(p.start))

    def _first(self, part: Part, kind: str) -> int | None:
        """The first bracket of a kind that no other encloses."""
        index = part.start
        while index < part.end:
            if self.tokens[index].type == kind:
                return index
            index = self.balanced.partner.get(index, index) + 1
        return None

    def _cut(self, start: int, end: int, begins: Callable[[int, int], bool]) -> tuple[Part, ...]:
        cuts: list[int] = []
        index = start
        while index < end:
            if not cuts or begins(index, cuts[-1]):
                cuts.append(index)
            # What brackets enclose begins nothing.
            index = self.balanced.partner.get(index, index) + 1
        return tuple(Part(a, b) for a, b in zip(cuts, [*cuts[1:], end], strict=True))

    def _begins_item(self, index: int, last: int) -> bool:
        if not self._fresh(index):
            return False
        if self.tokens[index].type in ITEM_KEYWORDS or self._misspells(index, ITEM_KEYWORDS):
            return True
        if self._misspells(last, ITEM_KEYWORDS) and index == last + 1:
            return False
        return self._named(index, "COLON") or self._defines(index)

    def _begins_line(self, index: int, last: int) -> bool:
        if not self._fresh(index):
            return False
        words = frozenset({"RETURN"})
        if self.tokens[index].type in words or self._misspells(index, words):
            return True
        return self._defines(index) and not (self._misspells(last, words) and index == last + 1)

    def _begins_step(self, index: int, _: int) -> bool:
        return self._fresh(index) and self._named(index, "COLON")

    def _fresh(self, index: int) -> bool:
        """Whether something new can begin: on a new line, or where an expression may have ended."""
        before = self.tokens[index - 1].type
        return before not in _BINDERS and (before in _ENDINGS or starts_line(self.tokens, index))

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
