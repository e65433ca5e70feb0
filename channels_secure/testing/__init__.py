"""Tools for the tests of projects that use the package; our own tests use them too.

async with SecureCommunicator(guarded(ChatConsumer.as_asgi()), "/ws/chat/lobby/", user=alice) as socket:
    await socket.send_json_to({"type": "chat.say", "text": "hello"})
    assert (await socket.receive_json_from())["text"] == "hello"
"""

from channels_secure.testing.communicator import Outcome, SecureCommunicator, guarded
from channels_secure.testing.state import reset

__all__ = ["Outcome", "SecureCommunicator", "guarded", "reset"]
