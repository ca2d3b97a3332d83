"""Any optimiser of optax, called with what it asks for: many want no more than the gradient, some the loss as well."""

import re
from typing import Any

import optax

_UNKNOWN = re.compile(r"unexpected keyword argument '(\w+)'")


def extended(optimizer: Any) -> optax.GradientTransformationExtraArgs:
    """The optimiser as one whose `update` may be given more than the gradient."""
    if isinstance(optimizer, optax.MultiSteps):  # a class of its own
        return optax.GradientTransformationExtraArgs(optimizer.init, optimizer.update)
    return optax.with_extra_args_support(optimizer)


def updates_of(optimizer: Any, gradient: Any, opt_state: Any, params: Any, more: dict[str, Any]) -> tuple[Any, Any]:
    """`optimizer.update` with those of the further arguments that it, and all it is made of, can take.

    By optax's contract each should take any; some, `optax.contrib.sam` among them, do not, and no signature tells when
    they are part of a chain.
    """
    while True:
        try:
            updates, opt_state = optimizer.update(gradient, opt_state, params, **more)
            return updates, opt_state
        except TypeError as error:
            unknown = _UNKNOWN.search(str(error))
            if unknown is None or unknown[1] not in more:
                raise
            more = {name: value for name, value in more.items() if name != unknown[1]}
