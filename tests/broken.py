"""Small functions with rules of their own, right and broken, and what a report says of them."""

import jax
import jax.numpy as jnp
import numpy as np

VALUES = ("automatic", "differences", "coordinates")


def ruled(f, bwd, fwd=None):
    """f with a rule: bwd(args, dy) returns the cotangents; fwd(*args) the value."""
    g = jax.custom_vjp(f)
    g.defvjp(lambda *args: ((fwd or f)(*args), args), bwd)
    return g


def unary(f, slope, fwd=None):
    """An elementwise f with a rule: slope(x, dy) is the cotangent of x."""
    return ruled(f, lambda args, dy: (slope(args[0], dy),), fwd)


def sine(slope=lambda x, dy: dy * jnp.cos(x), fwd=None):
    return unary(lambda x: jnp.sin(x), slope, fwd)


def relu(at_zero, above=1.0):
    return unary(
        lambda x: jnp.maximum(x, 0),
        lambda x, dy: dy * jnp.where(x > 0, above, jnp.where(x == 0, at_zero, 0)).astype(x.dtype),
    )


def times(factor, when=lambda x, dy: True):
    """The sine with a gradient that is wrong by a factor on a condition."""
    return sine(lambda x, dy: dy * jnp.cos(x) * jnp.asarray(factor if when(x, dy) else 1.0, x.dtype))


def on_the_host(slope):
    """The sine by a callback that JAX cannot differentiate."""

    def host(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential")

    return unary(host, slope)


def failed(report):
    return {finding.check for finding in report.failures()}


def findings(report, name):
    return [finding for finding in report.findings if finding.check == name]


def says(report, name):
    return " ".join(finding.detail for finding in findings(report, name))
