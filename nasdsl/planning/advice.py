"""What a search that ran out of memory needs, and which settings need less.

Takes a compilation, returns words. Invariant: every figure is what `nasdsl plan` predicts; what it does not
predict is named without one.
"""

from __future__ import annotations

from collections.abc import Iterator

from nasdsl.compiler import Compilation, compile_space
from nasdsl.errors import UserError
from nasdsl.methods.base import Scalar
from nasdsl.planning.memory import MemoryEstimate, micro_batches, predict_memory
from nasdsl.planning.paths import predict_path_step


def memory_advice(
    compilation: Compilation, passes: str = "", precision: str = "fp32", processes: int = 1
) -> str:
    """The predicted memory of a step, and of the same step under settings that need less.

    Args:
        passes: the edits of the pipeline that it was compiled with.
        precision: of the run; what is predicted is fp32.
        processes: that divide a batch among them, each on a device of its own.
    """
    batch = int(compilation.settings["batch_size"])
    now = _memory(compilation, _rows(batch, processes)).peak
    divided = f" on each of {processes} processes" if processes > 1 else ""
    lower = precision != "fp32"
    less = f", of which {precision} takes about half for activations" if lower else ""
    step = f"at the peak of a step with batch_size={batch}{divided}, fp32{less}"
    lines = [f"`nasdsl plan` predicts {_size(now)} {step}. Less needs:"]
    lines += [
        f"  {what:<34}{_size(peak)}"
        for what, peak in _smaller(compilation, passes, batch, processes)
        if peak < now
    ]
    if not lower:
        lines.append("  --precision bf16                  about half of the activations, on a GPU")
    if not compilation.switched:
        lines.append(f"  a smaller supernet                {_narrower(compilation)} (nasdsl plan)")
    return "\n".join(lines)


def _narrower(compilation: Compilation) -> str:
    now = compilation.settings.get("partial_channels")
    if now is None:
        return "other parameters of the space"
    return f"partial_channels{f' above {now}' * (now != 1)}, or parameters of the space"


def _rows(batch: int, processes: int) -> int:
    """Examples of a batch on the first of the processes, which has the most."""
    return -(-batch // processes)


def _smaller(compilation: Compilation, passes: str, batch: int, processes: int) -> Iterator[tuple[str, int]]:
    for size in (batch // 2, batch // 4):
        if size >= max(processes, micro_batches(compilation)):
            yield f"--set batch_size={size}", _memory(compilation, _rows(size, processes)).peak
    parts = [micro_batches(compilation) * more for more in (2, 4)]
    changes: list[dict[str, Scalar]] = [
        {"accumulate": count} for count in parts if count * processes <= batch
    ]
    if "accumulate" not in compilation.settings:
        changes = []
    for change, edits in (*((c, passes) for c in changes), ({}, _added(passes))):
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
        yield words, _memory(other, _rows(batch, processes)).peak


def _added(passes: str) -> str:
    return ",".join(filter(None, (passes, "+checkpoint")))


def _memory(compilation: Compilation, batch: int) -> MemoryEstimate:
    if compilation.switched:
        return predict_path_step(compilation, batch).memory
    return predict_memory(compilation, batch)


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**29 else f"{count / 2**20:.0f} MiB"


__all__ = ["memory_advice"]
