"""`nasdsl compare`: runs beside each other.

Takes the folders of two runs or more, prints what they reached and in what they differ, and writes a page where
that is asked for. Invariant: the table, the JSON and the page say the same; the runs are only read.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from nasdsl.cli.arguments import CommandLineError, Parser, json_argument
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.report import write_whole_page
from nasdsl.cli.table import print_table


def configure(parser: Parser) -> None:
    """Declares the options."""
    add = parser.add_argument
    add(
        "runs",
        metavar="RUN",
        nargs="+",
        help="the folders of runs, or compiled directories with one run each",
    )
    add(
        "-o",
        "--output",
        metavar="FILE",
        help="a page to write: curves and architectures, too; - for standard output",
    )
    add("--allow-python", action="store_true", help="let `use python` in a space import what it names")
    json_argument(parser)
    parser.example(
        "nasdsl compare build/darts-darts build/darts-toponas",
        "nasdsl compare build/darts-toponas/runs/* -o runs.html",
    )


def run(args: argparse.Namespace) -> int:
    """Reads, prints and writes."""
    from nasdsl.reporting import read_run
    from nasdsl.reporting.beside import page_of_all
    from nasdsl.reporting.comparison import compared
    from nasdsl.reporting.opened import opened_all

    if len(args.runs) < 2:
        raise CommandLineError("a comparison needs two runs or more; `nasdsl report RUN` shows one")
    if args.json and args.output == "-":
        raise CommandLineError("--json and -o - both go to standard output: leave one of them out")
    opened = opened_all([read_run(path) for path in args.runs], args.allow_python)
    if args.output is not None:
        write_whole_page(args.output, page_of_all(opened))
    if args.output == "-":
        return FINE
    found = compared(opened)
    if args.json:
        print(json.dumps(found))
        return FINE
    _print(found)
    if args.output is not None:
        print(f"\n{args.output}")
    return FINE


def _print(found: dict[str, Any]) -> None:
    from nasdsl.reporting.beside import results_table, text_of

    table = results_table(found)
    print_table([tuple(table.heads), *(tuple(row) for row in table.rows)])
    names = [r["name"] for r in found["runs"]]
    for heading, rows in found["settings"].items():
        print()
        print_table([(heading, *names), *((n, *map(text_of, values)) for n, values in rows.items())])
    print()
    if found["decisions"]:
        rows = [(path, *map(text_of, values)) for path, values in found["decisions"].items()]
        print_table([("decision", *names), *rows])
    print(f"{len(found['decisions'])} decisions differ, {found['alike']} are alike")
    for each in found["runs"]:
        for problem in each["problems"]:
            print(f"note: {each['name']}: {problem}", file=sys.stderr)
