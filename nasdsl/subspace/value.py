"""Sub-spaces: parts of a space as values, which can be asked, counted, drawn from, intersected and saved.

Takes a checked space and what belongs to the part, returns one of the kinds: `Members`, an explicit set;
`Balls`, everything within some edits of seeds; `Restriction`, some values of some decisions only; `Both`, what
several of them have in common. Invariant: `tally` is exact, or has bounds that differ and says how they were
found; `tally().draw` is uniform; nothing lists more than `MAX_LISTED` encodings. The limits of the space play
no part here: `Space.within` adds them.
"""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from nasdsl.cases import Choice
from nasdsl.errors import UserError
from nasdsl.identity.distinct import Draw, Tally
from nasdsl.identity.parts import Choices, between, estimated, interval
from nasdsl.space.checked import CheckedSpace
from nasdsl.subspace.balls import Ball
from nasdsl.subspace.codes import ABSENT, Codes
from nasdsl.subspace.walks import Walks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nasdsl.subspace.codes import Rows

MAX_LISTED = 1_000_000
"""Encodings that are held in memory at once."""
MAX_BALLS = 256
"""Balls that are kept ready to draw from."""
ESTIMATES = 4_000
"""Draws behind the size of a union of balls."""
MAX_APART = 2_000
"""Seeds that are compared with each other, each with each."""


@attrs.frozen(eq=False, slots=False)
class Subspace(ABC):
    """A part of a space."""

    space: CheckedSpace

    @cached_property
    def codes(self) -> Codes:
        """The encodings of the space as rows."""
        return Codes(self.space.table)

    # --- what each kind says --------------------------------------------------

    @abstractmethod
    def contains_rows(self, rows: Rows) -> NDArray[np.bool_]:
        """Which encodings (N, decisions) belong to it: (N,)."""

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """What a file says of it, options by their names; equal for equal parts of one kind."""

    @abstractmethod
    def _tally(self) -> Tally: ...

    @abstractmethod
    def _listed(self) -> Rows | None:
        """Every member, sorted, where there are few enough."""

    @abstractmethod
    def support(self) -> dict[str, tuple[Choice, ...]]:
        """For each decision the values that members take, in table order; absent decisions have none.

        Exact for `Members`, `Balls` and `Restriction`, and where all members are listed; of a larger `Both`
        it is what every part has, which may be more.
        """

    # --- what follows ----------------------------------------------------------

    def contains(self, choices: Mapping[str, Choice]) -> bool:
        """Whether an encoding of the space belongs to it."""
        try:
            row = self.codes.row(choices)
        except KeyError:
            return False
        return bool(self.contains_rows(row[None])[0])

    def __contains__(self, choices: Mapping[str, Choice]) -> bool:
        return self.contains(choices)

    def tally(self) -> Tally:
        """The number of members, as bounds that are equal where it is exact, and a way to draw one uniformly."""
        return self._known

    @cached_property
    def _known(self) -> Tally:
        return self._tally()

    @cached_property
    def _rows(self) -> Rows | None:
        return self._listed()

    @property
    def explicit(self) -> bool:
        """Whether there are few enough members to list them: `rows`."""
        return self._rows is not None

    @property
    def listed(self) -> int | None:
        """How many members there are, where they can be listed; else None."""
        return None if self._rows is None else len(self._rows)

    def rows(self) -> Rows:
        """Every member (N, decisions), sorted. Raises UserError (NAS310) where they cannot be listed."""
        if self._rows is None:
            raise UserError.plain(
                "NAS310",
                f"this sub-space has more than {MAX_LISTED:,} members: they are not listed",
                help="draw some: `space.within(...).sample(n)`",
            )
        return self._rows

    def member(self, index: int) -> Choices:
        """One of `rows`."""
        return self.codes.choices(self.rows()[index])

    def __and__(self, other: Subspace) -> Subspace:
        """What two sub-spaces of one space have in common. Raises UserError (NAS404) for two spaces."""
        if self.space.fingerprint != other.space.fingerprint:
            raise UserError.plain(
                "NAS404",
                f"a sub-space of `{self.space.name}` ({self.space.fingerprint}) and one of "
                f"`{other.space.name}` ({other.space.fingerprint}) have nothing in common",
                help="`space.within(a).within(b)` reads both as parts of one space",
            )
        if isinstance(self, Members) or isinstance(other, Members):
            rows, rest = (self, other) if isinstance(self, Members) else (other, self)
            return Members(self.space, rows.rows()[rest.contains_rows(rows.rows())])
        return _both(self.space, [*_parts(self), *_parts(other)])

    @cached_property
    def digest(self) -> str:
        """A hash of what it is: equal for equal parts of one kind."""
        return sha256(json.dumps(self.record(), sort_keys=True).encode()).hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Subspace) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def write(self, path: str | Path) -> None:
        """Writes it as a file, which `Space.read_subspace` and `--within` read. Raises UserError (NAS005)."""
        from nasdsl.subspace.files import write

        write(self, path)

    def _of_rows(self, how: str) -> Tally:
        rows = self.rows()
        draw = (lambda rng: self.member(rng.randrange(len(rows)))) if len(rows) else None
        return Tally(len(rows), len(rows), how, draw)

    def _values(self, columns: Sequence[Sequence[int]]) -> dict[str, tuple[Choice, ...]]:
        named = zip(self.space.table.decisions, self.codes.values, columns, strict=True)
        return {d.path: tuple(values[i] for i in codes) for d, values, codes in named}

    def _columns(self, rows: Rows) -> list[list[int]]:
        """The indices that each column of some rows holds."""
        import numpy as np

        return [[int(c) for c in np.unique(column) if c != ABSENT] for column in rows.T]


