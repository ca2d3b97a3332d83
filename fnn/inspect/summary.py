"""A model as a table, one row a leaf layer. Nothing is computed: shapes alone travel through the model."""

import math
from dataclasses import dataclass
from typing import Any

import jax

from fnn.core.layer import Layer, Params, State, require_layer
from fnn.core.rule import gradients
from fnn.core.shared import borrowed
from fnn.core.spec import Spec, spec_of
from fnn.inspect.observe import observe
from fnn.inspect.operations import multiply_adds
from fnn.inspect.table import table


@dataclass(frozen=True)
class _Row:
    """A leaf layer; the numbers count all its copies."""

    path: str
    kind: str
    output: str
    parameters: int
    bytes: int
    state_bytes: int
    operations: int


def summary(layer: Layer, x: Any) -> str:
    """A table of path, kind, output shape, parameters, bytes and multiply-adds of every leaf layer.

    Multiply-adds are those of matrix products and convolutions in one evaluation of the whole x; additions, comparisons
    and elementwise products are not counted. A shared layer has a row for each place and its parameters in the first.
    A row `x n` stands for the n copies that `repeat` makes, and its numbers
    count them all.

    Args:
      layer: any layer.
      x: an example input, its `jax.ShapeDtypeStruct`, or its shape.

    Raises:
      InputError: what the layer raises for an input of this shape.

    >>> import fnn
    >>> print(summary(fnn.serial(hidden=fnn.dense(4), out=fnn.dense(2)), (1, 3)))
    layer   kind   output  parameters  bytes  multiply-adds
    -------------------------------------------------------
    hidden  dense  (1, 4)          16     64             12
    out     dense  (1, 2)          10     40              8
    -------------------------------------------------------
    total          (1, 2)          26    104             20
    """
    require_layer("summary", "layer", layer)
    again = tuple(borrowed(layer))
    rows: dict[str, _Row] = {}  # by path: a transformation may trace a leaf more than once

    def wrap(path: str, leaf: Layer, copies: int) -> Layer:
        def init_spec(key: jax.Array, x: Spec) -> tuple[Params, State, Spec]:
            params, state = leaf.init(key, x)
            jaxpr, (y, _) = jax.make_jaxpr(leaf.apply, return_shape=True)(params, state, x)
            own = 0 if any(path == p or path.startswith(f"{p}/") for p in again) else copies
            rows[path] = _Row(
                path=f"{path} x {copies}" if copies > 1 else path,
                kind=leaf.name,
                output=_shapes(y),
                parameters=own * sum(p.size for p in jax.tree.leaves(params)),
                bytes=own * _bytes(params),
                state_bytes=own * _bytes(state),
                operations=copies * multiply_adds(jaxpr.jaxpr),
            )
            return params, state, y

        return Layer(leaf.init, leaf.apply, leaf.name, init_spec=init_spec)

    observed, spec, outputs = observe(layer, wrap), spec_of(x), []
    with gradients("auto"):  # the plain forms hold the products that the textbook counts
        jax.eval_shape(lambda key: outputs.append(_shapes(observed.init_spec(key, spec)[2])), jax.random.key(0))

    parameters, size, state_size, operations = (
        sum(getattr(row, name) for row in rows.values())
        for name in ("parameters", "bytes", "state_bytes", "operations")
    )
    cells = [[r.path, r.kind, r.output, *map(_number, (r.parameters, r.bytes, r.operations))] for r in rows.values()]
    totals = ["total", "", outputs[0], *map(_number, (parameters, size, operations))]
    header = ["layer", "kind", "output", "parameters", "bytes", "multiply-adds"]
    text = table(header, cells, totals, left=3)
    return text + (f"\nand {state_size:,} bytes of state that is not trained" if state_size else "")


def _shapes(y: Any) -> str:
    """The shape of an array; of each array of a tree, with its path."""
    named = jax.tree_util.tree_leaves_with_path(y)
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in named]
    return ", ".join(f"{path} {tuple(leaf.shape)}".lstrip() for path, (_, leaf) in zip(paths, named, strict=True))


def _bytes(tree: Any) -> int:
    return sum(math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(tree))


def _number(n: int) -> str:
    return f"{n:,}" if n else "-"
