"""Real servers that are ended under load, over and over: what clients saw has to stand in the audit trail, once.

`python -m tests.faults --help`; a few such runs are among the tests, in `tests/live/test_faults.py`.
"""
