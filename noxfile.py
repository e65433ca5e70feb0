"""The suite on every supported pair of Python and Django: `make matrix`, or `nox` where nox is at hand."""

import nox

nox.needs_version = ">=2024.4"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = False

DJANGO_FOR = {"3.11": "5.2", "3.12": "6.1", "3.13": "6.1"}


@nox.session(python=list(DJANGO_FOR))
def tests(session: nox.Session) -> None:
    """Run the tests, but for the browser's, and look for migrations that this Django would still make."""
    django = DJANGO_FOR[str(session.python)]
    session.install("-e", ".[dev]", f"django~={django}.0")
    session.run(
        "python", "-c", "import django, sys; print('Python', sys.version.split()[0], 'Django', django.__version__)"
    )
    session.run(
        "python", "-W", "error", "-m", "django", "makemigrations", "--check", "--dry-run",
        env={"DJANGO_SETTINGS_MODULE": "tests.settings"},
    )  # fmt: skip
    session.run("python", "scripts/run_tests.py", *(session.posargs or ["-m", "not browser"]))
    session.run("python", "scripts/run_tests.py", "--ds", "tests.unfold_settings", "tests/admin/test_pages.py")


@nox.session(python="3.13")
def browser(session: nox.Session) -> None:
    """Look at the operator's pages with the newest Django, stock and under django-unfold, in Chromium."""
    session.install("-e", ".[dev,browser]", f"django~={DJANGO_FOR['3.13']}.0")
    session.run("python", "scripts/run_tests.py", *(session.posargs or ["-m", "browser", "tests/browser"]))
