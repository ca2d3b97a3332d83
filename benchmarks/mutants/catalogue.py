"""All mutants, by name."""

import dataclasses
import functools

from benchmarks.mutants import losses, norms, operators, pointwise, spatial, special
from benchmarks.mutants.mutant import Break, Condition, Mutant, answering, computes, saving
from fnn.core.rule import Rule, rules

# Found by running them: nothing tells these from the rule.
EQUIVALENT = {
    "sigmoid/residuals of -x": "y (1 - y) is the same for y = sigmoid(x) and for 1 - y = sigmoid(-x)",
    "tanh/residuals of -x": "(1 - y)(1 + y) is the same for y and for -y = tanh(-x)",
}


@functools.cache
def mutants() -> dict[str, Mutant]:
    """All mutants by name, those of one rule together.

    >>> mutants()["dropout/fresh mask"].what
    'the backward draws another mask'
    """
    found = [*operators.generic(), *special.generic()]
    for family in (spatial, norms, pointwise, losses):
        for rule, name, kind, what, broken, *applies in family.FORMULAS:
            found.append(formula(rules()[rule], name, kind, what, broken, *applies))
    found = [dataclasses.replace(m, equivalent=EQUIVALENT.get(m.name, "")) for m in found]
    order = {name: i for i, name in enumerate(rules())}
    found.sort(key=lambda m: order[m.rule])
    named = {m.name: m for m in found}
    assert len(named) == len(found), sorted({m.name for m in found if [n.name for n in found].count(m.name) > 1})
    return named


def formula(rule: Rule, name: str, kind: str, what: str, broken: Break, applies: Condition | None = None) -> Mutant:
    """A mutant made by hand, one row of a family's table."""
    both = (lambda spec, args: computes(spec, args) and applies(spec, args)) if applies else computes
    fwd, bwd = saving(rule), answering(rule, broken)
    return Mutant(name=f"{rule.name}/{name}", rule=rule.name, kind=kind, what=what, fwd=fwd, bwd=bwd, applies=both)
