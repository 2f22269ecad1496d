"""The checked space: what every later stage starts from.

Takes a source text and parameter values, returns a `CheckedSpace` and the
diagnostics. Invariant: a `CheckedSpace` exists only when there were no errors,
and then every architecture of its decision table is well-typed.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import attrs

from nasdsl.cases import TooManyCasesError
from nasdsl.diagnostics import Diagnostics, Source, Span, did_you_mean
from nasdsl.errors import InternalError, UserError
from nasdsl.ir.graph import Module
from nasdsl.ir.text import print_module
from nasdsl.space.amend import amended, flattened, with_library
from nasdsl.space.bounds import cost_bounds
from nasdsl.space.builder import Owner
from nasdsl.space.decisions import Decision, DecisionTable, Guard
from nasdsl.space.elaborate import Elaborated, Elaborator
from nasdsl.space.latency import UNITS, LatencyTable, read_table
from nasdsl.space.measures import MEASURES
from nasdsl.space.names import Names
from nasdsl.space.notation import NOTATIONS
from nasdsl.space.presence import NotAdditiveError
from nasdsl.space.python_ops import python_operations
from nasdsl.space.resolve import resolve
from nasdsl.space.units import missing, unit_bounds
from nasdsl.space.values import Abort
from nasdsl.syntax import ast
from nasdsl.syntax.parse import parse
from nasdsl.types import TensorType

DISTINCT_BY = ("nasbench101", "nasbench201")
"""Published notions of sameness that a space may declare."""
_RELATIONS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
TIMED = "latency"
"""The measure that a table gives."""


@attrs.frozen
class Limit:
    """`measure relation bound`, such as params <= 5000000; of a latency the bound is in microseconds."""

    measure: str
    relation: str
    bound: float
    span: Span = attrs.field(eq=False, repr=False)
    table: LatencyTable | None = attrs.field(default=None, eq=False, repr=False)
    written: str = ""

    @property
    def subject(self) -> str:
        """What is limited, as it is written: `params`, or `latency("table.json")`."""
        return f'{self.measure}("{self.written}")' if self.written else self.measure

    @property
    def unit(self) -> str:
        """What stands behind a number of it."""
        return " us" if self.table is not None else ""

    def __str__(self) -> str:
        return f"{self.subject} {self.relation} {self.bound:,.0f}{self.unit}"

    def holds(self, value: float) -> bool:
        """Whether a value meets the limit."""
        return _RELATIONS[self.relation](value, self.bound)


@attrs.frozen
class Within:
    """`within "FILE"`: only the sub-space in a file counts. Here is its text; `nasdsl.opening` reads it.

    Attributes:
        written: the file as it is named.
        path: where it was found.
        text: what it says.
    """

    written: str
    path: Path
    text: str = attrs.field(repr=False)
    span: Span = attrs.field(eq=False, repr=False)


@attrs.frozen(slots=False)
class CheckedSpace:
    """A space without errors, at one setting of its parameters.

    Attributes:
        name: as declared.
        doc: its documentation, or "".
        source: the text it was read from.
        module: Graph[SPACE].
        table: its decisions.
        parameters: every parameter with its value.
        given: the parameters that were set from outside.
        input: type of one example.
        classes: length of the output vector.
        notation: the published notation it reads and writes, or None.
        distinct_by: the published notion of sameness it declares, or None.
        limits: what its architectures must keep to.
        within: files of sub-spaces, outside of which no architecture counts.
    """

    name: str
    doc: str
    source: Source
    module: Module
    table: DecisionTable
    parameters: Mapping[str, object]
    given: Mapping[str, object]
    input: TensorType
    classes: int
    notation: str | None
    distinct_by: str | None
    limits: tuple[Limit, ...]
    within: tuple[Within, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """A hash of what the space is: its graphs and decisions, not its comments or places."""
        text = print_module(self.module, places=False)
        lines = [f"{d.path} {d.kind} {d.options} {d.low} {d.high} {d.when}" for d in self.table.decisions]
        return hashlib.sha256("\n".join([text, *lines]).encode()).hexdigest()[:16]


def check_source(
    source: Source,
    settings: Mapping[str, object] | None = None,
    allow_python: bool = False,
    timed: bool = True,
    limited: bool = True,
) -> tuple[CheckedSpace | None, Diagnostics]:
    """Parses and checks a text.

    Args:
        settings: values for the parameters of the space.
        allow_python: whether `use python` may import what it names.
        timed: whether limits on latency count; their tables are read then.
        limited: whether any limit and any sub-space counts; without, limits are only read.

    Returns:
        The space, None when there are errors; and every diagnostic found.
    """
    diagnostics = Diagnostics()
    file = parse(source, diagnostics)
    broken = bool(diagnostics.errors)
    if file is None or not file.spaces:
        return None, diagnostics
    space = file.spaces[0]
    if not broken:
        whole = amended(space, source, diagnostics)
        if whole is None or diagnostics.errors:
            return None, diagnostics
        space = with_library(whole)
    python = {} if broken else python_operations(space, allow_python, diagnostics)
    if diagnostics.errors and not broken:
        return None, diagnostics
    names = resolve(space, diagnostics, partial=broken, python=python)
    if not broken:
        _sections(space, diagnostics)
    if broken:
        return None, diagnostics
    given = dict(settings or {})
    cyclic = any(d.code == "NAS104" for d in diagnostics.errors)
    elaborated = None if cyclic else _elaborate(names, given, diagnostics)
    if diagnostics.errors:
        return None, diagnostics
    if elaborated is None:
        raise InternalError("elaboration gave up without saying why")
    return _assemble(source, names, given, elaborated, diagnostics, timed, limited), diagnostics


def check_text(
    text: str, name: str = "space.nas", settings: Mapping[str, object] | None = None
) -> Diagnostics:
    """The diagnostics of a text."""
    return check_source(Source(name, text), settings)[1]


def _elaborate(names: Names, given: Mapping[str, object], diagnostics: Diagnostics) -> Elaborated | None:
    return Elaborator(names, given, diagnostics).run()


def _sections(space: ast.Space, diagnostics: Diagnostics) -> None:
    for kind, word, needed in (
        (ast.Input, "input", True),
        (ast.Network, "network", True),
        (ast.Notation, "notation", False),
        (ast.DistinctBy, "distinct by", False),
        (ast.Doc, "doc", False),
    ):
        found = [i for i in space.items if isinstance(i, kind)]
        if needed and not found:
            example = "input image(3, 32, 32)" if word == "input" else "network { stem: ... }"
            diagnostics.error(
                "NAS108",
                f"the space has no `{word}`",
                space.name.span,
                "declared here",
                help=f"add `{example}`",
            )
        for extra in found[1:]:
            diagnostics.error("NAS108", f"`{word}` is given twice", extra.span, "the second")


def _assemble(
    source: Source,
    names: Names,
    given: Mapping[str, object],
    elaborated: Elaborated,
    diagnostics: Diagnostics,
    timed: bool,
    limited: bool,
) -> CheckedSpace | None:
    network = elaborated.module.network
    result = network.by_id[network.result].type
    classes = result.dims[0].evaluate({}) if isinstance(result, TensorType) else 0
    table = decision_table(elaborated.owners)
    limits = _limits(names, elaborated, table, given, diagnostics, timed, limited)
    within = _within(names, diagnostics) if limited else ()
    if diagnostics.errors:
        return None

    def single(kind: type) -> str | None:
        found = names.items(kind)
        return found[0].name.text if found else None

    for declared in (*names.items(ast.Notation), *names.items(ast.DistinctBy)):
        known = NOTATIONS if isinstance(declared, ast.Notation) else DISTINCT_BY
        if declared.name.text not in known:
            diagnostics.error(
                "NAS101",
                f"there is no published notation `{declared.name}`",
                declared.name.span,
                f"not known{did_you_mean(declared.name.text, known)}",
            )
    if diagnostics.errors:
        return None
    docs = names.items(ast.Doc)
    return CheckedSpace(
        name=names.space.name.text,
        doc=docs[0].text.value if docs else "",
        source=source if names.space.base is None else Source(source.name, _flat(names.space)),
        module=elaborated.module,
        table=table,
        parameters=elaborated.parameters,
        given=dict(given),
        input=elaborated.input,
        classes=classes,
        notation=single(ast.Notation),
        distinct_by=single(ast.DistinctBy),
        limits=limits,
        within=within,
    )


def _flat(space: ast.Space) -> str:
    base = space.base.value if space.base is not None else ""
    return f"# Amends {base}; here with everything that it takes from there.\n{flattened(space)}"


def decision_table(owners: Iterable[Owner]) -> DecisionTable:
    """All decisions under their full paths, each after those that it waits for."""
    known = {o.path: o for o in owners}
    when: dict[str, tuple[Guard, ...] | None] = {}
    absolute: dict[str, Decision] = {}
    pending: set[str] = set()

    def activation(path: str) -> tuple[Guard, ...] | None:
        """When an owner's decisions exist: whenever one of its uses does."""
        if path not in when and path not in pending:
            pending.add(path)
            uses = [_inside(activation(u.caller), u.when, known[u.caller]) for u in known[path].uses]
            always = path == "" or any(u is None for u in uses)
            when[path] = None if always else tuple(dict.fromkeys(g for u in uses for g in u or ()))
        return when.get(path)

    for path, owner in known.items():
        prefix = f"{path}." if path else ""
        for decision in owner.decisions.values():
            guards = _inside(activation(path), decision.when, owner)
            absolute[prefix + decision.path] = attrs.evolve(
                decision, path=prefix + decision.path, when=guards
            )
    ordered: dict[str, Decision] = {}

    def place(path: str) -> None:
        if path in ordered:
            return
        for guard in absolute[path].when or ():
            for event in guard:
                place(event.decision)
        ordered[path] = absolute[path]

    for path in _callers_first(known):
        prefix = f"{path}." if path else ""
        for local in known[path].decisions:
            place(prefix + local)
    return DecisionTable(tuple(ordered.values()))


