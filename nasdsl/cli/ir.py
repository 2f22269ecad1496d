"""`nasdsl ir`: the intermediate form as text.

Takes a space and perhaps a method, prints the IR before, between or after its passes; or reads IR
text back. Invariant: what it prints, `nasdsl ir -` reads and prints again to the letter.
"""

from __future__ import annotations

import argparse
import sys

from nasdsl.cli.arguments import CommandLineError, Parser, assignments, file_argument, method_arguments
from nasdsl.cli.dispatch import FINE, WRONG_INPUT
from nasdsl.errors import VerifyError


def configure(parser: Parser) -> None:
    """Declares the options."""
    file_argument(parser)
    method_arguments(parser, required=False)
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--after", metavar="PASS", help="stop after this pass of the method")
    when.add_argument("--after-all", action="store_true", help="the IR after every pass, one by one")
    parser.example(
        "nasdsl ir darts",
        "nasdsl ir darts --method toponas --after-all",
        "nasdsl ir darts | nasdsl ir -",
    )


def run(args: argparse.Namespace) -> int:
    """Prints the IR."""
    if args.file == "-":
        return _read_back(args)
    if args.method is None and (args.after or args.after_all or args.settings or args.passes):
        raise CommandLineError("--after, --after-all, --set and --pass need --method: passes belong to one")
    from nasdsl import opening

    text = opening.ir_text(
        args.file,
        assignments("--param", args.param),
        allow_python=args.allow_python,
        method=args.method,
        settings=assignments("--set", args.settings, words=True),
        passes=args.passes,
        after=args.after,
        after_all=args.after_all,
    )
    print(text.rstrip("\n"))
    return FINE


def _read_back(args: argparse.Namespace) -> int:
    if any((args.param, args.method, args.settings, args.passes, args.after, args.after_all)):
        raise CommandLineError("`nasdsl ir -` reads IR text from standard input and takes no other option")
    from nasdsl import opening

    try:
        print(opening.read_ir(sys.stdin.read()).rstrip("\n"))
    except VerifyError as error:
        # From a file this would be a bug of a pass; here the text is the user's own.
        print(f"the IR breaks a rule of its stage: {error}", file=sys.stderr)
        return WRONG_INPUT
    return FINE
