"""`nasdsl count`: the exact size of a space.

Takes a file, prints an integer first. Invariant: does not import torch; the integer is exact,
however long.
"""

from __future__ import annotations

import argparse
import json
import sys

from nasdsl.cli.arguments import Parser, assignments, file_argument, json_argument
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.space import DISTINCT_PUBLISHED, load, refuse_published


def configure(parser: Parser) -> None:
    """Declares the options."""
    file_argument(parser)
    parser.add_argument("--cell", metavar="NAME", help="count the decisions of one cell only")
    parser.add_argument("--distinct", action="store_true", help="count different networks, not encodings")
    parser.add_argument(DISTINCT_PUBLISHED, action="store_true", dest="published", help=argparse.SUPPRESS)
    json_argument(parser)
    parser.example("nasdsl count darts", "nasdsl count darts --cell normal --json")


def run(args: argparse.Namespace) -> int:
    """Counts."""
    refuse_published(args)
    space = load(args.file, assignments("--param", args.param))
    size = space.count(distinct=args.distinct, cell=args.cell)
    # Python refuses to print integers beyond 4300 digits unless told that they are wanted.
    sys.set_int_max_str_digits(0)
    if args.json:
        record = {"space": space.name, "cell": args.cell, "distinct": args.distinct, "count": size}
        print(json.dumps(record))
    else:
        print(size)
    return FINE
