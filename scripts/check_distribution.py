"""Build the wheel and the sdist, look into both, and try the wheel in a clean virtual environment.

The clean environment has the hard dependencies only: it shows that nothing optional is imported unasked.
"""

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "channels_secure"
TRY_IT = ROOT / "scripts" / "try_installed.py"


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    finished = subprocess.run([str(part) for part in command], cwd=cwd, text=True, capture_output=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{command[:4]} failed:\n{finished.stdout}{finished.stderr}")


def package_files() -> set[str]:
    """Return every file that an installed package must have: code, types marker, templates, scripts, translations."""
    paths = (path for path in (ROOT / PACKAGE).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in paths}


def refuse_if_missing(kind: str, expected: Iterable[str], found: set[str]) -> None:
    if missing := sorted(set(expected) - found):
        raise SystemExit(f"the {kind} lacks {missing}")


def build(folder: Path) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from that sdist, as a packager would; return both."""
    run(sys.executable, "-m", "build", "--outdir", folder, *(["--installer", "uv"] if has_uv() else []))
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def has_uv() -> bool:
    return Path(sys.executable).with_name("uv").exists()


def look_into(wheel: Path, sdist: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    expected = package_files()
    refuse_if_missing("package", [f"{PACKAGE}/py.typed", f"{PACKAGE}/migrations/0001_initial.py"], expected)
    refuse_if_missing("wheel", expected, in_wheel)
    refuse_if_missing("sdist", [*expected, "LICENSE", "README.md", "pyproject.toml", "tests/conftest.py"], in_sdist)
    if strangers := sorted(name for name in in_wheel if not name.startswith(("channels_secure/", "channels_secure-"))):
        raise SystemExit(f"the wheel would also install {strangers}")


def try_in_clean_environment(wheel: Path, folder: Path) -> None:
    venv = folder / "venv"
    python = venv / "bin" / "python"
    if has_uv():
        uv = Path(sys.executable).with_name("uv")
        run(uv, "venv", "-q", "--python", sys.executable, venv)
        run(uv, "pip", "install", "-q", "--python", python, wheel)
    else:
        run(sys.executable, "-m", "venv", venv)
        run(python, "-m", "pip", "install", "-q", wheel)
    finished = subprocess.run([python, "-W", "error", "-I", TRY_IT], cwd=folder, check=False)
    if finished.returncode:
        raise SystemExit("the installed wheel does not work")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="cs-dist-") as name:
        folder = Path(name)
        wheel, sdist = build(folder)
        look_into(wheel, sdist)
        try_in_clean_environment(wheel, folder)


if __name__ == "__main__":
    main()
