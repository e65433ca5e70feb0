"""The package's own frames as messages: which of them the sockets of a consumer know."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from channels_secure.asyncapi import frames
from channels_secure.asyncapi.envelopes import opened
from channels_secure.asyncapi.messages import Direction, Message, documentation
from channels_secure.asyncapi.schemas import Sketch, sketch
from channels_secure.consumers.consumer import SecureJsonConsumer
from channels_secure.consumers.handlers import Plan
from channels_secure.policy.messages import Ping, Pong, RefreshToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """Which of the package's frames a consumer's sockets know; one that is not ours gets errors, and no more."""

    controls: bool = False
    warns: bool = False
    says_hello: bool = False
    has_heartbeat: bool = False
    takes_tokens: bool = False

    @classmethod
    def of(cls, consumer: Any, plan: Plan, *, takes_tokens: bool) -> Self:
        has_heartbeat = plan.limits.deadlines.heartbeat is not None
        speaks = plan.typed or bool(consumer.control_frames)
        return cls(
            controls=speaks or has_heartbeat,
            warns=speaks,
            says_hello=plan.limits.send_hello,
            has_heartbeat=has_heartbeat,
            takes_tokens=takes_tokens,
        )


def frames_received(talk: Talk) -> Iterator[Message]:
    """The package's own frames that clients may send."""
    if not talk.controls:
        return
    yield _frame(Ping, "ClientPing", "receive", answers=("ServerPong",))
    yield _frame(Pong, "ClientPong", "receive")
    if talk.takes_tokens:
        yield _frame(RefreshToken, "RefreshToken", "receive", answers=("TokenRefreshed", "ErrorFrame"))


def frames_sent(talk: Talk) -> Iterator[Message]:
    """The package's own frames that clients may get."""
    yield _frame(frames.ErrorFrame, "ErrorFrame", "send")
    if talk.says_hello:
        yield _frame(frames.Hello, "Hello", "send")
    if talk.has_heartbeat:
        yield _frame(frames.Heartbeat, "ServerPing", "send")
    if talk.controls:
        yield _frame(frames.HeartbeatAnswer, "ServerPong", "send")
    if talk.warns:
        yield _frame(frames.TokenExpiring, "TokenExpiring", "send")
    if talk.controls and talk.takes_tokens:
        yield _frame(frames.TokenRefreshed, "TokenRefreshed", "send")


def _frame(struct: Any, key: str, direction: Direction, answers: Sequence[str] = ()) -> Message:
    payload = sketch(struct, key)
    root = opened(payload.root, payload.parts)
    fields = struct.__struct_fields__
    return Message(
        direction=direction,
        name=struct.__struct_config__.tag,
        key=key,
        owner=SecureJsonConsumer.__name__,
        payload=Sketch(root=root, parts=payload.parts).pruned(),
        description=documentation(struct),
        answers=answers,
        correlated=next((name for name in ("ref", "id") if name in fields), ""),
        is_frame=True,
    )
