"""Farthing's benchmark: one figure per promise, as CPU-microseconds or ratios; run `python -m benchmarks`."""
