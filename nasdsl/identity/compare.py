"""What an edit of a space changes: decisions, options, weights, networks.

Takes two checked spaces, returns differences and which promises still hold. Invariant: a level
that is said to hold holds for every architecture of the old space; where only samples were
compared, the answer says so.

Levels, from the weakest to the strongest:

- `architectures`: every architecture file of the old space is accepted by the new one;
- `checkpoints`: every weight of the old supernet has its name and shape in the new one;
- `lookups`: every architecture is the same network in both, so benchmark results stay valid.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import attrs

from nasdsl.cases import Choice
from nasdsl.errors import UserError
from nasdsl.identity.encodings import Encodings
from nasdsl.identity.population import Population
from nasdsl.ir.nodes import State, Weight
from nasdsl.space.architecture import check_choices
from nasdsl.space.checked import CheckedSpace
from nasdsl.space.decisions import Decision

LEVELS = ("architectures", "checkpoints", "lookups")
MAX_COMPARED = 500
"""Encodings up to which networks are compared one by one; of larger spaces as many are drawn."""


@attrs.frozen
class Level:
    """One promise. `holds` is None when only samples were compared and none broke it."""

    name: str
    holds: bool | None
    why: str


@attrs.frozen
class Comparison:
    """What differs, in words, and what holds."""

    changes: tuple[str, ...]
    levels: tuple[Level, ...]

    @property
    def identical(self) -> bool:
        return not self.changes and all(level.holds for level in self.levels)


def compare(old: CheckedSpace, new: CheckedSpace) -> Comparison:
    """The differences between two spaces."""
    changes = (*_decisions(old, new), *_others(old, new))
    if old.fingerprint == new.fingerprint and not changes:
        same = "the two spaces are the same, comments and layout aside"
        return Comparison((), tuple(Level(name, True, same) for name in LEVELS))
    return Comparison(changes, (_architectures(old, new), _checkpoints(old, new), _lookups(old, new)))


def _decisions(old: CheckedSpace, new: CheckedSpace) -> Iterator[str]:
    options: dict[str, list[str]] = {}
    for decision in old.table.decisions:
        other = new.table.by_path.get(decision.path)
        if other is None:
            yield f"- decision `{decision.path}` is gone"
            continue
        for option in decision.options:
            if option not in other.options:
                options.setdefault(f"- option `{option}` is gone from", []).append(decision.path)
        for option in other.options:
            if option not in decision.options:
                options.setdefault(f"+ option `{option}` is new in", []).append(decision.path)
        if decision.kind != other.kind:
            yield f"~ `{decision.path}` chooses another kind of thing: {other.kind}, not {decision.kind}"
        elif (decision.low, decision.high) != (other.low, other.high):
            was, now = (f"{d.low} to {d.high}" for d in (decision, other))
            yield f"~ `{decision.path}` takes {now} inputs, not {was}"
        if set(decision.when or ()) != set(other.when or ()):
            yield f"~ `{decision.path}` is made in other cases"
    for decision in new.table.decisions:
        if decision.path not in old.table.by_path:
            yield f"+ decision `{decision.path}` is new"
    for change, paths in options.items():
        shown = ", ".join(f"`{p}`" for p in paths[:3])
        yield f"{change} {shown}" + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _others(old: CheckedSpace, new: CheckedSpace) -> Iterator[str]:
    for name in sorted({*old.parameters, *new.parameters}):
        was, now = old.parameters.get(name), new.parameters.get(name)
        if was != now:
            yield f"~ parameter `{name}`: {_shown(now)}, not {_shown(was)}"
    limits = [{str(m) for m in s.limits} for s in (old, new)]
    for limit in sorted(limits[0] - limits[1]):
        yield f"- limit {limit} is gone"
    for limit in sorted(limits[1] - limits[0]):
        yield f"+ limit {limit} is new"
    for part in _narrowing(new, old):
        yield f"- within {part} is gone, or says something else"
    for part in _narrowing(old, new):
        yield f"+ within {part} is new, or says something else"
    if str(old.input) != str(new.input):
        yield f"~ the input is {new.input}, not {old.input}"
    if old.classes != new.classes:
        yield f"~ {new.classes} classes, not {old.classes}"


def _shown(value: object) -> str:
    return "absent" if value is None else str(value)


def _architectures(old: CheckedSpace, new: CheckedSpace) -> Level:
    name = LEVELS[0]
    for decision in old.table.decisions:
        other = new.table.by_path.get(decision.path)
        problem = "is gone" if other is None else _narrower(decision, other)
        if problem:
            return Level(name, False, f"`{decision.path}` {problem}")
    added = [d for d in new.table.decisions if d.path not in old.table.by_path]
    for decision in added:
        if decision.when is None or any(_possible(old, guard) for guard in decision.when):
            return Level(name, False, f"`{decision.path}` is new, and old files say nothing about it")
    tighter = {str(m) for m in new.limits} - {str(m) for m in old.limits}
    if tighter:
        return Level(name, False, f"some may not meet the new limit {min(tighter)}")
    narrowing = _narrowing(old, new)
    if narrowing:
        return Level(name, False, f"some may be outside the sub-space {narrowing[0]}")
    return Level(name, True, "every old architecture is one of the new space")


def _narrowing(old: CheckedSpace, new: CheckedSpace) -> list[str]:
    """The files of sub-spaces that hold for the new space and, as they are, not for the old one."""
    known = {part.text for part in old.within}
    return sorted({f'"{part.written}"' for part in new.within if part.text not in known})


def _narrower(old: Decision, new: Decision) -> str:
    """Why a value of the old decision may not be one of the new; empty when each is."""
    missing = [o for o in old.options if o not in new.options]
    if old.kind != new.kind:
        return "chooses another kind of thing"
    if missing:
        return f"has no option `{missing[0]}` any more"
    if not (new.low <= old.low and old.high <= new.high):
        return f"takes {new.low} to {new.high} inputs"
    if old.kind == "inputs" and [o for o in new.options if o in old.options] != list(old.options):
        return "lists its inputs in another order"
    return "" if set(old.when or ()) == set(new.when or ()) else "is made in other cases"


def _possible(old: CheckedSpace, guard: tuple[object, ...]) -> bool:
    """Whether an old architecture can make all events of a guard happen."""
    for event in guard:
        decision = old.table.by_path.get(getattr(event, "decision", ""))
        if decision is None or getattr(event, "option", "") not in decision.options:
            return False
    return True


def _weights(space: CheckedSpace) -> dict[str, str]:
    """Every weight of the supernet by its full name, with its shape as text."""
    found = {}
    for use in space.module.uses():
        for node in use.graph.nodes:
            if isinstance(node, (Weight, State)):
                sizes = tuple(d.value(use.sizes) for d in getattr(node.type, "shape", ()))
                found["/".join((*use.path, node.name))] = repr(sizes)
    return found


def _checkpoints(old: CheckedSpace, new: CheckedSpace) -> Level:
    name = LEVELS[1]
    was, now = _weights(old), _weights(new)
    for weight, shape in was.items():
        if weight not in now:
            return Level(name, False, f"weight `{weight}` is gone")
        if now[weight] != shape:
            return Level(name, False, f"weight `{weight}` has another shape")
    extra = len(now) - len(was)
    more = f"; {extra} new ones start fresh" if extra else ""
    return Level(name, True, f"all {len(was)} weights keep name and shape{more}")


def _lookups(old: CheckedSpace, new: CheckedSpace) -> Level:
    name = LEVELS[2]
    encodings = Encodings(old.table)
    every = encodings.count() <= MAX_COMPARED
    rng = random.Random(0)
    drawn = encodings.all() if every else (encodings.sample(rng) for _ in range(MAX_COMPARED // 10))
    before, after = Population(old), Population(new)
    compared = 0
    for choices in drawn:
        try:
            kept: dict[str, Choice] = check_choices(new.table, choices)
        except UserError:
            continue
        compared += 1
        if before.fingerprint(choices) != after.fingerprint(kept):
            return Level(name, False, f"another network: {choices}")
    if not compared:
        return Level(name, False, "no architecture belongs to both")
    if every:
        return Level(name, True, f"all {compared} architectures that both accept are the same networks")
    return Level(name, None, f"the same networks in {compared} samples; not proved for the rest")
