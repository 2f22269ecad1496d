"""Files from lowered classes: `supernet.py` and `model.py`.

Takes lowered classes and plain data, returns `PythonCode`. Invariant: one text
serves the in-process module and the written file; `model.py` imports torch only.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from importlib import resources
from pprint import pformat
from typing import Any

from nasdsl.codegen.layout import CHANNELS_LAST
from nasdsl.codegen.lowered import Lowered
from nasdsl.codegen.source import PythonCode, Writer, comment, literal
from nasdsl.codegen.variables import Variables
from nasdsl.types import TensorType

_PLACES = "the comments at the ends of lines name its lines."


def supernet_code(
    title: str,
    source_name: str,
    lowered: Sequence[Lowered],
    variables: Variables,
    decisions: Sequence[Mapping[str, Any]],
    lifted: Sequence[Mapping[str, Any]],
) -> PythonCode:
    """The text of `supernet.py`."""
    out = Writer()
    _head(out, title, source_name, lowered, _PLACES)
    used = {"nasdsl.runtime.supernet:SupernetBase", *set().union(*(item.runtime for item in lowered))}
    used |= {f"nasdsl.runtime.standalone.blocks:{h}" for item in lowered for h in item.helpers}
    used |= set().union(*(made.runtime for made in variables.classes))
    if any(item.mixes for item in lowered[:-1]):
        used.add("nasdsl.runtime.activation:Weights")
    _runtime_imports(out, used)
    for cell in lowered[:-1]:
        _class(out, cell)
    for made in variables.classes:
        out.line()
        out.line()
        out.line(f"class {made.name}(nn.Module):")
        out.line(f'"""Architecture variables of `{comment(made.title)}`."""', 1)
        out.line()
        for text in made.lines:
            out.line(text, 1 if text else 0)
    _supernet(out, lowered[-1], variables, decisions, lifted)
    return out.code()


def _head(out: Writer, title: str, source_name: str, lowered: Sequence[Lowered], closing: str) -> None:
    """The docstring, which ends with what there is to know of the file, and the imports from outside."""
    out.line(f'"""{comment(title)}')
    out.line()
    out.line(f"Written by nasdsl from {comment(source_name)}; {closing}")
    out.line('"""')
    out.line()
    out.line("import torch")
    out.line("import torch.nn.functional as F  # noqa: F401")
    out.line("from torch import nn")
    _imports(out, lowered)
    out.line()


def _runtime_imports(out: Writer, used: set[str]) -> None:
    """Imports of what the classes use, given as `module:name`."""
    homes: dict[str, list[str]] = {}
    for name in sorted(used):
        homes.setdefault(name.partition(":")[0], []).append(name.partition(":")[2])
    for module, names in homes.items():
        out.line(f"from {module} import {', '.join(names)}")


def _data(out: Writer, items: Sequence[tuple[str, Any]], compact: bool = False) -> None:
    """Class attributes that hold plain data."""
    for name, data in items:
        text = (
            pformat(data, width=108, sort_dicts=False, compact=compact)
            .encode("ascii", "backslashreplace")
            .decode()
        )
        first, *rest = text.split("\n")
        out.line(f"{name} = {first}", 1)
        for line in rest:
            out.line(line, 1)


def _supernet(
    out: Writer,
    root: Lowered,
    variables: Variables,
    decisions: Sequence[Mapping[str, Any]],
    lifted: Sequence[Mapping[str, Any]],
) -> None:
    out.line()
    out.line()
    out.line("class Supernet(SupernetBase):")
    out.line('"""The network with every decision open."""', 1)
    out.line()
    out.line(f"ACTIVATION = {literal(variables.activation)}", 1)
    out.line(f"SPARSE = {variables.sparse}", 1)
    owners = {owner: key for owner, (key, _) in variables.owners.items()}
    _data(out, (("OWNERS", owners), ("DECISIONS", tuple(decisions)), ("LIFTED", tuple(lifted))))
    out.line()
    out.line("def __init__(self) -> None:", 1)
    out.line("super().__init__()", 2)
    out.line("self.variables = nn.ModuleDict()", 2)
    for key, made in variables.owners.values():
        out.line(f"self.variables[{literal(key)}] = {made.name}()", 2)
    for text, loc in root.init:
        out.line(text, 2, loc)
    out.line()
    out.line("def forward(self, x: torch.Tensor) -> torch.Tensor:", 1)
    _prepare(out, root, CHANNELS_LAST)
    out.line("w = self.mixing()", 2)
    if any(line.strip().startswith("(*own") or "own[" in line for line, _ in root.forward):
        out.line("own = w['']", 2)
    for text, loc in root.forward:
        out.line(text, 2, loc)


