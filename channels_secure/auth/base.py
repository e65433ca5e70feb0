"""What an authenticator is, and how the answers of several are combined."""

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
        expires_at: the Unix time in seconds at which the credential ends, None if it does not.
        session_key: the session whose end ends the socket.
        jti: the token identifier whose revocation ends the socket.
        ambient: the browser sent the credential by itself (a cookie), so that only Origin shows who asked.
        session: the loaded session, for `scope["session"]`.
    """

    user: Any
    kind: str
    expires_at: float | None = None
    session_key: str | None = field(default=None, repr=False)
    jti: str | None = None
    ambient: bool = False
    session: Any = field(default=None, repr=False, compare=False)

    @property
    def is_anonymous(self) -> bool:
        return not getattr(self.user, "is_authenticated", False)


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


def _merge(identities: list[Identity]) -> Identity:
    first = identities[0]
    ends = [identity.expires_at for identity in identities if identity.expires_at is not None]
    return replace(
        first,
        kind="+".join(dict.fromkeys(identity.kind for identity in identities)),
        expires_at=min(ends, default=None),
        session_key=next((i.session_key for i in identities if i.session_key is not None), None),
        session=next((i.session for i in identities if i.session is not None), None),
        jti=next((i.jti for i in identities if i.jti is not None), None),
        ambient=all(identity.ambient for identity in identities),
    )
