"""Tickets on real servers: from the endpoint to the socket, in no log, and once over all processes."""

import http.client
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User

from channels_secure.auth.tickets import issue_ticket
from channels_secure.models import Ticket
from tests.auth.tokens import token_for
from tests.live.servers import HOST, KINDS, LiveServer, ServerKind

pytestmark = pytest.mark.django_db(transaction=True)

SITE = "tests.live.site:application"
UNLIMITED = {"HANDSHAKE_RATES": {"ip": None, "user": None}, "MAX_CONNECTIONS": {"user": None, "ip": None}}
HIDDEN = "[redacted]"
StartServer = Callable[..., LiveServer]


def post(server: LiveServer, **headers: str) -> tuple[int, Any, Any]:
    """Ask the endpoint for a ticket: the status, the headers and the body."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=10)
    try:
        connection.request("POST", "/ws-auth/ticket/", headers=headers)
        response = connection.getresponse()
        return response.status, response.headers, json.loads(response.read())
    finally:
        connection.close()


def assert_answers(raw: Any) -> None:
    raw.send_json({"type": "nothing"})
    assert raw.read_json()["to"] == "nothing"


@pytest.mark.parametrize("place", ["query", "subprotocol"])
def test_a_ticket_from_the_endpoint_opens_one_socket_and_stands_in_no_log(
    server: StartServer, kind: ServerKind, user: User, place: str
) -> None:
    started = server(kind, SITE, settings=UNLIMITED)
    status, headers, body = post(started, authorization=f"Bearer {token_for(user)}")
    assert (status, headers["Cache-Control"], body["expires_in"]) == (201, "no-store", 30)
    ticket = body["ticket"]
    path = f"/typed/?ticket={ticket}" if place == "query" else "/typed/"
    offered = ["channels-secure.v1", f"channels-secure.ticket.{ticket}"] if place == "subprotocol" else []
    with started.websocket(path, subprotocols=offered) as raw:
        assert_answers(raw)
    with started.connect() as raw:
        assert raw.handshake(path, subprotocols=offered).status in (401, 403)
    started.wait_for_log("/typed/")
    assert started.stop() in (0, -15)
    assert ticket not in started.log()
    if kind == "uvicorn" and place == "query":
        # It writes query strings, so this shows that the filter has been at work.
        assert f"/typed/?ticket={HIDDEN}" in started.log()


def test_a_refusal_of_the_endpoint_is_the_error_object(server: StartServer, kind: ServerKind) -> None:
    started = server(kind, SITE)
    for headers, code in ({}, "unauthenticated"), ({"authorization": "Bearer a.b.c"}, "invalid_credentials"):
        status, answered, body = post(started, **headers)
        assert (status, answered["Content-Type"], body["code"]) == (401, "application/json", code)


def test_of_clients_that_race_over_two_servers_one_gets_in(server: StartServer, user: User) -> None:
    servers = [server(kind, SITE, settings=UNLIMITED) for kind in KINDS]
    together = threading.Barrier(4, timeout=30)

    def come(number: int, ticket: str) -> bool:
        with servers[number % len(servers)].connect() as raw:
            together.wait()
            return raw.handshake(f"/typed/?ticket={ticket}").status == 101

    with ThreadPoolExecutor(4) as clients:
        admitted = []
        for _ in range(20):
            ticket = issue_ticket(user)
            admitted.append(sum(clients.map(come, range(4), [ticket] * 4)))
    assert admitted == [1] * 20
    assert not Ticket.objects.exists()
