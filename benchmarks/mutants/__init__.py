"""Broken rules that fnn.check must catch, and right ones that it must not accuse: `python -m benchmarks.mutants`."""
