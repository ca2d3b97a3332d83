"""Pooling: windows, bins, whole channels, and fixed filters."""

from fnn.ops.pooling.adaptive import adaptive_avg_pool as adaptive_avg_pool
from fnn.ops.pooling.average import avg_pool as avg_pool
from fnn.ops.pooling.filtered import filter_pool as filter_pool
from fnn.ops.pooling.maximum import max_pool as max_pool
from fnn.ops.pooling.whole import global_avg_pool as global_avg_pool
from fnn.ops.pooling.whole import global_max_pool as global_max_pool
