"""Architectures: the value of every active decision.

Takes choices, returns a checked `Architecture`. Invariant: an architecture holds
exactly the active decisions of its space, in table order; its JSON says which
space it belongs to and reads back as itself.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from nasdsl.diagnostics import did_you_mean
from nasdsl.errors import UserError
from nasdsl.resources import shipped_architectures
from nasdsl.space.decisions import Choice, Decision, DecisionTable


def _frozen(choices: Mapping[str, Any]) -> Mapping[str, Choice]:
    return MappingProxyType({k: _plain(v) for k, v in choices.items()})


def _kept(params: Mapping[str, object]) -> Mapping[str, object]:
    return MappingProxyType(dict(params))


def _plain(value: Any) -> Choice:
    """A choice as it is kept: numbers by their text, lists of inputs as tuples."""
    if isinstance(value, (int, float)):
        return repr(value)
    return value if isinstance(value, str) else tuple(value)


@attrs.frozen(eq=False)
class Architecture:
    """One point of a space.

    Attributes:
        space: name of the space.
        fingerprint: of the space it was checked against.
        choices: decision path to option name, or to the tuple of chosen inputs.
        params: parameters of the space that belong to it, such as the depths of a published network;
            what a search finds has none, so that it can be trained in another size.
    """

    space: str
    fingerprint: str
    choices: Mapping[str, Choice] = attrs.field(converter=_frozen)
    params: Mapping[str, object] = attrs.field(default=MappingProxyType({}), converter=_kept)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and dict(self.choices) == dict(other.choices)

    def __hash__(self) -> int:
        return hash(frozenset(self.choices.items()))

    def to_json(self) -> str:
        """One line of JSON; lists stand for choices of inputs."""
        params = {"params": dict(self.params)} if self.params else {}
        record = {"space": self.space, "fingerprint": self.fingerprint, **params}
        return json.dumps({**record, "choices": dict(self.choices)}, ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Reads `to_json`. It is not checked against a space; `Space.parse` does that.

        Raises:
            UserError: NAS401 when the text is not an architecture.
        """
        try:
            data = json.loads(text)
            choices = data["choices"]
            good = isinstance(choices, dict) and all(
                isinstance(v, (str, int, float))
                or (isinstance(v, list) and all(isinstance(i, str) for i in v))
                for v in choices.values()
            )
            if not good:
                raise TypeError("choices")
            params = data.get("params", {})
            if not isinstance(params, dict) or not all(map(_is_parameter, params.values())):
                raise TypeError("params")
            return cls(str(data["space"]), str(data["fingerprint"]), choices, params)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            lacks = f": it has no `{error.args[0]}`" if isinstance(error, KeyError) else ""
            raise UserError.plain(
                "NAS401",
                f"this is not an architecture file{lacks}",
                help='it is JSON: {"space": ..., "fingerprint": ..., "choices": {decision: option or [inputs]}}; '
                'a key "params" may say parameters of the space',
            ) from None


def _is_parameter(value: object) -> bool:
    return isinstance(value, (bool, int, float)) or (
        isinstance(value, list) and all(map(_is_parameter, value))
    )


def check_choices(table: DecisionTable, choices: Mapping[str, Any]) -> dict[str, Choice]:
    """The choices in table order, if they are exactly one value for each active decision.

    Raises:
        UserError: NAS401, naming the decision.
    """
    if not isinstance(choices, Mapping):
        raise _misfit(f"an architecture is its choices by decision, not {choices!r:.60}")
    for path in choices:
        if path not in table.by_path:
            raise _misfit(f"the space has no decision `{path}`{did_you_mean(path, table.by_path)}")
    plain = {k: checked_value(table.by_path[k], v) for k, v in choices.items()}
    active = table.active(plain)
    kept: dict[str, Choice] = {}
    for decision in active:
        if decision.path not in plain:
            raise _misfit(
                f"decision `{decision.path}` is not made; it is one of {', '.join(decision.options)}"
            )
        kept[decision.path] = plain[decision.path]
    idle = [p for p in plain if p not in kept]
    if idle:
        raise _misfit(f"decision `{idle[0]}` does not exist here: what it belongs to is not chosen")
    return kept


def checked_value(decision: Decision, value: Any) -> Choice:
    """A value as the decision has it. Raises UserError (NAS401) where it has none like it."""
    inputs = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
    if not (inputs or isinstance(value, (str, int, float))):
        raise _misfit(f"decision `{decision.path}` takes an option or a list of inputs, not {value!r:.60}")
    meant = _option(decision, _plain(value))
    _check_value(decision, meant)
    return meant


def _option(decision: Decision, value: Choice) -> Choice:
    """The option that is meant: a number may be written in another way than in the file (1 for 1.0)."""
    if isinstance(value, str) and value not in decision.options:
        with contextlib.suppress(ValueError):
            number = float(value)
            return next(
                (o for o, n in zip(decision.options, decision.numbers, strict=False) if n == number), value
            )
    return value


def _check_value(decision: Decision, value: Choice) -> None:
    if decision.kind != "inputs":
        if not isinstance(value, str):
            raise _misfit(f"decision `{decision.path}` takes one option, not a list")
        if value not in decision.options:
            raise _misfit(
                f"decision `{decision.path}` has no option `{value}`{did_you_mean(value, decision.options)}"
            )
        return
    if isinstance(value, str):
        raise _misfit(f"decision `{decision.path}` takes a list of inputs")
    for name in value:
        if name not in decision.options:
            raise _misfit(
                f"decision `{decision.path}` has no input `{name}`{did_you_mean(name, decision.options)}"
            )
    if len(set(value)) != len(value) or list(value) != [o for o in decision.options if o in value]:
        raise _misfit(
            f"decision `{decision.path}` lists its inputs once each, in the order {', '.join(decision.options)}"
        )
    if not decision.low <= len(value) <= decision.high:
        some = f"{decision.low}" if decision.low == decision.high else f"{decision.low} to {decision.high}"
        raise _misfit(f"decision `{decision.path}` takes {some} inputs, not {len(value)}")


def _misfit(message: str) -> UserError:
    return UserError.plain("NAS401", message)


def architecture_text(text: str) -> str:
    """The JSON that is given, or that of the file or of the published architecture that is named."""
    if text.lstrip().startswith("{"):
        return text
    try:
        path = Path(text)
        shipped = shipped_architectures()
        if text in shipped and not path.is_file():
            path = shipped[text]
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        named = "/" not in text and not text.endswith(".json")  # a name, and not a file that is missing
        hint = did_you_mean(text, shipped_architectures()) if named else ""
        raise UserError.plain(
            "NAS005",
            f"no architecture in {text[:60]!r}: {reason}{hint}",
            help="give a path to an architecture's JSON, the JSON, a notation of the space, "
            "or the name of a published one",
        ) from None


def shown(value: object) -> str:
    """A value of a parameter as `--param` takes it."""
    return json.dumps(value, separators=(",", ":"))


def pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={shown(value)}" for name, value in values.items())
