"""What an authenticator is, and how the answers of several are combined."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.handshake import Handshake


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a handshake's credential speaks for.

    Args:
        user: a user of the project's user model; AnonymousUser where no credential was offered.
        kind: ``"session"``, ``"jwt"``, ``"ticket"``, ``"anonymous"`` or an authenticator's own word.
        expires_at: the Unix time in seconds at which the credential ends, None if it does not; the first to end of
            `session_expires_at`, which use moves on, and `token_expires_at`, which a refresh replaces.
        session_key: the session whose end ends the socket.
        jti: the token identifier whose revocation ends the socket.
        issued_at: the Unix time at which the token or ticket was issued, None where there is none; revoking all of a
            user's tokens concerns those issued before.
        auth_hash: what Django's sessions keep of the password, where a ticket stands in for a session.
        fingerprint: what the token says of the password it was issued under (simplejwt's CHECK_REVOKE_TOKEN).
        ambient: the browser sent the credential by itself (a cookie), so that only Origin shows who asked.
        session: the loaded session, for `scope["session"]`.
        other_jtis: the identifiers of further tokens, where a handshake has brought several.
    """

    user: Any
    kind: str
    expires_at: float | None = None
    session_key: str | None = field(default=None, repr=False)
    jti: str | None = None
    ambient: bool = False
    session: Any = field(default=None, repr=False, compare=False)
    session_expires_at: float | None = None
    token_expires_at: float | None = None
    issued_at: float | None = None
    fingerprint: str | None = field(default=None, repr=False)
    auth_hash: str | None = field(default=None, repr=False)
    other_jtis: tuple[str, ...] = ()

    @property
    def jtis(self) -> tuple[str, ...]:
        """The identifiers of all tokens that speak for the socket; revoking any of them ends it."""
        return self.other_jtis if self.jti is None else (self.jti, *self.other_jtis)

    @property
    def is_anonymous(self) -> bool:
        return not getattr(self.user, "is_authenticated", False)

    @property
    def ends_with_session(self) -> bool:
        """Whether `expires_at` is the session's end, which use may have moved on meanwhile."""
        ends, token_ends = self.session_expires_at, self.token_expires_at
        return ends is not None and (token_ends is None or ends < token_ends)


def digest_of(secret: str) -> str:
    """The SHA-256 of a session key or a ticket, as hexadecimal: what may be stored and compared in its place."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class Authenticator(Protocol):
    """Finds one kind of credential in a handshake.

    Returns an Identity for a good credential, a Denial for a wrong one, None where none of its kind was offered.
    Anything it raises refuses the handshake as `internal_error`.
    """

    async def authenticate(self, handshake: Handshake) -> Identity | Denial | None: ...


def combine(answers: Iterable[Identity | Denial | None]) -> Identity | Denial | None:
    """One answer for all the credentials that a handshake carries.

    A wrong explicit credential is refused whatever else is right; a wrong ambient one (a stale cookie) counts as
    absent, and is named only if nothing else succeeds. Credentials of different users are ambiguous. When several
    agree, the socket lives as long as the first of them to end.
    """
    identities: list[Identity] = []
    stale: Denial | None = None
    for answer in answers:
        if isinstance(answer, Identity):
            identities.append(answer)
        elif answer is not None and not answer.ambient:
            return answer
        elif answer is not None:
            stale = stale or answer
    if not identities:
        return stale
    if len({identity.user.pk for identity in identities}) > 1:
        return Denial(reason=Reason.AMBIGUOUS_CREDENTIALS, detail="credentials of different users")
    return _merge(identities)


def first_end(*ends: float | None) -> float | None:
    """The earliest of some Unix times, where None is never."""
    return min((end for end in ends if end is not None), default=None)


def _merge(identities: list[Identity]) -> Identity:
    first = identities[0]
    jtis = tuple(dict.fromkeys(jti for identity in identities for jti in identity.jtis))
    return replace(
        first,
        kind="+".join(dict.fromkeys(identity.kind for identity in identities)),
        expires_at=first_end(*(identity.expires_at for identity in identities)),
        session_expires_at=first_end(*(identity.session_expires_at for identity in identities)),
        token_expires_at=first_end(*(token_end(identity) for identity in identities)),
        # The earliest, so that revoking the older token ends the socket too.
        issued_at=first_end(*(identity.issued_at for identity in identities)),
        auth_hash=next((i.auth_hash for i in identities if i.auth_hash is not None), None),
        fingerprint=next((i.fingerprint for i in identities if i.fingerprint is not None), None),
        session_key=next((i.session_key for i in identities if i.session_key is not None), None),
        session=next((i.session for i in identities if i.session is not None), None),
        jti=jtis[0] if jtis else None,
        other_jtis=jtis[1:],
        ambient=all(identity.ambient for identity in identities),
    )


def token_end(identity: Identity) -> float | None:
    """The end of what no use prolongs; an authenticator of the project's own names one end only."""
    if identity.token_expires_at is None and identity.session_expires_at is None:
        return identity.expires_at
    return identity.token_expires_at
