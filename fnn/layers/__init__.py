"""Layers: `init` and `apply` over the functions of `fnn.ops`; `fnn` itself has all of their names."""
