"""The Python interface: `Space`, `Program`.

Takes checked spaces (`nasdsl.opening` opens them) and plain values, returns architectures and torch modules.
Invariant: a user's mistake is a `UserError`; torch is imported by the methods
that make modules and by nothing else here, so counting and checking stay
instant. What is only needed for compiling is imported where it is used, for the
same reason.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from nasdsl.diagnostics import did_you_mean
from nasdsl.errors import UserError
from nasdsl.space.architecture import Architecture, architecture_text, check_choices, pairs
from nasdsl.space.checked import CheckedSpace, Limit
from nasdsl.space.decisions import Choice, Decision
from nasdsl.space.measures import costs_words
from nasdsl.space.notation import NOTATIONS, PublishedNotation

if TYPE_CHECKING:
    import torch

    from nasdsl.compiler import Compilation
    from nasdsl.identity.costs import PathCosts
    from nasdsl.identity.distinct import Tally
    from nasdsl.identity.population import Population
    from nasdsl.space.latency import LatencyTable
    from nasdsl.subspace.inside import Inside
    from nasdsl.subspace.value import Subspace
    from nasdsl.tabular import Table


@attrs.frozen
class Stats:
    """What one architecture costs, for one example.

    Attributes:
        params: learnable numbers, operations counted that nothing reads, as benchmarks do.
        macs: multiply-accumulates of convolutions and linear layers, counted likewise.
        live_params: learnable numbers of the network that is built, where they are left out.
        live_macs: multiply-accumulates of that network.
        activation_bytes: bytes of every value that network writes, fp32.
        zero_output: whether the output is zero whatever the input (`none` on every way).
        conventions: the same as others count, by the name of their convention: that of the benchmark
            which the space is, and those that were asked for.
    """

    params: int
    macs: int
    live_params: int
    live_macs: int
    activation_bytes: int
    zero_output: bool
    conventions: dict[str, dict[str, int]]


class Space:
    """A checked search space at one setting of its parameters, or a part of it.

    Attributes:
        subspace: the part that counts, None for the whole (see `within`).
    """

    def __init__(self, checked: CheckedSpace, subspace: Subspace | None = None) -> None:
        self.checked = checked
        self.subspace = subspace
        self._tallies: dict[bool | str, Tally] = {}

    @property
    def name(self) -> str:
        return self.checked.name

    @property
    def params(self) -> dict[str, object]:
        """Every parameter with its value."""
        return dict(self.checked.parameters)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Every decision, in table order."""
        return self.checked.table.decisions

    @property
    def fingerprint(self) -> str:
        """A hash of what the space is, comments and places left out."""
        return self.checked.fingerprint

    @property
    def within_digest(self) -> str:
        """A hash of the part that counts, "" for the whole space; the fingerprint is that of the whole space."""
        return "" if self.subspace is None else self.subspace.digest

    @property
    def notation(self) -> str | None:
        """The published notation that the space reads and writes."""
        return self.checked.notation

    def count(self, distinct: bool | str = False, cell: str | None = None) -> int:
        """The number of encodings, or of distinct architectures, exact.

        Args:
            distinct: True counts architectures that are the same once (`docs/language.md`, identity);
                "published" counts by the benchmark's own notion that the space declares.
            cell: count the decisions of one cell alone. Limits are of the whole space: they count
                where the cell holds all its decisions.

        Raises:
            UserError: NAS310 where no exact number is within reach (`tally` has bounds); NAS403
                for "published" without a declaration, or of one cell; NAS101 for an unknown cell.
        """
        from nasdsl.identity.encodings import Encodings, restrict

        if cell is not None:
            table = self.checked.table
            owners = {d.path.rpartition(".")[0].split(".")[0] for d in table.decisions}
            if cell not in owners:
                raise UserError.plain(
                    "NAS101", f"no decision belongs to `{cell}`{did_you_mean(cell, owners)}"
                )
            if distinct == "published":
                raise UserError.plain("NAS403", "a published notion of sameness is of whole architectures")
            if self.subspace is not None:
                raise UserError.plain(
                    "NAS310",
                    f"a sub-space is of whole architectures: what it leaves of `{cell}` alone is not counted",
                    help="count without the cell",
                )
            mine = restrict(table, cell)
            if not distinct and len(mine.decisions) < len(table.decisions):
                return Encodings(mine).count()
            if not distinct:
                cell = None
        found = self.tally(distinct) if cell is None else self.population.distinct_cells(cell)
        if not found.exact:
            raise UserError.plain(
                "NAS310",
                f"between {found.low:,} and {found.high:,} architectures; no exact number ({found.how})",
                help="`--json` gives the bounds; fewer decisions, or one limit at a time, can be counted exactly",
            )
        return found.low

    def tally(self, distinct: bool | str = False) -> Tally:
        """The number of architectures, as bounds that are equal where it is exact, and how it was found.

        Raises:
            UserError: NAS403 for "published" without a declaration.
        """
        if distinct not in (False, True, "published"):
            raise UserError.plain("NAS502", f"distinct is True, False or 'published', not {distinct!r}")
        if distinct not in self._tallies:
            population = self.population
            self._tallies[distinct] = (
                population.distinct(distinct == "published") if distinct else population.tally
            )
        return self._tallies[distinct]

    @cached_property
    def population(self) -> Population:
        """All architectures within the limits, with neighbours, distances and fingerprints."""
        from nasdsl.identity.population import Population

        return Population(self.checked, self.subspace)

    def within(self, part: Subspace | str | Path) -> Space:
        """The same space, of which only a part counts: a sub-space or a file of one.

        Everything that counts, draws, checks or compares architectures keeps to it and to the limits; within
        twice is within both.

        Raises:
            UserError: NAS404 for a part that does not fit the space, NAS005 for a file that cannot be read.
        """
        from nasdsl.subspace.files import fitted

        found = self.read_subspace(part) if isinstance(part, (str, Path)) else fitted(part, self.checked)
        return Space(self.checked, found if self.subspace is None else self.subspace & found)

    def members(self, architectures: Iterable[Architecture]) -> Subspace:
        """The sub-space that holds some architectures. Raises UserError (NAS401, NAS404 for none)."""
        from nasdsl.subspace.files import members

        return members(self.checked, (a.choices for a in architectures))

    def balls(self, architectures: Iterable[Architecture], radius: int) -> Subspace:
        """The sub-space of everything within some edits (`Population.edits`) of one of these architectures.

        Raises:
            UserError: NAS401 for what is no architecture, NAS404 for none, or for a radius below 0.
        """
        from nasdsl.subspace.files import balls

        return balls(self.checked, (a.choices for a in architectures), radius)

    def restriction(self, allowed: Mapping[str, Sequence[Any]]) -> Subspace:
        """The sub-space in which some decisions take some of their values only. Raises UserError (NAS404).

        Args:
            allowed: decision to values; for a choice of inputs each value is a sequence of inputs. A decision
                that is not made is free.
        """
        from nasdsl.subspace.files import restriction

        return restriction(self.checked, allowed)

    def read_subspace(self, path: str | Path) -> Subspace:
        """The sub-space of a file that `Subspace.write` wrote. Raises UserError (NAS404, NAS005)."""
        from nasdsl.subspace.files import read_subspace

        return read_subspace(path, self.checked)

    def sample(self, n: int, seed: int = 0, distinct: bool | str = False) -> list[Architecture]:
        """`n` architectures, uniform over encodings, or over distinct ones; the same seed gives the same.

        Raises:
            UserError: NAS310 where that cannot be drawn from; NAS403 as `count`.
        """
        found = self.tally(distinct)
        if found.draw is None:
            what = (
                "no architecture is within the limits and the sub-space"
                if found.high == 0 and self.subspace is not None
                else "no architecture is within the limits"
                if found.high == 0
                else "distinct ones cannot be drawn"
            )
            raise UserError.plain("NAS310", f"{what} ({found.how})")
        rng = random.Random(seed)
        try:
            return [self._architecture(check_choices(self.checked.table, found.draw(rng))) for _ in range(n)]
        except ArithmeticError as problem:
            raise UserError.plain("NAS310", str(problem)) from None

    def draw_choices(self, rng: random.Random) -> dict[str, Choice]:
        """The choices of one architecture within the limits, uniform over encodings, however few there are.

        Raises:
            ValueError: none is within the limits, or they cannot be drawn from exactly.
        """
        found = self.tally()
        if found.draw is None or found.high == 0:
            raise ValueError(f"no architecture within the limits of `{self.name}` can be drawn ({found.how})")
        return dict(check_choices(self.checked.table, found.draw(rng)))

    def neighbours(self, arch: Architecture) -> list[Architecture]:
        """Every architecture that differs from `arch` by one decision (see `Population.neighbours`)."""
        return [
            self._architecture(c) for c in self.population.neighbours(self.architecture(arch.choices).choices)
        ]

    def distance(self, left: Architecture, right: Architecture) -> int:
        """The number of decisions in which two architectures differ (see `Population.distance`)."""
        return self.population.distance(left.choices, right.choices)

    def identity(self, arch: Architecture) -> str:
        """A hash that two architectures share exactly when they are the same network by construction."""
        return self.population.fingerprint(self.architecture(arch.choices).choices)

    def network(self, arch: Architecture, seed: int = 0) -> torch.nn.Module:
        """One architecture as a stand-alone torch module with fresh weights: (B, ...) to logits."""
        from nasdsl.codegen.load import load_class, seeded
        from nasdsl.compiler import network_source

        arch = self.architecture(arch.choices)
        name = f"{self.name}_network_{sha256(arch.to_json().encode()).hexdigest()[:16]}"
        with seeded(seed):
            net: torch.nn.Module = load_class(network_source(self.checked, arch)[0], name, "Network")()
        return net

    def model_source(self, arch: Architecture) -> str:
        """The text of `model.py` for one architecture; it imports torch only."""
        from nasdsl.compiler import network_source

        return network_source(self.checked, self.architecture(arch.choices))[0].source

    def _architecture(self, choices: Mapping[str, Choice]) -> Architecture:
        return Architecture(self.name, self.fingerprint, choices)

    def architecture(self, choices: Mapping[str, Any]) -> Architecture:
        """Choices as an architecture of this space.

        Raises:
            UserError: NAS401, also for a limit not met; NAS405 for one outside the part that counts.
        """
        arch = self._architecture(check_choices(self.checked.table, choices))
        if self.checked.limits:
            self._within_limits(arch)
        if self.subspace is not None and not self.subspace.contains(arch.choices):
            raise UserError.plain(
                "NAS405",
                f"this architecture of `{self.name}` is outside the sub-space",
                help="take one of the sub-space: `nasdsl sample`, with the same --within if there is one, draws some",
            )
        return arch

    def _within_limits(self, arch: Architecture) -> None:
        for limit in self.checked.limits:
            value = self.population.value(limit, arch.choices)
            if not limit.holds(value):
                has = costs_words(limit.measure, value)
                raise UserError.plain("NAS401", f"this architecture {has}; the space allows {limit}")

    def parse(self, text: str) -> Architecture:
        """Reads an architecture: a published notation, JSON text, a path to a JSON file, or a published one's name.

        Raises:
            UserError: NAS401, NAS402 for one of another space or with other parameters, NAS403 for a
                notation that the space does not declare, NAS005 for a file that cannot be read.
        """
        for notation in NOTATIONS.values():
            if notation.recognise(text):
                return self.architecture(self._notation(notation.name).read(self.checked.table, text))
        read = Architecture.from_json(architecture_text(text))
        other = {n: v for n, v in read.params.items() if self.params.get(n) != v}
        if other:
            raise UserError.plain(
                "NAS402",
                f"this architecture is of `{read.space}` with {pairs(other)}, which is not what "
                f"`{self.name}` was loaded with ({pairs(self.params)})",
                help="`nasdsl.load_architecture`, and every verb with --arch, loads the space as the architecture says",
            )
        if read.fingerprint != self.fingerprint:
            try:
                return attrs.evolve(self.architecture(read.choices), params=read.params)
            except UserError as error:
                if error.diagnostics[0].code == "NAS405":
                    raise
                raise UserError.plain(
                    "NAS402",
                    f"this architecture was made for space `{read.space}` (fingerprint {read.fingerprint}) and "
                    f"does not fit `{self.name}` ({self.fingerprint}): {error.diagnostics[0].message}",
                    help="load the space it was made for, with the same parameters",
                ) from None
        return attrs.evolve(self.architecture(read.choices), params=read.params)

    def format(self, arch: Architecture, notation: str | None = None) -> str:
        """An architecture in a published notation. Raises UserError (NAS403)."""
        return self._notation(notation or self.notation).write(self.checked.table, arch.choices)

    def _notation(self, name: str | None) -> PublishedNotation:
        if name is None or name != self.notation or name not in NOTATIONS:
            declared = f"it declares `{self.notation}`" if self.notation else "it declares none"
            raise UserError.plain("NAS403", f"space `{self.name}` does not read `{name}`: {declared}")
        return NOTATIONS[name]

    def stats(self, arch: Architecture, auxiliary: bool = False, conventions: Sequence[str] = ()) -> Stats:
        """What an architecture costs, from the cost rules alone: no network is built.

        Args:
            auxiliary: with the auxiliary head of retraining.
            conventions: counters of others whose figures are wanted too, such as "thop": what that counts
                in the network that is built, in eval mode (where an auxiliary head does not run).

        Raises:
            UserError: NAS504 when an auxiliary head does not fit, NAS306 for an unknown convention.
        """
        from nasdsl.ir.cost import Count, convention_count, module_count, outputs_zero
        from nasdsl.ops.conventions import CONVENTIONS
        from nasdsl.passes.retrain_form import RetrainForm, auxiliary_problem
        from nasdsl.passes.specialise import Specialise

        for name in conventions:
            if name not in CONVENTIONS:
                known = ", ".join(CONVENTIONS)
                raise UserError.plain(
                    "NAS306",
                    f"`{name}` is no convention{did_you_mean(name, CONVENTIONS)}",
                    help=f"conventions that can be asked for: {known}",
                )
        arch = self.architecture(arch.choices)
        module = self.checked.module
        live = Specialise(arch.choices)(module)
        written = module_count(Specialise(arch.choices, dead=True)(module))
        built = module_count(live)
        extra = Count()
        if auxiliary:
            problem = auxiliary_problem(live)
            if problem is not None:
                raise UserError.plain("NAS504", problem)
            headed = module_count(RetrainForm(drop_path=False)(live))
            extra = Count(
                headed.params - built.params, headed.macs - built.macs, headed.activations - built.activations
            )
        others = {}
        if self.checked.distinct_by == "nasbench201":
            # The benchmark counts multiply-accumulates plus the classifier's bias additions.
            others["nasbench201"] = {
                "params": written.params,
                "flops": written.macs + self.checked.classes,
            }
        for convention in map(CONVENTIONS.__getitem__, conventions):
            others[convention.name] = {convention.figure: convention_count(live, convention)}
        return Stats(
            params=written.params + extra.params,
            macs=written.macs + extra.macs,
            live_params=built.params + extra.params,
            live_macs=built.macs + extra.macs,
            activation_bytes=4 * (built.activations + extra.activations),
            zero_output=outputs_zero(live),
            conventions=others,
        )

    def costs(self, measure: str, table: str | Path | LatencyTable | None = None) -> PathCosts:
        """One measure of every architecture, for searches that look at many: `.at(choices)`, `.low`, `.high`.

        Args:
            measure: `params` or `macs`, equal to those of `stats`; `depth` or `edges`, as limits have them;
                `latency` in microseconds.
            table: of latencies, or its path; without one that of the space's own limit on latency.

        Raises:
            UserError: NAS306 for anything else; NAS605 or NAS606 for a table that is missing or lacks an entry.
        """
        from nasdsl.identity.costs import PathCosts
        from nasdsl.identity.latency import table_for
        from nasdsl.space.measures import MEASURES

        if measure == "latency":
            return PathCosts(self.checked.module, self.checked.table, measure, table_for(self.checked, table))
        if measure not in MEASURES:
            known = (*MEASURES, "latency")
            raise UserError.plain("NAS306", f"`{measure}` is no measure{did_you_mean(measure, known)}")
        if table is not None:
            raise UserError.plain("NAS311", f"`{measure}` needs no table: `latency` is the measure that does")
        return PathCosts(self.checked.module, self.checked.table, measure)

    @cached_property
    def _limits(self) -> tuple[tuple[Limit, PathCosts], ...]:
        return tuple((limit, self.costs(limit.measure, limit.table)) for limit in self.checked.limits)

    def allows(self, choices: Mapping[str, Choice]) -> bool:
        """Whether an architecture, given by its choices, is within the limits of the space and the part that counts."""
        inside = all(limit.holds(costs.at(choices)) for limit, costs in self._limits)
        return inside and (self.subspace is None or self.subspace.contains(choices))

    def table(self, name: str | Path, metric: str | None = None) -> Table:
        """A table of results for architectures of this space: look-ups instead of training.

        Args:
            name: a CSV file with a column `arch`, perhaps compressed by gzip; `natsbench:PATH` for the files of
                NATS-Bench; `KIND:PATH` of a plug-in. With `#sha256=HEX` behind it, another file is refused.
            metric: the metric that is meant where the table's methods are given none.

        Raises:
            UserError: NAS005, NAS601 to NAS604.
        """
        from nasdsl.tabular import open_table

        return open_table(self.checked, name, metric)

    def draw(self, arch: Architecture | None = None) -> str:
        """A picture as SVG text: of the space, or of one architecture."""
        from nasdsl.drawing import draw_architecture, draw_space

        if arch is None:
            return draw_space(self.checked)
        return draw_architecture(self.checked, self.architecture(arch.choices).choices)

    def compile(self, method: str, passes: str = "", settings: Mapping[str, object] | None = None) -> Program:
        """Compiles the space for a method; inside a sub-space the search ends in one of its members.

        Args:
            passes: changes to the method's passes, such as "-fold".
            settings: of the method, by name.

        Raises:
            UserError: NAS501 to NAS505; NAS404 for a sub-space without a member within the limits.
        """
        from nasdsl.compiler import compile_space

        compilation = compile_space(self.checked, method, settings, passes, self.subspace)
        return Program(self, compilation, passes)

    def __repr__(self) -> str:
        return f"Space({self.name!r}, {self.params})"


