"""What a rule is, on one page: formula, shapes, source, and its backward pass beside the one that JAX derives."""

import inspect
import re
import shutil
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal

from fnn.check.arrays import split
from fnn.check.rule.vjp import rule_of
from fnn.core.errors import index_of, require
from fnn.core.program import bytes_of, equations, inner_programs
from fnn.core.rule import Rule
from fnn.core.words import described

_GAP = " | "
# From `exec`: since Python 3.13 `python -c` keeps its own program under such a name, not that of the function.
_NO_FILES = {"<string>", "<stdin>"}
_NARROWEST = 48  # columns that an equation needs to be read; two of these side by side, or one under the other


@dataclass(frozen=True)
class Backward:
    """One backward pass for one call.

    Attributes:
      jaxpr: its program, from the residuals and the cotangent to the cotangents of the arguments.
      equations: primitive operations in it, those inside calls and loops counted once.
      residual_bytes: memory that the forward pass keeps for it, every array once.
      extra_bytes: the part of it that is neither an argument nor an output of the call, which live anyway.
    """

    jaxpr: ClosedJaxpr
    equations: int
    residual_bytes: int
    extra_bytes: int

    def __str__(self) -> str:
        kept = f"{self.residual_bytes:,} bytes of residuals, {self.extra_bytes:,} beyond arguments and outputs"
        return f"{self.equations} equation{'s' * (self.equations != 1)}; {kept}"


@dataclass(frozen=True)
class Explanation:
    """A rule explained; printed as a page as wide as the terminal.

    Attributes:
      name: of the rule.
      formula: the mathematics, as the module of the rule states it.
      options: the static options of the case.
      shapes: names of arguments and outputs with dtype and shape, such as {"x": "float32[8, 3]"}.
      source: the code of "forward", "fwd" and "bwd", and of the functions they close over.
      hand, auto: the backward pass as written and as JAX derives it from forward.
    """

    name: str
    formula: str
    options: str
    shapes: dict[str, str]
    source: dict[str, str]
    hand: Backward
    auto: Backward

    @property
    def hand_jaxpr(self) -> ClosedJaxpr:
        """The program of the hand-written backward pass."""
        return self.hand.jaxpr

    @property
    def auto_jaxpr(self) -> ClosedJaxpr:
        """The program of the automatic backward pass."""
        return self.auto.jaxpr

    def __str__(self) -> str:
        return self.text(shutil.get_terminal_size().columns)

    __repr__ = __str__

    def text(self, width: int) -> str:
        """The page, `width` characters wide: the two programs stand side by side if there is room."""
        wide = max(map(len, self.shapes), default=0)
        shapes = [f"  {name.ljust(wide)}  {shape}" for name, shape in self.shapes.items()]
        parts = [self.name, "=" * len(self.name), self.formula, "", f"Shapes, for options {self.options}:", *shapes, ""]
        for name, code in self.source.items():
            parts += [f"{name}:", textwrap.indent(code, "  "), ""]
        side = (width - len(_GAP)) // 2
        columns = [
            [f"backward, {who}", *textwrap.wrap(str(one), side), "", *_lines(one.jaxpr, side)]
            for who, one in (("by hand", self.hand), ("automatic", self.auto))
        ]
        if side >= _NARROWEST and max(len(line) for column in columns for line in column) <= side:
            parts += _beside(columns[0], columns[1], side)
        else:
            for who, one in (("by hand", self.hand), ("automatic", self.auto)):
                parts += [f"backward, {who}", str(one), "", *_lines(one.jaxpr, width), ""]
        return "\n".join(parts).rstrip()


def explain(name: str | Rule, *, case: int = 0) -> Explanation:
    """Explain a registered rule: formula, shapes, source, and the hand-written beside the automatic backward pass.

    Args:
      name: one of `fnn.core.rule.rules()`, by its name or the rule itself.
      case: which of the rule's cases gives the shapes.

    Returns:
      An `Explanation`, made to be printed; its parts are attributes.

    Raises:
      InputError: no rule of this name, or no such case.

    >>> relu = explain("relu")
    >>> relu.shapes
    {'x': 'float32[8, 5]', 'output': 'float32[8, 5]'}
    >>> relu.hand.extra_bytes, relu.hand.extra_bytes < relu.auto.extra_bytes
    (0, True)
    """
    rule = rule_of("explain", name)
    count = len(rule.cases)
    n = index_of(case)
    ok = n is not None and 0 <= n < count
    require(ok, "explain", f"a case of {rule.name!r} from 0 to {count - 1}", described(case), "choose another case")
    chosen = rule.cases[n or 0]
    args = chosen.sample(0)
    outputs = jax.eval_shape(partial(rule.forward, chosen.spec), *args)
    return Explanation(
        name=rule.name,
        formula=_formula(rule),
        options=repr(chosen.spec),
        shapes=_shapes(rule, args, outputs),
        source=_source(rule),
        hand=_by_hand(rule, chosen.spec, args),
        auto=_automatic(rule, chosen.spec, args),
    )


