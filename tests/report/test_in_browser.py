"""The page as people see it: in a real browser, on a phone, at a desk, in the dark, on paper."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeprune.report.html import FEW, render
from edgeprune.report.saving import save
from edgeprune.report.source import find

pytestmark = pytest.mark.system
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PAGES = ("every-plot", "mixed", "few", "many")
PHONE, DESK, PAPER = 360, 1180, 700
"""Pixels: a small phone, a window, and A4 between its margins."""
DRAWN = """() => [...document.querySelectorAll('svg')].map(svg => {
  const box = svg.getBoundingClientRect();
  const marks = [...svg.querySelectorAll('path, use, rect')].map(mark => mark.getBoundingClientRect());
  const texts = [...svg.querySelectorAll('text')].map(text => text.getBoundingClientRect());
  return {
    name: svg.getAttribute('aria-label'), width: box.width, height: box.height,
    marks: marks.filter(one => one.width + one.height > 0).length,
    text: Math.min(...[...svg.querySelectorAll('text')].map(text => {
      const {a, b} = text.getScreenCTM();
      return Math.hypot(a, b) * parseFloat(getComputedStyle(text).fontSize);
    })),
    outside: texts.filter(one => one.left < box.left - 3 || one.right > box.right + 3).length,
  };
})"""
LOW_CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = colour => colour.slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = element => {
    for (let one = element; one; one = one.parentElement) {
      const colour = rgba(getComputedStyle(one).backgroundColor);
      if (colour[3] > 250) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = new Set();
  for (const element of document.querySelectorAll('body *')) {
    const words = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!words || element.closest('svg')) continue;
    const [a, b] = [luminance(rgba(getComputedStyle(element).color)), luminance(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.add(`${element.tagName} '${element.textContent.trim().slice(0, 30)}' ${ratio.toFixed(2)}`);
  }
  return [...found];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install playwright")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser is here: none of {', '.join(BROWSERS)}; apt-get install chromium-headless-shell")
    with playwright.sync_playwright() as started:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        running = started.chromium.launch(executable_path=path, args=sandbox)
        yield running
        running.close()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real bundle with a plan."""
    from edgeprune.api import recipe_with
    from edgeprune.cache import StageCache
    from edgeprune.interleaved.settings import Settings
    from edgeprune.pipeline.compile import compile_bundle
    from edgeprune.targets.load import load_target

    folder = tmp_path_factory.mktemp("mixed")
    recipe = recipe_with({"epochs": 3, "precision": "mixed", "max_drop": 0.5})
    settings, cache = Settings(seconds=0.05, restarts=6), StageCache(folder / "cache")
    compile_bundle(recipe, load_target("cpu"), out=folder / "cnn", cache=cache, settings=settings)
    return folder / "cnn"


@pytest.fixture(params=PAGES)
def page(request, source, bundles, mixed, tmp_path) -> Path:
    sources = {
        "every-plot": lambda: [source],
        "mixed": lambda: find([mixed]),
        "few": lambda: find(list(bundles.values())),
        "many": lambda: find(list(bundles.values())) + [source] * FEW,
    }
    save(render(sources[request.param]()), tmp_path / "report.html")
    return tmp_path / "report.html"


@pytest.fixture
def opened(browser, page, tmp_path):
    """Opens the page as one sees it, and says what went wrong in it."""
    contexts, wrong = [], []

    def open_(width: int, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: wrong.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        tab.on("request", lambda request: wrong.append(request.url) if request.url != page.as_uri() else None)
        tab.goto(page.as_uri())
        return tab

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_every_plot_is_drawn_and_nothing_is_wider_than_the_page(opened, width, scheme):
    tab = opened(width, scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    plots = tab.evaluate(DRAWN)
    assert plots
    for plot in plots:
        assert plot["width"] > 200, plot
        assert plot["height"] > 60, plot
        assert plot["marks"] > 5, plot
        assert plot["outside"] == 0, plot


@pytest.mark.parametrize("page", ["mixed"], indirect=True)
def test_a_real_mixed_bundle_shows_its_layers_sensitivity(opened):
    names = {plot["name"].split(",")[0] for plot in opened(DESK).evaluate(DRAWN)}
    assert {"bits of a weight", "predicted cost of int8 and int4"} <= names


def test_text_in_plots_can_be_read_on_a_phone(opened):
    for plot in opened(PHONE).evaluate(DRAWN):
        assert plot["text"] >= 7.5, plot  # pixels


def test_wide_tables_scroll_in_a_box_of_their_own(opened):
    tab = opened(PHONE)
    wider = tab.evaluate("[...document.querySelectorAll('.scroll')].filter(b => b.scrollWidth > b.clientWidth).length")
    assert wider > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(opened, scheme):
    """WCAG 2.2, 1.4.3: at least 4.5:1."""
    tab = opened(DESK, scheme)
    tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert tab.evaluate(LOW_CONTRAST) == []


def test_dark_is_dark_and_paper_is_white(opened):
    ground = "getComputedStyle(document.querySelector('article')).backgroundColor"
    tab = opened(DESK, "dark")
    assert max(map(int, tab.evaluate(ground)[4:-1].split(", "))) < 50
    tab.emulate_media(media="print", color_scheme="dark")
    assert tab.evaluate(ground) == "rgb(255, 255, 255)"
    assert tab.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"


def test_paper_shows_all_that_is_folded_away_and_cuts_nothing_off(opened):
    tab = opened(PAPER)
    tab.emulate_media(media="print")
    assert tab.evaluate("document.documentElement.scrollWidth") <= PAPER
    hidden = (
        "[...document.querySelectorAll('details :is(table, pre)')].filter(one => !one.getBoundingClientRect().height)"
    )
    assert tab.evaluate(f"{hidden}.length") == 0
    printed = tab.pdf(format="A4", print_background=True)
    assert printed.startswith(b"%PDF")
    assert len(printed) > 20_000


def test_a_link_in_the_list_of_bundles_leads_to_one(opened):
    tab = opened(PHONE)
    for link in tab.query_selector_all("th a")[:3]:
        link.click()
        assert tab.evaluate("document.querySelector(location.hash).tagName") == "ARTICLE"
