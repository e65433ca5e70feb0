"""What a ready attack is: a name, what it tries, the rule it tests, and a way to run it on anybody's application."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from channels_secure.middleware import Application
from channels_secure.testing.hostile.target import Target
from channels_secure.testing.hostile.verdicts import AttackSucceeded, NotApplicable, Verdict
from channels_secure.testing.limits import unlimited
from channels_secure.testing.servers import Server

# The limits of the settings that an attack on something else should not run into.
LIMITS = frozenset({"HANDSHAKE_RATES", "MESSAGE_RATES", "MAX_CONNECTIONS", "ERROR_BUDGET", "AUTO_BLOCK_AFTER"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one attack on one application has shown.

    Args:
        why: how it was repelled, how it got through, or why it does not apply.
    """

    attack: "Attack"
    path: str
    verdict: Verdict
    why: str

    def __str__(self) -> str:
        first = f"{self.attack.id}: {self.verdict} at {self.path}: {self.why}"
        if self.verdict is not Verdict.GOT_THROUGH:
            return first
        return f"{first}\n  tried:  {self.attack.tries}\n  rule:   {self.attack.rule}\n  remedy: {self.attack.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One thing that an attacker tries; run it on your own consumers, one test each.

    Args:
        id: its name, also of the test that `pytest.mark.parametrize` makes of it.
        tries: what the attacker does, and hopes for.
        rule: the requirement that says it must fail: OWASP WebSocket Security Cheat Sheet, ASVS 5.0, CWE.
        remedy: what stops it.
        play: does it; returns how it was repelled.
        limits: the settings that it is about, which stay as the project has them; other limits are lifted meanwhile.
    """

    id: str
    tries: str
    rule: str
    remedy: str
    play: Callable[[Target], Awaitable[str]] = field(repr=False)
    limits: frozenset[str] = frozenset()

    @property
    def __name__(self) -> str:
        # pytest names the test after it.
        return self.id

    def __str__(self) -> str:
        return self.id

    async def run(
        self,
        application: Application,
        path: str = "/",
        *,
        user: Any = None,
        message: Mapping[str, Any] | None = None,
        server: Server = "uvicorn",
        patience: float = 2.0,
        **options: Any,
    ) -> Result:
        """Try it, and insist that it is repelled.

        Args:
            application: yours, of `asgi.py`, or one consumer in the stack that you use.
            path: where an honest client may connect.
            user: a stored user who may; without one the attacks on sessions and tokens do not apply. Attacks that
                deactivate the user, or change the password, put things right again.
            message: a message that your consumer takes, for example ``{"type": "chat.say", "text": "hello"}``; hostile
                frames are made from it.
            server: what runs the application, see `SecureCommunicator`.
            patience: seconds after which silence is no refusal.
            options: of every `SecureCommunicator`, for example `subprotocols`.

        Raises:
            AttackSucceeded: an AssertionError: it got through.
            NotApplicable: a SkipTest: there is nothing that it could try here; the words say why.
            TargetUnfit: an AssertionError: an honest client is not let in either, so nothing was learnt.
        """
        __tracebackhide__ = True
        result = await self.attempt(
            application, path, user=user, message=message, server=server, patience=patience, **options
        )
        if result.verdict is Verdict.GOT_THROUGH:
            raise AttackSucceeded(str(result))
        if result.verdict is Verdict.NOT_APPLICABLE:
            raise NotApplicable(str(result))
        return result

    async def attempt(
        self,
        application: Application,
        path: str = "/",
        *,
        user: Any = None,
        message: Mapping[str, Any] | None = None,
        server: Server = "uvicorn",
        patience: float = 2.0,
        **options: Any,
    ) -> Result:
        """As `run`, but whatever comes of it is the result; only an unfit target raises."""
        target = Target(
            application=application,
            path=path,
            user=user,
            message=message,
            server=server,
            patience=patience,
            options=options,
        )
        try:
            # Changed settings also make the process forget what an earlier attack has spent.
            with unlimited(*(LIMITS - self.limits)):
                verdict, why = Verdict.REPELLED, await self.play(target)
        except AttackSucceeded as error:
            verdict, why = Verdict.GOT_THROUGH, str(error)
        except NotApplicable as error:
            verdict, why = Verdict.NOT_APPLICABLE, str(error)
        return Result(attack=self, path=path, verdict=verdict, why=why)
