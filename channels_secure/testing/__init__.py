"""Tools for the tests of projects that use the package; our own tests use them too. Nothing here needs pytest.

async with SecureCommunicator(guarded(ChatConsumer.as_asgi()), "/ws/chat/lobby/", user=alice) as socket:
    await socket.send_json_to({"type": "chat.say", "text": "hello"})
    assert (await socket.receive_json_from())["text"] == "hello"

for attack in attacks:
    await attack.run(guarded(ChatConsumer.as_asgi()), "/ws/chat/lobby/", user=alice)
"""

from channels_secure.resetting import reset
from channels_secure.testing.arrivals import allowed_origin, log_in
from channels_secure.testing.communicator import SecureCommunicator, guarded
from channels_secure.testing.hostile import (
    Attack,
    AttackSucceeded,
    NotApplicable,
    Result,
    TargetUnfit,
    Verdict,
    attacks,
)
from channels_secure.testing.limits import unlimited
from channels_secure.testing.outcome import Outcome
from channels_secure.testing.servers import Server

__all__ = [
    "Attack",
    "AttackSucceeded",
    "NotApplicable",
    "Outcome",
    "Result",
    "SecureCommunicator",
    "Server",
    "TargetUnfit",
    "Verdict",
    "allowed_origin",
    "attacks",
    "guarded",
    "log_in",
    "reset",
    "unlimited",
]
