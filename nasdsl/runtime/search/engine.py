"""One search by gradients: both optimisers, the schedule, the penalties, the instruments.

Takes a supernet and settings, returns losses and records; the script that uses it holds the order of
the loop. Invariant: everything that a later step depends on is in `state_dict`, so a run that is
continued takes the steps that it would have taken, whatever the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasdsl.runtime.activation import concentration, mean_weights
from nasdsl.runtime.projection import project
from nasdsl.runtime.rows import parameters_of
from nasdsl.runtime.search import bilevel
from nasdsl.runtime.search.bilevel import Batch
from nasdsl.runtime.search.captured import Captured, TensorSteps
from nasdsl.runtime.search.hypergradient import Unrolled
from nasdsl.runtime.search.instruments import Instruments, batch_accuracy
from nasdsl.runtime.search.regularise import Admm, beta_decay, dirichlet_kl, proximity, resource
from nasdsl.runtime.search.schedule import Alternate, Informed, fisher_trace
from nasdsl.runtime.search.stopping import EarlyStop
from nasdsl.runtime.standalone.basics import cosine, stable_seed
from nasdsl.runtime.standalone.draws import Draws
from nasdsl.runtime.standalone.team import ALONE, Team
from nasdsl.runtime.supernet import Choices, SupernetBase
from nasdsl.runtime.topology import Regulariser, temperature_at


class Penalties:
    """What is added to the loss of the variables; each part is there if its setting says so.

    Attributes:
        epoch: of the search, from 0.
        position: how much of the search is over, 0 to 1.
    """

    def __init__(self, net: SupernetBase, settings: Mapping[str, Any]) -> None:
        self.net, self.settings = net, settings
        self.groups, self.nodes = net.groups(), net.topology()
        self.matrices = parameters_of(self.groups)
        self.epoch, self.position = 0, 0.0
        self.regulariser = Regulariser.from_settings(settings) if self.nodes else None
        self.legacy = settings["projection"] == "legacy"
        self.admm: Admm | None = None
        if settings["admm"]:
            self.admm = Admm(
                tuple(self.groups),
                self.weights_of,
                settings["admm_weight"],
                settings["constraint_norm"],
                settings["admm_period"],
                dual=settings["admm_dual"],
                legacy=self.legacy,
            )

    def weights_of(self, parameter: nn.Parameter, values: Tensor) -> Tensor:
        """The weights of values that stand in the place of a matrix, (R, K), chance left out."""
        return mean_weights(self.net.ACTIVATION, values, self.net.pruned().get(parameter))

    def total(self) -> Tensor | None:
        """The sum of all parts, shape (); None where there is none."""
        s = self.settings
        read = s["proximity"] != "off" or self.admm is not None or s["resource_weight"]
        weights = {p: self.weights_of(p, p) for p in self.matrices} if read else {}
        parts = []
        if self.regulariser is not None:
            parts.append(self.regulariser.loss(self.nodes, self.net.temperature))
        if s["proximity"] != "off":
            target = project(self.groups, weights, self.net.pruned(), legacy=self.legacy)
            form, norm = s["proximity"], s["constraint_norm"]
            parts.append(proximity(weights, target, self.position, s["proximity_weight"], form, norm))
        if self.admm is not None:
            parts.append(self.admm.penalty(weights, self.net.pruned()))
        if s["beta_decay"]:
            parts.append(s["beta_decay"] * self.epoch * beta_decay(self.matrices))
        if s["resource_weight"]:
            parts.append(s["resource_weight"] * resource(self.groups, weights))
        if s["dirichlet_kl"]:
            parts.append(s["dirichlet_kl"] * dirichlet_kl(self.matrices, concentration))
        found = [p for p in parts if p is not None]
        return torch.stack(found).sum() if found else None

    def stepped(self) -> None:
        """After a step of the variables: the passive-aggressive one, where that is the form."""
        if self.regulariser is not None:
            self.regulariser.step(self.nodes, self.net.temperature)


class Engine:
    """See the module.

    Attributes:
        weights, variables: the optimisers.
        warmup: epochs of weight steps only.
        team: the processes that search together, each with its rows of a batch.
        steps: pairs of batches so far.
    """

    def __init__(
        self,
        net: SupernetBase,
        settings: Mapping[str, Any],
        cast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        seed: int = 0,
        team: Team = ALONE,
    ) -> None:
        self.net, self.settings, self.cast, self.team = net, settings, cast, team
        self.draws = net.draws = Draws(team, seed)
        self.steps = 0
        self.weights = bilevel.weight_optimizer(net, settings)
        self.variables = bilevel.variable_optimizer(net, settings)
        self.warmup = bilevel.warmup_length(settings)
        self.schedule: Alternate | Informed
        if settings["schedule"] == "informed":
            self.schedule = Informed(
                settings["weight_steps"], settings["threshold_growth"], settings["fisher_smoothing"]
            )
        else:
            self.schedule = Alternate(int(settings["weight_steps"]))
        self.penalties = Penalties(net, settings)
        self.instruments = _instruments(net, settings, self.warmup, seed, team)
        self.epoch = 0
        self._graphs: Captured | None = None
        self._stepped = False

    def capture(self) -> None:
        """Both steps as CUDA graphs from now on; call it after a run was resumed."""
        steps = TensorSteps(self.net, self.weights, self.variables, self.settings, self.cast)
        self._graphs = Captured(steps)

    # --- the loop ------------------------------------------------------------

    def begin(self, epoch: int) -> None:
        """Sets what holds for an epoch, from 0: rates, temperatures, strengths."""
        s, net = self.settings, self.net
        position = epoch / s["epochs"]
        self.epoch = self.penalties.epoch = epoch
        self.weights.param_groups[0]["lr"] = cosine(s["weight_lr"], s["weight_lr_min"], position)
        net.temperature = _temperature(s, "", epoch)
        net.noise_temperature = _temperature(s, "noise_", epoch)
        regulariser = self.penalties.regulariser
        if regulariser is not None:
            regulariser.set_epoch(epoch - self.warmup)
        if self._graphs is not None:
            strength = 1.0 if regulariser is None else regulariser.strength
            self._graphs.set(self.weights.param_groups[0]["lr"], net.temperature, strength)
        net.train()

    def turns(self, done: float) -> tuple[str, ...]:
        """Who steps on the next pair of batches: `weights`, `variables`, in order, or `both` at once.

        Args:
            done: part of the epoch that is over, 0 to 1.
        """
        self.penalties.position = (self.epoch + done) / self.settings["epochs"]
        self._stepped = False
        self.steps += 1
        if self.epoch < self.warmup:
            return ("weights",)
        if self.settings["level"] == "single":
            self.schedule.decided(True)
            return ("both",)
        due = self.schedule.due()
        self.schedule.decided(due)
        order = bilevel.TURNS[self.settings["order"]]
        return order if due else ("weights",)

    def weight_step(self, batch: Batch) -> Tensor:
        """One step of the weights; returns the loss, shape ()."""
        if self._graphs is not None:
            return self._graphs.weight_step(batch)
        s = self.settings
        with self.draws.own("weights", self.steps):
            return bilevel.weight_step(
                self.net,
                batch,
                self.weights,
                clip=s["clip"],
                cast=self.cast(),
                accumulate=s["accumulate"],
                watch=self._watch if isinstance(self.schedule, Informed) else None,
                team=self.team,
            )

    def variable_step(self, valid: Batch, train: Batch) -> Tensor:
        """One step of the variables; returns the loss, shape ().

        Args:
            train: the batch of the weights, which second order unrolls one step on.
        """
        self._stepped = True
        if self._graphs is not None:
            return self._graphs.architecture_step(valid)
        s = self.settings
        with self.draws.own("variables", self.steps):
            if s["hypergradient"] == "first":
                loss = bilevel.architecture_step(
                    self.net,
                    valid,
                    self.variables,
                    penalty=self.penalties.total(),
                    cast=self.cast(),
                    accumulate=s["accumulate"],
                    team=self.team,
                )
            else:
                loss = self._unrolled_step(valid, train)
        self.penalties.stepped()
        return loss

    def joint_step(self, batch: Batch) -> Tensor:
        """One step of both on one batch; returns the loss, shape ()."""
        self._stepped = True
        s = self.settings
        with self.draws.own("both", self.steps):
            loss = bilevel.joint_step(
                self.net,
                batch,
                self.weights,
                self.variables,
                penalty=self.penalties.total(),
                clip=s["clip"],
                cast=self.cast(),
                accumulate=s["accumulate"],
                team=self.team,
            )
        self.penalties.stepped()
        return loss

    def settle(self) -> None:
        """After both turns: prunes operations, and where they are due updates dual variables."""
        self.net.prune()
        if self._stepped and self.penalties.admm is not None:
            self.penalties.admm.step(self.net.pruned())

    def _unrolled_step(self, valid: Batch, train: Batch) -> Tensor:
        s, variables = self.settings, self.net.architecture_parameters()
        radius = s["finite_radius"]
        unrolled = Unrolled(self.net, self.weights, F.cross_entropy, self.cast, radius, self.team)
        loss, gradients = unrolled.gradients(train, valid, s["hypergradient"])
        penalty = self.penalties.total()
        if penalty is not None:
            more = torch.autograd.grad(penalty, variables, allow_unused=True, materialize_grads=True)
            gradients = [g + m for g, m in zip(gradients, more, strict=True)]
        for parameter, gradient in zip(variables, gradients, strict=True):
            parameter.grad = gradient
        self.variables.step()
        self.variables.zero_grad(set_to_none=True)
        return loss

    def _watch(self, parameters: Sequence[nn.Parameter]) -> None:
        if isinstance(self.schedule, Informed):
            self.schedule.observe(float(fisher_trace(parameters)))

    # --- records -------------------------------------------------------------

    def agree(self) -> None:
        """Raises Mistake on every process unless supernet, dual variables and schedule are the same on all."""
        state: dict[str, Tensor] = dict(self.net.state_dict())
        admm = self.penalties.admm
        if admm is not None:
            state |= {f"admm.z.{i}": z for i, z in enumerate(admm.z.values())}
            state |= {f"admm.u.{i}": u for i, u in enumerate(admm.u.values())}
        schedule = list(self.schedule.state_dict().values())
        state["schedule"] = torch.tensor(schedule, dtype=torch.float64)
        self.team.agree(list(state), list(state.values()))

    def measure(self, held_out: Sequence[Batch]) -> dict[str, float]:
        """The instruments after an epoch, and what the schedule decided; see `Instruments`."""
        record = self.instruments.measure(self.epoch + 1, held_out, self.epoch >= self.warmup)
        record["variable_rate"] = self.schedule.rate
        if isinstance(self.schedule, Informed):
            record["schedule_threshold"], record["fisher_trace"] = self.schedule.theta, self.schedule.mean
        alive = list(self.net.pruned().values())
        if alive:
            record["pruned"] = float(sum(int((~a).sum()) for a in alive))
        return record

    @property
    def reason_to_stop(self) -> str | None:
        """Why the search is to stop early, in words; None where it is to go on."""
        return self.instruments.stop.reason

    def found(self) -> Choices:
        """The architecture that the search ends with."""
        return dict(self.instruments.stop.best) if self.reason_to_stop else self.net.derive()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, beside the supernet."""
        admm = self.penalties.admm
        return {
            "steps": self.steps,
            "weights": self.weights.state_dict(),
            "variables": self.variables.state_dict(),
            "schedule": self.schedule.state_dict(),
            "admm": None if admm is None else admm.state_dict(),
            "instruments": self.instruments.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.steps = state["steps"]
        self.weights.load_state_dict(state["weights"])
        self.variables.load_state_dict(state["variables"])
        self.schedule.load_state_dict(state["schedule"])
        if self.penalties.admm is not None:
            self.penalties.admm.load_state_dict(state["admm"])
        self.instruments.load_state_dict(state["instruments"])


def _temperature(settings: Mapping[str, Any], prefix: str, epoch: int) -> float:
    name = f"{prefix}temperature"
    start, end, schedule = (settings[name + tail] for tail in ("", "_end", "_schedule"))
    return temperature_at(schedule, start, end, epoch, settings["epochs"])


def _instruments(
    net: SupernetBase, settings: Mapping[str, Any], warmup: int, seed: int, team: Team
) -> Instruments:
    choices = [d for d in net.DECISIONS if d["kind"] == "op" and d.get("parameter") is not None]
    rule = settings["early_stop"]
    first = max(warmup + 1, 11) if rule == "eigenvalue" else warmup + 1
    return Instruments(
        net,
        {d["path"]: frozenset(d["skips"]) for d in choices},
        torch.Generator().manual_seed(stable_seed(seed, "instruments")),
        EarlyStop(rule, start=first),
        accuracy=partial(batch_accuracy, team=team),
        iterations=settings["hessian_iterations"],
        learnable={d["path"]: frozenset(d["learnable"]) for d in choices},
        team=team,
    )


__all__ = ["Engine", "Penalties"]
