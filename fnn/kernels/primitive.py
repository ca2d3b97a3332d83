"""oneDNN's primitives from plans, each made once a process: records in a table that all threads share.

A record holds what one primitive for slices of n examples needs: the primitive, the layouts of its memories as the plan
has them and as oneDNN wants them, and the copies between the two.
"""

from fnn.kernels import dnnl
from fnn.kernels import plan as p
from fnn.kernels.memory import WORD, allocate, clear, copy, exchange, free, njit, static, take, word, words

# Words of a record: its head, then its memories one after another, then the plan that it was made from.
STATUS, EXAMPLES, LENGTH, PRIMITIVE, SCRATCH, SCRATCH_LAYOUT, KEPT, MEMORIES = range(8)
HEAD = 8
OWN, WANTED, COPY, BYTES = range(4)  # of a memory: two layouts, the primitive that copies or 0, bytes as wanted
MEMORY = 4

_ENTRIES = 4096  # different plans that a process keeps; those beyond are made for each call
_table = static("fnn_records", _ENTRIES + 1)  # the last word is the engine


@njit
def engine():
    """The one engine: the processor."""
    place = _table() + _ENTRIES * WORD
    if take(place) == 0:
        block = allocate(WORD)
        dnnl.engine_create(block, 1, 0)
        exchange(place, 0, word(block, 0))
        free(block)
    return take(place)


@njit
def memory_of(record, i):
    """The words of its memory i."""
    return words(record + (HEAD + i * MEMORY) * WORD, MEMORY)


@njit
def asked(plan, i):
    """The words of a plan for its memory i."""
    return words(plan + (p.HEAD + i * p.MEMORY) * WORD, p.MEMORY)


@njit
def record_for(plan, length, n):
    """The record of a plan of so many words for slices of n examples."""
    key = words(plan, length)
    mixed = n
    for i in range(length):
        mixed = (mixed ^ key[i]) * 1099511628211  # as in the hash of Fowler, Noll and Vo
    made = 0
    for probe in range(_ENTRIES):
        place = _table() + (((mixed ^ (mixed >> 29)) + probe) & (_ENTRIES - 1)) * WORD
        found = take(place)
        if found == 0:
            if made == 0:
                made = _make(plan, length, n)
            words(made, HEAD)[KEPT] = 1
            if exchange(place, 0, made):
                return made
            words(made, HEAD)[KEPT] = 0
            found = take(place)
        if _is_for(found, key, length, n):
            if made:
                _unmake(made)
            return found
    return made if made else _make(plan, length, n)


@njit
def release(record):
    """Forget a record for which the table has no place."""
    if word(record, KEPT) == 0:
        _unmake(record)


@njit
def _is_for(record, key, length, n):
    head = words(record, HEAD)
    if head[EXAMPLES] != n or head[LENGTH] != length:
        return False
    own = words(record + (HEAD + key[p.MEMORIES] * MEMORY) * WORD, length)
    for i in range(length):  # noqa: SIM110 - numba compiles no generator here
        if own[i] != key[i]:
            return False
    return True


@njit
def _make(plan, length, n):
    key = words(plan, length)
    count = key[p.MEMORIES]
    size = HEAD + count * MEMORY + length
    record = allocate(size * WORD)
    head = words(record, size)
    clear(record, 2 * size)
    head[EXAMPLES], head[LENGTH], head[MEMORIES] = n, length, count
    copy(plan, record + (HEAD + count * MEMORY) * WORD, length)
    if key[p.KIND] >= p.NORMALISE:  # a loop of our own needs nothing
        return record
    block = allocate((2 + p.DIMS) * WORD)
    attributes = _attributes(block)
    for i in range(count):
        if head[STATUS] == 0:
            head[STATUS] = _layouts(plan, n, i, memory_of(record, i), block)
    if head[STATUS] == 0:
        head[STATUS] = _describe(plan, record, attributes, block)
    if head[STATUS] == 0:
        head[STATUS] = _complete(plan, record, word(block, 0), attributes, block + WORD)
        dnnl.describe_destroy(word(block, 0))
    dnnl.attributes_destroy(attributes)
    free(block)
    return record


@njit
def _attributes(block):
    dnnl.attributes_create(block)
    made = word(block, 0)
    dnnl.attributes_scratchpad(made, dnnl.USER)
    return made


@njit
def _layouts(plan, n, i, into, block):
    """Its layout as the plan has it, and the one to ask for; a status."""
    start = plan + (p.HEAD + i * p.MEMORY) * WORD
    memory = words(start, p.MEMORY)
    sizes = words(block + 2 * WORD, p.DIMS)
    copy(start + p.SIZES * WORD, block + 2 * WORD, p.DIMS)
    if memory[p.ROLE] == p.SLICED:
        sizes[0] = n
    at, rank, kind = block + 2 * WORD, memory[p.NDIM], memory[p.DTYPE]
    status = dnnl.layout_by_steps(block, rank, at, kind, start + p.STEPS * WORD)
    if status == 0:
        into[OWN] = word(block, 0)
        status = (
            dnnl.layout_by_tag(block, rank, at, kind, dnnl.ANY)
            if memory[p.FREE]
            else dnnl.layout_copy(block, into[OWN])
        )
    if status == 0:
        into[WANTED] = word(block, 0)
    return status


@njit
def _wanted(plan, record, argument):
    """The layout to ask for of an argument of the primitive; 0 where it has none."""
    for i in range(word(plan, p.MEMORIES)):
        if asked(plan, i)[p.ARGUMENT] == argument:
            return memory_of(record, i)[WANTED]
    return 0


