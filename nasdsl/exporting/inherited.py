"""The weights of one architecture, cut out of a supernet and compared with it.

Takes a compiled program, an architecture and the supernet's weights; returns networks and writes files of a run.
Invariant: what is cut out computes what the supernet computes at that architecture, or it is an error and nothing
is written; where the supernet has no such point, or the trained form is another, that is said.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
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
_TRAINED = "`model.py` of the run"


@attrs.frozen
class Inherited:
    """One architecture with weights of a supernet.

    Attributes:
        network: in the form of `model.py`, float32, in evaluation mode; None where it has other sizes than the
            supernet, so that nothing can be handed on.
        searched: in the form in which the supernet computes it; None where it cannot be cut out.
        difference: the largest difference of `searched` and the supernet at the architecture, in float64; None
            where the supernet has no such point.
        uncompared: why it has none, or "".
        same: whether `network` computes what `searched` computes.
        fresh: tensors of `model.py` that the supernet has nothing for: they begin as new ones do.
        left: tensors of `searched` that `model.py` has no place for.
        unfit: tensors of `model.py` that have another size in the supernet.
    """

    network: nn.Module | None
    searched: nn.Module | None
    difference: float | None
    uncompared: str
    same: bool
    fresh: tuple[str, ...]
    left: tuple[str, ...]
    unfit: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """What was compared and what is inherited, sentence by sentence."""
        if self.difference is None:
            first = not_compared(self.uncompared)
        else:
            # The figure itself differs from machine to machine; the record of a run has it.
            first = (
                "The network cut out of the supernet computes what the supernet computes at this architecture, "
                f"to {FLOAT64:.0e} in float64."
            )
        if self.network is None:
            return first, f"{_TRAINED} has other sizes ({_listed(self.unfit)}) and takes none of them."
        if self.searched is None:
            return first, f"What both have was handed on to {_TRAINED} by name."
        if self.same:
            return first, f"{_TRAINED} computes the same."
        return first, not_the_same(self.fresh, self.left)


def not_compared(why: str) -> str:
    """That the supernet has no such point."""
    return f"Not compared with the supernet, which has no such point: {why}."


def not_the_same(fresh: Sequence[str], left: Sequence[str]) -> str:
    """That `model.py` is another function than what the supernet computes; the tensors as of `Inherited`."""
    parts = [
        f"{what} {_listed(names)}"
        for names, what in ((fresh, "it begins afresh with"), (left, "it has no place for"))
        if names
    ]
    said = f": {', '.join(parts)}" if parts else ""
    return f"{_TRAINED} is normalised otherwise and does not compute the same{said}."


def shown(difference: float) -> str:
    """A difference as it is printed."""
    return f"{difference:.0e}" if difference else "0"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}"


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
    fresh, left, unfit = ((), (), ()) if searched is None else _unmatched(program, arch, searched)
    own = None if unfit else program.network(arch, inherit=net)
    same = searched is not None and own is not None and difference(searched, own, examples) <= FLOAT64
    for made in (own, searched):
        if made is not None:
            made.float()
    return Inherited(own, searched, far, why, same, fresh, left, unfit)


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
    program: Program, arch: Architecture, searched: nn.Module
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Tensors that only `model.py` has, that only the searched form has, and that have two sizes, by operation."""
    from nasdsl.compiler import network_source, search_source

    mine = _tensors(program.network(arch), network_source(program.space.checked, arch)[1])
    theirs = _tensors(searched, search_source(program.compilation, arch)[1])
    fresh = tuple(name for key, (name, _) in mine.items() if key not in theirs)
    left = tuple(name for key, (name, _) in theirs.items() if key not in mine)
    unfit = tuple(name for key, (name, size) in mine.items() if key in theirs and theirs[key][1] != size)
    return fresh, left, unfit


def _tensors(
    net: nn.Module, homes: Mapping[tuple[str, ...], Any]
) -> dict[tuple[str, ...], tuple[str, torch.Size]]:
    """Every tensor of every operation: the operation's key and the tensor's own name, to its name here and size."""
    state = net.state_dict()
    return {
        (*key, name.removeprefix(f"{home.path}.")): (name, tensor.shape)
        for key, home in homes.items()
        for name, tensor in state.items()
        if name.startswith(f"{home.path}.")
    }


def write_inherited(
    folder: Path, program: Program, found: Architecture, net: nn.Module, data: Data
) -> Path | None:
    """Writes the folder `inherited` of a run: weights in the names of `model.py`, and what is to be known of them.

    Args:
        folder: of the run.
        found: what the search ended in.
        net: the supernet, as the search leaves it.
        data: what it was trained on.

    Returns:
        The path of the weights; None where `model.py` can take none.

    Raises:
        InternalError: as `inherited`; nothing is written then.
    """
    from nasdsl.runtime.standalone.checkpoint import whole
    from nasdsl.runtime.standalone.training import save_weights

    made = inherited(program, found, net.state_dict())
    print("inherited weights:", *made.words)
    target = folder / FOLDER
    shutil.rmtree(target, ignore_errors=True)  # of a run that was begun anew
    target.mkdir()
    record = {
        "difference": made.difference,
        "uncompared": made.uncompared,
        "same_as_model": made.same,
        "fresh": made.fresh,
        "left": made.left,
        "unfit": made.unfit,
        "mean": data.mean.flatten().tolist(),
        "std": data.std.flatten().tolist(),
        "notes": list(data.done),
    }
    with whole(target / RECORD) as new:
        new.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return None if made.network is None else save_weights(made.network, target)


__all__ = [
    "FOLDER",
    "RECORD",
    "Inherited",
    "inherited",
    "not_compared",
    "not_the_same",
    "shown",
    "write_inherited",
]
