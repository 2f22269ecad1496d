"""`nasdsl draw`: a picture.

Takes a space, or one architecture of it, writes SVG or PNG. Invariant: the same input gives the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from nasdsl.cli.arguments import (
    CommandLineError,
    Parser,
    assignments,
    at_least,
    file_argument,
    within_argument,
    write_text,
)
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.space import architecture_argument, load, load_architecture


def configure(parser: Parser) -> None:
    """Declares the options."""
    file_argument(parser)
    within_argument(parser)
    architecture_argument(parser, required=False)
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="X.svg",
        help="an .svg or a .png; - for SVG on standard output",
    )
    parser.add_argument(
        "--scale", type=at_least(1), default=2, metavar="N", help="pixels of a PNG for a unit (default: 2)"
    )
    parser.example(
        "nasdsl draw darts -o darts.svg", "nasdsl draw darts --arch architecture.json -o found.svg"
    )


def run(args: argparse.Namespace) -> int:
    """Draws."""
    output: str = args.output
    if output != "-" and not output.lower().endswith((".svg", ".png")):
        raise CommandLineError(f"-o takes a file that ends in .svg or .png, or -, not `{output}`")
    if args.within is not None and args.arch is None:
        raise CommandLineError("--within says which architectures belong to the space: it needs --arch")
    if args.arch is None:
        picture = load(args.file, assignments("--param", args.param), args.allow_python).draw()
    else:
        space, architecture = load_architecture(args)
        picture = space.draw(architecture)
    if output.lower().endswith(".png"):
        _write_png(output, picture, args.scale)
    else:
        write_text(output, picture)
    if output != "-":
        print(output)
    return FINE


def _write_png(output: str, picture: str, scale: int) -> None:
    """Renders a picture with resvg."""
    try:
        import resvg_py
    except ImportError:
        raise CommandLineError("a PNG needs resvg-py; install it with `pip install 'nasdsl[png]'`") from None
    try:
        Path(output).write_bytes(bytes(resvg_py.svg_to_bytes(svg_string=picture, zoom=scale)))
    except OSError as error:
        raise CommandLineError(f"cannot write {output}: {error.strerror}") from None
