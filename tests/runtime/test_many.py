"""Two processes with the rows of a batch each take the steps of one process that has the whole batch."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import nasdsl
from nasdsl import Program
from nasdsl.runtime.operators.derivatives import twice
from nasdsl.runtime.operators.elastic import ElasticBatchNorm
from nasdsl.runtime.operators.normalised import NormalisedMix, PointwiseNorm
from nasdsl.runtime.paths.engine import PathEngine
from nasdsl.runtime.paths.judging import Judge
from nasdsl.runtime.search.engine import Engine
from nasdsl.runtime.standalone.basics import Mistake, WrongUse
from nasdsl.runtime.standalone.data import Data, Split, Stream
from nasdsl.runtime.standalone.draws import Draws
from nasdsl.runtime.standalone.pictures import Batches, Pictures
from nasdsl.runtime.standalone.synced import summed, synchronise
from nasdsl.runtime.standalone.team import ALONE, Team
from nasdsl.runtime.supernet import SupernetBase
from tests.runtime.many import together
from tests.runtime.paths import small
from tests.thinned import thinned

SPACE = """
space tiny {
  param classes = 10
  input image(1, 8, 8)

  set candidates(; C) = {
    sep: relu >> dwconv(3) >> conv(1, C) >> bn,
    wide: relu >> dwconv(5) >> conv(1, C) >> bn,
    skip: id,
    pool: avg_pool(3)
  }

  cell body(x; C) {
    n[1..2] = sum of choose 1 from (x, earlier) via choose candidates
    return concat(n)
  }

  network {
    stem: conv(3, 4) >> bn
    body1: body(C=4)
    head: global_pool >> linear(classes)
  }
}
"""
STEPS = 50
EPOCH = 10
"""Steps of one."""
CLOSE = 1e-10
"""Double precision sums the same numbers in another order."""

METHODS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "toponas": ("toponas", {}, {"warmup_epochs": 1}),
    "cbo": ("cbo", {"preset": "v1"}, {"admm_period": 2, "threshold_growth": 2.0}),
    "second order": ("darts", {}, {"hypergradient": "finite"}),
    "exact": ("darts", {}, {"hypergradient": "exact"}),
    "noise": ("drnas", {}, {"warmup_epochs": 1}),
    "one loss": ("snas", {}, {}),
    "drawn": ("gdas", {}, {}),
}
"""Method, what is compiled, what else is set."""


@cache
def program(name: str) -> Program:
    method, given, _ = METHODS[name]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.nas"
        path.write_text(SPACE)
        return nasdsl.load(path).compile(method, settings=given)


def supernet(name: str) -> SupernetBase:
    net = program(name).supernet(seed=0).double()
    assert isinstance(net, SupernetBase)
    return net


def settings(name: str, **changes: Any) -> dict[str, Any]:
    more = {"epochs": STEPS // EPOCH, "hessian_iterations": 2, "arch_lr": 0.02, **METHODS[name][2]}
    return {**program(name).compilation.settings, **more, **changes}


def images(number: int, size: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(number)
    x = torch.randn(size, 1, 8, 8, generator=generator, dtype=torch.float64)
    return x, torch.randint(10, (size,), generator=generator)


def rows(batch: tuple[Tensor, Tensor], team: Team) -> tuple[Tensor, Tensor]:
    return batch[0][team.rows], batch[1][team.rows]


State = dict[str, Tensor]


def searched(
    team: Team, name: str, steps: int = STEPS, synced: bool = True, spoil: int = -1, **changes: Any
) -> tuple[State, list[float], dict[str, Any]]:
    """The state, the losses and the last measurement of a search; rank 1 moves a variable before step `spoil`."""
    torch.manual_seed(0)
    net = supernet(name)
    engine = Engine(net, settings(name, **changes), seed=0, team=team)
    if synced:
        synchronise(net, team)
    losses: list[float] = []
    measured: dict[str, Any] = {}
    for number in range(steps):
        if number % EPOCH == 0:
            engine.begin(number // EPOCH)
        if number == spoil and team.rank == 1:
            with torch.no_grad():
                net.architecture_parameters()[0].view(-1)[0] += 1e-9
        train, valid = rows(images(2 * number), team), rows(images(2 * number + 1), team)
        for turn in engine.turns(number % EPOCH / EPOCH):
            if turn == "weights":
                losses.append(float(engine.weight_step(train)))
            elif turn == "variables":
                losses.append(float(engine.variable_step(valid, train)))
            else:
                losses.append(float(engine.joint_step(train)))
        engine.settle()
        if number % EPOCH == EPOCH - 1:
            engine.agree()
            measured = engine.measure([images(1000), images(1001)])
    return dict(net.state_dict()), losses, measured


def distance(one: State, two: State) -> float:
    return max(float((value.double() - two[name].double()).abs().max()) for name, value in one.items())


def same(one: State, two: State) -> bool:
    return all(torch.equal(value, two[name]) for name, value in one.items())


@pytest.mark.parametrize("name", thinned(METHODS, 3))
def test_two_processes_search_as_one(name: str) -> None:
    steps = STEPS if name in ("toponas", "cbo", "second order") else EPOCH
    state, losses, measured = searched(ALONE, name, steps)
    (first, found, looked), (second, _, _) = together(2, lambda team: searched(team, name, steps))
    assert same(first, second)
    assert distance(state, first) < CLOSE
    assert found == pytest.approx(losses, abs=CLOSE)
    assert looked == pytest.approx(measured, abs=1e-6)


def test_micro_batches_of_two_processes_are_those_of_one() -> None:
    state, _, _ = searched(ALONE, "second order", EPOCH, hypergradient="first", accumulate=2)
    (first, _, _), _ = together(
        2, lambda team: searched(team, "second order", EPOCH, hypergradient="first", accumulate=2)
    )
    assert distance(state, first) < CLOSE


def test_without_synchronised_batch_norm_processes_agree_and_differ_from_one() -> None:
    state, _, _ = searched(ALONE, "toponas", EPOCH)
    (first, _, _), (second, _, _), (third, _, _), (fourth, _, _) = together(
        4, lambda team: searched(team, "toponas", EPOCH, synced=False)
    )
    assert all(same(first, other) for other in (second, third, fourth))
    assert distance(state, first) > 1e-4


# --- one that parts from the others ----------------------------------------------


def test_a_process_that_parted_is_named() -> None:
    """By a billionth of one variable; all processes end with the same words."""
    ends = together(2, lambda team: searched(team, "toponas", EPOCH, spoil=4))
    assert ends[0] == ends[1]
    kind, text = ends[0]
    assert kind == "Mistake"
    assert text.startswith("rank 1 has another value of `")
    assert "the same command again" in text


def test_the_name_is_that_of_the_tensor_and_of_the_minority() -> None:
    def work(team: Team) -> Any:
        team.agree(["a", "b"], [torch.ones(2), torch.full((3,), 5.0 + (team.rank == 0))])

    for _, text in together(3, work):
        assert text.startswith("rank 0 has another value of `b` than")


def test_gradients_of_other_shapes_are_no_deadlock() -> None:
    def work(team: Team) -> Any:
        team.mean_([torch.ones(2)] * (1 + team.rank))

    ends = together(2, work)
    assert ends[0] == ends[1]
    assert ends[0][0] == "Mistake"
    assert "rank 1 has gradients of 2 tensors" in ends[0][1]


def test_a_process_that_ended_is_noticed() -> None:
    def work(team: Team) -> Any:
        if team.rank == 1:
            raise Mistake("a file is missing")
        team.mean_([torch.ones(2)])

    first, second = together(2, work)
    assert second == ("Mistake", "a file is missing")
    assert first[0] == "Mistake"
    assert "process 0 of 2 lost the others" in first[1]


# --- what processes tell each other -----------------------------------------------


def test_what_comes_back_is_the_same_everywhere() -> None:
    batch = torch.arange(12.0).view(6, 2)

    def work(team: Team) -> Any:
        own = batch[team.rows]
        means = team.means(
            [torch.full((2, 2), float(team.rank)), torch.tensor([team.rank * 3.0], dtype=torch.float64)]
        )
        made = team.once(lambda: {"rank": team.rank})
        return {
            "gather": team.gather(own),
            "head": team.head(own, 4),
            "means": means,
            "decide": team.decide(f"of {team.rank}"),
            "made": made,
            "most": team.most(team.rank),
            "total": team.total(1, team.rank),
            "turn": team.in_turn(lambda: team.rank),
        }

    ends = together(3, work)
    for rank, found in enumerate(ends):
        assert torch.equal(found["gather"], batch)
        assert torch.equal(found["head"], batch[:4])
        assert torch.equal(found["means"][0], torch.ones(2, 2))
        assert found["means"][1].tolist() == [3]
        assert (found["decide"], found["made"], found["most"]) == ("of 0", {"rank": 0}, 2)
        assert found["total"] == (3, 3)
        assert found["turn"] == rank


def test_a_mistake_of_the_first_process_is_one_of_all() -> None:
    def work(team: Team) -> Any:
        def make() -> None:
            raise WrongUse(f"rank {team.rank} cannot")

        team.once(make)

    assert together(2, work) == [("WrongUse", "rank 0 cannot")] * 2


def test_alone_nothing_is_started_and_everything_comes_back() -> None:
    x = torch.ones(3)
    assert ALONE.gather(x) is x
    assert ALONE.means([x])[0] is x
    assert ALONE.decide(x) is x
    assert ALONE.total(4) == (4,)
    assert not torch.distributed.is_initialized()


# --- batch norm --------------------------------------------------------------------


class _Mixed(nn.Module):
    """A plain term and two that are normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = NormalisedMix(4, 4, 2)
        self.weights = nn.Parameter(torch.tensor([0.5, 1.5, -0.7]))

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.mix(self.weights.unbind(), (x,), (x * x, x + 3.0))
        return made


NORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "1d": (lambda: nn.BatchNorm1d(4), (8, 4)),
    "2d": (lambda: nn.BatchNorm2d(4, affine=False), (8, 4, 3, 3)),
    "cumulative": (lambda: nn.BatchNorm2d(4, momentum=None), (8, 4, 3, 3)),
    "without statistics": (lambda: nn.BatchNorm2d(4, track_running_stats=False), (8, 4, 3, 3)),
    "elastic": (lambda: ElasticBatchNorm(6), (8, 4, 3, 3)),
    "pointwise": (lambda: PointwiseNorm(4, 3, bias=True, relu=True), (8, 4, 3, 3)),
    "mix": (_Mixed, (8, 4, 3, 3)),
}


def looked_at(team: Team, name: str) -> dict[str, Any]:
    """Outputs, statistics, gradients and second derivatives of a norm that sees shifted images."""
    make, shape = NORMS[name]
    torch.manual_seed(0)
    norm = make().double()
    synchronise(norm, team)
    x = (torch.randn(shape, dtype=torch.float64) + 7.0)[team.rows].requires_grad_()
    target = torch.randn(shape[0], dtype=torch.float64)[team.rows]
    learned = list(norm.parameters())
    with twice():
        y = norm(x).tanh()
        loss = (y.flatten(1).sum(1) * target).square().mean()
        first = torch.autograd.grad(loss, [x, *learned], create_graph=True)
        # Gradients of the mean over all rows, and a function of them that does not depend on who has which rows.
        whole = [summed(g, team) / team.world for g in first[1:]]
        bent = sum(g.square().sum() for g in whole) if learned else first[0].square().sum() / team.world
        (second,) = torch.autograd.grad(bent, [x])
    return {
        "y": team.gather(y),
        "state": dict(norm.state_dict()),
        "dx": team.gather(first[0]) / team.world,
        "dw": team.means([g.detach() for g in first[1:]]),
        "ddx": team.gather(second) / team.world,
        "evaluated": norm.eval()(torch.ones(shape, dtype=torch.float64)),
    }


