"""Where the weights of what is exported come from.

Takes a space, an architecture and a seed, a file, a module or the folder of a run; returns a network with what is
known of its weights. Invariant: what is not known is not said; a file or a run of another network is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from nasdsl.errors import InternalError, UserError
from nasdsl.exporting.card import arch_shape
from nasdsl.exporting.claims import STATISTICS, Claims, claims_of, of_the_run
from nasdsl.exporting.inherited import Inherited, inherited

if TYPE_CHECKING:
    from torch import nn

    from nasdsl.api import Program, Space
    from nasdsl.space.architecture import Architecture

TRAINED_FORM = "as it is trained"
SEARCHED_FORM = "as the supernet computes it"


@attrs.frozen
class Carried:
    """A network with its weights, and what the card says of them.

    Attributes:
        source: the text of its class.
        origin: sentences: where the weights come from.
        form: which of the two forms of an architecture it is.
        mean, std: of the data that it was trained on, a value for each channel or feature; None where unknown.
        accuracy: on the test set, 0 to 1, and on how many examples; None where unknown.
        notes: what was done to the data before, such as resizing.
    """

    module: nn.Module
    source: str
    origin: tuple[str, ...]
    form: str = TRAINED_FORM
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    accuracy: tuple[float, int] | None = None
    notes: tuple[str, ...] = ()


def fresh(space: Space, arch: Architecture, seed: int) -> Carried:
    """New weights."""
    net = space.network(arch, seed=seed)
    return Carried(
        net, space.model_source(arch), (f"Fresh ones of seed {seed}: the network is not trained.",)
    )


def from_module(space: Space, arch: Architecture, module: nn.Module) -> Carried:
    """The weights of a module that has the tensors of `model.py`. Raises UserError (NAS802)."""
    net = space.network(arch)
    try:
        net.load_state_dict(_plain(module.state_dict()))
    except RuntimeError as problem:
        lines = str(problem).splitlines()
        raise UserError.plain(
            "NAS802", f"the module has not the tensors of this architecture: {lines[-1].strip()}"
        ) from None
    return Carried(net, space.model_source(arch), ("Those of a module that was given.",))


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """Without the auxiliary head, which runs in training only."""
    return {name: tensor for name, tensor in state.items() if not name.startswith("auxiliary")}


def from_file(space: Space, arch: Architecture, path: Path) -> Carried:
    """The weights of a file, as retrain.py or a search of single paths wrote it.

    What the run around it says of it (`nasdsl.exporting.claims`) is on the card, too.

    Raises:
        UserError: NAS802 for a file that cannot be read, or is of another network.
    """
    from nasdsl.runtime.standalone.basics import Mistake

    net = space.network(arch)
    try:
        _load(net, path)
    except Mistake as problem:
        other = "is of another network" in str(problem)
        cure = "the architecture and the parameters of the space must be those that the weights are of"
        raise UserError.plain("NAS802", str(problem), help=cure if other else None) from None
    digest = sha256(path.read_bytes()).hexdigest()
    known = claims_of(path, arch_shape(space, arch)[0])
    origin = (f"Those of the file `{path.name}` (SHA-256 {digest}).", *known.words)
    return _with(Carried(net, space.model_source(arch), origin), known)


def _with(carried: Carried, known: Claims) -> Carried:
    return attrs.evolve(carried, mean=known.mean, std=known.std, accuracy=known.accuracy, notes=known.notes)


def _load(net: nn.Module, path: Path) -> None:
    """Fills a network from a file, whose auxiliary head is left behind. Raises Mistake."""
    from nasdsl.runtime.standalone.training import load_weights, read_weights

    headed = net
    if any(name.startswith("auxiliary") for name in read_weights(path)):
        with contextlib.suppress(
            ValueError
        ):  # a network that has no place for a head is not that of the file
            headed = type(net)(auxiliary=True)
    load_weights(headed, path)
    net.load_state_dict(_plain(headed.state_dict()))


def from_run(program: Program, arch: Architecture, folder: Path) -> Carried:
    """The weights that the supernet of a run has for an architecture, batch norm as the search left it.

    The form is that of `model.py` where it computes what the supernet computes, else that of the supernet.

    Raises:
        UserError: NAS802 for weights of another supernet.
        InternalError: what was cut out computes something else than the supernet.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from nasdsl.compiler import search_source

    try:
        state = load_file(folder / "supernet.safetensors")
        program.supernet().load_state_dict(state)
    except (RuntimeError, SafetensorError, OSError):
        raise UserError.plain(
            "NAS802",
            f"the weights of {folder} are not those of this supernet",
            help="compile and search anew",
        ) from None
    made = inherited(program, arch, state)
    known = of_the_run(folder, arch_shape(program.space, arch)[0])
    search = ", ".join(("a search", f"method `{program.compilation.method.name}`", *known.words))
    origin = (
        f"Those that the supernet of {search} has for this architecture; not trained on since.",
        STATISTICS,
        *made.words,
    )
    if made.searched is not None and not made.same:
        text = search_source(program.compilation, arch)[0].source
        carried = Carried(made.searched, text, origin, SEARCHED_FORM)
    elif made.network is not None:
        carried = Carried(made.network, program.model_source(arch), origin)
    else:
        raise InternalError(f"export: neither form of {arch.to_json()} takes the weights of its supernet")
    return _with(carried, known)


__all__ = [
    "SEARCHED_FORM",
    "TRAINED_FORM",
    "Carried",
    "Inherited",
    "fresh",
    "from_file",
    "from_module",
    "from_run",
]
