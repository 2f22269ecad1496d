"""`nasdsl report`: what a run found, with pictures, on one page.

Takes the folder of a run, finished or not, writes one HTML file. Invariant: the run is only read; what its folder
lacks is said, and the same files give the same page.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nasdsl.cli.arguments import CommandLineError, Parser, write_text
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


def write_whole_page(path: str, text: str) -> None:
    """Writes a page, of which one that was there stays until the new one is whole; - for standard output.

    Raises:
        CommandLineError: the file cannot be written.
    """
    from nasdsl.reporting.page import write_whole

    if path == "-":
        write_text(path, text)
        return
    try:
        write_whole(Path(path), text)
    except OSError as error:
        raise CommandLineError(f"cannot write `{path}`: {error.strerror or error}") from error


def run(args: argparse.Namespace) -> int:
    """Reads and writes."""
    from nasdsl.reporting import read_run
    from nasdsl.reporting.folder import run_folder
    from nasdsl.reporting.opened import Opened
    from nasdsl.reporting.page import page_of

    opened = Opened(read_run(args.run, args.compiled), args.allow_python)
    path = args.output or str(run_folder(args.run) / "report.html")
    write_whole_page(path, page_of(opened))
    for problem in opened.problems:
        print(f"note: {problem}", file=sys.stderr)
    if path != "-":
        print(path)
    return FINE
