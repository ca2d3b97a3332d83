"""Training: a state, a step, evaluation, and a loop over any batches.

init_state                    parameters, model state, optimiser state, step counter and key of a run
TrainState                    these five
make_step                     a compiled step of gradient descent with any optax optimiser
Step                          what that returns
fit                           epochs of steps, with progress, evaluation, callbacks and a history
Event                         what a callback is told
NonFiniteLoss                 what ends a run whose numbers are no longer finite
save                          write a tree of arrays to one file, whole or not at all
load                          read it, bit for bit
evaluate                      means of metrics over all examples
compiler_options              XLA's options that make a step faster on CPU
keep_memory                   let the C library keep the memory that a step frees
"""

from fnn.core.names import listed as _listed
from fnn.train.compiler import compiler_options as compiler_options
from fnn.train.evaluate import evaluate as evaluate
from fnn.train.loop import Event as Event
from fnn.train.loop import NonFiniteLoss as NonFiniteLoss
from fnn.train.loop import fit as fit
from fnn.train.memory import keep_memory as keep_memory
from fnn.train.save import load as load
from fnn.train.save import save as save
from fnn.train.step import Step as Step
from fnn.train.step import TrainState as TrainState
from fnn.train.step import init_state as init_state
from fnn.train.step import make_step as make_step

__all__ = _listed(__doc__)
