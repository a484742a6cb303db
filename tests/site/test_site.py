"""The built site in a real browser: every page on a desktop in light, on a phone in dark."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from mlk8s.course import ages

BUILD = Path(__file__).parents[2] / "_build" / "html"
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 375, "height": 812}
CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
ENOUGH = 4.5  # WCAG 2 AA for text of normal size

# Sphinx's own pages without an article are in the list too: a reader gets to them all.
PAGES = sorted(
    path.relative_to(BUILD).as_posix()
    for path in BUILD.rglob("*.html")
    if path.relative_to(BUILD).parts[0] not in {"_static", "_sources"}
    and path.name not in {"index.html", "404.html"}
) or ["index.html"]
CHAPTER = "notebooks/01-gpu-basics.html"


class _Links(HTMLParser):
    """The links, the anchors and the images of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.anchors.append(values["id"] or "")
        if tag == "img":
            self.images.append(values)
        for name in ("href", "src"):
            if values.get(name):
                self.links.append(values[name] or "")


class Visit:
    """An open page, and all that went wrong in it."""

    def __init__(self, context: BrowserContext, site: str) -> None:
        self.context = context
        self.site = site
        self.problems: list[str] = []
        self.page = self._new_page()

    def _new_page(self) -> Page:
        page = self.context.new_page()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        page.on("request", self._request)
        page.on(
            "requestfailed",
            lambda request: self.problems.append(f"failed: {request.url} ({request.failure})"),
        )
        return page

    def _console(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.problems.append(f"console {message.type}: {message.text}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.site, "data:", "blob:")):
            self.problems.append(f"request to another host: {request.url}")

    def open(self, path: str) -> Page:
        """Go to a page and wait until its figures are drawn."""
        # A page of its own: leaving one aborts what it still loads, which is no fault of the next.
        self.page.close()
        self.problems = []
        self.page = self._new_page()
        self.page.goto(self.site + path)
        # What is folded has no width to be drawn in; a reader opens it, and scrolls to each figure.
        self.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        self.page.evaluate("mlk8sDrawAll()")
        expect(self.page.locator(".mlk8s-plot:not([data-drawn='true'])")).to_have_count(0)
        return self.page


def _context(browser: Browser, viewport: dict[str, int], theme: str) -> BrowserContext:
    phone = viewport is PHONE
    context = browser.new_context(
        viewport={"width": viewport["width"], "height": viewport["height"]}, has_touch=phone
    )
    context.set_default_timeout(15_000)
    context.add_init_script(
        f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}');"
    )
    return context


# What a width can break is broken in both themes, and what a theme can is at both widths.
@pytest.fixture(
    scope="module",
    params=[(DESKTOP, "light"), (PHONE, "dark")],
    ids=["desktop-light", "phone-dark"],
)
def visit(request: pytest.FixtureRequest, browser: Browser, site: str) -> Iterator[Visit]:
    viewport, theme = request.param
    context = _context(browser, viewport, theme)
    yield Visit(context, site)
    context.close()


@pytest.fixture
def desktop(browser: Browser, site: str) -> Iterator[Visit]:
    context = _context(browser, DESKTOP, "light")
    yield Visit(context, site)
    context.close()


@pytest.fixture
def phone(browser: Browser, site: str) -> Iterator[Visit]:
    context = _context(browser, PHONE, "light")
    yield Visit(context, site)
    context.close()


@pytest.mark.parametrize("path", PAGES)
def test_page_opens_without_a_fault(visit: Visit, path: str) -> None:
    page = visit.open(path)
    theme = page.evaluate("document.documentElement.dataset.theme")
    for figure in page.locator(".mlk8s-plot").all():
        assert (figure.get_attribute("aria-label") or "").strip(), "a figure without a text"
        assert figure.get_attribute("data-drawn-theme") == theme
        box = figure.bounding_box()
        drawn = figure.locator("svg.main-svg").first.bounding_box()
        assert box and drawn and drawn["width"] <= box["width"] + 1, "a figure wider than its box"
        cut = figure.evaluate(_CUT_OFF_TEXT)
        assert cut == [], f"text beyond the edge of figure {figure.get_attribute('id')}"
    wide = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert wide <= 0, f"the page scrolls sideways by {wide} px"
    contrast = page.evaluate(CONTRAST, ["body", ENOUGH])
    assert contrast["count"] > 0
    assert contrast["low"] == []
    assert visit.problems == []


# Titles and tick labels of a figure that reach over its edge, where they cannot be read.
_CUT_OFF_TEXT = """figure => {
  const edge = figure.getBoundingClientRect();
  return [...figure.querySelectorAll('.xtick text, .ytick text, .g-xtitle text, .g-ytitle text,'
      + ' .g-gtitle text, .legendtext, .annotation-text')]
    .filter(text => {
      const box = text.getBoundingClientRect();
      return box.width && (box.left < edge.left - 1 || box.right > edge.right + 1
        || box.top < edge.top - 1 || box.bottom > edge.bottom + 1);
    }).map(text => text.textContent);
}"""


def test_links_resolve_and_images_have_a_text(site: str) -> None:
    pages = {path: _Links((BUILD / path).read_text(encoding="utf-8")) for path in PAGES}
    pages["404.html"] = _Links((BUILD / "404.html").read_text(encoding="utf-8"))
    broken: list[str] = []
    checked = 0
    for path, page in pages.items():
        broken += [
            f"{path}: image {i.get('src')} without alt" for i in page.images if "alt" not in i
        ]
        twice = {anchor for anchor in page.anchors if page.anchors.count(anchor) > 1}
        broken += [f"{path}: two elements have the id {anchor}" for anchor in sorted(twice)]
        for link in page.links:
            target = urlsplit(urljoin(site + path, link))
            if target.netloc != urlsplit(site).netloc or target.scheme not in {"http", "https"}:
                continue
            checked += 1
            name = unquote(target.path).lstrip("/") or "index.html"
            if not (BUILD / name).is_file():
                broken.append(f"{path}: {link} leads nowhere")
            elif target.fragment and name in pages:
                anchors = pages[name].anchors
                if unquote(target.fragment) not in anchors:
                    broken.append(f"{path}: {link} has no such anchor")
    assert broken == []
    assert checked > 10 * len(PAGES)  # the contents list alone links each page to each


def test_root_leads_to_the_first_page(desktop: Visit) -> None:
    page = desktop.page
    page.goto(desktop.site)
    page.wait_for_url("**/book/welcome.html")
    expect(page.locator("article h1")).to_be_visible()


def test_term_shows_its_definition_to_mouse_and_keyboard(desktop: Visit) -> None:
    page = desktop.open(CHAPTER)
    tip = page.get_by_role("tooltip")
    term = page.locator("article a[data-definition]").first
    definition = term.get_attribute("data-definition") or ""
    assert len(definition) > 20
    expect(tip).to_have_count(0)

    term.hover()
    expect(tip).to_have_text(definition)
    tip.hover()  # the pointer may move onto the definition
    page.wait_for_timeout(400)
    expect(tip).to_be_visible()
    page.mouse.move(1, 1)
    expect(tip).to_have_count(0)

    term.focus()
    expect(tip).to_have_text(definition)
    assert term.get_attribute("aria-describedby") == tip.get_attribute("id")
    page.keyboard.press("Escape")
    expect(tip).to_have_count(0)
    assert desktop.problems == []


def test_term_shows_its_definition_to_a_finger(phone: Visit) -> None:
    page = phone.open(CHAPTER)
    address = page.url
    tip = page.get_by_role("tooltip")
    for term in page.locator("article a[data-definition]").all()[:8]:
        term.tap()
        expect(tip).to_have_text(term.get_attribute("data-definition") or "")
        assert page.url == address, "the first tap left the page"
        box = tip.bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"]
        page.locator("article h1").tap()
        expect(tip).to_have_count(0)
    term = page.locator("article a[data-definition]").first
    term.tap()
    expect(tip).to_be_visible()
    term.tap()
    page.wait_for_url("**/glossary.html#term-*")


def test_search_finds_a_term(desktop: Visit) -> None:
    page = desktop.open("book/glossary.html")
    term = page.locator("dl.glossary dt").first.evaluate("dt => dt.firstChild.textContent.trim()")
    page.goto(f"{desktop.site}search.html?q={term}")
    results = page.locator("#search-results a[href*='glossary.html']")
    expect(results.first).to_be_visible()
    assert desktop.problems == []


def test_theme_switch_redraws_the_figures(desktop: Visit) -> None:
    page = desktop.open(CHAPTER)
    figures = page.locator(".mlk8s-plot")
    assert figures.count() > 0
    tick = figures.first.locator(".ytick text, .xtick text").first
    light = tick.evaluate("text => getComputedStyle(text).fill")
    switch = page.locator(".theme-switch-button").first
    for _ in range(3):  # the switch goes through light, dark and the system's own
        if page.evaluate("document.documentElement.dataset.theme") == "dark":
            break
        switch.click()
    expect(page.locator(".mlk8s-plot[data-drawn-theme='dark'][data-drawn='true']")).to_have_count(
        figures.count()
    )
    assert tick.evaluate("text => getComputedStyle(text).fill") != light
    assert page.evaluate(CONTRAST, ["article.bd-article", ENOUGH])["low"] == []
    assert desktop.problems == []


def test_figures_follow_the_width_of_the_page(desktop: Visit) -> None:
    page = desktop.open(CHAPTER)
    figure = page.locator(".mlk8s-plot").first
    page.set_viewport_size({"width": 500, "height": 900})
    page.wait_for_function(
        "f => f.dataset.drawn === 'true' && Number(f.dataset.drawnWidth) === f.clientWidth"
        " && f.clientWidth < 500",
        arg=figure.element_handle(),
    )
    box = figure.locator("svg.main-svg").first.bounding_box()
    assert box and box["width"] < 500


def test_badge_opens_with_the_details(desktop: Visit) -> None:
    page = desktop.page
    page.goto(desktop.site + CHAPTER)
    badge = page.locator(".mlk8s-badge").first
    expect(badge.locator("dl")).to_be_hidden()
    badge.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(badge.locator("dl dt").first).to_have_text("method")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_page_says_that_its_facts_are_old_once_they_are(
    browser: Browser, site: str, theme: str
) -> None:
    facts = ages.on_page(BUILD.parents[1] / "book/versions.ipynb", BUILD.parents[1])
    first, last = facts[0].due, facts[-1].due
    assert first < last, "the page shows facts of several days"
    context = _context(browser, PHONE, theme)
    visit = Visit(context, site)
    for today, due in (
        (first, 0),
        (first + timedelta(days=1), sum(fact.due == first for fact in facts)),
        (last + timedelta(days=1), len(facts)),
    ):
        # Only the day is another: a clock that stands still would stop the page's timers.
        day = f"Date.prototype.toISOString = () => '{today}T12:00:00.000Z'"
        context.add_init_script(day)
        note = visit.open("book/versions.html").locator(".mlk8s-age")
        # A deferred script shows it, so it is there once the page is loaded.
        assert note.locator("li:visible").count() == due
        assert note.is_visible() == (due > 0)
    assert f"{facts[0].date}" in note.locator("li").first.inner_text()
    contrast = visit.page.evaluate(CONTRAST, [".mlk8s-age", ENOUGH])
    assert contrast["count"] > 0
    assert contrast["low"] == []
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not visit.page.evaluate(wide)
    assert visit.problems == []
    context.close()


def test_unknown_address_gives_the_books_own_page(desktop: Visit) -> None:
    response = desktop.page.goto(desktop.site + "no/such/page.html")
    assert response is not None and response.status == 404
    expect(desktop.page.locator("article h1")).to_have_text("Page not found")
    expect(desktop.page.locator("link[rel='stylesheet']").first).to_be_attached()
    desktop.page.get_by_role("link", name="Glossary", exact=True).first.click()
    desktop.page.wait_for_url("**/book/glossary.html")
    # The page itself is the one request that may end in an error.
    assert [p for p in desktop.problems if "404 (" not in p] == []


def test_preview_names_a_picture_that_exists(site: str) -> None:
    text = (BUILD / "book" / "welcome.html").read_text(encoding="utf-8")
    assert 'property="og:title"' in text
    assert "/_static/social-card.png" in text
    picture = BUILD / "_static" / "social-card.png"
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size < 150_000
