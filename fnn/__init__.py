"""Neural networks as plain JAX functions, with backward rules written by hand and proven."""

from fnn import ops as ops
from fnn.core.combinators import concat as concat
from fnn.core.combinators import identity as identity
from fnn.core.combinators import parallel as parallel
from fnn.core.combinators import remat as remat
from fnn.core.combinators import repeat as repeat
from fnn.core.combinators import residual as residual
from fnn.core.combinators import serial as serial
from fnn.core.errors import InputError as InputError
from fnn.core.layer import Layer as Layer
from fnn.core.layer import lift as lift
from fnn.core.rule import Rule as Rule
from fnn.core.rule import gradients as gradients
from fnn.core.rule import rules as rules
from fnn.layers.dense import dense as dense
