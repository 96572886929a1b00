"""Measurements, side by side with others: ``python -m benchmarks.run`` from the root of the repository."""
