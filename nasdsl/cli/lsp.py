"""`nasdsl lsp`: the language server for editors, over standard input and output.

Takes the protocol's messages, answers them. Invariant: without pygls it says how to get it.
"""

from __future__ import annotations

import argparse
import logging

from nasdsl.cli.arguments import CommandLineError, Parser
from nasdsl.cli.dispatch import FINE


def configure(parser: Parser) -> None:
    """Declares the options."""
    parser.example("nasdsl lsp")


def run(args: argparse.Namespace) -> int:
    """Serves until the editor hangs up."""
    try:
        from nasdsl.lsp.server import make_server
    except ImportError as error:
        raise CommandLineError(
            f"the language server needs pygls ({error}); install it with `pip install 'nasdsl[lsp]'`"
        ) from None
    logging.getLogger("pygls").setLevel(logging.ERROR)
    make_server().start_io()
    return FINE
