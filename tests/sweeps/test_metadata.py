"""What rules say of themselves: domains of their arguments, kinks, and arguments that they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.check.rule.numeric import Numeric
from fnn.check.rule.oracles import integers
from fnn.check.rule.subject import Subject

RULES = fnn.rules()
CASES = [(name, i) for name, rule in RULES.items() for i in range(len(rule.cases))]
IN_DOMAIN = {
    "real": lambda a: jnp.issubdtype(a.dtype, jnp.floating),
    "positive": lambda a: bool((a > 0).all()),
    "probabilities": lambda a: np.allclose(a.sum(-1), 1, atol=1e-5) or a.size == 0,
    "signs": lambda a: bool((abs(a) == 1).all()),
    "integers": lambda a: jnp.issubdtype(a.dtype, jnp.integer),
    "booleans": lambda a: a.dtype == bool,
    "key": lambda a: jnp.issubdtype(a.dtype, jax.dtypes.prng_key),
    "absent": lambda a: a is None,
}


@pytest.mark.parametrize("name", RULES)
def test_every_argument_is_in_its_domain(name):
    for case in RULES[name].cases:
        for draw, argument in zip(case.draws, case.sample(0), strict=True):
            assert IN_DOMAIN[draw.domain](argument), draw.domain


def kinks_of(name, i):
    """How many entries of a case lie at kinks, at small integers, where ties and zeros are."""
    rule, case = RULES[name], RULES[name].cases[i]
    subject = Subject(rule.of(case), None, None, tuple(case.sample(i)), 0, True)
    subject = Subject(rule.of(case), None, None, tuple(subject.put(integers(subject)[0])), 0, True)
    numeric = Numeric(subject, quick=True)
    return sum(len(numeric.kinks(leaf)) for leaf, a in enumerate(subject.given) if a.size)


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.kinks])
def test_declared_kinks_are_there(name):
    assert any(kinks_of(name, i) for i in range(len(RULES[name].cases)))


@pytest.mark.long
@pytest.mark.parametrize(("name", "i"), [(name, i) for name, i in CASES if not RULES[name].kinks])
def test_there_are_no_others(name, i):
    assert kinks_of(name, i) == 0


@pytest.mark.parametrize("mode", ["hand", "auto"])
@pytest.mark.parametrize("name", RULES)
def test_what_must_be_refused_is(name, mode):
    rule = RULES[name]
    assert rule.refuses or not rule.fwd.__module__.startswith("fnn.")
    for refusal in rule.refuses:
        with fnn.gradients(mode), pytest.raises(fnn.InputError, match=refusal.message):
            refusal.call()
