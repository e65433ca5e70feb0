"""Hostile frames: what they are made of, and whether one that was sent has been refused."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from channels_secure.conf import get_settings
from channels_secure.consumers.handlers import Plan
from channels_secure.limits import Limits, limits_of
from channels_secure.policy.decisions import Reason
from channels_secure.testing.hostile.target import BESIDE_THE_POINT, Target
from channels_secure.testing.hostile.verdicts import AttackSucceeded, NotApplicable, TargetUnfit
from channels_secure.testing.hostile.visit import Visit

EXAMPLE = {"type": "attack", "text": "hello"}
# Close codes by which a server, or a consumer of any make, refuses what it was sent (RFC 6455 section 7.4.1).
REFUSING = frozenset({1003, 1007, 1008, 1009, *range(3000, 5000)})
TRACEBACK = "Traceback (most recent call last)"
# What a client sees when the application raises: uvicorn and Daphne.
CRASHED = frozenset({1006, 1011})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What hostile frames are made of: a message, and the limits that they exceed."""

    message: Mapping[str, Any]
    limits: Limits
    plan: Plan | None

    def plant(self, raw: str) -> str:
        """The message as JSON, with `raw` in the place of one of its values."""
        name = next((name for name in self.message if name not in ("type", "id")), "text")
        members = [(key, json.dumps(value)) for key, value in ({name: None} | dict(self.message)).items()]
        return "{" + ",".join(f"{json.dumps(key)}:{raw if key == name else text}" for key, text in members) + "}"

    def renamed(self, kind: str) -> str:
        """The message under another type."""
        return json.dumps({**self.message, "type": kind})

    def twice(self) -> str:
        """The message with every member twice."""
        text = json.dumps(self.message)
        return f"{text[:-1]},{text[1:]}"


Make = Callable[[Sample], str | bytes]


def sample_of(target: Target, visit: Visit) -> Sample:
    """What is known of an open socket's messages."""
    return Sample(
        message=target.message or EXAMPLE,
        limits=limits_of(get_settings()) if visit.connection is None else visit.connection.limits,
        plan=visit.plan,
    )


async def answers(visit: Visit, patience: float) -> AsyncIterator[Mapping[str, Any]]:
    """The error frames of a socket, and at last its close as `{"close": code}`; ends after `patience` without any."""
    deadline = time.monotonic() + patience
    while True:
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                event = await visit.socket.receive_output(timeout=patience + 60)
        except TimeoutError:
            return
        if event["type"] == "websocket.close":
            yield {"close": event.get("code")}
            return
        text = visit.read(event.get("text") or "")
        if TRACEBACK in text:
            raise AttackSucceeded("it was answered with a traceback (CWE-209)")
        frame = _read(text)
        if frame.get("type") == "error":
            yield frame


async def refusal(visit: Visit, target: Target, sample: Sample, reasons: Collection[str]) -> str:
    """How the frame that was sent last is refused.

    Args:
        reasons: for which a consumer of this package refuses it; another shows that it was read for too long.

    Raises:
        AttackSucceeded: it is not, or it crashed the application.
    """
    async for answer in answers(visit, target.patience):
        code, reason = answer.get("close"), str(answer.get("code"))
        if reason in BESIDE_THE_POINT:
            raise TargetUnfit(f"{target.path} cannot be judged: {reason}")
        if reason == "internal_error" or code in CRASHED:
            raise AttackSucceeded("it reached code that crashed over it; see the log")
        if code is not None and code not in REFUSING:
            raise AttackSucceeded(f"the socket was closed with {code}, as if all were well")
        if code is None and sample.plan is not None and reason not in reasons:
            raise AttackSucceeded(f"it was not seen for what it is, but refused as {reason}")
        return f"error frame {reason}" if code is None else f"close {code}"
    raise AttackSucceeded(f"it was taken: no error frame and no close within {target.patience:g} s")


def with_frames(
    *made: tuple[str, Make], reason: Reason = Reason.INVALID_MESSAGE, typed: bool = False
) -> Callable[[Target], Any]:
    """An attack that sends each of some frames on a socket of its own.

    Args:
        reason: for which a consumer of this package refuses them; or for their size, which is looked at before.
        typed: only consumers that declare their messages are to refuse these.
    """

    async def play(target: Target) -> str:
        await example_is_good(target)
        how, takes_all = "", False
        for what, make in made:
            async with target.visit(**await target.honest()) as visit:
                sample = sample_of(target, visit)
                await visit.send(make(sample))
                takes_all = typed and sample.plan is not None and not sample.plan.typed
                try:
                    if takes_all:
                        await survives(visit, target)
                    else:
                        how = f"{what}: {await refusal(visit, target, sample, {reason, Reason.MESSAGE_TOO_BIG})}"
                except AttackSucceeded as error:
                    raise AttackSucceeded(f"{what}: {error}") from None
        if takes_all:
            raise NotApplicable(
                "this consumer declares no message types, and takes every JSON value; it crashed over none of these"
            )
        return how

    return play


async def survives(visit: Visit, target: Target) -> None:
    """See that a consumer which takes every JSON value did not crash over the last: it still refuses what is none.

    Raises:
        AttackSucceeded: it crashed, or answered with a traceback.
    """
    await visit.send("{")
    async for answer in answers(visit, target.patience):
        if answer.get("code") == "internal_error" or answer.get("close") in CRASHED:
            raise AttackSucceeded("it reached code that crashed over it; see the log")
        if answer.get("code") == "invalid_message":
            return


async def example_is_good(target: Target) -> None:
    """A message that is refused anyway would make every attack made of it look repelled.

    Raises:
        TargetUnfit: the consumer refuses the message that was given.
    """
    if target.message is None:
        return
    async with target.visit(**await target.honest()) as visit:
        if visit.plan is None or not visit.plan.typed:
            return
        await visit.send(json.dumps({**target.message, "id": "example"}))
        await visit.send("{")
        async for answer in answers(visit, target.patience):
            if answer.get("ref") == "example":
                raise TargetUnfit(f"the message that was given is refused itself: {dict(answer)}")
            return


def _read(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
