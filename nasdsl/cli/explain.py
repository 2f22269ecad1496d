"""`nasdsl explain`: a diagnostic at length.

Takes a code, prints its page; without one, the table of codes. Invariant: every code that a
diagnostic can carry has a page.
"""

from __future__ import annotations

import argparse

from nasdsl.cli.arguments import CommandLineError, Parser
from nasdsl.cli.dispatch import FINE
from nasdsl.diagnostics import CODES, did_you_mean, explain


def configure(parser: Parser) -> None:
    """Declares the options."""
    parser.add_argument("code", nargs="?", metavar="CODE", help="such as NAS203; without it, all codes")
    parser.example("nasdsl explain NAS203")


def run(args: argparse.Namespace) -> int:
    """Prints the page, or the table."""
    if args.code is None:
        for code in CODES.values():
            print(f"{code.code}  {code.severity.value:<8} {code.title}")
        return FINE
    code = args.code.upper()
    if code not in CODES:
        raise CommandLineError(f"there is no code `{args.code}`{did_you_mean(code, CODES)}")
    print(explain(code).rstrip())
    return FINE
