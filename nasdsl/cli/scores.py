"""What verbs that score architectures share.

Takes what the command line says of a source of scores, returns a recipe or a pool. Invariant: exactly one
source is named, and an option that the source has no use for is refused.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdsl.cli.arguments import CommandLineError, Parser, assignments, at_least

if TYPE_CHECKING:
    from nasdsl.api import Space
    from nasdsl.scoring.pool import Pool
    from nasdsl.scoring.sources import Kind, Recipe

SOURCES = ("table", "run", "proxy", "predictor", "command", "cost")
EVERY = 5.0
"""Seconds between two lines of progress."""
PROXIES = ("synflow", "naswot", "jacov", "grad_norm")
_USES = {
    "metric": {"table"},
    "data": {"run", "proxy"},
    "data_dir": {"run", "proxy"},
    "device": {"run", "proxy"},
    "batch": {"proxy"},
    "weights_seed": {"proxy"},
    "calibration_batches": {"run"},
    "judging_batches": {"run"},
    "model": {"predictor"},
    "timeout": {"command"},
}
"""The sources that an option is of."""


def score_arguments(parser: Parser) -> None:
    """Declares the sources and how they are worked off; `recipe_of` and `pool_of` read them."""
    add = parser.add_argument
    add("--table", metavar="TABLE", help="a column of a table of results, as of `nasdsl benchmark`")
    add("--metric", metavar="M", help="the column, if the table has several")
    add("--run", metavar="DIR", help="inherited weights: a compiled directory (its runs/0), or a run in it")
    add("--proxy", choices=PROXIES, help="a zero-cost proxy of the untrained network")
    add(
        "--predictor",
        metavar="FILE",
        help='a regression on lines {"architecture": ..., "accuracy": ...}',
    )
    add("--model", choices=("ridge", "boosting"), help="the regression (default: ridge)")
    add("--command", metavar="WORDS", help="a command: JSON on standard input, the score on the last line")
    add("--timeout", type=_seconds, metavar="S", help="seconds that the command may take (default: any)")
    add("--cost", choices=("params", "macs"), help="a control: the larger network, the better")
    add("--data", metavar="NAME", help="as of search.py (--run: that of the run by default)")
    add("--data-dir", metavar="D", help="where downloads go (default: data)")
    add("--batch", type=at_least(2), metavar="N", help="examples that a proxy looks at (default: 64)")
    add("--weights-seed", type=int, metavar="S", help="of a proxy's weights and minibatch (default: 0)")
    add("--calibration-batches", type=at_least(0), metavar="N", help="of --run, as of `nasdsl rank`")
    add("--judging-batches", type=at_least(0), metavar="N", help="of --run, as of `nasdsl rank`")
    add("--device", metavar="D", help="auto, cpu, cuda (default: auto)")
    add("--workers", type=at_least(1), default=1, metavar="N", help="processes (default: 1, this one)")
    add("--engine", choices=("local", "ray"), default="local", help="ray: the workers of a cluster")
    add("--cache", metavar="FILE", help="scores that are known, and where new ones are kept at once")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"`{text}` is no number of seconds above 0")
    return value


def recipe_of(args: argparse.Namespace) -> Recipe:
    """The source that the command line names. Raises CommandLineError for none, several, or unfit options."""
    from nasdsl.scoring.sources import Recipe

    return Recipe(args.file, _kind(args), assignments("--param", args.param), args.allow_python)


def pool_of(args: argparse.Namespace, space: Space | None = None) -> Pool:
    """The pool that the command line asks for; to be closed. Raises as `recipe_of` and `Pool`."""
    from nasdsl.scoring.pool import Pool

    return Pool(recipe_of(args), args.workers, args.engine, args.cache, space, _Progress())


class _Progress:
    """A line every few seconds, on standard error: standard output is the scores'."""

    def __init__(self) -> None:
        self._next = time.monotonic() + EVERY

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY
            print(f"{done} of {total} evaluated", file=sys.stderr, flush=True)


def _kind(args: argparse.Namespace) -> Kind:
    named = [name for name in SOURCES if getattr(args, name) is not None]
    if len(named) != 1:
        options = ", ".join(f"--{name}" for name in SOURCES)
        given = " and ".join(f"--{name}" for name in named) or "none"
        raise CommandLineError(f"name one source of scores ({options}); there is {given}")
    for option, sources in _USES.items():
        if getattr(args, option) is not None and named[0] not in sources:
            raise CommandLineError(
                f"--{option.replace('_', '-')} is of --{' and --'.join(sorted(sources))}, not of --{named[0]}"
            )
    return _KINDS[named[0]](args)


def _given(args: argparse.Namespace, **names: str) -> dict[str, Any]:
    """Options that were given, by the name of a field; the others keep the field's own default."""
    return {field: v for field, name in names.items() if (v := getattr(args, name)) is not None}


def _table(args: argparse.Namespace) -> Kind:
    from nasdsl.scoring.sources import TableScores

    return TableScores(args.table, args.metric)


def _run(args: argparse.Namespace) -> Kind:
    from nasdsl.ranking.searched import Options
    from nasdsl.scoring.sources import RunScores

    options = Options(
        **_given(
            args,
            data="data",
            data_dir="data_dir",
            calibration_batches="calibration_batches",
            judging_batches="judging_batches",
            device="device",
        )
    )
    path = Path(args.run)
    from nasdsl.codegen.lock import directory_of

    home = None if (path / "search.py").exists() else directory_of(path)
    if home is None:  # the directory itself, or nothing that can be used, which opening it says
        return RunScores(str(path), "runs/0", options, args.allow_python)
    run = str(path.resolve().relative_to(home))
    return RunScores(str(home), run, options, args.allow_python)


def _proxy(args: argparse.Namespace) -> Kind:
    from nasdsl.scoring.proxy import WITHOUT_DATA, ProxyScores

    if args.proxy in WITHOUT_DATA:
        for option in ("data", "data_dir", "batch"):
            if getattr(args, option) is not None:
                raise CommandLineError(f"--{option.replace('_', '-')}: {args.proxy} looks at no example")
    elif args.data is None:
        raise CommandLineError(f"--proxy {args.proxy} looks at data: name them with --data")
    fields = {"data": "data", "data_dir": "data_dir", "batch": "batch"}
    return ProxyScores(args.proxy, **_given(args, **fields, seed="weights_seed", device="device"))


def _predictor(args: argparse.Namespace) -> Kind:
    from nasdsl.scoring.predictor import PredictorScores

    return PredictorScores(args.predictor, **_given(args, model="model"))


def _command(args: argparse.Namespace) -> Kind:
    from nasdsl.scoring.command import CommandScores

    try:
        words = tuple(shlex.split(args.command))
    except ValueError as error:
        raise CommandLineError(f"--command: {str(error).lower()}") from None
    if not words:
        raise CommandLineError("--command has no word")
    return CommandScores(words, args.timeout)


def _cost(args: argparse.Namespace) -> Kind:
    from nasdsl.scoring.sources import CostScores

    return CostScores(args.cost)


_KINDS = {
    "table": _table,
    "run": _run,
    "proxy": _proxy,
    "predictor": _predictor,
    "command": _command,
    "cost": _cost,
}

__all__ = ["PROXIES", "SOURCES", "pool_of", "recipe_of", "score_arguments"]
