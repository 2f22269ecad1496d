"""Exporting one network.

Takes a space, an architecture, weights and a path; writes files and their card. Invariant: everything is written into
a folder beside, run again there and compared with the network in this process, and only then moved into place: a file
that computes something else is never left behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Union

import attrs

from nasdsl.api import Space
from nasdsl.diagnostics import did_you_mean
from nasdsl.errors import UserError
from nasdsl.exporting.card import Written, arch_shape
from nasdsl.exporting.card import card as write_card
from nasdsl.exporting.equality import FLOAT32, difference, inputs, is_finite
from nasdsl.exporting.formats import FORMATS, Format, Network, weights_of
from nasdsl.exporting.places import move, refuse_taken, refuse_weights_beside, targets_of
from nasdsl.exporting.weights import Carried, fresh, from_file, from_module, from_run
from nasdsl.space.architecture import Architecture

if TYPE_CHECKING:
    from torch import nn

    Source = Union[str, Path, int, nn.Module]

CARD = "MODEL.md"


@attrs.frozen
class Exported:
    """What was written.

    Attributes:
        files: in the order of the formats; the weights of a Python file follow it.
        card: its path; None where none was asked for.
        differences: by format, the largest difference of its outputs and the network's.
    """

    files: tuple[Path, ...]
    card: Path | None
    differences: dict[str, float]


def export(
    space: Space,
    arch: Architecture,
    path: str | Path,
    *,
    format: str | Sequence[str] = "py",
    weights: Source | None = None,
    card: str | Path | None = CARD,
    licence: str | None = None,
    allow_python: bool = False,
) -> Exported:
    """Writes one network as files that need nothing of this package, and a card that says what it is.

    Args:
        path: of the file; every format has its own suffix, which is added or takes the place of another's.
        format: "py" (source, and weights as safetensors beside it), "onnx", "pt2", or several of them.
        weights: a file of weights of `model.py`, the folder of a run whose search has ended (its supernet's
            weights for this architecture), a module, or an integer, the seed of fresh ones. None for source alone.
        card: where the card goes, a relative path as seen from the folder of `path`; None for none.
        licence: a name that the card states.
        allow_python: whether the space of a run may import what its `use python` names.

    Raises:
        UserError: NAS801 for what cannot be exported, would be written over what it is made of or over a file of a
            run, or differs when it is run again; NAS802 for weights of another network, or that are no finite
            numbers; NAS005 for files that cannot be read or written; NAS607 for a run that cannot be used.
    """
    target = Path(path)
    wanted = _formats([format] if isinstance(format, str) else list(format))
    if isinstance(weights, bool):
        raise UserError.plain(
            "NAS801", f"weights={weights} is no seed", help="a seed is an integer, such as 0"
        )
    if weights is None and [f.name for f in wanted] != ["py"]:
        raise UserError.plain(
            "NAS801",
            f"format {next(f.name for f in wanted if f.name != 'py')} holds weights, and none were named",
            help="a file of weights, the folder of a run, or a seed for fresh ones",
        )
    for each in wanted:
        each.ready()
    targets = targets_of(target, wanted, weights is not None)
    page = None if card is None else target.parent / card
    refuse_taken(targets, page, weights)
    arch = space.architecture(arch.choices)
    carried = None if weights is None else _carried(space, arch, weights, allow_python)
    if carried is None:
        refuse_weights_beside(targets["py"][0], space.model_source(arch))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".export-", dir=target.parent) as folder:
            files = _made(
                space, arch, carried, {FORMATS[n]: Path(folder) / p[0].name for n, p in targets.items()}
            )
            text = None if page is None else write_card(space, arch, carried, files, licence)
            paths = tuple(target.parent / f.name for f in files)
            move([Path(folder) / f.name for f in files], paths, text, page)
    except OSError as problem:
        raise UserError.plain(
            "NAS005", f"{target} cannot be written: {problem.strerror or problem}"
        ) from None
    return Exported(paths, page, {f.format.name: f.difference for f in files if f.difference is not None})


def _formats(names: Sequence[str]) -> list[Format]:
    if not names:
        raise UserError.plain("NAS801", "no format is named", help=f"formats: {', '.join(FORMATS)}")
    for name in names:
        if name not in FORMATS:
            raise UserError.plain(
                "NAS801",
                f"there is no format `{name}`{did_you_mean(name, FORMATS)}",
                help=f"formats: {', '.join(FORMATS)}",
            )
    return [FORMATS[name] for name in dict.fromkeys(names)]


def _carried(space: Space, arch: Architecture, weights: Source, allow_python: bool) -> Carried:
    if isinstance(weights, int):
        return fresh(space, arch, weights)
    if not isinstance(weights, (str, Path)):
        return from_module(space, arch, weights)
    path = Path(weights)
    if not path.is_dir():
        return from_file(space, arch, path)
    from nasdsl.exporting.runs import program_of

    program = program_of(path, allow_python)
    if program.space.fingerprint != space.fingerprint:
        raise UserError.plain(
            "NAS802",
            f"{path} searched `{program.space.name}` (fingerprint {program.space.fingerprint}), which is not "
            f"`{space.name}` ({space.fingerprint})",
            help="give the space.nas of the compiled directory, with the parameters that it was compiled with",
        )
    return from_run(program, arch, path)


def _made(
    space: Space, arch: Architecture, carried: Carried | None, wanted: Mapping[Format, Path]
) -> list[Written]:
    """Writes every format to its path and compares it; the weights of a Python file follow it."""
    if carried is None:
        ((form, path),) = wanted.items()
        path.write_text(space.model_source(arch), "utf-8", newline="\n")
        return [_written(path, form, None)]
    network = _network(space, arch, carried)
    files: list[Written] = []
    for form, path in wanted.items():
        far = _checked(form, network, path)
        files.append(_written(path, form, far))
        if form.name == "py":
            files.append(_written(weights_of(path), form, far))
    return files


def _network(space: Space, arch: Architecture, carried: Carried) -> Network:
    import torch

    module, shape = carried.module.float().cpu().eval(), arch_shape(space, arch)
    if not is_finite(module, inputs(shape, torch.float32)):
        raise UserError.plain(
            "NAS802",
            "the network has no outputs that could be compared: its weights, or all that it computes, are no finite "
            "numbers",
            help="take weights of before the training diverged",
        )
    facts = {
        "space": space.name,
        "fingerprint": space.fingerprint,
        "architecture": arch.to_json(),
        "weights": " ".join(carried.origin),
    }
    return Network(module, carried.source, shape, facts)


def _checked(each: Format, network: Network, path: Path) -> float:
    """Writes a network, runs the file, returns the largest difference. Raises UserError (NAS801)."""
    import torch

    try:
        each.write(network, path)
        far = difference(network.module, each.reads(path), inputs(network.shape, torch.float32))
    except OSError:
        raise
    except Exception as problem:  # noqa: BLE001 - exporters fail in many ways on operations that they do not know
        said = str(problem).strip().splitlines() or [type(problem).__name__]
        raise UserError.plain(
            "NAS801",
            f"this network cannot be written as {each.name} and run again: {said[0]}",
            help="an operation from Python may be what it cannot follow; `--format py` writes any network",
        ) from None
    if not far <= FLOAT32:
        raise UserError.plain(
            "NAS801",
            f"{path.name} was written, run again, and differs from the network by {far:.1e} (at most {FLOAT32:.0e}): "
            "it was removed",
            help="the exporter or the runtime of this version computes it in another way: `--format py` is exact",
        )
    return far


def _written(path: Path, each: Format, far: float | None) -> Written:
    content = path.read_bytes()
    return Written(path.name, each, len(content), sha256(content).hexdigest(), far)


__all__ = ["CARD", "Exported", "export"]
