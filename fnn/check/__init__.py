"""Gradient truth: is a backward rule right, which of many is wrong, and what would tell.

Of one function:

    check_vjp                     is its reverse-mode derivative right? every check, and a diagnosis
    assert_vjp                    the same as one line of a test
    check_rule                    a registered rule on all its cases
    check_all                     all registered rules
    CHECKS                        the names of the checks
    explain                       formula, shapes and source of a rule, JAX's program beside it

Of a model:

    compare                       the gradient of every parameter, by hand, by JAX, by differences
    audit                         every layer by itself: right or wrong, time and memory
    bisect                        which rule is guilty
    lockstep                      does training by hand drift from training by JAX?
    time_modes                    how long a function takes in either mode

Pictures:

    plot_steps                    the V of error against step size
    plot_errors                   where a gradient is wrong
    plot_gradient_norms           the norm of every parameter's gradient, by depth
    plot_lockstep                 how far two trainings are apart

What these return or raise:

    Report                        of one function at one point
    Suite                         of several
    Finding                       of one check
    Leaf                          of one array
    Comparison                    of `compare`
    Audit                         of `audit`
    Bisection                     of `bisect`
    Lockstep                      of `lockstep`
    Explanation                   of `explain`
    GradientError                 of `assert_vjp`, where the gradient is wrong
    NotCheckedError               of `assert_vjp`, where nothing could be checked
"""

from fnn.check.model.audit import Audit as Audit
from fnn.check.model.audit import audit as audit
from fnn.check.model.bisect import Bisection as Bisection
from fnn.check.model.bisect import bisect as bisect
from fnn.check.model.compare import Comparison as Comparison
from fnn.check.model.compare import compare as compare
from fnn.check.model.lockstep import Lockstep as Lockstep
from fnn.check.model.lockstep import lockstep as lockstep
from fnn.check.plots import plot_errors as plot_errors
from fnn.check.plots import plot_gradient_norms as plot_gradient_norms
from fnn.check.plots import plot_lockstep as plot_lockstep
from fnn.check.plots import plot_steps as plot_steps
from fnn.check.report import Finding as Finding
from fnn.check.report import GradientError as GradientError
from fnn.check.report import Leaf as Leaf
from fnn.check.report import NotCheckedError as NotCheckedError
from fnn.check.report import Report as Report
from fnn.check.report import Suite as Suite
from fnn.check.rule.examine import CHECKS as CHECKS
from fnn.check.rule.explain import Explanation as Explanation
from fnn.check.rule.explain import explain as explain
from fnn.check.rule.vjp import assert_vjp as assert_vjp
from fnn.check.rule.vjp import check_all as check_all
from fnn.check.rule.vjp import check_rule as check_rule
from fnn.check.rule.vjp import check_vjp as check_vjp
from fnn.check.timing import time_modes as time_modes

__all__ = [
    "CHECKS",
    "Audit",
    "Bisection",
    "Comparison",
    "Explanation",
    "Finding",
    "GradientError",
    "Leaf",
    "Lockstep",
    "NotCheckedError",
    "Report",
    "Suite",
    "assert_vjp",
    "audit",
    "bisect",
    "check_all",
    "check_rule",
    "check_vjp",
    "compare",
    "explain",
    "lockstep",
    "plot_errors",
    "plot_gradient_norms",
    "plot_lockstep",
    "plot_steps",
    "time_modes",
]
