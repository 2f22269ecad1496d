"""A compiled directory against its lock, and against what would be compiled today.

Takes a folder, returns a report. Invariant: every file that differs from the lock, is missing, or was not
written by `compile` is in the report; whether it matters is decided by what the file means, not by its bytes.
"""

from __future__ import annotations

from pathlib import Path

from nasdsl.codegen.lock import LOCK, Lock, config_digest, digest_of, read_lock, versions
from nasdsl.verifying.again import ANEW, Again, again_of
from nasdsl.verifying.findings import Report
from nasdsl.verifying.meaning import Changed, changed_settings, same_program
from nasdsl.verifying.modules import compare_modules
from nasdsl.verifying.strangers import say_bytecode, say_code, say_strangers
from nasdsl.verifying.versions import compare_versions

_PROGRAMS = ("supernet.py", "search.py", "retrain.py")
_WORDS = frozenset({"README.md", "rewrites.md"})
"""Files that nothing but people reads."""
_MAY_LIE_THERE = frozenset({*_PROGRAMS, *_WORDS, "space.nas", "config.toml", "subspace.json"})


def verify_directory(folder: Path, allow_python: bool = False) -> Report:
    """Verifies a directory that `nasdsl compile` wrote.

    Args:
        allow_python: whether `use python` in the space may import what it names.

    Raises:
        UserError: NAS005 for what is no such directory, NAS701 for a lock that cannot be used.
    """
    lock = read_lock(folder)
    by = lock.versions.get("nasdsl")
    report = Report("directory", f"{folder}: {lock.space} for {lock.method}, compiled by nasdsl {by}")
    found = {name: _text(folder / Path(name).name) for name in lock.files}
    edited = {n for n, text in found.items() if text is None or digest_of(text) != lock.files[n]}
    if whole := sorted(lock.files.keys() - edited):
        report.good.append(f"files as they were written: {', '.join(whole)}")
    again = again_of(folder, lock, allow_python, report)
    for name in sorted(edited):
        text = found[name]
        if text is None:
            missing = not (folder / Path(name).name).exists()
            what = "is missing" if missing else "is no text any more"
            _say_lost(name, what, report)
        elif name in _WORDS:
            report.add(name, "was edited; nothing but people reads it", matters=False)
        else:
            _say_edited(name, text, lock, again, report)
    same = again is not None and _say_again(again, lock, found, edited, report)
    compare_modules(folder, lock, report)
    say_code(found["config.toml"], report)
    say_bytecode(folder, report)
    say_strangers(folder, lock, _written(lock, again), found, report)
    compare_versions(lock.versions, versions(), report, same)
    return report


def _text(path: Path) -> str | None:
    """What a file holds, to the byte; None for what is missing or no text."""
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, ValueError):
        return None


def _written(lock: Lock, again: Again | None) -> frozenset[str]:
    """Names of files that `compile` writes: a lock may name any, so only data are taken from its word alone."""
    if again is not None:
        return frozenset(again.texts)
    return frozenset(
        n for n in lock.files if n in _MAY_LIE_THERE or n.endswith((".csv", ".json", ".nas", ".txt"))
    )


def _say_lost(name: str, what: str, report: Report) -> None:
    if name in _WORDS:
        report.add(name, f"{what}; nothing but people reads it", matters=False)
    else:
        uses = {"retrain.py": "what was found cannot be retrained here"}
        report.add(name, f"{what}: {uses.get(name, 'search.py will not run')}", matters=True, cure=ANEW)


def _say_edited(name: str, text: str, lock: Lock, again: Again | None, report: Report) -> None:
    if name == "config.toml":
        _say_config(text, lock, again, report)
    elif name == "space.nas":
        _say_space(lock, again, report)
    elif name in _PROGRAMS:
        _say_program(name, text, again, report)
    elif name == "subspace.json" and again is not None and again.texts.get(name) is not None:
        same = digest_of(again.texts[name]) == lock.files[name]
        what = "was edited, but holds the same architectures" if same else "holds other architectures"
        report.add(name, what, matters=not same, cure=None if same else ANEW)
    else:
        what = "was edited: what the space or a setting reads from it may be something else"
        report.add(name, what, matters=True, cure=ANEW)


