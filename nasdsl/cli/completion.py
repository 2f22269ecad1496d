"""`nasdsl completion`: completion scripts for shells, made by shtab from the parsers.

Takes the name of a shell, prints its script. Invariant: every verb and option of the command
line is in it, because it is made from the same declarations.
"""

from __future__ import annotations

import argparse
from importlib import import_module

from nasdsl.cli.arguments import CommandLineError, Parser, color_argument
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.verbs import VERBS

SHELLS = ("bash", "zsh", "tcsh", "fish")


def configure(parser: Parser) -> None:
    """Declares the options."""
    parser.add_argument("shell", choices=SHELLS, help="the shell to complete for")
    parser.example("nasdsl completion bash")


def run(args: argparse.Namespace) -> int:
    """Prints the script."""
    try:
        import shtab
    except ImportError:
        raise CommandLineError(
            "completion needs shtab; install it with `pip install 'nasdsl[lsp]'`"
        ) from None
    if args.shell not in shtab.SUPPORTED_SHELLS:
        raise CommandLineError(f"shtab {shtab.__version__} knows {', '.join(shtab.SUPPORTED_SHELLS)}")
    print(shtab.complete(whole_parser(), args.shell))
    return FINE


def whole_parser() -> argparse.ArgumentParser:
    """All verbs as one parser, for tools that read parsers."""
    parser = argparse.ArgumentParser(prog="nasdsl", allow_abbrev=False)
    parser.add_argument("--version", action="store_true", help="the version")
    verbs = parser.add_subparsers(dest="verb")
    for name, verb in VERBS.items():
        own = Parser(name, verb.summary)
        import_module(f"nasdsl.cli.{name}").configure(own)
        color_argument(own)
        verbs.add_parser(name, parents=[own], add_help=False, help=verb.summary)
    return parser
