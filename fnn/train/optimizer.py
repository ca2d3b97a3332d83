"""Any optimiser of optax, called with what it asks for: many want no more than the gradient, some the loss as well."""

import re
from typing import Any

import jax
import optax

from fnn.core.errors import InputError

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
        except (AttributeError, TypeError, ValueError) as error:
            unknown = _UNKNOWN.search(str(error)) if isinstance(error, TypeError) else None
            if unknown is None or unknown[1] not in more:
                _require_own(optimizer, opt_state, params, error)
                raise
            more = {name: value for name, value in more.items() if name != unknown[1]}


def _require_own(optimizer: Any, opt_state: Any, params: Any, error: Exception) -> None:
    """Refuse the state of another optimiser, once it has failed: states that work are nobody's business."""
    own = jax.eval_shape(optimizer.init, params)
    want: Any = jax.tree.structure(own)
    if not isinstance(error, InputError) and want != jax.tree.structure(opt_state):
        fix = "give make_step the optimiser that init_state was given, or make a new TrainState with init_state"
        raise InputError("step", f"its optimiser's opt_state, {_kinds(own)}", _kinds(opt_state), fix) from error


def _kinds(opt_state: Any) -> str:
    states = jax.tree.leaves(opt_state, is_leaf=lambda node: hasattr(node, "_fields"))
    return ", ".join(type(state).__name__ for state in states)
