"""Convolution and its transpose: the rules, the tables of implementations, and one file an implementation."""

from fnn.ops.convolution.rule import conv as conv
from fnn.ops.convolution.rule import conv_transpose as conv_transpose
