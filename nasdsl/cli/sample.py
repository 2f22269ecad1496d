"""`nasdsl sample`: uniform random architectures.

Takes a file, a number and a seed, prints one JSON object a line. Invariant: the same seed gives
the same lines.
"""

from __future__ import annotations

import argparse
import json

from nasdsl.cli.arguments import Parser, assignments, at_least, file_argument, within_argument
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.space import DISTINCT_PUBLISHED, distinct, load


def configure(parser: Parser) -> None:
    """Declares the options."""
    file_argument(parser)
    within_argument(parser)
    parser.add_argument("-n", type=at_least(0), default=1, metavar="N", help="how many (default: 1)")
    parser.add_argument("--seed", type=at_least(0), default=0, metavar="S", help="(default: 0)")
    parser.add_argument("--distinct", action="store_true", help="uniform over networks, not encodings")
    parser.add_argument(DISTINCT_PUBLISHED, action="store_true", dest="published", help=argparse.SUPPRESS)
    parser.example("nasdsl sample nasbench201 -n 3 --seed 7")


def run(args: argparse.Namespace) -> int:
    """Samples."""
    space = load(args.file, assignments("--param", args.param), args.allow_python, args.within)
    for architecture in space.sample(args.n, seed=args.seed, distinct=distinct(args)):
        # Files are written with indentation; here a line is a record.
        print(json.dumps(json.loads(architecture.to_json()), ensure_ascii=False))
    return FINE
