"""What the runtime must know of every decision, as plain data.

Takes the decision table, Graph[SPACE] and where the variables are; returns one mapping a decision.
Invariant: it says everything that deriving, setting and measuring an architecture need, so the runtime
knows nothing of the compiler.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from nasdsl.codegen.variables import Variables, form_of
from nasdsl.ir.cost import node_count
from nasdsl.ir.graph import Module, Use
from nasdsl.ir.homes import around, homes
from nasdsl.ir.nodes import AnyNode, Gather, Merge, Op, Select, Weight
from nasdsl.ops import PRIMITIVES
from nasdsl.passes.relax import subsets
from nasdsl.space.decisions import DecisionTable


def decision_data(table: DecisionTable, space: Module, made: Variables) -> tuple[dict[str, Any], ...]:
    """One mapping a decision, for `SupernetBase.DECISIONS`; `space` is the module before it was relaxed."""
    edges = _edge_decisions(space)
    sums = _sums_of(space)
    kinds = _kinds_of(space)
    data: list[dict[str, Any]] = []
    for decision in table.decisions:
        owner = max(
            (o for o in made.owners if o == "" or decision.path.startswith(f"{o}.")), key=len, default=None
        )
        local = decision.path[len(owner) + 1 :] if owner else decision.path
        slot = made.owners[owner][1].slots.get(local) if owner is not None else None
        entry: dict[str, Any] = {
            "path": decision.path,
            "kind": decision.kind,
            "options": decision.options,
            "when": None
            if decision.when is None
            else tuple((e.decision, e.option) for (e,) in decision.when),
            "owner": owner,
            "parameter": slot.parameter if slot else None,
            "row": slot.row if slot else None,
            "entries": slot.entries if slot else decision.options,
            "none": None,
        }
        if decision.kind == "op":
            extra = [i for i, e in enumerate(entry["entries"]) if e not in decision.options]
            entry["none"] = extra[0] if extra else None
            absent = [o for o in decision.options if o not in entry["entries"]]
            entry["absent"] = absent[0] if absent else None
            entry["sum"] = sums.get((_owner_form(made, owner), local), local)
            entry["skips"] = tuple(o for o in decision.options if o in kinds.skips)
            entry["learnable"] = tuple(o for o in decision.options if o in kinds.learnable)
            entry["macs"] = tuple(kinds.macs.get((decision.path, e), 0) for e in entry["entries"])
        else:
            prefix = f"{owner}." if owner else ""
            named = edges.get((_owner_form(made, owner), local), {})
            entry["edges"] = {s: prefix + named[s] if named.get(s) else None for s in decision.options}
            entry["always"] = made.always.get((_owner_form(made, owner), local), ())
            entry["high"] = decision.high
            entry["node"] = local.rpartition(".")[0]
            entry["role"] = slot.role if slot else None
            if slot and slot.role == "inputs":
                entry["rows"] = slot.rows
                chosen = subsets(len(decision.options), decision.low, decision.high)
                entry["entries"] = tuple(tuple(decision.options[i] for i in c) for c in chosen)
        data.append(entry)
    return tuple(data)


def path_data(table: DecisionTable) -> tuple[dict[str, Any], ...]:
    """One mapping a decision, for `PathSupernet.DECISIONS`."""
    return tuple(
        {
            "path": d.path,
            "kind": d.kind,
            "options": d.options,
            "low": d.low,
            "high": d.high,
            "numbers": d.numbers,
            "when": None
            if d.when is None
            else tuple(tuple((e.decision, e.option) for e in guard) for guard in d.when),
        }
        for d in table.decisions
    )


@attrs.frozen
class _Kinds:
    """Options by name: those that hand on their input somewhere, and those that hold weights somewhere.

    A skip connection with a stride has weights, but is one by its name. `macs` are the multiply-accumulates
    of every option of every decision, for one example, over all places that the decision is about.
    """

    skips: frozenset[str]
    learnable: frozenset[str]
    macs: Mapping[tuple[str, str], int]


def _kinds_of(space: Module) -> _Kinds:
    skips, learnable = set(), set()
    macs: dict[tuple[str, str], int] = {}
    uses: dict[str, list[Use]] = {}
    for use in space.uses():
        uses.setdefault(use.graph.name, []).append(use)
    counted: dict[tuple[tuple[str, int], ...], dict[str, int]] = {}  # by sizes and node of one graph
    for graph in space.graphs:
        counted.clear()
        selects = [n for n in graph.nodes if isinstance(n, Select)]
        found = homes(graph) if selects else {}
        inside: dict[tuple[str, str], list[AnyNode]] = {}
        for node in graph.nodes if selects else ():
            for home in around(found, node.id):
                inside.setdefault(home, []).append(node)
        for select in selects:
            for option, operand in zip(select.options, select.operands, strict=True):
                members = inside.get((select.id, operand), [])
                for use in uses.get(graph.name, ()):
                    key = (use.decision(select.decision), option)
                    known = counted.setdefault(tuple(use.sizes.items()), {})
                    cost = 0
                    for member in members:
                        if member.id not in known:
                            known[member.id] = node_count(graph, member, use.sizes).macs
                        cost += known[member.id]
                    macs[key] = macs.get(key, 0) + cost
                if any(isinstance(m, Weight) for m in members):
                    learnable.add(option)
                elif all(isinstance(m, Op) and PRIMITIVES[m.op].identity for m in members):
                    skips.add(option)
    return _Kinds(frozenset(skips), frozenset(learnable), macs)


def _sums_of(space: Module) -> dict[tuple[str, str], str]:
    """For every choice of an operation that a sum reads, the node that the sum is."""
    found: dict[tuple[str, str], str] = {}
    for graph in space.graphs:
        for node in graph.nodes:
            if isinstance(node, Gather) or (isinstance(node, Merge) and node.merge == "sum"):
                for operand in node.operands:
                    chosen = graph.by_id[operand]
                    if isinstance(chosen, Select):
                        found[form_of(graph), chosen.decision] = node.label or node.id
    return found


def _owner_form(made: Variables, owner: str | None) -> str:
    return made.owners[owner][1].title if owner is not None else ""


def _edge_decisions(space: Module) -> dict[tuple[str, str], dict[str, str]]:
    """For every choice of inputs, the decision of the operation on each of its edges."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for graph in space.graphs:
        for node in graph.nodes:
            if not isinstance(node, Gather):
                continue
            for name, operand in zip(node.names, node.operands, strict=True):
                chosen = graph.by_id[operand]
                if isinstance(chosen, Select):
                    found.setdefault((form_of(graph), node.decision), {})[name] = chosen.decision
    return found
