"""Does the rule survive what people do to functions: each transformation against the plain gradient there."""

from collections.abc import Callable, Iterator
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from fnn.check.arrays import pull
from fnn.check.finding import Finding, Verdict, first_line
from fnn.check.rule.numeric import Numeric
from fnn.check.rule.oracles import program_of
from fnn.check.rule.subject import GIVEN, Arrays, Subject
from fnn.check.tolerance import Row, conclude, largest, largest_gap
from fnn.core.placement import Placement, placement
from fnn.core.program import equations

# Exact in every precision, and small enough that what is positive, normalised or definite stays so.
_SECOND = (1 + 1 / 32, 1 - 1 / 32)


def check_jit(numeric: Numeric) -> Iterator[Finding]:
    """Compiled against op by op."""
    subject = numeric.subject
    if not subject.compiled:
        yield Finding("jit", "note", detail="the function cannot be compiled: it looks at values; checked op by op")
        return
    eager = subject.run(GIVEN, pull(subject.functions["hand"]), subject.given, subject.cotangents(0, GIVEN))
    compiled = subject.gradients("hand", GIVEN)
    yield from _conclude("jit", numeric, compiled, eager, "compiled against op by op")


def check_placement(numeric: Numeric) -> Iterator[Finding]:
    """The program for a batch on several devices against that for one device, where they differ."""
    subject = numeric.subject
    if not subject.compiled:
        return
    compiled, point = subject.gradients("hand", GIVEN), (subject.given, subject.cotangents(0, GIVEN))
    programs = set()
    for where in get_args(Placement):
        with placement(where):
            programs.add(subject.in_precision(GIVEN, program_of, subject))
    if len(programs) > 1:
        with placement("sharded"):
            elsewhere = subject.pull("hand", GIVEN, *point)
        yield from _conclude("placement", numeric, elsewhere, compiled, "as for a batch on several devices")
    else:
        yield Finding("placement", "pass", detail="the same program on one device and on several")


def check_vmap(numeric: Numeric) -> Iterator[Finding]:
    """Two points at once against one after the other."""
    subject, (points, dys) = numeric.subject, _two(numeric.subject)
    each = [subject.pull("hand", GIVEN, *one) for one in zip(points, dys, strict=True)]
    run = jax.jit(jax.vmap(pull(subject.functions["hand"])))
    yield from _try("vmap", numeric, lambda: subject.run(GIVEN, run, _stack(points), _stack(dys)), _stack(each))


def check_remat(numeric: Numeric) -> Iterator[Finding]:
    """Under `jax.checkpoint`."""
    subject = numeric.subject
    run = jax.jit(pull(jax.checkpoint(subject.functions["hand"])))
    args = subject.given, subject.cotangents(0, GIVEN)
    yield from _try("remat", numeric, lambda: subject.run(GIVEN, run, *args), subject.gradients("hand", GIVEN))


def check_scan(numeric: Numeric) -> Iterator[Finding]:
    """Inside a scan over two points, differentiated through the scan."""
    subject, (points, dys) = numeric.subject, _two(numeric.subject)
    f = subject.functions["hand"]
    each = [subject.pull("hand", GIVEN, *one) for one in zip(points, dys, strict=True)]
    run = jax.jit(pull(lambda floats: lax.map(f, floats)))
    yield from _try("scan", numeric, lambda: subject.run(GIVEN, run, _stack(points), _stack(dys)), _stack(each))


