"""What a handshake is opened with, and that none of it is ever shown."""

import pytest

from channels_secure.client import Again, Ending, Refused, SecureSocket
from channels_secure.client.credentials import Credentials, Fetch
from channels_secure.client.link import Address

SECRET = "eyJhbGciOiJIUzI1NiJ9.e30.Et9HFtf9R3GEMA0IICOfFMVXY7kkTX1wr4qCyIf58U"
URL = "wss://chat.example.com/ws/"


async def later() -> str:
    return SECRET


@pytest.mark.parametrize("source", [SECRET, lambda: SECRET, later])
async def test_a_token_goes_into_the_header(source: str | Fetch) -> None:
    offer = await Credentials(token=source).offer()
    assert (offer.headers, offer.subprotocols) == ((("Authorization", f"Bearer {SECRET}"),), ())


async def test_a_token_goes_as_a_subprotocol_when_that_is_wanted() -> None:
    offer = await Credentials(token=SECRET, by_subprotocol=True, subprotocols=("chat.v2",)).offer()
    assert offer.headers == ()
    assert offer.subprotocols == ("chat.v2", "channels-secure.v1", f"channels-secure.bearer.{SECRET}")


async def test_a_ticket_goes_as_a_subprotocol_and_is_fetched_each_time() -> None:
    tickets = iter(("first", "second"))
    credentials = Credentials(ticket=lambda: next(tickets))
    offers = [await credentials.offer(), await credentials.offer()]
    assert [offer.subprotocols for offer in offers] == [
        ("channels-secure.v1", "channels-secure.ticket.first"),
        ("channels-secure.v1", "channels-secure.ticket.second"),
    ]


async def test_a_session_goes_into_the_cookie_and_is_ambient() -> None:
    offer = await Credentials(session="abc", session_cookie="sid").offer()
    assert (offer.headers, offer.is_ambient) == ((("Cookie", "sid=abc"),), True)
    assert not (await Credentials(token=SECRET).offer()).is_ambient


async def test_without_credentials_nothing_is_offered() -> None:
    offer = await Credentials(subprotocols=("chat.v2",)).offer()
    assert (offer.headers, offer.subprotocols, offer.is_ambient) == ((), ("chat.v2",), False)


async def test_a_fetched_token_is_what_a_newer_one_is_fetched_with() -> None:
    assert await Credentials(token=later).newer_token() == SECRET
    assert await Credentials(ticket=lambda: "t", get_token=later).newer_token() == SECRET
    assert await Credentials(token=SECRET).newer_token() is None
    assert await Credentials().newer_token() is None


@pytest.mark.parametrize("bad", ["", "a b", "a\r\nX-Admin: 1", "a\n", "a;b", "ü", "a\0", 'a"', "a,b", 7, b"abc"])
@pytest.mark.parametrize("kind", ["ticket", "token", "session"])
async def test_what_could_end_a_header_is_never_sent_and_never_repeated(kind: str, bad: object) -> None:
    credentials = Credentials(**{kind: lambda: bad})  # type: ignore[arg-type]
    with pytest.raises(Refused) as refused:
        await credentials.offer()
    assert refused.value.ending == Ending(
        again=Again.NO, reason="bad_request", message=f"the {kind} is empty or has characters that cannot be sent"
    )


@pytest.mark.parametrize("kind", ["ticket", "token", "session"])
async def test_no_credentials_mean_that_nobody_is_logged_in(kind: str) -> None:
    with pytest.raises(Refused) as refused:
        await Credentials(**{kind: lambda: None}).offer()  # type: ignore[arg-type]
    assert (refused.value.reason, refused.value.ending.again) == ("unauthenticated", Again.NO)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"token": "a", "session": "b"}, "give one of"),
        ({"token": "a", "ticket": lambda: "b"}, "give one of"),
        ({"token": "a", "get_token": lambda: "b"}, "the function that fetches it"),
        ({"token": "a b"}, "the token"),
        ({"session": "a;b"}, "the session"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SecureSocket(URL, **options)  # type: ignore[arg-type]


def test_a_ticket_that_is_no_function_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="works once"):
        SecureSocket(URL, ticket="a")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "https://chat.example.com/",
        "chat.example.com/ws/",
        "wss:///ws/",
        f"wss://user:{SECRET}@chat.example.com/",
        f"wss://chat.example.com/#{SECRET}",
    ],
)
def test_a_url_that_is_none_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="the URL") as error:
        SecureSocket(url)
    assert SECRET not in str(error.value)


async def test_no_secret_stands_in_a_repr() -> None:
    credentials = Credentials(token=SECRET)
    socket = SecureSocket(f"{URL}?token={SECRET}", token=SECRET, headers={"X-Key": SECRET})
    address = Address(url=f"{URL}?token={SECRET}", headers={"X-Key": SECRET})
    for shown in (repr(socket), repr(address), repr(credentials), repr(await credentials.offer()), address.shown):
        assert SECRET not in shown
    assert repr(socket) == f"<SecureSocket {URL} connecting>"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("wss://chat.example.com/ws/", "https://chat.example.com"),
        ("ws://127.0.0.1:8000/ws/", "http://127.0.0.1:8000"),
        ("wss://[::1]:8443/", "https://[::1]:8443"),
    ],
)
def test_the_origin_of_a_url_is_what_its_own_pages_send(url: str, origin: str) -> None:
    assert Address(url=url).own_origin == origin
