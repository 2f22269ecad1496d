"""The report of rewrites: figures against built supernets, rows against totals, places against the file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from hypothesis import HealthCheck, assume, given, settings

import nasdsl
from nasdsl import Space, UserError
from nasdsl.codegen.explain import UNNAMED, Chapter, chapters, explained
from nasdsl.codegen.figures import Figures
from nasdsl.compiler import Compilation
from nasdsl.ir.cost import module_count
from tests.laws.common import small
from tests.passes.counting import counted
from tests.strategies import checked, nas_spaces

CASES = [
    ("darts", "toponas", ""),
    ("hierarchical", "toponas", "-simplify"),
    ("nasbench201", "darts", "+simplify"),
    ("hierarchical", "darts", ""),
    ("cream", "darts", "+simplify"),
]
IDS = [" ".join(case) for case in CASES]


def space_of(name: str) -> Space:
    return nasdsl.load("darts", layers=3, C=4, resolution=8) if name == "darts" else small(name)


def compiled(name: str, method: str, passes: str) -> Compilation:
    return space_of(name).compile(method, passes=passes).compilation


def check_figures(name: str, method: str, passes: str, every: bool) -> None:
    """After every pass, or at the start, after the first and at the end."""
    space = space_of(name)
    told = chapters(space.compile(method, passes=passes).compilation)
    names = [c.step.name for c in told]
    for index, said in enumerate([told[0].before, *(c.after for c in told)]):
        if not every and index not in (0, 1, len(names)):
            continue
        edits = ",".join(filter(None, (passes, *(f"-{n}" for n in names[index:]))))
        program = space.compile(method, passes=edits)
        macs = module_count(program.compilation.optimised).macs
        assert attrs.evolve(counted(program), macs=macs) == said, f"after {names[:index]}"


@pytest.mark.parametrize(("name", "method", "passes"), CASES, ids=IDS)
def test_figures_are_those_of_the_supernet_that_is_built(name: str, method: str, passes: str) -> None:
    check_figures(name, method, passes, every=False)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "method", "passes"), CASES, ids=IDS)
def test_figures_after_every_pass_are_those_of_the_supernet_built_then(
    name: str, method: str, passes: str
) -> None:
    check_figures(name, method, passes, every=True)


def minus(one: Figures, other: Figures) -> tuple[int, ...]:
    pairs = zip(attrs.astuple(one), attrs.astuple(other), strict=True)
    return tuple(a - b for a, b in pairs)


def check_rows(told: tuple[Chapter, ...]) -> None:
    """Rows add up to what the pass changed; an exact pass neither drops nor ties a weight."""
    for chapter in told:
        before = Figures.total(r.before for r in chapter.rows)
        after = Figures.total(r.after for r in chapter.rows)
        assert minus(before, after) == minus(chapter.before, chapter.after), chapter.step.name
        for row in chapter.rows:
            assert row.times > 0
            if chapter.step.exact:
                assert (row.before.params, row.before.macs) == (row.after.params, row.after.macs), row.rule


@pytest.mark.parametrize(("name", "method", "passes"), CASES, ids=IDS)
def test_rows_add_up_and_every_change_is_named(name: str, method: str, passes: str) -> None:
    told = chapters(compiled(name, method, passes))
    check_rows(told)
    assert any(c.rows for c in told)
    assert [r for c in told for r in c.rows if r.rule == UNNAMED] == []


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@pytest.mark.parametrize("passes", ["", "+simplify"])
@given(text=nas_spaces())
def test_rows_add_up_on_random_spaces(passes: str, text: str) -> None:
    try:
        made = Space(checked(text)).compile("darts", passes=passes).compilation
    except UserError:  # a choice that the method does not weigh
        assume(False)
    told = chapters(made)
    check_rows(told)
    assert [r for c in told for r in c.rows if r.rule == UNNAMED] == []


@pytest.mark.parametrize(("name", "method", "passes"), CASES, ids=IDS)
def test_places_are_lines_decisions_and_options_of_the_space(name: str, method: str, passes: str) -> None:
    made = compiled(name, method, passes)
    text = made.space.source.text.splitlines()
    decisions = {d.path: d for d in made.table.decisions}
    for row in (r for c in chapters(made) for r in c.rows):
        ((file, lines),) = row.place.lines
        assert file == f"{name}.nas"
        assert all(0 < n <= len(text) for n in lines)
        code = [text[n - 1].partition("#")[0].strip() for n in lines]
        assert all(code), f"{row.rule}: an empty line among {lines}"
        assert set(row.place.decisions) <= set(decisions)
        options = {o for path in row.place.decisions for o in decisions[path].options}
        assert {o.removeprefix("%") for o in options} >= set(row.place.options)


def test_what_a_pass_does_not_name_is_told_as_well() -> None:
    made = compiled("darts", "toponas", "")
    silent = attrs.evolve(made, rewrites=tuple(() for _ in made.rewrites))
    told = chapters(silent)
    check_rows(told)
    changed = [c for c in told if c.before != c.after]
    assert changed
    assert all({r.rule for r in c.rows} == {UNNAMED} for c in changed)


def test_a_node_that_is_named_twice_counts_once() -> None:
    made = compiled("darts", "toponas", "")
    twice = attrs.evolve(made, rewrites=tuple((*found, *found) for found in made.rewrites))
    once, again = chapters(made), chapters(twice)
    check_rows(again)
    assert [[(r.before, r.after) for r in c.rows] for c in once] == [
        [(r.before, r.after) for r in c.rows] for c in again
    ]


def test_without_optimising_passes_there_is_nothing_to_tell() -> None:
    names = [c.step.name for c in chapters(compiled("nasbench201", "darts", ""))]
    text = explained(compiled("nasbench201", "darts", ",".join(f"-{n}" for n in names)))
    assert "No optimising pass ran." in text
    assert "|" not in text


def test_every_pass_and_its_kind_is_told() -> None:
    made = compiled("nasbench201", "darts", "+simplify")
    text = explained(made)
    for step in made.passes:
        line = f". {step.name}: {'exact' if step.exact else 'approximating'}\n"
        assert (line in text) is step.optimises


def test_the_report_does_not_depend_on_the_order_of_sets(root: Path) -> None:
    code = (
        "import nasdsl; from nasdsl.codegen.explain import explained\n"
        "print(explained(nasdsl.load('nasbench201').compile('darts', passes='+simplify').compilation))"
    )
    texts = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        texts.append(done.stdout)
    assert texts[0] == texts[1]
