"""What is said about a syntax error.

Takes the tokens of a part and where they stopped to fit, returns one diagnostic
in plain words. Invariant: always an answer; a suggestion is made only when the
changed text fits further than the given one did.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property

import attrs

from nasdsl.diagnostics import Diagnostic, Label, Span
from nasdsl.diagnostics.diagnostic import closest
from nasdsl.syntax import grammar
from nasdsl.syntax.brackets import ITEM_KEYWORDS, starts_line
from nasdsl.syntax.tables import END
from nasdsl.syntax.tokens import Token

_STARTERS = frozenset({"NAME", "NUMBER", "STRING", "LPAR", "LSQB", "CHOOSE", "REPEAT", "INDEPENDENT"})
_EXPRESSION = _STARTERS | {"SUM", "CONCAT", "MINUS", "IF"}
_OPERATORS = ("+", "-", "*", "/", "//", "%", "<", "<=", ">", ">=", "==", "!=", ">>", "and", "or", "with", ".")
_POSTFIX = ("(", "[", ".")
_FREE = {
    "NAME": "a name",
    "NUMBER": "a number",
    "DURATION": "a time such as `5ms`",
    "STRING": 'a string in `"`',
}
_WHOLE = {"item": "the item", "bind": "the line", "step": "the step", "start": "the file"}
_LISTED = 5
_ITEM_HELP = "an item begins with `param`, `input`, `op`, `set`, `cell`, `network` ... or is `NAME = ...`"


@cache
def meant(word: str) -> str | None:
    """The type of the keyword that a word resembles, None when it resembles none."""
    keywords, letters = grammar.words().keywords, set(word.lower())
    # Comparing words letter by letter is slow; most words are far from most keywords.
    near = [k for k in keywords if abs(len(k) - len(word)) <= 2 and len(letters & set(k)) >= len(k) // 2]
    keyword = closest(word, near) if len(word) > 1 else None
    return None if keyword is None else keywords[keyword]


@attrs.frozen
class Complaint:
    """A part that does not parse: `position` is the token that does not fit, or the end."""

    tokens: Sequence[Token]
    start: str
    position: int

    def diagnostic(self) -> Diagnostic:
        """The error, with the most telling words that hold."""
        for explain in (
            self._misspelt,
            self._reserved,
            self._begins_nothing,
            self._equals,
            self._comma,
            self._structure,
        ):
            found = explain()
            if found is not None:
                return found
        return self._error(f"expected {self._expected()}, found {self._found()}", help=self._hint())

    # --- the parts of a message --------------------------------------------------

    @property
    def _token(self) -> Token | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    @cached_property
    def accepts(self) -> frozenset[str]:
        """What would fit in the place of the token."""
        return grammar.accepted(self.tokens[: self.position], self.start)

    def _type(self, offset: int = 0) -> str:
        index = self.position + offset
        return self.tokens[index].type if 0 <= index < len(self.tokens) else ""

    def _place(self) -> Span:
        if self._token is not None:
            return self._token.span
        last = self.tokens[-1].span
        return Span(last.source, last.end, last.end)

    def _found(self) -> str:
        return f"the end of {_WHOLE[self.start]}" if self._token is None else quoted(self._token)

    def _error(
        self,
        message: str,
        label: str = "",
        help: str | None = None,
        at: Span | None = None,
    ) -> Diagnostic:
        return Diagnostic("NAS001", message, Label(at or self._place(), label), help=help)

    def _expected(self) -> str:
        """What could stand here in plain words, the most telling first."""
        texts, accepts = grammar.words().texts, set(self.accepts)
        said = []
        if {"NAME", "NUMBER", "CHOOSE"} <= accepts:
            said.append("an expression")
            accepts -= _EXPRESSION
        signs = {texts[t]: t for t in accepts if t in texts}
        if "+" in signs or ">>" in signs:
            # After a complete expression more of it may always follow: say so only when nothing else can.
            accepts -= {signs[s] for s in (*_OPERATORS, *_POSTFIX) if s in signs}
            if not accepts - {END}:
                said.append("an operator")
        if accepts >= ITEM_KEYWORDS:
            said.append("an item")
            accepts -= ITEM_KEYWORDS | {"NAME"}
        said += [text for kind, text in _FREE.items() if kind in accepts]
        rest = sorted((texts[t] for t in accepts if t in texts), key=lambda t: (t.isalpha(), t))
        said += [f"`{text}`" for text in rest]
        if END in accepts:
            said.append(f"the end of {_WHOLE[self.start]}")
        if not said:
            return "something else"
        shown = said if len(said) <= _LISTED else [*said[: _LISTED - 1], "something else"]
        return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"

    def _hint(self) -> str | None:
        """A help for what is usual where nothing better was found."""
        token = self._token
        if token is None:
            return None
        line = self._line_start()
        if any(t.text == "//" for t in self.tokens[line : self.position + 1]):
            return "if the rest of this line is a comment: comments begin with `#`; `//` divides"
        if token.type == "DOT" and self._type(1) == "NUMBER":
            return f"write the zero too: `0.{self.tokens[self.position + 1].text}`"
        if token.type == "STAR" and self._type(-1) == "STAR":
            return "there are no powers: write the product"
        following = self._type(1)
        if token.type == "EQUAL" and following in ("LESSTHAN", "MORETHAN"):
            return f"write `{grammar.words().texts[following]}=`"
        if token.type == "SEMICOLON":
            return "`;` separates own from ambient names in a definition; arguments are separated by `,`"
        if token.type == "LBRACE" and self.tokens[0].type == "CELL":
            return "a cell names its inputs: `cell normal(x) { ... }`"
        return None

    def _line_start(self) -> int:
        index = self.position
        while index > 0 and not starts_line(self.tokens, index):
            index -= 1
        return index

    # --- what the writer may have meant ------------------------------------------

    def _fits_further(self, tokens: Sequence[Token], than: int) -> bool:
        reached = grammar.fits(tokens, self.start)
        return reached is None or reached > than

    def _replaced(self, index: int, kind: str) -> list[Token]:
        tokens = list(self.tokens)
        tokens[index] = attrs.evolve(tokens[index], type=kind)
        return tokens

    def _misspelt(self) -> Diagnostic | None:
        """A name in the place of a keyword that it resembles."""
        for index in (self.position - 1, self.position):
            if not 0 <= index < len(self.tokens) or self.tokens[index].type != "NAME":
                continue
            kind = meant(self.tokens[index].text)
            if kind is not None and self._fits_further(self._replaced(index, kind), self.position):
                word = self.tokens[index].text
                keyword = grammar.words().texts[kind]
                message = f"`{word}` is not a word of the language; did you mean `{keyword}`?"
                return self._error(message, "not known", at=self.tokens[index].span)
        return None

    def _reserved(self) -> Diagnostic | None:
        """A keyword in the place of a name."""
        token = self._token
        if token is None or "NAME" not in self.accepts or token.text not in grammar.words().keywords:
            return None
        if grammar.fits(self._replaced(self.position, "NAME"), self.start) is not None:
            return None
        message = f"`{token.text}` is a word of the language and cannot be a name"
        return self._error(message, "choose another name", help=f"for example `{token.text}_`")

    def _begins_nothing(self) -> Diagnostic | None:
        if self.start != "item" or self.position != 1 or self.tokens[0].type != "NAME":
            return None
        if self._type() == "COLON":
            message = f"the step `{self.tokens[0].text}` stands outside of a network"
            return self._error(message, help="move it into `network { ... }`", at=self.tokens[0].span)
        if self._type() == "" or not self._type().endswith("EQUAL"):
            message = f"`{self.tokens[0].text}` begins nothing that is known here"
            return self._error(message, help=_ITEM_HELP, at=self.tokens[0].span)
        return None

    def _equals(self) -> Diagnostic | None:
        """`=` and `==` taken for each other."""
        texts = {text: kind for kind, text in grammar.words().texts.items()}
        compared = self._replaced(self.position, texts["=="]) if self._type() == "EQUAL" else None
        if compared is not None and self._fits_further(compared, self.position):
            return self._error("`=` gives a value, it does not compare", help="to compare, write `==`")
        if self._type() == texts["=="] and "EQUAL" in self.accepts:
            return self._error("expected `=`, found `==`", help="a value is given with one `=`")
        return None

    def _comma(self) -> Diagnostic | None:
        """Two values side by side in a list."""
        token = self._token
        if token is None or "COMMA" not in self.accepts:
            return None
        comma = Token("COMMA", ",", token.span)
        tokens = [*self.tokens[: self.position], comma, *self.tokens[self.position :]]
        if not self._fits_further(tokens, self.position + 1):
            return None
        return self._error(f"a `,` is missing in front of {self._found()}", "expected `,`")

    def _structure(self) -> Diagnostic | None:
        """A cell without its `return`, a network without steps, something behind the `return`."""
        kind, closes = self.tokens[0].type, self._type() == "RBRACE"
        if kind == "NETWORK" and closes and self.position == 2:
            help_text = "a step is `label: OPERATION`, for example `stem: conv(3, 16)`"
            return self._error("the network has no steps", help=help_text)
        if kind != "CELL":
            return None
        if closes and "RETURN" in self.accepts:
            label = "expected `return` in front of this"
            return self._error("the cell returns nothing", label, help="end it with `return VALUE`")
        if "RBRACE" in self.accepts and any(t.type == "RETURN" for t in self.tokens[: self.position]):
            message = f"expected `}}`, found {self._found()}"
            return self._error(message, help="`return` is the last line of a cell")
        return None


def quoted(token: Token) -> str:
    """A token as messages show it."""
    if token.type == "STRING":
        return "a string"
    return f"`{token.text}`" if len(token.text) <= 40 else f"`{token.text[:40]}...`"
