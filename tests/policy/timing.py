"""The best of several runs, so that a busy machine does not fail what is about the work done, not the time passed."""

import time
from collections.abc import Callable


def best_seconds(run: Callable[[], object], times: int = 15) -> float:
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best
