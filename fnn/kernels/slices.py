"""A job's memory, and what is done with one slice of it: the primitive, copies in front and behind, and sums.

A job is what one call of a kernel shares among threads: words at an address, see below. Copies, sums and scratchpads
lie elsewhere, as they are needed no more once all slices are done.
"""

from fnn.kernels import dnnl, loops
from fnn.kernels import plan as p
from fnn.kernels import primitive as prim
from fnn.kernels.memory import WORD, allocate, clear, floats, free, njit, rounded, word, words

# Words of a job: what threads share, then what they read.
NEXT, LIMIT, DONE, LEFT, STATUS = range(5)
PLAN, COUNT, CHUNK, SUMS, FIRST_RECORD, LAST_RECORD, SCRATCH, ENGINE = range(8, 16)
BUFFERS = 20  # their addresses
AREAS = 32  # two a memory: copies for the first and the last record, or sums as oneDNN and as the plan has them
HEAD = 64


@njit
def _execute(engine, primitive, n, pairs):
    block = allocate(WORD)
    status = dnnl.stream_create(block, engine, 1)
    stream = word(block, 0)
    free(block)
    if status == 0:
        status = dnnl.execute(primitive, stream, n, pairs)
        status = max(status, dnnl.stream_wait(stream))
        dnnl.stream_destroy(stream)
    return status


@njit
def _run(engine, record, plan, scratch, addresses, block):
    """Execute a record's primitive on memories at these addresses; a status."""
    head = words(record, prim.HEAD)
    count = head[prim.MEMORIES]
    status, n = 0, count
    pairs = words(block, 2 * count + 2)
    clear(block, 2 * (2 * count + 2))
    for k in range(count):
        pairs[2 * k] = prim.asked(plan, k)[p.ARGUMENT]
        made = dnnl.memory_create(
            block + (2 * k + 1) * WORD, prim.memory_of(record, k)[prim.WANTED], engine, word(addresses, k)
        )
        status = max(status, made)
    if head[prim.SCRATCH]:
        pairs[2 * count] = dnnl.SCRATCHPAD_ARGUMENT
        made = dnnl.memory_create(block + (2 * count + 1) * WORD, head[prim.SCRATCH_LAYOUT], engine, scratch)
        status, n = max(status, made), count + 1
    if status == 0:
        status = _execute(engine, head[prim.PRIMITIVE], n, block)
    for k in range(n):
        dnnl.memory_destroy(pairs[2 * k + 1])
    return status


@njit
def _copy(engine, memory, source, target, back, block):
    """Copy between the two layouts of a memory, into the one that oneDNN wants, or back; a status."""
    pairs = words(block, 4)
    clear(block, 2 * 4)
    pairs[0], pairs[2] = dnnl.FROM, dnnl.TO
    first, second = memory[prim.OWN], memory[prim.WANTED]
    if back:
        first, second = second, first
    status = dnnl.memory_create(block + WORD, first, engine, source)
    status = max(status, dnnl.memory_create(block + 3 * WORD, second, engine, target))
    if status == 0:
        status = _execute(engine, memory[prim.COPY], 2, block)
    dnnl.memory_destroy(pairs[1])
    dnnl.memory_destroy(pairs[3])
    return status


@njit
def _scratch(head):
    first = rounded(word(head[FIRST_RECORD], prim.SCRATCH))
    return max(first, rounded(word(head[LAST_RECORD], prim.SCRATCH)))


@njit
def _copied(first, last, k):
    """The bytes to leave for a copy of memory k, as the one of two records wants it that wants more; 0 if none does."""
    ours, theirs = prim.memory_of(first, k), prim.memory_of(last, k)
    if ours[prim.COPY] == 0 and theirs[prim.COPY] == 0:
        return 0
    return rounded(max(ours[prim.BYTES], theirs[prim.BYTES]))


@njit
def _own_sum(job, i, k):
    """Where slice i leaves its sum k as the plan has it: the first where the result belongs."""
    head = words(job, HEAD)
    asked = prim.asked(head[PLAN], k)
    size = rounded(asked[p.COUNT] * asked[p.ITEM])
    return head[BUFFERS + asked[p.BUFFER]] if i == 0 else head[AREAS + 2 * k + 1] + (i - 1) * size


