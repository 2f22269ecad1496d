"""The parser's tables: what `grammar/nas.lark` comes to.

Takes the grammar's text, returns tables of plain data. Invariant: the tables are
always those of the grammar that is there: `tables.json` carries the text it was
made from, and is passed over when that differs.

Lark builds the tables in a tenth or two of a second, longer than a whole check
takes. Its own cache would be a pickle in a shared temporary folder, and unpickling
what someone else may have put there would run it; so plain JSON is shipped. After
a change of the grammar: `python -m nasdsl.syntax.tables`.
"""

from __future__ import annotations

import json
from collections import deque
from functools import cache
from pathlib import Path
from typing import Any

import attrs

from nasdsl.resources import grammar_text

STARTS = ("start", "item", "bind", "step")
"""The rules that a text can be parsed as."""
END = "$END"
SHIPPED = Path(__file__).resolve().parent / "tables.json"


@attrs.frozen
class Rule:
    """A rule of the grammar as the parser applies it.

    Attributes:
        origin: the symbol that it makes.
        length: how many symbols it takes.
        builds: the method that makes its node; None for a helper, whose children join the rule around it.
        passes: whether a single child stands for the whole.
    """

    origin: str
    length: int
    builds: str | None
    passes: bool


@attrs.frozen
class Terminal:
    """A kind of token: one text when `fixed`, else a regular expression."""

    name: str
    text: str
    fixed: bool


@attrs.frozen
class Tables:
    """An LALR automaton.

    Attributes:
        actions: for each state what follows a symbol: a state to go to, or, negative, -1 - the rule to apply.
        starts: for each of STARTS its first state.
        ends: for each of STARTS the state in which it is complete.
    """

    terminals: tuple[Terminal, ...]
    rules: tuple[Rule, ...]
    actions: tuple[dict[str, int], ...]
    starts: dict[str, int]
    ends: dict[str, int]


@cache
def tables() -> Tables:
    """The tables of the grammar: read if they are shipped for it, built otherwise."""
    grammar = grammar_text()
    data = json.loads(SHIPPED.read_text("utf-8")) if SHIPPED.exists() else {}
    return _read(data) if data.get("grammar") == grammar else build(grammar)


def build(grammar: str) -> Tables:
    """The tables of a grammar, from Lark."""
    from lark import Lark

    lark = Lark(grammar, parser="lalr", lexer="basic", start=list(STARTS), maybe_placeholders=False)
    automaton: Any = lark.parser.parser._parse_table
    rules = sorted(lark.rules, key=str)
    number = {rule: n for n, rule in enumerate(rules)}
    found = {
        state: {str(symbol): _action(entry[0], entry[1], number) for symbol, entry in sorted(row.items())}
        for state, row in automaton.states.items()
    }
    order = _order(found, [automaton.start_states[start] for start in STARTS])
    place = {state: n for n, state in enumerate(order)}
    return Tables(
        tuple(Terminal(t.name, _text(t), t.pattern.type == "str") for t in lark.terminals),
        tuple(map(_rule, rules)),
        tuple({s: a if a < 0 else place[a] for s, a in found[state].items()} for state in order),
        {start: place[automaton.start_states[start]] for start in STARTS},
        {start: place[automaton.end_states[start]] for start in STARTS},
    )


def _order(actions: dict[int, dict[str, int]], starts: list[int]) -> list[int]:
    """The states in the order in which they are reached: Lark numbers them differently each time."""
    order = dict.fromkeys(starts)
    waiting = deque(starts)
    while waiting:
        for target in actions[waiting.popleft()].values():
            if target >= 0 and target not in order:
                order[target] = None
                waiting.append(target)
    return list(order)


def _rule(rule: Any) -> Rule:
    helper = rule.origin.name.startswith("_")
    return Rule(
        rule.origin.name,
        len(rule.expansion),
        None if helper else str(rule.alias or rule.origin.name),
        bool(rule.options.expand1 and not rule.alias),
    )


def _text(terminal: Any) -> str:
    text: str = terminal.pattern.value if terminal.pattern.type == "str" else terminal.pattern.to_regexp()
    return text


def _action(action: Any, target: Any, number: dict[Any, int]) -> int:
    return int(target) if action.name == "Shift" else -1 - number[target]


def _read(data: dict[str, Any]) -> Tables:
    symbols = data["symbols"]
    return Tables(
        tuple(Terminal(*t) for t in data["terminals"]),
        tuple(Rule(*r) for r in data["rules"]),
        tuple({symbols[s]: a for s, a in zip(row[::2], row[1::2], strict=True)} for row in data["actions"]),
        data["starts"],
        data["ends"],
    )


def shipped_text(grammar: str) -> str:
    """What `tables.json` is for a grammar: one state a line, symbols by number."""
    made = build(grammar)
    symbols = sorted({s for row in made.actions for s in row})
    place = {s: n for n, s in enumerate(symbols)}
    rows = [[x for s, a in sorted(row.items()) for x in (place[s], a)] for row in made.actions]
    parts = {
        "grammar": grammar,
        "symbols": symbols,
        "terminals": [attrs.astuple(t) for t in made.terminals],
        "rules": [attrs.astuple(r) for r in made.rules],
        "starts": made.starts,
        "ends": made.ends,
    }
    head = "".join(f" {json.dumps(name)}: {json.dumps(part)},\n" for name, part in parts.items())
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    return f'{{\n{head} "actions": [\n{lines}\n]}}\n'


if __name__ == "__main__":
    SHIPPED.write_text(shipped_text(grammar_text()), "utf-8")
