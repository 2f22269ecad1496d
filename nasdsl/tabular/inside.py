"""The rows of a table that belong to a part of the space.

Takes a table and what says whether an architecture belongs, returns a `Table`. Invariant: every figure is the
table's own; ranks, regrets and the best are among the rows inside.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cached_property

import attrs

from nasdsl.space.decisions import Choice
from nasdsl.tabular.keys import Keys
from nasdsl.tabular.table import Ranked, Table


@attrs.define(eq=False, slots=False, kw_only=True)
class Inside(Ranked):
    """Some rows of another table."""

    whole: Table = attrs.field(repr=False)
    belongs: Callable[[dict[str, Choice]], bool] = attrs.field(repr=False)

    @classmethod
    def of(cls, whole: Table, form: Keys, belongs: Callable[[dict[str, Choice]], bool]) -> Inside:
        """The rows whose architectures belong."""
        return cls(
            form=form,
            name=whole.name,
            metrics=whole.metrics,
            digest=whole.digest,
            notes=whole.notes,
            asked=whole.metric,
            whole=whole,
            belongs=belongs,
        )

    @cached_property
    def _keys(self) -> dict[str, None]:
        return {key: None for key in self._every() if self.belongs(self.form.choices(key))}

    def _every(self) -> Collection[str]:
        if isinstance(self.whole, Ranked):
            return self.whole.keys()
        # Another kind of table lists the rows of a metric, best first; one without any figure has no place.
        rows = (row for m in self.whole.metrics for row in self.whole.top(len(self.whole), m))
        return dict.fromkeys(self.form.of_text(row.architecture) for row in rows)

    def keys(self) -> Collection[str]:
        return self._keys

    def value(self, key: str, metric: str) -> float | None:
        if key not in self._keys:
            return None
        if isinstance(self.whole, Ranked):
            return self.whole.value(key, metric)
        return self.whole.look_up(self.form.choices(key))[metric]
