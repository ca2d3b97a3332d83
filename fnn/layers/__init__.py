"""Layers: `init` and `apply` over the functions of `fnn.ops`."""

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
from fnn.layers.shape import flatten as flatten
from fnn.layers.shape import reshape as reshape
