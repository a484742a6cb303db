"""The calculators in the built page: the browser's Python answers what the library answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from mlk8s.course import calculators
from mlk8s.course.calculators import CALCULATORS

PAGE = "book/calculators.html"
CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
#: What Pyodide takes to start, on a machine that does other things as well, ms.
START = 120_000
#: Of a page's requests, those that are made for Python.
PYTHON = ("pyodide", "mlk8s.zip", "calculators.mjs")

CASES: list[tuple[str, dict[str, str]]] = [
    ("memory", {}),
    ("memory", {"use": "training", "model": "Llama 3 70B", "tokens": "8192"}),
    ("memory", {"use": "lora", "model": "TinyLlama 1.1B", "rank": "64", "gpu": "l4"}),
    ("memory", {"model": "another", "layers": "40", "kv_heads": "32", "context": "2048"}),
    ("roofline", {"m": "1", "gpu": "a100-sxm-80"}),
    ("roofline", {"operation": "decode", "batch": "64", "dtype": "fp8"}),
    ("roofline", {"operation": "own", "gflop": "0.5", "megabytes": "12.25"}),
    ("mig", {"wanted": "4g.40gb 2g.20gb 1g.10gb"}),
    ("mig", {"by": "demands", "gpu": "h200-141gb", "demands": "60 30 30 15 15:20 15"}),
    ("mig", {"wanted": "7g.80gb 1g.10gb"}),
    ("cost", {"price": "2.5", "tokens_per_s": "1234.5", "busy": "40"}),
    ("cost", {"basis": "bound", "model": "Llama 3 70B", "gpus": "4", "batch": "128"}),
]


def form(page: Page, name: str) -> Locator:
    return page.locator(f"section[data-calculator='{name}']")


def fill(page: Page, name: str, given: dict[str, str]) -> Locator:
    """Set inputs by their labels, as a reader finds them; what is not given has its default."""
    box = form(page, name)
    box.get_by_role("button", name="Defaults").click()
    inputs = calculators.get(name).inputs()
    for key, text in given.items():
        ask = inputs[key][0]
        label = f"{ask.label} [{ask.unit}]" if ask.unit else ask.label
        control = box.get_by_label(label, exact=True)
        if ask.choices:
            control.select_option(text)
        else:
            control.fill(text)
    return box


def calculate(box: Locator) -> None:
    """Click, and wait for an answer or a refusal."""
    box.get_by_role("button", name="Calculate").click()
    expect(box.locator("form")).to_have_attribute("aria-busy", "false", timeout=START)


# The theme takes boxes that need no scrolling out of the keyboard's way.
SHOWN = """element => {
  const copy = element.cloneNode(true);
  copy.querySelectorAll("pre").forEach(pre => pre.removeAttribute("tabindex"));
  return copy.innerHTML;
}"""


def shown(box: Locator, part: str) -> str:
    found: str = box.locator(f".{part}").evaluate(SHOWN)
    return found


def library(page: Page, name: str, given: dict[str, str]) -> dict[str, str]:
    """What CPython answers, its HTML as this browser writes it."""
    found: dict[str, str] = json.loads(calculators.answer_json(name, json.dumps(given)))
    parse = "html => { const d = document.createElement('div'); d.innerHTML = html; return d; }"
    for part in ("finding", "details"):
        found[part] = page.evaluate_handle(parse, found[part]).evaluate(SHOWN)
    return found


class Opened:
    """A page, and the addresses that it or its worker asked for."""

    def __init__(self, browser: Browser, site: str, width: int = 1280) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900})
        self.requests: list[str] = []
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.page = self.context.new_page()
        self.page.goto(site + PAGE)

    def python(self) -> list[str]:
        return [url for url in self.requests if any(part in url for part in PYTHON)]


@pytest.fixture(scope="module")
def opened(browser: Browser, site: str) -> Iterator[Opened]:
    """A page whose Python runs: started once, since that is what takes long."""
    opened = Opened(browser, site)
    opened.page.wait_for_load_state("networkidle")
    assert opened.python() == []
    calculate(form(opened.page, "memory"))
    yield opened
    opened.context.close()


@pytest.fixture
def page(opened: Opened) -> Page:
    return opened.page


def test_defaults_are_answered_before_anything_is_loaded(browser: Browser, site: str) -> None:
    fresh = Opened(browser, site)
    fresh.page.wait_for_load_state("networkidle")
    for each in CALCULATORS:
        box, wanted = form(fresh.page, each.name), library(fresh.page, each.name, {})
        assert shown(box, "finding") == wanted["finding"]
        assert shown(box, "details") == wanted["details"]
    assert fresh.python() == []
    fresh.context.close()


@pytest.mark.parametrize(
    ("name", "given"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)]
)
def test_the_browser_answers_what_the_library_answers(
    page: Page, name: str, given: dict[str, str]
) -> None:
    box = fill(page, name, given)
    calculate(box)
    wanted = library(page, name, given)
    assert shown(box, "finding") == wanted["finding"]
    assert shown(box, "details") == wanted["details"]
    expect(box.locator(".answer code").last).to_have_text(wanted["command"])
    expect(box.get_by_role("status")).to_have_text(box.locator(".finding").inner_text())


def test_every_choice_is_the_same_in_both_pythons(page: Page) -> None:
    """All of them at once, past the form: the worker's answers beside the library's."""
    asked = [(each.name, given) for each in CALCULATORS for given in calculators.variants(each)]
    version = form(page, "memory").get_attribute("data-version")
    answers = page.evaluate(
        """async ([address, asked]) => {
          const worker = new Worker(address, {type: "module"});
          const answers = [];
          for (const [name, given] of asked) {
            answers.push(await new Promise((done) => {
              worker.onmessage = ({data}) => { if (!data.stage) done(data); };
              worker.postMessage({name, given});
            }));
          }
          worker.terminate();
          return answers;
        }""",
        [f"../_static/calculators.mjs?{version}", asked],
    )
    assert len(asked) > 100
    for (name, given), answer in zip(asked, answers, strict=True):
        wanted = json.loads(calculators.answer_json(name, json.dumps(given)))
        assert answer == {"found": wanted}, (name, given)


def test_python_comes_from_this_site_alone(opened: Opened, site: str) -> None:
    loaded = opened.python()
    assert any("pyodide.asm.wasm" in url for url in loaded)
    assert [url for url in opened.requests if not url.startswith((site, "data:", "blob:"))] == []


def test_bad_input_is_named_at_its_field(page: Page) -> None:
    box = fill(page, "memory", {"sequences": "many"})
    before = shown(box, "finding")
    calculate(box)
    field = box.get_by_label("Sequences at a time", exact=True)
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(
        "Sequences at a time: 'many' is not a whole number. Next: write a number from 1 to "
        "1000000, in digits and without separators."
    )
    assert shown(box, "finding") == before
    for theme in ("light", "dark"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
        assert page.evaluate(CONTRAST, ["article.bd-article", 4.5])["low"] == []
    field.fill("4")
    expect(field).not_to_have_attribute("aria-invalid", "true")
    expect(box.locator(".error:visible")).to_have_count(0)


def test_inputs_that_do_not_count_are_not_shown(page: Page) -> None:
    box = fill(page, "memory", {})
    expect(box.get_by_label("Rank of the adapters")).to_be_hidden()
    expect(box.get_by_label("Layers")).to_be_hidden()
    fill(page, "memory", {"use": "lora", "model": "another"})
    expect(box.get_by_label("Rank of the adapters")).to_be_visible()
    expect(box.get_by_label("Layers")).to_be_visible()
    expect(box.get_by_label("Sequences at a time")).to_be_hidden()


def test_the_keyboard_is_enough(page: Page) -> None:
    box = fill(page, "cost", {})
    box.get_by_label("Rate", exact=True).focus()
    seen = []
    for _ in range(8):
        seen.append(
            page.evaluate("document.activeElement.name || document.activeElement.textContent")
        )
        if seen[-1] == "Calculate":
            break
        if seen[-1] == "price":
            page.keyboard.press("Control+a")
            page.keyboard.type("9")
        page.keyboard.press("Tab")
    assert seen == ["basis", "tokens_per_s", "price", "gpus", "busy", "Calculate"]
    page.keyboard.press("Enter")
    expect(box.locator(".finding")).to_contain_text("1 USD for a million tokens", timeout=START)
    expect(box.get_by_role("button", name="Calculate")).to_be_focused()


def test_the_address_holds_the_inputs(page: Page, browser: Browser, site: str) -> None:
    given = {"operation": "decode", "batch": "16", "gpu": "l40s"}
    calculate(fill(page, "roofline", given))
    there = Opened(browser, site)
    there.page.goto(page.url)
    there.page.wait_for_load_state("networkidle")
    box = form(there.page, "roofline")
    for key, text in given.items():
        expect(box.locator(f"[name={key}]")).to_have_value(text)
    expect(box.get_by_role("status")).to_contain_text("inputs are from the address")
    expect(form(there.page, "cost").get_by_label("Rate", exact=True)).to_have_value("measured")
    assert there.python() == []
    there.context.close()


def test_stopped_or_failed_it_starts_anew(browser: Browser, site: str) -> None:
    fresh = Opened(browser, site, width=375)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    fresh.context.route("**/pyodide.asm.wasm", hold)
    box = form(fresh.page, "memory")
    box.get_by_role("button", name="Calculate").click()
    expect(box.get_by_role("status")).to_have_text("Loading Python…")
    box.get_by_role("button", name="Stop").click()
    expect(box.get_by_role("status")).to_have_text("Stopped.")
    expect(box.get_by_role("button", name="Stop")).to_be_hidden()

    fresh.context.unroute("**/pyodide.asm.wasm")
    fresh.context.route("**/mlk8s.zip*", lambda route: route.fulfill(status=503))
    calculate(box)
    expect(box.get_by_role("status")).to_contain_text("mlk8s.zip: 503")

    fresh.context.unroute("**/mlk8s.zip*")
    calculate(fill(fresh.page, "memory", {"sequences": "53"}))
    expect(box.locator(".finding")).to_contain_text("does not fit")
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert fresh.page.evaluate(wide) <= 0
    fresh.context.close()


def test_without_a_script_the_page_names_the_command(browser: Browser, site: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site + PAGE)
    box = form(page, "mig")
    expect(box.get_by_role("button", name="Calculate")).to_be_disabled()
    expect(box).to_contain_text("Without JavaScript the form cannot compute")
    expect(box).to_contain_text("The same in a terminal: .venv/bin/mlk8s calc mig")
    expect(box.locator(".finding")).to_contain_text("They fit on one NVIDIA H100")
    context.close()
