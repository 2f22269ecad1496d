"""`nasdsl.lock` of a compiled directory: what it was made from, and what comes of that.

Takes a compilation and the texts of the directory, returns the text of the lock; reads it back. Invariant: the
same input in the same environment gives the same bytes; nothing is imported to learn its version; a lock that
was changed in any value is refused when it is read.
"""

from __future__ import annotations

import ast
import json
import platform
import sys
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import attrs

from nasdsl import __version__
from nasdsl.errors import UserError
from nasdsl.ir.graph import Module
from nasdsl.ir.nodes import Op
from nasdsl.ir.text import print_module
from nasdsl.methods.base import Method, Scalar
from nasdsl.ops import PRIMITIVES
from nasdsl.records import Each, check, read_record, toml_of
from nasdsl.space.checked import CheckedSpace
from nasdsl.subspace.value import Subspace

LOCK = "nasdsl.lock"
FORMAT = 1
WRITTEN = ("space.nas", "supernet.py", "search.py", "retrain.py", "config.toml")
"""Files that every directory has and something reads: a lock that does not name them is of no use."""
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "safetensors", "lark", "attrs", "jinja2", "networkx")
"""Packages whose versions are kept: those that compute, then those that compile."""

_VALUE = (bool, int, float, str, list)
_SHAPE = {
    "format": int,
    "kind": str,
    "space": {
        "name": str,
        "source": str,
        "fingerprint": str,
        "parameters": Each(_VALUE),
        "given": Each(_VALUE),
    },
    "subspace?": str,
    "method": str,
    "passes": {"edits": str, "ir": [{"after": str, "sha256": str}]},
    "settings": Each((bool, int, float, str)),
    "config": str,
    "files": Each(str),
    "python?": Each(str),
    "versions": Each((str, type(None))),
    "checksum": str,
}


class Locked(Protocol):
    """What of a compilation the lock is made from; `nasdsl.compiler.Compilation` has it."""

    @property
    def space(self) -> CheckedSpace: ...

    @property
    def method(self) -> Method: ...

    @property
    def subspace(self) -> Subspace | None: ...

    @property
    def given(self) -> Mapping[str, Scalar]: ...

    @property
    def stages(self) -> tuple[tuple[str, Module], ...]: ...


@attrs.frozen
class Lock:
    """A lock that was read.

    Attributes:
        parameters: of the space, every one; `given` are those that were set.
        source: name of the file that was compiled, without its folders: comments in `supernet.py` name it.
        subspace: digest of the part that is searched, "" for the whole space.
        edits: of the method's passes, as `--pass` takes them.
        ir: (after which pass, SHA-256 of the intermediate form), in order.
        settings: those of the method that were given.
        config: of `config_digest`.
        files: SHA-256 of every file, by name.
        python: SHA-256 of every module that operations are from, with the packages around it, by its name; "" for
            one whose file could not be read.
    """

    space: str
    source: str
    fingerprint: str
    parameters: Mapping[str, Any]
    given: Mapping[str, Any]
    subspace: str
    method: str
    edits: str
    ir: tuple[tuple[str, str], ...]
    settings: Mapping[str, Scalar]
    config: str
    files: Mapping[str, str]
    python: Mapping[str, str]
    versions: Mapping[str, str | None]


def lock_text(
    compilation: Locked,
    passes: str,
    texts: Mapping[str, str],
    settings: Mapping[str, Scalar],
) -> str:
    """The text of the lock.

    Args:
        passes: changes to the method's passes, as they were given.
        texts: every other file of the directory by name.
        settings: every setting as the directory has it, files named as they lie there.
    """
    space = compilation.space
    known: dict[int, str] = {}
    data: dict[str, object] = {
        "format": FORMAT,
        "kind": "directory",
        "space": {
            "name": space.name,
            "source": source_name(space),
            "fingerprint": space.fingerprint,
            "parameters": dict(space.parameters),
            "given": dict(space.given),
        },
        **({} if compilation.subspace is None else {"subspace": compilation.subspace.digest}),
        "method": compilation.method.name,
        "passes": {
            "edits": passes,
            "ir": [
                {"after": name, "sha256": digest_of(print_module(module, places=False, known=known))}
                for name, module in compilation.stages
            ],
        },
        "settings": {name: settings[name] for name in compilation.given},
        "config": config_digest(texts["config.toml"]),
        "files": {name: digest_of(text) for name, text in sorted(texts.items())},
        **({"python": python} if (python := python_modules(space)) else {}),
        "versions": versions(),
    }
    return json.dumps({**data, "checksum": checksum_of(data)}, indent=2, ensure_ascii=True) + "\n"


def source_name(space: CheckedSpace) -> str:
    """The file's name without its folders: compilations do not depend on where a file lies."""
    return space.source.name.replace("\\", "/").rpartition("/")[2]


