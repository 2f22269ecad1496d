"""The audit of dependencies tells "none known" from "nobody could be asked"."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def audit(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", root / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FINE = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"], "description": "x"}]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("found", "code", "says"),
    [
        ([FINE], 0, "1 packages audited, none known"),
        ([FINE, SKIPPED], 0, "not known to the service: c"),
        ([FINE, BAD], 1, "b 2: CVE-1, mended in 3"),
        ([SKIPPED], 0, "NOT AUDITED"),
        ([], 0, "NOT AUDITED"),
    ],
)
def test_what_was_found(audit: ModuleType, found: list[object], code: int, says: str) -> None:
    given, lines = audit.judged(json.dumps({"dependencies": found, "fixes": []}), "")
    assert given == code
    assert says in "\n".join(lines)


@pytest.mark.parametrize("text", ["", "Traceback", "[]"])
@pytest.mark.parametrize(
    "last",
    [
        "ConnectionError: no route",
        "ERROR:pip_audit._cli:Could not connect to PyPI's vulnerability feed",
        "requests.exceptions.HTTPError: 404 Client Error: Not Found for url: https://index/pypi/a/1/json",
        "urllib3: Failed to establish a new connection: [Errno 111] Connection refused",
    ],
)
def test_a_service_out_of_reach_is_said_and_stops_nothing(audit: ModuleType, text: str, last: str) -> None:
    assert audit.judged(text, f"...\n{last}") == (
        0,
        [f"NOT AUDITED: the advisory service could not be asked ({last})"],
    )


@pytest.mark.parametrize(
    "trouble",
    [
        "",
        "/usr/bin/python: No module named pip_audit",
        "ERROR:pip_audit._cli:invalid requirements input: constraints.txt",
        "pip_audit: error: unrecognized arguments: --no-deps",
        "Traceback (most recent call last):\nKeyError: 'vulns'",
    ],
)
def test_an_audit_that_failed_by_itself_stops(audit: ModuleType, trouble: str) -> None:
    code, lines = audit.judged("", trouble)
    assert code == 1
    assert "the audit itself failed" in lines[0]
