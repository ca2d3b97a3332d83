"""Checks of one function: a registered rule, a `custom_vjp`, anything that JAX differentiates."""
