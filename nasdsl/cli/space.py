"""What verbs that take a space share.

Takes what the command line named, returns the space or the architecture. Invariant: errors are
`UserError`s with their place; nothing here imports torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nasdsl.cli.arguments import Parser, Value, assignments

if TYPE_CHECKING:
    from nasdsl.api import Space
    from nasdsl.space.architecture import Architecture

DISTINCT_PUBLISHED = "--distinct=published"
"""An option with its value in its name: argparse would otherwise read `--distinct FILE` as a value."""


def load(file: str, params: Mapping[str, Value], allow_python: bool = False) -> Space:
    """The space of a file or of a shipped name, with its parameters set."""
    from nasdsl import opening

    return opening.load(file, allow_python=allow_python, **params)


def load_architecture(args: argparse.Namespace) -> tuple[Space, Architecture]:
    """The space of FILE and the architecture of --arch, which may say parameters of the space."""
    from nasdsl import opening

    params = assignments("--param", args.param)
    return opening.load_architecture(args.file, args.arch, allow_python=args.allow_python, **params)


def distinct(args: argparse.Namespace) -> bool | str:
    """What `--distinct` or `--distinct=published` asks for."""
    return "published" if args.published else bool(args.distinct)


def architecture_argument(parser: Parser, *, required: bool) -> None:
    """--arch A."""
    parser.add_argument(
        "--arch",
        required=required,
        metavar="A",
        help="a path to an architecture's JSON, the JSON itself, a published notation of the space, "
        "or the name of a published architecture such as cream_287",
    )
