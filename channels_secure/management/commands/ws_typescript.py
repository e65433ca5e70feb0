"""Write the project's messages as TypeScript types."""

from typing import Any

from channels_secure.asyncapi import typescript
from channels_secure.management.describing import DescribingCommand


class Command(DescribingCommand):
    help = "Write TypeScript types of the messages that the consumers take and send."

    def describe(self, described: dict[str, Any]) -> str:
        return typescript(described)
