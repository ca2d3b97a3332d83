"""Data: arrays to learn from, and how they come in batches."""

from fnn.data.augment import random_shift as random_shift
from fnn.data.batches import Batches as Batches
from fnn.data.batches import Data as Data
from fnn.data.batches import Split as Split
from fnn.data.batches import batches as batches
from fnn.data.digits import digits as digits
from fnn.data.idx import read_idx as read_idx
from fnn.data.mnist import mnist as mnist
