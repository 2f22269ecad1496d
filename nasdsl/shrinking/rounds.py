"""The rounds of a shrinking.

Takes a space, rules and a seed; says which architectures to score next, is told their scores, ends with a
sub-space. Invariant: every round's set is a subset of the one before and smaller; what is asked depends on
the seed and on what was told alone; no network is asked for twice, whichever way it is encoded.

A RECONSTRUCTION of LISSNAS (IJCAI 2023), which names the phases and gives no numbers:

1. sample the set, as many from every bin of costs; score them;
2. the best of every bin that were scored so far are the seeds (phase 1 of the paper);
3. everything within `radius` edits of a seed, and in the set, is a candidate (phase 2); of these only what a
   regression on all scores so far expects to be as good as the worst seed of its bin is kept, and the seeds;
4. fresh samples of the candidates say whether their mean rose by more than its standard error. If so the
   candidates are the set, and their samples the next round's; if not, the set stays and the rounds end.

Fresh samples, because the seeds' own scores are the lucky ones.
"""

from __future__ import annotations

import math
import random
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import attrs

from nasdsl.cases import Choice
from nasdsl.errors import UserError
from nasdsl.scoring.regression import Regression
from nasdsl.shrinking.candidates import Scale, candidates
from nasdsl.shrinking.ground import TRIES, Ground
from nasdsl.subspace.value import Subspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nasdsl.api import Space
    from nasdsl.subspace.codes import Rows

LARGE = 1_000_000
"""Architectures beyond which a neighbourhood has two edits."""
CHUNK = 256


