"""`python -m tests.conformance [--write]`: run the table and say what passes where; write the page with `--write`."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

OUTCOMES_FILE = "CONFORMANCE_OUTCOMES"  # read by conftest.py
# What the page says can be judged only after this run, which writes it.
OF_THE_PAGE = "tests/conformance/test_page.py"
ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    with tempfile.TemporaryDirectory() as directory:
        outcomes = Path(directory) / "outcomes.json"
        finished = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--no-header", f"--ignore={OF_THE_PAGE}", "tests/conformance"],
            cwd=ROOT,
            env={**os.environ, OUTCOMES_FILE: str(outcomes)},
            check=False,
        )
        found = json.loads(outcomes.read_text())
    import django

    django.setup()
    from tests.conformance import page

    text = page.render(found)
    if "--write" in sys.argv[1:]:
        page.PAGE.parent.mkdir(parents=True, exist_ok=True)
        page.PAGE.write_text(text)
    print(page.summary(found))
    return finished.returncode


if __name__ == "__main__":
    sys.exit(main())
