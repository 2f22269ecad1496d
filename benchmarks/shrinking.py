"""Shrinking by locality against other ways to as small a set, on a table of true results.

    python benchmarks/shrinking.py --benchmark TABLE --truth M --scores M ONE_SHOT FEW_SHOT --seeds 20 \
        --json benchmarks/results/shrinking_nasbench201.json

Every column of --scores drives one shrinking a seed, with the rules of `nasdsl shrink`; what is left is judged
by the true column. The other ways have as many evaluations and the same size. Locality is that of each column
over all pairs, and of fifty walks. Means with 95 % intervals by Student's t over seeds; a way is told apart from
shrinking where the interval of their paired differences does not hold 0.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from figures import summary
from report import surroundings, table, write_json

import nasdsl
from nasdsl.cli.arguments import assignments
from nasdsl.cli.shrink import RULES
from nasdsl.ranking.correlation import tau
from nasdsl.shrinking import Rules, Shrinking
from nasdsl.shrinking.ground import Ground
from nasdsl.shrinking.locality import can_be_exact, locality
from nasdsl.shrinking.metrics import Truth, diversity
from nasdsl.shrinking.record import compared, left_rows, truth_of

Scores = Callable[[Sequence[Mapping[str, Any]]], list[float]]
OURS = "shrinking"
CLOSE = 0.3
"""A regret below it is within what two trainings of one network differ by on NAS-Bench-201."""


def column(space: nasdsl.Space, ground: Ground, name: str, metric: str) -> Scores:
    """Look-ups of one column, higher being better."""
    truth = truth_of(ground, space.table(name, metric), metric)
    found = {key(ground.choices(r)): float(v) for r, v in zip(truth.rows, truth.figures, strict=True)}
    return lambda asked: [found[key(c)] for c in asked]


def key(choices: Mapping[str, Any]) -> str:
    """One text for the same choices."""
    return json.dumps(dict(choices), sort_keys=True)


def one_seed(ground: Ground, scores: Scores, truth: Truth, rules: Rules, seed: int) -> dict[str, Any]:
    """One shrinking and what it is compared with."""
    started = time.perf_counter()
    shrinking = Shrinking(ground.space, rules, seed, ground)
    while asked := shrinking.ask():
        shrinking.tell(scores(asked))
    seconds = time.perf_counter() - started
    result, rows = shrinking.result, left_rows(shrinking)
    assert result is not None
    chosen = [ground.choices(r) for r in rows]
    worth = truth.worth(rows)
    assert worth is not None
    ours = {
        **attrs.asdict(worth),
        "size": result.size,
        "tau": tau(scores(chosen), truth.of(rows).tolist()),
        **{f"diversity_{k}": v for k, v in attrs.asdict(diversity(ground, rows)).items()},
    }
    others = {b["name"]: {"size": b["size"], **b["worth"]} for b in compared(shrinking, scores, truth)}
    return {
        "evaluations": len(result.scored),
        "rounds": [attrs.asdict(r) for r in result.rounds],
        "stopped": result.stopped,
        "seconds": seconds,
        "sets": {OURS: ours, **others},
    }


def summarised(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds, and the paired differences from shrinking."""
    names = list(runs[0]["sets"])
    found: dict[str, Any] = {}
    for name in names:
        sets = [r["sets"][name] for r in runs]
        figures = {k: [s[k] for s in sets] for k in sets[0] if all(s[k] is not None for s in sets)}
        found[name] = {k: attrs.asdict(summary(v)) for k, v in figures.items()}
        if name != OURS:
            ours = [r["sets"][OURS]["bin_mean"] for r in runs]
            gaps = [a - b for a, b in zip(ours, figures["bin_mean"], strict=True)]
            found[name]["behind"] = attrs.asdict(summary(gaps))
    close = sum(r["sets"][OURS]["regret"] < CLOSE for r in runs)
    spent = attrs.asdict(summary([r["evaluations"] for r in runs]))
    return {"sets": found, "close": close, "evaluations": spent, "seeds": len(runs)}


def shown(name: str, found: Mapping[str, Any]) -> None:
    """A table of one column's sets."""
    spent = found["evaluations"]
    print(f"\ndriven by {name}: {spent['mean']:.0f} evaluations, {found['seeds']} seeds")
    print(f"regret below {CLOSE} in {found['close']} of {found['seeds']}\n")
    heads = (
        "set",
        "size",
        "mean of bins",
        "behind by",
        "bins",
        "mean",
        "regret",
        "tau",
        "distance",
        "pockets",
    )
    rows = []
    for label, f in found["sets"].items():
        rows.append(
            (
                label,
                f"{f['size']['mean']:.0f}",
                interval(f["bin_mean"]),
                interval(f.get("behind")),
                f"{f['bins']['mean']:.1f}",
                interval(f["mean"]),
                interval(f["regret"]),
                interval(f.get("tau")),
                interval(f.get("diversity_distance")),
                interval(f.get("diversity_pockets")),
            )
        )
    print(table(heads, rows))


def interval(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    half = 0.0 if found["low"] is None else found["mean"] - found["low"]
    return f"{found['mean']:.2f} +- {half:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--space", default="nasbench201")
    parser.add_argument("--param", action="append", default=[], metavar="K=V")
    parser.add_argument("--benchmark", required=True, metavar="TABLE")
    parser.add_argument("--truth", required=True, metavar="M", help="the true column")
    parser.add_argument("--scores", nargs="+", required=True, metavar="M", help="columns that drive")
    parser.add_argument("--seeds", type=int, default=20)
    for name, text in RULES.items():
        parser.add_argument(f"--{name}", type=int, help=text)
    parser.add_argument("--top", type=float)
    parser.add_argument("--no-predictor", action="store_true")
    parser.add_argument("--seeds-of", choices=("bins", "whole"), default="bins")
    parser.add_argument("--json", metavar="FILE", type=Path)
    args = parser.parse_args()
    space = nasdsl.load(args.space, **assignments("--param", args.param))
    given = {n: v for n in (*RULES, "top") if (v := getattr(args, n)) is not None}
    rules = Rules(**given, predictor=not args.no_predictor, seeds=args.seeds_of)
    ground = Ground(space, rules.cost, rules.bins)
    truth = truth_of(ground, space.table(args.benchmark, args.truth), args.truth)
    record: dict[str, Any] = {
        "benchmark": Path(args.benchmark).name,
        "truth": args.truth,
        "rules": attrs.asdict(rules),
        "columns": {},
        **surroundings("cpu"),
    }
    for name in args.scores:
        scores = column(space, ground, args.benchmark, name)
        near = locality(ground, scores, walks=50, exact=can_be_exact(ground))
        walks = ", ".join(f"{v:.3f}" for v in near.autocorrelation[:3] if v is not None)
        shells = ", ".join(f"{v:.3f}" for v in near.shells[:3] if v is not None)
        print(f"\nlocality of {name}: shells {shells}; walks {walks}; radius {near.radius}", flush=True)
        runs = []
        for seed in range(args.seeds):
            runs.append(one_seed(ground, scores, truth, rules, seed))
            print(f"seed {seed} done", file=sys.stderr, flush=True)
        found = summarised(runs)
        record["columns"][name] = {"locality": attrs.asdict(near), **found, "runs": runs}
        shown(name, found)
        if args.json is not None:
            write_json(args.json, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
