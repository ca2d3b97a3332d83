"""Data: arrays to learn from, and how they come in batches.

digits                        1,797 handwritten digits that scikit-learn brings along
mnist                         MNIST and its kin, from a folder with their four files
read_idx                      one file of that kind
Data                          images and labels
Split                         data to learn from and to be judged by
batches                       any tree of arrays cut into batches, in an order that a seed decides
Batches                       what that returns
filters                       a module: edges, blurs and sharpening, for `filter_pool` and `conv`
random_shift                  images moved at random, for `batches(augment=...)`
"""

from fnn.core.names import listed as _listed
from fnn.data import filters as filters
from fnn.data.augment import random_shift as random_shift
from fnn.data.batches import Batches as Batches
from fnn.data.batches import Data as Data
from fnn.data.batches import Split as Split
from fnn.data.batches import batches as batches
from fnn.data.digits import digits as digits
from fnn.data.idx import read_idx as read_idx
from fnn.data.mnist import mnist as mnist

__all__ = _listed(__doc__)
