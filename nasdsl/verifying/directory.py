"""A compiled directory against its lock, and against what would be compiled today.

Takes a folder, returns a report. Invariant: every file that differs from the lock, is missing, or was not
written by `compile` is in the report; whether it matters is decided by what the file means, not by its bytes.
"""

from __future__ import annotations

from importlib.machinery import all_suffixes
from importlib.util import find_spec
from pathlib import Path

import attrs

from nasdsl.codegen.lock import LOCK, Lock, config_digest, digest_of, read_lock, versions
from nasdsl.errors import UserError
from nasdsl.verifying.again import compiled_again, unlike
from nasdsl.verifying.findings import Report
from nasdsl.verifying.meaning import changed_settings, same_program
from nasdsl.verifying.versions import compare_versions

_PROGRAMS = ("supernet.py", "search.py", "retrain.py")
_WORDS = frozenset({"README.md", "rewrites.md"})
"""Files that nothing but people reads."""
_BESIDE = frozenset({LOCK, "runs", "__pycache__"})
_ANEW = "take it from a copy of the directory, or compile the directory anew"


@attrs.frozen
class Again:
    """The directory as it would be compiled today.

    Attributes:
        fingerprint: of the space that lies there.
        texts: of every file.
        unlike: stages whose intermediate form is another one than in the lock.
    """

    fingerprint: str
    texts: dict[str, str]
    unlike: list[str]


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
    again = _again(folder, lock, allow_python, report)
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
    other = [] if again is None else _other(found, again)
    if again is not None:
        _say_stages(lock, again, report)
        _say_other_texts([name for name in other if name not in edited], report)
    _say_unknown(folder, lock, report)
    same = again is not None and not again.unlike and not other
    compare_versions(lock.versions, versions(), report, same)
    return report


def _text(path: Path) -> str | None:
    """What a file holds, to the byte; None for what is missing or no text."""
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, ValueError):
        return None


def _again(folder: Path, lock: Lock, allow_python: bool, report: Report) -> Again | None:
    try:
        program = compiled_again(folder, lock, allow_python)
        return Again(program.space.fingerprint, program.files(), unlike(program, lock))
    except UserError as error:
        problem = error.diagnostics[0]
        report.add(
            "space.nas",
            f"cannot be compiled again ({problem.code}: {problem.message}): "
            "whether supernet.py is still what it says is not known, and search.py will not run",
            matters=True,
            cure=problem.help or _ANEW,
        )
        return None


def _say_lost(name: str, what: str, report: Report) -> None:
    if name in _WORDS:
        report.add(name, f"{what}; nothing but people reads it", matters=False)
    else:
        uses = {"retrain.py": "what was found cannot be retrained here"}
        report.add(name, f"{what}: {uses.get(name, 'search.py will not run')}", matters=True, cure=_ANEW)


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
        report.add(name, what, matters=not same, cure=None if same else _ANEW)
    else:
        what = "was edited: what the space or a setting reads from it may be something else"
        report.add(name, what, matters=True, cure=_ANEW)


def _say_space(lock: Lock, again: Again | None, report: Report) -> None:
    if again is None:
        return  # which is said already
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
    report.add(name, what, matters=True, cure=_ANEW)


def _say_config(text: str, lock: Lock, again: Again | None, report: Report) -> None:
    name = "config.toml"
    try:
        digest = config_digest(text)
        changed = [] if again is None else changed_settings(again.texts[name], text)
    except (ValueError, RecursionError) as error:
        report.add(name, f"is no TOML any more: {error}", matters=True, cure=_ANEW)
        return
    if digest == lock.config:
        report.add(name, "was edited, but every setting is as it was", matters=False)
        return
    if not changed:
        report.add(name, "has other settings than were compiled: runs from here on are others", matters=True)
    for one in changed:
        if one.table == "compile":
            follows = "supernet.py has the value before, and the scripts do not read it here"
            cure = f"nasdsl compile ... --set {one.name}=VALUE, or put the value before back"
        elif one.now is None or one.was is None:
            follows, cure = "the scripts will refuse the file", "put it back as it was"
        else:
            follows = "runs from here on have it; one that was begun is not continued with it"
            cure = f"for one run only: --set {one.name}=VALUE"
        report.add(name, f"{one}: {follows}", matters=True, cure=cure)


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


def _other(found: dict[str, str | None], again: Again) -> list[str]:
    """Programs that would be other ones today than those that lie there."""
    return [n for n in _PROGRAMS if n in found and not same_program(found[n] or "", again.texts[n])]


def _say_other_texts(names: list[str], report: Report) -> None:
    """What nobody touched and would be written in another way today."""
    for name in names:
        needs = name != "retrain.py"
        why = (
            "it calls nasdsl.runtime as it is today"
            if needs
            else "it needs no nasdsl and does what it always did"
        )
        what = f"would be written in another way today; {why}"
        cure = "compile the directory anew, or install the nasdsl that wrote it" if needs else None
        report.add(name, what, matters=needs, cure=cure)


def _say_unknown(folder: Path, lock: Lock, report: Report) -> None:
    for path in sorted(folder.iterdir()):
        if path.name in lock.files or path.name in _BESIDE:
            continue
        module = _module(path)
        if module is not None and _known(module):
            report.add(
                path.name,
                f"was not written by `nasdsl compile`, and Python would import it in the place of `{module}`",
                matters=True,
                cure="look at what it is and take it away",
            )
        else:
            what = "was not written by `nasdsl compile`; no script reads it by itself"
            report.add(path.name, what, matters=False)


def _module(path: Path) -> str | None:
    """The name under which Python would import a path."""
    if path.is_dir():
        return path.name if any((path / f"__init__{end}").exists() for end in all_suffixes()) else None
    end = next((end for end in all_suffixes() if path.name.endswith(end)), None)
    return path.name.removesuffix(end) if end else None


def _known(module: str) -> bool:
    """Whether there is a module of that name already."""
    if module == "supernet":
        return True
    try:
        return module.isidentifier() and find_spec(module) is not None
    except (ImportError, ValueError):
        return False


__all__ = ["Again", "verify_directory"]
