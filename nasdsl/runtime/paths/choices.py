"""What a path is, as plain data.

Takes decisions as mappings (see `PathSupernet.DECISIONS`), returns values of theirs. Invariant: no torch
here: plans ask the same questions before anything is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, Union

Choice = Union[str, tuple[str, ...]]
Choices = dict[str, Choice]


def values_of(decision: Mapping[str, Any]) -> tuple[Choice, ...]:
    """Everything that a path may say at a decision."""
    options: tuple[str, ...] = tuple(decision["options"])
    if decision["kind"] != "inputs":
        return options
    sizes = range(decision["low"], decision["high"] + 1)
    return tuple(c for size in sizes for c in combinations(options, size))


def made(decisions: Sequence[Mapping[str, Any]], at: Mapping[str, Choice]) -> Choices:
    """The decisions that exist under the choices made before them."""
    found: Choices = {}
    for decision in decisions:
        when = decision["when"]
        if when is None or any(all(_taken(found.get(p), o) for p, o in guard) for guard in when):
            found[decision["path"]] = at[decision["path"]]
    return found


def _taken(chosen: Choice | None, option: str) -> bool:
    return chosen is not None and (chosen == option if isinstance(chosen, str) else option in chosen)


def key_of(choices: Mapping[str, Choice]) -> tuple[tuple[str, Choice], ...]:
    """A path as something that can be looked up: its decisions by name."""
    return tuple(sorted(choices.items()))


def extreme(
    values: Mapping[str, Sequence[Choice]],
    path: Callable[[Mapping[str, Choice]], Choices],
    cost: Callable[[Mapping[str, Choice]], int],
    sign: int,
) -> Choices:
    """The path of the largest (1) or smallest (-1) cost that changing one decision cannot pass.

    Args:
        values: of every decision, by name.
        path: the decisions that exist under a value for every one.
    """
    genes = {name: every[-1 if sign > 0 else 0] for name, every in values.items()}

    def worth(changed: Mapping[str, Choice]) -> int:
        return sign * cost(path({**genes, **changed}))

    while True:
        before = dict(genes)
        for name, every in values.items():
            best = max(every, key=lambda v, name=name: worth({name: v}))  # type: ignore[misc]
            if worth({name: best}) > worth({}):
                genes[name] = best
        if genes == before:
            return path(genes)


__all__ = ["Choice", "Choices", "extreme", "key_of", "made", "values_of"]
