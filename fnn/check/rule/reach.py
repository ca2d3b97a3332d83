"""Which rows of the user's a check of a rule has run: what it has not run is not checked."""

import jax

from fnn.core.implementation import Watch
from fnn.core.rule import Rule


def has_foreign(rule: Rule) -> bool:
    """Whether somebody has added rows to the rule's tables."""
    return any(table.foreign for table in rule.products)


def remarks_on(rule: Rule, watch: Watch) -> tuple[str, ...]:
    """A sentence on each added row that did not run, and why."""
    here = platform_here()
    ran, lines = watch.run_on(here), []
    for table in rule.products:
        for row in table.rows:
            if row.name not in table.foreign or (table, row) in ran:
                continue
            where, lack = f"row {row.name!r} of {rule.name}'s {table.name}", row.lacks()
            if lack:
                lines.append(f"{where} cannot run here: {lack}")
            elif row.platform not in ("", here):
                lines.append(f"{where} is for {row.platform}, and was not run here")
            else:
                how = f'with fnn.gradients({{"{rule.name}": "{row.name}"}}): fnn.check.check_rule("{rule.name}")'
                lines.append(f"{where} was not checked, no case that ran reaches it; force it: {how}")
    return tuple(lines)


def platform_here() -> str:
    """Where JAX runs by default, as `Implementation` calls it."""
    backend = jax.default_backend()
    for name in ("cuda", "rocm") if backend == "gpu" else ():
        try:
            jax.devices(name)
        except RuntimeError:
            continue
        return name
    return backend
