"""The operations in fnn, by hand or automatically: alone, in the body of a loop, and in a branch."""

import time
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from benchmarks.operations.zoo import Operation
from benchmarks.timing.fingerprint import fingerprint
from fnn import ops, train


@dataclass(frozen=True)
class Costs:
    """Temporary memory and fingerprint of a program; None where there is nothing to ask."""

    temp_bytes: int | None = None
    program: str | None = None


def in_loop(step, given, trips):
    """`trips` steps in the body of a loop; what the last one returns, of the shapes of its arguments.

    The arguments are multiplied by a 1 that only the run knows, or the compiler would take the step out of the loop.
    What a step returns is not given to the next: XLA would copy all of it in every step. Where it does not merge that
    product with what follows, it costs a step one more reading of its arguments.
    """

    def body(_, carried):
        one, _ = carried
        return one * one, step(*jax.tree.map(lambda a: a * one.astype(a.dtype), given))

    one = jnp.minimum(trips, 1).astype(jnp.float32)
    return jax.lax.fori_loop(0, trips, body, (one, given))[1]


def in_branch(step, given, trips):
    """`trips` steps, 0 or 1, as a branch that is chosen when the program runs."""
    return jax.lax.cond(trips > 0, step, lambda *given: given, *given)


PLACES = {"in a loop": in_loop, "in a branch": in_branch}
TRIPS = 8  # of a loop a turn: what enters and leaves it is copied once
LONG_SECONDS = 0.2  # what takes longer in a loop or a branch ran once, when it was compared, and does not run again


class InFnn:
    """The operation in fnn: `variant` is "hand" or "auto", and what may follow after a comma.

    "defaults" compiles without any option. "in a loop" and "in a branch" compute output and gradients in the body of a
    loop, whose number of trips is known only when it runs (as XLA sees `lax.scan` and `while_loop`), and in a branch of
    `lax.cond`.
    """

    def __init__(self, operation: Operation, variant: str):
        self._arguments = {name: jnp.asarray(a, operation.dtype) for name, a in operation.data().items()}
        self._inputs = (tuple(self._arguments.values()), tuple(map(jnp.asarray, operation.fixed.values())))
        function = partial(getattr(ops, operation.op), **operation.options)

        def output(*arguments):
            y = function(*arguments)
            return y[0] if isinstance(y, tuple) else y  # the statistics of batch norm get no gradient

        def run(arguments, fixed, dy):
            y, pull = jax.vjp(lambda *given: output(*given, *fixed), *arguments)
            return y, pull(dy)

        def placed(arguments, fixed, dy, trips):
            dy, arguments = PLACES[self._place](lambda dy, given: run(given, fixed, dy), (dy, arguments), trips)
            return dy, arguments

        self._mode, _, self._place = variant.partition(", ")
        self._seconds, self._trips = None, ()
        with fnn.gradients(self._mode):
            shape = jax.eval_shape(output, *self._inputs[0], *self._inputs[1]).shape
        self._inputs = (*self._inputs, jnp.asarray(operation.cotangent(shape), operation.dtype))
        self._waits = jax.default_backend() == "cpu"
        options = {} if self._place == "defaults" else train.compiler_options()
        if self._place in PLACES:
            self._trips = (1,)
        self._jitted = jax.jit(placed if self._trips else run, compiler_options=options or None)
        self._compiled = self._costs = None

    def prepare(self) -> Costs:
        """Compile, once."""
        if self._compiled is None:
            with fnn.gradients(self._mode):
                self._compiled = self._jitted.lower(*self._inputs, *self._trips).compile()
            memory = self._compiled.memory_analysis()
            temporary = None if memory is None else memory.temp_size_in_bytes
            self._costs = Costs(temporary, fingerprint(self._compiled.as_text()))
        return self._costs

    def first(self) -> tuple[float, dict[str, np.ndarray]]:
        """Mean size of the output; the output and the gradients by name."""
        self.prepare()
        start = time.perf_counter()
        y, gradients = jax.block_until_ready(self._compiled(*self._inputs, *self._trips))
        self._seconds = time.perf_counter() - start
        found = {"output": y, **dict(zip(self._arguments, gradients, strict=True))}
        return float(jnp.abs(y).mean()), {name: np.asarray(a, np.float32) for name, a in found.items()}

    def run(self, steps: int) -> float:
        """Seconds of that many evaluations: on a CPU each is waited for, on a GPU all are sent before."""
        if self._trips and self._seconds > LONG_SECONDS:
            return steps * self._seconds
        trips = TRIPS if self._place == "in a loop" else 1
        start = time.perf_counter()
        for _ in range(steps):
            found = self._compiled(*self._inputs, *(trips for _ in self._trips))
            if self._waits:
                jax.block_until_ready(found)
        jax.block_until_ready(found)
        return (time.perf_counter() - start) / trips
