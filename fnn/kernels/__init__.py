"""Compiled CPU kernels: oneDNN called by XLA, through a handler that numba compiles."""
