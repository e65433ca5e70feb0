"""How an attack may end, as values and as exceptions that test runners understand."""

from enum import StrEnum
from unittest import SkipTest


class Verdict(StrEnum):
    """What an attack has shown."""

    REPELLED = "repelled"
    GOT_THROUGH = "got through"
    NOT_APPLICABLE = "not applicable"


class AttackSucceeded(AssertionError):
    """The attack got through; the words say how, which rule that breaks and what would stop it."""


class NotApplicable(SkipTest):
    """There is nothing here that the attack could try; pytest and unittest report it as skipped, with the reason."""


class TargetUnfit(AssertionError):
    """Nothing could be learnt: even an honest client is not let in, or its message is refused."""
