"""The folder of a run against its lock, against the directory that it is of, and against this machine.

Takes a folder, returns a report. Invariant: every artefact that the run finished is compared with its digest,
every checkpoint with the digest at its end; no checkpoint is unpickled further than to plain data and tensors, and no
code of the folder is run.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from nasdsl.codegen.lock import Lock, directory_of, read_lock
from nasdsl.errors import UserError
from nasdsl.records import check, is_plain, toml_of
from nasdsl.tabular.reading import file_digest
from nasdsl.verifying.findings import Report
from nasdsl.verifying.modules import compare_modules
from nasdsl.verifying.record import Record, differing, read_run, short
from nasdsl.verifying.strangers import say_bytecode
from nasdsl.verifying.versions import compare_versions

_AGAIN = "run `python {script}` again with the same arguments: it writes it anew from the last checkpoint"
_CONSEQUENCES = {
    "model.py": "the network that would be retrained is not the one that was found",
    "architecture.json": "it is not the architecture that was found",
    "log.jsonl": "figures and pictures made from it are not the run's",
    "result.json": "it is not what the run reached",
}
_WEIGHTS = "its weights are not those that the run ended with"
_LAST = ("model.py", "architecture.json", "result.json", "supernet.safetensors", "weights.safetensors")
"""Artefacts that a run leaves when it ends, and that others read."""
_IMAGES = ("torchvision", "pillow")
"""Packages that read images, which a run on digits does not use."""
_DRAWN = frozenset({".svg", ".md", ".html", ".png"})
"""Files that are made from the others, for people."""


def verify_run(
    folder: Path, directory: Path | None = None, model: Path | None = None
) -> tuple[Report, Record, Path | None]:
    """Verifies a run.

    Args:
        directory: the compiled directory that it is of; None for the one that it lies in.
        model: of a retraining, what it trained; None for where the run had it.

    Returns:
        The report; the record of the run; the directory, None where there is none.

    Raises:
        UserError: NAS005 for what is no run, NAS701 for a lock that cannot be used.
    """
    record = attrs.evolve(read_run(folder), named=model)
    what = (
        f"{record.identity.get('method')} with seed"
        if record.script == "search.py"
        else "retraining with seed"
    )
    report = Report("run", f"{folder}: {what} {record.identity.get('seed')}")
    _files(record, report)
    _unnamed(record, report)
    say_bytecode(folder, report)
    _checkpoints(record, report)
    home = directory or directory_of(folder)
    if home is None:
        report.unknown.append(
            "the directory it was compiled into: the run lies in none (--directory DIR names it)"
        )
    else:
        _identity(record, home, report)
    return report, record, home


def _files(record: Record, report: Report) -> None:
    if not record.files:
        report.unknown.append("files: the run has not ended, which is when their digests are taken")
    whole = 0
    for name, digest in sorted(record.files.items()):
        if "__pycache__" in Path(name).parts:
            continue
        path = record.folder / name
        # Read whole, as bytes: a file that is a folder or may not be read is as good as missing.
        found = _digest(path)
        if found == digest:
            whole += 1
            continue
        what = "is missing" if found is None else "is not what was written there: it was changed or damaged"
        drawn = path.suffix in _DRAWN
        follows = _CONSEQUENCES.get(name, _WEIGHTS if _weights(path) else "it is not what the run left")
        what = what if drawn else f"{what}: {follows}"
        report.add(name, what, matters=not drawn, cure=_AGAIN.format(script=record.script))
    if whole:
        report.good.append(f"files: {whole} as the run wrote them")


def _unnamed(record: Record, report: Report) -> None:
    """Artefacts that the lock does not name: put there since, or left out of it."""
    from nasdsl.runtime.standalone.artefacts import known_of, left_in

    for path in left_in(record.folder, known_of(record.identity)):
        name = path.relative_to(record.folder).as_posix()
        if name in record.files or (not record.files and name not in _LAST):
            continue
        follows = _CONSEQUENCES.get(name, _WEIGHTS if _weights(path) else "it is not what the run left")
        what = f"is not named by the run's lock: it may have been put there, and then {follows}"
        cure = _AGAIN.format(script=record.script)
        report.add(name, what, matters=path.suffix not in _DRAWN, cure=cure)


def _weights(path: Path) -> bool:
    return path.suffix in (".safetensors", ".pt")


def _digest(path: Path) -> str | None:
    try:
        return file_digest(str(path))
    except UserError:
        return None


def _checkpoints(record: Record, report: Report) -> None:
    """Every checkpoint by its digest, and the last whole one by what run it says that it is of."""
    # checkpoint.pt first, then those before it.
    paths = sorted(record.folder.glob("checkpoint*.pt"), key=lambda path: (len(path.name), path.name))
    whole = [path for path in paths if _whole(path)]
    for path in paths:
        if path in whole:
            continue
        others = f"the run goes on from {whole[0].name}" if whole else "the run cannot go on"
        report.add(
            path.name,
            f"is damaged: {others}",
            matters=True,
            cure="take it from a copy" if whole else f"python {record.script} --restart begins anew",
        )
    if not paths:
        report.unknown.append("checkpoints: there is none")
    elif whole:
        _checkpoint(whole[0], record, report)


def _whole(path: Path) -> bool:
    from nasdsl.runtime.standalone.checkpoint import is_sealed

    try:
        return is_sealed(path)
    except (OSError, ValueError):
        return False


def _checkpoint(path: Path, record: Record, report: Report) -> None:
    import torch

    from nasdsl.runtime.standalone.checkpoint import FORMAT

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        identity, log, version = state["identity"], state.get("log", []), state.get("format", 1)
        check(log, [str])
        if type(identity) is not dict or not is_plain(identity) or type(version) is not int:
            raise ValueError("its identity is no plain data")
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is no checkpoint of a run
        what = f"is no checkpoint of a run ({type(error).__name__}); nothing in it was executed"
        report.add(path.name, what, matters=True, cure="look at where it came from; do not load it otherwise")
        return
    if version != FORMAT:
        by = "a newer" if version > FORMAT else "an older"
        cure = "update nasdsl and compile again" if version > FORMAT else "end the run with that version"
        report.add(
            path.name,
            f"was written by {by} version of nasdsl (format {version}, this one reads {FORMAT}): the run cannot go on",
            matters=True,
            cure=f"{cure}, or begin anew with --restart",
        )
        return
    other = differing(identity, record.identity)
    if other:
        report.add(path.name, f"is of another run ({'; '.join(other)})", matters=True, cure=None)
        return
    report.good.append(f"checkpoints: whole, {path.name} is of this run")
    if record.files:
        return  # then the log has a digest of its own
    try:
        lines = (record.folder / "log.jsonl").read_text("utf-8")
    except (OSError, ValueError):
        lines = ""
    if not lines.startswith("".join(log)):
        what = "is not what the checkpoint says: the run writes it anew when it goes on"
        report.add("log.jsonl", what, matters=False)


def _identity(record: Record, home: Path, report: Report) -> None:
    """Whether the run is one of the directory as it is now."""
    try:
        lock = read_lock(home)
    except UserError as error:
        report.add(str(home), error.diagnostics[0].message, matters=True, cure=error.diagnostics[0].help)
        return
    before = len(report.findings)
    if record.script == "search.py":
        _search_identity(record, home, lock, report)
        compare_modules(home, lock, report)
    else:
        _model(record, report)
    _settings(record, home, report)
    if len(report.findings) == before:
        report.good.append("identity: a run of its directory as that is now")


def _model(record: Record, report: Report) -> None:
    """Of a retraining: whether what it trained is what lies where it had it."""
    path, given = record.model, record.arguments.get("model")
    adrift = given is not None and record.named is None and record.cwd is None and not path.is_absolute()
    if (adrift and _digest(path) is None) or (given is not None and not path.exists()):
        report.unknown.append(
            f"the network that was trained: {path} is not found from here (--model names it)"
        )
    elif adrift and record.identity.get("model") != (_digest(path) or "")[:16]:
        report.unknown.append(f"the network that was trained: {path} here is another one (--model names it)")
    else:
        _same_file(record, "model", path, "the network that was trained", report)


def _search_identity(record: Record, home: Path, lock: Lock, report: Report) -> None:
    ours = {"space": lock.fingerprint, "method": lock.method, "subspace": lock.subspace}
    for name, now in ours.items():
        was = record.identity.get(name, "")
        if was != now:
            what = f"of the run is {short(was) or 'none'}, of the directory it is {short(now) or 'none'}"
            report.add(
                name,
                f"{what}: the run is of another directory",
                matters=True,
                cure="name its own with --directory",
            )
    _same_file(record, "supernet", home / "supernet.py", "the supernet that was trained", report)


def _same_file(record: Record, name: str, path: Path, what: str, report: Report) -> None:
    try:
        now = file_digest(str(path))[:16]
    except (UserError, ValueError):
        report.add(path.name, f"is missing: {what} cannot be seen", matters=True)
        return
    if record.identity.get(name) != now:
        report.add(path.name, f"is not {what}: it was changed since, or compiled anew", matters=True)


def _settings(record: Record, home: Path, report: Report) -> None:
    """Settings of config.toml that the run had otherwise, and did not have from its command line."""
    table = "search" if record.script == "search.py" else "retrain"
    try:
        config = toml_of((home / "config.toml").read_text("utf-8"))
        now = {**config["data"], **config[table]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        report.add("config.toml", f"cannot be read ({type(error).__name__})", matters=True)
        return
    given = record.arguments.get("settings") or []
    said = {str(pair).partition("=")[0] for pair in given} | {"loader"}
    said |= {n for n, o in (("name", "data"), ("epochs", "epochs")) if record.arguments.get(o) is not None}
    if "recipe" in said:
        return  # which has values for most
    for name, value in now.items():
        if name in record.identity and name not in said and record.identity[name] != value:
            what = f"has {name} = {value} now, the run had {record.identity[name]}"
            cure = f"--set {name}={record.identity[name]} has what the run had"
            report.add(
                "config.toml", f"{what}: the same command is another run today", matters=True, cure=cure
            )


def verify_environment(record: Record, report: Report, replayed: bool) -> None:
    """Where the run was, against this machine, and against where it went on.

    Args:
        replayed: whether its first steps were done again here and are the same: then only what those steps do
            not show can differ.
    """
    from nasdsl.runtime.standalone.basics import pick_device
    from nasdsl.runtime.standalone.lock import environment

    # How many processes there were says how a run was done, not what this machine is; a replay sets threads.
    left_out = {
        "processes",
        *(("threads",) if replayed else ()),
        *(_IMAGES if record.data_name == "digits" else ()),
    }
    then = {name: value for name, value in record.environment.items() if name not in left_out}
    device = pick_device("auto" if then.get("cuda") else "cpu")
    compare_versions(then, environment(device), report, same=replayed, replayed=replayed)
    for place in record.continued:
        first, later = record.environment, place["environment"]
        unused = _IMAGES if record.data_name == "digits" else ()
        names = [n for n in {**first, **later} if first.get(n) != later.get(n) and n not in unused]
        changed = ", ".join(f"{n} was {short(first.get(n))}, then {short(later.get(n))}" for n in names)
        if "deterministic" in place:
            changed += (
                f"{', ' * bool(changed)}{'with' if place['deterministic'] else 'without'} --deterministic"
            )
        if changed:
            where = f"went on elsewhere at epoch {place['epoch']}, step {place['step']} ({changed})"
            epochs = record.identity.get("epochs")
            over = isinstance(epochs, int) and place["epoch"] > epochs
            what = (
                "after its last step"
                if over
                else ("the last bits of what follows may be others than those of a run in one place")
            )
            report.add("run", f"{where}: {what}", matters=not over)


__all__ = ["verify_environment", "verify_run"]