@pytest.mark.parametrize("name", NORMS)
def test_batch_norm_sees_the_rows_of_all_processes(name: str) -> None:
    one = looked_at(ALONE, name)
    first, second = together(2, lambda team: looked_at(team, name))
    assert same(first["state"], second["state"])
    assert distance(one["state"], first["state"]) < CLOSE
    for key in ("y", "dx", "evaluated"):
        torch.testing.assert_close(first[key], one[key], rtol=0, atol=CLOSE)
    torch.testing.assert_close(first["ddx"], one["ddx"], rtol=CLOSE, atol=CLOSE)  # thousands
    for found, wanted in zip(first["dw"], one["dw"], strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=CLOSE)


def test_a_batch_norm_of_another_sort_is_refused() -> None:
    team = Team(rank=0, world=2)
    with pytest.raises(Mistake, match="0 is a BatchNorm3d"):
        synchronise(nn.Sequential(nn.BatchNorm3d(2)), team)


def test_a_copy_of_a_network_belongs_to_the_same_processes() -> None:
    team = Team(rank=0, world=2)
    net = nn.Sequential(nn.BatchNorm2d(2))
    synchronise(net, team)
    assert copy.deepcopy(net)[0].team is team


# --- single paths ------------------------------------------------------------------


def trained(
    team: Team, method: str, epochs: int = 4, **changes: Any
) -> tuple[State, list[float], Any, float]:
    torch.manual_seed(0)
    net = small.supernet()
    made = small.settings_of(method, epochs=epochs, **changes)
    engine = PathEngine(net, made, small.drawn(net), small.CLASSES, team=team)
    synchronise(net, team)
    losses = []
    for epoch in range(epochs):
        engine.begin(epoch)
        for step in range(EPOCH):
            batch = rows(small.batch(epoch * EPOCH + step), team)
            losses.append(float(engine.step(batch, step / EPOCH)))
        engine.agree()
    judge = Judge(
        net, [small.batch(i) for i in (90, 91, 92)], [small.batch(i) for i in (80, 81, 82)], team=team
    )
    judged = judge.accuracy(small.OTHER)
    state = dict(net.state_dict())
    if engine.matching is not None:
        state |= {f"meta.{name}": value for name, value in engine.matching.network.state_dict().items()}
    return state, losses, engine.record(), judged


