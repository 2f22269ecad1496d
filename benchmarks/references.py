"""The original authors' networks, imported from checkouts of their repositories.

Takes a directory, returns modules of the original code. Invariant: not a line of
it is changed; what old code expects of its surroundings (a GPU, packages that pull
in half a repository) is supplied while it is imported or built, and removed after.

    git clone https://github.com/quark0/darts
    git clone https://github.com/D-X-Y/AutoDL-Projects
    git clone https://github.com/yuhuixu1993/PC-DARTS
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

DARTS_FILES = ("operations.py", "genotypes.py", "model_search.py", "model.py")
PCDARTS_FILES = ("operations.py", "genotypes.py", "model_search.py")
XAUTODL_FILES = (
    "models/cell_operations.py",
    "models/cell_infers/cells.py",
    "models/cell_infers/tiny_network.py",
    "models/cell_searchs/genotypes.py",
    "models/cell_searchs/search_cells.py",
    "models/cell_searchs/search_model_darts.py",
    "models/cell_searchs/search_model_gdas.py",
)


def digest(root: Path, files: Sequence[str]) -> str:
    """A hash of the files that are used, so that a result names the code it was compared with."""
    found = hashlib.sha256()
    for name in files:
        found.update((root / name).read_bytes())
    return found.hexdigest()[:16]


@contextlib.contextmanager
def on_cpu_and_quiet() -> Iterator[None]:
    """`.cuda()` does nothing and constructors print nothing, as long as this lasts."""
    tensor_cuda, module_cuda = torch.Tensor.cuda, nn.Module.cuda
    torch.Tensor.cuda = lambda self, *a, **k: self  # type: ignore[method-assign]
    nn.Module.cuda = lambda self, *a, **k: self  # type: ignore[method-assign]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        torch.Tensor.cuda = tensor_cuda  # type: ignore[method-assign]
        nn.Module.cuda = module_cuda  # type: ignore[method-assign]


def from_scripts(root: Path, files: Sequence[str]) -> dict[str, Any]:
    """The modules of a folder of scripts that import each other by their bare names."""
    names = [*(Path(f).stem for f in files), "utils"]
    hidden = {n: sys.modules.pop(n) for n in names if n in sys.modules}
    # They want `utils.drop_path`, which needs a GPU and is never called here; the real `utils` would
    # import torchvision.
    helpers = types.ModuleType("utils")
    helpers.drop_path = None  # type: ignore[attr-defined]
    sys.modules["utils"] = helpers
    sys.path.insert(0, str(root))
    try:
        return {name: importlib.import_module(name) for name in names[:-1]}
    finally:
        sys.path.remove(str(root))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)


class Darts:
    """quark0/darts, `cnn/`."""

    def __init__(self, checkout: Path) -> None:
        root = checkout / "cnn"
        self.digest = digest(root, DARTS_FILES)
        found = from_scripts(root, DARTS_FILES)
        self.search: Any = found["model_search"]
        self.evaluation: Any = found["model"]
        self.genotypes: Any = found["genotypes"]

    def supernet(self, channels: int, classes: int, layers: int) -> nn.Module:
        """`model_search.Network`."""
        with on_cpu_and_quiet():
            net: nn.Module = self.search.Network(channels, classes, layers, nn.CrossEntropyLoss())
        return net

    def network(self, channels: int, classes: int, layers: int, genotype: str) -> nn.Module:
        """`model.NetworkCIFAR` without auxiliary head and drop-path; its forward returns a pair."""
        with on_cpu_and_quiet():
            net: nn.Module = self.evaluation.NetworkCIFAR(
                channels, classes, layers, False, getattr(self.genotypes, genotype)
            )
        net.drop_path_prob = 0.0  # type: ignore[assignment]
        return net


class PcDarts:
    """yuhuixu1993/PC-DARTS: partial channels, edge normalisation."""

    def __init__(self, checkout: Path) -> None:
        self.digest = digest(checkout, PCDARTS_FILES)
        self.search: Any = from_scripts(checkout, PCDARTS_FILES)["model_search"]

    def supernet(self, channels: int, classes: int, layers: int) -> nn.Module:
        """`model_search.Network`."""
        with on_cpu_and_quiet():
            net: nn.Module = self.search.Network(channels, classes, layers, nn.CrossEntropyLoss())
        return net


class NasBench201:
    """D-X-Y/AutoDL-Projects: the search network of `DARTS-V1` and the network of the benchmark's table."""

    def __init__(self, checkout: Path) -> None:
        root = checkout / "xautodl"
        self.digest = digest(root, XAUTODL_FILES)
        # Bare packages in the place of the real ones: their __init__ files import data sets,
        # schedulers and every other network, none of which is needed here.
        for name in ("xautodl", *(f"xautodl.models{part}" for part in ("", ".cell_searchs", ".cell_infers"))):
            package = types.ModuleType(name)
            package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
            sys.modules[name] = package
        module: Any = importlib.import_module("xautodl.models.cell_searchs.search_model_darts")
        operations: Any = importlib.import_module("xautodl.models.cell_operations")
        evaluation: Any = importlib.import_module("xautodl.models.cell_infers.tiny_network")
        self.build = module.TinyNetworkDarts
        drawn: Any = importlib.import_module("xautodl.models.cell_searchs.search_model_gdas")
        self.build_gdas = drawn.TinyNetworkGDAS
        self.build_evaluation = evaluation.TinyNetwork
        self.read = module.Structure.str2structure
        self.options: list[str] = operations.NAS_BENCH_201

    def supernet(self, channels: int, cells: int, classes: int) -> nn.Module:
        """`TinyNetworkDarts`, batch norm of the cells not affine; its forward returns (features, logits)."""
        net: nn.Module = self.build(channels, cells, 4, classes, self.options, False, True)
        return net

    def gdas(self, channels: int, cells: int, classes: int) -> nn.Module:
        """`TinyNetworkGDAS`, batch norm of the cells not affine; its forward returns (features, logits)."""
        net: nn.Module = self.build_gdas(channels, cells, 4, classes, self.options, False, True)
        return net

    def network(self, channels: int, cells: int, classes: int, architecture: str) -> nn.Module:
        """`TinyNetwork` of an architecture string; its forward returns (features, logits)."""
        net: nn.Module = self.build_evaluation(channels, cells, self.read(architecture), classes)
        return net
