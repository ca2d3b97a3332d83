"""A rule is an operation with its derivative written by hand; `gradients` chooses who differentiates."""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.alive import explained
from fnn.core.cases import Case
from fnn.core.errors import InputError, described, require, require_function
from fnn.core.sharding import align

Mode = Literal["hand", "auto"]


@dataclasses.dataclass(frozen=True)
class _Modes:
    """Who differentiates: `default`, except for the rules named in `named`."""

    default: Mode = "hand"
    named: tuple[tuple[str, Mode], ...] = ()

    def of(self, rule: str) -> Mode:
        return dict(self.named).get(rule, self.default)


# A user context is part of the key of every jit and trace cache: a function compiled in one mode never runs in another.
_modes = jax.make_user_context(_Modes())
_registry: dict[str, "Rule"] = {}
_NUMPY = (np.ndarray, np.generic)


def gradients(mode: Mode | Mapping[str, Mode]) -> AbstractContextManager[None]:
    """Choose hand-written or automatic gradients for everything traced or run inside the block.

    Already jitted functions obey too: they are traced once a mode, and going back finds the first compilation again.
    Blocks nest; a mapping changes only the rules it names. The mode belongs to the thread that enters the block: a
    thread started inside begins with the default (`"hand"`), as for every JAX context, and enters a block of its own.
    JAX refuses forward mode alone (`jax.jvp`) through rules by hand; "auto" serves it.

    Args:
      mode: `"hand"`, `"auto"`, or a mapping from rule names (`rules()` has them) to one of the two: `{"conv": "auto"}`.

    Raises:
      InputError: an unknown mode or rule name.

    >>> import jax, fnn
    >>> with fnn.gradients("auto"):
    ...     slope = jax.grad(fnn.ops.relu)(3.0)
    >>> float(slope)
    1.0
    """
    if isinstance(mode, Mapping):
        unknown = sorted(set(mode) - set(_registry), key=str)
        require(
            not unknown,
            "gradients",
            f"a mode for rule names among {sorted(_registry)}",
            unknown,
            "name a registered rule",
        )
        mode = dict(mode)
    for value in mode.values() if isinstance(mode, dict) else (mode,):
        ok = isinstance(value, str) and value in ("hand", "auto")
        require(ok, "gradients", 'mode "hand" or "auto"', described(value), "choose one of the two")
    return _entered(mode)


@contextmanager
def _entered(mode: Mode | dict[str, Mode]) -> Iterator[None]:
    old = _modes.value
    if isinstance(mode, dict):
        new = dataclasses.replace(old, named=tuple(sorted({**dict(old.named), **mode}.items())))
    else:
        new = _Modes(mode)
    with _modes(new):
        yield


def rules() -> dict[str, "Rule"]:
    """All registered rules by name, as a new dict."""
    return dict(_registry)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Rule:
    """An operation `rule(spec, *args) -> output` whose backward pass is written by hand.

    The first argument of every function below is `spec`, one frozen and hashable value that holds the static options
    (None where there are none). Registration happens on construction.

    Args:
      name: how `gradients` and reports call it.
      forward: `(spec, *args) -> output`, the plain JAX form. JAX differentiates it in "auto" mode, so it is the
        baseline of truth and of speed.
      fwd: `(spec, *args) -> (output, residuals)`, the hand-written forward; it also serves calls without a gradient.
      bwd: `(spec, residuals, cotangent) -> cotangents`, a tuple with one entry an argument, each in the dtype of its
        argument; None for integers, keys and absent arguments.
      reference: `(spec, *args) -> output`, the textbook formula in loops, for tests alone.
      cases: arguments that exercise every option; `fnn.core.cases.case` makes one.

    Called on arrays, outside any transformation, `fwd` ("hand") or `forward` ("auto") runs as one compiled program.

    Raises:
      InputError: no cases, what is no function, or another rule already has this name.
    """

    name: str
    forward: Callable
    fwd: Callable
    bwd: Callable
    reference: Callable
    cases: tuple[Case, ...]
    _hand: Callable = dataclasses.field(init=False, repr=False)
    _eager: dict[Mode, Callable] = dataclasses.field(init=False, repr=False)

    def __post_init__(self):
        ok = isinstance(self.name, str) and self.name != ""
        require(ok, "Rule", "a name, a string", described(self.name), 'call it by its operation: name="conv"')
        where = f"Rule {self.name!r}"
        for name in ("forward", "fwd", "reference"):
            require_function(where, name, getattr(self, name), "spec", "...")
        require_function(where, "bwd", self.bwd, "spec", "residuals", "cotangent")
        ok = isinstance(self.cases, Sequence) and all(isinstance(case, Case) for case in self.cases)
        require(ok, where, "a tuple of cases", described(self.cases), "make each with fnn.core.cases.case(spec, shape)")
        object.__setattr__(self, "cases", tuple(self.cases))
        require(len(self.cases) > 0, where, "at least one case", "none", "add cases that exercise every option")
        old = _registry.get(self.name)
        if old is not None and _origin(old.fwd) != _origin(self.fwd):
            raise InputError(where, "a new name", f"one registered by {_origin(old.fwd)[0]}", "choose another name")

        object.__setattr__(self, "_hand", by_hand(self.fwd, self.bwd))
        eager = {"hand": _output_of(self.fwd), "auto": self.forward}
        object.__setattr__(self, "_eager", {mode: jax.jit(f, static_argnums=0) for mode, f in eager.items()})
        _registry[self.name] = self

    def __call__(self, spec: Hashable, *args: Any) -> Any:
        """Run the operation, differentiated as `gradients` says."""
        if type(spec).__hash__ is None:
            fix = "pass a frozen value: a tuple, a frozen dataclass"
            raise InputError(f"rule {self.name!r}", "a hashable spec as first argument", described(spec), fix)
        # Outside jit a NumPy array would bring NumPy's arithmetic along: other promotion, no bfloat16 products.
        args = tuple(jnp.asarray(a) if isinstance(a, _NUMPY) else a for a in args)
        mode = _modes.value.of(self.name)
        if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(args)):
            # Nothing is differentiated: one dispatch instead of one an operation, and the compiler drops the residuals.
            try:
                return self._eager[mode](spec, *args)
            except (RuntimeError, ValueError) as error:
                raise explained(self.name, args, error)  # noqa: B904 - it may be the very error
        return self.forward(spec, *args) if mode == "auto" else self._hand(spec, *args)


def by_hand(fwd: Callable, bwd: Callable) -> Callable:
    """The operation `(spec, *args) -> output` that these two make, fit for `shard_map`; nothing is registered."""

    @functools.wraps(fwd)
    def of_arrays(spec: Hashable, *args: Any) -> Any:  # `jax.grad` hands a Python number over as one
        return fwd(spec, *(jnp.asarray(a) if isinstance(a, float) else a for a in args))

    hand = jax.custom_vjp(_output_of(fwd), nondiff_argnums=(0,))
    hand.defvjp(of_arrays, bwd)
    return lambda spec, *args: hand(spec, *align(*args))


def _origin(f: Callable) -> tuple[str, str]:
    return f.__module__, getattr(f, "__qualname__", repr(f))


def _output_of(fwd: Callable) -> Callable:
    def primal(spec: Hashable, *args: Any) -> Any:
        return fwd(spec, *args)[0]

    return primal
