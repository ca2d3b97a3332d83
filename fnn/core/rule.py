"""A rule is an operation with its derivative written by hand; `gradients` chooses who differentiates."""

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.alive import explained
from fnn.core.by_hand import Mode, Modes, by_hand, modes
from fnn.core.cases import Case, Refusal
from fnn.core.errors import InputError, require, require_function
from fnn.core.implementation import Implementation, Product, lacking
from fnn.core.placement import where_eager
from fnn.core.storage import NOTHING, Storage
from fnn.core.words import described

_registry: dict[str, "Rule"] = {}
_NUMPY = (np.ndarray, np.generic)


def gradients(mode: Mode | Mapping[str, Mode]) -> AbstractContextManager[None]:
    """Choose hand-written or automatic gradients, or an implementation, for everything traced or run inside the block.

    Already jitted functions obey too: they are traced once a mode, and going back finds the first compilation again.
    Blocks nest; a mapping changes only the rules it names. The mode belongs to the thread that enters the block: a
    thread started inside begins with the default (`"hand"`), as for every JAX context, and enters a block of its own.
    JAX refuses forward mode alone (`jax.jvp`) through rules by hand; "auto" serves it.

    Args:
      mode: `"hand"`, `"auto"`, or a mapping from rule names (`rules()` has them) to one of the two, or to one of the
        rule's `implementations`: `{"conv": "winograd"}` computes by hand, and what winograd can compute by that,
        wherever the program runs; what it cannot is left to the plain form.

    Raises:
      InputError: an unknown mode or rule name; an implementation that lacks something here, and what.

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
        for name, value in mode.items():
            _require_mode(value, f" for {name!r}", _registry[name])
    else:
        _require_mode(mode)
    return _entered(mode)


def _require_mode(mode: object, whose: str = "", rule: "Rule | None" = None) -> None:
    names = ("hand", "auto", *(rule.implementations if rule else ()))
    ok = isinstance(mode, str) and mode in names
    listed = ", ".join(f'"{name}"' for name in names[:-1])
    require(ok, "gradients", f'mode{whose} {listed} or "{names[-1]}"', described(mode), "choose one of these")
    reason = lacking(rule.products, str(mode)) if rule else ""
    if reason:
        fix = "leave it out: the tables skip what cannot run"
        raise InputError("gradients", f"an implementation{whose} that can run here", f'"{mode}": {reason}', fix)


@contextmanager
def kept_by_hand(mode: Mode | Mapping[str, Mode]) -> Iterator[None]:
    """As `gradients(mode)`, but "hand" keeps the implementations that are forced outside the block: for checkers."""
    named = tuple((rule, name) for rule, name in modes.value.named if name not in ("hand", "auto"))
    with modes(Modes("hand", named)) if mode == "hand" else gradients(mode):
        yield


@contextmanager
def _entered(mode: Mode | dict[str, Mode]) -> Iterator[None]:
    old = modes.value
    if isinstance(mode, dict):
        new = dataclasses.replace(old, named=tuple(sorted({**dict(old.named), **mode}.items())))
    else:
        new = Modes(mode)
    with modes(new):
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
      kinks: whether slopes meet somewhere; the one that `forward` takes there is the right one.
      refuses: arguments that must raise: pairs (a call without arguments, a regular expression of its message).
      storage: which values the backward pass had better keep, and which compute again.
      products: what `fwd` and `bwd` are made of, each with a table of implementations, where there are several. The two
        themselves always are products: `fwd` and `bwd` are the last rows of tables that `add` lengthens.

    Called on arrays, outside any transformation, `fwd` ("hand") or `forward` ("auto") runs as one compiled program.

    Raises:
      InputError: no cases, what is no function, or another rule already has this name.
    """

    name: str
    forward: Callable[..., Any]
    fwd: Callable[..., Any]
    bwd: Callable[..., Any]
    reference: Callable[..., Any]
    cases: tuple[Case, ...]
    kinks: bool = False
    refuses: tuple[Refusal | tuple[Callable[[], Any], str], ...] = ()
    storage: Storage = NOTHING
    products: tuple[Product, ...] = ()
    _hand: Callable[..., Any] = dataclasses.field(init=False, repr=False)
    _eager: dict[Mode, Any] = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        ok = isinstance(self.name, str) and self.name != ""
        require(ok, "Rule", "a name, a string", described(self.name), 'call it by its operation: name="conv"')
        where = f"Rule {self.name!r}"
        for name in ("forward", "fwd", "reference"):
            require_function(where, name, getattr(self, name), "spec", "...")
        require_function(where, "bwd", self.bwd, "spec", "residuals", "cotangent")
        ok = isinstance(self.cases, Sequence) and all(isinstance(case, Case) for case in self.cases)
        require(ok, where, "a tuple of cases", described(self.cases), "make each with fnn.core.cases.case(spec, shape)")
        object.__setattr__(self, "cases", tuple(self.cases))
        ok = isinstance(self.refuses, Sequence) and all(isinstance(pair, tuple) for pair in self.refuses)
        require(ok, where, "refuses, pairs (call, message)", described(self.refuses), "leave it out, or pass pairs")
        object.__setattr__(self, "refuses", tuple(Refusal(*pair) for pair in self.refuses))
        ok = isinstance(self.products, Sequence) and all(isinstance(product, Product) for product in self.products)
        require(
            ok,
            where,
            "products, a tuple of Product",
            described(self.products),
            "make them with fnn.core.implementation.Product",
        )
        ok = isinstance(self.storage, Storage)
        fix = "leave it out, or make one: fnn.core.storage.Storage(...)"
        require(ok and self.storage.sound(), where, "storage, a Storage", described(self.storage), fix)
        require(len(self.cases) > 0, where, "at least one case", "none", "add cases that exercise every option")
        old = _registry.get(self.name)
        if old is not None and _origin(old.fwd) != _origin(self.fwd):
            raise InputError(where, "a new name", f"one registered by {_origin(old.fwd)[0]}", "choose another name")

        fwd, bwd = (Product(name, Implementation(name="plain", run=getattr(self, name))) for name in ("fwd", "bwd"))
        object.__setattr__(self, "products", (fwd, bwd, *self.products))
        object.__setattr__(self, "_hand", by_hand(fwd, bwd, self.storage, self.name))
        eager = {"hand": self._hand, "auto": self.forward}
        object.__setattr__(self, "_eager", {mode: jax.jit(f, static_argnums=0) for mode, f in eager.items()})
        _registry[self.name] = self

    @property
    def implementations(self) -> tuple[str, ...]:
        """Names of the rows of all its tables that have several, in their order."""
        tables = [product.rows for product in self.products if len(product.rows) > 1]
        return tuple(dict.fromkeys(row.name for rows in tables for row in rows))

    def refuse(self, *pairs: tuple[Callable[..., Any], str]) -> None:
        """Add to `refuses`, where the function that refuses is defined after the rule."""
        object.__setattr__(self, "refuses", (*self.refuses, *(Refusal(*pair) for pair in pairs)))

    def add(self, product: str, row: Implementation) -> None:
        """Put a row on top of a table: from a script, before anything that uses the rule has been compiled.

        It takes the place of a row of the same name. Rules that share a table share the row: `conv` and
        `conv_transpose` do, but for "fwd" and "bwd". To check the row where the cases do not reach it, force it:
        `with fnn.gradients({"conv": "mine"}): fnn.check.check_rule("conv")`.

        Args:
          product: "fwd", "bwd", or another name of `products`. Rows of "fwd" are run with `(spec, *args)` and return
            the output and the residuals of the rule's own `fwd`, alike in tree, shapes and dtypes; rows of "bwd" are
            run with `(spec, residuals, cotangent)`.
          row: the implementation. What it returns is compared in tree, shapes and dtypes whenever it is traced.

        Raises:
          InputError: no such product, no Implementation, one with the name of the table's last row.
        """
        where, names = f"Rule {self.name!r}", [p.name for p in self.products]
        ok = isinstance(product, str) and product in names
        require(ok, where, f"a product of {', '.join(names)}", described(product), "name one of these")
        require(
            isinstance(row, Implementation), where, "an Implementation", described(row), "make one for your function"
        )
        self.products[names.index(product)].add(row)
        self._forget()

    def remove(self, name: str) -> None:
        """Take the rows of an implementation out of all tables, but for their last rows, which compute all.

        Raises:
          InputError: no implementation of this name.
        """
        known = self.implementations
        ok = isinstance(name, str) and name in known
        require(ok, f"Rule {self.name!r}", f"an implementation of {list(known)}", described(name), "name one of these")
        for table in self.products:
            table.remove(name)
        self._forget()

    def _forget(self) -> None:
        """Eager calls compile again: those of all rules that have one of the tables."""
        for rule in _registry.values():
            if any(table in rule.products for table in self.products):
                for compiled in rule._eager.values():
                    compiled.clear_cache()

    def of(self, case: Case) -> Callable[..., Any]:
        """The operation `(*args) -> output` with the options of a case, and by the implementation that it asks for."""

        def operation(*args: Any) -> Any:
            asked = case.implementation and modes.value.of(self.name) == "hand"
            asked = asked and not lacking(self.products, case.implementation)
            with gradients({self.name: case.implementation}) if asked else nullcontext():
                return self(case.spec, *args)

        return operation

    def __call__(self, spec: Hashable, *args: Any) -> Any:
        """Run the operation, differentiated as `gradients` says."""
        if type(spec).__hash__ is None:
            fix = "pass a frozen value: a tuple, a frozen dataclass"
            raise InputError(f"rule {self.name!r}", "a hashable spec as first argument", described(spec), fix)
        # Outside jit a NumPy array would bring NumPy's arithmetic along: other promotion, no bfloat16 products.
        args = tuple(jnp.asarray(a) if isinstance(a, _NUMPY) else a for a in args)
        mode = modes.value.of(self.name)
        if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(args)):
            # Nothing is differentiated: one dispatch instead of one an operation, and the compiler drops the residuals.
            try:
                with where_eager(args):
                    return self._eager["auto" if mode == "auto" else "hand"](spec, *args)
            except (RuntimeError, ValueError) as error:
                raise explained(self.name, args, error)  # noqa: B904 - it may be the very error
        return self.forward(spec, *args) if mode == "auto" else self._hand(spec, *args)


def _origin(f: Callable[..., Any]) -> tuple[str, str]:
    return f.__module__, getattr(f, "__qualname__", repr(f))
