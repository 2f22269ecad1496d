"""What every generated supernet can do.

Takes the plain data that the compiler writes beside the class (decisions, their
variables, the rule of derivation); returns parameters, architectures and views.
Invariant: weight and architecture parameters are disjoint and together all; an
architecture that is set is the architecture that is derived.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Union

import torch
from torch import Tensor, nn

from nasdsl.runtime.topology import NodeTopology

Choices = dict[str, Union[str, tuple[str, ...]]]

_OFF = -1e4
"""A logit that no softmax sees beside 0: exp(-1e4) is exactly zero in every precision."""


class SupernetBase(nn.Module):
    """Base of the class `Supernet` in a generated `supernet.py`.

    Class attributes, written by the compiler:
        OWNERS: owner of decisions (a cell's name; "" for the network) to its key in `variables`.
        DECISIONS: one mapping a decision, in table order, with `path`, `kind`, `options`,
            `when` and, where it has variables, `owner`, `parameter`, `row`, `entries`.
        LIFTED: choices of inputs that stand for `none` options of the space.
    """

    OWNERS: ClassVar[Mapping[str, str]] = {}
    DECISIONS: ClassVar[tuple[Mapping[str, Any], ...]] = ()
    LIFTED: ClassVar[tuple[Mapping[str, Any], ...]] = ()

    variables: nn.ModuleDict
    temperature: float = 1.0
    """Temperature of the topology distributions; the search loop sets it every epoch."""

    def mixing(self) -> dict[str, dict[str, Tensor]]:
        """The weights of every mixed operation, by owner and by vector, from the variables."""
        # A few numbers: autocast would save nothing and round the marginals.
        with torch.autocast(next(self.variables.parameters()).device.type, enabled=False):
            return {owner: self.variables[key](self.temperature) for owner, key in self.OWNERS.items()}

    def architecture_parameters(self) -> list[nn.Parameter]:
        """Operation and topology variables."""
        return list(self.variables.parameters())

    def weight_parameters(self) -> list[nn.Parameter]:
        """Everything else that is learned."""
        architecture = {id(p) for p in self.architecture_parameters()}
        return [p for p in self.parameters() if id(p) not in architecture]

    def logits(self, decision: Mapping[str, Any]) -> Tensor:
        """The variables of a decision, shape (entries,)."""
        parameter: Tensor = getattr(self.variables[self.OWNERS[decision["owner"]]], decision["parameter"])
        return parameter if decision["row"] is None else parameter[decision["row"]]

    # --- architectures -------------------------------------------------------

    def set_architecture(self, architecture: Any) -> None:
        """Sets all variables to the one-hot point of an architecture.

        Args:
            architecture: a mapping from decision to option or inputs, or an
                `Architecture`, whose `choices` are one.

        Raises:
            ValueError: the relaxation has no such point (a node without inputs
                where `none` was lifted; an edge that cannot be switched off).
        """
        lifted = self._lift(getattr(architecture, "choices", architecture))
        on = self._edges(lifted)
        with torch.no_grad():
            for decision in self.DECISIONS:
                if decision.get("parameter") is None:
                    continue
                logits = self.logits(decision)
                entry = self._entry(decision, lifted, on)
                logits.fill_(0.0 if entry is None else _OFF)
                if entry is not None:
                    logits[entry] = 0.0

    def _entry(self, decision: Mapping[str, Any], choices: Choices, on: Mapping[str, bool]) -> int | None:
        """The entry that is one; None leaves the variables uniform, where nothing reads them."""
        path = decision["path"]
        entries = list(decision["entries"])
        if decision["kind"] == "inputs":
            return entries.index(tuple(choices[path])) if path in choices else None
        if on.get(path, True):
            return entries.index(choices[path]) if path in choices else None
        if decision["none"] is not None:
            return int(decision["none"])
        if self._weighed(path):
            return None
        raise ValueError(
            f"{path}: this supernet always takes this edge; compile with none=true to search over it"
        )

    def _edges(self, choices: Choices) -> dict[str, bool]:
        """For every edge under a choice of inputs, whether the architecture takes it."""
        on = {}
        for decision in self.DECISIONS:
            if decision["kind"] == "inputs":
                for source, edge in decision["edges"].items():
                    if edge is not None:
                        on[edge] = source in choices.get(decision["path"], ())
        return on

    def _weighed(self, edge: str) -> bool:
        """Whether topology variables switch an edge."""
        return any(
            d["kind"] == "inputs" and d.get("parameter") is not None and edge in d["edges"].values()
            for d in self.DECISIONS
        )

    def derive(self) -> Choices:
        """The architecture that the variables point at, in the decisions of the space.

        Operations by the largest variable, an added `none` excluded. Inputs from the
        most probable combination where there are topology variables (never from the
        largest marginals, which do not determine it); otherwise the `k` inputs whose
        strongest operation is strongest (DARTS, section 2.4).
        """
        choices: Choices = {}
        for decision in self.DECISIONS:
            if decision["kind"] == "op":
                logits = self._values(decision)
                kept = [i for i in range(len(logits)) if i != decision["none"]]
                choices[decision["path"]] = decision["entries"][max(kept, key=lambda i: logits[i])]
        for decision in self.DECISIONS:
            if decision["kind"] == "inputs":
                choices[decision["path"]] = self._inputs(decision)
        return self._restore(self._active(choices))

    def _values(self, decision: Mapping[str, Any]) -> list[float]:
        values: list[float] = self.logits(decision).detach().double().cpu().tolist()
        return values

    def _inputs(self, decision: Mapping[str, Any]) -> tuple[str, ...]:
        if decision.get("parameter") is not None:
            logits = self._values(decision)
            best = max(range(len(logits)), key=lambda i: logits[i])
            return tuple(decision["entries"][best])
        by_path = {d["path"]: d for d in self.DECISIONS}
        strength = []
        for source in decision["options"]:
            edge = by_path[decision["edges"][source]]
            p = torch.softmax(self.logits(edge).detach().double(), -1).tolist()
            strength.append(max(v for i, v in enumerate(p) if i != edge["none"]))
        order = sorted(range(len(strength)), key=lambda i: -strength[i])[: decision["high"]]
        return tuple(decision["options"][i] for i in sorted(order))

    def _active(self, choices: Choices) -> Choices:
        """Only the decisions that exist under the choices made before them."""
        kept: Choices = {}
        for decision in self.DECISIONS:
            when = decision["when"]
            if when is None or any(_happened(kept.get(path), option) for path, option in when):
                kept[decision["path"]] = choices[decision["path"]]
        return kept

    def _lift(self, choices: Mapping[str, str | tuple[str, ...]]) -> Choices:
        """An architecture of the space in the decisions of this relaxation."""
        lifted: Choices = {k: v if isinstance(v, str) else tuple(v) for k, v in choices.items()}
        for item in self.LIFTED:
            taken = tuple(source for source, op, none in item["edges"] if lifted.get(op) != none)
            if not taken:
                raise ValueError(f"{item['decision']}: a node without any input is outside this relaxation")
            lifted[item["decision"]] = taken
            for source, op, _ in item["edges"]:
                if source not in taken:
                    del lifted[op]
        return lifted

    def _restore(self, choices: Choices) -> Choices:
        restored = dict(choices)
        for item in self.LIFTED:
            taken = restored.pop(item["decision"], ())
            restored.update({op: none for source, op, none in item["edges"] if source not in taken})
        return restored

    # --- views ---------------------------------------------------------------

    def topology(self) -> list[NodeTopology]:
        """The nodes that have topology variables, in table order; empty for other methods."""
        found = []
        for decision in self.DECISIONS:
            if decision["kind"] == "inputs" and decision.get("parameter") is not None:
                variables = self.variables[self.OWNERS[decision["owner"]]]
                found.append(
                    NodeTopology(
                        name=decision["node"],
                        owner=decision["owner"],
                        logits=getattr(variables, decision["parameter"]),
                        incidence=getattr(variables, decision["rows"]),
                        sources=tuple(decision["options"]),
                    )
                )
        return found


def _happened(value: str | tuple[str, ...] | None, option: str) -> bool:
    return value == option if isinstance(value, str) or value is None else option in value
