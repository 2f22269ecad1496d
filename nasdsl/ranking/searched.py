"""A search that has ended, opened again: the accuracy of any architecture with its inherited weights.

Takes a compiled directory and the folder of a run, returns a `Searched`. Invariant: what is judged is the
supernet that the run trained, on the held-out part of the data that the run held out, with batch norm
recalibrated for every architecture; the weights are never written to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from nasdsl.api import Program
from nasdsl.codegen.lock import read_lock
from nasdsl.errors import UserError
from nasdsl.opening import compiled_again, space_of
from nasdsl.records import check, is_plain
from nasdsl.space.decisions import Choice
from nasdsl.tabular.reading import file_digest
from nasdsl.verifying.meaning import same_program
from nasdsl.verifying.record import names_code, read_run

if TYPE_CHECKING:
    from nasdsl.api import Space

CALIBRATION = 200
"""Training batches for the batch norm of an architecture, of methods without a setting for it."""
_SEEDS = 1 << 63
_AGAIN = "run `python search.py` in the directory to its end; with --restart if it was compiled anew"


@attrs.frozen
class Options:
    """What may be other than in the run; None takes what the run had.

    Attributes:
        data: as `--data` of `search.py`.
        calibration_batches: training batches for batch norm; 0 takes the statistics of the search.
        judging_batches: held-out batches; 0 for all.
    """

    data: str | None = None
    data_dir: str = "data"
    calibration_batches: int | None = None
    judging_batches: int | None = None
    device: str = "auto"
    workers: int = 2


@attrs.frozen(slots=False)
class Searched:
    """A supernet with the weights of a run.

    Attributes:
        run: what the run said of itself: its seed, its data and every setting.
        weights: SHA-256 of the supernet's weights.
    """

    program: Program
    folder: Path
    run: Mapping[str, Any]
    weights: str
    options: Options

    @property
    def space(self) -> Space:
        return self.program.space

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings that an accuracy depends on."""
        found = {"calibration_batches": CALIBRATION, "judging_batches": 0, **self.run}
        given = {"name": self.options.data, **attrs.asdict(self.options)}
        for name in ("name", "calibration_batches", "judging_batches"):
            if given[name] is not None:
                found[name] = given[name]
        return found

    @property
    def identity(self) -> dict[str, Any]:
        """What two accuracies that may be compared have in common."""
        names = ("name", "seed", "batch_size", "train_fraction", "calibration_batches", "judging_batches")
        return {"weights": self.weights, **{n: self.settings[n] for n in names if n in self.settings}}

    def judge(self) -> Callable[[Mapping[str, Choice]], float]:
        """A function from choices to accuracy, 0 to 1.

        It raises UserError: NAS504 for an architecture that is no point of the supernet, NAS405 for one outside
        the sub-space that was searched.

        Raises:
            UserError: NAS607 for a run that names code as its data, or whose weights cannot be used.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from nasdsl.runtime.search.ranking import Inherited, streams
        from nasdsl.runtime.standalone import basics

        if self.options.data is None:
            _refuse_code(self.folder, str(self.run.get("name", "")))
        device = basics.pick_device(self.options.device)
        space = self.space.checked
        declared = (space.input.layout, *_largest(space))
        data, notes = streams(
            self.settings, declared, space.classes, self.options.data_dir, self.options.workers, device
        )
        for note in notes:
            print(f"data: {note}")
        net = self.program.supernet()
        try:
            net.load_state_dict(load_file(self.folder / "supernet.safetensors"))
        except (RuntimeError, SafetensorError, OSError, ValueError):
            raise unusable(self.folder, "its weights are not those of this supernet") from None
        net = net.to(device)

        def alone(choices: Mapping[str, Choice]) -> Any:
            return self.program.network(choices, inherit=net, form="search").to(device)

        def cast() -> Any:
            return basics.autocast(device, self.run.get("precision", "fp32"))

        inherited = Inherited(net, alone, *data, cast)

        def accuracy(choices: Mapping[str, Choice]) -> float:
            if self.space.subspace is not None:
                self.program.architecture(choices)
            try:
                return inherited.accuracy(choices)
            except ValueError as error:
                raise UserError.plain("NAS504", f"the supernet has no such point: {error}") from None

        return accuracy


def open_run(
    directory: str | Path, run: str | Path, options: Options, allow_python: bool = False
) -> Searched:
    """Opens a run of a compiled directory.

    Raises:
        UserError: NAS005 for what is no compiled directory, NAS607 for a run that has not ended or is
            not of this supernet.
    """
    home = Path(directory)
    program = _compiled(home, allow_python)
    folder = home / run
    weights = folder / "supernet.safetensors"
    if not weights.exists():
        what = "its search has not ended" if (folder / "checkpoint.pt").exists() else "there is no run"
        raise unusable(folder, what)
    digest = _ended(folder, weights)
    identity = _identity(folder)
    theirs = home / "supernet.py"
    if not same_program(program.files()["supernet.py"], _text(theirs)):
        raise unusable(folder, "this version of nasdsl writes another supernet.py than the one there")
    if identity.get("space") != program.space.fingerprint:
        raise unusable(folder, "it searched another space")
    if identity.get("subspace", "") != program.space.within_digest:
        raise unusable(folder, "it searched another sub-space")
    if identity.get("supernet") != file_digest(str(theirs))[:16]:
        raise unusable(folder, "it searched another supernet.py than the one there")
    return Searched(program, folder, _checked(folder, identity, program), digest, options)


def _ended(folder: Path, weights: Path) -> str:
    """The SHA-256 of the supernet's weights, which the run must have finished: a run that was begun anew in its
    folder may not have removed those of the run before.
    """
    try:
        known = read_run(folder).files.get(weights.name)
    except UserError as error:
        raise unusable(folder, error.diagnostics[0].message) from None
    if known is None:
        raise unusable(folder, "its search has not ended")
    digest = file_digest(str(weights))
    if digest != known:
        raise unusable(folder, f"{weights.name} is not what the run wrote: it was changed or damaged")
    return digest


def unusable(folder: Path, why: str) -> UserError:
    """A run that cannot be used."""
    return UserError.plain("NAS607", f"{folder} cannot be used: {why}", help=_AGAIN)


def _refuse_code(folder: Path, name: str) -> None:
    """A checkpoint is data: what it names is not imported and called unless the user names it, too."""
    if names_code(name):
        raise UserError.plain(
            "NAS607",
            f"{folder} names code as its data, `{name[:80]}`, which would be imported and called",
            help=f"if you trust it, name it, too: --data {name[:80]}",
        )


def _compiled(home: Path, allow_python: bool) -> Program:
    """The program that a directory was written from."""
    lock = read_lock(home)
    try:
        program = compiled_again(home, lock, allow_python)
    except UserError:
        _refuse_another(home, space_of(home, lock, allow_python).fingerprint, lock.fingerprint)
        raise
    _refuse_another(home, program.space.fingerprint, lock.fingerprint)
    if program.space.within_digest != lock.subspace:
        raise unusable(home, "subspace.json was changed since it was compiled")
    return program


def _refuse_another(home: Path, now: str, was: str) -> None:
    if now != was:
        raise unusable(home, "space.nas was changed since it was compiled")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError):
        raise unusable(path.parent, f"{path.name} cannot be read") from None


def _identity(folder: Path) -> dict[str, Any]:
    """What the checkpoint of a run says of it."""
    import torch

    found: Any
    try:
        found = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True, mmap=True)[
            "identity"
        ]
    except Exception:  # noqa: BLE001 - whatever is wrong with it
        found = {}
    if not isinstance(found, dict) or not found or not is_plain(found):
        raise unusable(folder, "its checkpoint.pt, which says how it was run, cannot be read")
    return found


def _checked(folder: Path, identity: dict[str, Any], program: Program) -> dict[str, Any]:
    """What a checkpoint says of a run, each value one that its script would have taken."""
    from nasdsl.runtime.paths.settings import PATH_RULES
    from nasdsl.runtime.search.settings import SEARCH_RULES

    found = dict(identity)
    name = "seed"
    try:
        check(identity, {"seed": int, "precision?": str, "limit_batches?": (int, type(None))})
        if not 0 <= identity["seed"] < _SEEDS:
            raise ValueError("it must be from 0 to 2**63 - 1")
        name, limit = "limit_batches", identity.get("limit_batches")
        if limit is not None and limit < 1:
            raise ValueError("it must be at least 1")
        for name, rule in (PATH_RULES if program.compilation.switched else SEARCH_RULES).items():
            found[name] = rule.read(identity.get(name))
    except ValueError as error:
        why = f"what its checkpoint.pt says of `{name}` no search takes ({error})"
        raise unusable(folder, why) from None
    return found


def _largest(space: Any) -> tuple[int, ...]:
    from nasdsl.codegen.sizes import largest

    return tuple(largest(d) for d in space.input.dims)


__all__ = ["Options", "Searched", "open_run", "space_of", "unusable"]
