"""Training: a state, a step, evaluation, and a loop over any batches."""

from fnn.train.compiler import compiler_options as compiler_options
from fnn.train.evaluate import evaluate as evaluate
from fnn.train.loop import Event as Event
from fnn.train.loop import NonFiniteLoss as NonFiniteLoss
from fnn.train.loop import fit as fit
from fnn.train.memory import keep_memory as keep_memory
from fnn.train.save import load as load
from fnn.train.save import save as save
from fnn.train.step import TrainState as TrainState
from fnn.train.step import init_state as init_state
from fnn.train.step import make_step as make_step
