"""What the server processes of the benchmarks import: Django first, then the subjects."""

import django

django.setup()

from tests.benchmarks.subjects import application  # noqa: E402
from tests.benchmarks.victims import application as victims  # noqa: E402

__all__ = ["application", "victims"]
