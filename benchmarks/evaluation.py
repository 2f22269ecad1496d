"""Methods x seeds on one space, judged by a table of true results; one command, resumable cell by cell.

    python benchmarks/evaluation.py --data imagefolder:DIR --benchmark TABLE --metric cifar10_test_200 \
        --out FOLDER --protocol reduced --seeds 0 1 2

A cell is one configuration and one seed: a compiled directory, whose `search.py` is run as a user runs it, and
its run. The same command again does what is missing; a cell that was killed continues inside its search; a
cell whose folder holds another configuration is refused, or with --restart redone. `full` is the published
protocol of every method and wants a GPU; `reduced` is what a CPU can do in an hour, and every departure is
printed. Beside the methods: random search at equal cost (`random`), one uniform draw, the most parameters, and
the best of the table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from statistics import mean
from typing import Any

import attrs
from cells import Cell, Outcome, Runner, python, random_found, search_found, slug
from configurations import (
    CONFIGURATIONS,
    METHODS_COMPARED,
    RANDOM,
    REDUCED_BATCHES,
    REDUCED_EPOCHS,
    REDUCED_PARAMETERS,
    REDUCED_SETTINGS,
    Configuration,
    deviation_lines,
    deviations,
    settled,
)
from decoded import FILE, NAME, decode
from report import surroundings, write_json
from standings import Judge, Record, markdown, mixed, references, rows, text

import nasdsl
from nasdsl.api import Program
from nasdsl.errors import UserError
from nasdsl.runtime.standalone.basics import file_digest

HERE = Path(__file__).resolve().parent


@attrs.define(slots=False)
class Plan:
    """What the arguments mean: the space, the data and the cells."""

    args: argparse.Namespace

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """Of the space: those given, under the reduced protocol on top of its own."""
        given = {n: sized(n, v) for n, v in pairs(self.args.param).items()}
        reduced = REDUCED_PARAMETERS.get(self.args.space, {}) if self.args.protocol == "reduced" else {}
        return {**reduced, **given}

    @cached_property
    def space(self) -> nasdsl.Space:
        return nasdsl.load(self.args.space, **self.parameters)

    @cached_property
    def published_space(self) -> nasdsl.Space:
        """The space at its own size, whose networks the table is about."""
        return nasdsl.load(self.args.space)

    @property
    def epochs(self) -> int | None:
        """Of every search; None for each method's own."""
        chosen: int | None = self.args.epochs
        return REDUCED_EPOCHS if chosen is None and self.args.protocol == "reduced" else chosen

    @property
    def limit_batches(self) -> int | None:
        chosen: int | None = self.args.limit_batches
        return REDUCED_BATCHES if chosen is None and self.args.protocol == "reduced" else chosen

    @cached_property
    def given(self) -> dict[str, str]:
        """Settings for all methods."""
        reduced = REDUCED_SETTINGS if self.args.protocol == "reduced" else {}
        return {**reduced, **pairs(self.args.set)}

    @cached_property
    def images(self) -> tuple[Path, str] | None:
        """The file of decoded images and its digest; None where `search.py` loads the data itself."""
        if not self.args.data.startswith("imagefolder:"):
            return None
        checked = self.space.checked
        declared = (checked.input.layout, *checked.input.evaluate({}))
        return decode(self.args.data, declared, checked.classes, self.args.out / "data")

    @property
    def data(self) -> str:
        """What `search.py` is told."""
        return str(self.args.data) if self.images is None else NAME

    @property
    def environment(self) -> dict[str, str]:
        return {} if self.images is None else {FILE: str(self.images[0].resolve())}

    @property
    def data_identity(self) -> dict[str, Any]:
        kind = self.args.data.partition(":")[0]
        return {"data": kind, "data_digest": None if self.images is None else self.images[1]}

    def settings(self, name: str) -> dict[str, Any]:
        """What a configuration is compiled with."""
        return settled(CONFIGURATIONS[name], self.space, self.given, self.epochs)

    def program(self, name: str) -> Program:
        chosen = CONFIGURATIONS[name]
        return self.space.compile(chosen.method, passes=chosen.passes, settings=self.settings(name))

    def folder(self, name: str, seed: int) -> Path:
        return Path(self.args.out) / slug(name) / str(seed)

    def searches(self, name: str) -> list[Cell]:
        """The cells of a configuration; nothing where the space cannot be searched so, which is said."""
        chosen = CONFIGURATIONS[name]
        try:
            program = self.program(name)
        except UserError as error:
            print(f"{name}: left out: {error.diagnostics[0].message}")
            return []
        files = program.files()
        return [self._search(name, chosen, program, files, seed) for seed in self.args.seeds]

    def _search(
        self, name: str, chosen: Configuration, program: Program, files: Mapping[str, str], seed: int
    ) -> Cell:
        folder = self.folder(name, seed)
        identity = {
            "space": self.space.fingerprint,
            "method": chosen.method,
            "passes": chosen.passes,
            "settings": of_search(program),
            "supernet": digest(files["supernet.py"]),
            "limit_batches": self.limit_batches,
            "precision": self.args.precision,
            "seed": seed,
            **self.data_identity,
        }
        options = ["--data", self.data, "--data-dir", self.args.data_dir, "--out", str(folder / "run")]
        options += ["--device", self.args.device, "--precision", self.args.precision, "--workers", "1"]
        options += ["--seed", str(seed), "--benchmark", self.args.benchmark]
        options += ["--metric", self.args.metric] if self.args.metric else []
        options += ["--limit-batches", str(self.limit_batches)] if self.limit_batches else []
        command = python(folder / "compiled" / "search.py", *options)
        return Cell(name, seed, folder, identity, files, command, search_found)

    def random_epochs(self) -> int:
        """Epochs of every network that random search trains."""
        chosen: int | None = self.args.random_epochs
        return chosen or max(1, int(self._reference["epochs"]) // 4)

    @cached_property
    def _reference(self) -> dict[str, Any]:
        """The settings whose optimiser and batches random search takes over: those of `darts`."""
        return of_search(self.program("darts"))

    def random(self, budget: float) -> list[Cell]:
        """The cells of random search; those that have begun keep their budget."""
        return [self._random(seed, budget) for seed in self.args.seeds]

    def _random(self, seed: int, budget: float) -> Cell:
        folder = self.folder(RANDOM, seed)
        epochs = self.random_epochs()
        identity = {
            "space": self.space.fingerprint,
            "settings": self._reference,
            "epochs": epochs,
            "limit_batches": self.limit_batches,
            "precision": self.args.precision,
            "seed": seed,
            "code": file_digest(HERE / "random_search.py"),
            **self.data_identity,
        }
        task = {
            "folder": str((folder / "run").resolve()),
            "space": str((folder / "compiled" / "space.nas").resolve()),
            "parameters": self.space.params,
            "settings": self._reference,
            "data": self.data,
            "data_dir": self.args.data_dir,
            "device": self.args.device,
            "precision": self.args.precision,
            "limit_batches": self.limit_batches,
            "epochs": epochs,
            "seed": seed,
        }
        cell = Cell(RANDOM, seed, folder, identity, {}, (), random_found, {"budget_s": budget})
        if cell.begun is not None and not cell.changed:
            budget = cell.begun["budget_s"]
        files = {
            "space.nas": self.program("darts").files()["space.nas"],
            "task.json": json.dumps({**task, "budget_s": budget}, indent=1) + "\n",
        }
        command = python(HERE / "random_search.py", str((folder / "compiled" / "task.json").resolve()))
        return attrs.evolve(cell, files=files, command=command, more={"budget_s": budget})

    def departures(self, names: Sequence[str]) -> list[str]:
        """Everything in which the cells differ from the protocols that the methods were published with."""
        own = self.published_space.params
        lines = [
            f"{k} {v} instead of {own[k]}: the space" for k, v in self.space.params.items() if v != own[k]
        ]
        if self.limit_batches:
            lines.append(
                f"{self.limit_batches} steps an epoch instead of a pass over half of the data: all "
                "(every epoch continues where the one before left the data)"
            )
        changed = {n: deviations(CONFIGURATIONS[n], self.space, self.settings(n)) for n in names}
        return lines + deviation_lines(changed)


def of_search(program: Program) -> dict[str, Any]:
    """The settings that a search depends on: not those of retraining."""
    compilation = program.compilation
    wanted = [s.name for s in compilation.method.settings if s.table != "retrain" and s.name != "data"]
    return {name: compilation.settings[name] for name in wanted}


def digest(source: str) -> str:
    """A short fingerprint of a text."""
    return sha256(source.encode()).hexdigest()[:16]


def pairs(given: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE texts as a mapping."""
    found = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals:
            raise SystemExit(f"error: {item} is not NAME=VALUE")
        found[name] = value
    return found


def sized(name: str, value: str) -> Any:
    """The value of a parameter: a number or a list of numbers."""
    try:
        return json.loads(value)
    except ValueError:
        raise SystemExit(f"error: --param {name}={value}: it is a number or a list of numbers") from None


def arguments(description: str) -> argparse.ArgumentParser:
    """What this script and `directions.py` share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--space", default="nasbench201")
    add("--param", action="append", default=[], metavar="NAME=VALUE", help="of the space")
    add("--data", required=True, help="imagefolder:PATH, digits, cifar10 or pkg:function")
    add("--data-dir", default="data", help="where cifar10 is downloaded to")
    add("--benchmark", required=True, metavar="TABLE")
    add("--metric")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of all that have it")
    add("--epochs", type=int, help="of every search (default: each method's own; reduced: 20)")
    add("--limit-batches", type=int, metavar="N", help="steps an epoch (reduced: 12)")
    add("--random-epochs", type=int, help="of each network of random search (default: a quarter of --epochs)")
    add("--device", default="cpu")
    add("--precision", choices=("fp32", "bf16"), default="fp32")
    add("--jobs", type=int, default=1, help="cells at once, on one device")
    add("--threads", type=int, default=1, help="OMP_NUM_THREADS of each cell")
    add("--out", type=Path, required=True, help="folder of the cells")
    add("--protocol", choices=("full", "reduced"), default="reduced")
    add("--json", type=Path, metavar="RESULTS", help="write raw results to this file")
    add("--table-only", action="store_true", help="run nothing: the table of what is there")
    add("--markdown", action="store_true", help="the table in Markdown")
    add("--restart", action="store_true", help="redo cells whose configuration has changed")
    return parser


def run_cells(plan: Plan, names: Sequence[str]) -> tuple[list[Cell], list[Outcome]]:
    """Runs what is missing of the searches, then of random search; returns all cells."""
    args = plan.args
    runner = Runner(args.jobs, args.threads, args.restart, plan.environment)
    by_name = {name: plan.searches(name) for name in names if name != RANDOM}
    # Seeds of a configuration stand together: what is finished early can be read early.
    searches = [cell for cells in by_name.values() for cell in cells]
    outcomes = [] if args.table_only else runner.run(searches)
    if RANDOM not in names:
        return searches, outcomes
    spent = cost([c.result for c in searches], args.device)
    randoms = plan.random(spent)
    if not args.table_only and spent:
        outcomes += runner.run(randoms)
    return [*searches, *randoms], outcomes


def cost(results: Sequence[Mapping[str, Any] | None], device: str) -> float:
    """Mean seconds of the searches: of processor time, on a GPU of the clock; 0 where none is finished."""
    key = "wall_s" if device.startswith("cuda") else "processor_s"
    spent = [r[key] for r in results if r is not None]
    return mean(spent) if spent else 0.0


def revision() -> str | None:
    """The commit that is measured; None outside a checkout."""
    command = ["git", "-C", str(Path(nasdsl.__file__).parent), "rev-parse", "HEAD"]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return made.stdout.strip()


def described(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments without the folders of this machine."""
    hidden = {"out": None, "json": None, "data_dir": None, "benchmark": Path(args.benchmark).name}
    hidden["data"] = args.data.partition(":")[0]
    return {n: hidden.get(n, v) for n, v in vars(args).items() if n not in ("table_only", "markdown")}


def unfinished(cells: Sequence[Cell], outcomes: Sequence[Outcome]) -> list[str]:
    """What is to say about cells without a result."""
    said = {str(o.cell): f"{o.status}: {o.note}" for o in outcomes}
    return [f"{c}: {said.get(str(c), 'not there')}" for c in cells if c.result is None]


@attrs.frozen
class Evaluated:
    """Cells that were run and judged: what a table is made of.

    Attributes:
        missing: what is to say about cells without a result.
        record: what a result file says beside its figures.
    """

    plan: Plan
    judge: Judge
    judged: list[Record]
    missing: list[str]
    record: dict[str, Any]


def evaluated(args: argparse.Namespace, names: Sequence[str], benchmark: str) -> Evaluated:
    """Runs what is missing of some configurations, judges all of it, and says what to know about it."""
    plan = Plan(args)
    judge = Judge.open(plan.space, plan.published_space, args.benchmark, args.metric)
    departures = plan.departures([n for n in names if n != RANDOM])
    print("\n".join(["departures from the published protocols:", *(f"  {line}" for line in departures)]))
    cells, outcomes = run_cells(plan, names)
    judged = [judge.judged(c.name, c.seed, c.result) for c in cells if c.result is not None]
    missing = unfinished(cells, outcomes)
    for line in (*(f"missing: {m}" for m in missing), *mixed(judged)):
        print(line)
    record = {
        "benchmark": benchmark,
        "arguments": described(args),
        **surroundings(args.device),
        "threads": args.threads,
        "revision": revision(),
        "metric": judge.metric,
        "table_sha256": judge.table.digest,
        "departures": departures,
        "missing": missing,
    }
    return Evaluated(plan, judge, judged, missing, record)


def main() -> int:
    parser = arguments(__doc__ or "")
    names = (*CONFIGURATIONS, RANDOM)
    default = [*METHODS_COMPARED, RANDOM]
    parser.add_argument(
        "--methods", nargs="+", choices=names, default=default, metavar="NAME", help=f"of {names}"
    )
    args = parser.parse_args()
    found = evaluated(args, args.methods, "evaluation")
    made = rows(found.judged, found.plan.space.notation, found.judge.metric)
    beside = references(found.judge)
    print((markdown if args.markdown else text)(made, beside, found.judge))
    if args.json is not None:
        write_json(args.json, {**found.record, "rows": made, "references": beside, "cells": found.judged})
    return 1 if found.missing else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(str(error))
