"""Neural networks as plain JAX functions, with backward rules written by hand and proven.

A model is a Layer, that is, two pure functions: `init(key, x) -> params, state` and
`apply(params, state, x, train=, key=) -> y, state`; params and state are dicts of arrays. `help(fnn.conv)` says more.

Layers with parameters:

    dense                         every output a weighted sum of all inputs
    conv                          a window slid over 1, 2 or 3 axes, with stride, dilation, groups
    conv_transpose                the way back: each input paints its window into the output
    depthwise_conv                each channel with filters of its own
    separable_conv                depthwise over space, then 1x1 over channels
    multi_head_attention          what each position's query finds among the keys of others
    feed_forward                  two dense layers with an activation between, perhaps a gate
    transformer_block             attention and feed-forward, each with a norm and a way around
    batch_norm                    each channel normalised by the batch, by running averages in evaluation
    layer_norm                    each vector of channels normalised over itself
    group_norm                    each group of channels normalised over itself
    instance_norm                 each channel of each example normalised over itself
    rms_norm                      each vector of channels divided by its root mean square
    prelu                         x, and a learned slope times x below 0
    squeeze_excite                each channel scaled by what all of them say
    embed                         a row of a table for each index
    position_embedding            a learned vector added for each position
    class_token                   a learned vector in front of each sequence

Layers without:

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
    glu                           half of the channels times the sigmoid of the others
    maxout                        the largest of a few neighbouring channels
    softmax                       positive numbers that sum to 1
    log_softmax                   their logarithms
    max_pool                      the largest number of every window
    avg_pool                      the mean of every window
    global_max_pool               the largest number of every channel
    global_avg_pool               the mean of every channel
    adaptive_avg_pool             means over bins, as many as asked for
    filter_pool                   a blur, and every stride-th of its numbers
    local_response_norm           each number divided by a power of the squares around it
    dropout                       in training, a random fraction set to zero
    channel_dropout               of whole channels
    stochastic_depth              of whole examples
    channel_shuffle               each group of channels gets some of all
    pixel_shuffle                 channels become pixels
    pixel_unshuffle               and pixels channels
    sinusoidal_positions          waves of the position added
    flatten                       each example becomes a vector
    reshape                       each example takes a new shape
    identity                      the input itself

Layers made of layers:

    serial                        one after the other
    residual                      after(body(x) + shortcut(x))
    parallel                      several on one input, merged
    concat                        the merging along the channels
    repeat                        n copies in a row, traced once
    remat                         intermediate values computed again instead of stored
    at                            a layer on one part of a tree of inputs
    shared                        one set of parameters in several places
    precision                     parameters, computation and outputs in dtypes of their own
    lift                          a layer of your own from a function of params and x
    Layer                         the pair itself

A composition by the names of its layers, with parameters and state:

    child                         one layer taken out
    prefix                        the first layers: features
    replace                       another layer in one place

Losses and metrics, one number an example:

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

Gradients:

    gradients                     by hand or automatically, for all that runs inside the block
    Rule                          an operation with a backward pass written by hand; one of your own, too
    Implementation                one of several exact ways to compute what a rule needs
    placement                     whether arrays live on one device or on several, where JAX cannot see it
    storage                       what XLA stores and computes again, without what the rules say about it
    rules                         all that are registered

Looking, and errors:

    summary                       the layers of a model in a table
    InputError                    where, what was expected, what came, how to mend it

Modules, loaded at first use:

    ops                           the same operations as functions on arrays
    train                         a step, a loop, evaluation
    data                          digits, MNIST, batches
    models                        architectures
    inspect                       activations and pictures
    check                         is a gradient right?
"""

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
from fnn.core.edit import child as child
from fnn.core.edit import prefix as prefix
from fnn.core.edit import replace as replace
from fnn.core.errors import InputError as InputError
from fnn.core.implementation import Implementation as Implementation
from fnn.core.layer import Layer as Layer
from fnn.core.lift import lift as lift
from fnn.core.names import listed as _listed
from fnn.core.part import at as at
from fnn.core.placement import placement as placement
from fnn.core.precision import precision as precision
from fnn.core.rule import Rule as Rule
from fnn.core.rule import gradients as gradients
from fnn.core.rule import rules as rules
from fnn.core.shared import shared as shared
from fnn.core.storage import storage as storage
from fnn.layers.activation import celu as celu
from fnn.layers.activation import elu as elu
from fnn.layers.activation import gelu as gelu
from fnn.layers.activation import glu as glu
from fnn.layers.activation import hard_sigmoid as hard_sigmoid
from fnn.layers.activation import hard_swish as hard_swish
from fnn.layers.activation import hard_tanh as hard_tanh
from fnn.layers.activation import leaky_relu as leaky_relu
from fnn.layers.activation import log_softmax as log_softmax
from fnn.layers.activation import maxout as maxout
from fnn.layers.activation import mish as mish
from fnn.layers.activation import prelu as prelu
from fnn.layers.activation import quick_gelu as quick_gelu
from fnn.layers.activation import relu as relu
from fnn.layers.activation import relu6 as relu6
from fnn.layers.activation import selu as selu
from fnn.layers.activation import sigmoid as sigmoid
from fnn.layers.activation import silu as silu
from fnn.layers.activation import softmax as softmax
from fnn.layers.activation import softplus as softplus
from fnn.layers.activation import softsign as softsign
from fnn.layers.activation import tanh as tanh
from fnn.layers.attention import multi_head_attention as multi_head_attention
from fnn.layers.conv import conv as conv
from fnn.layers.conv import conv_transpose as conv_transpose
from fnn.layers.conv import depthwise_conv as depthwise_conv
from fnn.layers.conv import filter_pool as filter_pool
from fnn.layers.conv import separable_conv as separable_conv
from fnn.layers.dense import dense as dense
from fnn.layers.dropout import channel_dropout as channel_dropout
from fnn.layers.dropout import dropout as dropout
from fnn.layers.dropout import stochastic_depth as stochastic_depth
from fnn.layers.embed import class_token as class_token
from fnn.layers.embed import embed as embed
from fnn.layers.embed import position_embedding as position_embedding
from fnn.layers.embed import sinusoidal_positions as sinusoidal_positions
from fnn.layers.norm import batch_norm as batch_norm
from fnn.layers.norm import group_norm as group_norm
from fnn.layers.norm import instance_norm as instance_norm
from fnn.layers.norm import layer_norm as layer_norm
from fnn.layers.norm import local_response_norm as local_response_norm
from fnn.layers.norm import rms_norm as rms_norm
from fnn.layers.pool import adaptive_avg_pool as adaptive_avg_pool
from fnn.layers.pool import avg_pool as avg_pool
from fnn.layers.pool import global_avg_pool as global_avg_pool
from fnn.layers.pool import global_max_pool as global_max_pool
from fnn.layers.pool import max_pool as max_pool
from fnn.layers.shape import channel_shuffle as channel_shuffle
from fnn.layers.shape import flatten as flatten
from fnn.layers.shape import pixel_shuffle as pixel_shuffle
from fnn.layers.shape import pixel_unshuffle as pixel_unshuffle
from fnn.layers.shape import reshape as reshape
from fnn.layers.squeeze import squeeze_excite as squeeze_excite
from fnn.layers.transformer import feed_forward as feed_forward
from fnn.layers.transformer import transformer_block as transformer_block
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

__version__ = "0.1.0"
__all__ = _listed(__doc__)

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
