"""Settings of gradient methods in all pairs: what combines searches, derives and resumes; what does not is refused.

The table of rows is made here, by a greedy generator over the axes, and a test proves that it holds every
pair of values that any legal row can hold.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import combinations, product
from typing import Any

import pytest
import torch
from torch import Tensor

import nasdsl
from nasdsl import Program, UserError
from nasdsl.methods import METHODS
from nasdsl.methods.base import Scalar
from nasdsl.methods.gradient import CONFLICTS, Conflict
from nasdsl.runtime.search.engine import Engine
from nasdsl.runtime.supernet import SupernetBase
from nasdsl.space.checked import CheckedSpace
from tests.thinned import thinned

Row = dict[str, Scalar]
Pair = tuple[str, Scalar, str, Scalar]

SPACES = {
    "nasbench201": {"N": 1, "C": 8, "resolution": 8},
    "darts": {"layers": 2, "C": 4, "resolution": 4},
}
AXES: dict[str, tuple[Scalar, ...]] = {
    "activation": ("softmax", "clipped", "gumbel", "concrete", "dirichlet"),
    "topology": ("sum", "softmax", "subsets"),
    "hypergradient": ("first", "finite", "exact"),
    "none": ("auto", "true", "false"),
    "node_norm": ("auto", "true", "false"),
    "partial_channels": (1, 4),
    "prune": (True, False),
    "bare_weights": (False, True),
    "level": ("bilevel", "single"),
    "schedule": ("alternate", "informed"),
    "weight_steps": (1.0, 2.0, 1.5),
    "informed_split": (False, True),
    "proximity": ("off", "plain", "adjusted"),
    "early_stop": ("off", "skip", "eigenvalue", "ranking"),
    "hessian_iterations": (2, 0),
    "admm": (True, False),
    "admm_dual": ("raw", "weights"),
    "constraint_norm": ("plain", "squared"),
    "projection": ("live", "legacy"),
    "beta_decay": (0.0, 0.5),
    "dirichlet_kl": (0.0, 1e-3),
    "resource_weight": (0.0, 1e-3),
    "order": ("architecture-first", "weights-first"),
    "accumulate": (1, 2),
    "regulariser": ("v1", "v2", "v3", "off"),
    "regulariser_form": ("loss", "pa"),
    "warmup_epochs": (0, 1),
    "simplify": (False, True),
    "space": tuple(SPACES),
}
"""Settings, and two axes that are none: whether the pass `simplify` runs, and the space."""

FIXED: Row = {
    "epochs": 2,
    "admm_period": 1,
    "admm_weight": 0.1,
    "proximity_weight": 0.1,
    "regulariser_delta": 0.01,
    "threshold_growth": 1e6,  # else no informed step were due as early as the second
}
GRADIENT = [n for n in METHODS.names() if METHODS.load(n).template == "search.py.j2"]
"""The methods that have the settings of all axes; conflicts of the others: tests/runtime/paths."""
DEFAULTS: Row = {s.name: s.default for s in METHODS.load("darts").settings}


# --- the table -------------------------------------------------------------------------


@cache
def checked_space(name: str) -> CheckedSpace:
    return nasdsl.load(name, **SPACES[name]).checked


def conflict_of(row: Mapping[str, Scalar]) -> Conflict | None:
    """The first conflict between settings of a row, which need not be whole."""
    return next((c for c in CONFLICTS if c.settings.keys() <= row.keys() and c.holds(row)), None)


def completed(row: Row, wanted: set[Pair], axes: tuple[str, ...] = tuple(AXES)) -> Row | None:
    """The row with a value on every axis, at each the one that holds most wanted pairs; None if there is none."""
    open_axes = [a for a in axes if a not in row]
    if not open_axes:
        return row
    axis = open_axes[0]
    held = {(a, v) for a, v in row.items()}
    gain = {
        value: sum(pair(a, v, axis, value) in wanted for a, v in held if (a, v) != (axis, value))
        for value in AXES[axis]
    }
    for value in sorted(AXES[axis], key=lambda v: -gain[v]):
        extended = {**row, axis: value}
        if conflict_of(extended) is None:
            whole = completed(extended, wanted, axes)
            if whole is not None:
                return whole
    return None


def pair(one: str, value: Scalar, other: str, other_value: Scalar) -> Pair:
    """The pair in the order of the axes."""
    places = list(AXES)
    first = places.index(one) < places.index(other)
    return (one, value, other, other_value) if first else (other, other_value, one, value)


def pairs() -> Iterator[Pair]:
    """All pairs of values of all axes, legal or not."""
    for one, other in combinations(AXES, 2):
        for values in product(AXES[one], AXES[other]):
            yield (one, values[0], other, values[1])


def pairs_of(row: Mapping[str, Scalar]) -> set[Pair]:
    return {(a, row[a], b, row[b]) for a, b in combinations(AXES, 2)}


def table() -> list[Row]:
    """Rows that hold all pairs: each is begun with one that is still wanted."""
    wanted = {p for p in pairs() if conflict_of({p[0]: p[1], p[2]: p[3]}) is None}
    rows: list[Row] = []
    for found in list(pairs()):
        if found not in wanted:
            continue
        row = completed({found[0]: found[1], found[2]: found[3]}, wanted)
        wanted.discard(found)
        if row is not None:
            wanted -= pairs_of(row)
            rows.append(row)
    return rows


ROWS = table()


def test_every_pair_that_any_legal_row_holds_is_in_the_table() -> None:
    bound = [a for a in AXES if any(a in c.settings for c in CONFLICTS)]
    legal = [
        row
        for values in product(*(AXES[a] for a in bound))
        if conflict_of(row := dict(zip(bound, values, strict=True))) is None
    ]
    possible = {(a, r[a], b, r[b]) for r in legal for a, b in combinations(bound, 2)}
    alone = {(a, r[a]) for r in legal for a in bound}
    assert alone == {(a, v) for a in bound for v in AXES[a]}  # so with a free axis everything goes
    expected = {p for p in pairs() if p[0] not in bound or p[2] not in bound or p in possible}
    covered = set().union(*map(pairs_of, ROWS))
    assert covered == expected
    assert all(conflict_of(row) is None for row in ROWS)
    assert len(ROWS) < 60  # by far not the product of the axes


def test_the_axes_are_settings_and_hold_every_word() -> None:
    settings = {s.name: s for s in METHODS.load("darts").settings}
    for axis, values in AXES.items():
        if axis not in ("simplify", "space"):
            assert len(values) > 1
            assert [settings[axis].read(v) for v in values] == list(values)
            if settings[axis].choices:
                assert set(values) == set(settings[axis].choices)


# --- what combines -----------------------------------------------------------------------


@cache
def compiled(space: str, simplify: bool, given: tuple[tuple[str, Scalar], ...]) -> Program:
    """Rows that differ in settings of the search alone share a program."""
    made = nasdsl.load(space, **SPACES[space])
    return made.compile("darts", settings=dict(given), passes="+simplify" if simplify else "-simplify")


def program_of(row: Row) -> tuple[Program, dict[str, Any]]:
    """A row's program, and all settings of its search; that they combine is checked as a run checks it."""
    given = {n: v for n, v in row.items() if n not in ("simplify", "space")} | FIXED
    method = METHODS.load("darts")
    of_supernet = {s.name for s in method.settings if s.table == "compile"}
    shape = tuple((n, v) for n, v in given.items() if n in of_supernet)
    program = compiled(str(row["space"]), bool(row["simplify"]), shape)
    checked = program.space.checked
    resolved = method.resolve(checked, given)
    method.fits(checked, resolved)
    return program, resolved


