"""Proof that the checker has teeth: broken rules that it must catch, and right ones that it must not accuse."""

from fnn.check.mutate.mutants import Mutant as Mutant
from fnn.check.mutate.mutants import mutants as mutants
