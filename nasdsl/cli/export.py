"""`nasdsl export`: one network without the library.

Takes a space and an architecture, writes a file. Invariant: the file needs torch and nothing
else; nothing here imports torch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from nasdsl.cli.arguments import Parser, file_argument, not_yet, within_argument
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.space import architecture_argument, load_architecture
from nasdsl.errors import UserError


def configure(parser: Parser) -> None:
    """Declares the options."""
    file_argument(parser)
    within_argument(parser)
    architecture_argument(parser, required=True)
    parser.add_argument("--format", choices=("py", "onnx", "pt2"), default="py", help="(default: py)")
    parser.add_argument("-o", dest="output", metavar="FILE", default="model.py", help="(default: model.py)")
    parser.example("nasdsl export nats_size --arch arch.json -o model.py")


def run(args: argparse.Namespace) -> int:
    """Exports."""
    if args.format != "py":
        raise not_yet(f"--format {args.format}", "`--format py` writes a module for torch")
    space, architecture = load_architecture(args)
    text = space.model_source(architecture)
    try:
        Path(args.output).write_text(text, "utf-8")
    except OSError as error:
        raise UserError.plain("NAS005", f"{args.output} cannot be written: {error.strerror}") from None
    print(args.output)
    return FINE
