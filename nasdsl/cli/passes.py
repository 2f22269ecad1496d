"""`nasdsl passes`: the passes over the intermediate form.

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
    parser.example("nasdsl passes")


def run(args: argparse.Namespace) -> int:
    """Prints every pass with the stages it goes between."""
    from nasdsl.passes import PASSES

    passes = [PASSES.load(name) for name in PASSES.names()]
    records = [
        {"name": p.name, "stage": f"{p.source.value} -> {p.target.value}", "summary": p.summary}
        for p in passes
    ]
    print_records(records, as_json=args.json)
    return FINE
