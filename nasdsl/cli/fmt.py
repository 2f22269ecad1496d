"""`nasdsl fmt`: formats .nas files.

Takes files, rewrites those that change. Invariant: a file that does not parse is left alone and
reported; a file is replaced at once or not at all.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from pathlib import Path

from nasdsl.cli.arguments import CommandLineError, Parser
from nasdsl.cli.dispatch import FINE, WRONG_INPUT, wants_color
from nasdsl.diagnostics import Diagnostics, render
from nasdsl.errors import UserError
from nasdsl.syntax.format import format_text
from nasdsl.syntax.parse import read


def configure(parser: Parser) -> None:
    """Declares the options."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="a .nas file; - reads standard input")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file would change")
    how.add_argument("--diff", action="store_true", help="write nothing; show what would change")
    parser.example("nasdsl fmt my.nas", "nasdsl fmt --check my.nas other.nas")


def run(args: argparse.Namespace) -> int:
    """Formats."""
    if "-" in args.files:
        if args.files != ["-"]:
            raise CommandLineError("`-` stands alone")
        sys.stdout.write(format_text(sys.stdin.read(), "<stdin>"))
        return FINE
    wrong = changed = False
    for name in args.files:
        try:
            changed |= _one(name, args)
        except UserError as error:
            wrong = True
            print(render(error.diagnostics, color=wants_color(args.color)), file=sys.stderr)
    return WRONG_INPUT if wrong or (changed and (args.check or args.diff)) else FINE


def _one(name: str, args: argparse.Namespace) -> bool:
    """Formats one file; whether it changes."""
    diagnostics = Diagnostics()
    source = read(name, diagnostics)
    diagnostics.raise_if_errors()
    if source is None:
        raise UserError(diagnostics.items)
    made = format_text(source.text, name)
    if made == source.text:
        return False
    if args.diff:
        old, new = source.text.splitlines(keepends=True), made.splitlines(keepends=True)
        sys.stdout.writelines(difflib.unified_diff(old, new, name, f"{name} (formatted)"))
    else:
        print(name)
        if not args.check:
            _replace(Path(name), made)
    return True


def _replace(path: Path, text: str) -> None:
    """Writes a file so that a crash leaves the old one or the new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(text.encode("utf-8"))
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UserError.plain("NAS005", f"{path} cannot be written: {error.strerror}") from None