def _callers_first(known: Mapping[str, Owner]) -> list[str]:
    order: dict[str, None] = {}

    def visit(path: str, trail: tuple[str, ...] = ()) -> None:
        if path in order or path in trail:
            return
        for use in known[path].uses:
            visit(use.caller, (*trail, path))
        order[path] = None

    for path in known:
        visit(path)
    return list(order)


def _inside(
    outer: tuple[Guard, ...] | None, inner: tuple[Guard, ...] | None, owner: Owner
) -> tuple[Guard, ...] | None:
    """Both guards at once. A guard on a decision of `owner` says already that the owner is active."""
    if inner is None or outer is None:
        return outer if inner is None else inner
    prefix = f"{owner.path}." if owner.path else ""
    own = {prefix + d for d in owner.decisions}
    found: list[Guard] = []
    for guard in inner:
        if any(e.decision in own for e in guard):
            found.append(guard)
        else:
            found.extend(tuple(dict.fromkeys((*o, *guard))) for o in outer)
    return tuple(dict.fromkeys(found))


def _limits(
    names: Names,
    elaborated: Elaborated,
    table: DecisionTable,
    given: Mapping[str, object],
    diagnostics: Diagnostics,
    timed: bool,
    limited: bool,
) -> tuple[Limit, ...]:
    """Reads the limits and reports those that a bound proves nobody meets (NAS305); keeps none if not `limited`."""
    limits = []
    for item in names.items(ast.Limit):
        measure = item.measure.text
        if measure not in (*MEASURES, TIMED):
            diagnostics.error(
                "NAS306",
                f"`{measure}` is not something that can be limited{did_you_mean(measure, (*MEASURES, TIMED))}",
                item.measure.span,
                "not known",
            )
            continue
        if measure == TIMED:
            wanted = (timed and limited) or not _complete(item)
            limit = _timed(item, elaborated, table, diagnostics) if wanted else None
            if limit is not None:
                limits.append(limit)
                _provable(limit, item, elaborated, table, diagnostics)
            continue
        if item.table is not None or isinstance(item.bound, ast.Duration):
            what = item.table if item.table is not None else item.bound
            word = "table" if item.table is not None else "unit of time"
            diagnostics.error(
                "NAS311", f"a limit on `{measure}` has no {word}", what.span, "not here", help="leave it out"
            )
            continue
        try:
            bound = Elaborator(names, given, diagnostics).number(item.bound)
        except Abort:
            continue
        if limited:
            limits.append(Limit(measure, item.relation, float(bound), item.span))
            _provable(limits[-1], item, elaborated, table, diagnostics)
    return tuple(limits)