@njit
def _address(job, i, last, k):
    """Where slice i has memory k."""
    head = words(job, HEAD)
    asked = prim.asked(head[PLAN], k)
    memory = prim.memory_of(head[LAST_RECORD] if last else head[FIRST_RECORD], k)
    buffer = head[BUFFERS + asked[p.BUFFER]]
    if asked[p.ROLE] == p.SLICED:
        return buffer + i * head[CHUNK] * asked[p.STEPS] * asked[p.ITEM]
    if asked[p.ROLE] == p.WHOLE:
        other = last and head[FIRST_RECORD] != head[LAST_RECORD]
        return head[AREAS + 2 * k + other] if memory[prim.COPY] else buffer
    size = _copied(head[FIRST_RECORD], head[LAST_RECORD], k)
    return head[AREAS + 2 * k] + i * size if memory[prim.COPY] else _own_sum(job, i, k)


@njit
def run_slice(job, i):
    """Run the primitive on slice i; a status."""
    head = words(job, HEAD)
    last = i == head[COUNT] - 1
    record = head[LAST_RECORD] if last else head[FIRST_RECORD]
    count = word(head[PLAN], p.MEMORIES)
    given = allocate((3 * count + 6) * WORD)  # addresses, then pairs of argument and memory
    behind = given + count * WORD
    for k in range(count):
        words(given, count)[k] = _address(job, i, last, k)
    if word(head[PLAN], p.KIND) >= p.NORMALISE:
        status = loops.run(head[PLAN], word(record, prim.EXAMPLES), given)
    else:
        status = _run(head[ENGINE], record, head[PLAN], head[SCRATCH] + i * _scratch(head), given, behind)
    for k in range(count):
        asked = prim.asked(head[PLAN], k)
        memory = prim.memory_of(record, k)
        if status == 0 and asked[p.ROLE] == p.PARTIAL and memory[prim.COPY]:
            status = _copy(head[ENGINE], memory, word(given, k), _own_sum(job, i, k), True, behind)
    free(given)
    return status


@njit
def add_sums(job, part):
    """Add what the slices left, one part of the numbers of each."""
    head = words(job, HEAD)
    for k in range(word(head[PLAN], p.MEMORIES)):
        asked = prim.asked(head[PLAN], k)
        if asked[p.ROLE] == p.PARTIAL:
            n = asked[p.COUNT]
            step = (n + head[SUMS] - 1) // head[SUMS]
            start, stop = min(part * step, n), min((part + 1) * step, n)
            total = floats(_own_sum(job, 0, k), n)
            for i in range(1, head[COUNT]):
                more = floats(_own_sum(job, i, k), n)
                for j in range(start, stop):
                    total[j] += more[j]


@njit
def lay_out(job, areas, plan, count, first, last):
    """Lay out copies, sums and scratchpads from an address on, or with job 0 measure them: the bytes in all."""
    at = 0
    for k in range(word(plan, p.MEMORIES)):
        asked = prim.asked(plan, k)
        one, two = 0, 0  # bytes of the two areas of memory k
        if asked[p.ROLE] == p.WHOLE:
            one = _copied(first, last, k)
            two = one if first != last else 0
        if asked[p.ROLE] == p.PARTIAL:
            one = count * _copied(first, last, k)
            two = (count - 1) * rounded(asked[p.COUNT] * asked[p.ITEM])
        if job:
            words(job, HEAD)[AREAS + 2 * k], words(job, HEAD)[AREAS + 2 * k + 1] = areas + at, areas + at + one
        at += one + two
    if job:
        words(job, HEAD)[SCRATCH] = areas + at
    a, b = word(first, prim.SCRATCH), word(last, prim.SCRATCH)
    return at + count * max(rounded(a), rounded(b))


@njit
def copy_in(job):
    """Copy what all slices read into the layouts that oneDNN wants; a status."""
    head = words(job, HEAD)
    status = 0
    block = allocate(4 * WORD)
    for k in range(word(head[PLAN], p.MEMORIES)):
        asked = prim.asked(head[PLAN], k)
        for other in range(2):
            record = head[LAST_RECORD] if other else head[FIRST_RECORD]
            memory = prim.memory_of(record, k)
            needed = head[FIRST_RECORD] != head[LAST_RECORD] or not other
            if asked[p.ROLE] == p.WHOLE and memory[prim.COPY] and needed and status == 0:
                target = head[AREAS + 2 * k + other]
                status = _copy(head[ENGINE], memory, head[BUFFERS + asked[p.BUFFER]], target, False, block)
    free(block)
    return status
