"""`nasdsl latency`: how long operations take on this machine, and what a network takes by that.

Takes a space, writes a latency table; with an architecture and a table, prints what that takes. Invariant:
every entry is saved as it comes, so a measurement that was stopped goes on where it was; entries of
different machines never meet in one file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from nasdsl.cli.arguments import (
    CommandLineError,
    Parser,
    assignments,
    at_least,
    file_argument,
    json_argument,
)
from nasdsl.cli.dispatch import FINE
from nasdsl.cli.space import architecture_argument
from nasdsl.errors import UserError

if TYPE_CHECKING:
    from nasdsl.api import Space
    from nasdsl.planning.latency import Bench
    from nasdsl.space.latency import LatencyTable, Machine
    from nasdsl.space.units import Unit

SAY_EVERY = 5.0
"""Seconds between lines of progress."""


def configure(parser: Parser) -> None:
    """Declares the options."""
    file_argument(parser)
    parser.add_argument("-o", "--output", metavar="TABLE", help="the file to write, or to go on with")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="what to measure (default: cpu)")
    parser.add_argument("--batch", type=at_least(1), metavar="N", help="examples at once (default: 1)")
    parser.add_argument(
        "--precision", choices=("fp32", "bf16"), help="of weights and activations (default: fp32)"
    )
    parser.add_argument(
        "--threads", type=at_least(1), metavar="N", help="of PyTorch (default: its own choice)"
    )
    parser.add_argument(
        "--networks", type=at_least(2), metavar="N", help="whole networks to compare with (default: 8)"
    )
    parser.add_argument("--seed", type=int, metavar="S", help="of the choice of these networks (default: 0)")
    parser.add_argument("--restart", action="store_true", help="measure anew what the table has")
    architecture_argument(parser, required=False)
    parser.add_argument("--table", metavar="TABLE", help="with --arch: the table to look it up in")
    parser.add_argument(
        "--measure", action="store_true", help="with --arch: time the whole network on this machine too"
    )
    json_argument(parser)
    parser.example(
        "nasdsl latency cream --device cpu --threads 1 -o laptop.json",
        "nasdsl latency cream --arch architecture.json --table laptop.json --measure",
    )


def run(args: argparse.Namespace) -> int:
    """Measures a table, or looks an architecture up in one."""
    if args.arch is None:
        if args.table is not None or args.measure:
            raise CommandLineError("--table and --measure go with --arch")
        if args.output is None:
            raise CommandLineError(
                "-o TABLE is needed: the file to write; or --arch A --table TABLE to look up"
            )
        return _measure(args)
    given = ("output", "device", "batch", "precision", "threads", "networks", "seed")
    extra = [name for name in given if getattr(args, name) is not None] + ["restart"] * args.restart
    if extra:
        raise CommandLineError(f"--{extra[0]} is for measuring a table; with --arch the table says it")
    if args.table is None:
        raise CommandLineError("--arch goes with --table TABLE")
    return _look_up(args)


def _load(args: argparse.Namespace) -> Space:
    """The space without its limits on latency: their tables may be what is to be measured."""
    from nasdsl import opening

    return opening.load_untimed(args.file, args.allow_python, assignments("--param", args.param))


def _measure(args: argparse.Namespace) -> int:
    from nasdsl.identity.latency import needed_units
    from nasdsl.planning.latency import Bench, compared, this_machine

    space = _load(args)
    units = needed_units(space.checked)
    machine = this_machine(
        args.device or "cpu", args.precision or "fp32", args.batch or 1, args.threads, units.values()
    )
    table = _begun(args.output, machine, args.restart)
    bench = Bench(machine)
    had = sum(key in table.entries and key not in table.unfinished for key in units)
    table = _entries(table, units, bench)
    archs = space.sample(args.networks or 8, seed=args.seed or 0)
    _say(f"{len(archs)} whole networks")
    table = compared(space, table, archs, bench)
    _save(table)
    if args.json:
        print(json.dumps(_record(table, len(units), had)))
        return FINE
    _print_table(table, len(units), had)
    return FINE


def _begun(path: str, machine: Machine, restart: bool) -> LatencyTable:
    """The table to go on with, or an empty one. Raises UserError (NAS605) for one of another machine."""
    from nasdsl.space.latency import LatencyTable, read_table

    if restart or not Path(path).exists():
        return LatencyTable(path, machine)
    table = read_table(path)
    _same(table, machine, f"give another name with -o, or --restart to measure {path} anew")
    return table


def _same(table: LatencyTable, machine: Machine, cure: str) -> None:
    theirs, ours = attrs.asdict(table.machine), attrs.asdict(machine)
    differing = [name for name in ours if theirs[name] != ours[name]]
    if differing:
        name = differing[0]
        raise UserError.plain(
            "NAS605",
            f"{table.path} was measured elsewhere: its {name} is {theirs[name]}, here it is {ours[name]}",
            help=cure,
        )


def _entries(table: LatencyTable, units: dict[str, Unit], bench: Bench) -> LatencyTable:
    """The table with every unit, saved after each."""
    from nasdsl.planning.latency import ROUNDS

    done = {key: table.unfinished.get(key, ROUNDS if key in table.entries else 0) for key in units}
    left = [unit for r in range(ROUNDS) for key, unit in units.items() if done[key] <= r]
    begun = said = time.monotonic()
    for number, unit in enumerate(left):
        if number == 0 or time.monotonic() - said > SAY_EVERY:
            said = time.monotonic()
            rest = f", {(said - begun) / number * (len(left) - number):,.0f} s left" if number else ""
            _say(f"{number + 1:,} of {len(left):,}: {unit.key}{rest}")
        table = table.with_entry(unit.key, bench.unit(unit), ROUNDS)
        _save(table)
    return table


def _save(table: LatencyTable) -> None:
    try:
        table.write()
    except OSError as error:
        raise CommandLineError(f"cannot write `{table.path}`: {error.strerror or error}") from error


def _say(what: str) -> None:
    print(f"measuring {what}", file=sys.stderr, flush=True)


def _record(table: LatencyTable, units: int, had: int) -> dict[str, object]:
    return {
        "table": table.path,
        **attrs.asdict(table.machine),
        "unit": "us",
        "needed": units,
        "measured": units - had,
        "entries": len(table.entries),
        "constant": table.constant,
        "scale": table.scale,
        "error": dict(table.error),
    }


def _print_table(table: LatencyTable, units: int, had: int) -> None:
    error = table.error
    print(f"table     {table.path}: {len(table.entries):,} entries, {units - had:,} of them measured now")
    print(f"machine   {table.machine}")
    print(f"a network takes {table.constant:,} us + {table.scale:g} x the sum of its entries")
    print("predicted  measured  (us)")
    for predicted, measured in zip(error["predicted"], error["measured"], strict=True):
        print(f"{predicted:>9,}  {measured:>8,}")
    tau = "unknown" if error["kendall_tau"] is None else f"{error['kendall_tau']:.2f}"
    print(
        f"error of {error['networks']} networks, each left out of the fit: median {100 * error['median']:.1f} %, "
        f"largest {100 * error['largest']:.1f} %; Kendall's tau {tau}"
    )


def _look_up(args: argparse.Namespace) -> int:
    from nasdsl import opening
    from nasdsl.space.latency import read_table

    params = assignments("--param", args.param)
    space, arch = opening.load_untimed_architecture(args.file, args.arch, args.allow_python, params)
    table = read_table(args.table)
    predicted = space.costs("latency", table).at(arch.choices)
    found: dict[str, object] = {"predicted": predicted}
    if args.measure:
        from nasdsl.identity.latency import needed_units
        from nasdsl.planning.latency import Bench, this_machine

        theirs = table.machine
        threads = theirs.threads if theirs.device == "cpu" else None
        units = needed_units(space.checked).values()
        machine = this_machine(theirs.device, theirs.precision, theirs.batch, threads, units)
        _same(table, machine, "leave --measure out, or measure on the machine of the table")
        found["measured"] = Bench(machine).networks(space, [arch])[0]
    if args.json:
        print(json.dumps({**found, "unit": "us", "table": table.path, **attrs.asdict(table.machine)}))
        return FINE
    for name, value in found.items():
        print(f"{name:<10}{value:>10,} us")
    print(f"on {table.machine}")
    return FINE
