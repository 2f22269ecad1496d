"""The TextMate grammar cannot drift from the language's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nasdsl.diagnostics import Source
from nasdsl.resources import grammar_path, library_path, shipped_spaces
from nasdsl.space.names import CONSTANTS
from nasdsl.syntax import grammar
from nasdsl.syntax.tokens import lex

PATH = grammar_path().parent / "nas.tmLanguage.json"
TEXTMATE = json.loads(PATH.read_text("utf-8"))
RULES = TEXTMATE["repository"]


def scope(line: str, start: int, end: int) -> str:
    """The scope that the TextMate rules give to a stretch: first match from the left, in the order of rules."""
    at = 0
    while at < len(line):
        best: tuple[int, int, str, re.Match[str]] | None = None
        for order, include in enumerate(TEXTMATE["patterns"]):
            rule = RULES[include["include"][1:]]
            pattern = rule.get("match") or rule["begin"] + r"(?:\\.|[^\"\\])*" + f"(?:{rule['end']})"
            found = re.compile(pattern).search(line, at)
            if found and found.end() > found.start() and (best is None or (found.start(), order) < best[:2]):
                best = (found.start(), order, include["include"][1:], found)
        if best is None:
            return ""
        found = best[3]
        if found.start() <= start and end <= found.end():
            rule = RULES[best[2]]
            for group, entry in rule.get("captures", {}).items():
                if found.start(int(group)) <= start and end <= found.end(int(group)):
                    return str(entry["name"])
            return str(rule.get("name", ""))
        at = found.end()
    return ""


def expected(kind: str, text: str) -> str:
    if kind == "NUMBER":
        return "constant.numeric"
    if kind == "STRING":
        return "string"
    if text[0].isalpha() and kind != "NAME":
        return "keyword"
    if kind == "NAME":
        return "constant.language" if text in CONSTANTS else ""
    return "keyword.operator" if re.fullmatch(RULES["operator"]["match"], text) else ""


@pytest.mark.parametrize("path", [*shipped_spaces().values(), library_path()], ids=lambda p: p.stem)
def test_every_token_has_the_scope_of_its_kind(path: Path) -> None:
    source = Source(path.name, path.read_text("utf-8"))
    for token in lex(source, grammar.words()).tokens:
        line = source.line(token.span.line)
        column = token.span.column - 1
        given = scope(line, column, column + len(token.text))
        wanted = expected(token.type, token.text)
        if wanted:
            assert given.startswith(wanted), (token, given)
        elif token.type == "NAME":
            assert not given.startswith(("keyword", "string", "comment", "constant.numeric")), (token, given)


def test_its_keywords_are_those_of_the_language() -> None:
    named = set(re.findall(r"[a-z]+", RULES["keyword"]["match"].removeprefix("\\b").removesuffix("\\b")))
    assert named == set(grammar.words().keywords)
    assert set(RULES["constant"]["match"].strip("\\b()").split("|")) == CONSTANTS


def test_every_operator_of_the_language_is_one() -> None:
    signs = {t for t in grammar.words().texts.values() if not t[0].isalpha()} - set("(){}[],;:.")
    assert {s for s in signs if not re.fullmatch(RULES["operator"]["match"], s)} == set()


def test_comments_and_strings() -> None:
    assert scope('x = "a # b"  # c', 5, 6).startswith("string")
    assert scope('x = "a # b"  # c', 14, 15).startswith("comment")