def read_lock(folder: Path) -> Lock:
    """The lock of a compiled directory.

    Raises:
        UserError: NAS005 where there is none, NAS701 for one that is damaged or of another format.
    """
    path = folder / LOCK
    try:
        data = read_record(path, dict)
        if data.get("kind") != "directory" and "kind" in data:
            raise ValueError(f"it is of a {data['kind']!s:.20}, not of a compiled directory")
        if data.get("format") != FORMAT:
            raise ValueError(
                f"its format is {data.get('format', 'not named')!s:.20}; this version reads {FORMAT}"
            )
        check(data, _SHAPE)
        if data["checksum"] != checksum_of({k: v for k, v in data.items() if k != "checksum"}):
            raise ValueError("it was changed since it was written: its checksum does not fit")
        if absent := [name for name in WRITTEN if name not in data["files"]]:
            raise ValueError(f"it names no {absent[0]}, which every directory has")
    except OSError as error:
        raise no_directory(folder, (error.strerror or str(error)).lower()) from None
    except ValueError as error:
        raise UserError.plain(
            "NAS701",
            f"{path} cannot be used: {error}",
            help="compile the directory anew with `nasdsl compile`; its runs stay where they are",
        ) from None
    space, passes = data["space"], data["passes"]
    return Lock(
        space=space["name"],
        source=space["source"],
        fingerprint=space["fingerprint"],
        parameters=space["parameters"],
        given=space["given"],
        subspace=data.get("subspace", ""),
        method=data["method"],
        edits=passes["edits"],
        ir=tuple((step["after"], step["sha256"]) for step in passes["ir"]),
        settings=data["settings"],
        config=data["config"],
        files=data["files"],
        python=data.get("python", {}),
        versions=data["versions"],
    )


def no_directory(folder: Path, why: str) -> UserError:
    """The error of what is no compiled directory."""
    return UserError.plain(
        "NAS005",
        f"{folder} is no directory that `nasdsl compile` wrote: {LOCK}: {why}",
        help="give the folder that holds search.py, config.toml and nasdsl.lock",
    )


def versions() -> dict[str, str | None]:
    """The versions that a result may depend on; None for what is not installed. Imports none of them."""
    return {
        "python": platform.python_version(),
        "nasdsl": __version__,
        **{name: installed_version(name) for name in PACKAGES},
        "cuda": _cuda(),
    }


def config_digest(text: str) -> str:
    """The SHA-256 of what a `config.toml` says, comments left out. Raises ValueError for what is no TOML."""
    return digest_of(_canonical(toml_of(text)))


def digest_of(text: str) -> str:
    """The SHA-256 of a text."""
    return sha256(text.encode()).hexdigest()


def python_modules(space: CheckedSpace) -> dict[str, str]:
    """The digest of every module that operations of a space are from, and of the packages that it lies in."""
    nodes = (node for graph in space.module.graphs for node in graph.nodes if isinstance(node, Op))
    modules = {PRIMITIVES[node.op].opaque for node in nodes} - {"", None}
    names = {name.rsplit(".", up)[0] for name in modules if name for up in range(name.count(".") + 1)}
    return {name: digest for name in sorted(names) if (digest := _module_digest(name)) is not None}


def _module_digest(name: str) -> str | None:
    """Of the file of a module that was imported; None for a package without one, "" where it cannot be read."""
    path = getattr(sys.modules.get(name), "__file__", None)
    if path is None:
        return None
    try:
        return sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""


def directory_of(folder: Path) -> Path | None:
    """The compiled directory that a folder lies in, such as a run; None where it lies in none.

    One whose lock is damaged is still the one, which reading it then says.
    """
    for home in folder.resolve().parents:
        if (home / LOCK).exists() and kind_of(home) == "directory":
            return home
    return None


def kind_of(folder: Path) -> str:
    """What a folder is, a `run` or a `directory`: by its lock, and where that does not say so, by what lies in it."""
    try:
        kind = read_record(folder / LOCK, {"kind": str})["kind"]
    except (OSError, ValueError):
        kind = ""
    if kind in ("run", "directory"):
        return str(kind)
    left = any((folder / name).exists() for name in ("checkpoint.pt", "log.jsonl", "timeline.jsonl"))
    return "run" if left and not (folder / "search.py").exists() else "directory"


def checksum_of(data: Mapping[str, Any]) -> str:
    """What a lock says of itself: the SHA-256 of all that it holds beside, as canonical JSON."""
    return digest_of(_canonical(data))


def _canonical(data: object) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)


def installed_version(package: str) -> str | None:
    """The version of an installed package, None where it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cuda() -> str | None:
    """The CUDA version that torch was built for, from its own file: importing torch takes seconds."""
    spec = find_spec("torch")
    if spec is None or not spec.origin:
        return None
    try:
        tree = ast.parse(Path(spec.origin).with_name("version.py").read_text("utf-8"))
    except (OSError, ValueError, SyntaxError):
        return None
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "cuda":
            return node.value.value if isinstance(node.value, ast.Constant) else None  # type: ignore[return-value]
    return None


__all__ = [
    "LOCK",
    "PACKAGES",
    "WRITTEN",
    "Lock",
    "checksum_of",
    "config_digest",
    "digest_of",
    "directory_of",
    "installed_version",
    "kind_of",
    "lock_text",
    "no_directory",
    "python_modules",
    "read_lock",
    "source_name",
    "versions",
]
