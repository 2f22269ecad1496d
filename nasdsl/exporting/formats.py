"""The formats: how each is written, run again, and used.

Takes a network in evaluation mode on the processor, writes files into a folder. Invariant: the same network gives
the same bytes, and no path of the machine that wrote them is inside.
"""

from __future__ import annotations

import io
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from nasdsl.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nasdsl.exporting.equality import Computes

INPUT, OUTPUT = "x", "logits"
"""The names of what goes in and comes out, in the formats that name it."""


@attrs.frozen(slots=False)
class Network:
    """What is exported.

    Attributes:
        module: in evaluation mode, float32, on the processor.
        source: the text of its class `Network`.
        shape: of one example, without the batch.
        facts: what is written into formats that have a place for it: name to text.
    """

    module: nn.Module
    source: str
    shape: tuple[int, ...]
    facts: Mapping[str, str]

    @cached_property
    def program(self) -> torch.export.ExportedProgram:
        """As torch.export sees it, for batches of any size; where its lines come from left out."""
        import torch

        example = torch.zeros(2, *self.shape)
        free = {0: torch.export.Dim("batch", min=1)}
        with _quiet(), torch.no_grad():
            program = torch.export.export(self.module, (example,), dynamic_shapes=(free,))
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)
        return program


@attrs.frozen
class Format:
    """One format.

    Attributes:
        suffix: of its file.
        what: in a few words.
        needs: packages that using it takes.
        writes_with: packages that writing it takes besides torch; they are in the extra of the same name.
        write: writes the network to a path.
        reads: what runs the file at a path again.
    """

    name: str
    suffix: str
    what: str
    needs: tuple[str, ...]
    writes_with: tuple[str, ...]
    write: Callable[[Network, Path], None]
    reads: Callable[[Path], Computes]

    def ready(self) -> None:
        """Raises UserError (NAS801) where a package that writing takes is missing."""
        missing = [name for name in self.writes_with if find_spec(name) is None]
        if missing:
            raise UserError.plain(
                "NAS801",
                f"format {self.name} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} "
                "not installed",
                help=f"pip install 'nasdsl[{self.name}]'",
            )


def weights_of(path: Path) -> Path:
    """Where the weights of a Python file lie."""
    return path.with_name(path.name.removesuffix(".py") + ".safetensors")


def _write_py(network: Network, path: Path) -> None:
    from safetensors.torch import save

    path.write_text(network.source, "utf-8", newline="\n")
    weights_of(path).write_bytes(save({k: v.contiguous() for k, v in network.module.state_dict().items()}))


def _read_py(path: Path) -> Computes:
    from safetensors.torch import load_file

    from nasdsl.runtime.standalone.training import load_model

    with _no_bytecode():
        net: nn.Module = load_model(path).Network()
    net.load_state_dict(load_file(weights_of(path)))
    return net.eval()


@contextmanager
def _no_bytecode() -> Iterator[None]:
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that the exporters of torch give of themselves, whatever the network."""
    with warnings.catch_warnings():
        # torch 2.13 gives it while it writes and reads its own description of inputs.
        warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
        yield


def _write_pt2(network: Network, path: Path) -> None:
    import torch

    # Through memory: torch would write the name of the file into it.
    written = io.BytesIO()
    with _quiet():
        torch.export.save(
            network.program, written, extra_files={"network.json": json.dumps(dict(network.facts))}
        )
    path.write_bytes(written.getvalue())


def _read_pt2(path: Path) -> Computes:
    import torch

    with _quiet():
        net: nn.Module = torch.export.load(path).module()
    return net


def _write_onnx(network: Network, path: Path) -> None:
    import torch

    with _quiet():
        made: Any = torch.onnx.export(
            network.program,
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: "batch"},),
        )
    model = made.model
    model.graph.metadata_props.clear()
    model.metadata_props.clear()
    model.metadata_props.update(network.facts)
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
    made.save(path)


def _read_onnx(path: Path) -> Computes:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(x: torch.Tensor) -> torch.Tensor:
        (logits,) = session.run([OUTPUT], {INPUT: x.numpy()})
        return torch.from_numpy(logits)

    return run


_ALL = (
    Format("py", ".py", "PyTorch source and weights", ("torch", "safetensors"), (), _write_py, _read_py),
    Format(
        "onnx",
        ".onnx",
        "ONNX",
        ("numpy", "onnxruntime"),
        ("onnx", "onnxscript", "onnxruntime"),
        _write_onnx,
        _read_onnx,
    ),
    Format("pt2", ".pt2", "a PyTorch program", ("torch",), (), _write_pt2, _read_pt2),
)
FORMATS: Mapping[str, Format] = {each.name: each for each in _ALL}

__all__ = ["FORMATS", "INPUT", "OUTPUT", "Format", "Network", "weights_of"]
