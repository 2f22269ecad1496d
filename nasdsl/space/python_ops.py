"""Operations in Python: `use python "pkg.module"`.

Takes the name of a module, returns primitives. Invariant: nothing is imported unless the user
allowed it; an operation is opaque: no pass looks inside, its shape, its parameters and its
multiply-accumulates come from the module itself.

The Python module has a mapping `OPERATIONS` from names to `torch.nn.Module` classes. The
constructor's first argument is the number of channels of the input; the others have defaults
(integers, numbers or truth values) and are the operation's parameters. Shape and parameters are
inferred by building the class on torch's meta device and running it on a tensor without data. A
class may give a `staticmethod macs(input_shape, output_shape, **parameters)`; else its
multiply-accumulates are counted by torch's FlopCounterMode on the same run.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import Any

import attrs

from nasdsl.diagnostics import Diagnostics
from nasdsl.ops import Misfit, Parameter, Primitive, register
from nasdsl.ops.base import Sizes, Values, WeightSpec
from nasdsl.syntax import ast
from nasdsl.types import Dim, TensorType

_KINDS = {bool: "flag", int: "integer", float: "number"}


def python_operations(space: ast.Space, allowed: bool, diagnostics: Diagnostics) -> dict[str, Primitive]:
    """The operations that a space uses from Python, by name. Reports NAS111."""
    found: dict[str, Primitive] = {}
    for item in space.items:
        if not isinstance(item, ast.UsePython):
            continue
        name = item.module.value
        if not allowed:
            diagnostics.error(
                "NAS111",
                f"operations in Python are not allowed: `{name}` would be imported, which runs its code",
                item.span,
                "asked for here",
                help="if you trust it, add `--allow-python` to the command, or `allow_python=True` in Python",
            )
            continue
        try:
            operations = importlib.import_module(name).OPERATIONS
            found.update({n: _primitive(name, n, c) for n, c in dict(operations).items()})
        except Exception as error:  # noqa: BLE001  # whatever the user's module raises is the user's to know
            diagnostics.error(
                "NAS111",
                f"operations cannot be had from `{name}`: {type(error).__name__}: {error}",
                item.module.span,
                "imported here",
                help="the module has a mapping `OPERATIONS` of names to torch.nn.Module classes",
            )
    return found


def _primitive(module: str, name: str, made: type[Any]) -> Primitive:
    if not name.isidentifier():
        raise ValueError(f"{name!r} is not a name")
    parameters = []
    for parameter in list(inspect.signature(made).parameters.values())[1:]:
        kind = _KINDS.get(type(parameter.default))
        if kind is None:
            raise TypeError(
                f"parameter {parameter.name} of {name} needs a number or a truth value as default"
            )
        parameters.append(Parameter(parameter.name, kind, parameter.default, minimum=0))  # type: ignore[arg-type]
    operation = _Operation(f"{module}.{made.__qualname__}", made)
    primitive = Primitive(
        name=f"{module}:{name}",
        summary=(inspect.getdoc(made) or name).split("\n")[0],
        parameters=tuple(parameters),
        infer=operation.infer,
        module=operation.module,
        weights=operation.weights,
        macs=operation.macs,
        opaque=module,
    )
    register(primitive)
    return primitive


@attrs.frozen
class _Facts:
    shape: tuple[int, ...]
    weights: tuple[tuple[str, tuple[int, ...]], ...]
    macs: int


@attrs.frozen
class _Operation:
    """What a class says about itself when it is built and run without data."""

    path: str
    made: type[Any]

    def infer(self, source: TensorType, values: Values, sizes: Sizes) -> TensorType:
        shape = tuple(sizes(d) for d in source.dims)
        try:
            found = self._run(source.layout, shape, values)
        except Exception as error:  # noqa: BLE001  # the class refuses the input
            raise Misfit(
                f"`{self.path}` does not accept its input: {type(error).__name__}: {str(error)[:200]}"
            ) from None
        return TensorType(source.layout if len(found.shape) == len(shape) else "vector", _dims(found.shape))

    def weights(self, source: TensorType, values: Values) -> tuple[WeightSpec, ...]:
        return tuple(WeightSpec(n, _dims(s)) for n, s in self._facts(source, values).weights)

    def macs(self, source: TensorType, result: TensorType, values: Values) -> Dim:
        return Dim.of(self._facts(source, values).macs)

    def module(self, source: TensorType, result: TensorType, values: Values) -> str:
        given = "".join(f", {n}={v!r}" for n, v in sorted(values.items()))
        return f"{self.path}({source.channels}{given})"

    def _facts(self, source: TensorType, values: Values) -> _Facts:
        return self._run(source.layout, source.evaluate({}), values)

    def _run(self, layout: str, shape: tuple[int, ...], values: Values) -> _Facts:
        given: Hashable = tuple(sorted(values.items()))
        return _facts(self.made, layout, shape, given)  # type: ignore[arg-type]


def _dims(shape: tuple[int, ...]) -> tuple[Dim, ...]:
    return tuple(Dim.of(s) for s in shape)


@lru_cache(maxsize=4096)
def _facts(made: Any, layout: str, shape: tuple[int, ...], values: Any) -> _Facts:
    """Builds the class on the meta device and runs it once."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    given: Mapping[str, Any] = dict(values)
    # Tokens are (batch, length, features) for torch.
    batch = (2, *reversed(shape)) if layout == "tokens" else (2, *shape)
    with torch.device("meta"):
        module = made(shape[0], **given)
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            out = tuple(module(torch.empty(batch)).shape[1:])
    out = tuple(reversed(out)) if layout == "tokens" and len(out) == len(shape) else out
    counted = getattr(made, "macs", None)
    macs = counted(shape, out, **given) if counted is not None else counter.get_total_flops() // 4
    weights = tuple((n, tuple(p.shape)) for n, p in module.named_parameters())
    return _Facts(tuple(int(s) for s in out), weights, int(macs))


__all__ = ["python_operations"]
