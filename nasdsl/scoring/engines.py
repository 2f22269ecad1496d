"""Where architectures are scored: in this process, in others of this machine, on a cluster.

Takes a recipe, returns outcomes as they come. Invariant: a lane has one architecture at a time, so that
one that kills its worker is known; a worker never outlives the process that started it.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

import attrs

from nasdsl.diagnostics import Diagnostic
from nasdsl.errors import UserError
from nasdsl.scoring.command import stop_running
from nasdsl.scoring.sources import Choices, Recipe, Source, unscored

ENGINES = ("local", "ray")


@attrs.frozen
class Outcome:
    """What came of an architecture: a score, or what was wrong."""

    score: float | None
    problems: tuple[Diagnostic, ...] = ()


class Crew(Protocol):
    """Workers with numbers."""

    @property
    def lanes(self) -> int:
        """How many architectures may be in work."""
        ...

    def start(self, lane: int, choices: Choices) -> None:
        """Gives a lane that is idle an architecture."""
        ...

    def finished(self) -> list[tuple[int, Outcome]]:
        """Waits until a lane, or several, are done."""
        ...

    def close(self) -> None:
        """Ends the workers, whatever they do."""
        ...


def outcome_of(source: Source, choices: Choices) -> Outcome:
    """Scores; whatever goes wrong is of this architecture, and others go on."""
    try:
        score = float(source.score(choices))
    except UserError as error:
        return Outcome(None, error.diagnostics)
    except Exception as error:  # noqa: BLE001 - a user's data, network or command may raise anything
        if os.environ.get("NASDSL_DEBUG") == "1":
            traceback.print_exc()
        said = str(error).strip().splitlines()[:1]
        return _failed(
            f"{type(error).__name__}{': ' if said else ''}{''.join(said)}", "NASDSL_DEBUG=1 shows where"
        )
    if math.isnan(score) or score == math.inf:
        return _failed(f"its score is {score}", "a score is a number, or minus infinity for the worst")
    return Outcome(score)


def _failed(message: str, help: str) -> Outcome:
    return Outcome(None, unscored(message, help).diagnostics)


DIED = _failed(
    "the process that scored it was ended from outside, perhaps for its memory",
    "fewer --workers need less memory; what was scored before is kept",
)


class Here:
    """This process, one after the other."""

    lanes = 1

    def __init__(self, source: Source) -> None:
        self._source = source
        self._given: list[Choices] = []

    def start(self, lane: int, choices: Choices) -> None:
        self._given.append(choices)

    def finished(self) -> list[tuple[int, Outcome]]:
        return [(0, outcome_of(self._source, self._given.pop()))]

    def close(self) -> None:
        """Nothing to end."""


class Processes:
    """Processes of this machine, each an executor of its own."""

    def __init__(self, recipe: Recipe, lanes: int) -> None:
        self.lanes = lanes
        self._threads = max(1, (os.cpu_count() or 1) // lanes)
        self._recipe = recipe
        self._workers = [self._worker() for _ in range(lanes)]
        self._running: dict[Future[Outcome], int] = {}

    def _worker(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads half-way
        return ProcessPoolExecutor(1, context, _begin, (self._recipe, self._threads))

    def start(self, lane: int, choices: Choices) -> None:
        self._running[self._workers[lane].submit(_score, dict(choices))] = lane

    def finished(self) -> list[tuple[int, Outcome]]:
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        found = []
        for future in done:
            lane = self._running.pop(future)
            try:
                found.append((lane, future.result()))
            except BrokenProcessPool:
                self._end(self._workers[lane])
                self._workers[lane] = self._worker()
                found.append((lane, DIED))
        return found

    def close(self) -> None:
        for worker in self._workers:
            self._end(worker)
        self._running.clear()

    @staticmethod
    def _end(worker: ProcessPoolExecutor) -> None:
        """Without waiting for what it does; an executor can only be asked to finish its work first."""
        processes = list((worker._processes or {}).values())
        worker.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


_OPENED: dict[str, Any] = {}
"""In a worker: its recipe, and the source once it is opened."""


def _begin(recipe: Recipe, threads: int) -> None:
    """The start of a worker. Nothing here may fail: the error would not be told."""
    # Before torch is imported, which reads it.
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    signal.signal(signal.SIGTERM, lambda *_: _leave())
    _OPENED["recipe"] = recipe
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _score(choices: Choices) -> Outcome:
    try:
        if "source" not in _OPENED:
            _OPENED["source"] = _OPENED["recipe"].open()
    except UserError as error:
        return Outcome(None, error.diagnostics)
    return outcome_of(_OPENED["source"], choices)


def _leave_with_parent() -> None:
    """A parent that is killed cannot say goodbye, and its workers would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        _leave()


def _leave() -> None:
    stop_running()
    os._exit(1)


class Cluster:
    """Ray's workers: of the cluster that RAY_ADDRESS names or that runs here, else of this machine.

    Files have the same paths on every machine, and nasdsl is installed there.
    """

    def __init__(self, recipe: Recipe, lanes: int) -> None:
        self.lanes = lanes
        self._ray = _ray()
        if not self._ray.is_initialized():
            self._ray.init(log_to_driver=False)
        gpu = str(getattr(recipe.kind, "device", "")).startswith("cuda")
        options = {"num_cpus": 1, "num_gpus": int(gpu), "max_retries": 0, "max_calls": 0}
        self._task = self._ray.remote(**options)(_score_there)
        self._recipe = self._ray.put((recipe, os.getcwd(), list(sys.path)))
        self._running: dict[Any, int] = {}

    def start(self, lane: int, choices: Choices) -> None:
        self._running[self._task.remote(self._recipe, dict(choices))] = lane

    def finished(self) -> list[tuple[int, Outcome]]:
        done, _ = self._ray.wait(list(self._running), num_returns=1)
        found = []
        for task in done:
            lane = self._running.pop(task)
            try:
                found.append((lane, self._ray.get(task)))
            except (self._ray.exceptions.WorkerCrashedError, self._ray.exceptions.OutOfMemoryError):
                found.append((lane, DIED))
            except self._ray.exceptions.RayError as error:
                said = str(error).strip().splitlines()[-1:]
                found.append(
                    (lane, _failed(f"Ray: {''.join(said)}", "`ray status` says what the cluster has"))
                )
        return found

    def close(self) -> None:
        for task in self._running:
            self._ray.cancel(task, force=True)
        self._running.clear()


def _score_there(given: tuple[Recipe, str, list[str]], choices: Choices) -> Outcome:
    recipe, folder, path = given
    if _OPENED.get("recipe") != recipe:
        if os.path.isdir(folder):
            os.chdir(folder)
        sys.path.extend(p for p in path if p not in sys.path)
        _OPENED.clear()
        _OPENED["recipe"] = recipe
    return _score(choices)


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise UserError.plain(
            "NAS608", "engine ray: Ray is not installed", help="pip install 'nasdsl[cluster]'"
        ) from None
    return ray


def crew(engine: str, recipe: Recipe, source: Source, workers: int) -> Crew:
    """The workers of an engine. Raises UserError (NAS608) where Ray is missing."""
    if engine == "ray":
        return Cluster(recipe, workers)
    return Here(source) if workers == 1 else Processes(recipe, workers)


__all__ = ["ENGINES", "Crew", "Outcome", "crew", "outcome_of"]
