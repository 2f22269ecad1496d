"""Whatever the input: diagnostics or a tree, soon, and never an exception."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasdsl.diagnostics import Diagnostics, render, to_json
from nasdsl.syntax import grammar
from nasdsl.syntax.parse import MAX_BYTES, MAX_ERRORS, read
from nasdsl.syntax.print import to_text
from tests.syntax.files import FILES, good, parsed

ALPHABET = [
    *grammar.words().keywords,
    *grammar.words().texts.values(),
    *(
        "a",
        "bb",
        "celll",
        "retrun",
        "choos",
        "3",
        "0.5",
        "600M",
        '"s"',
        "\n",
        "#",
        "@",
        "'",
        '"',
        "\t",
        "\0",
        "\u00e9",
    ),
]
SEEDS = [path.read_text("utf-8") for path in FILES]


def check(text: str) -> None:
    """A text is either right, and then prints, or has errors that stand inside of it and can be shown."""
    file, found = parsed(text)
    assert file is not None or found
    assert len(found) <= MAX_ERRORS + 1
    for diagnostic in found:
        assert diagnostic.primary is not None
        assert 0 <= diagnostic.primary.span.start <= diagnostic.primary.span.end <= len(text)
    assert len(to_json(found)) == len(found)
    shown = render(found)
    assert all(c.isprintable() or c == "\n" for c in shown)
    if not found and file is not None:
        assert good(to_text(file)) == file


@given(st.lists(st.sampled_from(ALPHABET), max_size=60).map(" ".join))
def test_any_tokens(text: str) -> None:
    check(text)
    check(f"space s {{ {text} }}")


@given(st.text(max_size=80))
def test_any_text(text: str) -> None:
    check(text)
    check(f"space s {{ {text} }}")


@given(st.sampled_from(SEEDS), st.randoms(use_true_random=False))
def test_any_change_of_a_real_file(text: str, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(text))
        end = min(len(text), start + chance.choice([0, 0, 1, 1, 2, 20]))
        text = text[:start] + chance.choice(["", "", *ALPHABET]) + text[end:]
    check(text)


@given(st.binary(max_size=200))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "a.nas"
    path.write_bytes(data)
    diagnostics = Diagnostics()
    source = read(path, diagnostics)
    assert (source is None) == bool(diagnostics.items)
    if source is not None:
        check(source.text)


DEEP = 10_000
DEEPEST = 100_000
LARGE = {
    "open parentheses": "space s { a = " + "(" * DEEPEST,
    "matched parentheses": "space s { a = " + "(" * DEEPEST + "1" + ")" * DEEPEST + " }",
    "open brackets of all kinds": "([{" * DEEP,
    "closers": "space s { a = " + ")]}" * DEEP,
    "openers and other closers": "(" * DEEP + "]" * DEEP + "}" * DEEP,
    "alternating": "space s { " + "( } " * DEEP,
    "many signs in front": "space s { a = " + "-" * DEEP + "1 }",
    "conditions in conditions": "space s { a = " + "if b then c else " * DEEP + "d }",
    "a long sum": "space s { a = " + "b + " * DEEP + "c }",
    "a long pipe": "space s { a = " + "b >> " * DEEP + "c }",
    "calls of calls": "space s { a = b" + "(c)" * DEEP + " }",
    "with with": "space s { a = b" + " with c=d" * DEEP + " }",
    "a huge number": "space s { a = " + "9" * DEEP + " }",
    "a huge fraction": "space s { a = 0." + "9" * DEEP + " }",
    "a huge name": "space s { " + "a" * DEEP + " " + "b" * DEEP + " }",
    "a huge string": 'space s { doc "' + "a" * DEEP + '" }',
    "an open string of escapes": 'space s { doc "' + "\\n" * DEEP,
    "nothing known": "\0\x01\x02" * DEEP,
    "foreign letters": "\u00e9 " * DEEP,
    "lines of names": "space s {\n" + "".join(f"n{i}\n" for i in range(DEEP)) + "}",
    "names side by side": "space s { " + "".join(f"cel{i} a " for i in range(DEEP)) + "}",
    "keywords": "space s {\n" + "op\n" * DEEP + "}",
    "spaces": "space s { }\n" * (DEEP // 10),
    "open spaces": "space s {\n" * (DEEP // 10),
    "quotes": '"' * DEEP,
    "line ends": "\r\n" * DEEP,
    "one wrong line of many": "space s { network {\n" + "a: b\n" * (DEEP // 10) + "c: d e\n } }",
}


@pytest.mark.parametrize("name", LARGE)
def test_large_inputs_are_answered_soon(name: str) -> None:
    text = LARGE[name][:MAX_BYTES]
    start = time.process_time()
    _, found = parsed(text)
    shown = render(found)
    seconds = time.process_time() - start
    assert len(shown) < 200_000
    assert seconds < 10
