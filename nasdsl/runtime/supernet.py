"""What every generated supernet can do.

Takes the plain data that the compiler writes beside the class (decisions, their
variables, the rule of derivation); returns parameters, architectures and views.
Invariant: weight and architecture parameters are disjoint and together all; an
architecture that is set is the architecture that is derived.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import compress
from typing import Any, ClassVar, Union

import torch
from torch import Tensor, nn

from nasdsl.runtime.activation import At, Weights, mean_weights
from nasdsl.runtime.projection import picks
from nasdsl.runtime.rows import Group, Row, parameters_of
from nasdsl.runtime.standalone.draws import Draws
from nasdsl.runtime.topology import NodeTopology

Choices = dict[str, Union[str, tuple[str, ...]]]

_OFF = -1e4
"""A logit that no softmax sees beside 0: exp(-1e4) is exactly zero in every precision."""


class SupernetBase(nn.Module):
    """Base of the class `Supernet` in a generated `supernet.py`.

    Class attributes, written by the compiler:
        OWNERS: owner of decisions (a cell's name; "" for the network) to its key in `variables`.
        DECISIONS: one mapping a decision, in table order, with `path`, `kind`, `options`,
            `when` and, where it has variables, `owner`, `parameter`, `row`, `entries`. A choice of
            an operation also has `none` (an entry that is no option), `absent` (an option that is
            no entry), `sum` (the node that sums it), `skips` and `learnable` (options that hand on
            their input, or hold weights), `macs` of each entry; one of inputs `edges`, `always` (the sources that are
            there whatever their edge weighs), `node`, `high`, `role` (of its variables) and, over
            subsets, `rows`.
        LIFTED: choices of inputs that stand for `none` options of the space.
        ACTIVATION: how operation variables become weights (`nasdsl.runtime.activation`).
        SPARSE: whether candidates that do not run are left out.
    """

    ACTIVATION: ClassVar[str] = "softmax"
    SPARSE: ClassVar[bool] = False
    OWNERS: ClassVar[Mapping[str, str]] = {}
    DECISIONS: ClassVar[tuple[Mapping[str, Any], ...]] = ()
    LIFTED: ClassVar[tuple[Mapping[str, Any], ...]] = ()

    variables: nn.ModuleDict
    temperature: float = 1.0
    """Temperature of the topology distributions; the search loop sets it every epoch."""
    noise_temperature: float = 1.0
    """Temperature of noisy logits (gumbel, concrete); the search loop sets it every epoch."""
    random: bool = True
    """Whether activations that are drawn are drawn in training; evaluation takes their mean."""
    draws: Draws = Draws()
    """What of several processes draws the noise of variables alike."""

    def mixing(self) -> dict[str, dict[str, Weights]]:
        """The weights of every mixed operation, by owner and by vector, from the variables.

        Chance enters here and nowhere else: one draw serves all cells of a forward pass.
        """
        at = At(self.temperature, self.noise_temperature, self.random and self.training)
        # A few numbers: autocast would save nothing and round the marginals.
        kind = next(self.variables.parameters()).device.type
        with torch.autocast(kind, enabled=False), self.draws.agreed():
            return {owner: self.variables[key](at) for owner, key in self.OWNERS.items()}

    def architecture_parameters(self) -> list[nn.Parameter]:
        """Operation and topology variables."""
        return list(self.variables.parameters())

    def weight_parameters(self) -> list[nn.Parameter]:
        """Everything else that is learned."""
        architecture = {id(p) for p in self.architecture_parameters()}
        return [p for p in self.parameters() if id(p) not in architecture]

    def logits(self, decision: Mapping[str, Any]) -> Tensor:
        """The variables of a decision, shape (entries,)."""
        parameter = self._parameter(decision)
        return parameter if decision["row"] is None else parameter[decision["row"]]

    def alive(self, decision: Mapping[str, Any]) -> Tensor | None:
        """Which entries of a decision were not pruned, boolean (entries,); None where nothing is pruned."""
        found = self.pruned().get(self._parameter(decision))
        return found if found is None or decision["row"] is None else found[decision["row"]]

    @torch.no_grad()
    def prune(self) -> int:
        """Switches off for ever what the clipped activation weighs zero; returns how many entries are off.

        Their variables are set to zero, so that an optimiser's momentum cannot bring them back.
        """
        off = 0
        for parameter, alive in self.pruned().items():
            alive &= parameter > 0
            parameter.masked_fill_(~alive, 0.0)
            off += int((~alive).sum())
        return off

    # --- architectures -------------------------------------------------------

    def set_architecture(self, architecture: Any) -> None:
        """Sets all variables to the one-hot point of an architecture.

        Args:
            architecture: a mapping from decision to option or inputs, or an
                `Architecture`, whose `choices` are one.

        Raises:
            ValueError: the relaxation has no such point (a node without inputs
                where `none` was lifted; an edge that cannot be switched off; a pruned operation).
                The variables are then as they were.
        """
        lifted = self._lift(getattr(architecture, "choices", architecture))
        on = self._edges(lifted)
        with_variables = [d for d in self.DECISIONS if d.get("parameter") is not None]
        points = [self._point(d, lifted, on) for d in with_variables]
        with torch.no_grad():
            for decision, point in zip(with_variables, points, strict=True):
                logits = self.logits(decision)
                logits.copy_(logits.new_tensor(point))
            self._even_edges()

    def _point(self, decision: Mapping[str, Any], choices: Choices, on: Mapping[str, bool]) -> list[float]:
        """The variables of a decision at an architecture."""
        entries = decision["entries"]
        if decision["kind"] == "op" and self.ACTIVATION == "clipped":
            return self._clipped_point(decision, choices, on)
        if decision.get("role") == "edges":
            taken = choices.get(decision["path"], entries)
            return [0.0 if e in taken else _OFF for e in entries]
        entry = self._entry(decision, choices, on)
        return [0.0 if entry is None or i == entry else _OFF for i in range(len(entries))]

    def _clipped_point(
        self, decision: Mapping[str, Any], choices: Choices, on: Mapping[str, bool]
    ) -> list[float]:
        """One where an operation is chosen; an edge that is off has no weight at all."""
        path, weights = decision["path"], [0.0] * len(decision["entries"])
        chosen = choices.get(path)
        if not on.get(path, True) or chosen is None or chosen == decision["absent"]:
            return weights
        entry = decision["entries"].index(chosen)
        alive = self.alive(decision)
        if alive is not None and not alive[entry]:
            raise ValueError(f"{path}: {chosen} was pruned from this supernet")
        weights[entry] = 1.0
        return weights

    def _even_edges(self) -> None:
        """Edges that are weighed where nothing is chosen are all there, each alike."""
        known = {(d["owner"], d["parameter"]) for d in self.DECISIONS if d.get("parameter") is not None}
        for owner, key in self.OWNERS.items():
            for name, parameter in self.variables[key].named_parameters():
                if (owner, name) not in known:
                    parameter.zero_()

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
                taken = choices.get(decision["path"], ())
                for source, edge in decision["edges"].items():
                    if edge is not None:
                        on[edge] = source in taken
                        if not on[edge] and source in decision.get("always", ()):
                            raise ValueError(
                                f"{edge}: channels that go round its candidates are always there; "
                                "compile with topology=softmax or topology=subsets to switch them off too"
                            )
        return on

    def _weighed(self, edge: str) -> bool:
        """Whether topology variables switch an edge."""
        return any(
            d["kind"] == "inputs" and d.get("parameter") is not None and edge in d["edges"].values()
            for d in self.DECISIONS
        )

    def derive(self) -> Choices:
        """The architecture that the variables point at, in the decisions of the space.

        Operations by the largest weight, an added `none` excluded (`nasdsl.runtime.projection.picks`).
        Inputs from the most probable combination where there are topology variables (never from the
        largest marginals, which do not determine it); otherwise the `k` inputs whose strongest
        operation is strongest (DARTS, section 2.4), also where fewer than `k` have one that lives.
        """
        groups, alive = self.groups(), self.pruned()
        weights = {
            p: mean_weights(self.ACTIVATION, p.detach().double(), alive.get(p)) for p in parameters_of(groups)
        }
        by_path = {d["path"]: d for d in self.DECISIONS}
        choices: Choices = {}
        for group, picked in zip(groups, picks(groups, weights, alive), strict=True):
            ends = picked.ends.tolist()
            for row, entry, ended in zip(group.rows, picked.entries.tolist(), ends, strict=True):
                choices[row.path] = by_path[row.path]["absent"] if ended else row.entries[entry]
        rows = {row.path: row for group in groups for row in group.rows}
        for decision in self.DECISIONS:
            if decision["kind"] == "inputs":
                sources = decision["options"]
                if decision.get("role") == "inputs":
                    taken = decision["entries"][int(self.logits(decision).argmax())]
                elif decision["high"] >= len(sources):  # an input may have no operations
                    taken = sources
                else:  # one choice of an operation may be an edge of several nodes
                    edges = tuple(rows[decision["edges"][source]] for source in sources)
                    group = Group(decision["node"], decision["owner"], edges, decision["high"])
                    kept = picks([group], weights, alive)[0].taken.tolist()
                    taken = compress(sources, kept)
                choices[decision["path"]] = tuple(taken)
        return self._restore(self._active(choices))

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

    def lifted(self, architecture: Any) -> Choices:
        """An architecture of the space in the decisions of this relaxation.

        Raises:
            ValueError: it has no such point: a node without inputs where `none` was lifted.
        """
        return self._lift(getattr(architecture, "choices", architecture))

    def _restore(self, choices: Choices) -> Choices:
        restored = dict(choices)
        for item in self.LIFTED:
            if item["decision"] not in restored:
                continue  # nobody picked what the node is of
            taken = restored.pop(item["decision"])
            restored.update({op: none for source, op, none in item["edges"] if source not in taken})
        return restored

    # --- views ---------------------------------------------------------------

    def topology(self) -> list[NodeTopology]:
        """The nodes that have topology variables, in table order; empty for other methods."""
        found = []
        for decision in self.DECISIONS:
            if decision["kind"] == "inputs" and decision.get("role") == "inputs":
                variables = self.variables[self.OWNERS[decision["owner"]]]
                found.append(
                    NodeTopology(
                        name=decision["node"],
                        owner=decision["owner"],
                        logits=self._parameter(decision),
                        incidence=getattr(variables, decision["rows"]),
                        sources=tuple(decision["options"]),
                    )
                )
        return found

    def groups(self) -> list[Group]:
        """The choices of operations, those that one node sums together, in table order."""
        inputs = {
            path: (decision, decision["options"].index(source))
            for decision in self.DECISIONS
            if decision["kind"] == "inputs" and decision.get("role") != "inputs"
            for source, path in decision["edges"].items()
        }
        keep = {path: decision["high"] for path, (decision, _) in inputs.items()}
        found: dict[tuple[Any, Any], list[Mapping[str, Any]]] = {}
        for decision in self.DECISIONS:
            if decision["kind"] == "op" and decision.get("parameter") is not None:
                found.setdefault((decision["owner"], decision.get("sum")), []).append(decision)
        return [
            Group(
                name=str(name),
                owner=owner,
                rows=tuple(self._row(d, inputs.get(d["path"])) for d in decisions),
                keep=keep.get(decisions[0]["path"]),
                optional=tuple(d.get("absent") is not None for d in decisions),
            )
            for (owner, name), decisions in found.items()
        ]

    def _row(self, decision: Mapping[str, Any], edge: tuple[Mapping[str, Any], int] | None) -> Row:
        """The row of a choice of an operation; `edge` is the choice of inputs that it is an edge of, and which."""
        weighed = edge is not None and edge[0].get("role") == "edges"
        return Row(
            decision["path"],
            self._parameter(decision),
            decision["row"],
            decision["entries"],
            decision["none"],
            (self._parameter(edge[0]), edge[1]) if edge is not None and weighed else None,
            tuple(decision.get("macs", ())),
        )

    def _parameter(self, decision: Mapping[str, Any]) -> nn.Parameter:
        found: nn.Parameter = getattr(self.variables[self.OWNERS[decision["owner"]]], decision["parameter"])
        return found

    def pruned(self) -> dict[nn.Parameter, Tensor]:
        """For every matrix of operation variables that is pruned, which entries are left, boolean (R, K)."""
        found = {}
        for key in self.OWNERS.values():
            variables = self.variables[key]
            for name, parameter in variables.named_parameters():
                alive = getattr(variables, f"{name}_alive", None)
                if alive is not None:
                    found[parameter] = alive
        return found


def _happened(value: str | tuple[str, ...] | None, option: str) -> bool:
    return value == option if isinstance(value, str) or value is None else option in value
