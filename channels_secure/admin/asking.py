"""Lists that answer what no database could look for as Django answers any other mistake in an address."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList as DjangoChangeList
from django.db.models import QuerySet
from django.http import HttpRequest


class ChangeList(DjangoChangeList):
    """Django's, which leaves to the database what only the database finds out."""

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        if any("\x00" in text for text in self.params.values()):
            # PostgreSQL has no such text.
            raise IncorrectLookupParameters
        rows: QuerySet[Any] = super().get_queryset(request, *args, **kwargs)
        return rows

    def get_results(self, request: HttpRequest) -> None:
        with possible():
            super().get_results(request)


@contextmanager
def possible() -> Iterator[None]:
    try:
        yield
    except OverflowError as error:
        # SQLite has no number so great, and so no user with that primary key.
        raise IncorrectLookupParameters(error) from error
