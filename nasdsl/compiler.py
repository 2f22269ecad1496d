"""The driver: from a checked space and a method to everything that is written or run.

Takes a `CheckedSpace`, perhaps a part of it, a method and its settings; returns a `Compilation`.
Invariant: the module is verified after every pass; the same input gives the same
compilation, to the byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import attrs

from nasdsl.cases import Cases
from nasdsl.codegen.decisions import decision_data, path_data
from nasdsl.codegen.emit import network_code, path_supernet_code, supernet_code
from nasdsl.codegen.layout import layout_line
from nasdsl.codegen.lock import source_name
from nasdsl.codegen.lower import lower_module
from nasdsl.codegen.lowered import Home, Lowered, module_paths
from nasdsl.codegen.sizes import Sizes, settled
from nasdsl.codegen.source import PythonCode
from nasdsl.codegen.variables import variables
from nasdsl.diagnostics import did_you_mean
from nasdsl.errors import UserError
from nasdsl.ir.graph import Module, Stage
from nasdsl.ir.verify import verify
from nasdsl.methods import METHODS, Method
from nasdsl.methods.base import Scalar
from nasdsl.passes import PASSES, Pass, configured
from nasdsl.passes.base import Rewriter
from nasdsl.passes.lift_none import Lifted, LiftNone, lifted
from nasdsl.passes.log import Log, Rewrite
from nasdsl.passes.retrain_form import RetrainForm, auxiliary_problem
from nasdsl.passes.specialise import Specialise
from nasdsl.passes.switch import Switch
from nasdsl.space.architecture import Architecture
from nasdsl.space.checked import CheckedSpace
from nasdsl.space.decisions import Choice, Decision, DecisionTable, Event
from nasdsl.subspace.inside import Inside
from nasdsl.subspace.restrict import restricted
from nasdsl.subspace.value import Subspace

SWITCHABLE = frozenset(
    {
        "lift_none",
        "search_form",
        "tie",
        "simplify",
        "fold",
        "share",
        "normalise",
        "accumulate",
        "fan",
        "checkpoint",
    }
)


@attrs.frozen(slots=False)
class Compilation:
    """A space compiled for a method.

    Attributes:
        stages: (name, module) of the start and after every pass.
        settings: every setting of the method, resolved.
        given: those of them that were given.
        recipes: what each recipe would make of those of retraining.
        lifted: choices of inputs that stand for `none` options, full paths.
        rewrites: for every pass what it said that it did.
        basis: what the pipeline started from: the space, or what a sub-space leaves of it.
        subspace: the part that is searched, None for the whole.
    """

    space: CheckedSpace
    method: Method
    settings: Mapping[str, Scalar]
    given: Mapping[str, Scalar]
    recipes: Mapping[str, Mapping[str, Scalar]]
    passes: tuple[Pass, ...]
    stages: tuple[tuple[str, Module], ...]
    lifted: tuple[Lifted, ...]
    rewrites: tuple[tuple[Rewrite, ...], ...]
    basis: CheckedSpace
    subspace: Subspace | None = None

    @cached_property
    def inside(self) -> Inside | None:
        """The members that the search keeps to; None for the whole space."""
        return None if self.subspace is None else Inside(self.space, self.subspace, self.basis.table)

    @cached_property
    def within(self) -> str:
        """Which relaxation of a sub-space this is, in one sentence; "" for the whole space."""
        return "" if self.inside is None else self.inside.words(paths=self.switched)

    @cached_property
    def relaxed(self) -> Module:
        """Graph[RELAXED] as the method means it, before anything was optimised."""
        plain = [m for step, (_, m) in zip(self.passes, self.stages[1:], strict=True) if not step.optimises]
        return plain[-1] if plain else self.stages[0][1]

    @property
    def optimised(self) -> Module:
        """Graph[RELAXED] as it is lowered."""
        return self.stages[-1][1]

    @cached_property
    def searched(self) -> Module:
        """Graph[SPACE] as it was relaxed."""
        return [m for _, m in self.stages if m.stage is Stage.SPACE][-1]

    @cached_property
    def table(self) -> DecisionTable:
        """The decisions of the relaxation: the space's, with those that were lifted."""
        return lifted_table(self.basis.table, self.lifted)

    @cached_property
    def sizes(self) -> Sizes:
        """The sizes that the path of a step settles; filled by lowering."""
        return Sizes()

    @cached_property
    def lowered(self) -> tuple[Lowered, ...]:
        return lower_module(self.optimised, "Supernet", runtime=True, sizes=self.sizes)

    @cached_property
    def switched(self) -> bool:
        """Whether a path is set at run time, instead of variables being learned."""
        return any(isinstance(p, Switch) for p in self.passes)

    @cached_property
    def supernet(self) -> PythonCode:
        """The text of `supernet.py`."""
        if self.switched:
            return self._path_supernet()
        made = variables(self.optimised, tuple(item.name for item in self.lowered))
        lifted = tuple({"decision": i.decision, "edges": i.edges} for i in self.lifted)
        title = f"Supernet of space {self.space.name} for method {self.method.name}."
        data = decision_data(self.table, self.searched, made)
        return supernet_code(title, source_name(self.space), self.lowered, made, data, lifted)

    def _path_supernet(self) -> PythonCode:
        lowered = self.lowered
        side = settled(self.basis.input.dims[-1]) if self.basis.input.layout == "image" else 0
        resolution = self.sizes.key(side, "input") if isinstance(side, Cases) else ""
        return path_supernet_code(
            f"Supernet of space {self.space.name} for method {self.method.name}.",
            source_name(self.space),
            lowered,
            path_data(self.table),
            self.sizes.data,
            resolution,
        )

    def search_form(self, architecture: Architecture) -> Module:
        """One architecture cut out of the supernet: same normalisation, same weight names."""
        module = Specialise(self.lift(architecture.choices))(self.relaxed)
        verify(module, "specialise")
        return module

    def lift(self, choices: Mapping[str, Choice]) -> dict[str, Choice]:
        """An architecture of the space in the decisions of the relaxation.

        Raises:
            UserError: NAS504 where the relaxation has no such point.
        """
        result = dict(choices)
        for item in self.lifted:
            taken = tuple(source for source, op, none in item.edges if result.get(op) != none)
            if not taken:
                raise UserError.plain(
                    "NAS504",
                    f"`{self.method.name}` cannot express this architecture: a node takes no input ({item.decision})",
                )
            result[item.decision] = taken
            for source, op, _ in item.edges:
                if source not in taken:
                    del result[op]
        return result


