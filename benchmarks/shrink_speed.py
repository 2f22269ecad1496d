"""How long the rounds of a shrinking take apart from the scores, and how much memory.

    python benchmarks/shrink_speed.py --json benchmarks/results/shrink_speed.json

Scores are sums of a fixed number for every value of every decision: they take no time. `million` has six
decisions of ten values; DARTS and Cream are those that come along. Seconds are processor time of one thread:
of opening (bins of costs, from all or from draws, and the first samples) and of each round (seeds,
neighbours, regression, fresh samples, identities). Memory is the peak of the process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from report import surroundings, table, write_json

import nasdsl
from nasdsl.shrinking import Shrinking

LAYERS = "\n".join(f"    layer{i}: choose ops" for i in range(1, 7))
MILLION = f"""
space million {{
  input image(3, 8, 8)
  op c(k) = conv(k, 8) >> bn >> relu
  set ops = {{
    c1: c(1), c3: c(3), c5: c(5), c7: c(7), d3: dwconv(3), d5: dwconv(5), d7: dwconv(7),
    most: max_pool(3), mean: avg_pool(3), none: id
  }}
  network {{
    stem: conv(3, 8)
{LAYERS}
    head: global_pool >> linear(10)
  }}
}}
"""
SPACES = ("million", "cream", "darts")


def score(choices: Mapping[str, Any]) -> float:
    return sum(zlib.crc32(f"{k}{v}".encode()) % 1000 / 1000 for k, v in choices.items())


def measured(name: str) -> dict[str, Any]:
    """One space, in a process of its own."""
    if name == "million":
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "million.nas"
            file.write_text(MILLION, "utf-8")
            space = nasdsl.load(file)
    else:
        space = nasdsl.load(name)
    size = space.tally().high
    before = time.process_time()
    shrinking = Shrinking(space)
    seconds = [time.process_time() - before]
    while asked := shrinking.ask():
        scores = [score(choices) for choices in asked]
        before = time.process_time()
        shrinking.tell(scores)
        seconds.append(time.process_time() - before)
    assert shrinking.result is not None
    return {
        "space": name,
        "size": size,
        "opening": seconds[0],
        "rounds": seconds[1:],
        "sizes": [r.size for r in shrinking.rounds],
        "evaluations": len(shrinking.result.scored),
        "mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--space", choices=SPACES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.space is not None:
        write_json(args.json, measured(args.space))
        return 0
    found = []
    for name in SPACES:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "one.json"
            subprocess.run([sys.executable, __file__, "--space", name, "--json", str(out)], check=True)
            found.append(json.loads(out.read_text("utf-8")))
    heads = ("space", "architectures", "opening", "rounds", "sizes", "evaluations", "MiB")
    rows = [
        (
            f["space"],
            f"{f['size']:.3g}",
            f"{f['opening']:.1f} s",
            ", ".join(f"{s:.1f}" for s in f["rounds"]) + " s",
            ", ".join(f"{s:,}" for s in f["sizes"][1:]),
            f"{f['evaluations']:,}",
            f"{f['mebibytes']:.0f}",
        )
        for f in found
    ]
    print(table(heads, rows))
    if args.json is not None:
        write_json(args.json, {"spaces": found, **surroundings("cpu")})
    return 0


if __name__ == "__main__":
    sys.exit(main())
