"""The conformance table: hostile inputs and faults, and what must happen to each.

`handshakes.py` and `messages.py` are the rows that are data, `faults.py` the rows that are programs; `test_table.py`
drives them through the communicator, `test_servers.py` through raw sockets on real servers, `test_controls.py` shows
that each fails once its guard is taken out. `python -m tests.conformance --write` runs all and writes the page.
"""