@attrs.frozen(eq=False, slots=False)
class Members(Subspace):
    """An explicit set.

    Attributes:
        found: its encodings, each once and sorted (`Codes.unique`).
    """

    found: Rows = attrs.field(repr=False)

    def contains_rows(self, rows: Rows) -> NDArray[np.bool_]:
        return self.codes.contained(rows, self.found)

    def record(self) -> dict[str, Any]:
        return {"kind": "members", **legend(self.codes, self.found, "rows")}

    def _tally(self) -> Tally:
        return self._of_rows("the size of the set")

    def _listed(self) -> Rows:
        return self.found

    def support(self) -> dict[str, tuple[Choice, ...]]:
        return self._values(self._columns(self.found))


@attrs.frozen(eq=False, slots=False)
class Restriction(Subspace):
    """Some values of some decisions only; the others are free, and so is whether a decision is made.

    Attributes:
        allowed: by decision, in table order, the indices of its values in order; decisions that are free
            are not named.
    """

    allowed: Mapping[int, tuple[int, ...]]

    @cached_property
    def walks(self) -> Walks:
        """Its encodings."""
        every = (self.allowed.get(i, range(len(v))) for i, v in enumerate(self.codes.values))
        return Walks(self.codes, [[(code, 0) for code in codes] for codes in every])

    def contains_rows(self, rows: Rows) -> NDArray[np.bool_]:
        import numpy as np

        good = np.ones(len(rows), np.bool_)
        for column, codes in self.allowed.items():
            fits = np.zeros(len(self.codes.values[column]) + 1, np.bool_)
            fits[[*codes, ABSENT]] = True
            good &= fits[rows[:, column]]
        return good

    def record(self) -> dict[str, Any]:
        named = {
            self.space.table.decisions[column].path: [plain(self.codes.values[column][i]) for i in codes]
            for column, codes in self.allowed.items()
        }
        return {"kind": "restriction", "allowed": named}

    def _tally(self) -> Tally:
        number = self.walks.count
        draw: Draw | None = (lambda rng: self.codes.choices(self.walks.sample(rng))) if number else None
        return Tally(number, number, "by structure", draw)

    def _listed(self) -> Rows | None:
        return self.walks.rows() if self.walks.count <= MAX_LISTED else None

    def support(self) -> dict[str, tuple[Choice, ...]]:
        return self._values(self.walks.reached())


