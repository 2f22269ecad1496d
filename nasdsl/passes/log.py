"""What a pass did, one record a rewrite.

Takes records from passes, returns them in order. Invariant: a record only names nodes, those
that a rewrite took out of the graph that the pass was given and those that it put into the graph
that the pass returned; no node is named by two records of one pass. So what a rewrite saves is
counted from the two graphs (`nasdsl.codegen.explain`) and never stated by the pass.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs


@attrs.frozen
class Rewrite:
    """One rewrite of one graph.

    Attributes:
        rule: what was done, in a few words, alike wherever the same is done.
        graph: the graph's name.
        gone: ids of nodes of the graph before, which the rewrite replaced or changed.
        made: ids of nodes of the graph after, which stand in their place.
        steps: where one rewrite is several applications of rules in turn, a line for each.
    """

    rule: str
    graph: str
    gone: tuple[str, ...]
    made: tuple[str, ...]
    steps: tuple[str, ...] = ()


class Log:
    """Collects the rewrites of one run of a pass."""

    def __init__(self) -> None:
        self._rewrites: list[Rewrite] = []

    def add(
        self, rule: str, graph: str, gone: Iterable[str], made: Iterable[str], steps: Iterable[str] = ()
    ) -> None:
        """Notes a rewrite."""
        self._rewrites.append(Rewrite(rule, graph, tuple(gone), tuple(made), tuple(steps)))

    @property
    def rewrites(self) -> tuple[Rewrite, ...]:
        return tuple(self._rewrites)
