"""Views of operation variables: which rows of which parameter, and which of them one node sums.

Takes nothing, returns plain views. Invariant: every choice of an operation of a supernet is one
`Row` of one `Group`; rows of one kind and owner share a parameter, which is the matrix that the
literature calls alpha (one for each kind of cell).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Union

import attrs
from torch import Tensor, nn

Matrices = Mapping[nn.Parameter, Tensor]
"""One tensor for each parameter, of its shape (R, K): weights, a projection, a dual variable."""

Alive = Mapping[nn.Parameter, Union[Tensor, None]]
"""Which entries have not been pruned, boolean (R, K); None where nothing is ever pruned."""


@attrs.frozen(eq=False)
class Row:
    """The variables of one choice of an operation.

    Attributes:
        path: of the decision, `normal.n[1].op[a]`.
        parameter: shape (R, K); the row is `parameter[index]`, shape (K,).
        entries: names of the K entries.
        none: the entry that stands for no connection and is no option of an architecture, or None.
        edge: where a softmax weighs the edges that compete, its variables, shape (n,), and which of them
            is this row's; else None.
        macs: multiply-accumulates of each entry for one example, in all places that the decision is about;
            empty where they are not known.
    """

    path: str
    parameter: nn.Parameter
    index: int
    entries: tuple[str, ...]
    none: int | None = None
    edge: tuple[nn.Parameter, int] | None = None
    macs: tuple[int, ...] = ()


@attrs.frozen(eq=False)
class Group:
    """Choices of operations whose results one node sums.

    Attributes:
        name: of the node, `n[1]`.
        owner: the cell whose variables they are.
        keep: how many of the rows an architecture keeps, the strongest ones (DARTS: 2); None where it
            keeps all of them, or where topology variables choose.
        optional: whether a row may end without any operation because its weights are small: the space
            has a `none` that has no entry here (NAS-Bench-201 under the clipped activation). Of all rows,
            or of each.
    """

    name: str
    owner: str
    rows: tuple[Row, ...]
    keep: int | None = None
    optional: bool | tuple[bool, ...] = False

    def may_end(self, row: int) -> bool:
        """Whether a row is optional."""
        return self.optional if isinstance(self.optional, bool) else self.optional[row]


def parameters_of(groups: Iterable[Group]) -> list[nn.Parameter]:
    """The matrices, each once, in order."""
    found = {id(row.parameter): row.parameter for group in groups for row in group.rows}
    return list(found.values())
