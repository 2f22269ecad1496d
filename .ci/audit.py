"""Known vulnerabilities of what `constraints.txt` pins, by pip-audit, which runs beside this interpreter.

Exit code 0 when none is known, or when the advisory service could not be reached, which is said; 1 when there is one,
or when the audit failed in any other way.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COMMAND = ("-m", "pip_audit", "-r", "constraints.txt", "--no-deps", "--disable-pip", "--progress-spinner=off")

UNREACHED = re.compile(
    r"connectionerror|connecttimeout|readtimeout|newconnectionerror|max retries exceeded|could not connect|timed out"
    r"|name resolution|name or service not known|no route to host|connection refused|network is unreachable"
    r"|proxyerror|\b(?:404|502|503|504)\b (?:client|server) error",
    re.IGNORECASE,
)
"""What is said where nobody answers, or where a mirror of the registry has no advisories."""


def judged(text: str, trouble: str) -> tuple[int, list[str]]:
    """What pip-audit found: an exit code, and lines for people.

    Args:
        text: its JSON; anything else where it failed.
        trouble: what it said on standard error.
    """
    try:
        found: list[dict[str, Any]] = json.loads(text)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (trouble.strip().splitlines() or ["it said nothing"])[-1][:200]
        if UNREACHED.search(trouble):
            return 0, [f"NOT AUDITED: the advisory service could not be asked ({last})"]
        return 1, [f"NOT AUDITED: the audit itself failed ({last})"]
    asked = [d for d in found if "skip_reason" not in d]
    if not asked:
        return 0, [
            f"NOT AUDITED: the advisory service knows none of {len(found)} packages: it was not reached"
        ]
    lines = [
        f"{d['name']} {d['version']}: {v['id']}, mended in {', '.join(v['fix_versions']) or 'no version yet'}"
        for d in asked
        for v in d["vulns"]
    ]
    code = 1 if lines else 0
    left = [d["name"] for d in found if "skip_reason" in d]
    if left:
        lines.append(f"not known to the service: {', '.join(left)}")
    return code, [
        *lines,
        f"{len(asked)} packages audited, {'vulnerabilities above' if code else 'none known'}",
    ]


def main() -> int:
    """Asks and says."""
    words = [sys.executable, *COMMAND, "--timeout=10", "--format=json"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    code, lines = judged(done.stdout, done.stderr)
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    raise SystemExit(main())
