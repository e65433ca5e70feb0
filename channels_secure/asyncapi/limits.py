"""What AsyncAPI has no words for: limits, rates and refusals, in extensions of the document."""

from typing import Any

from channels_secure.asyncapi.channels import Channel
from channels_secure.asyncapi.messages import Message
from channels_secure.auth.subprotocols import SUBPROTOCOL
from channels_secure.conf import Settings
from channels_secure.policy.decisions import RULES

# Specification extensions begin with `x-` (AsyncAPI 3.0.0, "Specification Extensions").
EXTENSION = "x-channels-secure"


def of_application(settings: Settings) -> dict[str, Any]:
    """What applies to every connection: limits of handshakes, and the one table of refusals."""
    return {
        "subprotocol": SUBPROTOCOL,
        "handshake_rates": {name: str(rate) for name, rate in sorted(settings.handshake_rates.items())},
        "max_connections": dict(sorted(settings.max_connections.items())),
        "refusals": {
            reason.value: {
                "close": settings.close_codes.get(reason, rule.close),
                "http": rule.status,
                "reconnect": rule.reconnect,
                "answers_messages": rule.answerable,
                "message": rule.message,
            }
            for reason, rule in sorted(RULES.items())
        },
    }


def of_channel(channel: Channel) -> dict[str, Any]:
    """What applies to the sockets of a consumer; times are in seconds, sizes in bytes of UTF-8."""
    limits = channel.limits
    found: dict[str, Any] = {
        "anonymous": limits.allow_anonymous,
        "max_message_size": limits.max_message_size,
        "max_message_depth": limits.max_message_depth,
        "message_rates": {name: str(rate) for name, rate in sorted(limits.rates.items())},
        "error_budget": None if limits.error_budget is None else str(limits.error_budget),
        "idle_timeout": limits.deadlines.idle,
        "heartbeat_interval": limits.deadlines.heartbeat,
        "max_connection_age": limits.deadlines.max_age,
    }
    return {**found, "codec": channel.codec} if channel.codec else found


def of_message(message: Message) -> dict[str, Any]:
    """What a handler asks of its messages; empty where it asks nothing."""
    declared = message.declaration
    if declared is None:
        return {}
    found: dict[str, Any] = {}
    if declared.rate is not None:
        found["rate"] = declared.rate
    if declared.cost != 1:
        found["cost"] = declared.cost
    if declared.permission is not None:
        asked = declared.permission
        found["permission"] = asked if isinstance(asked, str) else getattr(asked, "__name__", type(asked).__name__)
    return found
