"""Operators at work, through Django's own test client."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from channels_secure.models import AuditEvent
from tests.conftest import MakeUser

# RFC 5737: the operator's address; a test client's own is loopback, which cannot be blocked anyway.
OPERATOR = "192.0.2.99"


def client_of(user: User, **options: Any) -> Client:
    """A browser in which somebody has logged in."""
    client = Client(REMOTE_ADDR=OPERATOR, **options)
    client.force_login(user)
    return client


def event(**facts: Any) -> AuditEvent:
    """A row of the trail, as a refusal unless said otherwise."""
    return AuditEvent.objects.create(**{"kind": "handshake.denied", "reason": "origin_not_allowed", **facts})


def page(client: Client, url: str, status: int = 200) -> str:
    """What a page says, with the status it is to have."""
    response = client.get(url)
    assert response.status_code == status
    return str(response.content.decode())


@pytest.fixture
def root(make_user: MakeUser) -> User:
    return make_user("root", is_staff=True, is_superuser=True)


@pytest.fixture
def admin(root: User) -> Client:
    """A superuser at work."""
    return client_of(root)


@pytest.fixture
def staff(make_user: MakeUser) -> Callable[..., User]:
    """Make a member of staff who has these permissions and no others."""

    def make(*codenames: str) -> User:
        operator = make_user("operator", is_staff=True)
        operator.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        return operator

    return make


@pytest.fixture
def operator_with(staff: Callable[..., User]) -> Callable[..., Client]:
    """Such a member of staff at work."""
    return lambda *codenames: client_of(staff(*codenames))
