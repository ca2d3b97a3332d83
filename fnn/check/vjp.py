"""Check a rule: anyone's, a registered one, or all of them."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax

from fnn.check.examine import CHECKS, SLOW, examine
from fnn.check.report import Report, Suite
from fnn.core.errors import require, require_flag
from fnn.core.rule import Rule, rules


def check_vjp(
    f: Callable,
    *args: Any,
    reference: Callable | None = None,
    checks: Sequence[str] | None = None,
    skip: Sequence[str] = (),
    seed: int = 0,
    name: str | None = None,
    quick: bool = False,
) -> Report:
    """Check the reverse-mode derivative of a function at a point: true if it is right.

    Three derivatives are compared: the one by hand (what `jax.vjp` of f returns), JAX's own (f with every `custom_vjp`
    and `custom_jvp` in it dissolved), and finite differences in float64. Nothing about f needs to be known: any pytrees
    in and out; float leaves are differentiated, integers, keys and all else are held fixed and listed.

    Args:
      f: the function; `jax.custom_vjp`, fnn's rules, or anything made of them.
      *args: the point. Small arrays (up to a few thousand numbers) are checked in seconds.
      reference: the same function without the rule, differentiable by JAX, if f is not: a host callback, say.
      checks: names from `fnn.check.CHECKS`; all by default.
      skip: names to leave out.
      seed: of random directions and cotangents.
      name: for the report; f's own by default.
      quick: fewer directions, and no transformations but vmap.

    Returns:
      A `Report`. Print it, or `assert` it; `raise_if_wrong()` raises with the whole report.

    Raises:
      InputError: f is not callable, a check's name is unknown, a negative seed. What goes wrong inside f is a verdict.

    >>> import jax, jax.numpy as jnp
    >>> @jax.custom_vjp
    ... def square(x):
    ...     return x**2
    >>> square.defvjp(lambda x: (x**2, x), lambda x, dy: (dy * x,))  # forgot the 2
    >>> report = check_vjp(square, jnp.arange(1.0, 4.0), quick=True)
    >>> bool(report), report.diagnosis
    (False, ('x: the gradient is 0.5 times the true one.',))
    """
    require(callable(f), "check_vjp", "a function f(*args)", type(f).__name__, "pass the function, then its arguments")
    ok = reference is None or callable(reference)
    require(ok, "check_vjp", "a function reference(*args)", type(reference).__name__, "pass a function or None")
    wanted = _wanted("check_vjp", checks, skip, seed, quick)
    name = name or getattr(f, "__name__", type(f).__name__)
    auto = reference if reference is not None else f
    options = {"checks": wanted, "seed": seed, "quick": quick}
    return examine(name, f, args, auto=auto, dissolve=True, reference=reference, **options)


def assert_vjp(f: Callable, *args: Any, **options: Any) -> None:
    """Raise unless `check_vjp(f, *args)` holds: the one line that a test of a rule needs.

    Args:
      f, *args: as for `check_vjp`.
      **options: as for `check_vjp`; an unknown one is a TypeError.

    Raises:
      GradientError: the gradient is wrong; the message is the report.

    >>> import jax.numpy as jnp, fnn
    >>> assert_vjp(fnn.ops.gelu, jnp.linspace(-3.0, 3.0, 7), quick=True)
    """
    check_vjp(f, *args, **options).raise_if_wrong()


def check_rule(
    name: str,
    *,
    cases: Sequence[int] | None = None,
    checks: Sequence[str] | None = None,
    skip: Sequence[str] = (),
    dtype: str = "float32",
    seed: int = 0,
    quick: bool = False,
) -> Suite:
    """Check a registered rule on its cases: one `Report` a case.

    The plain form is the automatic derivative, and its convention at kinks and ties is binding; every transformation
    must be supported. What runs op by op ("jit") is tried on the first two cases alone.

    Args:
      name: one of `fnn.rules()`.
      cases: their numbers; all by default, two with `quick`.
      dtype: of the arguments: "float32", "bfloat16", "float16" or "float64". Differences are taken in float64 always.
      checks, skip, seed, quick: as for `check_vjp`.

    Raises:
      InputError: an unknown rule, case, dtype or check.

    >>> bool(check_rule("relu", quick=True))
    True
    """
    known = rules()
    ok = isinstance(name, str) and name in known
    require(ok, "check_rule", f"a rule among {sorted(known)}", repr(name), "name a registered rule")
    rule, start = known[name], time.perf_counter()
    numbers = range(len(rule.cases)) if cases is None else cases
    ok = all(isinstance(i, int) and 0 <= i < len(rule.cases) for i in numbers)
    ok = ok and len(numbers) > 0
    require(ok, "check_rule", f"case numbers below {len(rule.cases)}, one at least", list(numbers), "choose others")
    ok = dtype in DTYPES
    require(ok, "check_rule", f"a dtype among {list(DTYPES)}", repr(dtype), "choose one of these")
    wanted = _wanted("check_rule", checks, skip, seed, quick)
    if quick and cases is None:
        numbers = range(min(len(rule.cases), QUICK_CASES))
    reports = tuple(_check_case(rule, i, wanted, dtype, seed, quick) for i in numbers)
    return Suite(name, reports, time.perf_counter() - start)


def check_all(
    *,
    names: Sequence[str] | None = None,
    checks: Sequence[str] | None = None,
    skip: Sequence[str] = (),
    dtype: str = "float32",
    seed: int = 0,
    quick: bool = False,
    progress: Callable[[Suite], None] | None = None,
) -> Suite:
    """Check every registered rule, one `Suite` a rule.

    Args:
      names: the rules; all by default.
      checks, skip, dtype, seed, quick: as for `check_rule`.
      progress: called with the `Suite` of each rule when it is done.

    Raises:
      InputError: an unknown rule, dtype or check.

    >>> str(check_all(names=["relu"], quick=True)).splitlines()[-1].startswith("all rules: right, in 2 calls")
    True
    """
    require(names is None or len(names) > 0, "check_all", "at least one rule", "none", "leave names out for all")
    start, suites = time.perf_counter(), []
    for name in rules() if names is None else names:
        suites.append(check_rule(name, checks=checks, skip=skip, dtype=dtype, seed=seed, quick=quick))
        if progress is not None:
            progress(suites[-1])
    return Suite("all rules", tuple(suites), time.perf_counter() - start)


QUICK_CASES = 2
# Op by op every primitive compiles for itself, a sixth of all time; a rule that fails there fails on its first cases.
_EAGER_CASES = 2
DTYPES = ("float32", "bfloat16", "float16", "float64")


def _check_case(rule: Rule, i: int, checks: tuple[str, ...], dtype: str, seed: int, quick: bool) -> Report:
    case = rule.cases[i]
    if i >= _EAGER_CASES:
        checks = tuple(check for check in checks if check != "jit")
    with jax.enable_x64(dtype == "float64"):
        args = tuple(case.sample(seed + i, dtype))
    return examine(
        f"{rule.name}, case {i}",
        partial(rule, case.spec),
        args,
        auto=partial(rule.forward, case.spec),
        reference=partial(rule.reference, case.spec),
        strict=True,
        checks=checks,
        seed=seed + i,
        quick=quick,
    )


def _wanted(where: str, checks: Sequence[str] | None, skip: Sequence[str], seed: int, quick: bool) -> tuple[str, ...]:
    require_flag(where, "quick", quick)
    ok = isinstance(seed, int) and 0 <= seed < 2**32
    require(ok, where, "a seed from 0 to 2**32 - 1", repr(seed), "choose another")
    chosen = tuple(c for c in CHECKS if not (quick and c in SLOW)) if checks is None else tuple(checks)
    unknown = sorted({*chosen, *skip} - set(CHECKS), key=str)
    require(not unknown, where, f"checks among {list(CHECKS)}", unknown, "choose from fnn.check.CHECKS")
    left = tuple(c for c in chosen if c not in skip)
    require(len(left) > 0, where, "at least one check", "all of them skipped", "leave some in")
    return left