class Program:
    """A space compiled for a method."""

    def __init__(self, space: Space, compilation: Compilation, passes: str = "") -> None:
        self.space = space
        self.compilation = compilation
        self.passes = passes

    @cached_property
    def _name(self) -> str:
        name = f"{self.space.name}_{self.compilation.method.name}_{self.space.fingerprint}"
        return f"{name}_{self.space.within_digest}" if self.space.within_digest else name

    @property
    def inside(self) -> Inside | None:
        """The members that the search keeps to; None for the whole space."""
        return self.compilation.inside

    def memory_advice(self, precision: str = "fp32", processes: int = 1) -> str:
        """What a step of the search needs of a device's memory, and which settings need less, in words.

        Args:
            precision: of the run.
            processes: that divide a batch among them.
        """
        from nasdsl.planning.advice import memory_advice

        return memory_advice(self.compilation, self.passes, precision, processes)

    def supernet(self, seed: int = 0) -> Any:
        """The supernet as a torch module, (B, ...) to logits (B, classes): a `SupernetBase`, or a `PathSupernet`.

        Args:
            seed: of the initial weights and variables.
        """
        from nasdsl.codegen.load import load_class, seeded
        from nasdsl.runtime.standalone.basics import channels_last

        with seeded(seed):
            net = load_class(self.compilation.supernet, f"{self._name}_supernet", "Supernet")()
        channels_last(net)
        return net

    def network(
        self,
        arch: Architecture | Mapping[str, Any],
        inherit: torch.nn.Module | None = None,
        form: str = "retrain",
        seed: int = 0,
        auxiliary: bool = False,
    ) -> torch.nn.Module:
        """One architecture as a stand-alone torch module.

        Args:
            arch: an architecture, or what `supernet.derive()` returned.
            inherit: a supernet of this program to copy weights and buffers from, where both have them.
            form: `retrain` (affine batch norm, drop-path; what `model.py` holds) or `search`
                (the supernet's own path: the same normalisation).
            auxiliary: with the auxiliary head, `retrain` only.

        Raises:
            UserError: NAS401, NAS504; ValueError for an unknown form.
        """
        from nasdsl.codegen.load import inherit_weights, load_class, seeded
        from nasdsl.codegen.lowered import module_paths
        from nasdsl.compiler import network_source, search_source

        arch = self.architecture(arch)
        if form not in ("retrain", "search"):
            raise ValueError(f"form is 'retrain' or 'search', not {form!r}")
        if form == "search":
            code, paths = search_source(self.compilation, arch)
        else:
            code, paths = network_source(self.space.checked, arch)
        with seeded(seed):
            name = f"{self._name}_{form}_{sha256(arch.to_json().encode()).hexdigest()[:16]}"
            net: torch.nn.Module = load_class(code, name, "Network")(auxiliary=auxiliary)
        if inherit is not None:
            net = net.to(next(inherit.parameters()).dtype)
            with self._at(inherit, arch):
                inherit_weights(net, paths, inherit, module_paths(self.compilation.lowered))
            net.train(inherit.training)
        return net

    def _at(self, net: torch.nn.Module, arch: Architecture) -> AbstractContextManager[None]:
        """A supernet of single paths at an architecture, whose sizes tell which part of a weight is meant."""
        if not self.compilation.switched:
            return nullcontext()
        from nasdsl.runtime.paths.judging import looking_at

        return looking_at(net, arch.choices)  # type: ignore[arg-type]

    def architecture(self, found: Architecture | Mapping[str, Any]) -> Architecture:
        """What `supernet.derive()` returned, as an architecture of the space. Raises UserError (NAS401)."""
        return self.space.architecture(found.choices if isinstance(found, Architecture) else found)

    def model_source(self, arch: Architecture | Mapping[str, Any]) -> str:
        """The text of `model.py`: the architecture in its retrain form; it imports torch only."""
        from nasdsl.compiler import network_source

        return network_source(self.space.checked, self.architecture(arch))[0].source

    def draw(self, arch: Architecture | Mapping[str, Any]) -> str:
        """A picture of an architecture as SVG text."""
        return self.space.draw(self.architecture(arch))

    def draw_points(self, points: Sequence[tuple[float, float, bool]], cost: str) -> str:
        """Accuracy (0 to 1) against a cost as SVG text: (cost, accuracy, whether on the front) a point."""
        from nasdsl.drawing.points import draw_points

        return draw_points(points, cost)

    def files(self) -> dict[str, str]:
        """Every file that `write` writes, by name; the same input gives the same text."""
        from nasdsl.codegen.directory import directory_files

        return directory_files(self.compilation, self.passes)

    def write(self, directory: str | Path) -> list[Path]:
        """Writes the directory and returns the paths written."""
        target = Path(directory)
        texts = self.files()
        target.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, text in texts.items():
            path = target / name
            path.write_bytes(text.encode("utf-8"))
            paths.append(path)
        return paths
