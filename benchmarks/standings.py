"""The table of an evaluation: what was found, judged by a table of true results.

Takes results of cells, returns rows of figures and their text. Invariant: truth is looked up when the table
is made and never stored in a cell, so another metric needs no new search; references that need no sample
(one uniform draw, the most parameters, the best) are exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any

import attrs
from configurations import RANDOM, published
from figures import Paired, friedman, mean_ranks, paired, spearman, summary
from report import table

import nasdsl
from nasdsl.errors import UserError
from nasdsl.tabular import Table
from nasdsl.tabular.table import Better, better

Record = dict[str, Any]
COUNTED = 2_000
"""Rows up to which parameters are counted, where the table has no column of them."""


@attrs.frozen
class Judge:
    """What looks truth up.

    Attributes:
        space: that was searched.
        full: the same space at its own size; parameters and multiply-accumulates are of its networks.
        skips: for every decision of an operation, the options that are skip connections.
    """

    space: nasdsl.Space
    full: nasdsl.Space
    table: Table
    metric: str
    skips: Mapping[str, frozenset[str]]

    @classmethod
    def open(cls, space: nasdsl.Space, full: nasdsl.Space, name: str, metric: str | None) -> Judge:
        """Raises UserError (NAS005, NAS601 to NAS603)."""
        found = space.table(name, metric)
        named = found.best().metric
        return cls(space, full, found, named, skip_options(space))

    @property
    def way(self) -> Better:
        return better(self.metric)

    def judged(self, name: str, seed: int, result: Mapping[str, Any]) -> Record:
        """A cell's result with the truth about it."""
        arch = self.space.architecture(result["choices"])
        standing = self.table.standing(arch)
        stats = self.full.stats(self.full.architecture(arch.choices))
        operations = [p for p in self.skips if p in arch.choices]
        kept = {k: v for k, v in result.items() if k not in ("configuration", "choices", "skip_share")}
        return {
            "configuration": name,
            "seed": seed,
            "architecture": self._written(arch),
            "true": standing.value,
            "regret": standing.regret,
            "rank": standing.rank,
            "params": stats.params,
            "macs": stats.macs,
            "skip_share": fmean(arch.choices[p] in self.skips[p] for p in operations) if operations else 0.0,
            **kept,
        }

    def _written(self, arch: nasdsl.Architecture) -> str:
        return self.space.format(arch) if self.space.notation else arch.to_json()


def skip_options(space: nasdsl.Space) -> dict[str, frozenset[str]]:
    """Skip connections by decision, as searches count them; empty where `darts` cannot search the space."""
    try:
        net = space.compile("darts").supernet()
    except UserError:
        return {}
    return {d["path"]: frozenset(d["skips"]) for d in net.DECISIONS if d["kind"] == "op"}


# --- rows --------------------------------------------------------------------


def rows(judged: Sequence[Record], notation: str | None, metric: str) -> list[Record]:
    """One row a configuration, in the order of the cells."""
    by_name: dict[str, list[Record]] = {}
    for record in judged:
        if record["true"] is not None:
            by_name.setdefault(record["configuration"], []).append(record)
    truth = {n: {r["seed"]: r["true"] for r in records} for n, records in by_name.items()}
    sign = -1.0 if better(metric) == "higher" else 1.0
    signed = {n: {s: sign * v for s, v in t.items()} for n, t in truth.items()}
    (standing, common), chance = mean_ranks(signed), friedman(signed)
    made = []
    for name, records in by_name.items():
        values = [r["true"] for r in records]
        best, worst = (max, min) if better(metric) == "higher" else (min, max)
        quoted = published(name, notation, metric)
        made.append(
            {
                "configuration": name,
                "true": attrs.asdict(summary(values)),
                "best": best(values),
                "worst": worst(values),
                **{
                    k: fmean(r[k] for r in records)
                    for k in ("regret", "rank", "params", "macs", "skip_share")
                },
                **{k: fmean(r[k] for r in records) for k in ("processor_s", "wall_s")},
                "against_darts": _against(truth, name, "darts"),
                "against_random": _against(truth, name, RANDOM),
                "mean_rank": standing.get(name),
                "mean_rank_seeds": common,
                "mean_rank_among": len(standing),
                "friedman_p": chance,
                "published": None if quoted is None else quoted[0],
                "published_source": None if quoted is None else quoted[1],
            }
        )
    return made


def _against(truth: Mapping[str, Mapping[int, float]], name: str, other: str) -> Record | None:
    if name == other or other not in truth:
        return None
    found: Paired | None = paired(truth[name], truth[other])
    return None if found is None else attrs.asdict(found)


# --- references --------------------------------------------------------------


def references(judge: Judge) -> Record:
    """What needs no search: a uniform draw, the most parameters, the best."""
    ranked = judge.table.top(len(judge.table))
    values = [b.value for b in ranked]
    best = ranked[0]
    quoted = published("best of the table", judge.space.notation, judge.metric)
    found: Record = {
        "uniform draw": {
            "true": fmean(values),
            "deviation": pstdev(values),
            "regret": fmean(abs(best.value - v) for v in values),
            "rank": fmean(b.rank for b in ranked),
            "size": len(values),
        },
        "best of the table": {
            "true": best.value,
            "rank": 1,
            "architecture": best.architecture,
            "params": _parameters(judge, best.architecture),
            "published": None if quoted is None else quoted[0],
        },
    }
    params = parameters(judge, [b.architecture for b in ranked])
    if params is not None:
        at = max(range(len(params)), key=params.__getitem__)
        found["most parameters"] = {
            "true": ranked[at].value,
            "regret": abs(best.value - ranked[at].value),
            "rank": ranked[at].rank,
            "architecture": ranked[at].architecture,
            "params": int(params[at]),
            "spearman": spearman(params, values),
        }
    return found