def check_shard_map(numeric: Numeric) -> Iterator[Finding]:
    """On two devices: the first leaf differs between them, the others are shared and sum their gradients."""
    subject = numeric.subject
    if len(jax.devices()) < 2:
        fix = 'one device; jax.config.update("jax_num_cpu_devices", 2) before the first computation gives more'
        yield Finding("shard_map", "skip", detail=fix)
        return
    if subject.given[0].size == 0:
        yield Finding("shard_map", "skip", detail="the first leaf is empty: nothing differs between devices")
        return
    f = subject.functions["hand"]
    program = subject.in_precision(GIVEN, jax.make_jaxpr(f), subject.given)
    if not subject.strict and any("callback" in eqn.primitive.name for eqn in equations(program.jaxpr)):
        yield Finding("shard_map", "skip", detail="it calls back to the host")
        return
    points, dys = _two(subject)
    points = points[0], (points[1][0], *points[0][1:])
    each = [subject.pull("hand", GIVEN, *one) for one in zip(points, dys, strict=True)]
    gradients = [np.stack([grads[0] for _, grads in each])]
    gradients += [np.sum([grads[i].astype(np.float64) for _, grads in each], 0) for i in range(1, len(subject.given))]
    gradients = [g.astype(a.dtype) for g, a in zip(gradients, subject.given, strict=True)]
    mesh = jax.make_mesh((2,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    split, whole = PartitionSpec("devices"), PartitionSpec()

    def local(first: Any, rest: tuple) -> tuple:
        return tuple(y[None] for y in f((first[0], *rest)))

    spread = jax.shard_map(local, mesh=mesh, in_specs=(split, whole), out_specs=split)
    run = jax.jit(pull(lambda floats: spread(floats[0], floats[1:])))
    stacked = np.stack([point[0] for point in points]), *points[0][1:]
    want = tuple(_stack([y for y, _ in each])), tuple(gradients)
    yield from _try("shard_map", numeric, lambda: subject.run(GIVEN, run, stacked, _stack(dys)), want)


def check_grad_of_grad(numeric: Numeric) -> Iterator[Finding]:
    """Reverse mode through the backward rule: the gradient of <u, J'(x) dy> in x and in dy."""
    yield from _second_order("grad_of_grad", numeric)


def check_jvp_of_grad(numeric: Numeric) -> Iterator[Finding]:
    """Forward mode through the backward rule: how the gradient moves with x and with dy."""
    yield from _second_order("jvp_of_grad", numeric)


def _grad_of_grad(f: Callable) -> Callable:
    return lambda x, dy, u, v, w: jax.vjp(lambda x, dy: pull(f)(x, dy)[1], x, dy)[1](u)


def _jvp_of_grad(f: Callable) -> Callable:
    return lambda x, dy, u, v, w: jax.jvp(lambda x, dy: pull(f)(x, dy)[1], (x, dy), (v, w))[1]


_SECOND_ORDER = {"grad_of_grad": _grad_of_grad, "jvp_of_grad": _jvp_of_grad}


def check_cotangents(numeric: Numeric) -> Iterator[Finding]:
    """Shapes and dtypes as the arguments have them; one leaf alone, and one output alone, give the same as all."""
    subject = numeric.subject
    for path, kind in subject.held:
        yield Finding("cotangents", "skip", path, f"{kind}: held fixed, it has no gradient")
    ys, grads = subject.gradients("hand", GIVEN)
    for path, a, g in zip(subject.paths, subject.given, grads, strict=True):
        if a.shape != g.shape or a.dtype != g.dtype:
            detail = f"bwd returns {g.dtype}{g.shape} for an argument {a.dtype}{a.shape}: cast it to that dtype"
            yield Finding("cotangents", "FAIL", path, detail)
            return
    f = subject.functions["hand"]

    def alone(floats: tuple, dy: tuple) -> tuple:
        def one(i: int) -> Any:
            return jax.vjp(lambda leaf: f((*floats[:i], leaf, *floats[i + 1 :])), floats[i])[1](dy)[0]

        return f(floats), tuple(one(i) for i in range(len(floats)))

    args = subject.given, subject.cotangents(0, GIVEN)
    run = subject.jit(alone)
    yield from _try("cotangents", numeric, lambda: subject.run(GIVEN, run, *args), (ys, grads), "each leaf alone")
    if len(ys) > 1:  # the others hand the rule symbolic zeros

        def partly(floats: tuple, dy: tuple) -> tuple:
            y, back = jax.vjp(lambda floats: f(floats)[0], floats)
            return (y,), back(dy[0])[0]

        zeros = (args[1][0], *(np.zeros_like(d) for d in args[1][1:]))
        want = (ys[0],), subject.pull("hand", GIVEN, subject.given, zeros)[1]
        run = subject.jit(partly)
        yield from _try("cotangents", numeric, lambda: subject.run(GIVEN, run, *args), want, "one output alone")
    scalars = [i for i, a in enumerate(subject.given) if a.ndim == 0 and a.dtype == np.float32]
    if scalars:  # a Python number has a weak type, and so has its gradient

        def weak(*numbers: Any) -> tuple:
            floats: list[Any] = list(subject.given)
            for i, number in zip(scalars, numbers, strict=True):
                floats[i] = jnp.asarray(number)
            return pull(f)(tuple(floats), args[1])

        weakly = [float(subject.given[i]) for i in scalars]
        yield from _try("cotangents", numeric, lambda: subject.run(GIVEN, weak, *weakly), (ys, grads), "weak types")


def _second_order(check: str, numeric: Numeric) -> Iterator[Finding]:
    subject = numeric.subject
    point, dy = subject.at(subject.fine), subject.cotangents(0, subject.fine)
    u = _like(subject.gradients("hand", subject.fine)[1], subject.seed)
    args = point, dy, u, _like(point, subject.seed), _like(dy, subject.seed + 1)
    if not (subject.has_auto and subject.compiled):
        yield from _by_differences(check, numeric, args)
        return

    def run(mode: str, args: tuple) -> Any:
        """Both orders from one program, as they share most of it; one alone where the other is not supported."""
        f = subject.functions[mode]
        try:
            if mode not in numeric.programs:
                numeric.programs[mode] = jax.jit(lambda *a: {name: g(f)(*a) for name, g in _SECOND_ORDER.items()})
            return subject.run(subject.fine, numeric.programs[mode], *args)[check]
        except Exception:
            return subject.run(subject.fine, jax.jit(_SECOND_ORDER[check](f)), *args)

    want = run("auto", args)
    moved = run("auto", (tuple((a * (1 + 2.0**-50)).astype(a.dtype) for a in point), *args[1:]))
    # Terms as large as the cotangents may have cancelled on the way.
    floor = 8 * subject.eps * max(map(largest, (*u, *dy)), default=0.0)
    pairs = zip(*map(jax.tree.leaves, (want, moved)), strict=True)
    noise = [largest_gap(a, b) + floor for a, b in pairs]
    found = list(_try(check, numeric, lambda: run("hand", args), want, "", noise))
    wrong = not subject.strict and any(finding.verdict == "FAIL" for finding in found)
    if wrong and any(numeric.meets_kink(i) for i in range(len(subject.given))):
        found = [Finding(check, "note", detail="the point lies at kinks, where second derivatives do not exist")]
    yield from found


def _by_differences(check: str, numeric: Numeric, args: tuple) -> Iterator[Finding]:
    """The rule's gradient, differenced along one direction, against its own derivative."""
    subject = numeric.subject
    if check == "grad_of_grad":
        yield Finding(check, "skip", detail="without a form that JAX can differentiate, jvp_of_grad judges")
        return
    if subject.fine != "float64":
        yield Finding(check, "skip", detail="differences of the gradient need float64")
        return
    x, dy, _, v, w = args
    h = 1e-5

    def at(s: float) -> Arrays:
        there = [tuple((a + s * h * b).astype(a.dtype) for a, b in zip(*p, strict=True)) for p in ((x, v), (dy, w))]
        return subject.pull("hand", subject.fine, *there)[1]

    up, down, up2, down2 = (at(s) for s in (1, -1, 2, -2))
    want = tuple((8 * (a - b) - (c - d)) / (12 * h) for a, b, c, d in zip(up, down, up2, down2, strict=True))
    noise = [float(np.max(np.abs((a - b) / (2 * h) - t), initial=0.0)) for a, b, t in zip(up, down, want, strict=True)]
    unsolved = subject.unsolved[1] if subject.unsolved else (0.0,) * len(up)
    peaks = [max(largest(a) * 1e-16 / h, n, u / h) for a, n, u in zip(up, noise, unsolved, strict=True)]
    run = subject.jit(_jvp_of_grad(subject.functions["hand"]))
    tried = _try(check, numeric, lambda: subject.run(subject.fine, run, *args), want, "against differences", peaks)
    found = list(tried)
    if any(finding.verdict == "FAIL" for finding in found) and any(map(numeric.meets_kink, range(len(x)))):
        found = [Finding(check, "note", detail="the point lies at kinks, where second derivatives do not exist")]
    yield from found


def _try(
    check: str, numeric: Numeric, run: Callable, want: Any, detail: str = "", noise: list[float] | None = None
) -> Iterator[Finding]:
    """Compare, or say that the transformation is not supported: wrong for a registered rule, a remark for others."""
    try:
        got = run()
    except Exception as error:
        verdict: Verdict = "FAIL" if numeric.subject.strict else "note"
        yield Finding(check, verdict, detail=f"{detail + ': ' if detail else ''}not supported: {first_line(error)}")
        return
    yield from _conclude(check, numeric, got, want, detail, noise)


def _conclude(
    check: str, numeric: Numeric, got: Any, want: Any, detail: str, noise: list[float] | None = None
) -> Iterator[Finding]:
    subject = numeric.subject
    got, want = jax.tree.leaves(got), jax.tree.leaves(want)
    first = check not in ("grad_of_grad", "jvp_of_grad")
    if noise is None and first:
        noise = [*subject.noise(GIVEN)[0], *subject.noise(GIVEN)[1]][-len(want) :]
    noises = [0.0] * len(want) if noise is None else noise
    names = list(subject.paths)
    names = [f"output {i}" for i in range(len(want) - len(names))] + names if first else names * 2
    rows = []
    for name, g, w, n in zip(names, got, want, noises, strict=False):
        if g.shape != w.shape or g.dtype != w.dtype:
            yield Finding(check, "FAIL", name, f"{g.dtype}{g.shape} instead of {w.dtype}{w.shape}")
            return
        rows.append(Row(name, largest_gap(g, w), subject.limit(w, largest(w), 2 * n), detail))
    yield from conclude(check, rows, "nothing to compare")


def _two(subject: Subject) -> tuple[tuple[Arrays, Arrays], tuple[Arrays, Arrays]]:
    """Two points, the second nearby and in the domain, and a cotangent for each."""
    dy = subject.cotangents(1, GIVEN)
    for factor in (*_SECOND, 1.0):
        second = tuple((a * factor).astype(a.dtype) for a in subject.given)
        found = subject.pull("hand", GIVEN, second, dy)
        if not any(np.isnan(a).any() for part in found for a in part):
            break
    return (subject.given, second), (subject.cotangents(0, GIVEN), dy)


def _stack(trees: Any) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _like(arrays: Arrays, seed: int) -> Arrays:
    rng = np.random.default_rng([seed, 6])
    return tuple((rng.integers(4, 13, a.shape) / 8 * rng.choice([-1.0, 1.0], a.shape)).astype(a.dtype) for a in arrays)
