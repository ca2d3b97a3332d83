"""What training takes, checked where it is passed: a class, a list or a missing call is named before the first step."""

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.alive import require_alive
from fnn.core.errors import ARRAYS, InputError, integer, require, require_function, require_key, require_leaves
from fnn.core.layer import require_layer
from fnn.core.words import described


def require_optimizer(where: str, optimizer: Any) -> None:
    """Refuse what has not the two functions of an optax optimiser."""
    if not isinstance(optimizer, type) and all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        return
    fix = "pass an optimiser, for example optax.adam(1e-3)"
    if callable(optimizer) and hasattr(optimizer, "__name__"):
        fix = f"call it: {optimizer.__name__}(...) makes an optimiser, {optimizer.__name__} does not"
    raise InputError(where, "an optimiser with the functions init and update", described(optimizer), fix)


def check_init(layer: Any, optimizer: Any, key: Any) -> None:
    """The arguments of `init_state`, but for x, which the layer checks."""
    require_layer("init_state", "layer", layer)
    require_optimizer("init_state", optimizer)
    require_key("init_state", key)


def copied(name: str, tree: Any, like: Any) -> Any:
    """A copy of the `params` or `model_state` given to `init_state`, which must be like those of the layer."""
    require_leaves("init_state", **{name: tree})
    require_alive("init_state", tree, name)
    want, came = (
        {
            jax.tree_util.keystr(path, simple=True, separator="/"): f"{jnp.result_type(leaf)} {np.shape(leaf)}"
            for path, leaf in jax.tree_util.tree_leaves_with_path(part)
        }
        for part in (like, tree)
    )
    wrong = [f"{at} is missing" for at in want if at not in came]
    wrong += [f"{at} is not expected" for at in came if at not in want]
    wrong += [f"{at} is {came[at]}, not {want[at]}" for at in want if at in came and came[at] != want[at]]
    structure: Any = jax.tree.structure(like)
    if not wrong and structure != jax.tree.structure(tree):
        wrong = ["its containers are others"]
    fix = "pass those of this layer, as layer.init, fnn.replace or a TrainState of it has them"
    require(not wrong, "init_state", f"the layer's {name}", "; ".join(wrong), fix)
    return jax.tree.map(jnp.copy, tree)


def check_step(layer: Any, loss: Any, optimizer: Any, penalty: Any) -> None:
    """The arguments of `make_step`."""
    require_layer("make_step", "layer", layer)
    require_function("make_step", "loss", loss, "outputs", "labels")
    require_optimizer("make_step", optimizer)
    require_function("make_step", "penalty", penalty, "params", optional=True)


def check_fit(
    step: Any, epochs: Any, first_epoch: Any, batches: Any, evaluate: Any, callbacks: Any
) -> tuple[int, int, Callable[..., Any], Callable[..., Any] | None, tuple[Callable[..., Any], ...]]:
    """epochs, first_epoch, step, evaluate and callbacks of `fit`; the two functions check what they return, too."""
    require_function("fit", "step", step, "train_state", "batch")
    require_batches("fit", batches)
    require_function("fit", "evaluate", evaluate, "train_state", optional=True)
    ok = isinstance(callbacks, list | tuple)
    require(ok, "fit", "a list of functions for callbacks", described(callbacks), "put it in a list: callbacks=[f]")
    callbacks = tuple(callbacks)
    for i, callback in enumerate(callbacks):
        require_function("fit", f"callbacks[{i}]", callback, "event")
    epochs = integer("fit", "epochs", epochs)
    first_epoch = integer("fit", "first_epoch", first_epoch, 0, epochs, fix="count epochs from 0")

    @wraps(step)
    def checked_step(train_state: Any, batch: Any) -> tuple[Any, ...]:
        came: tuple[Any, ...] = step(train_state, batch)
        ok = isinstance(came, tuple) and len(came) == 2 and isinstance(came[1], Mapping)
        expected, fix = "a step that returns (train_state, measures)", "use what fnn.train.make_step returns"
        require(ok, "fit", expected, described(came), fix)
        return came

    def checked_evaluate(train_state: Any) -> Mapping[str, Any]:
        came: Mapping[str, Any] = evaluate(train_state)
        expected, fix = "evaluate to return {name: number}", "return what fnn.train.evaluate returns"
        require(isinstance(came, Mapping), "fit", expected, described(came), fix)
        return came

    return epochs, first_epoch, checked_step, None if evaluate is None else checked_evaluate, callbacks


def require_batches(where: str, batches: Any) -> None:
    """Refuse what cannot be read as batches (x, labels): no iterable, text, a mapping."""
    ok = isinstance(batches, Iterable) or callable(getattr(batches, "epoch", None)) or hasattr(batches, "__getitem__")
    ok = ok and not isinstance(batches, (str, bytes, Mapping, type, *ARRAYS))
    fix = "pass fnn.data.batches(...), or a list of pairs"
    if not ok:  # words for a list of all batches would take longer than an epoch
        raise InputError(where, "batches (x, labels), a list for example", described(batches), fix)
