"""What the optimising passes did, as `rewrites.md` says it.

Takes a compilation, returns a text. Invariant: figures are of the whole network, every use of
every graph, and counted from the graphs before and after; those of a pass's rewrites add up to what the
pass changed, because what it did not name is a row of its own. The same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import attrs

from nasdsl.codegen.figures import NOTHING, Figures, Known, Ledger
from nasdsl.codegen.places import Lines, Place, place_of
from nasdsl.ir.graph import Module
from nasdsl.ir.homes import homes
from nasdsl.methods.base import Method
from nasdsl.passes.base import Pass
from nasdsl.passes.log import Rewrite
from nasdsl.space.checked import CheckedSpace

UNNAMED = "changes that the pass did not name"


class Compilation(Protocol):
    """What of a compilation is told; `nasdsl.compiler.Compilation` has it."""

    @property
    def space(self) -> CheckedSpace: ...

    @property
    def method(self) -> Method: ...

    @property
    def passes(self) -> tuple[Pass, ...]: ...

    @property
    def stages(self) -> tuple[tuple[str, Module], ...]: ...

    @property
    def rewrites(self) -> tuple[tuple[Rewrite, ...], ...]: ...


@attrs.frozen
class Row:
    """Equal rewrites: one rule at one place.

    Attributes:
        times: how often in the network.
        before, after: figures of the nodes that were replaced, and of those in their place.
    """

    rule: str
    place: Place
    times: int
    before: Figures
    after: Figures
    steps: tuple[str, ...] = ()


@attrs.frozen
class Chapter:
    """One pass: its rows, the figures of the whole network before and after it, and whether it changed anything."""

    step: Pass
    rows: tuple[Row, ...]
    before: Figures
    after: Figures
    changed: bool


def chapters(compilation: Compilation) -> tuple[Chapter, ...]:
    """One an optimising pass, in the order in which they ran."""
    found = []
    modules = [m for _, m in compilation.stages]
    ledgers: dict[int, Ledger] = {}
    known: Known = {}
    for index, step in enumerate(compilation.passes):
        if step.optimises:
            for i in (index, index + 1):
                if i not in ledgers:
                    ledgers[i] = Ledger(modules[i], known)
            one, other = ledgers[index], ledgers[index + 1]
            rows = tuple(_rows(one, other, compilation.rewrites[index]))
            found.append(Chapter(step, rows, one.total, other.total, modules[index] != modules[index + 1]))
    return tuple(found)


def _rows(before: Ledger, after: Ledger, rewrites: Sequence[Rewrite]) -> Iterator[Row]:
    """Rewrites grouped by rule and place, in the order in which each came first."""
    named = _once(rewrites, after)
    found: dict[tuple[str, Lines], Row] = {}
    homes_of = {g.name: homes(g) for g in before.module.graphs}
    for rewrite in (*named, *_unnamed(before, after, named)):
        graph = before.module.by_name[rewrite.graph]
        times = len(before.uses[rewrite.graph])
        if not times:
            continue
        nodes = [graph.by_id[n] for n in rewrite.gone if n in graph.by_id]
        row = Row(
            rewrite.rule,
            place_of(graph, nodes, homes_of[graph.name], before.uses[graph.name]),
            times,
            before.of(rewrite.graph, rewrite.gone),
            after.of(rewrite.graph, rewrite.made),
            rewrite.steps,
        )
        key = (row.rule, row.place.lines)
        found[key] = _together(found[key], row) if key in found else row
    yield from found.values()


def _together(one: Row, other: Row) -> Row:
    return Row(
        one.rule,
        one.place.joined(other.place),
        one.times + other.times,
        one.before + other.before,
        one.after + other.after,
        tuple(dict.fromkeys((*one.steps, *other.steps))),
    )


def _once(rewrites: Sequence[Rewrite], after: Ledger) -> list[Rewrite]:
    """Rewrites without nodes that one before them has named, or that a later one has replaced again."""
    gone: set[tuple[str, str]] = set()
    made: set[tuple[str, str]] = set()
    found = []
    for rewrite in rewrites:
        name = rewrite.graph
        there = after.module.by_name[name].by_id
        mine = tuple(n for n in dict.fromkeys(rewrite.gone) if (name, n) not in gone)
        others = tuple(n for n in dict.fromkeys(rewrite.made) if n in there and (name, n) not in made)
        gone.update((name, n) for n in mine)
        made.update((name, n) for n in others)
        if mine or others:
            found.append(attrs.evolve(rewrite, gone=mine, made=others))
    return found


def _unnamed(before: Ledger, after: Ledger, named: Sequence[Rewrite]) -> Iterator[Rewrite]:
    """Nodes that changed in number or cost and that no rewrite names, one record a graph."""
    for graph in before.module.graphs:
        mine = {n for r in named if r.graph == graph.name for n in r.gone}
        others = {n for r in named if r.graph == graph.name for n in r.made}
        left = {n.id: before.node(graph.name, n.id) for n in graph.nodes if n.id not in mine}
        there = after.module.by_name[graph.name].nodes
        right = {n.id: after.node(graph.name, n.id) for n in there if n.id not in others}
        gone = [n for n, f in left.items() if f != right.get(n, NOTHING)]
        made = [n for n, f in right.items() if f != left.get(n, NOTHING)]
        if gone or made:
            yield Rewrite(UNNAMED, graph.name, tuple(gone), tuple(made))


# --- the text ------------------------------------------------------------------


def explained(compilation: Compilation) -> str:
    """The text of `rewrites.md`."""
    told = chapters(compilation)
    lines = [f"# Rewrites of {compilation.space.name} for {compilation.method.name}", ""]
    if not told:
        return "\n".join([*lines, "No optimising pass ran.", ""])
    lines += [
        "What every optimising pass did to the supernet. An exact pass leaves outputs and all gradients the",
        "same function; an approximating one changes what is learned. A row is one rule at one place of the",
        "`.nas` file: how often it was applied in the whole network, and what stood there before -> after.",
        "",
        "- modules: operations, but for those that only pass on or view what they read",
        "- params: learnable numbers, without architecture variables",
        "- MACs: multiply-accumulates of one example, forward; the statistics of a batch norm count none",
        "- operators: modules, merges and weighted sums, one each; an operator may launch several kernels",
        "- bytes: activations that operators write, one example, fp32",
        "",
        *_totals(_start(compilation), told),
    ]
    for number, chapter in enumerate(told, 1):
        lines += ["", *_chapter(number, chapter)]
    return "\n".join(lines) + "\n"


def kind(step: Pass) -> str:
    """Which of the two sorts of rewrite a pass makes."""
    return "exact" if step.exact else "approximating"


def _start(compilation: Compilation) -> str:
    """The name of the stage before the first optimising pass."""
    return next(
        name for (name, _), p in zip(compilation.stages, compilation.passes, strict=False) if p.optimises
    )


def _totals(start: str, told: Sequence[Chapter]) -> list[str]:
    rows = [(start, "", *told[0].before.texts())]
    rows += [(c.step.name, kind(c.step), *c.after.texts()) for c in told]
    return _table(("the network after", "kind", *Figures.names()), rows)


def _chapter(number: int, chapter: Chapter) -> list[str]:
    step = chapter.step
    lines = [f"## {number}. {step.name}: {kind(step)}", "", f"{step.summary}.", ""]
    if not chapter.rows:
        return [*lines, "It changed none of these figures." if chapter.changed else "Nothing to do."]
    rows = [
        (
            row.rule,
            row.place.lines_text,
            row.place.decisions_text,
            ", ".join(row.place.options),
            f"{row.times:,}",
            *row.before.change(row.after),
        )
        for row in chapter.rows
    ]
    total = ("the network", "", "", "", "", *chapter.before.change(chapter.after))
    head = ("rule", "lines", "decisions", "options", "times", *Figures.names())
    lines += _table(head, [*rows, total])
    steps = [(row, step) for row in chapter.rows for step in row.steps]
    if steps:
        lines += ["", "Step by step:", ""]
        lines += [f"- {row.place.lines_text}: {step}" for row, step in steps]
    return lines


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table that is also legible as it stands."""
    cells = [[text.replace("|", "\\|") for text in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)) + " |" for row in cells]
    return [lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]]


__all__ = ["Chapter", "Row", "chapters", "explained"]
