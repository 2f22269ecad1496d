"""What scores architectures, and how a worker process opens it.

Takes plain data (`Recipe`), returns a `Source`. Invariant: a recipe is picklable and says everything, so
that any process opens the same source from it; two scores may be compared exactly when the identities of
their sources are equal; higher is better.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from nasdsl.errors import UserError
from nasdsl.ranking.searched import Options, Searched, open_run
from nasdsl.space.architecture import check_choices
from nasdsl.space.decisions import Choice

if TYPE_CHECKING:
    from nasdsl.api import Space
    from nasdsl.tabular import Table

Choices = Mapping[str, Choice]
CONTROLS = ("params", "macs")
"""Scores that cost nothing: what any other has to beat."""


class Source(Protocol):
    """Scores of one space's architectures."""

    @property
    def name(self) -> str:
        """In a few words, for people."""
        ...

    @property
    def looked_up(self) -> bool:
        """Whether a score is there already: then each encoding has its own, as a table says it, and none is kept."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """What two scores that may be compared have in common, as JSON has it: checksums, data, seeds."""
        ...

    def score(self, choices: Choices) -> float:
        """Higher is better; minus infinity for a network that cannot be told anything of.

        Raises:
            UserError: NAS608, or what else is wrong with this architecture.
        """
        ...


class Kind(Protocol):
    """The plain data of a source."""

    def prepared(self, space: Space) -> Kind:
        """The same with what is read once and needed by every worker."""
        ...

    def open(self, space: Space) -> Source:
        """The source; nothing that takes long is done before the first score."""
        ...


@attrs.frozen
class Recipe:
    """What a worker needs.

    Attributes:
        file: a `.nas` file, or the name of a shipped space.
        kind: one of this room's, or a user's own that can be pickled.
        params: of the space.
    """

    file: str
    kind: Kind
    params: Mapping[str, Any] = attrs.field(factory=dict)
    allow_python: bool = False

    def space(self) -> Space:
        """The space. Raises UserError as `nasdsl.load`."""
        from nasdsl.opening import load

        return load(self.file, allow_python=self.allow_python, **self.params)

    def prepared(self, space: Space) -> Recipe:
        """The recipe that workers are given. Raises UserError for what cannot be read."""
        return attrs.evolve(self, kind=self.kind.prepared(space))

    def open(self, space: Space | None = None) -> Source:
        """The source, of a space that is loaded already or of the file's."""
        return self.kind.open(self.space() if space is None else space)


def unscored(message: str, help: str) -> UserError:
    """An architecture, or all of them, without a score."""
    return UserError.plain("NAS608", message, help=help)


@attrs.frozen
class CostScores:
    """A control: `params` or `macs`, the more the better."""

    measure: str

    def prepared(self, space: Space) -> CostScores:
        return self

    def open(self, space: Space) -> Source:
        return _Costs(self.measure, space)


class _Costs:
    looked_up = True

    def __init__(self, measure: str, space: Space) -> None:
        self.name, self._costs = measure, space.costs(measure)

    def identity(self) -> Mapping[str, Any]:
        return {"cost": self.name}

    def score(self, choices: Choices) -> float:
        return float(self._costs.at(choices))


@attrs.frozen
class TableScores:
    """A column of a table of results, as `Space.table` opens it; its sign is turned where lower is better."""

    table: str
    metric: str | None = None

    def prepared(self, space: Space) -> TableScores:
        return self

    def open(self, space: Space) -> Source:
        """Raises UserError (NAS005, NAS601 to NAS604)."""
        return _Looked(space.table(self.table, self.metric))


class _Looked:
    looked_up = True

    def __init__(self, table: Table) -> None:
        self._table, spread = table, table.spread()
        self._metric, self._sign = spread.metric, -1.0 if spread.better == "lower" else 1.0
        self.name = f"{spread.metric} of {table.name}, {spread.better} is better"

    def identity(self) -> Mapping[str, Any]:
        return {"table": self._table.digest or self._table.name, "metric": self._metric}

    def score(self, choices: Choices) -> float:
        value = self._table.look_up(choices)[self._metric]
        if value is None:
            raise UserError.plain(
                "NAS603",
                f"table {self._table.name} does not know its {self._metric}",
                help="`nasdsl benchmark` says what a table covers",
            )
        return self._sign * value


@attrs.frozen
class RunScores:
    """The accuracy with the weights of a supernet whose search has ended: of any method.

    The supernet may be of a larger space with the same decisions: its own table says what it can express.
    """

    directory: str
    run: str = "runs/0"
    options: Options = attrs.field(factory=Options)
    allow_python: bool = False

    def prepared(self, space: Space) -> RunScores:
        return self

    def open(self, space: Space) -> Source:
        """Raises UserError (NAS005, NAS607)."""
        return _Inherited(open_run(self.directory, self.run, self.options, self.allow_python))


class _Inherited:
    looked_up = False

    def __init__(self, searched: Searched) -> None:
        self._searched = searched
        self._judge: Callable[[Choices], float] | None = None
        self.name = f"inherited accuracy of {searched.folder}"

    def identity(self) -> Mapping[str, Any]:
        return {"run": self._searched.space.fingerprint, **self._searched.identity}

    def score(self, choices: Choices) -> float:
        choices = check_choices(self._searched.space.checked.table, choices)
        if self._judge is None:
            self._judge = self._opened()
        return self._judge(choices)

    def _opened(self) -> Callable[[Choices], float]:
        from nasdsl.runtime.standalone.basics import Mistake

        try:
            # Notes on the data are no part of what a verb prints.
            with contextlib.redirect_stdout(sys.stderr):
                return self._searched.judge()
        except Mistake as mistake:
            raise unscored(str(mistake), "--data and --data-dir say where the run's data are") from None


def digest_of_file(path: str) -> str | None:
    """The SHA-256 of a small file; None for anything else."""
    file = Path(path)
    try:
        if not file.is_file() or file.stat().st_size > 64 << 20:
            return None
        return sha256(file.read_bytes()).hexdigest()
    except (OSError, ValueError):
        return None


__all__ = [
    "CONTROLS",
    "Choices",
    "CostScores",
    "Kind",
    "Recipe",
    "RunScores",
    "Source",
    "TableScores",
    "digest_of_file",
    "unscored",
]
