"""A supernet written by hand, with the interface of the generated ones."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nasdsl.runtime.activation import At
from nasdsl.runtime.operators.mixed import mix
from nasdsl.runtime.supernet import SupernetBase
from nasdsl.runtime.topology import incidence, subsets

SOURCES = ("a", "b", "c", "d")


class ToyVariables(nn.Module):
    """Four edges with two operations each into one node that picks two."""

    def __init__(self) -> None:
        super().__init__()
        self.op = nn.Parameter(1e-3 * torch.randn(4, 3))
        self.inputs = nn.Parameter(torch.zeros(6))
        self.register_buffer("inputs_rows", incidence(4, 2, 2), persistent=False)

    def forward(self, at: At) -> dict[str, tuple[Tensor, ...]]:
        op = torch.softmax(self.op, -1)
        m = torch.softmax(self.inputs / at.temperature, -1) @ self.inputs_rows  # type: ignore[operator]
        return {f"edge{i}": (op[i] * m[i]).unbind() for i in range(4)}


def _decisions(topology: bool) -> tuple[dict[str, Any], ...]:
    edges = [
        {
            "path": f"op[{s}]",
            "kind": "op",
            "options": ("wide", "narrow"),
            "when": (("inputs", s),),
            "owner": "",
            "parameter": "op",
            "row": i,
            "entries": ("wide", "narrow", "nothing"),
            "none": 2,
            "absent": None,
            "sum": "n",
        }
        for i, s in enumerate(SOURCES)
    ]
    inputs = {
        "path": "inputs",
        "kind": "inputs",
        "options": SOURCES,
        "when": None,
        "owner": "",
        "parameter": "inputs" if topology else None,
        "row": None,
        "entries": tuple(tuple(SOURCES[i] for i in c) for c in subsets(4, 2, 2)),
        "none": None,
        "edges": {s: f"op[{s}]" for s in SOURCES},
        "high": 2,
        "node": "n",
        "role": "inputs" if topology else None,
        "rows": "inputs_rows",
    }
    return (inputs, *edges)


class ToySupernet(SupernetBase):
    """(B, 5) to (B, 3)."""

    OWNERS: ClassVar = {"": "network"}
    DECISIONS: ClassVar = _decisions(topology=True)

    def __init__(self) -> None:
        super().__init__()
        self.variables = nn.ModuleDict({"network": ToyVariables()})
        self.wide = nn.ModuleList(nn.Linear(5, 5) for _ in SOURCES)
        self.narrow = nn.ModuleList(nn.Linear(5, 5, bias=False) for _ in SOURCES)
        self.noise = nn.Dropout(0.1)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.mixing()[""]
        total = torch.zeros_like(x)
        for i in range(4):
            outputs = [torch.tanh(self.wide[i](x)), self.narrow[i](x), torch.zeros_like(x)]
            total = total + mix(weights[f"edge{i}"], outputs)
        logits: Tensor = self.head(self.noise(total))
        return logits


class ToyDarts(ToySupernet):
    """The same without topology variables, derived by DARTS's rule."""

    DECISIONS: ClassVar = _decisions(topology=False)


def batch(seed: int, size: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, 5, generator=generator), torch.randint(0, 3, (size,), generator=generator)
