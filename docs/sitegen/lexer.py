"""Colours for `.nas` text.

Takes text, returns Pygments tokens. Invariant: the words of the language, its primitives and its
functions are asked of nasdsl, so that a new one is coloured without an edit here.
"""

from __future__ import annotations

from typing import ClassVar

from pygments.lexer import RegexLexer, words
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Text

from nasdsl.ops import PRIMITIVES
from nasdsl.space.names import CONSTANTS, FUNCTIONS, WORDS
from nasdsl.syntax.grammar import words as grammar_words

_WHOLE = r"\b"


class NasLexer(RegexLexer):
    """The tokens of a `.nas` file."""

    name = "nasdsl"
    aliases: ClassVar[list[str]] = ["nas"]
    filenames: ClassVar[list[str]] = ["*.nas"]
    tokens: ClassVar[dict[str, list[object]]] = {
        "root": [
            (r"#[^\n]*", Comment.Single),
            (r'"(\\.|[^"\\\n])*"', String),
            (r"\d+(\.\d+)?([kMG]|us|ms|s)?\b", Number),
            (words(sorted(grammar_words().keywords), prefix=_WHOLE, suffix=_WHOLE), Keyword),
            (words(sorted({*CONSTANTS, *WORDS}), prefix=_WHOLE, suffix=_WHOLE), Keyword.Constant),
            (words(sorted({*PRIMITIVES, *FUNCTIONS}), prefix=_WHOLE, suffix=_WHOLE), Name.Builtin),
            (r"[A-Za-z_]\w*", Name),
            (r">>|\.\.|[-+*/%=<>!]+", Operator),
            (r"[(){}\[\],;:.]", Punctuation),
            (r"\s+", Text),
            (r".", Text),
        ]
    }
