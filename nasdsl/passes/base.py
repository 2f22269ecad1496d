"""The contract of a pass.

Takes a module at its source stage, returns a new module at its target stage.
Invariant: the module is valid before and after, not necessarily during; a pass
never knows which method asked for it.

A pass that can say what it did is a `Rewriter` as well: `rewrite` is the same function with a
log. `nasdsl compile --explain` compares the modules where a pass says nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol, runtime_checkable

import attrs

from nasdsl.ir.graph import Graph, Module, Stage
from nasdsl.ir.nodes import AnyNode
from nasdsl.passes.log import Log


class Pass(Protocol):
    """A frozen attrs class: its fields are its settings, calling it runs it."""

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[Stage]
    target: ClassVar[Stage]
    exact: ClassVar[bool]
    """Whether outputs and all gradients stay the same function (rewrites within a stage)."""
    optimises: ClassVar[bool]
    """Whether it only changes how the supernet is computed: architectures are cut out of what was before."""

    def __call__(self, module: Module) -> Module: ...


@runtime_checkable
class Rewriter(Protocol):
    """A pass that says what it did: calling it is `rewrite` with a log that nobody reads."""

    def rewrite(self, module: Module, log: Log) -> Module: ...


class GraphRewrite(ABC):
    """What passes over supernets have in common that take one graph at a time and tell what they did."""

    source: ClassVar[Stage] = Stage.RELAXED
    target: ClassVar[Stage] = Stage.RELAXED
    optimises: ClassVar[bool] = True

    def __call__(self, module: Module) -> Module:
        return self.rewrite(module, Log())

    def rewrite(self, module: Module, log: Log) -> Module:
        """The pass, telling what it did."""
        return module.map(lambda graph: self.graph(graph, log))

    @abstractmethod
    def graph(self, graph: Graph, log: Log) -> Graph:
        """One graph rewritten."""


class Rename:
    """Substitutes operand ids while a graph is rebuilt from front to back."""

    def __init__(self) -> None:
        self._to: dict[str, str] = {}

    def set(self, old: str, new: str) -> None:
        self._to[old] = self(new)

    def __call__(self, name: str) -> str:
        return self._to.get(name, name)

    def all(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(self(n) for n in names)

    def node(self, node: AnyNode) -> AnyNode:
        """The node reading the new names; itself where nothing it reads was renamed."""
        renamed = self.all(node.operands)
        return node if renamed == node.operands else attrs.evolve(node, operands=renamed)
