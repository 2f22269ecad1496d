"""The pages in a browser: light and dark, narrow and wide, without a network, and what a reader does with them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from nasdsl.reporting import page, read_run, write_page
from nasdsl.reporting.beside import comparison_page
from tests.reporting.common import example, write_retrained, write_run

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright drives the browser: pip install playwright"
)

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
GROUNDS = {"light": "rgb(255, 255, 255)", "dark": "rgb(23, 24, 26)"}
WIDTHS = (360, 1440)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as driver:
        found = next((p for n in NAMES if (p := shutil.which(n))), None) or driver.chromium.executable_path
        if not Path(found).exists():
            pytest.skip(
                f"no browser: none of {', '.join(NAMES)} is on the path, and playwright has none installed"
            )
        opened = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, _path_run: Path) -> dict[str, Path]:
    """A long run, one that has not ended, both beside each other, and one of single paths."""
    made = tmp_path_factory.mktemp("pages") / "darts-toponas"
    long = example(made, 100)
    write_retrained(long)
    begun = write_run(made / "runs" / "1", 8, seed=3, finished=False, clip=3.0)
    found = {"run": write_page(long), "begun": write_page(begun), "compare": made / "compare.html"}
    found["compare"].write_text(comparison_page([read_run(long), read_run(begun)]), "utf-8")
    found["paths"] = made / "paths.html"
    found["paths"].write_text(page(read_run(_path_run)), "utf-8")
    return found


class Watched:
    """A page with everything that it asked for and complained of."""

    def __init__(self, page: Any, path: Path) -> None:
        self.page, self.complaints = page, []
        self.requests: list[str] = []
        page.on("request", lambda r: self.requests.append(r.url))
        page.on("console", lambda m: self.complaints.append(m.text))
        page.on("pageerror", lambda e: self.complaints.append(str(e)))
        page.goto(path.as_uri())

    def clean(self, path: Path) -> bool:
        """Whether it asked for nothing but itself and complained of nothing."""
        asked = [u for u in self.requests if not u.startswith("data:")]
        return asked == [path.as_uri()] and self.complaints == []


def opened(browser: Any, path: Path, width: int = 1440, scheme: str = "light", **how: Any) -> Watched:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **how)
    return Watched(context.new_page(), path)


# Every text and picture with a place of its own; what scrolls within a box is cut to that box, and what is
# drawn inside a picture belongs to the picture.
OVERLAPS = """() => {
  const shown = (e) => e.checkVisibility() && !e.closest('.scrub');
  const leaves = [...document.querySelectorAll('main *, header *')].filter((e) => shown(e) && !e.closest('svg *') &&
    (e.tagName === 'svg' || [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())));
  const boxes = leaves.map((e) => {
    const r = e.getBoundingClientRect(), w = e.closest('.wide');
    const c = w ? w.getBoundingClientRect() : document.documentElement.getBoundingClientRect();
    return {e, left: Math.max(r.left, c.left), right: Math.min(r.right, c.right), top: r.top, bottom: r.bottom};
  }).filter((b) => b.right - b.left > 1);
  const found = [];
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
    const a = boxes[i], b = boxes[j];
    if (a.e.contains(b.e) || b.e.contains(a.e)) continue;
    const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (x > 2 && y > 2) found.push([a.e.outerHTML.slice(0, 90), b.e.outerHTML.slice(0, 90)]);
  }
  return found.slice(0, 5);
}"""
SMALLEST_SVG_TEXT = """() => Math.min(...[...document.querySelectorAll('figure svg text')]
  .map((t) => t.getBoundingClientRect().height))"""


@pytest.mark.parametrize("scheme", GROUNDS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["run", "begun", "compare", "paths"])
def test_a_page_fits_any_screen(
    browser: Any, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    seen = opened(browser, pages[name], width, scheme)
    measure = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    wide, room = seen.page.evaluate(measure)
    assert wide <= room, "the page scrolls sideways"
    assert seen.page.evaluate(OVERLAPS) == []
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == GROUNDS[scheme]
    assert seen.page.evaluate(SMALLEST_SVG_TEXT) >= 9
    assert seen.clean(pages[name]), (seen.requests, seen.complaints)
    seen.page.context.close()


def test_what_overlaps_would_be_found(browser: Any, pages: dict[str, Path]) -> None:
    seen = opened(browser, pages["begun"])
    seen.page.evaluate("document.querySelector('h2').style.marginBottom = '-3rem'")
    assert seen.page.evaluate(OVERLAPS)
    seen.page.context.close()


def test_the_slider_moves_every_mark_and_every_text(browser: Any, pages: dict[str, Path]) -> None:
    seen = opened(browser, pages["run"])
    page = seen.page
    slider = page.get_by_role("slider", name="Epoch")
    assert slider.input_value() == "99"
    assert page.locator("#shown").inner_text() == "epoch 100 of 100"
    log = read_run(pages["run"].parent).log
    charts = page.locator("[data-step]")
    before = charts.locator(".mark").evaluate_all("all => all.map((m) => m.getAttribute('d'))")
    slider.focus()
    page.keyboard.press("Home")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert page.locator("#shown").inner_text() == "epoch 5 of 100"
    assert slider.get_attribute("aria-valuetext") == "epoch 5"
    after = charts.locator(".mark").evaluate_all("all => all.map((m) => m.getAttribute('d'))")
    assert len(after) == charts.count() > 40
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert f"{log[4]['train_loss']:.4g}" in page.locator("#l0 .now").inner_text()
    assert seen.clean(pages["run"])
    page.context.close()


def test_a_pointer_over_a_chart_chooses_the_epoch_beneath_it(browser: Any, pages: dict[str, Path]) -> None:
    seen = opened(browser, pages["run"])
    page = seen.page
    figure = page.locator("#i1")
    figure.scroll_into_view_if_needed()
    first, step = (float(figure.get_attribute(f"data-{n}")) for n in ("first", "step"))
    svg = figure.locator("svg").first
    box = svg.bounding_box()
    across = box["width"] / float(svg.get_attribute("viewBox").split()[2])
    page.mouse.move(box["x"] + across * (first + 37 * step), box["y"] + box["height"] / 2)
    assert page.locator("#shown").inner_text() == "epoch 37 of 100"
    page.mouse.move(box["x"] + 1, box["y"] + box["height"] / 2)
    assert page.locator("#shown").inner_text() == "epoch 1 of 100"
    page.context.close()


def test_without_scripts_everything_but_the_slider_is_there(browser: Any, pages: dict[str, Path]) -> None:
    seen = opened(browser, pages["run"], java_script_enabled=False)
    page = seen.page
    assert not page.locator("#scrub").is_visible()
    assert page.locator("#l0 .now").inner_text().strip()
    assert page.locator("figure.chart svg").count() > 40
    page.get_by_text("Every choice").click()
    assert page.get_by_role("cell", name="skip_connect").first.is_visible()
    page.context.close()


def test_who_reads_by_ear_or_by_keyboard_has_it_all(browser: Any, pages: dict[str, Path]) -> None:
    seen = opened(browser, pages["run"])
    page = seen.page
    levels = page.locator("h1, h2, h3").evaluate_all("all => all.map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels)), "a level of headings is left out"
    pictures = page.locator("main svg:not([aria-hidden]):not(.drawing svg)")
    titles = pictures.evaluate_all(
        "all => all.map((s) => s.getAttribute('role') + s.querySelector('title')?.textContent)"
    )
    assert all(re.fullmatch(r"img.+ by epoch", t) for t in titles), titles[:3]
    regions = page.locator("[role=region], [role=group], [role=img]:not(svg)")
    assert all(regions.evaluate_all("all => all.map((r) => Boolean(r.getAttribute('aria-label')))"))
    scrolling = page.locator(".wide").evaluate_all("all => all.every((w) => w.tabIndex === 0)")
    assert scrolling, "what scrolls is out of the reach of a keyboard"
    page.get_by_role("link", name="Instruments").click()
    assert page.locator("#instruments").bounding_box()["y"] < 900
    page.context.close()


def test_on_paper_it_is_light_and_whole(browser: Any, pages: dict[str, Path]) -> None:
    seen = opened(browser, pages["run"], scheme="dark")
    page = seen.page
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == GROUNDS["light"]
    assert not page.locator("#scrub").is_visible()
    assert not page.locator(".mark").first.is_visible()
    assert page.pdf(format="A4", print_background=True).startswith(b"%PDF")
    page.context.close()
