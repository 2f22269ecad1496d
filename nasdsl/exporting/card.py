"""The card of an exported network: what it is, where its weights come from, how it is used.

Takes plain values, returns Markdown. Invariant: the same export gives the same text; every way of use that it shows
needs nothing of this package.
"""

from __future__ import annotations

import ast
import json
import keyword
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from nasdsl import __version__
from nasdsl.codegen.lock import installed_version
from nasdsl.exporting.formats import INPUT, OUTPUT
from nasdsl.exporting.inherited import shown

if TYPE_CHECKING:
    from nasdsl.api import Space
    from nasdsl.exporting.formats import Format
    from nasdsl.exporting.weights import Carried
    from nasdsl.space.architecture import Architecture

MARK = "<!-- Written by nasdsl; the next export to this folder writes it anew. -->"
"""The line by which a card is known as one that may be replaced."""


@attrs.frozen
class Written:
    """A file that was exported.

    Attributes:
        format: that it is of, or belongs to.
        difference: the largest difference of its outputs and the network's; None where it has no weights to compare.
    """

    name: str
    format: Format
    size: int
    sha256: str
    difference: float | None


def card(
    space: Space,
    arch: Architecture,
    carried: Carried | None,
    files: Sequence[Written],
    licence: str | None = None,
) -> str:
    """The text of the card.

    Args:
        carried: the weights; None for source alone.
        files: that were written, the main file of a format before what belongs to it.
        licence: the user's, by name.
    """
    modules = imported(space.model_source(arch) if carried is None else carried.source)
    parts = [
        [f"# A network of the space `{space.name}`", "", MARK],
        [_introduction(space, files, modules)],
        _figures(space, arch, carried),
        ["## Architecture", "", *_architecture(space, arch)],
        ["## Input", "", *_input(space, arch, carried)],
        ["## Weights", "", *_weights(carried)],
        ["## Use", "", *_use(arch_shape(space, arch), files, carried is not None, modules)],
        ["## Files", "", *_files(files)],
        ["## Written with", "", *_versions(files)],
        [
            "## Licence",
            "",
            licence or "Not stated. Whoever passes this network on chooses one and writes it here.",
        ],
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def arch_shape(space: Space, arch: Architecture) -> tuple[int, ...]:
    """The shape of one example of an architecture."""
    return tuple(d.settle(arch.choices).evaluate({}) for d in space.checked.input.dims)


def imported(source: str) -> dict[str, str]:
    """The modules of `use python` that the text of a network imports, with the SHA-256 of their files.

    The digest is "" where the file is not known. They were imported when the network was made.
    """
    statements = [node for node in ast.parse(source).body if isinstance(node, ast.Import)]
    names = [alias.name for node in statements for alias in node.names]
    known = {"torch", *sys.stdlib_module_names}
    return {name: _digest(name) for name in names if name.partition(".")[0] not in known}


def _digest(module: str) -> str:
    path = getattr(sys.modules.get(module), "__file__", None)
    try:
        return "" if path is None else sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""


def _introduction(space: Space, files: Sequence[Written], modules: Mapping[str, str]) -> str:
    about = f": {space.checked.doc.rstrip('.')}" if space.checked.doc else ""
    kinds = ", ".join(dict.fromkeys(f.format.what for f in files))
    own = ", ".join(f"`{name}`" for name in modules)
    source = any(f.format.name == "py" for f in files)
    takes = f", the Python source takes {own} besides" if modules and source else ""
    return (
        f"One architecture of the search space `{space.name}`{about}. Here as {kinds}; using it takes no nasdsl"
        f"{takes}."
    )


def _figures(space: Space, arch: Architecture, carried: Carried | None) -> list[str]:
    stats = space.stats(arch)
    shape = " x ".join(map(str, arch_shape(space, arch)))
    params = stats.live_params if carried is None else sum(p.numel() for p in carried.module.parameters())
    given = ", ".join(f"`{n}={json.dumps(v)}`" for n, v in space.params.items())
    rows = {
        "space": f"`{space.name}`, fingerprint `{space.fingerprint}`",
        "parameters of the space": given or "none",
        "weights": f"{params:,}",
        "multiply-adds": f"{stats.live_macs:,}, one input",
        "input": f"`{INPUT}`: float32, batch x {shape}",
        "output": f"`{OUTPUT}`: float32, batch x {space.checked.classes}; scores before softmax, one a class",
    }
    if carried is not None:
        rows["form"] = f"{carried.form}, evaluation mode"
        if carried.accuracy is not None:
            reached, count = carried.accuracy
            rows["test accuracy"] = f"{reached:.2%} of {count:,} examples"
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]


def _architecture(space: Space, arch: Architecture) -> list[str]:
    lines = ["```json", arch.to_json(), "```"]
    if space.notation is not None:
        lines += ["", f"In the notation `{space.notation}`:", "", "```text", space.format(arch), "```"]
    return lines


