from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

from lark import Lark
from lark import Token as LarkToken

from nasdsl.diagnostics import Source, Span
from nasdsl.resources import grammar_text
from nasdsl.syntax import ast, grammar
from nasdsl.syntax.brackets import ITEM_KEYWORDS
from nasdsl.syntax.build import Builder
from nasdsl.syntax.tables import END, SHIPPED, STARTS, build, shipped_text, tables
from nasdsl.syntax.tokens import Token, lex


def test_the_grammar_has_no_conflicts() -> None:
    """Strict mode refuses what is otherwise resolved silently, collisions of terminals included."""
    Lark(grammar_text(), parser="lalr", lexer="basic", start=list(STARTS), strict=True)


def test_the_shipped_tables_are_those_of_the_grammar() -> None:
    """After a change of the grammar: `python -m nasdsl.syntax.tables`."""
    assert SHIPPED.read_text("utf-8") == shipped_text(grammar_text())
    assert tables() == build(grammar_text())


def test_a_changed_grammar_is_used_although_other_tables_are_shipped(tmp_path: Path, root: Path) -> None:
    """The package, copied beside a grammar in which `space` is called `room`."""
    shutil.copytree(root / "nasdsl", tmp_path / "nasdsl", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "grammar").mkdir()
    changed = grammar_text().replace('"space"', '"room"')
    (tmp_path / "grammar" / "nas.lark").write_text(changed, "utf-8")
    code = "from nasdsl.syntax import grammar; print('room' in grammar.words().keywords)"
    assert python(code, tmp_path) == "True\n"


def test_every_rule_builds_a_node() -> None:
    """A rule without a method could not be applied; one without symbols would take them all."""
    rules = tables().rules
    assert all(rule.length > 0 for rule in rules)
    needed = {r.builds for r in rules if r.builds is not None and not (r.passes and r.length == 1)}
    assert {name for name in needed if not hasattr(Builder, name)} == set()


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


def _tokens(text: str) -> tuple[Token, ...]:
    return lex(Source("s", text), grammar.words()).tokens


def test_parsing_imports_neither_torch_nor_lark(root: Path) -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "from nasdsl.diagnostics import Diagnostics, Source\n"
        "from nasdsl.syntax.parse import parse\n"
        "assert parse(Source('s', 'space s { }'), Diagnostics()) is not None\n"
        "print(sorted({m.split('.')[0] for m in set(sys.modules) - before} & {'lark', 'torch', 'numpy'}))"
    )
    assert python(code, root) == "[]\n"


def python(code: str, folder: Path) -> str:
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return run.stdout


def test_the_parser_accepts_what_lark_accepts() -> None:
    """The tables are applied by our own code: the same tokens fit, the same are refused."""
    lark = Lark(grammar_text(), parser="lalr", lexer="basic", start=list(STARTS))
    chance = random.Random(0)
    kinds = [t.name for t in tables().terminals if t.name not in ("COMMENT", "SPACES")]
    reached = 0
    for _ in range(300):
        start, walk = chance.choice(STARTS), []
        theirs = lark.parse_interactive(start=start)
        while len(walk) < 30:
            fitting = theirs.accepts()
            assert grammar.accepted(walk, start) == (fitting or {END})
            kind = chance.choice(kinds if chance.random() < 0.03 else sorted(fitting - {END}) or [END])
            if kind not in fitting or kind == END:
                assert kind == END or grammar.fits([*walk, token(kind)], start) == len(walk)
                break
            theirs.feed_token(LarkToken(kind, ""))
            walk.append(token(kind))
            reached += 1
    assert reached > 2000


def token(kind: str) -> Token:
    return Token(kind, "", Span(Source("", ""), 0, 0))
