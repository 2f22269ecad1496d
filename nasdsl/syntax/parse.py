"""Text -> syntax tree, with every syntax error of the file.

Takes a source, returns a File. Invariant: never raises for anything that a user
wrote; a tree that is returned nests at most MAX_NESTING deep; one mistake is one
error, because a file that does not parse is cut into items and each is parsed
alone.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

from nasdsl.diagnostics import Diagnostic, Diagnostics, Label, Note, Source, Span
from nasdsl.syntax import ast, grammar
from nasdsl.syntax.brackets import MAX_NESTING, balance, nested_too_deep
from nasdsl.syntax.complaints import Complaint, meant, quoted
from nasdsl.syntax.depth import too_deep
from nasdsl.syntax.items import Cutter, Part, SpaceParts
from nasdsl.syntax.tokens import Token, lex

MAX_BYTES = 1_000_000
"""Larger files are refused; the largest published space takes two thousand."""
MAX_ERRORS = 100
"""After so many a file is not read further."""

# An item sits in a space, a space in a file.
_FILE_DEPTH = 2


def read(path: str | Path, diagnostics: Diagnostics) -> Source | None:
    """The text of a file, None after NAS005."""
    name, cure = str(path), None
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) <= MAX_BYTES:
            return Source(name, data.decode("utf-8-sig"))
        why = f"it is larger than {MAX_BYTES:,} bytes"
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        why = f"line {line} is not UTF-8"
        cure = "save the file as UTF-8 text"
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
    except ValueError:
        # A NUL in the path.
        why = "this is not a path"
    diagnostics.add(Diagnostic("NAS005", f"{name} cannot be read: {why}", None, help=cure))
    return None


def parse(source: Source, diagnostics: Diagnostics) -> ast.File | None:
    """The tree of a source.

    Reports NAS001 to NAS004, NAS006 and NAS207 (a number with too many digits).

    Returns:
        What could be parsed, items with errors left out; None when nothing is usable.
    """
    lexed = lex(source, grammar.words())
    balanced = balance(source, lexed.tokens)
    problems = (*lexed.problems, *balanced.problems)
    file: Any = None
    if not problems:
        try:
            file = grammar.run(lexed.tokens, "start")
        except grammar.Unexpected:
            file = None
    if file is None or too_deep(file, MAX_NESTING + _FILE_DEPTH) is not None:
        file = _Recovery(Cutter(balanced, meant), problems, diagnostics).file(source)
    if isinstance(file, ast.File) and len(file.spaces) > 1:
        first, second = file.spaces[:2]
        diagnostics.error(
            "NAS006",
            "a file declares exactly one space",
            second.name.span,
            "the second",
            secondary=(Label(first.name.span, "the first"),),
            help="move it to a file of its own",
        )
    return file if isinstance(file, ast.File) else None


class _Enough(Exception):
    """MAX_ERRORS are reported."""


class _Recovery:
    """Parses the parts of a file alone and reports at most one error for each."""

    def __init__(self, cutter: Cutter, problems: Iterable[Diagnostic], diagnostics: Diagnostics) -> None:
        self.cutter = cutter
        self.tokens = cutter.tokens
        self.diagnostics = diagnostics
        self.reported = 0
        self.problems = sorted(problems, key=_damage)
        self.offsets = [_damage(p) for p in self.problems]

    def file(self, source: Source) -> ast.File | None:
        """What can be parsed."""
        good: list[Token] = []
        spaces = self.cutter.spaces()
        try:
            self._before(source, spaces)
            for index, space in enumerate(spaces):
                following = spaces[index + 1].whole.start if index + 1 < len(spaces) else len(self.tokens)
                good.extend(self._space(space, following))
        except _Enough:
            return None
        if not good:
            return None
        file = grammar.run(good, "start")
        return file if isinstance(file, ast.File) else None

    def _before(self, source: Source, spaces: Sequence[SpaceParts]) -> None:
        """Reports what is wrong in front of the first space."""
        tokens = self.tokens[: spaces[0].whole.start] if spaces else self.tokens
        start = self._start(spaces[0].whole.start) if spaces else len(source.text) + 1
        problems = self.problems[: bisect_left(self.offsets, start)]
        if problems and (not tokens or _damage(problems[0]) < self._start(0)):
            self._report(problems[0])
        elif tokens and tokens[0].type == "NAME" and meant(tokens[0].text) == "SPACE":
            # Only the first two tokens: what follows is read when the word is right.
            self._report(Complaint(tokens[:2], "start", 0).diagnostic())
        elif tokens and spaces:
            label = Label(tokens[0].span, "not inside of a space")
            message = f"expected `space`, found {quoted(tokens[0])}"
            self._report(Diagnostic("NAS001", message, label, help="a file is `space NAME { items }`"))
        elif not spaces:
            place = tokens[0].span if tokens else Span(source, 0, 0)
            message = "there is no space in this file"
            self._report(Diagnostic("NAS006", message, Label(place, ""), help="write `space NAME { ... }`"))

    def _space(self, space: SpaceParts, following: int) -> list[Token]:
        """The tokens of a space that parse; none when its head does not."""
        head = self.tokens[space.head.start : space.head.end]
        if space.close is None:
            # Without `{` there are no items to speak of.
            self._alone(head, "start", self._within(space.head.start, space.head.end))
            return []
        close = self.tokens[space.close]
        ends = [*(item.start for item in space.items), space.close]
        good = [*head]
        fine = self._alone([*head, close], "start", self._within(space.head.start, ends[0]))
        for item, end in zip(space.items, ends[1:], strict=True):
            if self._item(item, end):
                good.extend(self.tokens[item.start : item.end])
        for problem in self._within(space.close, following)[:1]:
            self._report(problem)
        return [*good, close] if fine else []

    def _item(self, item: Part, end: int) -> bool:
        """Whether an item parses; reports what is wrong with it, line by line where it has lines."""
        rule, lines = self.cutter.lines(item)
        kept = list(self.tokens[item.start : item.end])
        problems = self._within(item.start, end)
        wrong = damaged = 0
        for line in reversed(lines):
            inside = self._within(line.start, line.end)
            problems = [p for p in problems if p not in inside]
            damaged += bool(inside)
            if not self._alone(self.tokens[line.start : line.end], rule, inside):
                wrong += 1
                del kept[line.start - item.start : line.end - item.start]
        # A line with an open bracket may have swallowed what follows it; a network needs a step.
        if not problems and (damaged or (rule == "step" and 0 < wrong == len(lines))):
            return False
        return self._alone(kept, "item", problems) and not wrong

    def _alone(self, tokens: Sequence[Token], rule: str, problems: Sequence[Diagnostic]) -> bool:
        """Whether some tokens parse alone; reports the first thing wrong with them."""
        if problems:
            self._report(problems[0])
            return False
        try:
            node = grammar.run(tokens, rule)
        except grammar.Unexpected as unexpected:
            self._report(Complaint(tokens, rule, unexpected.position).diagnostic())
            return False
        deep = too_deep(node, MAX_NESTING)
        if deep is not None:
            self._report(nested_too_deep(deep))
        return deep is None

    def _start(self, index: int) -> int:
        """The offset of a token; beyond everything for the end of the file."""
        return self.tokens[index].span.start if index < len(self.tokens) else sys.maxsize

    def _within(self, start: int, end: int) -> list[Diagnostic]:
        """The problems of characters and brackets between two tokens."""
        first = bisect_left(self.offsets, self._start(start))
        return self.problems[first : bisect_left(self.offsets, self._start(end))]

    def _report(self, diagnostic: Diagnostic) -> None:
        self.reported += 1
        if self.reported == MAX_ERRORS:
            more = Note(f"these are the first {MAX_ERRORS} errors; the file is not read further")
            self.diagnostics.add(attrs.evolve(diagnostic, notes=(*diagnostic.notes, more)))
            raise _Enough
        self.diagnostics.add(diagnostic)


def _damage(problem: Diagnostic) -> int:
    """The offset of what is damaged: for a bracket left open that is the bracket, not where it was missed."""
    if problem.primary is None:
        return 0
    left_open = problem.code == "NAS003" and problem.secondary
    return problem.secondary[0].span.start if left_open else problem.primary.span.start
