"""Normalisation: over the batch, or over each example."""

from fnn.ops.normalisation.batch import batch_norm as batch_norm
from fnn.ops.normalisation.batch import batch_norm_inference as batch_norm_inference
from fnn.ops.normalisation.example import group_norm as group_norm
from fnn.ops.normalisation.example import layer_norm as layer_norm
