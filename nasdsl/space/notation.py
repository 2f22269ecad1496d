"""Published notations: NAS-Bench-201 strings and DARTS genotypes.

Takes a text, returns choices; takes choices, returns the text. Invariant: reading
what was written gives the same choices; a text is parsed, never evaluated.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from nasdsl.errors import UserError
from nasdsl.space.decisions import Choice, Decision, DecisionTable

Choices = dict[str, Choice]


@attrs.frozen
class PublishedNotation:
    """A way to write architectures that a publication introduced."""

    name: str
    recognise: Callable[[str], bool]
    read: Callable[[DecisionTable, str], Choices]
    write: Callable[[DecisionTable, Mapping[str, Choice]], str]


def _bad(message: str) -> UserError:
    return UserError.plain("NAS401", message)


# --- NAS-Bench-201 -----------------------------------------------------------


def _nodes(table: DecisionTable) -> list[list[Decision]]:
    """The edges' decisions, one list a node, in declared order."""
    groups: dict[str, list[Decision]] = {}
    for decision in table.decisions:
        node, _, edge = decision.path.rpartition(".op[")
        if decision.kind != "op" or not edge:
            raise _bad("the notation `nasbench201` needs an operation on every edge and no other decision")
        groups.setdefault(node, []).append(decision)
    return list(groups.values())


def _read_nasbench201(table: DecisionTable, text: str) -> Choices:
    nodes = _nodes(table)
    parts = text.strip().split("+")
    if len(parts) != len(nodes):
        raise _bad(f"the string describes {len(parts)} nodes, the space has {len(nodes)}")
    choices: Choices = {}
    for part, edges in zip(parts, nodes, strict=True):
        found = re.fullmatch(r"\|(?:[^|~]+~\d+\|)+", part)
        pairs = [p.rpartition("~") for p in part.strip("|").split("|")]
        if not found or len(pairs) != len(edges):
            raise _bad(f"`{part}` does not describe a node with {len(edges)} edges; it is `|op~0|op~1|...|`")
        for index, ((op, _, source), decision) in enumerate(zip(pairs, edges, strict=True)):
            if int(source) != index:
                raise _bad(
                    f"`{part}` lists the inputs out of order: `{op}~{source}` stands where `~{index}` belongs"
                )
            choices[decision.path] = op
    return choices


def _write_nasbench201(table: DecisionTable, choices: Mapping[str, Choice]) -> str:
    return "+".join(
        "|" + "|".join(f"{choices[d.path]}~{i}" for i, d in enumerate(edges)) + "|" for edges in _nodes(table)
    )


# --- DARTS -------------------------------------------------------------------


def _cells(table: DecisionTable) -> dict[str, list[Decision]]:
    """For each cell its choices of inputs, in order."""
    cells: dict[str, list[Decision]] = {}
    for decision in table.decisions:
        if decision.kind == "inputs":
            cells.setdefault(decision.path.split(".")[0], []).append(decision)
    return cells


def _read_genotype(table: DecisionTable, text: str) -> Choices:
    fields = _genotype_fields(text)
    choices: Choices = {}
    for cell, nodes in _cells(table).items():
        if cell not in fields:
            raise _bad(f"the genotype has no `{cell}=`")
        pairs = _pairs(fields[cell], cell)
        wanted = sum(n.high for n in nodes)
        if len(pairs) != wanted:
            raise _bad(f"`{cell}` of the genotype has {len(pairs)} edges, the space {wanted}")
        for node in nodes:
            taken, pairs = pairs[: node.high], pairs[node.high :]
            chosen = {}
            for op, index in taken:
                if not 0 <= index < len(node.options):
                    raise _bad(f"`{node.path}` has no input {index}")
                if node.options[index] in chosen:
                    raise _bad(f"`{node.path}` takes input {index} twice")
                chosen[node.options[index]] = op
            choices[node.path] = tuple(o for o in node.options if o in chosen)
            base = node.path.removesuffix(".inputs")
            choices.update({f"{base}.op[{source}]": op for source, op in chosen.items()})
    return choices


def _genotype_fields(text: str) -> dict[str, ast.expr]:
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _bad(
            "this is not a genotype: it is written `Genotype(normal=[('op', input), ...], ...)`"
        ) from None
    if not isinstance(call, ast.Call) or call.args:
        raise _bad("this is not a genotype: it is written `Genotype(normal=[('op', input), ...], ...)`")
    return {k.arg: k.value for k in call.keywords if k.arg is not None}


def _pairs(node: ast.expr, cell: str) -> list[tuple[str, int]]:
    try:
        value: Any = ast.literal_eval(node)
        return [(str(op), int(index)) for op, index in value]
    except (ValueError, TypeError):
        raise _bad(f"`{cell}` of the genotype is not a list of ('op', input)") from None


def _write_genotype(table: DecisionTable, choices: Mapping[str, Choice]) -> str:
    parts = []
    for cell, nodes in _cells(table).items():
        pairs: list[tuple[str, int]] = []
        for node in nodes:
            base = node.path.removesuffix(".inputs")
            pairs.extend(
                (str(choices[f"{base}.op[{source}]"]), node.options.index(source))
                for source in choices[node.path]
            )
        first = len(nodes[0].options)
        parts.append(f"{cell}={pairs}, {cell}_concat=range({first}, {first + len(nodes)})")
    return f"Genotype({', '.join(parts)})"


NOTATIONS: Mapping[str, PublishedNotation] = {
    "nasbench201": PublishedNotation(
        "nasbench201", lambda t: t.strip().startswith("|"), _read_nasbench201, _write_nasbench201
    ),
    "darts_genotype": PublishedNotation(
        "darts_genotype", lambda t: t.strip().startswith("Genotype("), _read_genotype, _write_genotype
    ),
}
