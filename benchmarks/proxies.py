"""How well zero-cost proxies and controls rank NAS-Bench-201 against a table of true results.

    python benchmarks/proxies.py --data imagefolder:DIR --benchmark TABLE --metric M \
        --json benchmarks/results/proxies_nasbench201_cpu.json

Random architectures of the space at its own size, fresh weights of one seed, one minibatch. A score is what
`nasdsl score` computes; seconds are those of its evaluations, building the networks included.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import attrs
from report import surroundings, table, write_json

import nasdsl
from nasdsl.cli.arguments import assignments
from nasdsl.ranking import agreement
from nasdsl.runtime.search.proxies import PROXIES
from nasdsl.scoring import CostScores, Kind, Pool, ProxyScores, Recipe
from nasdsl.scoring.proxy import WITHOUT_DATA
from nasdsl.scoring.sources import CONTROLS


def kinds(args: argparse.Namespace) -> dict[str, Kind]:
    """The sources by name."""
    found: dict[str, Kind] = {}
    for name in PROXIES:
        data = None if name in WITHOUT_DATA else args.data
        found[name] = ProxyScores(name, data, args.data_dir, args.batch, args.weights_seed, args.device)
    return found | {name: CostScores(name) for name in CONTROLS}


def measured(kind: Kind, space: nasdsl.Space, args: argparse.Namespace, truth: list[float]) -> dict[str, Any]:
    """Scores of one source, how they rank, and the seconds they took."""
    recipe = Recipe(args.space, kind, assignments("--param", args.param))
    with Pool(recipe, space=space) as pool:
        chosen = [a.choices for a in space.sample(args.n, seed=args.seed)]
        keys = [pool.key(choices) for choices in chosen]  # identities are no part of a score's time
        started = time.perf_counter()
        scores = pool.scores(chosen)
        seconds = time.perf_counter() - started
        found: dict[str, Any] = {"of": dict(pool.identity), "distinct": len(set(keys))}
        found["seconds"] = seconds / pool.evaluations
    lacking = sum(score == float("-inf") for score in scores)
    kept = [None if score == float("-inf") else score for score in scores]
    return {**attrs.asdict(agreement(scores, truth)), **found, "without_a_score": lacking, "scores": kept}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--space", default="nasbench201")
    parser.add_argument("--param", action="append", default=[], metavar="K=V")
    parser.add_argument("--benchmark", required=True, metavar="TABLE")
    parser.add_argument("--metric")
    parser.add_argument("--data", required=True)
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--weights-seed", type=int, default=0)
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    space = nasdsl.load(args.space, **assignments("--param", args.param))
    truths = space.table(args.benchmark, args.metric)
    spread = truths.spread()
    sign = -1.0 if spread.better == "lower" else 1.0
    truth = [sign * (truths.look_up(a)[spread.metric] or 0.0) for a in space.sample(args.n, seed=args.seed)]
    found = {name: measured(kind, space, args, truth) for name, kind in kinds(args).items()}
    header = ("score", "tau-b", "95 % interval", "tau-b, best quarter", "without a score", "seconds")
    rows = [
        (
            name,
            f"{f['tau']:.3f}",
            f"{f['low']:.2f} to {f['high']:.2f}",
            f"{f['top']:.3f}",
            str(f["without_a_score"]),
            f"{f['seconds']:.2f}",
        )
        for name, f in found.items()
    ]
    print(table(header, rows))
    if args.json is not None:
        # Where the files lie on this machine says nothing to a reader.
        hidden = {"json", "benchmark", "data_dir"}
        shown = {k: v for k, v in vars(args).items() if k not in hidden}
        shown["data"] = args.data.partition(":")[0]
        record = {"metric": spread.metric, "table_sha256": truths.digest, "truth": truth, "scores": found}
        write_json(
            args.json, {"benchmark": "proxies", **surroundings(args.device), "arguments": shown, **record}
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
