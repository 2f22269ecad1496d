"""`nasdsl fit`: parameters of a space at which its architectures cost what is wanted.

Takes a space, a budget and what may move, prints each step with its figures and its reason, then the
`--param` line. Invariant: the figures are exact, from the file alone; no torch.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import attrs

from nasdsl.cli.arguments import Parser, assignments, file_argument, json_argument
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.table import print_table

if TYPE_CHECKING:
    from nasdsl.identity.fit import Fit, Range


def configure(parser: Parser) -> None:
    """Declares the options."""
    file_argument(parser)
    parser.add_argument(
        "--between",
        required=True,
        type=_amounts,
        metavar="A..B",
        help="the budget, such as 250M..300M, or ..300M",
    )
    parser.add_argument(
        "--measure", default="macs", metavar="M", help="params, macs, depth or latency (default: macs)"
    )
    parser.add_argument(
        "--table",
        metavar="TABLE",
        help="of latencies in microseconds, from `nasdsl latency`, for --measure latency; "
        "it needs the operations at every parameter that is tried",
    )
    parser.add_argument(
        "--grow",
        action="append",
        default=[],
        type=_range,
        metavar="P=A..B",
        help="a parameter that grows from A to B while the largest architecture is within the budget, "
        "such as layers=2..20 or depths[3..5]=1..4; may be repeated, the order is that of growth",
    )
    parser.add_argument(
        "--shrink",
        action="append",
        default=[],
        type=_range,
        metavar="P=A..B",
        help="a parameter that shrinks from B to A while the smallest architecture is beyond the budget, "
        'such as "resolution=64..224 step 32"; may be repeated',
    )
    json_argument(parser)
    parser.example(
        "nasdsl fit cream --between 250M..300M --grow depths[3..5]=1..3 --grow depths[2]=1..2 "
        '--shrink "resolution=64..224 step 32"'
    )


def run(args: argparse.Namespace) -> int:
    """Fits."""
    from nasdsl import opening

    found = opening.fit(
        args.file,
        between=args.between,
        grow=args.grow,
        shrink=args.shrink,
        measure=args.measure,
        table=args.table,
        parameters=assignments("--param", args.param),
        allow_python=args.allow_python,
    )
    if args.json:
        print(json.dumps(attrs.asdict(found)))
        return FINE
    print_table(_rows(found))
    print(found.arguments)
    return FINE


def _rows(found: Fit) -> list[tuple[str, ...]]:
    """The steps, numbers aligned on the right."""
    rows = [(s.verb, s.change, f"{s.low:,}", f"{s.high:,}", s.reason) for s in found.steps]
    heads = ("step", "sets", f"least {found.measure}", f"most {found.measure}", "because")
    wide = [max(len(r[i]) for r in (heads, *rows)) for i in range(5)]
    return [tuple(c.rjust(wide[i]) if i in {2, 3} else c for i, c in enumerate(r)) for r in (heads, *rows)]


def _amounts(words: str) -> tuple[float, float]:
    from nasdsl.identity.fit import amounts

    try:
        return amounts(words)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _range(words: str) -> Range:
    from nasdsl.identity.fit import Range

    try:
        return Range.of(words)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