def path_supernet_code(
    title: str,
    source_name: str,
    lowered: Sequence[Lowered],
    decisions: Sequence[Mapping[str, Any]],
    sizes: Mapping[str, Any],
    resolution: str,
) -> PythonCode:
    """The text of `supernet.py` for a method of single paths.

    Args:
        decisions, sizes, resolution: see `nasdsl.runtime.paths.supernet.PathSupernet`.
    """
    root = lowered[-1]
    out = Writer()
    _head(out, title, source_name, lowered, _PLACES)
    used = {"nasdsl.runtime.paths.supernet:PathSupernet", *set().union(*(i.runtime for i in lowered))}
    used |= {f"nasdsl.runtime.standalone.blocks:{h}" for item in lowered for h in item.helpers}
    if any(item.switches for item in lowered[:-1]):
        used.add("nasdsl.runtime.paths.supernet:Path")
    _runtime_imports(out, used)
    for cell in lowered[:-1]:
        _class(out, cell)
    out.line()
    out.line()
    out.line("class Supernet(PathSupernet):")
    out.line('"""The network with every decision open; a path settles them."""', 1)
    out.line()
    items = (("DECISIONS", tuple(decisions)), ("SIZES", dict(sizes)), ("RESOLUTION", resolution))
    _data(out, items, compact=True)
    out.line()
    out.line("def __init__(self) -> None:", 1)
    out.line("super().__init__()", 2)
    for text, loc in root.init:
        out.line(text, 2, loc)
    out.line("self.bind()", 2)
    out.line()
    out.line("def forward(self, x: torch.Tensor) -> torch.Tensor:", 1)
    _prepare(out, root, CHANNELS_LAST)
    if any("at[" in text for text, _ in root.forward):
        out.line("at = self.path.at", 2)
    for text, loc in root.forward:
        out.line(text, 2, loc)
    return out.code()


def _prepare(out: Writer, root: Lowered, layout: str) -> None:
    source = root.graph.inputs[0].type
    if isinstance(source, TensorType) and source.layout == "image":
        out.line(layout.format(x=root.inputs[0]), 2)


def _class(out: Writer, cell: Lowered) -> None:
    """A cell as a class."""
    first = next((n.loc for n in cell.graph.nodes if n.loc is not None), None)
    out.line()
    out.line()
    out.line(f"class {cell.name}(nn.Module):")
    place = f", {comment(f'{first.file}:{first.line}')}" if first is not None else ""
    out.line(f'"""Cell `{comment(cell.graph.cell or cell.graph.name)}`{place}."""', 1)
    out.line()
    if cell.drops:
        out.line("drop_path_prob: float = 0.0", 1)
        out.line()
    if cell.switches:
        out.line("path: Path", 1)
        out.line()
    owned = cell.mixes or cell.switches
    arguments = [f"{s}: int" for s in cell.sizes] + (["owner: str"] if owned else [])
    out.line(f"def __init__(self{''.join(', ' + a for a in arguments)}) -> None:", 1)
    out.line("super().__init__()", 2)
    if owned:
        out.line("self.owner = owner", 2)
    for text, loc in cell.init:
        out.line(text, 2, loc)
    out.line()
    inputs = "".join(f", {i}: torch.Tensor" for i in cell.inputs)
    weights = ", w: dict[str, dict[str, Weights]]" if cell.mixes else ""
    out.line(f"def forward(self{inputs}{weights}) -> torch.Tensor:", 1)
    if any("own[" in text for text, _ in cell.forward):
        out.line("own = w[self.owner]", 2)
    if any("at[" in text for text, _ in cell.forward):
        out.line("at = self.path.at", 2)
    for text, loc in cell.forward:
        out.line(text, 2, loc)


