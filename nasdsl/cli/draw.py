"""`nasdsl draw`: a picture.

Takes a space, or one architecture of it, writes SVG. Invariant: the same input gives the same bytes.
"""

from __future__ import annotations

import argparse

from nasdsl.cli.arguments import CommandLineError, Parser, assignments, file_argument, not_yet, write_text
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.space import architecture_argument, load


def configure(parser: Parser) -> None:
    """Declares the options."""
    file_argument(parser)
    architecture_argument(parser, required=False)
    parser.add_argument(
        "-o", "--output", required=True, metavar="X.svg", help="the file; - for standard output"
    )
    parser.example(
        "nasdsl draw darts -o darts.svg", "nasdsl draw darts --arch architecture.json -o found.svg"
    )


def run(args: argparse.Namespace) -> int:
    """Draws."""
    output: str = args.output
    if output.lower().endswith((".png", ".pdf")):
        raise not_yet(f"nasdsl draw -o {output}", "write an .svg; browsers and Inkscape convert it")
    if output != "-" and not output.lower().endswith(".svg"):
        raise CommandLineError(f"-o takes a file that ends in .svg, or -, not `{output}`")
    space = load(args.file, assignments("--param", args.param), args.allow_python)
    architecture = None if args.arch is None else space.parse(args.arch)
    write_text(output, space.draw(architecture))
    if output != "-":
        print(output)
    return FINE
