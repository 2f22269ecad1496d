"""Text -> tokens.

Takes a source, returns its tokens and what could not be read. Invariant: never
fails; every character is in a token, in a blank, in a comment or in a diagnostic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from nasdsl.diagnostics import Diagnostic, Label, Source, Span

MAX_DIGITS = 40
"""Longer numbers are refused: no size needs them, and reading them takes quadratic time."""

_SKIPPED = frozenset({"COMMENT", "SPACES"})
_ESCAPE = re.compile(r"\\(.)")
_KNOWN_ESCAPES = frozenset('ntr"\\')
# What is reported as one stretch: a word with foreign letters or digits in front, or signs without a meaning.
_WORDLIKE = re.compile(r"\w+")
_HELP = {
    "'": 'strings are written in double quotes: "..."',
    "\u2018": 'strings are written in straight double quotes: "..."',
    "\u2019": 'strings are written in straight double quotes: "..."',
    "\u201c": 'strings are written in straight double quotes: "..."',
    "\u201d": 'strings are written in straight double quotes: "..."',
    "|": "operations follow each other with `>>`; alternatives of a condition are joined with `or`",
    "&": "conditions are joined with `and`",
    "!": "write `!=` for different; there is no `not`: turn the comparison round",
    "^": "there are no powers: write the product",
    "\\": "lines need no sign to go on: newlines mean nothing",
    "\xa0": "this is a non-breaking space: replace it by a plain one",
    "\ufeff": "this is a byte order mark in the middle of the text: remove it",
}


@attrs.frozen
class Words:
    """What the lexer needs to know of the grammar.

    Attributes:
        pattern: one match is one token; the group's name is its type.
        keywords: word -> token type, for what the pattern takes for a NAME.
        texts: token type -> its text, for types with only one.
    """

    pattern: re.Pattern[str]
    keywords: Mapping[str, str]
    texts: Mapping[str, str]


@attrs.frozen(eq=False)
class Token:
    """A word or sign. `type` is the grammar's name for it."""

    type: str
    text: str
    span: Span


@attrs.frozen
class Lexed:
    """The tokens of a source, and a diagnostic for each stretch that is none."""

    tokens: tuple[Token, ...]
    problems: tuple[Diagnostic, ...]


def lex(source: Source, words: Words) -> Lexed:
    """The tokens of a source and what is wrong with its characters (NAS002, NAS207)."""
    text = source.text
    tokens: list[Token] = []
    problems: list[_Problem] = []
    position = 0
    match_at, keywords = words.pattern.match, words.keywords
    while position < len(text):
        match = match_at(text, position)
        if match is None or match.lastgroup is None:
            problem = _unreadable(source, position)
            if problems and problems[-1].primary.span.end == position and _is_sign(text[position]):
                # Signs in a row are one mistake.
                problems[-1] = _joined(problems[-1], problem)
            else:
                problems.append(problem)
            position = problem.primary.span.end
            continue
        kind, end = match.lastgroup, match.end()
        if kind not in _SKIPPED:
            word = match.group()
            if kind == "NAME":
                kind = keywords.get(word, kind)
            token = Token(kind, word, Span(source, position, end))
            tokens.append(token)
            problem_inside = _inside(token)
            if problem_inside is not None:
                problems.append(problem_inside)
        position = end
    return Lexed(tuple(tokens), tuple(p.diagnostic() for p in problems))


@attrs.frozen
class _Problem:
    """A diagnostic in the making; `primary` is never None here."""

    code: str
    message: str
    primary: Label
    help: str | None

    def diagnostic(self) -> Diagnostic:
        return Diagnostic(self.code, self.message, self.primary, help=self.help)


def _is_sign(character: str) -> bool:
    return not (character.isalnum() or character in '_"')


def _joined(first: _Problem, second: _Problem) -> _Problem:
    span = first.primary.span.to(second.primary.span)
    message = "these characters have no meaning here"
    return attrs.evolve(first, message=message, primary=Label(span, first.primary.message))


def _unreadable(source: Source, position: int) -> _Problem:
    text = source.text
    character = text[position]
    if character == '"':
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        span = Span(source, position, end)
        return _Problem("NAS002", "a string is not closed on its line", Label(span, 'no closing `"`'), None)
    word = _WORDLIKE.match(text, position)
    if word is None:
        span = Span(source, position, position + 1)
        message = f"{_called(character)} has no meaning here"
        return _Problem("NAS002", message, Label(span, ""), _HELP.get(character))
    span = Span(source, position, word.end())
    shown = word.group() if len(word.group()) <= 40 else f"{word.group()[:40]}..."
    if character.isascii() and character.isdigit():
        return _Problem(
            "NAS002",
            f"`{shown}` is neither a number nor a name",
            Label(span, "starts with a digit"),
            "numbers are written like 3, 0.5 or 600M (k, M and G are thousands); names start with a letter",
        )
    return _Problem(
        "NAS002",
        f"`{shown}` cannot be a name",
        Label(span, "not only letters a to z, digits and `_`"),
        None,
    )


def _called(character: str) -> str:
    if character.isprintable() and character != "`":
        return f"`{character}`"
    return f"the character U+{ord(character):04X}"


def _inside(token: Token) -> _Problem | None:
    """What is wrong within a token that was read."""
    if token.type in ("NUMBER", "DURATION") and len(token.text) > MAX_DIGITS:
        return _Problem(
            "NAS207",
            "this number is too large",
            Label(token.span, f"{len(token.text)} characters, at most {MAX_DIGITS}"),
            "use a smaller number",
        )
    if token.type == "STRING" and "\\" in token.text:
        for match in _ESCAPE.finditer(token.text, 1, len(token.text) - 1):
            if match.group(1) not in _KNOWN_ESCAPES:
                start = token.span.start + match.start()
                return _Problem(
                    "NAS002",
                    f"`{match.group()}` is not a known escape in a string",
                    Label(Span(token.span.source, start, start + 2), ""),
                    r"the escapes are \" \\ \n \t and \r; a backslash itself is written \\",
                )
    return None