def _positive(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not value > 0:
        raise UserError.plain("NAS502", f"`{attribute.name}` is more than 0, not {value!r}")


@attrs.frozen
class Rules:
    """How a space is shrunk; the defaults are ours, the paper gives none.

    Attributes:
        samples: architectures scored at the start.
        fresh: architectures scored of each round's candidates, fewer where there are fewer.
        top: part of the scored ones in each bin that are seeds.
        bins: parts of equal size that the space is cut into by cost.
        seeds: the best of every bin (`bins`), or of all together (`whole`, an ablation).
        radius: edits from a seed to its neighbours; 0: 1, and 2 where there are more than a million architectures.
        predictor: whether a regression leaves out candidates that it expects to be worse than the seeds.
        least: members that a set has at least: fewer are filled up with the next best expected.
        evaluations: scores at most.
        rounds: rounds at most.
        cost: what bins are of: `macs` or `params`.
    """

    samples: int = attrs.field(default=500, validator=_positive)
    fresh: int = attrs.field(default=250, validator=_positive)
    top: float = attrs.field(default=0.15, validator=_positive)
    bins: int = attrs.field(default=5, validator=_positive)
    seeds: Literal["bins", "whole"] = "bins"
    radius: int = 0
    predictor: bool = True
    least: int = attrs.field(default=128, validator=_positive)
    evaluations: int = attrs.field(default=1000, validator=_positive)
    rounds: int = attrs.field(default=20, validator=_positive)
    cost: str = "macs"

    def reach(self, size: int) -> int:
        """The radius in a space of so many architectures."""
        return self.radius or (1 if size <= LARGE else 2)


@attrs.frozen
class Round:
    """What one round came to.

    Attributes:
        number: 0 is the space as it was.
        size: architectures in its set; of one too large to be counted exactly, the middle of its bounds.
        exact: whether the size is.
        seeds: how many seeds it grew from.
        candidates: neighbours and seeds before the regression left some out; None as for `size`.
        mean: of the scores of its fresh samples, bin by bin.
        error: the standard error of that mean.
        evaluations: scores told until then.
        best: the best score told until then.
        kept: whether its set took the place of the one before.
    """

    number: int
    size: int
    exact: bool
    seeds: int
    candidates: int | None
    mean: float
    error: float
    evaluations: int
    best: float
    kept: bool


@attrs.frozen
class Scored:
    """An architecture and its score; `round` is the one that asked for it."""

    choices: Mapping[str, Choice]
    score: float
    cost: int
    round: int


@attrs.frozen
class Shrunk:
    """The end of a shrinking.

    Attributes:
        subspace: what is left; None: all, because no round was better.
        rounds: every round, the last one perhaps not kept.
        scored: everything that was scored, in order.
        stopped: why there are no more rounds.
    """

    subspace: Subspace | None
    rounds: tuple[Round, ...]
    scored: tuple[Scored, ...]
    stopped: str

    @property
    def size(self) -> int:
        """Members of what is left."""
        return [r for r in self.rounds if r.kept][-1].size


Asked = Generator["Rows", Sequence[float], "tuple[Subspace | None, str]"]


class Shrinking:
    """Asks for scores, round by round.

    Attributes:
        result: None until the end.

    Args:
        ground: of the space, with the rules' cost and bins, where there is one already.
    """

    def __init__(
        self, space: Space, rules: Rules | None = None, seed: int = 0, ground: Ground | None = None
    ) -> None:
        self.space, self.rules, self.seed = space, rules or Rules(), seed
        self.ground = ground or Ground(space, self.rules.cost, self.rules.bins)
        self.known = Known(self.ground)
        self.rounds: list[Round] = []
        self.result: Shrunk | None = None
        self._told: list[float] = []
        self._scores: list[float] = []
        self._asked: list[dict[str, Choice]] = []
        self._run = _rounds(self)
        self._advance(None)

    def ask(self) -> list[dict[str, Choice]]:
        """The architectures whose scores are wanted now, those already told left out; none at the end."""
        return self._asked[len(self._scores) :]

    def tell(self, scores: Sequence[float]) -> None:
        """The scores, higher is better, of the first ones of `ask`; a score that is no number counts as the worst.

        Raises:
            ValueError: more scores than were asked for.
        """
        if len(scores) > len(self.ask()):
            raise ValueError(f"{len(scores)} scores for {len(self.ask())} architectures")
        for score in scores:
            self._told.append(float(score))
            self._scores.append(float(score))
            if len(self._scores) == len(self._asked):
                told, self._scores = self._scores, []
                self._advance(told)

    def _advance(self, scores: Sequence[float] | None) -> None:
        try:
            rows = next(self._run) if scores is None else self._run.send(scores)
        except StopIteration as end:
            self._asked = []
            left, why = end.value
            self.result = Shrunk(left, tuple(self.rounds), tuple(self.known.scored()), why)
        else:
            self._asked = [self.ground.choices(row) for row in rows]

    def state_dict(self) -> dict[str, Any]:
        """Everything that was told: with the seed and the rules that is the whole state."""
        return {"told": list(self._told)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was taken; only for one that was told nothing yet."""
        for score in state["told"]:
            self.tell([score])


class Known:
    """What was scored so far."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._rows: list[Rows] = []
        self._scores: list[float] = []
        self._round: list[int] = []
        self._networks: set[str] = set()

    def __len__(self) -> int:
        return len(self._scores)

    def new(self, row: Rows) -> bool:
        """Whether its network was never met; from now on it was."""
        key = self.ground.key(row)
        if key in self._networks:
            return False
        self._networks.add(key)
        return True

    def add(self, rows: Rows, scores: Sequence[float], number: int) -> None:
        """Rows with their scores, of a round."""
        self._rows.extend(rows)
        self._scores.extend(scores)
        self._round.extend([number] * len(rows))

    @property
    def rows(self) -> Rows:
        """All (N, decisions), in the order they came."""
        import numpy as np

        return np.array(self._rows, np.int16).reshape(len(self._rows), len(self.ground.codes.values))

    @property
    def scores(self) -> NDArray[np.float64]:
        """All (N,); what is no number stands as the worst that is one."""
        import numpy as np

        return finite(np.array(self._scores, np.float64))

    def scored(self) -> list[Scored]:
        """All, as plain data."""
        costs = self.ground.costs.of(self.rows).tolist()
        items = zip(self._rows, self._scores, costs, self._round, strict=True)
        return [Scored(self.ground.choices(r), s, c, n) for r, s, c, n in items]


def finite(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores in which what is not a finite number is the worst of those that are, 0 if none is."""
    import numpy as np

    good = np.isfinite(scores)
    return np.where(good, scores, scores[good].min() if good.any() else 0.0)


def _rounds(run: Shrinking) -> Asked:
    ground, rules, known = run.ground, run.rules, run.known
    rng = random.Random(run.seed)
    size = ground.tally.high
    left: Subspace | None = None
    sample = fresh_samples(ground, None, min(rules.samples, rules.evaluations), rng, known)
    scores = yield sample
    known.add(sample, scores, 0)
    middle = (ground.tally.low + size) // 2
    run.rounds.append(_round(run, 0, middle, ground.tally.exact, 0, None, sample, True))
    for number in range(1, rules.rounds + 1):
        if len(known) >= rules.evaluations:
            return left, f"{rules.evaluations:,} evaluations were made"
        seeds, found, candidates = _grown(run, left)
        if found is None:
            return left, f"the best have fewer than {rules.least:,} neighbours"
        tally = found.tally()
        if tally.high >= size:
            return left, "the neighbours of the seeds are all there is"
        wanted = min(rules.fresh, rules.evaluations - len(known))
        sample = fresh_samples(ground, found, wanted, rng, known)
        if len(sample) == 0:
            return left, "every candidate was scored"
        scores = yield sample
        known.add(sample, scores, number)
        now = _round(
            run, number, (tally.low + tally.high) // 2, tally.exact, len(seeds), candidates, sample, True
        )
        if now.mean <= run.rounds[-1].mean + now.error:
            run.rounds.append(attrs.evolve(now, kept=False))
            return left, "the mean of fresh samples rose no more"
        run.rounds.append(now)
        left, size = found, tally.high
        if size <= rules.least:
            return left, f"there are no more than {rules.least:,} architectures"
    return left, f"{rules.rounds:,} rounds were made"


def fresh_samples(
    ground: Ground, among: Subspace | None, count: int, rng: random.Random, known: Known
) -> Rows:
    """Up to `count` rows whose networks were never met, as many from every bin; fewer where a bin has fewer."""
    import numpy as np

    quota = [count // ground.bins + (i < count % ground.bins) for i in range(ground.bins)]
    stream = ground.stream(rng, among)
    found: list[Rows] = []
    tries = 0
    while any(quota) and tries < TRIES * count:
        rows = [row for row, _ in zip(stream, range(CHUNK), strict=False)]
        if not rows:
            break
        tries += len(rows)
        for row, at in zip(rows, ground.bin(np.array(rows)).tolist(), strict=True):
            if quota[at] and known.new(row):
                quota[at] -= 1
                found.append(row)
    return np.array(found, np.int16).reshape(len(found), len(ground.codes.values))


def _grown(run: Shrinking, left: Subspace | None) -> tuple[Rows, Subspace | None, int | None]:
    """The seeds, the next set, and how many neighbours it was chosen from; no set where there are too few of them.

    Where the neighbours are fewer than what shall be left, more of the scored ones are seeds.
    """
    share = run.rules.top
    while True:
        seeds, bars = _seeds(run, left, share)
        found, candidates = _candidates(run, left, seeds, bars)
        if candidates is None or candidates >= run.rules.least:
            return seeds, found, candidates
        if share >= 1:
            return seeds, None, candidates
        share = min(1.0, 2 * share)


def _seeds(run: Shrinking, left: Subspace | None, share: float) -> tuple[Rows, NDArray[np.float64]]:
    """The best scored members, and for each bin the score of its last seed (infinite where it has none)."""
    import numpy as np

    rows, scores = run.known.rows, run.known.scores
    if left is not None:
        inside = left.contains_rows(rows)
        rows, scores = rows[inside], scores[inside]
    bins = run.ground.bin(rows)
    bars = np.full(run.ground.bins, np.inf)
    chosen: list[NDArray[np.int64]] = []
    groups = [np.flatnonzero(bins == b) for b in range(run.ground.bins)]
    if run.rules.seeds == "whole":
        groups = [np.arange(len(rows))]
    for number, group in enumerate(groups):
        if not len(group):
            continue
        order = group[np.argsort(-scores[group], kind="stable")]
        best = order[: max(1, math.ceil(share * len(order)))]
        chosen.append(best)
        bars[number if run.rules.seeds == "bins" else slice(None)] = scores[best[-1]]
    return rows[np.concatenate(chosen)], bars


def _candidates(
    run: Shrinking, left: Subspace | None, seeds: Rows, bars: NDArray[np.float64]
) -> tuple[Subspace, int | None]:
    """The next set, and how many neighbours it was chosen from."""
    ground, rules = run.ground, run.rules
    near = ground.near(seeds, rules.reach(ground.tally.high))
    scale = None
    if rules.predictor:
        model = Regression(ground.codes)
        model.fit(run.known.rows, run.known.scores.tolist())
        scale = Scale(ground, model, bars, near.seeds, rules.least)
    return candidates(ground, near, left, scale, rules.least)


def _round(
    run: Shrinking,
    number: int,
    size: int,
    exact: bool,
    seeds: int,
    candidates: int | None,
    sample: Rows,
    kept: bool,
) -> Round:
    import numpy as np

    scores = run.known.scores
    mean, error = bin_mean(scores[len(scores) - len(sample) :], run.ground.bin(sample))
    best = float(np.max(scores))
    return Round(number, size, exact, seeds, candidates, mean, error, len(scores), best, kept)


def bin_mean(scores: NDArray[np.float64], bins: NDArray[np.int64]) -> tuple[float, float]:
    """The mean over bins of their means, bins without a score left out, and its standard error."""
    import numpy as np

    parts = [scores[bins == b] for b in np.unique(bins)]
    mean = float(np.mean([p.mean() for p in parts]))
    variance = sum(float(p.var(ddof=1)) / len(p) for p in parts if len(p) > 1)
    return mean, math.sqrt(variance) / len(parts)


__all__ = ["Known", "Round", "Rules", "Scored", "Shrinking", "Shrunk", "bin_mean", "finite", "fresh_samples"]
