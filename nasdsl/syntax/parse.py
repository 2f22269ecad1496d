"""Text -> syntax tree, with every syntax error of the file.

Takes a source, returns a File. Invariant: never raises for anything that a user
wrote; a tree that is returned nests at most MAX_NESTING deep; one mistake is one
error, because a file that does not parse is cut into items and each is parsed
alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nasdsl.diagnostics import Diagnostic, Diagnostics, Label, Note, Source, Span
from nasdsl.syntax import ast, grammar
from nasdsl.syntax.brackets import MAX_NESTING, balance, nested_too_deep
from nasdsl.syntax.complaints import Complaint, meant
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
    name = str(path)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            return _unread(diagnostics, name, f"it is larger than {MAX_BYTES:,} bytes", None)
        return Source(name, data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return _unread(diagnostics, name, f"line {line} is not UTF-8", "save the file as UTF-8 text")
    except OSError as error:
        return _unread(diagnostics, name, (error.strerror or type(error).__name__).lower(), None)
    except ValueError:
        # A NUL in the path.
        return _unread(diagnostics, name, "this is not a path", None)


def _unread(diagnostics: Diagnostics, name: str, why: str, cure: str | None) -> None:
    diagnostics.add(Diagnostic("NAS005", f"{name} cannot be read: {why}", None, help=cure))


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


class _Enough(Exception):  # noqa: N818 - a signal inside this module
    """MAX_ERRORS are reported."""


class _Recovery:
    """Parses the parts of a file alone and reports at most one error for each."""

    def __init__(self, cutter: Cutter, problems: Iterable[Diagnostic], diagnostics: Diagnostics) -> None:
        self.cutter = cutter
        self.tokens = cutter.tokens
        self.diagnostics = diagnostics
        self.reported = 0
        placed = [(p.primary.span.start, p) for p in problems if p.primary is not None]
        placed.sort(key=lambda pair: pair[0])
        self.problems = [p for _, p in placed]
        self.offsets = [offset for offset, _ in placed]

    def file(self, source: Source) -> ast.File | None:
        """What can be parsed."""
        good: list[Token] = []
        try:
            spaces = self.cutter.spaces()
            if self._nothing_before(source, spaces):
                for space in spaces:
                    good.extend(self._space(space))
        except _Enough:
            return None
        if not good:
            return None
        file = grammar.run(good, "start")
        return file if isinstance(file, ast.File) else None

    def _nothing_before(self, source: Source, spaces: Sequence[SpaceParts]) -> bool:
        """Reports what is wrong in front of the first space; whether it is worth going on."""
        before = self.tokens[: spaces[0].whole.start] if spaces else self.tokens
        first = self.tokens[0].span.start if self.tokens else len(source.text) + 1
        end = spaces[0].whole.start if spaces else len(self.tokens)
        if not before:
            stray = self.offsets and (not spaces or self.offsets[0] < self._start(end))
            if stray:
                self._report(self.problems[0])
            elif not spaces:
                self._report(_no_space(Span(source, 0, 0)))
            return bool(spaces)
        if self.offsets and self.offsets[0] < first:
            self._report(self.problems[0])
        elif meant(before[0].text) == "SPACE" and before[0].type == "NAME":
            self._complain(before, "start", 1)
        elif spaces:
            message = f"expected `space`, found `{before[0].text}`"
            help_text = "items stand inside of `space NAME { ... }`"
            self._report(Diagnostic("NAS001", message, Label(before[0].span, ""), help=help_text))
        else:
            self._report(self.problems[0] if self.problems else _no_space(before[0].span))
        return bool(spaces)

    def _space(self, space: SpaceParts) -> list[Token]:
        """The tokens of a space that parse; none when its head does not."""
        head = list(self.tokens[space.head.start : space.head.end])
        if len(head) == space.whole.end - space.whole.start:
            # There is no `{`, so there are no items to speak of.
            self._alone(head, "start", self._problem_in(space.whole.start, space.head.end))
            return []
        after_head = space.items[0].start if space.items else space.whole.end - 1
        close = self.tokens[space.whole.end - 1]
        problem = self._problem_in(space.head.start, after_head)
        head_fits = self._alone([*head, close], "start", problem)
        good = []
        ends = [*(i.start for i in space.items[1:]), space.whole.end - 1]
        for item, end in zip(space.items, ends, strict=False):
            if self._item(item, end):
                good.extend(self.tokens[item.start : item.end])
        if space.items or problem is None:
            self._first_problem(space.whole.end - 1, None)
        return [*head, *good, close] if head_fits else []

    def _item(self, item: Part, end: int) -> bool:
        """Whether an item parses; reports what is wrong with it, line by line where it has lines."""
        rule, lines = self.cutter.lines(item)
        kept = list(self.tokens[item.start : item.end])
        problems = self._problems_in(item.start, end)
        fine = True
        for line in reversed(lines):
            inside = self._problems_in(line.start, line.end)
            problems = [p for p in problems if p not in inside]
            tokens = self.tokens[line.start : line.end]
            if not self._alone(tokens, rule, inside[0] if inside else None):
                fine = False
                if rule == "bind" or any(t.type == "COLON" for t in kept[: line.start - item.start]):
                    del kept[line.start - item.start : line.end - item.start]
        return self._alone(kept, "item", problems[0] if problems else None) and fine

    def _alone(self, tokens: Sequence[Token], rule: str, problem: Diagnostic | None) -> bool:
        """Whether some tokens parse alone; reports the first thing wrong with them."""
        if problem is not None:
            self._report(problem)
            return False
        try:
            node = grammar.run(tokens, rule)
        except grammar.Unexpected as unexpected:
            self._report(Complaint(tokens, rule, unexpected.position, unexpected.accepts).diagnostic())
            return False
        deep = too_deep(node, MAX_NESTING)
        if deep is not None:
            self._report(nested_too_deep(deep))
        return deep is None
