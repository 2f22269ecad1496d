"""The abstract syntax of a `.nas` file.

Takes nothing, returns nothing: plain data. Invariant: every node carries the
span of the text it was read from, and spans never take part in equality, so
`parse(print(x)) == x` is a statement about structure alone.
"""

from __future__ import annotations

from typing import Any, Union

import attrs

from nasdsl.diagnostics import Span


def _span() -> Any:
    return attrs.field(eq=False, repr=False, kw_only=True)


@attrs.frozen
class Ident:
    """A name as written, with its own place."""

    text: str
    span: Span = _span()

    def __str__(self) -> str:
        return self.text


# --- expressions -------------------------------------------------------------


@attrs.frozen
class Number:
    """`3`, `1.5`, `600M`. `text` is what was written; `value` what it means."""

    text: str
    span: Span = _span()

    @property
    def value(self) -> int | float:
        scale = {"k": 10**3, "M": 10**6, "G": 10**9}.get(self.text[-1])
        digits = self.text[:-1] if scale else self.text
        number: int | float = float(digits) if "." in digits else int(digits)
        if scale is None:
            return number
        scaled = number * scale
        return int(scaled) if scaled == int(scaled) else scaled


@attrs.frozen
class String:
    """A double-quoted string; `value` has its escapes resolved."""

    value: str
    span: Span = _span()


@attrs.frozen
class Name:
    """A use of a name."""

    text: str
    span: Span = _span()


@attrs.frozen
class List:
    """`[a, b, c]`."""

    items: tuple[Expr, ...]
    span: Span = _span()


@attrs.frozen
class Group:
    """`(a, b)`: two or more values side by side. One value in parentheses is the value itself."""

    items: tuple[Expr, ...]
    span: Span = _span()


@attrs.frozen
class Negate:
    """`-a`."""

    operand: Expr
    span: Span = _span()


@attrs.frozen
class Binary:
    """`left OP right`; OP is one of `+ - * // / % < <= > >= == != and or`."""

    operator: str
    left: Expr
    right: Expr
    span: Span = _span()
    operator_span: Span = _span()


@attrs.frozen
class If:
    """`if condition then yes else no`."""

    condition: Expr
    yes: Expr
    no: Expr
    span: Span = _span()


@attrs.frozen
class Pipe:
    """`a >> b >> c`, two stages or more."""

    stages: tuple[Expr, ...]
    span: Span = _span()


@attrs.frozen
class With:
    """`target with name = value`: binds an ambient name inside `target`."""

    target: Expr
    name: Ident
    value: Expr
    span: Span = _span()


@attrs.frozen
class Argument:
    """`value` or `name=value` in a call."""

    name: Ident | None
    value: Expr
    span: Span = _span()


@attrs.frozen
class Call:
    """`function(arguments)`."""

    function: Expr
    arguments: tuple[Argument, ...]
    span: Span = _span()


@attrs.frozen
class Index:
    """`target[index]`; families and lists count from 1."""

    target: Expr
    index: Expr
    span: Span = _span()


@attrs.frozen
class Attribute:
    """`target.name`: `.channels` or `.size` of a value."""

    target: Expr
    name: Ident
    span: Span = _span()


@attrs.frozen
class Option:
    """One option: `[label:] value`, or a range `value .. to [step step]`."""

    label: Ident | None
    value: Expr
    to: Expr | None
    step: Expr | None
    span: Span = _span()


@attrs.frozen
class Choose:
    """`choose { option, ... }` or `choose SET`."""

    options: tuple[Option, ...] | Ident
    span: Span = _span()


@attrs.frozen
class Repeat:
    """`repeat count [as index] { body }`."""

    count: Expr
    index: Ident | None
    body: Expr
    span: Span = _span()


@attrs.frozen
class Independent:
    """`independent cell` (a use of a cell with decisions of its own); arguments follow as a Call."""

    cell: Ident
    span: Span = _span()


@attrs.frozen
class Merge:
    """`sum(a, b)` or `concat(a, b)`; `kind` is "sum" or "concat"."""

    kind: str
    arguments: tuple[Argument, ...]
    span: Span = _span()


@attrs.frozen
class All:
    """`all`: every source is used."""

    span: Span = _span()


@attrs.frozen
class Pick:
    """`choose k` (`ranged` false, `high` None), `choose k..m`, `choose k..` (`ranged`, `high` None)."""

    low: Expr
    high: Expr | None
    ranged: bool
    span: Span = _span()


@attrs.frozen
class Earlier:
    """`earlier`: the members of the family before this one."""

    span: Span = _span()


