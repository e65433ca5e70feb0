"""Checks of the consumer classes that the project declares."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Tags, register
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from channels_secure.asyncapi.messages import unclear_sends
from channels_secure.checks import catalogue as found
from channels_secure.conf import get_settings
from channels_secure.consumers.consumer import SecureJsonConsumer
from channels_secure.consumers.handlers import plan_of
from channels_secure.consumers.misdeclared import BadCodec, BadDeclaration


@register(Tags.compatibility)
def check_consumers(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Declarations with which a consumer refuses every connection: it is better to know before the first."""
    _load_routes()
    try:
        settings = get_settings()
    except ImproperlyConfigured:
        return []  # E001 to E004 say why
    messages = []
    for consumer in sorted(declared_consumers(), key=lambda cls: (cls.__module__, cls.__qualname__)):
        try:
            plan_of(consumer, SecureJsonConsumer, settings)  # type: ignore[arg-type]
        except BadDeclaration as error:
            check = found.BAD_CODEC if isinstance(error, BadCodec) else found.BAD_DECLARATION
            messages.append(check.report(str(error), obj=consumer))
        messages += [found.UNCLEAR_SENDS.report(fault, obj=consumer) for fault in unclear_sends(consumer)]
    return messages


def declared_consumers() -> set[type[SecureJsonConsumer]]:
    """Every consumer class that this process has imported, at any depth below the package's own."""
    return set(_subclasses(SecureJsonConsumer))


def _load_routes() -> None:
    """Import the ASGI application, which imports the consumers; its own mistakes are for the server to report."""
    path = getattr(django_settings, "ASGI_APPLICATION", None)
    if path:
        try:
            import_string(path)
        except Exception:  # noqa: BLE001 - whatever the project's module does
            return


def _subclasses(consumer: type[SecureJsonConsumer]) -> Iterator[type[SecureJsonConsumer]]:
    for subclass in consumer.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
