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
from nasdsl.exporting.inherited import RECORD, Inherited, inherited
from nasdsl.records import read_record

if TYPE_CHECKING:
    from torch import nn

    from nasdsl.api import Program, Space
    from nasdsl.space.architecture import Architecture

TRAINED_FORM = "as it is trained"
SEARCHED_FORM = "as the supernet computes it"
_STATISTICS = (
    "Statistics of batch norm are those of the search, of all architectures that it mixed or drew: what the "
    "network reaches alone shows after training it on, or after a pass over training data in training mode."
)


@attrs.frozen
class Carried:
    """A network with its weights, and what the card says of them.

    Attributes:
        source: the text of its class.
        origin: sentences: where the weights come from.
        form: which of the two forms of an architecture it is.
        mean, std: of the data that it was trained on, a value for each channel or feature; None where unknown.
        accuracy: on the test set, 0 to 1, and on how many examples; None where unknown.
    """

    module: nn.Module
    source: str
    origin: tuple[str, ...]
    form: str = TRAINED_FORM
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    accuracy: tuple[float, int] | None = None


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

    What lies beside it (`result.json`, the lock of the run, the record of a search) says what they reached.

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
    origin = [f"Those of the file `{path.name}` (SHA-256 {digest})."]
    result, lock, record = (_beside(path, name) for name in ("result.json", "nasdsl.lock", RECORD))
    statistics = record or result
    accuracy = None
    if result:
        key = "last_step_accuracy" if path.stem == "last_step" else "test_accuracy"
        if key in result:
            accuracy = (float(result[key]), int(result["examples"]))
        origin.append(_trained(lock))
    elif record:
        origin += ["They are those of a supernet, not trained on since.", _STATISTICS]
    return Carried(
        net,
        space.model_source(arch),
        tuple(origin),
        mean=_numbers(statistics.get("mean")),
        std=_numbers(statistics.get("std")),
        accuracy=accuracy,
    )


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


def _trained(lock: Mapping[str, Any]) -> str:
    """What the lock of a training says of it, as a sentence."""
    known = _words(lock, data="on", epochs="epochs", seed="seed")
    return f"Trained by retrain.py: {', '.join(known)}." if known else "Trained by retrain.py."


def _words(lock: Mapping[str, Any], **names: str) -> list[str]:
    """Arguments of a run that its lock names, each behind its word."""
    arguments = lock.get("arguments")
    if not isinstance(arguments, dict):
        return []
    return [f"{word} {arguments[name]}" for name, word in names.items() if arguments.get(name) is not None]


def _beside(path: Path, name: str) -> dict[str, Any]:
    """The record of a name beside a file; {} where there is none."""
    try:
        found: dict[str, Any] = read_record(path.parent / name, dict)
    except (OSError, ValueError):
        return {}
    return found


def _numbers(values: Any) -> tuple[float, ...] | None:
    numbers = isinstance(values, list) and all(type(v) in (int, float) for v in values)
    return tuple(float(v) for v in values) if numbers and values else None


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
        made = inherited(program, arch, load_file(folder / "supernet.safetensors"))
    except (RuntimeError, SafetensorError, OSError):
        raise UserError.plain(
            "NAS802",
            f"the weights of {folder} are not those of this supernet",
            help="compile and search anew",
        ) from None
    found = _beside(folder / "inherited" / RECORD, RECORD)
    method = program.compilation.method.name
    known = _words(_beside(folder / "nasdsl.lock", "nasdsl.lock"), data="on", seed="seed")
    search = ", ".join(("a search", f"method `{method}`", *known))
    origin = (
        f"Those that the supernet of {search} has for this architecture; not trained on since.",
        _STATISTICS,
        *made.words,
    )
    if made.searched is not None and not made.same:
        text = search_source(program.compilation, arch)[0].source
        carried = Carried(made.searched, text, origin, SEARCHED_FORM)
    elif made.network is not None:
        carried = Carried(made.network, program.model_source(arch), origin)
    else:
        raise InternalError(f"export: neither form of {arch.to_json()} takes the weights of its supernet")
    return attrs.evolve(carried, mean=_numbers(found.get("mean")), std=_numbers(found.get("std")))


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
