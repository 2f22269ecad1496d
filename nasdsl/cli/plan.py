"""`nasdsl plan`: what a search will take, before any GPU hour is spent.

Takes a space and a method, prints a table or JSON. Invariant: torch is imported only where a time
on a device is asked for; what is a model or a sample says how good it is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nasdsl.cli.arguments import (
    CommandLineError,
    Parser,
    assignments,
    at_least,
    file_argument,
    json_argument,
    method_arguments,
    within_argument,
)
from nasdsl.cli.dispatch import FINE, WRONG_INPUT
from nasdsl.cli.space import load
from nasdsl.diagnostics import render

if TYPE_CHECKING:
    from nasdsl.identity.distinct import Tally
    from nasdsl.planning.report import Plan, Spread


def configure(parser: Parser) -> None:
    """Declares the options."""
    file_argument(parser)
    within_argument(parser)
    method_arguments(parser, required=False)
    parser.add_argument(
        "--batch", type=at_least(1), metavar="N", help="examples a step (default: the method's)"
    )
    parser.add_argument(
        "--device",
        metavar="D",
        help="measure this device (cpu, cuda) for a few seconds and predict step times",
    )
    json_argument(parser)
    parser.example(
        "nasdsl plan darts --method toponas --pass +simplify --batch 64", "nasdsl plan cream --json"
    )


def run(args: argparse.Namespace) -> int:
    """Plans."""
    from nasdsl.planning.report import plan

    settings = assignments("--set", args.settings, words=True)
    if args.method is None:
        for option, given in (
            ("--set", settings),
            ("--pass", args.passes),
            ("--batch", args.batch),
            ("--device", args.device),
        ):
            if given:
                raise CommandLineError(f"{option} says how to search: it needs --method")
    space = load(args.file, assignments("--param", args.param), args.allow_python, args.within)
    sys.set_int_max_str_digits(0)
    if space.population.tally.high > 10**9:
        print("counting distinct networks may take half a minute...", file=sys.stderr, flush=True)
    found = plan(space.checked, args.method, settings, args.batch, args.device, args.passes, space.subspace)
    if args.json:
        print(json.dumps(_record(found)))
    else:
        for name, value in _lines(found):
            print(f"{name:22}{value}".rstrip())
    if found.misfit is not None:
        print(render(found.misfit.diagnostics), file=sys.stderr)
        return WRONG_INPUT
    return FINE


def _tally(tally: Tally) -> str:
    if tally.exact:
        return f"{tally.low:,}"
    return f"between {tally.low:,} and {tally.high:,} ({tally.how})"


def _spread(spread: Spread) -> str:
    from nasdsl.planning.report import SAMPLES

    about = "about " if spread.error or spread.sampled else ""
    tail = (
        f" in {SAMPLES} samples"
        if spread.sampled
        else f" (median +- {spread.error:,})"
        if spread.error
        else ""
    )
    return f"{spread.low:,} to {spread.high:,}, median {about}{spread.median:,}{tail}"


def _bytes(number: int) -> str:
    return f"{number / 2**20:,.1f} MiB"


def _lines(found: Plan) -> Iterator[tuple[str, str]]:
    from nasdsl.planning.report import MEMORY_ERROR, PATH_MEMORY_ERROR, PATH_TIME_ERROR, TIME_ERROR

    yield "encodings", _tally(found.encodings)
    yield "distinct networks", _tally(found.distinct)
    yield "params", _spread(found.params)
    yield "macs", _spread(found.macs)
    for limit in found.limits:
        yield f"limit {limit.text}"[:21], limit.word
    for path in found.dead:
        yield "dead decision", f"`{path}`: no network shows what it chooses"
    for pair in found.duplicates:
        yield "duplicate option", f"{pair} computes what an option before it computes"
    if found.method is None or found.misfit is not None:
        if found.method is not None:
            yield "method", f"{found.method} does not fit:"
        return
    yield "method", f"{found.method} fits"
    yield "supernet params", f"{found.supernet_params:,}"
    if found.memory is not None:
        memory = found.memory
        where = "of a step" if found.paths else f"in the {memory.step}' step"
        yield f"peak memory, B={found.batch}", f"{_bytes(memory.peak)} {where}, fp32"
        yield "", f"{_bytes(memory.saved)} saved activations, {_bytes(memory.weights)} weights, "
        yield "", f"{_bytes(memory.gradients)} gradients, {_bytes(memory.optimizers)} optimiser states"
        yield "", f"a model: {PATH_MEMORY_ERROR if found.paths else MEMORY_ERROR}"
    if found.time is not None:
        what = "a step" if found.paths else "a weights' and a variables' step"
        yield "step time", f"{found.time.pair:.3f} s for {what}, one thread or device"
        yield "", f"a model: {PATH_TIME_ERROR if found.paths else TIME_ERROR}"
    for note in found.notes:
        yield "", note
    for each in found.passes:
        was, now = each.operations
        saved = each.peak[0] - each.peak[1]
        memory_word = f"{_bytes(saved)} less memory" if saved >= 0 else f"{_bytes(-saved)} MORE memory"
        exact = "" if each.exact else "; approximating"
        yield f"pass {each.name}", f"{was - now:,} of {was:,} operations gone, {memory_word}{exact}"


def _record(found: Plan) -> dict[str, Any]:
    import attrs

    def tally(value: Tally) -> dict[str, Any]:
        return {"low": value.low, "high": value.high, "exact": value.exact, "how": value.how}

    return {
        "encodings": tally(found.encodings),
        "distinct": tally(found.distinct),
        "params": attrs.asdict(found.params),
        "macs": attrs.asdict(found.macs),
        "limits": [
            {"limit": limit.text, "kept": tally(limit.kept), "says": limit.word} for limit in found.limits
        ],
        "dead": list(found.dead),
        "duplicates": list(found.duplicates),
        "method": found.method,
        "fits": None if found.method is None else found.misfit is None,
        "supernet_params": found.supernet_params,
        "batch": found.batch,
        "paths": found.paths,
        "memory": None if found.memory is None else attrs.asdict(found.memory),
        "time": None if found.time is None else attrs.asdict(found.time),
        "passes": [attrs.asdict(p) for p in found.passes],
        "notes": list(found.notes),
    }
