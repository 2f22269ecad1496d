"""Size, making and loading of the page of a run of DARTS: 36 decisions, of which 28 have 8 entries, over 100 epochs.

    python benchmarks/report_page.py [--json FILE] [--epochs N] [--times N]

Loading is from navigation to the end of the load event of a browser that has just been started and has opened one
page before, as the browser itself says (`loadEventEnd`); the page is read from the disk. Medians.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.report import surroundings, table, write_json  # noqa: E402
from nasdsl.reporting import page, read_run  # noqa: E402
from tests.reporting.common import example  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTHS = (360, 1440)


def making(folder: Path, times: int) -> tuple[str, float]:
    """The page, and the median seconds that reading and writing it take in this process, opening the space included."""
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        text = page(read_run(folder))
        found.append(time.perf_counter() - begun)
    return text, median(found)


def loading(path: Path, times: int) -> dict[str, object]:
    program = next((p for name in BROWSERS if (p := shutil.which(name))), None)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        found: dict[str, object] = {"browser": browser.version}
        for width in WIDTHS:
            context = browser.new_context(viewport={"width": width, "height": 900})
            seen = context.new_page()
            seen.goto("about:blank")
            seconds = []
            for _ in range(times):
                seen.goto(path.as_uri())
                entry = seen.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
                seconds.append(entry / 1000)
            found[f"seconds_{width}"] = median(seconds)
            found[f"slowest_{width}"] = max(seconds)
        browser.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--times", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = example(Path(folder) / "darts-toponas", args.epochs)
        text, made = making(run, args.times)
        path = run / "report.html"
        path.write_text(text, "utf-8")
        found = {"epochs": args.epochs, "bytes": path.stat().st_size, "making_seconds": made}
        found["bytes_gzip"] = len(gzip.compress(text.encode()))
        found |= loading(path, args.times)
    rows = [
        (name, f"{value:,.3f}" if isinstance(value, float) else str(value)) for name, value in found.items()
    ]
    print(table(("figure", "value"), rows))
    if args.json:
        write_json(args.json, {"surroundings": surroundings("cpu"), "times": args.times, **found})


if __name__ == "__main__":
    main()
