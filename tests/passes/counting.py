"""What a built supernet consists of and does, found out from its source, its modules and a forward pass.

Takes programs, returns `Figures`. Invariant: nothing here reads a graph, so what agrees with the
cost rules was counted twice.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nasdsl import Program
from nasdsl.codegen.figures import Figures
from nasdsl.runtime.operators.mixed import mix
from tests.laws.common import batch


def counted(program: Program) -> Figures:
    """All but multiply-accumulates, which a law of its own counts by execution."""
    net = program.supernet()
    leaves = list(outermost(net))
    calls: Counter[str] = Counter()
    variables = set(net.variables.modules())
    found = functions(program.compilation.supernet.source)
    for name, times in Counter(type(m).__name__ for m in net.modules() if m not in variables).items():
        for kind, number in found.get(name, Counter()).items():
            calls[kind] += times * number
    modules = len(leaves) + calls["function"]
    return Figures(
        modules=modules,
        params=sum(p.numel() for p in net.weight_parameters()),
        operators=modules + calls["mix"] + calls["merge"],
        bytes=4 * written(net, leaves, batch(program.space, 2)) // 2,
    )


def outermost(net: nn.Module) -> Iterator[nn.Module]:
    """The modules that generated classes are made of."""
    for name, child in net.named_children():
        if name == "variables":
            continue
        if isinstance(child, nn.Sequential) or type(child).__module__ == type(net).__module__:
            yield from outermost(child)
        elif not isinstance(child, (nn.Identity, nn.Flatten)):
            yield child


def functions(source: str) -> Mapping[str, Counter[str]]:
    """For every class of a source what its `forward` computes by itself."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            forward = [f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "forward"]
            found[node.name] = Counter(kind for f in forward for kind in _kinds(f, False))
    return found


def _kinds(node: ast.AST, adding: bool) -> Iterator[str]:
    """`function`, `mix` or `merge` of each expression; `a + b + c` is one merge."""
    sums = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)
    if sums and not adding:
        yield "merge"
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        if called.startswith("F.") or called.endswith(".mean"):
            yield "function"
        elif called in ("mix", "torch.cat"):
            yield {"mix": "mix"}.get(called, "merge")
    for child in ast.iter_child_nodes(node):
        yield from _kinds(child, sums)


def written(net: nn.Module, leaves: Iterable[nn.Module], x: Tensor) -> int:
    """The numbers that modules, functions and sums of one forward pass return."""
    watch = _Watch()
    hooks = [h for m in leaves for h in watch.on(m)]
    before = sys.getprofile()
    with torch.no_grad(), watch:
        sys.setprofile(watch.profile)
        try:
            net.eval()(x)
        finally:
            sys.setprofile(before)
    for hook in hooks:
        hook.remove()
    return watch.total + sum(t.numel() for t in watch.sums.values())


class _Watch(TorchFunctionMode):
    """Adds up results: of modules by hooks, of functions between them as a mode, of `mix` as a profile."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.busy = 0
        self.sums: dict[int, Tensor] = {}

    def on(self, module: nn.Module) -> tuple[Any, Any]:
        def enter(*_: object) -> None:
            self.busy += 1

        def leave(_: object, __: object, result: Any) -> None:
            self.busy -= 1
            self.total += sum(t.numel() for t in ([result] if isinstance(result, Tensor) else result))

        return module.register_forward_pre_hook(enter), module.register_forward_hook(leave)

    def profile(self, frame: FrameType, event: str, result: Any) -> None:
        if frame.f_code is mix.__code__ and event in ("call", "return"):
            self.busy += 1 if event == "call" else -1
            self.total += result.numel() if event == "return" else 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = getattr(function, "__name__", "")
        if self.busy or not isinstance(result, Tensor) or result.dim() < 2 or len(result) != 2:
            return result  # inside a module, or arithmetic on architecture vectors
        if name in ("add", "__add__"):
            for operand in args:  # a sum of three is one operator
                self.sums.pop(id(operand), None)
            self.sums[id(result)] = result
        elif name in ("relu", "gelu", "silu", "hardswish", "sigmoid", "tanh", "leaky_relu", "cat", "mean"):
            self.total += result.numel()
        return result
