"""Eight host devices for the sharding tests, and a compiler that does not try hard, set before JAX starts.

Tests compile thousands of small programs and run each once: code that is generated without optimisation is there a
third sooner. XLA's own passes, fusion among them, are those that users get. What trains runs in a process of its own.
"""

import os

flags = (
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
)
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags])
os.environ.setdefault("JAX_PLATFORMS", "cpu")
