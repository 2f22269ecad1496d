"""`nasdsl stats`: what one architecture costs.

Takes a space and an architecture, prints a table or JSON. Invariant: the figures are computed from
the file, without building the network.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping

import attrs

from nasdsl.cli.arguments import Parser, assignments, file_argument, json_argument
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.space import architecture_argument, load

_UNITS = {
    "params": "weights",
    "macs": "multiply-adds, one input",
    "live_params": "weights that the output depends on",
    "live_macs": "multiply-adds that the output depends on, one input",
    "activation_bytes": "bytes of activations, one input, fp32",
    "zero_output": "whether the output does not depend on the input",
}


def configure(parser: Parser) -> None:
    """Declares the options."""
    file_argument(parser)
    architecture_argument(parser, required=True)
    parser.add_argument("--auxiliary", action="store_true", help="with the auxiliary head of retraining")
    json_argument(parser)
    parser.example(
        "nasdsl stats nasbench201 --arch "
        "'|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|'",
        "nasdsl stats darts --param layers=20 --param C=36 --arch architecture.json --json",
    )


def run(args: argparse.Namespace) -> int:
    """Computes and prints."""
    space = load(args.file, assignments("--param", args.param), args.allow_python)
    stats = space.stats(space.parse(args.arch), auxiliary=args.auxiliary)
    figures = attrs.asdict(stats)
    if args.json:
        print(json.dumps(figures))
        return FINE
    cells = {name: _shown(value) for name, value in _flat(figures)}
    width = max(map(len, cells))
    column = max(map(len, cells.values()))
    for name, cell in cells.items():
        print(f"{name:<{width}}  {cell:>{column}}  {_UNITS.get(name, '')}".rstrip())
    return FINE


def _flat(figures: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Figures within figures, such as those in a benchmark's own convention, as `outer.inner`."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int | float) else str(value)
