"""Whether a compiled directory, or a run in it, is still what its lock says; and what it matters if not.

Takes folders, returns findings. Invariant: nothing in the folder is run unless a replay is asked for, and
nothing in it is changed.
"""

from nasdsl.verifying.findings import Finding, Report

__all__ = ["Finding", "Report"]
