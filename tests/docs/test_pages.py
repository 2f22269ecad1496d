from __future__ import annotations

import re
from pathlib import Path

import pytest

import nasdsl
from nasdsl.diagnostics import Source, render
from nasdsl.methods import METHODS
from nasdsl.resources import shipped_spaces
from nasdsl.space.checked import check_source
from tests.docs.blocks import blocks
from tests.docs.tables import DOCS, TABLES, section

PAGES = [
    *sorted(DOCS.glob("*.md")),
    *sorted(DOCS.parent.glob("*.md")),
    *sorted(DOCS.parent.glob("examples/*/*.md")),
]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_made_from_the_code_is_up_to_date(name: str) -> None:
    page, make = TABLES[name]
    found = section(name).search((DOCS / page).read_text("utf-8"))
    assert found is not None
    assert found[2].strip() == make().strip(), "run `python -m tests.docs.tables`"


def test_every_table_marker_is_known() -> None:
    marked = {
        m for p in DOCS.glob("*.md") for m in re.findall(r"<!-- table: (.*?) -->", p.read_text("utf-8"))
    }
    assert marked == set(TABLES)


def test_the_diagnostic_shown_is_the_one_given() -> None:
    page = DOCS / "diagnostics.md"
    (file,), (answer,) = blocks(page, "nas"), blocks(page, "diagnostic")
    found = check_source(Source("my.nas", file.text))[1]
    assert [line.rstrip() for line in render(found.items).splitlines()] == [
        line.rstrip() for line in answer.text.splitlines()
    ]


def _anchor(title: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", title.lower())
    return kept.strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS.parent)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    # Code in backticks may look like a link: `a[1](x)`.
    text = re.sub(r"`[^`\n]*`", "code", text)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http", "generated/")):
            continue  # what a build of the site makes is followed by its own test
        file, _, anchor = target.partition("#")
        reached = (page.parent / file).resolve() if file else page
        assert reached.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", reached.read_text("utf-8"), re.MULTILINE)
            assert anchor in {_anchor(t) for t in titles}, target


def test_the_table_of_methods_and_spaces_says_what_compiles() -> None:
    text = (DOCS / "methods.md").read_text("utf-8")
    table: dict[str, dict[str, str]] = {}
    for found in re.findall(r"<!-- fits -->\n(.*?)<!-- /fits -->", text, re.DOTALL):
        lines = found.strip().splitlines()
        methods = [cell.strip() for cell in lines[0].strip("|").split("|")][1:]
        for line in lines[2:]:
            space, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            table.setdefault(space, {}).update(zip(methods, cells, strict=True))
    assert all(sorted(row) == sorted(METHODS) for row in table.values())
    assert sorted(table) == sorted(shipped_spaces())
    for name, row in table.items():
        space = nasdsl.load(name)
        for method, said in row.items():
            chosen = METHODS.load(method)
            try:
                if chosen.limits and method != "spos":  # the same passes as spos; what they take is asked
                    chosen.fits(space.checked, chosen.resolve(space.checked, {}))
                else:
                    space.compile(method)
                found = "yes"
            except nasdsl.UserError as error:
                found = error.diagnostics[0].code
            assert found == said, f"{name} {method}"
