"""Several runs beside each other, as plain data.

Takes runs, returns a mapping that JSON can hold. Invariant: what is equal in all of them is left out of the
differences and counted; what a run does not say is None.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nasdsl.reporting.folder import Record, Run, number
from nasdsl.reporting.opened import Opened
from nasdsl.reporting.timeline import running, stretches

Comparison = Mapping[str, Any]


def compared(opened: Sequence[Opened]) -> dict[str, Any]:
    """What the runs reached, and in what they differ.

    Returns:
        `runs`, a record each; `settings`, by heading the names with a value a run; `decisions`, those whose
        choices differ, with a choice a run; `alike`, the number of decisions that all made alike.
    """
    runs = [o.run for o in opened]
    names = names_of(runs)
    choices = [r.choices or {} for r in runs]
    paths = _in_order(opened, choices)
    differing = {p: [c.get(p) for c in choices] for p in paths if not _alike(c.get(p) for c in choices)}
    return {
        "runs": [_record(name, o) for name, o in zip(names, opened, strict=True)],
        "settings": _differences(runs),
        "decisions": differing,
        "alike": len(paths) - len(differing),
    }


def _in_order(opened: Sequence[Opened], choices: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every decision that one of the runs made, in the order of the spaces where they can be opened."""
    made = dict.fromkeys(p for c in choices for p in c)
    known = dict.fromkeys(d.path for o in opened if o.space is not None for d in o.space.decisions)
    return [p for p in known if p in made] + [p for p in made if p not in known]


def names_of(runs: Sequence[Run]) -> list[str]:
    """A name a run: short where that tells them apart."""
    short = [run.name for run in runs]
    if len(set(short)) == len(short):
        return short
    long = [str(run.folder) for run in runs]
    return long if len(set(long)) == len(long) else [f"{name} ({i})" for i, name in enumerate(long, 1)]


def _record(name: str, opened: Opened) -> dict[str, Any]:
    run = opened.run
    last: Record = run.log[-1] if run.log else {}
    result: Record = (run.retrained.result if run.retrained else None) or {}
    parts = stretches(run.timeline)
    return {
        "name": name,
        "folder": str(run.folder),
        "space": run.space,
        "method": run.method,
        "state": run.state,
        "epochs": len(run.log),
        "held_out_accuracy": number(last.get("valid_accuracy")),
        "inherited_accuracy": max((float(j["accuracy"]) for j in run.judged), default=None),
        "true_value": number(last.get("true_value")),
        "test_accuracy": number(result.get("test_accuracy")),
        "retrained": (run.retrained.began if run.retrained and result else "") or None,
        "params": opened.stats.params if opened.stats else None,
        "macs": opened.stats.macs if opened.stats else None,
        "seconds": running(parts) if parts else None,
        "problems": list(opened.problems),
    }


def _differences(runs: Sequence[Run]) -> dict[str, dict[str, list[Any]]]:
    """By heading, the values that are not the same in all runs."""
    places: dict[str, list[Mapping[str, Any]]] = {
        "space": [_space(run) for run in runs],
        "settings": [_settings(run) for run in runs],
        "environment": [_part(run, "environment") for run in runs],
        "data": [_part(run, "data") for run in runs],
    }
    found = {}
    for heading, values in places.items():
        names = dict.fromkeys(n for v in values for n in v)
        rows = {n: [v.get(n) for v in values] for n in names if not _alike(v.get(n) for v in values)}
        if rows:
            found[heading] = rows
    return found


def _space(run: Run) -> Mapping[str, Any]:
    if run.compiled is None:
        return {} if run.space is None else {"space": run.space}
    lock = run.compiled.lock
    return {"space": run.space, **lock.parameters, "passes": lock.edits or None}


def _settings(run: Run) -> Mapping[str, Any]:
    """The settings that a run says it had; of one that says nothing those of its directory."""
    compiled = {} if run.compiled is None else run.compiled.config
    shaped = dict(compiled.get("compile", {}))
    if run.identity:
        said = {k: v for k, v in run.identity.items() if k not in ("space", "supernet", "data")}
        return {"method": run.method, **shaped, **said}
    return {"method": run.method, **shaped, **compiled.get("search", {})}


def _part(run: Run, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (run.lock or {}).get(name) or {}
    return found


def _alike(values: Iterable[Any]) -> bool:
    return len({json.dumps(v, sort_keys=True) for v in values}) == 1


__all__ = ["Comparison", "compared", "names_of"]
