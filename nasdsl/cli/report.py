"""`nasdsl report`: what a run found, with pictures, on one page.

Takes the folder of a run, finished or not, writes one HTML file. Invariant: the run is only read; what its folder
lacks is said, and the same files give the same page.
"""

from __future__ import annotations

import argparse
import sys

from nasdsl.cli.arguments import Parser, write_text
from nasdsl.cli.dispatch import FINE


def configure(parser: Parser) -> None:
    """Declares the options."""
    add = parser.add_argument
    add("run", metavar="RUN", help="the folder of a run, or a compiled directory with one run in it")
    add(
        "-o",
        "--output",
        metavar="FILE",
        help="the page to write, - for standard output (default: RUN/report.html)",
    )
    add(
        "--compiled",
        metavar="DIR",
        help="the directory of its search.py, for a run that lies elsewhere (--out)",
    )
    add("--allow-python", action="store_true", help="let `use python` in the space import what it names")
    parser.example(
        "nasdsl report build/darts-toponas/runs/0", "nasdsl report build/darts-toponas -o found.html"
    )


def run(args: argparse.Namespace) -> int:
    """Reads and writes."""
    from nasdsl.reporting import page, read_run

    found = read_run(args.run, args.compiled)
    path = args.output or str(found.folder / "report.html")
    write_text(path, page(found, args.allow_python))
    for problem in found.problems:
        print(f"note: {problem}", file=sys.stderr)
    if path != "-":
        print(path)
    return FINE
