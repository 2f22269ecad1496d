"""`nasdsl count`: the exact size of a space.

Takes a file, prints an integer first. Invariant: does not import torch; the integer is exact,
however long; where no exact number is within reach that is an error, with bounds.
"""

from __future__ import annotations

import argparse
import json
import sys

from nasdsl.cli.arguments import Parser, assignments, file_argument, json_argument, within_argument
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.space import DISTINCT_PUBLISHED, distinct, load


def configure(parser: Parser) -> None:
    """Declares the options."""
    file_argument(parser)
    within_argument(parser)
    parser.add_argument("--cell", metavar="NAME", help="count the decisions of one cell only")
    parser.add_argument("--distinct", action="store_true", help="count different networks, not encodings")
    parser.add_argument(DISTINCT_PUBLISHED, action="store_true", dest="published", help=argparse.SUPPRESS)
    json_argument(parser)
    parser.example(
        "nasdsl count nasbench201 --distinct",
        "nasdsl count darts --cell normal --json",
        "nasdsl count nasbench201 --within shrunk.json",
    )


def run(args: argparse.Namespace) -> int:
    """Counts."""
    space = load(args.file, assignments("--param", args.param), args.allow_python, args.within)
    # Python refuses to print integers beyond 4300 digits unless told that they are wanted.
    sys.set_int_max_str_digits(0)
    part = {"within": space.within_digest} if space.subspace is not None else {}
    record = {"space": space.name, **part, "cell": args.cell, "distinct": distinct(args)}
    if args.json and args.cell is None:
        tally = space.tally(distinct(args))
        size = {"count": tally.low} if tally.exact else {"count": None, "low": tally.low, "high": tally.high}
        print(json.dumps({**record, **size, "how": tally.how}))
        return FINE
    count = space.count(distinct=distinct(args), cell=args.cell)
    print(json.dumps({**record, "count": count}) if args.json else count)
    return FINE
