"""Outcomes are values that say what they are."""

import pytest

from channels_secure.testing import Outcome

ACCEPTED = Outcome(accepted=True)
CHOSEN = Outcome(accepted=True, subprotocol="chat.v1")
PLAIN = Outcome(accepted=False, status=403)
SAID = Outcome(accepted=False, status=401, error={"code": "unauthenticated", "message": "Log in to connect."})
TOLD = Outcome(
    accepted=False, code=4401, reason="unauthenticated", error={"code": "unauthenticated", "message": "Log in."}
)
LOST = Outcome(accepted=False, code=1006)


@pytest.mark.parametrize(
    ("outcome", "words", "shown"),
    [
        (ACCEPTED, "accepted", "Outcome(accepted=True)"),
        (CHOSEN, "accepted, subprotocol 'chat.v1'", "Outcome(accepted=True, subprotocol='chat.v1')"),
        (PLAIN, "refused before accept: HTTP 403, without a word why", "Outcome(accepted=False, status=403)"),
        (
            SAID,
            "refused before accept: HTTP 401 unauthenticated (Log in to connect.)",
            "Outcome(accepted=False, status=401, error={'code': 'unauthenticated', 'message': 'Log in to connect.'})",
        ),
        (
            TOLD,
            "opened, told why and closed: 4401 unauthenticated (Log in.)",
            f"Outcome(accepted=False, code=4401, reason='unauthenticated', error={TOLD.error!r})",
        ),
        (LOST, "failed: the client sees nothing but 1006", "Outcome(accepted=False, code=1006)"),
    ],
)
def test_an_outcome_says_what_it_is_and_shows_only_what_is_known(outcome: Outcome, words: str, shown: str) -> None:
    assert (str(outcome), repr(outcome)) == (words, shown)


@pytest.mark.parametrize(
    ("outcome", "refusal"),
    [(ACCEPTED, ""), (PLAIN, ""), (SAID, "unauthenticated"), (LOST, ""), (TOLD, "unauthenticated")],
)
def test_the_refusal_is_what_this_client_was_told(outcome: Outcome, refusal: str) -> None:
    assert outcome.refusal == refusal


def test_what_is_insisted_on_holds() -> None:
    CHOSEN.assert_accepted()
    PLAIN.assert_refused()
    PLAIN.assert_refused(status=403)
    SAID.assert_refused("unauthenticated", status=401)
    TOLD.assert_refused("unauthenticated", code=4401)


@pytest.mark.parametrize(
    ("insist", "words"),
    [
        (SAID.assert_accepted, r"not accepted but refused before accept: HTTP 401 unauthenticated"),
        (CHOSEN.assert_refused, r"the connection was accepted, subprotocol 'chat.v1', and should have been"),
        (lambda: ACCEPTED.assert_refused("blocked"), r"should have been refused blocked$"),
        (lambda: SAID.assert_refused("blocked"), r"refusal 'unauthenticated' instead of 'blocked'"),
        (lambda: PLAIN.assert_refused("blocked"), r"refusal '' instead of 'blocked'; .*without a word why"),
        (lambda: TOLD.assert_refused(code=4403), r"code 4401 instead of 4403"),
        (lambda: TOLD.assert_refused(status=403), r"status None instead of 403"),
    ],
)
def test_what_is_insisted_on_in_vain_is_told(insist: object, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        insist()  # type: ignore[operator]
