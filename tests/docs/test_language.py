from __future__ import annotations

from pathlib import Path

import pytest

from nasdsl.api import Space
from nasdsl.diagnostics import Source, render
from nasdsl.space.checked import check_source
from nasdsl.syntax import ast
from tests.docs.blocks import Block, blocks

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))]
BLOCKS = [b for page in PAGES for b in blocks(page, "nas") if "my.nas" not in b.info]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_an_example_does_what_its_fence_says(block: Block) -> None:
    space, found = check_source(Source("my.nas", block.text))
    errors = {d.code for d in found.errors}
    warnings = {d.code for d in found.items} - errors
    shown = render(found.items)
    assert set(block.info) <= {"error", "warning", "count"}, "a fence may say error=, warning=, count="
    assert errors == ({block.info["error"]} if "error" in block.info else set()), shown
    # An example that is wrong may leave something unused; one that is right shows good habits.
    if not errors:
        assert warnings == ({block.info["warning"]} if "warning" in block.info else set()), shown
        assert space is not None
    if "count" in block.info:
        assert space is not None
        assert Space(space).count() == int(block.info["count"])


def _kinds(node: object, found: set[type]) -> None:
    if isinstance(node, (tuple, list)):
        for part in node:
            _kinds(part, found)
    elif type(node).__module__ == ast.__name__:
        found.add(type(node))
        for field in getattr(type(node), "__attrs_attrs__", ()):
            _kinds(getattr(node, field.name), found)


def test_every_construct_of_the_syntax_tree_has_an_example() -> None:
    from nasdsl.diagnostics import Diagnostics
    from nasdsl.syntax.parse import parse

    shown: set[type] = set()
    for block in blocks(DOCS / "language.md", "nas"):
        _kinds(parse(Source("my.nas", block.text), Diagnostics()), shown)
    concrete = {
        kind
        for kind in vars(ast).values()
        if isinstance(kind, type) and kind.__module__ == ast.__name__ and hasattr(kind, "__attrs_attrs__")
    }
    bases = {base for kind in concrete for base in kind.__mro__[1:]}
    missing = sorted(k.__name__ for k in concrete - bases - shown)
    assert missing == []
