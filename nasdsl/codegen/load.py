"""Generated text as living classes, and weights carried between them.

Takes `PythonCode`, returns the class it defines. Invariant: what runs in the
process is the same text that is written to files; tracebacks show its lines,
because it is registered with `linecache` under a stable name.
"""

from __future__ import annotations

import linecache
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import torch

from nasdsl.codegen.lowered import Home
from nasdsl.codegen.source import PythonCode
from nasdsl.runtime.operators.blended import normalised
from nasdsl.runtime.operators.elastic import Elastic


def load_class(code: PythonCode, name: str, attribute: str) -> Any:
    """The class `attribute` of generated text, as a module `nasdsl_generated.NAME`."""
    full = f"nasdsl_generated.{name}"
    file = f"<{full}>"
    module = types.ModuleType(full)
    module.__file__ = file
    linecache.cache[file] = (len(code.source), None, code.source.splitlines(keepends=True), file)
    sys.modules[full] = module
    exec(compile(code.source, file, "exec"), module.__dict__)  # noqa: S102 - text that this package wrote
    return getattr(module, attribute)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Runs with a seed of its own and leaves the caller's random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def inherit_weights(
    child: torch.nn.Module,
    child_homes: Mapping[tuple[str, ...], Home],
    parent: torch.nn.Module,
    parent_homes: Mapping[tuple[str, ...], Home],
) -> None:
    """Copies weights and buffers of every operation that both have.

    Args:
        child_homes: where each operation instance lives in `child`; it may be a part of a larger module.
        parent_homes: the same in `parent`.
    """
    own, given = child.state_dict(), parent.state_dict()
    parent_modules = dict(parent.named_modules())
    with torch.no_grad():
        for key, home in child_homes.items():
            source, path = parent_homes.get(key), home.path
            if source is None:
                continue
            # Whatever a module keeps is its own: weights, statistics, those of modules inside it.
            for name, target in own.items():
                origin = (
                    given.get(source.path + name.removeprefix(path)) if name.startswith(f"{path}.") else None
                )
                inside = parent_modules.get(source.path)
                if origin is not None and isinstance(inside, Elastic):
                    target.copy_(inside.part(name.removeprefix(f"{path}."), tuple(target.shape)))
                elif origin is not None:
                    # Filters that are normalised on both sides are copied as they are kept.
                    given_as = attrs.evolve(source, normalise="") if home.normalise else source
                    part_of(target, attrs.evolve(home, normalise="")).copy_(part_of(origin, given_as))


def part_of(tensor: torch.Tensor, home: Home) -> torch.Tensor:
    """The rows of a module's tensor that belong to one operation, filters as they are used; counters belong to all."""
    part = tensor.chunk(home.count)[home.index] if home.count > 1 and tensor.dim() else tensor
    return normalised(part, home.normalise) if home.normalise and tensor.dim() == 4 else part
