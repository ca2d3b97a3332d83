"""Architectures as tables, one file each."""

from fnn.models.lenet import lenet5 as lenet5
