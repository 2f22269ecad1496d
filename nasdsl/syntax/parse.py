"""From text to AST, with every syntax error of the file.

Takes a source, returns the file that could be read. Invariant: the token list is
cut into items and each is parsed by itself, so one mistake is one error: nothing
cascades from one item into the next.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from lark import Lark, Token
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from nasdsl.diagnostics import Diagnostics, Label, Source, Span, did_you_mean
from nasdsl.resources import grammar_text
from nasdsl.syntax import ast
from nasdsl.syntax.build import MAX_DEPTH, Builder, TooDeep

_OPEN = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
_CLOSE = {v: k for k, v in _OPEN.items()}
ITEM_WORDS = frozenset(
    {"doc", "notation", "distinct", "use", "input", "param", "limit", "op", "cell", "set", "network"}
)
_BINDERS = frozenset({"where", "with", "param", "op", "cell", "set"})
_KINDS = {"NAME": "a name", "NUMBER": "a number", "STRING": "a string", "MERGE": "`sum` or `concat`"}
_SIGNS = {
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "EQUAL": "`=`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "SEMICOLON": "`;`",
    "DOT": "`.`",
    "DOTS": "`..`",
    "REL": "a comparison",
    "EQ": "`==`",
    "PLUS": "`+`",
    "MINUS": "`-`",
    "MUL": "`*`",
    "_RSHIFT": "`>>`",
}


@lru_cache(maxsize=1)
def _lark() -> Lark:
    return Lark(
        grammar_text(), parser="lalr", lexer="basic", start=["item", "start"], propagate_positions=True
    )


def parse(source: Source, diagnostics: Diagnostics) -> ast.File | None:
    """Reads a file; reports NAS001 to NAS006.

    Returns:
        What could be read, items with errors left out; None when there is no space at all.
    """
    tokens = _tokens(source, diagnostics)
    if tokens is None or not _balanced(source, tokens, diagnostics):
        return None
    spaces = []
    position = 0
    while position < len(tokens):
        space, position = _space(source, tokens, position, diagnostics)
        if space is not None:
            spaces.append(space)
    whole = Span(source, 0, len(source.text))
    if len(spaces) != 1 and not diagnostics.errors:
        place = spaces[1].name.span if spaces else Span(source, 0, 0)
        diagnostics.error(
            "NAS006",
            "a file declares exactly one space",
            place,
            "the second" if spaces else "there is none",
            help="write `space NAME { ... }`" if not spaces else "move it to a file of its own",
        )
    return ast.File(tuple(spaces), span=whole) if spaces else None


def _tokens(source: Source, diagnostics: Diagnostics) -> list[Token] | None:
    """All tokens; None after NAS002 for each run of characters that begin none."""
    text, found = source.text, []
    clean = True
    offset = 0
    lexer = _lark()
    while True:
        try:
            for token in lexer.lex(text):
                found.append(token)
            return found if clean else None
        except UnexpectedCharacters as problem:
            at = problem.pos_in_stream or 0
            end = at + 1
            while end < len(text) and not text[end].isspace() and not text[end].isalnum() and text[end] == text[at]:
                end += 1
            clean = False
            offset += 1
            _unexpected(source, at, end, diagnostics)
            if offset >= 20:
                return None
            found.clear()
            text = text[:at] + " " * (end - at) + text[end:]


def _unexpected(source: Source, at: int, end: int, diagnostics: Diagnostics) -> None:
    character = source.text[at]
    if character == '"':
        line_end = source.text.find("\n", at)
        diagnostics.error(
            "NAS002",
            "this string has no end on its line",
            Span(source, at, at + 1),
            "begins here",
            help='close it with `"`; a string stays on one line',
        )
        stop = line_end if line_end >= 0 else len(source.text)
        end = stop
        return
    shown = character if character.isprintable() else f"U+{ord(character):04X}"
    diagnostics.error("NAS002", f"`{shown}` has no meaning here", Span(source, at, end), "not part of the language")


def _span(source: Source, token: Token) -> Span:
    return Span(source, token.start_pos or 0, token.end_pos or 0)


def _balanced(source: Source, tokens: list[Token], diagnostics: Diagnostics) -> bool:
    """Whether brackets match; reports NAS003, and NAS004 for more than MAX_DEPTH open ones."""
    stack: list[Token] = []
    for token in tokens:
        if token.type in _OPEN:
            stack.append(token)
            if len(stack) > MAX_DEPTH:
                _too_deep(_span(source, token), diagnostics)
                return False
        elif token.type in _CLOSE:
            if not stack or stack[-1].type != _CLOSE[token.type]:
                secondary = (Label(_span(source, stack[-1]), "the last one opened"),) if stack else ()
                diagnostics.error(
                    "NAS003", f"`{token}` closes nothing", _span(source, token), "not open here", secondary=secondary
                )
                return False
            stack.pop()
    if stack:
        inner = stack[-1]
        diagnostics.error(
            "NAS003",
            f"`{inner}` is never closed",
            _span(source, inner),
            "opened here",
            help=f"add `{ {'(': ')', '[': ']', '{': '}'}[str(inner)] }`",
        )
        return False
    return True


def _too_deep(span: Span, diagnostics: Diagnostics) -> None:
    diagnostics.error(
        "NAS004",
        f"this nests more than {MAX_DEPTH} deep",
        span,
        "too deep here",
        help="give parts of it names of their own",
    )


def _space(
    source: Source, tokens: list[Token], position: int, diagnostics: Diagnostics
) -> tuple[ast.Space | None, int]:
    """One `space NAME [from "..."] { items }`, and the position after it."""
    start = tokens[position]
    if str(start) != "space":
        close = did_you_mean(str(start), ["space"]) if start.type == "NAME" else ""
        diagnostics.error(
            "NAS001",
            f"expected `space`, found `{start}`{close}",
            _span(source, start),
            "a file begins with `space NAME {`",
        )
        return None, len(tokens)
    header = tokens[position + 1 : position + 5]
    kinds = [t.type for t in header]
    base = None
    if kinds[:2] == ["NAME", "LBRACE"]:
        body = position + 3
    elif kinds[:1] == ["NAME"] and [str(t) for t in header[1:2]] == ["from"] and kinds[2:] == ["STRING", "LBRACE"]:
        base, body = Builder(source).string(header[2]), position + 5
    else:
        wrong = next((t for t, k in zip(header, ("NAME", "LBRACE"), strict=False) if t.type != k), start)
        diagnostics.error(
            "NAS001", "expected `space NAME {`", _span(source, wrong), "does not fit", help="write `space NAME { ... }`"
        )
        return None, len(tokens)
    depth, end = 1, body
    while depth:
        depth += 1 if tokens[end].type in _OPEN else -1 if tokens[end].type in _CLOSE else 0
        end += 1
    items = []
    for chunk in _cut(tokens[body : end - 1]):
        item = _item(source, chunk, diagnostics)
        if item is not None:
            items.append(item)
    name = ast.Ident(str(header[0]), span=_span(source, header[0]))
    span = Span(source, start.start_pos or 0, tokens[end - 1].end_pos or 0)
    return ast.Space(name, base, tuple(items), span=span), end


def _cut(tokens: list[Token]) -> list[list[Token]]:
    """The tokens of a space, cut where an item begins."""
    chunks: list[list[Token]] = []
    depth = 0
    for index, token in enumerate(tokens):
        if depth == 0 and (not chunks or _begins(tokens, index)):
            chunks.append([])
        chunks[-1].append(token)
        depth += 1 if token.type in _OPEN else -1 if token.type in _CLOSE else 0
    return chunks


def _begins(tokens: list[Token], index: int) -> bool:
    """Whether an item begins at a token that no bracket encloses."""
    token = tokens[index]
    if str(token) in ITEM_WORDS and token.type not in ("STRING",):
        return True
    before = str(tokens[index - 1]) if index else ""
    if token.type != "NAME" or before in _BINDERS:
        return False
    return _binds(tokens, index) or _misspelt(tokens, index)


def _binds(tokens: list[Token], index: int) -> bool:
    """`NAME =`, `NAME += ` or `NAME[...] =`."""
    after = tokens[index + 1] if index + 1 < len(tokens) else None
    if after is None:
        return False
    if str(after) in ("=", "+="):
        return True
    if after.type != "LSQB":
        return False
    depth, at = 0, index + 1
    while at < len(tokens):
        depth += 1 if tokens[at].type in _OPEN else -1 if tokens[at].type in _CLOSE else 0
        at += 1
        if depth == 0:
            break
    return at < len(tokens) and str(tokens[at]) == "="


def _misspelt(tokens: list[Token], index: int) -> bool:
    """A word like `celll NAME`: an item whose keyword is misspelt, on a line of its own."""
    after = tokens[index + 1] if index + 1 < len(tokens) else None
    before = tokens[index - 1] if index else None
    new_line = before is None or before.line != tokens[index].line
    return (
        new_line
        and after is not None
        and (after.type in ("NAME", "STRING", "LBRACE"))
        and before is not None
        and before.type in (*_CLOSE, "NAME", "NUMBER", "STRING")
    )


def _item(source: Source, tokens: list[Token], diagnostics: Diagnostics) -> Any:
    """One item; None after one NAS001 or NAS004."""
    parser = _lark().parse_interactive(start="item")
    token = tokens[0]
    try:
        for token in tokens:
            parser.feed_token(token)
        tree = parser.feed_eof(tokens[-1])
        return Builder(source).build(tree)
    except UnexpectedToken as problem:
        wrong = problem.token
        at_end = wrong.type == "$END"
        place = _span(source, tokens[-1] if at_end else wrong)
        _syntax_error(place, "the end of the item" if at_end else f"`{wrong}`", problem, tokens, diagnostics)
    except TooDeep as problem:
        _too_deep(problem.span, diagnostics)
    return None


def _syntax_error(
    place: Span, found: str, problem: UnexpectedToken, tokens: list[Token], diagnostics: Diagnostics
) -> None:
    expected = _expected(problem)
    first = tokens[0]
    message, help_text = f"expected {expected}, found {found}", None
    if first.type == "NAME" and problem.token in tokens[:2]:
        close = did_you_mean(str(first), ITEM_WORDS)
        if close:
            return diagnostics.error(
                "NAS001",
                f"`{first}` does not begin an item of a space{close}",
                _span(place.source, first),
                "an item begins with a keyword, or is `NAME = ...`",
            )
    if found[1:-1] in ITEM_WORDS:
        help_text = f"{found} is a word of the language; choose another name"
    return diagnostics.error("NAS001", message, place, "does not fit here", help=help_text)


def _expected(problem: UnexpectedToken) -> str:
    """What could stand here, in plain words, most likely first, at most four."""
    accepted = getattr(problem, "accepts", None) or problem.expected or set()
    words: list[str] = []
    starts = {"NAME", "NUMBER", "LPAR", "STRING", "IF", "CHOOSE", "REPEAT"}
    if len(starts & set(accepted)) >= 4:
        words.append("an expression")
        accepted = set(accepted) - {*starts, "LSQB", "INDEPENDENT", "MERGE", "MINUS"}
    if "$END" in accepted:
        words.append("the end of the item")
    for kind in sorted(accepted - {"$END"}, key=lambda k: (k not in _SIGNS, k)):
        words.append(_KINDS.get(kind) or _SIGNS.get(kind) or f"`{_word(kind)}`")
    shown = list(dict.fromkeys(words))[:4]
    return " or ".join(shown) if shown else "something else"


def _word(kind: str) -> str:
    terminal = next((t for t in _lark().terminals if t.name == kind), None)
    return str(terminal.pattern.value) if terminal is not None else kind.lower()
