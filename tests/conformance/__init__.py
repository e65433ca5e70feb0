"""The conformance table: hostile inputs and faults, and what must happen to each.

`catalogue.py` names the rows that are data: `test_table.py` drives them through the communicator, `test_servers.py`
through raw sockets on real servers. The rows that are programs are tests marked with their id; `scenarios.py` names
those that tests elsewhere play. `test_controls.py` shows that rows fail once their guard is taken out.
`python -m tests.conformance --write` runs all and writes the page.
"""
