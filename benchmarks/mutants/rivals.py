"""One interface for all checkers: fnn.check, `jax.test_util.check_grads` and `torch.autograd.gradcheck`.

A checker is a function of a `Call` that returns what it found wrong, "" if nothing. All get the same functions at the
same points; the rivals get more than their users have: integers, keys and absent arguments are held fixed for them, and
gradcheck reaches JAX through a bridge: a `torch.autograd.Function` in float64 whose forward and backward are jitted.
"""

import dataclasses
import importlib.util
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from benchmarks.mutants.mutant import Mutant
from fnn.check.arrays import is_float, split
from fnn.check.finding import first_line
from fnn.check.rule.examine import examine
from fnn.check.rule.vjp import check_vjp
from fnn.core.cases import Case
from fnn.core.placement import placement
from fnn.core.rule import Rule, gradients


@dataclasses.dataclass(frozen=True)
class Call:
    """A function at a point.

    Attributes:
      name: of the call.
      f: the function with the derivative in question, of positional pytrees.
      sample: `dtype -> args`.
      auto, reference: the same function by other means, for a registered rule; None for a user's.
    """

    name: str
    f: Callable
    sample: Callable[[Any], list]
    auto: Callable | None = None
    reference: Callable | None = None


def call_of(rule: Rule, i: int, case: Case, f: Callable, change: Callable | None = None) -> Call:
    """A case of a rule as `fnn.check.check_rule` runs it; `change` of the arguments takes the textbook formula away."""

    def sample(dtype: Any) -> list:
        args = case.sample(i, jnp.dtype(dtype))
        return change(args) if change else args

    reference = None if change else partial(rule.reference, case.spec)
    auto = partial(rule.forward, case.spec)

    def operation(*args: Any) -> Any:
        asked = gradients({rule.name: case.implementation}) if case.implementation else nullcontext()
        with asked, placement("single"):
            return f(case.spec, *args)

    return Call(f"{rule.name}, case {i}", operation, sample, auto, reference)


def calls_of(mutant: Mutant, rule: Rule) -> list[tuple[int, Call]]:
    """A mutant on all cases that can show it."""
    operation = mutant.operation()
    return [(i, call_of(rule, i, case, operation)) for i, case in mutant.cases()]


def fnn_check(call: Call) -> str:
    """The checker of this library."""
    args = tuple(call.sample("float32"))
    if call.auto is None:
        report = check_vjp(call.f, *args, name=call.name, seconds=None)
    else:
        report = examine(call.name, call.f, args, auto=call.auto, reference=call.reference, strict=True, first=True)
    bad = [f for f in report.findings if f.verdict in ("FAIL", "CANNOT")]
    return "; ".join(f"{f.check} {f.leaf}: {f.detail}" for f in bad[:1])


def _check_grads(call: Call, dtype: str) -> str:
    with jax.enable_x64(dtype == "float64"):
        try:
            floats, f = floats_of(call.f, call.sample(dtype))
            check_grads(f, floats, order=1, modes=["rev"])
        except Exception as error:  # whatever it is, the user sees a failing test
            return first_line(error)
    return ""


def _gradcheck(call: Call, fast: bool) -> str:
    import torch

    with jax.enable_x64(True):
        try:
            floats, f = floats_of(call.f, call.sample("float64"))
            inputs = [torch.tensor(np.asarray(a), requires_grad=True) for a in floats]
            torch.autograd.gradcheck(bridge(f), inputs, fast_mode=fast)
        except Exception as error:
            return first_line(error)
    return ""


CHECKERS: dict[str, Callable[[Call], str]] = {
    "fnn.check": fnn_check,
    "check_grads float32": partial(_check_grads, dtype="float32"),
    "check_grads float64": partial(_check_grads, dtype="float64"),
}
if importlib.util.find_spec("torch") is not None:
    CHECKERS["gradcheck slow"] = partial(_gradcheck, fast=False)
    CHECKERS["gradcheck fast"] = partial(_gradcheck, fast=True)


def floats_of(f: Callable, args: list) -> tuple[tuple, Callable]:
    """The floating leaves, and f of them with all else held fixed."""
    floats, join = split(args)
    return tuple(floats), lambda *floats: f(*join(floats))


def bridge(f: Callable) -> Callable:
    """A JAX function of float64 arrays as one of torch tensors, differentiated by its own VJP."""
    import torch

    forward = jax.jit(lambda *a: [y for y in jax.tree.leaves(f(*a)) if is_float(y)])

    @jax.jit
    def backward(arrays: list, cotangents: list) -> tuple:
        return jax.vjp(lambda *a: [y for y in jax.tree.leaves(f(*a)) if is_float(y)], *arrays)[1](cotangents)

    class Bridged(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *tensors):
            ctx.arrays = [t.detach().numpy() for t in tensors]
            outputs = tuple(torch.from_numpy(np.array(y)) for y in forward(*ctx.arrays))
            return outputs if len(outputs) > 1 else outputs[0]

        @staticmethod
        def backward(ctx, *cotangents):
            grads = backward(ctx.arrays, [c.numpy() for c in cotangents])
            return tuple(torch.from_numpy(np.array(g)) for g in grads)

    return Bridged.apply
