"""A site for the browser's client on a real server that can be stopped and started again, and pages of it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals
from typing import Any

from tests.browser.driver import Browser, BrowserContext, Page
from tests.browser.example import WITNESS, Example
from tests.live.servers import HOST, ROOT, ServerKind, command_line
from tests.services import accepts_connections, free_port, stop_process, wait_until_ready

__all__ = ["SIGCONT", "SIGKILL", "SIGSTOP", "SIGTERM", "People", "Site", "Tab", "people_of"]

APP = "tests.browser.client_app:application"
NAMES = ("alice", "bob", "carol", "dave", "erin", "frank")
LIMITS = {
    "MAX_CONNECTIONS": {"user": 3},
    "MESSAGE_RATES": {"connection": "20/s"},
    "TOKEN_EXPIRY_WARNING": 6,
    "TICKET_RATE": "1000/m",
    "HANDSHAKE_RATES": {"ip": "10000/m", "user": "10000/m"},
}
SEED = f"""
import json, django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.contrib.auth.models import User
from django.test import Client
people = {{}}
for name in {NAMES!r}:
    user, client = User.objects.create_user(name), Client()
    client.force_login(user)
    people[name] = [user.pk, client.cookies["sessionid"].value]
print(json.dumps(people))
"""

# What a page has of the client: itself, and everything that it said.
BEGIN = """
window.begin = async (url, options) => {
  const { SecureSocket } = await import("/static/channels_secure/client.js");
  const client = window.client = new SecureSocket(url, options);
  window.heard = { state: [], open: [], message: [], denied: [], error: [] };
  const plain = (detail) => detail instanceof Error ? { ...detail, message: detail.message } : detail;
  for (const name of Object.keys(heard)) client.on(name, (detail) => heard[name].push(plain(detail)));
};
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    pk: int
    session: str


People = dict[str, Person]


def run(database: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment(database), check=True, stdout=subprocess.PIPE, timeout=60
    )
    return done.stdout.decode()


def environment(database: Path, settings: dict[str, Any] | None = None) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "DATABASE": "sqlite",
        "DJANGO_SETTINGS_MODULE": "tests.browser.client_settings",
        "CHANNELS_SECURE_TEST_DATABASE_NAME": str(database),
        "CHANNELS_SECURE_TEST_SETTINGS": json.dumps(settings or {}),
    }


def people_of(database: Path) -> People:
    """Make the database; return who is logged in there."""
    made = json.loads(run(database, "-c", SEED))
    return {name: Person(pk=pk, session=session) for name, (pk, session) in made.items()}


@dataclass(slots=True, kw_only=True)
class Site:
    """One address whose server comes and goes."""

    kind: ServerKind
    database: Path
    log: Path
    people: People
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        settings = LIMITS | {"ALLOWED_ORIGINS": [self.url]}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command_line(self.kind, APP, self.port, ()),
                cwd=ROOT,
                env=environment(self.database, settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_until_ready(self.process, lambda: accepts_connections(HOST, self.port), self.log)

    def stop(self, first: Signals = SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(SIGCONT)
            stop_process(self.process, first=first)
            self.process = None

    def signal(self, signal: Signals) -> None:
        """Let it stand still, or go on."""
        assert self.process is not None
        self.process.send_signal(signal)

    def complaints(self) -> list[str]:
        """What no refusal may write into the log."""
        return Example(url=self.url, log=self.log).complaints()

    def manage(self, *arguments: str) -> None:
        """Do what an operator does, in a process of its own."""
        run(self.database, "-m", "django", *arguments)


@dataclass(slots=True, kw_only=True)
class Tab:
    """A page of the site, and the client in it."""

    page: Page
    context: BrowserContext
    written: list[str] = field(default_factory=list)
    raised: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, browser: Browser, site: Site, username: str | None = None) -> "Tab":
        context = browser.new_context(base_url=site.url)
        context.set_default_timeout(40_000)
        context.add_init_script(WITNESS + BEGIN)
        if username is not None:
            session = site.people[username].session
            context.add_cookies([{"name": "sessionid", "value": session, "url": site.url, "httpOnly": True}])
        page = context.new_page()
        tab = cls(page=page, context=context)
        page.on("console", lambda message: tab.written.append(message.text))
        page.on("pageerror", lambda error: tab.raised.append(str(error)))
        # Any page will do; this one comes with a CSRF cookie.
        page.goto("/admin/login/")
        return tab

    def begin(self, url: str = "/ws/lobby/", options: str = "{}") -> None:
        """Connect; the options are JavaScript."""
        self.page.evaluate(f"begin({json.dumps(url)}, {options})")

    def send(self, message: dict[str, Any]) -> None:
        self.page.evaluate("(message) => client.send(message)", message)

    def expect(self, condition: str, timeout: float = 40_000) -> None:
        """Wait until an expression of JavaScript is true."""
        try:
            self.page.wait_for_function(f"() => {condition}", timeout=timeout)
        except Exception as error:
            raise AssertionError(f"not {condition}: {self.state}, {self.heard()}") from error

    def expect_state(self, state: str) -> None:
        self.expect(f"client.state === {json.dumps(state)}")

    @property
    def state(self) -> str:
        return str(self.page.evaluate("client.state"))

    def heard(self) -> dict[str, list[Any]]:
        """What the client has said so far, by the name of the event."""
        heard: dict[str, list[Any]] = self.page.evaluate("JSON.parse(JSON.stringify(heard))")
        return heard

    def sockets(self) -> int:
        """How many WebSockets this page has opened."""
        return int(self.page.evaluate("sockets.length"))
