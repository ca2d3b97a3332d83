"""Which classic mistake a wrong gradient looks like: each is tried on the true gradient until one fits."""

from fnn.check.numeric import Numeric
from fnn.check.report import Leaf


def diagnose(numeric: Numeric, leaves: tuple[Leaf, ...]) -> tuple[str, ...]:
    """A sentence for every leaf that differs, where one of the classic mistakes explains it."""
    return ()
