"""Ready attacks for the tests of a project's own consumers; `channels_secure.testing.attacks` has them all."""

from channels_secure.testing.hostile import credentials, floods, handshakes, messages, open_sockets
from channels_secure.testing.hostile.attack import Attack, Result
from channels_secure.testing.hostile.verdicts import AttackSucceeded, NotApplicable, TargetUnfit, Verdict

__all__ = ["Attack", "AttackSucceeded", "NotApplicable", "Result", "TargetUnfit", "Verdict", "attacks"]

attacks: tuple[Attack, ...] = (
    *handshakes.ATTACKS,
    *credentials.ATTACKS,
    *open_sockets.ATTACKS,
    *messages.ATTACKS,
    *floods.ATTACKS,
)
