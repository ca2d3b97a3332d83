"""Check a rule: anyone's, a registered one, or all of them."""

import difflib
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import jax

from fnn.check.report import Report, Suite
from fnn.check.rule.examine import CHECKS, SLOW, examine
from fnn.check.rule.reach import has_foreign, remarks_on
from fnn.check.tolerance import allowed, is_number
from fnn.core.alive import of_live_arrays
from fnn.core.errors import index_of, integer, require, require_flag
from fnn.core.implementation import Watch, observed
from fnn.core.placement import placement
from fnn.core.rule import Rule, rules
from fnn.core.words import described


@of_live_arrays
def check_vjp(
    f: Callable,
    *args: Any,
    reference: Callable | None = None,
    checks: str | Sequence[str] | None = None,
    skip: str | Sequence[str] = (),
    seed: int = 0,
    name: str | None = None,
    quick: bool = False,
    tolerance: float | None = None,
    seconds: float | None = 60.0,
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
      tolerance: how far values and gradients may be off, relative to their largest entries, beyond what rounding
        explains: 1e-5 for a solver that stops there. None leaves it to rounding, and to what a few more iterations do
        to the result of a `while_loop`.
      seconds: after which no further check is begun, nor one that is expected to end later; the report lists what was
        left out. None sets no limit.

    A derivative that is meant to differ from that of the function (straight-through, clipped or reversed gradients) is
    wrong. To check its code all the same, pass as `reference` the function with the derivative that is meant, made with
    `stop_gradient`, and skip "differences", "coordinates", "jacobian" and "kinks"; for clipping "linear", too.

    Returns:
      A `Report`, whose `verdict` is "right", "wrong", or "not checked": f raises, is not differentiable for JAX (a
      `while_loop` without a rule), has no float in or out, or has no derivative at this point: where slopes meet and
      the automatic derivative, none of them, is what the rule gives. Only the first is true. Print it, or `assert` it;
      `raise_if_wrong()` raises with the whole report.

    Raises:
      InputError: f is not callable, a check's name is unknown, a negative seed, tolerance or time. What goes wrong
        inside f is a verdict.

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
    seed = _seed("check_vjp", seed)
    wanted = _wanted("check_vjp", checks, skip, quick)
    ok = seconds is None or (is_number(seconds) and seconds > 0)
    require(ok, "check_vjp", "seconds > 0", repr(seconds), "pass a number, or None for no limit")
    name = name or str(getattr(f, "__name__", type(f).__name__))
    auto = reference if reference is not None else f
    options: dict[str, Any] = {
        "checks": wanted,
        "seed": seed,
        "quick": quick,
        "tolerance": allowed("check_vjp", tolerance),
    }
    return examine(name, f, args, auto=auto, dissolve=True, reference=reference, seconds=seconds, **options)


def assert_vjp(f: Callable, *args: Any, **options: Any) -> None:
    """Raise unless `check_vjp(f, *args)` holds: the one line that a test of a rule needs.

    Args:
      f, *args: as for `check_vjp`.
      **options: as for `check_vjp`; an unknown one is a TypeError.

    Raises:
      GradientError: the gradient is wrong; the message is the report.
      NotCheckedError: it could not be checked; the report says why.

    >>> import jax.numpy as jnp, fnn
    >>> assert_vjp(fnn.ops.gelu, jnp.linspace(-3.0, 3.0, 7), quick=True)
    """
    check_vjp(f, *args, **options).raise_if_wrong()


def check_rule(
    name: str | Rule,
    *,
    cases: Sequence[int] | None = None,
    checks: str | Sequence[str] | None = None,
    skip: str | Sequence[str] = (),
    dtype: str = "float32",
    seed: int = 0,
    quick: bool = False,
    tolerance: float | None = None,
) -> Suite:
    """Check a registered rule on its cases: one `Report` a case.

    The plain form is the automatic derivative, and its convention at kinks and ties is binding; every transformation
    must be supported. What runs op by op ("jit") is tried on the first two cases alone. The end of the report names the
    rows that were added to the rule's tables (`Rule.add`) and did not run.

    Args:
      name: one of `fnn.rules()`, by its name or the rule itself.
      cases: their numbers; all by default, two with `quick`.
      dtype: of the arguments: "float32", "bfloat16", "float16" or "float64". Differences are taken in float64 always.
      checks, skip, seed, quick, tolerance: as for `check_vjp`; time has no limit.

    Raises:
      InputError: an unknown rule, case, dtype or check.

    >>> bool(check_rule("relu", quick=True))
    True
    """
    rule, start = rule_of("check_rule", name), time.perf_counter()
    count = len(rule.cases)
    given = range(count) if cases is None else _each(cases)
    numbers: list[Any] = [index_of(i) for i in given or ()]
    ok = bool(numbers) and all(i is not None and 0 <= i < count for i in numbers)
    require(ok, "check_rule", f"a list of case numbers below {count}", described(cases), "choose others: cases=[0, 2]")
    ok = dtype in DTYPES
    require(ok, "check_rule", f"a dtype among {list(DTYPES)}", repr(dtype), "choose one of these")
    seed = _seed("check_rule", seed)
    wanted = _wanted("check_rule", checks, skip, quick)
    if quick and cases is None:
        numbers = numbers[:QUICK_CASES]
    room = allowed("check_rule", tolerance)
    with observed() if has_foreign(rule) else nullcontext(Watch()) as watch:
        reports = tuple(_check_case(rule, i, wanted, dtype, seed, quick, room) for i in numbers)
    return Suite(rule.name, reports, time.perf_counter() - start, remarks_on(rule, watch))


def check_all(
    *,
    names: str | Rule | Sequence[str | Rule] | None = None,
    checks: str | Sequence[str] | None = None,
    skip: str | Sequence[str] = (),
    dtype: str = "float32",
    seed: int = 0,
    quick: bool = False,
    tolerance: float | None = None,
    progress: Callable[[Suite], None] | None = None,
) -> Suite:
    """Check every registered rule, one `Suite` a rule.

    Args:
      names: the rules, by their names or themselves; all by default.
      checks, skip, dtype, seed, quick, tolerance: as for `check_rule`.
      progress: called with the `Suite` of each rule when it is done.

    Raises:
      InputError: an unknown rule, dtype or check.

    >>> str(check_all(names=["relu"], quick=True)).splitlines()[-1].startswith("all rules: right, in 2 calls")
    True
    """
    chosen = list(rules()) if names is None else _each(names)
    require(bool(chosen), "check_all", "a list of rules, one at least", described(names), "leave names out for all")
    start, suites = time.perf_counter(), []
    checks, skip = checks if checks is None else _each(checks), _each(skip)  # each rule reads them anew
    options: dict[str, Any] = {
        "checks": checks,
        "skip": skip,
        "dtype": dtype,
        "seed": seed,
        "quick": quick,
        "tolerance": tolerance,
    }
    for name in chosen:
        suites.append(check_rule(name, **options))
        if progress is not None:
            progress(suites[-1])
    return Suite("all rules", tuple(suites), time.perf_counter() - start)


QUICK_CASES = 2
# Op by op every primitive compiles for itself, a sixth of all time; a rule that fails there fails on its first cases.
_EAGER_CASES = 2
DTYPES = ("float32", "bfloat16", "float16", "float64")


def _check_case(
    rule: Rule, i: int, checks: tuple[str, ...], dtype: str, seed: int, quick: bool, tolerance: float
) -> Report:
    case = rule.cases[i]
    if i >= _EAGER_CASES and len(checks) > 1:
        checks = tuple(check for check in checks if check != "jit")
    with jax.enable_x64(dtype == "float64"):
        args = tuple(case.sample(seed + i, dtype))
    with placement("single"):
        return examine(
            f"{rule.name}, case {i}",
            rule.of(case),
            args,
            auto=partial(rule.forward, case.spec),
            reference=partial(rule.reference, case.spec),
            strict=True,
            checks=checks,
            seed=seed + i,
            quick=quick,
            tolerance=tolerance,
        )


def rule_of(where: str, rule: str | Rule) -> Rule:
    """The registered rule of a name; a rule itself as it is."""
    known = rules()
    if not isinstance(rule, Rule) and not (isinstance(rule, str) and rule in known):
        close = difflib.get_close_matches(str(rule), known, n=5, cutoff=0.4)
        close += [other for other in known if str(rule) in other and other not in close]
        fix = f"did you mean {' or '.join(map(repr, close))}?" if close else "name a registered rule"
        require(False, where, f"a rule, or its name: one of {sorted(known)}", described(rule), fix)
    return rule if isinstance(rule, Rule) else known[rule]


def _seed(where: str, seed: Any) -> int:
    return integer(where, "seed", seed, 0, 2**32 - 1, fix="choose another")


def _wanted(where: str, checks: Any, skip: Any, quick: bool) -> tuple[str, ...]:
    require_flag(where, "quick", quick)
    default = [c for c in CHECKS if not (quick and c in SLOW)]
    chosen, left_out = (_each(given) for given in (default if checks is None else checks, skip))
    for given, names in ((checks, chosen), (skip, left_out)):
        require(names is not None, where, "a list of checks", described(given), 'pass checks=["linear"]')
    unknown = [c for c in (*chosen, *left_out) if c not in CHECKS]
    require(not unknown, where, f"checks among {list(CHECKS)}", unknown, "choose from fnn.check.CHECKS")
    left = tuple(c for c in chosen if c not in left_out)
    require(len(left) > 0, where, "at least one check", "all of them skipped", "leave some in")
    return left


def _each(names: Any) -> Any:
    """What was passed as a list; one name, or rule, by itself as a list of it; None for what is neither."""
    if isinstance(names, str | Rule):
        return [names]
    try:
        return list(names)
    except TypeError:  # no list at all, or an array without axes
        return None
