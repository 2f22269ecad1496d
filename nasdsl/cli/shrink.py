"""`nasdsl shrink`: a large space into a small one of good architectures, by locality (LISSNAS).

Takes a space and a source of scores, writes `subspace.json`, which every verb takes as --within, with
`shrinking.json`, `report.html` and the scores. Invariant: a score is kept the moment it is known, so the same
command continues one that was stopped; the same scores, rules and seed give the same sub-space.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdsl import __version__
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
from nasdsl.cli.scores import pool_of, score_arguments
from nasdsl.cli.space import load
from nasdsl.cli.table import print_table

if TYPE_CHECKING:
    from nasdsl.api import Space
    from nasdsl.scoring.pool import Pool
    from nasdsl.shrinking import Rules, Shrinking
    from nasdsl.shrinking.locality import Locality
    from nasdsl.shrinking.record import Against

RULES = {
    "samples": "architectures scored at the start",
    "fresh": "architectures scored of the candidates of a round",
    "bins": "parts of equal size that the space is cut into by cost",
    "least": "members that are left at least",
    "evaluations": "scores at most",
    "rounds": "rounds at most",
}

FEW = {"walks": 3, "steps": 100, "lags": 10, "pairs": 50, "distances": 4}
"""What locality is measured from where scores are made: 700 of them at most."""


def configure(parser: Parser) -> None:
    """Declares the options."""
    file_argument(parser)
    within_argument(parser)
    score_arguments(parser)
    add = parser.add_argument
    for name, text in RULES.items():
        add(f"--{name}", type=at_least(1), metavar="N", help=text)
    add("--top", type=_share, metavar="P", help="part of the scored ones that are seeds (default: 0.15)")
    add("--radius", type=at_least(1), metavar="R", help="edits from a seed (default: 1; 2 beyond a million)")
    add("--seeds", choices=("bins", "whole"), help="the best of every bin (default), or of all together")
    add("--bins-of", choices=("macs", "params"), dest="bins_of", help="the cost that bins are of")
    add("--no-predictor", action="store_true", help="keep every neighbour of a seed")
    add("--seed", type=at_least(0), default=0, metavar="S", help="of the samples (default: 0)")
    add("--truth", metavar="TABLE", help="a table of results that says what was kept and lost")
    add("--truth-metric", metavar="M", help="its column, if it has several")
    add(
        "--tau", type=at_least(2), default=100, metavar="N", help="members that ranks are told from (--truth)"
    )
    add("--baselines", action="store_true", help="what five other ways make of as many scores (--truth)")
    add(
        "--locality",
        action="store_true",
        help="measure locality, too: up to 700 more scores (`nasdsl locality`)",
    )
    add("-o", "--output", metavar="DIR", help="the directory to write (default: build/SPACE-shrunk)")
    json_argument(parser)
    parser.example(
        "nasdsl shrink nasbench201 --table results.csv --metric valid --truth results.csv --truth-metric test",
        "nasdsl shrink small.nas --run build/small-spos -o build/small-shrunk",
        "nasdsl shrink cream --proxy naswot --data cifar10 --workers 8 --evaluations 600",
    )


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"`{text}` is no part above 0, of 1 at most")
    return value


def run(args: argparse.Namespace) -> int:
    """Shrinks, measures and writes."""
    if args.truth is None and (args.baselines or args.truth_metric is not None):
        option = "--baselines" if args.baselines else "--truth-metric"
        raise CommandLineError(f"{option} needs a table of what is true: --truth TABLE")
    space = load(args.file, assignments("--param", args.param), args.allow_python, args.within)
    folder = Path(args.output or Path("build") / f"{space.name}-shrunk")
    _made(folder)
    if args.cache is None and args.table is None and args.cost is None:
        args.cache = str(folder / "scores.jsonl")
    with pool_of(args, space) as pool:
        shrinking = _shrunk(space, _rules(args), args.seed, pool, quiet=args.json)
        found = _measured(shrinking, pool, args)
    found["file"], found["version"] = args.file, __version__
    found["command"] = shlex.join(["nasdsl", *sys.argv[1:]])
    written = _write(folder, shrinking, found)
    if args.json:
        print(json.dumps(_plain({k: v for k, v in found.items() if k not in _LONG} | {"written": written})))
    else:
        _print(found, folder, args)
    return FINE


_LONG = ("scored", "members", "before")


def _made(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandLineError(f"cannot write `{folder}`: {error.strerror or error}") from error


def _rules(args: argparse.Namespace) -> Rules:
    from nasdsl.shrinking import Rules

    names = {name: name for name in (*RULES, "top", "radius", "seeds")} | {"cost": "bins_of"}
    given = {field: v for field, name in names.items() if (v := getattr(args, name)) is not None}
    return Rules(**given, predictor=not args.no_predictor)


def _shrunk(space: Space, rules: Rules, seed: int, pool: Pool, quiet: bool) -> Shrinking:
    from nasdsl.shrinking import Shrinking

    shrinking = Shrinking(space, rules, seed)
    told = 0
    while asked := shrinking.ask():
        shrinking.tell(pool.scores(asked))
        for done in shrinking.rounds[told:] if not quiet else ():
            size = f"{done.size:,}" if done.exact else f"about {done.size:,}"
            state = "" if done.kept else ", not kept"
            print(
                f"round {done.number}: {size} architectures{state}; mean {done.mean:.6g} +- {done.error:.2g}, "
                f"best {done.best:.6g}, {done.evaluations:,} evaluations",
                flush=True,
            )
        told = len(shrinking.rounds)
    return shrinking


def _measured(shrinking: Shrinking, pool: Pool, args: argparse.Namespace) -> dict[str, Any]:
    """The record, with what the options ask for."""
    from nasdsl.shrinking.record import compared, ranked, record

    against = None if args.truth is None else _against(shrinking, args)
    ranks = baselines = None
    if against is not None:
        if not against.same:
            ranks = ranked(shrinking, pool.scores, against.truth, args.tau)
        if args.baselines:
            baselines = compared(shrinking, pool.scores, against.truth)
    locality = _locality(shrinking, pool, pool.source.looked_up) if args.locality else None
    return record(shrinking, pool.source.name, against, ranks, baselines, locality)


def _against(shrinking: Shrinking, args: argparse.Namespace) -> Against:
    from nasdsl.shrinking.record import Against, truth_of

    table = shrinking.space.table(args.truth, args.truth_metric)
    metric = table.spread().metric
    same = False
    if args.table is not None:
        scores = shrinking.space.table(args.table, args.metric)
        same = scores.digest == table.digest and scores.spread().metric == metric
    return Against(truth_of(shrinking.ground, table, metric), table.name, metric, same)


def _locality(shrinking: Shrinking, pool: Pool, looked_up: bool) -> Locality:
    """Over all pairs where scores are looked up; where each costs something, over few."""
    from nasdsl.shrinking.locality import can_be_exact, locality

    exact = looked_up and can_be_exact(shrinking.ground)
    few = {} if looked_up else FEW
    return locality(shrinking.ground, pool.scores, exact=exact, seed=shrinking.seed, **few)


def _plain(value: Any) -> Any:
    """As JSON has it: a number that is none is null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _write(folder: Path, shrinking: Shrinking, found: Mapping[str, Any]) -> list[str]:
    """The files; without a smaller space there is no sub-space to write."""
    from nasdsl.shrinking.page import page
    from nasdsl.subspace.files import text_of

    texts = {"shrinking.json": json.dumps(_plain(found), indent=1) + "\n", "report.html": page(found)}
    result = shrinking.result
    if result is not None and result.subspace is not None:
        texts["subspace.json"] = text_of(result.subspace)
    else:
        (folder / "subspace.json").unlink(
            missing_ok=True
        )  # that of an earlier run would be taken for this one's
    try:
        for name, text in texts.items():
            (folder / name).write_bytes(text.encode("utf-8"))
    except OSError as error:
        raise CommandLineError(f"cannot write `{folder}`: {error.strerror or error}") from error
    return [str(folder / name) for name in texts]


