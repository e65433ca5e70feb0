"""`python -m tests.conformance [--write]`: run the table and say what passes where; write the page with `--write`."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

OUTCOMES_FILE = "CONFORMANCE_OUTCOMES"  # read by conftest.py
RESULTS_FILE = "CONFORMANCE_RESULTS"  # read by recording.py
FOLDER, LIVE = "tests/conformance", "tests/live"
# What the page says can be judged only after this run, which writes it.
OF_THE_PAGE = "tests/conformance/test_page.py"
ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    import django

    django.setup()
    from tests.conformance import page

    # Servers that live tests share write audit rows until the session ends: nobody else's test may come after them.
    live = [test for test in page.played() if test.startswith(LIVE)]
    others = [test for test in page.played() if not test.startswith((FOLDER, LIVE))]
    with tempfile.TemporaryDirectory() as directory:
        outcomes, results = Path(directory) / "outcomes.json", Path(directory) / "results.json"
        options = ["-q", "--no-header", "-p", "tests.conformance.recording", f"--ignore={OF_THE_PAGE}"]
        finished = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *others, FOLDER, *live],
            cwd=ROOT,
            env={**os.environ, OUTCOMES_FILE: str(outcomes), RESULTS_FILE: str(results)},
            check=False,
        )
        found = {**json.loads(outcomes.read_text()), **json.loads(results.read_text())}
    text = page.render(found)
    if "--write" in sys.argv[1:]:
        page.PAGE.parent.mkdir(parents=True, exist_ok=True)
        page.PAGE.write_text(text)
    print(page.summary(found))
    return finished.returncode


if __name__ == "__main__":
    sys.exit(main())
