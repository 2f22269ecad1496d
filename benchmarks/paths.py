"""Methods of single paths on the same supernet and budget: what they find, and how well they rank.

    python benchmarks/paths.py --data imagefolder:DIR --out FOLDER --seeds 0 1 2
    python benchmarks/paths.py --data imagefolder:DIR --out FOLDER --space nasbench201 --benchmark TABLE \\
        --metric cifar10_test_200 --paths 200 --methods spos fairnas cream

For every method and seed a supernet is trained (`search.py` as a user runs it), the found network is
retrained (`retrain.py`), and the supernet judges a fixed sample of paths. The same paths are trained alone,
each from scratch on a short schedule; Kendall's tau-b compares the two orders, and multiply-accumulates and
parameters as scores stand beside it. With `--benchmark` a table says what paths reach, and none is trained
alone. Cells are resumable: the same command does what is missing. The
protocol is what a CPU can do: every departure from the published one is printed and kept.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import attrs
from cells import Cell, Found, Runner, python, slug
from decoded import FILE, NAME, decode
from evaluation import digest, pairs, revision
from figures import paired, summary
from report import surroundings, table, write_json
from scipy import stats

import nasdsl
from nasdsl.methods.single_path import READ_UNDER
from nasdsl.runtime.paths.judging import Judge
from nasdsl.runtime.paths.results import batches
from nasdsl.runtime.search import bilevel
from nasdsl.runtime.standalone.data import load_data

PARAMETERS: dict[str, dict[str, Any]] = {
    "cream": {"resolution": 32, "depths": [1, 1, 2, 1, 1], "classes": 10},
    "nasbench201": {"C": 8, "N": 1, "resolution": 16},
}
SETTINGS: dict[str, Any] = {
    "epochs": 12,
    "batch_size": 64,
    "weight_lr": 0.1,
    "weight_decay": 1e-4,
    "nesterov": True,
    "clip": 5.0,
    "meta_start": 2,
    "meta_interval": 20,
    "evaluations": 60,
    "population": 12,
    "parents": 6,
    "calibration_batches": 10,
    "judging_batches": 30,
    "retrain_batch_size": 64,
    "retrain_epochs": 4,
    "lr": 0.1,
    "cutout": 0,
    "drop_path": 0.0,
}
"""Of all methods, so that only what a method is differs; the published values are in docs/methods.md."""
STEPS = 90
"""Steps an epoch."""
FINAL_EPOCHS = 8
"""Of the network that is found; paths of the sample have `retrain_epochs`."""


@attrs.define(slots=False)
class Plan:
    """What the arguments mean."""

    args: argparse.Namespace

    @cached_property
    def space(self) -> nasdsl.Space:
        return nasdsl.load(self.args.space, **PARAMETERS[self.args.space])

    @cached_property
    def known(self) -> list[float] | None:
        """What the table says of every path of the sample, in percent over 100; None without a table."""
        if not self.args.benchmark:
            return None
        return [float(self.looked_up(a.choices) or 0.0) for a in self.sample]

    def looked_up(self, choices: Mapping[str, Any]) -> float | None:
        """What the table says of an architecture; None without a table."""
        return self.table.standing(self.space.architecture(choices)).value / 100 if self.table else None

    @cached_property
    def table(self) -> Any:
        return self.space.table(self.args.benchmark, self.args.metric) if self.args.benchmark else None

    @cached_property
    def settings(self) -> dict[str, Any]:
        return {**SETTINGS, **pairs(self.args.set)}

    @cached_property
    def images(self) -> tuple[Path, str]:
        """The file of decoded images and its digest."""
        checked = self.space.checked
        declared = (checked.input.layout, *checked.input.evaluate({}))
        return decode(self.args.data, declared, checked.classes, self.args.out / "data")

    @cached_property
    def sample(self) -> list[nasdsl.Architecture]:
        """The paths that are trained alone."""
        return self.space.sample(self.args.paths, seed=2020)

    def program(self, method: str) -> Any:
        own = self.space.compile(method).compilation.settings
        at = {**own, **self.settings}  # what a method does not read, it refuses
        read = {k for k in own if all(at[axis] in values for axis, values in READ_UNDER.get(k, ()))}
        return self.space.compile(method, settings={k: v for k, v in self.settings.items() if k in read})

    def identity(self, seed: int) -> Found:
        settings = {k: v for k, v in self.settings.items() if not k.startswith("retrain")}
        return {
            "space": self.space.fingerprint,
            "seed": seed,
            "steps": self.args.steps,
            "data": self.images[1],
            "settings": settings,
        }

    def search(self, method: str, seed: int) -> Cell:
        """A supernet trained and searched."""
        files = self.program(method).files()
        folder = self.args.out / method / str(seed)
        identity = {**self.identity(seed), "method": method, "supernet": digest(files["supernet.py"])}
        options = self._options(folder / "run", seed)
        return Cell(
            method,
            seed,
            folder,
            identity,
            files,
            python(folder / "compiled" / "search.py", *options),
            searched,
        )

    def alone(self, number: int) -> Cell:
        """One path of the sample from scratch."""
        arch = self.sample[number]
        files = {**self.program("spos").files(), "model.py": self.space.model_source(arch)}
        folder = self.args.out / "alone" / str(number)
        identity = {
            **self.identity(number),
            "choices": dict(arch.choices),
            "epochs": self.settings["retrain_epochs"],
        }
        return self._retrain("alone", number, folder, identity, files, folder / "compiled" / "model.py", [])

    def final(self, cell: Cell) -> Cell | None:
        """What a search found, from scratch; None where it is not finished."""
        if cell.result is None:
            return None
        folder = self.args.out / slug(f"{cell.name} final") / str(cell.seed)
        identity = {**self.identity(cell.seed), "choices": cell.result["choices"], "epochs": FINAL_EPOCHS}
        model = cell.folder / "run" / "model.py"
        more = ["--epochs", str(FINAL_EPOCHS)]
        return self._retrain(f"{cell.name} final", cell.seed, folder, identity, cell.files, model, more)

    def _retrain(
        self,
        name: str,
        seed: int,
        folder: Path,
        identity: Found,
        files: Mapping[str, str],
        model: Path,
        more: list[str],
    ) -> Cell:
        options = [*self._options(folder / "run", seed), "--model", str(model.resolve()), *more]
        command = python(folder / "compiled" / "retrain.py", *options)
        return Cell(name, seed, folder, identity, files, command, retrained)

    def _options(self, run: Path, seed: int) -> list[str]:
        options = [
            "--data",
            NAME,
            "--out",
            str(run.resolve()),
            "--device",
            self.args.device,
            "--workers",
            "1",
        ]
        return [*options, "--seed", str(seed), "--limit-batches", str(self.args.steps)]

    def judged(self, cell: Cell) -> list[float]:
        """The accuracy of every path of the sample with the weights of a supernet, kept beside it."""
        path = cell.folder / "sample.json"
        found: list[float] = json.loads(path.read_text("utf-8")) if path.exists() else []
        if len(found) < len(self.sample):
            found = self._judge(cell)
            path.write_text(json.dumps(found) + "\n", "utf-8")
        return found

    def _judge(self, cell: Cell) -> list[float]:
        from safetensors.torch import load_file

        net = self.program(cell.name).supernet()
        net.load_state_dict(load_file(cell.folder / "run" / "supernet.safetensors"))
        checked = self.space.checked
        data = load_data(NAME, (checked.input.layout, *checked.input.evaluate({})), checked.classes)
        s = {**self.program(cell.name).compilation.settings}
        train, held_out = bilevel.search_streams(data, s, cell.seed)
        judge = Judge(net, *batches(train, held_out, s, None))
        return [judge.accuracy(a.choices) for a in self.sample]


def searched(run: Path) -> Found:
    """What `search.py` leaves of a run."""
    found = json.loads((run / "architecture.json").read_text("utf-8"))
    judged = json.loads((run / "judged.json").read_text("utf-8"))
    lines = (run / "log.jsonl").read_text("utf-8").splitlines()
    last = json.loads(lines[-1])
    return {
        "choices": found["choices"],
        "best_accuracy": max(j["accuracy"] for j in judged),
        "judged": len(judged),
        "train_loss": last["train_loss"],
        "board": [(e["accuracy"], e["macs"]) for e in last.get("board", [])],
        "board_accuracy": mean(j["accuracy"] for j in judged) if last.get("board") else None,
    }


def retrained(run: Path) -> Found:
    """What `retrain.py` leaves of a run."""
    found: Found = json.loads((run / "retrain" / "result.json").read_text("utf-8"))
    return found


def tau(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b."""
    return float(stats.kendalltau(first, second).statistic)


