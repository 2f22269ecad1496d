"""`nasdsl locality`: how far the scores of architectures resemble those of their neighbours.

Takes a space and a source of scores, prints correlations by the number of edits. Invariant: a score is kept
the moment it is known where --cache names a file; what is exact is said to be.
"""

from __future__ import annotations

import argparse
import json

import attrs

from nasdsl.cli.arguments import (
    CommandLineError,
    Parser,
    assignments,
    at_least,
    file_argument,
    json_argument,
    within_argument,
)
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.scores import pool_of, score_arguments
from nasdsl.cli.space import load
from nasdsl.cli.table import decimal, print_table


def configure(parser: Parser) -> None:
    """Declares the options."""
    file_argument(parser)
    within_argument(parser)
    score_arguments(parser)
    add = parser.add_argument
    add("--walks", type=at_least(1), default=10, metavar="N", help="random walks (default: 10)")
    add("--steps", type=at_least(10), default=1000, metavar="N", help="steps of each (default: 1000)")
    add("--lags", type=at_least(1), default=36, metavar="N", help="lags told of a walk (default: 36)")
    add("--pairs", type=at_least(10), default=200, metavar="N", help="pairs of each distance (default: 200)")
    add("--distances", type=at_least(1), default=6, metavar="N", help="edits up to which (default: 6)")
    add("--exact", action="store_true", help="over all pairs: scores every architecture")
    add("--seed", type=at_least(0), default=0, metavar="S", help="of walks and pairs (default: 0)")
    json_argument(parser)
    parser.example(
        "nasdsl locality nasbench201 --table results.csv --metric test --exact",
        "nasdsl locality small.nas --proxy synflow --walks 2 --steps 100 --cache scores.jsonl",
    )


def run(args: argparse.Namespace) -> int:
    """Measures and prints."""
    from nasdsl.shrinking.ground import Ground
    from nasdsl.shrinking.locality import NEAR, can_be_exact, locality

    space = load(args.file, assignments("--param", args.param), args.allow_python, args.within)
    ground = Ground(space)
    if args.exact and not can_be_exact(ground):
        raise CommandLineError(
            "--exact is for spaces of few, free decisions without limits: leave it out, and pairs are drawn"
        )
    with pool_of(args, space) as pool:
        found = locality(
            ground,
            pool.scores,
            args.walks,
            args.steps,
            args.lags,
            args.pairs,
            args.distances,
            args.exact,
            args.seed,
        )
        head = {"space": space.name, "source": pool.source.name, "evaluations": pool.evaluations}
    if args.json:
        print(json.dumps(head | attrs.asdict(found)))
        return FINE
    print(f"locality of {head['source']}: {head['evaluations']:,} evaluations\n")
    rows = [("edits", "walks", "+-", "all pairs" if args.exact else f"{args.pairs} pairs")]
    for lag in range(max(len(found.shells), min(6, len(found.autocorrelation)))):
        walked = lag < len(found.autocorrelation)
        rows.append(
            (
                str(lag + 1),
                decimal(found.autocorrelation[lag]) if walked else "-",
                decimal(found.deviation[lag]) if walked else "-",
                decimal(found.shells[lag]) if lag < len(found.shells) else "-",
            )
        )
    print_table(rows)
    length = "without end" if found.length is None else f"{found.length:.2f} edits"
    print(f"\ncorrelation length {length}; locality radius {found.radius} (correlation of {NEAR} or more)")
    return FINE


__all__ = ["configure", "run"]
