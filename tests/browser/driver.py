"""Chromium, and Playwright that drives it; either may be missing, and then the tests that need it are left out."""

import os
import shutil
from typing import TYPE_CHECKING, Any

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")

if TYPE_CHECKING:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright
else:
    try:
        from axe_playwright_python.sync_playwright import Axe
        from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright
    except ImportError:
        # The modules must still be importable, so that each test can be named as left out.
        Browser = BrowserContext = Locator = Page = Any
        Axe = expect = sync_playwright = None

__all__ = [
    "Axe",
    "Browser",
    "BrowserContext",
    "Locator",
    "Page",
    "expect",
    "find_chromium",
    "has_playwright",
    "sync_playwright",
]


def find_chromium() -> str | None:
    """Return the path of a Chromium: CHROMIUM_PATH, else the first on PATH."""
    return os.environ.get("CHROMIUM_PATH") or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def has_playwright() -> bool:
    return sync_playwright is not None
