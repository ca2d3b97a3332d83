"""Normalisation: over the batch, or over each example."""

from fnn.ops.normalisation.batch import batch_norm as batch_norm
from fnn.ops.normalisation.batch import batch_norm_inference as batch_norm_inference
from fnn.ops.normalisation.example import group_norm as group_norm
from fnn.ops.normalisation.example import instance_norm as instance_norm
from fnn.ops.normalisation.example import layer_norm as layer_norm
from fnn.ops.normalisation.local import local_response_norm as local_response_norm
from fnn.ops.normalisation.rms import rms_norm as rms_norm
