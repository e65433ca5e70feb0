"""What the doctor says."""

from dataclasses import dataclass

# Seconds: for an answer, and by which clocks may differ. Revocations allow for five.
PATIENCE = 5.0
SKEW = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong, and a line of advice."""

    message: str
    advice: str


def clock_finding(name: str, theirs: float, before: float, after: float) -> Finding | None:
    """What is wrong with another clock that was read between two readings of ours, Unix seconds all of them."""
    ahead = theirs - (before + after) / 2
    if abs(ahead) - (after - before) / 2 <= SKEW:
        return None
    way = "ahead of" if ahead > 0 else "behind"
    return Finding(
        f"The clock of {name} is {abs(ahead):.0f} seconds {way} this machine's.",
        "Synchronise both machines' clocks (NTP): revocations and tokens are judged by the time.",
    )