@pytest.mark.parametrize(
    ("method", "changes"),
    [("cream", {}), ("cream", {"legacy": True}), ("sandwich", {"sampler": "sandwich", "paths": 3})],
)
def test_two_processes_train_the_same_paths_as_one(method: str, changes: dict[str, Any]) -> None:
    state, losses, record, judged = trained(ALONE, method, **changes)
    (first, found, noted, looked), (second, _, again, _) = together(
        2, lambda team: trained(team, method, **changes)
    )
    assert same(first, second)
    assert noted == again
    assert distance(state, first) < 1e-8
    assert found == pytest.approx(losses, abs=1e-8)
    assert noted == record
    assert looked == judged
    if method == "cream":
        assert record["board"]


# --- batches and random numbers ------------------------------------------------------


def some_data(kind: torch.dtype = torch.uint8) -> Data:
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(0, 255, (24, 1, 8, 8), generator=generator, dtype=torch.uint8).to(kind)
    split = Split(x, torch.arange(24) % 10)
    return Data(split, split, torch.zeros(1, 1, 1), torch.ones(1, 1, 1), True, ())


def streams(team: Team, **given: Any) -> Stream:
    data = some_data()
    return Stream(data.train, data, 8, 0, "train", pad=2, flip=True, team=team, **given)


@pytest.mark.parametrize("given", [{}, {"cutout": 3}, {"randaugment": "rand-m9-mstd0.5"}, {"erasing": 0.9}])
def test_the_rows_of_all_processes_are_the_batch_of_one(given: dict[str, Any]) -> None:
    if {"randaugment", "erasing"} & set(given) and importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    whole = streams(ALONE, **given)
    parts = [streams(Team(rank, 4), **given) for rank in range(4)]
    for _ in range(4):  # into the second epoch
        x, y = whole.next()
        for rank, part in enumerate(parts):
            own_x, own_y = part.next()
            assert torch.equal(own_x, x[rank::4])
            assert torch.equal(own_y, y[rank::4])


def test_images_of_other_rows_are_not_decoded(tmp_path: Path) -> None:
    """Whole batches and those of two processes, one of which would not find the files of the other."""
    for number in range(8):
        pixels = numpy.random.RandomState(number).randint(0, 255, (12, 12, 3), dtype=numpy.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    files = numpy.array([str(tmp_path / f"{number}.png").encode() for number in range(8)])
    pictures = Pictures(files, (3, 8, 8), "bilinear", 0)

    def batch(rows: slice) -> Any:
        return Batches(pictures, torch.arange(8), 8, 0, "train", True, True, None, rows)[0]

    x, y = batch(slice(0, None, 1))
    first, second = (batch(slice(rank, None, 2)) for rank in range(2))
    for rank, (own_x, own_y) in enumerate((first, second)):
        assert torch.equal(own_x, x[rank::2])
        assert torch.equal(own_y, y[rank::2])
    for number in second[1].tolist():
        (tmp_path / f"{number}.png").unlink()
    assert torch.equal(batch(slice(0, None, 2))[0], first[0])


def test_a_batch_that_cannot_be_divided_is_refused_with_one_that_can() -> None:
    with pytest.raises(
        WrongUse, match="a batch of 8 cannot be divided among 3 processes: --set batch_size=6"
    ):
        streams(Team(0, 3))


def drawn(team: Team) -> dict[str, Any]:
    torch.manual_seed(5)
    draws = Draws(team, 5)
    seen: dict[str, Any] = {}
    with draws.own("weights", 1):
        seen["own"] = torch.rand(3)
        with draws.agreed():
            seen["agreed"] = torch.rand(3)
        seen["more"] = torch.rand(3)
        with draws.kept(), torch.random.fork_rng(devices=[]), draws.agreed():
            seen["kept"] = torch.rand(3)
        with draws.agreed():
            seen["again"] = torch.rand(3)
    with draws.own("weights", 2):
        seen["next"] = torch.rand(3)
    seen["after"] = torch.rand(3)
    return seen


def test_examples_draw_for_themselves_and_variables_draw_alike() -> None:
    first, second = (drawn(Team(rank, 2)) for rank in range(2))
    for name in ("own", "more", "next"):
        assert not torch.equal(first[name], second[name])
    for name in ("agreed", "kept", "again", "after"):
        assert torch.equal(first[name], second[name])
    assert torch.equal(first["kept"], first["again"])
    assert not torch.equal(first["own"], first["next"])
    torch.manual_seed(5)
    alone = [torch.rand(3) for _ in range(3)]
    assert torch.equal(first["agreed"], alone[0])
    assert torch.equal(first["again"], alone[1])
    assert torch.equal(first["after"], alone[2])


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield
