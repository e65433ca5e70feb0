"""FernetCodec by itself: the specification's vectors, rotation of keys, the age of a token, and bad declarations."""

import time

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from channels_secure.codecs import Codec, FernetCodec, JsonCodec, Unreadable
from tests.codecs.vectors import BAD, KEY, TEXT, TOKEN, Bad

each_bad = pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.what)


def key() -> str:
    return Fernet.generate_key().decode()


def test_what_is_encoded_can_be_decoded_with_the_key_and_is_not_the_text() -> None:
    codec = FernetCodec(keys=[key()])
    frame = codec.encode('{"type": "say", "text": "grüße"}')
    assert frame.startswith("gAAAAA")
    assert "say" not in frame
    assert codec.decode(frame) == '{"type": "say", "text": "grüße"}'


def test_the_specifications_token_is_read() -> None:
    assert FernetCodec(keys=[KEY], ttl=None).decode(TOKEN) == TEXT


def test_what_the_codec_makes_is_read_by_the_library() -> None:
    assert Fernet(KEY).decrypt(FernetCodec(keys=KEY).encode(TEXT)) == TEXT.encode()


@each_bad
def test_a_token_that_the_specification_calls_invalid_is_refused(bad: Bad) -> None:
    codec = FernetCodec(keys=[KEY], ttl=bad.ttl)
    with pytest.raises(Unreadable):
        codec.decode(bad.token)


@pytest.mark.parametrize("bad", [bad for bad in BAD if bad.what not in {"far-future timestamp", "expired"}], ids=str)
def test_it_is_refused_whatever_its_age(bad: Bad) -> None:
    with pytest.raises(Unreadable):
        FernetCodec(keys=[KEY], ttl=None).decode(bad.token)


@pytest.mark.parametrize(
    "frame",
    ["", " ", "{}", '{"type": "say"}', "gAAAAA", "ü" * 100, "\x00", "gAAAAABé", "\ud800", "=" * 64, "A" * 100_000],
    ids=repr,
)
def test_noise_is_unreadable_and_raises_nothing_else(frame: str) -> None:
    with pytest.raises(Unreadable) as caught:
        FernetCodec(keys=[KEY]).decode(frame)
    assert str(caught.value) == "the frame cannot be read"


def test_a_token_that_carries_no_text_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        FernetCodec(keys=[KEY]).decode(Fernet(KEY).encrypt(b"\xff\xfe").decode())


def test_the_first_key_encrypts_and_every_key_decrypts() -> None:
    new, old = key(), key()
    both = FernetCodec(keys=[new, old])
    assert FernetCodec(keys=[new]).decode(both.encode("x")) == "x"
    assert both.decode(FernetCodec(keys=[old]).encode("x")) == "x"
    with pytest.raises(Unreadable):
        FernetCodec(keys=[old]).decode(both.encode("x"))
    with pytest.raises(Unreadable):
        both.decode(FernetCodec(keys=[key()]).encode("x"))


@pytest.mark.parametrize("keys", [[KEY], [key(), KEY]], ids=["one key", "rotated"])
def test_a_token_older_than_the_ttl_is_refused(keys: list[str]) -> None:
    now = int(time.time())
    young, old = (Fernet(KEY).encrypt_at_time(b"x", now - age).decode() for age in (20, 31))
    codec = FernetCodec(keys=keys, ttl=30)
    assert codec.decode(young) == "x"
    with pytest.raises(Unreadable):
        codec.decode(old)
    assert FernetCodec(keys=keys, ttl=None).decode(old) == "x"


def test_a_token_from_more_than_a_minute_in_the_future_is_refused() -> None:
    token = Fernet(KEY).encrypt_at_time(b"x", int(time.time()) + 120).decode()
    with pytest.raises(Unreadable):
        FernetCodec(keys=[KEY], ttl=30).decode(token)


@pytest.mark.parametrize("keys", [KEY, KEY.encode(), [KEY.encode()], (KEY,), iter([KEY])], ids=repr)
def test_keys_are_text_or_bytes_one_or_several(keys: object) -> None:
    codec = FernetCodec(keys=keys)  # type: ignore[arg-type]
    assert codec.problem() == ""
    assert codec.decode(codec.encode("x")) == "x"


@pytest.mark.parametrize(
    ("codec", "words"),
    [
        (FernetCodec(), "has no keys"),
        (FernetCodec(keys=[]), "has no keys"),
        (FernetCodec(keys=None), "has no keys"),
        (FernetCodec(keys=[None]), "has a key that is not"),  # type: ignore[list-item]
        (FernetCodec(keys=""), "has a key that is not"),
        (FernetCodec(keys=["secret-of-mine"]), "has a key that is not"),
        (FernetCodec(keys=[KEY, "secret-of-mine"]), "has a key that is not"),
        (FernetCodec(keys=["ü" * 44]), "has a key that is not"),
        (FernetCodec(keys=[5]), "has a key that is not"),  # type: ignore[list-item]
        (FernetCodec(keys=[KEY], ttl=0), "has a ttl"),
        (FernetCodec(keys=[KEY], ttl=1.5), "has a ttl"),  # type: ignore[arg-type]
        (FernetCodec(keys=[KEY], ttl=True), "has a ttl"),
    ],
)
def test_what_is_wrong_with_a_declaration_is_said_without_a_key(codec: FernetCodec, words: str) -> None:
    assert words in codec.problem()
    assert "secret-of-mine" not in codec.problem()


def test_a_codec_shows_no_key() -> None:
    codec = FernetCodec(keys=[KEY])
    codec.encode("x")
    assert KEY not in repr(codec)
    assert KEY[:8] not in str(codec)


async def test_keys_may_be_asked_for_per_connection() -> None:
    async def keys_of(room: str) -> list[str]:
        return {"red": [KEY]}[room]

    declared = FernetCodec(keys=keys_of, ttl=None)
    assert declared.problem() == ""
    opened = await declared.open("red")
    assert opened.decode(TOKEN) == TEXT
    assert (await FernetCodec(keys=lambda room: [KEY], ttl=None).open("red")).decode(TOKEN) == TEXT


@pytest.mark.parametrize("answer", [None, [], "no key"])
async def test_keys_that_are_asked_for_and_not_there_are_an_error(answer: object) -> None:
    with pytest.raises(ImproperlyConfigured, match="FernetCodec for one connection"):
        await FernetCodec(keys=lambda consumer: answer).open(None)  # type: ignore[arg-type,return-value]


def test_a_codec_that_asks_has_no_keys_of_its_own() -> None:
    with pytest.raises(ImproperlyConfigured, match="use what `open"):
        FernetCodec(keys=lambda consumer: [KEY]).encode("x")


async def test_one_codec_serves_all_connections_when_its_keys_are_given() -> None:
    codec = FernetCodec(keys=[KEY])
    assert await codec.open(None) is codec


def test_the_codec_of_plain_json_changes_nothing() -> None:
    codec: Codec = JsonCodec()
    assert codec.decode(codec.encode('{"a": 1}')) == '{"a": 1}'
