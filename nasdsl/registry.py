"""Tables from names to things that are imported only when asked for.

Takes a table of `name -> "module:attribute"`, returns the thing behind a name. Invariant: listing
names imports nothing of what is listed; an unknown name is a user's mistake with a suggestion;
a plugin adds names through an entry-point group and can never replace a built-in one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar, cast

import attrs

from nasdsl.diagnostics import did_you_mean
from nasdsl.errors import UserError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


@attrs.define(eq=False)
class Registry(Generic[T]):
    """Named things of one kind.

    Attributes:
        kind: what one of them is called in messages, such as `method`.
        code: the diagnostic code of an unknown name.
        table: `name -> "module:attribute"`, what ships with nasdsl.
        group: the entry-point group of plugins, such as `nasdsl.methods`.
        verb: the command that lists them, such as `methods`.
    """

    kind: str
    code: str
    table: Mapping[str, str]
    group: str | None = None
    verb: str | None = None
    _loaded: dict[str, T] = attrs.field(factory=dict, init=False, repr=False)
    _plugins: dict[str, EntryPoint] | None = attrs.field(default=None, init=False, repr=False)

    def names(self) -> tuple[str, ...]:
        """Every name: the built-in ones in the table's order, then plugins by name."""
        return (*self.table, *sorted(self._entry_points()))

    def __contains__(self, name: object) -> bool:
        return name in self.table or name in self._entry_points()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def load(self, name: str) -> T:
        """The thing behind a name, imported on first use.

        Raises:
            UserError: `code`, when there is no such name.
        """
        if name not in self._loaded:
            self._loaded[name] = self._import(name)
        return self._loaded[name]

    def _import(self, name: str) -> T:
        target = self.table.get(name)
        if target is not None:
            from importlib import import_module

            module, _, attribute = target.partition(":")
            return cast(T, getattr(import_module(module), attribute))
        plugin = self._entry_points().get(name)
        if plugin is None:
            raise UserError.plain(
                self.code,
                f"there is no {self.kind} `{name}`{did_you_mean(name, self.names())}",
                help=f"`nasdsl {self.verb}` lists them" if self.verb else None,
            )
        return cast(T, plugin.load())

    def _entry_points(self) -> dict[str, EntryPoint]:
        """The plugins that other distributions declare; looked up once, without importing them."""
        if self._plugins is None:
            self._plugins = {}
            if self.group is not None:
                # Reading the metadata of every installed package takes tens of milliseconds.
                from importlib.metadata import entry_points

                found = {e.name: e for e in entry_points(group=self.group)}
                self._plugins = {name: e for name, e in found.items() if name not in self.table}
        return self._plugins
