"""`nasdsl score`: scores of architectures, from a table, a supernet, a proxy, a predictor or a command.

Takes a space, a source and architectures, prints one line each, with parameters and MACs beside; against
a table of results, how well each of the three ranks. Invariant: the scores do not depend on the number of
workers; what the source or the table does not know is an error or said.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from nasdsl.cli.arguments import (
    CommandLineError,
    Parser,
    assignments,
    at_least,
    file_argument,
    json_argument,
    within_argument,
    write_text,
)
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.scores import pool_of, score_arguments
from nasdsl.cli.space import load
from nasdsl.cli.table import print_agreement, print_table
from nasdsl.errors import UserError

if TYPE_CHECKING:
    from nasdsl.api import Space
    from nasdsl.space.architecture import Architecture
    from nasdsl.tabular import Table

CONTROLS = ("params", "macs")
"""Scores that cost nothing; many a proxy fails to beat them."""


def configure(parser: Parser) -> None:
    """Declares the options."""
    file_argument(parser)
    within_argument(parser)
    score_arguments(parser)
    add = parser.add_argument
    add("-n", type=at_least(1), metavar="N", help="random architectures (default: 10)")
    add("--seed", type=at_least(0), metavar="S", help="which of them (default: 0)")
    add(
        "--arch",
        action="append",
        default=[],
        metavar="A",
        help="this architecture: JSON, its path, or a published notation; may be repeated",
    )
    add(
        "--archs",
        metavar="FILE",
        help="architectures, one a line, as --arch or as `nasdsl sample` prints them",
    )
    add("--against", metavar="TABLE", help="a table of results: how well the scores rank what it says")
    add("--against-metric", metavar="M", help="its column, if it has several")
    add("-o", dest="output", metavar="FILE", help="scores as lines of JSON")
    json_argument(parser)
    parser.example(
        "nasdsl score nasbench201 --proxy naswot --data cifar10 -n 100 --workers 4 --against results.csv",
        "nasdsl score small.nas --run build/small --archs architectures.jsonl --cache scores.jsonl",
        "nasdsl score small.nas --command 'python train.py --epochs 3' --timeout 600 -n 20 --cache scores.jsonl",
    )


def run(args: argparse.Namespace) -> int:
    """Scores, compares and prints."""
    if args.against_metric is not None and args.against is None:
        raise CommandLineError("--against-metric is a column of --against")
    space = load(args.file, assignments("--param", args.param), args.allow_python, args.within)
    chosen = _chosen(space, args)
    truth = None if args.against is None else space.table(args.against, args.against_metric)
    if truth is not None:
        truth.spread()  # a metric that it lacks is told before hours of scoring
    with pool_of(args, space) as pool:
        scores = pool.scores([a.choices for a in chosen])
        head = {
            "space": space.name,
            "source": pool.source.name,
            "of": dict(pool.identity),
            "evaluations": pool.evaluations,
            "known": pool.known,
        }
    costs = {name: space.costs(name) for name in CONTROLS}
    rows: list[dict[str, Any]] = [
        {"architecture": dict(arch.choices), "score": score if math.isfinite(score) else None}
        | {name: cost.at(arch.choices) for name, cost in costs.items()}
        for arch, score in zip(chosen, scores, strict=True)
    ]
    against = None if truth is None else _against(truth, chosen, scores, rows)
    if args.output is not None:
        write_text(args.output, "".join(json.dumps(row) + "\n" for row in rows))
    if args.json:
        print(json.dumps(head | {"scores": rows} | ({"against": against} if against else {})))
    else:
        _print(space, head, chosen, rows, against)
    return FINE


def _chosen(space: Space, args: argparse.Namespace) -> list[Architecture]:
    """The architectures that are asked for."""
    listed = bool(args.arch) + (args.archs is not None)
    drawn = args.n is not None or args.seed is not None
    if listed > 1 or (listed and drawn):
        raise CommandLineError("architectures are drawn (-n, --seed), or listed by --arch, or by --archs")
    if args.arch:
        return [space.parse(text) for text in args.arch]
    if args.archs is not None:
        return _read(space, Path(args.archs))
    return space.sample(10 if args.n is None else args.n, seed=args.seed or 0)


def _read(space: Space, path: Path) -> list[Architecture]:
    """The architectures of a file of lines. Raises UserError (NAS005, or what is wrong with a line)."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "it is no text").lower()
        raise UserError.plain(
            "NAS005",
            f"{path} cannot be read: {reason}",
            help="--archs takes a file of one architecture a line",
        ) from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(_parsed(space, line.strip()))
        except UserError as error:
            first, *rest = error.diagnostics
            raise UserError(
                [attrs.evolve(first, message=f"{path}:{number}: {first.message}"), *rest]
            ) from None
    if not found:
        raise UserError.plain(
            "NAS005", f"{path} holds no architecture", help="one a line, as `nasdsl sample` has it"
        )
    return found


