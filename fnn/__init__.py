"""Neural networks as plain JAX functions, with backward rules written by hand and proven."""

import importlib
from typing import TYPE_CHECKING

from fnn import ops as ops
from fnn.core.combinators import concat as concat
from fnn.core.combinators import identity as identity
from fnn.core.combinators import parallel as parallel
from fnn.core.combinators import remat as remat
from fnn.core.combinators import repeat as repeat
from fnn.core.combinators import residual as residual
from fnn.core.combinators import serial as serial
from fnn.core.errors import InputError as InputError
from fnn.core.layer import Layer as Layer
from fnn.core.layer import lift as lift
from fnn.core.rule import Rule as Rule
from fnn.core.rule import gradients as gradients
from fnn.core.rule import rules as rules
from fnn.layers.activation import elu as elu
from fnn.layers.activation import gelu as gelu
from fnn.layers.activation import leaky_relu as leaky_relu
from fnn.layers.activation import log_softmax as log_softmax
from fnn.layers.activation import relu as relu
from fnn.layers.activation import sigmoid as sigmoid
from fnn.layers.activation import silu as silu
from fnn.layers.activation import softmax as softmax
from fnn.layers.activation import softplus as softplus
from fnn.layers.activation import tanh as tanh
from fnn.layers.conv import conv as conv
from fnn.layers.conv import conv_transpose as conv_transpose
from fnn.layers.conv import depthwise_conv as depthwise_conv
from fnn.layers.conv import filter_pool as filter_pool
from fnn.layers.conv import separable_conv as separable_conv
from fnn.layers.dense import dense as dense
from fnn.layers.dropout import dropout as dropout
from fnn.layers.norm import batch_norm as batch_norm
from fnn.layers.norm import group_norm as group_norm
from fnn.layers.norm import layer_norm as layer_norm
from fnn.layers.pool import adaptive_avg_pool as adaptive_avg_pool
from fnn.layers.pool import avg_pool as avg_pool
from fnn.layers.pool import global_avg_pool as global_avg_pool
from fnn.layers.pool import global_max_pool as global_max_pool
from fnn.layers.pool import max_pool as max_pool
from fnn.layers.shape import flatten as flatten
from fnn.layers.shape import reshape as reshape
from fnn.ops.hinge import hinge as hinge
from fnn.ops.loss import sigmoid_binary_cross_entropy as sigmoid_binary_cross_entropy
from fnn.ops.loss import softmax_cross_entropy as softmax_cross_entropy
from fnn.ops.loss import squared_error as squared_error
from fnn.ops.metric import accuracy as accuracy
from fnn.ops.metric import top_k_accuracy as top_k_accuracy
from fnn.ops.metric import zero_one as zero_one
from fnn.ops.penalty import decay_mask as decay_mask
from fnn.ops.penalty import l2_penalty as l2_penalty

if TYPE_CHECKING:
    from fnn import check as check
    from fnn import data as data
    from fnn import inspect as inspect
    from fnn import models as models
    from fnn import train as train
    from fnn.inspect.summary import summary as summary
else:
    # Loaded at first use (PEP 562): together they cost four times the rest, and only `check` and `train` need optax.
    _LATE = ("check", "data", "inspect", "models", "train")

    def __getattr__(name):
        if name in _LATE:
            return importlib.import_module(f"fnn.{name}")
        if name == "summary":
            return __getattr__("inspect").summary
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *_LATE, "summary"})
