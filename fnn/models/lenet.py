"""LeNet-5 (LeCun, Bottou, Bengio and Haffner, 1998, https://doi.org/10.1109/5.726791, figure 2).

                     output        parameters
    conv 6 of 5x5    28 x 28 x 6          156
    pool 2x2         14 x 14 x 6
    conv 16 of 5x5   10 x 10 x 16       2,416
    pool 2x2          5 x 5 x 16
    dense            120               48,120
    dense             84               10,164
    dense             10                  850
                                       61,706

As in most modern versions each C3 filter sees all six maps (the original left some out, for 60,000 in all), the
activation is ReLU, the pools take the maximum, and the last layer gives logits.
"""

from fnn.core.combinators import serial
from fnn.core.errors import integer
from fnn.core.layer import Layer
from fnn.layers.activation import relu
from fnn.layers.conv import conv
from fnn.layers.dense import dense
from fnn.layers.pool import max_pool
from fnn.layers.shape import flatten


def lenet5(classes: int = 10) -> Layer:
    """x: (N, 32, 32, C) -> (N, classes) logits; the paper has C = 1.

    >>> import jax, fnn
    >>> params, _ = fnn.models.lenet5().init(jax.random.key(0), (1, 32, 32, 1))
    >>> sum(p.size for p in jax.tree.leaves(params))
    61706
    """
    classes = integer("lenet5", "classes", classes)
    return serial(
        conv1=conv(6, (5, 5)),
        relu1=relu(),
        pool1=max_pool(2),
        conv2=conv(16, (5, 5)),
        relu2=relu(),
        pool2=max_pool(2),
        flatten=flatten(),
        dense3=dense(120),
        relu3=relu(),
        dense4=dense(84),
        relu4=relu(),
        dense5=dense(classes),
    )