def step(search: Engine, epoch: int, size: int) -> None:
    """One step of an epoch in the order of a search script."""
    generator = torch.Generator().manual_seed(epoch)
    train, valid = (
        (torch.randn(4, 3, size, size, generator=generator), torch.randint(10, (4,), generator=generator))
        for _ in range(2)
    )
    search.begin(epoch)
    for turn in search.turns(0.5):
        if turn == "weights":
            loss = search.weight_step(train)
        elif turn == "variables":
            loss = search.variable_step(valid, train)
        else:
            loss = search.joint_step(train)
        assert loss.isfinite()
    search.settle()


def state(net: SupernetBase, search: Engine) -> dict[str, Any]:
    """What a checkpoint of a run holds."""
    return {"net": net.state_dict(), "search": search.state_dict(), "random": torch.get_rng_state()}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{index}]")
    else:
        yield path, value


def unequal(one: Any, other: Any) -> list[str]:
    """Paths at which two states are not the same, bit for bit; those that one of them lacks too."""
    mine, theirs = dict(leaves(one)), dict(leaves(other))

    def same(a: Any, b: Any) -> bool:
        return torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else bool(a == b)

    return [name for name in mine | theirs if not same(mine.get(name), theirs.get(name))]


def title(row: Row) -> str:
    changed = (f"{n}={v}" for n, v in row.items() if DEFAULTS.get(n, AXES[n][0]) != v)
    return ",".join(changed) or "darts"


