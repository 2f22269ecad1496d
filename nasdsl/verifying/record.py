"""The lock of a run, read with its kinds checked.

Takes a folder, returns a record. Invariant: names of files in it lie in the folder; nothing is imported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import attrs

from nasdsl.codegen.lock import LOCK, checksum_of
from nasdsl.errors import UserError
from nasdsl.records import Each, check, read_record

FORMAT = 1
_ENVIRONMENT = Each((str, int, type(None)))
_SHAPE = {
    "identity": dict,
    "arguments": {
        **{f"{name}?": (str, type(None)) for name in ("model", "weights", "data", "data_dir")},
        "settings?": ([str], type(None)),
    },
    "cwd?": (str, type(None)),
    "environment": _ENVIRONMENT,
    "continued?": [{"epoch": int, "step": int, "environment": _ENVIRONMENT}],
    "data": Each(str),
    "first_steps": (type(None), {"steps": int, "losses": [Each(str)], "digest": str}),
    "files": Each(str),
    "checksum": str,
}
_CURE = "run the script that wrote the folder again: it goes on from its last checkpoint and writes it anew"


@attrs.frozen
class Record:
    """What a run says of itself.

    Attributes:
        folder: where it lies.
        identity: what makes it the same run.
        arguments: the command line as plain data.
        environment: versions, device, threads.
        continued: where the run went on elsewhere: the epoch, the step, and the environment from there on.
        data: digests by name.
        losses: of the first steps, by name, as hexadecimal numbers; () where there were too few.
        digest: over those losses and the weights after them.
        files: SHA-256 of every file that it finished, by its path in the folder.
        cwd: the working directory, from which paths in its arguments are; None where it does not say.
        named: the model that the user names instead of the run's.
    """

    folder: Path
    identity: Mapping[str, Any]
    arguments: Mapping[str, Any]
    environment: Mapping[str, Any]
    continued: tuple[Mapping[str, Any], ...]
    data: Mapping[str, str]
    losses: tuple[Mapping[str, str], ...]
    digest: str
    files: Mapping[str, str]
    cwd: Path | None = None
    named: Path | None = None

    @property
    def script(self) -> str:
        """The script that wrote it."""
        return "search.py" if "method" in self.identity else "retrain.py"

    @property
    def data_name(self) -> str:
        """The data that it was of, as `--data` takes them."""
        return str(self.identity.get("name", ""))

    @property
    def data_found(self) -> str:
        """The same, a folder of images from where the run was started."""
        kind, _, path = self.data_name.partition(":")
        return f"{kind}:{self.there(path)}" if kind == "imagefolder" else self.data_name

    @property
    def data_dir(self) -> str:
        """Where they were looked for."""
        return str(self.there(self.arguments.get("data_dir") or "data"))

    @property
    def model(self) -> Path:
        """Of a retraining: what it trained."""
        given = self.arguments.get("model")
        return self.named or (self.there(given) if given else self.folder.parent / "model.py")

    def there(self, path: str) -> Path:
        """A path of the command line, from where the run was started if that is there, else from here."""
        return self.cwd / path if self.cwd is not None and self.cwd.is_dir() else Path(path)

    @property
    def data_are_code(self) -> bool:
        """Whether loading them would import and call what the record names."""
        return names_code(self.data_name)


def names_code(data: str) -> bool:
    """Whether data of that name are what a function of the user's returns, which must be imported and called."""
    return ":" in data and not data.startswith("imagefolder:")


def differing(was: Any, now: Mapping[str, Any]) -> list[str]:
    """What of an identity is another one, in words."""
    if not isinstance(was, Mapping):
        return ["it says no identity"]
    names = [n for n in {**was, **now} if (n in was, was.get(n)) != (n in now, now.get(n))]
    return [f"{n} was {short(was.get(n))}, is {short(now.get(n))}" for n in names]


def short(value: Any) -> str:
    """A value in at most forty characters."""
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def read_run(folder: Path) -> Record:
    """The record of a run.

    Raises:
        UserError: NAS005 for what is no run, NAS701 for a lock that is damaged or of another format.
    """
    path = folder / LOCK
    try:
        data = read_record(path, {"format": int, "kind": str})
        if data["kind"] != "run" or data["format"] != FORMAT:
            raise ValueError(
                f"it is of kind {data['kind']:.20} and format {data['format']}, not of a run in format {FORMAT}"
            )
        check(data, _SHAPE)
        if data["checksum"] != checksum_of({k: v for k, v in data.items() if k != "checksum"}):
            raise ValueError("it was changed since it was written: its checksum does not fit")
        if "\\u0000" in json.dumps(data):
            raise ValueError("it holds a character that no name has")
        for name in data["files"]:
            _refuse_outside(name)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise UserError.plain(
            "NAS005",
            f"{folder} is no run: {LOCK}: {why}",
            help="give a directory that `nasdsl compile` wrote, or the folder of a run in it, such as runs/0",
        ) from None
    except ValueError as error:
        raise UserError.plain("NAS701", f"{path} cannot be used: {error}", help=_CURE) from None
    first = data["first_steps"]
    return Record(
        folder=folder,
        identity=data["identity"],
        arguments=data["arguments"],
        environment=data["environment"],
        continued=tuple(data.get("continued", ())),
        data=data["data"],
        losses=() if first is None else tuple(first["losses"]),
        digest="" if first is None else first["digest"],
        files=data["files"],
        cwd=Path(data["cwd"]) if data.get("cwd") else None,
    )


def _refuse_outside(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts:
        raise ValueError(f"it names a file outside its folder, {ascii(name)[:80]}")


__all__ = ["Record", "differing", "names_code", "read_run", "short"]
