"""Random changes of the training images that leave the label true."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fnn.core.errors import InputError, integer, require

Augment = Callable[[Any, np.random.RandomState], Any]


def random_shift(most: int) -> Augment:
    """(N, H, W, C) -> (N, H, W, C): each image moved by up to `most` pixels along both axes; zeros come in.

    Args:
      most: 0 or more; every whole shift from -most to most is equally likely, the two axes apart.

    Returns:
      A function (images, random) for `batches(augment=...)`; random is a `numpy.random.RandomState`.

    Raises:
      InputError: most < 0; when called, images that are no (N, H, W, C).

    >>> import numpy as np
    >>> random_shift(2)(np.ones((3, 8, 8, 1)), np.random.RandomState(0)).shape
    (3, 8, 8, 1)
    """
    most = integer("random_shift", "most", most, 0, fix="use a whole number of pixels")

    def shift(images: np.ndarray, random: np.random.RandomState) -> np.ndarray:
        if isinstance(images, dict | tuple | list):
            fix = "pass augment=lambda x, random: {**x, name: shift(x[name], random)}"
            raise InputError("random_shift", "images (N, H, W, C)", f"a {type(images).__name__} of arrays", fix)
        images = np.asarray(images)
        require(images.ndim == 4, "random_shift", "images (N, H, W, C)", images.shape, "add the missing axes")
        n, height, width, _ = images.shape
        framed = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
        down, right = random.randint(0, 2 * most + 1, (2, n))
        rows = down[:, None] + np.arange(height)
        columns = right[:, None] + np.arange(width)
        shifted: np.ndarray = framed[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
        return shifted

    return shift