def _input(space: Space, arch: Architecture, carried: Carried | None) -> list[str]:
    image = space.checked.input.layout == "image"
    unit = "Pixels from 0 to 1" if image else "Features"
    each = "channel" if image else "feature"
    scaled = f"{unit}, minus the mean and divided by the deviation of the training data, by {each}"
    if carried is None or carried.mean is None or carried.std is None:
        return [f"{scaled}. The two are not recorded: take them from what the network is trained on."]
    before = ["", f"Before that, in training: {'; '.join(carried.notes)}."] if carried.notes else []
    return [
        f"{scaled}:",
        "",
        "```python",
        f"mean = {_rounded(carried.mean)}",
        f"std = {_rounded(carried.std)}",
        "```",
        *before,
    ]


def _rounded(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{v:.6g}" for v in values) + "]"


def _weights(carried: Carried | None) -> list[str]:
    if carried is None:
        return ["None: the file is source alone, and its class makes fresh ones."]
    return list(carried.origin)


def _use(
    shape: Sequence[int], files: Sequence[Written], weighed: bool, modules: Mapping[str, str]
) -> list[str]:
    lines = []
    for file in files:
        if file.name.endswith(".safetensors"):
            continue
        needs = file.format.needs if weighed else ("torch",)
        source = file.format.name == "py"
        own = [f"`{name}`" for name in modules] if source else []
        lines += [f"`{file.name}` needs {', '.join([*needs, *own])}:", ""]
        lines += [_of_python(modules), ""] if own else []
        lines += [
            "```python",
            *_lines(file, files, shape, weighed),
            "```",
            "",
        ]
    return lines[:-1]


def _of_python(modules: Mapping[str, str]) -> str:
    known = [
        f"`{name}` (SHA-256 of its file {digest})" if digest else f"`{name}`"
        for name, digest in modules.items()
    ]
    return (
        f"It imports {', '.join(known)}: operations in Python of the space, which are not among these files. Pass "
        "them on, too, where Python finds them; loading the network runs their code."
    )


def _lines(file: Written, files: Sequence[Written], shape: Sequence[int], weighed: bool) -> list[str]:
    size, name = ", ".join(map(str, (1, *shape))), json.dumps(file.name)
    if file.format.name == "onnx":
        return [
            "import numpy",
            "import onnxruntime",
            "",
            f'session = onnxruntime.InferenceSession({name}, providers=["CPUExecutionProvider"])',
            f'({OUTPUT},) = session.run(None, {{"{INPUT}": numpy.zeros(({size}), numpy.float32)}})',
        ]
    if file.format.name == "pt2":
        return [
            "import torch",
            "",
            f"net = torch.export.load({name}).module()",
            f"{OUTPUT} = net(torch.zeros({size}))",
        ]
    module = file.name.removesuffix(".py")
    named = file.name.endswith(".py") and module.isidentifier() and not keyword.iskeyword(module)
    weights = next((f.name for f in files if f.format is file.format and f is not file), None)
    loads = weights is not None and weighed
    return [
        *([] if named else ["import runpy", ""]),
        "import torch",
        *([f"from {module} import Network"] if named else []),
        *(["from safetensors.torch import load_file"] if loads else []),
        "",
        *([] if named else [f'Network = runpy.run_path({name})["Network"]']),
        "net = Network().eval()",
        *([f"net.load_state_dict(load_file({json.dumps(weights)}))"] if loads else []),
        f"{OUTPUT} = net(torch.zeros({size}))",
    ]


def _files(files: Sequence[Written]) -> list[str]:
    lines = ["| file | bytes | SHA-256 |", "|---|---|---|"]
    lines += [f"| `{f.name}` | {f.size:,} | `{f.sha256}` |" for f in files]
    compared = {f.format.name: f.difference for f in files if f.difference is not None}
    if compared:
        said = ", ".join(f"{name} {shown(far)}" for name, far in compared.items())
        lines += [
            "",
            "Each was run again after it was written, in batches of 1 and 3, and compared with the network in float32.",
            f"The largest difference, relative to the largest score: {said}.",
        ]
    return lines


def _versions(files: Sequence[Written]) -> list[str]:
    names = dict.fromkeys(["torch", *(n for f in files for n in (*f.format.needs, *f.format.writes_with))])
    found = {
        "Python": platform.python_version(),
        "nasdsl": __version__,
        **{n: installed_version(n) for n in names},
    }
    known = [f"{name} {version}" for name, version in found.items() if version is not None]
    return [", ".join(known) + "."]


def replaceable(text: str) -> bool:
    """Whether a file is a card that an export wrote, and not somebody's own page."""
    return re.search(rf"^{re.escape(MARK)}$", text, re.MULTILINE) is not None


__all__ = ["MARK", "Written", "arch_shape", "card", "replaceable"]
