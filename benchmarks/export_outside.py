"""What `export_equality.py` starts where nasdsl is not installed: exported networks, used as their cards say.

    python export_outside.py FOLDER

Every folder in FOLDER holds the files of an export, its card and `expected.safetensors`: inputs `x0`, `x1`, ... and
what the network gave for them, `y0`, `y1`, .... Each block of Python under "Use" of the card is executed in its folder,
then what it made (`net` or `session`) is given the inputs. Prints one JSON object: folder to format to the largest
difference, relative to the largest logit where that is above one.
"""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load_file

BLOCK = re.compile(r"^`[^`]*\.(\w+)` needs .*?\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""What is used, by its suffix, and how."""


def used(folder: Path) -> dict[str, float]:
    """The largest difference of every format of an export."""
    expected = load_file(folder / "expected.safetensors")
    text = (folder / "MODEL.md").read_text("utf-8")
    found = {}
    os.chdir(folder)
    for suffix, block in BLOCK.findall(text.partition("\n## Use\n")[2].partition("\n## ")[0]):
        sys.modules.pop("model", None)
        names: dict[str, object] = {}
        exec(block, names)  # noqa: S102 - the lines that the card shows are what is tested
        assert tuple(names["logits"].shape)[:1] == (1,)
        found[suffix] = max(_differences(names, expected))
    return found


def _differences(names: dict[str, object], expected: dict[str, torch.Tensor]) -> list[float]:
    differences = []
    for index in range(len(expected) // 2):
        x, y = expected[f"x{index}"], expected[f"y{index}"]
        with torch.no_grad():
            if "session" in names:
                z = torch.from_numpy(names["session"].run(None, {"x": x.numpy()})[0])
            else:
                z = names["net"](x)
        assert z.shape == y.shape
        differences.append(float((z - y).abs().max()) / max(1.0, float(y.abs().max())))
    return differences


def main() -> None:
    warnings.simplefilter("error")
    # torch gives this one of itself while it reads a program.
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    assert find_spec("nasdsl") is None, "nasdsl is here"
    sys.path.insert(0, "")
    sys.dont_write_bytecode = True
    folders = sorted(p.resolve() for p in Path(sys.argv[1]).iterdir() if (p / "MODEL.md").exists())
    print(json.dumps({folder.name: used(folder) for folder in folders}))


if __name__ == "__main__":
    main()
