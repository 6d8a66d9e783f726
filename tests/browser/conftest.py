"""A real browser without the internet: `page` is a tab of headless Chromium that reaches this machine only."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.async_api import Browser, Page, Route, async_playwright

# Chromium's own services off: they would look for hosts that are not there.
_QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",  # CI is root
)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    executable = shutil.which(os.environ.get("LOOPS_CHROMIUM", "chromium"))
    assert executable is not None, "no Chromium: apt-get install chromium, or name one by LOOPS_CHROMIUM"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=list(_QUIET))
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A tab whose test fails if the page asked another machine for anything, or a script of it raised."""
    abroad: list[str] = []
    wrong: list[str] = []

    async def guard(route: Route) -> None:
        if urlsplit(route.request.url).hostname in ("127.0.0.1", "localhost"):
            await route.continue_()
        else:
            abroad.append(route.request.url)
            await route.abort()

    page = await browser.new_page(viewport={"width": 1280, "height": 900})
    page.on("pageerror", lambda error: wrong.append(str(error)))
    await page.route("**/*", guard)
    yield page
    await page.close()
    assert not abroad
    assert not wrong


Shoot = Callable[[str], Awaitable[None]]


@pytest.fixture
def shoot(page: Page, tmp_path: Path) -> Shoot:
    """A screenshot under a name: kept in the folder LOOPS_SCREENSHOTS, else thrown away with the test."""
    folder = Path(os.environ.get("LOOPS_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)

    async def shoot(name: str) -> None:
        path = folder / f"{name}.png"
        await page.screenshot(path=path, full_page=True)
        with Image.open(path) as shot:  # a page has few colours; with all of them it takes three times the room
            shot.convert("RGB").quantize(128).save(path, optimize=True)

    return shoot
