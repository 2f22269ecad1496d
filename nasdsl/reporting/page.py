"""A run on one page.

Takes a run (`nasdsl.reporting.folder`), returns one HTML file. Invariant: it says what the files of the run and
of its directory hold and nothing else, so that it can be made again at any time; what is missing is said, and
nothing is loaded from outside.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from nasdsl.drawing.axes import short
from nasdsl.drawing.pages import UNKNOWN, Table, render
from nasdsl.reporting.commands import commands
from nasdsl.reporting.curves import INSTRUMENTS, LEARNING, RETRAINING, EpochFigure, curves, others, table_of
from nasdsl.reporting.decisions import decided
from nasdsl.reporting.folder import Record, Run, number, read_run, run_folder
from nasdsl.reporting.judged import board_figures, judged_paths
from nasdsl.reporting.opened import Opened
from nasdsl.reporting.rewrites import read_rewrites
from nasdsl.reporting.timeline import clock, duration, epoch_seconds, running, stretches
from nasdsl.reporting.timeline import table_of as stretch_table

Pairs = list[tuple[str, str]]

SECTIONS = {
    "picture": ("architecture", "Architecture"),
    "learning": ("learning", "Learning"),
    "decided": ("decisions", "How it decided"),
    "instruments": ("instruments", "Instruments"),
    "paths": ("paths", "Paths that were judged"),
    "retraining": ("retraining", "Trained by itself"),
    "rewrites": ("rewrites", "What the compiler saved"),
    "timeline": ("timeline", "When it ran"),
    "commands": ("reproduce", "How to reproduce"),
}


def page(run: Run, allow_python: bool = False) -> str:
    """The page of a run.

    Args:
        allow_python: whether the space may import what its `use python` names.
    """
    return page_of(Opened(run, allow_python))


def page_of(opened: Opened) -> str:
    """The page of a run that was opened."""
    run = opened.run
    picture = opened.picture("found-")
    learning = curves(run.log, LEARNING, "l")
    more = others(run.log, (*LEARNING, *INSTRUMENTS))
    instruments = curves(run.log, (*INSTRUMENTS, *more), "i") + board_figures(run)
    how = decided(run, opened.colours)
    over = (
        [*learning, *instruments, *(f for g in how.groups for f in g.figures)]
        if how
        else learning + instruments
    )
    context: dict[str, Any] = {
        "title": f"Search of {run.space or 'a space'}" + (f" with {run.method}" if run.method else ""),
        "lead": lead(run),
        "state": state(run),
        "summary": summary(run, opened),
        "problems": opened.problems,
        "found": run.architecture is not None,
        "picture": picture,
        "choices": choices_table(run.choices),
        "costs": costs(opened),
        "over_epochs": bool(over),
        "last_index": len(run.log) - 1,
        "texts": Markup(data_of([e["epoch"] for e in run.log], over)),
        "learning": learning,
        "learning_table": table_of(run.log, learning),
        "decided": how,
        "instruments": instruments,
        "instruments_table": table_of(run.log, instruments),
        "paths": judged_paths(run),
        "retraining": retraining(run),
        "rewrites": read_rewrites(run.compiled.rewrites) if run.compiled else None,
        "timeline": timeline(run),
        "commands": commands(run),
        "python": run.compiled.python if run.compiled else (),
        "origin": origin(run),
        "settings": _settings(run.identity),
        "files": _files(run),
    }
    context["sections"] = [place for name, place in SECTIONS.items() if context[name] or name == "commands"]
    script = files("nasdsl.reporting").joinpath("templates", "page.js").read_text("utf-8") if over else ""
    return render("nasdsl.reporting", "run.html.j2", context, script)


def write_page(folder: str | Path, compiled: str | Path | None = None, allow_python: bool = False) -> Path:
    """Writes `report.html` into the folder of a run; returns its path. Raises UserError as `read_run`, OSError."""
    path = run_folder(folder) / "report.html"
    write_whole(path, page(read_run(folder, compiled), allow_python))
    return path


def write_whole(path: Path, text: str) -> None:
    """Writes a page; one that was there stays until the new one is whole. Raises OSError."""
    if path.exists() and not path.is_file():  # a pipe, or what a shell makes of `>(...)`
        path.write_text(text, "utf-8", newline="\n")
        return
    target = path.resolve()
    new = target.with_name(f".{target.name}.{secrets.token_hex(4)}")  # a name that nobody has
    try:
        new.write_bytes(text.encode("utf-8"))
        new.replace(target)
    except PermissionError:
        if not target.exists():
            raise
        target.write_text(text, "utf-8", newline="\n")  # the page may be writable where its folder is not
    finally:
        new.unlink(missing_ok=True)


# --- in short ------------------------------------------------------------------------


def lead(run: Run) -> str:
    """Which run it is, in a line."""
    said = [f"Run {run.name}"]
    data = run.identity.get("name")
    said += [f"data {data}"] if data else []
    seed = run.identity.get("seed")
    said += [f"seed {seed}"] if seed is not None else []
    begun = [e for e in run.timeline if e["event"] == "started"]
    said += [f"begun {clock(float(begun[0]['time']))}"] if begun else []
    return ", ".join(said) + "."


def state(run: Run) -> list[str]:
    """What is to be said of a run that has not ended; nothing of one that has."""
    if run.state == "finished":
        return []
    done, epochs = len(run.log), run.epochs
    of = f"{done} of {epochs} epochs" if epochs else f"{done} {'epoch' if done == 1 else 'epochs'}"
    if run.state == "unknown":
        return [f"This run has not ended: {of} are in its log. Run the same command again to continue it."]
    last = run.timeline[-1]
    when = clock(float(last["time"]))
    if run.state == "stopped":
        return [
            f"This run was stopped: {of}. Run the same command again to continue it; it was saved {when}."
        ]
    return [
        f"This run has not ended: {of}. It is running, or ended without a word; it was last heard of {when}.",
        "`nasdsl report` makes this page anew; the same command as before continues a run that has ended.",
    ]


def summary(run: Run, opened: Opened) -> Pairs:
    """The numbers that are looked for first."""
    last: Record = run.log[-1] if run.log else {}
    found: Pairs = []
    result = None if run.retrained is None or run.retrained.result is None else run.retrained.result
    if result is not None:
        found.append(("test accuracy, retrained", percent(result["test_accuracy"])))
    if number(last.get("valid_accuracy")) is not None:
        found.append(("held-out accuracy of the supernet", percent(last["valid_accuracy"])))
    if run.judged:
        best = max(run.judged, key=lambda j: float(j["accuracy"]))
        found.append(("accuracy with inherited weights", percent(best["accuracy"])))
    if number(last.get("true_value")) is not None:
        found.append(("true value", f"{last['true_value']:.5g}"))
    if opened.stats is not None:
        found.append(("parameters", size(opened.stats.params)))
        found.append(("MACs", size(opened.stats.macs)))
    if run.log:
        of = f" of {run.epochs}" if run.epochs and run.epochs != len(run.log) else ""
        found.append(("epochs", f"{len(run.log)}{of}"))
    parts = stretches(run.timeline)
    if parts:
        found.append(("time running", duration(running(parts))))
    return found


def percent(value: float) -> str:
    """A share as percent."""
    return f"{100 * value:.2f} %"


def choices_table(choices: Mapping[str, Any] | None) -> Table | None:
    """Every decision with its choice."""
    if not choices:
        return None
    rows = [(path, ", ".join(map(str, c)) if isinstance(c, list) else str(c)) for path, c in choices.items()]
    return Table(("decision", "choice"), rows, frozenset({1}))


def costs(opened: Opened) -> str:
    """What the architecture costs, in a sentence; "" where that is not known."""
    s = opened.stats
    if s is None:
        return ""
    said = f"{s.params:,} parameters, {s.macs:,} MACs, {s.activation_bytes:,} bytes of activations in fp32."
    if (s.live_params, s.live_macs) != (s.params, s.macs):
        said += f" Without what nothing reads: {s.live_params:,} parameters, {s.live_macs:,} MACs."
    return said


def size(value: int) -> str:
    """A count, its digits where they are few."""
    return f"{value:,}" if value < 1_000_000 else short(value, 4)


def data_of(epochs: Sequence[int], figures: Sequence[EpochFigure]) -> str:
    """What the script reads, as text that ends no element."""
    found = {"epochs": list(epochs), "figures": {f.id: f.texts for f in figures}}
    text = json.dumps(found, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


# --- the other sections --------------------------------------------------------------


def retraining(run: Run) -> dict[str, Any] | None:
    """What came of training the network by itself."""
    found = run.retrained
    if found is None:
        return None
    figures = curves(found.log, (*RETRAINING, *others(found.log, RETRAINING)), "r")
    done = "1 epoch" if len(found.log) == 1 else f"{len(found.log):,} epochs"
    began = f"{found.began[0].upper()}{found.began[1:]}. " if found.began else ""
    if found.other:
        words = (
            "What lies here is of another network than the one that this run found: its result is left out."
        )
    elif found.result is None:
        words = f"Training has not ended: {done} {'is' if len(found.log) == 1 else 'are'} in its log."
    else:
        count = found.result.get("examples")
        on = f" on {count:,} test examples" if isinstance(count, int) else ""
        words = f"Test accuracy {percent(found.result['test_accuracy'])}{on} after {done}."
        last = number(found.result.get("last_step_accuracy"))
        if last is not None:
            words += f" That is of averaged weights; those of the last step reach {percent(last)}."
    return {"words": began + words, "figures": figures, "table": table_of(found.log, figures)}


def timeline(run: Run) -> dict[str, Any] | None:
    """When it ran."""
    parts = stretches(run.timeline)
    if not parts:
        return None
    total = duration(running(parts))
    count = "in one go" if len(parts) == 1 else f"in {len(parts)} stretches"
    words = f"It ran for {total}, {count}."
    each = epoch_seconds(run.timeline)
    if each is not None:
        words += f" An epoch took {duration(each)} (median)."
    return {
        "parts": parts,
        "gaps": [duration(p.gap) for p in parts],
        "marks": [[round(100 * m, 2) for m in p.marks] for p in parts],
        "total": total,
        "words": words,
        "table": stretch_table(parts),
    }


def origin(run: Run) -> list[tuple[str, Pairs]]:
    """Everything that the result depends on, by heading."""
    lock: Record = run.lock or {}
    found: list[tuple[str, Pairs]] = []
    compiled = run.compiled
    if compiled is not None:
        of = compiled.lock
        rows = [("space", f"{of.space}, fingerprint {of.fingerprint}")]
        rows += [("parameters", _pairs(of.parameters))] if of.parameters else []
        rows += [("method", of.method), ("directory", compiled.folder.name)]
        found.append(("Compiled from", rows))
    place = _flat(lock.get("environment", {}))
    found += [("Where it ran", place)] if place else []
    data = _flat(lock.get("data", {}))
    found += [("Data", data)] if data else []
    first = lock.get("first_steps")
    if isinstance(first, Mapping):
        rows = [("steps", str(first.get("steps", UNKNOWN))), ("digest", str(first.get("digest", UNKNOWN)))]
        found.append(("First steps, to compare with a repetition", rows))
    return found


def _flat(values: Mapping[str, Any]) -> Pairs:
    return [(str(k), _text(v)) for k, v in values.items() if v is not None]


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={_text(v)}" for k, v in values.items())


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return json.dumps(value) if isinstance(value, (list, dict)) else str(value)


def _settings(identity: Mapping[str, Any]) -> Table | None:
    return Table(("setting", "value"), _flat(identity), frozenset({1})) if identity else None


def _files(run: Run) -> Table | None:
    known = (run.lock or {}).get("files") or {}
    return Table(("file", "sha256"), list(known.items()), frozenset({1})) if known else None


__all__ = ["data_of", "page", "page_of", "percent", "size", "write_page", "write_whole"]
