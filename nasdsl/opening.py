"""Opening what a path names: spaces, architectures, compiled directories, IR.

Takes paths and plain values, returns spaces and programs (`nasdsl.api`), architectures, diagnostics and IR text.
Invariant: a user's mistake is a `UserError`; nothing here imports torch on load, so that checking stays
instant.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from nasdsl.api import Program, Space
from nasdsl.diagnostics import Diagnostics, Source, did_you_mean
from nasdsl.errors import UserError
from nasdsl.resources import shipped_spaces
from nasdsl.space.architecture import Architecture, architecture_text, pairs, shown
from nasdsl.space.checked import Within, check_source
from nasdsl.space.notation import NOTATIONS
from nasdsl.syntax.parse import read

if TYPE_CHECKING:
    from nasdsl.codegen.lock import Lock
    from nasdsl.identity.fit import Fit, Range
    from nasdsl.space.latency import LatencyTable


def load(path: str | Path, /, *, allow_python: bool = False, **parameters: object) -> Space:
    """Loads a space.

    Args:
        path: a `.nas` file, or the name of a shipped space such as "darts".
        allow_python: whether `use python` in the file may import what it names, which runs its code.
        parameters: values for the parameters of the space.

    Raises:
        UserError: with every diagnostic of the file.
    """
    return _whole(check(_read(path), parameters, allow_python))


def load_architecture(
    path: str | Path, text: str, /, *, allow_python: bool = False, **parameters: object
) -> tuple[Space, Architecture]:
    """Loads an architecture and the space it is of, at the parameters that it says.

    Args:
        path: as of `load`.
        text: as of `Space.parse`; "cream_287" and its like name the published ones.
        allow_python: as of `load`.
        parameters: values for the parameters that the architecture says nothing of.

    Raises:
        UserError: as `load` and `Space.parse`; NAS402 where a parameter is said in two ways.
    """
    return _load_architecture(path, text, allow_python, parameters, timed=True)


def load_untimed_architecture(
    path: str | Path, text: str, allow_python: bool, parameters: Mapping[str, object]
) -> tuple[Space, Architecture]:
    """As `load_architecture`, of a space without its limits on latency."""
    return _load_architecture(path, text, allow_python, parameters, timed=False)


def _load_architecture(
    path: str | Path, text: str, allow_python: bool, parameters: Mapping[str, object], timed: bool
) -> tuple[Space, Architecture]:
    said: Mapping[str, object] = {}
    if not _is_notation(text):
        read = Architecture.from_json(architecture_text(text))
        said = read.params
        for name in said.keys() & parameters.keys():
            if parameters[name] != said[name]:
                raise UserError.plain(
                    "NAS402",
                    f"this architecture says {name}={shown(said[name])}, which was set to "
                    f"{shown(parameters[name])}",
                    help=f"leave {name} out, or take `params` out of a copy of the architecture",
                )
    try:
        opened = {**said, **parameters}
        space = (
            load(path, allow_python=allow_python, **opened)
            if timed
            else load_untimed(path, allow_python, opened)
        )
    except UserError as error:
        problem = error.diagnostics[0]
        if problem.code == "NAS109" and any(f"`{n}`" in problem.message for n in said.keys() - parameters):
            raise UserError.plain(
                "NAS402",
                f"this architecture was made for space `{read.space}` with {pairs(said)}: {problem.message}",
                help="load the space it was made for",
            ) from None
        raise
    return space, space.parse(text)


def fit(
    path: str | Path,
    /,
    *,
    between: tuple[float, float],
    grow: Sequence[str | Range] = (),
    shrink: Sequence[str | Range] = (),
    measure: str = "macs",
    table: str | Path | LatencyTable | None = None,
    parameters: Mapping[str, object] | None = None,
    allow_python: bool = False,
) -> Fit:
    """Parameters of a space at which its architectures cost what is wanted.

    The space's own limits do not count: the parameters may be looked for to meet them.

    Args:
        path: as of `load`.
        between: the budget, its lower and its upper end.
        grow: parameters that start at their least value and grow in this order, as in
            "depths[3..5] = 1..4".
        shrink: parameters that start at their greatest value and shrink, one after the other, until the
            smallest architecture is within the budget: "resolution = 64..224 step 32".
        measure: `params`, `macs`, `depth` or `latency`, in microseconds.
        table: of latencies, or its path; it needs the operations of the space at every parameter tried.
        parameters: values for other parameters.
        allow_python: as of `load`.

    Raises:
        UserError: NAS305 where no setting fits, NAS306 for an unknown measure, NAS109 for what is no
            parameter that can be fitted, NAS310 where the range of a measure is not known, NAS605 or NAS606
            for a table that is missing or lacks an entry.
    """
    from nasdsl.identity.fit import fit as fitted
    from nasdsl.space.latency import read_table

    given = dict(parameters or {})
    if measure == "latency" and table is None:
        raise UserError.plain(
            "NAS605",
            "a fit of latency needs a table of latencies",
            help="measure one with `nasdsl latency` and name it: --table FILE",
        )
    times = read_table(table) if isinstance(table, (str, Path)) else table

    def bounds(values: Mapping[str, object]) -> tuple[int, int]:
        try:
            costs = load_unlimited(path, allow_python, values).costs(measure, times)
        except UserError as error:
            problem = error.diagnostics[0]
            if problem.code != "NAS606":
                raise
            where = f"{problem.message}, at {pairs(values)}"
            raise UserError([attrs.evolve(problem, message=where)]) from None
        if costs.low is None or costs.high is None:
            raise UserError.plain("NAS310", f"the range of {measure} is not known without looking at all")
        return costs.low, costs.high

    known = load_unlimited(path, allow_python, given).params
    return fitted(bounds, known, given, between, grow, shrink, measure)


def _is_notation(text: str) -> bool:
    return any(notation.recognise(text) for notation in NOTATIONS.values())


def load_untimed(path: str | Path, allow_python: bool, parameters: Mapping[str, object]) -> Space:
    """A space without its limits on latency, whose tables may not be there yet. Raises UserError as `load`."""
    return _whole(check(_read(path), parameters, allow_python, timed=False))


def load_unlimited(path: str | Path, allow_python: bool, parameters: Mapping[str, object]) -> Space:
    """A space without its limits, which other parameters may be looked for to meet, nor its sub-spaces.

    Raises:
        UserError: as `load`.
    """
    return _whole(check(_read(path), parameters, allow_python, limited=False))


def _whole(checked: tuple[Space | None, Diagnostics]) -> Space:
    space, diagnostics = checked
    diagnostics.raise_if_errors()
    if space is None:
        raise UserError(diagnostics.items)
    return space


def check(
    source: Source,
    parameters: Mapping[str, object] | None = None,
    allow_python: bool = False,
    timed: bool = True,
    limited: bool = True,
) -> tuple[Space | None, Diagnostics]:
    """The space of a text with the sub-spaces that it names, None when there are errors; and every diagnostic.

    Args:
        source, parameters, allow_python, timed, limited: as of `check_source`.
    """
    checked, diagnostics = check_source(source, parameters, allow_python, timed, limited)
    if checked is None:
        return None, diagnostics
    space = Space(checked)
    for named in checked.within:
        try:
            space = _within(space, named)
        except UserError as error:
            problem = error.diagnostics[0]
            diagnostics.error(problem.code, problem.message, named.span, "named here", help=problem.help)
    return (None if diagnostics.errors else space), diagnostics


def _within(space: Space, named: Within) -> Space:
    """The part of a space that is in the sub-space of a file, too. Raises UserError (NAS404)."""
    from nasdsl.subspace.files import read_named

    found = space.within(read_named(named.text, named.path, space.checked))
    if found.subspace is not None and not found.subspace.tally().high:
        raise UserError.plain(
            "NAS404",
            f"{named.path} has no architecture in common with the sub-spaces named before it",
            help="name sub-spaces that overlap, or one of them only",
        )
    return found


def compiled_again(folder: Path, lock: Lock, allow_python: bool = False) -> Program:
    """The program of a compiled directory, compiled again.

    What decides is the lock's (parameters, method, passes, settings); only the space, and files that it or a
    setting names, are read from the folder. A directory that nobody touched, compiled again by the same version,
    comes out the same to the byte.

    Raises:
        UserError: what lies there cannot be compiled (any more), with every diagnostic.
    """
    space = space_of(folder, lock, allow_python)
    if lock.subspace and space.within_digest != lock.subspace:
        space = space.within(folder / "subspace.json")
    settings = dict(lock.settings)
    if settings.get("latency_table"):
        settings["latency_table"] = str(folder / _plain(str(settings["latency_table"])))
    return space.compile(lock.method, passes=lock.edits, settings=settings)


def space_of(folder: Path, lock: Lock, allow_python: bool = False) -> Space:
    """The space that lies in a compiled directory, at the parameters of its lock, whatever these are called.

    Raises:
        UserError: with every diagnostic of the file.
    """
    text = _read(folder / "space.nas").text
    # Comments of supernet.py name the file that was compiled: under its name they come out the same.
    with _importable(folder, allow_python):
        return _whole(check(Source(str(folder / _plain(lock.source)), text), lock.given, allow_python))


@contextmanager
def _importable(folder: Path, allowed: bool) -> Iterator[None]:
    """Modules beside the scripts are found, as the scripts find them; they do not stand in for others here."""
    here = str(folder.resolve())
    added = allowed and here not in sys.path
    if added:
        sys.path.append(here)
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)


def _plain(name: str) -> str:
    """A name without folders: what a lock names lies in its directory."""
    return name.replace("\\", "/").rpartition("/")[2] or "space.nas"


def check_file(
    path: str | Path, parameters: Mapping[str, object] | None = None, allow_python: bool = False
) -> Diagnostics:
    """Every diagnostic of a file. Raises UserError (NAS005) for one that cannot be read."""
    return check(_read(path), parameters, allow_python)[1]


def _read(path: str | Path) -> Source:
    file = Path(path)
    shipped = shipped_spaces()
    if str(path) in shipped and not file.is_file():
        file = shipped[str(path)]
    diagnostics = Diagnostics()
    source = read(file, diagnostics)
    if source is None:
        problem = diagnostics.items[0]
        hint = did_you_mean(str(path), shipped) if "/" not in str(path) and problem.help is None else ""
        raise UserError([attrs.evolve(problem, message=problem.message + hint)])
    return source if file == Path(path) else Source(file.name, source.text)


def ir_text(
    path: str | Path,
    parameters: Mapping[str, object] | None = None,
    *,
    method: str | None = None,
    settings: Mapping[str, object] | None = None,
    passes: str = "",
    after: str | None = None,
    after_all: bool = False,
    allow_python: bool = False,
) -> str:
    """The IR of a space as text: at the start, at the end of a method's passes, or after some of them."""
    from nasdsl.ir.text import print_module

    space = load(path, allow_python=allow_python, **dict(parameters or {}))
    if method is None:
        return print_module(space.checked.module)
    stages = space.compile(method, passes=passes, settings=settings or {}).compilation.stages
    if after_all:
        return "\n".join(f"# after {name}\n{print_module(module)}" for name, module in stages)
    if after is None:
        return print_module(stages[-1][1])
    chosen = dict(stages)
    if after not in chosen:
        raise UserError.plain("NAS503", f"no pass `{after}` runs here{did_you_mean(after, chosen)}")
    return print_module(chosen[after])


def read_ir(text: str) -> str:
    """Reads IR text, verifies it and prints it again. Raises UserError (NAS001) or VerifyError."""
    from nasdsl.ir.text import parse_module, print_module
    from nasdsl.ir.verify import verify

    printed = []
    # `--after-all` prints one module after another, each under a line `# after PASS`.
    for head, body in re.findall(r"(# after \w+\n)?((?:(?!# after ).*\n?)*)", text):
        if body.strip():
            module = parse_module(body)
            verify(module, "reading")
            printed.append(head + print_module(module))
    return "\n".join(printed) if printed else print_module(parse_module(text))
