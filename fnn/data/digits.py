"""Real handwritten digits without a download: the 1,797 images of 8x8 pixels that scikit-learn brings along.

Source: the test set of Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits,
https://doi.org/10.24432/C50P49.
"""

import jax
import numpy as np

from fnn.core.errors import integer, require
from fnn.data.batches import Data, Split, permutation

TEST_SHARE = 0.2


def digits(size: int = 32, seed: int = 0, *, margin: int = 0) -> Split:
    """-> Split of images (1438, size, size, 1) and (359, size, size, 1) with their labels, 0 to 9.

    The same share of every digit goes to the test set, and the choice depends on `seed` alone: leave it as it is, so
    that runs with different training seeds are judged on the same images.

    Args:
      size: height and width to which the 8x8 images are resized (bilinear), at least 1; 32 is what LeNet-5 expects.
      seed: of the split, not of the training.
      margin: white pixels on each side, counted in size; the digits themselves touch their frame.

    Raises:
      InputError: size < 1, or a margin that leaves no image.
      ImportError: scikit-learn is missing.

    >>> split = digits(size=8)
    >>> split.train.images.shape, split.test.images.shape
    ((1438, 8, 8, 1), (359, 8, 8, 1))
    """
    size = integer("digits", "size", size, fix="use size=32 for LeNet-5")
    seed = integer("digits", "seed", seed, 0, 2**32 - 1, fix="leave it as it is")
    margin = integer("digits", "margin", margin, 0, fix="use margin=0")
    inner = size - 2 * margin
    require(inner >= 1, "digits", f"a margin >= 0 that leaves some of {size} pixels", margin, "use a smaller one")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError('digits needs scikit-learn: pip install "fnn[examples]"') from error
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).reshape(-1, 8, 8, 1).astype(np.float32)
    if inner != 8:
        images = np.asarray(jax.image.resize(images, (len(images), inner, inner, 1), "bilinear"))
    images = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    train, test = _stratify(labels, seed)
    return Split(*(Data(images[rows], labels[rows].astype(np.int32)) for rows in (train, test)))


def _stratify(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and testing, the same share of each class, mixed."""
    order = permutation(len(labels), seed)
    test = np.zeros(len(labels), bool)
    for digit in np.unique(labels):
        rows = order[labels[order] == digit]
        test[rows[: round(TEST_SHARE * len(rows))]] = True
    return order[~test[order]], order[test[order]]
