"""Gradient truth: hand-written rules against automatic differentiation, on your model and your data."""

from fnn.check.compare import Comparison as Comparison
from fnn.check.compare import Row as Row
from fnn.check.compare import compare as compare
from fnn.check.timing import time_modes as time_modes
