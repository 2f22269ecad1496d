"""What a method is: settings, a pipeline of passes, an update order, sources.

Takes the user's settings, returns configured passes. Invariant: every
hyper-parameter is a `Setting` with type, default, unit and source; nothing about
a method is written anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Union

import attrs

from nasdsl.diagnostics import did_you_mean
from nasdsl.errors import UserError
from nasdsl.passes.base import Pass
from nasdsl.space.checked import CheckedSpace

Scalar = Union[int, float, bool, str]
Table = Literal["compile", "search", "retrain", "data"]


@attrs.frozen
class Setting:
    """One hyper-parameter.

    Attributes:
        table: `compile` settings shape the supernet; the others are read by the scripts.
        unit: such as `epochs`, "" for none.
        source: where the default comes from.
        choices: the allowed words, for a word.
        low, high: inclusive bounds, for a number.
    """

    name: str
    table: Table
    default: Scalar
    doc: str
    source: str
    unit: str = ""
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    def read(self, value: object) -> Scalar:
        """The value in the setting's type. Raises UserError (NAS502)."""
        kind = type(self.default)
        good: Scalar | None = None
        if kind is bool:
            good = {"true": True, "false": False}.get(str(value).lower())
        elif kind is str:
            good = str(value).lower() if isinstance(value, bool) else str(value)
        else:
            try:
                number = float(str(value))
                good = (
                    int(number)
                    if kind is int and number == int(number)
                    else number
                    if kind is float
                    else None
                )
            except (ValueError, OverflowError):
                good = None
        if good is None:
            word = {bool: "true or false", int: "an integer", float: "a number", str: "a word"}[kind]
            raise self._unfit(value, f"it is {word}")
        if self.choices and good not in self.choices:
            raise self._unfit(
                value, f"it is one of {', '.join(self.choices)}{did_you_mean(str(value), self.choices)}"
            )
        if not isinstance(good, (str, bool)):
            if self.low is not None and not good >= self.low:
                raise self._unfit(value, f"it is at least {self.low:g}")
            if self.high is not None and not good <= self.high:
                raise self._unfit(value, f"it is at most {self.high:g}")
        return good

    def _unfit(self, value: object, rule: str) -> UserError:
        return UserError.plain("NAS502", f"setting `{self.name}` cannot be {value!r}: {rule}", help=self.doc)


@attrs.frozen
class Method:
    """One search method.

    Attributes:
        papers: what it implements.
        authors: what of it is the authors' own.
        reconstructions: what of it is ours, because the source is silent.
        differences: how the search form differs from the retrain form.
        presets: settings that a space's declared notation brings with it.
        variants: sets of settings by name, which the setting `preset` chooses from.
        recipes: the same of retraining, which the setting `recipe` chooses from.
        pipeline: the passes, from Graph[SPACE] to Graph[RELAXED].
        fits: reports what of a space the method cannot use, as UserError (NAS504).
        template: of `search.py`.
        limits: whether its search keeps to the limits of a space.
    """

    name: str
    title: str
    summary: str
    papers: tuple[str, ...]
    authors: tuple[str, ...]
    reconstructions: tuple[str, ...]
    differences: tuple[str, ...]
    settings: tuple[Setting, ...]
    pipeline: Callable[[CheckedSpace, Mapping[str, Scalar]], tuple[Pass, ...]]
    fits: Callable[[CheckedSpace, Mapping[str, Scalar]], None]
    presets: Mapping[str, Mapping[str, Scalar]] = attrs.field(factory=dict)
    variants: Mapping[str, Mapping[str, Scalar]] = attrs.field(factory=dict)
    recipes: Mapping[str, Mapping[str, Scalar]] = attrs.field(factory=dict)
    template: str = "search.py.j2"
    limits: bool = False

    def resolve(self, space: CheckedSpace, given: Mapping[str, object]) -> dict[str, Scalar]:
        """Every setting: given by the user, else by the recipe, the preset, the space's notation, the default.

        Raises:
            UserError: NAS502 for an unknown setting or an unfit value.
        """
        known = {s.name: s for s in self.settings}
        for name in given:
            if name not in known:
                raise UserError.plain(
                    "NAS502",
                    f"method `{self.name}` has no setting `{name}`{did_you_mean(name, known)}",
                    help=f"`nasdsl methods {self.name}` lists them",
                )
        preset = dict(self.presets.get(space.notation or "", {}))
        for word, sets in (("preset", self.variants), ("recipe", self.recipes)):
            if sets:
                chosen = known[word]
                preset |= sets[str(chosen.read(given.get(word, chosen.default)))]
        return {
            s.name: s.read(given[s.name]) if s.name in given else preset.get(s.name, s.default)
            for s in self.settings
        }

    def recipe_values(self, space: CheckedSpace, given: Mapping[str, object]) -> dict[str, dict[str, Scalar]]:
        """What every recipe would make of the settings that any recipe names, beside what is given."""
        named = {name for values in self.recipes.values() for name in values}
        return {
            word: {n: v for n, v in self.resolve(space, {**given, "recipe": word}).items() if n in named}
            for word in self.recipes
        }
