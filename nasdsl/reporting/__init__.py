"""Runs as pages: what one found and how, and how several differ.

Takes the folders of runs, returns HTML and plain data. Invariant: a folder is only read; what it lacks is said.
"""

from nasdsl.reporting.folder import Run, read_run
from nasdsl.reporting.page import page, write_page

__all__ = ["Run", "page", "read_run", "write_page"]
