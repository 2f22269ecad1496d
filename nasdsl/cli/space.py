"""What verbs that take a space share.

Takes what the command line named, returns the space or the architecture. Invariant: errors are
`UserError`s with their place; nothing here imports torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nasdsl.cli.arguments import Parser, Value, not_yet

if TYPE_CHECKING:
    from nasdsl.api import Space

DISTINCT_PUBLISHED = "--distinct=published"
"""An option with its value in its name: argparse would otherwise read `--distinct FILE` as a value."""


def load(file: str, params: Mapping[str, Value]) -> Space:
    """The space of a file or of a shipped name, with its parameters set."""
    from nasdsl import api

    return api.load(file, **params)


def refuse_published(args: argparse.Namespace) -> None:
    """`--distinct=published` belongs to a later version."""
    if args.published:
        raise not_yet(DISTINCT_PUBLISHED, "`--distinct` counts by nasdsl's own identity")


def architecture_argument(parser: Parser, *, required: bool) -> None:
    """--arch A."""
    parser.add_argument(
        "--arch",
        required=required,
        metavar="A",
        help="a path to an architecture's JSON, the JSON itself, or a published notation of the space",
    )
