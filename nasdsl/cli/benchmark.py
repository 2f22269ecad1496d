"""`nasdsl benchmark`: what a table of results knows.

Takes a space and a table, prints a summary, the best rows, or where architectures stand. Invariant: every
answer names the table's checksum and, for every metric, whether higher or lower is better; torch is not
imported.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import attrs

from nasdsl.cli.arguments import (
    CommandLineError,
    Parser,
    assignments,
    at_least,
    file_argument,
    json_argument,
    within_argument,
)
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.space import load
from nasdsl.cli.table import print_table
from nasdsl.errors import UserError

if TYPE_CHECKING:
    from nasdsl.api import Space
    from nasdsl.tabular import Best, Spread, Standing, Table


def configure(parser: Parser) -> None:
    """Declares the options."""
    file_argument(parser)
    within_argument(parser)
    parser.add_argument(
        "--table",
        required=True,
        metavar="TABLE",
        help="a CSV file with a column `arch`, perhaps packed by gzip; natsbench:PATH; FILE#sha256=HEX",
    )
    parser.add_argument(
        "--arch",
        action="append",
        default=[],
        metavar="A",
        help="where this architecture stands: JSON, its path, or a published notation; may be repeated",
    )
    parser.add_argument("--metric", metavar="M", help="this metric alone (default: all)")
    parser.add_argument("--top", type=at_least(1), metavar="N", help="the N best rows of a metric")
    parser.add_argument("--sha256", metavar="HEX", help="refuse a table with another checksum")
    parser.add_argument("--check", action="store_true", help="read every row, limits of the space included")
    json_argument(parser)
    parser.example(
        "nasdsl benchmark nasbench201 --table results.csv.gz",
        "nasdsl benchmark nasbench201 --table results.csv.gz --metric test_accuracy --top 5",
        "nasdsl benchmark nasbench201 --table results.csv.gz --arch architecture.json",
    )


def run(args: argparse.Namespace) -> int:
    """Opens the table and prints."""
    from nasdsl.api import Space

    if args.top is not None and args.arch:
        raise CommandLineError("--top lists the best rows, --arch says where others stand: give one of them")
    name = args.table
    if args.sha256 is not None:
        if "#sha256=" in name:
            raise CommandLineError("the checksum is given twice: in --table and as --sha256")
        name = f"{name}#sha256={args.sha256}"
    space = load(args.file, assignments("--param", args.param), args.allow_python)
    table = space.table(name, args.metric)
    # A table is of the whole space, also where the file says that only a part counts.
    checked = table.check(Space(space.checked).architecture) if args.check else None
    if args.within is not None:
        space = space.within(args.within)
    if space.subspace is not None:
        space, table = _inside(space, table)
    head: dict[str, object] = {"table": table.name, "sha256": table.digest, "rows": len(table)}
    if space.subspace is not None:
        head["within"] = space.within_digest
    if checked is not None:
        head["checked"] = checked
    if args.arch:
        _print_standings(space, table, head, args)
    elif args.top is not None:
        _print_top(table, table.top(args.top, args.metric), head, args.json)
    else:
        _print_summary(space, table, head, args)
    return FINE


def _inside(space: Space, table: Table) -> tuple[Space, Table]:
    """The rows of a table that a sub-space has."""
    from nasdsl.tabular.inside import Inside
    from nasdsl.tabular.keys import Keys

    return space, Inside.of(
        table, Keys(space.checked), lambda c: space.subspace is None or c in space.subspace
    )


def _print_standings(space: Space, table: Table, head: dict[str, object], args: argparse.Namespace) -> None:
    found: list[tuple[str, list[Standing]]] = []
    metrics = table.metrics if args.metric is None else (args.metric,)
    for text in args.arch:
        arch = space.parse(text)
        shown = space.format(arch) if space.notation else text
        if not table.has(arch):
            raise UserError.plain(
                "NAS603",
                f"table {table.name} has no row for {shown}",
                help=f"it has {len(table):,} rows; `nasdsl benchmark` without --arch says what they cover",
            )
        found.append((shown, [table.standing(arch, metric) for metric in metrics]))
    if args.json:
        records = [{"architecture": a, "standings": [attrs.asdict(s) for s in all_]} for a, all_ in found]
        _print_json({**head, "architectures": records})
        return
    _print_head(head)
    for shown, standings in found:
        print(f"\n{shown}")
        rows = [
            (
                s.metric,
                _number(s.value),
                _number(s.regret),
                f"{_number(s.rank)} of {s.size:,}",
                s.better,
            )
            for s in standings
        ]
        print_table([("metric", "value", "regret", "rank", "better"), *rows], indent=2)


def _print_top(table: Table, rows: tuple[Best, ...], head: dict[str, object], as_json: bool) -> None:
    way = table.spread(rows[0].metric).better
    if as_json:
        records = [{"rank": b.rank, "value": b.value, "architecture": b.architecture} for b in rows]
        _print_json({**head, "metric": rows[0].metric, "better": way, "top": records})
        return
    _print_head(head)
    print(f"metric   {rows[0].metric}, {way} is better\n")
    print_table(
        [
            ("rank", "value", "architecture"),
            *((_number(b.rank), _number(b.value), b.architecture) for b in rows),
        ]
    )


def _print_summary(space: Space, table: Table, head: dict[str, object], args: argparse.Namespace) -> None:
    metrics = table.metrics if args.metric is None else (args.metric,)
    spreads = [table.spread(metric) for metric in metrics]
    if args.json:
        tally = space.tally()
        size = tally.low if tally.low == tally.high else None
        figures = [attrs.asdict(s) for s in spreads]
        _print_json({**head, "space": space.name, "size": size, "notes": table.notes, "metrics": figures})
        return
    _print_head({**head, "rows": f"{len(table):,} {_coverage(space, len(table))}"})
    for note in table.notes:
        print(f"note     {note}")
    print()
    print_table([("metric", "better", "known", "min", "median", "max", "best"), *map(_row, spreads)])


def _coverage(space: Space, rows: int) -> str:
    tally = space.tally()
    if space.checked.limits:
        # A benchmark covers a published space, and a search may be held to a part of it.
        return f"(the space has limits, and {tally.low:,} architectures within them)"
    share = f" ({_number(100 * rows / tally.low, 3)} %)" if tally.low == tally.high else ""
    return f"of {'at least ' * (tally.low != tally.high)}{tally.low:,} architectures{share}"


def _row(s: Spread) -> tuple[str, ...]:
    best = s.best.architecture if s.best is not None else "-"
    return (s.metric, s.better, f"{s.known:,}", _number(s.low), _number(s.median), _number(s.high), best)


def _print_head(head: dict[str, object]) -> None:
    shown = {"sha256": "none: this is not one file", **{k: v for k, v in head.items() if v is not None}}
    for name, value in {key: shown[key] for key in head}.items():
        print(f"{name:<9}{f'{value:,}' if isinstance(value, int) else value}")


def _print_json(record: dict[str, object]) -> None:
    print(json.dumps(record, ensure_ascii=False))


def _number(value: float | None, digits: int = 10) -> str:
    """As written in the table: ten digits leave out what adding binary fractions leaves behind."""
    return "-" if value is None else f"{value:,.{digits}g}"
