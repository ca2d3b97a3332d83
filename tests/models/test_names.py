"""Models name every layer, so that no name shifts when a layer is inserted, and a saved tree keeps its paths."""

import re

import jax
import pytest

import fnn
from fnn import models

MODELS = {name: getattr(models, name) for name in models.__all__}
POSITION = re.compile(r"\d+_")  # of a layer that serial had to name


def paths(layer, path=""):
    for name, child in layer.children:
        yield f"{path}/{name}"
        yield from paths(child, f"{path}/{name}")


@pytest.mark.parametrize("name", MODELS)
def test_no_layer_is_named_by_its_position(name):
    names = list(paths(MODELS[name]()))
    assert names
    unnamed = [path for path in names if POSITION.match(path.rsplit("/", 1)[1])]
    assert not unnamed


def test_inserting_a_named_layer_shifts_no_name():
    net = models.lenet5()
    children = dict(net.children)
    longer = fnn.serial(**{"cast": fnn.identity(), **children, "end": fnn.identity()})
    key, x = jax.random.key(0), (1, 28, 28, 1)
    assert jax.tree.structure(longer.init(key, x)) == jax.tree.structure(net.init(key, x))
