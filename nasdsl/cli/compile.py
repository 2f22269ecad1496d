"""`nasdsl compile`: the main job.

Takes a space and a method, writes a directory that searches and retrains. Invariant: the same input
gives the same bytes; nothing is written when anything is wrong.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from nasdsl.cli.arguments import (
    CommandLineError,
    Parser,
    assignments,
    file_argument,
    method_arguments,
    within_argument,
)
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.space import load


def configure(parser: Parser) -> None:
    """Declares the options."""
    file_argument(parser)
    method_arguments(parser, required=True)
    parser.add_argument(
        "-o", "--output", metavar="DIR", help="the directory to write (default: build/SPACE-METHOD)"
    )
    parser.add_argument(
        "--explain", action="store_true", help="print what every optimising pass rewrote (rewrites.md)"
    )
    within_argument(parser)
    parser.example(
        "nasdsl compile darts --method toponas -o build/darts-toponas --param layers=5 --set epochs=2",
        "nasdsl compile nasbench201 --method darts --explain",
    )


def run(args: argparse.Namespace) -> int:
    """Compiles and writes."""
    params = assignments("--param", args.param)
    settings = assignments("--set", args.settings, words=True)
    space = load(args.file, params, args.allow_python, args.within)
    program = space.compile(args.method, passes=args.passes, settings=settings)
    directory = Path(args.output or Path("build") / f"{space.name}-{args.method}")
    try:
        written = program.write(directory)
    except OSError as error:
        raise CommandLineError(f"cannot write `{directory}`: {error.strerror or error}") from error
    for path in written:
        print(path)
    if args.explain:
        print(f"\n{(directory / 'rewrites.md').read_text('utf-8')}", end="")
    print(f"\nnext: python {directory / 'search.py'} --data digits")
    return FINE
