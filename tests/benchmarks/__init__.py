"""The figures of the project, measured against plain Channels and its relatives in the same run.

`python -m tests.benchmarks` prints them, `--write` keeps them in docs/explanation/performance.md. Nothing is asserted:
a machine that is slow or busy gets slow figures, and the ratios are what to compare.
"""
