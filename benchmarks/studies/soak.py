"""Whether memory grows: training steps with compiled kernels in two threads, and the process's memory 60 times.

    python -m benchmarks.studies.soak        an hour
    python -m benchmarks.studies.soak 5      five minutes, a look every five seconds

Two batch sizes take turns, so that slices of several sizes, sums over them and late tasks of XLA's pool occur all the
time. JAX itself keeps compiled programs: these two are compiled before the first look.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fnn
from fnn import train

HOUR = 60  # minutes
LOOKS = 60
BATCHES = (16, 13)
THREADS = 2


def model() -> fnn.Layer:
    """A layer of every kind that has a compiled kernel, and then some."""
    return fnn.serial(
        fnn.conv(32, 3, padding="SAME"),
        fnn.batch_norm(),
        fnn.relu(),
        fnn.conv(32, 3, padding="SAME", groups=4),
        fnn.conv(32, 3, stride=2, padding="SAME", groups=32),
        fnn.layer_norm(),
        fnn.conv_transpose(16, 2, stride=2),
        fnn.group_norm(4),
        fnn.max_pool(2),
        fnn.flatten(),
        fnn.dense(10),
    )


def train_until(end: threading.Event, done: list[int]) -> None:
    """Steps on batches of both sizes, counted in `done`, until it is the end."""
    net, optimizer = model(), optax.adam(1e-3)
    step = train.make_step(net, fnn.softmax_cross_entropy, optimizer)
    batches = [(jnp.ones((n, 24, 24, 8)), jnp.arange(n) % 10) for n in BATCHES]
    state = train.init_state(net, optimizer, jax.random.key(0), batches[0][0])
    while not end.is_set():
        for batch in batches:
            state, _ = step(state, batch)
        jax.block_until_ready(state)
        done[0] += len(batches)


def mebibytes() -> float:
    """What the process holds of the machine's memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def looks(minutes: float) -> Iterator[tuple[int, float]]:
    """Steps so far and mebibytes, after each of 60 parts of the time."""
    end, done = threading.Event(), [[0] for _ in range(THREADS)]
    threads = [threading.Thread(target=train_until, args=(end, own)) for own in done]
    for thread in threads:
        thread.start()
    try:
        while any(own[0] < 10 for own in done) and all(thread.is_alive() for thread in threads):
            time.sleep(1)
        for _ in range(LOOKS):
            time.sleep(60 * minutes / LOOKS)
            yield sum(own[0] for own in done), mebibytes()
    finally:
        end.set()
        for thread in threads:
            thread.join()


def main(words: list[str]) -> None:
    """Print each look, and how fast the memory grew in the second half."""
    print(fnn.ops.kernels())
    seen = []
    for steps, held in looks(float(words[0]) if words else HOUR):
        seen.append((steps, held))
        print(f"{steps:9,} steps  {held:8.1f} MiB", flush=True)
    steps, held = np.array(seen[len(seen) // 2 :]).T
    slope = np.polyfit(steps, held, 1)[0]
    print(f"in the second half {1024 * slope:.2f} KiB more a step, {held.min():.1f} to {held.max():.1f} MiB")


if __name__ == "__main__":
    main(sys.argv[1:])
