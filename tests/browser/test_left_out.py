"""Without Playwright, as in the matrix's environments, each test is left out by name and nothing fails."""

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
WITHOUT_PLAYWRIGHT = "import sys; sys.modules['playwright'] = None; import pytest; sys.exit(pytest.main(sys.argv[1:]))"


def test_a_missing_playwright_is_told_loudly() -> None:
    pages = HERE / "test_page.py"
    finished = subprocess.run(
        [sys.executable, "-c", WITHOUT_PLAYWRIGHT, "-p", "no:cacheprovider", str(pages)],
        cwd=HERE.parents[1],
        env={**os.environ, "DATABASE": "sqlite", "CHROMIUM_PATH": "/opt/some/chromium"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert re.search(r"LEFT OUT: \d+ tests need playwright, which this machine lacks", finished.stdout)
    assert "test_page.py::test_an_injected_script_does_not_run_and_is_noticed" in finished.stdout
