"""Losses, metrics and the L2 penalty; `labels` is what they share."""

from fnn.ops.losses.cross_entropy import sigmoid_binary_cross_entropy as sigmoid_binary_cross_entropy
from fnn.ops.losses.cross_entropy import softmax_cross_entropy as softmax_cross_entropy
from fnn.ops.losses.cross_entropy import squared_error as squared_error
from fnn.ops.losses.margin import hinge as hinge
from fnn.ops.losses.metrics import accuracy as accuracy
from fnn.ops.losses.metrics import top_k_accuracy as top_k_accuracy
from fnn.ops.losses.metrics import zero_one as zero_one
from fnn.ops.losses.penalty import decay_mask as decay_mask
from fnn.ops.losses.penalty import l2_penalty as l2_penalty
from fnn.ops.losses.regression import absolute_error as absolute_error
from fnn.ops.losses.regression import huber as huber
from fnn.ops.losses.regression import log_cosh as log_cosh
from fnn.ops.losses.regression import poisson as poisson
from fnn.ops.losses.regression import smooth_l1 as smooth_l1
