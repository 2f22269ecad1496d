"""What a limit can measure, for one architecture.

Takes a space's module and choices, returns integers. Invariant: `params` and `macs` are
those of the network as it is written, operations counted that nothing reads, as
benchmarks count; `depth` and `edges` look at what is live.
"""

from __future__ import annotations

from collections.abc import Mapping

from nasdsl.cases import Cases, Choice, decided, lift
from nasdsl.ir.graph import Graph, Module, call_owner
from nasdsl.ir.nodes import Branch, Call, Gather, Input, Op, Select
from nasdsl.ops import PRIMITIVES
from nasdsl.space.decisions import DecisionTable
from nasdsl.types import TensorType

MEASURES = ("params", "macs", "depth", "edges")
"""Learnable numbers; multiply-accumulates; layers on the longest path; chosen inputs that are live."""


def costs_words(measure: str, value: int) -> str:
    """What an architecture costs, as the end of a sentence: "has 21 macs", "has a depth of 21", "takes 21 us"."""
    if measure == "latency":
        return f"takes {value:,} us"
    return f"has a depth of {value:,}" if measure == "depth" else f"has {value:,} {measure}"


def layers(module: Module, table: DecisionTable) -> int | Cases:
    """The number of layers (operations with multiply-accumulates) on the longest path, as a table.

    Raises:
        TooManyCasesError: when it depends on too many decisions.
    """
    return _depth(module, table, module.network, "", [0] * len(module.network.inputs))


def _depth(
    module: Module, table: DecisionTable, graph: Graph, owner: str, inputs: list[int | Cases]
) -> int | Cases:
    made: dict[str, int | Cases] = {}
    given = iter(inputs)
    for node in graph.nodes:
        if not isinstance(node.type, TensorType):
            continue
        if isinstance(node, Input):
            made[node.id] = next(given)
            continue
        parts = [made[o] for o in node.operands if o in made]
        if isinstance(node, Call):
            target = module.by_name[node.graph]
            made[node.id] = _depth(module, table, target, call_owner(owner, node), parts)
        elif isinstance(node, Op):
            step = int(is_layer(node.op))
            made[node.id] = _whole(lift(lambda d, step=step: d + step, parts[0]))
        elif isinstance(node, (Select, Gather)):
            path = (
                node.decision[1:] if node.decision.startswith("/") else f"{owner}.{node.decision}".lstrip(".")
            )
            axis = table.by_path[path].axis
            names = node.options if isinstance(node, Select) else node.names
            chosen = decided(axis, tuple(range(len(axis.values))))
            made[node.id] = _whole(
                lift(
                    lambda i, *ds, names=names, axis=axis: max(
                        (d for n, d in zip(names, ds, strict=True) if _takes(axis.values[int(i)], n)),
                        default=0,
                    ),
                    chosen,
                    *parts,
                )
            )
        elif isinstance(node, Branch):
            made[node.id] = _whole(lift(lambda c, a, b: a if c else b, node.condition, *parts))
        else:
            made[node.id] = _whole(lift(lambda *ds: max(ds), *parts))
    return made[graph.result]


def _takes(value: Choice, name: str) -> bool:
    return value == name if isinstance(value, str) else name in value


def _whole(value: object) -> int | Cases:
    return value if isinstance(value, Cases) else int(value)  # type: ignore[call-overload]


def is_layer(op: str) -> bool:
    """Whether an operation counts as a layer: it does multiply-accumulates."""
    return op in PRIMITIVES and PRIMITIVES[op].layer


def live_edges(module: Module, choices: Mapping[str, Choice]) -> int:
    """The number of chosen inputs whose choice is live, every set of decisions counted once."""
    seen: set[tuple[str, str]] = set()
    return _edges(module, module.network, "", choices, seen)


def _edges(
    module: Module, graph: Graph, owner: str, choices: Mapping[str, Choice], seen: set[tuple[str, str]]
) -> int:
    if owner and (owner, "") in seen:
        return 0
    seen.add((owner, ""))
    total = 0
    stack, visited = [graph.result], set()
    while stack:
        name = stack.pop()
        if name in visited:
            continue
        visited.add(name)
        node = graph.by_id[name]
        if isinstance(node, Call):
            total += _edges(module, module.by_name[node.graph], call_owner(owner, node), choices, seen)
        if isinstance(node, (Select, Gather)):
            path = (
                node.decision[1:] if node.decision.startswith("/") else f"{owner}.{node.decision}".lstrip(".")
            )
            names = node.options if isinstance(node, Select) else node.names
            kept = [o for n, o in zip(names, node.operands, strict=True) if _takes(choices[path], n)]
            total += len(kept) if isinstance(node, Gather) else 0
            stack.extend(kept)
        elif isinstance(node, Branch):
            stack.append(node.operands[0 if node.condition.at(choices) else 1])
        else:
            stack.extend(node.operands)
    return total