def compile_space(
    space: CheckedSpace,
    method: str,
    settings: Mapping[str, object] | None = None,
    passes: str = "",
    within: Subspace | None = None,
) -> Compilation:
    """Runs a method's pipeline over a space.

    Args:
        settings: of the method, by name.
        passes: changes to the pipeline, `+name` and `-name` separated by commas.
        within: the part of the space that is searched; the supernet has what members take.

    Raises:
        UserError: NAS501 to NAS505; NAS404 for a part without a member within the limits.
    """
    chosen = METHODS.load(method)
    resolved = chosen.resolve(space, settings or {})
    if space.limits and not chosen.limits:
        raise UserError.plain(
            "NAS901",
            f"`{chosen.name}` cannot search under a limit; `{space.name}` sets one on {space.limits[0].measure}",
            help="methods of single paths can (spos, cream, evolution); or take the limit out of the space",
        )
    basis = space if within is None else restricted(space, within.support())
    chosen.fits(basis, resolved)
    if within is not None:
        Inside(space, within, basis.table).fits(resolved)
    pipeline = edit_pipeline(chosen.pipeline(basis, resolved), passes, resolved)
    module = basis.module
    verify(module, "elaboration")
    stages = [("space", module)]
    found: tuple[Lifted, ...] = ()
    rewrites = []
    for step in pipeline:
        if isinstance(step, LiftNone):
            found = _lifted(module)
        log = Log()
        module = step.rewrite(module, log) if isinstance(step, Rewriter) else step(module)
        verify(module, step.name)
        stages.append((step.name, module))
        rewrites.append(log.rewrites)
    recipes = chosen.recipe_values(space, settings or {})
    return Compilation(
        space=space,
        method=chosen,
        settings=resolved,
        given={name: resolved[name] for name in settings or {}},
        recipes=recipes,
        passes=pipeline,
        stages=tuple(stages),
        lifted=found,
        rewrites=tuple(rewrites),
        basis=basis,
        subspace=within,
    )


