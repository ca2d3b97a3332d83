"""Layers: `init` and `apply` over the functions of `fnn.ops`."""

from fnn.layers.dense import dense as dense
