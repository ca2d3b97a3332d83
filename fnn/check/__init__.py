"""Gradient truth: is a backward rule right, which of many is wrong, and what would tell."""

from fnn.check.audit import Audit as Audit
from fnn.check.audit import audit as audit
from fnn.check.bisect import Bisection as Bisection
from fnn.check.bisect import bisect as bisect
from fnn.check.compare import Comparison as Comparison
from fnn.check.compare import compare as compare
from fnn.check.examine import CHECKS as CHECKS
from fnn.check.explain import Explanation as Explanation
from fnn.check.explain import explain as explain
from fnn.check.lockstep import Lockstep as Lockstep
from fnn.check.lockstep import lockstep as lockstep
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
from fnn.check.timing import time_modes as time_modes
from fnn.check.vjp import assert_vjp as assert_vjp
from fnn.check.vjp import check_all as check_all
from fnn.check.vjp import check_rule as check_rule
from fnn.check.vjp import check_vjp as check_vjp
