"""A network in one library as a training step that can be compiled, checked and timed.

What is checked is what is timed: `first` takes one step of the very program that `run` repeats. After the first step of
SGD with momentum the momentum buffer is the gradient itself, so no second program is needed to see it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from benchmarks.networks.weights import Weights, carry_tree, draw_batch, draw_weights, neutral_tree
from benchmarks.networks.zoo import Network

LEARNING_RATE = 1e-3  # every network stays finite for hundreds of steps
SGD_MOMENTUM = 0.9


@dataclass(frozen=True)
class Costs:
    """What a program costs before its first step.

    Attributes:
      trace_seconds: tracing and lowering in Python; None where it cannot be told from compiling.
      compile_seconds: the compiler.
      temp_bytes: temporary memory of one step as the compiler plans it; None where there is no such plan.
      argument_bytes: state and batch; None as above.
    """

    trace_seconds: float | None
    compile_seconds: float
    temp_bytes: int | None = None
    argument_bytes: int | None = None


class Program(Protocol):
    """A training step on one fixed batch, from the weights that all libraries share."""

    def prepare(self) -> Costs:
        """Compile; a second call returns the costs of the first."""
        ...

    def first(self) -> tuple[float, Weights]:
        """Loss and gradients of the first step, by neutral path and in neutral layout; training starts anew."""
        ...

    def run(self, steps: int) -> float:
        """Seconds for that many steps in a row, which carry on from earlier ones; the last result is fetched."""
        ...


class JaxProgram:
    """A `Program` of any JAX library, as one jitted step with a donated state.

    State and step are flat lists of arrays: flax and equinox recommend this where speed counts, since it spares them
    their objects' way in and out of every call (flax: functional training loop; equinox: low-overhead training loops).

    Args:
      network: what is trained.
      step: `(state, x, labels) -> (state, loss)`, to be traced.
      state: before the first step, any pytree of arrays.
      momentum: `state -> tree`, the optimiser's momentum by parameter.
      template: a pytree with slots at the same key paths.
      layout: how the library wants x, and labels that are images.
      tuned: whether to compile with fnn's options for this very program, as fnn's own step is.
    """

    def __init__(
        self,
        network: Network,
        step: Callable,
        state: Any,
        momentum: Callable[[Any], Any],
        template: Any,
        *,
        layout: Callable[[np.ndarray], np.ndarray] = lambda a: a,
        tuned: bool = False,
    ):
        import jax

        leaves, tree = jax.tree.flatten(state)

        def flat(leaves: list, x: jax.Array, labels: jax.Array) -> tuple[list, jax.Array]:
            state, loss = step(jax.tree.unflatten(tree, leaves), x, labels)
            assert jax.tree.structure(state) == tree
            return jax.tree.leaves(state), loss

        self._start = [np.array(leaf) for leaf in leaves]
        self._read = lambda leaves: neutral_tree(template, momentum(jax.tree.unflatten(tree, leaves)))
        self._batch = tuple(jax.device_put(layout(part) if part.ndim > 1 else part) for part in draw_batch(network))
        self._state, self._costs, self._nudge = None, None, network.nudge
        self._jitted = jax.jit(flat, donate_argnums=0)
        if tuned:
            from fnn.train import compiler_options

            options = compiler_options(self._jitted.trace(self._begin(), *self._batch))
            self._jitted = jax.jit(flat, donate_argnums=0, compiler_options=options)

    # What a subclass with a step of its own overrides.

    def _begin(self) -> Any:
        import jax.numpy as jnp

        return [jnp.array(leaf) for leaf in self._start]

    def _lower(self, state: Any) -> Any:
        return self._jitted.lower(state, *self._batch)

    def _call(self, state: Any) -> tuple[Any, Any]:
        return self._jitted(state, *self._batch)

    def prepare(self) -> Costs:
        """As `Program` says."""
        if self._costs is None:
            state = self._begin()
            start = time.perf_counter()
            lowered = self._lower(state)
            traced = time.perf_counter()
            compiled = lowered.compile()  # kept by JAX: the jitted function does not compile again
            done = time.perf_counter()
            plan = compiled.memory_analysis()
            self._costs = Costs(traced - start, done - traced, plan.temp_size_in_bytes, plan.argument_size_in_bytes)
            self._state = state
        return self._costs

    def hlo(self) -> str:
        """The optimised program as text."""
        return self._lower(self._begin()).compile().as_text()

    def first(self, nudge: int | None = None) -> tuple[float, Weights]:
        """As `Program.first`; with a seed `nudge`, every entry of x is first changed by about `network.nudge` of it."""
        self.prepare()
        batch = self._batch
        if nudge is not None:
            noise = np.random.default_rng(nudge).standard_normal(batch[0].shape, np.float32)
            self._batch = (batch[0] * (1 + np.float32(self._nudge) * noise), batch[1])
        state, loss = self._call(self._begin())
        self._batch = batch
        gradient = self._read(state)
        self._state = self._begin()
        return float(loss), gradient

    def run(self, steps: int) -> float:
        """As `Program` says."""
        import jax

        self.prepare()
        state, loss = self._state, None
        start = time.perf_counter()
        for _ in range(steps):
            state, loss = self._call(state)
        value = float(loss)
        jax.block_until_ready(state)
        seconds = time.perf_counter() - start
        self._state = state
        if not np.isfinite(value):
            raise FloatingPointError(f"the loss became {value}; its time would mean nothing")
        return seconds


def peer(
    network: Network,
    template: Any,
    forward: Callable[[Any, Any, Any], tuple[Any, Any]],
    other: Any = (),
    **keywords: Any,
) -> JaxProgram:
    """The step that a user of optax writes, around one library's model.

    Args:
      network: what is trained.
      template: params with slots for arrays.
      forward: `(params, other, x) -> (y, other)`, in training.
      other: the rest of the model's state, such as running averages.
      **keywords: for `JaxProgram`.
    """
    import jax
    import optax

    optimizer = optax.sgd(LEARNING_RATE, SGD_MOMENTUM)

    def objective(params: Any, other: Any, x: jax.Array, labels: jax.Array) -> tuple[jax.Array, Any]:
        if network.dtype == "float32":
            y, other = forward(params, other, x)
        else:  # as fnn's: parameters and x are converted on the way in, y back on the way out
            half = jax.tree.map(lambda leaf: leaf.astype(network.dtype), params)
            y, other = forward(half, other, x.astype(network.dtype))
            y = y.astype(x.dtype)
        if network.classes is None:
            return ((y - labels) ** 2).mean(), other
        return optax.softmax_cross_entropy_with_integer_labels(y, labels).mean(), other

    def step(state: tuple, x: jax.Array, labels: jax.Array) -> tuple[tuple, jax.Array]:
        params, other, opt_state = state
        (loss, other), gradient = jax.value_and_grad(objective, has_aux=True)(params, other, x, labels)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), other, opt_state), loss

    params = carry_tree(template, draw_weights(network))
    state = (params, other, optimizer.init(params))
    return JaxProgram(network, step, state, lambda state: state[2][0].trace, template, **keywords)
