"""What `SecureCommunicator(…, server="browser")` says a page sees, compared with what a page in Chromium sees."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from channels_secure.testing import SecureCommunicator
from tests.browser.driver import Browser, Page
from tests.live.servers import LiveServer
from tests.testing import odd

pytestmark = pytest.mark.browser
OPEN = """([url, offered]) => new Promise((done) => {
  const socket = new WebSocket(url, offered);
  let opened = false;
  socket.onopen = () => { opened = true; };
  socket.onclose = (event) => done({opened, code: event.code, reason: event.reason, chosen: socket.protocol});
})"""
NAMES = [
    *("deny", "deny-with-code", "http-response", "raise-first", "foreign-subprotocol", "close-plain"),
    *("close-own-code", "close-1008", "close-999", "close-long-reason", "raise-after"),
]


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.fixture
def odd_server(server: Callable[..., LiveServer]) -> LiveServer:
    return server("uvicorn", "tests.testing.odd:application")


def modelled(name: str, offered: list[str]) -> dict[str, Any]:
    async def visit() -> dict[str, Any]:
        socket = SecureCommunicator(odd.application, f"/{name}/", server="browser", subprotocols=offered)
        outcome = await socket.shake_hands()
        if not outcome.accepted:
            return {"opened": False, "code": outcome.code, "reason": outcome.reason, "chosen": ""}
        code, reason = await socket.closing()
        return {"opened": True, "code": code, "reason": reason, "chosen": outcome.subprotocol or ""}

    # Playwright's own loop stands in this thread.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, visit()).result()


def test_a_page_of_the_model_sees_what_a_page_sees(page: Page, odd_server: LiveServer) -> None:
    for name in NAMES:
        for offered in ([], ["chat.v1"]):
            seen = page.evaluate(OPEN, [f"{odd_server.url}/{name}/", offered])
            assert modelled(name, offered) == seen, (name, offered)
