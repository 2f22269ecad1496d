"""Finds the files that travel with the package: the grammar and the shipped spaces.

Takes names, returns paths and texts. Invariant: works alike in a checkout, where
`grammar/` and `spaces/` lie beside the package, and in an installed wheel, which
carries them as `nasdsl/_data/grammar` and `nasdsl/_data/spaces`.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _folder(name: str) -> Path:
    # A wheel has `_data`; a checkout never does, so a stale build cannot shadow what is edited.
    packed = _PACKAGE / "_data" / name
    return packed if packed.is_dir() else _PACKAGE.parent / name


def grammar_path() -> Path:
    """The grammar of `.nas` files."""
    return _folder("grammar") / "nas.lark"


def grammar_text() -> str:
    """The text of the grammar."""
    return grammar_path().read_text("utf-8")


def spaces_folder() -> Path:
    """The folder of the shipped spaces."""
    return _folder("spaces")


def library_path() -> Path:
    """The standard library of composite operations."""
    return _folder("spaces") / "library" / "operations.nas"


def shipped_spaces() -> dict[str, Path]:
    """The shipped spaces by name, `darts` for `spaces/darts.nas`, in alphabetical order."""
    return {path.stem: path for path in sorted(spaces_folder().glob("*.nas"))}


def shipped_architectures() -> dict[str, Path]:
    """The published architectures by name, `cream_287` for `spaces/architectures/cream_287.json`."""
    files = (spaces_folder() / "architectures").glob("*.json")
    return {path.stem: path for path in sorted(files, key=lambda p: (len(p.stem), p.stem))}
