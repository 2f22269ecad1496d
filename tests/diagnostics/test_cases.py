"""Each file in `cases/` holds sources and, word for word, what is said about them.

A case is a heading, a block of `.nas` text and a block with its rendering. Values for parameters
stand behind the word `nas`: "```nas C=3". To write the renderings anew after a wanted change:
`NASDSL_BLESS=1 pytest tests/diagnostics/test_cases.py`, then read the difference.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import attrs
import pytest

from nasdsl.diagnostics import CODES, render
from nasdsl.space.checked import check_text

FOLDER = Path(__file__).parent / "cases"
BLESS = os.environ.get("NASDSL_BLESS") == "1"

ELSEWHERE = {
    "NAS005": "a file, tests/syntax/test_parse.py",
    "NAS310": "a count, tests/laws/test_population.py",
    "NAS401": "an architecture",
    "NAS402": "an architecture",
    "NAS403": "an architecture",
    "NAS404": "a sub-space, tests/subspace/test_files.py",
    "NAS405": "an architecture, tests/subspace/test_within.py",
    "NAS501": "a method",
    "NAS502": "a method",
    "NAS503": "a pass",
    "NAS504": "a method",
    "NAS505": "settings of a method, tests/laws/test_combinations.py",
    "NAS601": "a table, tests/tabular/test_csv.py",
    "NAS602": "a table, tests/tabular/test_csv.py",
    "NAS603": "a table, tests/tabular/test_verb.py",
    "NAS604": "a table, tests/tabular/test_kinds.py",
    "NAS606": "a table, tests/laws/test_latency.py",
    "NAS607": "a run, tests/ranking/test_verb.py",
    "NAS608": "a score, tests/scoring/test_command.py",
    "NAS609": "a run, tests/reporting/test_folder.py",
    "NAS701": "a lock, tests/verifying/test_lock.py",
    "NAS801": "an export, tests/exporting/test_export.py",
    "NAS802": "weights, tests/exporting/test_export.py",
    "NAS901": "a method, tests/laws/test_limits.py",
}
"""Codes that no text of a space can cause alone: what they need, and they are tested with that."""

PENDING: frozenset[str] = frozenset()
"""Codes that still lack a case."""

_CASE = re.compile(r"^## (?P<title>.+?)\n.*?^```nas(?P<settings>[^\n]*)\n(?P<source>.*?)^```\n"
                   r"(?:\n```text\n(?P<rendering>.*?)^```\n)?", re.MULTILINE | re.DOTALL)  # fmt: skip


@attrs.frozen
class Case:
    """One source of a file of cases."""

    path: Path
    title: str
    settings: dict[str, int]
    source: str
    rendering: str

    def actual(self) -> str:
        diagnostics = check_text(self.source, f"{self.path.stem.lower()}.nas", self.settings)
        return render(diagnostics.items) + "\n"


def cases(path: Path) -> list[Case]:
    return [
        Case(
            path,
            match["title"],
            {k: int(v) for k, v in (pair.split("=") for pair in match["settings"].split())},
            match["source"],
            match["rendering"] or "",
        )
        for match in _CASE.finditer(path.read_text("utf-8"))
    ]


def bless(path: Path) -> None:
    text = path.read_text("utf-8")
    for case in cases(path):
        settings = "".join(f" {k}={v}" for k, v in case.settings.items())
        source, old = f"```nas{settings}\n{case.source}```\n", f"\n```text\n{case.rendering}```\n"
        new = f"{source}\n```text\n{case.actual()}```\n"
        text = text.replace(source + old if case.rendering else source, new)
    path.write_text(text, "utf-8")


FILES = sorted(FOLDER.glob("*.md"))
if BLESS:
    for file in FILES:
        bless(file)
ALL = [case for file in FILES for case in cases(file)]


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=f"{c.path.stem}: {c.title}") for c in ALL],
)
def test_the_rendering_is_as_written(case: Case) -> None:
    assert case.actual() == case.rendering


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_file_of_cases_is_about_its_code(path: Path) -> None:
    found = cases(path)
    text = path.read_text("utf-8")
    assert text.startswith(f"# {path.stem}: {CODES[path.stem].title}\n")
    assert len(found) == text.count("\n```nas") > 0
    assert all(f"[{path.stem}]: " in case.rendering for case in found)


def test_every_code_has_cases_or_says_why_not() -> None:
    have = {path.stem for path in FILES}
    assert have | ELSEWHERE.keys() | PENDING == CODES.keys()
    assert not have & PENDING
    assert not have & ELSEWHERE.keys()
