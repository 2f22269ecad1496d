"""Scores of many architectures: each network once, in parallel, kept as they come.

Takes a recipe and choices, returns scores in the order asked. Invariant: two encodings of one network
(`Population.fingerprint`) are evaluated once (but where scores are only looked up), in this run and in any
other with the same cache file; a score is in the file before the next one is waited for; which worker was
faster changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from nasdsl.errors import UserError
from nasdsl.scoring.cache import Cache, hashed, text_of
from nasdsl.scoring.engines import ENGINES, Crew, Outcome, crew
from nasdsl.scoring.sources import Choices, Recipe
from nasdsl.space.architecture import Architecture, check_choices

if TYPE_CHECKING:
    from nasdsl.api import Space

Progress = Callable[[int, int], object]


class Pool:
    """Workers and a cache; close it, or use it in a `with`.

    Attributes:
        space: of the architectures.
        evaluations: distinct architectures that were evaluated by this pool.
        known: distinct architectures, of each call, whose score was there already.

    Args:
        workers: processes, or with `engine="ray"` tasks at a time; one of `local` is this process.
        cache: a file that is read and added to; None keeps scores in memory.
        space: the recipe's, where it is loaded already.
        progress: is told, after every evaluation, how many of how many of a call are done.

    Raises:
        UserError: for a space, a table, a run, data that cannot be read; NAS608 where Ray is missing.
    """

    def __init__(
        self,
        recipe: Recipe,
        workers: int = 1,
        engine: str = "local",
        cache: str | Path | None = None,
        space: Space | None = None,
        progress: Progress | None = None,
    ) -> None:
        if engine not in ENGINES or workers < 1:
            raise ValueError(f"an engine is {' or '.join(ENGINES)} and has a worker: {engine!r}, {workers}")
        self.space = recipe.space() if space is None else space
        self.recipe = recipe.prepared(self.space)
        self.source = self.recipe.open(self.space)
        self.evaluations = self.known = 0
        self._cache = Cache(None if cache is None else Path(cache), hashed(self.identity))
        self._engine, self._workers, self._progress = engine, workers, progress
        self._crew: Crew | None = None

    @property
    def identity(self) -> Mapping[str, Any]:
        """What every score of this pool has in common with those of its cache."""
        return {"space": self.space.fingerprint, **self.source.identity()}

    def scores(self, asked: Sequence[Choices]) -> list[float]:
        """The scores, higher is better, in the order asked.

        Of two encodings of one network the first one is what is evaluated.

        Raises:
            UserError: NAS401 for what is no architecture of the space; with the architecture and what was
                wrong for one that cannot be scored. The scores of others are kept.
        """
        chosen = [check_choices(self.space.checked.table, dict(c)) for c in asked]
        keys = [self.key(c) for c in chosen]
        first: dict[str, Choices] = {}
        for key, choices in zip(keys, chosen, strict=True):
            first.setdefault(key, choices)
        todo = {key: choices for key, choices in first.items() if key not in self._cache.scores}
        self.known += len(first) - len(todo)
        if todo:
            self._evaluate(todo)
        return [self._cache.scores[key] for key in keys]

    def key(self, choices: Choices) -> str:
        """The identity of an architecture: equal exactly for the same network by construction.

        Where scores are looked up each encoding is one of its own: telling networks apart takes longer.
        """
        text = text_of(choices)
        if self.source.looked_up:
            return text
        if text not in self._cache.identities:
            self._cache.identities[text] = self.space.population.fingerprint(choices)
        return self._cache.identities[text]

    def close(self) -> None:
        """Ends the workers. The pool can be asked again and starts new ones."""
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _evaluate(self, todo: Mapping[str, Choices]) -> None:
        if self._crew is None:
            self._crew = crew(self._engine, self.recipe, self.source, self._workers)
        try:
            failed = self._worked_off(self._crew, todo)
        except BaseException:  # Ctrl-C as well: no worker goes on alone
            self.close()
            raise
        for key, choices in todo.items():
            if key in failed:
                raise self._named(choices, failed[key])

    def _worked_off(self, workers: Crew, todo: Mapping[str, Choices]) -> dict[str, Outcome]:
        """Evaluates until all are done or one has failed; those in work are waited for and kept."""
        waiting, idle = list(todo)[::-1], list(range(workers.lanes))[::-1]
        running: dict[int, str] = {}
        failed: dict[str, Outcome] = {}
        done = 0
        while running or (waiting and not failed):
            while waiting and idle and not failed:
                lane, key = idle.pop(), waiting.pop()
                running[lane] = key
                workers.start(lane, todo[key])
            for lane, outcome in workers.finished():
                key = running.pop(lane)
                idle.append(lane)
                if outcome.score is None:
                    failed[key] = outcome
                    continue
                self._cache.put(key, todo[key], outcome.score)
                self.evaluations, done = self.evaluations + 1, done + 1
                if self._progress is not None:
                    self._progress(done, len(todo))
        return failed

    def _named(self, choices: Choices, outcome: Outcome) -> UserError:
        arch = Architecture(self.space.name, self.space.fingerprint, choices)
        text = self.space.format(arch) if self.space.notation else json.dumps(dict(choices))
        first, *rest = outcome.problems
        return UserError([attrs.evolve(first, message=f"{text} cannot be scored: {first.message}"), *rest])


__all__ = ["Pool"]