def interval(first: Sequence[float], second: Sequence[float], draws: int = 2000) -> tuple[float, float]:
    """The bootstrap 95 % interval of tau over paths."""
    found = stats.bootstrap(
        (first, second), tau, paired=True, vectorized=False, n_resamples=draws, method="percentile", rng=0
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def truths(plan: Plan, alone: Sequence[Cell]) -> dict[int, float]:
    """What paths of the sample reach, by number: by the table, or trained alone as far as they are."""
    if plan.known is not None:
        return dict(enumerate(plan.known))
    return {i: c.result["test_accuracy"] for i, c in enumerate(alone) if c.result}


def figures(
    plan: Plan, searches: Sequence[Cell], truth: Mapping[int, float], finals: Sequence[Cell]
) -> list[Found]:
    """A row for every finished search."""
    known = list(truth)
    ends = {(c.name.removesuffix(" final"), c.seed): c.result for c in finals}
    rows = []
    for cell in searches:
        if cell.result is None:
            continue
        inherited = plan.judged(cell)
        pair = [inherited[i] for i in known], [truth[i] for i in known]
        end = ends.get((cell.name, cell.seed))
        low, high = interval(*pair) if len(known) > 3 else (float("nan"),) * 2
        rows.append(
            {
                "method": cell.name,
                "seed": cell.seed,
                **{k: v for k, v in cell.result.items() if k not in ("configuration", "seed")},
                "macs": plan.space.costs("macs").at(cell.result["choices"]),
                "sample_accuracy": mean(inherited),
                "inherited": inherited,
                "tau": tau(*pair) if len(known) > 3 else None,
                "tau_low": low,
                "tau_high": high,
                "test_accuracy": end["test_accuracy"] if end else plan.looked_up(cell.result["choices"]),
            }
        )
    return rows


def baselines(plan: Plan, truth: Mapping[int, float]) -> Found:
    """The same figures for what costs nothing: multiply-accumulates and parameters as scores."""
    known, values = list(truth), list(truth.values())
    found: Found = {"truth": values, "paths": [dict(plan.sample[i].choices) for i in known]}
    for measure in ("macs", "params"):
        costs = plan.space.costs(measure)
        scores = [costs.at(plan.sample[i].choices) for i in known]
        found[measure] = scores
        found[f"tau_{measure}"] = tau(scores, values) if len(known) > 3 else None
    return found


def shown(rows: Sequence[Found], beside: Found, methods: Sequence[str]) -> str:
    """The table."""
    header = ("method", "seed", "sample", "judged best", "tau", "95 %", "final test", "MACs", "s")
    body = [
        (
            r["method"],
            str(r["seed"]),
            f"{r['sample_accuracy']:.2%}",
            f"{r['best_accuracy']:.2%}",
            "-" if r["tau"] is None else f"{r['tau']:.3f}",
            f"{r['tau_low']:.2f} to {r['tau_high']:.2f}",
            "-" if r["test_accuracy"] is None else f"{r['test_accuracy']:.2%}",
            f"{r['macs']:,}",
            f"{r['processor_s']:.0f}",
        )
        for r in rows
    ]
    lines = [table(header, body), ""]
    for method in methods:
        for key in ("sample_accuracy", "best_accuracy", "tau", "test_accuracy"):
            values = [r[key] for r in rows if r["method"] == method and r[key] is not None]
            if values:
                s = summary(values)
                spread = "" if s.deviation is None else f" +- {s.deviation:.4f}"
                lines.append(f"{method} {key}: {s.mean:.4f}{spread} ({s.count})")
    for method in methods:
        for key in ("sample_accuracy", "tau", "test_accuracy") if method != "spos" else ():
            by = {
                m: {r["seed"]: r[key] for r in rows if r["method"] == m and r[key] is not None}
                for m in (method, "spos")
            }
            found = paired(by[method], by["spos"])
            if found:
                odds = f"p {found.p:.2f} (least possible {found.least:.2f})"
                lines.append(f"{method} - spos, {key}: {found.mean:+.4f}, {odds}")
    truth = beside["truth"]
    if truth:
        lines.append(f"{len(truth)} paths: {min(truth):.2%} to {max(truth):.2%}")
        lines.append(f"tau of macs {beside['tau_macs']}, of params {beside['tau_params']}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", required=True, help="imagefolder:PATH")
    add("--out", type=Path, required=True, help="folder of the cells")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--space", choices=tuple(PARAMETERS), default="cream")
    add("--methods", nargs="+", default=["spos", "cream"], metavar="NAME")
    add("--benchmark", metavar="TABLE", help="what paths reach, instead of training them alone")
    add("--metric")
    add("--no-finals", action="store_true", help="what is found is not retrained")
    add("--paths", type=int, default=20, help="paths of the sample, each trained alone")
    add("--steps", type=int, default=STEPS, help="an epoch")
    add("--set", action="append", default=[], metavar="NAME=VALUE")
    add("--device", default="cpu")
    add("--jobs", type=int, default=1)
    add("--threads", type=int, default=1)
    add("--restart", action="store_true")
    add("--table-only", action="store_true")
    add("--json", type=Path)
    args = parser.parse_args()
    plan = Plan(args)
    environment = {FILE: str(plan.images[0].resolve())}
    os.environ.update(environment)
    runner = Runner(args.jobs, args.threads, args.restart, environment)
    searches = [plan.search(m, seed) for seed in args.seeds for m in args.methods]
    alone = [plan.alone(i) for i in range(args.paths)] if plan.known is None else []
    if not args.table_only:
        runner.run([*searches, *alone])
    finals = [c for c in map(plan.final, searches) if c is not None]
    if not args.table_only and not args.no_finals:
        runner.run(finals)
    truth = truths(plan, alone)
    rows, beside = figures(plan, searches, truth, finals), baselines(plan, truth)
    print(shown(rows, beside, args.methods))
    if args.json is not None:
        arguments = {"space": args.space, "steps": args.steps, "paths": args.paths, "metric": args.metric}
        record = {
            "benchmark": "paths",
            **surroundings(args.device),
            "threads": args.threads,
            "revision": revision(),
            "arguments": arguments,
            "parameters": PARAMETERS[args.space],
            "settings": plan.settings,
            "final_epochs": FINAL_EPOCHS,
        }
        write_json(args.json, {**record, "rows": rows, "baselines": beside})
    return 0


if __name__ == "__main__":
    sys.exit(main())