def _say_space(lock: Lock, again: Again | None, report: Report) -> None:
    if again is None:
        if all(finding.subject != "space.nas" for finding in report.findings):
            what = "was edited: whether it is the same space is not known without --allow-python"
            report.add("space.nas", what, matters=True, cure="look at what it imports, then allow it")
        return
    if again.fingerprint == lock.fingerprint:
        what = "was edited, but is the same space: its fingerprint is the same (comments or layout)"
        report.add("space.nas", what, matters=False)
        return
    report.add(
        "space.nas",
        f"is another space (fingerprint {again.fingerprint}, was {lock.fingerprint}): supernet.py is of the "
        "space before, and what it finds would be read as one of this",
        matters=True,
        cure="compile this space into a directory of its own, or take space.nas from a copy",
    )


def _say_program(name: str, text: str, again: Again | None, report: Report) -> None:
    if again is not None and same_program(text, again.texts[name]):
        known = " (a run that was begun knows the file by its bytes, and would not be continued)"
        what = "was edited in its comments only: it does the same"
        report.add(name, what + known * (name == "supernet.py"), matters=False)
        return
    if not text.strip():
        _say_lost(name, "is empty", report)
        return
    what = {
        "supernet.py": "was edited by hand: what it computes is no longer what the passes proved",
        "search.py": "was edited by hand: it is no longer the search that was compiled",
        "retrain.py": "was edited by hand: it is no longer the retraining that was compiled",
    }[name]
    report.add(name, what, matters=True, cure=ANEW)


def _say_config(text: str, lock: Lock, again: Again | None, report: Report) -> None:
    name = "config.toml"
    try:
        digest = config_digest(text)
        changed = [] if again is None else changed_settings(again.texts[name], text)
    except ValueError as error:
        report.add(name, f"is no TOML any more: {error}", matters=True, cure=ANEW)
        return
    if digest == lock.config:
        report.add(name, "was edited, but every setting is as it was", matters=False)
        return
    if not changed:
        report.add(name, "has other settings than were compiled: runs from here on are others", matters=True)
    for one in changed:
        _say_setting(one, report)


def _say_setting(one: Changed, report: Report) -> None:
    if one.table == "compile":
        follows = "supernet.py has the value before, and the scripts do not read it here"
        cure = f"nasdsl compile ... --set {one.name}=VALUE, or put the value before back"
    elif one.now is None or one.was is None:
        follows, cure = "the scripts will refuse the file", "put it back as it was"
    else:
        follows = "runs from here on have it; one that was begun is not continued with it"
        cure = f"for one run only: --set {one.name}=VALUE"
    report.add("config.toml", f"{one}: {follows}", matters=True, cure=cure)


def _say_again(
    again: Again, lock: Lock, found: dict[str, str | None], edited: set[str], report: Report
) -> bool:
    """What is not as it would be compiled today, whatever the lock says of it; returns whether all is."""
    _say_stages(lock, again, report)
    programs = [n for n in _PROGRAMS if not same_program(found[n] or "", again.texts[n])]
    _say_other_texts([name for name in programs if name not in edited], report)
    settings = [] if "config.toml" in edited else _other_settings(found["config.toml"] or "", again)
    for one in settings:
        what = (
            f"{one.compared('would be compiled as', 'but is')}: it is not what the lock says it was made from"
        )
        report.add("config.toml", what, matters=True, cure=ANEW)
    for name in sorted(again.texts.keys() - lock.files.keys() - _WORDS - {LOCK}):
        what = "is not named by the lock: whether it is what was compiled is not known"
        report.add(name, what, matters=True, cure=ANEW)
    return not (again.unlike or programs or settings)


def _other_settings(text: str, again: Again) -> list[Changed]:
    try:
        return changed_settings(again.texts["config.toml"], text)
    except ValueError:
        return [Changed("", "config.toml", "TOML", "none")]


def _say_stages(lock: Lock, again: Again, report: Report) -> None:
    if not again.unlike:
        stages = f"the space and its form after each of {len(lock.ir) - 1} passes"
        report.good.append(f"compiled again, the same to the bit: {stages}")
        return
    where = again.unlike[0]
    what = (
        "the space itself" if where == "space" else where if " " in where else f"the form after pass {where}"
    )
    more = f" and what follows from it ({len(again.unlike) - 1} more)" if len(again.unlike) > 1 else ""
    report.add(
        "passes",
        f"compiled again, {what} is another one{more}: what was proved of supernet.py was proved of something else",
        matters=True,
        cure="with the files as they were, the version of nasdsl differs: compile the directory anew",
    )


def _say_other_texts(names: list[str], report: Report) -> None:
    """What the lock says was written so, and would be written in another way today."""
    for name in names:
        what = "would be written in another way today: another nasdsl wrote it, or somebody did who made the lock fit"
        cure = "compile the directory anew, or verify it with the nasdsl that wrote it"
        report.add(name, what, matters=True, cure=cure)


__all__ = ["verify_directory"]
