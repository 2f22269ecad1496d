"""`nasdsl check`: every mistake of some files.

Takes files, prints diagnostics: as text on standard error, or as JSON on standard output.
Invariant: imports neither torch nor networkx; exit code 1 if and only if there is an error.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import PurePath

from nasdsl.cli.arguments import Parser, assignments, param_argument
from nasdsl.cli.dispatch import FINE, WRONG_INPUT, wants_color
from nasdsl.diagnostics import Diagnostic, Severity, render, to_json
from nasdsl.errors import UserError


def configure(parser: Parser) -> None:
    """Declares the options."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="a .nas file, or a shipped space's name")
    param_argument(parser)
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how to report")
    parser.example("nasdsl check my.nas", "nasdsl check darts --param layers=20 --format json")


def run(args: argparse.Namespace) -> int:
    """Checks every file, whatever is wrong with those before it."""
    from nasdsl import opening

    params = assignments("--param", args.param)
    found: list[Diagnostic] = []
    for file in args.files:
        try:
            items = tuple(opening.check_file(file, params, args.allow_python).items)
        except UserError as error:
            items = error.diagnostics
        found.extend(items)
        if args.format == "text" and not _errors(items):
            print(f"{PurePath(file)}: ok")
    if args.format == "json":
        print(json.dumps(to_json(found), indent=2))
    elif found:
        sys.stdout.flush()  # so that a terminal shows both streams in order
        print(render(found, color=wants_color(args.color)), file=sys.stderr)
    return WRONG_INPUT if _errors(found) else FINE


def _errors(items: tuple[Diagnostic, ...] | list[Diagnostic]) -> bool:
    return any(d.severity is Severity.ERROR for d in items)
