"""One step of training: a pure function from a state and a batch to the next state.

loss(params) = mean_i loss(y_i, label_i) + penalty(params)        y, state' = apply(params, state, x, train, key)
updates, opt_state' = optimizer(d loss / d params)                params' = params + updates
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fnn.core.alive import require_alive
from fnn.core.errors import InputError, require
from fnn.core.layer import Layer, Params, State
from fnn.core.placement import placement, placement_of
from fnn.train import compiler
from fnn.train.arguments import check_init, check_step, copied
from fnn.train.batch import named_functions, split_batch
from fnn.train.finite import update_if_finite
from fnn.train.measure import Measure, measure, penalty_of
from fnn.train.optimizer import extended, updates_of
from fnn.train.tracing import nothing_is_traced


class TrainState(NamedTuple):
    """All that a run needs to go on: saved and restored, it continues as if never interrupted.

    Attributes:
      params, model_state: of the layer.
      opt_state: of the optimiser.
      step: () int32, steps taken so far.
      key: the key of the run; step n draws from `fold_in(key, n)`, so nothing random lives outside this tuple.
    """

    params: Params
    model_state: State
    opt_state: optax.OptState
    step: jax.Array
    key: jax.Array


def init_state(
    layer: Layer,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    x: Any,
    *,
    params: Params | None = None,
    model_state: State | None = None,
) -> TrainState:
    """The state before the first step.

    Args:
      layer: what to train.
      optimizer: any optax optimiser.
      key: one half initialises the layer, the other becomes the key of the run.
      x: an example batch, its `jax.ShapeDtypeStruct`, or its shape.
      params, model_state: trained ones to begin with, in the place of those that the layer initialises. They are
        copied, since a step takes the arrays it is given: the model they belong to lives on.

    Raises:
      InputError: no Layer, an optimiser that was not called (`optax.sgd`), a seed for the key, no example input; params
        or model_state of other names, shapes or dtypes than those of the layer, or donated.

    >>> import jax, fnn, optax
    >>> now = init_state(fnn.dense(2), optax.sgd(0.1), jax.random.key(0), (1, 3))
    >>> now.params["kernel"].shape, int(now.step)
    ((3, 2), 0)

    A pretrained network with a new head:

    >>> net = fnn.serial(hidden=fnn.dense(4), out=fnn.dense(2))
    >>> old = init_state(net, optax.sgd(0.1), jax.random.key(0), (1, 3))
    >>> net, params, state = fnn.replace(net, old, "out", fnn.dense(5), key=jax.random.key(1), x=(1, 3))
    >>> now = init_state(net, optax.adam(1e-3), jax.random.key(2), (1, 3), params=params, model_state=state)
    >>> bool((now.params["hidden"]["kernel"] == old.params["hidden"]["kernel"]).all())
    True
    """
    check_init(layer, optimizer, key)
    init_key, run_key = jax.random.split(key)
    fresh, fresh_state = layer.init(init_key, x)
    params = fresh if params is None else copied("params", params, fresh)
    state = fresh_state if model_state is None else copied("model_state", model_state, fresh_state)
    optimizer = extended(optimizer)
    # Some optimisers keep the parameters themselves; a buffer may be donated only once.
    opt_state = jax.tree.map(jnp.copy, optimizer.init(params))
    return TrainState(params, state, opt_state, jnp.zeros((), jnp.int32), run_key)


class Step:
    """A compiled training step: `step(train_state, (x, labels)) -> (train_state, measures)`; `make_step` makes one."""

    def __init__(
        self, layer: Layer, loss: Measure, optimizer: Any, penalty: Any, metrics: tuple[Any, ...], options: Any
    ):
        self._layer, self._loss, self._optimizer, self._penalty = layer, loss, optimizer, penalty
        self._metrics, self._options = metrics, options
        self._plain = jax.jit(self._update, donate_argnums=0)  # inside another jit, which refuses options
        self._tuned: dict[tuple[Any, ...], jax.stages.Wrapped] = {}  # by compiler options
        self._programs: dict[tuple[Any, ...], jax.stages.Wrapped] = {}  # by shapes, dtypes and shardings of the batch

    def __call__(self, train_state: TrainState, batch: tuple[Any, ...]) -> tuple[TrainState, dict[str, jax.Array]]:
        """Take one step; the arrays of train_state are donated."""
        args = _checked(train_state, batch)
        if not nothing_is_traced():
            now, measures = self._plain(*args)
            return now, measures
        with placement(placement_of(args)):
            now, measures = self._program(*args)(*args)
        return now, measures

    def lower(self, train_state: TrainState, batch: tuple[Any, ...]) -> jax.stages.Lowered:
        """The program of a step on such a batch, which is not run."""
        args = _checked(train_state, batch)
        with placement(placement_of(args)):
            return self._program(*args).lower(*args)

    def _program(self, train_state: TrainState, *batch: Any) -> jax.stages.Wrapped:
        """The jitted update with the compiler options for a batch of these shapes, chosen at the first of them."""
        # The batch and the layer determine the shapes of the state; what differs between modes of gradients is small.
        leaves, where = jax.tree.leaves(batch), placement_of(train_state)
        kinds = ((np.shape(leaf), *(getattr(leaf, name, None) for name in ("dtype", "sharding"))) for leaf in leaves)
        key = (where, *kinds)
        if key not in self._programs:
            options = self._options
            if options is None:
                options = compiler.compiler_options(self._plain.trace(train_state, *batch))
            items = tuple(options.items())
            if items not in self._tuned:
                self._tuned[items] = jax.jit(self._update, donate_argnums=0, compiler_options=dict(options))
            self._programs[key] = self._tuned[items]
        return self._programs[key]

    def _objective(
        self, params: Params, state: State, x: Any, labels: Any, key: jax.Array
    ) -> tuple[jax.Array, tuple[Any, ...]]:
        """The loss, and beside it the new model state and the metrics."""
        n = split_batch("step", (x, labels))[2]
        outputs, state = self._layer.apply(params, state, x, train=True, key=key)
        value = measure("make_step", "loss", self._loss, outputs, labels, n)
        value = value + penalty_of("make_step", self._penalty, params)
        return value, (state, {name: measure("make_step", name, f, outputs, labels, n) for name, f in self._metrics})

    def _update(self, now: TrainState, x: Any, labels: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        differentiate = jax.value_and_grad(self._objective, has_aux=True)
        batch = (now.model_state, x, labels, jax.random.fold_in(now.key, now.step))
        (value, (state, measures)), gradient = differentiate(now.params, *batch)
        asked = []

        # A line search hands its function what it does not know itself, and refuses what that has no name for.
        def value_fn(params: Params, *, grad_fn: Any = None, obj_fn: Any = None) -> jax.Array:
            del grad_fn, obj_fn
            asked.append(True)
            return self._objective(params, *batch)[0]

        def grad_fn(params: Params, *_: Any) -> Params:
            asked.append(True)
            slope: Params = differentiate(params, *batch)[1]
            return slope

        # SAM's argument is grad_fn(params, i), Sophia's obj_fn.
        more = {"value": value, "grad": gradient, "value_fn": value_fn, "grad_fn": grad_fn, "obj_fn": value_fn}

        def advance(old: tuple[Any, ...], state: State, gradient: Params) -> tuple[Any, ...]:
            updates, opt_state = updates_of(self._optimizer, gradient, old[2], old[0], more)
            return optax.apply_updates(old[0], updates), state, opt_state

        new, skipped = update_if_finite(advance, now[:3], value, gradient, state, evaluates=lambda: bool(asked))
        params, state, opt_state = new
        now = TrainState(params, state, opt_state, now.step + 1, now.key)
        return now, {"loss": value, **measures, "skipped": skipped}


def make_step(
    layer: Layer,
    loss: Measure,
    optimizer: optax.GradientTransformation,
    *,
    penalty: Callable[[Params], jax.Array] | None = None,
    metrics: Mapping[str, Measure] | None = None,
    compiler_options: Mapping[str, str] | None = None,
) -> Step:
    """A compiled `step(train_state, (x, labels)) -> (train_state, measures)`.

    The train_state that goes in is donated: its arrays are gone after the call. Where the loss, its gradient, the new
    model state or the update is not finite, params, model_state and opt_state stay as they were; the step counter
    advances all the same, and the measure "skipped" tells. Of the update the first 65,536 entries of each parameter are
    looked at, and optimiser states narrower than float32. An optimiser that skips such steps by itself
    (`optax.apply_if_finite`) is never handed one: `fit` stops at the first.
    The step obeys `fnn.gradients` at the time of the call; where its arrays live it sees itself, whatever
    `fnn.placement` says.

    Args:
      layer: what to train; it is applied with `train=True` and the key `fold_in(key, step)`.
      loss: `(outputs, labels)` -> (N,), one number an example, of which the mean is taken, in float32 at least; or ().
      optimizer: any optax optimiser. Those that want more than the gradient are given `value`, `grad`, `value_fn` (the
        objective on this batch with the same key, as a function of the parameters) and `grad_fn`.
      penalty: `params -> ()`, added to the loss: weight decay, for example.
      metrics: further numbers by name, each as `loss`; they are measured on the training outputs, before the update.
      compiler_options: options of XLA for this step alone. None: those of `fnn.train.compiler_options()`, which make
        it faster on CPU; `{}`: none. Inside another jit the outer function's options count.

    Returns:
      The step. Its measures are scalars, still on the device: "loss", penalty included, the metrics, and "skipped",
      int32: 0, or what was not finite, so that nothing was updated; `fit` puts it into words.
      `step.lower(train_state, batch)` gives its program without running it, a `jax.stages.Lowered`.

    Raises:
      InputError: no Layer, functions that cannot be called so, an optimiser that was not called (`optax.sgd`), a metric
        called "loss" or "skipped", compiler_options that this compiler does not take; when called, a batch that is no
        pair (x, labels) of equal length, or empty; a loss or metric of another shape than (N,) or (), a penalty of
        another than (); a state that was donated.

    >>> import jax, jax.numpy as jnp, fnn, optax
    >>> step = make_step(fnn.dense(1), lambda y, t: ((y - t) ** 2)[:, 0], optax.sgd(0.1))
    >>> now = init_state(fnn.dense(1), optax.sgd(0.1), jax.random.key(0), (1, 3))
    >>> now, measures = step(now, (jnp.ones((4, 3)), jnp.zeros((4, 1))))
    >>> int(now.step), sorted(measures)
    (1, ['loss', 'skipped'])
    """
    check_step(layer, loss, optimizer, penalty)
    functions = named_functions("make_step", {} if metrics is None else metrics)
    for name in ("loss", "skipped"):
        require(name not in dict(functions), "make_step", "metrics with other names", name, "it is reported anyway")
    compiler.validate(compiler_options)
    return Step(layer, loss, extended(optimizer), penalty, functions, compiler_options)


def require_state(where: str, train_state: Any) -> None:
    """Refuse what is no TrainState, and one whose arrays an earlier step took."""
    if not isinstance(train_state, TrainState):
        fix = "pass the one that the last step returned"
        raise InputError(where, "a TrainState with live arrays", str(type(train_state)), fix)
    require_alive(where, train_state, "a TrainState")


def _checked(train_state: TrainState, batch: tuple[Any, ...]) -> tuple[Any, ...]:
    require_state("step", train_state)
    x, labels, _ = split_batch("step", batch)
    return train_state, x, labels
