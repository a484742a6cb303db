"""The page on troubleshooting: an entry is whole, is found by its text, and its commands work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, Locator, Page, expect

from mlk8s.course.troubleshooting import TROUBLES, anchor
from mlk8s.sim import Cluster
from mlk8s.sim.faults import FAULTS, Fault
from mlk8s.sim.trouble import PLACES, Trouble

PAGE = "book/troubleshooting.html"
#: One text of each place, which is enough to see that the search reads them.
FOUND = {t.where: (t, m.text) for t in reversed(TROUBLES) for m in t.errors}.values()
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "pod"},
    "spec": {"containers": [{"name": "main", "image": "registry.k8s.io/pause:3.10"}]},
}
NAMES = {"POD": "pod", "NODE": "h100-0", "NAMESPACE": "default", "FILE": "pod.yaml"}


@pytest.fixture(scope="module")
def page(browser: Browser, site: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(site + PAGE)
    yield page
    context.close()


def entry(page: Page, trouble: Trouble) -> Locator:
    return page.locator(f"section#{anchor(trouble)}")


def facts(section: Locator) -> dict[str, str]:
    names = section.locator("dl.mlk8s-trouble > dt").all_inner_texts()
    texts = section.locator("dl.mlk8s-trouble > dd").all_inner_texts()
    return dict(zip(names, texts, strict=True))


def test_each_place_and_each_fault_is_there() -> None:
    assert {trouble.where for trouble in TROUBLES} == set(PLACES)
    names = [trouble.name for trouble in TROUBLES]
    assert len(names) == len(set(names)) and set(FAULTS) < set(names)


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
def test_an_entry_is_whole(page: Page, trouble: Trouble) -> None:
    section = entry(page, trouble)
    expect(section.locator("h3")).to_contain_text(trouble.heading.replace("'", "’"))
    shown = facts(section)
    assert all(shown[name].strip() for name in ("You see", "Cause", "Confirm", "Fix", "Seen"))
    texts = [text.strip() for text in section.locator(".mlk8s-error pre").all_text_contents()]
    assert texts == [message.text for message in trouble.errors]
    addresses = [
        link.get_attribute("href") or "" for link in section.locator("dl.mlk8s-trouble a").all()
    ]
    assert addresses and all(address.startswith("https://") for address in addresses)
    assert len(addresses) == len(set(addresses))
    if isinstance(trouble, Fault):
        assert f"mlk8s cluster fault on {trouble.name}" in shown["Practice"].splitlines()
    else:
        assert "Practice" not in shown


def test_the_list_of_texts_leads_to_each_entry(page: Page) -> None:
    lists = page.locator("dl.mlk8s-errors")
    texts = lists.locator("dt").all_text_contents()
    assert texts and len(texts) == len(set(texts))
    assert set(texts) == {message.text for trouble in TROUBLES for message in trouble.errors}
    for text, links in zip(texts, lists.locator("dd").all(), strict=True):
        found = [link.get_attribute("href") for link in links.locator("a").all()]
        assert found == [
            f"#{anchor(trouble)}"
            for trouble in TROUBLES
            if text in [message.text for message in trouble.errors]
        ]


@pytest.mark.parametrize(("trouble", "text"), FOUND, ids=[t.where for t, _ in FOUND])
def test_the_search_finds_an_entry_by_its_text(
    browser: Browser, site: str, trouble: Trouble, text: str
) -> None:
    page = search(browser, site, text)
    first = page.locator("#search-results li > a").first
    expect(first).to_have_attribute("href", f"{PAGE}#{anchor(trouble)}")
    first.click()
    page.wait_for_url(f"**/{PAGE}*#{anchor(trouble)}")
    expect(entry(page, trouble).locator("h3")).to_be_in_viewport()
    page.context.close()


def test_a_text_with_other_numbers_finds_the_page(browser: Browser, site: str) -> None:
    text = "0/7 nodes are available: 7 Insufficient nvidia.com/gpu. preemption: 0/7 nodes"
    page = search(browser, site, text)
    expect(page.locator(f"#search-results a[href^='{PAGE}']").first).to_be_visible()
    page.context.close()


def search(browser: Browser, site: str, text: str) -> Page:
    """Paste a text into the book's search, as a reader does."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto(site + PAGE)
    page.keyboard.press("Control+k")
    box = page.locator("input[type=search]:visible")
    box.fill(text)
    box.press("Enter")
    page.wait_for_url("**/search.html*")
    return page


@pytest.mark.parametrize("width", [1280, 375])
def test_an_error_is_read_without_scrolling(browser: Browser, site: str, width: int) -> None:
    page = browser.new_context(viewport={"width": width, "height": 812}).new_page()
    page.goto(site + PAGE)
    cut = page.locator(".mlk8s-error pre").evaluate_all(
        "blocks => blocks.filter(b => b.scrollWidth > b.clientWidth).map(b => b.textContent)"
    )
    assert cut == []
    page.context.close()


def test_a_place_that_there_is_not_is_named(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text("extensions = ['mlk8s.course.troubleshooting']\n")
    (tmp_path / "index.rst").write_text("Page\n====\n\n.. troubles:: attic\n")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", tmp_path, tmp_path / "out"],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "There is no place 'attic'. Next: take one of pending, starting," in done.stderr


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("course", seed=0) as found:
        found.enable("kueue")
        yield found


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_kubectl_knows_the_commands(cluster: Cluster, tmp_path: Path) -> None:
    """All that asks the API; what is executed in a container needs that container."""
    tmp_path.joinpath("pod.yaml").write_text(yaml.safe_dump(POD))
    known = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}

    def run(line: str) -> None:
        line = re.sub(r"\b(POD|NODE|NAMESPACE|FILE)\b(?!:)", lambda m: NAMES[m[0]], line)
        done = subprocess.run(
            ["bash", "-c", line], env=known, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"

    run("kubectl apply -f pod.yaml && kubectl wait --for=condition=Ready pod/pod --timeout=60s")
    lines = {line.partition(" | ")[0] for trouble in TROUBLES for line in trouble.check}
    asked = [line for line in sorted(lines) if re.match("kubectl (?!exec)", line)]
    assert len(asked) > 20
    for line in asked:
        run(line)
