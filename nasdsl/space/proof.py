"""What must hold for every architecture: proved case by case, or refuted by a witness.

Takes sizes as tables over decisions and the condition of a place; returns nothing,
or a combination of decisions that refutes the claim. Invariant: a claim that no
witness refutes holds for every combination of decisions that reaches the place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from nasdsl.cases import (
    Axis,
    Cases,
    Choice,
    Value,
    assignments,
    at,
    axes_of,
    counterexample,
    equal,
    explore,
    tabulate,
)
from nasdsl.cases import where as choose_where
from nasdsl.diagnostics import Note
from nasdsl.space.values import Size
from nasdsl.types import Dim, TensorType

if TYPE_CHECKING:
    from nasdsl.space.builder import Builder
    from nasdsl.space.decisions import Decision

Witness = Mapping[str, Choice]
T = TypeVar("T")


def differ(left: tuple[Size, ...], right: tuple[Size, ...], given: Value) -> Witness | None:
    """Decisions for which two shapes differ at a place that `given` describes; None when they never do."""
    if len(left) != len(right):
        return {}
    for a, b in zip(left, right, strict=True):
        if isinstance(a, Dim) or isinstance(b, Dim):
            if a != b:
                return {}
            continue
        witness = counterexample(given, equal(a, b))
        if witness is not None:
            return witness
    return None


def join(
    builder: Builder, condition: Cases, yes: TensorType, no: TensorType, given: Value
) -> TensorType | None:
    """The type of a value that is one or the other; None when that cannot be said."""
    if yes.layout != no.layout or len(yes.dims) != len(no.dims):
        return None
    dims = [
        _joined(builder, condition, a, b, given) if a != b else a
        for a, b in zip(yes.dims, no.dims, strict=True)
    ]
    known = tuple(d for d in dims if d is not None)
    return TensorType(yes.layout, known) if len(known) == len(dims) else None


def _joined(builder: Builder, condition: Cases, yes: Dim, no: Dim, given: Value) -> Dim | None:
    a, b = builder.size(yes), builder.size(no)
    if isinstance(a, Dim) or isinstance(b, Dim):
        return None
    value = choose_where(condition, a, b)
    for dim, size in ((no, b), (yes, a)):
        if counterexample(given, equal(value, size)) is None:
            return dim
    return Dim.of(value)  # type: ignore[arg-type]


def every_case(
    rule: Callable[[Callable[[Size], int]], T], given: Value, nominal: int
) -> list[tuple[dict[str, Choice], T]]:
    """Runs a shape rule for every combination of the sizes that it asks about.

    Args:
        rule: takes a function that settles a size to an integer.
        nominal: stands for a width that is settled only when members are chosen.
    """
    return explore(lambda settle: rule(lambda s: nominal if isinstance(s, Dim) else int(settle(s))), given)


def combined(
    builder: Builder, results: list[tuple[dict[str, Choice], TensorType]], decisions: Mapping[str, Decision]
) -> TensorType:
    """One type for the results of every case."""
    first = results[0][1]
    if all(type_ == first for _, type_ in results):
        return first
    axes = axes_of(
        *(
            Cases((decisions[path].axis,), tuple(range(len(decisions[path].values))))
            for c, _ in results
            for path in c
        ),
        *(builder.size(d) for _, type_ in results for d in type_.dims),
    )

    def size(position: int, choices: dict[str, Choice]) -> int:
        for asked, type_ in results:
            if all(choices[path] == value for path, value in asked.items()):
                return int(at(builder.size(type_.dims[position]), choices))
        return int(at(builder.size(first.dims[position]), choices))  # a case that never happens here

    dims = []
    for position, dim in enumerate(first.dims):
        same = all(t.dims[position] == dim for _, t in results)
        value = None if same else tabulate(axes, lambda c, position=position: size(position, c))  # type: ignore[misc]
        dims.append(dim if value is None else Dim.of(value))  # type: ignore[arg-type]
    return TensorType(first.layout, tuple(dims))


def shown(sizes: tuple[Size, ...], layout: str, witness: Witness | None = None) -> str:
    """A shape in the words of an error: `64 channels, 16 x 16`; at the witness, or as ranges."""
    words = [_size(s, witness) for s in sizes]
    if layout == "vector":
        return f"{words[0]} numbers"
    if layout == "tokens":
        return f"{words[1]} tokens of {words[0]} numbers"
    return f"{words[0]} channel{'s' if words[0] != '1' else ''}, {words[1]} x {words[2]}"


def _size(size: Size, witness: Witness | None) -> str:
    if not isinstance(size, Cases):
        return str(size)
    if witness is not None:
        values = {at(size, {**rest, **witness}) for rest in assignments(_free(size, witness))}
    else:
        values = set(size.table)
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _free(size: Cases, witness: Witness) -> tuple[Axis, ...]:
    return tuple(a for a in size.axes if a.decision not in witness)


def witness_notes(witness: Witness, decisions: Mapping[str, Decision]) -> tuple[Note, ...]:
    """Notes that name the conflicting decisions and where each is taken."""
    if not witness:
        return ()
    text = " and ".join(f"`{path}` is {_choice(value)}" for path, value in sorted(witness.items()))
    notes = [Note(f"a witness: it happens in every architecture where {text}")]
    for path in sorted(witness):
        span = decisions[path].span if path in decisions else None
        if span is not None:
            notes.append(Note(f"`{path}` is chosen here", span))
    return tuple(notes)


def _choice(value: Choice) -> str:
    return value if isinstance(value, str) else f"[{', '.join(value)}]"
