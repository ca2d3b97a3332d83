"""Loops of our own, for what oneDNN has not or XLA does in several passes: the rows of a slice, one after another.

Each row is read, and read again, while it lies in the cache. With rows x of n numbers:

    NORMALISE        mean = Σ x / n        inv = 1 / sqrt(Σ (x - mean)² / n + epsilon)
                     y = (x - mean) inv scale + offset
    NORMALISE_BACK   xhat = (x - mean) inv        g = dy scale        dx = inv (g - Σ g / n - xhat Σ (g xhat) / n)
                     over rows: dscale = Σ dy xhat        doffset = Σ dy

Sums over rows are made in two levels, so that rounding stays small.
"""

from typing import Any

import numpy as np
from numba import cfunc, types

from fnn.kernels import group_loops
from fnn.kernels import plan as p
from fnn.kernels.group_loops import LEVEL
from fnn.kernels.memory import WORD, allocate, clear, doubles, floats, free, loop, njit, word, words


@njit
def _columns(plan, i):
    """The last size of a plan's memory i, of two."""
    return word(plan + (p.HEAD + i * p.MEMORY) * WORD, p.SIZES + 1)


@njit
def _run(plan, rows, addresses):
    head = words(plan, p.HEAD)
    at = words(addresses, head[p.MEMORIES])
    kind = head[p.KIND]
    back = kind == p.NORMALISE_BACK or kind == p.NORMALISE_GROUPS_BACK
    n, groups = _columns(plan, 3 if back else 1), _columns(plan, 1 if back else 4)
    positions = _columns(plan, 0) // n
    epsilon = np.float32(doubles(plan + p.EPSILON * WORD, 1)[0])
    scratch = allocate(4 * group_loops.SCRATCH * n)
    if scratch == 0:
        return 1
    if kind == p.NORMALISE:
        _normalise(at[0], at[1], at[2], at[3], at[4], at[5], rows, n, epsilon)
    elif kind == p.NORMALISE_BACK:
        _normalise_back(at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7], rows, n, scratch)
    elif kind == p.NORMALISE_GROUPS:
        group_loops.normalise(at[0], at[1], at[2], at[3], at[4], at[5], rows, positions, n, groups, epsilon, scratch)
    else:
        group_loops.normalise_back(
            at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7], rows, positions, n, groups, scratch
        )
    free(scratch)
    return 0


@loop
def _normalise(x_at, scale_at, offset_at, y_at, mean_at, inv_at, rows, n, epsilon):
    scale, offset = floats(scale_at, n), floats(offset_at, n)
    mean, inv = floats(mean_at, rows), floats(inv_at, rows)
    share = np.float32(1) / np.float32(n)
    for r in range(rows):
        x, y = floats(x_at + 4 * r * n, n), floats(y_at + 4 * r * n, n)
        total = np.float32(0)
        for j in range(n):
            total += x[j]
        m = total * share
        total = np.float32(0)
        for j in range(n):
            total += (x[j] - m) * (x[j] - m)
        i = np.float32(1) / np.sqrt(total * share + epsilon)
        for j in range(n):
            y[j] = (x[j] - m) * i * scale[j] + offset[j]
        mean[r], inv[r] = m, i


@loop
def _normalise_back(x_at, mean_at, inv_at, scale_at, dy_at, dx_at, dscale_at, doffset_at, rows, n, scratch):
    scale, dscale, doffset = floats(scale_at, n), floats(dscale_at, n), floats(doffset_at, n)
    mean, inv = floats(mean_at, rows), floats(inv_at, rows)
    s1, s2 = floats(scratch, n), floats(scratch + 4 * n, n)
    share = np.float32(1) / np.float32(n)
    clear(dscale_at, n)
    clear(doffset_at, n)
    for start in range(0, rows, LEVEL):
        clear(scratch, 2 * n)
        for r in range(start, min(start + LEVEL, rows)):
            x, dy, dx = floats(x_at + 4 * r * n, n), floats(dy_at + 4 * r * n, n), floats(dx_at + 4 * r * n, n)
            m, i = mean[r], inv[r]
            m1, m2 = np.float32(0), np.float32(0)
            for j in range(n):
                xhat, g = (x[j] - m) * i, dy[j] * scale[j]
                m1 += g
                m2 += g * xhat
                s1[j] += dy[j]
                s2[j] += dy[j] * xhat
            m1 *= share
            m2 *= share
            for j in range(n):
                dx[j] = i * (dy[j] * scale[j] - m1 - (x[j] - m) * i * m2)
        for j in range(n):
            doffset[j] += s1[j]
            dscale[j] += s2[j]


SYMBOL = "fnn_loops"  # of the linker
_KIND = types.int64(types.int64, types.int64, types.int64)
run = types.ExternalFunction(SYMBOL, _KIND)  # (plan, rows, addresses): the loop on so many rows of each sliced memory


def loops_of(stamp: int, cached: bool) -> Any:
    """All loops behind one symbol; see `fnn.kernels.job.task_of` for the stamp."""

    @cfunc(_KIND, cache=cached)
    def loops(plan, rows, addresses):
        return _run(plan, rows, addresses) if stamp else 1

    return loops
