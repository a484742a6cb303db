"""The questions of a chapter in a browser: as a form, by keyboard alone, and without a script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from mlk8s.course import quizzes

WITHIN_MS = 60_000
PAGE = "notebooks/01-gpu-basics.html"
QUIZ = quizzes.load(1)
# A question for each test, since they share one page: it is slow to load.
FIRST, SECOND, THIRD, *_ = (n for n, q in enumerate(QUIZ.questions) if q.choose == 1)
SEVERAL = next(n for n, q in enumerate(QUIZ.questions) if q.choose > 1)

expect.set_options(timeout=WITHIN_MS)


@pytest.fixture(scope="module")
def page(browser: Browser, site: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(WITHIN_MS)
    page = context.new_page()
    page.goto(site + PAGE)
    yield page
    context.close()


def question(page: Page, number: int) -> Locator:
    return page.locator(f"#quiz-1-{number + 1}")


def test_a_choice_is_told_why(page: Page) -> None:
    form, right = question(page, FIRST), min(QUIZ.questions[FIRST].right)
    wrong = next(n for n in range(4) if n != right)
    status = form.get_by_role("status")
    form.get_by_role("button", name="Check").click()
    expect(status).to_have_text("Choose an answer first.")
    form.get_by_role("radio").nth(wrong).check()
    form.get_by_role("button", name="Check").click()
    expect(status).to_contain_text("Not this one.")
    expect(form).to_have_attribute("data-state", "wrong")
    # Another choice is another answer: what was said of the last one goes.
    form.get_by_role("radio").nth(right).check()
    expect(status).to_be_empty()
    form.get_by_role("button", name="Check").click()
    expect(status).to_contain_text("Right.")
    expect(form).to_have_attribute("data-state", "right")
    status.get_by_text("Why not the others").click()
    expect(status.locator("details p")).to_have_count(len(QUIZ.questions[FIRST].choices) - 1)


def test_several_right_answers_are_asked_for(page: Page) -> None:
    form, asked = question(page, SEVERAL), QUIZ.questions[SEVERAL]
    status = form.get_by_role("status")
    places = sorted(asked.right)
    form.get_by_role("checkbox").nth(places[0]).check()
    form.get_by_role("button", name="Check").click()
    expect(status).to_have_text(f"Choose {asked.choose} answers first.")
    form.get_by_role("checkbox").nth(places[1]).check()
    form.get_by_role("button", name="Check").click()
    expect(status).to_contain_text(f"{asked.choose} of {asked.choose} are right.")


def test_it_is_answered_by_keyboard(page: Page) -> None:
    form = question(page, SECOND)
    form.get_by_role("radio").first.focus()
    page.keyboard.press("ArrowDown")
    expect(form.get_by_role("radio").nth(1)).to_be_checked()
    page.keyboard.press("Tab")
    expect(form.get_by_role("button", name="Check")).to_be_focused()
    page.keyboard.press("Enter")
    expect(form.get_by_role("status")).not_to_be_empty()


def test_the_names_are_those_of_the_question_and_its_choices(page: Page) -> None:
    group = page.get_by_role("group").filter(has=page.locator("#quiz-1-1-1"))
    expect(group.locator("legend")).to_contain_text("A new node passes its readiness check")
    expect(page.get_by_label("The CUDA toolkit is not installed on the node.")).to_be_visible()


def test_the_feedback_leads_to_its_section(page: Page) -> None:
    form = question(page, THIRD)
    form.get_by_role("radio").first.check()
    form.get_by_role("button", name="Check").click()
    link = form.get_by_role("status").get_by_role("link")
    target = link.get_attribute("href")
    link.click()
    expect(page.locator(f"section{target}")).to_be_in_viewport()


def test_without_a_script_each_choice_opens(browser: Browser, site: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(WITHIN_MS)
    page = context.new_page()
    page.goto(site + PAGE)
    form = question(page, FIRST)
    expect(form.get_by_role("radio")).to_have_count(0)
    for place, choice in enumerate(QUIZ.questions[FIRST].choices):
        details = form.locator("details").nth(place)
        expect(details.locator("p")).not_to_be_visible()
        details.locator("summary").click()
        expect(details.locator("p")).to_contain_text(choice.verdict)
    context.close()
