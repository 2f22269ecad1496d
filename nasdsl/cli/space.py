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


def load(
    file: str, params: Mapping[str, Value], allow_python: bool = False, within: str | None = None
) -> Space:
    """The space of a file or of a shipped name, with its parameters set; the part of it that --within names."""
    from nasdsl import opening

    space = opening.load(file, allow_python=allow_python, **params)
    return space if within is None else space.within(within)


def load_architecture(args: argparse.Namespace) -> tuple[Space, Architecture]:
    """The space of FILE and the architecture of --arch, which may say parameters of the space.

    Raises:
        UserError: as `nasdsl.load_architecture`; NAS404 for a --within that does not fit, NAS405 for an
            architecture outside.
    """
    from nasdsl import opening

    params = assignments("--param", args.param)
    space, arch = opening.load_architecture(args.file, args.arch, allow_python=args.allow_python, **params)
    if args.within is not None:
        space = space.within(args.within)
        space.architecture(arch.choices)
    return space, arch


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
