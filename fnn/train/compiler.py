"""Options for XLA that make a compiled training step faster. They belong to that step: no environment variable is set.

On CPU, XLA gives most 2-D convolutions to a library path that is slow for many gradients: the first option keeps that
path for matrix products and reductions alone. The second orders the program so that less memory is alive at a time. The
third, for programs of small arrays, cuts the temporary memory into pieces small enough for the C library to use again;
a larger one is fetched from the operating system anew in every step, and touching it costs up to a third of the time.
Measured in benchmarks/results/report.md, where every peer library runs with and without them.
"""

import difflib
from collections.abc import Mapping
from functools import cache
from typing import Any

import jax

from fnn.core.errors import InputError, require
from fnn.core.program import bytes_of, equations
from fnn.core.words import described

_TUNED = {
    "cpu": {
        "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,"
        "LIBRARY_FUSION_TYPE_REDUCE",
        "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
    }
}
_PIECE = "xla_multiheap_size_constraint_per_heap"
# glibc uses freed memory again up to pieces of 32 MiB; 16 measured better. XLA warns of each array that exceeds the
# piece, and makes some of its own (padded, transposed): so there must be room for more than the program's largest.
_PIECES = (16 << 20, 32 << 20)
_ROOM = 1.5


def compiler_options(program: jax.stages.Traced | None = None, *, platform: str | None = None) -> dict[str, str]:
    """The options of XLA that `make_step` gives its program; for any `jax.jit(..., compiler_options=...)`.

    They are experimental options of XLA. Each is tried once a process; one that this jaxlib does not know is left out.

    Args:
      program: `jax.jit(f).trace(*args)`; with it, options that depend on the size of its arrays are chosen too.
      platform: "cpu", "gpu" or "tpu"; that of the default device when None. Only "cpu" has options so far.

    Returns:
      A new dict from names to values, empty where none helps.

    Raises:
      InputError: a program that was not traced; a platform that is no string.

    >>> import jax
    >>> options = compiler_options(jax.jit(lambda x: x + 1.0).trace(1.0))
    >>> float(jax.jit(lambda x: x + 1.0, compiler_options=options)(1.0))
    2.0
    """
    where = "compiler_options"
    ok = platform is None or isinstance(platform, str)
    require(ok, where, '"cpu", "gpu", "tpu" or None', described(platform), "name the platform")
    ok = program is None or isinstance(program, jax.stages.Traced)
    require(ok, where, "a traced program", type(program).__name__, "pass jax.jit(f).trace(*args)")
    options = dict(_TUNED.get(platform or _default_platform(), {}))
    if options and program is not None:
        made = (bytes_of(var) for equation in equations(program.jaxpr.jaxpr) for var in equation.outvars)
        room = _ROOM * max(made, default=0)
        piece = next((piece for piece in _PIECES if room <= piece), None)
        options.update({} if piece is None else {_PIECE: str(piece)})
    return {name: value for name, value in options.items() if _known(name, value)}


def validate(options: Mapping[str, str] | None) -> None:
    """Refuse what is neither None nor a mapping from names to values that this compiler takes."""
    ok = options is None or (isinstance(options, Mapping) and all(isinstance(name, str) for name in options))
    require(ok, "make_step", "compiler_options {name: value} or None", described(options), "pass {} for none at all")
    for name, value in (options or {}).items():
        ok = isinstance(value, str | int | float)
        expected = f"a string or a number for compiler option {name}"
        require(ok, "make_step", expected, described(value), "write the value as a string")
        if not _known(name, value):
            ours = [*(option for tuned in _TUNED.values() for option in tuned), _PIECE]
            close = difflib.get_close_matches(name, ours, 1)
            fix = f"did you mean {close[0]}?" if close and close[0] != name else "check its name and its value"
            raise InputError("make_step", "compiler_options that this XLA knows", f"{name}={value!r}", fix)


def _default_platform() -> str:
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform


@cache
def _known(name: str, value: Any) -> bool:
    """Whether this compiler takes the option: an unknown name raises when the first program is compiled."""
    try:
        jax.jit(lambda x: x, compiler_options={name: value}).lower(jax.ShapeDtypeStruct((), "float32")).compile()
    except Exception:  # which class it is has changed between versions of JAX
        return False
    return True