def _parsed(space: Space, line: str) -> Architecture:
    """A line: what --arch takes, its choices alone, or a record that holds one of these."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return space.parse(line)
    if isinstance(record, dict) and "architecture" in record:
        inner = record["architecture"]
        return space.parse(inner) if isinstance(inner, str) else _parsed(space, json.dumps(inner))
    if isinstance(record, dict) and "space" not in record:
        return space.architecture(record.get("choices", record))
    return space.parse(line)


def _against(
    table: Table,
    chosen: Sequence[Architecture],
    scores: Sequence[float],
    rows: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """How score and controls rank what a table says; its figures go into the rows."""
    from nasdsl.ranking import agreement

    spread = table.spread()
    sign = -1.0 if spread.better == "lower" else 1.0
    figures = [table.look_up(a)[spread.metric] for a in chosen]
    for row, figure in zip(rows, figures, strict=True):
        row[spread.metric if spread.metric not in row else f"true {spread.metric}"] = figure
    kept = [i for i, figure in enumerate(figures) if figure is not None]
    if len(kept) < 2:
        raise UserError.plain(
            "NAS603",
            f"table {table.name} knows {len(kept)} of the {len(chosen)} architectures: nothing can be compared",
            help="give more; `nasdsl benchmark` says what a table has",
        )
    truth = [sign * value for value in figures if value is not None]
    columns = {"score": list(scores), **{name: [float(r[name]) for r in rows] for name in CONTROLS}}
    found = {name: agreement([column[i] for i in kept], truth) for name, column in columns.items()}
    return {
        "table": table.name,
        "sha256": table.digest,
        "figure": spread.metric,
        "better": spread.better,
        "count": len(kept),
        "unknown": len(chosen) - len(kept),
        "tau": {name: attrs.asdict(a) for name, a in found.items()},
    }


def _print(
    space: Space,
    head: Mapping[str, Any],
    chosen: Sequence[Architecture],
    rows: Sequence[Mapping[str, Any]],
    against: Mapping[str, Any] | None,
) -> None:
    print(f"scores by {head['source']}: {head['evaluations']} evaluated, {head['known']} known before\n")
    names = [name for name in rows[0] if name != "architecture"]
    cells = [tuple(_cell(row[name]) for name in names) for row in rows]
    shown = [space.format(a) if space.notation else json.dumps(dict(a.choices)) for a in chosen]
    print_table([(*names, "architecture"), *((*c, a) for c, a in zip(cells, shown, strict=True))])
    worst = sum(row["score"] is None for row in rows)
    if worst:
        print(f"\n{worst} without a score, ranked last: nothing that can be told apart flows through them")
    if against is None:
        return
    unknown = f", {against['unknown']} not in it" if against["unknown"] else ""
    print(f"\nagainst `{against['figure']}` of {against['table']}, {against['better']} is better{unknown}\n")
    top = against["tau"]["score"]["top_count"]
    named = [(head["source"] if name == "score" else name, a) for name, a in against["tau"].items()]
    print_agreement(named, top)


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
