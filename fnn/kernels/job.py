"""One call of a kernel: slices of the batch that the threads of XLA's pool claim, one after another.

The thread on which XLA calls works too, and waits only for slices that another has claimed, so it needs nobody: a pool
without a free thread, or without threads, delays nothing. A task that comes late finds nothing left and goes: so the
words of a job are given back by whoever leaves last.

Primitives are made and run with one OpenMP thread, which each worker sets for itself and sets back.
"""

from typing import Any

from numba import cfunc, types

from fnn.kernels import dnnl, frame
from fnn.kernels import plan as p
from fnn.kernels import primitive as prim
from fnn.kernels import slices as s
from fnn.kernels.memory import (
    WORD,
    add,
    address_of,
    allocate,
    clear,
    exchange,
    free,
    njit,
    static,
    take,
    word,
    words,
    yield_core,
)

_SLOTS = 64  # blocks of memory that wait for the next call: as many as calls run at once
_blocks = static("fnn_blocks", 3 * _SLOTS)  # busy, address, bytes
TASK = "fnn_task"  # the linker's symbol of the task: what is called by it is compiled once, not into each caller
_task_address = address_of(TASK)
_task = types.ExternalFunction(TASK, types.void(types.int64))


@njit
def _claim(n):
    """A block of at least n bytes: its address, and that of the word that says it is busy; 0 where all are."""
    for slot in range(_SLOTS):
        place = _blocks() + 3 * slot * WORD
        if take(place) == 0 and exchange(place, 0, 1):
            block = words(place, 3)
            if block[2] < n:
                free(block[1])
                block[1] = allocate(n)
                block[2] = n if block[1] else 0
            return block[1], place
    return allocate(n), 0


@njit
def _give_back(block, place):
    """Give back what `_claim` gave."""
    if place:
        exchange(place, 1, 0)
    else:
        free(block)


@njit
def _leave(job):
    """One user of a job less; the last gives its words back."""
    if add(job + s.LEFT * WORD, -1) == 1:
        free(job)


@njit
def _work(job):
    """Claim slices and run them until none is left."""
    head = words(job, s.HEAD)
    before = dnnl.threads_now()
    dnnl.threads_set(1)
    while True:
        ticket = take(job + s.NEXT * WORD)
        if ticket >= take(job + s.LIMIT * WORD):
            break
        if exchange(job + s.NEXT * WORD, ticket, ticket + 1):
            if ticket < head[s.COUNT]:
                status = s.run_slice(job, ticket)
                if status:
                    exchange(job + s.STATUS * WORD, 0, status)
            else:
                s.add_sums(job, ticket - head[s.COUNT])
            add(job + s.DONE * WORD, 1)
    dnnl.threads_set(before)


@njit
def _finish(frame_at, job, tickets, helpers):
    """Offer tickets up to a number to the pool, work oneself, and wait for those that others claimed."""
    add(job + s.LIMIT * WORD, tickets - take(job + s.LIMIT * WORD))
    for _ in range(helpers):
        add(job + s.LEFT * WORD, 1)
        if not frame.schedule(frame_at, _task_address(), job):
            _leave(job)
    add(job + s.LEFT * WORD, 1)
    _task(job)
    while take(job + s.DONE * WORD) < tickets:
        yield_core()


@njit
def _run(frame_at, job, count, threads):
    """Run the slices of a job, then add their sums; a status."""
    own = words(job, s.HEAD)
    plan, sums = own[s.PLAN], False
    for k in range(word(plan, p.MEMORIES)):
        asked = prim.asked(plan, k)
        own[s.BUFFERS + asked[p.BUFFER]] = frame.buffer(frame_at, asked[p.BUFFER])
        sums |= asked[p.ROLE] == p.PARTIAL
    status = s.copy_in(job)
    if status == 0:
        _finish(frame_at, job, count, min(threads, count) - 1)
        status = take(job + s.STATUS * WORD)
    if status == 0 and sums and count > 1:
        _finish(frame_at, job, count + threads, threads - 1)
    return status


@njit
def _call(frame_at):
    """Run what the frame asks for; a status."""
    plan, length = frame.attribute(frame_at)
    head = words(plan, p.HEAD)
    batch, threads = head[p.BATCH], max(1, min(frame.threads(frame_at), head[p.SLICES]))
    chunk = -(-batch // min(batch, threads))
    count = -(-batch // chunk)
    first = prim.record_for(plan, length, chunk)
    rest = batch - (count - 1) * chunk
    last = first if rest == chunk else prim.record_for(plan, length, rest)
    status = max(word(first, prim.STATUS), word(last, prim.STATUS))
    if status == 0:
        job = allocate(s.HEAD * WORD)
        areas, place = _claim(s.lay_out(0, 0, plan, count, first, last))
        if job and areas:
            clear(job, 2 * s.HEAD)
            own = words(job, s.HEAD)
            own[s.LEFT], own[s.PLAN], own[s.COUNT], own[s.CHUNK], own[s.SUMS] = 1, plan, count, chunk, threads
            own[s.ENGINE], own[s.FIRST_RECORD], own[s.LAST_RECORD] = prim.engine(), first, last
            s.lay_out(job, areas, plan, count, first, last)
            status = _run(frame_at, job, count, threads)
            _leave(job)
        else:
            free(job)
            status = 1
        _give_back(areas, place)
    prim.release(first)
    if last != first:
        prim.release(last)
    return status


def task_of(stamp: int, cached: bool) -> Any:
    """The task that XLA's pool runs.

    numba keeps compiled code on disk by its file and by what its closure holds: the stamp stands for all files.
    """

    @cfunc(types.void(types.int64), cache=cached)
    def task(job):
        if stamp:
            _work(job)
            _leave(job)

    return task


def handler_of(stamp: int, cached: bool) -> Any:
    """The handler that XLA calls; it needs the task's symbol."""

    @cfunc(types.int64(types.int64), cache=cached)
    def handler(frame_at):
        if not stamp or frame.version_asked(frame_at):
            return 0
        before = dnnl.threads_now()
        dnnl.threads_set(1)
        status = _call(frame_at)
        dnnl.threads_set(before)
        return frame.error(frame_at, status) if status else 0

    return handler
