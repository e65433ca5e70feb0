"""A module that cannot be imported."""

application = 1 / 0
