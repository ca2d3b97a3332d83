"""Broken variants of the registered rules: each one a bug that somebody has made, or will.

A mutant is a rule with one thing wrong: `Back` holds one call of the backward pass, and a `Break` answers it wrongly.
The generic ones of `operators` go over all rules and their arguments; those in `spatial`, `norms` and `pointwise` break
one formula each. Names read "rule/what went wrong".
"""

import dataclasses
import functools
import inspect
import math
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from fnn.check.arrays import is_float, split
from fnn.core.by_hand import by_hand
from fnn.core.cases import Case
from fnn.core.program import depends
from fnn.core.rule import Rule, rules


@dataclasses.dataclass(frozen=True)
class Back:
    """One call of a backward pass.

    Attributes:
      rule, spec, args: of the call; the arguments are at hand whatever the rule itself saves.
      residuals, dy: what the rule saved, and the cotangent.
    """

    rule: Rule
    spec: Any
    args: tuple
    residuals: Any
    dy: Any

    def grads(self, **changes: Any) -> tuple:
        """The right cotangents, or those for other `residuals` or another `dy`."""
        call = dataclasses.replace(self, **changes)
        return self.rule.bwd(call.spec, call.residuals, call.dy)

    def replaced(self, leaf: int, change: Callable) -> tuple:
        """The right cotangents but for one: `change(cotangent)`."""
        grads = list(self.grads())
        if grads[leaf] is not None:
            grads[leaf] = change(grads[leaf])
        return tuple(grads)


Break = Callable[[Back], tuple]
Condition = Callable[[Any, list], bool]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mutant:
    """A rule with one thing wrong.

    Attributes:
      name: "conv/sign x".
      rule: the name of the rule.
      kind: of bug, the row of the table in which it counts: "sign", "stale", "second order".
      what: what is wrong, in words.
      fwd, bwd: as in `fnn.core.rule.Rule`.
      applies: `(spec, args) -> bool`, whether a case can show it.
      equivalent: why it computes the same as the rule after all; "" for a real bug.
    """

    name: str
    rule: str
    kind: str
    what: str
    fwd: Callable
    bwd: Callable
    applies: Condition = lambda spec, args: True
    equivalent: str = ""

    def operation(self) -> Callable:
        """The broken operation, `(spec, *args) -> output`, by the implementations that `gradients` asks for."""
        return by_hand(self.fwd, self.bwd, name=self.rule)

    def cases(self) -> list[tuple[int, Case]]:
        """The rule's cases that can show it, the smallest first."""
        found = []
        for i, case in enumerate(rules()[self.rule].cases):
            args = shapes_of(self.rule, i)
            if self.applies(case.spec, args):
                found.append((sum(math.prod(a.shape) for a in args if a is not None), i, case))
        return [(i, case) for _, i, case in sorted(found, key=lambda f: f[:2])]


@functools.cache
def shapes_of(rule: str, i: int) -> list:
    """Shapes and dtypes of a case's arguments, None for absent ones."""
    args = rules()[rule].cases[i].sample(0)
    return [None if a is None else jax.ShapeDtypeStruct(a.shape, a.dtype) for a in args]


def chosen(rule: Rule, bug: str, every: int) -> bool:
    """Whether one of `every` rules, to which a bug of a table goes, is this one: by a hash of both names.

    A rule that is registered later changes nothing for the others.
    """
    return number_of(rule, bug) % every == 0


def number_of(rule: Rule, bug: str) -> int:
    """A number that looks random and is the same in every process."""
    return zlib.crc32(f"{rule.name}/{bug}".encode())


def saving(rule: Rule) -> Callable:
    """The rule's fwd, which saves its arguments as well."""

    def fwd(spec: Any, *args: Any) -> tuple:
        y, residuals = rule.fwd(spec, *args)
        return y, (residuals, args)

    return fwd


def answering(rule: Rule, broken: Break) -> Callable:
    """A bwd for `saving(rule)` that answers as `broken` says."""
    return lambda spec, saved, dy: broken(Back(rule, spec, saved[1], saved[0], dy))


def map_floats(change: Callable, tree: Any) -> Any:
    """`change` of every floating array of a tree."""
    return jax.tree.map(lambda a: change(a) if is_float(a) else a, tree)


def leaves_of(rule: Rule) -> list[tuple[int, str]]:
    """Position and name of each argument that has a gradient in some case."""
    names = list(inspect.signature(rule.forward).parameters)[1:]
    count = range(len(rule.cases))
    return [(k, n) for k, n in enumerate(names) if any(is_float(shapes_of(rule.name, i)[k]) for i in count)]


def is_real(rule: Rule, leaf: int) -> bool:
    """Whether an argument may be any number in some case: no label, no probability, no variance."""
    return any(case.draws[leaf].domain == "real" for case in rule.cases)


@functools.cache
def saves_floats(rule: Rule) -> bool:
    """Whether the rule keeps a floating-point array."""
    return any(map(is_float, jax.tree.leaves(_shapes(rule)[1])))


@functools.cache
def saves_arguments(rule: Rule) -> bool:
    """Whether what the rule keeps depends on a floating-point argument."""
    spec, args = rule.cases[0].spec, rule.cases[0].sample(0)
    program = jax.make_jaxpr(lambda *args: rule.fwd(spec, *args)[1])(*args)
    return any(depends(program.jaxpr, [is_float(a) for a in jax.tree.leaves(args)]))


@functools.cache
def varies_with_residuals(rule: Rule) -> bool:
    """Whether the gradient has a derivative in what the rule keeps: after a comparison with it there is none."""
    spec, (y, residuals) = rule.cases[0].spec, _shapes(rule)

    def grads(residuals: Any, dy: Any) -> list:
        return split(rule.bwd(spec, residuals, dy))[0]

    def pulled_back(direction: list, residuals: Any, dy: Any) -> list:
        floats, join = split(residuals)
        return jax.vjp(lambda floats: grads(join(floats), dy), floats)[1](direction)[0]

    direction = jax.eval_shape(grads, residuals, y)
    program = jax.make_jaxpr(pulled_back)(direction, residuals, y)
    marks = [True] * len(direction) + [False] * len(jax.tree.leaves((residuals, y)))
    return any(depends(program.jaxpr, marks))


@functools.cache
def returns_axes(rule: Rule) -> bool:
    """Whether the output is no scalar."""
    return any(leaf.ndim for leaf in jax.tree.leaves(_shapes(rule)[0]))


def _shapes(rule: Rule) -> tuple:
    """Of what `fwd` returns in the first case: output and residuals."""
    return jax.eval_shape(partial(rule.fwd, rule.cases[0].spec), *rule.cases[0].sample(0))


def computes(spec: Any, args: list) -> bool:
    """Cases that compute something from numbers: the first argument, which may be of indices, is not empty."""
    return math.prod(args[0].shape) > 0 and any(is_float(a) and math.prod(a.shape) > 0 for a in args)


def has_entries(leaf: int) -> Condition:
    """Cases in which an argument is there, and not empty."""
    return lambda spec, args: is_float(args[leaf]) and math.prod(args[leaf].shape) > 0
