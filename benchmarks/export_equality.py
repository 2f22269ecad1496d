"""Exported networks, run where nasdsl is not, beside the networks that they were exported from.

    python benchmarks/export_equality.py [-n 50] [--seed 0] [--json benchmarks/results/export_equality.json]

Random architectures over all shipped spaces, small ones. The weights are given spread: fresh ones, with statistics,
scales and shifts of batch norm that are those of no fresh network, so that a fault anywhere changes the outputs. Every
architecture is exported in every format; one process of a new virtual environment, which holds what the cards name and
nothing else, uses them all as the cards say.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from packaging.requirements import Requirement  # noqa: E402
from report import surroundings, table, write_json  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import nasdsl  # noqa: E402
from nasdsl import Architecture, Space  # noqa: E402
from nasdsl.exporting import FORMATS  # noqa: E402
from nasdsl.resources import shipped_spaces  # noqa: E402

SMALL: dict[str, dict[str, object]] = {
    "autoformer": {"resolution": 32, "classes": 10},
    "cream": {"resolution": 32, "depths": [1, 1, 1, 1, 1], "classes": 10},
    "darts": {"layers": 3, "C": 4, "resolution": 8},
    "hierarchical": {"N": 1, "C": 4, "resolution": 8},
    "nasbench101": {"C": 8, "N": 1},
    "nasbench201": {"N": 1, "C": 4, "resolution": 8},
    "nats_size": {"resolution": 8, "classes": 10},
    "ofa": {"classes": 10},
}
NEEDED = ("torch", "numpy", "safetensors", "onnxruntime")
"""What the cards name; what these need comes with them."""
BOUND = 1e-5
BATCHES = (1, 3)


def drawn(count: int, seed: int) -> Iterator[tuple[Space, Architecture]]:
    """Random architectures, as many of each shipped space as of any other, or one more."""
    spaces = [nasdsl.load(name, **SMALL.get(name, {})) for name in shipped_spaces()]
    each = -(-count // len(spaces))
    columns = [space.sample(each, seed=seed) for space in spaces]
    pairs = [(space, column[i]) for i in range(each) for space, column in zip(spaces, columns, strict=True)]
    yield from pairs[:count]


def shape_of(space: Space, arch: Architecture) -> tuple[int, ...]:
    return tuple(d.settle(arch.choices).evaluate({}) for d in space.checked.input.dims)


def spread(space: Space, arch: Architecture, seed: int) -> torch.nn.Module:
    """A network in evaluation mode whose statistics, scales and shifts are not those of a fresh one."""
    net = space.network(arch, seed=seed)
    random = torch.Generator().manual_seed(seed)
    norms = [
        m
        for m in net.modules()
        if isinstance(m, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d | torch.nn.LayerNorm)
    ]
    with torch.no_grad():
        for module in norms:
            module.weight.uniform_(0.5, 1.5, generator=random)
            module.bias.normal_(0.0, 0.2, generator=random)
            if not isinstance(module, torch.nn.LayerNorm):
                # Statistics are then those of what is seen: signals neither die nor grow on their way.
                module.momentum = None
        for _ in range(2):
            net.train()(torch.randn(4, *shape_of(space, arch), generator=random))
    return net.eval()


def write(folder: Path, pairs: Sequence[tuple[Space, Architecture]], formats: Sequence[str]) -> None:
    """Exports every architecture to a folder of its own, with inputs and what its network gives for them."""
    for index, (space, arch) in enumerate(pairs):
        net = spread(space, arch, index)
        home = folder / f"{index:02}_{space.name}"
        nasdsl.export(space, arch, home / "model.py", format=formats, weights=net)
        tensors = {}
        for number, size in enumerate(BATCHES):
            generator = torch.Generator().manual_seed(100 + number)
            x = torch.randn(size, *shape_of(space, arch), generator=generator)
            with torch.no_grad():
                tensors |= {f"x{number}": x, f"y{number}": net(x)}
        save_file(tensors, home / "expected.safetensors")


def closure(names: Sequence[str]) -> Iterator[metadata.Distribution]:
    """These distributions and what they need, as installed here."""
    waiting, seen = list(names), set()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen or not any(metadata.distributions(name=name)):
            continue
        seen.add(name)
        found = metadata.distribution(name)
        yield found
        for text in found.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)


def environment(folder: Path, needed: Sequence[str] = NEEDED) -> Path:
    """The interpreter of a new virtual environment that holds these packages, linked from here, and nothing else."""
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    for distribution in closure(needed):
        for top in {
            file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")
        }:
            origin = Path(str(distribution.locate_file(top)))
            if origin.exists() and not (packages / top).exists():
                (packages / top).symlink_to(origin)
    return folder / "bin" / "python"


def outside(python: Path, folder: Path) -> dict[str, dict[str, float]]:
    """What the exports in a folder give in another environment: the differences of every format, by architecture."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [python, "-I", str(ROOT / "benchmarks" / "export_outside.py"), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=kept,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--json", type=Path, help="a file to write, such as benchmarks/results/export_equality.json"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "exports", list(drawn(args.n, args.seed)), list(FORMATS))
        found = outside(environment(folder / "environment"), folder / "exports")
    largest: dict[str, dict[str, float]] = {}
    for label, differences in found.items():
        space = label.partition("_")[2]
        row = largest.setdefault(space, dict.fromkeys(FORMATS, 0.0))
        for each, far in differences.items():
            row[each] = max(row[each], far)
    total = {each: max(row[each] for row in largest.values()) for each in FORMATS}
    count = {space: sum(label.partition("_")[2] == space for label in found) for space in largest}
    rows = [[s, str(count[s]), *(f"{row[f]:.1e}" for f in FORMATS)] for s, row in sorted(largest.items())]
    rows.append(["all", str(len(found)), *(f"{total[f]:.1e}" for f in FORMATS)])
    versions = {name: metadata.version(name) for name in (*NEEDED, "onnx", "onnxscript")}
    data = {
        "architectures": len(found),
        "seed": args.seed,
        "batches": list(BATCHES),
        "bound": BOUND,
        "largest": total,
        "by_space": largest,
        "each": found,
        "surroundings": surroundings("cpu") | {"versions": versions},
    }
    if args.json is not None:
        write_json(args.json, data)
    print(table(["space", "architectures", *FORMATS], rows))
    if max(total.values()) > BOUND:
        raise SystemExit(f"more than {BOUND:.0e}")


if __name__ == "__main__":
    main()