def edit_pipeline(pipeline: tuple[Pass, ...], edits: str, settings: Mapping[str, Scalar]) -> tuple[Pass, ...]:
    """`-name` takes a pass out, `+name` puts it in its place.

    Raises:
        UserError: NAS503 for an unknown pass or one that cannot be switched.
    """
    result = list(pipeline)
    for edit in filter(None, (e.strip() for e in edits.split(","))):
        sign, name = edit[0], edit[1:]
        if sign not in "+-":
            raise UserError.plain(
                "NAS503",
                f"`{edit}` says neither to add a pass nor to leave one out",
                help="write +name or -name; `nasdsl passes` lists them",
            )
        if name not in PASSES:
            raise UserError.plain(
                "NAS503",
                f"there is no pass `{name}`{did_you_mean(name, SWITCHABLE)}",
                help="write +name or -name; `nasdsl passes` lists them",
            )
        if sign == "+" and any(isinstance(p, Switch) for p in result):
            raise UserError.plain(
                "NAS503",
                f"pass `{name}` changes weighted sums; a supernet of single paths has none",
                help="leave it out, or choose a gradient method: `nasdsl methods` lists them",
            )
        if name not in SWITCHABLE:
            raise UserError.plain(
                "NAS503", f"pass `{name}` cannot be switched: every method needs it or none does"
            )
        present = [p for p in result if p.name == name]
        if sign == "-":
            result = [p for p in result if p.name != name]
        elif not present:
            made = configured(name, settings)
            at = _place(result, made)
            result.insert(at, made)
    return tuple(result)


def _place(pipeline: list[Pass], made: Pass) -> int:
    """Where a pass goes: in the order of the table of passes; one that it does not know goes last."""
    order = {name: index for index, name in enumerate(PASSES.names())}
    mine = order.get(made.name, len(order))
    later = (i for i, p in enumerate(pipeline) if order.get(p.name, len(order)) > mine)
    return next(later, len(pipeline))


def _lifted(module: Module) -> tuple[Lifted, ...]:
    """What will be lifted, in full paths, once an owner."""
    found: dict[str, Lifted] = {}
    for use in module.uses():
        for item in lifted(use.graph):
            path = use.decision(item.decision)
            edges = tuple((s, use.decision(d), n) for s, d, n in item.edges)
            found.setdefault(path, Lifted(path, edges))
    return tuple(found.values())


def lifted_table(table: DecisionTable, items: tuple[Lifted, ...]) -> DecisionTable:
    """The table with a choice of inputs before the operations whose `none` it replaces."""
    first = {item.edges[0][1]: item for item in items}
    inside = {op: (item, source, none) for item in items for source, op, none in item.edges}
    decisions: list[Decision] = []
    for decision in table.decisions:
        if decision.path in first:
            item = first[decision.path]
            sources = tuple(s for s, _, _ in item.edges)
            decisions.append(Decision(item.decision, "inputs", sources, 1, len(sources), decision.when))
        if decision.path in inside:
            item, source, none = inside[decision.path]
            decision = attrs.evolve(
                decision,
                options=tuple(o for o in decision.options if o != none),
                when=((Event(item.decision, source),),),
            )
        decisions.append(decision)
    return DecisionTable(tuple(decisions))


def retrain_module(space: CheckedSpace, architecture: Architecture) -> tuple[Module, str | None]:
    """One architecture as it is trained from scratch, and why it has no auxiliary head, if it has none."""
    plain = Specialise(architecture.choices)(space.module)
    verify(plain, "specialise")
    problem = auxiliary_problem(plain)
    module = RetrainForm()(plain)
    verify(module, "retrain_form")
    return module, problem


def network_source(
    space: CheckedSpace, architecture: Architecture
) -> tuple[PythonCode, dict[tuple[str, ...], Home]]:
    """The text of `model.py` and where its weights live."""
    module, problem = retrain_module(space, architecture)
    return _network(space, architecture, module, problem)


def search_source(
    compilation: Compilation, architecture: Architecture
) -> tuple[PythonCode, dict[tuple[str, ...], Home]]:
    """The supernet's own path as a network by itself, and where its weights live."""
    module = compilation.search_form(architecture)
    return _network(compilation.space, architecture, module, "the search form has no auxiliary head")


def _network(
    space: CheckedSpace, architecture: Architecture, module: Module, problem: str | None
) -> tuple[PythonCode, dict[tuple[str, ...], Home]]:
    lowered = lower_module(module, "Network")
    constants = {
        "INPUT": (
            space.input.layout,
            *(d.settle(architecture.choices).evaluate({}) for d in space.input.dims),
        ),
        "CLASSES": space.classes,
        "ARCHITECTURE": {k: v if isinstance(v, str) else list(v) for k, v in architecture.choices.items()},
    }
    code = network_code(
        f"One architecture of space {space.name}.",
        source_name(space),
        lowered,
        constants,
        problem,
        layout_line(module),
    )
    return code, module_paths(lowered)