def network_code(
    title: str,
    source_name: str,
    lowered: Sequence[Lowered],
    constants: Mapping[str, Any],
    auxiliary_problem: str | None,
    layout: str,
) -> PythonCode:
    """The text of `model.py`: one network, torch only.

    Args:
        constants: `INPUT`, `CLASSES`, `ARCHITECTURE`.
        auxiliary_problem: why no auxiliary head can be placed, or None.
        layout: the line that brings the input into the network's memory layout.
    """
    root = lowered[-1]
    out = Writer()
    _head(out, title, source_name, lowered, "needs torch and nothing else.")
    for name, value in constants.items():
        text = pformat(value, width=104, sort_dicts=False).encode("ascii", "backslashreplace").decode()
        out.line(f"{name} = {text}")
    out.line(f"AUXILIARY = {root.auxiliary is not None}")
    drops = any(item.drops for item in lowered)
    if drops:
        _drop_path(out)
    for text in helper_texts(set().union(*(item.helpers for item in lowered))):
        out.line()
        out.line()
        for line in text.split("\n"):
            out.line(line)
    for cell in lowered[:-1]:
        _class(out, cell)
    _network(out, root, drops, auxiliary_problem, layout)
    return out.code()


def _imports(out: Writer, lowered: Sequence[Lowered]) -> None:
    """Imports of the modules of `use python`; their names come from the space, so each part is checked."""
    modules = sorted(set().union(*(item.imports for item in lowered)))
    if modules:
        out.line()
    for module in modules:
        if not all(part.isidentifier() for part in module.split(".")):
            raise ValueError(f"{module!r} is not the name of a module")
        out.line(f"import {module}")


def helper_texts(names: set[str]) -> list[str]:
    """The text of classes of `nasdsl.runtime.standalone.blocks`, by name, in the order of that file."""
    if not names:
        return []
    text = resources.files("nasdsl.runtime.standalone").joinpath("blocks.py").read_text("utf-8")
    lines = text.split("\n")
    classes = [n for n in ast.parse(text).body if isinstance(n, ast.ClassDef) and n.name in names]
    return ["\n".join(lines[n.lineno - 1 : n.end_lineno]) for n in classes]


def _drop_path(out: Writer) -> None:
    for text in (
        "",
        "",
        "def drop_path(x: torch.Tensor, probability: float, training: bool) -> torch.Tensor:",
        '    """Zeroes whole examples with a probability and scales the others up; x is (B, C, H, W)."""',
        "    if not training or probability == 0.0:",
        "        return x",
        "    keep = 1.0 - probability",
        "    mask = torch.empty(x.shape[0], *(1,) * (x.dim() - 1), dtype=x.dtype, device=x.device)",
        "    return x / keep * mask.bernoulli_(keep)",
    ):
        out.line(text)


def _network(out: Writer, root: Lowered, drops: bool, problem: str | None, layout: str) -> None:
    out.line()
    out.line()
    out.line("class Network(nn.Module):")
    out.line('"""One architecture.', 1)
    out.line()
    out.line("`auxiliary` adds a second classifier that is computed in training only; then `forward`", 1)
    out.line("returns `(logits, auxiliary_logits)` in training.", 1)
    out.line('"""', 1)
    out.line()
    out.line("def __init__(self, auxiliary: bool = False) -> None:", 1)
    out.line("super().__init__()", 2)
    out.line("self._drop_path_prob = 0.0", 2)
    for text, loc in root.init:
        out.line(text, 2, loc)
    if root.auxiliary is None:
        out.line("if auxiliary:", 2)
        out.line(f"raise ValueError({literal(problem or 'this network has no auxiliary head')})", 3)
    else:
        out.line("self.auxiliary_head = None", 2)
        out.line("if auxiliary:", 2)
        out.line(f"self.auxiliary_head = {root.auxiliary[0]}", 3)
    out.line()
    for text in (
        "@property",
        "def drop_path_prob(self) -> float:",
        '    """Probability that an edge is dropped for an example, in training."""',
        "    return self._drop_path_prob",
        "",
        "@drop_path_prob.setter",
        "def drop_path_prob(self, value: float) -> None:",
        "    self._drop_path_prob = value",
    ):
        out.line(text, 1 if text else 0)
    if drops:
        out.line("for module in self.modules():", 2)
        out.line('if module is not self and hasattr(type(module), "drop_path_prob"):', 3)
        out.line("module.drop_path_prob = value", 4)
    out.line()
    out.line("def forward(self, x: torch.Tensor):", 1)
    _prepare(out, root, layout)
    for text, loc in root.forward[:-1]:
        out.line(text, 2, loc)
    result = root.forward[-1][0]
    if root.auxiliary is not None:
        out.line("if self.training and self.auxiliary_head is not None:", 2)
        logits = result.removeprefix("return ")
        out.line(f"return {logits}, self.auxiliary_head({root.auxiliary[1]})", 3)
    out.line(result, 2)
