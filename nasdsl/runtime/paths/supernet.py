"""A supernet that runs one path at a time.

Takes the plain data that the compiler writes beside the class (decisions, tables of sizes); returns
logits of the path that is set. Invariant: setting a path writes two dictionaries and nothing else: no
tensor is made, no module is built, nothing is compiled; what the path does not choose does not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from nasdsl.runtime.operators.elastic import Elastic
from nasdsl.runtime.paths.choices import Choice, Choices, made, values_of


def total(terms: Sequence[Tensor]) -> Tensor:
    """The sum of tensors, from the first to the last: the order in which a network of its own adds them."""
    found = terms[0]
    for term in terms[1:]:
        found = found + term
    return found


class Path:
    """What is chosen at the moment.

    Attributes:
        at: decision to option or chosen inputs; decisions that are not made under the path have any value.
        sizes: key to integer, of everything whose size depends on decisions.
    """

    def __init__(self) -> None:
        self.at: Choices = {}
        self.sizes: dict[str, int] = {}


class PathSupernet(nn.Module):
    """Base of the class `Supernet` in a generated `supernet.py` of a method of single paths.

    Class attributes, written by the compiler:
        DECISIONS: one mapping a decision, in table order, with `path`, `kind` (op, inputs, number),
            `options`, `low` and `high` (how many inputs), `numbers` and `when` (None, or alternatives of
            (decision, option) pairs that must all have been taken).
        SIZES: key to (decisions, values): a table over the values of decisions, the last one fastest.
        RESOLUTION: the key of the side of the input image, where a decision settles it, or "".
    """

    DECISIONS: ClassVar[tuple[Mapping[str, Any], ...]] = ()
    SIZES: ClassVar[Mapping[str, tuple[tuple[str, ...], tuple[Any, ...]]]] = {}
    RESOLUTION: ClassVar[str] = ""

    path: Path

    def bind(self) -> None:
        """Gives every module the path of the supernet; the generated `__init__` ends with it."""
        self.path = Path()
        self._tables = _tables(self.DECISIONS, self.SIZES)
        for module in self.modules():
            if isinstance(module, Elastic):
                module.sizes = self.path.sizes
            elif type(module).__annotations__.get("path") in (Path, "Path"):  # a user's `path` is the user's
                module.__dict__["path"] = self.path
        self.set_architecture({d["path"]: values_of(d)[0] for d in self.DECISIONS})

    def set_architecture(self, architecture: Any) -> None:
        """Sets the path.

        Args:
            architecture: a mapping from decision to option or inputs, or an `Architecture`. Decisions
                that it leaves out are those that it does not make.

        Raises:
            ValueError: an unknown decision or option; the path is then as it was.
        """
        given = getattr(architecture, "choices", architecture)
        at: Choices = {}
        for decision in self.DECISIONS:
            values = values_of(decision)
            chosen = given.get(decision["path"], values[0])
            chosen = tuple(chosen) if isinstance(chosen, Sequence) and not isinstance(chosen, str) else chosen
            if chosen not in values:
                raise ValueError(f"{decision['path']}: there is no {chosen!r}")
            at[decision["path"]] = chosen
        unknown = [name for name in given if name not in at]
        if unknown:
            raise ValueError(f"there is no decision {unknown[0]!r}")
        self.path.at.update(at)
        for key, table in self._tables.items():
            self.path.sizes[key] = table.at(at)

    def derive(self) -> Choices:
        """The path that is set: the decisions that it makes."""
        return made(self.DECISIONS, self.path.at)

    def weight_parameters(self) -> list[nn.Parameter]:
        """All parameters: there are no architecture variables."""
        return list(self.parameters())

    def architecture_parameters(self) -> list[nn.Parameter]:
        """None: paths are drawn, not learned."""
        return []

    @property
    def resolution(self) -> int | None:
        """The side of the input image under the path; None where no decision settles it."""
        return self.path.sizes[self.RESOLUTION] if self.RESOLUTION else None

    def fit(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) at the resolution of the path (bilinear, antialiased: as images are read)."""
        side = self.resolution
        if side is None or x.shape[-1] == side:
            return x
        return F.interpolate(x, (side, side), mode="bilinear", antialias=True)


class _Table:
    """An integer (or truth) for every combination of some decisions."""

    def __init__(self, axes: Sequence[tuple[str, Sequence[Choice]]], values: Sequence[Any]) -> None:
        self.axes = [(path, len(choices), {c: i for i, c in enumerate(choices)}) for path, choices in axes]
        self.values = values

    def at(self, choices: Mapping[str, Choice]) -> Any:
        index = 0
        for path, count, places in self.axes:
            index = index * count + places[choices[path]]
        return self.values[index]


def _tables(
    decisions: Sequence[Mapping[str, Any]], sizes: Mapping[str, tuple[tuple[str, ...], tuple[Any, ...]]]
) -> dict[str, _Table]:
    values = {d["path"]: values_of(d) for d in decisions}
    return {key: _Table([(p, values[p]) for p in paths], table) for key, (paths, table) in sizes.items()}


__all__ = ["Path", "PathSupernet", "total"]
