"""The functions of oneDNN's C interface, version 3, that compiled kernels call; see its header dnnl.h.

Each is a symbol that `library` gives an address. Enumerations are int32, all else int64: sizes and addresses.
"""

from typing import Any

from numba import types

PREFIX = "fnn_"  # of the symbols, so that another library's copy of oneDNN is never meant
FUNCTIONS: dict[str, types.ExternalFunction] = {}

ANY = 1  # the layout that oneDNN likes best
TRAINING = 64  # propagation
SCRATCHPAD, EXECUTION = 136, 255  # what memories are asked for
SCRATCHPAD_ARGUMENT = 80
USER = 1  # scratchpads: in the library's own, two threads that run one primitive wrote over each other
FROM, TO = 1, 17  # of a reorder


def _c(name: str, arguments: str, result: str = "i") -> types.ExternalFunction:
    """A function by the letters of its kinds: i for int32, w for int64."""
    kinds: dict[str, Any] = {"i": types.int32, "w": types.int64}
    FUNCTIONS[name] = types.ExternalFunction(PREFIX + name, kinds[result](*(kinds[a] for a in arguments)))
    return FUNCTIONS[name]


engine_create = _c("dnnl_engine_create", "wiw")
stream_create = _c("dnnl_stream_create", "wwi")
stream_wait = _c("dnnl_stream_wait", "w")
stream_destroy = _c("dnnl_stream_destroy", "w")
memory_create = _c("dnnl_memory_create", "wwww")
memory_destroy = _c("dnnl_memory_destroy", "w")
layout_by_steps = _c("dnnl_memory_desc_create_with_strides", "wiwiw")
layout_by_tag = _c("dnnl_memory_desc_create_with_tag", "wiwii")
layout_copy = _c("dnnl_memory_desc_clone", "ww")
layout_destroy = _c("dnnl_memory_desc_destroy", "w")
layout_equal = _c("dnnl_memory_desc_equal", "ww")
layout_bytes = _c("dnnl_memory_desc_get_size", "w", "w")
attributes_create = _c("dnnl_primitive_attr_create", "w")
attributes_scratchpad = _c("dnnl_primitive_attr_set_scratchpad_mode", "wi")
attributes_destroy = _c("dnnl_primitive_attr_destroy", "w")
layout_of = _c("dnnl_primitive_desc_query_md", "wii", "w")
describe_destroy = _c("dnnl_primitive_desc_destroy", "w")
create = _c("dnnl_primitive_create", "ww")
destroy = _c("dnnl_primitive_destroy", "w")
execute = _c("dnnl_primitive_execute", "wwiw")
reorder = _c("dnnl_reorder_primitive_desc_create", "wwwwww")
convolution = _c("dnnl_convolution_forward_primitive_desc_create", "wwii" + 9 * "w")
convolution_input = _c("dnnl_convolution_backward_data_primitive_desc_create", "wwi" + 9 * "w")
convolution_kernel = _c("dnnl_convolution_backward_weights_primitive_desc_create", "wwi" + 10 * "w")
matrices = _c("dnnl_matmul_primitive_desc_create", 7 * "w")
threads_now = _c("omp_get_max_threads", "")
threads_set = _c("omp_set_num_threads", "i")
