"""A shrinking as plain data: what files keep, pages show and benchmarks compare.

Takes a shrinking that has ended and what was measured beside it, returns a mapping that JSON can hold.
Invariant: it says everything that the numbers depend on; what was not measured is None.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from nasdsl.cases import Choice
from nasdsl.shrinking.baselines import (
    Scores,
    evolution,
    operational_pruning,
    random_subset,
    top_predicted,
    top_random,
)
from nasdsl.shrinking.ground import Ground
from nasdsl.shrinking.locality import Locality
from nasdsl.shrinking.metrics import Truth, diversity, shrink_index
from nasdsl.shrinking.rounds import Scored, Shrinking, Shrunk
from nasdsl.space.architecture import Architecture

if TYPE_CHECKING:
    from nasdsl.api import Space
    from nasdsl.subspace.codes import Rows
    from nasdsl.tabular import Table

MOST_SHOWN = 20_000
"""Members whose costs and figures are kept."""
BEST = 10


@attrs.frozen
class Against:
    """The truth that a shrinking is measured by.

    Attributes:
        same: whether the scores that drove it are these figures.
    """

    truth: Truth
    table: str
    metric: str
    same: bool = False


def text_of(space: Space, choices: Mapping[str, Choice]) -> str:
    """An architecture in the space's notation, or its choices as JSON."""
    if space.notation is not None:
        return space.format(Architecture(space.name, space.fingerprint, choices))
    return json.dumps(dict(choices))


def truth_of(ground: Ground, table: Table, metric: str | None = None) -> Truth:
    """Everything that a table knows of the space, higher being better. Raises UserError (NAS603)."""
    from nasdsl.ranking import from_table

    known = from_table(ground.space, table, metric, n=1 << 62, seed=0)
    rows = ground.codes.rows([t.choices for t in known])
    keep = ground.space.subspace
    if keep is not None:
        inside = keep.contains_rows(rows)
        return Truth(ground, rows[inside], [t.worth for t, i in zip(known, inside, strict=True) if i])
    return Truth(ground, rows, [t.worth for t in known])


def left_rows(shrinking: Shrinking) -> Rows:
    """The members of what is left, or as many draws as stand for them."""
    result = _ended(shrinking)
    ground = shrinking.ground
    if result.subspace is None:
        return ground.reference
    if result.subspace.explicit:
        return result.subspace.rows()
    return ground.codes.unique(ground.draws(random.Random(0), MOST_SHOWN, result.subspace))


def sample_of(rows: Rows, count: int, seed: int) -> Rows:
    """`count` of some rows, or all of them."""
    if len(rows) <= count:
        return rows
    return rows[sorted(random.Random(seed).sample(range(len(rows)), count))]


def record(
    shrinking: Shrinking,
    source: str,
    against: Against | None = None,
    ranks: Mapping[str, Any] | None = None,
    baselines: Sequence[Mapping[str, Any]] | None = None,
    locality: Locality | None = None,
) -> dict[str, Any]:
    """What a shrinking came to.

    Args:
        source: what scored, in a few words.
        ranks: of `ranked`.
        baselines: of `compared`.
    """
    result, ground, space = _ended(shrinking), shrinking.ground, shrinking.space
    rows = left_rows(shrinking)
    shown = sample_of(rows, MOST_SHOWN, 0)
    tally = space.tally() if result.subspace is None else space.within(result.subspace).tally()
    truth = against.truth if against is not None else None
    inside = _inside(result, ground)
    return {
        "space": space.name,
        "fingerprint": space.fingerprint,
        "params": space.params,
        "seed": shrinking.seed,
        "source": source,
        "rules": attrs.asdict(shrinking.rules),
        "radius": shrinking.rules.reach(ground.tally.high),
        "cost": ground.cost,
        "edges": ground.edges.tolist(),
        "size": {"low": ground.tally.low, "high": ground.tally.high},
        "left": None
        if result.subspace is None
        else {"low": tally.low, "high": tally.high, "digest": result.subspace.digest},
        "rounds": [attrs.asdict(r) for r in result.rounds],
        "stopped": result.stopped,
        "evaluations": len(result.scored),
        "scored": [
            {
                "architecture": text_of(space, s.choices),
                "score": s.score,
                "cost": s.cost,
                "round": s.round,
                "inside": i,
            }
            for s, i in zip(result.scored, inside, strict=True)
        ],
        "members": {
            "cost": ground.costs.of(shown).tolist(),
            "figure": None if truth is None else truth.of(shown).tolist(),
        },
        "before": None if truth is None else _known(truth),
        "diversity": _diversity(shrinking, rows),
        "locality": None if locality is None else attrs.asdict(locality),
        "truth": None if against is None else _truth(shrinking, against, rows, ranks or {}),
        "baselines": None if baselines is None else list(baselines),
        "best": _best(space, result.scored, inside),
    }


