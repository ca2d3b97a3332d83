"""Attention: an operation, and the two ways to compute it."""

from fnn.ops.attention.rule import attention as attention
