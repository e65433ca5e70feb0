from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created


@pytest.fixture
def queries() -> Iterator[list[str]]:
    """The SQL that the package's own threads run: their connections are opened anew for each job."""
    seen: list[str] = []
    watched: list[BaseDatabaseWrapper] = []

    def note(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        seen.append(sql)
        return execute(sql, *rest)

    def watch(connection: BaseDatabaseWrapper, **_: Any) -> None:
        if note not in connection.execute_wrappers:
            connection.execute_wrappers.append(note)
            watched.append(connection)

    connection_created.connect(watch)
    yield seen
    connection_created.disconnect(watch)
    for connection in watched:
        connection.execute_wrappers.remove(note)
