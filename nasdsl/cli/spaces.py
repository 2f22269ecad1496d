"""`nasdsl spaces`: the spaces that come with nasdsl.

Takes nothing, prints a table or JSON. Invariant: found by glob, described by their own `doc` lines;
imports neither torch nor networkx.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from nasdsl.cli.arguments import Parser, json_argument
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.table import print_records
from nasdsl.diagnostics import Diagnostics, Source
from nasdsl.resources import shipped_spaces


def configure(parser: Parser) -> None:
    """Declares the options."""
    json_argument(parser)
    parser.example("nasdsl spaces")


def run(args: argparse.Namespace) -> int:
    """Prints every shipped space with what it says of itself."""
    records = [{"name": n, "doc": _doc(p), "file": str(p)} for n, p in shipped_spaces().items()]
    print_records(records, as_json=args.json)
    return FINE


def _doc(path: Path) -> str:
    from nasdsl.syntax import ast
    from nasdsl.syntax.parse import parse

    file = parse(Source(str(path), path.read_text("utf-8")), Diagnostics())
    for space in file.spaces if file is not None else ():
        for item in space.items:
            if isinstance(item, ast.Doc):
                return item.text.value
    return ""
