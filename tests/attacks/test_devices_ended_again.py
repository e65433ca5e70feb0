"""A user who orders the end of the same socket again and again: one decision, however often it is asked for."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from channels_secure.models import AuditEvent, LiveProcess, PolicyVersion, Revocation
from tests.test_devices import LIST, client, csrf, open_socket, process  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("path", [LIST, f"{LIST}one/"])
def test_a_socket_is_ended_once_however_often_that_is_asked_for(
    path: str,
    client: Client,  # noqa: F811
    user: User,
    process: LiveProcess,  # noqa: F811
) -> None:
    open_socket(process, "one", user)
    assert client.delete(path, headers=csrf(client)).status_code == 202
    before = PolicyVersion.current("default")
    for _ in range(20):
        # The row is there until the process that has the socket says otherwise, which it may not do any more.
        response = client.delete(path, headers=csrf(client))
        assert (response.status_code, response.json()) == (202, {"ended": ["one"]})
    assert Revocation.objects.filter(kind="connection").count() == 1
    assert AuditEvent.objects.filter(kind="connection.disconnected").count() == 1
    assert PolicyVersion.current("default") == before


def test_all_others_are_ended_in_one_change(client: Client, user: User, process: LiveProcess) -> None:  # noqa: F811
    for name in "abcdefgh":
        open_socket(process, name, user)
    with_one = PolicyVersion.current("default")
    response = client.delete(LIST, headers=csrf(client))
    assert sorted(response.json()["ended"]) == list("abcdefgh")
    assert set(Revocation.objects.values_list("subject", flat=True)) == set("abcdefgh")
    assert AuditEvent.objects.filter(kind="connection.disconnected").count() == 8
    first = PolicyVersion.current("default")
    assert with_one == 0 or first - with_one == 1
