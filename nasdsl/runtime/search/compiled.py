"""Regional compilation: `torch.compile` for cells, one at a time.

Takes a supernet, changes its cells in place. Invariant: parameters, their names and the function
stay; cells of one class share one compiled function, which is specialised once for each set of
sizes and each sort of step.

The whole supernet as one region would take minutes to hours to compile; its cells repeat.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any

import torch
from torch import nn

from nasdsl.runtime.standalone.basics import Mistake
from nasdsl.runtime.supernet import SupernetBase

SORTS = 4
"""Forms of one cell: the weights' step, the variables' step, evaluation, and one to spare."""


def cells(net: SupernetBase) -> Iterator[nn.Module]:
    """The cells of a generated supernet that lie in no other cell, in order."""

    def walk(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            if child is net.variables:
                continue
            if type(child).__module__ == type(net).__module__:
                yield child
            else:
                yield from walk(child)

    return walk(net)


def refuse_sparse(net: SupernetBase) -> None:
    """Raises Mistake for a supernet that leaves candidates out: each choice would be compiled anew."""
    if net.SPARSE:
        raise Mistake(
            "--compile cannot serve this supernet: which candidates run changes, and each choice would be "
            "compiled anew; leave it out"
        )


def compile_cells(net: SupernetBase, backend: str | Callable[..., Any] = "inductor") -> int:
    """Compiles every cell on its first use; returns the number of classes.

    Shapes are taken as they are: a supernet meets few, and sizes that are known make better kernels.
    """
    # The compiler looks at `.grad` of what it is given; weights of operations are no leaves.
    warnings.filterwarnings("ignore", message=r"The \.grad attribute of a Tensor that is not a leaf")
    found = list(cells(net))
    # Beyond the limit a cell would silently run as it is.
    config: Any = torch._dynamo.config
    name = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    setattr(config, name, max(getattr(config, name), SORTS * len(found)))
    by_class: dict[type[nn.Module], Callable[..., Any]] = {}
    for cell in found:
        kind = type(cell)
        if kind not in by_class:
            by_class[kind] = torch.compile(kind.forward, backend=backend, dynamic=False)
        cell.forward = MethodType(by_class[kind], cell)
    return len(by_class)


__all__ = ["cells", "compile_cells", "refuse_sparse"]
