"""Several exact ways to compute one thing: a short table of them, and the choice among its rows."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax

from fnn.core.errors import InputError, require, require_flag, require_function
from fnn.core.mapped import unless_mapped
from fnn.core.placement import Placement, current_placement, placement
from fnn.core.sizes import fixed, known
from fnn.core.words import described

_ASKED_FOR_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")  # as JAX calls them where it lowers a program

# The name that `fnn.gradients` forces on the rule whose forward or backward pass is being traced; "" for none.
_forced = jax.make_user_context("")
_watch = jax.make_user_context(None)  # what `observed` gives, or None


@contextmanager
def forced(name: str) -> Iterator[None]:
    """Products asked for inside the block are computed by rows of this name, where they fit; "": as the tables say."""
    with _forced(name):
        yield


class Watch:
    """The choices that were made inside a block of `observed`, each with its table."""

    def __init__(self) -> None:
        self.seen: list[tuple[Product, dict[str, Implementation]]] = []

    def run_on(self, platform: str) -> set[tuple["Product", "Implementation"]]:
        """The rows, with their tables, that ran on one of `PLATFORMS`."""
        return {(table, choices.get(platform, choices[""])) for table, choices in self.seen}


@contextmanager
def observed() -> Iterator[Watch]:
    """Watch which rows are chosen inside the block, by this thread, for checkers; all jitted functions trace anew."""
    watch = Watch()
    with _watch(watch):  # a part of jit's key, and no older block's
        yield watch


def anything(spec: Any, *args: Any) -> bool:
    """Every call."""
    return True


def nothing() -> str:
    """Nothing is missing."""
    return ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Implementation:
    """A row of a table: one exact way to compute a product of a rule.

    Args:
      name: how `fnn.gradients({"conv": name})` and reports call it.
      run: `(spec, *args) -> result`, all that the product's other rows return: tree, shapes, dtypes and meaning.
      when: `(spec, *args) -> bool`, decided from shapes and dtypes: whether the table takes this row. Where a size is
        symbolic and the answer depends on it, it does not.
      fits: `(spec, *args) -> bool`: whether `run` can compute this at all; asked where the row is forced.
      platform: the one on which it counts, of `PLATFORMS`; "" for all.
      measured: which measurement says that it is worth its row.
      missing: `() -> str`: what is missing here, a library or a device, in words; "" for nothing. With words the table
        skips the row, and forcing it is refused with them. Without, a row for one platform can be forced on others.
      alone: whether `vmap` over the second argument alone, one array shared by many, had better map the last row.

    Raises:
      InputError: an empty name, one that `fnn.gradients` has ("hand", "auto"), a platform that JAX does not have, what
        is no function.
    """

    name: str
    run: Callable[..., Any]
    when: Callable[..., bool] = anything
    fits: Callable[..., bool] = anything
    platform: str = ""
    measured: str = ""
    missing: Callable[[], str] = nothing
    alone: bool = False

    def __post_init__(self) -> None:
        ok = isinstance(self.name, str) and self.name not in ("", "hand", "auto")
        fix = "call it by what it does; hand and auto are taken"
        require(ok, "Implementation", "a name, a string", described(self.name), fix)
        where = f"Implementation {self.name!r}"
        ok = self.platform in ("", *PLATFORMS)
        expected = f"a platform of {', '.join(PLATFORMS)}, or none for all"
        require(ok, where, expected, described(self.platform), "write one row for each platform")
        for name in ("run", "when", "fits"):
            require_function(where, name, getattr(self, name), "spec", "...")
        require_function(where, "missing", self.missing)
        require(isinstance(self.measured, str), where, "measured, words", described(self.measured), "leave it out")
        require_flag(where, "alone", self.alone)

    def holds(self, condition: str, spec: Any, *asks: Any) -> bool:
        """What `when` or `fits` says, where the sizes tell.

        Raises:
          InputError: it asked for values, which no program knows while it is traced.
        """
        try:
            with _noted(self.name, condition):
                return known(getattr(self, condition), spec, *asks)
        except _ASKED_FOR_VALUES as error:
            where, expected = f"Implementation {self.name!r}", f"{condition} to decide from shapes and dtypes"
            fix = "look at x.shape and x.dtype alone; what needs values belongs inside run"
            raise InputError(where, expected, "a question about traced values", fix) from error

    def lacks(self) -> str:
        """What is missing here, "" for nothing."""
        words = self.missing()
        fix = 'return "" where nothing is missing'
        require(isinstance(words, str), f"Implementation {self.name!r}", "words of missing()", described(words), fix)
        return words


class Product:
    """One result that a rule needs, computed on each platform by the first row of a table that holds there.

    Args:
      name: "fwd", "bwd", or what a rule calls its parts.
      rows: the table. The last row holds always and everywhere: it is the plain form.
    """

    def __init__(self, name: str, *rows: Implementation):
        self.name = name
        self.rows = rows
        self.foreign: frozenset[str] = frozenset()  # names of rows from outside: what they return is looked at

    def add(self, row: Implementation) -> None:
        """Put a row on top, in the place of an older one of its name; the last row's name is its own."""
        last = self.rows[-1].name
        fix = "call it by what it does"
        where = f"Implementation {row.name!r}"
        require(row.name != last, where, "another name than the last row's", row.name, fix)
        require_function(where, "run", row.run, *_arguments_of(self.rows[-1].run))
        self.rows = (row, *(old for old in self.rows if old.name != row.name))
        self.foreign |= {row.name}

    def remove(self, name: str) -> None:
        """Take the rows of a name out, but for the last."""
        *rows, last = self.rows
        self.rows = (*(row for row in rows if row.name != name), last)

    def __call__(self, spec: Any, *args: Any, asks: tuple[Any, ...] | None = None, **like: Any) -> Any:
        """Compute it.

        Args:
          spec: static options.
          args: arrays.
          asks: what decides, if not `args`: of these only shapes and dtypes count.
          like: further arguments of `run` of which only shape, dtype and sharding count.
        """
        asks = args if asks is None else asks
        like = jax.eval_shape(lambda **like: like, **like)  # a program must not hold arrays of which it reads the shape
        runs = {}
        for platform, row in self.choices(spec, *asks).items():
            if row.name in self.foreign and row is not self.rows[-1]:
                self._require_alike(row, spec, args, like)
            runs[platform] = self._run(row, spec, like)
        default = runs.pop("")
        return lax.platform_dependent(*args, default=default, **runs) if runs else default(*args)

    def choices(self, spec: Any, *asks: Any) -> dict[str, Implementation]:
        """The row taken on each platform; "" for all that are not named. A forced row counts on all of them."""
        found = self._choices(spec, *asks)
        if _watch.value is not None:
            _watch.value.seen.append((self, found))
        return found

    def _choices(self, spec: Any, *asks: Any) -> dict[str, Implementation]:
        if _forced.value:
            named = (row for row in self.rows if row.name == _forced.value and row.holds("fits", spec, *asks))
            return {"": next(named, self.rows[-1])}
        sizes = [n for a in jax.tree.leaves(asks) for n in np.shape(a)[1:]]
        found: dict[str, Implementation] = {}
        for row in self.rows:
            # Forms for one platform calculate with sizes: those behind the batch must be numbers.
            possible = row.platform not in found and (not row.platform or fixed(*sizes))
            if possible and row.holds("when", spec, *asks) and not row.lacks():
                found[row.platform] = row
                if not row.platform:
                    break
        return {p: row for p, row in found.items() if not p or row is not found[""]}

    def chosen(self, spec: Any, *asks: Any, platform: str = "cpu") -> Implementation:
        """The row that counts on a platform."""
        choices = self.choices(spec, *asks)
        return choices.get(platform, choices[""])

    def _run(self, row: Implementation, spec: Any, like: dict[str, Any]) -> Callable[..., Any]:
        run = partial(row.run, spec, **like)
        if not row.alone:
            return run
        # Both may be traced when the program is lowered, after the blocks that hold now.
        here, plain = (current_placement(), _forced.value), partial(self._last, spec, **like)
        return partial(unless_mapped, partial(_within, *here, run), partial(_within, *here, plain))

    @property
    def _last(self) -> Callable[..., Any]:
        return self.rows[-1].run

    def _require_alike(self, row: Implementation, spec: Any, args: tuple[Any, ...], like: dict[str, Any]) -> None:
        def returned(run: Callable[..., Any]) -> Any:
            with _noted(row.name, self.name):
                shapes = jax.eval_shape(partial(run, spec, **like), *args)
            return jax.tree.map(lambda a: f"{a.dtype}{list(a.shape)}", shapes)

        came, want = returned(row.run), returned(self._last)
        fix = "return the tree, shapes and dtypes that the plain form returns"
        require(bool(came == want), f"implementation {row.name!r}", f"{self.name} to return {want}", came, fix)


@contextmanager
def _noted(name: str, what: str) -> Iterator[None]:
    """Say of an error that leaves the block where it comes from."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in {what} of the implementation {name!r}")
        raise


def _arguments_of(run: Callable[..., Any]) -> tuple[str, ...]:
    """The names of the arguments that it takes by position; "spec" and "..." where their number may vary."""
    try:
        parameters = inspect.signature(run).parameters.values()
    except (TypeError, ValueError):  # some functions written in C have none
        return ("spec", "...")
    ok = all(p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty for p in parameters)
    return tuple(p.name for p in parameters) if ok else ("spec", "...")


def _within(where: Placement, name: str, run: Callable[..., Any], *args: Any) -> Any:
    with placement(where), forced(name):
        return run(*args)


def lacking(products: tuple[Product, ...], name: str) -> str:
    """Why no row of this name can run here; "" where one can."""
    reasons = [row.lacks() for product in products for row in product.rows if row.name == name]
    return "" if "" in reasons else "; ".join(dict.fromkeys(reasons))
