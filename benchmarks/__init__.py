"""Measurements: each module is a command that writes its numbers to `benchmarks/results/`."""
