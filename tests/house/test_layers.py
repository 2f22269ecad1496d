"""Imports go strictly to lower layers, and nothing is circular.

A room is a module or a package; the table is the one of CONTRIBUTING.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.house.imports import Import, imports_of, loops, modules_of

LAYERS = (
    ("errors", "cases", "types", "registry", "resources", "records", "diagnostics"),
    ("syntax", "ops"),
    ("ir",),
    ("space",),
    ("passes",),
    ("identity", "methods", "tabular"),
    ("subspace",),
    ("codegen",),
    (
        "compiler",
        "planning",
        "api",
        "opening",
        "drawing",
        "ranking",
        "scoring",
        "shrinking",
        "reporting",
        "verifying",
        "exporting",
    ),
    ("lsp",),
    ("cli", "__main__"),
)
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
RUNTIME_FROM = LAYER["codegen"]
"""The lowest layer that may import the runtime, to check or run what was generated."""


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def faults(package: Path) -> list[str]:
    """What is wrong with the imports of a package laid out as nasdsl is."""
    name = package.name
    wrong = (i for i in imports_of(package) if i.imported.split(".")[0] == name and not allowed(i))
    found = [f"{i.importer}:{i.line} imports {i.imported}" for i in wrong]
    return found + [f"circular: {', '.join(group)}" for group in loops(loading_edges(package))]


def allowed(i: Import) -> bool:
    importer, imported = room(i.importer), room(i.imported)
    if importer == "":
        return not i.on_load  # the package itself only looks its names up when they are asked for
    if imported == "":
        return importer in {
            "cli",
            "codegen",
            "exporting",
            "lsp",
        }  # for __version__; the public names are for users
    if importer == "runtime":
        return imported == "runtime"
    if imported == "runtime":
        return LAYER[importer] >= RUNTIME_FROM
    return importer == imported or LAYER[imported] < LAYER[importer] or same_floor(importer, imported)


def same_floor(importer: str, imported: str) -> bool:
    """Within a layer the order of the table counts, except that the lowest one is one room of helpers."""
    floor = LAYER[importer]
    return LAYER[imported] == floor and floor in {0, LAYER["api"], LAYER["cli"]}


def loading_edges(package: Path) -> dict[str, set[str]]:
    modules = modules_of(package)
    edges: dict[str, set[str]] = {m: set() for m in modules}
    for i in imports_of(package):
        if i.on_load and i.imported in modules and i.imported != i.importer:
            edges[i.importer].add(i.imported)
    return edges


def test_imports_go_down(root: Path) -> None:
    assert faults(root / "nasdsl") == []


def test_every_room_has_a_layer(root: Path) -> None:
    rooms = {room(m) for m in modules_of(root / "nasdsl")}
    assert rooms - set(LAYER) == {"", "runtime"}


@pytest.mark.parametrize(
    ("path", "text", "says"),
    [
        ("ir/graph.py", "from nasdsl.space import names\n", "imports nasdsl.space"),
        ("ir/graph.py", "def f():\n    import nasdsl.api\n", "imports nasdsl.api"),
        ("syntax/parse.py", "if True:\n    from nasdsl import cli\n", "imports nasdsl.cli"),
        ("syntax/parse.py", "from nasdsl.ops import base\n", "imports nasdsl.ops"),
        ("runtime/operators/mixed.py", "from nasdsl.errors import NasError\n", "imports nasdsl.errors"),
        ("passes/fold.py", "import nasdsl.runtime.operators.mixed\n", "imports nasdsl.runtime"),
        ("__init__.py", "from nasdsl.errors import NasError\n", "imports nasdsl.errors"),
        ("ir/graph.py", "from nasdsl.ir.nodes import N\n", "circular: nasdsl.ir.graph, nasdsl.ir.nodes"),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, path: str, text: str, says: str) -> None:
    package = tmp_path / "nasdsl"
    rest = {"ir/nodes.py": "from nasdsl.ir import graph\n", "cli/__init__.py": "", "ops/base.py": ""}
    for name, content in {**rest, path: text}.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(content)
    found = faults(package)
    assert len(found) == 1
    assert says in found[0]


def outside(i: Import) -> bool:
    return i.imported.split(".")[0] not in {"nasdsl", *sys.stdlib_module_names}


LOADS_TORCH = {"nasdsl.codegen.load"}
"""Makes modules of generated source; imported by the functions that return modules."""


def test_torch_is_loaded_by_the_runtime_only(root: Path) -> None:
    """Elsewhere torch is imported inside functions, if at all: this is what keeps `check` instant."""
    heavy = {"torch", "torchvision", "sklearn", "tensorboard"}
    free = {"runtime"}
    found = [
        f"{i.importer}:{i.line} imports {i.imported}"
        for i in imports_of(root / "nasdsl")
        if i.on_load and (i.imported.split(".")[0] in heavy or i.imported in LOADS_TORCH)
        if room(i.importer) not in free and i.importer not in LOADS_TORCH
    ]
    assert found == []


def test_the_runtime_loads_little(root: Path) -> None:
    """On a cluster it is imported by every process; what only some runs need is imported where used."""
    found = [
        f"{i.importer}:{i.line} imports {i.imported}"
        for i in imports_of(root / "nasdsl")
        if i.importer.startswith("nasdsl.runtime") and i.on_load and outside(i)
        if i.imported.split(".")[0] not in {"torch", "numpy", "attrs"}
    ]
    assert found == []


def test_standalone_code_stands_alone(root: Path) -> None:
    """It is embedded in retrain.py, which must run where nasdsl is not installed."""
    lazily = {"torch", "numpy", "torchvision", "sklearn", "safetensors", "PIL"}
    found = [
        f"{i.importer}:{i.line} imports {i.imported}"
        for i in imports_of(root / "nasdsl")
        if i.importer.startswith("nasdsl.runtime.standalone.")
        if i.imported.split(".")[0] not in {*lazily, *sys.stdlib_module_names}
        and not i.imported.startswith("nasdsl.runtime.standalone.")
    ]
    assert found == []
