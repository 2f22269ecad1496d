"""`nasdsl rank`: how well a trained supernet ranks architectures.

Takes a compiled directory whose search has ended and what networks reach when each is trained by itself,
prints rank correlations and writes `rank.json` with every pair. Invariant: an accuracy is kept the moment
it is known and never computed twice for the same weights, data and settings; what is left out is said.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from nasdsl.cli.arguments import CommandLineError, Parser, at_least, json_argument, within_argument
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.table import print_agreement
from nasdsl.errors import UserError

if TYPE_CHECKING:
    from nasdsl.ranking import Searched, Trained
    from nasdsl.space.decisions import Choice

BASELINES = ("macs", "params")
"""Scores that need no training; supernets often fail to beat them."""


def configure(parser: Parser) -> None:
    """Declares the options."""
    add = parser.add_argument
    add("directory", metavar="DIR", help="a directory that `nasdsl compile` wrote and whose search has ended")
    add("--run", default="runs/0", metavar="RUN", help="folder of the run in DIR (default: runs/0)")
    add("--table", metavar="TABLE", help="a table of results, as of `nasdsl benchmark`")
    add("--metric", metavar="M", help="the column of the table, if it has several")
    add(
        "--trained",
        nargs="+",
        default=[],
        metavar="FILE",
        help='files of lines {"architecture": ..., "accuracy": ...}, folders of runs that retrain.py ended in',
    )
    within_argument(parser)
    add("-n", type=at_least(2), default=100, metavar="N", help="architectures at most (default: 100)")
    add("--seed", type=int, default=0, metavar="S", help="which of them (default: 0)")
    add("--data", metavar="NAME", help="as of search.py (default: that of the run)")
    add("--data-dir", default="data", metavar="D", help="where downloads go (default: data)")
    add(
        "--calibration-batches",
        type=at_least(0),
        metavar="N",
        help="training batches for batch norm; 0 takes its statistics as they are (default: the run's, or 200)",
    )
    add(
        "--judging-batches",
        type=at_least(0),
        metavar="N",
        help="held-out batches; 0: all (default: the run's)",
    )
    add("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    add("--workers", type=at_least(1), default=2, metavar="N", help="threads that decode images (default: 2)")
    add("--allow-python", action="store_true", help="let `use python` in the space import what it names")
    add("-o", dest="output", metavar="FILE", help="where the pairs go (default: rank.json of the run)")
    json_argument(parser)
    parser.example(
        "nasdsl rank build/nb201-spos --table results.csv --metric accuracy",
        "nasdsl rank build/small --trained runs/*/ -n 50 --calibration-batches 20",
    )


def run(args: argparse.Namespace) -> int:
    """Judges and compares."""
    from nasdsl.ranking.searched import Options, open_run

    if (args.table is None) == (not args.trained):
        raise CommandLineError("give what networks reach by themselves: --table TABLE, or --trained FILE...")
    if args.metric is not None and args.table is None:
        raise CommandLineError("--metric is a column of --table")
    options = Options(
        args.data, args.data_dir, args.calibration_batches, args.judging_batches, args.device, args.workers
    )
    searched = open_run(args.directory, args.run, options, args.allow_python)
    source, chosen = _trained(searched, args)
    pairs, left_out = _judged(searched, chosen, quiet=args.json)
    if len(pairs) < 2:
        why = f": {left_out[0]['why']}" if left_out else ""
        raise UserError.plain(
            "NAS603",
            f"{len(pairs)} architectures with both accuracies: nothing can be ranked{why}",
            help="give more; `nasdsl benchmark` says what a table has",
        )
    record = _record(searched, source, pairs, left_out)
    path = Path(args.output) if args.output else searched.folder / "rank.json"
    _write(path, json.dumps(record, indent=1) + "\n")
    if args.json:
        print(json.dumps({k: v for k, v in record.items() if k != "pairs"} | {"written": str(path)}))
    else:
        _print(record, path)
    return FINE


def _trained(searched: Searched, args: argparse.Namespace) -> tuple[dict[str, Any], list[Trained]]:
    """Where stand-alone figures come from, and those that are compared."""
    from nasdsl.ranking import from_files, from_table

    space = searched.space if args.within is None else searched.space.within(args.within)
    part = {} if args.within is None else {"within": space.within_digest}
    if args.table is None:
        source: dict[str, Any] = {
            "trained": list(args.trained),
            "figure": "accuracy",
            "better": "higher",
            **part,
        }
        return source, from_files(space, args.trained, args.n, args.seed)
    table = space.table(args.table, args.metric)
    spread = table.spread()
    source = {
        "table": table.name,
        "sha256": table.digest,
        "figure": spread.metric,
        "better": spread.better,
        **part,
    }
    return source, from_table(space, table, None, args.n, args.seed)


def _judged(
    searched: Searched, chosen: Sequence[Trained], quiet: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every pair, and the architectures that are no point of the supernet, with the reason."""
    from nasdsl.scoring.cache import Cache, hashed, text_of

    costs = {name: searched.space.costs(name) for name in BASELINES}
    kept = Cache(searched.folder / "rank.jsonl", hashed(searched.identity))
    judge: Callable[[Mapping[str, Choice]], float] | None = None
    pairs: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    for number, one in enumerate(chosen, 1):
        key = text_of(one.choices)
        inherited = kept.scores.get(key)
        if inherited is None:
            judge = judge or _guarded(searched)
            try:
                inherited = judge(one.choices)
            except UserError as refused:
                if refused.diagnostics[0].code != "NAS504":
                    raise
                left_out.append({"choices": one.choices, "why": refused.diagnostics[0].message})
                continue
            kept.put(key, one.choices, inherited)
            if not quiet and number % 10 == 0:
                print(f"{number} of {len(chosen)} judged", flush=True)
        pair = {"choices": one.choices, "inherited": inherited, "trained": one.figure, "worth": one.worth}
        pairs.append(pair | {"runs": one.runs} | {name: c.at(one.choices) for name, c in costs.items()})
    return pairs, left_out


