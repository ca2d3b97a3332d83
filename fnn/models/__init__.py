"""Architectures as tables, one file each.

lenet5                        LeCun et al. (1998), for images of 32x32 or 28x28
"""

from fnn.core.names import listed as _listed
from fnn.models.lenet import lenet5 as lenet5

__all__ = _listed(__doc__)
