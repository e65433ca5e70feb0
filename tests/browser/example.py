"""The example as a real process, and the system's Chromium that looks at it."""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from tests.browser.driver import Browser, BrowserContext, Locator, Page, expect, sync_playwright
from tests.services import accepts_connections, free_port, stop_process, wait_until_ready

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "example_project"
PASSWORD = "meet-me-in-the-lobby"  # everybody's, as `manage.py demo` prints

LAUNCH_ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--metrics-recording-only",
    "--no-first-run",
    "--no-pings",
)

# Keeps the page's sockets within a test's reach; the page itself shows its socket to nobody.
WITNESS = """
window.sockets = [];
const Native = window.WebSocket;
window.WebSocket = class extends Native { constructor(...args) { super(...args); window.sockets.push(this); } };
"""


@contextlib.contextmanager
def chromium_at(path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(LAUNCH_ARGS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A running example: its address and everything its server wrote."""

    url: str
    log: Path

    def complaints(self) -> list[str]:
        """The lines of the log that no refusal, however hostile its cause, may produce."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [
            line for line in lines if re.search(r"Traceback|\bERROR\b|\bCRITICAL\b|Exception|was never awaited", line)
        ]


def environment(database: Path) -> dict[str, str]:
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("DJANGO_", "REDIS_", "DATABASE_"))
    }
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**inherited, "DATABASE_URL": f"sqlite:///{database}", "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def manage(database: Path, *arguments: str) -> str:
    """Run one of the example's management commands; return what it printed."""
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(
        command, cwd=EXAMPLE, env=environment(database), check=True, stdout=subprocess.PIPE, timeout=60
    )
    return done.stdout.decode()


def seed(database: Path) -> None:
    """Let `manage.py demo` make the database, as a user of the example would."""
    manage(database, "demo", "--no-serve")


def open_sessions(database: Path) -> dict[str, str]:
    """A session key for every user: the login form is slow by design, and one test of it is enough.

    Beside those of the demo there is Victor, who may look at everything that an operator sees and do nothing.
    """
    sessions: dict[str, str] = json.loads(manage(database, "shell", "--no-imports", "-c", LOG_IN_EVERYBODY))
    return sessions


LOG_IN_EVERYBODY = """
import json
from django.contrib.auth.models import Permission, User
from django.test import Client
victor = User.objects.create(username="victor", is_staff=True)
looking = ("view_auditevent", "view_block", "view_dashboard", "view_liveconnection", "view_user")
victor.user_permissions.set(Permission.objects.filter(codename__in=looking))
sessions = {}
for user in User.objects.all():
    client = Client()
    client.force_login(user)
    sessions[user.username] = client.cookies["sessionid"].value
print(json.dumps(sessions))
"""


def copy_database(source: Path, target: Path) -> Path:
    """A copy that includes what still lies in the write-ahead log."""
    with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(target)) as new:
        old.backup(new)
    return target


# The arguments of Python that serve the example on a port.
Server: TypeAlias = Callable[[int], list[str]]


def daphne(port: int) -> list[str]:
    return ["manage.py", "demo", "--port", str(port)]


def uvicorn(port: int) -> list[str]:
    return ["-m", "uvicorn", "config.asgi:application", "--port", str(port), "--no-proxy-headers"]


@contextlib.contextmanager
def running_example(database: Path, log: Path, port: int | None = None, server: Server = daphne) -> Iterator[Example]:
    """Serve the example on `port`, or a free one; stop it at the end."""
    port = port or free_port()
    command = [sys.executable, *server(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=EXAMPLE, env=environment(database), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_until_ready(process, lambda: accepts_connections("127.0.0.1", port), log)
        yield Example(url=f"http://127.0.0.1:{port}", log=log)
    finally:
        stop_process(process, first=signal.SIGTERM)


@dataclass(slots=True, kw_only=True)
class Visitors:
    """People with a browser each: nobody shares cookies with anybody."""

    browser: Browser
    example: Example
    contexts: list[BrowserContext] = field(default_factory=list)
    sessions: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)

    def arrive(self, username: str | None = None, path: str = "/", **options: object) -> Page:
        """Open `path` in a browser of its own, logged in as one of the demo's users unless `username` is None."""
        context = self.browser.new_context(base_url=self.example.url, **options)  # type: ignore[arg-type]
        context.set_default_timeout(10_000)
        context.add_init_script(WITNESS)
        self.contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.console.append(message.text))
        if username in self.sessions:
            url = self.example.url
            context.add_cookies([{"name": "sessionid", "value": self.sessions[username], "url": url, "httpOnly": True}])
        elif username is not None:
            log_in(page, username)
        page.goto(path)
        return page

    def violations(self) -> list[str]:
        """What the pages' Content-Security-Policy forbade, in the browser's words."""
        return [text for text in self.console if "Content Security Policy" in text]

    def leave(self) -> None:
        for context in self.contexts:
            context.close()


def log_in(page: Page, username: str) -> None:
    page.goto("/login/")
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Rooms")).to_be_visible()


def say(page: Page, text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.get_by_role("button", name="Send").click()


def block(page: Page, username: str, reason: str) -> None:
    """Block somebody as an operator does who comes upon them in the audit trail."""
    fill_block(page, username, reason)
    page.get_by_role("button", name="Block", exact=True).click()
    expect(page.get_by_text("Blocked until")).to_be_visible()


def fill_block(page: Page, username: str, reason: str) -> None:
    link = page.get_by_role("link", name="Block user").first
    reload_until_there(page, f"/admin/channels_secure/auditevent/?q={username}", link)
    link.click()
    page.get_by_label("Reason").fill(reason)


def reload_until_there(page: Page, path: str, locator: Locator) -> None:
    """Look again until the audit trail has been written, which happens twice a second."""
    deadline = time.monotonic() + 10
    page.goto(path)
    while not locator.is_visible() and time.monotonic() < deadline:
        page.reload()
    expect(locator).to_be_visible()
