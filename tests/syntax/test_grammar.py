from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lark import Lark

from nasdsl.resources import grammar_text
from nasdsl.syntax import ast, grammar
from nasdsl.syntax.brackets import ITEM_KEYWORDS
from nasdsl.syntax.build import Builder


def test_the_grammar_has_no_conflicts() -> None:
    """Strict mode refuses what is otherwise resolved silently, collisions of terminals included."""
    Lark(grammar_text(), parser="lalr", lexer="basic", start=list(grammar.STARTS), strict=True)


def test_every_rule_builds_a_node() -> None:
    """A rule without a method would leave a parse tree in the middle of a syntax tree."""
    lark = Lark(grammar_text(), parser="lalr", start=list(grammar.STARTS))
    named = {str(r.alias or r.origin.name) for r in lark.rules if not str(r.origin.name).startswith("_")}
    inlined = {"item", "expr", "unary", "ambient", "postfix", "atom"}
    assert {n for n in named - inlined if not hasattr(Builder, n)} == set()


def test_names_of_tokens_that_the_code_relies_on_are_the_grammars() -> None:
    types = {*grammar.words().texts, "NAME", "NUMBER", "STRING"}
    assert types >= ITEM_KEYWORDS
    assert types >= {"SPACE", "EQUAL", "PLUS_EQUAL", "COLON", "COMMA", "SEMICOLON", "DOT", "RETURN", "STAR"}
    assert types >= {"LPAR", "RPAR", "LSQB", "RSQB", "LBRACE", "RBRACE", "LESSTHAN", "MORETHAN", "EARLIER"}


def test_spans_take_no_part_in_equality() -> None:
    one, two = (grammar.run(_tokens(text), "start") for text in ("space s{a=1}", "  space s { a = 1 }"))
    assert one == two
    assert isinstance(one, ast.File)
    assert isinstance(two, ast.File)
    assert one.span != two.span


def _tokens(text: str) -> object:
    from nasdsl.diagnostics import Source
    from nasdsl.syntax.tokens import lex

    return lex(Source("s", text), grammar.words()).tokens


def test_parsing_needs_no_torch_no_pickle_cache_and_little_time(root: Path) -> None:
    code = (
        "import sys, tempfile; before = set(sys.modules)\n"
        "from nasdsl.diagnostics import Diagnostics, Source\n"
        "from nasdsl.syntax.parse import parse\n"
        "assert parse(Source('s', 'space s { }'), Diagnostics()) is not None\n"
        "print(sorted({m.split('.')[0] for m in set(sys.modules) - before} & {'torch', 'networkx', 'numpy'}))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