def _guarded(searched: Searched) -> Callable[[Mapping[str, Choice]], float]:
    """The judge; data that cannot be loaded is a mistake of the command."""
    from nasdsl.runtime.standalone.basics import Mistake

    try:
        return searched.judge()
    except Mistake as mistake:
        raise CommandLineError(str(mistake)) from None


def _record(
    searched: Searched,
    source: Mapping[str, Any],
    pairs: Sequence[Mapping[str, Any]],
    left_out: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    from nasdsl.ranking import agreement

    truth = [float(p["worth"]) for p in pairs]
    columns = {name: [float(p[name]) for p in pairs] for name in ("inherited", *BASELINES)}
    return {
        "space": searched.space.name,
        "method": searched.program.compilation.method.name,
        **searched.identity,
        "against": dict(source),
        "count": len(pairs),
        "left_out": list(left_out),
        "scores": {name: attrs.asdict(agreement(column, truth)) for name, column in columns.items()},
        "pairs": list(pairs),
    }


def _print(record: Mapping[str, Any], path: Path) -> None:
    against = record["against"]
    where = against.get("table") or ", ".join(against["trained"][:3]) + ", ..." * (
        len(against["trained"]) > 3
    )
    print(f"{record['count']} architectures of {record['space']}, weights of {record['method']}")
    print(f"against `{against['figure']}` of {where}, {against['better']} is better")
    if record["calibration_batches"] == 0:
        print("batch norm with the statistics of the search, not recalibrated")
    if record["left_out"]:
        print(f"left out: {len(record['left_out'])}, the first because {record['left_out'][0]['why']}")
    top = record["scores"]["inherited"]["top_count"]
    names = {"inherited": "inherited weights", "macs": "macs", "params": "params"}
    print()
    print_agreement([(names[name], a) for name, a in record["scores"].items()], top)
    print(f"\nwritten: {path}")


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    new = path.with_name(path.name + ".new")
    try:
        new.write_text(text, "utf-8")
        os.replace(new, path)
    except OSError as error:
        raise UserError.plain("NAS005", f"{path} cannot be written: {error.strerror}") from None
