"""What may pass: decisions from facts alone.

Nothing in this package reads a clock, a setting, a socket or a database; every module can be tested with a table.
"""
