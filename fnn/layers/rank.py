"""How many spatial axes a layer has, as far as its options tell before x is known."""

from fnn.core.errors import require
from fnn.ops.window import Ints, Padding, require_same_rank


def with_rank(where: str, name: str, size: Ints, *, padding: Padding, **options: object) -> Ints:
    """The size called `name`, with one entry an axis where an option says how many axes there are.

    Raises:
      InputError: options for different numbers of axes, CAUSAL padding of more than one.

    >>> with_rank("conv", "kernel_size", 3, padding="SAME", stride=(1, 2))
    (3, 3)
    """
    rank = require_same_rank(where, **{name: size}, padding=padding, **options)
    if padding == "CAUSAL":
        fix = "use SAME, or pairs (before, after)"
        require(rank in (None, 1), where, "CAUSAL padding in 1-D", f"{rank} spatial axes", fix)
        rank = 1
    return (size,) * rank if rank is not None and isinstance(size, int) else size
