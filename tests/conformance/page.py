"""The page of the documentation: what is given, what is required, and where it passed."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path

from tests.conformance.table import (
    CONTROLS,
    OUT_OF_REACH,
    SCENARIOS,
    SERVERS,
    TABLE,
    Answer,
    Case,
    Control,
    Driver,
    Refresh,
    Scenario,
)

PROGRAMS = (
    "await_points", "blocks", "decisions", "entrance", "faults", "limits", "sameness", "servers", "slow_servers",
    "store", "tokens",
)  # fmt: skip
for name in ("catalogue", *(f"test_{program}" for program in PROGRAMS)):
    import_module(f"tests.conformance.{name}")

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/conformance.md"
DRIVERS: tuple[Driver, ...] = ("communicator", *SERVERS)
SECTIONS = {
    "Origin and handshake": range(1, 22),
    "Credentials": range(22, 47),
    "Addresses, floods, limits": range(47, 64),
    "Messages": range(64, 79),
    "Decisions": range(80, 90),
    "Transport and modes": range(1),
}
Outcomes = Mapping[str, Mapping[str, bool]]

HEAD = """# Conformance

Hostile inputs and faults, what must happen, and where it was seen to happen: through the ASGI communicator, with and
without the extension for HTTP responses, and through raw sockets on Daphne and uvicorn. HTTP statuses are those of
uvicorn: Daphne answers every refusal before accept with a plain 403, and never sends the reason of a close. Every case
also asks that no other socket suffers, that no server logs a traceback, and that no credential is logged or stored.

Faults of stores, databases and whole processes, and races between them, are scenarios: tests of their own, some with
several servers on one database. The negative controls put a wrong way in the right one's place, and show that it fails.

This page is written by `python -m tests.conformance --write`; the cases are in `tests/conformance/`.
"""


def cell(case: Case, driver: Driver, outcomes: Outcomes) -> str:
    if driver not in case.on:
        return ""
    passed = outcomes.get(case.id, {}).get(driver)
    return "not run" if passed is None else "pass" if passed else "**fail**"


def required(case: Case) -> str:
    is_refreshed = isinstance(case, Refresh) and case.required == Answer()
    return "`token_refreshed`" if is_refreshed else str(case.required)


def plain(text: str) -> str:
    """Text that a table cell shows as it is."""
    shown = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    for char in "\\|*_<>[]{}$~":
        shown = shown.replace(char, f"\\{char}")
    return shown.replace("`", "'")


def render(outcomes: Outcomes) -> str:
    lines = [HEAD, summary(outcomes)]
    by_section: dict[str, list[Case]] = defaultdict(list)
    for case in TABLE.values():
        by_section[next(name for name, rows in SECTIONS.items() if case.row in rows)].append(case)
    for section in SECTIONS:
        lines += [
            "",
            f"## {section}",
            "",
            "| case | given | required | communicator | Daphne | uvicorn |",
            "|---|---|---|---|---|---|",
        ]
        for case in sorted(by_section[section], key=lambda case: case.row):
            cells = " | ".join(cell(case, driver, outcomes) for driver in DRIVERS)
            lines.append(f"| `{case.id}` | {plain(case.given)} | {required(case)} | {cells} |")
    lines += scenarios(outcomes)
    lines += controls(outcomes)
    lines += ["", "## Out of reach", ""]
    lines += [f"- {text}" for text in OUT_OF_REACH.values()]
    return "\n".join(lines) + "\n"


def played() -> list[str]:
    """The tests that scenarios and controls name, each once."""
    rows: list[Scenario | Control] = [*SCENARIOS.values(), *CONTROLS.values()]
    return list(dict.fromkeys(test for row in rows for test in row.tests))


def scenarios(outcomes: Outcomes) -> list[str]:
    lines = ["", "## Scenarios", "", "| case | given | required | played | test | result |", "|" + "---|" * 6]
    for row in SCENARIOS.values():
        cells = (row.given, row.required, row.played, names(row), result(row, outcomes))
        lines.append(f"| `{row.id}` | {' | '.join(cells)} |")
    return lines


def controls(outcomes: Outcomes) -> list[str]:
    head = ["", "## Negative controls", "", "| control | instead | shown | test | result |", "|---|---|---|---|---|"]
    return head + [
        f"| `{row.id}` | {row.wrong} | {row.shown} | {names(row)} | {result(row, outcomes)} |"
        for row in CONTROLS.values()
    ]


def names(row: Scenario | Control) -> str:
    """The file, and the tests in it."""
    file = row.tests[0].split("::")[0].removeprefix("tests/")
    return f"`{file}`: " + ", ".join(f"`{test.split('::')[1]}`" for test in row.tests)


def result(row: Scenario | Control, outcomes: Outcomes) -> str:
    """How all its tests went, on each server where they say on which."""
    found = [outcomes.get(test, {}) for test in row.tests]
    if not all(found):
        return "not run"
    servers = sorted({server for each in found for server in each if server})
    if not servers:
        return verdict(all(each.values()) for each in found)
    told = {server: verdict(each.get(server, False) for each in found) for server in servers}
    return ", ".join(f"{server.replace('daphne', 'Daphne')} {text}" for server, text in told.items())


def verdict(passed: Iterable[bool]) -> str:
    return "pass" if all(passed) else "**fail**"


def summary(outcomes: Outcomes) -> str:
    lines = ["", "| | cases | pass |", "|---|---|---|"]
    for driver in DRIVERS:
        cases = [case for case in TABLE.values() if driver in case.on]
        passed = sum(outcomes.get(case.id, {}).get(driver, False) for case in cases)
        lines.append(f"| {driver} | {len(cases)} | {passed} |")
    for kind, rows in (("scenarios", SCENARIOS.values()), ("negative controls", CONTROLS.values())):
        passed = sum("pass" in (text := result(row, outcomes)) and "**fail**" not in text for row in rows)
        lines.append(f"| {kind} | {len(rows)} | {passed} |")
    return "\n".join(lines)


def ids_on_page() -> list[str]:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return [line.split("`")[1] for line in rows]
