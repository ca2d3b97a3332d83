"""Options for XLA that make a compiled training step faster. They belong to that step: no environment variable is set.

On CPU, XLA gives most 2-D convolutions to a library path that is slow for many gradients; the first option keeps that
path for matrix products and reductions alone, the second orders the program so that less memory is alive at a time.
Measured in benchmarks/results/report.md, where every peer library runs with and without them.
"""

from collections.abc import Mapping
from functools import cache

import jax

from fnn.core.errors import require

_TUNED = {
    "cpu": {
        "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE",
        "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
    }
}


def compiler_options(platform: str | None = None) -> dict[str, str]:
    """The options of XLA that `make_step` gives its program; for any `jax.jit(..., compiler_options=...)`.

    They are experimental options of XLA. Each is tried once a process; one that this jaxlib does not know is left out.

    Args:
      platform: "cpu", "gpu" or "tpu"; that of the default device when None. Only "cpu" has options so far.

    Returns:
      A new dict from names to values, empty where none helps.

    Raises:
      InputError: a platform that is no string.

    >>> import jax
    >>> step = jax.jit(lambda x: x + 1.0, compiler_options=compiler_options())
    >>> float(step(1.0))
    2.0
    """
    require(
        platform is None or isinstance(platform, str),
        "compiler_options",
        '"cpu", "gpu", "tpu" or None',
        repr(platform),
        "name the platform",
    )
    return {
        name: value for name, value in _TUNED.get(platform or _default_platform(), {}).items() if _known(name, value)
    }


def validate(options: Mapping[str, str] | None) -> None:
    """Refuse what is neither None nor a mapping of names."""
    ok = options is None or (isinstance(options, Mapping) and all(isinstance(name, str) for name in options))
    require(ok, "make_step", "compiler_options {name: value} or None", repr(options), "pass {} for none at all")


def choose(options: Mapping[str, str] | None) -> dict[str, str]:
    """What a step compiles with: fnn's own options for None, else exactly what the caller gave."""
    return compiler_options() if options is None else dict(options)


def _default_platform() -> str:
    device = jax.config.jax_default_device
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform


@cache
def _known(name: str, value: str) -> bool:
    """Whether this compiler takes the option: an unknown name raises when the first program is compiled."""
    try:
        jax.jit(lambda x: x, compiler_options={name: value}).lower(jax.ShapeDtypeStruct((), "float32")).compile()
    except Exception:  # which class it is has changed between versions of JAX
        return False
    return True
