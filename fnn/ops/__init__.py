"""Pure functions on arrays, each with a backward rule written by hand.

Sums of products:

    dense                         an affine map of the last axis
    conv                          a window slid over 1, 2 or 3 axes
    conv_transpose                each input paints its window into the output

Tables:

    embed                         rows of a table by index

Normalisation:

    batch_norm                    each channel over all other axes; mean and variance beside it
    batch_norm_inference          each channel by a given mean and variance
    layer_norm                    each vector of channels over itself
    group_norm                    each group of channels over itself
    instance_norm                 each channel of each example over itself
    rms_norm                      each vector of channels divided by its root mean square
    local_response_norm           each number divided by a power of the squares around it

Activations:

    relu                          max(x, 0)
    leaky_relu                    x, and slope x below 0
    elu                           x, and alpha (e^x - 1) below 0
    gelu                          x times the normal distribution function
    silu                          x sigmoid(x)
    softplus                      log(1 + e^x)
    sigmoid                       1 / (1 + e^-x)
    tanh                          the hyperbolic tangent
    selu                          x, and alpha (e^x - 1) below 0, scaled to keep mean and variance
    celu                          x, and alpha (e^(x/alpha) - 1) below 0
    mish                          x tanh(log(1 + e^x))
    quick_gelu                    x sigmoid(1.702 x)
    softsign                      x / (1 + |x|)
    relu6                         x between 0 and 6
    hard_tanh                     x between -1 and 1
    hard_sigmoid                  (x + 3) / 6 between 0 and 1
    hard_swish                    x hard_sigmoid(x)
    prelu                         x, and a learned slope times x below 0
    glu                           half of the channels times the sigmoid of the others
    maxout                        the largest of a few neighbouring channels
    softmax                       positive numbers that sum to 1
    log_softmax                   their logarithms

Attention:

    attention                     the mean of values, weighted by how well queries and keys agree
    rotary                        pairs of channels turned by the position

Windows and borders:

    max_pool                      the largest number of every window
    avg_pool                      the mean of every window
    global_max_pool               the largest number of every channel
    global_avg_pool               the mean of every channel
    adaptive_avg_pool             means over bins that cover the input evenly
    filter_pool                   a blur, and every stride-th of its numbers
    pad                           filled from the array itself: reflected, repeated, wrapped
    dropout                       a random fraction set to zero
    channel_dropout               of whole channels
    stochastic_depth              of whole examples
    channel_shuffle               each group of channels gets some of all
    pixel_shuffle                 channels become pixels
    pixel_unshuffle               and pixels channels

Losses, metrics, penalties:

    softmax_cross_entropy         of scores under class labels or distributions
    sigmoid_binary_cross_entropy  of scores under labels from 0 to 1
    squared_error                 (p - t)^2
    absolute_error                |p - t|
    huber                         half the squared error up to a distance, then straight on
    smooth_l1                     the same over that distance
    log_cosh                      log cosh (p - t)
    poisson                       e^p - t p, of counts
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
from fnn.ops.activation_gated import celu as celu
from fnn.ops.activation_gated import mish as mish
from fnn.ops.activation_gated import quick_gelu as quick_gelu
from fnn.ops.activation_gated import selu as selu
from fnn.ops.activation_gated import softsign as softsign
from fnn.ops.activation_hard import hard_sigmoid as hard_sigmoid
from fnn.ops.activation_hard import hard_swish as hard_swish
from fnn.ops.activation_hard import hard_tanh as hard_tanh
from fnn.ops.activation_hard import relu6 as relu6
from fnn.ops.attention import attention as attention
from fnn.ops.convolution import conv as conv
from fnn.ops.convolution import conv_transpose as conv_transpose
from fnn.ops.dense import dense as dense
from fnn.ops.dropout import channel_dropout as channel_dropout
from fnn.ops.dropout import dropout as dropout
from fnn.ops.dropout import stochastic_depth as stochastic_depth
from fnn.ops.embed import embed as embed
from fnn.ops.gate import glu as glu
from fnn.ops.gate import maxout as maxout
from fnn.ops.losses import absolute_error as absolute_error
from fnn.ops.losses import accuracy as accuracy
from fnn.ops.losses import decay_mask as decay_mask
from fnn.ops.losses import hinge as hinge
from fnn.ops.losses import huber as huber
from fnn.ops.losses import l2_penalty as l2_penalty
from fnn.ops.losses import log_cosh as log_cosh
from fnn.ops.losses import poisson as poisson
from fnn.ops.losses import sigmoid_binary_cross_entropy as sigmoid_binary_cross_entropy
from fnn.ops.losses import smooth_l1 as smooth_l1
from fnn.ops.losses import softmax_cross_entropy as softmax_cross_entropy
from fnn.ops.losses import squared_error as squared_error
from fnn.ops.losses import top_k_accuracy as top_k_accuracy
from fnn.ops.losses import zero_one as zero_one
from fnn.ops.normalisation import batch_norm as batch_norm
from fnn.ops.normalisation import batch_norm_inference as batch_norm_inference
from fnn.ops.normalisation import group_norm as group_norm
from fnn.ops.normalisation import instance_norm as instance_norm
from fnn.ops.normalisation import layer_norm as layer_norm
from fnn.ops.normalisation import local_response_norm as local_response_norm
from fnn.ops.normalisation import rms_norm as rms_norm
from fnn.ops.pad import pad as pad
from fnn.ops.pooling import adaptive_avg_pool as adaptive_avg_pool
from fnn.ops.pooling import avg_pool as avg_pool
from fnn.ops.pooling import filter_pool as filter_pool
from fnn.ops.pooling import global_avg_pool as global_avg_pool
from fnn.ops.pooling import global_max_pool as global_max_pool
from fnn.ops.pooling import max_pool as max_pool
from fnn.ops.prelu import prelu as prelu
from fnn.ops.rotary import rotary as rotary
from fnn.ops.shuffle import channel_shuffle as channel_shuffle
from fnn.ops.shuffle import pixel_shuffle as pixel_shuffle
from fnn.ops.shuffle import pixel_unshuffle as pixel_unshuffle
from fnn.ops.softmax import log_softmax as log_softmax
from fnn.ops.softmax import softmax as softmax

__all__ = _listed(__doc__)