def parameters(judge: Judge, architectures: Sequence[str]) -> list[float] | None:
    """Of all rows: a column of the table, else counted where there are few; None where it is neither."""
    if "params" in judge.table.metrics:
        found = [judge.table.look_up(judge.space.parse(a))["params"] for a in architectures]
        return None if None in found else [float(v) for v in found if v is not None]
    if len(architectures) <= COUNTED:
        return [float(_parameters(judge, a)) for a in architectures]
    return None


def _parameters(judge: Judge, architecture: str) -> int:
    arch = judge.space.parse(architecture)
    return judge.full.stats(judge.full.architecture(arch.choices)).params


# --- text --------------------------------------------------------------------

HEADER = (
    "configuration",
    "seeds",
    "true mean",
    "sd",
    "95 % interval",
    "best",
    "worst",
    "regret",
    "rank",
    "params M",
    "MACs M",
    "skips",
    "cpu s",
    "minus darts",
    "p",
    "minus random",
    "p",
    "mean rank",
    "published",
)


def _number(value: float | None, form: str = ".2f") -> str:
    return "" if value is None else format(value, form)


def _line(row: Record) -> tuple[str, ...]:
    true = row["true"]
    interval = "" if true["low"] is None else f"{true['low']:.1f} to {true['high']:.1f}"
    against = []
    for other in (row["against_darts"], row["against_random"]):
        against += ["", ""] if other is None else [f"{other['mean']:+.2f}", f"{other['p']:.2f}"]
    return (
        row["configuration"],
        str(true["count"]),
        _number(true["mean"]),
        _number(true["deviation"]),
        interval,
        _number(row["best"]),
        _number(row["worst"]),
        _number(row["regret"]),
        _number(row["rank"], ",.0f"),
        _number(row["params"] / 1e6, ".3f"),
        _number(row["macs"] / 1e6, ".1f"),
        _number(row["skip_share"], ".0%"),
        _number(row["processor_s"], ".0f"),
        *against,
        _number(row["mean_rank"], ".1f"),
        _number(row["published"]),
    )


def _reference_lines(beside: Record) -> list[tuple[str, ...]]:
    lines = []
    for name, row in beside.items():
        cells = dict.fromkeys(range(len(HEADER)), "")
        cells[0], cells[2], cells[3] = name, _number(row["true"]), _number(row.get("deviation"))
        cells[7], cells[8] = _number(row.get("regret", 0.0)), _number(row["rank"], ",.0f")
        cells[9] = _number(row["params"] / 1e6, ".3f") if "params" in row else ""
        cells[18] = _number(row.get("published"))
        lines.append(tuple(cells.values()))
    return lines


def seeds(count: int) -> str:
    """A number of seeds in words."""
    return "1 seed" if count == 1 else f"{count} seeds"


def notes(made: Sequence[Record], beside: Record, judge: Judge) -> list[str]:
    """What a reader of the table has to know."""
    size = len(judge.table)
    lines = [
        f"truth: {judge.metric}, looked up ({judge.way} is better); rank 1 is the best of {size:,}",
        "interval: Student's t. p: exact sign-flip permutation test of paired differences over seeds, two-sided",
    ]
    tests = [row[k] for row in made for k in ("against_darts", "against_random") if row[k] is not None]
    for count in sorted({t["count"] for t in tests}):
        least = next(t["least"] for t in tests if t["count"] == count)
        lines.append(f"with {seeds(count)} no p can be below {least:.3g}, whatever the difference")
    if made and made[0]["mean_rank_seeds"]:
        among, common = made[0]["mean_rank_among"], len(made[0]["mean_rank_seeds"])
        lines.append(
            f"mean rank: among {among} configurations over {seeds(common)} (Friedman), 1 is best; "
            f"by chance {(among + 1) / 2:.1f}; that none differs: p {_number(made[0]['friedman_p']) or 'unknown'}"
        )
    lines.append(
        "params, MACs: of the found networks at the space's own size. skips: share of all operations"
    )
    if "most parameters" in beside:
        found = beside["most parameters"]["spearman"]
        lines.append(f"rank correlation of parameters with truth: {found:.3f} (Spearman)")
    return lines


def mixed(judged: Sequence[Record]) -> list[str]:
    """What is to say where cells were run by different versions of nasdsl."""
    versions = {code for record in judged for code in record.get("code", ())}
    if len(versions) < 2:
        return []
    return [f"these cells were run by {len(versions)} versions of nasdsl ({', '.join(sorted(versions))})"]


def text(made: Sequence[Record], beside: Record, judge: Judge) -> str:
    """The table for a terminal, with its notes."""
    lines = [*map(_line, made), *_reference_lines(beside)]
    return "\n".join([table(HEADER, lines), "", *notes(made, beside, judge)])


def markdown(made: Sequence[Record], beside: Record, judge: Judge) -> str:
    """The same in Markdown."""
    lines = [HEADER, ("---",) * len(HEADER), *map(_line, made), *_reference_lines(beside)]
    return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + ["", *notes(made, beside, judge)])
