"""The weights of one architecture, cut out of a supernet and compared with it.

Takes a compiled program, an architecture and the supernet's weights; returns networks and writes files of a run.
Invariant: what is cut out computes what the supernet computes at that architecture, or it is an error and nothing
is written; where the supernet has no such point, or the trained form is another, that is said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from nasdsl.api import Program
from nasdsl.errors import InternalError, UserError
from nasdsl.exporting.equality import FLOAT64, difference, inputs
from nasdsl.space.architecture import Architecture

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nasdsl.runtime.standalone.data import Data

FOLDER, RECORD = "inherited", "record.json"


@attrs.frozen
class Inherited:
    """One architecture with weights of a supernet.

    Attributes:
        network: in the form of `model.py`, float32, in evaluation mode.
        searched: in the form in which the supernet computes it; None where it cannot be cut out.
        difference: the largest difference of `searched` and the supernet at the architecture, in float64; None
            where the supernet has no such point.
        uncompared: why it has none, or "".
        same: whether `network` computes what `searched` computes.
        fresh: tensors of `model.py` that the supernet has nothing for: they begin as new ones do.
        left: tensors of `searched` that `model.py` has no place for.
    """

    network: nn.Module
    searched: nn.Module | None
    difference: float | None
    uncompared: str
    same: bool
    fresh: tuple[str, ...]
    left: tuple[str, ...]

    @property
    def words(self) -> str:
        """What was compared and what is inherited, in a sentence or two."""
        if self.difference is None:
            said = f"Not compared with the supernet, which has no such point: {self.uncompared}."
        else:
            said = f"The supernet at this architecture and the network cut out of it differ by {self.difference:.0e}."
        if self.same:
            return f"{said} `model.py` computes the same."
        form = "`model.py` normalises in another way than the supernet and does not compute the same"
        lists = [
            f"{len(names)} {what} ({names[0]}{', ...' if len(names) > 1 else ''})"
            for names, what in (
                (self.fresh, "of its tensors begin fresh"),
                (self.left, "of the supernet's have no place in it"),
            )
            if names
        ]
        return f"{said} {form}: {'; '.join(lists)}." if lists else f"{said} {form}."


def inherited(program: Program, arch: Architecture, weights: Mapping[str, torch.Tensor]) -> Inherited:
    """One architecture with the weights of a supernet of this program.

    Args:
        weights: the state dict of the supernet, on any device.

    Raises:
        InternalError: the network does not compute what the supernet computes.
    """
    # In float64, so that what differs is a mistake and not rounding; float32 weights come back as they were.
    net = program.supernet().double()
    net.load_state_dict(weights)
    net.eval()
    examples = inputs(_shape(program, arch), next(net.parameters()).dtype, (2,))
    searched, why = _searched(program, arch, net)
    far = None
    if searched is not None:
        try:
            net.set_architecture(arch.choices)
        except ValueError as problem:
            why = str(problem)
        else:
            far = difference(net, searched, examples)
            if far > FLOAT64:
                raise InternalError(
                    f"export: the network of {arch.to_json()} and the supernet of method "
                    f"`{program.compilation.method.name}` differ by {far:.1e} with the same weights"
                )
    own = program.network(arch, inherit=net)
    same = searched is not None and difference(searched, own, examples) <= FLOAT64
    fresh, left = ((), ()) if searched is None else _unmatched(program, arch, own, searched)
    return Inherited(own.float(), None if searched is None else searched.float(), far, why, same, fresh, left)


def _shape(program: Program, arch: Architecture) -> tuple[int, ...]:
    return tuple(d.settle(arch.choices).evaluate({}) for d in program.space.checked.input.dims)


def _searched(program: Program, arch: Architecture, net: nn.Module) -> tuple[nn.Module | None, str]:
    """The network in the form of the search, or None and why there is none."""
    try:
        return program.network(arch, inherit=net, form="search"), ""
    except UserError as problem:
        if problem.diagnostics[0].code != "NAS504":
            raise
        return None, problem.diagnostics[0].message


def _unmatched(
    program: Program, arch: Architecture, own: nn.Module, searched: nn.Module
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tensors that only one of the two forms has, by the operation they belong to."""
    from nasdsl.compiler import network_source, search_source

    mine = _tensors(own, network_source(program.space.checked, arch)[1])
    theirs = _tensors(searched, search_source(program.compilation, arch)[1])
    fresh = tuple(name for key, name in mine.items() if key not in theirs)
    return fresh, tuple(name for key, name in theirs.items() if key not in mine)


def _tensors(net: nn.Module, homes: Mapping[tuple[str, ...], Any]) -> dict[tuple[str, ...], str]:
    """Every tensor of every operation: the operation's key and the tensor's own name, to its name in the network."""
    names = list(net.state_dict())
    return {
        (*key, name.removeprefix(f"{home.path}.")): name
        for key, home in homes.items()
        for name in names
        if name.startswith(f"{home.path}.")
    }


def write_inherited(
    folder: Path, program: Program, found: Mapping[str, Any], net: nn.Module, data: Data
) -> Inherited:
    """Writes `inherited/weights.safetensors` of a run, in the names of `model.py`, and what is to be known of it.

    Args:
        folder: of the run.
        found: the choices that the search ended in.
        net: the supernet, as the search leaves it.
        data: what it was trained on.

    Raises:
        InternalError: as `inherited`; nothing is written then.
    """
    from nasdsl.runtime.standalone.training import save_weights

    made = inherited(program, program.architecture(found), net.state_dict())
    target = folder / FOLDER
    target.mkdir(exist_ok=True)
    save_weights(made.network, target)
    record = {
        "difference": made.difference,
        "uncompared": made.uncompared,
        "same_as_model": made.same,
        "fresh": made.fresh,
        "left": made.left,
        "mean": data.mean.flatten().tolist(),
        "std": data.std.flatten().tolist(),
    }
    (target / RECORD).write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return made


__all__ = ["FOLDER", "RECORD", "Inherited", "inherited", "write_inherited"]