@pytest.mark.parametrize("row", thinned(ROWS, 3), ids=title)
def test_a_row_searches_derives_and_resumes_exactly(row: Row) -> None:
    program, settings = program_of(row)
    size = int(SPACES[str(row["space"])]["resolution"])
    net = program.supernet(seed=1)
    begin = [p.detach().clone() for p in net.architecture_parameters()]
    weights = [p.detach().clone() for p in net.weight_parameters()]
    search = Engine(net, settings)
    torch.manual_seed(7)
    step(search, 0, size)
    file = io.BytesIO()
    torch.save(state(net, search), file)
    step(search, 1, size)

    # Weights move, and variables exactly if they took a step.
    assert any(not torch.equal(a, b) for a, b in zip(weights, net.weight_parameters(), strict=True))
    moved = any(not torch.equal(a, b) for a, b in zip(begin, net.architecture_parameters(), strict=True))
    assert moved is (search.schedule.taken > 0)
    found = program.architecture(net.derive())  # raises NAS401 when it is none
    assert program.space.parse(found.to_json()) == found

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = program.supernet(seed=2)
    resumed = Engine(other, settings)
    other.load_state_dict(saved["net"])
    resumed.load_state_dict(saved["search"])
    torch.set_rng_state(saved["random"])
    assert unequal(state(net, search), state(other, resumed))  # the second step changed something
    step(resumed, 1, size)
    assert not unequal(state(net, search), state(other, resumed))


def test_variables_step_in_most_rows() -> None:
    """The law above would say little of variables that never move."""
    waits = [
        r for r in ROWS if r["warmup_epochs"] == 1 and (r["schedule"], r["weight_steps"]) != ("alternate", 1)
    ]
    assert len(waits) < len(ROWS) / 2


# --- what does not -----------------------------------------------------------------------

ILLEGAL = [
    (conflict, dict(zip(conflict.settings, values, strict=True)))
    for conflict in CONFLICTS
    for values in product(*(AXES[name] for name in conflict.settings))
    if conflict.holds(dict(zip(conflict.settings, values, strict=True)))
]


def test_every_conflict_has_values_on_the_axes() -> None:
    assert {id(c) for c, _ in ILLEGAL} == set(map(id, CONFLICTS))
    assert all(len(c.settings) == 2 for c in CONFLICTS)


@pytest.mark.parametrize(("conflict", "given"), ILLEGAL, ids=[title(g) for _, g in ILLEGAL])
def test_settings_that_do_not_combine_are_refused_by_name(conflict: Conflict, given: Row) -> None:
    space = nasdsl.load("nasbench201", **SPACES["nasbench201"])
    with pytest.raises(UserError) as caught:
        space.compile("darts", settings=given)
    (found,) = caught.value.diagnostics
    assert found.code == "NAS505"
    for name, value in given.items():
        shown = f"{value:g}" if isinstance(value, float) else str(value).lower()
        assert f"{name}={shown}" in found.message.split()
    assert [n.message for n in found.notes] == [conflict.reason]
    assert found.help == conflict.cure


@pytest.mark.parametrize(("conflict", "given"), ILLEGAL, ids=[title(g) for _, g in ILLEGAL])
def test_every_setting_that_a_cure_names_cures(conflict: Conflict, given: Row) -> None:
    method = METHODS.load("darts")
    known = {s.name: s for s in method.settings}
    cures = re.findall(r"\b(\w+)=([\w.-]*\w)", conflict.cure)
    assert {name for name, _ in cures} & conflict.settings.keys()
    space = nasdsl.load("nasbench201", **SPACES["nasbench201"])
    for name, value in cures:
        assert not conflict.holds(method.resolve(space.checked, {**given, name: known[name].read(value)}))


@pytest.mark.parametrize(("conflict", "given"), ILLEGAL, ids=[title(g) for _, g in ILLEGAL])
@pytest.mark.parametrize("method", GRADIENT)
def test_every_method_refuses_them(method: str, conflict: Conflict, given: Row) -> None:
    """Whatever a method's defaults are: that or another conflict of theirs is named."""
    chosen = METHODS.load(method)
    checked = checked_space("nasbench201")
    with pytest.raises(UserError, match="NAS505"):
        chosen.fits(checked, chosen.resolve(checked, given))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("method", GRADIENT)
def test_no_method_refuses_its_own_defaults(method: str, space: str) -> None:
    chosen = METHODS.load(method)
    checked = checked_space(space)
    for preset in chosen.variants or ("",):
        settings = chosen.resolve(checked, {"preset": preset} if preset else {})
        chosen.fits(checked, settings)
        assert conflict_of(settings) is None
