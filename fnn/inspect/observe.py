"""Looking inside a composition without hooks: build it again, each leaf wrapped in whatever wants to look."""

from collections.abc import Callable

from fnn.core.errors import require_function
from fnn.core.layer import Layer, require_layer

Wrap = Callable[[str, Layer, int], Layer]


def observe(layer: Layer, wrap: Wrap) -> Layer:
    """The same composition with `wrap(path, leaf, copies)` in the place of each leaf.

    `path` is the names from the outside in, joined by "/" (a leaf that stands alone has its own name); `copies` is how
    often the leaf runs, the product of the `repeat`s around it.

    >>> import fnn
    >>> paths = []
    >>> net = fnn.serial(body=fnn.repeat(fnn.serial(fnn.dense(3)), 4), out=fnn.dense(2))
    >>> _ = observe(net, lambda path, leaf, copies: paths.append((path, copies)) or leaf)
    >>> paths
    [('body/serial/00_dense', 4), ('out', 1)]
    """

    require_layer("observe", "layer", layer)
    require_function("observe", "wrap", wrap, "path", "leaf", "copies")

    def walk(layer: Layer, path: tuple[str, ...], copies: int) -> Layer:
        if not layer.children or layer.rebuild is None:
            wrapped = wrap("/".join(path) or layer.name, layer, copies)
            require_layer("observe", "what wrap returns", wrapped)
            return wrapped
        return layer.rebuild([walk(child, (*path, name), copies * layer.copies) for name, child in layer.children])

    return walk(layer, (), 1)
