"""`nasdsl methods`: the search methods.

Takes nothing, prints a table or JSON. Invariant: does not import torch.
"""

from __future__ import annotations

import argparse

from nasdsl.cli.arguments import Parser, json_argument
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.table import print_records


def configure(parser: Parser) -> None:
    """Declares the options."""
    json_argument(parser)
    parser.example("nasdsl methods")


def run(args: argparse.Namespace) -> int:
    """Prints every method's name, title and summary."""
    from nasdsl.methods import METHODS

    records = []
    for name in METHODS.names():
        method = METHODS.load(name)
        records.append({"name": method.name, "title": method.title, "summary": method.summary})
    print_records(records, as_json=args.json)
    return FINE