@attrs.frozen
class Source:
    """One source of a gather: `place [with name=v]... [via op]`."""

    place: Name | Index | Earlier
    bindings: tuple[tuple[Ident, Expr], ...]
    via: Expr | None
    span: Span = _span()


@attrs.frozen
class Gather:
    """`sum of how from (sources) [via op] [into width]`; `kind` is "sum" or "concat"."""

    kind: str
    how: All | Pick
    sources: tuple[Source, ...]
    via: Expr | None
    into: Expr | None
    span: Span = _span()


Expr = Union[
    Number,
    String,
    Name,
    List,
    Group,
    Negate,
    Binary,
    If,
    Pipe,
    With,
    Call,
    Index,
    Attribute,
    Choose,
    Repeat,
    Independent,
    Merge,
    Gather,
]


# --- items -------------------------------------------------------------------


@attrs.frozen
class Formal:
    """A formal parameter with an optional default."""

    name: Ident
    default: Expr | None
    span: Span = _span()


@attrs.frozen
class Formals:
    """`(own; ambient)`. Own: arguments of an op or set, inputs of a cell. Ambient: taken by name."""

    own: tuple[Formal, ...] = ()
    ambient: tuple[Formal, ...] = ()


@attrs.frozen
class Doc:
    """`doc "..."`."""

    text: String
    span: Span = _span()


@attrs.frozen
class Notation:
    """`notation NAME`: published strings that this space reads and writes."""

    name: Ident
    span: Span = _span()


@attrs.frozen
class DistinctBy:
    """`distinct by NAME`: a published notion of sameness beside the default one."""

    name: Ident
    span: Span = _span()


@attrs.frozen
class UsePython:
    """`use python "pkg.module"`."""

    module: String
    span: Span = _span()


@attrs.frozen
class Input:
    """`input image(3, 32, 32)`."""

    layout: Ident
    arguments: tuple[Argument, ...]
    span: Span = _span()


@attrs.frozen
class Param:
    """`param NAME = value`; the command line may set it."""

    name: Ident
    value: Expr
    span: Span = _span()


@attrs.frozen
class Family:
    """`[low..high]` after a name."""

    low: Expr
    high: Expr
    span: Span = _span()


@attrs.frozen
class Bind:
    """`NAME = value` or `NAME[low..high] = value`."""

    name: Ident
    family: Family | None
    value: Expr
    span: Span = _span()


@attrs.frozen
class Where:
    """`where NAME = value` after an op."""

    name: Ident
    value: Expr
    span: Span = _span()


@attrs.frozen
class OpDef:
    """`op NAME(own; ambient) = body where ...`."""

    name: Ident
    formals: Formals
    body: Expr
    where: tuple[Where, ...]
    span: Span = _span()


@attrs.frozen
class CellDef:
    """`cell NAME(inputs; ambient) { binds return result }`."""

    name: Ident
    formals: Formals
    body: tuple[Bind, ...]
    result: Expr
    span: Span = _span()


@attrs.frozen
class CellAlias:
    """`cell NAME = BASE(arguments)`: the same form with decisions of its own."""

    name: Ident
    base: Ident
    arguments: tuple[Argument, ...]
    span: Span = _span()


@attrs.frozen
class SetDef:
    """`set NAME(own; ambient) = { options }`."""

    name: Ident
    formals: Formals
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class SetExtend:
    """`NAME += { options }` (in an amendment)."""

    name: Ident
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Step:
    """`label: value` of the network."""

    label: Ident
    value: Expr
    span: Span = _span()


@attrs.frozen
class Network:
    """`network { steps }`."""

    steps: tuple[Step, ...]
    span: Span = _span()


@attrs.frozen
class Duration:
    """A time such as `5ms`."""

    text: str
    span: Span = _span()


@attrs.frozen
class Limit:
    """`limit measure REL bound`, or `limit measure("table") REL bound`; REL is one of `< <= > >=`."""

    measure: Ident
    relation: str
    bound: Expr | Duration
    table: String | None = None
    span: Span = _span()


@attrs.frozen
class Within:
    """`within "FILE"`: only architectures of the sub-space in a file count."""

    file: String
    span: Span = _span()


Item = Union[
    Doc,
    Notation,
    DistinctBy,
    UsePython,
    Input,
    Param,
    Bind,
    OpDef,
    CellDef,
    CellAlias,
    SetDef,
    SetExtend,
    Network,
    Limit,
    Within,
]


@attrs.frozen
class Space:
    """`space NAME [from "base.nas"] { items }`."""

    name: Ident
    base: String | None
    items: tuple[Item, ...]
    span: Span = _span()


@attrs.frozen
class File:
    """A whole file: one space or more."""

    spaces: tuple[Space, ...]
    span: Span = _span()
