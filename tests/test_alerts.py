"""The pages about metrics and alerts: what they name is in a real exposition, and what they show runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from django.test import RequestFactory
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from channels_secure.metrics import Metrics
from tests.live.servers import environment
from tests.test_docs import ROOT, block, code, rows

METRICS_PAGE = ROOT / "docs" / "howto" / "metrics.md"
ALERTS_PAGE = ROOT / "docs" / "howto" / "alerts.md"

Values = dict[str, set[str]]


def exposed() -> dict[str, Values]:
    """What a fresh process exposes: the values of each label by the names of samples."""
    fresh = CollectorRegistry()
    Metrics(fresh)
    found: dict[str, Values] = {}
    for family in text_string_to_metric_families(generate_latest(fresh).decode()):
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                labels = found.setdefault(sample.name, {})
                for name, value in sample.labels.items():
                    labels.setdefault(name, set()).add(value)
    return found


def families() -> dict[str, set[str]]:
    """The labels of each metric, histograms being one."""
    found: dict[str, set[str]] = {}
    for name, labels in exposed().items():
        family = re.sub("_(bucket|sum|count)$", "", name) if "_seconds_" in name else name
        found.setdefault(family, set()).update(set(labels) - {"le"})
    return found


def test_the_table_of_metrics_is_what_a_process_exposes() -> None:
    documented = {
        code(row[0]): {code(label) for label in row[1].split(", ") if label}
        for row in rows(METRICS_PAGE)
        if row[0].startswith("`")
    }
    assert documented == families()


# Alert rules ---------------------------------------------------------------------------------------------------------

RULES = yaml.safe_load(block(ALERTS_PAGE, "rules"))["groups"][0]["rules"]
SELECTOR = re.compile(r"(channels_secure_\w+)(?:\{(.*?)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_asks_for_what_is_exposed(rule: dict[str, Any]) -> None:
    known = exposed()
    selectors = SELECTOR.findall(rule["expr"])
    assert selectors
    for name, matchers in selectors:
        assert name in known
        for label, operator, value in MATCHER.findall(matchers):
            assert label in known[name]
            wanted = value.split("|") if "~" in operator else [value]
            assert set(wanted) <= known[name][label], (label, value)
        assert MATCHER.sub("", matchers).strip(", ") == ""
    grouped = {label.strip() for labels in re.findall(r"by \((.*?)\)", rule["expr"]) for label in labels.split(",")}
    assert all(grouped <= {"le", *known[name]} for name, _ in selectors)
    told = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert told <= grouped
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert re.fullmatch(r"\d+m", rule.get("for", "1m"))


def test_the_counters_of_the_rules_are_read_as_rates_and_the_gauges_as_they_are() -> None:
    for rule in RULES:
        for name, _ in SELECTOR.findall(rule["expr"]):
            is_counted = name.endswith(("_total", "_bucket"))
            assert bool(re.search(rf"(?:rate|increase)\({name}", rule["expr"])) is is_counted, rule["alert"]


# What the pages show -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", ["one", "several"])
def test_the_view_of_the_page_serves_the_metrics(
    processes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if processes == "several":
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
        environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
        subprocess.run([sys.executable, "-c", "import django; django.setup()"], cwd=ROOT, env=environ, check=True)
    names: dict[str, Any] = {}
    exec(block(METRICS_PAGE, "view"), names)
    response = names["metrics"](RequestFactory().get("/metrics"))
    assert response.headers["Content-Type"].startswith("text/plain")
    assert b'channels_secure_handshakes_total{result="accepted"}' in response.content


def test_the_hook_of_the_page_takes_a_dead_workers_gauges_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for number in (41, 42):
        (tmp_path / f"gauge_livesum_{number}.db").touch()
    names: dict[str, Any] = {}
    exec(block(METRICS_PAGE, "gunicorn"), names)
    names["child_exit"](None, SimpleNamespace(pid=41))
    assert [file.name for file in tmp_path.iterdir()] == ["gauge_livesum_42.db"]


SENTRY = """
import asyncio, json, logging, sys
import django
django.setup()
import sentry_sdk
from sentry_sdk.transport import Transport
from channels_secure.testing import SecureCommunicator, guarded
from tests.sockets import Echo, calm, until

privacy, breadcrumbs, asgi = json.loads(sys.argv[1])
events, arrived = [], []

class Kept(Transport):
    def capture_envelope(self, envelope):
        if envelope.get_event():
            events.append(envelope.get_event())

init = sentry_sdk.init
sentry_sdk.init = lambda **options: init(dsn="https://key@sentry.example/1", transport=Kept, **options)
exec(privacy, {"sentry_sdk": sentry_sdk})
receivers = {"__name__": "chat.breadcrumbs"}
exec(breadcrumbs, receivers)
from channels_secure.signals import message_denied
message_denied.connect(lambda **facts: arrived.append(facts), weak=False)

class Failing(Echo):
    async def receive_json(self, content, **kwargs):
        if content == "fail":
            raise RuntimeError("a bug of the project's")
        await super().receive_json(content)

names = {"application": guarded(Failing.as_asgi())}
exec(asgi, names)

async def open_socket(path):
    # As a server: in a task whose context is a copy. The communicators of the tests begin with an empty one.
    app, said, heard = names["application"], asyncio.Queue(), asyncio.Queue()
    task = asyncio.create_task(app(SecureCommunicator(app, path).scope, said.get, heard.put))
    said.put_nowait({"type": "websocket.connect"})
    assert (await heard.get())["type"] == "websocket.accept"
    return task, lambda text: said.put_nowait({"type": "websocket.receive", "text": text}), said

async def main():
    one, say_to_one, _ = await open_socket("/ws/one/")
    two, say_to_two, said = await open_socket("/ws/two/")
    say_to_one("{")
    say_to_two("{")
    await until(lambda: len(arrived) == 2)
    say_to_one('"fail"')
    await until(lambda: bool(events))
    said.put_nowait({"type": "websocket.disconnect", "code": 1000})
    await asyncio.wait({one, two})
    await calm()

# As the first line that a starting server logs: from now on there is a scope that all would share.
sentry_sdk.add_breadcrumb(message="starting")
asyncio.run(main())
print(json.dumps(events, default=str))
"""


@pytest.mark.django_db(transaction=True)
def test_a_handlers_failure_reaches_sentry_with_what_was_refused_on_its_socket_before() -> None:
    shown = [block(ALERTS_PAGE, marker) for marker in ("sentry-privacy", "breadcrumbs", "sentry-asgi")]
    finished = subprocess.run(
        [sys.executable, "-c", SENTRY, json.dumps(shown)],
        cwd=ROOT,
        env=environment({}, {}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    [event] = json.loads(finished.stdout)
    assert event["exception"]["values"][-1]["value"] == "a bug of the project's"
    crumbs = event["breadcrumbs"]["values"]
    own = [crumb for crumb in crumbs if crumb["category"] == "websocket"]
    assert [(crumb["message"], crumb["level"], crumb["data"]["path"]) for crumb in own] == [
        ("invalid_message", "warning", "/ws/one/")
    ]
    logged = [crumb for crumb in crumbs if crumb["category"] == "channels_secure"]
    assert logged
    assert not [crumb for crumb in logged if "data" in crumb]
