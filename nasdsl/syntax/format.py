"""The formatter: one layout for every file, comments kept.

Takes the text of a file that parses, returns its text laid out anew. Invariant: the tree is that of
the original, every comment is there in the same order, and formatting twice changes nothing.

It works on tokens, as gofmt does: spaces, indentation and blank lines are the formatter's, line
breaks inside an item are the author's. Items and steps begin lines of their own; columns of `=` and
of values after labels stay aligned where the author aligned them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

from nasdsl.diagnostics import Diagnostics, Source
from nasdsl.errors import InternalError, UserError
from nasdsl.syntax import ast, grammar
from nasdsl.syntax.parse import parse
from nasdsl.syntax.tokens import Token, lex

INDENT = 2
CONTINUED = 4
WIDEST_COLUMN = 28
"""Columns are aligned unless that would push a value this much further to the right."""

_COMMENT = re.compile(r"#[^\n]*")
_TIGHT = frozenset({"*", "/", "//", "%", ".", ".."})
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
_CALLABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*$")


def format_text(text: str, name: str = "<text>") -> str:
    """The text laid out anew.

    Raises:
        UserError: with the diagnostics of a text that does not parse.
    """
    diagnostics = Diagnostics()
    source = Source(name, text.replace("\r\n", "\n").replace("\r", "\n"))
    file = parse(source, diagnostics)
    diagnostics.raise_if_errors()
    if file is None:
        raise UserError(diagnostics.items)
    made = _Layout(source, file).text()
    if parse(Source(name, made), Diagnostics()) != file:
        raise InternalError("the formatted text is another file")
    return made


@attrs.define
class _Piece:
    """A token or a comment, with the line breaks before it and the blanks before it."""

    text: str
    start: int
    breaks: int
    blanks: int
    column: int = 0
    word: bool = False
    comment: bool = False


@attrs.define
class _Line:
    """A line to be written. `column` is where its `=` or its value after a label begins, if it has one."""

    indent: int
    pieces: list[_Piece]
    blank: bool = False
    kind: str = ""


class _Layout:
    def __init__(self, source: Source, file: ast.File) -> None:
        self.source = source
        self.kinds = dict(_line_starts(file))
        sets = [i for s in file.spaces for i in s.items if isinstance(i, (ast.SetDef, ast.SetExtend))]
        self.options = {o.span.start: "step" for i in sets for o in i.options if o.label is not None}
        self.pieces = list(_pieces(source))

    def text(self) -> str:
        lines = self._lines()
        rendered = [self._render(line) for line in lines]
        rendered = self._aligned(lines, rendered)
        out: list[str] = []
        for line, shown in zip(lines, rendered, strict=True):
            if line.blank and out:
                out.append("")
            out.append(" " * line.indent + shown)
        return "\n".join(out) + "\n" if out else ""

    # --- lines ---------------------------------------------------------------

    def _lines(self) -> list[_Line]:
        lines: list[_Line] = []
        depth = 0
        item = 0  # brace depth of the item that a continued line belongs to
        parens = 0
        closes = self._closings()
        for index, piece in enumerate(self.pieces):
            before = self.pieces[index - 1] if index else None
            starts = not piece.comment and (piece.start in self.kinds or piece.text == "return")
            closing = piece.text == "}" and closes.get(piece.start, False)
            opened = before is not None and before.text == "{" and closes.get(before.start, False)
            fresh = not lines or piece.breaks > 0 or (before is not None and before.comment)
            if starts or closing or opened or fresh:
                inner = depth - 1 if piece.text == "}" else depth
                indent = INDENT * inner
                continued = not (starts or piece.text == "}" or self._own(piece, index, parens, opened))
                if continued:
                    indent = INDENT * max(item, inner) + (INDENT if piece.text == "where" else CONTINUED)
                    if piece.text in (")", "]"):
                        indent -= CONTINUED
                    # A hanging indent that the author chose stays.
                    indent = max(indent, piece.column) if piece.breaks and piece.text != "where" else indent
                blank = piece.breaks > 1 and not closing and not opened
                kind = self.kinds.get(piece.start) or self.options.get(piece.start, "")
                lines.append(_Line(indent, [], blank, kind))
            if starts:
                item = depth
            lines[-1].pieces.append(piece)
            if not piece.comment:
                depth += {"{": 1, "}": -1}.get(piece.text, 0)
                parens += {"(": 1, "[": 1, ")": -1, "]": -1}.get(piece.text, 0)
        return lines

    def _own(self, piece: _Piece, index: int, parens: int, opened: bool) -> bool:
        """Whether a line that begins here stands at the depth of its braces: options, comments between items."""
        if opened:
            return True
        before = self.pieces[index - 1] if index else None
        if before is None or parens:
            return before is None
        if piece.comment:
            after = next((p for p in self.pieces[index:] if not p.comment), None)
            return after is None or after.text == "}" or after.start in self.kinds or self._own_option(index)
        return self._own_option(index)

    def _own_option(self, index: int) -> bool:
        """Whether what stands before is `{` or a comma directly inside braces."""
        before = next((p for p in reversed(self.pieces[:index]) if not p.comment), None)
        return before is not None and before.text in ("{", ",")

    def _closings(self) -> dict[int, bool]:
        """For every brace, whether what it encloses is laid out over several lines."""
        stack: list[int] = []
        found: dict[int, bool] = {}
        for index, piece in enumerate(self.pieces):
            if piece.comment:
                continue
            if piece.text == "{":
                stack.append(index)
            elif piece.text == "}" and stack:
                first = stack.pop()
                inside = self.pieces[first + 1 : index + 1]
                several = any(p.start in self.kinds or p.text == "return" for p in inside)
                wide = (
                    any(p.breaks for p in (inside[0], inside[-1]))
                    or any(p.comment for p in inside)
                    or several
                )
                outermost = not stack
                found[self.pieces[first].start] = found[piece.start] = wide or (outermost and len(inside) > 1)
        return found

    # --- text of a line ------------------------------------------------------

    def _render(self, line: _Line) -> str:
        out = ""
        for index, piece in enumerate(line.pieces):
            if index:
                out += self._space(line.pieces[index - 1], piece)
            out += piece.text
        return out

    def _space(self, before: _Piece, piece: _Piece) -> str:
        if piece.comment:
            return "  "
        left, right = before.text, piece.text
        if right in (")", "]", ",", ";") or (right == ":" and not piece.word):
            return ""
        if left in ("(", "["):
            return ""
        if right in ("(", "["):
            if left == "=":
                return "" if before.start in self._named else " "
            callable_ = _CALLABLE.match(left) is not None and not before.word
            return "" if callable_ or left in (")", "]") or left in ("sum", "concat") else " "
        if right == "}" and left == "{":
            return ""
        if left in _TIGHT or right in _TIGHT:
            ends = left == ".." and (before.start in self._open_ended or piece.word)
            return " " if ends else ""
        if before.start in self._unary:
            return ""
        if "=" in (left, right):
            return "" if (before.start if left == "=" else piece.start) in self._named else " "
        return " "

    @property
    def _marks(self) -> tuple[set[int], set[int], set[int]]:
        if not hasattr(self, "_found"):
            self._found = self._classify()
        return self._found

    @property
    def _named(self) -> set[int]:
        """`=` of arguments, defaults and bindings: written tight."""
        return self._marks[0]

    @property
    def _unary(self) -> set[int]:
        """Minus signs of one operand."""
        return self._marks[1]

    @property
    def _open_ended(self) -> set[int]:
        """`..` without an upper end."""
        return self._marks[2]

    def _classify(self) -> tuple[set[int], set[int], set[int]]:
        named: set[int] = set()
        unary: set[int] = set()
        open_ended: set[int] = set()
        stack: list[str] = []
        tokens = [p for p in self.pieces if not p.comment]
        for index, piece in enumerate(tokens):
            before = tokens[index - 1] if index else None
            if piece.text in _OPENING:
                stack.append(piece.text)
            elif piece.text in _CLOSING and stack:
                stack.pop()
            elif piece.text == "=":
                inside = bool(stack) and stack[-1] in "(["
                bound = index > 1 and tokens[index - 2].text == "with"
                if inside or bound:
                    named.add(piece.start)
            elif piece.text == "-" and (before is None or not _operand_ends(before)):
                unary.add(piece.start)
            elif piece.text == ".." and index + 1 < len(tokens) and tokens[index + 1].text == "from":
                open_ended.add(piece.start)
        return named, unary, open_ended

    # --- columns -------------------------------------------------------------

    def _aligned(self, lines: list[_Line], rendered: list[str]) -> list[str]:
        """Columns of neighbouring lines of one kind, where the author had aligned them."""
        out = list(rendered)
        start = 0
        while start < len(lines):
            end = start
            while (
                end + 1 < len(lines)
                and lines[end + 1].kind == lines[start].kind != ""
                and lines[end + 1].indent == lines[start].indent
                and not lines[end + 1].blank
            ):
                end += 1
            self._align(lines[start : end + 1], out, start)
            start = end + 1
        return out

    def _align(self, lines: list[_Line], out: list[str], start: int) -> None:
        columns = [_column(line) for line in lines]
        if len(lines) < 2 or not any(
            at is not None and line.pieces[at].blanks > 1 for line, at in zip(lines, columns, strict=True)
        ):
            return
        widths = {}
        for offset, (line, at) in enumerate(zip(lines, columns, strict=True)):
            if at is not None:
                head = _Line(0, line.pieces[:at])
                widths[offset] = len(self._render(head))
        widest = max(widths.values(), default=0)
        if widths and widest - min(widths.values()) <= WIDEST_COLUMN:
            for offset, width in widths.items():
                line, at = lines[offset], columns[offset]
                head, tail = _Line(0, line.pieces[:at]), _Line(0, line.pieces[at:])
                out[start + offset] = self._render(head) + " " * (widest - width + 1) + self._render(tail)


def _column(line: _Line) -> int | None:
    """The piece of a line that is aligned: the `=` of a definition, the value after a label."""
    depth = 0
    for index, piece in enumerate(line.pieces):
        if line.kind == "step" and piece.text == ":":
            return index + 1 if index + 1 < len(line.pieces) and not line.pieces[index + 1].comment else None
        depth += (piece.text in _OPENING) - (piece.text in _CLOSING)
        if line.kind != "step" and piece.text == "=" and depth == 0:
            return index
    return None


def _operand_ends(piece: _Piece) -> bool:
    """Whether an operand ends here, so that a minus after it has two."""
    return piece.text in (")", "]", "}") or (
        bool(re.match(r'["\w]', piece.text)) and not (piece.word and piece.text not in ("earlier",))
    )


def _pieces(source: Source) -> Iterator[_Piece]:
    """Tokens and comments in order."""
    words = grammar.words()
    end = 0
    for token in (*lex(source, words).tokens, None):
        start = len(source.text) if token is None else token.span.start
        gap = source.text[end:start]
        at = 0
        for match in _COMMENT.finditer(gap):
            space = gap[at : match.start()]
            yield _Piece(
                match.group().rstrip(), end + match.start(), space.count("\n"), len(space), comment=True
            )
            at = match.end()
        if token is not None:
            space = gap[at:]
            column = len(space.rpartition("\n")[2])
            yield _Piece(token.text, start, space.count("\n"), len(space), column, word=_keyword(token))
            end = token.span.end


def _keyword(token: Token) -> bool:
    return (
        token.type != "NAME"
        and token.text[:1].isalpha()
        and token.type not in ("NUMBER", "DURATION", "STRING")
    )


def _line_starts(file: ast.File) -> Iterator[tuple[int, str]]:
    """Where lines begin whatever the author did: spaces, items, steps; lines of cells where there are several."""
    for space in file.spaces:
        yield space.span.start, "space"
        for item in space.items:
            yield item.span.start, type(item).__name__.lower()
            if isinstance(item, ast.Network):
                for step in item.steps:
                    yield step.span.start, "step"
            elif isinstance(item, ast.CellDef):
                for bind in item.body:
                    yield bind.span.start, "line"
