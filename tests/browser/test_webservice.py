"""The page of the web service as its user sees it: ask, watch, correct, see it learned, ask again."""

from __future__ import annotations

import difflib
import itertools

from playwright.async_api import Page, expect

from ..examples.conftest import Example
from ..examples.conftest import deployment as deployment  # fixtures, which pytest finds by their names
from ..examples.conftest import example as example
from ..examples.webservice import webservice
from .conftest import Shoot

FERRY, EVERY_HOUR = "When does the ferry leave?", "The ferry leaves every hour."

#: What the text of the newest answer has been, each time that it changed.
_WATCH = """
window.seen = [];
new MutationObserver(() => {
    const text = document.querySelector("#answers > li:last-child .text")?.textContent;
    if (text && text !== window.seen.at(-1)) window.seen.push(text);
}).observe(document.querySelector("#answers"), { subtree: true, childList: true, characterData: true });
"""


async def test_ask_watch_correct_and_ask_again(page: Page, shoot: Shoot, example: Example) -> None:
    expect.set_options(timeout=60_000)
    with webservice(example) as service:
        await page.emulate_media(color_scheme="light")
        await page.goto(service.url)
        await expect(page.locator("#version")).to_have_text("0")
        await page.evaluate(_WATCH)

        # By keyboard: the question is in focus, Enter asks.
        await page.keyboard.type("Tell me a story.")
        await page.keyboard.press("Enter")
        story = page.locator("#answers > li").nth(0)
        await expect(story.get_by_role("button", name="Good")).to_be_visible()
        seen = await page.evaluate("window.seen")
        assert len(seen) > 3
        assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(seen))
        await story.get_by_role("button", name="Good").click()
        await expect(story.locator(".learned")).to_contain_text("Learned: it is in policy version")
        rated = int(await page.locator("#version").inner_text())
        assert rated > 0
        assert await story.get_by_role("button", name="Good").get_attribute("aria-pressed") == "true"

        before = await _ask(page, FERRY)
        answer = page.locator("#answers > li").nth(1)
        await answer.get_by_role("button", name="Correct it").press("Enter")
        await page.get_by_label("What should it have said?").nth(1).fill(EVERY_HOUR)
        await page.keyboard.press("Enter")
        await expect(answer.locator(".learned")).to_contain_text("Learned: it is in policy version")
        taught = int(await page.locator("#version").inner_text())
        assert taught > rated
        assert "at step" in await page.locator("#loss").inner_text()
        assert await page.locator("#curve path").count() == 1
        after = await _ask(page, FERRY)
        assert _likeness(after, EVERY_HOUR) > _likeness(before, EVERY_HOUR)
        await expect(page.locator("#answers > li").nth(2).locator(".note")).to_have_text(f"policy version {taught}")
        await expect(page.locator("#count-answers")).to_have_text("3")
        await shoot("webservice")
        await page.emulate_media(color_scheme="dark")
        await shoot("webservice-dark")


async def test_what_goes_wrong_is_shown(page: Page, example: Example) -> None:
    with webservice(example) as service:
        await page.goto(service.url)
        await page.evaluate("document.querySelector('#question').removeAttribute('maxlength')")
        await page.get_by_label("Your question").fill("x" * 3000)
        await page.get_by_role("button", name="Ask").click()
        await expect(page.get_by_role("alert").first).to_have_text(
            "question: expected at most 2000 characters, got 3000"
        )
    await page.get_by_label("Your question").fill("Are you there?")
    await page.get_by_role("button", name="Ask").click()
    await expect(page.get_by_role("alert").first).to_have_text("the service cannot be reached")


async def _ask(page: Page, question: str) -> str:
    """The answer, once it is finished."""
    count = await page.locator("#answers > li").count()
    await page.get_by_label("Your question").fill(question)
    await page.get_by_role("button", name="Ask").click()
    item = page.locator("#answers > li").nth(count)
    await expect(item.get_by_role("button", name="Good")).to_be_visible()
    return await item.locator(".text").inner_text()


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
