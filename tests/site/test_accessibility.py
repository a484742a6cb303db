"""What a reader needs who has no mouse, sees little or has a slow line: axe-core, keys, weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "_build" / "html"
AXE = ROOT / "_build" / "node" / "node_modules" / "axe-core" / "axe.min.js"
ENOUGH_BYTES = 1_500_000
#: Layout shift that a reader does not notice, of the 0.1 that Core Web Vitals calls good.
NO_SHIFT = 0.01

PAGES = sorted(
    path.relative_to(BUILD).as_posix()
    for path in BUILD.rglob("*.html")
    if path.relative_to(BUILD).parts[0] not in {"_static", "_sources"} and path.name != "index.html"
) or ["index.html"]
CHAPTERS = [path for path in PAGES if path.startswith("notebooks/")]
CHAPTER = "notebooks/01-gpu-basics.html"

Opened = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, site: str) -> Iterator[Opened]:
    """Open a page of the site, once it has loaded, in a window and a theme."""
    contexts = []

    def open_page(path: str, *, width: int = 1280, theme: str = "light", script: str = "") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        context.set_default_timeout(60_000)
        modes = (
            f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}');"
        )
        context.add_init_script(modes + script)
        page = context.new_page()
        page.goto(site + path)
        return page

    yield open_page
    for context in contexts:
        context.close()


# The drawings of figures are hidden from screen readers, and test_site.py computes their contrast.
_FAULTS = """async ([rules]) => {
  const options = { resultTypes: ["violations"] };
  if (rules) options.runOnly = { type: "rule", values: rules };
  const found = await axe.run({ exclude: [".mlk8s-plot svg"] }, options);
  return found.violations.filter(fault => ["serious", "critical"].includes(fault.impact))
    .map(fault => [fault.id, fault.nodes.length, fault.nodes[0].html.slice(0, 200)]);
}"""


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_no_serious_fault(opened: Opened, path: str) -> None:
    if not AXE.is_file():
        pytest.fail(f"There is no {AXE}. Next: run `make test`, which installs it.", pytrace=False)
    # On a phone more boxes scroll, and the contents list is folded.
    page = opened(path, width=375)
    for figure in page.locator(".mlk8s-plot").all()[:1]:
        figure.scroll_into_view_if_needed()
        expect(figure).to_have_attribute("data-drawn", "true", timeout=60_000)
    page.add_script_tag(path=AXE)
    assert page.evaluate(_FAULTS, [None]) == []
    page.set_viewport_size({"width": 1280, "height": 900})
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    # A theme is a list of colors: all else was examined.
    assert page.evaluate(_FAULTS, [["color-contrast", "link-in-text-block"]]) == []


@pytest.mark.parametrize("path", CHAPTERS)
def test_the_first_view_of_a_chapter_is_light_and_still(opened: Opened, path: str) -> None:
    page = opened(
        path,
        script="""window.shift = 0;
            new PerformanceObserver(list => list.getEntries().forEach(entry => {
              if (!entry.hadRecentInput) window.shift += entry.value;
            })).observe({ type: "layout-shift", buffered: true });""",
    )
    page.wait_for_load_state("networkidle")
    # Of the bodies as they are unpacked, so that the host's compression does not count.
    loaded: dict[str, int] = page.evaluate(
        """Object.fromEntries([...performance.getEntriesByType("navigation"),
            ...performance.getEntriesByType("resource")].map(e => [e.name, e.decodedBodySize]))"""
    )
    assert len(loaded) > 10
    assert sum(loaded.values()) <= ENOUGH_BYTES, sorted(loaded.items(), key=lambda e: -e[1])[:5]
    assert not [name for name in loaded if "plotly" in name]
    # A figure takes the height that was kept for it.
    for figure in page.locator(".mlk8s-plot:visible").all()[:1]:
        kept = figure.evaluate("figure => figure.getBoundingClientRect().height")
        figure.scroll_into_view_if_needed()
        expect(figure).to_have_attribute("data-drawn", "true", timeout=60_000)
        assert figure.evaluate("figure => figure.getBoundingClientRect().height") == kept
    assert page.evaluate("window.shift") <= NO_SHIFT


def test_a_figure_that_cannot_be_drawn_says_what_it_shows(opened: Opened) -> None:
    page = opened(CHAPTER)
    page.route("**/plotly.min.js*", lambda route: route.abort())
    figure = page.locator(".mlk8s-plot:visible").first
    figure.scroll_into_view_if_needed()
    expect(figure).to_contain_text("cannot be loaded")
    expect(figure).to_contain_text(figure.get_attribute("aria-label") or "no text")


def test_the_first_key_skips_to_the_text(opened: Opened) -> None:
    page = opened(CHAPTER)
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to main content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.wait_for_url("**#main-content")


def test_the_focus_is_seen_wherever_the_keyboard_goes(opened: Opened) -> None:
    page = opened("book/how-to-read.html")
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        name, seen = page.evaluate("""() => {
          const at = document.activeElement, style = getComputedStyle(at);
          return [at.outerHTML.slice(0, 120), at === document.body
            || (style.outlineStyle !== "none" && style.outlineWidth !== "0px")
            || style.boxShadow !== "none"];
        }""")
        assert seen, f"no mark of the focus on {name}"
        reached.add(name)
    assert any("theme-switch-button" in name for name in reached)
    assert any("toctree" in name or "reference internal" in name for name in reached)
    assert len(reached) > 20


def test_a_table_wider_than_a_phone_is_scrolled_with_the_keyboard(opened: Opened) -> None:
    page = opened("book/embedded-cluster.html", width=375)
    table = page.locator(".mlk8s-table[tabindex='0']").first
    expect(table).to_have_attribute("aria-label", table.locator("caption").inner_text())
    table.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("table => table.scrollLeft > 0", arg=table.element_handle())
    page.set_viewport_size({"width": 1280, "height": 900})
    expect(page.locator(".mlk8s-table[tabindex='0']")).to_have_count(0)
