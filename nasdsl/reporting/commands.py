"""The commands that make a run again.

Takes a run, returns command lines. Invariant: nothing is guessed; a line is there only where the files say
everything that it needs, and pasted into a shell it is what was run, whatever names hold.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from nasdsl.errors import UserError
from nasdsl.reporting.folder import Compiled, Run

_PLAIN = (
    "seed",
    "epochs",
    "limit_batches",
    "device",
    "precision",
    "workers",
    "data_dir",
    "benchmark",
    "metric",
    "wandb",
)
_FLAGS = ("deterministic", "compile", "cuda_graph", "sync_bn")
_USUAL = {"workers": 2, "data_dir": "data", "device": "auto", "precision": "fp32"}
"""What an option is where it is not given."""


def commands(run: Run) -> list[str]:
    """From the space to the retrained network, as far as it is known."""
    found = [] if run.compiled is None else [compile_command(run.compiled)]
    retrained = None if run.retrained is None else run.retrained.lock
    for name, lock in (("search.py", run.lock), ("retrain.py", retrained)):
        if lock is not None:
            words = [
                *_launcher(lock),
                _script(run, name),
                *_options(lock["arguments"]),
                *_out(run, lock["arguments"]),
            ]
            found.append(shlex.join(words))
    return found


def _launcher(lock: Mapping[str, Any]) -> list[str]:
    """What starts a script: as many processes as there were, which is all that is known of several machines."""
    processes = (lock.get("environment") or {}).get("processes")
    if isinstance(processes, int) and processes > 1:
        return ["torchrun", f"--nproc-per-node={processes}"]
    return ["python"]


def compile_command(compiled: Compiled) -> str:
    """What `nasdsl compile` is called with for the same directory."""
    lock = compiled.lock
    words = ["nasdsl", "compile", "space.nas", "--method", lock.method]
    words += [w for k, v in lock.given.items() for w in ("--param", f"{k}={_value(v)}")]
    words += [w for k, v in _set(compiled) for w in ("--set", f"{k}={_value(v)}")]
    words += [f"--pass={lock.edits}"] if lock.edits else []
    words += ["--within", "subspace.json"] if lock.subspace else []
    words += ["--allow-python"] if compiled.python else []
    return shlex.join([*words, "-o", compiled.folder.name])


def _set(compiled: Compiled) -> Iterator[tuple[str, object]]:
    """The settings that were given; those in config.toml that are not the method's own where it was edited since."""
    from nasdsl.codegen.directory import setting_key
    from nasdsl.methods import METHODS

    if compiled.lock.files.get("config.toml") == compiled.config_digest:
        yield from compiled.lock.settings.items()
        return
    try:
        method = METHODS.load(compiled.lock.method)
    except UserError:
        return
    for setting in method.settings:
        value = compiled.config.get(setting.table, {}).get(setting_key(setting), setting.default)
        if value != setting.default:
            yield setting.name, value


def _script(run: Run, name: str) -> str:
    return name if run.compiled is None else f"{run.compiled.folder.name}/{name}"


def _out(run: Run, arguments: Mapping[str, Any]) -> list[str]:
    """Where the run lies, if that is not where it would by itself: as seen from the folder that the commands are
    for, which is that around the compiled directory, where it lies below it.
    """
    if run.compiled is None:
        return ["--out", str(run.folder)]
    home = run.compiled.folder
    if run.folder == home / "runs" / str(arguments.get("seed")):
        return []
    below = run.folder.is_relative_to(home.parent)
    return ["--out", str(run.folder.relative_to(home.parent) if below else run.folder)]


def _options(arguments: Mapping[str, Any]) -> list[str]:
    """The options of a script that were given."""
    words: list[str] = []
    if arguments.get("data") is not None:
        words += ["--data", str(arguments["data"])]
    for name in (*_PLAIN, "model", "weights"):
        value = arguments.get(name)
        if value is not None and value != _USUAL.get(name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += [f"--{name.replace('_', '-')}" for name in _FLAGS if arguments.get(name) is True]
    settings = arguments.get("settings")
    words += [w for s in settings for w in ("--set", str(s))] if isinstance(settings, list) else []
    return words


def _value(value: object) -> str:
    if isinstance(value, (bool, list, dict)):
        return json.dumps(value, separators=(",", ":"))
    return str(value)


__all__ = ["commands", "compile_command"]