def _formula(rule: Rule) -> str:
    """The docstring of the rule's module, and of a module it refers to for the formula."""
    module = sys.modules.get(rule.reference.__module__)  # fwd and bwd may come from a maker of many rules
    text = (inspect.getdoc(module) if module else None) or inspect.getdoc(rule.forward) or inspect.getdoc(rule.bwd)
    if text is None:
        return "(none: state the formula in the docstring of the rule's module)"
    other = re.search(r"formula\s+of\s+`(fnn\.[\w.]+)`", text)
    shared = inspect.getdoc(sys.modules[other[1]]) if other and other[1] in sys.modules else None
    return f"{text}\n\n{other[1]}: {shared}" if other and shared else text


def _shapes(rule: Rule, args: list, outputs: Any) -> dict[str, str]:
    names = list(inspect.signature(rule.forward).parameters)[1:]
    if len(names) != len(args):  # *args, or a wrapped function
        names = [f"argument {i}" for i in range(len(args))]
    shapes = {n: _described(a) for n, a in zip(names, args, strict=True)}
    many = outputs if isinstance(outputs, tuple | list) else None
    named = {f"output {i}": y for i, y in enumerate(many)} if many else {"output": outputs}
    return shapes | {name: _described(y) for name, y in named.items()}


def _described(tree: Any) -> str:
    if tree is None:
        return "None"
    leaves = [f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(tree)]
    return ", ".join(leaves)


def _source(rule: Rule) -> dict[str, str]:
    """The three functions, and those they close over: what `bwd` is made of where a table makes many rules."""
    source = {}
    for kind in ("forward", "fwd", "bwd"):
        function = getattr(rule, kind)
        source[kind] = _code(function)
        within = inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else {}
        for name, inner in within.items():
            if callable(inner) and not any(inner is known for known in (rule.forward, rule.fwd, rule.bwd)):
                source[f"{name}, in {kind}"] = _code(inner)
    return source


def _code(function: Callable) -> str:
    while isinstance(function, partial):
        function = function.func
    try:
        if getattr(getattr(function, "__code__", None), "co_filename", "") in _NO_FILES:
            raise OSError
        return textwrap.dedent(inspect.getsource(function)).strip("\n")
    except (OSError, TypeError):  # written at a prompt, or in C
        return f"({function!r} has no source file)"


def _by_hand(rule: Rule, spec: Any, args: list) -> Backward:
    y, residuals = rule.fwd(spec, *args)
    forward = jax.make_jaxpr(lambda *args: (args, *rule.fwd(spec, *args)))(*args)
    backward = jax.make_jaxpr(partial(rule.bwd, spec))(residuals, jax.tree.map(jnp.ones_like, y))
    return _backward(backward, forward, len(jax.tree.leaves(residuals)))


def _automatic(rule: Rule, spec: Any, args: list) -> Backward:
    def pull_of(*args: Any) -> tuple:
        floats, join = split(args)
        return (args, *jax.vjp(lambda floats: rule.forward(spec, *join(floats)), floats))

    _, y, pull = pull_of(*args)
    forward = jax.make_jaxpr(pull_of)(*args)
    backward = jax.make_jaxpr(lambda pull, dy: pull(dy))(pull, jax.tree.map(jnp.ones_like, y))
    return _backward(backward, forward, len(jax.tree.leaves(pull)))


def _backward(backward: ClosedJaxpr, forward: ClosedJaxpr, kept: int) -> Backward:
    """`forward` returns its arguments, its outputs and, last, `kept` residuals."""
    outs = forward.jaxpr.outvars
    alive = {v for v in outs[: len(outs) - kept] if not isinstance(v, Literal)} | set(forward.jaxpr.invars)
    residuals = {v for v in outs[len(outs) - kept :] if not isinstance(v, Literal)}
    total, extra = (sum(map(bytes_of, part)) for part in (residuals, residuals - alive))
    leaves = sum(not inner_programs(eqn) for eqn in equations(backward.jaxpr))
    return Backward(backward, leaves, total, extra)


def _lines(jaxpr: ClosedJaxpr, width: int) -> list[str]:
    return jaxpr.pretty_print(width=width, use_color=False).splitlines()


def _beside(left: list[str], right: list[str], side: int) -> list[str]:
    height = max(len(left), len(right))
    padded = [column + [""] * (height - len(column)) for column in (left, right)]
    return [f"{a.ljust(side)}{_GAP}{b}".rstrip() for a, b in zip(*padded, strict=True)]
