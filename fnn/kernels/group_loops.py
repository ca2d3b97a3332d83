"""Loops of our own for group norm: the examples of a slice, one after another, each while it lies in the cache.

With examples of S positions and C channels in G groups, sums Σ over the n = S C / G numbers of a group:

    NORMALISE_GROUPS        mean = Σ x / n        inv = 1 / sqrt(Σ (x - mean)² / n + epsilon)
                            y = (x - mean) inv scale + offset
    NORMALISE_GROUPS_BACK   xhat = (x - mean) inv      g = dy scale      dx = inv (g - Σ g / n - xhat Σ (g xhat) / n)
                            over examples and positions: dscale = Σ dy xhat        doffset = Σ dy

A sum over a group is first made of each channel, over positions in two levels so that rounding stays small.
"""

import numpy as np

from fnn.kernels.memory import clear, floats, loop

LEVEL = 128  # positions, or rows, that are summed before they are added to the sum of all
SCRATCH = 6  # numbers a channel that the loops ask for, at most


@loop
def _shared(values, groups, share, shares):
    """Give each channel the sum of its group's values, times a share; `shares` has these a group."""
    size = len(values) // groups
    for g in range(groups):
        total = np.float32(0)
        for j in range(g * size, (g + 1) * size):
            total += values[j]
        shares[g] = total * share
        for j in range(g * size, (g + 1) * size):
            values[j] = shares[g]


@loop
def _distances(x_at, positions, center, power, level, total):
    """Σ over positions of the distance of each channel from its center, or of its square."""
    n = len(center)
    for start in range(0, positions, LEVEL):
        for j in range(n):
            level[j] = 0
        for r in range(start, min(start + LEVEL, positions)):
            x = floats(x_at + 4 * r * n, n)
            if power == 1:
                for j in range(n):
                    level[j] += x[j] - center[j]
            else:
                for j in range(n):
                    level[j] += (x[j] - center[j]) * (x[j] - center[j])
        for j in range(n):
            total[j] += level[j]


@loop
def normalise(x_at, scale_at, offset_at, y_at, mean_at, inv_at, examples, positions, n, groups, epsilon, scratch):
    """The forward pass of so many examples."""
    scale, offset = floats(scale_at, n), floats(offset_at, n)
    center, total, level = floats(scratch, n), floats(scratch + 4 * n, n), floats(scratch + 8 * n, n)
    share = np.float32(1) / np.float32(positions * n // groups)
    for e in range(examples):
        at = 4 * e * positions * n
        mean, inv = floats(mean_at + 4 * e * groups, groups), floats(inv_at + 4 * e * groups, groups)
        clear(scratch, 2 * n)
        _distances(x_at + at, positions, total, 1, level, center)
        _shared(center, groups, share, mean)
        _distances(x_at + at, positions, center, 2, level, total)
        _shared(total, groups, share, inv)
        for g in range(groups):
            inv[g] = np.float32(1) / np.sqrt(inv[g] + epsilon)
        for j in range(n):
            total[j] = inv[j // (n // groups)] * scale[j]
        for r in range(positions):
            x, y = floats(x_at + at + 4 * r * n, n), floats(y_at + at + 4 * r * n, n)
            for j in range(n):
                y[j] = (x[j] - center[j]) * total[j] + offset[j]


@loop
def normalise_back(
    x_at, mean_at, inv_at, scale_at, dy_at, dx_at, dscale_at, doffset_at, examples, positions, n, groups, scratch
):
    """The backward pass of so many examples."""
    scale, dscale, doffset = floats(scale_at, n), floats(dscale_at, n), floats(doffset_at, n)
    center, inverse, s1 = floats(scratch, n), floats(scratch + 4 * n, n), floats(scratch + 8 * n, n)
    s2, l1, l2 = floats(scratch + 12 * n, n), floats(scratch + 16 * n, n), floats(scratch + 20 * n, n)
    size = n // groups
    share = np.float32(1) / np.float32(positions * size)
    clear(dscale_at, n)
    clear(doffset_at, n)
    for e in range(examples):
        at = 4 * e * positions * n
        mean, inv = floats(mean_at + 4 * e * groups, groups), floats(inv_at + 4 * e * groups, groups)
        clear(scratch + 8 * n, 2 * n)
        for j in range(n):
            center[j], inverse[j] = mean[j // size], inv[j // size]
        for start in range(0, positions, LEVEL):
            clear(scratch + 16 * n, 2 * n)
            for r in range(start, min(start + LEVEL, positions)):
                x, dy = floats(x_at + at + 4 * r * n, n), floats(dy_at + at + 4 * r * n, n)
                for j in range(n):
                    l1[j] += dy[j]
                    l2[j] += dy[j] * (x[j] - center[j])
            for j in range(n):
                s1[j] += l1[j]
                s2[j] += l2[j] * inverse[j]
        for j in range(n):
            doffset[j] += s1[j]
            dscale[j] += s2[j]
            s1[j] *= scale[j]
            s2[j] *= scale[j]
        _shared(s1, groups, share, l1)
        _shared(s2, groups, share, l2)
        for j in range(n):
            s2[j] *= inverse[j]
        for r in range(positions):
            x, dy = floats(x_at + at + 4 * r * n, n), floats(dy_at + at + 4 * r * n, n)
            dx = floats(dx_at + at + 4 * r * n, n)
            for j in range(n):
                dx[j] = inverse[j] * (dy[j] * scale[j] - s1[j] - (x[j] - center[j]) * s2[j])
