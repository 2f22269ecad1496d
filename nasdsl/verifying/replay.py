"""The first steps of a run, done again.

Takes the record of a run and the directory that it is of, adds what came of it to a report. Invariant: the
script of the directory runs in a process of its own and writes to a temporary folder only; of the record
nothing reaches its command line but plain values of options that are known; what data it loads is for the caller
to say, since a record may name code as its data.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nasdsl.errors import UserError
from nasdsl.verifying.findings import Report
from nasdsl.verifying.record import Record, differing, read_run

_VALUES = ("device", "precision", "epochs", "limit_batches", "seed", "workers", "weights")
_FLAGS = ("deterministic", "compile", "cuda_graph", "sync_bn")
"""Arguments of the script that a replay gives it again; those of data, settings and model are put together."""


def replay(record: Record, home: Path, data: str, data_dir: str, report: Report) -> bool:
    """Runs the first steps again and compares them; returns whether they are the same to the bit.

    Args:
        home: the directory that the run is of.
        data, data_dir: as of the script.
    """
    if not record.losses:
        report.unknown.append("the first steps: the run has kept none (it had fewer than three)")
        return False
    processes = record.environment.get("processes") or 1
    if processes != 1:
        report.unknown.append(
            f"the first steps: {processes} processes took them, whose sums one does not repeat"
        )
        return False
    for name, path in _needs(record):
        if not path.is_file():
            report.unknown.append(
                f"the first steps: {name} {path} is not there{' (--model)' * (name == 'model')}"
            )
            return False
    with tempfile.TemporaryDirectory(prefix="nasdsl-verify-") as temporary:
        done = _run(record, _command(record, home, Path(temporary), data, data_dir))
        where = Path(temporary) / ("retrain" if record.script == "retrain.py" else "")
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ["nothing"])[-1]
            report.add(
                "replay",
                f"{record.script} ended with code {done.returncode} and said: {said}",
                matters=True,
                cure=f"run it by hand: python {home / record.script}",
            )
            return False
        try:
            again = read_run(where)
        except UserError as error:
            report.add("replay", f"left no record: {error.diagnostics[0].message}", matters=True)
            return False
    return _compare(record, again, report)


def _needs(record: Record) -> Iterator[tuple[str, Path]]:
    """Files that a retraining begins with."""
    if record.script == "retrain.py":
        yield "model", record.model
        if weights := record.arguments.get("weights"):
            yield "weights", record.there(weights)


def _run(record: Record, words: list[str]) -> subprocess.CompletedProcess[str]:
    threads = str(record.environment.get("threads") or os.environ.get("OMP_NUM_THREADS", "1"))
    # The process sees the user's own paths, as the script does when it is started by hand.
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # nothing is written but to the temporary folder
    where = record.cwd if record.cwd is not None and record.cwd.is_dir() else None
    return subprocess.run(
        words,
        env=environment,
        cwd=where,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def _command(record: Record, home: Path, out: Path, data: str, data_dir: str) -> list[str]:
    given = record.arguments
    script = str(home.resolve() / record.script)
    words = [sys.executable, script, f"--out={out}", f"--stop-after={len(record.losses)}"]
    words += [f"--data={data}", f"--data-dir={data_dir if record.cwd is None else Path(data_dir).absolute()}"]
    for name in _VALUES:
        value = given.get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            words.append(f"--{name.replace('_', '-')}={value}")
    words += [f"--{name.replace('_', '-')}" for name in _FLAGS if given.get(name) is True]
    words += [f"--set={pair}" for pair in given.get("settings") or ()]
    if record.script == "retrain.py":
        words.append(f"--model={record.model.absolute()}")
    return words


def _compare(then: Record, now: Record, report: Report) -> bool:
    steps = len(then.losses)
    was, found = (dict(record.identity) for record in (then, now))
    if all(str(each.get("name")).startswith("imagefolder:") for each in (was, found)):
        was["name"] = found["name"]  # where images lie; what they are, their digests say
    other = differing(was, found)
    if other:
        what = f"was of another run ({'; '.join(other)})"
        report.add("replay", what, matters=True, cure="the lines above say why")
        return False
    if then.digest == now.digest:
        report.good.append(f"replay: the first {steps} steps are the same to the bit")
        return True
    report.add("replay", f"{_first_difference(then, now)}{_why(then, now)}", matters=True)
    return False


def _first_difference(then: Record, now: Record) -> str:
    for step, (before, after) in enumerate(zip(then.losses, now.losses, strict=False), 1):
        for name in before:
            if before[name] != after.get(name):
                was, found = _number(before[name]), _number(after.get(name))
                return f"`{name}` of step {step} was {was}, is {found}"
    return f"the losses of the first {len(then.losses)} steps are the same, the weights after them are not"


def _number(text: str | None) -> str:
    try:
        return f"{float.fromhex(text or ''):.9g}"
    except (ValueError, OverflowError):
        return "no number"


def _why(then: Record, now: Record) -> str:
    names = [n for n in then.environment if then.environment[n] != now.environment.get(n)]
    if names:
        changed = ", ".join(f"{n} was {then.environment[n]}, is {now.environment.get(n)}" for n in names)
        return f"; that may come of this: {changed}"
    others = "the program, its Python operations, the data or the memory may be others"
    if then.environment.get("cuda") and not then.arguments.get("deterministic"):
        return (
            f"; {others}; or it is the device, which adds in another order each time without --deterministic"
        )
    return f"; versions, device and threads are the same: {others}"


__all__ = ["replay"]
