"""JAX's messages about a `custom_vjp` that is put together wrongly, in words for whoever writes their first."""

import re

from fnn.check.finding import first_line

# What JAX says, and what was done; the first that fits counts.
_TABLE = (
    (
        r"structure PyTreeDef\(\*\) for primal",
        "bwd returns one array: return a tuple of gradients, one an argument of f",
    ),
    (
        r"structure PyTreeDef\(\{",
        "bwd returns a dict: return a tuple of gradients, one an argument of f",
    ),
    (
        r"bwd rule must produce.*structure",
        "bwd returns too many or too few gradients, or nests them otherwise: return one an argument, built like it",
    ),
    (
        r"output\[?(?P<i>[^\]\s]*)\]? the bwd rule produced an output of type (?P<got>\S+) .* type (?P<want>[^\s,]+)",
        "bwd returns {got} as gradient {i} (counted from 0), for an argument {want}: give it the shape of the argument",
    ),
    (
        r"fwd rule.*must produce a pair",
        "fwd must return a pair, the output and what bwd needs: (output, residuals)",
    ),
    (
        r"No VJP defined",
        "the function has no backward rule yet: call f.defvjp(fwd, bwd)",
    ),
    (
        r"unexpected tree structure|for argument to VJP function|fwd rule.*must have the same",
        "fwd returns another output than the function: return (output, residuals) with the output just as f returns it",
    ),
    (
        r"not a valid JAX type",
        "fwd keeps something that is no array: residuals are arrays, or tuples, lists and dicts of them",
    ),
    (
        r"(takes|missing) .*positional argument",
        "fwd takes what f takes; bwd takes the nondiff_argnums, residuals, cotangent, in this order: one takes others",
    ),
)


def sentence_of(error: BaseException) -> str:
    """The kind of an error, what was probably done, and the message."""
    text = " ".join(str(error).split())
    for pattern, sentence in _TABLE:
        found = re.search(pattern, text)
        if found:
            return f"{type(error).__name__}: {sentence.format(**found.groupdict())}. JAX says: {first_line(error)}"
    return first_line(error)
