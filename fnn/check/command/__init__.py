"""`python -m fnn.check` and `fnn-check`."""
