"""Programs with known faults, for the tests of the benchmark: they compute nothing and say how long it took."""

import os
import time
from dataclasses import dataclass

import numpy as np

from benchmarks.networks.nodes import NotSupported
from benchmarks.timing.worker import ProgramError, run_request, sentence_of


@dataclass
class Costs:
    trace_seconds: float = 0.25
    compile_seconds: float = 0.5
    temp_bytes: int | None = 2**20


class Fake:
    def __init__(self, name, library, variant):
        self.seconds = {"fnn": 0.1, "slow": 0.2, "fast": 0.05}.get(library, 0.3)
        self.variant, self.turns = variant, 0

    def first(self, nudge=None):
        print("a library may print what it likes")
        loss = 2.001 if self.variant == "wrong loss" else 2.0
        leaf = np.arange(4.0) * (1.01 if self.variant == "wrong gradient" else 1.0)
        return loss, {"layer/kernel": leaf, "layer/bias": np.ones(2)}

    def prepare(self):
        if self.variant == "no compiler":
            raise RuntimeError("no C compiler found\nand a long trace")
        if self.variant == "dies":
            os._exit(7)
        if self.variant == "hangs":
            time.sleep(600)
        return Costs()

    def run(self, steps):
        self.turns += 1
        if self.variant == "diverges" and self.turns > 6:
            raise FloatingPointError("the loss became nan")
        return self.seconds * steps


def build(name, library, variant):
    if variant == "lacks a layer":
        raise NotSupported("stax has no groups.")
    return Fake(name, library, variant)


class InProcess:
    """A worker without a process."""

    pid = 0

    def __init__(self):
        self.programs = {}

    def ask(self, do, **request):
        try:
            return run_request(self.programs, {"do": do, **request})
        except Exception as error:
            raise ProgramError(sentence_of(error)) from error
