"""Encryption in Chromium against a real server: two people in a sealed room, and a socket with Fernet frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.browser import sealed_desk
from tests.browser.driver import Browser, Page
from tests.browser.example import copy_database
from tests.codecs.vectors import KEY
from tests.live.servers import HOST, KINDS, LiveServer, ServerKind, environment, start_server

pytestmark = [pytest.mark.browser, pytest.mark.live]

SECRET = "meet me at the old mill at noon"


@dataclass(frozen=True, slots=True)
class Vault:
    """A server with an encrypted room of two."""

    running: LiveServer
    environ: dict[str, str]
    sessions: dict[str, Any]
    seen: Path

    def ask(self, *words: str) -> Any:
        return sealed_desk.ask(self.environ, *words)

    def everything(self) -> str:
        """All that the server has had: frames, its log, and the tables."""
        return self.seen.read_text() + self.running.log() + str(self.ask("stored"))


ENTER = """async ({url, user}) => {
  const {SecureSocket} = await import("/client.js"), {Identity, SealedRoom} = await import("/encryption.js");
  const socket = new SecureSocket(url), identity = await Identity.open(user);
  const room = new SealedRoom(socket, {room: "vault", user, identity});
  Object.assign(window, {socket, room, identity, heard: [], errors: [], changes: []});
  room.on("message", ({text, user, missing}) => heard.push([user.name, text, missing]));
  room.on("error", ({error}) => errors.push(error.code ?? String(error)));
  room.on("keychange", ({user, before, after}) => changes.push([user.name, before, after]));
  await new Promise((resolve, reject) => {
    for (const name of ["ready", "error"]) room.on(name, resolve);
    setTimeout(() => reject(new Error(`not entered: ${socket.state}`)), 15000);
  });
  return identity.publicKey;
}"""
SAY = "(text) => room.say(text).then(({type}) => type, ({code}) => code)"


def environs(database: Path, seen: Path) -> dict[str, str]:
    names = {"CHANNELS_SECURE_TEST_DATABASE_NAME": str(database), "CHANNELS_SECURE_TEST_SEEN": str(seen)}
    return {"DATABASE": "sqlite", **names}


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A database with an encrypted room of two, and their sessions."""
    database = tmp_path_factory.mktemp("vault") / "db.sqlite3"
    return database, sealed_desk.ask(environment({}, environs(database, database)), "make")


@pytest.fixture
def server(request: pytest.FixtureRequest, seeded: tuple[Path, dict[str, Any]], tmp_path: Path) -> Iterator[Vault]:
    """A server with a database of its own: uvicorn, unless the test is parametrized."""
    kind: ServerKind = getattr(request, "param", "uvicorn")
    database, sessions = copy_database(seeded[0], tmp_path / "db.sqlite3"), seeded[1]
    extra = environs(database, tmp_path / "seen")
    running = start_server(kind, "tests.browser.sealed_site:application", directory=tmp_path, environ=extra)
    yield Vault(running, environment({}, extra), sessions, tmp_path / "seen")
    running.stop()
    assert "Traceback" not in running.log()


class People:
    """Pages of people who are logged in, each with a browser profile of their own."""

    def __init__(self, browser: Browser, server: Vault) -> None:
        self.browser, self.sessions, self.url = browser, server.sessions, server.running.url
        self.page_url = server.running.http_url
        self.contexts: dict[str, Any] = {}

    def page(self, name: str, *, fresh: bool = False) -> Page:
        if fresh or name not in self.contexts:
            context = self.browser.new_context()
            context.add_cookies([{"name": "sessionid", "value": self.sessions[name][1], "domain": HOST, "path": "/"}])
            self.contexts[name] = context
        page = self.contexts[name].new_page()
        page.goto(self.page_url)
        return page

    def enter(self, name: str, **options: Any) -> Page:
        page = self.page(name, **options)
        page.evaluate(ENTER, {"url": f"{self.url}/ws/room/vault/", "user": self.sessions[name][0]})
        return page


@pytest.fixture
def people(browser: Browser, server: Vault) -> Iterator[People]:
    arrived = People(browser, server)
    yield arrived
    for context in arrived.contexts.values():
        context.close()


def heard(page: Page, count: int) -> list[Any]:
    page.wait_for_function("(count) => heard.length + errors.length >= count", arg=count)
    assert page.evaluate("errors") == []
    found: list[Any] = page.evaluate("heard")
    return found


