"""`nasdsl stats`: what one architecture costs.

Takes a space and an architecture, prints a table or JSON. Invariant: the figures are computed from
the file, without building the network.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping

import attrs

from nasdsl.cli.arguments import Parser, file_argument, json_argument, within_argument
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.space import architecture_argument, load_architecture

_UNITS = {
    "params": "weights",
    "macs": "multiply-adds, one input",
    "live_params": "weights that the output depends on",
    "live_macs": "multiply-adds that the output depends on, one input",
    "activation_bytes": "bytes of activations, one input, fp32",
    "zero_output": "whether the output does not depend on the input",
    "thop.flops": "FLOPs by the rules of thop 0.0.31, eval mode",
}


def configure(parser: Parser) -> None:
    """Declares the options."""
    file_argument(parser)
    within_argument(parser)
    architecture_argument(parser, required=True)
    parser.add_argument(
        "--convention",
        metavar="C",
        help="also what a counter of others says: thop, which many papers print as FLOPs",
    )
    parser.add_argument("--auxiliary", action="store_true", help="with the auxiliary head of retraining")
    json_argument(parser)
    parser.example(
        "nasdsl stats nasbench201 --arch "
        "'|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|'",
        "nasdsl stats cream --arch cream_287 --convention thop",
        "nasdsl stats darts --param layers=20 --param C=36 --arch architecture.json --json",
    )


def run(args: argparse.Namespace) -> int:
    """Computes and prints."""
    space, architecture = load_architecture(args)
    conventions = () if args.convention is None else (args.convention,)
    stats = space.stats(architecture, auxiliary=args.auxiliary, conventions=conventions)
    figures = attrs.asdict(stats)
    if args.json:
        print(json.dumps(figures))
        return FINE
    others = figures.pop("conventions")
    cells = {name: _shown(value) for name, value in (*figures.items(), *_flat(others))}
    width = max(map(len, cells))
    column = max(map(len, cells.values()))
    for name, cell in cells.items():
        print(f"{name:<{width}}  {cell:>{column}}  {_UNITS.get(name, '')}".rstrip())
    return FINE


def _flat(conventions: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, int]]:
    """The figures of the conventions as `convention.figure`."""
    for convention, figures in conventions.items():
        for name, value in figures.items():
            yield f"{convention}.{name}", value


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int | float) else str(value)
