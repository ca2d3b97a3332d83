"""Which rows of a rule's tables its cases make run: a row that no case reaches has not been checked."""

from collections.abc import Sequence

import jax

from fnn.check.arrays import is_float, pull, split
from fnn.core.implementation import Implementation, Product, observed
from fnn.core.rule import Rule

_PLATFORMS = {"gpu": ("cuda", "rocm")}  # of a backend, where they have other names


def rows_reached(rule: Rule, numbers: Sequence[int]) -> set[tuple[Product, Implementation]]:
    """The rows, with their tables, of the programs that these cases' forward and backward passes are, on any platform.

    Nothing is run.
    """
    with observed() as seen:
        for i in numbers:
            floats, put = split(rule.cases[i].sample(i))
            operation = rule.of(rule.cases[i])

            def flat(floats: tuple, put=put, operation=operation) -> tuple:
                return tuple(y for y in jax.tree.leaves(operation(*put(floats))) if is_float(y))

            jax.eval_shape(lambda floats, flat=flat: pull(flat)(floats, flat(floats)), floats)
    return seen


def remarks_on(rule: Rule, numbers: Sequence[int]) -> tuple[str, ...]:
    """A sentence on each row of the user's that no case reaches, or that runs elsewhere."""
    foreign = [(table, row) for table in rule.products for row in table.rows if row.name in table.foreign]
    if not foreign:
        return ()
    reached, lines, here = rows_reached(rule, numbers), [], jax.default_backend()
    for table, row in foreign:
        if row.platform and row.platform not in _PLATFORMS.get(here, (here,)):
            lines.append(f"row {row.name!r} of {table.name} was not run here: it is for {row.platform}")
        elif (table, row) not in reached:
            how = f'force it: with fnn.gradients({{"{rule.name}": "{row.name}"}}): ...'
            lines.append(f"row {row.name!r} of {table.name} was not checked: no case that ran reaches it; {how}")
    return tuple(lines)