@attrs.frozen(eq=False, slots=False)
class Balls(Subspace):
    """Everything within some edits of one of several seeds.

    Attributes:
        seeds: encodings, each once and sorted (`Codes.unique`).
        radius: edits, as `Population.edits` counts them.
    """

    seeds: Rows = attrs.field(repr=False)
    radius: int

    @cached_property
    def ball(self) -> Any:
        """The ball round a seed, by its number; some are kept."""
        return lru_cache(maxsize=MAX_BALLS)(self._ball)

    def _ball(self, index: int) -> Ball:
        return Ball(self.codes, self.seeds[index], self.radius)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many encodings the ball of each seed has."""
        return tuple(self.ball(i).count() for i in range(len(self.seeds)))

    def covering(self, row: Rows) -> int:
        """How many balls an encoding is in."""
        return int((self.codes.edits(self.seeds, row) <= self.radius).sum())

    def contains_rows(self, rows: Rows) -> NDArray[np.bool_]:
        import numpy as np

        found = np.zeros(len(rows), np.bool_)
        open_ = np.arange(len(rows))
        if len(rows) < len(self.seeds):
            return np.array([self.covering(row) > 0 for row in rows], np.bool_)
        for seed in self.seeds:
            near = self.codes.edits(rows[open_], seed) <= self.radius
            found[open_[near]] = True
            open_ = open_[~near]
            if not len(open_):
                break
        return found

    def record(self) -> dict[str, Any]:
        return {"kind": "balls", "radius": self.radius, **legend(self.codes, self.seeds, "seeds")}

    def _listed(self) -> Rows | None:
        import numpy as np

        if sum(self.sizes) <= MAX_LISTED:
            balls = [self.ball(i).walks.rows() for i in range(len(self.seeds))]
            return self.codes.unique(np.concatenate(balls))
        whole = Restriction(self.space, {})
        rows = whole.rows() if whole.explicit else None
        return None if rows is None else rows[self.contains_rows(rows)]

    def _tally(self) -> Tally:
        if self.explicit:
            return self._of_rows("by enumeration")
        total = sum(self.sizes)
        if self._apart():
            return Tally(total, total, "by structure: no two balls meet", self._drawn)
        rng = random.Random(0)
        # Sorted, so that each ball is made ready once.
        weights = [
            1 / self.covering(self._row(i, rng)) for i in sorted(self._seed(rng) for _ in range(ESTIMATES))
        ]
        low, high = interval(weights)
        how = f"estimated from {ESTIMATES:,} draws, 95 % interval"
        found = between(Tally(total, total, how), low, high, how, self._drawn)
        return attrs.evolve(found, low=min(max(found.low, *self.sizes), found.high - 1))

    def _apart(self) -> bool:
        """Whether no two balls meet: told where edits are a metric, which they are without conditions."""
        if any(d.when is not None for d in self.space.table.decisions) or len(self.seeds) > MAX_APART:
            return False
        return all(
            (self.codes.edits(self.seeds[i + 1 :], seed) > 2 * self.radius).all()
            for i, seed in enumerate(self.seeds)
        )

    @cached_property
    def _sums(self) -> list[int]:
        return list(accumulate(self.sizes))

    def _seed(self, rng: random.Random) -> int:
        """A seed, by the size of its ball."""
        return bisect_right(self._sums, rng.randrange(self._sums[-1]))

    def _row(self, seed: int, rng: random.Random) -> Rows:
        row: Rows = self.ball(seed).walks.sample(rng)
        return row

    def _drawn(self, rng: random.Random) -> Choices:
        """Uniform over the union: an encoding in several balls is drawn so much more often, and kept less often."""
        while True:
            row = self._row(self._seed(rng), rng)
            if not rng.randrange(self.covering(row)):
                return self.codes.choices(row)

    def support(self) -> dict[str, tuple[Choice, ...]]:
        found: list[set[int]] = [set() for _ in self.codes.values]
        for index in range(len(self.seeds)):
            for codes, more in zip(found, self.ball(index).walks.reached(), strict=True):
                codes.update(more)
        return self._values([sorted(codes) for codes in found])


@attrs.frozen(eq=False, slots=False)
class Both(Subspace):
    """What several sub-spaces have in common.

    Attributes:
        parts: two or more, none of them `Members` or `Both`.
    """

    parts: tuple[Subspace, ...]

    def contains_rows(self, rows: Rows) -> NDArray[np.bool_]:
        found = self.parts[0].contains_rows(rows)
        for part in self.parts[1:]:
            found = found & part.contains_rows(rows)
        return found

    def record(self) -> dict[str, Any]:
        return {"kind": "both", "parts": [p.record() for p in self.parts]}

    @cached_property
    def _smallest(self) -> Subspace:
        return min(self.parts, key=lambda p: p.tally().high)

    def _listed(self) -> Rows | None:
        if not self._smallest.explicit:
            return None
        rows = self._smallest.rows()
        return rows[self.contains_rows(rows)]

    def _tally(self) -> Tally:
        if self.explicit:
            return self._of_rows("by enumeration")
        return estimated(self._smallest.tally(), self.contains)

    def support(self) -> dict[str, tuple[Choice, ...]]:
        if self.explicit:
            return self._values(self._columns(self.rows()))
        first, *rest = (p.support() for p in self.parts)
        return {
            path: tuple(v for v in values if all(v in r[path] for r in rest))
            for path, values in first.items()
        }


def _parts(sub: Subspace) -> tuple[Subspace, ...]:
    return sub.parts if isinstance(sub, Both) else (sub,)


def _both(space: CheckedSpace, parts: Sequence[Subspace]) -> Subspace:
    """Several parts in one: restrictions are joined, the rest stands each once, in the order of their records."""
    narrow: dict[int, tuple[int, ...]] = {}
    restricted = [p for p in parts if isinstance(p, Restriction)]
    for part in restricted:
        for column, codes in part.allowed.items():
            narrow[column] = tuple(c for c in narrow.get(column, codes) if c in codes)
    others: list[Subspace] = sorted(
        {p for p in parts if not isinstance(p, Restriction)}, key=lambda p: p.digest
    )
    if narrow or not others:
        others.append(Restriction(space, dict(sorted(narrow.items()))))
    return others[0] if len(others) == 1 else Both(space, tuple(others))


def plain(value: Choice) -> str | list[str]:
    """A value of a decision as files have it."""
    return value if isinstance(value, str) else list(value)


def legend(codes: Codes, rows: Rows, name: str) -> dict[str, Any]:
    """Rows with the names of the values they hold: numbers count those named, -1 is a decision not made."""
    import numpy as np

    named: dict[str, list[str | list[str]]] = {}
    written = np.full(rows.shape, ABSENT, np.int16)
    for column, decision in enumerate(codes.table.decisions):
        used = np.unique(rows[:, column])
        used = used[used != ABSENT]
        named[decision.path] = [plain(codes.values[column][i]) for i in used]
        made = rows[:, column] != ABSENT
        written[made, column] = np.searchsorted(used, rows[made, column])
    return {"decisions": named, name: written.tolist()}


__all__ = ["MAX_LISTED", "Balls", "Both", "Members", "Restriction", "Subspace"]
