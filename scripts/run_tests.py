"""Run pytest and, where tests failed, those once more by themselves: `python scripts/run_tests.py [its arguments]`.

Thousands of tests with real servers, clocks and browsers share their machine with others; one that stalls it for a
second can fail a test whose subject works. What fails twice has failed. What passed the second time is named at the
very end: it is a test to mend, for a test that depends on the machine says less than it should.
"""

import os
import signal
import subprocess
import sys

# Two runs may be under way, one for each database, and each has to know what failed in itself.
CACHE = f"cache_dir=.pytest_cache/{os.environ.get('DATABASE', 'any')}-{sys.version_info.minor}"
PYTEST = [sys.executable, "-m", "pytest", "-o", CACHE]
AGAIN = ["--last-failed", "--last-failed-no-failures=none", "-rA"]
TESTS_FAILED = 1  # pytest's exit codes: 2 and above are interruptions, errors of pytest itself, and nothing to run


def main(arguments: list[str]) -> int:
    # A shell's background job ignores Ctrl-C, and so would the servers that tests end by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = subprocess.call([*PYTEST, *arguments])
    if code != TESTS_FAILED:
        return code
    print("== tests failed; these once more, by themselves", flush=True)
    code = subprocess.call([*PYTEST, *arguments, *AGAIN])
    if code == 0:
        print("== ATTENTION: the tests named above failed once and passed by themselves. Mend them.", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
