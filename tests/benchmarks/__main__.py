"""`python -m tests.benchmarks [section ...] [--quick] [--rounds N] [--write]`; without a section, all of them."""

import argparse
import importlib
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import machine, pages, project
from tests.benchmarks.report import Effort, Section

# The section's word and the module that measures it.
SECTIONS = {
    "inprocess": "inprocess",
    "sockets": "sockets",
    "handshake": "handshakes",
    "memory": "memory",
    "broadcast": "broadcasts",
    "sever": "severing",
    "flood": "floods",
    "stores": "stores",
    "reach": "reach",
    "tickets": "tickets",
    "presence": "presence",
    "supervisor": "rounds",
    "audit": "audit",
    "audit_admin": "audit_admin",
    "admin_pages": "admin_pages",
}


def main(arguments: Sequence[str]) -> None:
    options = _read(arguments)
    machine.allow_many_sockets()
    with tempfile.TemporaryDirectory(prefix="channels-secure-bench-") as directory:
        project.prepare(Path(directory))
        # Refusals and closed sockets by the thousand are what is measured here, not news.
        logging.disable(logging.CRITICAL)
        print(machine.describe(), flush=True)
        for name in options.sections or SECTIONS:
            started = time.monotonic()
            section = _measure(name, Effort(quick=options.quick, rounds=options.rounds))
            print(f"\n{section.as_text()}\n({time.monotonic() - started:.0f} s)", flush=True)
            if options.write:
                pages.keep(section, _command(name, options), machine.describe())


def _read(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measure; never assert.")
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds, for a first look")
    parser.add_argument("--rounds", type=int, help="how many rounds, in place of each section's own number")
    parser.add_argument("--write", action="store_true", help="keep the figures in docs/explanation/performance.md")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"no such section: {', '.join(unknown)}")
    return options


def _measure(name: str, effort: Effort) -> Section:
    """Sections are imported when Django stands."""
    module = importlib.import_module(f"tests.benchmarks.{SECTIONS[name]}")
    section: Section = module.run(effort)
    return section


def _command(name: str, options: argparse.Namespace) -> str:
    words = ["python -m tests.benchmarks", name]
    words += ["--quick"] if options.quick else []
    words += [f"--rounds {options.rounds}"] if options.rounds else []
    return " ".join(words)


if __name__ == "__main__":
    main(sys.argv[1:])
