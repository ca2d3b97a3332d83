"""Pure functions on arrays, each with a backward rule written by hand.

Sums of products:

    dense                         an affine map of the last axis
    conv                          a window slid over 1, 2 or 3 axes
    conv_transpose                each input paints its window into the output

Normalisation:

    batch_norm                    each channel over all other axes; mean and variance beside it
    batch_norm_inference          each channel by a given mean and variance
    layer_norm                    each vector of channels over itself
    group_norm                    each group of channels over itself

Activations:

    relu                          max(x, 0)
    leaky_relu                    x, and slope x below 0
    elu                           x, and alpha (e^x - 1) below 0
    gelu                          x times the normal distribution function
    silu                          x sigmoid(x)
    softplus                      log(1 + e^x)
    sigmoid                       1 / (1 + e^-x)
    tanh                          the hyperbolic tangent
    softmax                       positive numbers that sum to 1
    log_softmax                   their logarithms

Attention:

    attention                     the mean of values, weighted by how well queries and keys agree

Windows and borders:

    max_pool                      the largest number of every window
    avg_pool                      the mean of every window
    global_max_pool               the largest number of every channel
    global_avg_pool               the mean of every channel
    adaptive_avg_pool             means over bins that cover the input evenly
    filter_pool                   a blur, and every stride-th of its numbers
    pad                           filled from the array itself: reflected, repeated, wrapped
    dropout                       a random fraction set to zero

Losses, metrics, penalties:

    softmax_cross_entropy         of scores under class labels or distributions
    sigmoid_binary_cross_entropy  of scores under labels from 0 to 1
    squared_error                 (p - t)^2
    hinge                         of scores, for two classes or many
    accuracy                      1 where the prediction is right
    top_k_accuracy                1 where the label is among the k largest scores
    zero_one                      1 where the prediction is wrong
    l2_penalty                    half the sum of squares of all weights
    decay_mask                    which of the parameters are weights

Compiled kernels:

    kernels                       which there are for CPU, or why none
"""

from fnn.core.names import listed as _listed
from fnn.kernels.library import kernels as kernels
from fnn.ops.activation import elu as elu
from fnn.ops.activation import gelu as gelu
from fnn.ops.activation import leaky_relu as leaky_relu
from fnn.ops.activation import relu as relu
from fnn.ops.activation import sigmoid as sigmoid
from fnn.ops.activation import silu as silu
from fnn.ops.activation import softplus as softplus
from fnn.ops.activation import tanh as tanh
from fnn.ops.attention import attention as attention
from fnn.ops.convolution import conv as conv
from fnn.ops.convolution import conv_transpose as conv_transpose
from fnn.ops.dense import dense as dense
from fnn.ops.dropout import dropout as dropout
from fnn.ops.losses import accuracy as accuracy
from fnn.ops.losses import decay_mask as decay_mask
from fnn.ops.losses import hinge as hinge
from fnn.ops.losses import l2_penalty as l2_penalty
from fnn.ops.losses import sigmoid_binary_cross_entropy as sigmoid_binary_cross_entropy
from fnn.ops.losses import softmax_cross_entropy as softmax_cross_entropy
from fnn.ops.losses import squared_error as squared_error
from fnn.ops.losses import top_k_accuracy as top_k_accuracy
from fnn.ops.losses import zero_one as zero_one
from fnn.ops.normalisation import batch_norm as batch_norm
from fnn.ops.normalisation import batch_norm_inference as batch_norm_inference
from fnn.ops.normalisation import group_norm as group_norm
from fnn.ops.normalisation import layer_norm as layer_norm
from fnn.ops.pad import pad as pad
from fnn.ops.pooling import adaptive_avg_pool as adaptive_avg_pool
from fnn.ops.pooling import avg_pool as avg_pool
from fnn.ops.pooling import filter_pool as filter_pool
from fnn.ops.pooling import global_avg_pool as global_avg_pool
from fnn.ops.pooling import global_max_pool as global_max_pool
from fnn.ops.pooling import max_pool as max_pool
from fnn.ops.softmax import log_softmax as log_softmax
from fnn.ops.softmax import softmax as softmax

__all__ = _listed(__doc__)
