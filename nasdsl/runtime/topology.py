"""Topology."""

from __future__ import annotations

import attrs
from torch import Tensor, nn


@attrs.frozen(eq=False)
class NodeTopology:
    name: str
    owner: str
    logits: nn.Parameter
    incidence: Tensor
    sources: tuple[str, ...]
