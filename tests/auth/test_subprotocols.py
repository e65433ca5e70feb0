import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_secure.auth.subprotocols import BEARER_PREFIX, SUBPROTOCOL, TICKET_PREFIX, looks_like_jwt, without_tokens


def encode(header: object, *, indent: int | None = None) -> str:
    return base64.urlsafe_b64encode(json.dumps(header, indent=indent).encode()).rstrip(b"=").decode()


def test_entries_that_carry_a_token_or_a_ticket_are_taken_out() -> None:
    offered = [SUBPROTOCOL, f"{BEARER_PREFIX}a.b.c", "chat.v2", f"{TICKET_PREFIX}secret"]
    assert without_tokens(offered) == (SUBPROTOCOL, "chat.v2")


def test_other_spellings_of_the_prefix_are_taken_out_too() -> None:
    assert without_tokens(["Channels-Secure.Bearer.a.b.c", "CHANNELS-SECURE.TICKET.x"]) == ()


def test_names_that_only_resemble_the_prefix_stay() -> None:
    assert without_tokens(["channels-secure.v2", "channels-secure.bearer", "x-channels-secure.bearer.a"]) == (
        "channels-secure.v2",
        "channels-secure.bearer",
        "x-channels-secure.bearer.a",
    )


@pytest.mark.parametrize(
    "token",
    [
        f"{encode({'alg': 'HS256'})}.e30.c2ln",
        f"{encode({'alg': 'none'})}.e30.",
        f"{encode({'alg': 'HS256'}, indent=1)}.e30.c2ln",
        f" {encode({'alg': 'HS256'})}.e30.c2ln= ",
        f"{encode({'alg': 'dir', 'enc': 'A128GCM'})}..aXY.Y3Q.dGFn",
        f"{encode({'alg': 'HS256'})}.{'A' * 100_000}.c2ln",
    ],
)
def test_a_jwt_is_recognised_by_its_shape(token: str) -> None:
    assert looks_like_jwt(token)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "invitation",
        "1.2.3",
        "example.com.invalid",
        "eyJhbGciOiJIUzI1NiJ9",
        "aGVsbG8gd29ybGQ.e30.c2ln",
        "é" * 12 + ".a.b",
    ],
)
def test_other_values_are_not_taken_for_a_jwt(text: str) -> None:
    assert not looks_like_jwt(text)


@given(st.text())
def test_no_text_makes_the_look_raise(text: str) -> None:
    assert looks_like_jwt(text) in (True, False)
