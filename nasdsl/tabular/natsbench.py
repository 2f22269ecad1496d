"""NATS-Bench and NAS-Bench-201 through their authors' own package.

Takes the path of the benchmark's folder (`NATS-tss-v1_0-3ffb9-simple`, which is read architecture by
architecture) or of its file (`NATS-tss-v1_0-3ffb9.pickle.pbz2`, read as a whole), returns a `Table` whose
metrics are named `DATASET/SET-FIGURE/EPOCHS`, such as `cifar10-valid/valid-accuracy/200ep`. Invariant: the
package `nats_bench` is imported when such a table is opened and never else; a figure is the mean over all
runs of an architecture (`is_random=False`).

The benchmark's files are pickles: **opening one runs what is in it.** The checksum of a file is compared
before it is opened; a folder has none.

Written against nats_bench 1.8 and run with that package over archives that the tests make in its format.
It was not run on the benchmark's own files, which were not to be had. Two things are taken from them on
trust: which sets a data set has (from the package's `ArchResults.get_metrics`), and that architectures of the
size space are written `64:64:64:64:64` (from the benchmark's published search code).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import attrs

from nasdsl.errors import UserError
from nasdsl.space.checked import CheckedSpace
from nasdsl.tabular.keys import Keys
from nasdsl.tabular.reading import file_digest, require
from nasdsl.tabular.table import Ranked, Request, Table

PACKAGE = "nats_bench"
_FIGURES = ("accuracy", "loss", "per-time", "all-time")
_SETS: Mapping[str, tuple[str, ...]] = {
    "cifar10-valid": ("train", "valid", "test"),
    "cifar10": ("train", "test"),
    "cifar100": ("train", "valid", "test", "valtest"),
    "ImageNet16-120": ("train", "valid", "test", "valtest"),
}
_EPOCHS: Mapping[str, Mapping[str, str]] = {
    "tss": {"200ep": "200", "12ep": "12"},
    "sss": {"90ep": "90", "12ep": "12", "1ep": "01"},
}
"""The search spaces of the package, with the training schedules of each and what the package calls them."""
_FILES = {"tss": "NATS-tss-v1_0-3ffb9", "sss": "NATS-sss-v1_0-50262"}
_DAMAGE = (
    *(AssertionError, AttributeError, EOFError, ImportError, IndexError, KeyError),
    *(OSError, TypeError, UnpicklingError, ValueError),
)
"""What comes of reading something else than the benchmark's pickles with the package."""
_WIDTHS = frozenset(range(8, 65, 8))


class Api(Protocol):
    """What is used of the package's API objects."""

    def __len__(self) -> int: ...

    def arch(self, index: int) -> str: ...

    def get_more_info(
        self, index: Any, dataset: str, iepoch: int | None = None, hp: str = "12", is_random: bool = True
    ) -> Mapping[str, Any]: ...


def open_natsbench(request: Request) -> Table:
    """Opens the benchmark.

    Raises:
        UserError: NAS005 without the file, NAS601 for one that is damaged, NAS602 for one with another checksum,
            NAS604 without the package, or for a space that the benchmark does not have.
    """
    which = _search_space(request.space)
    path = Path(request.path)
    name = f"natsbench:{request.path}"
    if not path.exists():
        raise UserError.plain(
            "NAS005",
            f"there is no file or folder {request.path}",
            help=f"get {_FILES[which]}-simple.tar, linked in the README of github.com/D-X-Y/NATS-Bench, and unpack it",
        )
    digest = _digest(path, request.sha256)
    with _explained(request.path):
        api: Api = _package().create(str(path), which, fast_mode=path.is_dir(), verbose=False)
    keys = Keys(request.space)
    rows = {}
    for number in range(len(api)):
        try:
            rows[keys.of_choices(_choices(keys, api.arch(number)))] = api.arch(number)
        except UserError as error:
            raise UserError.plain(
                "NAS601",
                f"{name} holds `{api.arch(number)}`, which is no architecture of space "
                f"`{request.space.name}`: {error.diagnostics[0].message}",
                help="load the space as it comes with nasdsl: `nasbench201` or `nats_size`",
            ) from None
    metrics = tuple(
        f"{dataset}/{part}-{figure}/{epochs}"
        for dataset, parts in _SETS.items()
        for part in parts
        for figure in _FIGURES
        for epochs in _EPOCHS[which]
    )
    notes = ("a figure is the mean over all runs of an architecture",)
    return NatsBench(keys, name, metrics, digest, notes, request.metric, rows=rows, api=api, which=which)


