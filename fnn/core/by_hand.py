"""The operation that a forward and a backward pass by hand make, and the context that says who differentiates."""

import dataclasses
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn.core.errors import InputError
from fnn.core.implementation import forced
from fnn.core.placement import Placement, current_placement, placement
from fnn.core.sharding import align
from fnn.core.storage import NOTHING, Storage, Switch, current_switch, declared, restored, switched
from fnn.core.words import outline

Mode = str  # "hand", "auto", or the name of an implementation


@dataclasses.dataclass(frozen=True)
class Modes:
    """Who differentiates: `default`, except for the rules named in `named`."""

    default: Mode = "hand"
    named: tuple[tuple[str, Mode], ...] = ()

    def of(self, rule: str) -> Mode:
        """The mode of the rule of this name."""
        return dict(self.named).get(rule, self.default)


# A user context is part of the key of every jit and trace cache: a function compiled in one mode never runs in another.
modes = jax.make_user_context(Modes())


class _Call(NamedTuple):
    """A spec, and what held when the operation was called: the backward pass may be traced after the block's end."""

    spec: Hashable
    arguments: int  # how many
    implementation: str
    placement: Placement
    switch: Switch

    @contextmanager
    def again(self) -> Iterator[None]:
        with forced(self.implementation), placement(self.placement), switched(self.switch):
            yield


def by_hand(
    fwd: Callable[..., Any], bwd: Callable[..., Any], storage: Storage = NOTHING, name: str = ""
) -> Callable[..., Any]:
    """The operation `(spec, *args) -> output` that these two make, fit for `shard_map`; nothing is registered.

    Args:
      fwd, bwd: as of a Rule.
      storage: what is kept and what computed again.
      name: whose implementations `gradients` may force.
    """

    def forward(call: _Call, *args: Any) -> tuple[Any, Any]:
        args = tuple(jnp.asarray(a) if isinstance(a, float) else a for a in args)  # as `jax.grad` hands over a number
        with call.again():
            came = fwd(call.spec, *args)
            if not (isinstance(came, tuple) and len(came) == 2):
                fix = "write return y, residuals"
                raise InputError(f"rule {name!r}", "fwd to return a pair (output, residuals)", outline(came), fix)
            return declared(storage, args, *came)

    def backward(call: _Call, residuals: Any, cotangent: Any) -> Any:
        with call.again():
            came = bwd(call.spec, restored(storage, residuals), cotangent)
            if not (isinstance(came, tuple | list) and len(came) == call.arguments):
                expected = f"bwd to return a tuple of {call.arguments}, one cotangent an argument"
                raise InputError(
                    f"rule {name!r}", expected, outline(came), "write (dx,), with None where there is none"
                )
            return came

    hand = jax.custom_vjp(lambda call, *args: forward(call, *args)[0], nondiff_argnums=(0,))
    hand.defvjp(forward, backward)

    def operation(spec: Hashable, *args: Any) -> Any:
        mode = modes.value.of(name)
        implementation = "" if mode in ("hand", "auto") else mode
        return hand(_Call(spec, len(args), implementation, current_placement(), current_switch()), *align(*args))

    return operation
