"""The wire described: an AsyncAPI document and TypeScript types, made from what the consumers declare."""

from channels_secure.asyncapi.document import document
from channels_secure.asyncapi.routes import Route, routes_of
from channels_secure.asyncapi.schemas import Undescribable
from channels_secure.asyncapi.typescript import typescript

__all__ = ["Route", "Undescribable", "document", "routes_of", "typescript"]
