"""The same networks, weights and batches in fnn and in other libraries, as training steps to compare and to time."""

from benchmarks.networks.agree import Disagreement as Disagreement
from benchmarks.networks.agree import check as check
from benchmarks.networks.libraries import VARIANTS as VARIANTS
from benchmarks.networks.libraries import build as build
from benchmarks.networks.nodes import NotSupported as NotSupported
from benchmarks.networks.program import Costs as Costs
from benchmarks.networks.program import Program as Program
from benchmarks.networks.zoo import NETWORKS as NETWORKS
from benchmarks.networks.zoo import Network as Network
