"""What a changed file still says.

Takes texts, returns whether they mean the same, and where not, what differs. Invariant: nothing is executed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import attrs

from nasdsl.records import toml_of

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def statements(source: str) -> str | None:
    """What a program does: comments, and the words of docstrings, which name the file it came from, play no part.

    Whether there is a docstring counts: programs read their own. None for what is no program.
    """
    try:
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
                node.body[0] = ast.Expr(ast.Constant("documented"))
        return ast.dump(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def same_program(left: str, right: str) -> bool:
    """Whether two texts are one program."""
    if left == right:
        return True
    found = statements(left)
    return found is not None and found == statements(right)


@attrs.frozen
class Changed:
    """A setting of `config.toml` that is another one; None where there is none."""

    table: str
    name: str
    was: Any
    now: Any

    def __str__(self) -> str:
        return self.compared("was", "is")

    def compared(self, was: str, now: str) -> str:
        """The two values in words.

        Args:
            was, now: verbs before each of them.
        """
        if self.now is None:
            return f"`{self.name}` of [{self.table}] is gone"
        if self.was is None:
            return f"`{self.name}` of [{self.table}] is new"
        return f"`{self.name}` of [{self.table}] {was} {_toml(self.was)}, {now} {_toml(self.now)}"


def changed_settings(was: str, now: str) -> list[Changed]:
    """Settings in which two texts of `config.toml` differ. Raises ValueError for what is no TOML."""
    old, new = dict(_flat(toml_of(was))), dict(_flat(toml_of(now)))
    return [
        Changed(*key, old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)
    ]


def _flat(tables: dict[str, Any], above: str = "") -> Iterator[tuple[tuple[str, str], Any]]:
    for name, value in tables.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}.{name}" if above else name)
        else:
            yield (above, name), value


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)[:80]


__all__ = ["Changed", "changed_settings", "same_program", "statements"]