def ranked(shrinking: Shrinking, score: Scores, truth: Truth, count: int) -> dict[str, Any]:
    """How the scores rank the truth: among `count` members of what is left, and as many of the whole space.

    The first is lower where the set is narrow: the second tells whether the scores or the range are to blame.
    """
    from nasdsl.ranking import agreement

    ground = shrinking.ground
    found: dict[str, Any] = {"fixed": 0}
    for name, rows in (
        ("tau_inside", sample_of(left_rows(shrinking), count, 1)),
        ("tau_fixed", sample_of(truth.rows, count, 2)),
    ):
        figures = truth.of(rows)
        kept = [i for i, figure in enumerate(figures.tolist()) if figure == figure]
        scores = score([ground.choices(rows[i]) for i in kept])
        found[name] = attrs.asdict(agreement(scores, figures[kept].tolist())) if len(kept) > 1 else None
        found["fixed"] = len(kept)
    return found


def compared(shrinking: Shrinking, score: Scores, truth: Truth) -> list[dict[str, Any]]:
    """What other ways make of as many evaluations, at the same size."""
    result, ground = _ended(shrinking), shrinking.ground
    size, spent, seed = result.size, len(result.scored), shrinking.seed
    sets = {
        "random subset": random_subset(ground, size, seed),
        "operational pruning": operational_pruning(ground, score, size, spent, seed),
        "regularised evolution": evolution(ground, score, size, spent, seed),
        "best of random": top_random(ground, score, size, spent, seed),
        "best predicted": top_predicted(ground, score, size, spent, seed),
    }
    found = []
    for name, rows in sets.items():
        worth = truth.worth(rows)
        figures = None if worth is None else attrs.asdict(worth)
        found.append({"name": name, "size": len(rows), "worth": figures})
    return found


def _ended(shrinking: Shrinking) -> Shrunk:
    if shrinking.result is None:
        raise ValueError("the shrinking has not ended: tell the scores that it asks for")
    return shrinking.result


def _inside(result: Shrunk, ground: Ground) -> list[bool]:
    if result.subspace is None or not result.scored:
        return [True] * len(result.scored)
    rows = ground.codes.rows([s.choices for s in result.scored])
    return [bool(i) for i in result.subspace.contains_rows(rows)]


def _known(truth: Truth) -> dict[str, Any]:
    chosen = sample_of(truth.rows, MOST_SHOWN, 0)
    return {"cost": truth.ground.costs.of(chosen).tolist(), "figure": truth.of(chosen).tolist()}


def _diversity(shrinking: Shrinking, rows: Rows) -> dict[str, Any]:
    ground = shrinking.ground
    radius = shrinking.rules.reach(ground.tally.high)
    before = diversity(ground, ground.reference, radius)
    if ground.every is None:  # draws say nothing of what lies between them
        before = attrs.evolve(before, pockets=None)
    return {"before": attrs.asdict(before), "after": attrs.asdict(diversity(ground, rows, radius))}


def _truth(shrinking: Shrinking, against: Against, rows: Rows, ranks: Mapping[str, Any]) -> dict[str, Any]:
    truth, result, ground = against.truth, _ended(shrinking), shrinking.ground
    worth = truth.worth(rows)
    mean = truth.mean if worth is None else worth.mean
    index = shrink_index(result.size, ground.tally.high, mean, truth.mean, truth.best)
    return {
        "metric": against.metric,
        "table": against.table,
        "same": against.same,
        "before": attrs.asdict(truth.worth(truth.rows)),  # type: ignore[arg-type]
        "after": None if worth is None else attrs.asdict(worth),
        "tau_inside": None,
        "tau_fixed": None,
        "fixed": 0,
        **ranks,
        "index": {"gain": index.gain, "reduction": index.reduction, "index": index.index},
    }


def _best(space: Space, scored: Sequence[Scored], inside: Sequence[bool]) -> list[dict[str, Any]]:
    members = [s for s, i in zip(scored, inside, strict=True) if i and s.score == s.score]
    first = sorted(members, key=lambda s: (-s.score, s.cost))[:BEST]
    return [{"architecture": text_of(space, s.choices), "score": s.score, "cost": s.cost} for s in first]


__all__ = ["Against", "compared", "left_rows", "ranked", "record", "sample_of", "text_of", "truth_of"]
