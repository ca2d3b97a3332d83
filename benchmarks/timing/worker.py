"""A process that holds programs and runs one when told: `python -m benchmarks.timing.worker [jax | torch THREADS]`.

It is spoken to in JSON lines:

    {"do": "build", "label": ..., "source": module, "name": ..., "library": ..., "variant": ...}
    {"do": "first", "label": ..., "path": file.npz}    loss; the gradient goes into the file; with "nudge", a seed, of
                                                        a slightly changed input; with "most", so many numbers of each
    {"do": "prepare", "label": ...}                     costs of compiling
    {"do": "run", "label": ..., "steps": n}             seconds of n steps; with "warm", after one that is not timed
    {"do": "forget"}                                    drops all programs

The answer is {"value": ...} or {"error": sentence}. Each program of a network lives in a process of its own, as in
training: what one compiles or allocates makes no other faster or slower. Operations share one process for JAX and one
for PyTorch, whose threads must not disturb each other. `Worker` is the parent's end.
"""

import dataclasses
import gc
import importlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.networks.nodes import NotSupported

PATIENCE_SECONDS = 600.0  # a program that takes longer over one request than this has failed
LONGEST = 300  # letters of an error that go into the report
# glibc then takes pieces of up to 32 MiB, its limit, from a heap that keeps up to 1 GiB. Other C libraries ignore it.
KEEPING = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}

# The processes of a measurement share the GPU: JAX must not take its memory at once.
SHARING = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


class ProgramError(Exception):
    """A program could not do what it was asked; the message is one sentence for the report."""


class Worker:
    """The parent's end: `ask` sends one request and waits. A process that ended is started again, without programs.

    Args:
      *words: "jax" to compile something first, "torch" and the number of threads, or nothing.
      platform: where its programs run, "cpu" or "cuda".
      patience: seconds that one request may take; then the process is ended.
      keeps_memory: whether the C library keeps freed memory for itself. Given back, it costs a page fault for every
        4 KiB that the next step touches.
      kernels: whether fnn may take compiled CPU kernels, where they are installed.
    """

    def __init__(
        self,
        *words: str,
        platform: str = "cpu",
        patience: float = PATIENCE_SECONDS,
        keeps_memory: bool = False,
        kernels: bool = True,
    ):
        self._words = words
        self._variables = (KEEPING if keeps_memory else {}) | {"JAX_PLATFORMS": platform} | SHARING
        self._variables |= {} if kernels else {"FNN_ONEDNN": "none"}
        self._patience = patience
        self._start()

    def _start(self) -> None:
        # All run at the defaults of XLA and of the C library, and where they are told, whatever JAX would choose.
        environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", *KEEPING)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.timing.worker", *self._words],
            env={**environment, **self._variables},
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def ask(self, do: str, **request: Any) -> Any:
        """The value of the answer.

        Raises:
          ProgramError: the program failed, took longer than the patience, or took the process down.
        """
        if self._process.poll() is not None:
            self.close()
            self._start()
        timer = threading.Timer(self._patience, self._process.kill)
        timer.start()
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            late = not timer.is_alive()
            timer.cancel()
        if not line:
            status = self._process.wait()
            why = f"was stopped after {self._patience:g} seconds" if late else f"ended with status {status}"
            raise ProgramError(f"its process {why} at {do!r}.")
        answer = json.loads(line)
        if "error" in answer:
            raise ProgramError(answer["error"])
        return answer["value"]

    def close(self) -> None:
        """End the process."""
        try:
            self._process.stdin.close()
            self._process.wait(timeout=10)
        except BrokenPipeError:
            self._process.wait()
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sentence_of(error: Exception) -> str:
    """The kind of an error and the first line of what it says; that alone where a library lacks something.

    >>> sentence_of(ValueError("no such layer\\nand a long trace"))
    'ValueError: no such layer'
    """
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else "no message"
    return (text if isinstance(error, NotSupported) else f"{type(error).__name__}: {text}")[:LONGEST]


def run_request(programs: dict[str, Any], request: dict[str, Any]) -> Any:
    """Carry out one request on the programs held."""
    do, label = request["do"], request.get("label")
    if do in ("first", "prepare", "run") and label not in programs:
        raise NotSupported("its process was ended by another program.")
    if do == "build":
        source = importlib.import_module(request["source"])
        programs[label] = source.build(request["name"], request["library"], request["variant"])
    elif do == "first":
        nudge = {"nudge": request["nudge"]} if "nudge" in request else {}
        loss, gradient = programs[label].first(**nudge)
        most = request.get("most")
        np.savez(request["path"], **{name: _sample(np.asarray(leaf), most) for name, leaf in gradient.items()})
        return float(loss)
    elif do == "prepare":
        return dataclasses.asdict(programs[label].prepare())
    elif do == "run":
        if request.get("warm"):  # caches hold what the last program left there
            programs[label].run(1)
        return programs[label].run(request["steps"])
    elif do == "forget":
        programs.clear()
        gc.collect()
    else:
        raise ValueError(f"unknown request {do!r}")
    return None


def _sample(a: np.ndarray, most: int | None) -> np.ndarray:
    """At most so many numbers of an array, the same ones of each array of that size."""
    if most is None or a.size <= most:
        return a
    some = np.random.default_rng(0).integers(a.size, size=most)
    return np.concatenate([a.reshape(-1)[some], a.shape])  # of another shape they are another array


def warm_up() -> None:
    """Compile something small, or the first program would be charged for what XLA does once a process."""
    import jax
    import jax.numpy as jnp

    from fnn.train import compiler_options

    for options in (None, compiler_options()):
        slope = jax.grad(lambda x: jnp.tanh(x @ x).sum())
        jax.block_until_ready(jax.jit(slope, compiler_options=options)(jnp.ones((64, 64))))


def serve() -> None:
    """Answer requests until standard input ends."""
    # Libraries print as they like; only answers may reach the parent.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    programs: dict[str, Any] = {}
    for line in sys.stdin:
        try:
            answer = {"value": run_request(programs, json.loads(line))}
        except Exception as error:
            answer = {"error": sentence_of(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["jax"]:
            warm_up()
        case ["torch", threads]:
            import torch

            torch.set_num_threads(int(threads))
            # What JAX does on a GPU by default; both pick the fastest algorithm by trying.
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
            torch.backends.cudnn.benchmark = True
    serve()
