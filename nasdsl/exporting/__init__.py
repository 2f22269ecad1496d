"""One network as files that outlive this package: Python, ONNX, a PyTorch program, and a card.

Takes a space, an architecture and weights, writes files. Invariant: a file that is there was run again after
it was written and computes what the network computes; nothing here imports torch on load.
"""

from __future__ import annotations

from nasdsl.exporting.formats import FORMATS
from nasdsl.exporting.writing import Exported, export

__all__ = ["FORMATS", "Exported", "export"]