def _within(names: Names, diagnostics: Diagnostics) -> tuple[Within, ...]:
    """Reads the files of sub-spaces; whether they fit is for `nasdsl.opening` to say."""
    found = []
    for item in names.items(ast.Within):
        written, place = item.file.value, item.file.span
        path = Path(place.source.name).parent / written
        try:
            found.append(Within(written, path, path.read_text("utf-8"), place))
        except OSError as error:
            diagnostics.error(
                "NAS005",
                f"{path} cannot be read: {error.strerror or error}",
                place,
                "named here",
                help="name a file of `nasdsl shrink` or `Subspace.write`, by its path from this one",
            )
        except ValueError:
            diagnostics.error(
                "NAS404",
                f"{path} is not text",
                place,
                "named here",
                help="name a file of `nasdsl shrink` or `Subspace.write`: it is JSON",
            )
    return tuple(found)


def _complete(item: ast.Limit) -> bool:
    return item.table is not None and isinstance(item.bound, ast.Duration)


def _timed(
    item: ast.Limit, elaborated: Elaborated, decisions: DecisionTable, diagnostics: Diagnostics
) -> Limit | None:
    """A limit on latency, its table read and found to cover the space."""
    if item.table is None or not isinstance(item.bound, ast.Duration):
        lacking = "the table it is measured by" if item.table is None else "a unit of time"
        diagnostics.error(
            "NAS311",
            f"a limit on `latency` needs {lacking}",
            item.measure.span if item.table is None else item.bound.span,
            "written here",
            help='write it like this: `limit latency("table.json") <= 5ms`; the units are us, ms and s',
        )
        return None
    written = item.table.value
    path = Path(item.span.source.name).parent / written
    try:
        found = read_table(path)
        lacks = missing(elaborated.module, decisions, found)
    except UserError as error:
        first = error.diagnostics[0]
        measure = f"measure it: nasdsl latency {item.span.source.name} --device cpu -o {path}"
        cure = first.help if path.exists() else measure
        diagnostics.error(first.code, first.message, item.table.span, "named here", help=cure)
        return None
    except (KeyError, NotAdditiveError, TooManyCasesError) as reason:
        diagnostics.error(
            "NAS308",
            "no table of latencies can cover this space: its sizes depend on too much at once",
            item.measure.span,
            f"{reason}",
        )
        return None
    if lacks:
        diagnostics.error("NAS606", *_lacking(path, lacks, item.table.span), help=extension(item, found))
        return None
    text = item.bound.text
    unit = next(u for u in ("us", "ms", "s") if text.endswith(u))
    bound = float(Fraction(text.removesuffix(unit)) * UNITS[unit])
    return Limit(TIMED, item.relation, bound, item.span, found, written)


