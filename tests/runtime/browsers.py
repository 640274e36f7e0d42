"""Chromium for tests of the dashboard: started once for a file, a page that has come in, and what a page has done."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install 'hpc[browser]'")

BROWSER = shutil.which("chromium-headless-shell") or shutil.which("chromium")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs a browser: apt-get install chromium-headless-shell")
#: Notes each thing that the rules of the page have kept it from doing.
WATCH = """window.kept = [];
addEventListener("securitypolicyviolation", (one) => window.kept.push(`${one.violatedDirective} ${one.blockedURI}`));"""


class Seen:
    """What a page has done that it should not have, and what it has loaded."""

    def __init__(self, page: Any) -> None:
        self.wrong: list[str] = []
        self.urls: list[str] = []
        page.on("console", lambda message: message.type in ("error", "warning") and self.wrong.append(message.text))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda request: self.urls.append(request.url))

    def check(self, page: Any) -> None:
        """Nothing was wrong, no text has run, and nothing came from anywhere else."""
        assert not self.wrong, self.wrong
        assert page.evaluate("[window.broken, window.kept]") == [None, []]
        origin = page.evaluate("location.origin")
        assert not [url for url in self.urls if not url.startswith((f"{origin}/", "data:"))]


@contextmanager
def browsing(*arguments: str) -> Iterator[Any]:
    """A browser."""
    with playwright.sync_playwright() as driver:
        more = ["--no-sandbox"] if os.geteuid() == 0 else []
        one = driver.chromium.launch(executable_path=BROWSER, args=[*more, *arguments])
        try:
            yield one
        finally:
            one.close()


@contextmanager
def come_in_by(browser: Any, link: str) -> Iterator[Any]:
    """A page that has come in by a link, in a browser of its own."""
    context = browser.new_context(viewport={"width": 1360, "height": 850}, color_scheme="light")
    context.add_init_script(WATCH)
    page = context.new_page()
    page.seen = Seen(page)
    page.goto(link)
    page.wait_for_selector("main[data-page=now]")
    try:
        yield page
    finally:
        context.close()


def pages_of(page: Any) -> list[dict[str, str]]:
    """The pages that there are: name, title, key."""
    found: list[dict[str, str]] = page.evaluate("fetch('api/pages').then((answer) => answer.json())")
    return found