def _print(found: Mapping[str, Any], folder: Path, args: argparse.Namespace) -> None:
    print(f"ended: {found['stopped']}")
    left, whole = found["left"], found["size"]
    if left is None:
        print("nothing was left out: the space is as it was, and there is no sub-space to go on with")
    else:
        ratio = whole["high"] / max(1, left["high"])
        print(f"{_range(whole)} -> {_range(left)} architectures, {ratio:,.3g} times smaller")
    after = found["diversity"]["after"]
    pockets = (
        "" if after["pockets"] is None else f"{after['pockets']:,} pocket{'s' * (after['pockets'] != 1)}, "
    )
    print(
        f"members differ in {after['distance']:.0%} of their decisions; {pockets}"
        f"{after['coverage']:.0%} of the bins of {found['cost']} kept"
    )
    if found["truth"] is not None:
        _print_truth(found)
    print(f"\nreport: {folder / 'report.html'}")
    if left is not None:
        print(f"next: nasdsl compile {args.file} --within {folder / 'subspace.json'} --method spos")


def _print_truth(found: Mapping[str, Any]) -> None:
    truth = found["truth"]
    rows = [("true " + truth["metric"], "size", "mean", "mean of bins", "bins", "best", "regret")]
    sets = [("the whole space", found["size"]["high"], truth["before"])]
    if truth["after"] is not None:
        sets.append(("what is left", (found["left"] or found["size"])["high"], truth["after"]))
    sets += [(b["name"], b["size"], b["worth"]) for b in found["baselines"] or () if b["worth"] is not None]
    for name, size, w in sets:
        figures = (f"{w['mean']:.4g}", f"{w['bin_mean']:.4g}", str(w["bins"]), f"{w['best']:.4g}")
        rows.append((name, f"{size:,}", *figures, f"{w['regret']:.3g}"))
    print()
    print_table(rows)
    for name, where in (("tau_inside", "inside"), ("tau_fixed", "over the whole space")):
        tau = truth[name]
        if tau is not None and tau["tau"] is not None:
            print(f"tau of the scores {where}: {tau['tau']:.3f}")
    index = truth["index"]
    if index["index"] is not None:
        print(
            f"shrink index {index['index']:.3f}: gain {index['gain']:.3f} x reduction {index['reduction']:.3f}"
        )


def _range(tally: Mapping[str, int]) -> str:
    low, high = tally["low"], tally["high"]
    return f"{high:,}" if low == high else f"{low:,} to {high:,}"


__all__ = ["configure", "run"]
