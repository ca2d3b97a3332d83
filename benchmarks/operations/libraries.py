"""`build`: an operation, a library and a variant make a program. PyTorch is imported for its first program."""

from benchmarks.operations.in_fnn import InFnn
from benchmarks.operations.zoo import OPERATIONS, Operation


def build(operation: str | Operation, library: str, variant: str):
    """The program of an operation, or of the name of one, for `benchmarks.timing.worker`."""
    operation = OPERATIONS[operation] if isinstance(operation, str) else operation
    if library == "torch":
        from benchmarks.operations.in_torch import InTorch

        return InTorch(operation, variant)
    return InFnn(operation, variant)
