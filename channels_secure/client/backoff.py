"""How long to wait before the next attempt: full jitter, so that many clients do not come back as one.

Pure: chance is an argument. The scheme is the "full jitter" of M. Brooker's "Exponential Backoff And Jitter" (2015).
"""

import random
from collections.abc import Callable, Collection

from channels_secure.client.endings import Again, Ending
from channels_secure.policy.decisions import Reason

# Beyond, doubling changes nothing but the size of the number.
_ENOUGH_DOUBLINGS = 32


class Backoff:
    """Decides after each ending whether to come back, and when.

    Args:
        least: the widest first wait, in seconds; it doubles with each attempt.
        most: the widest wait of all.
        shared: the narrowest window when a whole server has gone, and all of its clients with it; for as long as it is
            away, because all of them find nobody there.
        steady: how long a connection must have stood, in seconds, for the next wait to be a first one again. A server
            that lets in and closes at once is not helped by clients which begin anew each time.
        retry_codes: close codes of the application's own after which to come back.
        doubtful: how many refusals without a reason in a row are tried again; None for no end.
        jitter: a number from 0 to 1 for each wait.
    """

    def __init__(
        self,
        *,
        least: float = 0.5,
        most: float = 20.0,
        shared: float = 10.0,
        steady: float = 5.0,
        retry_codes: Collection[int] = (),
        doubtful: int | None = 10,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if not 0 < least <= most:
            raise ValueError("0 < least <= most")
        self._least, self._most, self._shared, self._steady = least, most, min(shared, most), steady
        self._retry_codes, self._doubtful, self._jitter = frozenset(retry_codes), doubtful, jitter
        self._attempts = self._doubts = self._expired = 0
        self._narrowest = 0.0

    def after(self, ending: Ending, *, stood: float | None) -> float | None:
        """Return the seconds to wait after this ending, None to stay away.

        Args:
            stood: how long the connection had been let in, in seconds; None when it never was.
        """
        if stood is not None:
            self._doubts = self._expired = 0
            self._narrowest = 0.0
            if stood >= self._steady:
                self._attempts = 0
        if self._is_final(ending, was_let_in=stood is not None):
            return None
        wait = (ending.retry_after or 0.0) + self._jitter() * self._window(ending)
        self._attempts += 1
        return wait

    def _is_final(self, ending: Ending, *, was_let_in: bool) -> bool:
        if ending.again is Again.NO:
            return ending.reason is not None or ending.code not in self._retry_codes
        if ending.reason == Reason.CREDENTIALS_EXPIRED and not was_let_in:
            # Who has expired tokens only would bring them for ever.
            self._expired += 1
            return self._expired > 1
        if ending.again is Again.DOUBTFUL:
            self._doubts += 1
            return self._doubtful is not None and self._doubts > self._doubtful
        return False

    def _window(self, ending: Ending) -> float:
        if ending.again is Again.DOUBTFUL:
            # It may be a limit, or credentials that will never do and whose failures are counted.
            return self._most
        window = min(self._most, self._least * 2.0 ** min(self._attempts, _ENOUGH_DOUBLINGS))
        if ending.shared:
            self._narrowest = self._shared
        return max(window, self._narrowest)
