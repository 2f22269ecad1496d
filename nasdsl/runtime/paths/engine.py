"""Training a supernet of single paths.

Takes batches, returns losses; the script that uses it holds the order of the loop. Invariant:
everything that a later step depends on is in `state_dict`, so a run that is continued takes the steps
that it would have taken, whatever the number of processes; a step moves the tensors that its paths run and
no others. Of a tensor that a path uses a part of, momentum and decay move the whole, as in the published
code of elastic supernets.

Sources: SPOS (Guo et al., ECCV 2020), FairNAS (Chu et al., ICCV 2021), the sandwich rule with in-place
distillation (BigNAS, ECCV 2020; AttentiveNAS's code), Cream (NeurIPS 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasdsl.runtime.paths.board import Board, Entry
from nasdsl.runtime.paths.choices import Choices
from nasdsl.runtime.paths.matching import Batch, Matching, probabilities, soft_cross_entropy
from nasdsl.runtime.paths.released import Released
from nasdsl.runtime.paths.sampling import Draw, Sandwich, make_sampler
from nasdsl.runtime.paths.supernet import PathSupernet
from nasdsl.runtime.standalone.basics import Mistake
from nasdsl.runtime.standalone.draws import Draws
from nasdsl.runtime.standalone.recipe import decay_groups, make_sgd
from nasdsl.runtime.standalone.team import ALONE, Team


class PathEngine:
    """See the module.

    Attributes:
        board: Cream's prioritised paths; None for other methods.
        optimizer: of the weights.
        team: the processes that train together, each with its rows of a batch. They draw the same paths.
    """

    def __init__(
        self,
        net: PathSupernet,
        settings: Mapping[str, Any],
        draw: Draw,
        classes: int,
        cast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        team: Team = ALONE,
        seed: int = 0,
    ) -> None:
        s = settings
        self.net, self.settings, self.draw, self.cast = net, s, draw, cast
        self.team, self.draws = team, Draws(team, seed)
        self.sampler = make_sampler(s, draw)
        decay = s["weight_decay"]
        parameters = net.parameters() if s["decay_norms"] else decay_groups(net, decay)
        self.optimizer = make_sgd(parameters, s["weight_lr"], s["weight_momentum"], decay, s["nesterov"])
        self.board: Board | None = None
        self.matching: Matching | None = None
        if s["distillation"] == "board":
            if s["batch_size"] < 2 * s["board_images"]:
                raise Mistake(
                    f"batch_size must be {2 * s['board_images']} at least: two halves of board_images"
                )
            self.board = Board(s["board_size"], s["board_margin"], repeats=s["legacy"])
            shape = (net, s["board_images"], classes, s["meta_lr"])
            self.matching = Released(*shape, self.optimizer, team) if s["legacy"] else Matching(*shape, team)
        if s["distillation"] == "inplace" and not isinstance(self.sampler, Sandwich):
            raise Mistake("distillation=inplace needs sampler=sandwich: the largest path teaches")
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.start = _last_alone(s)
        self.steps = 0
        self.epoch = 0

    # --- the loop ------------------------------------------------------------

    def begin(self, epoch: int) -> None:
        """Sets what holds for an epoch, from 0."""
        self.epoch = epoch
        self.net.train()

    def step(self, batch: Batch, done: float) -> Tensor:
        """One step of the weights on the paths that are drawn; returns the mean loss, shape ().

        Args:
            done: part of the epoch that is over, 0 to 1.
        """
        self._rate((self.epoch + done) / self.settings["epochs"])
        paths = self.sampler.next()
        with self.draws.own(self.steps):
            if self.board is not None:
                loss = torch.stack([self._taught_step(path, batch) for path in paths]).mean()
            else:
                loss = self._plain_step(paths, batch)
        self.steps += 1
        return loss

    def _rate(self, position: float) -> None:
        """Linear to zero over the whole run, each step."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * (1.0 - position)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=self.settings["smoothing"])

    def _descend(self, loss: Tensor) -> Tensor:
        """The step of the optimiser; returns the loss of the whole batch."""
        learned = [p for group in self.optimizer.param_groups for p in group["params"]]
        loss = self.team.reduced(self.net, learned, loss)
        if self.settings["clip"] > 0:
            moved = [p for p in self.net.parameters() if p.grad is not None]
            nn.utils.clip_grad_norm_(moved, self.settings["clip"])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def _plain_step(self, paths: list[Choices], batch: Batch) -> Tensor:
        """The gradients of all paths on one batch, summed (uniform and bins: averaged), then one step."""
        x, y = batch
        share = 1.0 if self.settings["sampler"] in ("fair", "sandwich") else 1.0 / len(paths)
        taught: Tensor | None = None
        losses = []
        for path in paths:
            self.net.set_architecture(path)
            with self.cast():
                logits = self.net(self.net.fit(x))
                loss = self._loss(logits, y) if taught is None else soft_cross_entropy(logits, taught)
            (share * loss).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            if taught is None and self.settings["distillation"] == "inplace":
                taught = probabilities(logits.detach())
        return self._descend(torch.stack(losses).mean())

    # --- Cream ---------------------------------------------------------------

    @property
    def teachers(self) -> list[Choices]:
        """The paths on the board, the best first; none for other methods."""
        return [] if self.board is None else [e.choices for e in self.board.entries]

    @property
    def teaching(self) -> bool:
        """Whether somebody can teach: nobody is on the board before it opens."""
        return bool(self.teachers)

    def _cream(self) -> tuple[Board, Matching]:
        if self.board is None or self.matching is None:
            raise TypeError("only with a board")
        return self.board, self.matching

    def _taught_step(self, path: Choices, batch: Batch) -> Tensor:
        """One step on one path: L = (rho CE(teacher, f) + (2 - rho) CE(labels, f)) / 2."""
        (board, matching), s = self._cream(), self.settings
        x, y = batch
        lesson: Tensor | None = None
        teacher: tuple[int, Tensor] | None = None
        if self.teaching:
            if s["meta"] != "off" and self.steps % s["meta_interval"] == 0:
                groups = self.optimizer.param_groups[:1], matching.optimizer.param_groups[-1:]
                (group,) = groups[s["meta_rate"] == "meta"]
                first = self.team.head(x, 2 * matching.count), self.team.head(y, 2 * matching.count)
                with self.draws.agreed():
                    matching.meta_step(board, path, first, group["lr"], s["meta"], self._loss)
            with self.draws.agreed():
                teacher = matching.teacher(board, path)
        self.net.set_architecture(path)
        with self.cast():
            logits = self.net(self.net.fit(x))
            loss = self._loss(logits, y)
            if teacher is not None:
                number, rho = teacher
                lesson = matching.lesson(board, number, x)
                loss = matching.total(rho, soft_cross_entropy(logits, lesson), loss)
                self.net.set_architecture(path)
        loss.backward()  # type: ignore[no-untyped-call]
        loss = self._descend(loss.detach())
        if self.epoch > self.start:
            self._offer(path, batch, logits.detach(), lesson)
        return loss

    def _offer(self, path: Choices, batch: Batch, logits: Tensor, lesson: Tensor | None) -> None:
        board, matching = self._cream()
        x, y = batch
        n = self.settings["board_images"]
        right, count = self.team.total(int((logits.argmax(1) == y).sum()), len(y))
        stored = self.team.head(matching.stored(probabilities(logits), lesson), n)
        images = self.team.head(x, n)
        cost = self.draw.cost(path)
        board.offer(
            Entry(100.0 * right / count, cost, self.steps, dict(path), images.clone(), stored.clone())
        )

    # --- records -------------------------------------------------------------

    def agree(self) -> None:
        """Raises Mistake on every process unless supernet, board and meta-network are the same on all."""
        state: dict[str, Tensor] = dict(self.net.state_dict())
        board, matching = self.board, self.matching
        if board is not None and matching is not None:
            state |= {f"meta.{name}": tensor for name, tensor in matching.network.state_dict().items()}
            for place, entry in enumerate(board.entries):
                state[f"board[{place}]"] = torch.tensor([entry.accuracy, entry.number], dtype=torch.float64)
                state[f"board[{place}].probabilities"] = entry.probabilities
        self.team.agree(list(state), list(state.values()))

    def record(self) -> dict[str, Any]:
        """What an epoch's line of the log says beside the losses."""
        entry: dict[str, Any] = {"learning_rate": self.optimizer.param_groups[0]["lr"]}
        if self.board is not None:
            entry["board"] = self.board.record()
        return entry

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, beside the supernet."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "draw": self.draw.state_dict(),
            "steps": self.steps,
            "board": None if self.board is None else self.board.state_dict(),
            "matching": None if self.matching is None else self.matching.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.draw.load_state_dict(state["draw"])
        self.steps = state["steps"]
        if self.board is not None and self.matching is not None:
            self.board.load_state_dict(state["board"])
            self.board.to(next(self.net.parameters()).device)
            self.matching.load_state_dict(state["matching"])


def _last_alone(settings: Mapping[str, Any]) -> int:
    """The last epoch, from 0, without board and teachers: the paper's, or what is half of all epochs."""
    asked: int = settings["meta_start"]
    last: int = min(asked, settings["epochs"] // 2 - 1)
    if last < asked and settings["distillation"] == "board":
        print(
            f"the board opens after {last + 1} epochs instead of {asked + 1}: there are {settings['epochs']}"
        )
    return last


__all__ = ["PathEngine"]
