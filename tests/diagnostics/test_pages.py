from __future__ import annotations

import re

import pytest

from nasdsl.diagnostics import CODES, Severity, explain
from nasdsl.space.checked import check_text

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
SLOW = {"NAS307"}


def blocks(code: str, heading: str) -> list[tuple[str, str]]:
    after = explain(code).split(f"\n## {heading}\n")[1]
    return _BLOCK.findall(after.split("\n## ")[0])


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_page_with_meaning_example_and_cure(code: str) -> None:
    page = explain(code)
    title, meaning = page.split("\n\n")[:2]
    assert title == f"# {code}: {CODES[code].title}"
    assert meaning[0].isupper() or meaning[0] == "`"
    assert re.findall(r"^## (.*)", page, re.MULTILINE) == ["Example", "Cure"]
    assert len(blocks(code, "Example")) == 1
    assert max(map(len, page.splitlines())) <= 130


@pytest.mark.parametrize("code", CODES)
def test_the_example_has_the_mistake_and_the_cure_has_none(code: str) -> None:
    ((kind, example),) = blocks(code, "Example")
    if kind == "nas":
        found = [(d.code, d.severity) for d in check_text(example).items]
        assert found
        assert {c for c, severity in found if severity is CODES[code].severity} == {code}
    else:
        assert kind == "console"
        assert example.startswith("$ nasdsl ")
        assert f"\n{'warning' if CODES[code].severity is Severity.WARNING else 'error'}[{code}]" in example
    ((_, cured),) = blocks(code, "Cure")
    assert check_text(cured).items == ()


def test_an_unknown_code_has_no_page() -> None:
    with pytest.raises(KeyError):
        explain("NAS000")
