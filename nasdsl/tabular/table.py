"""What a table of results is, and what follows from its columns.

Takes columns of figures by architecture, returns look-ups and ranks. Invariant: ranks are among the
rows of the table whose figure is known, the best being 1 and equal figures having equal ranks; a regret
is never negative; a figure that is not known is None, never a number.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from statistics import median
from typing import Any, Literal, Protocol

import attrs

from nasdsl.diagnostics import did_you_mean
from nasdsl.errors import UserError
from nasdsl.space.architecture import Architecture
from nasdsl.space.checked import CheckedSpace
from nasdsl.tabular.keys import Keys

Choices = Architecture | Mapping[str, Any]
"""An architecture, or decision path to option or inputs, as `supernet.derive()` returns them."""
Better = Literal["higher", "lower"]

_LOWER = frozenset({"energy", "error", "flops", "latency", "loss", "macs", "parameters", "params", "time"})


def better(metric: str) -> Better:
    """Whether higher or lower is better, from the words of a metric's name: lower for a cost or an error."""
    return "lower" if _LOWER & set(re.findall(r"[a-z]+", metric.lower())) else "higher"


@attrs.frozen
class Best:
    """A row at the top of a table.

    Attributes:
        architecture: in the space's notation, or as JSON.
        rank: 1 is best; rows with the same value have the same rank.
    """

    metric: str
    value: float
    architecture: str
    rank: int = 1


@attrs.frozen
class Standing:
    """Where an architecture stands in a table.

    Attributes:
        value: None where the table does not know it; then `regret` and `rank` are None too.
        regret: how far from the table's best value, in the metric's units; 0 for the best.
        rank: 1 + the number of rows that are strictly better.
        size: the number of rows whose value is known: the rank is one of them.
        better: which way the metric goes.
    """

    metric: str
    value: float | None
    regret: float | None
    rank: int | None
    size: int
    better: Better

    def record(self) -> dict[str, float]:
        """What a log keeps of it; empty where the value is unknown."""
        found = {"true_value": self.value, "true_regret": self.regret, "true_rank": self.rank}
        return {name: float(value) for name, value in found.items() if value is not None}

    def __str__(self) -> str:
        if self.value is None or self.regret is None:
            return f"{self.metric}: not in the table"
        return f"{self.metric} {self.value:g}, regret {self.regret:.4g}, rank {self.rank:,} of {self.size:,}"


@attrs.frozen
class Spread:
    """The values of one metric over a table; `low`, `median`, `high` and `best` are None if none is known."""

    metric: str
    better: Better
    known: int
    low: float | None
    median: float | None
    high: float | None
    best: Best | None


@attrs.frozen
class Request:
    """What a kind of table is asked to open.

    Attributes:
        space: whose architectures are looked up.
        path: what stands behind `KIND:`, or the whole name of a file, without the checksum.
        sha256: the checksum that is required, 64 lower-case hexadecimal digits, or None.
        metric: the metric that is meant where none is named, or None.
    """

    space: CheckedSpace
    path: str
    sha256: str | None = None
    metric: str | None = None


