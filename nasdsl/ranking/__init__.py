"""How well inherited weights rank architectures, against what training alone gives.

Takes a finished search and figures of networks that were trained by themselves, returns rank correlations
with their intervals. Invariant: torch and scipy are imported when something is computed.
"""

from __future__ import annotations

from nasdsl.ranking.correlation import Agreement, agreement
from nasdsl.ranking.searched import Searched, open_run
from nasdsl.ranking.trained import Trained, from_files, from_table

__all__ = ["Agreement", "Searched", "Trained", "agreement", "from_files", "from_table", "open_run"]
