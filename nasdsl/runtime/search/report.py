"""A run on one page.

Takes the folder of a run, writes `report.md` into it. Invariant: it says what `log.jsonl` and
`architecture.json` hold and nothing else, so it can be made again at any time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nasdsl.runtime.members import ended

_COLUMNS = {
    "train_loss": "train loss",
    "valid_loss": "valid loss",
    "valid_accuracy": "held-out accuracy",
    "supernet_accuracy": "accuracy of the mixture",
    "projected_accuracy": "accuracy at the architecture",
    "discretisation_gap": "discretisation gap",
    "hessian_eigenvalue": "dominant eigenvalue",
    "entropy_operations": "entropy of operations",
    "entropy_topology": "entropy of topology",
    "skip_share": "share of skips",
    "variable_rate": "variable steps a weight step",
    "schedule_threshold": "threshold",
    "fisher_trace": "Fisher trace",
    "pruned": "operations pruned",
    "true_value": "true value",
    "true_regret": "regret",
    "true_rank": "rank",
}
"""What is shown of an epoch, if it is there, and what it is called."""


def write_report(folder: Path, reason: str | None = None) -> Path:
    """Writes `report.md` of a run; returns its path.

    Args:
        reason: why the search stopped early, if it did.
    """
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    found = json.loads((folder / "architecture.json").read_text("utf-8"))
    lines = [f"# Search of {found['space']}", ""]
    lines += [
        f"{len(entries)} epochs." if reason is None else f"{len(entries)} epochs; stopped early: {reason}."
    ]
    if entries and "member_edits" in entries[-1]:
        said = ended(entries[-1]["member_edits"], entries[-1]["members_compared"])
        lines += ["", f"{said[0].upper()}{said[1:]}."]
    lines += ["", "![the architecture](architecture.svg)", "", "| decision | choice |", "|---|---|"]
    for path, choice in found["choices"].items():
        lines.append(f"| `{path}` | {choice if isinstance(choice, str) else ', '.join(choice)} |")
    lines += ["", *_table(entries), ""]
    path = folder / "report.md"
    path.write_text("\n".join(lines), "utf-8")
    return path


def _table(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [name for name in _COLUMNS if any(name in entry for entry in entries)]
    lines = [
        "| epoch | " + " | ".join(_COLUMNS[name] for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for entry in entries:
        cells = [f"{entry[name]:.4g}" if name in entry else "" for name in names]
        lines.append(f"| {entry['epoch']} | " + " | ".join(cells) + " |")
    return lines


__all__ = ["write_report"]