@pytest.mark.parametrize("server", KINDS, indirect=True)
def test_two_people_talk_and_the_server_never_sees_the_words(people: People, server: Vault) -> None:
    ann, ben = people.enter("ann"), people.enter("ben")
    assert ann.evaluate(SAY, SECRET) == "room.done"
    assert ben.evaluate(SAY, "grüße, I will be there") == "room.done"
    for page in (ann, ben):
        assert [each[:2] for each in heard(page, 2)] == [["ann", SECRET], ["ben", "grüße, I will be there"]]
    everything = server.everything()
    assert everything.count("room.said") >= 4
    for word in ("mill", "noon", "grüße", "gr\\u00fc\\u00dfe", "there"):
        assert word not in everything, word


def test_the_private_key_stays_in_the_browser_and_cannot_be_taken_out(people: People, server: Vault) -> None:
    ann = people.enter("ann")
    first = ann.evaluate("identity.publicKey")
    assert first in server.everything()
    refused = "crypto.subtle.exportKey('jwk', identity.privateKey).then(() => 'taken', ({name}) => name)"
    assert ann.evaluate(refused) == "InvalidAccessError"
    again = people.enter("ann")
    assert again.evaluate("identity.publicKey") == first


def test_who_comes_back_hears_on_and_a_message_played_again_is_refused(people: People) -> None:
    ann, ben = people.enter("ann"), people.enter("ben")
    ben.evaluate("() => { socket.on('message', (frame) => { if (frame.type === 'room.said') window.last = frame; }); }")
    ann.evaluate(SAY, "first")
    assert len(heard(ben, 1)) == 1
    last = ben.evaluate("last")
    ben.close()
    back = people.enter("ben")
    back.evaluate("(frame) => socket.dispatchEvent(new CustomEvent('message', {detail: frame}))", last)
    back.wait_for_function("errors.length")
    assert back.evaluate("[heard, errors]") == [[], ["replayed"]]
    ann.evaluate(SAY, "second")
    back.wait_for_function("heard.length")
    assert back.evaluate("heard") == [["ann", "second", 0]]


def test_when_somebody_leaves_the_room_key_is_another(people: People, server: Vault) -> None:
    ann, ben = people.enter("ann"), people.enter("ben")
    ann.evaluate(SAY, "both")
    heard(ben, 1)
    server.ask("leave", str(people.sessions["ben"][0]))
    ben.wait_for_function("socket.state !== 'open'")
    assert ann.evaluate(SAY, "alone") == "room.done"
    own, other = ann.evaluate("identity.fingerprint"), ben.evaluate("identity.fingerprint")
    assert server.ask("epochs") == [sorted([own, other]), [own]]
    assert ben.evaluate("heard.length") == 1


def test_another_browser_needs_a_decision_and_the_others_are_warned(people: People) -> None:
    ann, ben = people.enter("ann"), people.enter("ben")
    before = ben.evaluate("identity.fingerprint")
    ann.evaluate(SAY, "hello")
    other = people.enter("ben", fresh=True)
    assert other.evaluate("errors") == ["key_elsewhere"]
    assert other.evaluate(SAY, "it is me") == "key_elsewhere"
    other.evaluate("room.takeOver()")
    ann.wait_for_function("changes.length")
    assert ann.evaluate("changes") == [["ben", before, other.evaluate("identity.fingerprint")]]
    assert ann.evaluate(SAY, SECRET) == "key_changed"
    accept = "([id, fingerprint]) => room.accept(id, {fingerprint, verified: true})"
    ann.evaluate(accept, [people.sessions["ben"][0], other.evaluate("identity.fingerprint")])
    assert ann.evaluate(SAY, "hello again") == "room.done"
    other.wait_for_function("heard.length")
    assert other.evaluate("heard") == [["ann", "hello again", None]]


def test_fernet_frames_in_the_browser(people: People, server: Vault) -> None:
    page = people.page("ann")
    answer = page.evaluate(
        """async ({url, key, text}) => {
          const {SecureSocket} = await import("/client.js"), {fernet} = await import("/encryption.js");
          const socket = new SecureSocket(url, {codec: await fernet(key)});
          const open = await new Promise((resolve) => socket.on("open", resolve));
          const {type, text: back} = await socket.request({type: "mirror", text});
          const refused = await socket.request({type: "nothing"}).catch(({code}) => code);
          socket.close();
          return [open.type, type, back, refused];
        }""",
        {"url": f"{people.url}/ws/mirror/", "key": KEY, "text": SECRET},
    )
    assert answer == ["hello", "mirrored", SECRET[::-1], "unknown_type"]
    frames = server.seen.read_text()
    assert "gAAAAA" in frames
    for word in ("mill", "mirror", "hello", "unknown_type"):
        assert word not in frames, word
