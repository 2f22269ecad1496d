"""What a search that ran out of memory needs, and which settings need less.

Takes a compilation, returns words. Invariant: every figure is what `nasdsl plan` predicts; what it does not
predict is named without one.
"""

from __future__ import annotations

from collections.abc import Iterator

from nasdsl.compiler import Compilation, compile_space
from nasdsl.errors import UserError
from nasdsl.planning.memory import MemoryEstimate, predict_memory
from nasdsl.planning.paths import predict_path_step


def memory_advice(compilation: Compilation, passes: str = "") -> str:
    """The predicted memory of a step, and of the same step under settings that need less.

    Args:
        passes: the edits of the pipeline that it was compiled with.
    """
    batch = int(compilation.settings["batch_size"])
    now = _memory(compilation, batch).peak
    lines = [
        f"`nasdsl plan` predicts {_size(now)} at the peak of a step with batch_size={batch}, fp32. Less needs:"
    ]
    lines += [
        f"  {what:<34}{_size(peak)}" for what, peak in _smaller(compilation, passes, batch) if peak < now
    ]
    lines.append("  --precision bf16                  about half of the activations, on a GPU")
    if not compilation.switched:
        lines.append(
            "  a smaller supernet                partial_channels, or parameters of the space (nasdsl plan)"
        )
    return "\n".join(lines)


def _smaller(compilation: Compilation, passes: str, batch: int) -> Iterator[tuple[str, int]]:
    for size in (batch // 2, batch // 4):
        if size > 0:
            yield f"--set batch_size={size}", _memory(compilation, size).peak
    for change, edits in (({"accumulate": 2}, passes), ({"accumulate": 4}, passes), ({}, _added(passes))):
        if change and "accumulate" not in compilation.settings:
            continue
        try:
            other = compile_space(
                compilation.space,
                compilation.method.name,
                {**compilation.settings, **change},
                edits,
                compilation.subspace,
            )
        except UserError:
            continue  # it does not combine with what there is
        words = f"--set accumulate={change['accumulate']}" if change else "compiled with --pass +checkpoint"
        yield words, _memory(other, batch).peak


def _added(passes: str) -> str:
    return ",".join(filter(None, (passes, "+checkpoint")))


def _memory(compilation: Compilation, batch: int) -> MemoryEstimate:
    if compilation.switched:
        return predict_path_step(compilation, batch).memory
    return predict_memory(compilation, batch)


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**29 else f"{count / 2**20:.0f} MiB"


__all__ = ["memory_advice"]