@njit
def _describe(plan, record, attributes, into):
    """oneDNN's description of the primitive; a status."""
    head = words(plan, p.HEAD)
    kind, algorithm = head[p.KIND], head[p.ALGORITHM]
    stride, dilation = plan + p.STRIDE * WORD, plan + p.DILATION * WORD
    low, high = plan + p.LOW * WORD, plan + p.HIGH * WORD
    cpu = engine()
    if kind == p.MATRICES:
        a, b, c = _wanted(plan, record, p.SOURCE), _wanted(plan, record, p.KERNEL), _wanted(plan, record, p.RESULT)
        return dnnl.matrices(into, cpu, a, b, 0, c, attributes)
    if kind == p.CONVOLUTION or kind == p.CONVOLUTION_INPUT:
        kernel = _wanted(plan, record, p.KERNEL)
        if kind == p.CONVOLUTION:
            x, y = _wanted(plan, record, p.SOURCE), _wanted(plan, record, p.RESULT)
            return dnnl.convolution(
                into, cpu, dnnl.TRAINING, algorithm, x, kernel, 0, y, stride, dilation, low, high, attributes
            )
        dx, dy = _wanted(plan, record, p.SOURCE_GRADIENT), _wanted(plan, record, p.RESULT_GRADIENT)
        hint = _hint(into, cpu, algorithm, dx, kernel, dy, stride, dilation, low, high)
        if hint == 0:
            return 3
        status = dnnl.convolution_input(
            into, cpu, algorithm, dx, kernel, dy, stride, dilation, low, high, hint, attributes
        )
        dnnl.describe_destroy(hint)
        return status
    if kind == p.CONVOLUTION_KERNEL:
        x, dw = _wanted(plan, record, p.SOURCE), _wanted(plan, record, p.KERNEL_GRADIENT)
        dy = _wanted(plan, record, p.RESULT_GRADIENT)
        kernel = _kernel_read(plan, into)
        hint = _hint(into, cpu, algorithm, x, kernel, dy, stride, dilation, low, high)
        dnnl.layout_destroy(kernel)
        if hint == 0:
            return 3
        status = dnnl.convolution_kernel(
            into, cpu, algorithm, x, dw, 0, dy, stride, dilation, low, high, hint, attributes
        )
        dnnl.describe_destroy(hint)
        return status
    return 2


@njit
def _kernel_read(plan, into):
    """A layout of the kernel whose gradient is asked for, in the dtype of the source: the gradient's may be wider."""
    kind, at = 0, plan
    for i in range(word(plan, p.MEMORIES)):
        place = plan + (p.HEAD + i * p.MEMORY) * WORD
        memory = words(place, p.MEMORY)
        if memory[p.ARGUMENT] == p.SOURCE:
            kind = memory[p.DTYPE]
        if memory[p.ARGUMENT] == p.KERNEL_GRADIENT:
            at = place
    dnnl.layout_by_tag(into, word(at, p.NDIM), at + p.SIZES * WORD, kind, dnnl.ANY)
    return word(into, 0)


@njit
def _hint(into, cpu, algorithm, x, kernel, y, stride, dilation, low, high):
    """The description of a forward convolution, which oneDNN wants to see before that of a gradient; 0 if none is."""
    status = dnnl.convolution(into, cpu, dnnl.TRAINING, algorithm, x, kernel, 0, y, stride, dilation, low, high, 0)
    return word(into, 0) if status == 0 else 0


@njit
def _complete(plan, record, description, attributes, into):
    """The primitive, its scratchpad, the layouts that oneDNN chose and the copies to and from them; a status."""
    head = words(record, HEAD)
    status = dnnl.create(into, description)
    if status:
        return status
    head[PRIMITIVE] = word(into, 0)
    dnnl.layout_copy(into, dnnl.layout_of(description, dnnl.SCRATCHPAD, 0))
    head[SCRATCH_LAYOUT] = word(into, 0)
    head[SCRATCH] = dnnl.layout_bytes(head[SCRATCH_LAYOUT])
    for i in range(word(plan, p.MEMORIES)):
        memory = memory_of(record, i)
        own = asked(plan, i)
        dnnl.layout_destroy(memory[WANTED])
        dnnl.layout_copy(into, dnnl.layout_of(description, dnnl.EXECUTION, own[p.ARGUMENT]))
        memory[WANTED] = word(into, 0)
        memory[BYTES] = dnnl.layout_bytes(memory[WANTED])
        if dnnl.layout_equal(memory[OWN], memory[WANTED]) == 0:
            back = own[p.ROLE] == p.PARTIAL
            first, second = (memory[WANTED], memory[OWN]) if back else (memory[OWN], memory[WANTED])
            status = dnnl.reorder(into, first, engine(), second, engine(), attributes)
            if status:
                return status
            copying = word(into, 0)
            scratch = dnnl.layout_bytes(dnnl.layout_of(copying, dnnl.SCRATCHPAD, 0))
            status = 3 if scratch else dnnl.create(into, copying)  # none of oneDNN's copies of floats has one
            dnnl.describe_destroy(copying)
            if status:
                return status
            memory[COPY] = word(into, 0)
    return 0


@njit
def _unmake(record):
    head = words(record, HEAD)
    for i in range(head[MEMORIES]):
        memory = memory_of(record, i)
        dnnl.layout_destroy(memory[OWN])
        dnnl.layout_destroy(memory[WANTED])
        dnnl.destroy(memory[COPY])
    dnnl.layout_destroy(head[SCRATCH_LAYOUT])
    dnnl.destroy(head[PRIMITIVE])
    free(record)