@attrs.define(eq=False, slots=False, kw_only=True)
class NatsBench(Ranked):
    """The rows of one of the two search spaces.

    Attributes:
        rows: key to the text by which the package knows the architecture.
        which: `tss` or `sss`.
    """

    rows: Mapping[str, str] = attrs.field(repr=False)
    api: Api = attrs.field(repr=False)
    which: str
    _read: dict[tuple[str, str, str], Mapping[str, Any]] = attrs.field(factory=dict, init=False, repr=False)

    def keys(self) -> Collection[str]:
        return self.rows.keys()

    def value(self, key: str, metric: str) -> float | None:
        dataset, figure, epochs = metric.split("/")
        if key not in self.rows:
            return None
        value = self._results(self.rows[key], dataset, _EPOCHS[self.which][epochs]).get(figure)
        return float(value) if isinstance(value, (int, float)) else None

    def _results(self, text: str, dataset: str, hp: str) -> Mapping[str, Any]:
        asked = (text, dataset, hp)
        if asked not in self._read:
            with _explained(self.name):
                try:
                    self._read[asked] = self.api.get_more_info(text, dataset, hp=hp, is_random=False)
                except KeyError:  # this architecture was not trained on this data set, or not so long
                    self._read[asked] = {}
        return self._read[asked]


def _search_space(space: CheckedSpace) -> str:
    if space.notation == "nasbench201":
        return "tss"
    decisions = space.table.decisions
    if len(decisions) == 5 and all(d.numbers and set(d.numbers) <= _WIDTHS for d in decisions):
        return "sss"
    raise UserError.plain(
        "NAS604",
        f"NATS-Bench has no results for space `{space.name}`",
        help="it has them for `nasbench201` (cells) and `nats_size` (five widths)",
    )


def _choices(keys: Keys, text: str) -> Mapping[str, Any]:
    """The choices of what the package calls an architecture."""
    if not re.fullmatch(r"\d+(:\d+)*", text):
        return keys.choices(text)
    return dict(zip((d.path for d in keys.space.table.decisions), text.split(":"), strict=False))


def _digest(path: Path, wanted: str | None) -> str | None:
    if not path.is_dir():
        digest = file_digest(str(path))
        require(str(path), digest, wanted)
        return digest
    if wanted is not None:
        raise UserError.plain(
            "NAS602",
            f"{path} is a folder: it has no checksum",
            help="check the archive that it came from, or name the benchmark's file, which ends in .pickle.pbz2",
        )
    return None


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """What the package raises for a file that it cannot read, as a user's mistake."""
    try:
        yield
    except _DAMAGE as error:
        raise UserError.plain(
            "NAS601",
            f"{PACKAGE} cannot read {path}: {type(error).__name__}: {error}",
            help="get the benchmark's file again, or its folder, as its README says",
        ) from None


def _package() -> Any:
    try:
        return import_module(PACKAGE)
    except ModuleNotFoundError as error:
        if error.name != PACKAGE:
            raise
        raise UserError.plain(
            "NAS604",
            f"tables `natsbench:` are read by the package {PACKAGE}, which is not installed",
            help=f"pip install {PACKAGE}; or write the columns that you need to a CSV file",
        ) from None