class Table(Protocol):
    """Results by architecture.

    Where a method takes `metric`, None is the one that the table was opened with, or its only one.
    """

    @property
    def name(self) -> str:
        """As it was named when it was opened, without the checksum."""
        ...

    @property
    def digest(self) -> str | None:
        """The SHA-256 of its file, in hexadecimal digits; None where it is not one file."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know, such as columns that were left out."""
        ...

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of its figures, in its own order."""
        ...

    @property
    def metric(self) -> str | None:
        """The metric that is meant where none is named; None where one has to be named."""
        ...

    def __len__(self) -> int:
        """The number of rows."""
        ...

    def has(self, choices: Choices) -> bool:
        """Whether there is a row for an architecture. Raises UserError (NAS401) for one of another space."""
        ...

    def look_up(self, choices: Choices) -> Mapping[str, float | None]:
        """Every metric of an architecture, None where it is not known, as for one without a row.

        Raises:
            UserError: NAS401 for choices that are no architecture of the space.
        """
        ...

    def best(self, metric: str | None = None) -> Best:
        """The best row, the first of several. Raises UserError (NAS603) for a metric without any value."""
        ...

    def top(self, n: int, metric: str | None = None) -> tuple[Best, ...]:
        """The `n` best rows, best first, equal ones in the order of the table. Raises as `best`."""
        ...

    def standing(self, choices: Choices, metric: str | None = None) -> Standing:
        """Value, regret and rank of an architecture.

        Raises:
            UserError: NAS401 as `look_up`, NAS603 for a metric that the table does not have.
        """
        ...

    def spread(self, metric: str | None = None) -> Spread:
        """The values of a metric over all rows. Raises UserError (NAS603)."""
        ...

    def check(self, fits: Callable[[Mapping[str, Any]], object] | None = None) -> int:
        """Reads the architecture of every row and returns how many there are.

        Args:
            fits: called with the choices of every row, raises UserError for one that is refused;
                `Space.architecture` also refuses what is not within the limits of the space.

        Raises:
            UserError: NAS401, or NAS601 with its line, for a row that is no architecture of the space.
        """
        ...


@attrs.frozen
class _Column:
    """The known values of a metric, with its rows from best to worst and its values from low to high."""

    values: Mapping[str, float]
    ranked: Sequence[str]
    ascending: Sequence[float]

    def rank(self, value: float, way: Better) -> int:
        if way == "lower":
            return 1 + bisect_left(self.ascending, value)
        return 1 + len(self.ascending) - bisect_right(self.ascending, value)


@attrs.define(eq=False, slots=False)
class Ranked(ABC):
    """A table made from single figures: what a new kind of table derives from.

    A row is known by its key: the text of its architecture in the one form that `form` gives it.
    """

    form: Keys = attrs.field(repr=False)
    name: str
    metrics: tuple[str, ...]
    digest: str | None = None
    notes: tuple[str, ...] = ()
    asked: str | None = None
    _columns: dict[str, _Column] = attrs.field(factory=dict, init=False, repr=False)

    @abstractmethod
    def keys(self) -> Collection[str]:
        """The key of every row, in the order of the table."""

    @abstractmethod
    def value(self, key: str, metric: str) -> float | None:
        """One figure of a row; None where it is not known, or there is no such row."""

    def __len__(self) -> int:
        return len(self.keys())

    @property
    def metric(self) -> str | None:
        """The metric that is meant where none is named."""
        return self.asked or (self.metrics[0] if len(self.metrics) == 1 else None)

    def key(self, choices: Choices) -> str:
        """The key of an architecture. Raises UserError (NAS401)."""
        return self.form.of_choices(choices)

    def check(self, fits: Callable[[Mapping[str, Any]], object] | None = None) -> int:
        for key in self.keys():
            choices = self.form.choices(key)
            if fits is not None:
                fits(choices)
        return len(self)

    def has(self, choices: Choices) -> bool:
        return self.key(choices) in self.keys()

    def look_up(self, choices: Choices) -> Mapping[str, float | None]:
        key = self.key(choices)
        return {metric: self.value(key, metric) for metric in self.metrics}

    def best(self, metric: str | None = None) -> Best:
        return self.top(1, metric)[0]

    def top(self, n: int, metric: str | None = None) -> tuple[Best, ...]:
        metric = self.named(metric)
        column = self._column(metric)
        if not column.values:
            raise UserError.plain("NAS603", f"table {self.name} has no value of `{metric}`")
        way = better(metric)
        chosen = ((key, column.values[key]) for key in column.ranked[:n])
        return tuple(Best(metric, value, key, column.rank(value, way)) for key, value in chosen)

    def standing(self, choices: Choices, metric: str | None = None) -> Standing:
        metric = self.named(metric)
        way = better(metric)
        value = self.value(self.key(choices), metric)
        column = self._column(metric)
        if value is None:
            return Standing(metric, None, None, None, len(column.values), way)
        regret = abs(self.best(metric).value - value)
        return Standing(metric, value, regret, column.rank(value, way), len(column.values), way)

    def spread(self, metric: str | None = None) -> Spread:
        metric = self.named(metric)
        values = self._column(metric).ascending
        if not values:
            return Spread(metric, better(metric), 0, None, None, None, None)
        middle = float(median(values))
        return Spread(metric, better(metric), len(values), values[0], middle, values[-1], self.best(metric))

    def named(self, metric: str | None) -> str:
        """The metric that is meant. Raises UserError (NAS603) when there is none, or no such one."""
        if metric is None:
            metric = self.metric
        if metric is None:
            raise UserError.plain(
                "NAS603",
                f"table {self.name} has {len(self.metrics)} metrics and none is named",
                help=f"name one of {_listed(self.metrics)}",
            )
        if metric not in self.metrics:
            raise UserError.plain(
                "NAS603",
                f"table {self.name} has no metric `{metric}`{did_you_mean(metric, self.metrics)}",
                help=f"it has {_listed(self.metrics)}",
            )
        return metric

    def _column(self, metric: str) -> _Column:
        if metric not in self._columns:
            figures = ((key, self.value(key, metric)) for key in self.keys())
            values = {key: value for key, value in figures if value is not None}
            # Sorting is stable both ways: equal values stay in the order of the table.
            ranked = sorted(values, key=values.__getitem__, reverse=better(metric) == "higher")
            self._columns[metric] = _Column(values, ranked, sorted(values.values()))
        return self._columns[metric]


_MANY = 30


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return ", ".join(names[:_MANY]) + more
