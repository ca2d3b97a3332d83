"""Compiled CPU kernels: oneDNN, and loops of our own, called by XLA through a handler that numba compiles.

    at the trace      a row of a table asks for one                              `library`, `call`
    in the program    int64 words: what to do, with sizes, without a pointer     `plan`
    when it runs      XLA calls the handler with a frame                         `frame`, `job`
                      the primitive for these words, made once a process         `primitive`, `dnnl`
                      slices of the batch, each by whichever thread is free      `job`, `slices`, `loops`

Slice i of n examples takes of each memory what its role says:

    SLICED     its part: address + i n step
    WHOLE      all of it, the same for every slice
    PARTIAL    a sum of its own; when all are there, result = sum over i
"""
