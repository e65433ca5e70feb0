"""When to stop asking a store that does not answer, and when to try again."""

from collections.abc import Callable

# So many failures in a row, each of which may have cost somebody the whole deadline.
FAILURES = 5
# Seconds between two probes, doubled after each: a store that is back is found within the longest of them.
PAUSE, LONGEST_PAUSE = 1.0, 4.0


class Breaker:
    """Open means that nobody is made to wait for the store; only a probe in the background asks it.

    Args:
        clock: monotonic seconds.
        on_change: called once with the last error when it opens, and once with None when it closes.
    """

    def __init__(self, clock: Callable[[], float], on_change: Callable[[str | None], None]) -> None:
        self.is_open = False
        self._clock = clock
        self._on_change = on_change
        self._failures = 0
        self._pause = PAUSE
        self._probe_at = 0.0

    def failed(self, error: str) -> None:
        """Count a request that the store did not answer."""
        self._failures += 1
        if not self.is_open and self._failures >= FAILURES:
            self.is_open = True
            self._pause = PAUSE
            self._probe_at = self._clock() + PAUSE
            self._on_change(error)

    def worked(self) -> None:
        """Note an answer. While open none counts but the probe's: others may have been on their way for long."""
        if not self.is_open:
            self._failures = 0

    def wants_probe(self) -> bool:
        """Whether somebody should ask in the background: also after a single failure, so that trouble is soon known."""
        if not self._failures:
            return False
        now = self._clock()
        if now < self._probe_at:
            return False
        # Also if the probe is never heard of again.
        self._probe_at = now + self._pause
        return True

    def probed(self, error: str | None) -> None:
        """Take a probe's result: its error, or None."""
        if error is not None:
            if self.is_open:
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
                self._probe_at = self._clock() + self._pause
            else:
                self.failed(error)
            return
        self._failures = 0
        self._pause = PAUSE
        if self.is_open:
            self.is_open = False
            self._on_change(None)