def _lacking(path: Path, lacks: tuple[str, ...], span: Span) -> tuple[str, Span, str]:
    more = f" and {len(lacks) - 1:,} more" if len(lacks) > 1 else ""
    return (
        f"{path} has no entry for `{lacks[0]}`{more}",
        span,
        "measured for another space, or at other parameters",
    )


def extension(item: ast.Limit, found: LatencyTable) -> str:
    """How a table gets the entries that it lacks."""
    machine = found.machine
    options = f"--device {machine.device} --batch {machine.batch} --precision {machine.precision}"
    if machine.device == "cpu":
        options += f" --threads {machine.threads}"
    return (
        f"on {machine.name}, with the parameters of this space: "
        f"nasdsl latency {item.span.source.name} {options} -o {found.path}"
    )


def _provable(
    limit: Limit, item: ast.Limit, elaborated: Elaborated, decisions: DecisionTable, diagnostics: Diagnostics
) -> None:
    if limit.table is not None:
        low, high = cost_bounds(elaborated.module, unit_bounds(elaborated.module, decisions, limit.table))
        low, high = low + limit.table.constant, high + limit.table.constant
    elif limit.measure in ("params", "macs"):
        low, high = cost_bounds(elaborated.module, limit.measure)
    else:
        return
    least = limit.relation in ("<", "<=")
    if limit.holds(low if least else high):
        return
    extreme, word = (low, "at least") if least else (high, "at most")
    diagnostics.error(
        "NAS305",
        f"no architecture of this space meets `{limit}`",
        item.bound.span,
        f"every architecture has {word} {extreme:,}{limit.unit or ' ' + limit.measure}",
        help="raise the limit, or make the fixed parts smaller"
        if least
        else "lower the limit, or widen the space",
    )


__all__ = ["CheckedSpace", "Limit", "Within", "check_source", "check_text", "decision_table"]
